"""Intervals from past errors: normalised split-conformal prediction."""

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
LEAST_LEVEL = 0.05
"""Levels below this share of the mean one are taken to err as much as that."""
TRUST_ROWS = 20.0
"""Backtests after which half of their mean error is taken to be a lasting one."""
_TAIL = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
PROBABILITIES = np.array([*_TAIL, 0.5, *(1 - probability for probability in reversed(_TAIL))])
"""Where quantiles are stored; those of any level are read between them."""
_NORMAL = np.array([NormalDist().inv_cdf(probability) for probability in PROBABILITIES.tolist()])


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

    def wider(self, factor: float) -> Bands:
        """Every bound ``factor`` times as far from the median."""
        lo = {level: self.median + factor * (low - self.median) for level, low in self.lo.items()}
        hi = {level: self.median + factor * (high - self.median) for level, high in self.hi.items()}
        return Bands(self.mean, self.median, lo, hi)

    def moved(self, deviation: NDArray[np.float64]) -> Bands:
        """Bounds further out, as if all of it were multiplied by a factor of this relative ``deviation``."""
        lo: dict[float, NDArray[np.float64]] = {}
        hi: dict[float, NDArray[np.float64]] = {}
        for level in self.lo:
            risk = _z(level) * deviation
            below, above = self.median - self.lo[level], self.hi[level] - self.median
            lo[level] = self.median - np.hypot(below, self.lo[level] * risk)
            hi[level] = self.median + np.hypot(above, self.hi[level] * risk)
        return Bands(self.mean, self.median, lo, hi)

    def open_to_zero(self) -> Bands:
        """Every band reaches zero: what is expected may not happen at all."""
        lo = {level: np.minimum(low, 0.0) for level, low in self.lo.items()}
        return Bands(self.mean, self.median, lo, {level: np.maximum(high, 0.0) for level, high in self.hi.items()})

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


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the truth was from what was said: per bin ``scale`` (its size) and, for all bins, ``quantiles`` of the
    errors in units of it at ``PROBABILITIES``; ``rows`` backtests stand behind it.

    ``bias`` is what has to be added, in units of the scale, to make means add up, ``centre`` for the median.
    """

    scale: list[float]
    quantiles: list[float]
    bias: float
    centre: float
    rows: float

    def around(self, point: NDArray[np.float64], levels: Sequence[float]) -> Bands:
        """Bands around ``point``; beyond the bins of ``scale``, which are whole seasons then, they are repeated.

        A few correlated backtests look narrower than the truth, so bands are widened by 1 + c / sqrt(backtests).
        """
        size = np.resize(np.array(self.scale), point.size)
        centre = self.centre
        lo: dict[float, NDArray[np.float64]] = {}
        hi: dict[float, NDArray[np.float64]] = {}
        for level in levels:
            low, high = quantile(self.quantiles, 0.5 - level / 200), quantile(self.quantiles, 0.5 + level / 200)
            wider = 1 + caution(level) / self.rows**0.5
            lo[level] = point + size * (centre + (low - centre) * wider)
            hi[level] = point + size * (centre + (high - centre) * wider)
        return Bands(point + size * self.bias, point + size * centre, lo, hi)


def spread_of(residuals: NDArray[np.float64], said: NDArray[np.float64]) -> Spread:
    """The spread of ``residuals`` (a row per backtest, NaN = truth not known, at least one known) of what was ``said``.

    Each bin has its own scale; the errors in units of it are pooled over the bins. Quantiles are halfway between those
    of the errors and symmetric ones.
    """
    size = _sizes(residuals, said)
    tried = np.isfinite(residuals)
    units = np.broadcast_to(np.where(size > 0, size, 1.0), residuals.shape)[tried]
    shares = residuals[tried] / units
    signed = np.quantile(shares, PROBABILITIES)
    reach = np.quantile(np.abs(shares), np.abs(1 - 2 * PROBABILITIES)) * np.sign(PROBABILITIES - 0.5)
    rows = len(residuals)
    trust = rows / (rows + TRUST_ROWS)
    centre = float(np.quantile(shares, 0.5)) * trust
    bias = float(residuals[tried].sum() / units.sum()) * trust  # keeps the sum, as the mean of shares would not
    quantiles = np.maximum.accumulate((signed + reach) / 2)
    return Spread(sizes(size), sizes(quantiles), bias, centre, rows)


def sizes(values: NDArray[np.float64]) -> list[float]:
    """Values with the eight digits that are stored: what is said now and what is said from a stored state agree."""
    return [float(f"{value:.8g}") for value in values.tolist()]


def quantile(values: Sequence[float] | NDArray[np.float64], probability: float) -> float:
    """The quantile between those at ``PROBABILITIES``, on the scale on which normal ones lie on a line."""
    return float(np.interp(_normal(probability), _NORMAL, values))


def from_spread(point: NDArray[np.float64], spread: float, levels: Sequence[float]) -> Bands:
    """Bands of a normal error with deviation ``spread`` around ``point``, as cautious as after a single backtest."""
    reach = {level: spread * _z(level) * (1 + caution(level)) for level in levels}
    return Bands(point, point, {q: point - r for q, r in reach.items()}, {q: point + r for q, r in reach.items()})


def _sizes(residuals: NDArray[np.float64], said: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean absolute error per bin, smoothed over neighbours and shrunk toward what is usual for a bin of that level.

    Usual is an error that grows with the level to the power 0, 0.5 or 1, whichever makes the errors most likely.
    """
    tried = np.isfinite(residuals)
    missed = np.where(tried, np.abs(residuals), 0.0)
    count = tried.sum(axis=0)
    level = np.abs(said).mean(axis=0)
    level = np.maximum(level, LEAST_LEVEL * float(level.mean()))
    usual, best = np.full(count.size, missed.sum() / tried.sum()), np.inf
    for power in (0.0, 0.5, 1.0):
        shape = (level / level.mean()) ** power if level.any() else np.ones(count.size)
        size = shape * float((missed / shape).sum() / tried.sum())
        if size.min() <= 0:
            break
        unlikely = float((count * np.log(size)).sum() + (missed / size).sum())
        if unlikely < best:
            usual, best = size, unlikely
    own = (missed.sum(axis=0) + SHRINK_ROWS * usual) / (count + SHRINK_ROWS)
    if own.size < 3:
        return own
    padded = np.concatenate((own[:1], own, own[-1:]))
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def _normal(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def _z(level: float) -> float:
    return _normal(0.5 + level / 200)


def caution(level: float) -> float:
    """The c of the widening: 0.2 at 80 %, 0.5 at 95 % (measured), linear in the normal quantile, never negative."""
    slope = (0.5 - 0.2) / (_z(95) - _z(80))
    return max(0.0, 0.2 + slope * (_z(level) - _z(80)))


def student_quantile(level: float, dof: float) -> float:
    """Two-sided quantile of Student's t: Abramowitz and Stegun 26.7.5, within 3 % from two degrees of freedom on."""
    z = _z(level)
    return (
        z
        + (z**3 + z) / (4 * dof)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * dof**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * dof**3)
    )
