"""Seasonal naive: the next bin earns what the same bin of the last day, or of the last week, earned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

name = "seasonal_naive"
min_points = 24

DAYS_A_WEEK = 7


def predict(y: NDArray[np.float64], horizon: int, season: int) -> NDArray[np.float64]:
    """The last observed cycle repeated; its length is the day or the week, whichever erred less in the past.

    A bin of the cycle that was not observed last time is taken from the time before, and so on.
    """
    week = season if season == DAYS_A_WEEK else DAYS_A_WEEK * season
    lag = week if _error(y, week, since=week) < _error(y, season, since=week) else season
    return np.resize(_last_cycle(y, lag), horizon)


def _error(y: NDArray[np.float64], lag: int, *, since: int) -> float:
    """Mean absolute error of repeating the value ``lag`` bins ago, over the bins after ``since``; NaN if untried."""
    misses = np.abs(y[since:] - y[since - lag : len(y) - lag]) if len(y) > since else np.empty(0)
    misses = misses[np.isfinite(misses)]
    return float(misses.mean()) if misses.size else float("nan")


def _last_cycle(y: NDArray[np.float64], lag: int) -> NDArray[np.float64]:
    cycles = -(-len(y) // lag)
    table = np.full(cycles * lag, np.nan)
    table[len(table) - len(y) :] = y
    table = table.reshape(cycles, lag)
    seen = np.isfinite(table)
    latest = cycles - 1 - np.argmax(seen[::-1], axis=0)
    cycle = table[latest, np.arange(lag)]
    return np.where(np.isfinite(cycle), cycle, y[np.isfinite(y)].mean())
