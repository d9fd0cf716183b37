"""From column values to grants that can be made: snapped, whole, exact, and checked without the solver."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

from .case import HAIR, NOISE, Case, Grants, Lever

Mutable = dict[str, float]

TOGETHER = 300
"""Most combinations of grants that are tried one by one."""


def tidy(units: float) -> float:
    """Return the same number without the last digits that arithmetic leaves behind, and no -0."""
    return float(f"{units:.12g}") + 0.0


def snap(case: Case, grants: Grants) -> Mutable:
    """Return grants without the solver's rounding: moves too small to be moves are undone, lots and 0 are exact."""
    exact: Mutable = {}
    for lever in case.levers:
        value, hair = grants[lever.name], HAIR * case.span(lever)
        if lever.picks:
            exact[lever.name] = value
            continue
        if lever.lot and abs(value / lever.lot - round(value / lever.lot)) <= 1e3 * HAIR:
            value = tidy(round(value / lever.lot) * lever.lot)
        if abs(grants[lever.name] - lever.base) <= hair:
            value = lever.base
        exact[lever.name] = value if value > hair or value == lever.base else 0.0
    return exact


def polish(case: Case, grants: Grants) -> Mutable:
    """Return grants that are exact to the last digit and no worse: each lever in turn takes its best grant.

    The solver works to relative tolerances; an income of 1e-9 USD beside one of 1e6 lies below them, not below these.
    Levers that share an intake also take their best grants together, where there are few enough to try them all.
    """
    exact = dict(grants)
    order = sorted(case.levers, key=lambda lever: (exact[lever.name] == lever.base, lever.name))
    for _ in range(3):
        before = dict(exact)
        for lever in order:
            if lever.lock is None:
                exact[lever.name] = _best_grant(case, lever, exact)
        for group in case.groups:
            exact = _best_together(case, group, exact)
        if exact == before:
            break
    return {lever.name: _tidy_move(lever, exact[lever.name]) for lever in case.levers}


def _tidy_move(lever: Lever, level: float) -> float:
    return level if level == lever.base or lever.picks else tidy(level)


def room(case: Case, lever: Lever, grants: Grants) -> float:
    """Units that the limits leave for a lever beside the grants of the others; may be negative."""
    rooms = [lever.top]
    for limit in case.limits_of.get(lever.name, ()):
        per_unit = limit.uses[lever.name]
        others = case.used(limit, grants) - per_unit * lever.units(grants[lever.name])
        rooms.append((limit.capacity - others) / per_unit)
    return min(rooms)


def _best_grant(case: Case, lever: Lever, grants: Grants) -> float:
    """Best grant of one lever while the others stay; the grant in force wins a tie, then the present value."""
    now, space = grants[lever.name], room(case, lever, grants)
    moves = sum(grants[other.name] != other.base for other in case.levers if other.host == lever.host)
    if now == lever.base and case.max_moves is not None and moves >= case.max_moves:
        return now
    slack = NOISE * case.span(lever)

    def fits(level: float, hair: float) -> bool:
        return lever.units(level) <= space + hair and not case.broken_shares({**grants, lever.name: level})

    def worth(level: float) -> float:
        if case.is_plain:
            charge = lever.charge_usd / case.horizon_h if level != lever.base else 0.0
            return lever.weighed_price * lever.earns(level) - lever.running * lever.loads(level) - charge
        return case.judged({**grants, lever.name: level})

    tried = [level for level in _candidates(case, lever, space) if lever.allows(level) and fits(level, slack)]
    best = now if fits(now, slack if now == lever.base else NOISE * slack) else None
    for level in tried:
        if best is None or worth(level) > worth(best) + NOISE * (abs(worth(level)) + abs(worth(best))):
            best = level
    if best is None:
        return now
    ties = best != lever.base and lever.base in tried and worth(lever.base) >= worth(best)
    return lever.base if ties else best


def _best_together(case: Case, group: Sequence[Lever], grants: Grants) -> Mutable:
    """Best grants of levers that share an intake while all others stay; as they are where there are too many."""
    free = [lever for lever in group if lever.lock is None]
    tries = [[*_candidates(case, lever, room(case, lever, grants)), grants[lever.name]] for lever in free]
    if len(free) < 2 or math.prod(map(len, tries)) > TOGETHER:
        return dict(grants)
    best = dict(grants)
    names = [lever.name for lever in free]
    for levels in itertools.product(*tries):
        other = {**grants, **dict(zip(names, levels, strict=True))}
        better = case.judged(other) - case.judged(best)
        if better > NOISE * abs(case.judged(best)) and keeps_rules(case, other):
            best = other
    return best


def _candidates(case: Case, lever: Lever, space: float) -> list[float]:
    """Grants where the best one can lie: ends of the range, bends of the curve, smallest moves, the grant in force."""
    if lever.picks:
        return [lever.base, *(level for level in lever.levels() if level != lever.base)]
    ends = [min(space, lever.top), lever.lowest, lever.minimum, 0.0, *lever.breakpoints()]
    ends += [lever.base - lever.band, lever.base + lever.band]
    if lever.lot:
        lots = [end / lever.lot for end in ends]
        ends = [whole * lever.lot for lot in lots for whole in (math.floor(lot + HAIR), math.ceil(lot - HAIR))]
    hair = HAIR * case.span(lever)
    moved = {tidy(end) for end in ends if end >= 0 and abs(end - lever.base) > hair}
    return [lever.base, *sorted(moved)]


def whole_lots(case: Case, grants: Grants) -> Mutable:
    """Return grants rounded down to lots; the lots left over go by largest remainder, where they fit."""
    whole = {lever.name: _rounded_down(case, lever, grants[lever.name]) for lever in case.levers}
    open_levers = [lever for lever in case.levers if lever.lot and lever.lock is None]
    for lever in sorted(open_levers, key=lambda lever: (whole[lever.name] - grants[lever.name]) / lever.lot):
        more = tidy(whole[lever.name] + lever.lot)
        if more - grants[lever.name] < lever.lot and more <= room(case, lever, whole) and lever.allows(more):
            whole[lever.name] = more
    return whole


def _rounded_down(case: Case, lever: Lever, level: float) -> float:
    if lever.lock or lever.picks or abs(level - lever.base) <= HAIR * case.span(lever):
        return level if lever.picks else lever.base
    if lever.lot:
        level = tidy(math.floor(level / lever.lot + HAIR) * lever.lot)
    if lever.on_off and level < lever.minimum:
        level = 0.0
    return level if lever.allows(level) else lever.base


def keeps_rules(case: Case, grants: Grants) -> bool:
    """Whether grants keep every limit, every rule of their node and the number of moves, recomputed from scratch."""
    if case.max_moves is not None:
        moved = Counter(lever.host for lever in case.levers if grants[lever.name] != lever.base)
        if any(count > case.max_moves for count in moved.values()):
            return False
    own = all(lever.allows(grants[lever.name]) for lever in case.levers)
    return own and not case.broken_limits(grants) and not case.broken_shares(grants)


def gate(case: Case, grants: Grants) -> Mutable | None:
    """Return the best of: the grants, the grants with any single move dropped, the grants in force.

    Judged by the exact value, among those that keep the rules; None if none of them does.
    """
    moved = [lever for lever in case.levers if grants[lever.name] != lever.base]
    tries = [case.hold, dict(grants), *({**grants, lever.name: lever.base} for lever in moved)]
    kept = [each for each in tries if keeps_rules(case, each)]
    return max(kept, key=case.judged) if kept else None
