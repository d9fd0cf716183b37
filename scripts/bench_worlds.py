"""What decisions earn in made-up worlds whose law is known, as tables in Markdown.

Responsive (tests/responsive.py): incomes follow the grants. Seeds 1 to N, a process each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import responsive


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:
        rows = list(pool.map(partial(_responsive, options.days), range(1, options.seeds + 1)))
    header = ("seed", *rows[0])
    lines = [f"### Responsive worlds: {options.days} days, a decision an hour, 8 protocols", ""]
    lines += ["| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
    lines += [_line(str(seed), row) for seed, row in enumerate(rows, start=1)]
    lines.append(_line("mean", {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}))
    sys.stdout.write("\n".join(lines) + "\n")


def _line(name: str, row: Mapping[str, float]) -> str:
    return f"| {name} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |"


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
