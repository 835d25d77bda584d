"""Fetch a study from an archive: C-FIND, then C-MOVE to our own receiver or C-GET into the same durable store.

What arrives is judged and read by the running node like anything a scanner sends.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ovcf_node import assemble
from ovcf_node.app.process import silent, spool_root
from ovcf_node.app.receiver import storing
from ovcf_node.config import Archive, CountSource, Settings
from ovcf_node.errors import Permanent
from ovcf_node.ledger import Ledger
from ovcf_node.network import retrieve
from ovcf_node.network.associate import Remote
from ovcf_node.network.find import Query, SeriesMatch, StudyMatch, querying
from ovcf_node.storage.spool import Spool

_FEW = 5  # a series this short may be a scout or a dose sheet, and is cheap to look into
_STILL_S = 5.0


@dataclass(frozen=True)
class Choice:
    """The series of a study that are asked for, and the others with the reason in words."""

    asked: tuple[SeriesMatch, ...]
    left_out: tuple[tuple[SeriesMatch, str], ...]


@dataclass(frozen=True)
class Fetched:
    """What became of one series: instances here now, how many of them are new, how many the archive counted."""

    series: SeriesMatch
    here: int
    new: int
    outcome: retrieve.Outcome

    @property
    def complete(self) -> bool:
        return self.outcome.status == 0x0000 and self.here >= (self.series.instances or 1)


def remote_of(archive: Archive) -> Remote:
    """Return the acceptor behind an archive."""
    return Remote(archive.host, archive.port, archive.ae_title, archive.calling_ae_title, archive.timeout_s, archive.tls,
                  archive.tls_name)


def count_remote(source: CountSource) -> Remote:
    """Return the acceptor that is asked how many instances a series has."""
    return Remote(source.host, source.port, source.ae_title, source.calling_ae_title, encrypted=source.tls,
                  expected_name=source.tls_name)


def studies(archive: Archive, *, study: str = "", accession: str = "") -> list[StudyMatch]:
    """Return the studies of an archive with this Study Instance UID or Accession Number. Raises Transient, Permanent."""
    with querying(remote_of(archive)) as query:
        return query.studies(study_instance_uid=study, accession_number=accession)


def choose(archive: Archive, study_instance_uid: str, series_instance_uid: str | None = None) -> Choice:
    """Return which series of a study are asked for: CT that may be readable, or only the one named. Raises as above."""
    asked: list[SeriesMatch] = []
    left_out: list[tuple[SeriesMatch, str]] = []
    with querying(remote_of(archive)) as query:
        for series in query.series(study_instance_uid):
            if series_instance_uid not in (None, series.series_instance_uid):
                left_out.append((series, "not the series that was asked for"))
            elif series.modality not in ("", "CT"):
                left_out.append((series, f"modality {series.modality}"))
            else:
                series, why = _looked_into(query, series)
                if why:
                    left_out.append((series, why))
                else:
                    asked.append(series)
    return Choice(tuple(asked), tuple(left_out))


def _looked_into(query: Query, series: SeriesMatch) -> tuple[SeriesMatch, str | None]:
    """Complete what the archive did not say of a series, and say why it is not worth asking for."""
    if series.instances is not None and series.instances > _FEW:
        return series, None
    try:
        matches = query.instances(series.study_instance_uid, series.series_instance_uid)
    except Permanent:
        return series, None  # an archive that cannot be asked this: the node will see for itself
    reasons = [assemble.exclude_unseen(match) for match in matches]
    return replace(series, instances=len(matches)), reasons[0].text if reasons and all(reasons) else None


def obstacles(settings: Settings, archive: Archive) -> list[str]:
    """Return what in our own configuration would make C-MOVE from this archive fail; empty when nothing is known."""
    if archive.retrieve != "move":
        return []
    found = []
    if archive.calling_ae_title not in settings.receive.ae_titles:
        found.append(f"its calling_ae_title {archive.calling_ae_title} is the Move Destination, but not one of "
                     "receive.ae_titles: the receiver would reject what the archive sends")
    if archive.ae_title not in {source.ae_title for source in settings.receive.sources}:
        found.append(f"{archive.ae_title} is not one of receive.sources: unless the archive sends under another calling "
                     "AE title, the receiver will reject it")
    return found


def receiver_silent(settings: Settings) -> str:
    """Return why a port that the receiver should have open on this machine does not answer, empty when all do."""
    return next((why for port in settings.receive.ports if (why := silent(settings.receive.host, port))), "")


def fetch(
    settings: Settings, archive: Archive, ledger: Ledger, series: SeriesMatch, stop: threading.Event,
    progress: Callable[[int], None] = lambda here: None,
) -> Fetched:
    """Retrieve one series and return what arrived, counted in the ledger. Raises Transient or Permanent.

    stop      set it to have the archive stop (C-CANCEL).
    progress  called now and then, from another thread, with the number of instances that are here.
    """
    def here() -> int:
        count = ledger.instances.count(series.series_instance_uid)
        progress(count)
        return count

    before = here()
    remote, watch = remote_of(archive), retrieve.Watch(stop, here)
    uids = series.study_instance_uid, series.series_instance_uid
    if archive.retrieve == "move":
        outcome = retrieve.move(remote, archive.calling_ae_title, *uids, watch)
        after = _settled(here, series.instances or 0, stop) if outcome.status == 0x0000 else here()
    else:
        ours = storing(settings, ledger, Spool(spool_root(settings)))
        outcome = retrieve.get(remote, *uids, ours.answer, watch, ours.ended)
        after = here()
    return Fetched(series, after, after - before, outcome)


def _settled(here: Callable[[], int], expected: int, stop: threading.Event) -> int:
    """Wait for the rest: some archives answer a C-MOVE before they have sent everything."""
    count, changed_at = here(), time.monotonic()
    while count < expected and time.monotonic() - changed_at < _STILL_S and not stop.wait(0.2):
        now_here = here()
        if now_here != count:
            count, changed_at = now_here, time.monotonic()
    return count
