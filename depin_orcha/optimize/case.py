"""One host as the decision sees it: levers with mean prices, shared limits, and the exact value of any grants.

Grants are a mapping from node name to units. Everything here is exact arithmetic on the true earnings curve
and the true restart charge; the linear programme of ``rows`` only searches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from .problem import RESOURCES, Host, Node, Problem, Segment, mean

Grants = Mapping[str, float]

HAIR = 1e-6
"""Relative tolerance of every row, and the smallest part of its range by which a grant can move."""
NOISE = 1e-9
"""Gains below this part of the money that moves are rounding, not gains."""
RESTART_SHARE_OF_TOP = 0.35
"""A node that was nearly idle still loses this part of what it could earn when it restarts."""


@dataclass(frozen=True, slots=True)
class Lever:
    """One node: the grant in force, what it may become, and what it is worth.

    ``price`` and ``running`` are horizon means in USD per unit and hour. ``lock`` says why the grant may not
    be moved (``frozen``, ``dwell``, ``evidence``), None where it may.
    """

    name: str
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

    @property
    def base(self) -> float:
        """The grant in force, in units; nothing granted yet is 0."""
        return self.previous or 0.0

    @property
    def lowest(self) -> float:
        """Smallest grant that breaks neither the floor nor the owner's wish."""
        return self.floor if self.on_off else max(self.minimum, self.floor)

    @property
    def band(self) -> float:
        """Smallest move that is made, in units."""
        return max(self.dead_band, self.ignore_pct / 100 * self.base)

    def curve(self, units: float) -> float:
        """Units of segment 1 that earn as much as ``units`` do; the last segment has no end."""
        worth: list[float] = []
        left = units
        for segment in self.segments[:-1]:
            taken = min(left, segment.width_units)
            worth.append(taken * segment.relative)
            left -= taken
        return math.fsum([*worth, left * self.segments[-1].relative])

    def net(self, units: float) -> float:
        """Income less running cost, USD per hour."""
        return self.price * self.curve(units) - self.running * units

    @property
    def loss_curve(self) -> float:
        """Units of segment 1 whose income is lost in every hour of a restart."""
        return max(self.curve(self.base), RESTART_SHARE_OF_TOP * self.curve(self.top))

    @property
    def charge_usd(self) -> float:
        """What one move costs once, in USD; nothing is lost where nothing was granted."""
        if self.previous is None:
            return 0.0
        return self.loss_hours * max(0.0, self.price * self.loss_curve) + self.fee_usd

    def breakpoints(self) -> Iterator[float]:
        """Units at which the earnings curve bends."""
        end = 0.0
        for segment in self.segments[:-1]:
            end += segment.width_units
            yield end

    def allows(self, units: float) -> bool:
        """Whether this grant keeps every rule of the node itself; the grant in force needs only its range."""
        slack = HAIR * max(units, self.base)
        if self.lock:
            return units == self.base
        if not self.lowest - slack <= units <= self.top + slack:
            return False
        if self.on_off and units > 0 and units < self.minimum - slack:
            return False
        if units == self.base:
            return True
        whole = not self.lot or abs(units / self.lot - round(units / self.lot)) <= HAIR
        return whole and abs(units - self.base) >= self.band * (1 - HAIR)


@dataclass(frozen=True, slots=True)
class Limit:
    """Something physical that nodes share: ``capacity`` of ``resource``, and what one unit of each takes of it."""

    name: str
    resource: str
    capacity: float
    uses: dict[str, float]

    def used(self, units: Grants) -> float:
        """What these grants take of it."""
        return math.fsum(per_unit * units[name] for name, per_unit in self.uses.items())

    def is_full(self, units: Grants) -> bool:
        """Whether these grants take all of it; what no node uses is never full."""
        return bool(self.uses) and self.used(units) >= self.capacity * (1 - HAIR)


