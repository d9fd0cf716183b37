"""The price of one node at which it would be decided otherwise, everything else as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .case import Case, Gain
from .decide import Decision, shortfalls
from .problem import Thresholds
from .search import best_grants
from .settle import Mutable, tidy

if TYPE_CHECKING:
    from .highs import Solver

FAR = 1e3
"""A price is searched up to this multiple of all the money of the host, per unit of the node."""
STEPS = 40


@dataclass(frozen=True, slots=True)
class _Search:
    """One lever whose price varies. ``rival_usd_per_hour`` is the net benefit of the best plan that leaves it alone."""

    case: Case
    name: str
    thresholds: Thresholds
    rival_usd_per_hour: float
    solver: Solver

    def gain_if_moved(self, price: float) -> tuple[Mutable, Gain] | None:
        """Return the plan at this price if it is applied and moves the lever."""
        case = self.case.with_lever(self.name, price=price)
        units = best_grants(case, self.solver).units
        if units is None or units[self.name] == case.lever(self.name).base:
            return None
        gain = case.gain(units)
        return None if any(shortfalls(gain, self.thresholds)) else (units, gain)

    def boundary(self, price: float, direction: float, plan: tuple[Mutable, Gain] | None) -> float | None:
        """Return where, walking from a price at which the lever moves, it stops moving; None if it never does.

        The net benefit of a given plan is linear in the price, and the best plan is at least as good: each step to
        where the present plan stops paying is exact or short, never too far.
        """
        for _ in range(STEPS):
            if plan is None:
                return price
            roots = list(self._roots(price, direction, *plan))
            if not roots:
                return None
            after = min(roots) if direction > 0 else max(roots)
            if price * after < 0:
                after = 0.0  # the restart charge bends there: it is no income that is lost below
            if abs(after - price) <= 1e-12 * abs(price):
                return after
            price, plan = after, self.gain_if_moved(after)
        return price

    def _roots(self, price: float, direction: float, units: Mutable, gain: Gain) -> Iterator[float]:
        """Prices, in this direction, at which the plan no longer beats its rival or fails a threshold."""
        lever = self.case.lever(self.name)
        slope = lever.curve(units[self.name]) - lever.curve(lever.base)
        if lever.previous is not None and (price > 0 or (price == 0 and direction > 0)):
            slope -= lever.loss_hours * lever.loss_curve / self.case.horizon_h
        part = self.thresholds.min_improvement_pct / 100
        bars = [(max(0.0, self.rival_usd_per_hour, self.thresholds.min_net_benefit_usd_per_hour), 0.0)]
        if part:
            bars += [(sign * part * gain.current_usd_per_hour, sign * part * lever.curve(lever.base)) for sign in (1, -1)]
        for bar, bar_slope in bars:
            fall = slope - bar_slope
            if fall * direction < 0:
                yield price - (gain.net_usd_per_hour - bar) / fall


def flip_price(case: Case, thresholds: Thresholds, decision: Decision, name: str, solver: Solver) -> float | None:
    """Return the price, in USD per unit and hour, nearest to the present one at which the decision on a node flips.

    To flip is to be changed instead of left alone, or left alone instead of changed. None if no price does it, as
    for a node that must not be moved.
    """
    lever, found = case.lever(name), decision.found.units
    if lever.lock or found is None:
        return None
    alone = found if found[name] == lever.base else best_grants(case.with_lever(name, lock="frozen"), solver).units
    rival = case.gain(alone).net_usd_per_hour if alone else -math.inf
    search = _Search(case, name, thresholds, rival, solver)
    if decision.units[name] != lever.base:
        plan = decision.units, case.gain(decision.units)
        flips = [search.boundary(lever.price, direction, plan) for direction in (-1.0, 1.0)]
    else:
        flips = [_outer(search, sign) for sign in (1.0, -1.0)]
    known = [flip for flip in flips if flip is not None]
    return tidy(min(known, key=lambda flip: abs(flip - lever.price))) if known else None


def _outer(search: _Search, sign: float) -> float | None:
    """Return the nearest price above (or below) the present one from which on a node that stays would be moved."""
    case, lever = search.case, search.case.lever(search.name)
    if lever.base >= case.reach(lever) if sign > 0 else lever.base <= lever.lowest:
        return None
    worth = (abs(other.price) + abs(other.running) for other in case.levers)
    money = math.fsum(each * case.span(other) for each, other in zip(worth, case.levers, strict=True))
    money += math.fsum(other.charge_usd for other in case.levers) / case.horizon_h
    money += search.thresholds.min_net_benefit_usd_per_hour
    far = sign * FAR * (money / case.span(lever) or 1.0)
    plan = search.gain_if_moved(far)
    return search.boundary(far, -sign, plan) if plan else None
