"""What the optimiser has to know of each node, gathered from the configuration and the database."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil
from statistics import fmean
from typing import Any

from .actuators import from_json, golem
from .adapters import NodeOptions, adapter_class
from .asof import AsOf, EarnedHour
from .cycle import Job
from .earned_series import HISTORY_DAYS
from .economics import (
    Fill,
    Gate,
    NodeFacts,
    Terms,
    problem_node,
    room_of,
    wish_of,
    with_scenarios,
    yield_curve,
)
from .economics.offers import Offers, offers_of
from .economics.yields import steady_hours
from .growth import Growth, growth
from .host import shared
from .metering import usd_per_kwh_by_hour
from .movable import Rules, rules
from .store import to_json
from .types import DAY_S, HOUR_S, ActionState, Quality, Resource
from .until import disk_readings
from .values import TESTNET, unit_price
from .workload import busy_by_hour, usual_agreement_h

_FULL = 0.97
"""Beyond this share of its grant a disk counts as full."""


def gather(job: Job, known: AsOf) -> list[NodeFacts]:
    """The facts of every configured node that was ever read."""
    stored = {node.name for node in known.nodes()}
    forecasts = known.forecasts()
    paused = {pause.node for pause in known.pauses()}
    tariff = _tariff(job, known)
    fills = _fills(job, known)
    facts = [
        _facts(job, known, name, forecasts.get(name), tariff, fills.get(name), paused=None in paused or name in paused)
        for name in job.config.nodes
        if name in stored
    ]
    return _with_wishes(job, known, facts)


def _with_wishes(job: Job, known: AsOf, facts: list[NodeFacts]) -> list[NodeFacts]:
    """With broken bounds of the owner, where no plan moves a grant for gain; who is named first gets first."""
    measured, found = known.hosts(), list(facts)
    for index, node in enumerate(facts):
        planned, options = rules(node.protocol), job.config.nodes[node.name]
        if planned.hindered is None or node.lever:
            continue
        capacity = _capacity(job, measured, node.host)
        room = room_of(node, found, capacity, job.config.host(node.host).disks)
        least_change = planned.least_change / next(iter(node.uses_per_unit.values()))
        found[index] = replace(node, wish=wish_of(node, planned.hindered(options), least_change, room))
    return found


def _capacity(job: Job, measured: Mapping[str, Any], host: str, more: Mapping[str, float] = {}) -> dict[str, float]:
    """What a host has after the owner's reserve, and so much more."""
    free = shared(measured.get(host, ({}, {}))[0], job.config.host(host))
    return {resource: amount + more.get(resource, 0.0) for resource, amount in free.items()}