@dataclass(frozen=True, slots=True)
class Gain:
    """What new grants are worth against the grants in force."""

    current_usd_per_hour: float
    new_usd_per_hour: float
    gross_usd_per_hour: float
    restart_loss_usd: float
    net_usd_per_hour: float
    noise_usd_per_hour: float
    moved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """One host to decide; levers are in the order of their names, whatever the order of the document."""

    levers: tuple[Lever, ...]
    limits: tuple[Limit, ...]
    horizon_h: int
    max_moves: int | None

    @property
    def hold(self) -> dict[str, float]:
        """The grants in force."""
        return {lever.name: lever.base for lever in self.levers}

    def lever(self, name: str) -> Lever:
        """Return the lever of that name."""
        return next(lever for lever in self.levers if lever.name == name)

    def with_lever(self, name: str, **changes: object) -> Case:
        """Return the same case with some members of one lever replaced."""
        levers = tuple(replace(lever, **changes) if lever.name == name else lever for lever in self.levers)
        return replace(self, levers=levers)

    def unbound(self) -> Case:
        """Return the same case without dwell, evidence and thresholds: what one would do if all of it were trusted."""
        levers = tuple(
            replace(lever, ignore_pct=0.0, lock=lever.lock if lever.lock == "frozen" else None) for lever in self.levers
        )
        return replace(self, levers=levers, max_moves=None)

    def without_charges(self) -> Case:
        """Return the same case with restarts for free."""
        levers = tuple(replace(lever, loss_hours=0.0, fee_usd=0.0) for lever in self.levers)
        return replace(self, levers=levers)

    def lowered_to(self, units: Grants) -> Case:
        """Return the same case with the owner's minimums no higher than these grants; sizes that work stay."""
        wishes = {lever.name: lever.minimum if lever.on_off else units[lever.name] for lever in self.levers}
        levers = tuple(replace(lever, minimum=min(lever.minimum, wishes[lever.name])) for lever in self.levers)
        return replace(self, levers=levers)

    def reach(self, lever: Lever) -> float:
        """Units that the lever could have if it had the limits to itself; never more than its ``top``."""
        rooms = [limit.capacity / limit.uses[lever.name] for limit in self.limits if lever.name in limit.uses]
        return min([lever.top, *rooms])

    def span(self, lever: Lever) -> float:
        """Natural size of the lever's grants, in units; never 0."""
        return max(self.reach(lever), lever.base) or 1.0

    def gain(self, units: Grants) -> Gain:
        """Worth of ``units`` against the grants in force; net is gross less restart loss spread over the horizon."""
        moved = [lever for lever in self.levers if units[lever.name] != lever.base]
        pairs = [(lever.net(units[lever.name]), lever.net(lever.base)) for lever in moved]
        gross = math.fsum(new - old for new, old in pairs)
        restart = math.fsum(lever.charge_usd for lever in moved)
        return Gain(
            current_usd_per_hour=math.fsum(lever.net(lever.base) for lever in self.levers),
            new_usd_per_hour=math.fsum(lever.net(units[lever.name]) for lever in self.levers),
            gross_usd_per_hour=gross,
            restart_loss_usd=restart,
            net_usd_per_hour=gross - restart / self.horizon_h,
            noise_usd_per_hour=NOISE * math.fsum(abs(new) + abs(old) for new, old in pairs),
            moved=tuple(lever.name for lever in moved),
        )

    def broken_limits(self, units: Grants) -> list[Limit]:
        """Limits that these grants exceed by more than the tolerance."""
        return [limit for limit in self.limits if limit.used(units) > limit.capacity * (1 + HAIR)]


def case_of(problem: Problem, host: Host) -> Case:
    """Return the decision of one host; model ``spec`` leaves out segments, running cost, lots and restart charges."""
    nodes = sorted(host.nodes, key=lambda node: node.node)
    levers = [_lever(node, problem.thresholds.ignore_change_pct) for node in nodes]
    if problem.model == "spec":
        levers = [_textbook(lever) for lever in levers]
    limits = [_limit(f"capacity:{key}", key, host.capacity[key], nodes) for key in RESOURCES if key in host.capacity]
    for mount, size_bytes in sorted(host.disks.items()):
        on_disk = [node for node in nodes if node.disk == mount]
        limits.append(_limit(f"disk:{mount}", "storage_bytes", size_bytes, on_disk))
    return Case(tuple(levers), tuple(limits), problem.horizon_h, problem.thresholds.max_moves)


def _limit(name: str, resource: str, capacity: float, nodes: list[Node]) -> Limit:
    uses = {node.node: node.uses_per_unit.get(resource, 0.0) for node in nodes}
    return Limit(name, resource, capacity, {key: amount for key, amount in uses.items() if amount > 0})


def _lever(node: Node, ignore_pct: float) -> Lever:
    return Lever(
        name=node.node,
        previous=node.current_units,
        top=node.max_units,
        minimum=node.min_units,
        floor=node.floor_units,
        lot=(node.step_units or 1.0) if node.integer else 0.0,
        dead_band=0.0 if node.integer else node.step_units,
        on_off=node.on_off,
        segments=node.segments or (Segment(node.max_units, 1.0),),
        price=mean(node.usd_per_unit_hour),
        running=mean(node.running_usd_per_unit_hour),
        loss_hours=node.restart_loss_hours,
        fee_usd=node.restart_fee_usd,
        ignore_pct=ignore_pct,
        lock=_lock(node),
    )


def _lock(node: Node) -> str | None:
    """Why a node may not be moved; an unknown time of the last change forbids nothing."""
    if node.frozen:
        return "frozen"
    if node.hours_since_change is not None and node.hours_since_change < node.min_dwell_h:
        return "dwell"
    return "evidence" if node.evidence in {"prior", "none"} else None


def _textbook(lever: Lever) -> Lever:
    return replace(
        lever,
        lot=0.0,
        dead_band=0.0,
        on_off=False,
        segments=(Segment(lever.top, 1.0),),
        running=0.0,
        loss_hours=0.0,
        fee_usd=0.0,
    )
