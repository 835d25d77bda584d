"""Every moment at which a process of the node can be killed to some effect, found by wrapping what makes effects.

A point lies where an effect is made but not yet durable: a file written and not renamed, a transaction not committed, an
object that the PACS has taken and nobody recorded, a question not asked, a workflow about to be enqueued. What is durable
differs between any two neighbouring points, and between none it does not. Around each recorded step there are three more:
it begins, its function is done, the engine has recorded it.

A point is named `PLACE:EFFECT`, PLACE being the recorded step, or `judge` or `receive` outside of any.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import sqlalchemy
from dbos import DBOS

from ovcf_node import deliver
from ovcf_node.engine import Engine
from ovcf_node.ledger import Commitments, Deliveries, Destinations, Events, Holds, Instances, Revisions
from ovcf_node.network import commitment
from ovcf_node.receive.storing import Storing
from ovcf_node.storage import atomic
from ovcf_node.workflow.child import Children
from ovcf_node.workflow.confirming import Confirming

Hit = Callable[[str, str | None], None]
"""Called with the name of a point and, around a step, the id of its workflow."""

_here = threading.local()


@contextmanager
def installed(hit: Hit) -> Iterator[None]:
    """Call `hit` at every point while the block runs."""
    with ExitStack() as undo:
        def patch(owner: Any, name: str, value: Any) -> None:
            undo.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)

        patch(Engine, "step", _around_steps(Engine.step, hit))
        patch(Storing, "store", _around_receipts(Storing.store, hit))
        patch(Children, "read", _around_progress(Children.read, hit))
        patch(atomic, "_publish", _with(atomic._publish, lambda *_: _effect(hit, "publish")))
        patch(atomic, "publish_folder", _with(atomic.publish_folder, lambda *_: _effect(hit, "publish")))
        patch(commitment, "request", _with(commitment.request, lambda *_: _effect(hit, "ask")))
        patch(Confirming, "_reported", _in_place("confirm", Confirming._reported))
        patch(deliver.dicom, "judge", _with(deliver.dicom.judge, lambda *_: _effect(hit, "reply")))
        patch(Engine, "enqueue", _with(Engine.enqueue, lambda _, workflow, *rest: _effect(hit, f"enqueue {workflow}")))
        for table in (Revisions, Deliveries, Destinations, Commitments, Instances, Holds, Events):
            for name in [n for n, value in vars(table).items() if callable(value) and not n.startswith("_")]:
                patch(table, name, _naming_transaction(getattr(table, name), name))

        # Before its transaction: who waits here must not lock the database.
        patch(Commitments, "apply", _with(Commitments.apply, lambda *_: _effect(hit, "apply")))

        def committing(connection: sqlalchemy.Connection) -> None:
            transaction = getattr(_here, "transaction", None)
            if transaction:
                _effect(hit, f"commit {transaction}")

        sqlalchemy.event.listen(sqlalchemy.Engine, "commit", committing)
        undo.callback(sqlalchemy.event.remove, sqlalchemy.Engine, "commit", committing)
        yield


def _effect(hit: Hit, effect: str) -> None:
    place = getattr(_here, "place", None)
    if place is None:
        if effect == "publish" or threading.current_thread() is not threading.main_thread():
            return  # a first start's files; heartbeats and the engine's own threads, which come and go by the clock
        place = "judge"
    hit(f"{place}:{effect}", None)


def _with(original: Callable[..., Any], before: Callable[..., None]) -> Callable[..., Any]:
    @wraps(original)
    def wrapped(*args: Any, **options: Any) -> Any:
        before(*args)
        return original(*args, **options)

    return wrapped


def _in_place(place: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """Count what a thread of its own does as done in a step: a report that comes while the step waits for it."""

    @wraps(original)
    def wrapped(*args: Any) -> Any:
        _here.place = place
        try:
            return original(*args)
        finally:
            _here.place = None

    return wrapped


def _naming_transaction(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    @wraps(original)
    def wrapped(*args: Any, **options: Any) -> Any:
        outer, _here.transaction = getattr(_here, "transaction", None), name
        try:
            return original(*args, **options)
        finally:
            _here.transaction = outer

    return wrapped


def _around_steps(original: Callable[..., Any], hit: Hit) -> Callable[..., Any]:
    def step(self: Engine, name: str, function: Callable[..., Any], *args: Any) -> Any:
        def run(*inner: Any) -> Any:
            _here.place = name
            hit(f"{name}:begin", workflow)
            try:
                value = function(*inner)
                hit(f"{name}:done", None)
                return value
            finally:
                _here.place = None

        workflow = DBOS.workflow_id
        value = original(self, name, run, *args)
        hit(f"{name}:recorded", workflow)
        return value

    return step


def _around_receipts(original: Callable[..., Any], hit: Hit) -> Callable[..., Any]:
    def store(self: Storing, request: Any) -> bool:
        _here.place = "receive"
        try:
            stored = original(self, request)
            hit("receive:status", None)
            return stored
        finally:
            _here.place = None

    return store


def _around_progress(original: Callable[..., Any], hit: Hit) -> Callable[..., Any]:
    def read(self: Children, *args: Any, progress: Callable[[str, float], None], **options: Any) -> None:
        def tell(stage: str, fraction: float) -> None:
            if fraction == 0.0:
                _effect(hit, f"child {stage}")
            progress(stage, fraction)

        original(self, *args, progress=tell, **options)

    return read
