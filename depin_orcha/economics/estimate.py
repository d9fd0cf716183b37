"""How sure a mean is: hours of one day resemble each other, and so do days in a row. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, fmean
from typing import Any

from depin_orcha.types import DAY_S

Z80 = NormalDist().inv_cdf(0.9)
"""Half width of an 80 % interval in standard errors."""
_MOST_ALIKE = 0.8
"""Days are taken as no more alike than this: beyond, a few of them could tell nothing at all."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its standard error, learned with so many degrees of freedom; ``error`` infinite: one day only."""

    mean: float
    error: float = 0.0
    freedom: float = math.inf

    @property
    def away(self) -> float:
        """Half of the width of its 80 % interval."""
        return student80(self.freedom) * self.error if self.error else 0.0

    @property
    def lo80(self) -> float:
        """Lower end of the 80 % interval."""
        return self.mean - self.away

    @property
    def hi80(self) -> float:
        """Upper end of the 80 % interval."""
        return self.mean + self.away

    def times(self, factor: float) -> Estimate:
        """The same in another unit."""
        return Estimate(self.mean * factor, self.error * abs(factor), self.freedom)

    def less(self, other: Estimate) -> Estimate:
        """The difference of two that have nothing to do with each other."""
        return total([self, other.times(-1.0)])

    def document(self) -> dict[str, Any]:
        """``{mean, lo80, hi80}``, where a range that one day cannot tell is null."""
        known = math.isfinite(self.away)
        return {"mean": self.mean, "lo80": self.lo80 if known else None, "hi80": self.hi80 if known else None}


def total(parts: Sequence[Estimate]) -> Estimate:
    """The sum of estimates that have nothing to do with each other; freedom by Welch and Satterthwaite."""
    variance = sum(one.error**2 for one in parts)
    if not math.isfinite(variance):
        return Estimate(sum(one.mean for one in parts), math.inf, 1.0)
    shares = sum(one.error**4 / one.freedom for one in parts if one.error)
    return Estimate(sum(one.mean for one in parts), variance**0.5, variance**2 / shares if shares else math.inf)


def student80(freedom: float) -> float:
    """Student's quantile for an 80 % interval, to second order in 1 / freedom (Abramowitz and Stegun 26.7.5)."""
    first = (Z80**3 + Z80) / 4
    second = (5 * Z80**5 + 16 * Z80**3 + 3 * Z80) / 96
    return Z80 + first / freedom + second / freedom**2


def by_day(values: Mapping[int, float]) -> Estimate | None:
    """The mean of hourly values with days as blocks; None without any.

    Where one day says something of the next, the error is as much larger as that takes away.
    """
    days: dict[int, list[float]] = {}
    for hour_s in sorted(values):
        days.setdefault(hour_s // DAY_S, []).append(values[hour_s])
    if not days:
        return None
    return of_blocks({day: (sum(found), float(len(found))) for day, found in days.items()})


def of_blocks(blocks: Mapping[int, tuple[float, float]]) -> Estimate:
    """The ratio of two sums, such as income per hour, from (part of the one, part of the other) of each day."""
    whole = sum(weight for _, weight in blocks.values())
    mean = sum(amount for amount, _ in blocks.values()) / whole
    count = len(blocks)
    if count < 2:
        return Estimate(mean, math.inf, 1.0)
    off = {day: amount - mean * weight for day, (amount, weight) in blocks.items()}
    spread = sum(one**2 for one in off.values()) * count / (count - 1)
    return Estimate(mean, spread**0.5 / whole * _longer(off), count - 1.0)


def _longer(off: Mapping[int, float]) -> float:
    """How much wider days that resemble the day before make an error: by their first autocorrelation."""
    variance = fmean(one**2 for one in off.values())
    steps = [off[earlier] * off[later] for earlier, later in pairwise(sorted(off)) if later == earlier + 1]
    if len(steps) < 3 or variance <= 0:
        return 1.0
    alike = min(max(fmean(steps) / variance, 0.0), _MOST_ALIKE)
    return math.sqrt((1 + alike) / (1 - alike))
