"""The best grants of one host: the programme, its relaxation where it has no solution, and what to do without one."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .case import HAIR, Case, Grants
from .rows import Program, Row, build
from .settle import Mutable, gate, keeps_rules, polish, snap, tidy, whole_lots

if TYPE_CHECKING:
    from .highs import Solver

WISHES = {"min_units": 1.0}
SHARED = ("capacity", "disk", "coupling", "data_cap", "max_watts")
"""Families of limits that one raises to make room."""
PHYSICAL = WISHES | {"floor_units": 1e2, "choice": 1e2, "income_share": 1e4} | dict.fromkeys(SHARED, 1e4)
"""Families of rows that may be softened to find out what clashes, and what breaking each costs."""

EARNINGS_BESIDE_SLACK = 1e-4
"""All the money of a host beside one slack of its full size: money decides only between equal slacks."""


@dataclass(frozen=True, slots=True)
class Short:
    """A row that could not be kept: what it asks for, what was possible, in units of the node or of the resource."""

    row: str
    asked: float
    possible: float


@dataclass(frozen=True, slots=True)
class Found:
    """Best grants of a case. ``units`` is None where there are none to publish.

    ``status``: optimal, relaxed (owner's minimums lowered), time_limit, fallback, infeasible, failed.
    ``short``: the rows that could not be kept.
    """

    status: str
    units: Mutable | None
    short: tuple[Short, ...] = ()
    message: str = ""


def best_grants(case: Case, solver: Solver) -> Found:
    """Return the grants that earn most after running cost and restart charges, within every row."""
    if not case.levers:
        return Found("optimal", {})
    program = build(case)
    answer = solver.maximise(program)
    if answer.status == "infeasible":
        return _relaxed(case, solver)
    found = _settled(case, _read(program, answer.values), answer.status, answer.message) if answer.values else None
    return found if found and found.units is not None else _fallback(case, solver, answer.message)


def _settled(case: Case, units: Grants, status: str, message: str) -> Found:
    """Return grants made exact, or a failure if they break a rule."""
    for exact in (polish(case, snap(case, units)), snap(case, units)):
        if keeps_rules(case, exact):
            return Found(status, exact)
    return Found("failed", None, message=f"the solver's grants break a rule when recomputed: {message}")


def _read(program: Program, values: list[float]) -> Mutable:
    return {columns.lever.name: columns.read(values) for columns in program.levers}


def _fallback(case: Case, solver: Solver, message: str) -> Found:
    """Return what the linear programme without 0/1 conditions gives after rounding and the gate."""
    program = build(case)
    answer = solver.maximise(program, relaxed=True)
    if answer.status != "optimal" or answer.values is None:
        return Found("failed", None, message=message)
    rounded = _few_moves(case, whole_lots(case, _read(program, answer.values)))
    units = gate(case, polish(case, rounded))
    return Found("failed" if units is None else "fallback", units, message=message)


def _few_moves(case: Case, units: Mutable) -> Mutable:
    """Keep the ``max_moves`` moves that gain most by themselves."""
    if case.max_moves is None:
        return units
    hold = case.hold
    kept = dict(hold)
    for host in {lever.host for lever in case.levers}:
        names = [lever.name for lever in case.levers if lever.host == host and units[lever.name] != lever.base]
        alone = {name: case.judged({**hold, name: units[name]}) for name in names}
        kept |= {name: units[name] for name in sorted(names, key=lambda name: -alone[name])[: case.max_moves]}
    return kept


def _relaxed(case: Case, solver: Solver) -> Found:
    """Lower the owner's minimums by as little as possible and optimise; name what clashes where that is not enough."""
    program = build(case, physical=False)
    slacks = _soften(program, WISHES)
    least = _least(program, slacks, solver)
    if least is None:
        return _clash(case, solver)
    units = snap(case, _read(program, least))
    lowered = case.lowered_to(units)
    again = build(lowered)
    answer = solver.maximise(again)
    units = _read(again, answer.values) if answer.values else units
    settled = _settled(lowered, units, "relaxed", answer.message)
    short = tuple(_unmet_wishes(case, settled.units)) if settled.units else ()
    return replace(settled, short=short) if settled.units is None or short else replace(settled, status="optimal")


def _unmet_wishes(case: Case, units: Grants) -> Iterator[Short]:
    for lever in case.levers:
        if not (lever.lock or lever.picks or lever.on_off) and units[lever.name] < lever.minimum * (1 - HAIR):
            yield Short(f"min_units:{lever.name}", lever.minimum, units[lever.name])


def _clash(case: Case, solver: Solver) -> Found:
    """Name the rows that cannot be kept together, the owner's wishes first, physical limits last."""
    program = build(case, physical=False)
    slacks = _soften(program, PHYSICAL)
    values = _least(program, slacks, solver, relaxed=True)
    if values is None:
        return Found("infeasible", None, message="frozen grants or the number of moves leave no plan")
    short = tuple(_short(row, values[column]) for column, row in slacks.items() if values[column] > HAIR)
    message = "" if short else "steps, dead bands or the number of moves leave no plan"
    return Found("infeasible", None, short, message)


def _soften(program: Program, families: Collection[str]) -> dict[int, Row]:
    """Give each row of these families a slack, in parts of its own right-hand side; the rows by slack column."""
    slacks: dict[int, Row] = {}
    for index, row in enumerate(program.rows):
        if row.family in families or row.name in families:
            column = program.column(0.0, math.inf)
            side = _side(row)
            sign = 1.0 if side == row.lower else -1.0
            program.rows[index] = replace(row, terms={**row.terms, column: sign * (abs(side) or 1.0)})
            slacks[column] = row
    return slacks


def _side(row: Row) -> float:
    return row.lower if math.isfinite(row.lower) else row.upper


def _least(program: Program, slacks: Mapping[int, Row], solver: Solver, *, relaxed: bool = False) -> list[float] | None:
    """Return column values with the cheapest slacks, then the best earnings; None where even slacks do not help."""
    total = sum(abs(each) * upper for each, upper in zip(program.gain, program.upper, strict=True) if each)
    gain = [EARNINGS_BESIDE_SLACK * each / (total or 1.0) for each in program.gain]
    for column, row in slacks.items():
        gain[column] = -PHYSICAL[row.family]
    return solver.maximise(replace(program, gain=gain), relaxed=relaxed).values


def _short(row: Row, slack: float) -> Short:
    """Return what a softened row asks for and what is possible: of a limit, its capacity and what would be taken."""
    side = _side(row)
    missing = slack * (abs(side) or 1.0)
    possible = side - missing if side == row.lower else side + missing
    return Short(row.name, tidy(side * row.scale), tidy(possible * row.scale))


def smallest_repair(case: Case, solver: Solver) -> str:
    """Return the smallest change of one row, relative to itself, after which nothing is short, in words."""
    best: tuple[float, str] | None = None
    for name in [row.name for row in build(case, physical=False).rows if row.family in PHYSICAL]:
        program = build(case, physical=False)
        slacks = _soften(program, {name})
        values = _least(program, slacks, solver)
        for column, row in slacks.items() if values else ():
            if values and (best is None or values[column] < best[0]):
                best = values[column], _change(case, _short(row, values[column]))
    return best[1] if best else "no single change makes room for everything"


def _change(case: Case, short: Short) -> str:
    family, subject = short.row.split(":", 1)
    if family in SHARED:
        elsewhere = next(limit.elsewhere for limit in case.limits if limit.name == short.row)
        return f"raise {subject} by {short.possible - short.asked:.6g} to {short.possible + elsewhere:.6g}"
    if family == "choice":
        return f"give {subject} a choice that fits"
    if family == "income_share":
        return f"let {subject} earn {short.possible - short.asked:.6g} $/h more than its part"
    if family == "floor_units" and case.lever(subject).floor > case.lever(subject).top:
        return f"raise max_units of {subject} to {short.asked:.6g}"
    return f"lower {family} of {subject} by {short.asked - short.possible:.6g} to {short.possible:.6g}"
