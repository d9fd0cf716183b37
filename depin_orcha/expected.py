"""What each node will earn: the forecast that stands for this hour, else a new one from what was learned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .asof import AsOf
from .cycle import Job
from .earned_series import HISTORY_DAYS, NATIVE, by_node, down_hours, series_of
from .learned import REFIT_H, Kept, learned
from .scoring import Score, drifted, multipliers
from .timefmt import rfc3339
from .types import DAY_S, HOUR_S
from .values import TESTNET, unit_price

Document = dict[str, Any]

_STANDING = """
SELECT node, forecast_json FROM forecasts AS said WHERE origin_hour_s = :hour AND learned_s <= :now
  AND NOT EXISTS (SELECT 1 FROM accruals AS one WHERE one.node = said.node
    AND one.hour_s >= :since AND one.hour_s < :hour AND one.learned_s <= :now
    AND (one.learned_s > said.learned_s OR one.run_id > said.run_id))
  AND NOT EXISTS (SELECT 1 FROM hour_values AS one WHERE one.currency = said.currency
    AND one.hour_s >= :since AND one.hour_s < :hour AND one.learned_s <= :now AND one.learned_s > said.learned_s)
ORDER BY learned_s
"""
"""Forecasts of this hour after which nothing was learned of an hour that is over."""
_EARNING = """
SELECT DISTINCT name, currency FROM nodes JOIN accruals ON node = name
WHERE hour_s >= :since AND hour_s < :hour AND learned_s <= :now
"""


@dataclass(slots=True)
class Expected:
    """``documents`` are members of ``data.forecasts[]``; ``fresh`` those of them that are to be stored, and
    ``learned`` what they were made from and is worth keeping."""

    documents: list[Document] = field(default_factory=list[Document])
    fresh: list[Document] = field(default_factory=list[Document])
    learned: list[Kept] = field(default_factory=list[Kept])


def node_forecasts(job: Job, known: AsOf, horizon_h: int, scores: Sequence[Score]) -> Expected:
    """The forecast of every node with at least one completed known hour.

    One that was made in this hour stands until something is learned about the hours before it, and nothing is computed
    where all of them stand. Bands are as wide, and nodes are learned anew, as past forecasts and the new ``scores``
    of them demand.
    """
    origin_s = job.now_s // HOUR_S * HOUR_S
    since_s = origin_s - REFIT_H * HOUR_S - HISTORY_DAYS * DAY_S
    when = {"now": known.now_s, "hour": origin_s, "since": since_s}
    said: dict[str, Document] = {node: json.loads(text) for node, text in known.connection.execute(_STANDING, when)}
    standing = {node: one for node, one in said.items() if _still_priced(known, one)}
    same = {node: one for node, one in standing.items() if one["horizon_h"] == horizon_h}
    earning = known.connection.execute(_EARNING, when)
    wanted = {node for node, currency in earning if currency not in TESTNET and job.wanted(node)}
    if wanted <= same.keys():
        return Expected([same[node] for node in sorted(wanted)])
    made, kept = _made(job, known, horizon_h, scores, since_s)
    fresh = [one for one in made if one["node"] not in standing]
    return Expected([same.get(one["node"], one) for one in made], fresh, kept)


def _still_priced(known: AsOf, one: Mapping[str, Any]) -> bool:
    """Would it be in the same unit now?"""
    price = unit_price(one["currency"], known.price_at(one["currency"], known.now_s), known.now_s)
    return (price is None) == (one["unit"] == NATIVE)


def _made(
    job: Job, known: AsOf, horizon_h: int, scores: Iterable[Score], since_s: int
) -> tuple[list[Document], list[Kept]]:
    origin_s = job.now_s // HOUR_S * HOUR_S
    hours = by_node(known.hours(since_s), origin_s)
    protocols = {node.name: node.protocol for node in known.nodes()}
    down = down_hours(known, since_s)
    described = [
        series_of(known, found, job.now_s, protocols[node], down.get(node, {}))
        for node, found in hours.items()
        if job.wanted(node)
    ]
    if not described:
        return [], []
    from .forecast import DEFAULT_LEVELS, forecasters
    from .forecast.document import document
    from .forecast.series import Series

    scores = list(scores)
    batch = [Series.from_member(series, series["id"]) for series, *_ in described]
    paid = {series["id"]: (currency, unit) for series, currency, unit in described}
    plugins, wider = forecasters(), multipliers(known, scores)
    currencies = {node: currency for node, (currency, _) in paid.items()}
    found = learned(known, batch, currencies, horizon_h, plugins, drifted(known, scores), hurry=not job.fixed_now)
    said = [
        document(fit, series, horizon_h, DEFAULT_LEVELS, plugins, wider.get(series.id, 1.0)) | {"wape": fit.wape}
        for fit, series in zip(found.fits, batch, strict=True)
    ]
    return [_forecast_document(one, paid[one["id"]], horizon_h, origin_s) for one in said], found.kept


def _forecast_document(result: Mapping[str, Any], paid: Sequence[str], horizon_h: int, origin_s: int) -> Document:
    def bounds(source: Mapping[str, Any], index: int | None) -> Document:
        def pick(values: Any) -> Any:
            return values if index is None else values[index]

        named = {"mean": pick(source["mean"]), "median": pick(source["median"])}
        for level in ("80", "95"):
            named |= {f"lo{level}": pick(source["lo"][level]), f"hi{level}": pick(source["hi"][level])}
        return named

    return {
        "node": result["id"],
        "currency": paid[0],
        "unit": paid[1],
        "model": result["model"],
        "models": result["models"],
        "type": result["type"],
        "reason": result["reason"],
        "flags": result["flags"],
        "hours_of_history": result["hours_of_history"],
        "mase": result["mase"],
        "wape": result["wape"],
        "horizon_h": horizon_h,
        "hours": [{"start": rfc3339(origin_s + i * HOUR_S)} | bounds(result, i) for i in range(horizon_h)],
        "total": bounds(result["total"], None),
    }
