"""What else could be had: plans along a trade-off, and what more of a resource would bring.

Both look for the best grants as such: no threshold, no dwell and, for a purchase, no restart charge holds them back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from .case import HAIR, NOISE, Case, Grants, Lever
from .linked import case_of, clusters
from .nouns import RESOURCES, Host, Node, Thresholds
from .problem import Problem
from .search import best_grants
from .settle import Mutable, tidy

if TYPE_CHECKING:
    from .highs import Solver

Axis = Literal["watts", "moves", "share"]

NOTHING_TO_TRADE = "fewer than two nodes have a known, non-zero marginal income: there is nothing to trade off"
HOURS_PER_DAY = 24
DAYS_PER_MONTH = 365.25 / 12
TIME_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """The best grants within one limit: so many watts, moves per host, or so large a part of all income (0 to 1).

    ``used`` is what they take of it. Values are net of running cost; the net benefit, against the grants in force and
    after restart charges, is negative where the limit asks for less than is in force. ``units`` and ``choices`` are by
    host and node; ``choices`` of nodes that have them.
    """

    limit: float
    used: float
    value_usd_per_hour: float
    net_benefit_usd_per_hour: float
    moves: int
    units: dict[str, dict[str, float]]
    choices: dict[str, dict[str, str]]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What more of one resource on one host would bring; ``amount`` is in the unit of the resource.

    Gains are of the best grants with it against the best without it, over all nodes whose income is known. ``nodes``
    are the units that each node of the host gets more, or less, where it is any. ``disk``: the mount that got it,
    where the host names its disks. ``payback_days`` None: no cost was given, or it never pays back.
    """

    host: str
    resource: str
    amount: float
    gain_usd_per_hour: float
    gain_usd_per_day: float
    gain_usd_per_month: float
    nodes: dict[str, float]
    disk: str | None
    cost_usd: float | None
    payback_days: float | None


def front(problem: Problem, axis: Axis, points: int = 7) -> list[FrontPoint]:
    """Return the best grants within ever tighter limits on one axis, the loosest first; at most ``points`` of them.

    A limit that cannot be kept, because of minimums or of nodes that may not move, ends the list. Empty where fewer
    than two nodes have a known, non-zero marginal income (``NOTHING_TO_TRADE`` says so in words). Raises
    ``ValueError`` for fewer than two points.
    """
    from .highs import Solver

    if points < 2:
        raise ValueError("a front has at least two points")
    if sum(_has_margin(lever) for case in _cases(problem) for lever in case.levers) < 2:
        return []
    solver = Solver(TIME_LIMIT_S)
    free = replace(problem, thresholds=replace(problem.thresholds, max_moves=None), max_restarts_at_once=None)
    free = replace(free, max_watts=None) if axis == "watts" else free
    free = replace(free, max_income_share=None) if axis == "share" else free
    loosest = _point(free, axis, math.inf, solver)
    if loosest is None:
        return []
    found = [replace(loosest, limit=loosest.used)]
    for limit in _limits(problem, axis, loosest.used, points):
        point = _point(_within(free, axis, limit), axis, limit, solver)
        if point is None:
            break
        found.append(point)
    return found


def what_if(problem: Problem, host: str, resource: str, amount: float, cost_usd: float | None = None) -> WhatIf:
    """Return what ``amount`` more of a resource would bring on a host: everything is solved once more with it.

    A ``max_units`` that was just what the host could give grows with it. On a host that names its disks, storage goes
    to the mount where it earns most. Raises ``ValueError`` for an unknown host or resource, and for an amount that is
    not above 0.
    """
    from .highs import Solver

    owner = next((each for each in problem.hosts if each.host == host), None)
    if owner is None:
        raise ValueError(f"{host} is not among the hosts")
    if resource not in RESOURCES:
        raise ValueError(f"{resource} is not one of {', '.join(RESOURCES)}")
    if not 0 < amount < math.inf:
        raise ValueError(f"the amount must be above 0, not {amount:g}")
    solver = Solver(TIME_LIMIT_S)
    before, value = _best(problem, host, solver)
    best: tuple[float, Mutable, str | None] = (0.0, before, None)
    for disk in list(owner.disks) if resource == "storage_bytes" and owner.disks else [None]:
        larger = _with_more(problem, owner, resource, amount, disk)
        after, with_it = _best(larger, host, solver)
        if best[2] is None or with_it - value > best[0]:
            best = with_it - value, after, disk
    gain, after, disk = best
    gain = gain if gain > NOISE * (abs(value) + abs(gain)) else 0.0
    changes = {name: tidy(units - before[name]) for name, units in after.items() if gain and units != before[name]}
    return WhatIf(
        host=host,
        resource=resource,
        amount=amount,
        gain_usd_per_hour=gain,
        gain_usd_per_day=gain * HOURS_PER_DAY,
        gain_usd_per_month=gain * HOURS_PER_DAY * DAYS_PER_MONTH,
        nodes=changes,
        disk=disk,
        cost_usd=cost_usd,
        payback_days=cost_usd / (gain * HOURS_PER_DAY) if cost_usd is not None and gain else None,
    )


def _cases(problem: Problem) -> Iterator[Case]:
    return (case_of(problem, *hosts) for hosts in clusters(problem))


