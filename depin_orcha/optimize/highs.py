"""The solver: a ``Program`` in, column values or row prices out. The only module that imports numpy and scipy."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from depin_orcha.muted import stdout_muted

from .rows import Program, Row

# scipy ships without type stubs: what it returns is checked here, at the border, by converting it.
_np: Any = import_module("numpy")
_optimize: Any = import_module("scipy.optimize")
_sparse: Any = import_module("scipy.sparse")
SCIPY_VERSION: str = import_module("scipy").__version__

LARGEST_COST = 1e6
"""The largest objective coefficient after scaling: HiGHS stops at absolute gaps of 1e-6 and reduced costs of 1e-7,
which then lie far below the tie-break."""
TIE = 1e-10
"""Cost of moving a lever through its range, relative to the largest coefficient: decides between equal optima only."""
NUDGE = 1e-6
"""How much a row is widened, in its own scale, to price having more of it."""
INTEGRAL = 1e-9
"""How near to a whole number a column must be to count as one, before rounding."""


@dataclass(slots=True)
class Effort:
    """What solving took; everything but the two times is the same for equal problems."""

    solves: int = 0
    rows: int = 0
    cols: int = 0
    nnz: int = 0
    gap: float = 0.0
    build_ms: float = 0.0
    solve_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """``status``: optimal, time_limit, infeasible or failed; ``values`` by column, None where the solver has none."""

    status: str
    values: list[float] | None
    message: str


@dataclass(slots=True)
class Solver:
    """Solves programmes under one time limit and adds up the effort."""

    time_limit_s: float
    effort: Effort = field(default_factory=Effort)

    def maximise(self, program: Program, *, relaxed: bool = False) -> Answer:
        """Return the best column values; ``relaxed`` drops the 0/1 and lot conditions, and the time limit with them.

        The programme without those conditions is tried first: it takes a tenth of the time, and where its answer
        happens to keep them it is the answer.
        """
        relaxed = relaxed or not any(program.integer)
        if not relaxed:
            easy = self.maximise(program, relaxed=True)
            if easy.status == "infeasible" or (easy.values and _keeps_integers(program, easy.values)):
                return easy
        begun = time.perf_counter()
        cost = -_np.array(_with_tie_break(program))
        cost *= LARGEST_COST / (_np.abs(cost).max(initial=0.0) or 1.0)
        matrix, lower, upper = _arrays(program)
        # Undoing the presolve of integer programmes can end in a wrong "infeasible" or in a solve error. For programmes
        # of this size leaving it out costs no time. Where heuristics undo one of their own, a line is printed.
        options = {} if relaxed else {"mip_rel_gap": 0.0, "time_limit": self.time_limit_s, "presolve": False}
        built = time.perf_counter()
        with nullcontext() if relaxed else stdout_muted():
            found = _optimize.milp(
                cost,
                integrality=_np.zeros(len(cost)) if relaxed else _np.array(program.integer, dtype=int),
                bounds=_optimize.Bounds(program.lower, program.upper),
                constraints=_optimize.LinearConstraint(matrix, lower, upper),
                options=options,
            )
        self._count(program, matrix.nnz, built - begun, time.perf_counter() - built, found.get("mip_gap"))
        values = None if found.x is None else [float(value) for value in found.x]
        return Answer(_status(int(found.status), str(found.message)), values, str(found.message))

    def price(self, program: Program, name: str, *, less: bool = False) -> float | None:
        """Return what one more of the subject of a ``<=`` row would earn, in USD per hour; None without an optimum.

        The integer columns must be fixed by their bounds; marginals mean nothing otherwise. The row is widened by a
        hair first: where an optimum is degenerate, its marginals are not unique, and this one is about having more.
        With ``less`` it is narrowed instead, and the answer is what one less would cost.
        """
        if all(row.name != name for row in program.rows):
            return 0.0  # nothing that is granted can take any of it
        begun = time.perf_counter()
        scale = max(map(abs, program.gain), default=0.0) or 1.0
        rows = [
            replace(row, upper=row.upper + (-NUDGE if less else NUDGE)) if row.name == name else row
            for row in program.rows
        ]
        matrix, lower, upper = _arrays(replace(program, rows=rows))
        equal = lower == upper
        over, under = ~equal & _np.isfinite(upper), ~equal & _np.isfinite(lower)
        built = time.perf_counter()
        found = _optimize.linprog(
            -_np.array(program.gain) / scale,
            A_ub=_sparse.vstack([matrix[over], -matrix[under]]),
            b_ub=_np.concatenate([upper[over], -lower[under]]),
            A_eq=matrix[equal],
            b_eq=lower[equal],
            bounds=_np.column_stack([program.lower, program.upper]),
            method="highs",
        )
        self._count(program, matrix.nnz, built - begun, time.perf_counter() - built, None)
        if found.status != 0:
            return None
        kept: list[Row] = [row for row, chosen in zip(rows, over, strict=True) if chosen]
        marginal = {row.name: (row, float(value)) for row, value in zip(kept, found.ineqlin.marginals, strict=False)}
        row, value = marginal[name]
        return max(0.0, -value * scale / row.scale)

    def _count(self, program: Program, nnz: int, build_s: float, solve_s: float, gap: float | None) -> None:
        effort = self.effort
        effort.solves += 1
        effort.rows = max(effort.rows, len(program.rows))
        effort.cols = max(effort.cols, len(program.lower))
        effort.nnz = max(effort.nnz, int(nnz))
        effort.gap = max(effort.gap, float(gap or 0.0))
        effort.build_ms += build_s * 1e3
        effort.solve_ms += solve_s * 1e3


def _keeps_integers(program: Program, values: list[float]) -> bool:
    wanted = (value for value, integer in zip(values, program.integer, strict=True) if integer)
    return all(abs(value - round(value)) <= INTEGRAL for value in wanted)


def _status(code: int, message: str) -> str:
    """Return our word for a code of scipy; every column is bounded, so "unbounded or infeasible" is infeasible."""
    if code == 4 and "infeasible" in message:
        return "infeasible"
    return {0: "optimal", 1: "time_limit", 2: "infeasible"}.get(code, "failed")


def _with_tie_break(program: Program) -> list[float]:
    """Objective that, between equal optima, prefers the grants in force, then the levers that stand first."""
    gain = list(program.gain)
    tie = TIE * (max(map(abs, gain), default=0.0) or 1.0)
    for rank, columns in enumerate(program.levers):
        moves = columns.switches if columns.lever.picks else [columns.up, columns.down]
        for column in moves:
            gain[column] -= tie
        for column, units in columns.takes.items():
            gain[column] -= tie / 10 * rank / len(program.levers) * (units > 0)
    return gain


def _arrays(program: Program) -> tuple[Any, Any, Any]:
    """Sparse matrix, lower and upper right-hand sides of the rows."""
    entries = [(index, column, value) for index, row in enumerate(program.rows) for column, value in row.terms.items()]
    index, column, value = zip(*entries, strict=True) if entries else ((), (), ())
    shape = (len(program.rows), len(program.lower))
    matrix = _sparse.csr_array((_np.array(value, dtype=float), (index, column)), shape=shape)
    return matrix, _np.array([row.lower for row in program.rows]), _np.array([row.upper for row in program.rows])
