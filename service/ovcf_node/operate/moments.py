"""Moments in words, in the time zone of this system (TZ)."""

from datetime import datetime

_UNITS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))


def ago(seconds: float) -> str:
    """Return how long ago in the largest fitting unit: "4 minutes ago"."""
    if seconds < 1:
        return "now"
    return f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """Return a duration in the largest fitting unit."""
    size, unit = next(((s, u) for s, u in _UNITS if seconds >= s), _UNITS[-1])
    count = int(seconds // size)
    return f"{count} {unit}{'' if count == 1 else 's'}"


def clock(at: float, now: float) -> str:
    """Return a time of day, with the date when it is not today's."""
    moment = datetime.fromtimestamp(at)
    today = moment.date() == datetime.fromtimestamp(now).date()
    return moment.strftime("%H:%M:%S" if today else "%d %b %Y %H:%M")


def iso(at: float) -> str:
    """Return a moment as HTML's `datetime` attribute wants it."""
    return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")
