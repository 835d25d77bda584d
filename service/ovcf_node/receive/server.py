"""The receiving process: the acceptor with the storing handler behind it."""

from ovcf_node.config import Receive
from ovcf_node.network.application_entity import Acceptor, Listener, listeners, stop_all
from ovcf_node.network.policy import AssociationPolicy
from ovcf_node.receive.storing import Storing


class Receiver:
    """Accept associations of known peers and store what they send, on the plain port, the one with TLS, or both."""

    def __init__(self, settings: Receive, storing: Storing, *, port: int | None = None):
        """`port` overrides the configured plain one; 0 takes any free port."""
        listener = Listener(
            host=settings.host,
            port=settings.port if port is None else port,
            max_associations=settings.max_associations,
            max_pdu=settings.max_pdu,
            network_timeout_s=settings.network_timeout_s,
            balancers=tuple(map(str, settings.balancers)),
            data_set_at_most=settings.max_instance_mb * 2**20,
        )
        policy = AssociationPolicy(settings.ae_titles, settings.sources)
        self._acceptors = [Acceptor(one, policy, storing.answer)
                           for one in listeners(listener, plain=settings.plain, tls_port=settings.tls_port)]

    @property
    def port(self) -> int:
        """The port that is listened on, the plain one where it is open; only after `start`."""
        return self._acceptors[0].port

    def start(self) -> None:
        """Listen; when this returns, peers can connect. Raises Permanent (`cannot_listen`, `tls`)."""
        for acceptor in self._acceptors:
            acceptor.start()

    def admit(self, settings: Receive) -> None:
        """Take over who may send; associations that are open go on."""
        for acceptor in self._acceptors:
            acceptor.admit(AssociationPolicy(settings.ae_titles, settings.sources))

    def stop(self, drain_s: float = 30.0) -> int:
        """Stop listening, let running associations end for `drain_s` seconds; return how many had to be aborted."""
        return stop_all(self._acceptors, drain_s)
