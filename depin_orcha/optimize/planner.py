"""``solve``: every host of a problem decided, explained and priced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .case import Case, Grants, case_of
from .decide import Decision, Rejected, decide
from .flips import flip_price
from .plan import STATUSES, HostPlan, NodePlan, Plan, Relaxed, RunnerUp, ShadowPrice, Solving, Worth
from .problem import Host, Problem
from .rows import build, fix_integers
from .search import Found, Short, smallest_repair
from .words import advice, binding_rows, host_reason, node_reason, plan_reason, relaxed_reason

if TYPE_CHECKING:
    from .highs import Solver


def solve(problem: Problem, *, time_limit_s: float = 2.0, explain: bool = True) -> Plan:
    """Return the plan of a problem; equal problems give equal plans but for ``solver.build_ms`` and ``solve_ms``.

    Each search for the grants of one host may take ``time_limit_s``; a search that runs out of it gives the best
    grants so far (status ``time_limit``), or those of the programme without 0/1 conditions (``fallback``).
    Without ``explain`` flip prices are null and shadow prices left out: a fraction of the time, the same decision.
    """
    from .highs import SCIPY_VERSION, Solver

    _refuse_unsolved(problem)
    solver = Solver(time_limit_s)
    hosts = tuple(_host_plan(problem, host, solver, explain=explain) for host in problem.hosts)
    status = max((host.status for host in hosts), key=STATUSES.index, default="optimal")
    effort = solver.effort
    return Plan(
        status=status,
        decision="apply" if any(host.decision == "apply" for host in hosts) else "hold",
        reason=plan_reason(hosts),
        hosts=hosts,
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


def _refuse_unsolved(problem: Problem) -> None:
    nodes = [node for host in problem.hosts for node in host.nodes]
    asked = {
        "model lp": problem.model == "lp",
        "choices": any(node.choices for node in nodes),
        "fill": any(node.fill for node in nodes),
        "risk": problem.risk,
        "max_income_share": problem.max_income_share is not None,
        "max_watts": problem.max_watts is not None,
        "max_restarts_at_once": problem.max_restarts_at_once is not None,
        "coupling": problem.coupling,
        "data_caps": problem.data_caps,
    }
    for name, wanted in asked.items():
        if wanted:
            raise ValueError(f"$: {name} is not supported by this version")


def _host_plan(problem: Problem, host: Host, solver: Solver, *, explain: bool) -> HostPlan:
    case, thresholds = case_of(problem, host), problem.thresholds
    decision = decide(case, thresholds, solver)
    found = decision.found
    repair = smallest_repair(case, solver) if found.short else ""
    flips = {
        lever.name: flip_price(case, thresholds, decision, lever.name, solver) if explain else None
        for lever in case.levers
    }
    return HostPlan(
        host=host.host,
        status=decision.status,
        decision="apply" if decision.applies else "hold",
        reason=host_reason(case, decision, relaxed_reason(found.short, repair)),
        value=_worth(case, decision.units),
        nodes=_node_plans(host, case, decision, flips),
        shadow_prices=_shadow_prices(case, found, solver) if explain else (),
        binding=binding_rows(case, decision.units),
        relaxed=tuple(_relaxed(case, host, short, repair) for short in found.short),
        advice=tuple(advice(case, thresholds, decision)),
        runner_up=_runner_up(case, decision.rejected),
    )


def _worth(case: Case, units: Grants) -> Worth:
    gain = case.gain(units)
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
    return RunnerUp(_worth(case, rejected.units), rejected.units, rejected.short_of)


def _node_plans(host: Host, case: Case, decision: Decision, flips: dict[str, float | None]) -> tuple[NodePlan, ...]:
    plans: list[NodePlan] = []
    for node in host.nodes:
        lever, units = case.lever(node.node), decision.units[node.node]
        plans.append(
            NodePlan(
                node=node.node,
                units=units,
                choice=None,
                previous_units=node.current_units,
                previous_choice=None,
                resources={key: units * per_unit for key, per_unit in node.uses_per_unit.items()},
                changed=units != lever.base,
                reason=node_reason(case, decision, lever, flips[node.node]),
                evidence=node.evidence,
                flips_at_usd_per_unit_hour=flips[node.node],
            )
        )
    return tuple(plans)


def _shadow_prices(case: Case, found: Found, solver: Solver) -> tuple[ShadowPrice, ...]:
    """Prices of the limits at the grants found: linear programmes with moves, lots and switches as they are there."""
    if found.units is None:
        return ()
    units = found.units
    program = build(case.lowered_to(units), physical=False)
    fix_integers(program, units)
    prices: list[ShadowPrice] = []
    for limit in case.limits:
        price = solver.price(program, limit.name) if limit.is_full(units) else 0.0
        if price is not None:
            prices.append(ShadowPrice(limit.name, limit.resource, price))
    return tuple(prices)


def _relaxed(case: Case, host: Host, short: Short, repair: str) -> Relaxed:
    _, subject = short.row.split(":", 1)
    limit = next((limit for limit in case.limits if limit.name == short.row), None)
    return Relaxed(
        row=short.row,
        host=host.host,
        node=None if limit else subject,
        resource=limit.resource if limit else None,
        asked=short.asked,
        possible=short.possible,
        shortfall=abs(short.asked - short.possible),
        unit=limit.resource if limit else "units",
        repair=repair,
    )
