"""How long until a disk is full, money is paid out, or a limit is reached: members of ``data.outlook[]``.

Only from what the nodes themselves told; where that is too little, the answer is that it cannot be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from .asof import AsOf
from .growth import LEAST_STEPS, Reached, growth, reached
from .timefmt import rfc3339
from .types import DAY_S, HOUR_S, Resource

MYST_SETTLED_AT = 5.0
"""What a Mysterium node lets pile up before it settles by itself: ``payments.zero-stake-unsettled-amount``."""
_LENT = frozenset({"golem"})
"""Protocols that lend storage to one task at a time: it does not fill up, all of it is used from the start."""
_LOOK_BACK_DAYS = 30
_Readings = list[tuple[int, float]]


def outlook_row(
    node: str, kind: str, answer: str, why: str, days: Reached | None = None, **more: dict[str, Any] | None
) -> dict[str, Any]:
    """One member of ``data.outlook[]``."""
    shown = days and {"mean": days.mean, "lo80": days.lo80, "hi80": days.hi80}
    return {"node": node, "kind": kind, "answer": answer, "amount": None, "usd": None, "days": shown, "why": why} | more


def limits_ahead(known: AsOf, node: str, protocol: str) -> Iterator[dict[str, Any]]:
    """What a node is on its way to: nothing where it told neither of a disk nor of money that waits."""
    usage = known.usage(node).get(Resource.STORAGE_BYTES)
    if protocol not in _LENT and usage and usage.allocated and usage.used is not None:
        yield _disk(known, node, usage.allocated, usage.used)
    if protocol == "storj":
        yield _month_close(known, node)
    elif protocol == "mysterium":
        yield from _settlement(known, node)
    elif protocol == "streamr":
        yield from _collection(known, node)


def _disk(known: AsOf, node: str, granted: float, used: float) -> dict[str, Any]:
    readings = [(at_s, stored) for at_s, stored, _ in disk_readings(known, node)]
    free = f"{max(granted - used, 0) / 1e12:.2f} of {granted / 1e12:.2f} TB are free"
    if used >= granted:
        return outlook_row(node, "disk_full", "reached", f"the disk is full: {free}", Reached(0.0, 0.0, 0.0))
    return _told(node, "disk_full", readings, granted - used, free, ("TB", 1e-12))


def disk_readings(known: AsOf, node: str) -> list[tuple[int, float, float | None]]:
    """(instant, bytes stored, bytes granted), one a day of the last month, oldest first."""
    return _read(
        known,
        "SELECT min(observed_s), storage_bytes_used, storage_bytes_allocated FROM usage_samples WHERE node = :node "
        "AND observed_s >= :since AND learned_s <= :now AND storage_bytes_used IS NOT NULL "
        "GROUP BY observed_s / :every ORDER BY 1",
        node,
        DAY_S,
    )


def _month_close(known: AsOf, node: str) -> dict[str, Any]:
    today = datetime.fromtimestamp(known.now_s, UTC)
    close = datetime(today.year + today.month // 12, today.month % 12 + 1, 1, tzinfo=UTC)
    days = (int(close.timestamp()) - known.now_s) / DAY_S
    why = f"its month closes at {rfc3339(int(close.timestamp()))}; each satellite pays in the weeks after it"
    return outlook_row(node, "payout", "estimate", why, Reached(days, days, days))


def _settlement(known: AsOf, node: str) -> Iterator[dict[str, Any]]:
    readings = _read(
        known,
        "SELECT min(observed_s), CAST(amount AS REAL) FROM standings WHERE node = :node AND currency = 'MYST' "
        "AND standing = 'payable' AND observed_s >= :since AND learned_s <= :now "
        "GROUP BY observed_s / :every ORDER BY 1",
        node,
        HOUR_S,
    )
    waiting = known.standings([node]).get(("payable", "MYST"))
    if waiting is None:
        return
    left = MYST_SETTLED_AT - float(waiting)
    at = f"{waiting:.2f} of {MYST_SETTLED_AT:g} MYST wait, at which a node settles by itself unless told otherwise"
    if left <= 0:
        yield outlook_row(node, "payout", "reached", at, Reached(0.0, 0.0, 0.0))
    else:
        yield _told(node, "payout", readings, left, at, ("MYST", 1.0), falls=False)


def _collection(known: AsOf, node: str) -> Iterator[dict[str, Any]]:
    readings = _read(
        known,
        "SELECT min(observed_s), CAST(json_extract(details_json, '$.uncollected_data') AS REAL) FROM health_samples "
        "WHERE node = :node AND observed_s >= :since AND learned_s <= :now AND failure_kind IS NULL "
        "AND json_extract(details_json, '$.uncollected_data') IS NOT NULL GROUP BY observed_s / :every ORDER BY 1",
        node,
        HOUR_S,
    )
    seen = known.last_seen(node)
    limit = seen and seen.details.get("uncollected_limit_data")
    if not seen or not limit or not float(limit):
        return
    waiting, most = float(seen.details["uncollected_data"]), float(limit)
    at = f"{waiting:.2f} of at most {most:.2f} DATA are uncollected; beyond, anyone may collect and take a part"
    if waiting >= most:
        yield outlook_row(node, "uncollected_limit", "reached", at, Reached(0.0, 0.0, 0.0))
    else:
        yield _told(node, "uncollected_limit", readings, most - waiting, at, ("DATA", 1.0), falls=False)


def _read(known: AsOf, sql: str, node: str, every_s: int) -> list[Any]:
    """(instant, amount, ...), one for each span of ``every_s``."""
    since_s = known.now_s - _LOOK_BACK_DAYS * DAY_S
    # With min(), SQLite takes the other column from the row that has it.
    return known.connection.execute(
        sql, {"node": node, "since": since_s, "now": known.now_s, "every": every_s}
    ).fetchall()


def _told(
    node: str, kind: str, readings: _Readings, room: float, now: str, unit: tuple[str, float], *, falls: bool = True
) -> dict[str, Any]:
    """How long the rest takes at the pace of the last weeks."""
    found = growth(readings, falls=falls)
    if found is None:
        why = f"{now}; it takes {LEAST_STEPS} steps over more than a day to tell how fast that changes"
        return outlook_row(node, kind, "cannot_tell", why)
    pace = f"{found.per_day * unit[1]:+.3g} {unit[0]} a day over the last {found.days:.0f} days"
    days = reached(found, room)
    return outlook_row(node, kind, "estimate" if days.mean is not None else "not_growing", f"{now}; {pace}", days)
