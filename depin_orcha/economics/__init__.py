"""What one more unit earns, how well that is known, and whether a gain is worth acting on.

A yield curve comes from the operator's own variation: hours in which the node was granted k units on the same terms
as now, for every k that was tried. Days are the blocks of the statistics, since hours of one day resemble each other.
Nothing is said about grants that were never tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean, variance
from typing import Any

from depin_orcha.types import DAY_S, HOUR_S

MIN_HOURS = 24
"""Known hours a grant needs to count as tried."""
MIN_DAYS = 2
"""Different days a grant needs to count as tried."""
Z80 = NormalDist().inv_cdf(0.9)
"""Half width of an 80 % interval in standard errors."""
_LEAST_USD = 1e-9
"""A unit's worth per hour where it earned nothing, or nobody knows what, and the grant has to be moved all the same."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Hourly income at one grant: mean over days, its standard error, and how much was seen."""

    units: float
    usd_per_hour: float
    error: float
    hours: int
    days: int


@dataclass(frozen=True, slots=True)
class Yield:
    """What is known of income against grant: the grants tried, the concave curve through them, and the evidence."""

    tried: tuple[Tried, ...]
    usd_per_unit_hour: float
    segments: tuple[tuple[float, float], ...]
    evidence: str
    reason: str

    def gain_usd_per_hour(self, old: float, new: float) -> tuple[float, float] | None:
        """(mean, lower 80 % bound) of the gain of a move between grants; None where it cannot be told."""
        before, after = self._at(old), self._at(new)
        if before is None or after is None:
            return None
        mean = after[0] - before[0]
        return mean, mean - Z80 * (after[1] ** 2 + before[1] ** 2) ** 0.5

    def _at(self, units: float) -> tuple[float, float] | None:
        """Mean and standard error at a grant, between the nearest ones tried."""
        for one in self.tried:
            if abs(one.units - units) < 1e-9:
                return one.usd_per_hour, one.error
        for low, high in pairwise(self.tried):
            if low.units < units < high.units:
                part = (units - low.units) / (high.units - low.units)
                mean = low.usd_per_hour + part * (high.usd_per_hour - low.usd_per_hour)
                return mean, ((1 - part) ** 2 * low.error**2 + part**2 * high.error**2) ** 0.5
        return None


@dataclass(frozen=True, slots=True)
class Terms:
    """The grant and the terms (prices offered) that were in force from an instant on."""

    since_s: int
    units: float | None
    terms: str


