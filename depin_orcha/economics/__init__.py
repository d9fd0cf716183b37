"""What one more unit earns, how well that is known, and whether a gain is worth acting on.

A yield curve comes from the operator's own variation: hours in which the node was granted k units on the same terms
as now, for every k that was tried. Nothing is said about grants that were never tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .estimate import Estimate
from .offers import Offers
from .scenarios import COUNT, factors
from .wishes import Wish, room_of, wish_of
from .yields import Terms, Tried, Yield, yield_curve

__all__ = [
    "Fill",
    "Gate",
    "NodeFacts",
    "Terms",
    "Tried",
    "Wish",
    "Yield",
    "kept_because",
    "left_out_because",
    "must_move",
    "problem_node",
    "room_of",
    "short_of",
    "uses_while_held",
    "wish_of",
    "with_scenarios",
    "yield_curve",
]

_LEAST_USD = 1e-9
"""A unit's worth per hour where it earned nothing, or nobody knows what, and the grant has to be moved all the same."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the optimiser has to know of one node, gathered from the configuration and the database.

    ``lever``: plans may move its grant, in whole steps. ``unlimited``: nothing limits it, so that ``current_units``
    are all that its host has, None where that is not known. ``offers``: what it can offer instead of a share of the
    host. ``fill``: how its disk fills. ``running_by_hour``: what a unit costs in each hour of the horizon, USD.
    ``held_units``: what a running agreement binds until it ends. ``band80``: of the forecast, USD per hour over the
    horizon. ``watts_per_unit``: mean power of a unit. ``wish``: a bound of the owner that a grant without a lever
    breaks.
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
    offers: Offers | None = None
    fill: Fill | None = None
    running_by_hour: tuple[float, ...] = ()
    held_units: float = 0.0
    band80: tuple[float, float] | None = None
    watts_per_unit: float | None = None
    wish: Wish | None = None


@dataclass(frozen=True, slots=True)
class Fill:
    """How the space of a node fills, in units: ``per_hour`` is shared by all nodes of a ``group``."""

    stored_units: float
    per_hour: float
    delete_per_hour: float
    group: str | None

    def to_dict(self) -> dict[str, Any]:
        """``fill`` of a node of a problem."""
        told: dict[str, Any] = {"stored_units": self.stored_units, "per_hour": self.per_hour}
        told["delete_per_hour"] = self.delete_per_hour
        return told | ({"group": self.group} if self.group else {})


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
        return node.wish.reason if node.wish else "its allocation does not change what it earns from day to day"
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
    frozen = kept_because(node, gate, capacity) is not None
    is_forced = must_move(node, capacity) is not None
    common: dict[str, Any] = {
        "node": node.name,
        "protocol": node.protocol,
        "restart_loss_hours": node.restart_loss_hours,
        "min_dwell_h": gate.min_dwell_h,
        "hours_since_change": node.hours_since_change,
        "frozen": frozen,
    }
    if node.watts_per_unit is not None:
        common["watts_per_unit"] = node.watts_per_unit
    if node.wish is not None and node.wish.units is not None:
        return common | _settled(node, node.wish.units)
    if node.offers is not None and not frozen and not is_forced:
        return common | _alternatives(node, node.offers, gate, allowed_units(node, capacity))
    return common | _share(node, gate, capacity, frozen=frozen, is_forced=is_forced)


def with_scenarios(document: dict[str, Any], node: NodeFacts, horizon_h: int) -> dict[str, Any]:
    """A member of ``nodes[]`` with the futures that its forecast holds possible."""
    mean = node.usd_per_hour_forecast
    known = mean is not None and node.band80 is not None
    drawn = factors(node.name, mean, *node.band80) if known and mean and node.band80 else (1.0,) * COUNT
    price = document.get("usd_per_unit_hour", 1.0)  # of choices, only how scenarios compare counts
    return document | {"scenarios": [[price * factor] * horizon_h for factor in drawn]}


def _alternatives(node: NodeFacts, offers: Offers, gate: Gate, allowed: float) -> dict[str, Any]:
    """A node of which exactly one offer is in force."""
    least, most = node.min_units * (1 - 1e-9), allowed * (1 + 1e-9)
    fit = [one for one in offers.offers if least <= one.units <= most or one.name == offers.current]
    return {
        "uses_per_unit": dict(node.uses_per_unit),
        "floor_units": min(node.held_units, node.current_units or 0.0),
        "choices": [one.choice() for one in fit],
        "current_choice": offers.current,
        "evidence": "measured" if gate.off else offers.evidence,
    }


