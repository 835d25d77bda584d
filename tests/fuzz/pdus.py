"""Target: PDUs and messages, in process, through everything that our acceptor does with them.

pynetdicom's DUL reads and decodes the PDU, its state machine acts on it, what comes up is judged by our policy,
negotiated and served, all by the code that runs in the node; only its two threads are replaced by one call a PDU, which
makes thousands a second of it. Whatever those threads would not have caught is a finding: it would have ended one of them,
and left its peer, its socket and its place among the associations behind.
"""

import queue
import random
from collections.abc import Callable

from pynetdicom import evt
from pynetdicom.pdu_primitives import A_ASSOCIATE

from fuzz import recorded
from fuzz.mutating import Mutator
from fuzz.tallies import Tally, memory_mb, place
from ovcf_node.config import Destination, Source
from ovcf_node.network.admission import AdmittingRequestHandler
from ovcf_node.network.application_entity import Listener
from ovcf_node.network.commitment import CommittingAcceptor
from ovcf_node.network.messages import StoreAnswer
from ovcf_node.network.policy import AssociationPolicy

# What an acceptor can be in when a PDU comes (PS3.8 9.2.2): waiting for a request, for our own answer to it, for data, for
# our own release, for the end of the connection.
STATES = ("Sta2", "Sta3", "Sta6", "Sta8", "Sta13")
_FRESH_AFTER = 500
_PACS = Destination(name="pacs", type="dicom", ae_title="PACS", host="127.0.0.1", port=104, final="committed")


class Association:
    """An association of our acceptor whose peer is a string of bytes."""

    def __init__(self) -> None:
        policy = AssociationPolicy(
            ("OVCF_NODE",), (Source(ae_title="SCANNER"),), reporters=[_PACS], commits=True,
        )
        self._acceptor = CommittingAcceptor(
            Listener("127.0.0.1", 0), policy, lambda request: StoreAnswer(0x0000), promise=lambda request: None,
            answer=lambda transaction, peer: None, told=lambda transaction, peer: None, reported=lambda answer: None,
        )
        self._acceptor.start()
        self._server = self._acceptor._server
        self._renew()

    def close(self) -> None:
        self._acceptor.stop(0)

    def _renew(self) -> None:
        handler = object.__new__(AdmittingRequestHandler)
        handler.server, handler.client_address, handler.request = self._server, ("127.0.0.1", 40000), _Peer(b"")
        made = handler._create_association()
        made.kill = made.abort = made._abort_nonblocking = made._abort_blocking = lambda: None  # they wait for the threads
        made.dul.kill_dul = lambda: None
        self._association = made
        self._contexts = made.acceptor.supported_contexts
        self._left = _FRESH_AFTER

    def hear(self, state: str, data: bytes) -> str:
        """Take a peer's bytes in a state; returns what became of it. What it raises would have ended a thread."""
        association, dul = self._begin(state, data)
        while dul.socket.socket is not None and not dul.socket.socket.is_empty():
            dul._read_pdu_data()
            self._act()
            if not dul.to_user_queue.empty():
                self._answer_the_request()
            context_id, message = association.dimse.get_msg(block=False)
            if message is not None:
                association._serve_request(message, context_id)
                self._act()
        return dul.state_machine.current_state

    def _begin(self, state: str, data: bytes) -> tuple:
        self._left -= 1
        if self._left < 0:
            self._close_wakers()
            self._renew()
        association, dul = self._association, self._association.dul
        dul.socket.socket, dul.socket._is_connected = _Peer(data), True
        waiting = (dul.event_queue, dul.to_user_queue, dul._recv_pdu, dul.to_provider_queue, association.dimse.msg_queue)
        for events in waiting:
            events.queue.clear()
        association.dimse.message = None
        association.is_established = state == "Sta6"
        association.is_aborted = association.is_rejected = False
        if state == "Sta6":
            association._accepted_cx = {1: self._contexts[0]}
            self._contexts[0].context_id = 1
        dul.state_machine.current_state = state
        return association, dul

    def _close_wakers(self) -> None:
        self._association.dul.socket.wake_reader.close()
        self._association.dul.socket.wake_writer.close()

    def _act(self) -> None:
        """Let the state machine act until nothing is left to do, as the DUL's thread does."""
        dul = self._association.dul
        while True:
            if dul.event_queue.empty():
                dul._process_recv_primitive()
            try:
                event = dul.event_queue.get(block=False)
            except queue.Empty:
                return
            if dul.state_machine.current_state == "Sta1":
                return
            dul.state_machine.do_action(event)

    def _answer_the_request(self) -> None:
        association = self._association
        primitive = association.dul.to_user_queue.get()
        if not isinstance(primitive, A_ASSOCIATE) or association.dul.state_machine.current_state != "Sta3":
            return
        acceptor = association.acceptor
        acceptor._user_info, acceptor._ext_neg, acceptor._common_ext = acceptor._user_info[:2], {}, {}
        acceptor.primitive = association.requestor.primitive = None
        acceptor.supported_contexts = self._contexts
        association.requestor.primitive = primitive
        known = len(self._acceptor._running)
        self._acceptor._requested(evt.Event(association, evt.EVT_REQUESTED))
        self._act()
        if not association.is_rejected:
            association.acse.negotiate_association()
            self._act()
        if association.is_established and len(self._acceptor._running) == known:
            raise AssertionError("an association was accepted that the policy never saw")
        self._acceptor._end(association)


