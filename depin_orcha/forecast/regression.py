"""Linear regressions on past bins, solved in closed form and iterated: each step feeds on the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Model:
    """A regression: the lags it looks at when a day has so many bins, of the series or of its change over a day.

    ``ridge`` holds it back, in units of the variance of its inputs; it needs ``seasons`` of history.
    """

    lags: Callable[[int], Iterable[int]]
    ridge: float
    differenced: bool = False
    seasons: int = 0


def _sparse(day: int) -> set[int]:
    week = 7 * day
    days = {day - 1, day, day + 1, day + 2, 2 * day - 1, 2 * day, 2 * day + 1, *range(3 * day, week, day)}
    return {1, 2, 3, 4, *days, week - 1, week, week + 1, week + 2, 8 * day, 2 * week}


def _medium(day: int) -> set[int]:
    return {*range(1, day + 3), *(k * day + near for k in range(2, 8) for near in (-1, 0, 1))}


MODELS = {
    "ar_sparse": Model(_sparse, 0.0001),
    "ar_short": Model(lambda day: {1, 2, day, 2 * day, 7 * day}, 0.001),
    "ar_difference": Model(lambda day: {lag for lag in _sparse(day) if lag <= 7 * day + 2}, 0.001, differenced=True),
    "ar_medium": Model(_medium, 0.0003),
    "ar_medium_difference": Model(_medium, 0.001, differenced=True),
    "ar_long": Model(lambda _: range(1, 201), 0.003, seasons=20),
}
POOL = tuple(MODELS)
"""Those that speak for themselves."""
ECHO = "ar_echo"
"""What remains of an error an hour, two hours and a day later: for models that know the usual level."""
MODELS[ECHO] = Model(lambda day: {1, 2, day}, 0.001)
ROWS_PER_LAG = 1.5
"""Rows that a regression needs for each of its coefficients."""
MOST_OF_HISTORY = 0.5
"""Lags beyond this share of the history would leave too few rows to fit on."""


def lags_of(name: str, season: int, points: int) -> list[int]:
    """The lags of a model that ``points`` bins can support, ascending; none where there are too few."""
    model = MODELS[name]
    extra = season if model.differenced else 0
    lags = sorted(lag for lag in model.lags(season) if 1 <= lag <= points * MOST_OF_HISTORY - extra)
    rows = points - (lags[-1] if lags else 0) - extra
    return lags if lags and rows >= ROWS_PER_LAG * len(lags) + 4 and points >= model.seasons * season else []


def fit(
    z: Floats, known: NDArray[np.bool_], ends: tuple[int, ...], season: int, names: Iterable[str] = POOL
) -> list[dict[str, Floats]]:
    """For each of the ascending ``ends``, model -> what it learned from the bins before that end.

    ``z`` is finite (gaps filled); rows whose target is not ``known`` are left out. What is learned is the constant,
    then the coefficients of lags 1, 2, … of ``z`` itself, whatever the model made of them. The lags are those that
    the first end supports, so that models mean the same at every end.
    """
    found: list[dict[str, Floats]] = [{} for _ in ends]
    for name in names:
        model = MODELS[name]
        lags = lags_of(name, season, ends[0])
        if not lags:
            continue
        offset = season if model.differenced else 0
        work = z[offset:] - z[:-offset] if offset else z
        for at, (mean, scale, coefficients) in enumerate(_solve(work, known[offset:], lags, ends, offset, model.ridge)):
            filtered = np.zeros(lags[-1] + 1)
            filtered[0] = -1.0
            filtered[lags] = coefficients
            if offset:
                filtered = np.pad(filtered, (0, offset)) - np.pad(filtered, (offset, 0))
            filtered[0] = mean * (1 - coefficients.sum())
            if scale and np.isfinite(filtered).all():
                found[at][name] = filtered
    return found


def _solve(
    work: Floats, known: NDArray[np.bool_], lags: list[int], ends: tuple[int, ...], offset: int, ridge: float
) -> list[tuple[float, float, Floats]]:
    """(mean, scale, coefficients) of each end; the sums of an earlier end are reused by the next."""
    longest = lags[-1]
    mean = float(work[: ends[0] - offset].mean())
    scale = float(work[: ends[0] - offset].std())
    centred = (work - mean) / (scale or 1.0)
    inputs = np.lib.stride_tricks.sliding_window_view(centred, longest)[:-1, [longest - lag for lag in lags]]
    target, weight = centred[longest:], known[longest:].astype(np.float64)
    gram, moment = np.zeros((len(lags), len(lags))), np.zeros(len(lags))
    solved: list[tuple[float, float, Floats]] = []
    begin, rows = 0, 0.0
    for end in ends:
        part = slice(begin, end - offset - longest)
        weighted = inputs[part] * weight[part, None]
        gram += inputs[part].T @ weighted
        moment += weighted.T @ target[part]
        rows += float(weight[part].sum())
        begin = part.stop
        held = gram + np.eye(len(lags)) * (ridge * rows + 1e-9)
        solved.append((mean, scale, np.asarray(np.linalg.solve(held, moment), dtype=np.float64)))
    return solved


def predict(learned: list[Floats], series: list[Floats], origins: NDArray[np.intp], horizon: int) -> Floats:
    """What each regression says after each origin: models x origins x ``horizon``.

    ``series`` holds the values that each one was fitted on. All of them take each step together.
    """
    longest = max(len(dense) for dense in learned) - 1
    weights = np.zeros((len(learned), longest, 1))
    for row, dense in zip(weights, learned, strict=True):
        row[longest - len(dense) + 1 :, 0] = dense[:0:-1]
    constants = np.array([dense[0] for dense in learned])[:, None]
    buffer = np.zeros((len(learned), len(origins), longest + horizon))
    window = origins[:, None] + np.arange(-longest, 0)
    for row, z in zip(buffer, series, strict=True):
        row[:, :longest] = z[np.maximum(window, 0)]
    for step in range(horizon):
        buffer[:, :, longest + step] = (buffer[:, :, step : step + longest] @ weights)[:, :, 0] + constants
    return buffer[:, :, longest:]
