"""``backtest --forecasts``: past days forecast again with what was known then, and held against what came.

The functions are those of ``forecast``. An origin knows the hours before it that were learned within an hour of it, as
the run in the hour after it did, and what was imported. Errors are those of the medians; MASE is the error over 24
hours / the in-sample error of seasonal naive, averaged over the origins, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any

from .asof import AsOf, EarnedHour
from .earned_series import HISTORY_DAYS, NATIVE, by_node, down_hours, series_of
from .types import DAY_S, HOUR_S, Quality

if TYPE_CHECKING:
    from .forecast import Forecaster
    from .forecast.series import Series

HORIZON_H = 24
PUBLISHED, NAIVE, ZERO = "forecast", "seasonal_naive", "zero"
_NAIVE_DAYS = 7

Progress = Callable[[Sequence[int]], Iterable[int]]
"""Passes instants on, and shows how far it is."""
_Hours = list[float | None]


@dataclass(slots=True)
class _Tally:
    """How one forecaster did: origins, hours, what they brought, the sum of errors, and the scaled error of origins."""

    origins: int = 0
    hours: int = 0
    earned: float = 0.0
    error: float = 0.0
    scaled: list[float] = field(default_factory=list[float])

    def add(self, said: Sequence[float], judged: Mapping[int, float], scale: float | None) -> None:
        error = sum(abs(now - said[index]) for index, now in judged.items())
        self.origins += 1
        self.hours += len(judged)
        self.earned += sum(abs(now) for now in judged.values())
        self.error += error
        if scale is not None:
            self.scaled.append(error / len(judged) / scale)

    def row(self) -> dict[str, Any]:
        return {
            "origins": self.origins,
            "hours": self.hours,
            "mase": sum(self.scaled) / len(self.scaled) if self.scaled else None,
            "wape": self.error / self.earned if self.earned else None,
        }


@dataclass(slots=True)
class _Node:
    """The replays of one node: how often its bands held, and a tally for each forecaster."""

    currency: str
    inside: dict[str, int] = field(default_factory=lambda: {"80": 0, "95": 0})
    totals: int = 0
    totals_inside: int = 0
    tallies: dict[str, _Tally] = field(default_factory=dict[str, _Tally])

    def row(self, name: str) -> dict[str, Any]:
        own = self.tallies[PUBLISHED]
        coverage = {f"coverage{level}": count / own.hours for level, count in self.inside.items()}
        rivals = [{"name": rival} | tally.row() for rival, tally in self.tallies.items() if rival != PUBLISHED]
        return {
            "node": name,
            "currency": self.currency,
            **own.row(),
            **coverage,
            "total_coverage80": self.totals_inside / self.totals if self.totals else None,
            "models": sorted(rivals, key=lambda one: (one["mase"] is None, one["mase"], one["name"])),
        }


def forecast_accuracy(known: AsOf, only: frozenset[str], days: int, progress: Progress) -> list[dict[str, Any]]:
    """Members of ``data.forecast_accuracy[]``: every node with an hour that could be forecast and has come true."""
    end_s = known.now_s // HOUR_S * HOUR_S
    first_s = end_s - (HISTORY_DAYS + days) * DAY_S
    hours = by_node((hour for hour in known.hours(first_s) if not only or hour.node in only), end_s)
    learned, down = _learned(known, first_s), down_hours(known, first_s)
    protocols = {node.name: node.protocol for node in known.nodes()}
    nodes: dict[str, _Node] = {}
    for origin_s in progress(range(end_s - days * DAY_S, end_s, DAY_S)):
        described = [
            series_of(known, before, origin_s, protocols[name], down.get(name, {}))
            for name, found in hours.items()
            if (before := [one for one in found if _was_known(one, origin_s, learned)])
        ]
        for said, series, members, (_, currency, unit) in zip(*_forecast(described), described, strict=True):
            truth = _truth(known, hours[series.id], (currency, unit), origin_s)
            _judge(nodes.setdefault(series.id, _Node(currency)), said, series, members, truth)
    return [node.row(name) for name, node in sorted(nodes.items()) if node.tallies]


def _learned(known: AsOf, since_s: int) -> dict[tuple[str, str, int], int]:
    """When the last part of each hour was learned."""
    rows = known.connection.execute(
        "SELECT node, currency, hour_s, max(learned_s) FROM accruals WHERE hour_s >= ? AND learned_s <= ? "
        "GROUP BY node, hour_s, currency",
        (since_s, known.now_s),
    )
    return {(node, currency, hour_s): learned_s for node, currency, hour_s, learned_s in rows}


def _was_known(hour: EarnedHour, origin_s: int, learned: Mapping[tuple[str, str, int], int]) -> bool:
    if not origin_s - HISTORY_DAYS * DAY_S <= hour.hour_s < origin_s:
        return False
    return hour.quality is Quality.IMPORTED or learned[hour.node, hour.currency, hour.hour_s] < origin_s + HOUR_S


def _forecast(
    described: Sequence[tuple[dict[str, Any], str, str]],
) -> tuple[list[dict[str, Any]], list[Series], list[dict[str, list[float]]]]:
    """Of each series the forecast, the series itself, and what each model of its pool said."""
    from .forecast import DEFAULT_LEVELS, forecasters
    from .forecast.document import document
    from .forecast.fit import fitted
    from .forecast.series import Series

    plugins = forecasters()
    batch = [Series.from_member(member, member["id"]) for member, *_ in described]
    fits = fitted(batch, HORIZON_H, plugins)
    said = [document(fit, series, HORIZON_H, DEFAULT_LEVELS, plugins) for fit, series in zip(fits, batch, strict=True)]
    members = [_members(series, plugins) if fit.pool else {} for fit, series in zip(fits, batch, strict=True)]
    return said, batch, members


def _members(series: Series, plugins: Sequence[Forecaster]) -> dict[str, list[float]]:
    """What each model said by itself, also those that were too wrong to be heard, in the unit of ``y``."""
    from .forecast import pool
    from .forecast.history import history_of

    history = history_of(series)
    (test,) = pool.backtests([history], HORIZON_H, plugins)
    if test is None:
        return {}
    factor = float(history.unit * history.price[-1])
    said = pool.candidates(test.everything, history, HORIZON_H, plugins)
    return {name: (values * factor).tolist() for name, values in said.items()}


def _truth(known: AsOf, hours: Iterable[EarnedHour], paid: tuple[str, str], origin_s: int) -> _Hours:
    """What each of the hours after an origin brought, in the currency and unit of its forecast."""
    currency, unit = paid
    truth: _Hours = [None] * HORIZON_H
    for hour in hours:
        index = (hour.hour_s - origin_s) // HOUR_S
        if 0 <= index < HORIZON_H and hour.currency == currency and hour.quality is not Quality.INTERPOLATED:
            value = hour.amount if unit == NATIVE else known.usd(hour)
            truth[index] = None if value is None else float(value)
    return truth


def _judge(
    node: _Node, said: dict[str, Any], series: Series, members: Mapping[str, list[float]], truth: _Hours
) -> None:
    """Count the hours that have come true, and whose hour of an earlier day was known."""
    past = [value if isfinite(value) else None for value in series.y.tolist()]
    repeated = [_repeated(past, index) for index in range(HORIZON_H)]
    judged = {
        index: now
        for index, now in enumerate(truth)
        if now is not None and repeated[index] is not None and said["model"] is not None
    }
    if not judged:
        return
    naive = [value or 0.0 for value in repeated]
    scale = _in_sample(past)
    everyone = {PUBLISHED: said["median"], NAIVE: naive, ZERO: [0.0] * HORIZON_H}
    for name, values in (dict(members) | everyone).items():
        node.tallies.setdefault(name, _Tally()).add(values, judged, scale)
    for level in node.inside:
        low, high = said["lo"][level], said["hi"][level]
        node.inside[level] += sum(low[index] <= now <= high[index] for index, now in judged.items())
    if len(judged) == HORIZON_H:
        node.totals += 1
        node.totals_inside += said["total"]["lo"]["80"] <= sum(judged.values()) <= said["total"]["hi"]["80"]


def _repeated(past: _Hours, index: int) -> float | None:
    """What the same hour of the last day that is known brought."""
    for back in range(1, _NAIVE_DAYS + 1):
        at = len(past) + index - back * HORIZON_H
        if 0 <= at < len(past) and (value := past[at]) is not None:
            return value
    return None


def _in_sample(past: _Hours) -> float | None:
    """Mean absolute change from one day to the next; None where nothing changes."""
    steps = [
        abs(after - before)
        for before, after in zip(past, past[HORIZON_H:], strict=False)
        if before is not None and after is not None
    ]
    return sum(steps) / len(steps) or None if steps else None
