"""The mixed-integer programme of one host, one small function per family of rows.

Columns that count units are scaled by the span of their lever, and rows of limits by their capacity, so that cores
and bytes, and prices of 1e-9 and 1e6 USD, meet in numbers near 1. Adding a family: write a function that
adds its rows, and call it in ``build``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from .case import HAIR, Case, Grants, Lever

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
    segments: list[int] = field(default_factory=list[int])
    full: list[int] = field(default_factory=list[int])


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
    for lever in case.levers:
        reach = case.reach(lever) if physical else lever.top
        _columns(program, lever, case.span(lever), reach, case)
    for columns in program.levers:
        if columns.lever.lock is None:
            _range_rows(program, columns)
            _move_rows(program, columns)
            _lot_rows(program, columns)
            _on_off_rows(program, columns)
        _segment_rows(program, columns)
    _limit_rows(program, case)
    _move_budget_row(program, case)
    return program


def _columns(program: Program, lever: Lever, span: float, reach: float, case: Case) -> None:
    """Grant, moves and earnings segments of one lever; a restart charge needs a 0/1 column for each direction."""
    columns = Columns(lever, span)
    base, top = lever.base / span, max(reach, lever.base) / span
    fixed = (base, base) if lever.lock else (0.0, max(reach, 0.0) / span)
    columns.units = program.column(*fixed, -lever.running * span)
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
    widths = [segment.width_units / span for segment in lever.segments[:-1]] + [top]
    for segment, width in zip(lever.segments, widths, strict=True):
        gain = lever.price * segment.relative * span
        columns.segments.append(program.column(0.0, min(width, top), gain))
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


def _segment_rows(program: Program, columns: Columns) -> None:
    """Split the grant among the segments of the earnings curve.

    A concave curve fills its segments in order by itself; where the price is negative, 0/1 columns keep the order.
    """
    lever, parts = columns.lever, columns.segments
    terms = {columns.units: 1.0} | dict.fromkeys(parts, -1.0)
    program.row(f"segments:{lever.name}", terms, lower=0.0, upper=0.0)
    if lever.price >= 0:
        return
    for part, after in itertools.pairwise(parts):
        full = program.column(0, 1, integer=True)
        columns.full.append(full)
        program.row(f"order:{lever.name}", {part: 1.0, full: -program.upper[part]}, lower=0.0)
        program.row(f"order:{lever.name}", {after: 1.0, full: -program.upper[after]}, upper=0.0)


def _limit_rows(program: Program, case: Case) -> None:
    """Shared limits: what all grants take together fits; scaled to a right-hand side of 1."""
    at = {columns.lever.name: columns for columns in program.levers}
    for limit in case.limits:
        weights = {name: per_unit * at[name].span for name, per_unit in limit.uses.items()}
        if weights:
            scale = limit.capacity or max(weights.values())
            terms = {at[name].units: weight / scale for name, weight in weights.items()}
            program.row(limit.name, terms, upper=limit.capacity / scale, scale=scale)


def _move_budget_row(program: Program, case: Case) -> None:
    """At most so many nodes change."""
    if case.max_moves is None:
        return
    switches = [column for columns in program.levers for column in (columns.rise, columns.fall) if column is not None]
    program.row("max_moves:host", dict.fromkeys(switches, 1.0), upper=float(case.max_moves))


def fix_integers(program: Program, units: Grants) -> None:
    """Fix every 0/1 and lot column at what these grants imply, so that marginals of the rest mean something."""
    for columns in program.levers:
        lever, grant = columns.lever, units[columns.lever.name]
        fixed: dict[int | None, float] = {
            columns.rise: float(grant > lever.base),
            columns.fall: float(grant < lever.base),
            columns.on: float(grant > 0),
        }
        if lever.lot:
            fixed[columns.lots] = float(math.floor(grant / lever.lot + HAIR))
        ends = itertools.accumulate(program.upper[part] * columns.span for part in columns.segments)
        fixed |= {full: float(grant >= end) for full, end in zip(columns.full, ends, strict=False)}
        for column, value in fixed.items():
            if column is not None:
                program.lower[column] = program.upper[column] = value
