"""When a node was at work, and for how long an agreement usually binds it, from its stored readings."""

from __future__ import annotations

from statistics import fmean

from .asof import AsOf
from .types import HOUR_S, Resource


def busy_by_hour(known: AsOf, node: str, resource: str, since_s: int) -> dict[int, float]:
    """Completed hour -> share of its readings in which the node worked, from ``since_s`` on.

    A node that tells no use of ``resource`` works while it is up.
    """
    readings: dict[int, list[float]] = {}
    for observed_s, usage in known.usage_history(node, since_s):
        used = usage[Resource(resource)].used if Resource(resource) in usage else None
        if used is not None:
            readings.setdefault(observed_s // HOUR_S * HOUR_S, []).append(float(used > 0))
    if not readings:
        rows = known.connection.execute(
            "SELECT observed_s, status <> 'down' FROM health_samples WHERE node = ? AND observed_s >= ? "
            "AND learned_s <= ? AND failure_kind IS NULL",
            (node, since_s, known.now_s),
        )
        for observed_s, is_up in rows:
            readings.setdefault(observed_s // HOUR_S * HOUR_S, []).append(float(is_up))
    until_s = known.now_s // HOUR_S * HOUR_S
    return {hour_s: fmean(found) for hour_s, found in sorted(readings.items()) if hour_s < until_s}


def usual_agreement_h(known: AsOf, node: str, since_s: int) -> float:
    """Mean length of the agreements whose notes were read since then, in hours; 1 where none or only shorter ones."""
    row = known.connection.execute(
        "SELECT avg(until_s - since_s) FROM (SELECT min(observed_s) AS since_s, max(observed_s) AS until_s "
        "FROM earnings_samples WHERE source = (SELECT source FROM nodes WHERE name = ?) AND kind = 'counter' "
        "AND observed_s >= ? AND learned_s <= ? "
        "AND voided_s IS NULL GROUP BY external_id HAVING until_s > since_s)",
        (node, since_s, known.now_s),
    ).fetchone()
    return max((row[0] or 0.0) / HOUR_S, 1.0)
