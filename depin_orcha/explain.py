"""``explain``: the latest plan in words and numbers, from what was known when it was made.

Every number has its evidence: contract (the rules of the protocol), measured (this node's own hours, with a range),
prior (stated or taken from elsewhere), none. Months have 730.5 hours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .asof import AsOf, PlanRow
from .cycle import Job
from .economics import Gate, NodeFacts
from .economics.estimate import Estimate
from .economics.verdicts import MONTH_H
from .facts import gather
from .planning import gate_of
from .questions import questions
from .timefmt import rfc3339
from .types import Resource
from .whatif import parse, what_if

Row = dict[str, Any]

NO_PLAN = "there is no plan yet: make one with depin-orcha optimize"


def explain(job: Job, known: AsOf | None, asked: str | None, cost_usd: float | None) -> Row:
    """``data`` of the verb; ``known`` None: there is no database. Raises ``UsageError`` for a malformed question."""
    if asked is not None:
        parse(asked)
    gate = gate_of(job)
    data: Row = dict.fromkeys(("plan_id", "made_at", "expires_at", "decision", "status"))
    data |= {"simulated": known is not None and known.meta("simulated") is not None}
    data |= {"reason": NO_PLAN, "gate": _gate(gate), "hosts": [], "nodes": [], "questions": [], "what_if": None}
    if known is None:
        return data | ({} if asked is None else {"what_if": []})
    plan = known.plan()
    if plan is not None:
        then = AsOf(known.connection, plan.made_s)
        facts = {one.name: one for one in gather(replace(job, now_s=plan.made_s), then)}
        data |= _plan(job, plan, facts, gate)
        data["questions"] = questions(job, known, plan, facts)
    if asked is not None:
        data["what_if"] = what_if(job, known, gather(job, known), asked, cost_usd)
    return data


def _gate(gate: Gate) -> Row:
    return {
        "off": gate.off,
        "learning_days": gate.learning_days,
        "min_gain_usd_per_day": gate.min_gain_usd_per_day,
        "max_changes_per_day": gate.max_changes_per_day,
        "min_dwell_h": gate.min_dwell_h,
    }


def _plan(job: Job, plan: PlanRow, facts: Mapping[str, NodeFacts], gate: Gate) -> Row:
    inputs = {node["node"]: node for host in plan.problem["hosts"] for node in host["nodes"]}
    hosts = [
        host
        for host in plan.result["hosts"]
        if not job.only or any(job.wanted(one["node"]) for one in (*host["nodes"], *host["advice"]) if one["node"])
    ]
    return {
        "plan_id": plan.plan_id,
        "made_at": rfc3339(plan.made_s),
        "expires_at": rfc3339(plan.expires_s),
        "decision": plan.decision,
        "status": plan.status,
        "reason": plan.reason,
        "hosts": [
            {key: host[key] for key in ("host", "decision", "status", "reason", "value", "binding", "relaxed")}
            | {"shadow_prices": host["shadow_prices"], "advice": host["advice"], "runner_up": host["runner_up"]}
            for host in hosts
        ],
        "nodes": [
            _node(node, host, inputs[node["node"]], facts.get(node["node"]), gate, plan.problem["horizon_h"])
            for host in hosts
            for node in host["nodes"]
            if job.wanted(node["node"])
        ],
    }


def _node(node: Row, host: Row, inputs: Row, one: NodeFacts | None, gate: Gate, horizon_h: int) -> Row:
    units = "units" if one is None else _unit(one)
    before = _income(one, inputs, node["previous_units"], node["previous_choice"], present=True)
    is_wish = one is not None and one.wish is not None  # of the owner, which changes nothing within hours
    new = (node["previous_units"], node["previous_choice"]) if is_wish else (node["units"], node["choice"])
    after = _income(one, inputs, *new, present=is_wish) if node["changed"] else before
    return {
        "node": node["node"],
        "host": host["host"],
        "protocol": inputs["protocol"],
        "decision": host["decision"] if node["changed"] else "hold",
        "changed": node["changed"],
        "previous_units": node["previous_units"],
        "units": node["units"],
        "previous_choice": node["previous_choice"],
        "choice": node["choice"],
        "grant_before": _grant(one, node["previous_units"], node["previous_choice"], units),
        "grant_after": _grant(one, node["units"], node["choice"], units),
        "income_before": before,
        "income_after": after,
        "power_before": _power(one, node["previous_units"], node["previous_choice"]),
        "power_after": _power(one, *new),
        "restart_loss_usd": _restart_loss(inputs),
        "binding": host["binding"],
        "usd_per_unit_hour": _mean(inputs.get("usd_per_unit_hour")),
        "flips_at_usd_per_unit_hour": None if "choices" in inputs else node["flips_at_usd_per_unit_hour"],
        "flips_at_income_factor": _flip_factor(node, inputs, horizon_h),
        "evidence": node["evidence"],
        "alternative": _alternative(one, node, host),
        "gate": None if one is None else _seen(one, gate),
        "why": node["reason"],
    }


def _unit(one: NodeFacts) -> str:
    """What a unit of a node is called."""
    resource, amount = next(iter(one.uses_per_unit.items()))
    names = {
        (Resource.CPU_CORES, 1.0): "cores",
        (Resource.STORAGE_BYTES, 1e12): "TB",
        (Resource.UPLINK_BPS, 1e7): "x 10 Mbit/s",
    }
    return names.get((Resource(resource), amount), f"units of {amount:g} {resource}")


def _grant(one: NodeFacts | None, units: float | None, choice: str | None, unit: str) -> str:
    if choice is not None:
        return choice
    whole = one is not None and one.unlimited
    return "nothing" if units is None else f"{units:.4g} {unit}" + (" (no limit)" if whole else "")


def _income(one: NodeFacts | None, inputs: Row, units: float | None, choice: str | None, *, present: bool) -> Row:
    """USD a month at a grant: with its range where it was tried, else what the plan took it for."""
    offer = one.offers.named(choice) if one is not None and one.offers is not None else None
    if offer is not None:
        return _month(offer.income, offer.evidence)
    found = one.curve.at(units) if one is not None and units is not None and one.lever else None
    if found is not None:
        return _month(found, "measured")
    if present and one is not None and one.usd_per_hour_forecast is not None:
        return _month(Estimate(one.usd_per_hour_forecast), "measured") | {"lo80": None, "hi80": None}
    taken = _mean(inputs.get("usd_per_unit_hour"))
    usd = None if taken is None or units is None else taken * units * MONTH_H
    return {"usd_month": usd, "lo80": None, "hi80": None, "evidence": "none"}


def _month(value: Estimate, evidence: str) -> Row:
    month = value.times(MONTH_H).document()
    return {"usd_month": month["mean"], "lo80": month["lo80"], "hi80": month["hi80"], "evidence": evidence}


def _power(one: NodeFacts | None, units: float | None, choice: str | None) -> Row:
    """What power costs at a grant; the watts are the owner's word."""
    offer = one.offers.named(choice) if one is not None and one.offers is not None else None
    usd = None
    if offer is not None:
        usd = offer.running_usd_per_hour
    elif one is not None and one.running_usd_per_unit_hour is not None and units is not None:
        usd = one.running_usd_per_unit_hour * units
    return {"usd_month": None if usd is None else usd * MONTH_H, "evidence": "none" if usd is None else "prior"}


