"""Work in flight survives an upgrade only if its recorded steps are found where they were recorded: by position."""

from ovcf_node.config import Settings
from ovcf_node.storage.results import Results
from ovcf_node.workflow.delivering import Sender
from ovcf_node.workflow.durable import Worker

RECORDED = {"read": ["infer", "encode"], "deliver": ["send"]}
"""The steps that released versions recorded. A new one may run only under `if engine.patched("name of the change"):`."""


class OldWork:
    """An engine that replays what began before any change."""

    def __init__(self):
        self.workflows = {}
        self.steps = []

    def workflow(self, name):
        return lambda function: self.workflows.setdefault(name, function)

    def patched(self, name):
        return False

    def step(self, name, function, *args):
        self.steps.append(name)
        return "ok"


def test_work_in_flight_finds_its_recorded_steps(tmp_path):
    engine = OldWork()
    Worker(Settings(), None, tmp_path, Results(tmp_path), None, None).register(engine)
    Sender(Settings(), None, Results(tmp_path), None).register(engine)
    for name, recorded in RECORDED.items():
        engine.steps.clear()
        engine.workflows[name](1, 0)
        assert engine.steps == recorded, "see RECORDED"
