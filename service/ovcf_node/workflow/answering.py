"""Turn stored findings into stored objects and planned deliveries: once per dialect, then always the same bytes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from ovcf_node import assemble, report
from ovcf_node.config import Destination, Settings
from ovcf_node.domain.identity import ROLES, Dialect, ResultIdentity, source_digest
from ovcf_node.errors import Permanent
from ovcf_node.ledger import Ledger, Result, Revision, StoredInstance
from ovcf_node.ledger.catalogue import Entry, entry_of
from ovcf_node.storage.results import Results
from ovcf_node.workflow.reading import SOFTWARE, Read, settings_digest, source_headers


@dataclass(frozen=True)
class Answer:
    """The stored objects of one revision and, per destination, the SOP Instance UIDs it gets, in order.

    entries  the objects as the catalogue describes them
    """

    results: list[Result]
    plan: dict[str, list[str]]
    entries: list[Entry]


def answer(
    revision: Revision, instances: Sequence[StoredInstance], read: Read, settings: Settings, ledger: Ledger,
    results: Results, spool: Path,
) -> Answer:
    """Encode every object of every dialect that a destination wants, store the bytes, plan the deliveries.

    Idempotent: the same revision gives the same UIDs and bytes; what is stored already is not written again. A second
    reading gives a report only: the images are those of the reading it is about. What was judged in shadow mode is for
    shadow destinations alone, and is stored even where there is none.
    """
    reading = ledger.revisions.reading(revision)
    inspection = assemble.inspect(source_paths(spool, instances), settings.assemble)
    started_at = datetime.fromtimestamp(reading.analysis_started_at, UTC)
    context = report.ResultContext(
        identity=ResultIdentity(
            installation=settings.node.installation, study_instance_uid=revision.study_instance_uid,
            series_instance_uid=revision.series_instance_uid,
            source_digest=source_digest(i.sop_instance_uid for i in instances), software=SOFTWARE,
            bundle_digest=read.findings.bundle.digest if read.findings.bundle else "",
            settings_digest=settings_digest(settings.assemble, shadow=revision.shadow), revision=reading.number,
            analysis_started_at=started_at.isoformat(),
        ),
        analysis_started_at=started_at,
        institution=settings.node.institution, second=_second(revision, reading, ledger), shadow=revision.shadow,
    )
    answered = ("sr",) if context.second else ROLES
    stored: dict[tuple[str, str], Result] = {}
    entries: list[Entry] = []
    for dialect, wanted in _wanted(settings, shadow=revision.shadow):
        # SEG and picture are the same in every dialect: encode them once.
        roles = tuple(r for r in answered if r in wanted and (r, dialect_key(r, dialect)) not in stored)
        before = ledger.deliveries.arrived_report(revision.series_instance_uid, revision.number, dialect.key)
        superseded = (
            (revision.study_instance_uid, before.series_instance_uid, before.sop_class_uid, before.sop_instance_uid),
        ) if before else ()
        for item in report.encode(
            replace(context, predecessors=superseded), source_headers(inspection, read), read.findings, read.masks,
            read.picture, dialect, read.sources, roles=roles,
        ):
            key = dialect_key(item.role, dialect)
            stored[item.role, key], entry = _store(item, key, revision, results)
            entries.append(entry)
    plan = {}
    for destination in settings.destinations:
        if revision.shadow and not destination.shadow:
            continue
        chosen = [stored.get((role, dialect_key(role, dialect_of(destination)))) for role in ROLES
                  if role in destination.objects]
        plan[destination.name] = [result.sop_instance_uid for result in chosen if result]
    return Answer(list(stored.values()), plan, entries)


def _wanted(settings: Settings, *, shadow: bool) -> list[tuple[Dialect, set[str]]]:
    """Return the dialects that the destinations want, and the roles in each."""
    wanted: dict[Dialect, set[str]] = {}
    for destination in settings.destinations:
        for dialect in dialects_of(destination):
            wanted.setdefault(dialect, set()).update(destination.objects)
    if shadow and not wanted:
        wanted[Dialect()] = set(ROLES)  # for pages and queries: a trial may begin before there is any destination
    return sorted(wanted.items(), key=lambda pair: pair[0].key)


def _second(revision: Revision, reading: Revision, ledger: Ledger) -> report.SecondReport | None:
    if revision.reading_of is None:
        return None
    made = {r.role: r.sop_instance_uid for r in ledger.deliveries.results_of(reading.id) if r.role != "sr"}
    return report.SecondReport(ledger.assessments.of_revision(revision.id), revision.number, made)


def source_paths(spool: Path, instances: Sequence[StoredInstance]) -> list[Path]:
    """Return where the received files lie. Raises Permanent (`images_purged`) once retention has removed some."""
    if not all(instance.path for instance in instances):
        raise Permanent("images_purged", "the received images were purged")
    return [spool / instance.path for instance in instances]


def dialect_of(destination: Destination) -> Dialect:
    """Return the dialect a destination is configured for."""
    return dialects_of(destination)[0]


def dialects_of(destination: Destination) -> list[Dialect]:
    """Return the dialects a destination may get, in the order in which they are tried."""
    return [Dialect(sr_class, destination.sr_profile) for sr_class in (destination.sr_class, *destination.sr_fallback)]


def dialect_key(role: str, dialect: Dialect) -> str:
    """Return the dialect's key for objects that differ between dialects, and nothing for the others."""
    return dialect.key if role == "sr" else ""


def _store(item: report.EncodedObject, dialect: str, revision: Revision, results: Results) -> tuple[Result, Entry]:
    # What is stored under a SOP Instance UID stays: it may have been sent.
    path = results.put(
        revision.result_key, f"{item.sop_instance_uid}.dcm", report.to_bytes(item.dataset), replace=False
    )
    data = path.read_bytes()
    result = Result(
        revision_id=revision.id, role=item.role, dialect=dialect, sop_instance_uid=item.sop_instance_uid,
        sop_class_uid=str(item.dataset.SOPClassUID), series_instance_uid=str(item.dataset.SeriesInstanceUID),
        path=str(path.relative_to(results.root)), sha256=hashlib.sha256(data).hexdigest(), size=len(data),
    )
    return result, entry_of(dcmread(BytesIO(data)))