def _restart_loss(inputs: Row) -> float | None:
    """What a move costs once, by the rule of the problem; None where no price says what an hour is worth."""
    hours, fee = inputs.get("restart_loss_hours", 0.0), inputs.get("restart_fee_usd", 0.0)
    if "choices" in inputs:
        by_name = {one["name"]: _mean(one["usd_per_hour"]) or 0.0 for one in inputs["choices"]}
        now, most = by_name.get(inputs["current_choice"], 0.0), max(by_name.values())
    else:
        price = _mean(inputs["usd_per_unit_hour"])
        if price is None or inputs["current_units"] is None:
            return None
        now, most = (price * _along(inputs, units) for units in (inputs["current_units"], inputs["max_units"]))
    return hours * max(now, 0.35 * most, 0.0) + fee


def _flip_factor(node: Row, inputs: Row, horizon_h: int) -> float | None:
    """How many times today's income per unit, a token's price that is, it is decided otherwise; None: at none.

    Of choices, the nearest factor on all their incomes at which another one earns as much, restarts counted in.
    """
    flips, price = node["flips_at_usd_per_unit_hour"], _mean(inputs.get("usd_per_unit_hour"))
    if "choices" not in inputs:
        return flips / price if price and flips is not None else None
    if inputs["frozen"] or inputs["evidence"] in ("prior", "none"):
        return None
    lost = _restart_loss(inputs | {"restart_fee_usd": 0.0}) or 0.0
    lines: dict[str, tuple[float, float]] = {}
    for one in inputs["choices"]:
        moves = one["name"] != inputs["current_choice"]
        income, power = (_mean(one[key]) or 0.0 for key in ("usd_per_hour", "running_usd_per_hour"))
        fee = inputs.get("restart_fee_usd", 0.0) if moves else 0.0
        lines[one["name"]] = income - (lost / horizon_h if moves else 0.0), power + fee / horizon_h
    slope, cost = lines[node["choice"]]
    crossings = [(cost - other) / (slope - rise) for rise, other in lines.values() if rise != slope]
    return min((one for one in crossings if one > 0), key=lambda one: abs(one - 1), default=None)


