"""What the optimiser has to know of each node, gathered from the configuration and the database."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from .adapters import NodeOptions, adapter_class
from .asof import AsOf, EarnedHour
from .costs import usd_per_kwh
from .cycle import Job
from .earned_series import HISTORY_DAYS
from .economics import Gate, NodeFacts, Terms, problem_node, yield_curve
from .metering import listed_prices, tariff_currency_usd
from .movable import Rules, rules
from .store import to_json
from .types import DAY_S, HOUR_S, Quality, Resource
from .values import TESTNET, unit_price


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
    planned = rules(options.protocol)
    uses = _uses(options)
    main = next(iter(uses))
    seen = known.last_seen(name)
    details = seen.details if seen else {}
    hours = [
        hour
        for hour in known.hours(job.now_s - HISTORY_DAYS * DAY_S, name)
        if hour.hour_s + HOUR_S <= job.now_s and hour.quality is Quality.MEASURED
    ]
    usd_by_hour = _usd_by_hour(known, hours, job.now_s)
    terms = _terms(known, options, name, planned)
    granted = [one for one in terms if one.units is not None]
    changes = [one.since_s for before, one in pairwise(granted) if one.units != before.units]
    limits = seen.limits.get(main) if seen else None
    mean = forecast["total"]["mean"] if forecast and forecast["unit"] == "usd_per_hour" else None
    return NodeFacts(
        name=name,
        protocol=options.protocol,
        uses_per_unit=uses,
        min_units=options.min_units,
        max_units=options.max_units,
        floor_units=(limits["floor"] or 0) / uses[main] if limits else 0.0,
        current_units=terms[-1].units if terms else None,
        step_units=(limits["step"] or 0) / uses[main] if limits else 0.0,
        lever=planned.movable,
        usd_per_hour_forecast=mean / forecast["horizon_h"] if mean is not None and forecast else None,
        curve=yield_curve(usd_by_hour, terms),
        days_measured=len(usd_by_hour) / 24,
        hours_since_change=(job.now_s - changes[-1]) / HOUR_S if changes else None,
        changes_last_day=sum(1 for at_s in changes if at_s > job.now_s - DAY_S),
        restart_loss_hours=planned.restart_loss_hours,
        running_usd_per_unit_hour=_running_cost(job, known, name, main, tariff),
        keep_reason=_keep_reason(job, known, name, hours, paused=paused) or planned.fixed(details),
        disk=options.disk,
        host=options.host,
        unlimited=Resource(main) in planned.unlimited(details),
    )


def _uses(options: NodeOptions) -> dict[str, float]:
    """What a unit of the node takes of each resource; the first is the one that its grant is counted in."""
    return {str(r): one for r, one in (options.uses_per_unit or adapter_class(options.protocol).uses_per_unit).items()}


def _usd_by_hour(known: AsOf, hours: list[EarnedHour], now_s: int) -> dict[int, float]:
    """What was earned in each hour, all at the prices of now: what a token was worth then is no merit of a grant."""
    prices = {one: unit_price(one, known.price_at(one, now_s), now_s) for one in {hour.currency for hour in hours}}
    usd_by_hour: dict[int, float] = {}
    for hour in hours:
        price = prices[hour.currency]
        if price is not None and hour.currency not in TESTNET:
            usd = float(hour.amount * price.usd_per_unit)
            usd_by_hour[hour.hour_s] = usd_by_hour.get(hour.hour_s, 0.0) + usd
    return usd_by_hour


def _running_cost(job: Job, known: AsOf, name: str, resource: str, tariff: float | None) -> float | None:
    """Expected cost of power of one more unit, in USD per hour; None where watts or tariff are not known.

    ``busy_watts`` counts for the largest grant, and only while the node works.
    """
    options = job.config.nodes[name]
    if options.busy_watts is None or tariff is None:
        return None
    most = options.max_units or _host_units(known, options, resource)
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


def _host_units(known: AsOf, options: NodeOptions, resource: str) -> float | None:
    """How many units of the node all that its host has would make; None where that is neither measured nor stated."""
    capacity = known.hosts().get(options.host, ({}, {}))[0].get(resource)
    return capacity / _uses(options)[resource] if capacity else None


def _keep_reason(job: Job, known: AsOf, name: str, hours: list[EarnedHour], *, paused: bool) -> str | None:
    health = known.health(name)
    if paused:
        return "paused by the owner"
    if health is None or health.failure_kind is not None:
        return "it could not be read: its grant stays as it is"
    for currency in {hour.currency for hour in hours} - {"USD"} - TESTNET:
        price = known.price_at(currency, job.now_s)
        if price is None or job.now_s - price.observed_s > job.config.settings.prices.max_age_s:
            return f"the price of {currency} is missing or stale"
    return None


def _terms(known: AsOf, options: NodeOptions, name: str, planned: Rules) -> list[Terms]:
    """The grant and its terms at each good reading of the last weeks, oldest first.

    A node that nothing limits has all that its host has, as far as that is known.
    """
    since_s = known.now_s - HISTORY_DAYS * DAY_S
    resource, per_unit = next((Resource(one), amount) for one, amount in _uses(options).items())
    whole = _host_units(known, options, resource)
    allocated = {
        observed_s: usage[resource].allocated
        for observed_s, usage in known.usage_history(name, since_s)
        if resource in usage
    }
    readings: list[Terms] = []
    for observed_s, details in known.details_history(name, since_s):
        amount = allocated.get(observed_s)
        unlimited = whole if resource in planned.unlimited(details) else None
        units = unlimited if amount is None else amount / per_unit
        readings.append(Terms(observed_s, units, to_json(planned.terms(details))))
    return readings


def problem(job: Job, known: AsOf, facts: list[NodeFacts], gate: Gate, model: str) -> dict[str, Any]:
    """The optimisation problem of all hosts, in the form of the public contract."""
    options = job.config.settings.optimize
    hosts: list[dict[str, Any]] = []
    measured = known.hosts()
    for host in dict.fromkeys(node.host for name, node in job.config.nodes.items() if job.wanted(name)):
        own = job.config.host(host)
        capacity = {
            resource: max(amount - own.reserve.get(Resource(resource), 0.0), 0.0)
            for resource, amount in measured.get(host, ({}, {}))[0].items()
        }
        nodes = [node for one in facts if one.host == host and (node := problem_node(one, gate, capacity)) is not None]
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
