"""A series whose pixels crash the decoder: tried twice, quarantined, answered, and the next one is read."""

import os
from pathlib import Path

import pytest

from durable_site import durable_site
from quick_study import series_uid, write_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLANTED = '''
"""Start-up file of every Python process below: in the reading's child it plants a decoder that dies of one series."""
import ctypes, importlib.abc, importlib.util, sys

class Planter(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "ovcf_node.assemble.pixels":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def plant(module):
            execute(module)
            read_hu = module.read_hu

            def deadly(frames, out):
                if b"POISON" in frames[0].pixels.path.read_bytes():
                    ctypes.string_at(0)  # a null pointer, as a defect in a codec
                read_hu(frames, out)

            module.read_hu = deadly

        spec.loader.exec_module = plant
        return spec

if "ovcf_node.workflow.child" in sys.orig_argv:
    sys.meta_path.insert(0, Planter())
'''


def test_poison_is_tried_twice_then_answered_and_the_queue_moves_on(tmp_path: Path):
    planted = tmp_path / "planted"
    planted.mkdir()
    (planted / "sitecustomize.py").write_text(PLANTED)
    poison, good = (write_study(tmp_path / name, name) for name in ("poison", "good"))
    for path in poison:
        path.write_bytes(path.read_bytes().replace(b"(phantom)", b" POISON  "))
    search = os.pathsep.join([str(planted), os.environ.get("PYTHONPATH", "")])
    with durable_site(tmp_path, PYTHONPATH=search) as site:
        with site.running("receiver") as started:
            site.listening(started["receiver"])
            assert site.send(poison) and site.send(good)
        with site.running("worker", "sender"):
            assert site.node.settled(series_uid("good"), 300).state == "ENCODED"
            quarantined = site.node.settled(series_uid("poison"), 300)
        assert (quarantined.state, quarantined.reason_code) == ("NOT_ASSESSED", "quarantined")
        assert (quarantined.crashes, quarantined.in_flight) == (2, False)
        failed = [e.text for e in site.node.ledger.events.of_series(series_uid("poison")) if e.kind == "attempt_failed"]
        assert failed == ["infer: child_crashed: ended by SIGSEGV"] * 2
        report, = site.node.ledger.deliveries.of_revision(quarantined.id)
        said = (site.pacs.folder / f"{report.sop_instance_uid}.dcm").read_bytes()
        assert report.state == "ACCEPTED" and b"NOT ASSESSED: technical failure" in said
