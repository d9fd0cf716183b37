"""The mixed-integer programme of one host, one small function per family of rows.

Columns that count units are scaled by the span of their lever, and rows of limits by their capacity, so that cores
and bytes, and prices of 1e-9 and 1e6 USD, meet in numbers near 1. Adding a family: write a function that
adds its rows, and call it in ``build``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .case import HAIR, Case, Grants, Lever, Limit, Overage

Terms = Mapping[int, float]
"""Coefficient by column index."""


@dataclass(frozen=True, slots=True)
class Row:
    """``lower <= terms <= upper``, named by family and subject: ``capacity:cpu_cores``, ``min_units:golem_1``.

    1 on the right-hand side stands for ``scale`` of what the row is about: units, or the resource.
    """

    name: str
    terms: Terms
    lower: float
    upper: float
    scale: float

    @property
    def family(self) -> str:
        """The kind of row: what stands before the colon."""
        return self.name.split(":", 1)[0]


@dataclass(frozen=True, slots=True)
class Part:
    """A column of a grant: what one of it earns at a price of 1, and costs, per hour."""

    column: int
    earns: float
    costs: float


@dataclass(slots=True)
class Columns:
    """Indices of the columns of one lever; None or empty where it needs none of that kind."""

    lever: Lever
    span: float
    units: int = -1
    up: int = -1
    down: int = -1
    rise: int | None = None
    fall: int | None = None
    lots: int | None = None
    on: int | None = None
    parts: list[Part] = field(default_factory=list[Part])
    full: list[int] = field(default_factory=list[int])
    picks: dict[float, int] = field(default_factory=dict[float, int])

    @property
    def takes(self) -> Terms:
        """Units granted, in columns."""
        if self.lever.picks:
            return {column: self.lever.units(level) for level, column in self.picks.items()}
        return {self.units: self.span}

    @property
    def switches(self) -> list[int]:
        """Columns that are 1 where the lever moves."""
        moves = [column for level, column in self.picks.items() if level != self.lever.base]
        return moves + [column for column in (self.rise, self.fall) if column is not None]

    def read(self, values: Sequence[float]) -> float:
        """Return the level that column values stand for; of choices none of which is whole, the weightiest."""
        if not self.lever.picks:
            return values[self.units] * self.span
        stays = 1.0 - math.fsum(values[column] for column in self.picks.values())
        weights = {level: values[column] for level, column in self.picks.items()}
        if self.lever.base not in weights:
            weights[self.lever.base] = stays
        return max(weights, key=lambda level: (weights[level], level == self.lever.base))


@dataclass(slots=True)
class Program:
    """Maximise ``gain`` over columns within bounds and rows; the objective is in USD per hour."""

    lower: list[float] = field(default_factory=list[float])
    upper: list[float] = field(default_factory=list[float])
    gain: list[float] = field(default_factory=list[float])
    integer: list[bool] = field(default_factory=list[bool])
    rows: list[Row] = field(default_factory=list[Row])
    levers: list[Columns] = field(default_factory=list[Columns])

    def column(self, lower: float, upper: float, gain: float = 0.0, *, integer: bool = False) -> int:
        """Add a column and return its index."""
        self.lower.append(lower)
        self.upper.append(upper)
        self.gain.append(gain)
        self.integer.append(integer)
        return len(self.lower) - 1

    def row(
        self, name: str, terms: Terms, *, lower: float = -math.inf, upper: float = math.inf, scale: float = 1.0
    ) -> None:
        """Add a row."""
        self.rows.append(Row(name, terms, lower, upper, scale))


def build(case: Case, *, physical: bool = True) -> Program:
    """Return the programme of a case; where ``physical``, bounds anticipate the limits: no row can be softened then."""
    program = Program()
    program.column(0.0, 0.0)  # a programme without any column is none to the solver
    for lever in case.levers:
        if lever.picks:
            _pick_columns(program, lever, case)
            continue
        _columns(program, lever, case.reach(lever) if physical else lever.top, case)
    for columns in program.levers:
        if columns.lever.lock is None and not columns.lever.picks:
            _range_rows(program, columns)
            _move_rows(program, columns)
            _lot_rows(program, columns)
            _on_off_rows(program, columns)
        if not columns.lever.picks:
            _part_rows(program, columns, ordered=bool(case.shares))
    at = {columns.lever.name: columns for columns in program.levers}
    _limit_rows(program, case, at)
    _overage_rows(program, case, at)
    _move_budget_rows(program, case)
    money = _money(program, case)
    _share_rows(program, case, money)
    _scenario_rows(program, case, money)
    return program


def _pick_columns(program: Program, lever: Lever, case: Case) -> None:
    """One 0/1 column for each choice; exactly one is in force, or none where none is yet."""
    columns = Columns(lever, 1.0)
    for level in [lever.base] if lever.lock and lever.base >= 0 else lever.levels():
        earns, costs = lever.earns(level), lever.running * lever.loads(level)
        charge = lever.charge_usd / case.horizon_h if level != lever.base else 0.0
        fixed = 1.0 if lever.lock else 0.0
        gain = lever.weighed_price * earns - costs - charge
        column = program.column(fixed, 1.0, gain, integer=not lever.lock)
        columns.picks[level] = column
        columns.parts.append(Part(column, earns, costs))
    program.levers.append(columns)
    if lever.lock is None:
        terms = dict.fromkeys(columns.picks.values(), 1.0)
        least = 0.0 if lever.base < 0 else 1.0
        program.row(f"choice:{lever.name}", terms, lower=least)
        program.row(f"one_choice:{lever.name}", terms, upper=1.0)


def _columns(program: Program, lever: Lever, reach: float, case: Case) -> None:
    """Grant, moves and earnings segments of one lever; a restart charge needs a 0/1 column for each direction."""
    span = case.span(lever)
    columns = Columns(lever, span)
    base, top = lever.base / span, max(reach, lever.base) / span
    fixed = (base, base) if lever.lock else (0.0, max(reach, 0.0) / span)
    columns.units = program.column(*fixed)
    columns.up, columns.down = program.column(0.0, top - base), program.column(0.0, base)
    off_lot = bool(lever.lot) and abs(lever.base / lever.lot - round(lever.base / lever.lot)) > 0
    if lever.lock is None and (lever.charge_usd or lever.band or off_lot or case.max_moves is not None):
        charge = -lever.charge_usd / case.horizon_h
        columns.rise = program.column(0, 1, charge, integer=True)
        columns.fall = program.column(0, 1, charge, integer=True)
    if lever.lock is None and lever.lot:
        columns.lots = program.column(0, math.ceil(top * span / lever.lot), integer=True)
    if lever.lock is None and lever.on_off and lever.minimum:
        columns.on = program.column(0, 1, integer=True)
    for piece in lever.pieces():
        earns, costs = piece.earns * span, lever.running * piece.loads * span
        column = program.column(0.0, min(piece.width / span, top), lever.weighed_price * earns - costs)
        columns.parts.append(Part(column, earns, costs))
    program.levers.append(columns)


def _range_rows(program: Program, columns: Columns) -> None:
    """Grant at least the owner's minimum and the floor."""
    lever, terms = columns.lever, {columns.units: 1.0}
    if lever.floor:
        program.row(f"floor_units:{lever.name}", terms, lower=lever.floor / columns.span, scale=columns.span)
    if lever.minimum and not lever.on_off:
        program.row(f"min_units:{lever.name}", terms, lower=lever.minimum / columns.span, scale=columns.span)


