"""When something that grows reaches a limit, and between which days: a random walk with drift. Pure.

What is read grows by ``per_day`` a day, give or take ``noise`` times the root of the days. After D days it has grown by

    per_day * D  +-  z * noise * sqrt(D + D^2 / days)

where the second term under the root is that the drift itself is only known from so many days of readings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from statistics import NormalDist

from .types import DAY_S

FAR_DAYS = 3650.0
"""Ten years: what takes longer is not growing."""
LEAST_STEPS = 4
"""Fewer steps than this say nothing of how uneven they are."""
_Z80 = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True, slots=True)
class Growth:
    """How readings grow: drift per day, noise per root of a day, and what both were learned from."""

    per_day: float
    noise: float
    days: float
    steps: int


@dataclass(frozen=True, slots=True)
class Reached:
    """Days until a limit is reached, and the 80 % range of it; None: not within ten years."""

    mean: float | None
    lo80: float | None
    hi80: float | None


def growth(readings: Sequence[tuple[int, float]], *, falls: bool = True) -> Growth | None:
    """What (instant, amount) pairs in the order of time say; None with fewer than four steps, or less than a day.

    Without ``falls``, a step down is no growth but a collection, and is left out.
    """
    steps = [
        ((later_s - earlier_s) / DAY_S, after - before)
        for (earlier_s, before), (later_s, after) in pairwise(readings)
        if later_s > earlier_s and (falls or after >= before)
    ]
    days = sum(length for length, _ in steps)
    if len(steps) < LEAST_STEPS or days < 1:
        return None
    per_day = sum(change for _, change in steps) / days
    spread = sum((change - per_day * length) ** 2 / length for length, change in steps) / (len(steps) - 1)
    return Growth(per_day, sqrt(spread), days, len(steps))


def reached(found: Growth, room: float) -> Reached:
    """Days until it has grown by ``room``, which is reached already where that is 0 or less."""
    if room <= 0:
        return Reached(0.0, 0.0, 0.0)
    freedom = found.steps - 1
    # Student's quantile, to first order: a few steps know little of their own spread.
    z = _Z80 + (_Z80**3 + _Z80) / (4 * freedom)

    def away(days: float) -> float:
        return z * found.noise * sqrt(days + days * days / found.days)

    return Reached(
        _crossing(lambda days: found.per_day * days - room),
        _crossing(lambda days: found.per_day * days + away(days) - room),
        _crossing(lambda days: found.per_day * days - away(days) - room),
    )


def _crossing(excess: Callable[[float], float]) -> float | None:
    """The days after which ``excess``, which begins below zero and rises through it at most once, is positive."""
    if excess(FAR_DAYS) < 0:
        return None
    low, high = 0.0, FAR_DAYS
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) >= 0 else (middle, high)
    return high
