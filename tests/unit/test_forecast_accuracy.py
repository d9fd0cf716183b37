"""What forecasts are worth on simulated earnings: the bands cover, the median beats seasonal naive, MASE is MASE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simulated

from depin_orcha.forecast import forecast_series

if TYPE_CHECKING:
    from collections.abc import Callable


def one(y: np.ndarray) -> dict[str, Any]:
    """The forecast of a single hourly series."""
    return forecast_series([{"id": "a", "start": "2026-01-01", "y": y}])[0]


def test_mase_is_error_over_in_sample_naive_error_averaged_over_origins() -> None:
    y = simulated.bandwidth(18, 120)
    past = Past(y, np.ones(120), y, 24)
    verdict = hold(past, [naive], 24)
    assert verdict is not None
    ratios = []
    for origin in (96, 72):
        in_sample = np.mean([abs(y[hour] - y[hour - 24]) for hour in range(24, origin)])
        ratios.append(np.mean([abs(y[origin + step] - y[origin + step - 24]) for step in range(24)]) / in_sample)
    whole = np.mean([abs(y[hour] - y[hour - 24]) for hour in range(24, 120)])
    for origin in (48, 24):
        scale = np.mean([abs(y[hour] - y[hour - 24]) for hour in range(24, 48)]) if origin == 48 else whole
        ratios.append(np.mean([abs(y[origin + step] - y[origin + step - 24]) for step in range(24)]) / scale)
    assert verdict.mase == pytest.approx(np.mean(ratios))


def score(simulate: Callable[[int, int], np.ndarray], seeds: range, hours: int = 720) -> dict[str, float]:
    """Coverage, and error relative to seasonal naive, over the day after the history."""
    whole = [simulate(seed, hours + 24) for seed in seeds]
    truth = np.array([y[hours:] for y in whole])
    documents = [one(y[:hours]) for y in whole]
    total = truth.sum(axis=1)
    found: dict[str, float] = {}
    for level in ("80", "95"):
        low, high = (np.array([document[side][level] for document in documents]) for side in ("lo", "hi"))
        found[level] = float(((low <= truth) & (truth <= high)).mean())
        low, high = (np.array([document["total"][side][level] for document in documents]) for side in ("lo", "hi"))
        found[f"total {level}"] = float(((low <= total) & (total <= high)).mean())
    repeated = np.array([y[hours - 24 : hours] for y in whole])
    medians = np.array([document["median"] for document in documents])
    found["error"] = float(np.abs(medians - truth).sum() / np.abs(repeated - truth).sum())
    return found


@pytest.mark.parametrize(
    ("simulate", "relative_error"),
    [(simulated.storage, 0.85), (simulated.bandwidth, 0.85), (simulated.daylight, 0.78), (simulated.tasks, 0.75)],
)
def test_bands_cover_what_they_promise_and_the_median_beats_seasonal_naive(
    simulate: Callable[[int, int], np.ndarray], relative_error: float
) -> None:
    found = score(simulate, range(150))
    skewed = simulate is simulated.tasks
    assert found["80"] == pytest.approx(0.80, abs=0.10 if skewed else 0.05)
    assert found["95"] == pytest.approx(0.95, abs=0.03)
    assert found["total 80"] == pytest.approx(0.80, abs=0.09)
    assert found["total 95"] == pytest.approx(0.95, abs=0.05)
    assert found["error"] < relative_error


@pytest.mark.parametrize("hours", [60, 100, 200])
def test_bands_cover_after_a_few_days_too(hours: int) -> None:
    found = score(simulated.daylight, range(100), hours)
    assert 0.75 < found["80"] < 0.92
    assert found["95"] > 0.92
    assert found["total 80"] > 0.74
    assert found["total 95"] > 0.9
