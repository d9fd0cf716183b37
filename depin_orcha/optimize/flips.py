"""The price of one node at which it would be decided otherwise, everything else as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .case import Case, Gain, Lever
from .decide import Decision, shortfalls
from .problem import Thresholds
from .search import best_grants
from .settle import Mutable, tidy

if TYPE_CHECKING:
    from .highs import Solver

FAR = 1e3
"""A price is searched up to this multiple of all the money of the host, per unit of the node."""
STEPS = 40
BENT_STEPS = 6
"""Steps where the worth of a plan is no line in the price: each of them solves the whole again."""
RANGING = (0.25, 1.0, 10.0)
"""Changes of the price, in parts of what the node earns and costs, that are tried first where it is no line."""
HALVINGS = 100
CLOSE = 1e-10
"""Two prices nearer than this, relative to themselves, are one."""
ROUNDING = 1e-14
"""What is lost of a far price when a near one is computed from it."""


@dataclass(frozen=True, slots=True)
class _Point:
    """What is decided at one price: the best plan, its gain, whether it is applied, and which way the lever goes."""

    price: float
    units: Mutable
    gain: Gain
    applies: bool
    way: int


@dataclass(frozen=True, slots=True)
class _Search:
    """One lever whose price varies."""

    case: Case
    name: str
    thresholds: Thresholds
    solver: Solver

    @property
    def is_straight(self) -> bool:
        """Whether the worth of a plan is a line in the price, and the price forbids none."""
        return self.case.is_plain and not self.case.shares

    def at(self, price: float, units: Mutable | None = None) -> _Point | None:
        """Return what is decided at a price, None where the solver fails; ``units``: the best plan, where known."""
        case = self.case.with_price(self.name, price)
        units = units or best_grants(case, self.solver).units
        if units is None:
            return None
        gain = case.gain(units)
        applies = not any(shortfalls(gain, self.thresholds))
        return _Point(price, units, gain, applies, self._way(units) if applies else 0)

    def _way(self, units: Mutable) -> int:
        """1 where a plan raises the lever, -1 where it lowers it, 0 where it leaves it alone; of choices, which one."""
        move = units[self.name] - self.case.lever(self.name).base
        if self.case.lever(self.name).picks:
            return int(move)
        return (move > 0) - (move < 0)

    def boundary(self, near: _Point, far: _Point) -> float | None:
        """Return the price between two points where the lever stops going the way of ``near``.

        The net benefit of one plan is linear in the price (on each side of 0, where the restart charge ends), so
        where the lines of the two plans cross is where the decision changes, unless a third plan is better there:
        that one takes the place of one of the two. Ends after a few steps.
        """
        noise = ROUNDING * max(abs(near.price), abs(far.price))
        for _ in range(STEPS if self.is_straight else BENT_STEPS):
            low, high = sorted((near.price, far.price))
            crossing = 0.0 if low < 0 < high else self._crossing(near, far, noise)
            if any(abs(crossing - end) <= noise + CLOSE * abs(end) for end in (low, high)):
                return 0.0 if abs(crossing) <= noise else crossing
            point = self.at(crossing)
            if point is None:
                return None
            near, far = (point, far) if point.way == near.way else (near, point)
        return far.price

    def _crossing(self, near: _Point, far: _Point, noise: float) -> float:
        """Return where one of the two plans stops being best, or being applied; the middle where no line tells."""
        points = (near, far) if near.applies else (far, near)
        low, high = sorted((near.price, far.price))
        least, most = low - noise - CLOSE * abs(low), high + noise + CLOSE * abs(high)
        if self.case.shares:
            return (low + high) / 2
        found = self._roots(*points, positive=high > 0) if self.case.is_plain else self._bent_roots(*points)
        roots = [root for root in found if least <= root <= most]
        return min(roots, key=lambda root: abs(root - points[0].price), default=(low + high) / 2)

    def _roots(self, begin: _Point, end: _Point, *, positive: bool) -> Iterator[float]:
        """Prices at which the plan of ``begin`` meets that of ``end`` and the thresholds."""
        lever, part = self.case.lever(self.name), self.thresholds.min_improvement_pct / 100
        slope, base_slope = self._slope(begin.units, positive=positive), lever.earns(lever.base)
        bars: list[tuple[float, float]] = []
        if self._way(end.units) != begin.way:
            end_slope = self._slope(end.units, positive=positive)
            bars.append((end.gain.judged_net_usd_per_hour + (begin.price - end.price) * end_slope, end_slope))
        if not end.applies:
            bars.append((self.thresholds.min_net_benefit_usd_per_hour, 0.0))
            current = begin.gain.judged_current_usd_per_hour
            bars += [(sign * part * current, sign * part * base_slope) for sign in (1, -1)]
        for bar, bar_slope in bars:
            if slope != bar_slope:
                yield begin.price - (begin.gain.judged_net_usd_per_hour - bar) / (slope - bar_slope)

    def _bent_roots(self, begin: _Point, end: _Point) -> Iterator[float]:
        """Return the same where scenarios, a shared intake or an overage bend the lines: found by halving."""

        def ahead(price: float) -> float:
            case = self.case.with_price(self.name, price)
            return case.judged(begin.units) - case.judged(end.units)

        def margin(price: float) -> float:
            gain, wanted = self.case.with_price(self.name, price).gain(begin.units), self.thresholds
            part = wanted.min_improvement_pct / 100 * abs(gain.judged_current_usd_per_hour)
            return gain.judged_net_usd_per_hour - max(wanted.min_net_benefit_usd_per_hour, part)

        if self._way(end.units) != begin.way:
            yield from _zero(ahead, begin.price, end.price)
        if not end.applies:
            yield from _zero(margin, begin.price, end.price)

    def _slope(self, units: Mutable, *, positive: bool) -> float:
        """How fast the net benefit of a plan grows with the price of the lever."""
        lever = self.case.lever(self.name)
        slope = lever.earns(units[self.name]) - lever.earns(lever.base)
        pays = positive and lever.previous is not None and units[self.name] != lever.base
        return slope - lever.loss_hours * lever.loss_curve / self.case.horizon_h if pays else slope


def _zero(function: Callable[[float], float], begin: float, end: float) -> Iterator[float]:
    """Where a function changes its sign between two numbers, by halving; nothing where it does not."""
    if (function(begin) > 0) == (function(end) > 0):
        return
    for _ in range(HALVINGS):
        middle = (begin + end) / 2
        begin, end = (middle, end) if (function(middle) > 0) == (function(begin) > 0) else (begin, middle)
    yield end


def flip_price(case: Case, thresholds: Thresholds, decision: Decision, name: str, solver: Solver) -> float | None:
    """Return the price, in USD per unit and hour, nearest to the present one at which the decision on a node flips.

    To flip is to be raised, lowered or left alone where now it is not; with choices, to be given another one, and the
    price is a factor on all their incomes. None if no price does it, as for a node that must not be moved.
    """
    lever, found = case.lever(name), decision.found.units
    if lever.lock or found is None:
        return None
    search = _Search(case, name, thresholds, solver)
    present = search.at(lever.price, found)
    if present is None:
        return None
    nearest: float | None = None
    for sign in (1.0, -1.0):
        distance = _far(case, thresholds, lever) if nearest is None else abs(nearest - lever.price)
        stuck = not lever.picks and (lever.base >= case.reach(lever) if sign > 0 else lever.base <= lever.floor)
        if lever.picks and sign < 0:
            distance = min(distance, lever.price)  # less than none of its income is no answer
        near, point = present, None
        for step in () if stuck and present.way == 0 else _steps(search, lever, distance):
            near, point = point or present, search.at(lever.price + sign * step)
            if point is None or point.way != present.way:
                break
        flip = search.boundary(near, point) if point and point.way != present.way else None
        nearest = nearest if flip is None else tidy(flip)
    return nearest


def _steps(search: _Search, lever: Lever, distance: float) -> list[float]:
    """Changes of the price to try, the last one far away."""
    unit = abs(lever.price) + abs(lever.running)
    nearer = [] if search.is_straight else [part * unit for part in RANGING]
    return [step for step in nearer if 0 < step < distance] + [distance]


def _far(case: Case, thresholds: Thresholds, lever: Lever) -> float:
    """A change of price that outweighs everything else on the host."""
    money = math.fsum(_money(case, other) for other in case.levers)
    money += math.fsum(other.charge_usd for other in case.levers) / case.horizon_h
    money += thresholds.min_net_benefit_usd_per_hour
    size = _money(case, lever) if lever.picks else case.span(lever)
    return FAR * (money / (size or 1.0) or 1.0)


def _money(case: Case, lever: Lever) -> float:
    """All that a lever earns and costs."""
    if lever.picks:
        return max(abs(pick.income) + abs(pick.running) for pick in lever.picks)
    return (abs(lever.price) + abs(lever.running)) * case.span(lever)
