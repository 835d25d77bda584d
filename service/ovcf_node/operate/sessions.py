"""Who is signed in, kept in this process: a restart signs everybody out, and nothing can be forged or replayed.

Also the tokens that prove that a form came from our own page, and the brake on guessing passwords.
"""

import hashlib
import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ovcf_node.operate.users import User

_LONGEST_S = 12 * 3600.0
_AT_MOST = 1000


@dataclass
class Session:
    """One signed-in browser; `proof` ends it when the password changes."""

    account: str
    proof: str
    started: float
    seen: float


def _proof(user: User) -> str:
    return hashlib.sha256(user.password.encode()).hexdigest()


class Sessions:
    """Sessions by the random value of their cookie."""

    def __init__(self, idle_s: float, find: Callable[[str], User | None], clock: Callable[[], float]):
        self._idle_s = idle_s
        self._find = find
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Session] = OrderedDict()

    def start(self, user: User) -> str:
        """Sign a user in; returns the value of the cookie."""
        key, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._open[key] = Session(user.account, _proof(user), now, now)
            while len(self._open) > _AT_MOST:
                self._open.popitem(last=False)
        return key

    def user(self, key: str | None, *, touch: bool) -> User | None:
        """Return who is signed in under a cookie; `touch` counts as activity, a page that refreshes itself does not."""
        with self._lock:
            session = self._open.get(key or "")
            if session is None:
                return None
            now = self._clock()
            user = self._find(session.account)
            idle, age = now - session.seen, now - session.started
            if user is None or _proof(user) != session.proof or idle > self._idle_s or age > _LONGEST_S:
                del self._open[key]
                return None
            if touch:
                session.seen = now
                self._open.move_to_end(key)
            return user

    def end(self, key: str | None) -> None:
        """Sign out."""
        with self._lock:
            self._open.pop(key or "", None)

    def form_token(self, key: str) -> str:
        """Return what a form must carry to be believed together with this cookie (CSRF)."""
        return hmac.digest(self._secret, key.encode(), hashlib.sha256).hex()

    def believes(self, key: str | None, token: str) -> bool:
        """Say whether a form's token belongs to this cookie."""
        return bool(key) and hmac.compare_digest(self.form_token(key).encode(), token.encode())


class Brake:
    """Counts failures by key (an account, an address) and says how long the next attempt must wait."""

    def __init__(self, free: int, first_s: float = 30.0, cap_s: float = 900.0, forget_s: float = 3600.0):
        self._free, self._first_s, self._cap_s, self._forget_s = free, first_s, cap_s, forget_s
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, key: str, now: float) -> float:
        """Return for how long attempts under this key are refused, seconds."""
        with self._lock:
            count, last = self._failures.get(key, (0, 0.0))
        if count < self._free:
            return 0.0
        pause = min(self._cap_s, self._first_s * 2.0 ** min(count - self._free, 20))
        return max(0.0, last + pause - now)

    def failed(self, key: str, now: float) -> None:
        """Count a failure."""
        with self._lock:
            count, last = self._failures.pop(key, (0, now))
            self._failures[key] = (1 if now - last > self._forget_s else count + 1, now)
            while len(self._failures) > 10_000:
                self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forget the failures of a key."""
        with self._lock:
            self._failures.pop(key, None)
