"""``forecast`` and ``optimize``: from what is known to what to expect, and to a stored plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .asof import AsOf
from .cycle import Job, Result
from .earned_series import by_node, series_of
from .economics import Gate
from .errors import ConfigError, ExitCode, FailureKind
from .facts import HISTORY_DAYS, gather, problem
from .grading import report
from .outlooks import month_ends, month_outlooks
from .proposal import propose
from .scoring import multipliers, rolling, score
from .settled import add_outlooks
from .store import Store
from .timefmt import rfc3339
from .types import DAY_S, HOUR_S, Failure
from .until import limits_ahead
from .watch import watch


def forecast(job: Job, store: Store, horizon_h: int | None = None, *, with_report: bool = False) -> Result:
    """Expected hourly income of each node with history, stored once per completed hour; and what is wrong with nodes.

    If asked, also what the forecasts so far were worth.
    """
    known = AsOf(store.connection, job.now_s)
    _require_known_nodes(job, known)
    hours = horizon_h or job.config.settings.forecast.horizon_h
    scores = score(known, job.wanted)
    documents = node_forecasts(job, known, hours, multipliers(known, scores))
    origin_s = job.now_s // HOUR_S * HOUR_S
    with store.transaction():
        store.add_scores(scores, job.now_s)
        for one in documents:
            store.add_forecast(one["node"], one["currency"], origin_s, one, job.now_s)
        for node, outlook in month_outlooks(known, documents, job.now_s):
            add_outlooks(store.connection, node, [outlook], job.now_s)
    outlook = list(month_ends(known, documents, job.now_s))
    for node in known.nodes():
        if job.wanted(node.name):
            outlook += limits_ahead(known, node.name, node.protocol)
    watched = watch(job, store)
    data: dict[str, Any] = {"forecasts": documents, "outlook": outlook, "anomalies": watched.anomalies}
    if with_report:
        data["report"] = report(documents, rolling(known))
    return Result(data, warnings=watched.warnings)


def node_forecasts(job: Job, known: AsOf, horizon_h: int, multipliers: Mapping[str, float]) -> list[dict[str, Any]]:
    """Members of ``data.forecasts[]`` for every node with at least one completed known hour.

    Bands are as much wider as ``multipliers`` says of a node.
    """
    origin_s = job.now_s // HOUR_S * HOUR_S
    hours = by_node(known.hours(origin_s - HISTORY_DAYS * DAY_S), origin_s)
    protocols = {node.name: node.protocol for node in known.nodes()}
    described = [
        series_of(known, found, job.now_s, protocols[node]) for node, found in hours.items() if job.wanted(node)
    ]
    if not described:
        return []
    from .forecast import DEFAULT_LEVELS, forecasters
    from .forecast.document import document
    from .forecast.fit import fitted
    from .forecast.series import Series

    batch = [Series.from_member(series, series["id"]) for series, *_ in described]
    plugins = forecasters()
    results = [
        document(fit, series, horizon_h, DEFAULT_LEVELS, plugins, multipliers.get(series.id, 1.0)) | {"wape": fit.wape}
        for fit, series in zip(fitted(batch, horizon_h, plugins), batch, strict=True)
    ]
    return [
        _forecast_document(result, paid, horizon_h, origin_s)
        for result, (_, *paid) in zip(results, described, strict=True)
    ]


def _forecast_document(result: Mapping[str, Any], paid: Sequence[str], horizon_h: int, origin_s: int) -> dict[str, Any]:
    def bounds(source: Mapping[str, Any], index: int | None) -> dict[str, Any]:
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


def optimize(job: Job, store: Store, model: str | None = None) -> Result:
    """A stored plan for every host: what to grant, or why nothing is worth changing."""
    known = AsOf(store.connection, job.now_s)
    _require_known_nodes(job, known)
    settings = job.config.settings
    gate = Gate(
        settings.optimize.learning_days,
        settings.optimize.min_gain_usd_per_day,
        settings.optimize.max_changes_per_day,
        settings.optimize.min_dwell_h,
    )
    facts = gather(job, known)
    data, document = propose(problem(job, known, facts, gate, model or settings.optimize.model), facts, gate)
    expires_s = job.now_s + settings.apply.max_plan_age_s
    with store.transaction():
        plan_id = store.add_plan(job.now_s, expires_s, data, document)
    stamp: dict[str, Any] = {"plan_id": plan_id, "made_at": rfc3339(job.now_s), "expires_at": rfc3339(expires_s)}
    data = stamp | data
    failed = [host for host in data["hosts"] if host["status"] == "failed"]
    failures = [
        Failure(None, FailureKind.INTERNAL, f"no plan for host {host['host']}: {host['reason']}", "its grants stay")
        for host in failed
    ]
    code = ExitCode.OK
    if failed:
        code = ExitCode.INTERNAL if len(failed) == len(data["hosts"]) else ExitCode.PARTIAL
    return Result(data, failures, code)


def _require_known_nodes(job: Job, known: AsOf) -> None:
    if not job.config.nodes and not known.nodes():
        message = "no node is configured and none is in the database"
        raise ConfigError(message, "describe your nodes with: depin-orcha init")