def _has_margin(lever: Lever) -> bool:
    """Whether another grant would earn something else, as far as is known, and may be made at some time."""
    if lever.lock in {"frozen", "evidence"}:
        return False
    if lever.picks:
        return len({pick.income for pick in lever.picks}) > 1
    return lever.price != 0 and lever.earns(lever.top) != 0


def _limits(problem: Problem, axis: Axis, loosest: float, points: int) -> list[float]:
    """Limits below the loosest, evenly spaced."""
    if axis == "moves":
        count = min(points - 1, round(loosest))
        return list(dict.fromkeys(round(loosest * (1 - step / count)) for step in range(1, count + 1)))
    least = 0.0
    if axis == "share":
        levers = [lever for case in _cases(problem) for lever in case.levers if _has_margin(lever)]
        least = 1 / max(1, len({lever.protocol for lever in levers}))
    steps = points - 1
    below = [loosest - (loosest - least) * step / steps for step in range(1, points)]
    return [limit for limit in below if limit < loosest and (limit > 0 or axis == "watts")]


def _within(problem: Problem, axis: Axis, limit: float) -> Problem:
    if axis == "moves":
        return replace(problem, thresholds=replace(problem.thresholds, max_moves=int(limit)))
    if axis == "watts":
        return replace(problem, max_watts=limit)
    return replace(problem, max_income_share=limit)


def _point(problem: Problem, axis: Axis, limit: float, solver: Solver) -> FrontPoint | None:
    """Return the best grants of a problem; None where not every row can be kept."""
    solved: list[tuple[Case, Mutable]] = []
    for case in _cases(problem):
        found = best_grants(case, solver)
        if found.units is None or found.short:
            return None
        solved.append((case, found.units))
    gains = [case.gain(grants) for case, grants in solved]
    levels = [(lever, grants[lever.name]) for case, grants in solved for lever in case.levers]
    units: dict[str, dict[str, float]] = {host.host: {} for host in problem.hosts}
    choices: dict[str, dict[str, str]] = {host.host: {} for host in problem.hosts}
    for lever, level in levels:
        units[lever.host][lever.node] = lever.units(level)
        choice = lever.choice(level)
        if choice is not None:
            choices[lever.host][lever.node] = choice
    return FrontPoint(
        limit=limit,
        used=_used(problem, axis, solved, units),
        value_usd_per_hour=math.fsum(gain.new_usd_per_hour for gain in gains),
        net_benefit_usd_per_hour=math.fsum(gain.net_usd_per_hour for gain in gains),
        moves=sum(len(gain.moved) for gain in gains),
        units=units,
        choices=choices,
    )


def _used(
    problem: Problem, axis: Axis, solved: list[tuple[Case, Mutable]], units: dict[str, dict[str, float]]
) -> float:
    if axis == "watts":
        watts = ((node.watts_per_unit or 0.0) * units[host.host][node.node] for host, node in _nodes(problem))
        return math.fsum(watts)
    if axis == "moves":
        moved = [lever.host for case, grants in solved for lever in case.levers if grants[lever.name] != lever.base]
        return float(max(map(moved.count, moved), default=0))
    earned: dict[str, float] = {}
    for case, grants in solved:
        for name, usd in case.gross(grants).items():
            protocol = case.lever(name).protocol
            earned[protocol] = earned.get(protocol, 0.0) + usd
    total = math.fsum(earned.values())
    return max((usd for protocol, usd in earned.items() if protocol), default=0.0) / total if total > 0 else 0.0


def _nodes(problem: Problem) -> Iterator[tuple[Host, Node]]:
    return ((host, node) for host in problem.hosts for node in host.nodes)


def _best(problem: Problem, host: str, solver: Solver) -> tuple[Mutable, float]:
    """Units of the nodes of a host in the best grants of all that is linked with it, and what all of them earn."""
    hosts = next(hosts for hosts in clusters(problem) if any(one.host == host for one in hosts))
    unhurried = replace(problem, thresholds=Thresholds())
    case = case_of(unhurried, *hosts).without_charges()
    levers = tuple(replace(lever, lock=None) if lever.lock == "dwell" else lever for lever in case.levers)
    case = replace(case, levers=levers)
    grants: Grants = best_grants(case, solver).units or case.hold
    units = {lever.node: lever.units(grants[lever.name]) for lever in case.levers if lever.host == host}
    return units, case.worth(grants)


def _with_more(problem: Problem, owner: Host, resource: str, amount: float, disk: str | None) -> Problem:
    """Return the problem with more of a resource; a maximum that was all the host could give grows with it."""
    had = owner.capacity.get(resource, 0.0)
    disks = owner.disks if disk is None else owner.disks | {disk: owner.disks[disk] + amount}

    def grown(node: Node) -> Node:
        per_unit = node.uses_per_unit.get(resource, 0.0)
        room = min(had, owner.disks[node.disk]) if resource == "storage_bytes" and node.disk else had
        bound = per_unit > 0 and abs(node.max_units * per_unit - room) <= HAIR * room
        gets = disk is None or node.disk == disk
        return (
            replace(node, max_units=node.max_units + amount / per_unit) if bound and gets and not node.choices else node
        )

    larger = replace(
        owner,
        capacity=owner.capacity | {resource: had + amount},
        disks=disks,
        nodes=tuple(grown(node) for node in owner.nodes),
    )
    return replace(problem, hosts=tuple(larger if host is owner else host for host in problem.hosts))
