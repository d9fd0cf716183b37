"""One node as the decision sees it: the grant in force, what it may become, and what it is worth.

A *level* says what a node is granted: its units; for a node with choices the number of the choice, -1 for none yet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from .fill import Filling, Path
from .nouns import Node, Segment, mean

HAIR = 1e-6
"""Relative tolerance of every row, and the smallest part of its range by which a grant can move."""
RESTART_SHARE_OF_TOP = 0.35
"""A node that was nearly idle still loses this part of what it could earn when it restarts."""
NONE_YET = -1.0
"""Level of a node of whose choices none is in force."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A choice by its horizon means, in USD per hour."""

    name: str
    units: float
    income: float
    running: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of grants over which each unit earns and costs the same.

    ``earns`` is in units of segment 1 at the price of the lever, ``loads`` in units that the running cost falls on.
    """

    width: float
    earns: float
    loads: float


@dataclass(frozen=True, slots=True)
class Lever:
    """One node: the level in force, what it may become, and what it is worth.

    ``price`` and ``running`` are horizon means in USD per unit and hour; with choices ``price`` is a factor on all
    incomes, 1. ``weighed_price`` is what decides, ``scenarios`` the mean price of each future. ``lock`` says why the
    level may not be moved (``frozen``, ``dwell``, ``evidence``, ``elsewhere``), None where it may.
    """

    name: str
    node: str
    host: str
    protocol: str
    previous: float | None
    top: float
    minimum: float
    floor: float
    lot: float
    dead_band: float
    on_off: bool
    segments: tuple[Segment, ...]
    price: float
    running: float
    loss_hours: float
    fee_usd: float
    ignore_pct: float
    lock: str | None
    picks: tuple[Pick, ...] = ()
    filling: Filling | None = None
    weighed_price: float = 0.0
    scenarios: tuple[float, ...] = ()

    @property
    def base(self) -> float:
        """The level in force; no units granted yet are 0."""
        if self.picks:
            return NONE_YET if self.previous is None else self.previous
        return self.previous or 0.0

    @property
    def lowest(self) -> float:
        """Smallest grant that breaks neither the floor nor the owner's wish."""
        return self.floor if self.on_off else max(self.minimum, self.floor)

    @property
    def band(self) -> float:
        """Smallest move that is made, in units."""
        return 0.0 if self.picks else max(self.dead_band, self.ignore_pct / 100 * self.base)

    def units(self, level: float) -> float:
        """Units that are granted at a level."""
        if not self.picks:
            return level
        return self.picks[int(level)].units if level >= 0 else 0.0

    def choice(self, level: float) -> str | None:
        """Name of the choice of a level; None without choices, or where none is in force."""
        return self.picks[int(level)].name if self.picks and level >= 0 else None

    def earns(self, level: float, path: Path | None = None) -> float:
        """Units of segment 1 that earn as much as this level does; ``path``: what is stored, if others have a say."""
        if self.picks:
            return self.picks[int(level)].income if level >= 0 else 0.0
        if self.filling is None:
            return self._curve(level)
        path = path or self.filling.alone(level)
        later = self._curve(path[-1]) - self._curve(self.filling.fill.stored_units)
        return math.fsum(map(self._curve, path)) / len(path) + later * self.filling.later_h

    def loads(self, level: float, path: Path | None = None) -> float:
        """Units that the running cost falls on; with choices the running cost itself."""
        if self.picks:
            return self.picks[int(level)].running if level >= 0 else 0.0
        if self.filling is None:
            return level
        path = path or self.filling.alone(level)
        return math.fsum(path) / len(path)

    def _curve(self, units: float) -> float:
        """Units of segment 1 that earn as much as ``units`` do; the last segment has no end."""
        worth: list[float] = []
        left = units
        for segment in self.segments[:-1]:
            taken = min(left, segment.width_units)
            worth.append(taken * segment.relative)
            left -= taken
        return math.fsum([*worth, left * self.segments[-1].relative])

    def net(self, level: float, path: Path | None = None) -> float:
        """Income less running cost, USD per hour, at the mean price."""
        return self.price * self.earns(level, path) - self.running * self.loads(level, path)

    @property
    def loss_curve(self) -> float:
        """Units of segment 1 whose income is lost in every hour of a restart."""
        tops = [float(index) for index in range(len(self.picks))] or [self.top]
        best = max(self._earns_now(top) for top in tops)
        return max(self._earns_now(self.base), RESTART_SHARE_OF_TOP * best)

    def _earns_now(self, level: float) -> float:
        """What a level earns within the horizon: what is stored at its end earns on, restarted or not."""
        if self.filling is None:
            return self.earns(level)
        path = self.filling.alone(level)
        return math.fsum(map(self._curve, path)) / len(path)

    @property
    def charge_usd(self) -> float:
        """What one move costs once, in USD; nothing is lost where nothing was granted."""
        if self.previous is None:
            return 0.0
        return self.loss_hours * max(0.0, self.price * self.loss_curve) + self.fee_usd

    @property
    def is_worthless(self) -> bool:
        """Whether no level can earn anything, whatever it costs."""
        return all(pick.income <= 0 for pick in self.picks) if self.picks else self.price <= 0

    def breakpoints(self) -> list[float]:
        """Units at which what a grant earns bends."""
        ends: list[float] = []
        for segment in self.segments[:-1]:
            ends.append(segment.width_units + (ends[-1] if ends else 0.0))
        return self.filling.bends(ends) if self.filling else ends

    def pieces(self) -> Iterator[Piece]:
        """Stretches of grants in their order; the last one has no end."""
        if self.filling is None:
            for segment in self.segments[:-1]:
                yield Piece(segment.width_units, segment.relative, 1.0)
            yield Piece(math.inf, self.segments[-1].relative, 1.0)
            return
        for begin, end in pairwise([0.0, *(bend for bend in self.breakpoints() if bend > 0)]):
            width = end - begin
            earned, loaded = self.earns(end) - self.earns(begin), self.loads(end) - self.loads(begin)
            if begin == 0.0:
                earned, loaded = self.earns(end), self.loads(end)
            yield Piece(width, earned / width, loaded / width)
        yield Piece(math.inf, 0.0, 0.0)

    def levels(self) -> list[float]:
        """Choices that may be in force, in their order."""
        return [float(index) for index in range(len(self.picks)) if self.allows(float(index))]

    def allows(self, level: float) -> bool:
        """Whether this level keeps every rule of the node itself; the grant in force needs only its range."""
        if self.lock:
            return level == self.base
        units, slack = self.units(level), HAIR * max(self.units(level), self.units(self.base))
        if self.picks:
            return level == self.base == NONE_YET or (level >= 0 and self.floor - slack <= units <= self.top + slack)
        if not self.lowest - slack <= units <= self.top + slack:
            return False
        if self.on_off and units > 0 and units < self.minimum - slack:
            return False
        if units == self.base:
            return True
        whole = not self.lot or abs(units / self.lot - round(units / self.lot)) <= HAIR
        return whole and abs(units - self.base) >= self.band * (1 - HAIR)


