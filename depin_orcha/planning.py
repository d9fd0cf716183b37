"""``forecast`` and ``optimize``: from what is known to what to expect, and to a stored plan."""

from __future__ import annotations

from typing import Any

from .asof import AsOf
from .cycle import Job, Result
from .economics import Gate
from .errors import ConfigError, ExitCode, FailureKind
from .expected import node_forecasts
from .grading import report
from .learned import keep
from .outlooks import month_ends, month_outlooks
from .scoring import rolling, score
from .settled import add_outlooks
from .store import Store
from .timefmt import rfc3339
from .types import HOUR_S, Failure
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
    made = node_forecasts(job, known, hours, scores)
    documents = made.documents
    origin_s = job.now_s // HOUR_S * HOUR_S
    with store.transaction():
        store.add_scores(scores, job.now_s)
        for one in made.fresh:
            store.add_forecast(one["node"], one["currency"], origin_s, one, job.now_s)
        keep(store.connection, made.learned, job.now_s)
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


def optimize(
    job: Job, store: Store, model: str | None = None, risk: float | None = None, axis: str | None = None
) -> Result:
    """A stored plan for every host: what to grant, or why nothing is worth changing; with an ``axis``, a front too."""
    from .facts import gather, problem
    from .proposal import propose
    from .tradeoff import front_of, frozen_by_thresholds

    known = AsOf(store.connection, job.now_s)
    _require_known_nodes(job, known)
    settings = job.config.settings
    gate = gate_of(job)
    facts = gather(job, known)
    weight = settings.optimize.risk if risk is None else risk
    asked = problem(job, known, facts, gate, model or settings.optimize.model, risk=weight)
    data, document = propose(asked, facts, gate)
    expires_s = job.now_s + settings.apply.max_plan_age_s
    with store.transaction():
        places = {name: options.place for name, options in job.config.nodes.items()}
        plan_id = store.add_plan(job.now_s, expires_s, data, document, places)
    stamp: dict[str, Any] = {"plan_id": plan_id, "made_at": rfc3339(job.now_s), "expires_at": rfc3339(expires_s)}
    data = stamp | data
    if axis is not None:
        data["front"] = front_of(asked, axis)
    failed = [host for host in data["hosts"] if host["status"] == "failed"]
    failures = [
        Failure(None, FailureKind.INTERNAL, f"no plan for host {host['host']}: {host['reason']}", "its grants stay")
        for host in failed
    ]
    code = ExitCode.OK
    if failed:
        code = ExitCode.INTERNAL if len(failed) == len(data["hosts"]) else ExitCode.PARTIAL
    return Result(data, failures, code, frozen_by_thresholds(data))


def gate_of(job: Job) -> Gate:
    """When a change may be proposed, as configured."""
    options = job.config.settings.optimize
    return Gate(options.learning_days, options.min_gain_usd_per_day, options.max_changes_per_day, options.min_dwell_h)


def _require_known_nodes(job: Job, known: AsOf) -> None:
    if not job.config.nodes and not known.nodes():
        message = "no node is configured and none is in the database"
        raise ConfigError(message, "describe your nodes with: depin-orcha init")
