"""UTC months and the time texts of the simulated interfaces."""

from __future__ import annotations

from datetime import UTC, datetime

MICROS = 1_000_000
"""Simulated documents carry microseconds: an instant ends in ``_us``."""


def month_start(at_s: int, shift: int = 0) -> int:
    """First second of the UTC month that is ``shift`` months after the one of ``at_s``."""
    at = datetime.fromtimestamp(at_s, UTC)
    year, month = divmod(at.year * 12 + at.month - 1 + shift, 12)
    return int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp())


def months_between(earlier_s: int, later_s: int) -> int:
    """Number of calendar months from the month of one instant to that of the other."""
    earlier, later = datetime.fromtimestamp(earlier_s, UTC), datetime.fromtimestamp(later_s, UTC)
    return (later.year - earlier.year) * 12 + later.month - earlier.month


def month_text(at_s: int) -> str:
    """``2026-11``."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m")


def parse_month(text: str) -> int:
    """First second of ``2026-11``; raises ``ValueError``."""
    return int(datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).timestamp())


def utc_text(at_s: int) -> str:
    """``2026-11-22T19:30:05Z``."""
    return f"{datetime.fromtimestamp(at_s, UTC).isoformat()[:19]}Z"


def utc_text_us(at_us: int, zone: str = "Z") -> str:
    """``2026-11-22T19:30:05.123456Z``."""
    seconds, micros = divmod(at_us, MICROS)
    return f"{datetime.fromtimestamp(seconds, UTC).isoformat()[:19]}.{micros:06d}{zone}"


def parse_us(text: str) -> int:
    """Microseconds of an RFC 3339 instant, finer digits cut off; raises ``ValueError``."""
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("premature end of input")
    whole = at.replace(microsecond=0)
    return int(whole.timestamp()) * MICROS + at.microsecond
