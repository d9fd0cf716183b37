"""What networks hold against a node: falling scores, stake at risk, heartbeats and collections that stop, unpaid work.

Read by what the details hold, not by protocol: whoever tells the same, is judged the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from depin_orcha.types import HOUR_S

from .nouns import Details, Finding, Kind, Known, Severity

_SCORES = {"audit": (0.98, 0.97, 0.01), "suspension": (0.9, 0.7, 0.05), "online": (0.9, 0.7, 0.05)}
"""Score -> (below it something is wrong, below it the end is near, a fall within a week that is worth a word).

A satellite disqualifies for good below 0.96 of audits, and suspends below 0.6 of the others.
"""
_BACK = 0.25
"""So much of what is missing to 1 at a limit must be made up for before an open episode ends."""
_LOST = ("disqualified", "suspended", "offline_suspended")
_IP_SCORE_FALL = 0.3
_HEARTBEAT_S, _LATE_HEARTBEAT_S = 26 * HOUR_S, 50 * HOUR_S
_OVERDUE, _NEAR_LIMIT, _COLLECTED = 0.2, 0.6, 0.15
_DAYS_UNPAID = 0.5
"""Money at risk is worth a word from so many days' income on."""
UNPAID = "unpaid"
HEARTBEAT = "heartbeat"
UNCOLLECTED = "uncollected"


def standing(known: Known) -> Iterable[Finding]:
    """All that the network holds against the node now."""
    yield from _satellites(known)
    yield from _devices(known)
    yield from _stake(known)
    yield from _heartbeat(known)
    yield from _uncollected(known)
    yield from _unpaid(known)


def _satellites(known: Known) -> Iterable[Finding]:
    before = {one["id"]: one for one in (known.details_week_ago or {}).get("satellites") or ()}
    for one in known.details.get("satellites") or ():
        cause = f"reputation {one['id']}"
        earlier: Mapping[str, Any] = before.get(one["id"]) or {}
        scores: Mapping[str, float] = one["scores"] or {}
        said: dict[str, Any] = {"satellite": one["url"], "state": one["state"], **scores}
        if one["state"] in _LOST:
            # A loss that was there a week ago is no news, and this one never ends.
            if one["state"] != "disqualified" or earlier.get("state") not in (None, "disqualified"):
                yield Finding(Kind.REPUTATION, cause, Severity.CRITICAL, known.now_s, 1.0, said)
        elif scores and one["state"] != "exited":
            yield from _scores(known, cause, said, scores, earlier.get("scores") or {})


def _scores(
    known: Known, cause: str, said: dict[str, Any], scores: Mapping[str, float], earlier: Mapping[str, float]
) -> Iterable[Finding]:
    worst = 0.0
    severity = Severity.WARNING
    for name, (low, critical, fall) in _SCORES.items():
        margin = _BACK * (1 - low) if known.is_open(cause) else 0.0
        missing = (1 - scores[name]) / (1 - low - margin)
        fallen = (earlier.get(name, scores[name]) - scores[name]) / fall
        worst = max(worst, missing, fallen)
        said |= {f"{name}_week_ago": earlier[name]} if name in earlier else {}
        if scores[name] < critical:
            severity = Severity.CRITICAL
    if worst > 1:
        yield Finding(Kind.REPUTATION, cause, severity, known.now_s, worst, said)


def _devices(known: Known) -> Iterable[Finding]:
    now, before, week = (
        _ip_score(details) for details in (known.details, known.details_hours_ago, known.details_week_ago)
    )
    if now is None or before is None:
        return
    usual = week or 100.0
    lowest_loss = (1 - max(now, before) / usual) / _IP_SCORE_FALL
    if (week and lowest_loss >= 1) or now == before == 0:
        said = {"ip_score": now, "ip_score_week_ago": week}
        yield Finding(
            Kind.REPUTATION, "reputation ip_score", Severity.WARNING, known.now_s, max(lowest_loss, 1.0), said
        )


def _ip_score(details: Details | None) -> float | None:
    """Mean quality score of the connected devices, 0 to 100; None where it is not told."""
    scores = [one.get("ip_score") for one in (details or {}).get("devices") or ()]
    told = [float(score) for score in scores if score is not None]
    return sum(told) / len(told) if told else None


def _stake(known: Known) -> Iterable[Finding]:
    flags, slashed = known.details.get("open_flags") or 0, float(known.details.get("slashed_7d_data") or 0)
    if flags or slashed:
        said = {"open_flags": flags, "slashed_7d_data": slashed}
        yield Finding(Kind.REPUTATION, "reputation stake", Severity.CRITICAL, known.now_s, float(max(flags, 1)), said)


def _heartbeat(known: Known) -> Iterable[Finding]:
    age_s = known.details.get("heartbeat_age_s")
    if age_s is not None and age_s > _HEARTBEAT_S:
        severity = Severity.CRITICAL if age_s > _LATE_HEARTBEAT_S else Severity.WARNING
        said = {"hours_since_heartbeat": age_s / HOUR_S, "limit_h": _HEARTBEAT_S / HOUR_S}
        since_s = known.now_s - int(age_s)
        yield Finding(Kind.STALE_HEARTBEAT, HEARTBEAT, severity, since_s, age_s / _HEARTBEAT_S, said)


def _uncollected(known: Known) -> Iterable[Finding]:
    limit = float(known.details.get("uncollected_limit_data") or 0)
    if not limit:
        return
    share = float(known.details["uncollected_data"]) / limit
    least = _COLLECTED if known.is_open(UNCOLLECTED) else _OVERDUE
    if share >= least:
        severity = Severity.CRITICAL if share >= _NEAR_LIMIT else Severity.WARNING
        said = {"uncollected_data": share * limit, "limit_data": limit, "share_of_limit": share}
        yield Finding(Kind.UNCOLLECTED, UNCOLLECTED, severity, known.now_s, share / _OVERDUE, said)


def _unpaid(known: Known) -> Iterable[Finding]:
    """More money is at risk than a week ago, by an amount that counts."""
    risk, usual = known.at_risk, known.usual
    if risk is None or usual is None:
        return
    least = _DAYS_UNPAID * 24 * usual.per_hour * (0.5 if known.is_open(UNPAID) else 1)
    if risk.amount - risk.week_ago < least:
        return
    owing = sorted(
        (one for one in known.details.get("requestors") or () if float(one.get("at_risk") or 0) > 0),
        key=lambda one: -float(one["at_risk"]),
    )
    said: dict[str, Any] = {
        "currency": risk.currency,
        "at_risk": risk.amount,
        "at_risk_week_ago": risk.week_ago,
        "usual_per_day": 24 * usual.per_hour,
        "requestors": [{"requestor": one["requestor"], "at_risk": one["at_risk"]} for one in owing[:3]],
    }
    score = (risk.amount - risk.week_ago) / least
    yield Finding(Kind.UNPAID_WORK, UNPAID, Severity.WARNING, known.now_s, score, said)
