"""``forecast`` and ``optimize``: from what is known to what to expect, and to a stored plan."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from .adapters import adapter_class
from .asof import AsOf, EarnedHour
from .costs import usd_per_kwh
from .cycle import Job, Result
from .economics import Gate, NodeFacts, Terms, kept_because, problem_node, short_of, yield_curve
from .errors import ConfigError, ExitCode
from .store import Store, to_json
from .timefmt import rfc3339
from .types import DAY_S, DECIMALS, HOUR_S, Failure, FailureKind, Quality, Resource
from .values import TESTNET, unit_price

HISTORY_DAYS = 60
_RESTART_LOSS_HOURS = {"golem": 0.1, "storj": 0.5}
_MOVABLE = frozenset({"golem"})
"""Protocols whose grant changes what they earn within hours."""


def forecast(job: Job, store: Store, horizon_h: int | None = None) -> Result:
    """Expected hourly income of each node with history, stored once per completed hour."""
    known = AsOf(store.connection, job.now_s)
    _require_known_nodes(job, known)
    hours = horizon_h or job.config.settings.forecast.horizon_h
    documents = node_forecasts(job, known, hours)
    origin_s = job.now_s // HOUR_S * HOUR_S
    with store.transaction():
        for one in documents:
            store.add_forecast(one["node"], one["currency"], origin_s, one, job.now_s)
    return Result({"forecasts": documents, "anomalies": []})


def node_forecasts(job: Job, known: AsOf, horizon_h: int) -> list[dict[str, Any]]:
    """Members of ``data.forecasts[]`` for every node with at least one completed known hour."""
    origin_s = job.now_s // HOUR_S * HOUR_S
    by_node: dict[str, list[EarnedHour]] = {}
    for hour in known.hours(origin_s - HISTORY_DAYS * DAY_S):
        if job.wanted(hour.node) and hour.hour_s < origin_s and hour.currency not in TESTNET:
            by_node.setdefault(hour.node, []).append(hour)
    if not by_node:
        return []
    from .forecast import forecast_series

    batch = [_series(known, job, node, hours, origin_s) for node, hours in sorted(by_node.items())]
    results = forecast_series([series for series, _ in batch], horizon=horizon_h, levels=(80, 95))
    return [
        _forecast_document(result, currency, horizon_h, origin_s)
        for result, (_, currency) in zip(results, batch, strict=True)
    ]


def _series(
    known: AsOf, job: Job, node: str, hours: list[EarnedHour], origin_s: int
) -> tuple[dict[str, Any], tuple[str, str]]:
    """The node's hours as a series for the forecaster, and (currency, unit) of its values."""
    currency = hours[0].currency
    price_now = unit_price(currency, known.price_at(currency, job.now_s), job.now_s)
    first_s = hours[0].hour_s
    count = (origin_s - first_s) // HOUR_S
    y: list[float | None] = [None] * count
    price: list[float | None] = [None] * count
    for hour in hours:
        if hour.quality is Quality.INTERPOLATED or hour.currency != currency:
            continue
        index = (hour.hour_s - first_s) // HOUR_S
        if price_now is None:
            y[index] = float(hour.amount)
            continue
        # The price known now ends the series: it is the one that the forecast is made with.
        used = price_now if index == count - 1 else hour.price or price_now
        price[index] = float(used.usd_per_unit)
        y[index] = float(DECIMALS.multiply(hour.amount, used.usd_per_unit))
    series: dict[str, Any] = {"id": node, "start": rfc3339(first_s), "freq": "1h", "y": y}
    if price_now is not None and currency != "USD":
        price[-1] = float(price_now.usd_per_unit)
        series["price"] = price
    return series, (currency, "native_per_hour" if price_now is None else "usd_per_hour")


