"""Instants as text: RFC 3339 in UTC, to and from epoch seconds."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime


def rfc3339(instant_s: int) -> str:
    """``2026-11-22T20:15:00Z``."""
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def compact(instant_s: int) -> str:
    """The same without punctuation, for names: ``20261122T201500Z``."""
    return rfc3339(instant_s).replace("-", "").replace(":", "")


def parse_rfc3339(text: str) -> int:
    """Epoch seconds of an RFC 3339 instant, fractions cut off; without a zone it is UTC. Raises ``ValueError``."""
    instant = datetime.fromisoformat(text)
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp())


def retry_after_s(headers: Mapping[str, str]) -> int | None:
    """Seconds that an answer's ``Retry-After`` asks for, a number or a date after its own; None where it does not."""
    from email.utils import parsedate_to_datetime

    text = headers.get("retry-after", "")
    try:
        if text.isascii() and text.isdigit():
            return int(text)
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
        return max(int(wait.total_seconds()), 0)
    except (ValueError, TypeError):
        return None
