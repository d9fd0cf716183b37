"""The price of one node at which it would be decided otherwise, everything else as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
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

    def at(self, price: float, units: Mutable | None = None) -> _Point | None:
        """Return what is decided at a price, None where the solver fails; ``units``: the best plan, where known."""
        case = self.case.with_lever(self.name, price=price)
        units = units or best_grants(case, self.solver).units
        if units is None:
            return None
        gain = case.gain(units)
        applies = not any(shortfalls(gain, self.thresholds))
        return _Point(price, units, gain, applies, self._way(units) if applies else 0)

    def _way(self, units: Mutable) -> int:
        """1 where a plan raises the lever, -1 where it lowers it, 0 where it leaves it alone."""
        move = units[self.name] - self.case.lever(self.name).base
        return (move > 0) - (move < 0)

    def boundary(self, near: _Point, far: _Point) -> float | None:
        """Return the price between two points where the lever stops going the way of ``near``.

        The net benefit of one plan is linear in the price (on each side of 0, where the restart charge ends), so
        where the lines of the two plans cross is where the decision changes, unless a third plan is better there:
        that one takes the place of one of the two. Ends after a few steps.
        """
        noise = ROUNDING * max(abs(near.price), abs(far.price))
        for _ in range(STEPS):
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
        roots = [root for root in self._roots(*points, positive=high > 0) if least <= root <= most]
        return min(roots, key=lambda root: abs(root - points[0].price), default=(low + high) / 2)

    def _roots(self, begin: _Point, end: _Point, *, positive: bool) -> Iterator[float]:
        """Prices at which the plan of ``begin`` meets that of ``end`` and the thresholds."""
        lever, part = self.case.lever(self.name), self.thresholds.min_improvement_pct / 100
        slope, base_slope = self._slope(begin.units, positive=positive), lever.curve(lever.base)
        bars: list[tuple[float, float]] = []
        if self._way(end.units) != begin.way:
            end_slope = self._slope(end.units, positive=positive)
            bars.append((end.gain.net_usd_per_hour + (begin.price - end.price) * end_slope, end_slope))
        if not end.applies:
            bars.append((self.thresholds.min_net_benefit_usd_per_hour, 0.0))
            current = begin.gain.current_usd_per_hour
            bars += [(sign * part * current, sign * part * base_slope) for sign in (1, -1)]
        for bar, bar_slope in bars:
            if slope != bar_slope:
                yield begin.price - (begin.gain.net_usd_per_hour - bar) / (slope - bar_slope)

    def _slope(self, units: Mutable, *, positive: bool) -> float:
        """How fast the net benefit of a plan grows with the price of the lever."""
        lever = self.case.lever(self.name)
        slope = lever.curve(units[self.name]) - lever.curve(lever.base)
        pays = positive and lever.previous is not None and units[self.name] != lever.base
        return slope - lever.loss_hours * lever.loss_curve / self.case.horizon_h if pays else slope


def flip_price(case: Case, thresholds: Thresholds, decision: Decision, name: str, solver: Solver) -> float | None:
    """Return the price, in USD per unit and hour, nearest to the present one at which the decision on a node flips.

    To flip is to be raised, lowered or left alone where now it is not. None if no price does it, as for a node that
    must not be moved.
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
        stuck = lever.base >= case.reach(lever) if sign > 0 else lever.base <= lever.floor
        point = None if stuck and present.way == 0 else search.at(lever.price + sign * distance)
        flip = search.boundary(present, point) if point and point.way != present.way else None
        nearest = nearest if flip is None else tidy(flip)
    return nearest


def _far(case: Case, thresholds: Thresholds, lever: Lever) -> float:
    """A change of price that outweighs everything else on the host."""
    each = (abs(other.price) + abs(other.running) for other in case.levers)
    money = math.fsum(usd * case.span(other) for usd, other in zip(each, case.levers, strict=True))
    money += math.fsum(other.charge_usd for other in case.levers) / case.horizon_h
    money += thresholds.min_net_benefit_usd_per_hour
    return FAR * (money / case.span(lever) or 1.0)
