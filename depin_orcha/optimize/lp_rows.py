"""The linear programme of many hosts at once, one period after another: arrays only, one function per family of rows.

Columns that count units are scaled by the span of their node and rows of limits by their capacity. Where no row joins
hosts, the objective is scaled host by host, so that rich hosts do not hide poor ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from .fleet import Array, Fleet, np
from .lp_links import Link

_sparse: Any = import_module("scipy.sparse")

TIE = 1e-8
"""Cost of moving a node through its range, relative to the largest coefficient: decides between equal optima only."""


@dataclass(slots=True)
class Rows:
    """Rows of one kind as they are gathered: entries by row and column, and right-hand sides."""

    count: int = 0
    index: list[Array] = field(default_factory=list[Array])
    column: list[Array] = field(default_factory=list[Array])
    value: list[Array] = field(default_factory=list[Array])
    sides: list[Array] = field(default_factory=list[Array])

    def add(self, sides: Array, *terms: tuple[Array, Array, Array | float]) -> int:
        """Add rows with these right-hand sides; terms are (row among these, column, value). Returns the first row."""
        first = self.count
        for index, column, value in terms:
            self.index.append(first + index)
            self.column.append(column)
            self.value.append(np.broadcast_to(value, index.shape))
        self.sides.append(sides)
        self.count += len(sides)
        return first

    def matrix(self, columns: int) -> Any:
        """Return the sparse matrix."""
        if not self.count:
            return None
        entries = [np.concatenate(each) for each in (self.value, self.index, self.column)]
        return _sparse.csc_array((entries[0], (entries[1], entries[2])), shape=(self.count, columns))

    @property
    def side(self) -> Array:
        """Right-hand sides."""
        return np.concatenate(self.sides) if self.count else None


@dataclass(slots=True)
class Sheet:
    """A programme being written: maximise ``gain`` over columns within bounds, equal rows and ``<=`` rows.

    ``owner`` is the node of each column, ``tie`` its cost between equal optima.
    """

    fleet: Fleet
    span: Array
    reach: Array
    columns: int = 0
    lower: list[Array] = field(default_factory=list[Array])
    upper: list[Array] = field(default_factory=list[Array])
    gain: list[Array] = field(default_factory=list[Array])
    tie: list[Array] = field(default_factory=list[Array])
    owner: list[Array] = field(default_factory=list[Array])
    equal: Rows = field(default_factory=Rows)
    most: Rows = field(default_factory=Rows)

    def add(self, owner: Array, lower: Any, upper: Any, gain: Any, tie: Any = 0.0) -> Array:
        """Add one column for each owner; returns their indices."""
        columns = self.columns + np.arange(len(owner))
        for kept, value in ((self.lower, lower), (self.upper, upper), (self.gain, gain), (self.tie, tie)):
            kept.append(np.broadcast_to(value, owner.shape))
        self.owner.append(owner)
        self.columns += len(owner)
        return columns


@dataclass(frozen=True, slots=True)
class Program:
    """Minimise ``cost``, which is ``gain`` in USD per hour with its sign turned, ``scale`` by host being 1 of it.

    ``units`` are the columns of the grants by node and period, ``limits`` the rows of limits, ``links`` those that
    join hosts.
    """

    cost: Array
    gain: Array
    bounds: Array
    a_ub: Any
    b_ub: Array
    a_eq: Any
    b_eq: Array
    span: Array
    units: Array
    limits: Array
    limit_scale: Array
    links: list[Array]
    scale: Array


def program_of(fleet: Fleet, dear: Array | None = None, links: Sequence[Link] = ()) -> Program:
    """Return the programme of these hosts, all of which must have some plan.

    ``dear``: what one unit of each node costs on top in each period, USD per hour. ``links`` join the hosts: then all
    of them have one scale of the objective.
    """
    sheet = Sheet(fleet, fleet.span, fleet.reach)
    units = _grants(sheet, dear)
    _earnings(sheet, units)
    _moves(sheet, units)
    scale = _limit_rows(sheet, units)
    joined = [_link_rows(sheet, units, link) for link in links]
    return _program(sheet, units, scale, joined)


def _grid(count: int, periods: int) -> tuple[Array, Array]:
    """Index of the thing and of the period, for one column or row per thing and period."""
    return np.repeat(np.arange(count), periods), np.tile(np.arange(periods), count)


def _single(fleet: Fleet) -> Array:
    """Segment of each node, for those that have only one; -1 for the others."""
    count = np.bincount(fleet.seg_node, minlength=len(fleet.nodes))
    first = np.searchsorted(fleet.seg_node, np.arange(len(fleet.nodes)))
    return np.where(count == 1, first, -1)


def _grants(sheet: Sheet, dear: Array | None) -> Array:
    """Grant of each node and period, within its range; of two nodes alike the first by name is preferred."""
    fleet, span = sheet.fleet, sheet.span[:, None]
    node, _ = _grid(len(fleet.nodes), fleet.periods)
    single = _single(fleet)
    relative = np.where(single >= 0, fleet.seg_relative[single], 0.0)[:, None]
    gain = (fleet.prices * relative - fleet.running - (0.0 if dear is None else dear)) * span / fleet.periods
    lower = np.where(fleet.locked, fleet.base, fleet.lowest) / sheet.span
    upper = np.where(fleet.locked, fleet.base, np.maximum(sheet.reach, fleet.lowest)) / sheet.span
    rank = np.arange(len(fleet.nodes)) - fleet.first_node[fleet.host]
    tie = rank / np.diff(fleet.first_node)[fleet.host] / 10
    return sheet.add(node, lower[node], upper[node], gain.ravel(), tie[node]).reshape(len(fleet.nodes), fleet.periods)


def _earnings(sheet: Sheet, units: Array) -> None:
    """Split grants among the segments of the curve, which fill in order by themselves because it is concave.

    Where a price is negative they would not: there all of them count as the straight line that bounds the curve.
    """
    fleet = sheet.fleet
    parts = np.flatnonzero(_single(fleet)[fleet.seg_node] < 0)
    owner = fleet.seg_node[parts]
    split = np.unique(owner)
    if not len(split):
        return
    part, period = _grid(len(parts), fleet.periods)
    node, price, span = owner[part], fleet.prices[owner].ravel(), sheet.span[owner][part]
    straight = fleet.curve(sheet.span) / sheet.span
    relative = np.where(price >= 0, fleet.seg_relative[parts][part], straight[node])
    width = np.minimum(fleet.seg_width[parts], sheet.span[owner]) / sheet.span[owner]
    columns = sheet.add(node, 0.0, width[part], price * relative * span / fleet.periods)
    row = np.searchsorted(split, node) * fleet.periods + period
    whole = np.arange(len(split) * fleet.periods)
    sheet.equal.add(np.zeros(len(whole)), (whole, units[split].ravel(), 1.0), (row, columns, -1.0))


def _moves(sheet: Sheet, units: Array) -> None:
    """Grant = grant before + up - down; each unit moved costs half of what is lost, and its part of the fee."""
    fleet, periods = sheet.fleet, sheet.fleet.periods
    relative = fleet.seg_relative[np.searchsorted(fleet.seg_node, np.arange(len(fleet.nodes)))]
    usd = fleet.loss_hours * np.maximum(0.0, fleet.price) * relative / 2 + fleet.fee / sheet.span
    node, period = _grid(len(fleet.nodes), periods)
    kept = ~fleet.locked[node] & ((period == 0) | (usd[node] > 0))
    node, period = node[kept], period[kept]
    first = period == 0
    cost = np.where(first & fleet.new[node], 0.0, usd[node] * sheet.span[node] / fleet.horizon_h)
    up = sheet.add(node, 0.0, np.inf, -cost, np.where(first, 1.0, 0.0))
    down = sheet.add(node, 0.0, np.inf, -cost, np.where(first, 1.0, 0.0))
    row, later = np.arange(len(node)), np.flatnonzero(~first)
    sheet.equal.add(
        np.where(first, fleet.base[node] / sheet.span[node], 0.0),
        (row, units[node, period], 1.0),
        (later, units[node[later], period[later] - 1], -1.0),
        (row, up, -1.0),
        (row, down, 1.0),
    )


def _limit_rows(sheet: Sheet, units: Array) -> Array:
    """What all grants take together fits, in every period: the first rows. Returns the scale of each limit."""
    fleet, periods = sheet.fleet, sheet.fleet.periods
    weight = fleet.use_amount * sheet.span[fleet.use_node]
    largest = np.zeros(len(fleet.capacity))
    np.maximum.at(largest, fleet.use_limit, weight)
    scale = np.where(fleet.capacity > 0, fleet.capacity, np.where(largest > 0, largest, 1.0))
    use, period = _grid(len(fleet.use_limit), periods)
    sheet.most.add(
        np.repeat(fleet.capacity / scale, periods),
        (
            fleet.use_limit[use] * periods + period,
            units[fleet.use_node[use], period],
            (weight / scale[fleet.use_limit])[use],
        ),
    )
    return scale


def _link_rows(sheet: Sheet, units: Array, link: Link) -> Array:
    """What the nodes of all hosts take together fits, in every period or over all of them. Returns the rows."""
    periods = sheet.fleet.periods
    user, period = _grid(len(users := np.flatnonzero(link.weight)), periods)
    weight = (link.weight * sheet.span)[users][user] / link.scale
    count = periods if link.hourly else 1
    row, share = (period, 1.0) if link.hourly else (np.zeros(len(period), dtype=int), 1 / periods)
    first = sheet.most.add(np.full(count, link.limit / link.scale), (row, units[users[user], period], weight * share))
    return first + np.arange(count)


def _program(sheet: Sheet, units: Array, limit_scale: Array, links: list[Array]) -> Program:
    fleet = sheet.fleet
    gain, tie = np.concatenate(sheet.gain), np.concatenate(sheet.tie)
    host = fleet.host[np.concatenate(sheet.owner)]
    scale = np.zeros(len(fleet.hosts))
    np.maximum.at(scale, host, np.abs(gain))
    scale = np.where(scale > 0, scale, 1.0)
    if links:
        scale[:] = scale.max(initial=0.0)
    rows = len(fleet.capacity) * fleet.periods
    return Program(
        cost=-gain / scale[host] + TIE * tie,
        gain=gain,
        bounds=np.column_stack([np.concatenate(sheet.lower), np.concatenate(sheet.upper)]),
        a_ub=sheet.most.matrix(sheet.columns),
        b_ub=sheet.most.side,
        a_eq=sheet.equal.matrix(sheet.columns),
        b_eq=sheet.equal.side,
        span=sheet.span,
        units=units,
        limits=np.arange(rows).reshape(-1, fleet.periods),
        limit_scale=limit_scale,
        links=links,
        scale=scale,
    )
