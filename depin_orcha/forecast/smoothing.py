"""Double-seasonal exponential smoothing (Taylor 2003): a level, a day and a week that learn from each error.

    error = y - (level + day + week);   level += a error;   day += b error;   week += c error

and errors that follow each other: the next one is expected to be ``memory`` times this one. A fixed grid of (a, b, c)
runs over many series at once; ``memory`` has a closed form, so it needs no grid of its own.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

GRID = np.array(
    list(
        product((0.003, 0.02, 0.06, 0.15, 0.3, 0.5), (0.02, 0.06, 0.12, 0.2, 0.35), (0.02, 0.06, 0.12, 0.2, 0.35, 0.5))
    )
)
"""All (level, day, week) rates that are tried."""
BEST = 5
"""How many of them are averaged."""
WARM_SEASONS = 14
"""Seasons (two weeks) that the first day and week are read from."""
MIN_SEASONS = 15


def search(z: Floats, known: Floats, season: int, ends: tuple[int, ...]) -> list[Floats]:
    """The best settings for the bins before each of the ascending ``ends``: series x BEST x (a, b, c, memory).

    ``z`` and ``known`` (0 or 1) are series x bins, ``z`` finite. Best by squared error one bin ahead.
    """
    state = _State(z, known, season, np.broadcast_to(GRID, (len(z), *GRID.shape)))
    found: list[Floats] = []
    for end in ends:
        state.run_to(end)
        memory = np.clip(state.lagged / np.maximum(state.squares, 1e-300), 0.0, 0.98)
        score = state.squares - memory * state.lagged
        best = np.argsort(score, axis=1, kind="stable")[:, :BEST]
        chosen = np.concatenate((GRID[best], np.take_along_axis(memory, best, axis=1)[:, :, None]), axis=2)
        found.append(chosen)
    return found


def predict(z: Floats, known: Floats, season: int, settings: Floats, origins: NDArray[np.intp], horizon: int) -> Floats:
    """Mean over the settings of each series: series x origins x ``horizon``; origins ascend."""
    state = _State(z, known, season, settings[:, :, :3])
    memory = settings[:, :, 3]
    ahead = np.arange(horizon)
    said = np.empty((len(z), len(origins), horizon))
    for column, origin in enumerate(origins):
        state.run_to(int(origin))
        steps = origin + ahead
        path = state.day[steps % season] + state.week[steps % (7 * season)] + state.level
        path += state.error * memory ** (ahead[:, None, None] + 1)
        said[:, column] = path.mean(axis=2).T
    return said


class _State:
    """Level, day and week of every series and setting after the bins run so far."""

    def __init__(self, z: Floats, known: Floats, season: int, rates: Floats) -> None:
        self._z, self._known, self._season = z, known, season
        self._rates = tuple(np.ascontiguousarray(rates[:, :, part]) for part in range(3))
        shape = rates.shape[:2]
        warm = z[:, : WARM_SEASONS * season]
        level = warm.mean(axis=1, keepdims=True)
        day = (warm - level).reshape(len(z), -1, season).mean(axis=1)
        week = (warm - level).reshape(len(z), 2, -1).mean(axis=1) - np.tile(day, 7)
        self.level = np.repeat(level, shape[1], axis=1)
        self.day = np.repeat(day.T[:, :, None], shape[1], axis=2)
        self.week = np.repeat(week.T[:, :, None], shape[1], axis=2)
        self.error = np.zeros(shape)
        self.squares, self.lagged = np.zeros(shape), np.zeros(shape)
        self._at = 0

    def run_to(self, end: int) -> None:
        """All bins before ``end`` are learned."""
        a, b, c = self._rates
        level, day, week = self.level, self.day, self.week
        error, spare = self.error, np.empty_like(level)
        for at in range(self._at, end):
            today, this_week = day[at % self._season], week[at % (7 * self._season)]
            fresh = np.add(today, this_week)
            fresh += level
            np.subtract(self._z[:, at, None], fresh, out=fresh)
            fresh *= self._known[:, at, None]
            np.multiply(fresh, a, out=spare)
            level += spare
            np.multiply(fresh, b, out=spare)
            today += spare
            np.multiply(fresh, c, out=spare)
            this_week += spare
            if at >= WARM_SEASONS // 2 * self._season:
                error *= fresh
                self.lagged += error
                np.multiply(fresh, fresh, out=spare)
                self.squares += spare
            error = fresh
        self.error = error
        self._at = max(self._at, end)
