"""The port to DBOS: about ten calls.

What DBOS 3.4 does by default and a node must not do, and the cure here:

1.  A full disk ends a SQLite workflow for good or leaves it PENDING with nobody running it. Connections are guarded:
    the first SQLITE_FULL or SQLITE_IOERR ends the process with EXIT_STORAGE, the supervisor restarts it, and recovery
    goes on at the step that was running; `repair` rewinds what became an error nevertheless. (PostgreSQL: DBOS waits.)
2.  Work of a dead executor waits for an executor of the same name: `take_over`, onto its own queue, because elsewhere
    it would run outside every concurrency limit. Only `worker_concurrency`: a corpse would fill a global one.
3.  Two processes of one executor id steal each other's work: the id is the name of a locked `Slot`.
4.  Every launched process works every queue: ours work those they were given, none by default.
5.  The application version is a hash of the code, so an upgrade strands queued work: pinned; `patched` for new steps.
6.  In-step retries sleep in a thread and are forgotten at a restart: none; an outage is a new attempt with `delay_s`.
7.  A workflow that waits for another holds its place in the queue: nothing here can wait; the judge enqueues.
8.  Dead letters after 100 recoveries: no limit; the number of attempts is the ledger's business.
9.  Priority unset means before everything: `enqueue` demands one; `priority` makes it.
10. SQLite without WAL is two to three times slower: set before launch.
11. Pickle in the database is code execution: portable JSON. That alone would replay errors as another class and tuples
    as lists, so `step` gives JSON values and `ovcf_node.errors` classes in the first run and in every replay.
12. Nothing is ever deleted: `forget`, and `storage.compaction` for the file.
13. One thread and one query per queue and interval: few queues, polled every 0.2 to 1 s.
14. INFO is noise, expected failures print tracebacks, errors show SQL parameters: WARNING, one line, parameters hidden.
15. `cancel` takes effect at the next step, not inside one.
16. No telemetry, no administration server, no Conductor; the version is pinned in pyproject.toml.
"""

import functools
import json
import logging
import math
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, ParamSpec, TypeVar

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, PortableWorkflowError
from dbos import error as dbos_error

from ovcf_node.engine import sqlite
from ovcf_node.engine.schema import refuse_newer
from ovcf_node.errors import OvcfError, Permanent, Transient
from ovcf_node.storage import compaction

P, T = ParamSpec("P"), TypeVar("T")
State = Literal["absent", "enqueued", "running", "done", "failed"]

STAT_HEAD_START_MIN = 240
"""A STAT study overtakes routine studies that arrived up to this much earlier, minutes; older ones keep their turn."""

_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_STATES: dict[str, State] = {
    "ENQUEUED": "enqueued", "DELAYED": "enqueued", "PENDING": "running", "SUCCESS": "done",
    "ERROR": "failed", "CANCELLED": "failed", "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
}
_ENDED = [name for name, state in _STATES.items() if state in ("done", "failed")]


