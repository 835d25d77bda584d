"""From a request to a signed-in person: cookies, sign-in, sign-out."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from starlette.requests import Request
from starlette.responses import Response

from ovcf_node.config import Web
from ovcf_node.observe import audit
from ovcf_node.observe.audit import Participant
from ovcf_node.operate.sessions import Brake, Sessions
from ovcf_node.operate.users import Directory, Role, User, password_is

_LOG = structlog.get_logger("operate")
_DEMO = User("demo", "Demo^Open", frozenset(Role), "")


@dataclass(frozen=True)
class Visitor:
    """A signed-in person and the token that their forms must carry."""

    user: User
    form_token: str


class Access:
    """Keeps who is signed in. With `web.open` everybody is the demo's user with every role."""

    def __init__(self, settings: Web, clock: Callable[[], float] = time.time):
        self._open = settings.open
        self._behind_tls = bool(settings.public_url and settings.public_url.startswith("https://"))
        self._clock = clock
        self._users = Directory(settings.users)
        self._sessions = Sessions(settings.session_minutes * 60.0, self._find, clock)
        self._one_at_a_time = threading.Lock()
        self._accounts = Brake(free=5)
        self._addresses = Brake(free=20, cap_s=60.0)  # behind one proxy a stranger must not lock out everybody

    def visitor(self, request: Request, *, touch: bool = True) -> Visitor | None:
        """Return who asks; None for somebody who has not signed in, or not lately."""
        key = self._key(request)
        user = self._sessions.user(key, touch=touch)
        if user is None and self._open and request.method == "GET":
            user, key = _DEMO, self._sessions.start(_DEMO)
            request.state.new_session = key
        return Visitor(user, self._sessions.form_token(key)) if user else None

    def form_is_ours(self, request: Request, token: str) -> bool:
        """Say whether a form came from a page that we made for this session."""
        return self._sessions.believes(self._key(request), token)

    def keep(self, request: Request, response: Response) -> Response:
        """Give the browser the session that this request began, if it began one."""
        key = getattr(request.state, "new_session", None)
        if key:
            self._set(request, response, "session", key)
        return response

    # --- signing in -----------------------------------------------------------------------------------------------

    def sign_in_form(self, request: Request, make: Callable[[str], Response]) -> Response:
        """Return the sign-in page that `make` makes of a form token, with the cookie that the token belongs to."""
        key = secrets.token_urlsafe(16)
        response = make(self._sessions.form_token(key))
        self._set(request, response, "form", key)
        return response

    def sign_in_is_ours(self, request: Request, token: str) -> bool:
        """Say whether a sign-in form came from a page of ours in this browser."""
        return self._sessions.believes(request.cookies.get(self._name(request, "form")), token)

    def sign_in(self, request: Request, account: str, password: str) -> float | None:
        """Sign somebody in. Returns None, or for how many seconds more attempts are refused (0: try again now).

        What is wrong is never said, and an unknown account is treated and timed like a known one.
        """
        now, address = self._clock(), request.client.host if request.client else ""
        with self._one_at_a_time:  # counted before it is tried: guesses sent at once are as slow as one after the other
            wait = self._wait_s(account, address, now)
            if wait > 0:
                return wait
            self._accounts.failed(account, now)
        user = self._find(account)
        if not password_is(user, password):
            self._addresses.failed(address, now)
            # A mistyped account may be a password: only a known one is named.
            _LOG.warning("sign_in_failed", account=account if user else None, address=address)
            audit.signed(Participant(account if user else "unknown", True, address=address), into=True, failure="refused")
            return self._wait_s(account, address, now)
        self._accounts.succeeded(account)
        self._sessions.end(self._key(request))
        request.state.new_session = self._sessions.start(user)
        _LOG.info("signed_in", account=account, address=address)
        audit.signed(Participant(account, True, address=address), into=True)
        return None

    def sign_out(self, request: Request, response: Response) -> Response:
        """End the session and forget its cookie."""
        account = request.state.visitor.user.account
        _LOG.info("signed_out", account=account)
        audit.signed(Participant(account, True, address=request.client.host if request.client else ""), into=False)
        self._sessions.end(self._key(request))
        response.delete_cookie(
            self._name(request, "session"), path="/", secure=self._secure(request), httponly=True, samesite="strict",
        )
        return response

    def _wait_s(self, account: str, address: str, now: float) -> float:
        return max(self._accounts.wait_s(account, now), self._addresses.wait_s(address, now))

    def _find(self, account: str) -> User | None:
        return _DEMO if self._open and account == _DEMO.account else self._users.get(account)

    def _secure(self, request: Request) -> bool:
        return self._behind_tls or request.url.scheme == "https"

    def _name(self, request: Request, kind: str) -> str:
        # Browsers accept the prefix only from us, for this host, over TLS: no neighbour can plant such a cookie.
        return f"__Host-ovcf-{kind}" if self._secure(request) else f"ovcf-{kind}"

    def _key(self, request: Request) -> str | None:
        return request.cookies.get(self._name(request, "session"))

    def _set(self, request: Request, response: Response, kind: str, value: str) -> None:
        # No lifetime: the browser forgets it when it closes; how long it counts is decided here.
        response.set_cookie(
            self._name(request, kind), value, path="/", secure=self._secure(request), httponly=True, samesite="strict",
        )