def _share(
    node: NodeFacts, gate: Gate, capacity: Mapping[str, float], *, frozen: bool, is_forced: bool
) -> dict[str, Any]:
    """A node that has a share of its host, which earns along a curve."""
    current = node.current_units or 0.0
    curve = node.curve
    evidence = _evidence(node)
    if evidence == "none" and node.lever and (gate.off or is_forced):
        # The owner asked to act on the mean income in proportion to the grant, or the grant cannot stay anyway.
        evidence = "measured"
    ceiling = _most_units(node, gate, allowed_units(node, capacity), is_forced=is_forced)
    usd_per_unit_hour = curve.usd_per_unit_hour
    earning = node.fill.stored_units if node.fill else current
    if (not curve.segments or not node.lever) and node.usd_per_hour_forecast is not None and earning > 0:
        usd_per_unit_hour = node.usd_per_hour_forecast / earning
    if is_forced:
        usd_per_unit_hour = max(usd_per_unit_hour, _LEAST_USD)
    document: dict[str, Any] = {
        "uses_per_unit": uses_while_held(node) if frozen or evidence == "none" else dict(node.uses_per_unit),
        "current_units": current,
        "max_units": max(ceiling, current) if frozen else ceiling,
        "min_units": min(node.min_units, current if frozen else ceiling),
        "floor_units": 0.0 if frozen else node.floor_units,
        "integer": not frozen,
        "step_units": 0.0 if frozen else node.step_units,
        "usd_per_unit_hour": usd_per_unit_hour,
        "running_usd_per_unit_hour": list(node.running_by_hour) or node.running_usd_per_unit_hour or 0.0,
        "evidence": evidence,
    }
    if node.fill is not None and current >= node.fill.stored_units:
        document["fill"] = node.fill.to_dict()
        if node.disk is not None:
            document["disk"] = node.disk
    elif not node.lever and current > 0:
        # What it has is enough: more of it earns nothing that anybody measured.
        document["segments"] = [{"width_units": current, "relative": 1.0}, {"width_units": current, "relative": 0.0}]
    elif curve.segments:
        document["segments"] = [{"width_units": width, "relative": relative} for width, relative in curve.segments]
    return document


def _settled(node: NodeFacts, units: float) -> dict[str, Any]:
    """A node that has what its owner asks for as good as already, and earns with it what it does now."""
    earning = min(node.fill.stored_units if node.fill else units, node.current_units or units, units) or units
    document: dict[str, Any] = {
        "uses_per_unit": dict(node.uses_per_unit),
        **dict.fromkeys(("current_units", "max_units", "min_units"), units),
        "usd_per_unit_hour": (node.usd_per_hour_forecast or 0.0) / earning,
        "running_usd_per_unit_hour": (node.running_usd_per_unit_hour or 0.0) * (node.current_units or 0.0) / units,
        "evidence": "contract",
        "segments": [{"width_units": earning, "relative": 1.0}, {"width_units": units, "relative": 0.0}],
    }
    return document | ({"disk": node.disk} if node.disk is not None else {})


def _evidence(node: NodeFacts) -> str:
    """How it is known what another grant would earn."""
    if node.lever:
        return node.curve.evidence
    # A disk that never had another size tells nothing of one; that other protocols pay no more for more is their rule.
    return "none" if node.fill is not None else "contract"


def _most_units(node: NodeFacts, gate: Gate, allowed: float, *, is_forced: bool) -> float:
    """The most units that a plan may grant: no more than was tried, and than there has to be where nothing was."""
    current = node.current_units or 0.0
    is_measured = node.curve.evidence == "measured" or (gate.off and bool(node.curve.segments))
    if node.lever and (is_measured or (is_forced and not gate.off)):
        tried = node.curve.tried[-1].units if is_measured else 0.0
        step = node.step_units
        wished = math.ceil(node.min_units / step - 1e-9) * step if step else node.min_units
        return min(allowed, max(tried, current, wished))
    return allowed if allowed < float("inf") else current


def short_of(node: NodeFacts, gate: Gate, new_units: float, choice: str | None = None) -> str | None:
    """Why the gain of a move is not sure enough to act on; None when it is, or when the gate is off."""
    if gate.off or node.current_units is None:
        return None
    if choice is not None and node.offers is not None:
        gain, sure = node.offers.gain(choice), node.offers.is_sure(choice)
        what = f"going from {node.offers.current} to {choice}"
    else:
        gain, sure = node.curve.gain(node.current_units, new_units), False
        what = f"going from {node.current_units:g} to {new_units:g} units"
        if gain is not None:
            sure = node.curve.is_sure(node.current_units, new_units)
            gain = gain.less(Estimate((node.running_usd_per_unit_hour or 0.0) * (new_units - node.current_units)))
    if gain is None:
        return f"what {choice or f'{new_units:g} units'} would earn was never measured"
    day = gain.times(24)
    bound = f"{what} would bring {day.mean:+.2f} USD a day, at least {day.lo80:+.2f} with 80 % certainty"
    if day.lo80 <= gate.min_gain_usd_per_day:
        return f"{bound}; {gate.min_gain_usd_per_day:.2f} is asked for"
    return None if sure else f"{bound}, but so much can be chance among {len(_tried(node))} that were tried"


def _tried(node: NodeFacts) -> Sequence[object]:
    return node.offers.offers if node.offers is not None else node.curve.tried
