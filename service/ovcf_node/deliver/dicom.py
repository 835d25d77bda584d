"""Destinations of type dicom: C-STORE to a Storage SCP."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from ovcf_node.config import Destination
from ovcf_node.deliver.outcome import File, Outcome, judge
from ovcf_node.errors import Permanent, Transient
from ovcf_node.network import associate, find

_PATIENCE_S = 10.0  # a question before a delivery must not hold it up


def send(destination: Destination, files: Sequence[File]) -> list[Outcome]:
    """Send files over one association."""
    outcomes: dict[str, Outcome] = {}

    def keep(reply: associate.StoreReply) -> None:
        uid = reply.sop_instance_uid
        if reply.status is not None:
            outcomes[uid] = judge(uid, reply.status, reply.text)
        else:
            outcomes[uid] = Outcome(uid, "rejected", None, reply.text, "form" if reply.no_context else "instance")

    try:
        associate.store(remote_of(destination), [associate.StoreFile(*file) for file in files], keep)
    except (Transient, Permanent) as error:
        # A rejected association says nothing about the instances: it ends when an administrator enters our AE title. One
        # that was lost may be lost over one instance: the others must not wait for it.
        about_it = "refused" if isinstance(error, Permanent) else "unreachable"
        cause = about_it if error.code in associate.NO_ASSOCIATION else "instance"
        for _, _, uid in files:
            outcomes.setdefault(uid, Outcome(uid, "retry", None, str(error), cause))
    return [outcomes[uid] for _, _, uid in files]


def echo(destination: Destination) -> str:
    """Verify it by C-ECHO."""
    seconds = associate.echo(remote_of(destination))
    return f"C-ECHO to {destination.ae_title} at {destination.host}:{destination.port} answered in {seconds * 1000:.0f} ms"


def found(destination: Destination, study_instance_uid: str, instances: Mapping[str, str]) -> set[str]:
    """Ask by C-FIND, series by series. Raises Permanent `not_searchable` where it takes no queries."""
    try:
        return results_at(destination, study_instance_uid, set(instances.values())) & set(instances)
    except Permanent as error:
        if error.code != "context_refused":
            raise
        raise Permanent("not_searchable", error.text) from error


def results_at(destination: Destination, study_instance_uid: str, series: Collection[str]) -> set[str]:
    """Ask it by C-FIND at IMAGE level. Raises Transient or Permanent: many a destination takes objects and no questions."""
    remote = replace(remote_of(destination), timeout_s=min(destination.timeout_s, _PATIENCE_S))
    with find.querying(remote) as query:
        return {
            str(match.SOPInstanceUID) for uid in sorted(series) for match in query.instances(study_instance_uid, uid)
            if match.get("SeriesInstanceUID") == uid and match.get("SOPInstanceUID")
        }


def remote_of(destination: Destination) -> associate.Remote:
    """Return where a destination of type dicom listens and how we call each other."""
    return associate.Remote(
        host=destination.host,
        port=destination.port,
        called_ae_title=destination.ae_title,
        calling_ae_title=destination.calling_ae_title,
        timeout_s=destination.timeout_s,
    )
