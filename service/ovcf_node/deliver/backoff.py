"""When to try again: doubling, capped, and spread so that what failed together does not return together."""

import hashlib


def delay(attempt: int, first_s: float, cap_s: float, key: str = "") -> float:
    """Return the seconds to wait after failed attempt number `attempt` (from 1).

    The delay doubles from `first_s` up to `cap_s`, less up to a quarter that depends on `key` and `attempt` only.
    """
    doublings = min(max(attempt, 1) - 1, 62)  # 2**62 times anything measurable is beyond every cap
    full = min(first_s * 2**doublings, cap_s)
    digest = hashlib.sha256(f"{key}:{attempt}".encode()).digest()
    return full * (1 - digest[0] / 1024)
