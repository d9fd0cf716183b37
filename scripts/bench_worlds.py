"""What decisions earn in made-up worlds whose law is known, as tables in Markdown.

Placebo, and with or without a lever (tests/honest.py): the whole product decides, as it is shipped, on histories in a
real database. Responsive (tests/responsive.py): incomes follow the grants, the optimiser alone. Seeds 1 to N.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import honest
import responsive

Row = Mapping[str, float]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="of responsive worlds; four times as many of the others")
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    seeds, many = range(1, options.seeds + 1), range(1, 4 * options.seeds + 1)
    with ProcessPoolExecutor(options.processes) as pool:
        for name in ("placebo", "without_lever"):
            rows = list(pool.map(partial(_decided, name, options.days), many))
            _table(f"{name.replace('_', ' ').capitalize()}: {options.days} days, a decision every 6 h", rows)
        found = {lever: statistics.fmean(pool.map(partial(_found, lever), many)) for lever in honest.LEVERS}
        _table(f"With a lever: share found in {len(many)} seeds", [found])
        rows = list(pool.map(partial(_responsive, options.days), seeds))
        _table(f"Responsive: {options.days} days, a decision an hour, 8 protocols", rows)


def _table(title: str, rows: Sequence[Row]) -> None:
    header = ("seed", *rows[0])
    lines = [f"### {title}", "", "| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
    lines += [_line(str(seed), row) for seed, row in enumerate(rows, start=1)] if len(rows) > 1 else []
    lines.append(_line("mean", {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}))
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.flush()


def _line(name: str, row: Row) -> str:
    return f"| {name} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |"


def _decided(world: str, days: int, seed: int) -> dict[str, float]:
    with TemporaryDirectory() as folder:
        found: honest.Decided = getattr(honest, world)(Path(folder), seed, days)
    return {
        "looks": found.looks,
        "proposals a month": len(found.proposals) / days * 30.4,
        "looks at which a node was measured": found.measured,
        "gains that exclude 0": found.sure_gains,
        "lost by moves / income": found.lost_usd / found.income_usd,
    }


def _found(lever: str, seed: int) -> float:
    with TemporaryDirectory() as folder:
        return float(all(honest.found(lever, Path(folder), [seed])))


def _responsive(days: int, seed: int) -> dict[str, float]:
    world = responsive.world(seed, days)
    bound = responsive.clairvoyant(world)
    expected = responsive.forecasts(world)
    perfect = responsive.play(world, responsive.ours(responsive.foresight(world)))
    ours = responsive.play(world, responsive.ours(expected))
    spec = responsive.play(world, responsive.textbook(expected, 10, 0.5, 5))
    ten = responsive.play(world, responsive.textbook(expected, 10, 0, 0))
    tried = [bound.grants, perfect.grants, ours.grants, ten.grants]
    best = responsive.hindsight(world, tried)
    return {
        "bound, USD a day": bound.usd / days,
        "hindsight / bound": best / bound.usd,
        "perfect forecasts / hindsight": perfect.usd / best,
        "own forecasts / bound": ours.usd / bound.usd,
        "over the spec rule": ours.usd / spec.usd - 1,
        "over 10 % only": ours.usd / ten.usd - 1,
        "restarts a day": ours.restarts / days,
        "of the 10 % rule": ten.restarts / days,
        "infeasible grants": perfect.infeasible + ours.infeasible,
    }


if __name__ == "__main__":
    main()
