"""Look at the files of a series: what is in them, which stack is best, and why the rest is not read."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset

from ovcf_node.assemble.attributes import text
from ovcf_node.assemble.choice import Candidate, candidate, rank
from ovcf_node.assemble.completeness import ELIGIBLE, EXCLUDED, INCOMPLETE, NOT_ASSESSED, Verdict, judge, judge_together
from ovcf_node.assemble.eligibility import OwnResult, exclude
from ovcf_node.assemble.headers import Header, Unreadable, read_headers
from ovcf_node.assemble.stacks import split
from ovcf_node.config import Assemble
from ovcf_node.domain.reasons import Reason, reason
from ovcf_node.domain.volume import Volume
from ovcf_node.errors import Permanent, Transient

_USEFUL_FIRST = (ELIGIBLE, INCOMPLETE, NOT_ASSESSED, EXCLUDED)


@dataclass(frozen=True, eq=False)
class Inspection:
    """What the files of a series are.

    verdict     of the best stack, or of the header rules when no instance passed them
    others      the other stacks and the groups of instances the header rules excluded, each with its reason
    excluded    SOP Instance UID and reason of every instance that the header rules excluded
    unreadable  files that are no instance
    """

    headers: tuple[Header, ...]
    unreadable: tuple[Unreadable, ...]
    verdict: Verdict
    others: tuple[Verdict, ...]
    excluded: tuple[tuple[str, Reason], ...]

    @property
    def study_instance_uid(self) -> str:
        return text(self._representative.dataset, "StudyInstanceUID")

    @property
    def series_instance_uid(self) -> str:
        return text(self._representative.dataset, "SeriesInstanceUID")

    @property
    def candidate(self) -> Candidate | None:
        """The facts for the choice among the series of a study; None unless eligible."""
        return candidate(self.verdict) if self.verdict.kind == ELIGIBLE else None

    def headers_in_order(self, volume: Volume) -> list[Dataset]:
        """Return the headers of the volume's sources in the order of its slices, each instance once."""
        by_uid = {header.sop_instance_uid: header.dataset for header in reversed(self.headers)}
        return [by_uid[uid] for uid in dict.fromkeys(source.sop_instance_uid for source in volume.sources)]

    @property
    def _representative(self) -> Header:
        if self.verdict.stack is None:
            return self.headers[0]
        uid = self.verdict.stack.frames[0].sop_instance_uid
        return next(header for header in self.headers if header.sop_instance_uid == uid)


def inspect(paths: Iterable[Path], rules: Assemble, own: OwnResult | None = None) -> Inspection:
    """Read the headers of a series and judge its stacks; several series compete as in the choice for a study.

    Raises Permanent `no_instances` when no file is a DICOM instance, Transient `io_error` when one cannot be read: the rest
    might look complete.
    """
    headers, unreadable = read_headers(paths)
    if unread := sum(file.code == "io_error" for file in unreadable):
        raise Transient("io_error", f"{unread} files cannot be read")
    if not headers:
        raise Permanent("no_instances", f"none of {len(unreadable)} files is a DICOM instance")
    reasons = [(header, exclude(header.dataset, own or OwnResult())) for header in headers]
    excluded = tuple((header.sop_instance_uid, why) for header, why in reasons if why)
    stacks = split(header for header, why in reasons if why is None)
    verdicts = [judge(stack, rules) for stack in stacks]
    verdicts = _together(verdicts) + _by_reason(excluded)
    if not verdicts:
        raise Permanent("no_instances", f"none of {len(headers)} instances belongs to a stack")
    best = _best(verdicts, rules)
    others = tuple(verdict for verdict in verdicts if verdict is not best)
    if unparsable := sum(file.code == "unparsable" for file in unreadable):  # they may have been slices of it
        best = replace(best, limits=(*best.limits, reason("unparsable_instances", f"{unparsable}")))
    return Inspection(tuple(headers), tuple(unreadable), best, others, excluded)


def _together(verdicts: list[Verdict]) -> list[Verdict]:
    if any(verdict.kind != EXCLUDED for verdict in verdicts):
        return verdicts
    mixed = judge_together(verdicts)
    if mixed is None:
        return verdicts
    longest = max(verdicts, key=lambda verdict: verdict.instances)
    return [replace(longest, kind=NOT_ASSESSED, reason=mixed), *(v for v in verdicts if v is not longest)]


def _by_reason(excluded: Sequence[tuple[str, Reason]]) -> list[Verdict]:
    counts = Counter(why for _, why in excluded)
    return [Verdict(EXCLUDED, why, instances=count) for why, count in counts.items()]


def _best(verdicts: Sequence[Verdict], rules: Assemble) -> Verdict:
    eligible = [verdict for verdict in verdicts if verdict.kind == ELIGIBLE]
    if eligible:
        return eligible[rank([candidate(verdict) for verdict in eligible], rules.prefer_kernel)[0]]
    return min(verdicts, key=lambda verdict: (_USEFUL_FIRST.index(verdict.kind), -verdict.instances))
