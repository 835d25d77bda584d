"""kill -9 of receiver, worker and sender at every effect of every recorded step, and between them, on both databases.

The points come from a first study that nobody disturbs: what its processes passed is what is to be survived, and each step
that the engine recorded must be among it. A second study then lives through one kill a point, in the order in which they
come: each life gets as far as its point, and the next goes on from there.

There are two chapters: the PACS is away until both studies wait for it; then it is back, takes them and commits to them.
"""

from collections import defaultdict
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import pytest

from durable_site import Site, durable_site, instance_uid
from kill_lives import Entry, Point
from node_harness import wait_for
from painted_bundle import PAINTED_ROLES, painted_bundle
from quick_study import series_uid, write_study

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROLE_OF = {
    "receive": "receiver", "judge": "worker", "infer": "worker", "encode": "worker", "send": "sender", "probe": "sender",
    "confirm": "sender",
}
"""Which process passes the points of a place: a new step needs a line here, and its place in a chapter below."""

_DELIVER, _PROBE, _CONFIRM = (f"judge:enqueue {workflow}" for workflow in ("deliver", "probe", "confirm"))
_APPLY = "judge:apply"
_AWAY = ["receive", "judge", "infer", "encode", _DELIVER, "send", _PROBE, "probe"]
_BACK = ["probe", "send", _CONFIRM, "confirm", _APPLY, "judge:commit apply"]
"""The places of each chapter in order, and what the judge does between them: until then it must not go on."""

_COMMITTED = {"final": "committed", "confirm_after_s": 0.05, "confirm_requests": 50}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def matrix(request, tmp_path_factory):
    """A site where one study was read in peace and a second one lived through every kill; and the points."""
    folder = tmp_path_factory.mktemp(f"kills-{request.param}")
    cluster = request.getfixturevalue("postgresql_cluster") if request.param == "postgresql" else None
    undisturbed, killed = (write_study(folder / name, name) for name in ("undisturbed", "killed"))
    with durable_site(folder, cluster, bundle=painted_bundle, destination=_COMMITTED) as site:
        site.pacs.stop()
        with site.running("receiver") as started:
            site.listening(started["receiver"])
            assert site.send(undisturbed)
            with site.running("worker", "sender"):
                wait_for(lambda: site.standing.failures > 1, 300, f"a probe finds it away; see {site.node.folder}")
        away = site.lives.journal()
        site.pacs.start()
        site.settle("undisturbed")
        back = points_of(site.lives.journal()[len(away):], _BACK)
        ends = (":begin", ":recorded")  # they differ in nothing between the chapters
        chapters = [[p for p in points_of(away, _AWAY) if p not in back or not p.name.endswith(ends)], back]
        site.pacs.stop()
        kill_at_every(site, chapters[0], killed)
        site.pacs.start()
        kill_at_every(site, chapters[1], killed)
        site.settle("killed")
        yield site, [point for points in chapters for point in points], killed


def points_of(journal: list[Entry], order: list[str]) -> list[Point]:
    """Return what an undisturbed study passes in a chapter, in the chapter's order; outside of steps each kind once."""
    passed = dict.fromkeys(entry.point for entry in journal)
    for point in passed:
        assert point.place in ROLE_OF, f"step {point.place} has no kill point: say in ROLE_OF which process runs it"
    points = [point for point in passed if point.number == 1 or point.place not in ("receive", "judge")]
    # The judge may find the answer before the engine has recorded the step that made it.
    return sorted((p for p in points if _place(p, order)), key=lambda point: order.index(_place(point, order)))


def _place(point: Point, order: list[str]) -> str | None:
    """Return where a point belongs in a chapter, None if the chapter before it killed there."""
    return next((place for place in (point.name, point.place) if place in order), None)


def kill_at_every(site: Site, points: list[Point], paths: list[Path]) -> None:
    """Let the study live through these kills; `paths` are sent where there are receivers to be killed."""
    rest = list(points)
    for role, group in groupby(points, key=lambda point: ROLE_OF[point.place]):
        with ExitStack() as stack:
            if role == "sender":
                stack.enter_context(site.running("worker", later=_boundaries(rest)))
            elif role == "worker":  # it ends what was killed under it, or what the worker is to do next would not come
                stack.enter_context(site.running("sender"))
            for point in group:
                rest.remove(point)
                if role == "receiver":
                    kill_receiver(site, point, paths)
                else:
                    site.lives.killed(role, reachable(point), later=_boundaries(rest) if role == "worker" else ())
        if role == "receiver":
            with site.running("receiver") as started:
                site.listening(started["receiver"])
                assert site.send(paths)


def reachable(point: Point) -> Point:
    """Return a point as a later life comes to it: what an earlier one recorded as sent is not sent, nor counted, again."""
    return Point(point.name, min(point.number, 2)) if point.name == "send:commit finished" else point


def _boundaries(rest: list[Point]) -> list[str]:
    return [point.name for point in rest if point.name in (_DELIVER, _PROBE, _CONFIRM, _APPLY)]


def kill_receiver(site: Site, point: Point, paths: list[Path]) -> None:
    receiver = site.lives.start("receiver", point)
    try:
        site.listening(receiver)
        assert not site.send(paths)
        site.lives.died(receiver, point)
    finally:
        site.lives.end(receiver)


def test_every_recorded_step_has_its_kill_points(matrix):
    site, points, _ = matrix
    recorded = {step for steps in site.recorded_steps().values() for step in steps}
    assert recorded == set(ROLE_OF) - {"receive", "judge"}
    for step in recorded:
        inside = [p.name for p in points if p.place == step]
        assert {f"{step}:begin", f"{step}:done", f"{step}:recorded"} < set(inside), f"{step} has no point inside"
    names = [p.name for p in points]
    assert {"receive:publish", "receive:commit record", "receive:status", "infer:publish", "probe:commit away",
            "probe:commit back", "confirm:ask", "confirm:commit report", _DELIVER, _PROBE, _CONFIRM, _APPLY} <= set(names)
    assert names.count("encode:publish") == len(PAINTED_ROLES)  # a segmentation among them
    assert len(points) > 55
    print(f"{len(points)} kill points, {points[-1]} the last")


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
    assert len(digests) == 2 * len(PAINTED_ROLES) and all(len(found) == 1 for found in digests.values())
    for name in ("undisturbed", "killed"):
        revision, = site.node.ledger.revisions.of_series(series_uid(name))
        delivered = site.node.ledger.deliveries.of_revision(revision.id)
        assert sorted(d.role for d in delivered) == sorted(PAINTED_ROLES)
        assert {d.state for d in delivered} == {"COMMITTED"}
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
    steps_of = {"read": ["infer", "encode"], "deliver": ["send"], "probe": ["probe"], "confirm": ["confirm"]}
    for workflow, steps in site.recorded_steps().items():
        assert steps == steps_of[workflow.split(":")[0]]
