"""Intervals from past errors: split-conformal prediction for the bins, a Student interval for their total."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

NORMAL_PER_MEAN_ERROR = 1.2533
"""Standard deviation of a normal error whose mean absolute value is 1: sqrt(pi / 2)."""
SHRINK_ROWS = 8.0
"""Backtests after which the spread of one bin counts as much as that of all bins together."""


@dataclass(frozen=True, slots=True)
class Bands:
    """``mean`` and ``median`` per bin; ``lo`` and ``hi`` per level in percent, nested, around the median."""

    mean: NDArray[np.float64]
    median: NDArray[np.float64]
    lo: dict[float, NDArray[np.float64]]
    hi: dict[float, NDArray[np.float64]]

    def times(self, factor: NDArray[np.float64] | float) -> Bands:
        """All of it multiplied by ``factor``, which is not negative."""
        return Bands(
            self.mean * factor,
            self.median * factor,
            {level: low * factor for level, low in self.lo.items()},
            {level: high * factor for level, high in self.hi.items()},
        )

    def settled(self, *, floor: float, non_negative: bool) -> Bands:
        """Nothing below zero if ``non_negative``, every band around the median, inside the next one, ``floor`` wide."""
        least = 0.0 if non_negative else -np.inf
        mean, median = np.maximum(self.mean, least), np.maximum(self.median, least)
        inner_lo, inner_hi = median - floor / 2, median + floor / 2
        lo: dict[float, NDArray[np.float64]] = {}
        hi: dict[float, NDArray[np.float64]] = {}
        for level in sorted(self.lo):
            inner_lo = lo[level] = np.maximum(np.minimum(self.lo[level], inner_lo), least)
            inner_hi = hi[level] = np.maximum(np.maximum(self.hi[level], inner_hi), inner_lo + floor)
        return Bands(mean, median, lo, hi)


def conformal(
    point: NDArray[np.float64], residuals: NDArray[np.float64], levels: Sequence[float], *, skewed: bool
) -> Bands:
    """Bands around ``point`` (one value per bin) from ``residuals`` (a row per backtest, NaN = truth not known).

    Each bin has its own spread; the errors in units of it are pooled over the bins, and their quantiles spread out
    again. A few correlated backtests look narrower than the truth, so the band is widened by 1 + c / sqrt(backtests).
    Quantiles are those of the errors if ``skewed``, else halfway to symmetric ones.
    """
    size = _spread(residuals)
    tried = np.isfinite(residuals)
    units = np.broadcast_to(np.where(size > 0, size, 1.0), residuals.shape)[tried]
    shares = residuals[tried] / units
    centre = float(np.quantile(shares, 0.5))
    bias = float(residuals[tried].sum() / units.sum())  # keeps the sum, as the mean of the shares would not
    lo: dict[float, NDArray[np.float64]] = {}
    hi: dict[float, NDArray[np.float64]] = {}
    for level in levels:
        tail = (1 - level / 100) / 2
        low, high = np.quantile(shares, (tail, 1 - tail))
        if not skewed:
            reach = float(np.quantile(np.abs(shares), level / 100))
            low, high = (low - reach) / 2, (high + reach) / 2
        wider = 1 + _caution(level) / len(residuals) ** 0.5
        lo[level] = point + size * (centre + (low - centre) * wider)
        hi[level] = point + size * (centre + (high - centre) * wider)
    return Bands(point + size * bias, point + size * centre, lo, hi)


def student(
    point: NDArray[np.float64], errors: NDArray[np.float64], levels: Sequence[float], rows: float, *, skewed: bool
) -> Bands:
    """Bands around ``point`` (a single value) from at least two ``errors`` of as many backtests.

    The textbook prediction interval of the next outcome: mean +- t * s * sqrt(1 + 1 / n). Ten or twenty totals are
    too few for their 2.5 % quantile, and this one knows how few they are: ``rows`` of them are independent. Sums of
    bursts (``skewed``, never below zero) are judged by their square roots, which are nearly normal.
    """
    outcomes = point + errors
    scale = np.sqrt(np.maximum(outcomes, 0.0)) if skewed else outcomes
    size = float(scale.std(ddof=1)) * (1 + 1 / rows) ** 0.5
    lo: dict[float, NDArray[np.float64]] = {}
    hi: dict[float, NDArray[np.float64]] = {}
    for level in levels:
        reach = size * _student_quantile(level, max(2.0, rows - 1))
        low, high = scale.mean(keepdims=True) - reach, scale.mean(keepdims=True) + reach
        lo[level], hi[level] = (np.maximum(low, 0.0) ** 2, high**2) if skewed else (low, high)
    mean = outcomes.mean(keepdims=True)
    return Bands(mean, np.median(outcomes, keepdims=True) if skewed else mean, lo, hi)


def from_spread(point: NDArray[np.float64], spread: float, levels: Sequence[float]) -> Bands:
    """Bands of a normal error with deviation ``spread`` around ``point``, as cautious as after a single backtest."""
    reach = {level: spread * _z(level) * (1 + _caution(level)) for level in levels}
    return Bands(point, point, {q: point - r for q, r in reach.items()}, {q: point + r for q, r in reach.items()})


def _spread(residuals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean absolute error per bin, smoothed over neighbours and shrunk toward that of all bins."""
    tried = np.isfinite(residuals)
    missed = np.where(tried, np.abs(residuals), 0.0)
    overall = missed.sum() / tried.sum()
    count = tried.sum(axis=0)
    own = (missed.sum(axis=0) + SHRINK_ROWS * overall) / (count + SHRINK_ROWS)
    if own.size < 3:
        return own
    padded = np.concatenate((own[:1], own, own[-1:]))
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def _z(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 200)


def _caution(level: float) -> float:
    """The c of the widening: 0.1 at 80 %, 0.4 at 95 % (measured), linear in the normal quantile, never negative."""
    slope = (0.4 - 0.1) / (_z(95) - _z(80))
    return max(0.0, 0.1 + slope * (_z(level) - _z(80)))


def _student_quantile(level: float, dof: float) -> float:
    """Two-sided quantile of Student's t: Abramowitz and Stegun 26.7.5, within 3 % from two degrees of freedom on."""
    z = _z(level)
    return (
        z
        + (z**3 + z) / (4 * dof)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * dof**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * dof**3)
    )
