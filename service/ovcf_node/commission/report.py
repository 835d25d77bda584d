"""The report of a commissioning: one HTML file for the shelf, with everything in it and nothing of a patient."""

import base64
import io
import os
import platform
import socket
from pathlib import Path

from PIL import Image

from ovcf_node import __version__, infer
from ovcf_node.commission.check import Outcome
from ovcf_node.commission.run import Run
from ovcf_node.config import Settings, ports_in_words, shown
from ovcf_node.errors import OvcfError
from ovcf_node.operate import paper
from ovcf_node.storage import atomic


def write(run: Run, settings: Settings, path: Path) -> None:
    """Write the report. Raises Transient (`disk_full`, `storage`)."""
    groups: dict[str, list] = {}
    for check in run.checks:
        groups.setdefault(check.group, []).append(check)
    text = paper.page(
        "commissioning.html", run=run, groups=groups, facts=_facts(settings), configuration=shown(settings),
        counts={outcome: sum(c.outcome is outcome for c in run.checks) for outcome in Outcome},
        installation=settings.node.installation, mode=settings.node.mode,
        picture=_embedded(run.picture) if run.picture else "",
        destinations=[d for d in settings.destinations],
    )
    with atomic.storage_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _embedded(picture: bytes) -> str:
    """Return a picture for an HTML file that is mailed and filed: as JPEG a fifth of the PNG."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").save(buffer, "JPEG", quality=88)
    return base64.b64encode(buffer.getvalue()).decode()


def _facts(settings: Settings) -> list[tuple[str, str]]:
    """Return what was commissioned: software, models, machine, databases."""
    try:
        bundle = infer.load_identity(settings.node.bundle)
        models = f"{bundle.name} {bundle.version} ({bundle.status})", bundle.digest
    except OvcfError as error:
        models = str(error), "-"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    ledger = settings.ledger_url.partition(":")[0].partition("+")[0]
    return [
        ("Installation", settings.node.installation), ("Mode", settings.node.mode), ("Software", f"ovcf-node {__version__}"),
        ("Model bundle", models[0]), ("Bundle digest", models[1]),
        ("Host", f"{socket.gethostname()}, {platform.system()} {platform.release()}, {platform.machine()}"),
        ("Processors, memory", f"{os.cpu_count()} cores, {memory:.0f} GB"), ("Python", platform.python_version()),
        ("Ledger", {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(ledger, ledger)),
        ("Receives on", f"{settings.receive.host}, port {ports_in_words(settings.receive)}, as "
                        + ", ".join(settings.receive.ae_titles)),
        ("Accepts from", ", ".join(s.ae_title + (f" at {s.address}" if s.address else " (any address)")
                                   for s in settings.receive.sources) or "nobody"),
    ]