def _move_rows(program: Program, columns: Columns) -> None:
    """Grant = grant in force + up - down; a move is paid for, and is no smaller than the dead band."""
    lever, base = columns.lever, columns.lever.base / columns.span
    terms = {columns.units: 1.0, columns.up: -1.0, columns.down: 1.0}
    program.row(f"move:{lever.name}", terms, lower=base, upper=base)
    if columns.rise is None or columns.fall is None:
        return
    band = lever.band / columns.span
    for name, step, switch in (("rise", columns.up, columns.rise), ("fall", columns.down, columns.fall)):
        program.row(f"{name}:{lever.name}", {step: 1.0, switch: -program.upper[step]}, upper=0.0)
        if band:
            program.row(f"{name}_band:{lever.name}", {step: 1.0, switch: -band}, lower=0.0)
    program.row(f"one_way:{lever.name}", {columns.rise: 1.0, columns.fall: 1.0}, upper=1.0)


def _lot_rows(program: Program, columns: Columns) -> None:
    """Whole lots, counted from 0; a grant in force that is no whole number of them may stay."""
    if columns.lots is None:
        return
    lever = columns.lever
    rest = (lever.base - lever.lot * math.floor(lever.base / lever.lot)) / columns.span
    terms = {columns.units: 1.0, columns.lots: -lever.lot / columns.span}
    if columns.rise is not None and columns.fall is not None:
        terms |= {columns.rise: rest, columns.fall: rest}
        program.row(f"lots:{lever.name}", terms, lower=rest, upper=rest)
    else:
        program.row(f"lots:{lever.name}", terms, lower=0.0, upper=0.0)


