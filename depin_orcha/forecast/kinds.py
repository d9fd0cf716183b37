"""What sort of series this is, by plain rules, and how long a node that is down usually stays down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .series import Series

EMPTY, NEW, DEAD, REGULAR, INTERMITTENT = "empty", "new", "dead", "regular", "intermittent"

MIN_HISTORY = 30
"""Observed bins, where a season has 24, below which nothing but a recent mean is said."""
REGULAR_SHARE = 0.97
"""Share of earning bins above which a series is regular."""
DEAD_SEASONS = 3
DEAD_RUNS = 3
"""Dead: nothing earned for so many seasons, and for so many times the longest pause the node came back from."""
GAPPY_SHARE = 0.1
"""Share of bins without an observation, between the first and the last one, above which a series is gappy."""


def scaled(points: int, season: int) -> int:
    """``points`` bins of a 24-bin season in bins of this ``season``, rounded up."""
    return -(-points * season // 24)


def kind_of(y: NDArray[np.float64], season: int) -> str:
    """The type of a series whose masked bins are NaN."""
    observed = y[np.isfinite(y)]
    if not observed.size:
        return EMPTY
    if observed.size < scaled(MIN_HISTORY, season):
        return NEW
    pauses = runs(observed == 0)
    silent = int(pauses[-1]) if pauses.size and observed[-1] == 0 else 0
    longest = int(pauses[:-1].max()) if pauses.size > 1 else 0
    if silent == observed.size or silent >= max(DEAD_SEASONS * season, DEAD_RUNS * longest):
        return DEAD
    return REGULAR if np.count_nonzero(observed) > REGULAR_SHARE * observed.size else INTERMITTENT


def flags_of(series: Series, *, low_history: bool) -> list[str]:
    """``low_history`` as told, ``gappy`` where many bins are missing, ``down`` when the node is so at the origin."""
    seen = np.flatnonzero(np.isfinite(series.y))
    flags = ["low_history"] if low_history else []
    if seen.size and 1 - seen.size / (seen[-1] - seen[0] + 1) > GAPPY_SHARE:
        flags.append("gappy")
    if series.down.size and series.down[-1]:
        flags.append("down")
    return flags


def still_down(down: NDArray[np.bool_], horizon: int) -> NDArray[np.float64]:
    """Probability, for each of the next ``horizon`` bins, that an outage that lasts at the end of ``down`` goes on.

    The share of past outages that outlasted this one by so much, together with one imagined outage of the kind
    that has lasted for a bins and lasts for h more with probability a / (a + h). Zeros where the node is not down.
    """
    if not down.size or not down[-1]:
        return np.zeros(horizon)
    *past, age = runs(down).tolist()
    ahead = np.arange(1.0, horizon + 1)
    longer = np.array([length for length in past if length > age], dtype=np.float64)
    outlasting = (longer[:, None] >= age + ahead).sum(axis=0)
    return (outlasting + age / (age + ahead)) / (longer.size + 1)


def runs(marks: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Lengths of the unbroken runs of True, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marks, [False])).astype(np.int8)))
    return edges[1::2] - edges[::2]
