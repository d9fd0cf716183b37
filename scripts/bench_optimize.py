"""What a decision costs, as tables in Markdown: beside CVXPY, beside one plain HiGHS call, for one host and for fleets.

Problems are made up (seeds 0 to N - 1): hourly prices with a day in them, three segments, running costs, restarts.
Times of fleets are those of a process of its own, memory is what its peak grows by while it decides; reading the
document is not in them. CVXPY is needed here only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from depin_orcha.optimize import Problem, solve
from depin_orcha.optimize.fleet import fleet_of
from depin_orcha.optimize.highs import Solver
from depin_orcha.optimize.lp import Optimum, optimum
from depin_orcha.optimize.lp_rows import program_of

RESOURCES = ("cpu_cores", "memory_bytes", "storage_bytes", "uplink_bps")
RELATIVE = (1.0, 0.6, 0.3)
FLEETS = ((1_000, 24), (10_000, 1))
NODES = 8


def document(hosts: int, hours: int, seed: int, *, nodes: int = NODES, model: str = "lp") -> dict[str, Any]:
    """A made-up problem; with one period prices are single numbers."""
    random = np.random.default_rng(seed)
    return {
        "horizon_h": hours,
        "model": model,
        "hosts": [_host(f"h{index}", hours, nodes, random) for index in range(hosts)],
    }


def _host(name: str, hours: int, count: int, random: np.random.Generator) -> dict[str, Any]:
    sizes = random.integers([8, 16, 1, 2], [33, 129, 9, 20]) * np.array([1, 1e9, 1e12, 1e7])
    nodes: list[dict[str, Any]] = []
    for index in range(count):
        top, level = float(random.integers(2, 17)), random.uniform(0.002, 0.03)
        wave = 1 + 0.3 * np.sin(2 * np.pi * (np.arange(hours) + random.integers(24)) / 24)
        prices = (level * wave * random.lognormal(0, 0.15, hours)).tolist()
        uses = [random.choice(each) for each in ((0.25, 0.5, 1), (5e8, 1e9, 4e9), (0, 1e11), (0, 1e6, 5e6))]
        nodes.append(
            {
                "node": f"n{index}",
                "uses_per_unit": dict(zip(RESOURCES, map(float, uses), strict=True)),
                "current_units": float(random.integers(3)),
                "max_units": top,
                "usd_per_unit_hour": prices if hours > 1 else prices[0],
                "running_usd_per_unit_hour": 0.001,
                "restart_loss_hours": float(random.choice([0.1, 0.5, 1])),
                "segments": [
                    {"width_units": top * part, "relative": relative}
                    for part, relative in zip((0.25, 0.25, 0.5), RELATIVE, strict=True)
                ],
            }
        )
    return {"host": name, "capacity": dict(zip(RESOURCES, map(float, sizes), strict=True)), "nodes": nodes}


def ours_alone(problem: Problem) -> Optimum | None:
    """Build and solve the programme of all hosts, nothing else."""
    return optimum(fleet_of(problem, problem.hosts), Solver(2.0))


def with_cvxpy(host: dict[str, Any], hours: int, solver: str) -> float:
    """Build the programme of one host in CVXPY, solve it, and return what it earns, USD per hour."""
    import cvxpy as cp

    nodes = host["nodes"]
    price = np.array([each["usd_per_unit_hour"] for each in nodes])
    base = np.array([each["current_units"] for each in nodes])
    width = np.array([[part["width_units"] for part in each["segments"]] for each in nodes])
    loss = np.array([each["restart_loss_hours"] for each in nodes]) * price.mean(axis=1) / 2
    parts = [cp.Variable(price.shape, nonneg=True) for _ in RELATIVE]
    units = sum(parts[1:], parts[0])
    income = sum(cp.sum(cp.multiply(price * relative, part)) for relative, part in zip(RELATIVE, parts, strict=True))
    moves = cp.sum(cp.multiply(loss, cp.abs(units[:, 0] - base)))
    moves += cp.sum(cp.multiply(np.tile(loss[:, None], hours - 1), cp.abs(cp.diff(units, axis=1))))
    keeps = [part <= width[:, [index]] @ np.ones((1, hours)) for index, part in enumerate(parts)]
    for resource, size in host["capacity"].items():
        uses = np.array([each["uses_per_unit"][resource] for each in nodes]) / size
        keeps.append(uses @ units <= 1)
    problem = cp.Problem(cp.Maximize(income - 0.001 * cp.sum(units) - moves), keeps)
    problem.solve(solver=solver)
    return float(problem.value) / hours


def say(text: str = "") -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def timed(call: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the median time of a call in ms, after one that does not count, and what it gave."""
    found, times = call(), []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times), found


