"""What is found of faults at known times in made-up years, what is told for nothing, and what it costs, in Markdown.

Each kind of node of tests/faulty_years.py lives two years per seed, one with faults and one without, and is judged
every hour by the functions that ``forecast`` calls.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from alarm_parts import Life
from faulty_years import KINDS, SORTS, YEAR_H, Tally, bandwidth, make_year, watch
from numpy.random import default_rng
from operator_parts import Place

from depin_orcha.config import load
from depin_orcha.cycle import Job, session
from depin_orcha.types import HOUR_S
from depin_orcha.watch import watch as judge_nodes

NODES, HISTORY_H = 20, 60 * 24
"""A fleet, and the history of which usual weeks are learned."""


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="pairs of years of each kind of node")
    parser.add_argument("--first-seed", type=int, default=2000)
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    tallies: dict[str, Tally] = {}
    begun = time.process_time()
    for sort in SORTS:
        tallies[sort] = Tally()
        for seed in seeds:
            for faulty in (True, False):
                tallies[sort].add(watch(make_year(sort, seed, faulty=faulty)))
    seconds = time.process_time() - begun
    show_found(tallies.values(), f"seeds {seeds[0]} to {seeds[-1]}")
    show_false(tallies)
    years = sum(one.years for one in tallies.values())
    per_hour_ms = 1000 * seconds / years / YEAR_H
    sys.stdout.write(f"\nCPU: {per_hour_ms:.2f} ms per node and hour, its year made up and told included\n")
    show_cost()


def show_found(tallies: Iterable[Tally], name: str) -> None:
    """A row for each kind of fault."""
    whole = Tally()
    for one in tallies:
        whole.faults += one.faults
        whole.found += one.found
        for kind, delays in one.delays.items():
            whole.delays.setdefault(kind, []).extend(delays)
    rows: list[list[Any]] = []
    for kind, about in KINDS.items():
        delays = whole.delays[kind]
        share = whole.found[kind] / whole.faults[kind]
        rows.append([kind, whole.faults[kind], f"{about.lasts[2]} h", f"{share:.1%}", f"{median(delays):.0f} h"])
    total = whole.found.total() / whole.faults.total()
    rows.append(["all", whole.faults.total(), "", f"{total:.1%}", ""])
    table(f"Faults, {name}", ["fault", "how many", "to be found within", "found in time", "median delay"], rows)


def show_false(tallies: dict[str, Tally]) -> None:
    """A row for each kind of node."""
    rows: list[list[Any]] = []
    for name, one in [*tallies.items(), ("all", None)]:
        some = list(tallies.values()) if one is None else [one]
        years = sum(tally.years for tally in some)
        false = sum(tally.false.total() for tally in some)
        kinds = ", ".join(f"{count} {kind}" for kind, count in (one.false if one else {}).items())
        rows.append([name, f"{years:.0f}", false, f"{false / years:.2f}", sum(tally.repeated for tally in some), kinds])
    table("Told for nothing", ["node", "years", "false episodes", "a year", "repeated", "of these"], rows)


def show_cost() -> None:
    """CPU seconds of judging a fleet from its database: where what is usual is learned, and the cycle after."""
    with tempfile.TemporaryDirectory() as folder:
        life = Life(Place(Path(folder)))
        names = [f"node_{number}" for number in range(NODES)]
        life.configure(*names)
        life.live({name: bandwidth(default_rng(seed), HISTORY_H).tolist() for seed, name in enumerate(names)})
        spent: list[float] = []
        for now_s in (life.now_s, life.now_s + HOUR_S // 4):
            job = Job(load(life.place.config, life.place.config.read_text()), life.place.db, now_s)
            with session(job) as store:
                begun = time.process_time()
                judge_nodes(job, store)
                spent.append(time.process_time() - begun)
    rows = [["once a day", f"{spent[0]:.2f} s"], ["every other cycle", f"{spent[1]:.2f} s"]]
    table(f"CPU of judging {NODES} nodes with {HISTORY_H // 24} days of quarter hours", ["when", "CPU"], rows)


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table in Markdown."""
    sys.stdout.write(f"\n### {title}\n\n| {' | '.join(header)} |\n|{' --- |' * len(header)}\n")
    for row in rows:
        sys.stdout.write(f"| {' | '.join(str(cell) for cell in row)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
