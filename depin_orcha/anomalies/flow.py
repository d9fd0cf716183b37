"""Income that flows most hours: what is expected of an hour, and how deep a fall is.

The profile is a level (median of the last seven days), a factor per hour of the day and one per hour of the week, as a
weekend begins at any hour. What is left is a persistent noise: z, the logarithm of income over profile, follows
z[t] = rho z[t-1] + u[t]. A fall by a constant factor that begins at an hour shows as one large u there and as (1 - rho)
of it in each hour after, so that over k hours

    T_k = (u[1] / s1^2 + (1 - rho) sum u[j] / sj^2) / sqrt(1 / s1^2 + (1 - rho)^2 sum 1 / sj^2)

is the matched filter for it: standard normal where nothing is wrong, with s the spread of u at that hour of the day.
A steady slide to the present hour shows as 1 + (1 - rho)(j - 1) in hour j, up to a factor; with a[j] for that,

    S_k = sum a[j] u[j] / sj^2 / sqrt(sum a[j]^2 / sj^2)

is its matched filter, and the deeper one of the two counts.
How low they came in the weeks before is what heavier tails than normal are judged by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite, log
from operator import add
from typing import TYPE_CHECKING, Any

from depin_orcha.types import HOUR_S

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SPANS_H = (4, 6, 8, 12, 16, 24, 36, 48)
"""Lengths of a fall that are tried."""
MATERIAL = 0.75
"""Less than this share of the usual income is worth a word."""
_MISSING_H = 3.0
"""And so many hours' usual income have to be missing."""
LEAST_SIGMA = 0.005
_FLOOR = 0.05
"""Income below this share of the profile is all the same."""
_LOWEST_Z = -3.0
_OUTLIER = 8.0
_LEAST_FACTOR = 0.02
_SPIKE = 2.0
"""So many times the highest z that counts is a spike: its end is no fall."""
_LEVEL_DAYS, _OLDEST_DAYS, _FIRST_DAYS = 7, 14, 4
"""The level is that of so many known days, none of them older than so many."""
_KNOWN = 0.75
_DAY_KNOWN_H = 12
_WEEK_H = 7 * 24
_NEAR_H = 3
_WORST_WEEK = 3
"""What made the worst weeks may be faults that went unseen: so many-th of them counts."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The profile and the noise around it, by so many days; ``worst`` is about the lowest T_k or S_k in them.

    Income above the profile is cut at z = ``most``: the end of a rich hour is no fall.
    """

    level: float
    of_day: list[float]
    of_week: list[float]
    centre: float
    rho: float
    sigma: list[float]
    most: float
    days: int
    worst: float = 0.0

    def expected(self, hour: int) -> float:
        """Usual income of an hour, counted from the epoch."""
        return self.level * self.of_day[hour % 24] * self.of_week[hour % _WEEK_H] * exp(self.centre)

    def shares(self, hours: Sequence[float | None], end_s: int) -> tuple[float, float]:
        """(earned, expected) of those of the hours that are known; the last of them ends at ``end_s``."""
        earned = expected = 0.0
        for hour, one in enumerate(hours, start=end_s // HOUR_S - len(hours)):
            if one is not None and isfinite(one):
                earned, expected = earned + one, expected + self.expected(hour)
        return earned, expected

    def fall(self, hours: Sequence[float | None], end_s: int) -> tuple[float, int, float, float]:
        """The deepest fall that ends with the last hour: (T_k or S_k, k, earned, expected); 0 where there is none.

        Only falls count that are worth a word, over spans of which three quarters are known.
        """
        terms = self._terms(hours[-SPANS_H[-1] - 1 :], end_s)
        best = (0.0, 0, 0.0, 0.0)
        earned = expected = 0.0
        known = 0
        sums = (0.0, 0.0, 0.0, 0.0, 0.0)
        for back, term in enumerate(reversed(terms), start=1):
            if term is not None:
                y, e, u, w = term
                known, earned, expected = known + 1, earned + y, expected + e
                own = (u * w, w, back * u * w, back * w, back * back * w)
                sums = tuple(map(add, sums, own))
                if back in SPANS_H and known >= _KNOWN * back and self._counts(earned, expected):
                    a, b, c, d, f = sums
                    t = min(self._sudden(a, b, u * w, w), self._slow(a, b, c, d, f, back, -1))
                    if t < best[0]:
                        best = (t, back, earned, expected)
        return best

    def _sudden(self, uw: Any, weight: Any, first_uw: Any, first_weight: Any) -> Any:
        """T_k of a fall by a constant factor, from sums over its hours and its first hour; of numbers or of arrays."""
        step = 1 - self.rho
        square = first_weight + step**2 * (weight - first_weight)
        return (first_uw + step * (uw - first_uw)) / square**0.5

    def _slow(self, uw: Any, weight: Any, uw_1: Any, weight_1: Any, weight_2: Any, first: Any, sign: int) -> Any:
        """S_k of a slide, from sums of u / s^2 and 1 / s^2 times places (and squares of them); its first one is given.

        Places go up with time where the sign is 1, down where it is -1.
        """
        slope = sign * (1 - self.rho)
        base = 1 - slope * first
        square = base**2 * weight + 2 * base * slope * weight_1 + slope**2 * weight_2
        return (base * uw + slope * uw_1) / square**0.5

    def _terms(self, hours: Sequence[float | None], end_s: int) -> list[tuple[float, float, float, float] | None]:
        """(income, expected, u, 1 / s^2) of each hour but the first; None where it, or the one before, is not known."""
        terms: list[tuple[float, float, float, float] | None] = []
        before: float | None = None
        for hour, y in enumerate(hours, start=end_s // HOUR_S - len(hours)):
            term = z = None
            told = 0.0
            if y is not None and isfinite(y):
                e = self.expected(hour)
                told = log(max(y / e, _FLOOR))
                z = min(max(told, _LOWEST_Z), self.most)
                if before is not None:
                    sigma = self.sigma[hour % 24]
                    u = min(max(z - self.rho * before, -_OUTLIER * sigma), _OUTLIER * sigma)
                    term = (y, e, u, 1 / (sigma * sigma))
            terms.append(term)
            before = None if z is not None and told > _SPIKE * self.most else z
        return terms[1:]

    def _counts(self, earned: Any, expected: Any) -> Any:
        """Is it worth a word? Of numbers or of arrays of them."""
        return (earned < MATERIAL * expected) & (expected - earned >= _MISSING_H * self.level)

    def with_worst(self, u: Floats, sigma: Floats, y: Floats, expected: Floats) -> Flow:
        """The same with the lowest T_k or S_k of the third worst week.

        u, its sigma, income and what was expected of it are those of the same hours, NaN where not known.
        """
        import numpy as np

        known = np.isfinite(u) & np.isfinite(y)
        w = np.where(known, 1 / sigma**2, 0.0)
        uw = np.where(known, np.clip(u, -_OUTLIER * sigma, _OUTLIER * sigma), 0.0) * w
        place = np.arange(len(u), dtype=np.float64)
        of_u = (uw, w, place * uw, place * w, place**2 * w)
        parts = np.stack([*of_u, np.where(known, y, 0.0), np.where(known, expected, 0.0), known])
        sums = np.concatenate((np.zeros((len(parts), 1)), np.cumsum(parts, axis=1)), axis=1)
        lowest = np.zeros(len(u) // _WEEK_H + 1)
        for span in SPANS_H:
            if span > len(u):
                break
            found = sums[:, span:] - sums[:, :-span]
            earned, due, count = found[5:]
            at = np.flatnonzero((w[: len(w) - span + 1] > 0) & (count >= _KNOWN * span) & self._counts(earned, due))
            a, b, c, d, e = (found[row, at] for row in range(5))
            t = np.minimum(self._sudden(a, b, uw[at], w[at]), self._slow(a, b, c, d, e, place[at], 1))
            np.minimum.at(lowest, at // _WEEK_H, t)
        return replace(self, worst=float(np.sort(lowest)[:_WORST_WEEK][-1]))


def learn_flow(y: Floats, end_s: int) -> Flow | None:
    """Profile and noise of whole days of hours, NaN where not known; None where the last week is not known."""
    import numpy as np

    days = day_means(y)
    hour = end_s // HOUR_S - len(y) + np.arange(len(y))
    with np.errstate(all="ignore"):
        of_day = _by(y / np.repeat(days, 24), hour % 24, 24)
    of_day = np.maximum(of_day / of_day.mean(), _LEAST_FACTOR)
    weekday = hour[::24] // 24 % 7
    of_weekday = _factors_of_week(days, weekday)
    adjusted = days / of_weekday[weekday]
    levels = np.array([_level(adjusted[max(0, one - _OLDEST_DAYS) : one]) for one in range(len(days) + 1)])
    level = float(levels[-1])
    if not level > 0:
        return None
    expected = np.repeat(levels[:-1], 24) * of_day[hour % 24]
    of_week = _factors_of_hours(y, expected, hour % _WEEK_H)
    expected *= of_week[hour % _WEEK_H]
    first = _FIRST_DAYS * 24
    with np.errstate(all="ignore"):
        z = np.log(np.maximum(y / expected, _FLOOR))[first:]
    z[~np.isfinite(z)] = np.nan
    centre = _median(z)
    if not isfinite(centre):
        return None
    z -= centre
    most = 1.5 * 1.4826 * _median(np.abs(z))
    after_spike = z[:-1] > _SPIKE * most
    z = np.clip(z, _LOWEST_Z, most)
    rho = _persistence(z)
    u = z[1:] - rho * z[:-1]
    u[after_spike] = np.nan
    of_hour = hour[first + 1 :] % 24
    sigma = _spreads(u, of_hour)
    known_days = int(np.isfinite(days).sum())
    flow = Flow(level, of_day.tolist(), of_week.tolist(), centre, rho, sigma.tolist(), most, known_days)
    return flow.with_worst(u, sigma[of_hour], y[first + 1 :], expected[first + 1 :] * exp(centre))


def day_means(y: Floats) -> Floats:
    """Mean of each 24 hours; NaN where less than half of them is known."""
    import numpy as np

    rows = y.reshape(-1, 24)
    known = np.isfinite(rows).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known >= _DAY_KNOWN_H, np.nansum(rows, axis=1) / known, np.nan)


def _factors_of_week(days: Floats, weekday: NDArray[np.intp]) -> Floats:
    """What each day of the week brings beside the seven days around it, drawn to 1 where there are few of them."""
    import numpy as np

    around = np.array([_median(days[max(0, one - 3) : one + 4]) for one in range(len(days))])
    with np.errstate(all="ignore"):
        ratio = days / around
    counts = np.array([np.isfinite(ratio[weekday == one]).sum() for one in range(7)])
    return (counts * _by(ratio, weekday, 7) + 2) / (counts + 2)


def _factors_of_hours(y: Floats, expected: Floats, of_week: NDArray[np.intp]) -> Floats:
    """What each hour of the week brings beside that, by it and its neighbours; drawn to 1 where weeks are few."""
    import numpy as np

    with np.errstate(all="ignore"):
        ratio = y / expected
    rows = np.full((-(-len(y) // _WEEK_H), _WEEK_H), np.nan)
    rows[np.arange(len(y)) // _WEEK_H, of_week] = ratio
    near = np.concatenate([np.roll(rows, shift, axis=1) for shift in range(-_NEAR_H, _NEAR_H + 1)])
    counts = np.isfinite(rows).sum(axis=0)
    return (counts * _by(near.ravel(), np.tile(np.arange(_WEEK_H), len(near)), _WEEK_H) + 2) / (counts + 2)


def _by(values: Floats, group: NDArray[np.intp], size: int) -> Floats:
    """Median of the known values of each group; 1 where there are none."""
    import numpy as np

    medians = np.array([_median(values[group == one]) for one in range(size)])
    return np.where(np.isfinite(medians), medians, 1.0)


def _level(days: Floats) -> float:
    """The middle of the last days that are known: two or three that lie around an episode say too little."""
    import numpy as np

    return _median(days[np.isfinite(days)][-_LEVEL_DAYS:])


def _median(values: Floats) -> float:
    import numpy as np

    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else np.nan


def _persistence(z: Floats) -> float:
    """Correlation of an hour with the one before, the middle one of all weeks, between 0 and 0.95."""
    import numpy as np

    found: list[float] = []
    for first in range(0, len(z), _WEEK_H):
        week = z[first : first + _WEEK_H]
        both = np.isfinite(week[1:]) & np.isfinite(week[:-1])
        one, two = week[1:][both], week[:-1][both]
        if one.size >= _WEEK_H // 2 and one.std() and two.std():
            found.append(float(np.corrcoef(one, two)[0, 1]))
    return min(max(float(np.median(found)), 0.0), 0.95) if found else 0.0


def _spreads(u: Floats, of_hour: NDArray[np.intp]) -> Floats:
    """Spread of u at each hour of the day, by the median, each smoothed with its neighbours."""
    import numpy as np

    own = np.array([1.4826 * _median(np.abs(u[of_hour == one])) for one in range(24)])
    own = np.where(np.isfinite(own), own, 0.0) ** 2
    return np.maximum(np.sqrt((own + np.roll(own, 1) + np.roll(own, -1)) / 3), LEAST_SIGMA)
