"""What forecasts are worth and what they cost, as tables in Markdown.

Made-up nodes (tests/worlds.py) have a known law, so that an oracle can be compared with. Hourly series with a day and
a week come from a folder with the M4 competition's Hourly-train.csv and Hourly-test.csv (--m4), which is public but
no part of this project; without it, made-up traffic stands in, and the table says so.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import scoring
import simulated
import worlds
from alarm_parts import Life
from operator_parts import Place

from depin_orcha.forecast import forecast_series
from depin_orcha.forecast.bands import spread_of
from depin_orcha.forecast.fit import fitted
from depin_orcha.forecast.history import history_of
from depin_orcha.forecast.pool import backtests, candidates
from depin_orcha.forecast.series import Series

Pair = tuple[np.ndarray, np.ndarray]
DAY = 24
FRESH = """
import sys, time; begin = time.perf_counter(); sys.path.insert(0, "tests")
import simulated; from depin_orcha.forecast import forecast_series
forecast_series([{"id": str(s), "start": "2026-01-01", "y": simulated.bandwidth(s, 720)} for s in range(20)])
print(time.perf_counter() - begin, time.process_time())
"""


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="made-up nodes of each kind (seeds 0 to N - 1)")
    parser.add_argument(
        "--m4", type=Path, help="folder with Hourly-train.csv and Hourly-test.csv of the M4 competition"
    )
    parser.add_argument("--every", type=int, default=1, help="use every N-th hourly series")
    parser.add_argument("--statsmodels", type=int, default=40, help="hourly series on which statsmodels is run (slow)")
    options = parser.parse_args()
    show_worlds(options.seeds)
    pairs = m4_pairs(options.m4, options.every) if options.m4 else made_up_pairs(100)
    name = f"M4 hourly, {len(pairs)} forecasts" if options.m4 else f"made-up traffic, {len(pairs)} forecasts"
    show_hourly(name, pairs)
    show_candidates(name, pairs[:: max(1, len(pairs) // 200)])
    if options.statsmodels:
        show_statsmodels(name, pairs[:: max(1, len(pairs) // options.statsmodels)])
    show_cost()


def show_worlds(seeds: int) -> None:
    """A row for each kind of made-up node."""
    names = ("loss / oracle", "total loss / oracle", "accuracy", "naive accuracy", "oracle accuracy", "error / zero")
    names += ("coverage 80", "coverage 95", "total 80", "total 95")
    rows: list[list[Any]] = []
    for world in worlds.WORLDS:
        found = scoring.play(world, range(seeds))
        rows.append([world, *(found[name] if name in found else found[f"coverage {name}"] for name in names)])
    table(f"Made-up nodes, 720 h of history, seeds 0 to {seeds - 1}", ["node", *names], rows)


def m4_pairs(folder: Path, every: int) -> list[Pair]:
    """History and next day of each series, twice: before the test days, and one day later."""
    pairs: list[Pair] = []
    tests = m4_rows(folder / "Hourly-test.csv")
    for name, history in list(m4_rows(folder / "Hourly-train.csv").items())[::every]:
        test = tests[name]
        pairs.append((history, test[:DAY]))
        pairs.append((np.concatenate((history, test[:DAY]))[DAY:], test[DAY : 2 * DAY]))
    return pairs


def m4_rows(path: Path) -> dict[str, np.ndarray]:
    with path.open(encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows)
        return {row[0]: np.array([float(value) for value in row[1:] if value]) for row in rows}


def made_up_pairs(seeds: int) -> list[Pair]:
    """Traffic with a day and a week."""
    whole = [simulated.bandwidth(seed, 720 + DAY) for seed in range(seeds)]
    return [(y[:720], y[720:]) for y in whole]


def show_hourly(name: str, pairs: list[Pair]) -> None:
    """Error and 95 % interval score against seasonal naive with bands of the same kind; coverage."""
    documents = forecast_series([member(index, history) for index, (history, _) in enumerate(pairs)])
    found: dict[str, list[float]] = {
        key: [] for key in ("mase", "naive", "score", "naive score", "80", "95", "t80", "t95")
    }
    for document, (history, truth) in zip(documents, pairs, strict=True):
        scale, last = naive_error(history), history[-DAY:]
        found["mase"].append(float(np.abs(np.array(document["median"]) - truth).mean()) / scale)
        found["naive"].append(float(np.abs(last - truth).mean()) / scale)
        past = np.array([history[len(history) - DAY * k :][:DAY] for k in range(11, 0, -1)])
        band = spread_of(past[1:] - past[:-1], past[:-1]).around(last, [95])
        found["naive score"].append(interval_score(band.lo[95], band.hi[95], truth) / scale)
        low, high = np.array(document["lo"]["95"]), np.array(document["hi"]["95"])
        found["score"].append(interval_score(low, high, truth) / scale)
        for level in ("80", "95"):
            low, high = np.array(document["lo"][level]), np.array(document["hi"][level])
            found[level].append(float(((low <= truth) & (truth <= high)).mean()))
            total = document["total"]
            found[f"t{level}"].append(float(total["lo"][level] <= truth.sum() <= total["hi"][level]))
    mean = {key: float(np.mean(values)) for key, values in found.items()}
    rows = [
        ["MASE", mean["mase"]],
        ["MASE of seasonal naive", mean["naive"]],
        ["MASE against seasonal naive", mean["mase"] / mean["naive"]],
        ["95 % scaled interval score", mean["score"]],
        ["the same against seasonal naive", mean["score"] / mean["naive score"]],
        *(
            [f"coverage of {'the total, ' * key.startswith('t')}{key[-2:]} %", mean[key]]
            for key in ("80", "95", "t80", "t95")
        ),
    ]
    table(f"Hourly series with a day and a week ({name})", ["measure", "found"], rows)


def show_candidates(name: str, pairs: list[Pair]) -> None:
    """Every member of the pool alone."""
    errors: dict[str, list[float]] = {}
    for index, (history, truth) in enumerate(pairs):
        past = history_of(Series.from_member(member(index, history), "series"))
        test = backtests([past], DAY, ())[0]
        assert test is not None
        said = candidates(test.everything, past, DAY)
        for model, values in said.items():
            error = float(np.abs(values * past.unit - truth).mean()) / naive_error(history)
            errors.setdefault(model, []).append(error)
    naive = float(np.mean(errors["seasonal_naive"]))
    rows = sorted(([model, float(np.mean(e)) / naive, len(e)] for model, e in errors.items()), key=lambda row: row[1])
    table(
        f"Each model alone: MASE against seasonal naive ({name}, {len(pairs)} of them)", ["model", "ratio", "n"], rows
    )


def show_statsmodels(name: str, pairs: list[Pair]) -> None:
    """Published methods on the same series: for comparison only, nothing here is used by the forecaster."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    from statsmodels.tsa.forecasting.stl import STLForecast
    from statsmodels.tsa.seasonal import MSTL
    from statsmodels.tsa.statespace.structural import UnobservedComponents

    def fitted(model: Any, **how: Any) -> Any:
        return model.fit(disp=False, **how)

    def ets(y: np.ndarray) -> np.ndarray:
        return fitted(ETSModel(y, error="add", seasonal="add", seasonal_periods=DAY)).forecast(DAY)

    def mstl_ets(y: np.ndarray) -> np.ndarray:
        parts = MSTL(y, periods=(DAY, 7 * DAY)).fit()
        week = parts.seasonal[-7 * DAY :].sum(axis=1)[:DAY]
        return fitted(ETSModel(y - parts.seasonal.sum(axis=1), error="add")).forecast(DAY) + week

    def stl_ets(y: np.ndarray) -> np.ndarray:
        model = STLForecast(y, ETSModel, model_kwargs={"error": "add"}, period=DAY)
        return np.asarray(model.fit(fit_kwargs={"disp": 0}).forecast(DAY))

    def components(y: np.ndarray) -> np.ndarray:
        cycles = [{"period": DAY, "harmonics": 6}, {"period": 7 * DAY, "harmonics": 3}]
        shape: dict[str, Any] = {"level": "local level", "freq_seasonal": cycles, "autoregressive": 1}
        return fitted(UnobservedComponents(y, **shape), maxiter=50).forecast(DAY)

    methods = {"ETS(A,N,A)": ets, "MSTL + ETS": mstl_ets, "STL + ETS": stl_ets, "UnobservedComponents": components}
    documents = forecast_series([member(index, history) for index, (history, _) in enumerate(pairs)])
    naive = float(np.mean([np.abs(h[-DAY:] - t).mean() / naive_error(h) for h, t in pairs]))
    ours = [
        np.abs(np.array(document["median"]) - t).mean() / naive_error(h)
        for document, (h, t) in zip(documents, pairs, strict=True)
    ]
    rows: list[list[Any]] = [["depin-orcha", float(np.mean(ours)) / naive, cpu_of(pairs)]]
    for method, run in methods.items():
        begin, errors = time.process_time(), []
        for history, truth in pairs:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                said = run(history / history.mean()) * history.mean()
            errors.append(np.abs(said - truth).mean() / naive_error(history))
        rows.append([method, float(np.mean(errors)) / naive, (time.process_time() - begin) / len(pairs)])
    header = ["method", "MASE / naive", "CPU-s per series"]
    table(f"Against published methods ({name}, {len(pairs)} of them)", header, rows)