def _on_off_rows(program: Program, columns: Columns) -> None:
    """Nothing, or at least the smallest size that works."""
    if columns.on is None:
        return
    lever = columns.lever
    program.row(f"off:{lever.name}", {columns.units: 1.0, columns.on: -program.upper[columns.units]}, upper=0.0)
    program.row(f"on:{lever.name}", {columns.units: 1.0, columns.on: -lever.minimum / columns.span}, lower=0.0)


def _part_rows(program: Program, columns: Columns, *, ordered: bool) -> None:
    """Split the grant among the pieces of the earnings curve.

    A concave curve fills its pieces in order by itself; where a later piece is worth more, or where earning less is
    of use (``ordered``), 0/1 columns keep the order.
    """
    lever, parts = columns.lever, columns.parts
    terms = {columns.units: 1.0} | {part.column: -1.0 for part in parts}
    program.row(f"segments:{lever.name}", terms, lower=0.0, upper=0.0)
    prices = (lever.weighed_price, *lever.scenarios)
    slopes = [[price * part.earns - part.costs for part in parts] for price in prices]
    if not ordered and all(after <= slope for each in slopes for slope, after in itertools.pairwise(each)):
        return
    for part, after in itertools.pairwise(parts):
        full = program.column(0, 1, integer=True)
        columns.full.append(full)
        program.row(f"order:{lever.name}", {part.column: 1.0, full: -program.upper[part.column]}, lower=0.0)
        program.row(f"order:{lever.name}", {after.column: 1.0, full: -program.upper[after.column]}, upper=0.0)


def _limit_rows(program: Program, case: Case, at: Mapping[str, Columns]) -> None:
    """Shared limits: what all grants take together fits; scaled to a right-hand side of 1."""
    for limit in case.limits:
        terms = _takes(at, limit)
        if terms:
            scale = max(limit.capacity, 0.0) or max(terms.values())
            program.row(limit.name, _over(terms, scale), upper=limit.capacity / scale, scale=scale)


def _overage_rows(program: Program, case: Case, at: Mapping[str, Columns]) -> None:
    """Data caps: what goes beyond the allowance is paid for."""
    for cap in case.overages:
        terms = _takes(at, cap)
        if not terms:
            continue
        scale = max(cap.allowance, *terms.values())
        most = sum(amount * program.upper[column] for column, amount in terms.items()) / scale
        over = program.column(0.0, most + max(0.0, -cap.allowance / scale), -cap.usd_per_byte * scale / case.horizon_h)
        program.row(cap.name, {**_over(terms, scale), over: -1.0}, upper=cap.allowance / scale, scale=scale)


