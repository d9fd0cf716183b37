"""Nodes that cannot be read, and nodes that answer without saying anything new."""

from __future__ import annotations

from collections.abc import Iterable

from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import HOUR_S

from .nouns import REACH, READING, Contact, Details, Finding, Kind, Known, Severity

OUTSIDE = "outside"
_BAD_S = 45 * 60
"""A restart takes less."""
_LONG_S = 4 * HOUR_S
_NOT_TRIED_S = 3 * HOUR_S
_LEAST_SILENT_H = 4
_PINGED_S = 3 * HOUR_S
_SECRET = ("auth", "blocked", "config", "permission")
"""Failures that say nothing against the node itself."""


def reach(known: Known, contact: Contact) -> Finding | None:
    """The node has not answered, or said that it does not run, for longer than a restart takes."""
    if contact.bad_since_s is None or contact.good_s is None:
        return None
    lasting_s = known.now_s - contact.bad_since_s
    if contact.bad_readings < 2 or lasting_s < _BAD_S:
        return None
    severe = lasting_s >= _LONG_S and contact.failure_kind not in _SECRET
    evidence = {
        "hours": lasting_s / HOUR_S,
        "readings": contact.bad_readings,
        "failure_kind": contact.failure_kind,
        "reason": contact.reason,
    }
    severity = Severity.CRITICAL if severe else Severity.WARNING
    return Finding(Kind.UNREACHABLE, REACH, severity, contact.bad_since_s, lasting_s / _BAD_S, evidence)


def silent(known: Known, contact: Contact) -> Iterable[Finding]:
    """Nobody asks the node any more; or it answers and says nothing new of what it earns for longer than ever."""
    if contact.good_s is None:
        return
    asked_s = known.now_s - contact.tried_s
    if asked_s >= _NOT_TRIED_S:
        evidence = {"hours_since_asked": asked_s / HOUR_S}
        score = asked_s / _NOT_TRIED_S
        yield Finding(Kind.STALE_READING, READING, Severity.WARNING, contact.tried_s, score, evidence)
    elif known.usual is not None and known.told_s is not None:
        longest, limit = known.usual.runs["silent"]
        limit = max(limit, _LEAST_SILENT_H)
        hours = (known.end_s - known.told_s) // HOUR_S
        if hours >= (longest + 1 if known.is_open(READING) else limit):
            evidence = {"hours_without_news": hours, "longest_before_h": longest, "limit_h": limit}
            yield Finding(Kind.STALE_READING, READING, Severity.WARNING, known.told_s, hours / limit, evidence)


def outside(known: Known, contact: Contact) -> Iterable[Finding]:
    """The node answers us, but the network does not reach it, for hours."""
    if contact.good_s is None:
        return
    pinged_at = known.details.get("last_pinged_at")
    if pinged_at is not None:
        pinged_s = parse_rfc3339(str(pinged_at))
        hours = (contact.good_s - pinged_s) / HOUR_S
        if hours * HOUR_S > _PINGED_S:
            evidence: dict[str, float | str] = {"hours_since_reached": hours}
            score = hours * HOUR_S / _PINGED_S
            yield Finding(Kind.UNREACHABLE, OUTSIDE, Severity.WARNING, pinged_s, score, evidence)
    elif _refused(known.details) and known.details_hours_ago is not None and _refused(known.details_hours_ago):
        evidence = {"monitoring": "failed"}
        yield Finding(Kind.UNREACHABLE, OUTSIDE, Severity.WARNING, contact.good_s, 1.0, evidence)


def _refused(details: Details) -> bool:
    network: Details = details.get("network") or {}
    return network.get("monitoring") == "failed"
