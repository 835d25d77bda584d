"""What uvicorn does not do for a connection: tell who holds a client certificate, and hang up on who says nothing.

uvicorn does not implement ASGI's TLS extension, so its HTTP/1.1 protocol is told to pass on what DICOMweb needs. A
certificate is asked for and not demanded (`ssl.CERT_OPTIONAL`): one that `web.client_ca` did not sign ends the handshake,
one that it did is enough for DICOMweb, and people without any still reach the sign-in page on the same port. One context
would be made for as long as the process lives: here each connection asks for that of now.

Nor does it limit how long a request may take to arrive: a hundred silent connections would lock everybody else out.
"""

import asyncio
import ssl
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ovcf_node.config import Web
from ovcf_node.network import tls
from ovcf_node.network.tls import Renewing
from ovcf_node.query.dicomweb import VERIFIED_CERTIFICATE

_PATIENCE_S = 10.0


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        verified = tls is not None and bool(tls.getpeercert())  # filled only after it was verified
        self.app_state = self.app_state | {VERIFIED_CERTIFICATE: verified}
        self._look(None)

    def _look(self, before: object) -> None:
        """Hang up when the client owes the same request as at the look before."""
        if self.transport.is_closing():
            return
        owed = self._owed()
        if owed is not None and owed is before:
            self.transport.abort()  # it would not answer the end of TLS either
        else:
            self.loop.call_later(_PATIENCE_S, self._look, owed)

    def _owed(self) -> object:
        """Return what stands for a request that has begun and not arrived; None while it is not the client's turn."""
        if self.cycle is None:
            return self
        between = self.cycle.response_complete and self.timeout_keep_alive_task is None
        return self.cycle if self.cycle.more_body or between else None


class _CurrentContext(ssl.SSLContext):
    """Hand every connection the context that the files of now make."""

    def __new__(cls, contexts: Renewing[ssl.SSLContext]) -> "_CurrentContext":
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, contexts: Renewing[ssl.SSLContext]):
        contexts.current()
        self._contexts = contexts

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection; the only thing that asyncio asks of a context."""
        return self._contexts.current().wrap_bio(*arguments, **options)


def server_options(web: Web) -> dict[str, Any]:
    """Return the options of `uvicorn.Config` that do all of it. Raises Permanent (`tls`) for files that cannot be used."""
    options: dict[str, Any] = {"http": _Protocol}
    if web.certificate is not None:
        context = _CurrentContext(tls.of_web(web))
        options["ssl_context_factory"] = lambda config, default: context
    return options