def show_cost() -> None:
    """Processor time, wall time of a fresh process, size of the stored state."""
    pairs = made_up_pairs(20)
    best = min((run_fresh() for _ in range(3)), key=lambda pair: pair[0])
    one = Series.from_member(member(0, pairs[0][0]), "series")
    fit = fitted([one], DAY)[0]
    begin = time.process_time()
    for _ in range(20):
        fit.forecast(one, DAY, [80, 95])
    rolled = (time.process_time() - begin) / 20
    with TemporaryDirectory() as folder:
        life = lived(Path(folder))
        runs = [best_run(life, minutes) for minutes in (0, 15, 60)]
    rows = [
        ["CPU-s per series of 720 h, learn and forecast", cpu_of(pairs), "0.06"],
        ["CPU-s per series, rolled forward from a stored state", rolled, ""],
        ["20 series in a fresh process, wall s (best of 3)", best[0], "1.5, better 0.8"],
        ["the same, CPU-s", best[1], ""],
        ["`forecast` of 20 configured nodes, nothing kept, wall s", runs[0][0], ""],
        ["the same, CPU-s", runs[0][1], ""],
        ["a quarter of an hour later, wall s (best of 5)", runs[1][0], "0.4"],
        ["the same, CPU-s", runs[1][1], ""],
        ["an hour later, wall s", runs[2][0], ""],
        ["the same, CPU-s", runs[2][1], ""],
    ]
    table("Cost", ["measure", "found", "target"], rows)