def against_cvxpy(seeds: int, repeats: int) -> None:
    """One host, 4 protocols, 24 periods."""
    say("## One host, 4 protocols, 24 periods: building and solving, ms (median)\n")
    say("| seed | ours | CVXPY, HiGHS | CVXPY, Clarabel | ours / quicker CVXPY | difference in $ | whole decision |")
    say("|---|---|---|---|---|---|---|")
    ratios: list[float] = []
    for seed in range(seeds):
        stated = document(1, 24, seed, nodes=4)
        problem = Problem.from_dict(stated)
        ours, best = timed(partial(ours_alone, problem), repeats)
        host = stated["hosts"][0]
        theirs = {name: timed(partial(with_cvxpy, host, 24, name), repeats) for name in ("HIGHS", "CLARABEL")}
        whole, _ = timed(partial(solve, problem, explain=False), repeats)
        quicker = min(took for took, _ in theirs.values())
        ratios.append(ours / quicker)
        off = abs(best.usd_per_hour - theirs["HIGHS"][1]) / abs(best.usd_per_hour)
        row = [ours, theirs["HIGHS"][0], theirs["CLARABEL"][0]]
        say(f"| {seed} | {' | '.join(f'{each:.2f}' for each in row)} | {ratios[-1]:.2f} | {off:.1e} | {whole:.2f} |")
        if off > 1e-6:
            sys.exit(f"seed {seed}: CVXPY earns {theirs['HIGHS'][1]!r}, ours earns {best.usd_per_hour!r}")
    say(f"\nMedian ratio {statistics.median(ratios):.2f}; wanted: at most 0.33.\n")


def fleets() -> None:
    """Fleets in model lp, beside one HiGHS call on the matrix of all hosts."""
    say("## Fleets, model lp: a process of its own each (seed 0)\n")
    say("| hosts x nodes x periods | what | seconds | of processor | peak memory grows by, MiB | $/h |")
    say("|---|---|---|---|---|---|")
    for hosts, hours in FLEETS:
        for what in ("decide", "highs"):
            command = [sys.executable, __file__, "--child", what, str(hosts), str(hours)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            text = done.stdout.strip() if done.returncode == 0 else f"failed: {done.stderr.strip()[-80:]} | | | "
            name = {"decide": "whole decision, in batches", "highs": "one plain HiGHS call, programme only"}[what]
            say(f"| {hosts} x {NODES} x {hours} | {name} | {text} |")
    say("\nWanted: 1,000 x 8 x 24 in 10 s and 200 MiB, 10,000 x 8 x 1 in 5 s.\n")


def child(what: str, hosts: int, hours: int) -> None:
    """Decide one fleet, and print seconds, growth of peak memory and worth."""
    import scipy.optimize
    import scipy.sparse

    stated = document(hosts, hours, 0)
    problem = Problem.from_dict(stated)
    del stated
    peak_mib()
    before, begun, busy = peak_mib(), time.perf_counter(), time.process_time()
    if what == "decide":
        plan = solve(problem, explain=False)
        worth = sum(host.value.net_benefit_usd_per_hour for host in plan.hosts)
    else:
        fleet = fleet_of(problem, problem.hosts)
        made = program_of(fleet)
        rows = {"A_ub": made.a_ub, "b_ub": made.b_ub, "A_eq": made.a_eq, "b_eq": made.b_eq}
        found = scipy.optimize.linprog(made.cost, **rows, bounds=made.bounds, method="highs")
        worth = float(made.gain @ found.x) - float(fleet.net(fleet.base).sum())
    took = f"{time.perf_counter() - begun:.2f} | {time.process_time() - busy:.2f}"
    say(f"{took} | {peak_mib() - before:.0f} | {worth:.2f}")


def peak_mib() -> float:
    """Return the largest memory that this process has had since the last call, and start anew from what it has now."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return int(peak.split()[1]) / 1024


def one_by_one() -> None:
    """Time per host of each model, with and without reasons."""
    say("## Time per host, ms (5 hosts of 8 nodes, seed 0)\n")
    say("| model | periods | decision only | with flip and shadow prices |")
    say("|---|---|---|---|")
    for model, hours in (("default", 1), ("default", 24), ("lp", 1), ("lp", 24), ("spec", 1)):
        problem = Problem.from_dict(document(5, hours, 0, model=model))
        times = [timed(partial(solve, problem, explain=explain), 1)[0] / 5 for explain in (False, True)]
        say(f"| {model} | {hours} | {times[0]:.2f} | {times[1]:.1f} |")
    say()


def linked() -> None:
    """A line to the internet that all hosts share, half as wide as they would like."""
    say("## A shared uplink, half as wide as wanted (seed 0)\n")
    say("| hosts x nodes x periods | seconds | gap | uplink used | value kept of that without it |")
    say("|---|---|---|---|---|")
    for hosts, hours in ((1_000, 1), (3_000, 1), (100, 24)):
        stated = document(hosts, hours, 0)
        free = solve(Problem.from_dict(stated), explain=False)
        wanted = sum(node.resources["uplink_bps"] for host in free.hosts for node in host.nodes)
        names = [host["host"] for host in stated["hosts"]]
        stated["coupling"] = [{"name": "line", "resource": "uplink_bps", "limit": wanted / 2, "hosts": names}]
        problem = Problem.from_dict(stated)
        begun = time.perf_counter()
        plan = solve(problem, explain=False)
        took = time.perf_counter() - begun
        used = sum(node.resources["uplink_bps"] for host in plan.hosts for node in host.nodes)
        worth = [sum(host.value.net_benefit_usd_per_hour for host in each.hosts) for each in (free, plan)]
        size = f"{hosts} x {NODES} x {hours}"
        share = 2 * used / wanted
        say(f"| {size} | {took:.1f} | {plan.solver.gap:.1e} | {share:.1%} | {worth[1] / worth[0]:.1%} |")
    say()


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=7, help="problems of one host to compare with CVXPY")
    parser.add_argument("--repeats", type=int, default=15, help="runs of each, of which the median counts")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        what, hosts, hours = options.child
        child(what, int(hosts), int(hours))
        return
    against_cvxpy(options.seeds, options.repeats)
    one_by_one()
    linked()
    fleets()


if __name__ == "__main__":
    main()
