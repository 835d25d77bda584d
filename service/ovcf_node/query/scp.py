"""The Query/Retrieve SCP over the results: who may ask, what is answered, what is sent where (PS3.4 Annex C)."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ovcf_node.config import Destination, Peer, Query
from ovcf_node.errors import Refused
from ovcf_node.ledger import Ledger
from ovcf_node.ledger import catalogue as results
from ovcf_node.network.application_entity import Listener, listeners, requestor_of, stop_all
from ovcf_node.network.associate import Remote, StoreFile
from ovcf_node.network.messages import FindMatch, QueryRequest
from ovcf_node.network.policy import AssociationPolicy, plain_address
from ovcf_node.network.query_retrieve import QueryAcceptor
from ovcf_node.observe import audit
from ovcf_node.observe.audit import Code
from ovcf_node.query.identifiers import MISMATCH, asked_of_find, asked_of_retrieve
from ovcf_node.query.responses import Responder
from ovcf_node.storage import identities

_NOT_AUTHORISED = 0x0124
_OUT_OF_RESOURCES = 0xA700
_CANNOT_COUNT = 0xA701  # out of resources: unable to calculate the number of matches
_DESTINATION_UNKNOWN = 0xA801
_SUB_OPERATIONS_AT_MOST = 65535  # the counts of the responses are US
_STORE_TIMEOUT_S = 30.0
_IDENTIFIER_AT_MOST = 1 << 20  # bytes; 5000 UIDs are 330 kB


class QueryScp:
    """Answers C-ECHO, C-FIND, C-GET and C-MOVE; `results_root` is the folder that the paths of results are relative to."""

    def __init__(
        self, settings: Query, destinations: Sequence[Destination], ledger: Ledger, results_root: Path,
        port: int | None = None,
    ):
        self._settings = settings
        self._destinations = destinations
        self._catalogue = ledger.catalogue
        self._root = results_root
        listener = Listener(
            settings.host, settings.port if port is None else port, max_associations=settings.max_associations,
            network_timeout_s=settings.network_timeout_s, balancers=tuple(map(str, settings.balancers)),
            data_set_at_most=_IDENTIFIER_AT_MOST,
        )
        policy = AssociationPolicy(settings.ae_titles, settings.peers)
        self._acceptors = [QueryAcceptor(one, policy, self)
                           for one in listeners(listener, plain=settings.plain, tls_port=settings.tls_port)]

    @property
    def port(self) -> int:
        """The port that is listened on, the plain one where it is open; only after `start`."""
        return self._acceptors[0].port

    def start(self) -> None:
        """Listen; when this returns, peers can connect. Raises Permanent (`cannot_listen`, `tls`)."""
        for acceptor in self._acceptors:
            acceptor.start()

    def stop(self, drain_s: float) -> int:
        """Stop listening, let associations end for `drain_s` seconds, abort the rest and return their number."""
        return stop_all(self._acceptors, drain_s)

    def find(self, request: QueryRequest) -> Iterator[FindMatch]:
        """Answer a C-FIND. Raises Refused."""
        peer = self._peer(request)
        if not peer.find:
            raise Refused(_NOT_AUTHORISED, "not_authorised", "not authorised to query")
        audit.queried(
            requestor_of(request.peer, Code.SOURCE),
            audit.ourselves(Code.DESTINATION, ae_title=request.peer.called_ae_title),
            request.sop_class_uid, request.encoded, request.transfer_syntax_uid,
        )
        asked = asked_of_find(request.identifier, request.patient_root)
        responder = Responder(
            request.identifier, self._catalogue.header, request.peer.called_ae_title if peer.retrieve else None,
            asked.all_matched,
        )
        query = results.Query(
            asked.level, asked.keys, self._dialect(request), responder.computed(), at_most=self._settings.max_matches
        )
        try:
            matches = self._catalogue.find(query)
        except results.TooManyMatches as error:
            raise Refused(_OUT_OF_RESOURCES, error.code, error.text) from error
        except results.BadKey as error:
            raise Refused(MISMATCH, error.code, error.text) from error
        return (responder.response(match) for match in matches)

    def retrieve(self, request: QueryRequest) -> list[StoreFile]:
        """Return the stored objects that a C-GET or C-MOVE names. Raises Refused."""
        if not self._peer(request).retrieve:
            raise Refused(_NOT_AUTHORISED, "not_authorised", "not authorised to retrieve")
        asked = asked_of_retrieve(request.identifier, request.patient_root)
        try:
            found = self._catalogue.retrieve(asked.keys, self._dialect(request), _SUB_OPERATIONS_AT_MOST)
        except results.TooManyMatches as error:
            raise Refused(_CANNOT_COUNT, error.code, error.text) from error
        except results.BadKey as error:
            raise Refused(MISMATCH, error.code, error.text) from error
        files = [StoreFile(self._root / r.path, r.sop_class_uid, r.sop_instance_uid, r.sha256) for r in found]
        self._tell(audit.begin_transfer, request, files)
        return files

    def retrieved(self, request: QueryRequest, files: Sequence[StoreFile], failed: int) -> None:
        """Enter the end of a C-GET or C-MOVE in the audit trail."""
        self._tell(audit.transferred, request, files, f"{failed} of {len(files)} instances failed" if failed else "")

    def _tell(self, say: Callable[..., None], request: QueryRequest, files: Sequence[StoreFile], *more: str) -> None:
        if not audit.wanted():
            return
        peer = request.peer
        receiver = requestor_of(peer, Code.DESTINATION)
        if request.destination is not None:
            receiver = audit.Participant(request.destination, False, Code.DESTINATION, request.destination)
        us = audit.ourselves(Code.SOURCE, ae_title=peer.called_ae_title)
        for study in identities.studies(file.path for file in files):
            say(us, receiver, study, *more)

    def destination(self, request: QueryRequest) -> Remote:
        """Return where a C-MOVE sends: to a configured peer only. Raises Refused (0xA801)."""
        for peer in self._settings.peers:
            if peer.ae_title == request.destination and peer.move_host is not None:
                return Remote(
                    peer.move_host, peer.move_port, peer.ae_title, request.peer.called_ae_title, _STORE_TIMEOUT_S,
                    peer.move_tls,
                )
        raise Refused(_DESTINATION_UNKNOWN, "move_destination", "Move Destination unknown")

    def _peer(self, request: QueryRequest) -> Peer:
        """Return the settings of who asks: the closest entry for its title, address and certificate."""
        address, certificate = plain_address(request.peer.address), request.peer.certificate
        fitting = [
            p for p in self._settings.peers if p.ae_title == request.peer.calling_ae_title
            and (p.address is None or plain_address(str(p.address)) == address)
            and (p.certificate_name is None or p.certificate_name in certificate)
        ]  # not empty: the association was accepted for one of these
        return min(fitting, key=lambda p: (p.address is None, p.certificate_name is None))

    def _dialect(self, request: QueryRequest) -> str:
        return results.dialect_for(self._destinations, request.peer.calling_ae_title)