class _Peer:
    """The socket of a peer that said everything at once and listens to nothing."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    def is_empty(self) -> bool:
        return self._at >= len(self._data)

    def recv_into(self, buffer: memoryview) -> int:
        piece = self._data[self._at:self._at + len(buffer)]
        buffer[:len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def send(self, data: bytes) -> int:
        return len(data)

    def gettimeout(self) -> float:
        return 60.0

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 104

    def shutdown(self, how: int) -> None:
        """Nobody listens."""

    def close(self) -> None:
        self._at = len(self._data)


def run(seed: int, going: Callable[[int], bool]) -> Tally:
    """Take changed PDUs while `going(tried)`."""
    tally = Tally("pdus")
    changes = Mutator(seed, recorded.pdus())
    association = Association()
    begin = memory_mb()
    try:
        while going(tally.tried):
            state, data = input_of(changes)
            tally.tried += 1
            try:
                tally.outcomes[f"{state}-{association.hear(state, data)}"] += 1
            # A finding, which fails the campaign: in the node it would have ended the association's thread.
            except Exception as error:  # noqa: BLE001
                tally.found(place(error), state.encode() + b"\n" + data)
                association._renew()
    finally:
        association.close()
    tally.notes |= {"MB grown": memory_mb() - begin}
    return tally


def input_of(changes: Mutator) -> tuple[str, bytes]:
    """Return a state and one or two changed PDUs; most have a right length, so that what is in them is looked at."""
    chance = changes.random
    data = b"".join(_with_length(chance, changes.one()) for _ in range(chance.choice((1, 1, 1, 2))))
    if data[:1] == b"\x01":
        return chance.choice(("Sta2", "Sta2", "Sta2", "Sta6")), data
    if data[:1] == b"\x04":
        return chance.choice(("Sta6", "Sta6", "Sta6", "Sta2")), data
    return chance.choice(STATES), data


def _with_length(chance: random.Random, data: bytes) -> bytes:
    if len(data) < 6 or chance.random() < 0.15:
        return data
    body = data[6:]
    if data[:1] == b"\x04" and len(body) > 4 and chance.random() < 0.6:  # one value, as long as what is there
        body = (len(body) - 4).to_bytes(4, "big") + body[4:]
    return data[:2] + len(body).to_bytes(4, "big") + body
