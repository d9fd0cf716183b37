"""The sum of the whole horizon: candidates of its own, and errors of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .bands import Bands, student_quantile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

WINDOWS = (1, 3, 7, 14, 30)
"""Days whose mean and median are tried as the next day's total."""
POWER = 12.0
"""Weight of a candidate: its error, relative to the best, to minus this power."""
POOL = "sum_of_bins"


@dataclass(frozen=True, slots=True)
class Total:
    """Weights of the candidates, the error of their mean (``error``, root mean square), and backtests behind it."""

    weights: dict[str, float]
    error: float
    rows: float

    def around(self, point: float, others: Mapping[str, float], levels: Sequence[float]) -> Bands:
        """The total, where the pool's bins add up to ``point`` and the ``others`` say what they say.

        A Student interval: ten totals are too few for their 2.5 % quantile, and this one knows how few they are.
        """
        said = {POOL: point, **others}
        known = sum(weight for name, weight in self.weights.items() if name in said)
        weighted = sum(weight * said[name] for name, weight in self.weights.items() if name in said)
        middle = np.array([weighted / known if known else point])
        reach = {level: self.error * student_quantile(level, max(2.0, self.rows)) for level in levels}
        return Bands(
            middle, middle, {q: middle - r for q, r in reach.items()}, {q: middle + r for q, r in reach.items()}
        )


def candidates(z: Floats, origins: NDArray[np.intp], season: int, horizon: int) -> dict[str, Floats]:
    """Name -> total of ``horizon`` bins after each origin, from the days before it."""
    days = int(min(origins[0] // season, max(WINDOWS)))
    if not days:
        return {}
    at = origins[:, None, None] - season * np.arange(1, days + 1)[:, None] + np.arange(season)
    sums = z[at].sum(axis=2) * (horizon / season)
    found: dict[str, Floats] = {}
    for window in WINDOWS:
        if window <= days:
            found[f"mean_{window}"] = sums[:, :window].mean(axis=1)
            if window > 1:
                found[f"median_{window}"] = np.median(sums[:, :window], axis=1)
    return found


def learn(pool: Floats, others: Mapping[str, Floats], truth: Floats, season: int) -> Total | None:
    """What the backtests say about totals: ``pool`` and ``truth`` are origins x bins, ``others`` one value an origin.

    A total of which a quarter or more is not known is no total; what little is missing is filled in proportion.
    None with fewer than three of them.
    """
    horizon = truth.shape[1]
    known = np.isfinite(truth)
    whole = known.sum(axis=1) > 0.75 * horizon
    if whole.sum() < 3:
        return None
    missing = horizon / known[whole].sum(axis=1)
    real = np.where(known, truth, 0.0)[whole].sum(axis=1) * missing
    said = {POOL: np.where(known, pool, 0.0)[whole].sum(axis=1) * missing}
    said |= {name: values[whole] for name, values in others.items()}
    errors = {name: float(np.abs(values - real).mean()) for name, values in said.items()}
    best = min(errors.values())
    floor = 1e-9 * float(np.abs(real).mean()) + 1e-300
    raw = {name: ((error + floor) / (best + floor)) ** -POWER for name, error in errors.items()}
    weights = {name: weight for name, weight in raw.items() if weight > 0.02}
    scale = sum(weights.values())
    weights = {name: float(f"{weight / scale:.8g}") for name, weight in weights.items()}
    combined = sum(weight * said[name] for name, weight in weights.items())
    rows = float(whole.sum()) * min(1.0, season / horizon)
    error = float(np.sqrt(((combined - real) ** 2).mean())) * (1 + 1 / rows) ** 0.5
    return Total(weights, float(f"{error:.8g}"), rows)
