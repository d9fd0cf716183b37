"""What sort of series this is, by plain rules, and how long a node that is down usually stays down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .series import Series

EMPTY, NEW, DEAD, REGULAR, OUTAGES = "empty", "new", "dead", "regular", "outages"
INTERMITTENT, SCHEDULED = "intermittent", "scheduled"

MIN_HISTORY = 30
"""Observed bins, where a season has 24, below which nothing but a recent mean is said."""
REGULAR_SHARE = 0.97
"""Share of earning bins above which a series is regular."""
OUTAGE_SHARE = 0.3
"""Share of zeros from which on they are part of the pattern and no outages."""
OUTAGE_BINS, OUTAGES_PER_SEASON = 2, 0.5
"""An outage lasts at least so many bins; a node with more of them a season is not always earning."""
SAME_HOUR_SHARE = 0.5
"""A bin of the day that is zero more often than this is zero by habit, not by outage."""
PAYOUT_SHARE, PAYOUT_SEASONS = 0.85, 4
"""Money in one or two adjacent bins of the day, over so many days, that makes a scheduled payout."""
DEAD_SEASONS = 3
DEAD_RUNS = 3
"""Dead: nothing earned for so many seasons, and for so many times the longest pause the node came back from."""
GAPPY_SHARE = 0.1
"""Share of bins without an observation, between the first and the last one, above which a series is gappy."""


def scaled(points: int, season: int) -> int:
    """``points`` bins of a 24-bin season in bins of this ``season``, rounded up."""
    return -(-points * season // 24)


def kind_of(y: NDArray[np.float64], season: int, phase: int, *, told: bool) -> str:
    """The type of a series whose masked bins are NaN; ``told``: its states are known, so zeros are no outages."""
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
    return _pattern(y, season, phase, told=told)


def _pattern(y: NDArray[np.float64], season: int, phase: int, *, told: bool) -> str:
    """The type of a series that is long enough and not dead."""
    observed = y[np.isfinite(y)]
    if payout_bin(y, season, phase) is not None:
        return SCHEDULED
    if np.count_nonzero(observed) > REGULAR_SHARE * observed.size:
        return REGULAR
    if not told:
        masked = outages(y, season)
        rest = observed.size - int(masked.sum())
        if masked.any() and np.count_nonzero(observed) > REGULAR_SHARE * rest:
            return OUTAGES
    return INTERMITTENT


def outages(y: NDArray[np.float64], season: int) -> NDArray[np.bool_]:
    """Marks zeros that are outages of an always-earning node: few, in runs, and not at the same hours every day."""
    zero = y == 0
    lengths = runs(zero)
    many = lengths.size > max(1.0, OUTAGES_PER_SEASON * len(y) / season)
    nothing = np.zeros(len(y), dtype=np.bool_)
    if not lengths.size or zero.sum() > OUTAGE_SHARE * np.isfinite(y).sum() or many:
        return nothing
    days = len(y) // season
    if days >= 2 and zero[-days * season :].reshape(days, season).mean(axis=0).max() > SAME_HOUR_SHARE:
        return nothing
    edges = np.flatnonzero(np.diff(np.concatenate(([False], zero, [False])).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        nothing[start:end] = end - start >= OUTAGE_BINS
    return nothing


def payout_bin(y: NDArray[np.float64], season: int, phase: int) -> int | None:
    """The bin of the day that gets nearly all the money, the next one included; None where there is no such bin."""
    seen = np.isfinite(y)
    if season < 24 or seen.sum() < PAYOUT_SEASONS * season or (y[seen] < 0).any():
        return None
    hour = (phase + np.arange(len(y))) % season
    money = np.bincount(hour[seen], weights=y[seen], minlength=season)
    pairs = money + np.roll(money, -1)
    best = int(np.argmax(money + 0.5 * np.roll(money, -1)))
    paid = int(np.count_nonzero(y[seen]))
    if not money.sum() or pairs[best] < PAYOUT_SHARE * money.sum() or paid < 3:
        return None
    return best


def flags_of(series: Series, down: NDArray[np.bool_], *, low_history: bool) -> list[str]:
    """``low_history`` as told, ``gappy`` where many bins are missing, ``down`` when the node is so at the origin."""
    seen = np.flatnonzero(np.isfinite(series.y))
    flags = ["low_history"] if low_history else []
    if seen.size and 1 - seen.size / (seen[-1] - seen[0] + 1) > GAPPY_SHARE:
        flags.append("gappy")
    if down.size and down[-1]:
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