def yield_curve(usd_by_hour: Mapping[int, float], history: Sequence[Terms]) -> Yield:
    """Income against grant from the hours that had one grant on today's terms throughout.

    ``history``: readings of the grant, oldest first; the last one is in force now.
    """
    now = history[-1] if history else Terms(0, None, "")
    if now.units is None or now.units <= 0:
        return Yield((), 0.0, (), "none", "the node does not say what it is granted")
    by_grant: dict[float, dict[int, list[float]]] = {}
    for hour_s, units, terms in _steady_hours(usd_by_hour, history):
        if terms == now.terms:
            by_grant.setdefault(units, {}).setdefault(hour_s // DAY_S, []).append(usd_by_hour[hour_s])
    tried = [_tried(units, days) for units, days in sorted(by_grant.items())]
    enough = tuple(one for one in tried if one.hours >= MIN_HOURS and one.days >= MIN_DAYS)
    if len(enough) < 2 or now.units not in {one.units for one in enough}:
        mean = fmean(usd_by_hour.values()) if usd_by_hour else 0.0
        return Yield(
            enough,
            mean / now.units,
            (),
            "none",
            "its grant never varied long enough on the present terms to show what another one would earn",
        )
    slope, segments = _concave(enough)
    return Yield(enough, slope, segments, "measured", _tried_text(enough))


def _steady_hours(usd_by_hour: Mapping[int, float], history: Sequence[Terms]) -> list[tuple[int, float, str]]:
    """(hour, grant, terms) of the hours during which neither changed, as far as the readings tell."""
    steady: list[tuple[int, float, str]] = []
    index = 0
    for hour_s in sorted(usd_by_hour):
        while index + 1 < len(history) and history[index + 1].since_s <= hour_s:
            index += 1
        reading = history[index]
        if reading.units is None or reading.since_s > hour_s:
            continue
        after = [one for one in history[index + 1 : index + 8] if one.since_s < hour_s + HOUR_S]
        if all(one.units == reading.units and one.terms == reading.terms for one in after):
            steady.append((hour_s, reading.units, reading.terms))
    return steady


def _tried(units: float, days: Mapping[int, Sequence[float]]) -> Tried:
    means = [fmean(values) for values in days.values()]
    hours = sum(len(values) for values in days.values())
    mean = sum(sum(values) for values in days.values()) / hours
    error = (variance(means, fmean(means)) / len(means)) ** 0.5 if len(means) > 1 else float("inf")
    return Tried(units, mean, error, hours, len(means))


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


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the optimiser has to know of one node, gathered from the configuration and the database.

    ``lever``: plans may move its grant, in whole steps. ``unlimited``: nothing limits it, so that ``current_units``
    are all that its host has, None where that is not known.
    """

    name: str
    protocol: str
    uses_per_unit: Mapping[str, float]
    min_units: float
    max_units: float | None
    floor_units: float
    current_units: float | None
    step_units: float
    lever: bool
    usd_per_hour_forecast: float | None
    curve: Yield
    days_measured: float
    hours_since_change: float | None
    changes_last_day: int
    restart_loss_hours: float
    running_usd_per_unit_hour: float | None
    keep_reason: str | None
    disk: str | None = None
    host: str = "local"
    unlimited: bool = False


@dataclass(frozen=True, slots=True)
class Gate:
    """When a change may be proposed; all zero switches it off."""

    learning_days: float
    min_gain_usd_per_day: float
    max_changes_per_day: int
    min_dwell_h: float

    @property
    def off(self) -> bool:
        """Did the owner ask for plain optimisation of what was measured?"""
        return self.learning_days == 0 and self.min_gain_usd_per_day == 0


def must_move(node: NodeFacts, capacity: Mapping[str, float]) -> str | None:
    """Why the present grant may not stay: it breaks what the owner or the host allows. None when it may stay."""
    if node.current_units is None or not node.lever or node.keep_reason:
        return None
    ceiling = allowed_units(node, capacity)
    if node.current_units > ceiling * (1 + 1e-9):
        return f"no more than {ceiling:g} units are allowed or there"
    short = node.min_units - node.current_units
    if short > 0 and short >= node.step_units:  # less than a step is as near as it gets
        return f"at least {node.min_units:g} units are asked for"
    return None


def allowed_units(node: NodeFacts, capacity: Mapping[str, float]) -> float:
    """The most units that the owner and the host allow; infinite where neither says."""
    within = [capacity[resource] / amount for resource, amount in node.uses_per_unit.items() if resource in capacity]
    return min([node.max_units if node.max_units is not None else float("inf"), *within])


def kept_because(node: NodeFacts, gate: Gate, capacity: Mapping[str, float]) -> str | None:
    """Why a node is left as it is before anything is computed; None when it may be moved."""
    if node.keep_reason or must_move(node, capacity):
        return node.keep_reason
    if not node.lever:
        return "its allocation does not change what it earns from day to day"
    if node.days_measured < gate.learning_days:
        return f"still learning: {node.days_measured:.1f} of {gate.learning_days:g} days of measured history"
    if not gate.off and node.changes_last_day >= gate.max_changes_per_day:
        return f"changed {node.changes_last_day} times in the last 24 h, the most that is allowed"
    if node.usd_per_hour_forecast is None:
        return "nothing is known yet of what it earns"
    return None


def uses_while_held(node: NodeFacts) -> dict[str, float]:
    """What a unit of a node takes of each resource as long as it stays as it is: what nothing limits has no share."""
    return {} if node.unlimited else dict(node.uses_per_unit)


def left_out_because(node: NodeFacts) -> str | None:
    """Why a node whose grant plans could move is in none of them; None when it is, or has no such grant."""
    if not node.lever or node.current_units is not None:
        return None
    if node.unlimited and not node.keep_reason:
        resource = next(iter(node.uses_per_unit))
        return f"nothing limits it, and how much {resource} its host has is not stated (capacity of the host)"
    return node.keep_reason or "what it is granted is not known"


def problem_node(node: NodeFacts, gate: Gate, capacity: Mapping[str, float]) -> dict[str, Any] | None:
    """The node as a member of a problem's ``nodes[]``; None when what it is granted is unknown."""
    if node.current_units is None:
        return None
    kept = kept_because(node, gate, capacity)
    is_forced = must_move(node, capacity) is not None
    ceiling = _most_units(node, gate, allowed_units(node, capacity), is_forced=is_forced)
    curve = node.curve
    evidence = curve.evidence if node.lever else "contract"
    if evidence == "none" and (gate.off or is_forced):
        # The owner asked to act on the mean income in proportion to the grant, or the grant cannot stay anyway.
        evidence = "measured"
    usd_per_unit_hour = curve.usd_per_unit_hour
    if not curve.segments and node.usd_per_hour_forecast is not None and node.current_units > 0:
        usd_per_unit_hour = node.usd_per_hour_forecast / node.current_units
    if is_forced:
        usd_per_unit_hour = max(usd_per_unit_hour, _LEAST_USD)
    frozen = kept is not None
    is_locked = frozen or evidence == "none"
    document: dict[str, Any] = {
        "node": node.name,
        "protocol": node.protocol,
        "uses_per_unit": uses_while_held(node) if is_locked else dict(node.uses_per_unit),
        "current_units": node.current_units,
        "max_units": max(ceiling, node.current_units) if frozen else ceiling,
        "min_units": min(node.min_units, node.current_units if frozen else ceiling),
        "floor_units": 0.0 if frozen else node.floor_units,
        "integer": not frozen,
        "step_units": 0.0 if frozen else node.step_units,
        "usd_per_unit_hour": usd_per_unit_hour,
        "running_usd_per_unit_hour": node.running_usd_per_unit_hour or 0.0,
        "restart_loss_hours": node.restart_loss_hours,
        "min_dwell_h": gate.min_dwell_h,
        "hours_since_change": node.hours_since_change,
        "frozen": frozen,
        "evidence": evidence,
    }
    if curve.segments:
        document["segments"] = [{"width_units": width, "relative": relative} for width, relative in curve.segments]
    return document


def _most_units(node: NodeFacts, gate: Gate, allowed: float, *, is_forced: bool) -> float:
    """The most units that a plan may grant: no more than was tried, and than there has to be where nothing was."""
    current = node.current_units or 0.0
    is_measured = node.curve.evidence == "measured"
    if node.lever and (is_measured or (is_forced and not gate.off)):
        tried = node.curve.tried[-1].units if is_measured else 0.0
        step = node.step_units
        wished = math.ceil(node.min_units / step - 1e-9) * step if step else node.min_units
        return min(allowed, max(tried, current, wished))
    return allowed if allowed < float("inf") else current


def short_of(node: NodeFacts, gate: Gate, new_units: float) -> str | None:
    """Why the gain of a move is not sure enough to act on; None when it is, or when the gate is off."""
    if gate.off or node.current_units is None:
        return None
    gain = node.curve.gain_usd_per_hour(node.current_units, new_units)
    if gain is None:
        return f"what {new_units:g} units would earn was never measured"
    power = (node.running_usd_per_unit_hour or 0.0) * (new_units - node.current_units)
    mean, lower = (24 * (value - power) for value in gain)
    if lower > gate.min_gain_usd_per_day:
        return None
    return (
        f"going from {node.current_units:g} to {new_units:g} units would bring {mean:+.2f} USD a day, at least "
        f"{lower:+.2f} with 80 % certainty; {gate.min_gain_usd_per_day:.2f} is asked for"
    )
