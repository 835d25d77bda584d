"""kill -9 of receiver, worker and sender at every effect of every recorded step, and between them, on both databases.

The points come from a first study that nobody disturbs: what its processes passed is what is to be survived, and each step
that the engine recorded must be among it. A second study then lives through one kill a point, in the order in which they
come: each life gets as far as its point, and the next goes on from there.
"""

from collections import defaultdict
from pathlib import Path

import pytest

from durable_site import Site, durable_site, instance_uid
from kill_lives import Entry, Point
from quick_study import ROLES, series_uid, write_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROLE_OF = {"receive": "receiver", "judge": "worker", "infer": "worker", "encode": "worker", "send": "sender"}
"""Which process passes the points of a place: a new step needs a line here, and its place in the order below."""

_DELIVER = "judge:enqueue deliver"
_ORDER = ["receive", "judge", "infer", "encode", _DELIVER, "send"]


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def matrix(request, tmp_path_factory):
    """A site where one study was read in peace and a second one lived through every kill; and the points."""
    folder = tmp_path_factory.mktemp(f"kills-{request.param}")
    cluster = request.getfixturevalue("postgresql_cluster") if request.param == "postgresql" else None
    undisturbed, killed = (write_study(folder / name, name) for name in ("undisturbed", "killed"))
    with durable_site(folder, cluster) as site:
        with site.running("receiver") as started:
            site.listening(started["receiver"])
            assert site.send(undisturbed)
            site.settle("undisturbed")
        points = points_of(site.lives.journal())
        kill_at_every(site, points, killed)
        site.settle("killed")
        yield site, points, killed


def points_of(journal: list[Entry]) -> list[Point]:
    """Return what an undisturbed study passes, in the order of its workflows; outside of steps each kind once."""
    passed = dict.fromkeys(entry.point for entry in journal)
    points = [point for point in passed if point.number == 1 or point.place not in ("receive", "judge")]
    # The judge may find the answer before the engine has recorded the step that made it.
    return sorted(points, key=lambda point: _ORDER.index(point.name if point.name == _DELIVER else point.place))


def kill_at_every(site: Site, points: list[Point], paths: list[Path]) -> None:
    for point in points:
        assert point.place in ROLE_OF, f"step {point.place} has no kill point: say in ROLE_OF which process runs it"
    for point in [p for p in points if ROLE_OF[p.place] == "receiver"]:
        receiver = site.lives.start("receiver", point)
        try:
            site.listening(receiver)
            assert not site.send(paths)
            site.lives.died(receiver, point)
        finally:
            site.lives.end(receiver)
    with site.running("receiver") as started:
        site.listening(started["receiver"])
        assert site.send(paths)
    for point in [p for p in points if ROLE_OF[p.place] == "worker"]:
        site.lives.killed("worker", point, later=[] if point.name == _DELIVER else [_DELIVER])
    with site.running("worker"):  # the last one died before it enqueued the delivery
        for point in [p for p in points if ROLE_OF[p.place] == "sender"]:
            site.lives.killed("sender", point)


def test_every_recorded_step_has_its_kill_points(matrix):
    site, points, _ = matrix
    recorded = {step for steps in site.recorded_steps().values() for step in steps}
    assert recorded == set(ROLE_OF) - {"receive", "judge"}
    for step in recorded:
        inside = [p.name for p in points if p.place == step]
        assert {f"{step}:begin", f"{step}:done", f"{step}:recorded"} < set(inside), f"{step} has no point inside"
    assert {"receive:publish", "receive:commit record", "receive:status"} <= {p.name for p in points}
    assert len(points) > 25


def test_nothing_acknowledged_is_lost(matrix):
    site, _, paths = matrix
    originals = site.node.ledger.instances.originals(series_uid("killed"))
    assert {i.sop_instance_uid for i in originals} == {instance_uid(p) for p in paths} <= site.acknowledged
    spool = site.node.folder / "data" / "spool"
    assert all((spool / i.path).stat().st_size == i.size for i in originals)


def test_every_series_has_one_answer_and_every_uid_one_set_of_bytes(matrix):
    site, _, _ = matrix
    digests = defaultdict(set)
    for uid, digest in site.pacs.receipts:
        digests[uid].add(digest)
    assert len(digests) == 2 * len(ROLES) and all(len(found) == 1 for found in digests.values())
    for name in ("undisturbed", "killed"):
        revision, = site.node.ledger.revisions.of_series(series_uid(name))
        delivered = site.node.ledger.deliveries.of_revision(revision.id)
        assert sorted(d.role for d in delivered) == sorted(ROLES)
        assert {d.state for d in delivered} == {"ACCEPTED"}
        assert (revision.failures, revision.crashes, revision.in_flight) == (0, 0, False)


def test_no_step_is_repeated_but_the_one_in_flight(matrix):
    site, _, _ = matrix
    done: set[tuple[str, str]] = set()
    for entry in site.lives.journal():
        step, _, moment = entry.point.name.partition(":")
        if moment == "begin":
            assert (entry.workflow, step) not in done, f"{step} of {entry.workflow} ran again in life {entry.life}"
        elif moment == "recorded":
            done.add((entry.workflow, step))
    for workflow, steps in site.recorded_steps().items():
        assert steps == {"read": ["infer", "encode"], "deliver": ["send"]}[workflow.split(":")[0]]
