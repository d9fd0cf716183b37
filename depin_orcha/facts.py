"""What the optimiser has to know of each node, gathered from the configuration and the database."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from .adapters import adapter_class
from .asof import AsOf, EarnedHour
from .costs import usd_per_kwh
from .cycle import Job
from .economics import Gate, NodeFacts, Terms, problem_node, yield_curve
from .metering import listed_prices, tariff_currency_usd
from .store import to_json
from .types import DAY_S, HOUR_S, Quality, Resource
from .values import TESTNET

HISTORY_DAYS = 60
_RESTART_LOSS_HOURS = {"golem": 0.1, "storj": 0.5}
_MOVABLE = frozenset({"golem"})
"""Protocols whose grant changes what they earn within hours."""


def gather(job: Job, known: AsOf) -> list[NodeFacts]:
    """The facts of every configured node that was ever read."""
    stored = {node.name for node in known.nodes()}
    forecasts = known.forecasts()
    paused = {pause.node for pause in known.pauses()}
    tariff = _tariff(job, known)
    return [
        _facts(job, known, name, forecasts.get(name), tariff, paused=None in paused or name in paused)
        for name in job.config.nodes
        if name in stored
    ]


def _tariff(job: Job, known: AsOf) -> float | None:
    """Mean price of a kWh over the horizon in USD; None where it is not known."""
    costs, horizon_h = job.config.settings.costs, job.config.settings.optimize.horizon_h
    listed = listed_prices(job, known, job.now_s // HOUR_S * HOUR_S, horizon_h)
    return usd_per_kwh(costs, job.now_s, horizon_h, listed, tariff_currency_usd(job, known, job.now_s))


def _facts(
    job: Job, known: AsOf, name: str, forecast: Mapping[str, Any] | None, tariff: float | None, *, paused: bool
) -> NodeFacts:
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
    usd_by_hour: dict[int, float] = {}
    for hour in hours:
        if hour.price is not None or hour.currency == "USD":
            usd = float(hour.amount * (hour.price.usd_per_unit if hour.price else 1))
            usd_by_hour[hour.hour_s] = usd_by_hour.get(hour.hour_s, 0.0) + usd
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
        running_usd_per_unit_hour=_running_cost(job, known, name, main, tariff),
        keep_reason=_keep_reason(job, known, health.failure_kind if health else "unread", hours, paused=paused),
        disk=options.disk,
    )


def _running_cost(job: Job, known: AsOf, name: str, resource: str, tariff: float | None) -> float | None:
    """Expected cost of power of one more unit, in USD per hour; None where watts or tariff are not known.

    ``busy_watts`` counts for the largest grant, and only while the node works.
    """
    options = job.config.nodes[name]
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
