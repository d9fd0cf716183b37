"""Every decision in one sentence with its numbers, for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from .case import HAIR, Case, Grants, Lever, Share
from .decide import Decision
from .plan import Advice, HostPlan
from .problem import Host, Problem, Thresholds
from .search import Short

LOCKS = {
    "frozen": "is frozen",
    "dwell": "changed less than its min_dwell_h ago",
    "evidence": "has a price that is not measured, so no change is decided",
    "restarts": "waits, because as many hosts restart now as may at once",
}


def binding_rows(case: Case, units: Grants) -> tuple[str, ...]:
    """Names of the limits that are used up, then of the ends of the range where grants lie."""
    full = [limit.name for limit in case.limits if case.is_full(limit, units)]
    full += [cap.name for cap in case.overages if cap.uses and case.used(cap, units) >= cap.allowance * (1 - HAIR)]
    full += [share.name for share in case.shares if _is_tight(case, share, units)]
    for lever in case.own:
        if lever.picks:
            continue
        grant = units[lever.name]
        ends = (
            ("max_units", grant >= lever.top * (1 - HAIR)),
            ("min_units", 0 < grant <= lever.minimum * (1 + HAIR)),
            ("floor_units", 0 < grant <= lever.floor * (1 + HAIR)),
        )
        full += [f"{end}:{lever.name}" for end, reached in ends if reached]
    return tuple(full)


def _is_tight(case: Case, share: Share, units: Grants) -> bool:
    gross = case.gross(units)
    part = math.fsum(usd for name, usd in gross.items() if case.lever(name).protocol == share.protocol)
    total = math.fsum(gross.values()) + share.total_usd_per_hour
    return total > 0 and part + share.protocol_usd_per_hour >= share.most * total * (1 - HAIR)


def host_reason(case: Case, decision: Decision, relaxed: str) -> str:
    """Return why a host applies or holds; ``relaxed`` says which rows could not be kept."""
    if not case.own:
        return "there is no node to decide"
    parts = [relaxed] if relaxed else []
    if decision.applies:
        parts.append(_applied(case, decision))
    elif decision.status == "failed":
        parts.append(f"the solver gave no usable plan ({decision.found.message}); the present grants stay")
    elif decision.found.units is None:
        parts.append(f"no plan keeps every row{_in_brackets(decision.found.message)}; the present grants stay")
    else:
        parts.append(_held(case, decision))
    if not decision.applies:
        parts += _exceeded(case)
    if all(lever.is_worthless for lever in case.own):
        parts.append("no price is above 0, so nothing beyond the minimums is worth granting")
    return "; ".join(parts)


def _exceeded(case: Case) -> Iterator[str]:
    """Limits that the grants in force do not keep."""
    for limit in case.broken_limits(case.hold):
        yield f"the present grants take {case.used(limit, case.hold):.6g} of {limit.capacity:.6g} {limit.resource}"
    for share in case.broken_shares(case.hold):
        yield f"{share.protocol} now earns more than {100 * share.most:.4g} % of all income"


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _applied(case: Case, decision: Decision) -> str:
    gain = case.gain(decision.units)
    base = abs(gain.current_usd_per_hour)
    share = f", {100 * gain.net_usd_per_hour / base:+.3g} %" if base else ""
    ends = ("max_units:", "min_units:", "floor_units:")
    limits = _and(name for name in binding_rows(case, decision.units) if not name.startswith(ends))
    return (
        f"{len(gain.moved)} of {len(case.own)} nodes change: {money(gain.net_usd_per_hour)} net{share}"
        f", restart loss {gain.restart_loss_usd:.4g} $ included" + (f"; limited by {limits}" if limits else "")
    )


def _held(case: Case, decision: Decision) -> str:
    rejected = decision.rejected
    if rejected is None:
        return "the present grants are the best"
    moves = ", ".join(_move(case.lever(name), rejected.units[name]) for name in rejected.gain.moved)
    worth = f"{money(rejected.gain.gross_usd_per_hour)} gross, restart loss {rejected.gain.restart_loss_usd:.4g} $"
    begin = "the present grants are the best" if decision.status == "optimal" else "held"
    return f"{begin}: the best other plan ({moves}: {worth}) is rejected because {_and(rejected.short_of)}"


def money(usd_per_hour: float) -> str:
    """Return a gain in both units that people use."""
    return f"{usd_per_hour:+.4g} $/h ({usd_per_hour * 24:+.4g} $/day)"


def _and(items: Iterator[str] | Sequence[str]) -> str:
    return " and ".join(items)


def _move(lever: Lever, units: float) -> str:
    return f"{lever.name} {_grant(lever, lever.base)} -> {_grant(lever, units)}{'' if lever.picks else ' units'}"


def _grant(lever: Lever, level: float) -> str:
    if not lever.picks:
        return f"{level:.6g}"
    name = lever.choice(level)
    return "no choice" if name is None else f"{name} ({lever.units(level):.6g} units)"


def _net(case: Case, units: Grants, lever: Lever) -> float:
    return case.nets(units)[lever.name]


def node_reason(case: Case, decision: Decision, lever: Lever, flip: float | None) -> str:
    """Return why a node gets what it gets: the move and its worth, or what keeps it; then the price that flips it."""
    grant = decision.units[lever.name]
    text = _changed(case, decision.units, lever) if grant != lever.base else _unchanged(case, decision, lever)
    if flip is None:
        return text
    edge = f"{flip:.4g} times its incomes" if lever.picks else f"{flip:.6g} $ per unit and hour"
    return f"{text}; decided otherwise beyond {edge}"


def _changed(case: Case, units: Grants, lever: Lever) -> str:
    grant = units[lever.name]
    gain = _net(case, units, lever) - _net(case, case.hold, lever)
    what = _move(lever, grant).removeprefix(f"{lever.name} ")
    text = f"{what}: {money(gain)}, restart loss {lever.charge_usd:.4g} $"
    bound = _and(_bounds(case, units, lever))
    if lever.picks or grant > lever.base:
        return text + (f"; limited by {bound}" if bound else "")
    if gain > 0:
        return f"{text}; the units given up do not earn their running cost"
    return f"{text}; makes room for nodes that earn more" + (f" with {bound}" if bound else "")


def _bounds(case: Case, units: Grants, lever: Lever) -> Iterator[str]:
    """Binding rows that a lever takes part in."""
    uses = {row.name: row.uses for row in (*case.limits, *case.overages)}
    uses |= {share.name: {one.name: 1.0 for one in case.levers if one.protocol} for share in case.shares}
    for name in binding_rows(case, units):
        about_it = lever.name in uses[name] if name in uses else name.split(":", 1)[1] == lever.name
        if about_it:
            yield name


def _unchanged(case: Case, decision: Decision, lever: Lever) -> str:
    text = (
        "nothing is granted"
        if lever.previous is None
        else f"stays at {_grant(lever, lever.base)}{'' if lever.picks else ' units'}"
    )
    if lever.lock:
        return f"{text}: it {LOCKS[lever.lock]}"
    if decision.found.units is None:
        return f"{text}: no plan could be made for the host"
    rejected = decision.rejected
    if rejected and rejected.units[lever.name] != lever.base:
        return f"{text}: {_grant(lever, rejected.units[lever.name])} would be next best, but {_and(rejected.short_of)}"
    bound = _and(_bounds(case, decision.units, lever))
    net = _net(case, case.hold, lever)
    if net < 0:
        return f"{text}: it costs {-net:.4g} $/h, and no allowed change earns more" + (
            f"; held there by {bound}" if bound else ""
        )
    return f"{text}: no allowed change earns more" + (f"; limited by {bound}" if bound else "")


def relaxed_reason(short: Sequence[Short], repair: str) -> str:
    """Return which rows clash and the smallest single change that would help, empty where none does."""
    if not short:
        return ""
    rows = ", ".join(f"{each.row} asks for {each.asked:.6g}, possible is {each.possible:.6g}" for each in short)
    return f"not every row can be kept: {rows} (to repair: {repair})"


def advice(case: Case, thresholds: Thresholds, decision: Decision) -> Iterator[Advice]:
    """What a person may want to know: grants that need trust, limits that are exceeded, thresholds nobody can reach."""
    for lever in case.own:
        if lever.lock == "evidence" and decision.trusted and decision.trusted[lever.name] != lever.base:
            level = decision.trusted[lever.name]
            text = f"if the price of {lever.name} were measured, {_move(lever, level)} would be best"
            yield Advice("evidence", lever.name, lever.units(level), text)
    if not decision.applies:
        for text in _exceeded(case):
            yield Advice("over_limit", None, None, text)
    income = case.gain(case.hold).current_usd_per_hour
    wanted = thresholds.min_net_benefit_usd_per_hour
    if case.own and wanted > max(income, 0.0) and wanted > 0:
        text = f"min_net_benefit_usd_per_hour {wanted:g} exceeds what the whole host earns now ({income:.4g} $/h)"
        yield Advice("threshold", None, None, text)


def risk_advice(problem: Problem, host: Host) -> Iterator[Advice]:
    """What was weighed where there are no scenarios."""
    if not problem.risk or not problem.risk.weight or any(node.scenarios for node in host.nodes):
        return
    known = [node.node for node in host.nodes if {"0.1", "0.5"} <= (node.usd_per_unit_hour_quantiles or {}).keys()]
    if known:
        text = f"no scenarios: as far as they do not run yet, {_and(known)} are judged by a cautious price"
    else:
        text = "there are neither scenarios nor quantiles, so there is no risk to weigh"
    if host.nodes:
        yield Advice("risk", None, None, text)


def plan_reason(hosts: Sequence[HostPlan]) -> str:
    """Return the reason of the whole plan: that of the only host, else how many hosts change and what it is worth."""
    if len(hosts) == 1:
        return hosts[0].reason
    applied = [host for host in hosts if host.decision == "apply"]
    if not applied:
        return "no host has a plan worth applying" if hosts else "there is no host to decide"
    total = sum(host.value.net_benefit_usd_per_hour for host in applied)
    return f"{len(applied)} of {len(hosts)} hosts change: {money(total)} net"