def _along(inputs: Row, units: float) -> float:
    """Units that count: each segment by its relative earning."""
    segments: Sequence[Row] = inputs.get("segments") or [{"width_units": units, "relative": 1.0}]
    counted, left = 0.0, units
    for index, one in enumerate(segments):
        part = left if index == len(segments) - 1 else min(left, one["width_units"])
        counted, left = counted + part * one["relative"], left - part
    return counted


def _mean(series: Any) -> float | None:
    if series is None:
        return None
    return sum(series) / len(series) if isinstance(series, list) else float(series)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _alternative(one: NodeFacts | None, node: Row, host: Row) -> Row | None:
    """What the node would best be moved to, or is, and what that brings a day; None where nothing else was tried."""
    if one is None or one.current_units is None or not one.lever:
        return None
    gains: list[tuple[Estimate, float, str | None]] = []
    if one.offers is not None:
        others = [offer for offer in one.offers.offers if offer.name != one.offers.current]
        gains = [(gain, offer.units, offer.name) for offer in others if (gain := one.offers.gain(offer.name))]
    else:
        running = one.running_usd_per_unit_hour or 0.0
        for tried in one.curve.tried:
            gain = one.curve.gain(one.current_units, tried.units)
            if gain is not None and tried.units != one.current_units:
                power = Estimate(running * (tried.units - one.current_units))
                gains.append((gain.less(power), tried.units, None))
    if not gains:
        return None
    if node["changed"]:
        gains = [found for found in gains if (found[1], found[2]) == (node["units"], node["choice"])] or gains
    gain, units, choice = max(gains, key=lambda found: found[0].mean)
    short = (
        [] if host["runner_up"] is None else [text for text in host["runner_up"]["short_of"] if node["node"] in text]
    )
    told = {"units": units, "choice": choice, "gain_usd_day": gain.times(24).document(), "short_of": short}
    return told | {"name": choice or f"{units:.4g} {_unit(one)}"}


def _seen(one: NodeFacts, gate: Gate) -> Row:
    """What the gate looks at, beside what it asks for."""
    return {
        "days_measured": one.days_measured,
        "changes_last_day": one.changes_last_day,
        "hours_since_change": one.hours_since_change,
        "learned": one.days_measured >= gate.learning_days,
    }
