"""What forecasts were worth to plans: the last plan of each day solved again as if seasonal naive had spoken.

Only prices that a plan took from a forecast are replaced; a node whose yield was measured keeps its own. Both plans are
then valued at what the node really earned in the day after, after running costs and restarts:

    24 h * (value of the grants at what came true) - restart losses

A day counts only where the forecast that the plan used is still stored, and the day before and the day after are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isclose
from typing import Any

from .asof import AsOf
from .earned_series import NATIVE
from .types import DAY_S, HOUR_S, Quality

_LEAST_HOURS = 20
"""Known hours of a day that make its mean."""
Document = dict[str, Any]
Grant = tuple[float, str | None]
"""Units, and the name of the offer where there is one."""


@dataclass(frozen=True, slots=True)
class _Means:
    """USD per hour of a node: as seasonal naive and as the truth had it."""

    naive: float
    truth: float


def forecast_value(known: AsOf, days: int) -> dict[str, Any]:
    """``data.forecast_value``: on how many days another plan would have been made, and the money between the two."""
    compared, different, unknown, usd, rested = 0, 0, 0, 0.0, 0
    for made_s, problem, result in _plans(known, days):
        means = _means(known, made_s, problem)
        if means is None:
            unknown += 1
            continue
        compared += 1
        rested += bool(means)
        if means:
            gain = _between(problem, result, means)
            different += gain is not None
            usd += gain or 0.0
    return {
        "days": compared,
        "days_unknown": unknown,
        "days_resting_on_forecasts": rested,
        "days_different": different if compared else None,
        "usd": usd if compared else None,
        "why": _why(compared, unknown, rested, different),
    }


def _why(compared: int, unknown: int, rested: int, different: int) -> str:
    if not compared:
        return f"no day can be compared ({unknown} lack a stored forecast or known hours)" if unknown else "no plan yet"
    if not rested:
        return "no plan rested on a forecast: grants were kept, or priced by what was measured"
    return f"of {compared} days with a plan, {rested} rested on a forecast, and {different} would have been otherwise"


def _plans(known: AsOf, days: int) -> list[tuple[int, Document, Document]]:
    """The last plan of each day that is over since: instant, problem and result."""
    rows = known.connection.execute(
        "SELECT made_s, problem_json, result_json FROM plans WHERE made_s >= ? AND made_s <= ? ORDER BY made_s, rowid",
        (known.now_s - (days + 1) * DAY_S, known.now_s - DAY_S - HOUR_S),
    )
    latest = {row[0] // DAY_S: row for row in rows}
    return [(made_s, json.loads(problem), json.loads(result)) for made_s, problem, result in latest.values()]


def _nodes(problem: Document) -> list[Document]:
    return [node for host in problem["hosts"] for node in host["nodes"]]


def _means(known: AsOf, made_s: int, problem: Document) -> dict[str, _Means] | None:
    """Node -> its means, where the plan took its price from a forecast; None where something of that is unknown."""
    found: dict[str, _Means] = {}
    for node in _nodes(problem):
        if node["frozen"] or node.get("segments") or node.get("choices"):
            continue
        forecast = _forecast(known, node["node"], made_s)
        if not node["current_units"] or forecast is None or forecast["unit"] == NATIVE:
            return None
        per_hour = (forecast["total"]["mean"] or 0.0) / forecast["horizon_h"]
        if not isclose(per_hour / node["current_units"], node["usd_per_unit_hour"], rel_tol=1e-9, abs_tol=1e-15):
            continue
        origin_s = made_s // HOUR_S * HOUR_S
        naive = _mean(AsOf(known.connection, made_s), node["node"], forecast["currency"], origin_s - DAY_S)
        truth = _mean(known, node["node"], forecast["currency"], origin_s)
        if naive is None or truth is None:
            return None
        found[node["node"]] = _Means(naive, truth)
    return found


def _forecast(known: AsOf, node: str, made_s: int) -> Document | None:
    row = known.connection.execute(
        "SELECT forecast_json FROM forecasts WHERE node = ? AND learned_s <= ? AND origin_hour_s = "
        "(SELECT max(origin_hour_s) FROM forecasts WHERE node = ? AND learned_s <= ?) ORDER BY learned_s DESC",
        (node, made_s, node, made_s),
    ).fetchone()
    return json.loads(row[0]) if row else None


def _mean(known: AsOf, node: str, currency: str, start_s: int) -> float | None:
    values = [
        float(usd)
        for hour in known.hours(start_s, node)
        if hour.hour_s < start_s + DAY_S and hour.currency == currency and hour.quality is not Quality.INTERPOLATED
        if (usd := known.usd(hour)) is not None
    ]
    return sum(values) / len(values) if len(values) >= _LEAST_HOURS else None


def _between(problem: Document, result: Document, means: Mapping[str, _Means]) -> float | None:
    """USD by which the plan was better than that of seasonal naive; None where both grant the same."""
    naive = _solved(_priced(problem, {name: one.naive for name, one in means.items()}))
    ours, theirs = _grants(result), _grants(naive)
    if all(_alike(one, theirs[name]) for name, one in ours.items()):
        return None
    truth = _priced(problem, {name: one.truth for name, one in means.items()})
    return _worth(truth, result, ours) - _worth(truth, naive, theirs)


def _alike(one: Grant, other: Grant) -> bool:
    return one[1] == other[1] and isclose(one[0], other[0], rel_tol=1e-9, abs_tol=1e-9)


def _worth(truth: Document, result: Document, grants: Mapping[str, Grant]) -> float:
    """USD in 24 hours of grants at what came true, after the restarts that they took."""
    held = _changed(
        truth,
        {
            name: {"frozen": True} | ({"current_units": units} if choice is None else {"current_choice": choice})
            for name, (units, choice) in grants.items()
        },
    )
    per_hour = sum(host["value"]["current_usd_per_hour"] for host in _solved(held)["hosts"])
    return 24 * per_hour - sum(host["value"]["restart_loss_usd"] for host in result["hosts"])


def _priced(problem: Document, usd_per_hour: Mapping[str, float]) -> Document:
    units = {node["node"]: node["current_units"] for node in _nodes(problem) if node["node"] in usd_per_hour}
    return _changed(problem, {name: {"usd_per_unit_hour": usd / units[name]} for name, usd in usd_per_hour.items()})


def _changed(problem: Document, changes: Mapping[str, Document]) -> Document:
    hosts = [
        host | {"nodes": [node | changes.get(node["node"], {}) for node in host["nodes"]]} for host in problem["hosts"]
    ]
    return problem | {"hosts": hosts}


def _solved(problem: Document) -> Document:
    from .optimize import Problem, solve

    return solve(Problem.from_dict(problem), explain=False).to_dict()


def _grants(result: Document) -> dict[str, Grant]:
    return {node["node"]: (node["units"], node["choice"]) for host in result["hosts"] for node in host["nodes"]}