def _takes(at: Mapping[str, Columns], row: Limit | Overage) -> dict[int, float]:
    """What the columns take of a limit; a choice of nothing takes nothing."""
    return {
        column: per_unit * units
        for name, per_unit in row.uses.items()
        for column, units in at[name].takes.items()
        if per_unit * units
    }


def _over(terms: Terms, scale: float) -> dict[int, float]:
    return {column: amount / scale for column, amount in terms.items()}


def _move_budget_rows(program: Program, case: Case) -> None:
    """At most so many nodes of each host change."""
    if case.max_moves is None:
        return
    for host in dict.fromkeys(columns.lever.host for columns in program.levers):
        switches = [column for columns in program.levers if columns.lever.host == host for column in columns.switches]
        program.row(f"max_moves:{host}", dict.fromkeys(switches, 1.0), upper=float(case.max_moves))


def _money(program: Program, case: Case) -> float:
    """Scale of incomes, USD per hour: more than grants can earn or cost in any scenario."""
    sums = [0.0] * (1 + len(case.weighing.elsewhere if case.weighing else ()))
    for columns in program.levers:
        for part in columns.parts:
            top = program.upper[part.column]
            for index, price in enumerate((columns.lever.price, *columns.lever.scenarios)[: len(sums)]):
                sums[index] += (abs(price * part.earns) + abs(part.costs)) * top
    elsewhere = max(map(abs, case.weighing.elsewhere), default=0.0) if case.weighing else 0.0
    return (max(sums) + elsewhere) or 1.0


def _share_rows(program: Program, case: Case, money: float) -> None:
    """No protocol earns more than its part of all income."""
    for share in case.shares:
        terms: dict[int, float] = {}
        for columns in program.levers:
            part = (columns.lever.protocol == share.protocol) - share.most
            terms |= {each.column: part * columns.lever.price * each.earns / money for each in columns.parts}
        upper = (share.most * share.total_usd_per_hour - share.protocol_usd_per_hour) / money
        program.row(share.name, terms, upper=upper, scale=money)


def _scenario_rows(program: Program, case: Case, money: float) -> None:
    """Mean of the worst scenarios: a level that each of them reaches but for its shortfall, which is paid for."""
    weighing = case.weighing
    if weighing is None:
        return
    parts = [(columns.lever, part) for columns in program.levers for part in columns.parts]
    for lever, part in parts:
        usual = lever.weighed_price * part.earns - part.costs
        program.gain[part.column] -= weighing.weight * usual
    count = len(weighing.elsewhere)
    reached = program.column(-1.0, 1.0, weighing.weight * money)
    price = weighing.weight * money / ((1 - weighing.alpha) * count)
    for index, usd in enumerate(weighing.elsewhere):
        short = program.column(0.0, 2.0, -price)
        terms = {part.column: (lever.scenarios[index] * part.earns - part.costs) / money for lever, part in parts}
        terms = {column: value for column, value in terms.items() if value}
        program.row(f"scenario:{index}", {**terms, short: 1.0, reached: -1.0}, lower=-usd / money)


def fix_integers(program: Program, grants: Grants) -> None:
    """Fix every 0/1 and lot column at what these grants imply, so that marginals of the rest mean something."""
    for columns in program.levers:
        lever, grant = columns.lever, grants[columns.lever.name]
        fixed: dict[int | None, float] = {column: float(level == grant) for level, column in columns.picks.items()}
        if not lever.picks:
            fixed[columns.rise], fixed[columns.fall] = float(grant > lever.base), float(grant < lever.base)
            fixed[columns.on] = float(grant > 0)
        if lever.lot:
            fixed[columns.lots] = float(math.floor(grant / lever.lot + HAIR))
        ends = itertools.accumulate(program.upper[part.column] * columns.span for part in columns.parts)
        fixed |= {full: float(grant >= end) for full, end in zip(columns.full, ends, strict=False)}
        for column, value in fixed.items():
            if column is not None:
                program.lower[column] = program.upper[column] = value
