"""All of a commissioning in order; what fails early is told, and what depends on it is not tried."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from ovcf_node.app.process import results_root
from ovcf_node.commission import arrival, other_side, own_side, phantom_study
from ovcf_node.commission.check import Check, Outcome, Say
from ovcf_node.commission.phantom_study import Leg, Level, MarkedPatient
from ovcf_node.config import Settings
from ovcf_node.demo import phantom
from ovcf_node.errors import OvcfError
from ovcf_node.ledger import Ledger
from ovcf_node.storage.results import Results


@dataclass(frozen=True)
class Options:
    """How to go about it: the way to our own receiver, how long to wait for a C-ECHO of the PACS and for the answer.

    start_s  how long a node that was just started may take until all its processes are alive
    """

    address: str | None = None
    calling: str | None = None
    wait_echo_s: float = 0.0
    limit_s: float = 900.0
    own_name: str | None = None
    start_s: float = 60.0


@dataclass
class Run:
    """What was tried so far, in order, and what the test study gave."""

    begun_at: datetime
    patient: MarkedPatient
    checks: list[Check] = field(default_factory=list)
    legs: list[Leg] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    picture: bytes = b""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not any(check.outcome is Outcome.FAIL for check in self.checks)


def commission(
    settings: Settings, ledger: Ledger, options: Options, tell: Callable[[Check], None], say: Say = lambda text: None
) -> Run:
    """Try everything; `tell` hears each check when it has ended, `say` what is going on."""
    begin, now = time.monotonic(), datetime.now().astimezone()
    run = Run(now, phantom_study.new_patient(now))

    def keep(*checks: Check) -> None:
        for check in checks:
            run.checks.append(check)
            tell(check)

    way = own_side.approach(settings, options.address, options.calling, options.own_name)
    own = own_side.check(settings, ledger, way, options.start_s, say)
    keep(*own)
    keep(*other_side.check(settings))
    keep(other_side.listen(settings, options.wait_echo_s, say))
    if not way.calling or any(c.outcome is Outcome.FAIL for c in own):
        keep(Check(phantom_study.GROUP, "The test study", Outcome.NOT_TRIED, "this node is not ready for it",
                   "Mend what failed under “This node” first, then commission again."))
    else:
        _with_phantom_study(settings, ledger, options, way, run, keep, say)
    run.seconds = time.monotonic() - begin
    return run


def _with_phantom_study(
    settings: Settings, ledger: Ledger, options: Options, way: own_side.Approach, run: Run, keep: Callable[..., None],
    say: Say,
) -> None:
    say(f"sending {run.patient.name}, {run.patient.patient_id}")
    sent = phantom_study.send(settings, way, run.patient, run.begun_at)
    keep(sent)
    if sent.outcome is Outcome.FAIL:
        return
    waited, answered = phantom_study.wait(settings, ledger, run.patient, options.limit_s, say)
    keep(waited)
    if answered is None:
        return
    run.legs = phantom_study.legs(ledger, answered, sent)
    if answered.findings is not None and answered.findings.vertebrae:
        compared, run.levels = phantom_study.beside(phantom.load().planted, answered.findings)
        keep(compared)
    try:
        run.picture = Results(results_root(settings)).get(answered.revision.reading_key, "summary.png")
    except OvcfError:
        run.picture = b""  # a series that was not read has none; the rows above say so
    keep(*arrival.check(settings, ledger, answered, say, way.own_name))
