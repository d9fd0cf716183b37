"""How a storage node fares with its satellites: vetting, scores, suspension, reachability.

Interfaces: ``storagenode/console``, ``storagenode/reputation`` and ``storagenode/healthcheck`` of storj/storj.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from depin_orcha.adapters._read import Fields
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import Health, HealthStatus

_START_UP_S = 15 * 60
_LONGEST_SILENCE_S = 3 * 3600
_TROUBLES = {
    "disqualified": "disqualified by",
    "suspended": "suspended by",
    "offline_suspended": "suspended for being offline by",
    "warn": "scores are low with",
}
"""States of a satellite that need the operator, and how they are said."""


@dataclass(frozen=True, slots=True)
class Satellite:
    """A satellite that the node trusts, and what it holds against the node."""

    id: str
    url: str
    disqualified: bool
    suspended: bool
    vetting: bool


def satellites_of(dashboard: Fields) -> list[Satellite]:
    """The satellites of a dashboard."""
    return [
        Satellite(
            id=entry.text("id"),
            url=entry.text("url"),
            disqualified=entry.optional("disqualified", entry.time_s) is not None,
            suspended=entry.optional("suspended", entry.time_s) is not None,
            # Absent before 1.131, which is not the same as null.
            vetting="vettedAt" in entry and entry.optional("vettedAt", entry.time_s) is None,
        )
        for entry in dashboard.objects("satellites")
    ]


def _state(satellite: Satellite, scores: Mapping[str, float] | None) -> str:
    """How a satellite sees the node; suspension follows the satellites' own limit, the warning lies above theirs."""
    if satellite.disqualified or satellite.suspended:
        return "disqualified" if satellite.disqualified else "suspended"
    if scores is None:
        return "unknown"
    if scores["online"] < 0.6:
        return "offline_suspended"
    low = scores["audit"] < 0.98 or scores["suspension"] < 0.9 or scores["online"] < 0.95
    return "vetting" if satellite.vetting else "warn" if low else "ok"


def health(
    dashboard: Fields,
    satellites: list[Satellite],
    scores: Mapping[str, Mapping[str, float]],
    own_verdict: bool | None,
    now_s: int,
) -> Health:
    """What the operator has to know, worst first; ``scores`` by satellite address, ``own_verdict`` where it is read."""
    states = {satellite.url: _state(satellite, scores.get(satellite.url)) for satellite in satellites}
    started_s = dashboard.time_s("startedAt")
    pinged_s = dashboard.time_s("lastPinged")
    was_pinged = pinged_s > 0  # unset is the year 1
    details: dict[str, Any] = {
        "version": dashboard.text("version"),
        "started_at": rfc3339(started_s),
        "last_pinged_at": rfc3339(pinged_s) if was_pinged else None,
        "quic": dashboard.text("quicStatus"),
        "satellites": [
            {"id": one.id, "url": one.url, "state": states[one.url], "scores": scores.get(one.url)}
            for one in satellites
        ],
    }
    troubles = [
        f"{text} {', '.join(url.partition(':')[0] for url, state in states.items() if state == trouble)}"
        for trouble, text in _TROUBLES.items()
        if trouble in states.values()
    ]
    silent_s = now_s - (pinged_s if was_pinged else started_s)
    if silent_s > (_LONGEST_SILENCE_S if was_pinged else _START_UP_S):
        troubles.append(f"nobody has reached the node for {silent_s // 60} minutes")
    if not dashboard.flag("upToDate"):
        troubles.append(f"its version is below {dashboard.text('allowedVersion')}, the oldest that is accepted")
    if own_verdict is False and satellites and not troubles:
        troubles.append("it calls itself unhealthy on its public port")
    if troubles:
        return Health(HealthStatus.DEGRADED, "; ".join(troubles), details)
    if not satellites:
        return Health(HealthStatus.UP, "just started: no satellite knows it yet", details)
    counts = Counter(states.values())
    reason = f"{len(states)} satellites: " + ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return Health(HealthStatus.UP, reason, details)
