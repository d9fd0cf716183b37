"""Model ``lp``: one period per hour, linear costs of change, many hosts in one programme, then the exact gate.

Made for fleets. ``default`` charges every restart in full and loses less to them; it is the one for a single host.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .fleet import Array, Fleet, fleet_of, np
from .lp_gate import Verdict, judge
from .lp_rows import Program, program_of
from .problem import Host, Problem

if TYPE_CHECKING:
    from .highs import Solver

_optimize: Any = import_module("scipy.optimize")

HOST_HOURS = 100
"""Hosts times periods of one programme: larger ones take longer per host, smaller ones are more calls."""
MOST_HOSTS = 50
EXACT = 1e-10
"""Tolerance of reduced costs beside the largest cost of the host: the smallest that the solver takes."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """What the programme says: grants by node and period, and of each limit what one more of it would earn.

    ``prices`` in USD per unit of the resource and hour.
    """

    units: Array
    usd_per_hour: float
    prices: Array


@dataclass(frozen=True, slots=True)
class Batch:
    """Hosts decided together; ``trusted`` are the grants without dwell, evidence and ``ignore_change_pct``, by node."""

    fleet: Fleet
    optimum: Optimum
    verdict: Verdict
    trusted: Array | None


def batches(problem: Problem, solver: Solver) -> Iterator[Batch]:
    """Decide all hosts, some at a time, in their order; those for which no plan keeps every row are left out."""
    hourly = any(isinstance(node.usd_per_unit_hour, tuple) for host in problem.hosts for node in host.nodes)
    size = max(1, min(MOST_HOSTS, HOST_HOURS // (problem.horizon_h if hourly else 1)))
    for begin in range(0, len(problem.hosts), size):
        yield from _decided(problem, problem.hosts[begin : begin + size], solver)


def _decided(problem: Problem, hosts: Sequence[Host], solver: Solver) -> Iterator[Batch]:
    fleet = fleet_of(problem, hosts)
    unable = fleet.unable()
    if unable.any():
        hosts = [host for host, bad in zip(hosts, unable, strict=True) if not bad]
        fleet = fleet_of(problem, hosts)
    best = optimum(fleet, solver) if fleet.nodes else None
    if best is not None:
        verdict = judge(fleet, best.units[:, 0], problem.thresholds)
        yield Batch(fleet, best, verdict, _trusted(problem, fleet, solver))
    elif len(hosts) > 1:
        for host in hosts:
            yield from _decided(problem, [host], solver)


def _trusted(problem: Problem, fleet: Fleet, solver: Solver) -> Array | None:
    """Return the best grants if everything but frozen nodes might move; None where that changes nothing."""
    thresholds = problem.thresholds
    if not (thresholds.ignore_change_pct or thresholds.max_moves is not None or {"dwell", "evidence"} & {*fleet.locks}):
        return None
    free = fleet_of(problem, fleet.hosts, unbound=True)
    best = optimum(free, solver)
    return judge(free, best.units[:, 0], replace(thresholds, max_moves=None)).plan if best else fleet.base


def optimum(fleet: Fleet, solver: Solver, dear: Array | None = None) -> Optimum | None:
    """Return the best grants of each hour, None where the solver gives none; every host must have some plan.

    ``dear``: what one unit of each node costs on top in each period, USD per hour.
    """
    begun = time.perf_counter()
    program = program_of(fleet, dear)
    built = time.perf_counter()
    found = _optimize.linprog(
        program.cost,
        A_ub=program.a_ub,
        b_ub=program.b_ub,
        A_eq=program.a_eq,
        b_eq=program.b_eq,
        bounds=program.bounds,
        method="highs",
        # Presolving programmes that fall apart host by host takes longer than it saves.
        options={"presolve": False, "dual_feasibility_tolerance": EXACT, "time_limit": _limit_s(fleet, solver)},
    )
    _count(solver, program, built - begun, time.perf_counter() - built)
    if found.status != 0:
        return None
    units = found.x[program.units] * program.span[:, None]
    return Optimum(units, 0.0, _prices(fleet, program, found))


def _limit_s(fleet: Fleet, solver: Solver) -> float:
    return solver.time_limit_s * len(fleet.hosts)


def _prices(fleet: Fleet, program: Program, found: Any) -> Array:
    """Prices of limits: those of all periods together, out of the scales of objective and rows."""
    if program.b_ub is None:
        return np.zeros(0)
    marginals = -found.ineqlin.marginals[program.limits].sum(axis=1)
    return np.maximum(0.0, marginals) * program.scale[fleet.limit_host] / program.limit_scale


def _count(solver: Solver, program: Program, build_s: float, solve_s: float) -> None:
    effort, matrices = solver.effort, [each for each in (program.a_ub, program.a_eq) if each is not None]
    effort.solves += 1
    effort.rows = max(effort.rows, sum(each.shape[0] for each in matrices))
    effort.cols = max(effort.cols, len(program.cost))
    effort.nnz = max(effort.nnz, sum(int(each.nnz) for each in matrices))
    effort.build_ms += build_s * 1e3
    effort.solve_ms += solve_s * 1e3
