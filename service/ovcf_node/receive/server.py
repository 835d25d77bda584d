"""The receiving process: the acceptor with the storing handler behind it."""

from ovcf_node.config import Receive
from ovcf_node.network.application_entity import Acceptor, Listener
from ovcf_node.network.policy import AssociationPolicy
from ovcf_node.receive.listening import Listening
from ovcf_node.receive.storing import Storing


class Receiver:
    """Accept associations of known peers and store what they send."""

    def __init__(
        self, settings: Receive, storing: Storing, *, port: int | None = None, listening: Listening | None = None,
    ):
        """`port` overrides the configured one; 0 takes any free port. `listening` hears who tries to reach us."""
        listener = Listener(
            host=settings.host,
            port=settings.port if port is None else port,
            max_associations=settings.max_associations,
            max_pdu=settings.max_pdu,
            network_timeout_s=settings.network_timeout_s,
        )
        policy = AssociationPolicy(settings.ae_titles, settings.sources)
        self._acceptor = Acceptor(listener, policy, storing.answer, listening.heard if listening else None)

    @property
    def port(self) -> int:
        """The port that is listened on; only after `start`."""
        return self._acceptor.port

    def start(self) -> None:
        """Listen; when this returns, peers can connect. Raises Permanent (`cannot_listen`)."""
        self._acceptor.start()

    def admit(self, settings: Receive) -> None:
        """Take over who may send; associations that are open go on."""
        self._acceptor.admit(AssociationPolicy(settings.ae_titles, settings.sources))

    def stop(self, drain_s: float = 30.0) -> int:
        """Stop listening, let running associations end for `drain_s` seconds; return how many had to be aborted."""
        return self._acceptor.stop(drain_s)
