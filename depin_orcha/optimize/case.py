"""What is decided together: levers with mean prices, shared limits, and the exact value of any grants.

Grants are a mapping from lever name to level. Everything here is exact arithmetic on the true earnings curve, the
true intake of what fills up and the true restart charge; the linear programme of ``rows`` only searches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from .fill import Path, paths
from .lever import HAIR, Lever

__all__ = ["HAIR", "NOISE", "Case", "Gain", "Grants", "Lever", "Limit", "Overage", "Share", "Weighing"]

Grants = Mapping[str, float]

NOISE = 1e-9
"""Gains below this part of the money that moves are rounding, not gains."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that nodes share: ``capacity`` of ``resource``, and what one unit of each takes of it.

    ``elsewhere`` is what others take of it, beside ``capacity``. ``host`` None: hosts share it.
    """

    name: str
    resource: str
    capacity: float
    uses: dict[str, float]
    host: str | None = None
    elsewhere: float = 0.0

    @property
    def hair(self) -> float:
        """By how much the capacity may be exceeded in arithmetic."""
        return HAIR * (self.capacity + self.elsewhere)


@dataclass(frozen=True, slots=True)
class Overage:
    """A data cap that may be exceeded for ``usd_per_byte``; ``allowance`` and ``uses`` are bytes of this horizon."""

    name: str
    allowance: float
    uses: dict[str, float]
    usd_per_byte: float


@dataclass(frozen=True, slots=True)
class Share:
    """One protocol may earn at most ``most`` of all income; the constants are what is earned outside the case."""

    protocol: str
    most: float
    protocol_usd_per_hour: float = 0.0
    total_usd_per_hour: float = 0.0

    @property
    def name(self) -> str:
        """The row that keeps it."""
        return f"income_share:{self.protocol}"


@dataclass(frozen=True, slots=True)
class Weighing:
    """How scenarios count: ``weight`` on the mean of the worst 1 - ``alpha``; ``elsewhere``: what others earn."""

    weight: float
    alpha: float
    elsewhere: tuple[float, ...]

    def cvar(self, incomes: Sequence[float]) -> float:
        """Return the mean of the worst part of equally likely incomes."""
        left = (1 - self.alpha) * len(incomes)
        worst: list[float] = []
        for income in sorted(incomes):
            worst.append(income * min(1.0, left - len(worst)))
            if len(worst) >= left:
                break
        return math.fsum(worst) / left


@dataclass(frozen=True, slots=True)
class Gain:
    """What new grants are worth against the grants in force.

    ``judged_*`` is what decides: the same figures, but for the weight of scenarios.
    """

    current_usd_per_hour: float
    new_usd_per_hour: float
    gross_usd_per_hour: float
    restart_loss_usd: float
    net_usd_per_hour: float
    noise_usd_per_hour: float
    moved: tuple[str, ...]
    judged_current_usd_per_hour: float
    judged_net_usd_per_hour: float


@dataclass(frozen=True)
class Case:
    """What is decided together; levers are in the order of their names, whatever the order of the document."""

    levers: tuple[Lever, ...]
    limits: tuple[Limit, ...]
    horizon_h: int
    max_moves: int | None
    overages: tuple[Overage, ...] = ()
    shares: tuple[Share, ...] = ()
    weighing: Weighing | None = None

    @cached_property
    def hold(self) -> dict[str, float]:
        """The grants in force."""
        return {lever.name: lever.base for lever in self.levers}

    @cached_property
    def by_name(self) -> dict[str, Lever]:
        """Levers by their names."""
        return {lever.name: lever for lever in self.levers}

    @cached_property
    def limits_of(self) -> dict[str, list[Limit]]:
        """Limits that each lever takes something of."""
        found: dict[str, list[Limit]] = {}
        for limit in self.limits:
            for name in limit.uses:
                found.setdefault(name, []).append(limit)
        return found

    @cached_property
    def own(self) -> tuple[Lever, ...]:
        """Levers that are decided here; the others are there because they fill up from the same intake."""
        return tuple(lever for lever in self.levers if lever.lock != "elsewhere")

    @cached_property
    def groups(self) -> tuple[tuple[Lever, ...], ...]:
        """Levers that share one intake."""
        found: dict[str, list[Lever]] = {}
        for lever in self.levers:
            if lever.filling and lever.filling.fill.group is not None:
                found.setdefault(lever.filling.fill.group, []).append(lever)
        return tuple(tuple(group) for group in found.values() if len(group) > 1)

    @cached_property
    def is_plain(self) -> bool:
        """Whether the worth of each lever depends on its own grant alone."""
        return not (self.groups or self.overages or self.weighing)

    def lever(self, name: str) -> Lever:
        """Return the lever of that name."""
        return self.by_name[name]

    def with_lever(self, name: str, **changes: object) -> Case:
        """Return the same case with some members of one lever replaced."""
        levers = tuple(replace(lever, **changes) if lever.name == name else lever for lever in self.levers)
        return replace(self, levers=levers)

    def with_price(self, name: str, price: float) -> Case:
        """Return the same case with another mean price of one lever; all its futures shift with it."""
        lever = self.lever(name)
        shift = price - lever.price
        scenarios = tuple(each * price if lever.picks else each + shift for each in lever.scenarios)
        return self.with_lever(name, price=price, weighed_price=lever.weighed_price + shift, scenarios=scenarios)

    def locking(self, names: Iterable[str], lock: str) -> Case:
        """Return the same case with these levers kept where they are."""
        kept = set(names)
        levers = tuple(
            replace(lever, lock=lever.lock or lock) if lever.name in kept else lever for lever in self.levers
        )
        return replace(self, levers=levers)

    def unbound(self) -> Case:
        """Return the same case without dwell, evidence and thresholds: what one would do if all of it were trusted."""
        levers = tuple(
            replace(lever, ignore_pct=0.0, lock=lever.lock if lever.lock in {"frozen", "elsewhere"} else None)
            for lever in self.levers
        )
        return replace(self, levers=levers, max_moves=None)

    def without_charges(self) -> Case:
        """Return the same case with restarts for free."""
        levers = tuple(replace(lever, loss_hours=0.0, fee_usd=0.0) for lever in self.levers)
        return replace(self, levers=levers)

    def lowered_to(self, grants: Grants) -> Case:
        """Return the same case with the owner's minimums no higher than these grants; sizes that work stay."""
        wishes = {lever.name: lever.minimum if lever.on_off else grants[lever.name] for lever in self.levers}
        levers = tuple(replace(lever, minimum=min(lever.minimum, wishes[lever.name])) for lever in self.levers)
        return replace(self, levers=levers)

    def reach(self, lever: Lever) -> float:
        """Units that the lever could have if it had the limits to itself; never more than its ``top``."""
        rooms = [limit.capacity / limit.uses[lever.name] for limit in self.limits_of.get(lever.name, ())]
        return min([lever.top, *rooms])

    def span(self, lever: Lever) -> float:
        """Natural size of the lever's grants, in units; never 0."""
        return max(self.reach(lever), lever.units(lever.base)) or 1.0

    def used(self, row: Limit | Overage, grants: Grants) -> float:
        """What these grants take of a limit, or of an allowance."""
        levers = self.by_name
        return math.fsum(per_unit * levers[name].units(grants[name]) for name, per_unit in row.uses.items())

    def is_full(self, limit: Limit, grants: Grants) -> bool:
        """Whether these grants take all of it; what no node uses is never full."""
        return bool(limit.uses) and self.used(limit, grants) >= limit.capacity - limit.hair

    def broken_limits(self, grants: Grants) -> list[Limit]:
        """Limits that these grants exceed by more than the tolerance."""
        return [limit for limit in self.limits if self.used(limit, grants) > limit.capacity + limit.hair]

    def broken_shares(self, grants: Grants) -> list[Share]:
        """Protocols that earn more than their part under these grants."""
        if not self.shares:
            return []
        gross = self.gross(grants)
        total = math.fsum(gross.values())
        scale = math.fsum(map(abs, gross.values()))
        broken: list[Share] = []
        for share in self.shares:
            part = math.fsum(usd for name, usd in gross.items() if self.by_name[name].protocol == share.protocol)
            over = part + share.protocol_usd_per_hour - share.most * (total + share.total_usd_per_hour)
            if over > HAIR * (scale + abs(share.total_usd_per_hour)):
                broken.append(share)
        return broken

    def gross(self, grants: Grants) -> dict[str, float]:
        """Income of every lever before running cost, USD per hour."""
        stored = self.stored(grants)
        return {
            lever.name: lever.price * lever.earns(grants[lever.name], stored.get(lever.name)) for lever in self.levers
        }

    def stored(self, grants: Grants) -> dict[str, Path]:
        """What is stored, hour by hour, by the levers that share an intake."""
        found: dict[str, Path] = {}
        for group in self.groups:
            fills = {lever.name: lever.filling.fill for lever in group if lever.filling}
            found |= paths(fills, {name: grants[name] for name in fills}, self.horizon_h)
        return found

    def overage_usd(self, grants: Grants, hosts: frozenset[str] | None = None) -> float:
        """What exceeding the data caps costs per hour; of some hosts: their part, by traffic."""
        costs: list[float] = []
        for cap in self.overages:
            used = self.used(cap, grants)
            cost = cap.usd_per_byte * max(0.0, used - cap.allowance) / self.horizon_h
            if hosts is not None and used:
                own = {name: per_unit for name, per_unit in cap.uses.items() if self.by_name[name].host in hosts}
                cost *= self.used(replace(cap, uses=own), grants) / used
            costs.append(cost)
        return math.fsum(costs)

    def nets(self, grants: Grants) -> dict[str, float]:
        """Income less running cost of every lever, USD per hour."""
        stored = self.stored(grants)
        return {lever.name: lever.net(grants[lever.name], stored.get(lever.name)) for lever in self.levers}

    def worth(self, grants: Grants) -> float:
        """What decides between grants, before restart charges: their value, weighed by what may happen."""
        scales = self._scales(grants)
        usual = math.fsum(lever.weighed_price * earns - costs for lever, earns, costs in scales)
        if self.weighing:
            incomes = self._incomes(scales)
            usual = (1 - self.weighing.weight) * usual + self.weighing.weight * self.weighing.cvar(incomes)
        return usual - self.overage_usd(grants)

    def _scales(self, grants: Grants) -> list[tuple[Lever, float, float]]:
        """Of every lever, what its price falls on and its running cost, USD per hour."""
        stored = self.stored(grants)
        return [
            (lever, lever.earns(grants[lever.name], path), lever.running * lever.loads(grants[lever.name], path))
            for lever in self.levers
            for path in (stored.get(lever.name),)
        ]

    def _incomes(self, scales: list[tuple[Lever, float, float]]) -> list[float]:
        weighing = self.weighing
        elsewhere = weighing.elsewhere if weighing else ()
        return [
            math.fsum([usd, *(lever.scenarios[index] * earns - costs for lever, earns, costs in scales)])
            for index, usd in enumerate(elsewhere)
        ]

    def incomes(self, grants: Grants) -> list[float]:
        """What is earned in every scenario, after running cost, USD per hour."""
        scales = self._scales(grants)
        overage = self.overage_usd(grants)
        return [income - overage for income in self._incomes(scales)]

    def judged(self, grants: Grants) -> float:
        """What decides between grants: their worth less what getting there costs, per hour of the horizon."""
        charges = [lever.charge_usd for lever in self.levers if grants[lever.name] != lever.base]
        return self.worth(grants) - math.fsum(charges) / self.horizon_h

    def gain(self, grants: Grants, host: str | None = None) -> Gain:
        """Worth of grants against those in force, of one host or of all; net is gross less restart loss spread out."""
        levers = [lever for lever in self.own if host in (None, lever.host)]
        moved = [lever for lever in levers if grants[lever.name] != lever.base]
        if self.is_plain:
            changed = moved
            old = {lever.name: lever.net(lever.base) for lever in levers}
            new = {lever.name: lever.net(grants[lever.name]) if lever in moved else old[lever.name] for lever in levers}
        else:
            changed = levers
            old, new = self.nets(self.hold), self.nets(grants)
        hosts = None if host is None else frozenset({host})
        before, after = (self.overage_usd(each, hosts) for each in (self.hold, grants))
        gross = math.fsum([before, -after, *(new[lever.name] - old[lever.name] for lever in changed)])
        restart = math.fsum(lever.charge_usd for lever in moved)
        net, current = gross - restart / self.horizon_h, math.fsum(old[lever.name] for lever in levers) - before
        judged = self._judged(grants, host)
        return Gain(
            current_usd_per_hour=current,
            new_usd_per_hour=math.fsum(new[lever.name] for lever in levers) - after,
            gross_usd_per_hour=gross,
            restart_loss_usd=restart,
            net_usd_per_hour=net,
            noise_usd_per_hour=NOISE * math.fsum(abs(new[lever.name]) + abs(old[lever.name]) for lever in changed),
            moved=tuple(lever.name for lever in moved),
            judged_current_usd_per_hour=judged[0] if judged and host is None else current,
            judged_net_usd_per_hour=judged[1] - restart / self.horizon_h if judged else net,
        )

    def _judged(self, grants: Grants, host: str | None) -> tuple[float, float] | None:
        """Worth now and what is gained, where a sum of means does not say it; of a host: with the others settled.

        Scenarios weigh, an overage is paid once, and what a disk no longer takes goes to one that earns less with it.
        """
        if self.is_plain and all(lever.weighed_price == lever.price for lever in self.levers):
            return None
        others = {lever.name: grants[lever.name] for lever in self.levers if host not in (None, lever.host)}
        current = self.worth({**self.hold, **others})
        return current, self.worth(grants) - current
