"""Forecasts that repeat the past as it was: the last day or week, means and medians of the same hour, the level."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

DAYS, WEEKS = 14, 8
"""How far back the same hour of a day, or of a week, is looked at."""
HALF_LIFE_DAYS, HALF_LIFE_WEEKS = 4.0, 2.0
"""Age at which a day or a week counts half."""


def predict(z: Floats, y: Floats, season: int, origins: NDArray[np.intp], horizon: int) -> dict[str, Floats]:
    """Model -> origins x ``horizon``. ``y`` is NaN where nothing was observed, ``z`` the same with gaps filled.

    A model that the history before the earliest origin cannot support is left out.
    """
    first, week = int(origins[0]), 7 * season
    ahead = np.arange(horizon)
    found = {"zero": np.zeros((len(origins), horizon))}
    recent = origins[:, None] + np.arange(-min(season, first), 0)
    found["recent_level"] = np.repeat(_mean(y[recent], np.ones(len(recent[0])), z[recent])[:, None], horizon, axis=1)
    if first < season:
        return found
    days = y[_back(origins, season, min(DAYS, first // season))]
    filled = z[_back(origins, season, min(DAYS, first // season))]
    fade = np.power(0.5, np.arange(len(days[0])) / HALF_LIFE_DAYS)
    shape = _mean(days, fade, filled)
    day = ahead % season
    found["seasonal_naive"] = filled[:, 0][:, day]
    found["day_mean"] = shape[:, day]
    if days.shape[1] >= 3:
        found["day_median"] = np.median(filled, axis=1)[:, day]
        level = shape.mean(axis=1, keepdims=True)
        now = filled[:, :1].mean(axis=2)
        ratio = np.divide(now, level, out=np.ones_like(level), where=level != 0)
        found["day_shape"] = shape[:, day] * np.clip(ratio, 0.2, 5.0)
    if first >= week:
        back = _back(origins, week, min(WEEKS, first // week))
        found["weekly_naive"] = z[back][:, 0][:, ahead % week]
        if back.shape[1] > 1:
            fade = np.power(0.5, np.arange(len(back[0])) / HALF_LIFE_WEEKS)
            found["week_mean"] = _mean(y[back], fade, z[back])[:, ahead % week]
    return found


def _back(origins: NDArray[np.intp], cycle: int, cycles: int) -> NDArray[np.intp]:
    """Where the last ``cycles`` cycles before each origin lie, the newest first: origins x cycles x bins."""
    return origins[:, None, None] - cycle * np.arange(1, cycles + 1)[:, None] + np.arange(cycle)


def _mean(values: Floats, weight: Floats, filled: Floats) -> Floats:
    """Weighted mean over axis 1 of what was observed; of what was filled in where nothing was."""
    weight = weight.reshape(1, -1, *(1,) * (values.ndim - 2))
    seen = np.isfinite(values)
    total = (seen * weight).sum(axis=1)
    mean = (np.where(seen, values, 0.0) * weight).sum(axis=1)
    return np.divide(mean, total, out=(filled * weight).sum(axis=1) / weight.sum(), where=total > 0)
