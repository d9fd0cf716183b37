"""Many hosts as arrays: one entry per node, earnings segment, limit or use, those of one host side by side.

The nodes of a host stand in the order of their names. Prices have one column per period; all other numbers are as in
``case``, of which this is the form for whole fleets: no Python loop over hosts or hours follows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from itertools import chain
from typing import Any

from .lever import HAIR, RESTART_SHARE_OF_TOP, lock_of
from .nouns import RESOURCES, Host, Node, Segment, mean
from .problem import Problem

# numpy ships stubs that are of little help under strict checking, scipy has none.
np: Any = import_module("numpy")

Array = Any
"""A numpy array."""


@dataclass(frozen=True)
class Fleet:
    """``hosts`` and ``nodes`` in order, ``first_node`` tells where those of a host begin.

    ``periods`` of equal length make up the horizon. ``limits`` are name and resource; ``limit_host``, ``seg_node``,
    ``use_limit`` and ``use_node`` are indices into this fleet; ``use_amount`` is what one unit takes of a limit.
    """

    hosts: tuple[Host, ...]
    nodes: tuple[Node, ...]
    horizon_h: int
    periods: int
    host: Array
    base: Array
    new: Array
    top: Array
    lowest: Array
    minimum: Array
    floor: Array
    lot: Array
    band: Array
    on_off: Array
    locks: tuple[str | None, ...]
    locked: Array
    prices: Array
    running: Array
    price: Array
    cost: Array
    loss_hours: Array
    fee: Array
    seg_node: Array
    seg_start: Array
    seg_width: Array
    seg_relative: Array
    limits: tuple[tuple[str, str], ...]
    limit_host: Array
    capacity: Array
    use_limit: Array
    use_node: Array
    use_amount: Array
    first_node: Array

    def curve(self, units: Array) -> Array:
        """Units of segment 1 that earn as much as ``units`` do, by node; the last segment has no end."""
        taken = np.clip(units[self.seg_node] - self.seg_start, 0.0, self.seg_width)
        return np.bincount(self.seg_node, taken * self.seg_relative, minlength=len(self.nodes))

    def net(self, units: Array) -> Array:
        """Income less running cost by node, USD per hour, at mean prices."""
        return self.price * self.curve(units) - self.cost * units

    @cached_property
    def net_now(self) -> Array:
        """Income less running cost of the grants in force by node, USD per hour."""
        return self.net(self.base)

    @cached_property
    def charge_usd(self) -> Array:
        """What one move of each node costs once; nothing where nothing was granted."""
        lost = np.maximum(self.curve(self.base), RESTART_SHARE_OF_TOP * self.curve(self.top))
        return np.where(self.new, 0.0, self.loss_hours * np.maximum(0.0, self.price * lost) + self.fee)

    def used(self, units: Array) -> Array:
        """What grants take of each limit."""
        return np.bincount(self.use_limit, self.use_amount * units[self.use_node], minlength=len(self.capacity))

    def used_instead(self, units: Array, other: Array) -> Array:
        """What is taken of the limit of each use, if the node of that use alone had its ``other`` grant."""
        return self.used(units)[self.use_limit] + self.use_amount * (other - units)[self.use_node]

    @cached_property
    def reach(self) -> Array:
        """Units that a node could have if it had the limits to itself; never more than its ``top``."""
        reach = self.top.copy()
        np.minimum.at(reach, self.use_node, self.capacity[self.use_limit] / self.use_amount)
        return reach

    @cached_property
    def span(self) -> Array:
        """Natural size of the grants of each node; never 0."""
        span = np.maximum(self.reach, self.base)
        return np.where(span > 0, span, 1.0)

    def per_host(self, amounts: Array) -> Array:
        """Sum by host of amounts by node."""
        return np.bincount(self.host, amounts, minlength=len(self.hosts))

    def hosts_of(self, broken: Array) -> Array:
        """Whether any limit of a host is marked, by host."""
        return np.bincount(self.limit_host, broken, minlength=len(self.hosts)) > 0

    def unable(self) -> Array:
        """Hosts that have no grants within all limits and ranges: not even the smallest fit."""
        least = np.where(self.locked, self.base, self.lowest)
        crossed = ~self.locked & (self.lowest > self.top * (1 + HAIR))
        full = self.used(least) > self.capacity * (1 + HAIR)
        return self.hosts_of(full) | (self.per_host(crossed) > 0)


def positions(mask: Array) -> list[int]:
    """Return the indices of what is marked."""
    return np.flatnonzero(mask).tolist()


def fleet_of(problem: Problem, hosts: Sequence[Host], *, unbound: bool = False) -> Fleet:
    """Return these hosts of a problem; one period where no price depends on the hour, else one per hour.

    ``unbound``: without dwell, evidence and ``ignore_change_pct``, as if all numbers were trusted.
    """
    ordered = [sorted(host.nodes, key=lambda node: node.node) for host in hosts]
    nodes = tuple(chain.from_iterable(ordered))
    counts = np.array([len(each) for each in ordered], dtype=int)
    host = np.repeat(np.arange(len(counts)), counts)
    hourly = any(isinstance(node.usd_per_unit_hour, tuple) for node in nodes)
    hourly = hourly or any(isinstance(node.running_usd_per_unit_hour, tuple) for node in nodes)
    periods = problem.horizon_h if hourly else 1

    def column(get: Callable[[Node], float]) -> Array:
        return np.fromiter(map(get, nodes), float, len(nodes))

    base, top = column(lambda node: node.current_units or 0.0), column(lambda node: node.max_units)
    step, whole = column(lambda node: node.step_units), column(lambda node: node.integer) > 0
    minimum, floor = column(lambda node: node.min_units), column(lambda node: node.floor_units)
    on_off = column(lambda node: node.on_off) > 0
    locks = tuple(map(lock_of, nodes))
    ignored = problem.thresholds.ignore_change_pct / 100 * base
    if unbound:
        locks, ignored = tuple(lock if lock == "frozen" else None for lock in locks), 0.0 * base
    return Fleet(
        hosts=tuple(hosts),
        nodes=nodes,
        horizon_h=problem.horizon_h,
        periods=periods,
        host=host,
        base=base,
        new=column(lambda node: node.current_units is None) > 0,
        top=top,
        lowest=np.where(on_off, floor, np.maximum(minimum, floor)),
        minimum=minimum,
        floor=floor,
        lot=np.where(whole, np.where(step > 0, step, 1.0), 0.0),
        band=np.maximum(np.where(whole, 0.0, step), ignored),
        on_off=on_off,
        locks=locks,
        locked=np.array([lock is not None for lock in locks], dtype=bool),
        prices=_hours([node.usd_per_unit_hour for node in nodes], periods),
        running=_hours([node.running_usd_per_unit_hour for node in nodes], periods),
        price=column(lambda node: mean(node.usd_per_unit_hour)),
        cost=column(lambda node: mean(node.running_usd_per_unit_hour)),
        loss_hours=column(lambda node: node.restart_loss_hours),
        fee=column(lambda node: node.restart_fee_usd),
        first_node=np.concatenate([[0], np.cumsum(counts)]),
        **_segments(nodes),
        **_limits(hosts, nodes, host),
    )


def _hours(series: list[Any], periods: int) -> Array:
    table = np.empty((len(series), periods))
    for row, each in zip(table, series, strict=True):
        row[:] = each
    return table


def _segments(nodes: tuple[Node, ...]) -> dict[str, Array]:
    """Segments of all nodes; where a node states none it has one."""
    parts = [node.segments or (Segment(math.inf, 1.0),) for node in nodes]
    many = np.fromiter(map(len, parts), int, len(parts))
    owner, last = np.repeat(np.arange(len(nodes)), many), np.cumsum(many) - 1
    flat = list(chain.from_iterable(parts))
    width = np.fromiter((each.width_units for each in flat), float, len(flat))
    width[last] = 0.0
    start = np.cumsum(width) - width
    start -= np.repeat(start[last - many + 1], many) if len(nodes) else 0.0
    width[last] = math.inf
    relative = np.fromiter((each.relative for each in flat), float, len(flat))
    return {"seg_node": owner, "seg_start": start, "seg_width": width, "seg_relative": relative}


def _limits(hosts: Sequence[Host], nodes: tuple[Node, ...], host: Array) -> dict[str, Any]:
    """Capacities and disks of all hosts, and what a unit of each node takes of them."""
    limits: list[tuple[str, str]] = []
    sizes: list[float] = []
    owners: list[int] = []
    at: dict[tuple[int, str], int] = {}
    for index, each in enumerate(hosts):
        stated = [(f"capacity:{key}", key, each.capacity[key]) for key in RESOURCES if key in each.capacity]
        stated += [(f"disk:{mount}", "storage_bytes", size) for mount, size in sorted(each.disks.items())]
        for name, resource, size in stated:
            at[index, name] = len(limits)
            limits.append((name, resource))
            sizes.append(size)
            owners.append(index)
    uses: list[tuple[int, int, float]] = []
    for index, (node, owner) in enumerate(zip(nodes, host.tolist(), strict=True)):
        for key, amount in node.uses_per_unit.items():
            if amount > 0:
                uses.append((at[owner, f"capacity:{key}"], index, amount))
                if key == "storage_bytes" and node.disk is not None:
                    uses.append((at[owner, f"disk:{node.disk}"], index, amount))
    table = np.array(uses, dtype=float).reshape(-1, 3)
    return {
        "limits": tuple(limits),
        "limit_host": np.array(owners, dtype=int),
        "capacity": np.array(sizes, dtype=float),
        "use_limit": table[:, 0].astype(int),
        "use_node": table[:, 1].astype(int),
        "use_amount": table[:, 2],
    }
