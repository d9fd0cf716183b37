"""Money that comes at one hour of the day: how much, and what if it is late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .bands import Bands
from .kinds import payout_bin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .history import History

    Floats = NDArray[np.float64]

WINDOWS = (3, 7, 14, 30)
"""Payouts whose median is tried as the next amount."""
LATE_BINS = 3
"""A payout that comes so many bins after its own still counts as that day's."""
IMAGINED_LATE = 1.0
"""Late payouts that are added to those seen: the first one should not be a surprise to the 95 % band."""
POWER = 4.0


def say(history: History, horizon: int, levels: Sequence[float]) -> tuple[Bands, Bands]:
    """Bands of each bin and of the total, in units of ``history.unit``; zero outside of the hour and the late one."""
    season = history.season
    hour = payout_bin(history.tokens, season, history.phase) or 0
    amounts, punctual = _payouts(history, hour)
    paid = amounts[amounts > 0]
    share_paid = (len(paid) + 0.5) / (len(amounts) + 0.5)
    late = min(0.5, (int((~punctual).sum()) + IMAGINED_LATE) / (len(amounts) + 2 * IMAGINED_LATE))
    outcomes = _next_amounts(paid)
    at = (history.phase + len(history) + np.arange(horizon)) % season
    chance = np.where(at == hour, share_paid * (1 - late), np.where(at == (hour + 1) % season, share_paid * late, 0.0))
    amount = float(np.median(outcomes))
    lo = {level: _mixed(outcomes, chance, 0.5 - level / 200) for level in levels}
    hi = {level: _mixed(outcomes, chance, 0.5 + level / 200) for level in levels}
    mean = np.where(at == hour, share_paid * float(outcomes.mean()), 0.0)
    days = int((at == hour).sum())
    bins = Bands(mean, np.where((at == hour) & (share_paid > 0.5), amount, 0.0), lo, hi)
    return bins, _total(outcomes, share_paid, days, float(mean.sum()), levels)


def _total(outcomes: Floats, share_paid: float, days: int, mean: float, levels: Sequence[float]) -> Bands:
    """The sum of so many payouts, each of which comes with this probability."""
    if not days:
        zero = np.zeros(1)
        return Bands(zero, zero, dict.fromkeys(levels, zero), dict.fromkeys(levels, zero))
    centre = days * share_paid * float(np.median(outcomes)) if days > 1 else float(np.median(outcomes))
    one = np.ones(1) * share_paid
    lo = {level: _mixed(outcomes, one, 0.5 - level / 200) for level in levels}
    hi = {level: _mixed(outcomes, one, 0.5 + level / 200) for level in levels}
    if days > 1:
        middle, root = float(np.median(outcomes)), days**0.5
        lo = {level: centre + root * (low - middle) for level, low in lo.items()}
        hi = {level: centre + root * (high - middle) for level, high in hi.items()}
    return Bands(np.array([mean]), np.array([centre]), lo, hi)


def _payouts(history: History, hour: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Amount of each day, and whether it came at its own hour (days without any are no late ones)."""
    season = history.season
    first = (hour - history.phase) % season
    begins = np.arange(first, len(history), season)
    at = begins[:, None] + np.arange(LATE_BINS + 1)
    inside = at < len(history)
    table = np.where(inside, np.nan_to_num(history.tokens / history.unit)[np.minimum(at, len(history) - 1)], 0.0)
    known = np.isfinite(history.tokens[begins])
    amounts = table.sum(axis=1)
    return amounts[known], (table[:, 0] > 0)[known] | (amounts[known] == 0)


def _next_amounts(paid: Floats) -> Floats:
    """What the next payout may be: the best mean of past medians, and around it the errors it made."""
    if len(paid) < 4:
        return paid
    said = {
        window: np.array([np.median(paid[max(0, k - window) : k]) for k in range(2, len(paid) + 1)])
        for window in WINDOWS
    }
    truth = paid[2:]
    errors = {window: float(np.abs(values[:-1] - truth).mean()) + 1e-12 for window, values in said.items()}
    best = min(errors.values())
    weights = {window: (error / best) ** -POWER for window, error in errors.items()}
    total = sum(weights.values())
    combined = np.zeros(len(truth) + 1)
    for window, weight in weights.items():
        combined += weight / total * said[window]
    misses = truth - combined[:-1]
    widened = misses * (1 + 1 / len(misses)) ** 0.5
    return np.maximum(np.sort(combined[-1] + widened), 0.0)


def _mixed(outcomes: Floats, chance: Floats, probability: float) -> Floats:
    """Quantile, for each bin, of an amount that comes with this chance and is zero otherwise."""
    inside = np.clip((probability - (1 - chance)) / np.maximum(chance, 1e-12), 0.0, 1.0)
    ranks = (np.arange(1, len(outcomes) + 1) - 0.5) / len(outcomes)
    return np.where(probability > 1 - chance, np.interp(inside, ranks, outcomes), 0.0)
