"""The receiving process: the acceptor with the storing and committing handlers behind it."""

from collections.abc import Sequence

from ovcf_node.config import Destination, Receive
from ovcf_node.network.application_entity import Acceptor, Listener, listeners, stop_all
from ovcf_node.network.commitment import CommittingAcceptor
from ovcf_node.network.policy import AssociationPolicy
from ovcf_node.receive.committing import Committing
from ovcf_node.receive.listening import Listening
from ovcf_node.receive.storing import Storing


class Receiver:
    """Accept associations of known peers and store what they send; of `destinations`, reports of storage commitment.

    On the plain port, the one with TLS, or both.
    """

    def __init__(
        self, settings: Receive, storing: Storing, committing: Committing | None = None,
        destinations: Sequence[Destination] = (), *, port: int | None = None, listening: Listening | None = None,
    ):
        """`port` overrides the configured plain one; 0 takes any free port. Without `committing` there is no commitment.

        `listening` hears who tries to reach us.
        """
        listener = Listener(
            host=settings.host,
            port=settings.port if port is None else port,
            max_associations=settings.max_associations,
            max_pdu=settings.max_pdu,
            network_timeout_s=settings.network_timeout_s,
            balancers=tuple(map(str, settings.balancers)),
            data_set_at_most=settings.max_instance_mb * 2**20,
        )
        policy, witness = _policy(settings, destinations), listening.heard if listening else None
        self._committing = committing
        self._acceptors: list[Acceptor] = []
        for one in listeners(listener, plain=settings.plain, tls_port=settings.tls_port):
            if committing is None:
                self._acceptors.append(Acceptor(one, policy, storing.answer, witness))
            else:
                self._acceptors.append(CommittingAcceptor(
                    one, policy, storing.answer, promise=committing.promise, answer=committing.answer,
                    told=committing.told, reported=committing.reported, witness=witness,
                ))
        for acceptor in self._acceptors:
            acceptor.ended = storing.ended

    @property
    def port(self) -> int:
        """The port that is listened on, the plain one where it is open; only after `start`."""
        return self._acceptors[0].port

    def start(self) -> None:
        """Listen; when this returns, peers can connect. Raises Permanent (`cannot_listen`, `tls`)."""
        for acceptor in self._acceptors:
            acceptor.start()

    def admit(self, settings: Receive, destinations: Sequence[Destination] = ()) -> None:
        """Take over who may send and what is promised to them; associations that are open go on."""
        if self._committing is not None:
            self._committing.admit(settings)
        for acceptor in self._acceptors:
            acceptor.admit(_policy(settings, destinations))

    def stop(self, drain_s: float = 30.0) -> int:
        """Stop listening, let running associations end for `drain_s` seconds; return how many had to be aborted."""
        return stop_all(self._acceptors, drain_s)


def _policy(settings: Receive, destinations: Sequence[Destination]) -> AssociationPolicy:
    reporters = [destination for destination in destinations if destination.final == "committed"]
    return AssociationPolicy(
        settings.ae_titles, settings.sources, reporters=reporters, commits=settings.commit_days > 0,
    )
