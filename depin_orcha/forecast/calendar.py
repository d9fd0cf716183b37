"""A regular week, hours plus weekdays, and around it errors that follow each other.

Hours and weekdays add up (on the log scale: multiply), so that a few weeks are enough to know both, where a profile of
all the hours of a week would need months.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import regression

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_SEASONS = 8
HALF_LIFE_SEASONS = 40.0
"""Age at which a bin counts half in the profile."""
DOUBT = 1.0
"""Weeks after which a weekday's own level is half believed."""
ROUNDS = 3
"""Hours and weekdays are found in turns; more turns change nothing."""


def fit(z: Floats, known: NDArray[np.bool_], end: int, season: int, phase: int) -> Floats | None:
    """Levels of the hours, then of the seven days, then what errors make of earlier ones; None if too little is known.

    Learned from the bins before ``end``; bin 0 of ``z`` is bin ``phase`` of its week.
    """
    if end < MIN_SEASONS * season:
        return None
    at = phase + np.arange(end)
    hour, day = at % season, at // season % 7
    weight = known[:end] * 0.5 ** ((end - np.arange(end)) / (HALF_LIFE_SEASONS * season))
    hours, days = np.zeros(season), np.zeros(7)
    per_hour, per_day = np.bincount(hour, weight, season), np.bincount(day, weight, 7)
    for _ in range(ROUNDS):
        rest = weight * (z[:end] - days[day])
        hours = np.bincount(hour, rest, season) / np.maximum(per_hour, 1e-9)
        rest = weight * (z[:end] - hours[hour])
        days = np.bincount(day, rest, 7) / (per_day + DOUBT * season)
    learned = regression.fit(z[:end] - hours[hour] - days[day], known[:end], (end,), season, (regression.ECHO,))[0]
    return np.concatenate((hours, days, learned[regression.ECHO])) if learned else None


def predict(learned: Floats, z: Floats, season: int, phase: int, origins: NDArray[np.intp], horizon: int) -> Floats:
    """What is said after each origin: origins x ``horizon``."""
    hours, days, dense = learned[:season], learned[season : season + 7], learned[season + 7 :]

    def usual(at: NDArray[np.intp]) -> Floats:
        return hours[(phase + at) % season] + days[(phase + at) // season % 7]

    rest = z - usual(np.arange(len(z)))
    said = regression.predict([dense], [rest], origins, horizon)[0]
    return said + usual(origins[:, None] + np.arange(horizon))
