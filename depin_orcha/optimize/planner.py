"""``solve``: every host of a problem decided, explained and priced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .case import HAIR, Case, Gain
from .decide import Rejected
from .flips import flip_price
from .plan import (
    STATUSES,
    CapCost,
    HostPlan,
    NodePlan,
    Plan,
    ReducedCost,
    Relaxed,
    RiskWorth,
    RunnerUp,
    ShadowPrice,
    Solving,
    Worth,
)
from .problem import Host, Problem
from .rows import build, fix_integers
from .search import Short, best_grants, smallest_repair
from .together import LARGEST_JOINT, Verdict, verdicts
from .words import advice, binding_rows, host_reason, node_reason, plan_reason, relaxed_reason, risk_advice

if TYPE_CHECKING:
    from .highs import Solver

UNITS = {"choice": "choices", "income_share": "usd_per_hour"}
"""What a row that could not be kept is counted in, where it is neither units of a node nor a resource."""

MOST_FLIPPED = 5
"""Hosts of model ``lp`` up to which flip prices are sought: each takes longer than deciding a hundred hosts."""


def solve(problem: Problem, *, time_limit_s: float = 2.0, explain: bool = True) -> Plan:
    """Return the plan of a problem; equal problems give equal plans but for ``solver.build_ms`` and ``solve_ms``.

    Each search for the grants of one host may take ``time_limit_s``; a search that runs out of it gives the best
    grants so far (status ``time_limit``), or those of the programme without 0/1 conditions (``fallback``).
    Without ``explain`` flip prices are null and shadow prices left out: a fraction of the time, the same decision.
    Model ``lp`` seeks flip prices for at most 5 hosts, and says why at length for at most 50; above, reasons are short.
    """
    from .highs import SCIPY_VERSION, Solver

    solver = Solver(time_limit_s)
    if problem.model == "lp":
        from .lp_plan import lp_plans

        plans, found = lp_plans(problem, solver, explain=explain)
    else:
        plans, found = {}, verdicts(problem, solver)
    plans |= {one.host.host: _host_plan(problem, one, solver, explain=explain) for one in found}
    hosts = tuple(plans[host.host] for host in problem.hosts)
    status = max((host.status for host in hosts), key=STATUSES.index, default="optimal")
    effort = solver.effort
    return Plan(
        status=status,
        decision="apply" if any(host.decision == "apply" for host in hosts) else "hold",
        reason=plan_reason(hosts),
        hosts=hosts,
        cap_costs=tuple(_cap_costs(found, solver)) if explain else (),
        solver=Solving(
            name="highs (scipy.optimize)",
            version=SCIPY_VERSION,
            status=status,
            gap=effort.gap,
            solves=effort.solves,
            rows=effort.rows,
            cols=effort.cols,
            nnz=effort.nnz,
            build_ms=round(effort.build_ms, 3),
            solve_ms=round(effort.solve_ms, 3),
        ),
        inputs_sha256=problem.sha256(),
    )


def _host_plan(problem: Problem, verdict: Verdict, solver: Solver, *, explain: bool) -> HostPlan:
    case, decision, thresholds = verdict.case, verdict.decision, problem.thresholds
    found = decision.found
    repair = smallest_repair(case, solver) if found.short else ""
    flipping = explain and (problem.model != "lp" or len(problem.hosts) <= MOST_FLIPPED)
    flips = {
        lever.name: flip_price(case, thresholds, decision, lever.name, solver) if flipping else None
        for lever in case.own
    }
    prices = verdict.prices
    return HostPlan(
        host=verdict.host.host,
        status=decision.status,
        decision="apply" if decision.applies else "hold",
        reason=host_reason(case, decision, relaxed_reason(found.short, repair)),
        value=_worth(verdict.gain),
        nodes=_node_plans(verdict, flips),
        shadow_prices=(tuple(_shadow_prices(verdict, solver)) if prices is None else prices) if explain else (),
        reduced_costs=tuple(_reduced_costs(verdict, flips)),
        risk=_risk_worth(verdict),
        binding=binding_rows(case, decision.units),
        relaxed=tuple(_relaxed(case, verdict.host, short, repair) for short in found.short),
        advice=(*advice(case, thresholds, decision), *risk_advice(problem, verdict.host)),
        runner_up=_runner_up(case, decision.rejected),
    )


def _worth(gain: Gain) -> Worth:
    return Worth(
        current_usd_per_hour=gain.current_usd_per_hour,
        new_usd_per_hour=gain.new_usd_per_hour,
        gross_gain_usd_per_hour=gain.gross_usd_per_hour,
        restart_loss_usd=gain.restart_loss_usd,
        net_benefit_usd_per_hour=gain.net_usd_per_hour,
    )


def _runner_up(case: Case, rejected: Rejected | None) -> RunnerUp | None:
    if rejected is None:
        return None
    units = {lever.name: lever.units(rejected.units[lever.name]) for lever in case.own}
    chosen = {lever.name: lever.choice(rejected.units[lever.name]) for lever in case.own}
    choices = {name: choice for name, choice in chosen.items() if choice is not None}
    return RunnerUp(_worth(case.gain(rejected.units)), units, choices, rejected.short_of)


def _node_plans(verdict: Verdict, flips: dict[str, float | None]) -> tuple[NodePlan, ...]:
    case, decision = verdict.case, verdict.decision
    plans: list[NodePlan] = []
    for node in verdict.host.nodes:
        lever, level = case.lever(node.node), decision.units[node.node]
        units = lever.units(level)
        plans.append(
            NodePlan(
                node=node.node,
                units=units,
                choice=lever.choice(level),
                previous_units=node.current_units,
                previous_choice=node.current_choice,
                resources={key: units * per_unit for key, per_unit in node.uses_per_unit.items()},
                changed=level != lever.base,
                reason=node_reason(case, decision, lever, flips[node.node]),
                evidence=node.evidence,
                flips_at_usd_per_unit_hour=None if lever.picks else flips[node.node],
            )
        )
    return tuple(plans)


def _shadow_prices(verdict: Verdict, solver: Solver) -> Iterator[ShadowPrice]:
    """Prices of the limits at the grants found: linear programmes with moves, lots and switches as they are there."""
    case, units = verdict.case, verdict.decision.found.units
    if units is None:
        return
    program = build(case.lowered_to(units), physical=False)
    fix_integers(program, units)
    for limit in case.limits:
        full = case.is_full(limit, units)
        price = solver.price(program, limit.name) if full else 0.0
        if price is not None:
            less = solver.price(program, limit.name, less=True) if full else 0.0
            yield ShadowPrice(limit.name, limit.resource, price, less)
    for cap in case.overages:
        over = bool(cap.uses) and case.used(cap, units) >= cap.allowance * (1 - HAIR)
        price = solver.price(program, cap.name) if over else 0.0
        if price is not None:
            less = solver.price(program, cap.name, less=True) if over else 0.0
            yield ShadowPrice(cap.name, "traffic_bytes", price, less)


def _reduced_costs(verdict: Verdict, flips: dict[str, float | None]) -> Iterator[ReducedCost]:
    """By how much a price must rise, of nodes that could have a grant and get none."""
    for lever in verdict.case.own:
        flip = flips[lever.name]
        idle = lever.units(verdict.decision.units[lever.name]) == 0
        if idle and not lever.picks and flip is not None and flip > lever.price:
            yield ReducedCost(lever.name, flip - lever.price)


def _risk_worth(verdict: Verdict) -> RiskWorth | None:
    joint, weighing = verdict.joint, verdict.joint.weighing
    if weighing is None:
        return None
    return RiskWorth(
        weight=weighing.weight,
        alpha=weighing.alpha,
        current_cvar_usd_per_hour=weighing.cvar(joint.incomes(joint.hold)),
        new_cvar_usd_per_hour=weighing.cvar(joint.incomes(verdict.grants)),
        net_benefit_usd_per_hour=joint.gain(verdict.grants).judged_net_usd_per_hour,
    )


def _cap_costs(found: Sequence[Verdict], solver: Solver) -> Iterator[CapCost]:
    """What the income share costs: each group of linked hosts is decided once more without it."""
    seen: list[Case] = []
    for verdict in found:
        joint = verdict.joint
        if not joint.shares or any(joint is each for each in seen) or len(joint.levers) > LARGEST_JOINT:
            continue
        seen.append(joint)
        kept = best_grants(joint, solver).units
        free = best_grants(replace(joint, shares=()), solver).units
        if kept is not None and free is not None:
            yield CapCost("max_income_share", max(0.0, joint.judged(free) - joint.judged(kept)))


def _relaxed(case: Case, host: Host, short: Short, repair: str) -> Relaxed:
    family, subject = short.row.split(":", 1)
    limit = next((limit for limit in case.limits if limit.name == short.row), None)
    return Relaxed(
        row=short.row,
        host=host.host,
        node=None if limit or family == "income_share" else subject,
        resource=limit.resource if limit else None,
        asked=short.asked,
        possible=short.possible,
        shortfall=abs(short.asked - short.possible),
        unit=limit.resource if limit else UNITS.get(family, "units"),
        repair=repair,
    )
