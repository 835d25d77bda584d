"""Destinations of type dicom: C-STORE to a Storage SCP."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from ovcf_node.config import Destination
from ovcf_node.deliver.outcome import File, GoOn, Outcome, judge
from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import associate, find

_PATIENCE_S = 10.0  # a question before a delivery must not hold it up


def send(destination: Destination, files: Sequence[File], go_on: GoOn) -> list[Outcome]:
    """Send files over one association."""
    outcomes: dict[str, Outcome] = {}

    def keep(reply: associate.StoreReply) -> None:
        uid = reply.sop_instance_uid
        sent = reply.status is not None
        outcomes[uid] = judge(uid, reply.status, reply.text) if sent else Outcome(uid, "rejected", None, reply.text)
        if len(outcomes) < len(files):
            go_on()  # the first one was asked before the association

    try:
        go_on()
        associate.store(_remote(destination), [associate.StoreFile(*file) for file in files], keep)
    except (Transient, Permanent) as error:
        # A rejected association says nothing about the instances: it ends when an administrator enters our AE title.
        for _, _, uid in files:
            outcomes.setdefault(uid, Outcome(uid, "retry", None, str(error)))
    return [outcomes[uid] for _, _, uid in files]


def echo(destination: Destination) -> str:
    """Verify it by C-ECHO."""
    seconds = associate.echo(_remote(destination))
    return f"C-ECHO to {destination.ae_title} at {destination.host}:{destination.port} answered in {seconds * 1000:.0f} ms"


def results_at(destination: Destination, study_instance_uid: str, series: Collection[str]) -> set[str]:
    """Ask it by C-FIND at IMAGE level. Raises Transient or Permanent: many a destination takes objects and no questions."""
    remote = replace(_remote(destination), timeout_s=min(destination.timeout_s, _PATIENCE_S))
    with find.querying(remote) as query:
        return {
            str(match.SOPInstanceUID) for uid in sorted(series) for match in query.instances(study_instance_uid, uid)
            if match.get("SeriesInstanceUID") == uid and match.get("SOPInstanceUID")
        }


def _remote(destination: Destination) -> associate.Remote:
    return associate.Remote(
        host=destination.host,
        port=destination.port,
        called_ae_title=destination.ae_title,
        calling_ae_title=destination.calling_ae_title,
        timeout_s=destination.timeout_s,
    )
