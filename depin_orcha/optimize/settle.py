"""From column values to grants that can be made: snapped, whole, exact, and checked without the solver."""

from __future__ import annotations

import math
from collections.abc import Iterable

from .case import HAIR, NOISE, Case, Grants, Lever

Mutable = dict[str, float]


def tidy(units: float) -> float:
    """Return the same number without the last digits that arithmetic leaves behind, and no -0."""
    return float(f"{units:.12g}") + 0.0


def snap(case: Case, units: Grants) -> Mutable:
    """Return grants without the solver's rounding: moves too small to be moves are undone, lots and 0 are exact."""
    exact: Mutable = {}
    for lever in case.levers:
        value, hair = units[lever.name], HAIR * case.span(lever)
        if lever.lot and abs(value / lever.lot - round(value / lever.lot)) <= 1e3 * HAIR:
            value = tidy(round(value / lever.lot) * lever.lot)
        if abs(units[lever.name] - lever.base) <= hair:
            value = lever.base
        exact[lever.name] = value if value > hair or value == lever.base else 0.0
    return exact


def polish(case: Case, units: Grants) -> Mutable:
    """Return grants that are exact to the last digit and no worse: each lever in turn takes its best grant.

    The solver works to relative tolerances; an income of 1e-9 USD beside one of 1e6 lies below them, not below these.
    """
    exact = dict(units)
    order = sorted(case.levers, key=lambda lever: (exact[lever.name] == lever.base, lever.name))
    for _ in range(3):
        before = dict(exact)
        for lever in order:
            if lever.lock is None:
                exact[lever.name] = _best_grant(case, lever, exact)
        if exact == before:
            break
    return {lever.name: _tidy_move(lever, exact[lever.name]) for lever in case.levers}


def _tidy_move(lever: Lever, units: float) -> float:
    return units if units == lever.base else tidy(units)


def room(case: Case, lever: Lever, units: Grants) -> float:
    """Units that the limits leave for a lever beside the grants of the others; may be negative."""
    rooms = [lever.top]
    for limit in case.limits:
        per_unit = limit.uses.get(lever.name)
        if per_unit:
            others = limit.used(units) - per_unit * units[lever.name]
            rooms.append((limit.capacity - others) / per_unit)
    return min(rooms)


def _best_grant(case: Case, lever: Lever, units: Grants) -> float:
    """Best grant of one lever while the others stay; the grant in force wins a tie, then the present value."""
    now, space = units[lever.name], room(case, lever, units)
    moves = sum(units[other.name] != other.base for other in case.levers)
    if now == lever.base and case.max_moves is not None and moves >= case.max_moves:
        return now
    slack = NOISE * case.span(lever)
    fits = [value for value in _candidates(case, lever, space) if value <= space + slack and lever.allows(value)]

    def worth(value: float) -> float:
        return lever.net(value) - (lever.charge_usd / case.horizon_h if value != lever.base else 0.0)

    best = now if now <= space + (slack if now == lever.base else NOISE * slack) else None
    for value in fits:
        if best is None or worth(value) > worth(best) + NOISE * (abs(worth(value)) + abs(worth(best))):
            best = value
    if best is None:
        return now
    ties = best != lever.base and lever.base in fits and worth(lever.base) >= worth(best)
    return lever.base if ties else best


def _candidates(case: Case, lever: Lever, space: float) -> Iterable[float]:
    """Grants where the best one can lie: ends of the range, bends of the curve, smallest moves, the grant in force."""
    ends = [min(space, lever.top), lever.lowest, lever.minimum, 0.0, *lever.breakpoints()]
    ends += [lever.base - lever.band, lever.base + lever.band]
    if lever.lot:
        lots = [end / lever.lot for end in ends]
        ends = [whole * lever.lot for lot in lots for whole in (math.floor(lot + HAIR), math.ceil(lot - HAIR))]
    hair = HAIR * case.span(lever)
    moved = {tidy(end) for end in ends if end >= 0 and abs(end - lever.base) > hair}
    return [lever.base, *sorted(moved)]


def whole_lots(case: Case, units: Grants) -> Mutable:
    """Return grants rounded down to lots; the lots left over go by largest remainder, where they fit."""
    whole = {lever.name: _rounded_down(case, lever, units[lever.name]) for lever in case.levers}
    open_levers = [lever for lever in case.levers if lever.lot and lever.lock is None]
    for lever in sorted(open_levers, key=lambda lever: (whole[lever.name] - units[lever.name]) / lever.lot):
        more = tidy(whole[lever.name] + lever.lot)
        if more - units[lever.name] < lever.lot and more <= room(case, lever, whole) and lever.allows(more):
            whole[lever.name] = more
    return whole


def _rounded_down(case: Case, lever: Lever, units: float) -> float:
    if lever.lock or abs(units - lever.base) <= HAIR * case.span(lever):
        return lever.base
    if lever.lot:
        units = tidy(math.floor(units / lever.lot + HAIR) * lever.lot)
    if lever.on_off and units < lever.minimum:
        units = 0.0
    return units if lever.allows(units) else lever.base


def keeps_rules(case: Case, units: Grants) -> bool:
    """Whether grants keep every limit, every rule of their node and the number of moves, recomputed from scratch."""
    moves = sum(units[lever.name] != lever.base for lever in case.levers)
    few = case.max_moves is None or moves <= case.max_moves
    return few and not case.broken_limits(units) and all(lever.allows(units[lever.name]) for lever in case.levers)


def gate(case: Case, units: Grants) -> Mutable | None:
    """Return the best of: the grants, the grants with any single move dropped, the grants in force.

    Judged by the exact value, among those that keep the rules; None if none of them does.
    """
    moved = [lever for lever in case.levers if units[lever.name] != lever.base]
    tries = [case.hold, dict(units), *({**units, lever.name: lever.base} for lever in moved)]
    kept = [grants for grants in tries if keeps_rules(case, grants)]
    return max(kept, key=lambda grants: case.gain(grants).net_usd_per_hour) if kept else None
