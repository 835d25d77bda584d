"""Tell DICOMweb which connection came with a client certificate.

uvicorn does not (it does not implement ASGI's TLS extension), so its HTTP/1.1 protocol is told to. A certificate is asked
for and not demanded (`ssl.CERT_OPTIONAL`): one that `web.client_ca` did not sign ends the handshake, one that it did is
enough for DICOMweb, and people without any still reach the sign-in page on the same port.
"""

import asyncio
import ssl
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ovcf_node.config import Web
from ovcf_node.query.dicomweb import VERIFIED_CERTIFICATE


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        verified = tls is not None and bool(tls.getpeercert())  # filled only after it was verified
        self.app_state = self.app_state | {VERIFIED_CERTIFICATE: verified}


def server_options(web: Web) -> dict[str, Any]:
    """Return the options of `uvicorn.Config` that ask for client certificates and pass on which were verified."""
    if web.client_ca is None:
        return {}
    return {"http": _Protocol, "ssl_ca_certs": str(web.client_ca), "ssl_cert_reqs": ssl.CERT_OPTIONAL}
