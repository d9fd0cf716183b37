"""What a grant earns, from the hours in which the operator tried it, and whether that can be told from chance. Pure.

Days are the blocks of the statistics, since hours of one day resemble each other. A difference between two grants is
told from chance only where one of them was tried again after the other (a market that changed in between would look
the same), and by a strict test: plans look at the same hours again and again, so that noise would pass a mild one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import fmean

from depin_orcha.types import DAY_S, HOUR_S

from .contrast import surely_different
from .estimate import Estimate, of_blocks, total

MIN_HOURS = 24
"""Known hours a grant needs to count as tried."""
MIN_DAYS = 2
"""Different days a grant needs to count as tried."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Hourly income at one grant: mean over days, its standard error, and how much was seen."""

    units: float
    usd_per_hour: float
    error: float
    hours: int
    days: int

    @property
    def estimate(self) -> Estimate:
        """The same with its degrees of freedom."""
        return Estimate(self.usd_per_hour, self.error, max(self.days - 1.0, 1.0))


@dataclass(frozen=True, slots=True)
class Yield:
    """What is known of income against grant: the grants tried, the concave curve through them, and the evidence."""

    tried: tuple[Tried, ...]
    usd_per_unit_hour: float
    segments: tuple[tuple[float, float], ...]
    evidence: str
    reason: str
    sure: frozenset[float] = frozenset()
    """Grants that earn otherwise than the present one by more than chance."""

    def is_sure(self, old: float, new: float) -> bool:
        """Does a move from the present grant lead towards one that surely earns otherwise?"""
        return any((one - old) * (new - old) > 0 for one in self.sure)

    def gain(self, old: float, new: float) -> Estimate | None:
        """What a move between grants brings in USD per hour; None where it cannot be told."""
        before, after = self.at(old), self.at(new)
        return None if before is None or after is None else after.less(before)

    def at(self, units: float) -> Estimate | None:
        """Income at a grant, between the nearest ones tried."""
        for one in self.tried:
            if abs(one.units - units) < 1e-9:
                return one.estimate
        for low, high in pairwise(self.tried):
            if low.units < units < high.units:
                part = (units - low.units) / (high.units - low.units)
                return total([low.estimate.times(1 - part), high.estimate.times(part)])
        return None


@dataclass(frozen=True, slots=True)
class Terms:
    """The grant and the terms (prices offered) that were in force from an instant on."""

    since_s: int
    units: float | None
    terms: str


@dataclass(frozen=True, slots=True)
class Steady:
    """An hour during which grant and terms did not change."""

    hour_s: int
    units: float
    terms: str


def yield_curve(usd_by_hour: Mapping[int, float], history: Sequence[Terms]) -> Yield:
    """Income against grant from the hours that had one grant on today's terms throughout.

    ``history``: readings of the grant, oldest first; the last one is in force now.
    """
    now = history[-1] if history else Terms(0, None, "")
    if now.units is None or now.units <= 0:
        return Yield((), 0.0, (), "none", "the node does not say what it is granted")
    hours = [one for one in steady_hours(usd_by_hour, history) if one.terms == now.terms]
    enough = tried_grants(usd_by_hour, hours)
    mean = fmean(usd_by_hour.values()) if usd_by_hour else 0.0
    if len(enough) < 2 or now.units not in {one.units for one in enough}:
        why = "its grant never varied long enough on the present terms to show what another one would earn"
        return Yield(enough, mean / now.units, (), "none", why)
    slope, segments = _concave(enough)
    grants = {one.units for one in enough}
    if not returned(hours, grants):
        why = f"{_tried_text(enough)}; none of them was tried again after another, so that the times may have differed"
        return Yield(enough, slope, segments, "none", why)
    by_turns = [(one.hour_s, f"{one.units:g}") for one in hours if one.units in grants]
    different = surely_different(usd_by_hour, by_turns, f"{now.units:g}")
    sure = frozenset(one for one in grants if f"{one:g}" in different)
    if not sure:
        why = f"{_tried_text(enough)}: what differs may be chance"
        return Yield(enough, slope, segments, "none", why)
    return Yield(enough, slope, segments, "measured", _tried_text(enough), sure)


def tried_grants(usd_by_hour: Mapping[int, float], hours: Sequence[Steady]) -> tuple[Tried, ...]:
    """The grants that were in force long enough, smallest first."""
    by_grant: dict[float, dict[int, list[float]]] = {}
    for one in hours:
        by_grant.setdefault(one.units, {}).setdefault(one.hour_s // DAY_S, []).append(usd_by_hour[one.hour_s])
    tried = [_tried(units, days) for units, days in sorted(by_grant.items())]
    return tuple(one for one in tried if one.hours >= MIN_HOURS and one.days >= MIN_DAYS)


def returned(hours: Sequence[Steady], grants: set[float]) -> bool:
    """Was one of the grants tried again after another one?"""
    spells = [units for units, _ in groupby(one.units for one in hours if one.units in grants)]
    return len(spells) > len(set(spells))


def steady_hours(usd_by_hour: Mapping[int, float], history: Sequence[Terms]) -> list[Steady]:
    """The hours during which neither grant nor terms changed, as far as the readings tell, oldest first."""
    steady: list[Steady] = []
    index = 0
    for hour_s in sorted(usd_by_hour):
        while index + 1 < len(history) and history[index + 1].since_s <= hour_s:
            index += 1
        if not history:
            break
        reading = history[index]
        if reading.units is None or reading.since_s > hour_s:
            continue
        after = [one for one in history[index + 1 : index + 8] if one.since_s < hour_s + HOUR_S]
        if all(one.units == reading.units and one.terms == reading.terms for one in after):
            steady.append(Steady(hour_s, reading.units, reading.terms))
    return steady


def _tried(units: float, days: Mapping[int, Sequence[float]]) -> Tried:
    blocks = {day: (sum(values), float(len(values))) for day, values in days.items()}
    found = of_blocks(blocks)
    return Tried(units, found.mean, found.error, sum(len(values) for values in days.values()), len(days))


def _concave(tried: Sequence[Tried]) -> tuple[float, tuple[tuple[float, float], ...]]:
    """Slope of the first segment, and (width, relative slope) of each: slopes pooled until none rises again."""
    pooled: list[tuple[float, float]] = []
    before_units, before_usd = 0.0, 0.0
    for one in tried:
        width, rise = one.units - before_units, one.usd_per_hour - before_usd
        before_units, before_usd = one.units, one.usd_per_hour
        while pooled and rise * pooled[-1][0] > pooled[-1][1] * width:
            width, rise = width + pooled[-1][0], rise + pooled[-1][1]
            pooled.pop()
        pooled.append((width, rise))
    slopes = [(width, max(rise, 0.0) / width) for width, rise in pooled]
    first = slopes[0][1]
    if first <= 0:
        return 0.0, ()
    return first, tuple((width, slope / first) for width, slope in slopes)


def _tried_text(tried: Sequence[Tried]) -> str:
    parts = [f"{one.units:g}: {one.usd_per_hour:.4f} USD/h over {one.hours} h" for one in tried]
    return "measured at " + "; ".join(parts)
