"""A node's sending side without processes: ledger, sender, questions and follow-up, on a clock that the test moves."""

from collections.abc import Collection
from pathlib import Path

from catalogue_rows import SEG, SR, result_object, store
from dicom_peers import uid
from ovcf_node.config import Destination, Settings
from ovcf_node.ledger import Delivery, Ledger, Revision, migrate
from ovcf_node.ledger.deliveries import add_results
from ovcf_node.observe.logging import Pseudonyms
from ovcf_node.storage.results import Results
from ovcf_node.workflow.confirming import Confirming
from ovcf_node.workflow.delivering import Sender
from ovcf_node.workflow.following_up import FollowUp


class DeliverySite:
    """Every workflow that is enqueued runs at once; `ran` remembers them with their time."""

    def __init__(self, folder: Path, *destinations: Destination):
        url = f"sqlite:///{folder / 'ledger.sqlite'}"
        migrate(url)
        self.ledger = Ledger(url)
        self.now = 1_000_000.0
        self.ran: list[tuple[float, str, tuple]] = []
        settings = Settings(destinations=destinations)
        self._results = Results(folder / "results")
        sender = Sender(settings, self.ledger, self._results, Pseudonyms(folder), clock=lambda: self.now)
        confirming = Confirming(settings, self.ledger, clock=lambda: self.now)
        self._steps = {"deliver": sender.send, "probe": sender.probe, "confirm": confirming.confirm}
        self._follow_up = FollowUp(settings, self.ledger, self)
        self._known: dict[str, str] = {}

    def enqueue(self, workflow: str, workflow_id: str, queue: str, args: tuple, *, priority: int, alone=None) -> bool:
        self._known[workflow_id] = "done"
        self.ran.append((self.now, workflow, args))
        self._steps[workflow](*args)
        return True

    def states(self, workflow_ids: Collection[str]) -> dict[str, str]:
        return {i: self._known.get(i, "absent") for i in workflow_ids}

    def result(self, name: str, *names: str, srs: Collection[str] = ("88.34",)) -> Revision:
        """Store a segmentation and a report (in each of these dialects), to be sent to these destinations."""
        reports = [result_object(name, SR, SOPClassUID=SR.replace("88.34", sr), SOPInstanceUID=uid(name, sr)) for sr in srs]
        segmentation = result_object(name, SEG)
        dialects = {str(r.SOPInstanceUID): f"{sr}/air" for r, sr in zip(reports, srs, strict=True)}
        revision = store(self.ledger, [segmentation, *reports], self._results, dialects=dialects)
        plan = [str(segmentation.SOPInstanceUID), str(reports[0].SOPInstanceUID)]
        with self.ledger.deliveries._engine.begin() as connection:
            add_results(connection, [], dict.fromkeys(names, plan), self.now)
        return revision

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass, then do what the judge does for deliveries."""
        self.now += seconds
        self._follow_up.tick(self.now)
        due = {(d.revision_id, d.destination): d for d in self.ledger.deliveries.due(self.now)}
        for key in due:
            self.enqueue("deliver", f"{key}:{self.now}", "", key, priority=1)

    def of(self, revision: Revision, name: str) -> list[Delivery]:
        return self.ledger.deliveries.of_revision(revision.id, name)

    def states_at(self, revision: Revision, name: str) -> list[str]:
        return [str(d.state) for d in self.of(revision, name)]

    def count(self, workflow: str) -> int:
        return sum(1 for _, name, _ in self.ran if name == workflow)