def _tariff(job: Job, known: AsOf) -> list[float]:
    """USD per kWh in each hour of the horizon, the mean where it is not listed yet; empty where none is known."""
    hours = usd_per_kwh_by_hour(job, known, job.now_s // HOUR_S * HOUR_S, job.config.settings.optimize.horizon_h)
    listed = [price for price in hours if price is not None]
    return [fmean(listed) if price is None else price for price in hours] if listed else []


def _fills(job: Job, known: AsOf) -> dict[str, Fill]:
    """How the disks of storage nodes fill by their own history; all nodes of a group share what comes in."""
    net: dict[str, float] = {}
    stored: dict[str, float] = {}
    groups: dict[str, list[str]] = {}
    for name, options in job.config.nodes.items():
        if rules(options.protocol).fills:
            groups.setdefault(options.ingress_group or f"only {name}", []).append(name)
            usage = known.usage(name).get(Resource.STORAGE_BYTES)
            unit = _uses(options)[str(Resource.STORAGE_BYTES)]
            found = disk_growth(known, name, unit)
            if usage is not None and usage.used is not None and found is not None:
                net[name], stored[name] = found.per_day / 24, usage.used / unit
    fills: dict[str, Fill] = {}
    for group, names in groups.items():
        if all(name in net for name in names):
            together = None if len(names) == 1 else group
            incoming = sum(net[name] for name in names)
            gone = -incoming / max(sum(stored[name] for name in names), 1e-9)
            for name in names:
                fills[name] = Fill(stored[name], max(incoming, 0.0), min(max(gone, 0.0), 1.0), together)
    return fills


def disk_growth(known: AsOf, name: str, unit: float) -> Growth | None:
    """How the data of a node grew while its disk was not full, in units; a full one says nothing of what would come."""
    readings = disk_readings(known, name)
    return growth([(at_s, used / unit) for at_s, used, most in readings if most is None or used < _FULL * most])


def _facts(
    job: Job,
    known: AsOf,
    name: str,
    forecast: Mapping[str, Any] | None,
    tariff: list[float],
    fill: Fill | None,
    *,
    paused: bool,
) -> NodeFacts:
    options = job.config.nodes[name]
    planned = rules(options.protocol)
    uses = _uses(options)
    main = next(iter(uses))
    since_s = job.now_s - HISTORY_DAYS * DAY_S
    seen = known.last_seen(name)
    details = seen.details if seen else {}
    hours = [
        hour
        for hour in known.hours(since_s, name)
        if hour.hour_s + HOUR_S <= job.now_s and hour.quality is Quality.MEASURED
    ]
    usd_by_hour = worth_now(known, hours, job.now_s)
    terms = grant_history(known, options, name)
    granted = [one for one in terms if one.units is not None]
    changes = [one.since_s for before, one in pairwise(granted) if one.units != before.units]
    rests = _rests(known, name, planned, terms)
    limits = seen.limits.get(main) if seen else None
    mean = forecast["total"]["mean"] if forecast and forecast["unit"] == "usd_per_hour" else None
    busy = busy_by_hour(known, name, main, since_s)
    at_work = _kw_at_work(known, options, main)
    running = [] if at_work is None or not busy else [fmean(busy.values()) * at_work * price for price in tariff]
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
        running_usd_per_unit_hour=fmean(running) if running else None,
        keep_reason=_keep_reason(job, known, name, hours, paused=paused) or (None if rests else planned.fixed(details)),
        disk=options.disk if options.disk in job.config.host(options.host).disks else None,
        host=options.host,
        unlimited=Resource(main) in planned.unlimited(details),
        offers=_offers(job, known, name, planned, (usd_by_hour, busy, terms), at_work, rests=rests),
        fill=fill,
        held_units=_held(known, name, main, uses[main]) if planned.pausable else 0.0,
        band80=_band(forecast),
        watts_per_unit=None if at_work is None or not busy else fmean(busy.values()) * at_work * 1000,
        running_by_hour=tuple(running) if len(set(running)) > 1 else (),
    )


