"""Model ``lp``: one period per hour, linear costs of change, many hosts in one programme, then the exact gate.

Made for fleets. ``default`` charges every restart in full and loses less to them; it is the one for a single host.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .case import HAIR
from .fleet import Array, Fleet, fleet_of, np
from .lp_gate import Judged, gains, judge
from .lp_links import Link, kept, links_of
from .lp_rows import Program, program_of
from .problem import Host, Problem

if TYPE_CHECKING:
    from .highs import Solver

_optimize: Any = import_module("scipy.optimize")

HOST_HOURS = 100
"""Hosts times periods of one programme: larger ones take longer per host, smaller ones are more calls."""
MOST_HOSTS = 50
TOGETHER = 2000
"""Hosts times periods up to which rows that join hosts are rows of one programme; above, they have prices."""
ROUNDS = 12
GAP = 1e-3
"""How near to the bound what joined hosts earn must come for the prices to be good enough."""
EXACT = 1e-10
"""Tolerance of reduced costs beside the largest cost of the host: the smallest that the solver takes."""


@dataclass(frozen=True, slots=True)
class Optimum:
    """What the programme says: grants by node and period, and of each limit what one more of it would earn.

    ``prices`` in USD per unit of the resource and hour, ``links`` the same for rows that join hosts, one per period or
    one. ``usd_per_hour`` is the objective, after what is ``dear``.
    """

    units: Array
    usd_per_hour: float
    prices: Array
    links: list[Array]


@dataclass(frozen=True, slots=True)
class Batch:
    """Hosts decided together; ``trusted`` are the grants without dwell, evidence and ``ignore_change_pct``, by node.

    ``links``: the rows that join them, with the price of one more of each, USD per unit and hour.
    """

    fleet: Fleet
    optimum: Optimum
    judged: Judged
    trusted: Array | None
    links: tuple[tuple[Link, float], ...] = ()


def separate(problem: Problem, hosts: Sequence[Host], solver: Solver) -> Iterator[Batch]:
    """Decide hosts that no row joins, some at a time; those for which no plan keeps every row are left out."""
    for some in _in_turn(problem, hosts):
        yield from _decided(problem, some, solver)


def _in_turn(problem: Problem, hosts: Sequence[Host]) -> Iterator[Sequence[Host]]:
    hourly = any(isinstance(node.usd_per_unit_hour, tuple) for host in hosts for node in host.nodes)
    size = max(1, min(MOST_HOSTS, HOST_HOURS // (problem.horizon_h if hourly else 1)))
    return (hosts[begin : begin + size] for begin in range(0, len(hosts), size))


def _decided(problem: Problem, hosts: Sequence[Host], solver: Solver) -> Iterator[Batch]:
    fleet = fleet_of(problem, hosts)
    unable = fleet.unable()
    if unable.any():
        hosts = [host for host, bad in zip(hosts, unable, strict=True) if not bad]
        fleet = fleet_of(problem, hosts)
    best = optimum(fleet, solver) if fleet.nodes else None
    if best is not None:
        judged = judge(fleet, best.units[:, 0], problem.thresholds)
        yield Batch(fleet, best, judged, _trusted(problem, fleet, solver))
    elif len(hosts) > 1:
        for host in hosts:
            yield from _decided(problem, [host], solver)


def joined(problem: Problem, hosts: Sequence[Host], solver: Solver) -> Iterator[Batch]:
    """Decide hosts that rows join. Where these cannot be kept, or a host cannot, all of them are left out."""
    fleet = fleet_of(problem, hosts)
    links = links_of(problem, fleet)
    least = np.where(fleet.locked, fleet.base, fleet.lowest)
    if fleet.unable().any() or any(link.used(least) > link.limit * (1 + HAIR) for link in links):
        return
    few = len(hosts) * fleet.periods <= TOGETHER
    best = optimum(fleet, solver, links=links) if few else _priced(problem, fleet, links, solver)
    if best is None:
        return
    prices = [float(each.sum()) for each in best.links]
    dear = sum((price * link.weight for price, link in zip(prices, links, strict=True)), np.zeros(len(fleet.nodes)))
    # Who gives way to whom, and who just takes what is left: which of the two serves better depends on the restarts.
    tries = [judge(fleet, best.units[:, 0], problem.thresholds, each) for each in (dear, 0.0)]
    tries = [kept(fleet, each, links, problem.thresholds) for each in tries]
    judged = max(tries, key=lambda each: gains(fleet, each.plan).net[each.applies].sum())
    if judged.lost.any():
        return
    trusted = _trusted(problem, fleet, solver) if few else None
    yield Batch(fleet, best, judged, trusted, tuple(zip(links, prices, strict=True)))


def _trusted(problem: Problem, fleet: Fleet, solver: Solver) -> Array | None:
    """Return the best grants if everything but frozen nodes might move; None where that changes nothing."""
    thresholds = problem.thresholds
    if not (thresholds.ignore_change_pct or thresholds.max_moves is not None or {"dwell", "evidence"} & {*fleet.locks}):
        return None
    free = fleet_of(problem, fleet.hosts, unbound=True)
    links = links_of(problem, free)
    best = optimum(free, solver, links=links)
    if best is None:
        return fleet.base
    thresholds = replace(thresholds, max_moves=None)
    return kept(free, judge(free, best.units[:, 0], thresholds), links, thresholds).plan


def optimum(fleet: Fleet, solver: Solver, dear: Array | None = None, links: Sequence[Link] = ()) -> Optimum | None:
    """Return the best grants of each hour, None where the solver gives none; every host must have some plan.

    ``dear``: what one unit of each node costs on top in each period, USD per hour. ``links``: rows that join the hosts.
    """
    begun = time.perf_counter()
    program = program_of(fleet, dear, links)
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
    joined = [
        np.maximum(0.0, -found.ineqlin.marginals[rows]) * program.scale[0] / link.scale
        for rows, link in zip(program.links, links, strict=True)
    ]
    return Optimum(units, float(program.gain @ found.x), _prices(fleet, program, found), joined)


def _priced(problem: Problem, fleet: Fleet, links: Sequence[Link], solver: Solver) -> Optimum | None:
    """Return the best grants where what takes of a link pays for it, at prices just too low for all links to be kept.

    Any prices give an upper bound of what can be earned. How far the best grants found that keep all rows stay below
    the lowest bound is the gap that is reported. What is too much is cut later.
    """
    low = [np.zeros(fleet.periods if link.hourly else 1) for link in links]
    high = [np.full(len(each), _dearest(fleet, link) / len(each)) for each, link in zip(low, links, strict=True)]
    prices, bound, earned = low, np.inf, -np.inf
    for _ in range(ROUNDS):
        best = _at_prices(problem, fleet, links, prices, solver)
        if best is None:
            return None
        used = [_used(link, best.units) for link in links]
        over = [each > link.limit * (1 + HAIR) for each, link in zip(used, links, strict=True)]
        pairs = zip(prices, used, links, strict=True)
        bound = min(bound, best.usd_per_hour + sum(float(price.sum()) * link.limit for price, _, link in pairs))
        if not any(each.any() for each in over):
            paid = sum(float(price @ each) for price, each in zip(prices, used, strict=True))
            earned = max(earned, best.usd_per_hour + paid)
            if bound - earned <= GAP * abs(bound):
                break
        low = [np.where(each, price, base) for each, price, base in zip(over, prices, low, strict=True)]
        high = [np.where(each, top, price) for each, price, top in zip(over, prices, high, strict=True)]
        prices = [np.where(base > 0, np.sqrt(base * top), top / 10) for base, top in zip(low, high, strict=True)]
    else:
        best = _at_prices(problem, fleet, links, low, solver)
    gap = (bound - earned) / abs(bound) if np.isfinite(earned) and bound else 1.0
    solver.effort.gap = max(solver.effort.gap, float(gap))
    return best


def _dearest(fleet: Fleet, link: Link) -> float:
    """Price of a link at which no node takes more of it than it must."""
    users = link.weight > 0
    best = (fleet.prices[users] - fleet.running[users]).max(initial=0.0)
    return max(best * fleet.periods / link.weight[users].min(), 1e-300)


def _used(link: Link, units: Array) -> Array:
    """What is taken of a link in every period, or over all of them."""
    used = link.weight @ units
    return used if link.hourly else used.mean(keepdims=True)


def _at_prices(
    problem: Problem, fleet: Fleet, links: Sequence[Link], prices: list[Array], solver: Solver
) -> Optimum | None:
    """Return the best grants of all hosts, each by itself, where links have prices."""
    dear = np.zeros(fleet.prices.shape)
    for link, price in zip(links, prices, strict=True):
        dear += link.weight[:, None] * (price * fleet.periods if link.hourly else price)
    found: list[Optimum] = []
    begin = 0
    for hosts in _in_turn(problem, fleet.hosts):
        some = fleet_of(problem, hosts)
        best = optimum(replace(some, periods=fleet.periods), solver, dear[begin : begin + len(some.nodes)])
        if best is None:
            return None
        found.append(best)
        begin += len(some.nodes)
    return Optimum(
        units=np.concatenate([each.units for each in found]),
        usd_per_hour=sum(each.usd_per_hour for each in found),
        prices=np.concatenate([each.prices for each in found]),
        links=prices,
    )


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
