"""What changes that were made have really brought: before against after, always with the interval of the difference.

Income is valued at today's prices, so that a token that rose is no merit of a change. Days are the blocks of the
statistics. A market that moved meanwhile is in the difference too: only trials by turns tell the two apart, and what
they tell is the evidence ``measured`` of ``explain``. Amounts are never summed up: most are not distinguishable from
nothing, and a sum of those would look like a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from .asof import AsOf
from .economics.estimate import Estimate, by_day
from .facts import worth_now
from .timefmt import rfc3339
from .types import DAY_S, HOUR_S, Quality

LONGEST_DAYS = 365
"""Days before and after a change that are compared at most."""
_SURE = 1.6
"""An interval that holds 0 in one case of twenty where nothing changed is about so much wider than the one of 80 %."""
_LEAST_DAYS = 2


def realised(known: AsOf, only: frozenset[str]) -> list[dict[str, Any]]:
    """Members of ``data.realised[]``: every change of a plan that was carried out, the latest first."""
    changes = _changes(known)
    rows = [
        _row(known, node, plan_id, at_s, before_s, until_s)
        for node, made in changes.items()
        if not only or node in only
        for plan_id, at_s, before_s, until_s in _spans(made, known.now_s)
    ]
    return sorted(rows, key=lambda row: (row["changed_at"], row["node"]), reverse=True)


def _changes(known: AsOf) -> dict[str, dict[str, int]]:
    """Node -> plan -> when its actions on that node were done."""
    found: dict[str, dict[str, int]] = {}
    for row in known.actions(state="done"):
        if row["plan_id"] is not None and row["finished_s"] is not None:
            plans = found.setdefault(row["node"], {})
            plans[row["plan_id"]] = max(plans.get(row["plan_id"], 0), row["finished_s"])
    return found


def _spans(made: Mapping[str, int], now_s: int) -> Iterator[tuple[str, int, int, int]]:
    """(plan, changed, from, until): between the change before and the one after, at most so many days."""
    longest_s = LONGEST_DAYS * DAY_S
    in_order = sorted(made.items(), key=lambda item: item[1])
    for index, (plan_id, at_s) in enumerate(in_order):
        earliest_s = in_order[index - 1][1] if index else 0
        latest_s = in_order[index + 1][1] if index + 1 < len(in_order) else now_s
        yield plan_id, at_s, max(earliest_s, at_s - longest_s), min(latest_s, at_s + longest_s)


def _row(known: AsOf, node: str, plan_id: str, at_s: int, from_s: int, until_s: int) -> dict[str, Any]:
    hours = [hour for hour in known.hours(from_s, node) if hour.quality is Quality.MEASURED]
    usd = worth_now(known, hours, known.now_s)
    before = {hour_s: one for hour_s, one in usd.items() if from_s <= hour_s and hour_s + HOUR_S <= at_s}
    after = {hour_s: one for hour_s, one in usd.items() if at_s <= hour_s and hour_s + HOUR_S <= until_s}
    old, new = by_day(before), by_day(after)
    days = [len({hour_s // DAY_S for hour_s in part}) for part in (before, after)]
    gain = new.less(old).times(24) if old and new and min(days) >= _LEAST_DAYS else None
    return {
        "node": node,
        "plan_id": plan_id,
        "changed_at": rfc3339(at_s),
        "method": "before/after",
        "days_before": days[0],
        "days_after": days[1],
        "gain_usd_per_day": gain.document() if gain else None,
        "text": _text(old, new, gain, days[1]),
    }


def _text(old: Estimate | None, new: Estimate | None, gain: Estimate | None, days_after: int) -> str:
    if old is None or new is None or gain is None or not math.isfinite(gain.away):
        return "too few days before or after it to tell"
    told = f"{gain.mean:+.2f} USD a day ({gain.lo80:+.2f} to {gain.hi80:+.2f})"
    if abs(gain.mean) > _SURE * gain.away:
        return told
    doubt = f"{told}: not distinguishable from zero yet"
    # More days after the change make its own mean surer; those before it are all there are.
    wanted = (abs(gain.mean) * gain.error / (_SURE * gain.away)) ** 2 - (24 * old.error) ** 2 if gain.away else 0.0
    if wanted <= 0:
        return f"{doubt}, and too few days before it to ever tell"
    more = days_after * ((24 * new.error) ** 2 / wanted - 1)
    return f"{doubt}; about {max(math.ceil(more), 1)} more days"