def _band(forecast: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """The 80 % range of what is expected over the horizon, per hour."""
    if not forecast or forecast["unit"] != "usd_per_hour" or forecast["total"]["lo80"] is None:
        return None
    total, hours = forecast["total"], forecast["horizon_h"]
    return total["lo80"] / hours, total["hi80"] / hours


def _held(known: AsOf, name: str, resource: str, per_unit: float) -> float:
    """What is bound by running work, in units."""
    usage = known.usage(name).get(Resource(resource))
    return 0.0 if usage is None or not usage.used else usage.used / per_unit


def _rests(known: AsOf, name: str, planned: Rules, terms: Sequence[Terms]) -> bool:
    """Did a plan pause the node, and has nobody let it work since?"""
    if not planned.pausable or not terms or terms[-1].units:
        return False
    rows = [row for row in known.actions(node=name, state=str(ActionState.DONE)) if row["kind"] == golem.KIND]
    if not golem.rested([from_json(row["action_json"]) for row in rows]):
        return False
    return not any(one.units for one in terms if one.since_s > rows[-1]["finished_s"])


def _offers(
    job: Job,
    known: AsOf,
    name: str,
    planned: Rules,
    history: tuple[Mapping[int, float], Mapping[int, float], list[Terms]],
    at_work: float | None,
    *,
    rests: bool,
) -> Offers | None:
    """What the node can offer; work that begins now costs what it will cost over the usual length of an agreement.

    One that ``rests`` can offer again what it offered last.
    """
    usd_by_hour, busy, terms = history
    offered = [one for one in terms if one.units and json.loads(one.terms)]
    if not planned.pausable or not offered or not (rests or terms[-1] is offered[-1]):
        return None
    now_s = job.now_s // HOUR_S * HOUR_S
    length_h = usual_agreement_h(known, name, job.now_s - HISTORY_DAYS * DAY_S)
    coming = usd_per_kwh_by_hour(job, known, now_s, ceil(length_h))
    ahead = [price for price in coming if price is not None]
    running = at_work * fmean(ahead) if at_work is not None and len(ahead) == len(coming) else None
    command = list(getattr(job.config.nodes[name], "provider_command", ()))
    told = {one.terms: planned.told(json.loads(one.terms), command) for one in offered}
    last = offered[-1]
    told |= {last.terms: (told[last.terms][0], "")}
    steady = [one for one in steady_hours(usd_by_hour, terms) if one.units and one.terms in told]
    return offers_of(usd_by_hour, busy, steady, (last.units or 0.0, last.terms), running, told, is_paused=rests)


def _uses(options: NodeOptions) -> dict[str, float]:
    """What a unit of the node takes of each resource; the first is the one that its grant is counted in."""
    return {str(r): one for r, one in (options.uses_per_unit or adapter_class(options.protocol).uses_per_unit).items()}


def worth_now(known: AsOf, hours: list[EarnedHour], now_s: int) -> dict[int, float]:
    """What was earned in each hour, all at the prices of now: what a token was worth then is no merit of a grant."""
    prices = {one: unit_price(one, known.price_at(one, now_s), now_s) for one in {hour.currency for hour in hours}}
    usd_by_hour: dict[int, float] = {}
    for hour in hours:
        price = prices[hour.currency]
        if price is not None and hour.currency not in TESTNET:
            usd = float(hour.amount * price.usd_per_unit)
            usd_by_hour[hour.hour_s] = usd_by_hour.get(hour.hour_s, 0.0) + usd
    return usd_by_hour


def _kw_at_work(known: AsOf, options: NodeOptions, resource: str) -> float | None:
    """kW of a unit at work: ``busy_watts`` counts for the largest grant; None where that or the watts are not known."""
    most = options.max_units or _host_units(known, options, resource)
    return None if options.busy_watts is None or not most else options.busy_watts / most / 1000


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


def grant_history(known: AsOf, options: NodeOptions, name: str) -> list[Terms]:
    """The grant and its terms at each good reading of the last weeks, oldest first.

    A node that nothing limits has all that its host has, as far as that is known.
    """
    since_s, planned = known.now_s - HISTORY_DAYS * DAY_S, rules(options.protocol)
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


def problem(
    job: Job,
    known: AsOf,
    facts: list[NodeFacts],
    gate: Gate,
    model: str,
    *,
    risk: float = 0.0,
    more: Mapping[str, float] = {},
) -> dict[str, Any]:
    """The optimisation problem of all hosts, in the form of the public contract; each with so much ``more``.

    ``risk`` above 0: with the futures that forecasts hold possible, and that much weight on the worst of them.
    """
    options = job.config.settings.optimize
    hosts: list[dict[str, Any]] = []
    measured = known.hosts()
    for host in dict.fromkeys(node.host for name, node in job.config.nodes.items() if job.wanted(name)):
        own = job.config.host(host)
        capacity = _capacity(job, measured, host, more)
        nodes = [
            with_scenarios(node, one, options.horizon_h) if risk else node
            for one in facts
            if one.host == host and (node := problem_node(one, gate, capacity)) is not None
        ]
        is_due = any(one.wish is not None and one.wish.units is not None for one in facts if one.host == host)
        disks = {mount: max(size, _on(mount, nodes)) for mount, size in own.disks.items()}
        hosts.append(
            {"host": host, "capacity": _enough(capacity, nodes, is_due=is_due), "disks": disks, "nodes": nodes}
        )
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
    } | ({"risk": {"lambda": risk}} if risk else {})


def _enough(capacity: Mapping[str, float], nodes: list[dict[str, Any]], *, is_due: bool) -> dict[str, float]:
    """Capacity of the resources that nodes use; what the owner never stated is as much as is granted now.

    What is on disks is there, even where it is more than the host has: that hinders nobody who is due something.
    """
    granted: dict[str, float] = {}
    for node in nodes:
        for resource, amount in node["uses_per_unit"].items():
            granted[resource] = granted.get(resource, 0.0) + amount * _units_now(node)
    storage = str(Resource.STORAGE_BYTES)
    least = {storage: granted.get(storage, 0.0)} if is_due else {}
    return {
        resource: max(capacity.get(resource, amount), least.get(resource, 0.0)) for resource, amount in granted.items()
    }


def _units_now(node: Mapping[str, Any]) -> float:
    """What a node of the problem has now."""
    named = [one["units"] for one in node.get("choices", ()) if one["name"] == node["current_choice"]]
    return named[0] if named else node["current_units"]


def _on(mount: str, nodes: list[dict[str, Any]]) -> float:
    """Bytes granted on a disk: what is there is there, even where it is more than the owner says."""
    storage = str(Resource.STORAGE_BYTES)
    there = [one for one in nodes if one.get("disk") == mount]
    return sum(one["uses_per_unit"].get(storage, 0.0) * _units_now(one) for one in there)
