"""What a peer can make an association hold in memory, and that nothing it sends ends more than its own association.

pynetdicom collects the fragments of a message without a limit and decodes the command in the DUL's thread, which a malformed
one would end for good.
"""

import queue
from contextlib import suppress

import structlog
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE, StateMachine
from pynetdicom.pdu import _PDUType
from pynetdicom.pdu_primitives import A_ASSOCIATE, P_DATA

from ovcf_node.storage.malformed import MALFORMED

_log = structlog.get_logger(__name__)

COMMAND_AT_MOST = 1 << 16
PDU_AT_MOST = 1 << 20  # other than of data: a request with 128 presentation contexts has some 100 kB
_WAITING_AT_MOST = 16  # requests of a peer while it owes us a response
_INVALID_PDU = "Evt19"  # PS3.8 9.2.3: the association is aborted
_TIMER_EXPIRED = "Evt18"
_NO_ASSOCIATION = "Sta2"  # connected; there is nothing yet that our side could have to say
_OURS = frozenset({"Evt7", "Evt8", "Evt9", "Evt11", "Evt14", "Evt15"})  # primitives that our own side sends


class CheckedDul(DULServiceProvider):
    """Takes no PDU whose fields are none of the standard's: it is invalid (PS3.8 9.2.3), and its association is aborted."""

    def _decode_pdu(self, bytestream: bytearray) -> tuple[_PDUType, str]:
        pdu, event = super()._decode_pdu(bytestream)
        # pynetdicom looks at the values only when its state machine acts on the PDU: an error there ends the thread, and the
        # association keeps its place until a timeout. Here it becomes an invalid PDU.
        primitive = pdu.to_primitive()
        if isinstance(primitive, A_ASSOCIATE):
            contexts = primitive.presentation_context_definition_list
            if any(context.abstract_syntax is None or not context.transfer_syntax for context in contexts):
                raise ValueError("a presentation context without an abstract or a transfer syntax")
        return pdu, event


class CheckedStateMachine(StateMachine):
    """Forgets what comes too late: our answer when the peer has ended the association, a timer that was just stopped."""

    def do_action(self, event: str) -> None:
        """Act on an event; one too late for its state would end the DUL's thread (PS3.8 9.2.3 has no row)."""
        if self.current_state == _NO_ASSOCIATION:
            # pynetdicom takes whatever of ours waits here for the abort that it is to send, and fails on anything else.
            self.dul.to_provider_queue.queue.clear()
        if (event, self.current_state) not in TRANSITION_TABLE:
            if event == _TIMER_EXPIRED:  # while what stops the timer was waiting already: the peer was in time
                return
            if event in _OURS:
                with suppress(queue.Empty):
                    self.dul.to_provider_queue.get(block=False)
                return
        super().do_action(event)


class BoundedDimse(DIMSEServiceProvider):
    """Collects messages up to a limit; what is larger, or no message at all, aborts the association."""

    data_set_at_most: int = 1 << 20

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA primitive; called in the DUL's thread."""
        try:
            super().receive_primitive(primitive)
        except MALFORMED as error:
            self._abort(f"malformed message: {type(error).__name__}")
            return
        message = self.message
        if message is None:
            return
        if message.encoded_command_set.tell() > COMMAND_AT_MOST:
            self._abort("the command is too long")
        elif message.data_set.tell() > self.data_set_at_most:
            self._abort("the data set is too long")

    def get_msg(self, block: bool = False) -> tuple:
        """Return the next message; where we wait for the response to a request of ours, the peer's own requests wait.

        Both sides may ask at the same time. pynetdicom takes whatever comes for the response, and aborts.
        """
        waiting: list[tuple] = []
        number, message = super().get_msg(block)
        while block and message is not None and message.is_valid_request and len(waiting) < _WAITING_AT_MOST:
            waiting.append((number, message))
            number, message = super().get_msg(block)
        for one in waiting:
            self.msg_queue.put(one)
        return number, message

    def _abort(self, reason: str) -> None:
        _log.warning("message_refused", text=reason, address=self.assoc.requestor.address)
        self.message = None
        self.dul.event_queue.put(_INVALID_PDU)
