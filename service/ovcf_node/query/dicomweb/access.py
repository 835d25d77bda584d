"""Who may ask over DICOMweb: holders of a bearer token (RFC 6750) or of a client certificate; in the demo, anybody."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime

from starlette.requests import Request

from ovcf_node.config import Web
from ovcf_node.query.dicomweb.answers import Problem
from ovcf_node.query.tokens import Permission, TokenFile

VERIFIED_CERTIFICATE = "verified_client_certificate"
"""Key of the ASGI state under which the server says that the peer holds a certificate `web.client_ca` signed."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_REALM = 'Bearer realm="DICOMweb"'


class Access:
    """Decide about one request; raises Problem 401, 403 or 429."""

    def __init__(self, web: Web, clock: Callable[[], float] = time.time):
        self._open = web.open
        self._tokens = TokenFile(web.tokens) if web.tokens else None
        self._failures = Failures()
        self._clock = clock

    def caller(self, request: Request, permission: Permission) -> str:
        """Return who asks, in a word that may be logged: "open", "certificate" or the token's name."""
        if self._open:
            if request.url.hostname not in _LOOPBACK:  # a page elsewhere whose name was made to lead here
                raise Problem(403, "without sign-in only as localhost")
            return "open"
        if request.scope.get("state", {}).get(VERIFIED_CERTIFICATE):
            return "certificate"
        scheme, _, presented = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not presented.strip():
            raise Problem(401, "a bearer token or a client certificate is needed", {"WWW-Authenticate": _REALM})
        now = self._clock()
        token = self._tokens and self._tokens.holder(presented.strip(), datetime.fromtimestamp(now, UTC))
        if not token:
            self._refuse(request.client.host if request.client else "", now)
        if permission not in token.permissions:
            challenge = f'{_REALM}, error="insufficient_scope"'
            raise Problem(403, f"this token has no permission to {permission}", {"WWW-Authenticate": challenge})
        return token.name

    def _refuse(self, address: str, now: float) -> None:
        # Only bad tokens are counted and only they are slowed down: behind one proxy, a stranger cannot lock out others.
        wait = self._failures.add(address, now)
        if wait:
            raise Problem(429, "too many wrong tokens", {"Retry-After": str(wait)})
        raise Problem(401, "the token is unknown or has ended", {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'})


class Failures:
    """Counts wrong tokens per address in a fixed window; remembers a bounded number of addresses."""

    LIMIT = 10
    WINDOW_S = 60
    _ADDRESSES = 1024

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def add(self, address: str, now: float) -> int:
        """Count one; returns 0, or the seconds until the address may be wrong again."""
        with self._lock:
            begun, count = self._counts.pop(address, (now, 0))
            if now >= begun + self.WINDOW_S:
                begun, count = now, 0
            self._counts[address] = (begun, count + 1)
            while len(self._counts) > self._ADDRESSES:
                self._counts.popitem(last=False)
        return 0 if count < self.LIMIT else max(1, int(begun + self.WINDOW_S - now))
