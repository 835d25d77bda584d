"""What the node said in shadow mode of the studies that radiologists have read by now."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ovcf_node.app.answers import findings_of
from ovcf_node.config import Settings
from ovcf_node.domain.findings import Findings
from ovcf_node.domain.states import RevisionState
from ovcf_node.evaluate.radiologists import ReadStudy, page, read_table, record
from ovcf_node.ledger import Ledger, Revision
from ovcf_node.ledger.catalogue import BadKey, Level, Query, dialect_for

_UNKNOWN, _SEVERAL, _LIVE, _UNSAID = (
    "the node has no such answered study", "several studies have this accession number",
    "not read in shadow mode (the radiologist may have seen the result)", "the radiologist's answer is unknown",
)


_SILENT = (RevisionState.FAILED, RevisionState.EXCLUDED, RevisionState.SUPERSEDED)
_OURS = ("no_spine", "too_short", "orientation")  # reasons to exclude images that may have been of a spine all the same


@dataclass(frozen=True)
class Comparison:
    """The page, how many patients it compares, how many of the table it does not."""

    page: str
    compared: int
    left_out: int


def compare(settings: Settings, ledger: Ledger, table: Path) -> Comparison:
    """Put the shadow results beside a table of radiologists' findings (`evaluate.radiologists`).

    Only results of shadow mode count: one that went to the PACS may have told the radiologist what to see. Raises
    Permanent `truth_unreadable`.
    """
    records, readers = [], set()
    left_out: dict[str, list[int]] = {}
    for study in read_table(table):
        said = _said(settings, ledger, study)
        if study.fracture is None:
            said = _UNSAID
        if isinstance(said, str):
            left_out.setdefault(said, []).append(study.line)
            continue
        records.append(record(study, said))
        bundle = said.bundle
        readers.add(f"{bundle.name} {bundle.version} ({bundle.digest[:12]})" if bundle else said.software)
    missed = sum(len(lines) for lines in left_out.values())
    return Comparison(page(records, left_out, sorted(readers)), len(records), missed)


def _said(settings: Settings, ledger: Ledger, study: ReadStudy) -> Findings | str:
    """Return the findings of a study, or why there are none to compare."""
    uids = [study.study_instance_uid] if study.study_instance_uid else _studies(settings, ledger, study.accession_number)
    if len(uids) > 1:
        return _SEVERAL
    newest = [r for uid in uids for r in ledger.revisions.newest_of_study(uid)]
    answered = [r for r in newest if r.answered]
    if not answered:
        return _unanswered(newest)
    readings = [ledger.revisions.reading(r) for r in answered]
    found = [f for r in readings if r.shadow and (f := findings_of(settings, r))]
    if not found:
        return _LIVE if not any(r.shadow for r in readings) else _UNKNOWN
    return min(found, key=lambda f: f.status == "not_assessed")  # what was read, before what could not be


def _unanswered(newest: list[Revision]) -> Findings | str:
    """What a study counts as in which the node will say nothing: silence about a fracture is an error, in whatever mode."""
    if any(revision.state not in _SILENT for revision in newest):
        return _UNKNOWN
    failed = [revision for revision in newest if revision.state is RevisionState.FAILED]
    excluded = [revision for revision in newest if revision.reason_code in _OURS]
    for status, silent in (("not_assessed", failed), ("excluded", excluded)):
        if silent:
            return Findings(status, tuple(revision.reason for revision in silent if revision.reason))
    return _UNKNOWN


def _studies(settings: Settings, ledger: Ledger, accession_number: str) -> list[str]:
    keys = {"AccessionNumber": accession_number.translate({ord(c): None for c in "*?\\"})}
    try:
        matches: Iterable = ledger.catalogue.find(
            Query(Level.STUDY, keys, dialect_for(settings.destinations, None), computed=(), limit=2))
    except BadKey:
        return []
    return [match.attributes["0020000D"]["Value"][0] for match in matches]
