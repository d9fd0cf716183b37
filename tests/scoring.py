"""How good forecasts are: losses, coverage, and the same numbers for an oracle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import worlds

from depin_orcha.forecast import forecast_series

LEVELS = (50, 80, 95)
PROBABILITIES = np.array([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])
PATHS = 400


def quantiles(part: Mapping[str, Any]) -> np.ndarray:
    """Forecast quantiles at ``PROBABILITIES``: probabilities x bins."""
    rows = [part["lo"][level] for level in ("95", "80", "50")]
    rows += [part["median"], *(part["hi"][level] for level in ("50", "80", "95"))]
    return np.array(rows, dtype=float).reshape(len(PROBABILITIES), -1)


def pinball(said: np.ndarray, truth: np.ndarray) -> float:
    """Sum of quantile losses of ``said`` (probabilities x bins), doubled: comparable with absolute error."""
    short = truth - said
    tau = PROBABILITIES[:, None]
    return float(2 * np.maximum(tau * short, (tau - 1) * short).mean(axis=0).sum())


def play(world: str, seeds: Iterable[int], hours: int = 720) -> dict[str, float]:
    """Forecast the day after ``hours`` of a world for each seed; losses as ratios, coverage as shares."""
    batch, truths, oracles = [], [], []
    for seed in seeds:
        y, price, futures = worlds.WORLDS[world](np.random.default_rng([seed, 1]), hours)
        member = {"id": str(seed), "start": "2026-01-01", "y": y}
        batch.append(member if price is None else member | {"price": price})
        truths.append(futures(np.random.default_rng([seed, 2]), 1)[0])
        oracles.append(futures(np.random.default_rng([seed, 3]), PATHS))
    documents = forecast_series(batch, worlds.AHEAD, LEVELS)
    return scores(batch, documents, truths, oracles)


def scores(
    batch: list[dict[str, Any]], documents: list[dict[str, Any]], truths: list[np.ndarray], oracles: list[np.ndarray]
) -> dict[str, float]:
    """Every measure over all series of a world."""
    sums: dict[str, float] = dict.fromkeys(
        ("ours", "oracle", "ours_total", "oracle_total", "error", "naive", "earned", "oracle_error"), 0.0
    )
    inside: dict[str, list[float]] = {"80": [], "95": [], "total 80": [], "total 95": []}
    for member, document, truth, paths in zip(batch, documents, truths, oracles, strict=True):
        best = np.quantile(paths, PROBABILITIES, axis=0)
        total, best_total = truth.sum(keepdims=True), np.quantile(paths.sum(axis=1), PROBABILITIES)[:, None]
        sums["ours"] += pinball(quantiles(document), truth)
        sums["oracle"] += pinball(best, truth)
        sums["ours_total"] += pinball(quantiles(document["total"]), total)
        sums["oracle_total"] += pinball(best_total, total)
        sums["error"] += float(np.abs(np.array(document["median"]) - truth).sum())
        sums["oracle_error"] += float(np.abs(best[3] - truth).sum())
        sums["naive"] += float(np.abs(member["y"][-24:] - truth).sum())
        sums["earned"] += float(truth.sum())
        for level in ("80", "95"):
            low, high = np.array(document["lo"][level]), np.array(document["hi"][level])
            inside[level].append(float(((low <= truth) & (truth <= high)).mean()))
            part = document["total"]
            inside[f"total {level}"].append(float(part["lo"][level] <= total[0] <= part["hi"][level]))
    return {
        "loss / oracle": sums["ours"] / sums["oracle"],
        "total loss / oracle": sums["ours_total"] / sums["oracle_total"],
        "accuracy": 1 - sums["error"] / sums["earned"],
        "naive accuracy": 1 - sums["naive"] / sums["earned"],
        "oracle accuracy": 1 - sums["oracle_error"] / sums["earned"],
        "error / zero": sums["error"] / sums["earned"],
        **{f"coverage {level}": float(np.mean(values)) for level, values in inside.items()},
    }
