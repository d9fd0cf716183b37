"""How a storage node fares with its satellites: vetting, scores, suspension, exits, reachability.

A satellite that suspends the node for its downtime says so nowhere but in its score and in a notification. Interfaces:
``storagenode/console``, ``storagenode/reputation``, ``storagenode/notifications`` and ``storagenode/healthcheck`` of
storj/storj.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from depin_orcha.adapters import HttpReader
from depin_orcha.adapters._read import Fields, objects
from depin_orcha.errors import AdapterError
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, Health, HealthStatus

_START_UP_S = 15 * 60
_LONGEST_SILENCE_S = 3 * 3600
_FULL_BYTES = 5e9
"""With less free space satellites choose another node."""
_SUSPENSION = 3
"""The type of the only notification that is not about a new version."""
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


class Satellites:
    """What the node at ``url`` knows of its satellites; what cannot be had is told in ``warnings`` and left out."""

    def __init__(self, http: HttpReader, url: str, warnings: list[str]) -> None:
        self._http = http
        self._url = url
        self._warnings = warnings

    def states(self, satellites: list[Satellite], now_s: int) -> list[dict[str, Any]]:
        """How each satellite sees the node, by what scores, and when it last told of a suspension for downtime."""
        scores, notices = self._scores(), self._notices()
        rows: list[dict[str, Any]] = []
        for one in satellites:
            told_s = notices.get(one.id)
            state = _state(one, scores.get(one.url), told=told_s is not None and now_s - told_s < DAY_S)
            if state in ("offline_suspended", "warn") and self._has_left(one.id):
                state = "exited"
            told_at = None if told_s is None else rfc3339(told_s)
            row = {"id": one.id, "url": one.url, "state": state, "scores": scores.get(one.url)}
            rows.append(row | {"suspension_told_at": told_at})
        return rows

    def _scores(self) -> dict[str, dict[str, float]]:
        """Audit, suspension and online score by satellite address; scores never fetched (all 0) are left out."""
        try:
            audits = Fields(self._get("/api/sno/satellites"), "/api/sno/satellites").objects("audits")
        except AdapterError as error:
            self._warnings.append(f"scores are unknown: {error.message}")
            return {}
        scores = {
            audit.text("satelliteName"): {
                name: float(audit.number(f"{name}Score")) for name in ("audit", "suspension", "online")
            }
            for audit in audits
        }
        return {satellite: values for satellite, values in scores.items() if any(values.values())}

    def _notices(self) -> dict[str, int]:
        """When each satellite, by its id, last told of having suspended the node for its downtime."""
        endpoint = "/api/notifications/list"
        try:
            answer = Fields(self._get(endpoint, {"limit": "50", "page": "1"}), endpoint)
            told = answer.object("page").objects("notifications")
            notices = [one for one in told if one.number("type") == _SUSPENSION]
            # "... that your StorageNode is suspended on Satellite 12Eay..."
            by_time = sorted((one.time_s("createdAt"), one.text("message").rpartition(" ")[2]) for one in notices)
        except AdapterError as error:
            self._warnings.append(f"suspensions for downtime are told by scores alone: {error.message}")
            return {}
        return {satellite: told_s for told_s, satellite in by_time}

    def _has_left(self, satellite: str) -> bool:
        """Has the node made a graceful exit from this satellite? The receipts of its last month there say so."""
        endpoint = "/api/heldamount/periods"
        try:
            months = self._get(endpoint, {"id": satellite})
            if not months:
                return False
            month = max(Fields({"periods": months}, endpoint).texts("periods"))
            endpoint = f"/api/heldamount/payout-history/{month}"
            rows = objects(self._get(endpoint) or [], endpoint)
            return any(row.text("satelliteID") == satellite and row.flag("isExitComplete") for row in rows)
        except AdapterError as error:
            self._warnings.append(f"whether the node has left {satellite} is unknown: {error.message}")
            return False

    def _get(self, endpoint: str, params: Mapping[str, str] | None = None) -> Any:
        return self._http.get_json(self._url + endpoint, params=params)


def own_verdict(http: HttpReader, url: str, warnings: list[str]) -> bool | None:
    """What the node says of itself on its public port; None where that cannot be read."""
    try:
        reply = http.request("GET", url, accept=(503,))
        return Fields(reply.json(), "the public port").flag("AllHealthy")
    except AdapterError as error:
        warnings.append(f"the public port was not read: {error.message}")
        return None


def _state(satellite: Satellite, scores: Mapping[str, float] | None, *, told: bool) -> str:
    """How a satellite sees the node; suspension follows the satellites' own limit, the warning lies above theirs.

    ``told``: it has just told of a suspension, which takes longer to recover from than a day.
    """
    if satellite.disqualified or satellite.suspended:
        return "disqualified" if satellite.disqualified else "suspended"
    if told or (scores is not None and scores["online"] < 0.6):
        return "offline_suspended"
    if scores is None:
        return "unknown"
    low = scores["audit"] < 0.98 or scores["suspension"] < 0.9 or scores["online"] < 0.95
    return "vetting" if satellite.vetting else "warn" if low else "ok"


def health(dashboard: Fields, satellites: list[dict[str, Any]], verdict: bool | None, now_s: int) -> Health:
    """What the operator has to know, worst first; ``satellites`` as ``Satellites.states`` tells them."""
    started_s = dashboard.time_s("startedAt")
    pinged_s = dashboard.time_s("lastPinged")
    was_pinged = pinged_s > 0  # unset is the year 1
    details: dict[str, Any] = {
        "version": dashboard.text("version"),
        "started_at": rfc3339(started_s),
        "last_pinged_at": rfc3339(pinged_s) if was_pinged else None,
        "quic": dashboard.text("quicStatus"),
        "satellites": satellites,
    }
    counts = Counter(one["state"] for one in satellites)
    troubles = [
        f"{text} {', '.join(one['url'].partition(':')[0] for one in satellites if one['state'] == trouble)}"
        for trouble, text in _TROUBLES.items()
        if counts[trouble]
    ]
    silent_s = now_s - (pinged_s if was_pinged else started_s)
    if silent_s > (_LONGEST_SILENCE_S if was_pinged else _START_UP_S):
        troubles.append(f"nobody has reached the node for {silent_s // 60} minutes")
    if not dashboard.flag("upToDate"):
        troubles.append(f"its version is below {dashboard.text('allowedVersion')}, the oldest that is accepted")
    # A satellite that the node has left keeps its verdict bad for ever.
    if verdict is False and satellites and not troubles and not counts["exited"]:
        troubles.append("it calls itself unhealthy on its public port")
    if troubles:
        return Health(HealthStatus.DEGRADED, "; ".join(troubles), details)
    if not satellites:
        return Health(HealthStatus.UP, "just started: no satellite knows it yet", details)
    reason = f"{len(satellites)} satellites: " + ", ".join(
        f"{count} {state}" for state, count in sorted(counts.items())
    )
    full = "; full: they send it nothing new" if _free_bytes(dashboard.object("diskSpace")) < _FULL_BYTES else ""
    return Health(HealthStatus.UP, reason + full, details)


def _free_bytes(disk: Fields) -> float:
    """What is left of the allocation; until 1.142 ``available`` was the whole of it."""
    available = float(disk.number("available"))
    return available if "allocated" in disk else available - float(disk.number("used")) - float(disk.number("trash"))