def lived(folder: Path) -> Life:
    """20 configured nodes that were read every quarter of an hour for 30 days,"""
    life = Life(Place(folder))
    names = [f"n{seed}" for seed in range(20)]
    life.configure(*names)
    life.live({name: simulated.bandwidth(seed, 720).tolist() for seed, name in enumerate(names)})
    return life


def best_run(life: Life, minutes: int) -> tuple[float, float]:
    """Wall and processor time of ``forecast``, which also judges the nodes, so long after their last hour.

    Modules are compiled before, as they are where the package is installed.
    """
    now_s = life.now_s + 60
    if minutes >= 60:
        life.live({name: simulated.bandwidth(seed, 721).tolist()[720:] for seed, name in enumerate(life.counters)})
    words = life.place.words("forecast", "-q", now=now_s + 60 * minutes)
    compiled = life.place.environment(OPENBLAS_NUM_THREADS="1")
    compiled.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(
        [sys.executable, "-m", "depin_orcha", "forecast", "--help"], env=compiled, check=True, stdout=subprocess.DEVNULL
    )
    found: list[tuple[float, float]] = []
    for _ in range(5 if minutes == 15 else 1):
        begin, before = time.perf_counter(), os.times()
        subprocess.run([sys.executable, "-m", "depin_orcha", *words], env=compiled, check=True)
        wall, after = time.perf_counter() - begin, os.times()
        used = after.children_user + after.children_system - before.children_user - before.children_system
        found.append((wall, used))
    return min(found)


def run_fresh() -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)
    wall, processor = done.stdout.split()
    return float(wall), float(processor)


def cpu_of(pairs: Iterable[Pair]) -> float:
    batch = [member(index, history) for index, (history, _) in enumerate(pairs)]
    begin = time.process_time()
    forecast_series(batch)
    return (time.process_time() - begin) / len(batch)


def member(index: int, history: np.ndarray) -> dict[str, Any]:
    return {"id": str(index), "start": "2026-01-01", "y": history}


def naive_error(history: np.ndarray) -> float:
    return float(np.abs(history[DAY:] - history[:-DAY]).mean())


def interval_score(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> float:
    below, above = np.maximum(low - truth, 0), np.maximum(truth - high, 0)
    return float((high - low + 2 / 0.05 * (below + above)).mean())


def table(title: str, header: list[str], rows: list[list[Any]]) -> None:
    sys.stdout.write(f"\n### {title}\n\n| {' | '.join(header)} |\n|{' --- |' * len(header)}\n")
    for row in rows:
        cells = [f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row]
        sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
