"""Make an association's reactor stand still while we send a request over it, and its threads send one after the other.

pynetdicom 3.0 pauses the thread that watches an association whenever a request is sent, so that it does not take the
response. It asks a flag that the thread sets before it waits and resets after it was woken: between two requests in a row
a thread that has not run yet still counts as waiting, wakes up in the middle of the second one and may take its response.
The sender then waits for it until its time-out. On an idle machine that is rare; on a busy one it was about one in fifteen
associations of two C-STOREs. Here "paused" means that the thread waits and goes on waiting.
"""

import threading

from pynetdicom import Association
from pynetdicom.dimse_primitives import DimseServiceType


def pause_for_certain(association: Association) -> None:
    """Replace the checkpoint of an established association over which we are going to send requests."""
    if not isinstance(association, _Pausing):  # a second checkpoint would leave somebody waiting for the first
        association._reactor_checkpoint = _Checkpoint()
        association.__class__ = _Pausing


def one_message_at_a_time(association: Association) -> None:
    """Let no thread send between the fragments of another's message.

    pynetdicom answers an N-EVENT-REPORT in a thread of its own, beside whoever sends over the association at that moment.
    """
    lock, send = threading.Lock(), association.dimse.send_msg

    def whole(primitive: DimseServiceType, context_id: int) -> None:
        with lock:
            send(primitive, context_id)

    association.dimse.send_msg = whole


class _Checkpoint:
    """The part of `threading.Event` that pynetdicom uses, and whether the reactor is held."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._open = True
        self.holds = False

    def set(self) -> None:
        with self._condition:
            self._open, self.holds = True, False
            self._condition.notify_all()

    def clear(self) -> None:
        with self._condition:
            self._open = False

    def wait(self) -> None:
        with self._condition:
            while not self._open:
                self.holds = True
                self._condition.wait()
            self.holds = False


class _Pausing(Association):
    _reactor_checkpoint: _Checkpoint

    @property
    def _is_paused(self) -> bool:
        # A thread that has ended takes nothing, and one that asks cannot wait for itself.
        return self._reactor_checkpoint.holds or not self.is_alive() or threading.current_thread() is self

    @_is_paused.setter
    def _is_paused(self, _: bool) -> None:
        """Ignore what pynetdicom believes."""