def priority(arrived_at: datetime, *, stat: bool, head_start_min: int = STAT_HEAD_START_MIN) -> int:
    """Return urgency and waiting time as one number, 1..2**31-1, lower first: the minute of arrival less a head start.

    Whoever has waited for the head start longer than a STAT goes before it: nobody starves. `arrived_at` must have a time
    zone.
    """
    minute = int((arrived_at - _EPOCH).total_seconds() // 60)
    return min(max(minute + head_start_min * (not stat), 1), 2**31 - 1)


@dataclass(frozen=True)
class Step:
    """One recorded step of a workflow."""

    name: str
    seconds: float
    failed: bool


class _Draining(BaseException):
    """Leave a workflow between two steps; DBOS catches Exception only, so it stays PENDING and is recovered."""


def _json_value(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return json.loads(json.dumps(function(*args)))
    except OvcfError:
        raise
    except Exception as error:
        # Raised again, as its kind alone: DBOS keeps the message of what a step raised in its database, and a library's may
        # quote the data set. The chain stays for the log, which drops foreign messages.
        raise RuntimeError(f"a defect: {type(error).__name__}") from error


def _one_line(record: logging.LogRecord) -> bool:
    """Log filter: say an error of ours by its code, without the traceback."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, OvcfError):
        record.msg, record.args, record.exc_info = f"{record.getMessage()} {error.code}", (), None
    return True


class Engine:
    """One per process. Register workflows, launch, enqueue; shut down."""

    def __init__(
        self, url: str, *, executor_id: str, queues: Mapping[str, int] | None = None, poll_s: float = 0.5,
        application_version: str = "1", on_storage_failure: Callable[[str], None] | None = None,
    ):
        """Take `sqlite:///path` or a PostgreSQL URL, and the queues to work: name -> workflows at once in this process.

        Without queues it only enqueues. `on_storage_failure` replaces the immediate exit of the process; when it
        returns, the thread that met the error ends.
        """
        self.executor_id = executor_id
        self._queues = dict(queues or {})
        self._poll_s = poll_s
        self._file = sqlite.file_of(url)
        self._workflows: dict[str, Callable[..., Any]] = {}
        self._draining = threading.Event()
        self._running: list[str] = []
        connect_args: dict[str, Any] = {"application_name": f"ovcf-node {executor_id}"}
        if self._file:
            connect_args = {"factory": sqlite.guarded(on_storage_failure or sqlite.leave)}
        self._config = DBOSConfig(
            name="ovcf-node", system_database_url=url, serializer=DBOSPortableJSONSerializer(), executor_id=executor_id,
            application_version=application_version, log_level="WARNING", enable_otlp=False, sys_db_pool_size=8,
            db_engine_kwargs={"hide_parameters": True, "connect_args": connect_args},
            notification_listener_polling_interval_sec=0.2,  # nobody listens; `shutdown` waits for that thread
        )

    def workflow(self, name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Register a function of JSON values as workflow `name`; before `launch`.

        Between its steps it may only decide on its arguments and on what steps returned: it is replayed after a crash.
        """

        def register(function: Callable[P, T]) -> Callable[P, T]:
            self._workflows[name] = function
            return function

        return register

    def step(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Run one step of the current workflow; never again once recorded, but again when killed before that.

        Returns the JSON value of the result. Raises what the function raised; an error that is not ours is a
        defect, raised and recorded as a RuntimeError without its message, and no workflow may catch it.
        """
        if self._draining.is_set():
            raise _Draining
        try:
            return DBOS.run_step({"name": name}, _json_value, function, *args)
        except PortableWorkflowError as recorded:
            ours = {kind.__name__: kind for kind in (Transient, Permanent)}.get(recorded.name)
            if ours is None:
                raise
            code = str(recorded.code)
            raise ours(code, recorded.message.removeprefix(code).removeprefix(": ")) from None

    def patched(self, name: str) -> bool:
        """Return True where new steps may run, False in a workflow that went past this point before the change `name`.

        Recorded steps are found by position (trap 5): a step may be added only under `if engine.patched("name")`.
        """
        return DBOS.patch(name)

    def launch(self) -> None:
        """Open the database, recover this executor's own unfinished workflows, begin to work the queues.

        Raises Permanent (`engine_schema_newer`), Transient (`engine_unavailable`).
        """
        refuse_newer(self._config["system_database_url"])
        dbos_log = logging.getLogger("dbos")
        if not dbos_log.handlers:  # DBOS adds its own and stops propagation if it finds none
            dbos_log.addHandler(logging.NullHandler())
        dbos_log.addFilter(_one_line)
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with sqlite.connected(self._file) as connection:
                compaction.make_shrinkable(connection)
                connection.execute("PRAGMA journal_mode=WAL")
        DBOS(config=self._config)
        for name, function in self._workflows.items():
            DBOS.workflow(name=name, max_recovery_attempts=None)(self._counted(function))
        DBOS.listen_queues(list(self._queues))
        DBOS.launch()
        for name, concurrency in self._queues.items():
            DBOS.register_queue(
                name, worker_concurrency=concurrency, polling_interval_sec=self._poll_s, on_conflict="always_update",
            )

    def shutdown(self, timeout_s: float) -> bool:
        """Stop taking work and wait for the running steps; False if some did not end in time (full seconds).

        Then leave with `os._exit`: the threads of those steps would keep the interpreter alive. The workflows go on at
        the next start.
        """
        self._draining.set()
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=math.ceil(timeout_s))
        return not self._running

    def enqueue(
        self, workflow: str, workflow_id: str, queue: str, args: tuple[Any, ...], *, priority: int,
        delay_s: float | None = None, alone: str | None = None,
    ) -> bool:
        """Put a workflow on a queue; False if the id is known already, in any state. Not from inside a workflow.

        It starts `delay_s` from now at the earliest. With `alone` False too while another workflow of this mark waits or
        runs on that queue, whichever process has it; one that was taken over from a dead executor has lost its mark.
        """
        options: dict[str, Any] = {
            "workflow_name": workflow, "workflow_id": workflow_id, "queue_name": queue, "priority": priority,
            "app_version": self._config["application_version"], "workflow_id_reuse_policy": "reject",
        }
        if delay_s is not None:
            options["delay_seconds"] = delay_s
        if alone is not None:
            options["deduplication_id"] = alone
        try:
            DBOS.enqueue_workflow_with_options(options, *args)
        except (dbos_error.DBOSWorkflowIDInUseError, dbos_error.DBOSQueueDeduplicatedError):
            return False
        return True

    def run_now(self, workflow_id: str) -> None:
        """End the delay of a workflow; nothing happens to any other."""
        DBOS.set_workflow_delay(workflow_id, delay_seconds=0)

    def cancel(self, workflow_id: str) -> None:
        """Take a workflow from its queue or stop it at its next step; nothing happens to an ended or absent one."""
        DBOS.cancel_workflow(workflow_id)

    def state(self, workflow_id: str) -> State:
        return self.states([workflow_id])[workflow_id]

    def states(self, workflow_ids: Collection[str]) -> dict[str, State]:
        """Return the state of each workflow, in one query (up to 30000)."""
        found = dict.fromkeys(workflow_ids, "absent")
        if found:  # an empty list would mean all of them
            known = DBOS.list_workflows(workflow_ids=list(found), load_input=False, load_output=False)
            found |= {workflow.workflow_id: _STATES[workflow.status] for workflow in known}
        return found

    def history(self, workflow_id: str) -> list[Step]:
        """Return the recorded steps in the order in which they ran."""
        return [
            Step(
                step["function_name"], failed=step["error"] is not None,
                seconds=((step["completed_at_epoch_ms"] or 0) - (step["started_at_epoch_ms"] or 0)) / 1000,
            )
            for step in DBOS.list_workflow_steps(workflow_id)
        ]

    def take_over(self, living: Collection[str]) -> list[str]:
        """Put the unfinished workflows of executors not in `living` back on their own queues; return their ids.

        An executor wrongly called dead loses its work at its next checkpoint, which DBOS fences by owner.
        """
        spared = {*living, self.executor_id}
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        orphans = [workflow for workflow in pending if workflow.executor_id not in spared]
        for workflow in orphans:
            DBOS.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name)
        return [workflow.workflow_id for workflow in orphans]

    def repair(self) -> list[str]:
        """Let workflows that a full disk ended go on behind their last recorded step; return their ids."""
        ended = DBOS.list_workflows(status="ERROR", load_input=False)
        broken = [w for w in ended if w.error and any(text in str(w.error) for text in sqlite.ERROR_TEXTS)]
        for workflow in broken:
            steps = DBOS.list_workflow_steps(workflow.workflow_id, load_output=False)
            behind = max((step["function_id"] for step in steps), default=0) + 1
            DBOS.rewind_workflow(workflow.workflow_id, start_step=behind, queue_name=workflow.queue_name)
        return [workflow.workflow_id for workflow in broken]

    def forget(self, before: datetime) -> int:
        """Delete workflows that ended before an aware time; return how many. A forgotten id can be enqueued anew."""
        count = 0
        while ended := DBOS.list_workflows(
            status=_ENDED, completed_before=before.isoformat(), limit=500, load_input=False, load_output=False,
        ):
            DBOS.delete_workflows([workflow.workflow_id for workflow in ended])
            count += len(ended)
        return count

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any) -> Any:
            self._running.append(function.__name__)
            try:
                return function(*args)
            finally:
                self._running.remove(function.__name__)

        return run
