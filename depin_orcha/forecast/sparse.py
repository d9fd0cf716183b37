"""Work that comes in bursts: what followed similar moments of the past, as a whole distribution.

Four notions of "similar" compete: any moment, the same state (earning or not), the same hour of the day, both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .bands import PROBABILITIES, Bands, caution, from_spread, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .history import History

    Floats = NDArray[np.float64]

POWER = 14.0
"""Close to a choice: the mean of a good and a bad distribution is a bad one."""
HALF_LIFE_SEASONS = 30.0
"""Seasons after which a moment counts half."""
NEAR = 1 / 24
"""Moments within so much of a season of the same hour are similar, half as much at its edge."""
OTHER_STATE = 0.02
"""What a moment in the other state counts: little, but it speaks when there is no other."""
SCORED = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
MEMBERS = {"any_time": (False, False), "same_state": (True, False), "same_hour": (False, True), "both": (True, True)}


def learn(history: History, horizon: int) -> tuple[dict[str, float], NDArray[np.intp], Floats]:
    """(member -> weight by quantile losses, origins of the backtests, their combined medians).

    ``any_time`` alone where there is no backtest.
    """
    origins = history.origins(horizon)
    origins = origins[origins > history.season]
    truth = history.truth(origins, horizon, tokens=True)
    losses: dict[str, float] = {}
    medians: dict[str, Floats] = {}
    for name in MEMBERS:
        said = np.array([_after(history, origin, horizon, name, SCORED)[1] for origin in origins.tolist()])
        if not said.size or not np.isfinite(truth).any():
            return {"any_time": 1.0}, origins[:0], np.empty((0, horizon))
        short = truth[:, :, None] - said
        losses[name] = float(np.nanmean(np.maximum(SCORED * short, (SCORED - 1) * short)))
        medians[name] = said[:, :, SCORED.size // 2]
    best = min(losses.values())
    raw = {name: (loss / best) ** -POWER if best else float(loss == best) for name, loss in losses.items()}
    kept = {name: weight for name, weight in raw.items() if weight > 0.01}
    order = sorted(kept, key=lambda name: -kept[name])
    weights = {name: float(f"{kept[name] / sum(kept.values()):.6g}") for name in order}
    combined = np.zeros(truth.shape)
    for name, weight in weights.items():
        combined += weight * medians[name]
    return weights, origins, combined


def say(weights: dict[str, float], history: History, horizon: int, levels: Sequence[float]) -> tuple[Bands, Bands]:
    """Bands of each bin and of the total, in units of ``history.unit``."""
    mean, table = np.zeros(horizon), np.zeros((horizon, PROBABILITIES.size))
    for name, weight in weights.items():
        member_mean, member = _after(history, len(history), horizon, name, PROBABILITIES)
        mean, table = mean + weight * member_mean, table + weight * member
    middle = table[:, PROBABILITIES.size // 2]
    lo: dict[float, Floats] = {}
    hi: dict[float, Floats] = {}
    for level in levels:
        lo[level] = np.array([quantile(row, 0.5 - level / 200) for row in table])
        hi[level] = np.array([quantile(row, 0.5 + level / 200) for row in table])
    return Bands(mean, middle, lo, hi), _total(weights, history, float(mean.sum()), horizon, levels)


def _after(history: History, origin: int, horizon: int, member: str, probabilities: Floats) -> tuple[Floats, Floats]:
    """Mean (bins) and quantiles (bins x probabilities) of what came so many bins after similar moments."""
    z = history.tokens[:origin] / history.unit
    seen = np.flatnonzero(np.isfinite(z))
    order = seen[np.argsort(z[seen], kind="stable")]
    values = z[order]
    weight = _similar(history, origin, order, np.arange(1, horizon + 1), member)
    heap = np.cumsum(weight, axis=1)
    total = heap[:, -1:]
    mean = (weight @ values) / total[:, 0]
    rows = np.array([np.searchsorted(row, probabilities * row[-1]) for row in heap], dtype=np.intp)
    return mean, values[np.minimum(rows, len(values) - 1)]


def _similar(history: History, origin: int, bins: NDArray[np.intp], ahead: NDArray[np.intp], member: str) -> Floats:
    """How much each past bin says about the one ``ahead`` of ``origin``: ahead x bins."""
    by_state, by_hour = MEMBERS[member]
    weight = 0.5 ** ((origin - bins) / (HALF_LIFE_SEASONS * history.season))
    weight = np.repeat(weight[None], len(ahead), axis=0)
    if by_state:
        state = _earning(history)
        now = state[origin - 1]
        before = bins[None] - ahead[:, None]
        alike = (state[np.maximum(before, 0)] == now) & (before >= 0)
        weight *= np.where(alike, 1.0, OTHER_STATE)
    if by_hour:
        away = np.abs((bins[None] - (origin + ahead[:, None] - 1)) % history.season)
        away = np.minimum(away, history.season - away)
        reach = max(1, round(NEAR * history.season))
        weight *= np.where(away <= reach, 1.0 - 0.5 * away / reach, 1e-3)
    return weight


def _earning(history: History) -> NDArray[np.bool_]:
    """Whether it earned in the last bin that is known, up to each bin."""
    known = np.isfinite(history.tokens)
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), 0))
    return np.nan_to_num(history.tokens)[last] != 0


def _total(weights: dict[str, float], history: History, mean: float, horizon: int, levels: Sequence[float]) -> Bands:
    """The distribution of sums over windows of a season (or the horizon, if shorter), moved to the ``mean``.

    Longer horizons are taken as so many windows that do not depend on each other.
    """
    window = min(horizon, history.season)
    begins = np.arange(1, len(history) - window + 1)
    at = begins[:, None] + np.arange(window)
    parts = history.tokens[at] / history.unit
    known = np.isfinite(parts).sum(axis=1)
    usable = known > 0.75 * window
    if usable.sum() < window:
        return from_spread(np.array([mean]), horizon**0.75 * float(np.nanstd(history.tokens)) / history.unit, levels)
    sums: Floats = np.nan_to_num(parts).sum(axis=1)[usable] * window / known[usable]
    begins = begins[usable]
    by_state = sum(weight for name, weight in weights.items() if MEMBERS[name][0])
    now, state = _earning(history)[-1], _earning(history)[begins - 1]
    weight = 0.5 ** ((len(history) - begins) / (HALF_LIFE_SEASONS * history.season))
    weight *= np.where(state == now, 1.0, 1.0 - by_state * (1.0 - OTHER_STATE))
    order = np.argsort(sums, kind="stable")
    sums, heap = sums[order], np.cumsum(weight[order])
    sums = np.interp(PROBABILITIES, (heap - weight[order] / 2) / heap[-1], sums)
    times = horizon / window
    centre = float(sums[PROBABILITIES.size // 2])
    usual = float(np.average(np.interp(np.linspace(0.005, 0.995, 100), PROBABILITIES, sums)))
    table = mean + times**0.5 * (sums - usual)
    middle = mean + times**0.5 * (centre - usual)
    rows = max(1.0, usable.sum() / window)
    lo: dict[float, Floats] = {}
    hi: dict[float, Floats] = {}
    for level in levels:
        wider = 1 + caution(level) / rows**0.5
        low, high = quantile(table.tolist(), 0.5 - level / 200), quantile(table.tolist(), 0.5 + level / 200)
        lo[level] = np.array([middle + (low - middle) * wider])
        hi[level] = np.array([middle + (high - middle) * wider])
    return Bands(np.array([mean]), np.array([middle]), lo, hi)