def _forecast_document(
    result: Mapping[str, Any], currency: tuple[str, str], horizon_h: int, origin_s: int
) -> dict[str, Any]:
    def bounds(source: Mapping[str, Any], index: int | None) -> dict[str, Any]:
        def pick(values: Any) -> Any:
            return values if index is None else values[index]

        named = {"mean": pick(source["mean"]), "median": pick(source["median"])}
        for level in ("80", "95"):
            named |= {f"lo{level}": pick(source["lo"][level]), f"hi{level}": pick(source["hi"][level])}
        return named

    return {
        "node": result["id"],
        "currency": currency[0],
        "unit": currency[1],
        "model": result["model"],
        "models": result["models"],
        "type": result["type"],
        "reason": result["reason"],
        "flags": result["flags"],
        "hours_of_history": result["hours_of_history"],
        "mase": result["mase"],
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
    document = problem(job, known, facts, gate, model or settings.optimize.model)
    data = _solve(document, facts, gate)
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


def gather(job: Job, known: AsOf) -> list[NodeFacts]:
    """The facts of every configured node that was ever read."""
    stored = {node.name for node in known.nodes()}
    forecasts = known.forecasts()
    paused = {pause.node for pause in known.pauses()}
    return [
        _facts(job, known, name, forecasts.get(name), paused=None in paused or name in paused)
        for name in job.config.nodes
        if name in stored
    ]


def _facts(job: Job, known: AsOf, name: str, forecast: Mapping[str, Any] | None, *, paused: bool) -> NodeFacts:
    options = job.config.nodes[name]
    adapter = adapter_class(options.protocol)
    uses = {str(r): amount for r, amount in (options.uses_per_unit or adapter.uses_per_unit).items()}
    main = next(iter(uses))
    health = known.health(name)
    hours = [
        hour
        for hour in known.hours(job.now_s - HISTORY_DAYS * DAY_S, name)
        if hour.hour_s + HOUR_S <= job.now_s and hour.quality is Quality.MEASURED
    ]
    usd_by_hour = {
        hour.hour_s: float(hour.amount * (hour.price.usd_per_unit if hour.price else 1))
        for hour in hours
        if hour.price is not None or hour.currency == "USD"
    }
    terms = _terms(known, name, main, uses[main], job.now_s)
    current = terms[-1].units if terms else None
    changes = [one.since_s for before, one in pairwise(terms) if one.units != before.units]
    limits = health.limits.get(main) if health else None
    mean = forecast["total"]["mean"] if forecast and forecast["unit"] == "usd_per_hour" else None
    lever = options.protocol in _MOVABLE
    return NodeFacts(
        name=name,
        protocol=options.protocol,
        uses_per_unit=uses,
        min_units=options.min_units,
        max_units=options.max_units,
        floor_units=(limits["floor"] or 0) / uses[main] if limits else 0.0,
        current_units=current,
        integer=lever,
        step_units=(limits["step"] or 0) / uses[main] if limits else 0.0,
        lever=lever,
        usd_per_hour_forecast=mean / forecast["horizon_h"] if mean is not None and forecast else None,
        curve=yield_curve(usd_by_hour, terms),
        days_measured=len(usd_by_hour) / 24,
        hours_since_change=(job.now_s - changes[-1]) / HOUR_S if changes else None,
        changes_last_day=sum(1 for at_s in changes if at_s > job.now_s - DAY_S),
        restart_loss_hours=_RESTART_LOSS_HOURS.get(options.protocol, 0.0),
        running_usd_per_unit_hour=_running_cost(job, known, name, main),
        keep_reason=_keep_reason(job, known, health.failure_kind if health else "unread", hours, paused=paused),
        disk=options.disk,
    )


def _running_cost(job: Job, known: AsOf, name: str, resource: str) -> float | None:
    """Expected cost of power of one more unit, in USD per hour; None where watts or tariff are not known.

    ``busy_watts`` counts for the largest grant, and only while the node works.
    """
    options = job.config.nodes[name]
    tariff = usd_per_kwh(job.config.settings.costs, job.now_s, job.config.settings.optimize.horizon_h)
    if options.busy_watts is None or tariff is None:
        return None
    uses = {
        str(r): amount for r, amount in (options.uses_per_unit or adapter_class(options.protocol).uses_per_unit).items()
    }
    capacity = known.hosts().get(options.host, ({}, {}))[0].get(resource)
    most = options.max_units or (capacity / uses[resource] if capacity else None)
    readings = [
        usage[Resource(resource)]
        for _, usage in known.usage_history(name, job.now_s - HISTORY_DAYS * DAY_S)
        if Resource(resource) in usage
    ]
    known_use = [one.used for one in readings if one.used is not None]
    if not most or not known_use:
        return None
    busy = sum(1 for used in known_use if used > 0) / len(known_use)
    return busy * options.busy_watts / most / 1000 * tariff


def _keep_reason(
    job: Job, known: AsOf, failure_kind: str | None, hours: list[EarnedHour], *, paused: bool
) -> str | None:
    if paused:
        return "paused by the owner"
    if failure_kind is not None:
        return "it could not be read: its grant stays as it is"
    for currency in {hour.currency for hour in hours} - {"USD"} - TESTNET:
        price = known.price_at(currency, job.now_s)
        if price is None or job.now_s - price.observed_s > job.config.settings.prices.max_age_s:
            return f"the price of {currency} is missing or stale"
    return None


def _terms(known: AsOf, name: str, resource: str, per_unit: float, now_s: int) -> list[Terms]:
    """The grant and the prices offered at each reading of the last weeks, oldest first."""
    since_s = now_s - HISTORY_DAYS * DAY_S
    offers = {observed_s: _prices_offered(details) for observed_s, details in known.details_history(name, since_s)}
    readings: list[Terms] = []
    for observed_s, usage in known.usage_history(name, since_s):
        granted = usage.get(Resource(resource))
        units = granted.allocated / per_unit if granted and granted.allocated is not None else None
        readings.append(Terms(observed_s, units, offers.get(observed_s, "")))
    return readings[::-1]


def _prices_offered(details: Mapping[str, Any]) -> str:
    offers: list[dict[str, Any]] = details.get("offers") or []
    names = ("runtime", "glm_per_cpu_s", "glm_per_s", "glm_start")
    return to_json(sorted([str(offer.get(name)) for name in names] for offer in offers))


def problem(job: Job, known: AsOf, facts: list[NodeFacts], gate: Gate, model: str) -> dict[str, Any]:
    """The optimisation problem of all hosts, in the form of the public contract."""
    options = job.config.settings.optimize
    hosts: list[dict[str, Any]] = []
    measured = known.hosts()
    for host in dict.fromkeys(node.host for node in job.config.nodes.values()):
        own = job.config.host(host)
        capacity = {
            resource: max(amount - own.reserve.get(Resource(resource), 0.0), 0.0)
            for resource, amount in measured.get(host, ({}, {}))[0].items()
        }
        nodes = [
            node
            for one in facts
            if job.config.nodes[one.name].host == host and (node := problem_node(one, gate, capacity)) is not None
        ]
        if not job.only or any(job.wanted(node["node"]) for node in nodes):
            hosts.append({"host": host, "capacity": _enough(capacity, nodes), "nodes": nodes})
    return {
        "schema": "depin-orcha/problem/1",
        "horizon_h": options.horizon_h,
        "model": model,
        "thresholds": {
            "min_improvement_pct": options.min_improvement_pct,
            "min_net_benefit_usd_per_hour": options.min_net_benefit_usd_per_hour,
            "ignore_change_pct": options.ignore_change_pct,
            "max_moves": None,
        },
        "hosts": hosts,
    }


def _enough(capacity: Mapping[str, float], nodes: list[dict[str, Any]]) -> dict[str, float]:
    """Capacity of the resources that nodes use; what the owner never stated is as much as is granted now."""
    granted: dict[str, float] = {}
    for node in nodes:
        for resource, amount in node["uses_per_unit"].items():
            granted[resource] = granted.get(resource, 0.0) + amount * node["current_units"]
    return {resource: capacity.get(resource, amount) for resource, amount in granted.items()}


def _solve(document: dict[str, Any], facts: list[NodeFacts], gate: Gate) -> dict[str, Any]:
    """The solved problem; moves whose gain is not sure enough are taken out and the rest is solved again."""
    from .optimize import Problem, solve

    by_name = {one.name: one for one in facts}
    rejected: dict[str, str] = {}
    while True:
        data = solve(Problem.from_dict(document)).to_dict()
        moved = {
            node["node"]: reason
            for host in data["hosts"]
            for node in host["nodes"]
            if node["changed"] and (reason := short_of(by_name[node["node"]], gate, node["units"])) is not None
        }
        if not moved:
            break
        rejected |= moved
        for host in document["hosts"]:
            for node in host["nodes"]:
                node["frozen"] = node["frozen"] or node["node"] in moved
    _explain(data, by_name, gate, rejected)
    return data


def _explain(data: dict[str, Any], facts: Mapping[str, NodeFacts], gate: Gate, rejected: Mapping[str, str]) -> None:
    """Say of every node that was left alone by the gate why it was, and of the plan what it comes down to."""
    for host in data["hosts"]:
        for node in host["nodes"]:
            one = facts[node["node"]]
            kept = rejected.get(one.name) or kept_because(one, gate)
            if kept and not node["changed"]:
                node["reason"] = kept
                node["evidence"] = one.curve.evidence if one.lever else node["evidence"]
        reasons = dict.fromkeys(f"{node['node']}: {node['reason']}" for node in host["nodes"] if not node["changed"])
        if host["decision"] == "hold" and host["nodes"]:
            if any(node["node"] in rejected for node in host["nodes"]):
                host["status"] = "held"
            host["reason"] = "; ".join(reasons)
    if not any(host["nodes"] for host in data["hosts"]):
        data["reason"] = "no node has told yet what it is granted: collect first"
    elif data["decision"] == "hold":
        data["reason"] = "no change worth making: " + "; ".join(
            f"{host['host']}: {host['reason']}" for host in data["hosts"] if host["nodes"]
        )
        if rejected:
            data["status"] = "held"


def _require_known_nodes(job: Job, known: AsOf) -> None:
    if not job.config.nodes and not known.nodes():
        message = "no node is configured and none is in the database"
        raise ConfigError(message, "describe your nodes with: depin-orcha init")