def lever_of(node: Node, host: str, horizon_h: int, ignore_pct: float) -> Lever:
    """Return the lever of a node, by horizon means."""
    picks = tuple(
        Pick(each.name, each.units, mean(each.usd_per_hour), mean(each.running_usd_per_hour)) for each in node.choices
    )
    at = {pick.name: float(index) for index, pick in enumerate(picks)}
    price = 1.0 if picks else mean(node.usd_per_unit_hour)
    scenarios = tuple(mean(path) for path in node.scenarios or ())
    if picks and any(scenarios):
        middle = math.fsum(scenarios) / len(scenarios)
        scenarios = tuple(each / middle for each in scenarios)
    stored = node.fill.stored_units if node.fill else 0.0
    return Lever(
        name=node.node,
        node=node.node,
        host=host,
        protocol=node.protocol,
        previous=at.get(node.current_choice or "") if picks else node.current_units,
        top=node.max_units,
        minimum=0.0 if picks else node.min_units,
        floor=max(node.floor_units, stored),
        lot=(node.step_units or 1.0) if node.integer and not picks else 0.0,
        dead_band=0.0 if node.integer else node.step_units,
        on_off=node.on_off and not picks,
        segments=node.segments or (Segment(node.max_units, 1.0),),
        price=price,
        running=1.0 if picks else mean(node.running_usd_per_unit_hour),
        loss_hours=node.restart_loss_hours,
        fee_usd=node.restart_fee_usd,
        ignore_pct=ignore_pct,
        lock=lock_of(node),
        picks=picks,
        filling=Filling(node.fill, horizon_h) if node.fill else None,
        weighed_price=price,
        scenarios=scenarios,
    )


def lock_of(node: Node) -> str | None:
    """Why a node may not be moved; an unknown time of the last change forbids nothing."""
    if node.frozen:
        return "frozen"
    if node.hours_since_change is not None and node.hours_since_change < node.min_dwell_h:
        return "dwell"
    return "evidence" if node.evidence in {"prior", "none"} else None
