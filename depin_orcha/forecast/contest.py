"""The contest: every forecaster predicts days that are already over, and the one that erred least speaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .kinds import scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from . import Forecaster

MAX_ORIGINS = 20
"""Backtests per series, one season apart, the newest first."""

_NOISE = 1e-9


@dataclass(frozen=True, slots=True)
class Past:
    """What the contest knows: earnings per bin, their unit price (ones without prices), tokens = earnings / price.

    NaN is not observed. All three have one value per bin; ``season`` is in bins.
    """

    y: NDArray[np.float64]
    price: NDArray[np.float64]
    tokens: NDArray[np.float64]
    season: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who won, what it says, and how it did.

    ``prediction`` has ``horizon`` values and ``residuals`` a row of as many per backtest, truth minus prediction,
    NaN where the truth is not known; both in units of the price at their own origin, so that a price that moved
    after the origin is part of the error. ``mase`` and ``wape`` are None where they are not defined.
    """

    model: str
    prediction: NDArray[np.float64]
    residuals: NDArray[np.float64]
    mase: float | None
    wape: float | None
    rivals: int
    dropped: list[str] = field(default_factory=list[str])


def hold(past: Past, models: Sequence[Forecaster], horizon: int) -> Verdict | None:
    """The verdict on ``past``; None when there is too little of it for even one backtest, or no model works."""
    truth, origins = _truths(past, horizon)
    seen = np.concatenate(([0], np.cumsum(np.isfinite(past.tokens))))
    entries: list[tuple[str, NDArray[np.float64], NDArray[np.float64]]] = []
    dropped: list[str] = []
    for model in models:
        enough = [origin for origin in origins if seen[origin] >= max(1, scaled(model.min_points, past.season))]
        if not np.isfinite(truth[: len(enough)]).any():
            continue
        said = [_guarded(model, past, origin, horizon) for origin in (*enough, len(past.tokens))]
        predictions = [prediction for prediction in said if prediction is not None]
        if len(predictions) < len(said):
            dropped.append(model.name)
            continue
        residuals = np.full(truth.shape, np.nan)
        residuals[: len(enough)] = truth[: len(enough)] - np.array(predictions[:-1])
        entries.append((model.name, predictions[-1], residuals))
    if not entries:
        return None
    reference = entries[0][2]
    model_name, prediction, residuals = min(entries, key=lambda entry: _relative_error(entry[2], reference))
    kept = np.flatnonzero(np.isfinite(residuals).any(axis=1))
    return Verdict(
        model_name,
        prediction,
        residuals[kept],
        _mase(past, residuals[kept], [origins[row] for row in kept]),
        _wape(residuals[kept], truth[kept]),
        len(entries),
        dropped,
    )


def _truths(past: Past, horizon: int) -> tuple[NDArray[np.float64], list[int]]:
    """What was earned after each origin in units of the price known there; rows as ``residuals`` of the verdict."""
    length = len(past.y)
    origins = [length - step * past.season for step in range(1, MAX_ORIGINS + 1) if step * past.season < length]
    origins = [origin for origin in origins if past.price[origin - 1] > 0]
    truth = np.full((len(origins), horizon), np.nan)
    for row, origin in enumerate(origins):
        known = past.y[origin : origin + horizon]
        truth[row, : len(known)] = known / past.price[origin - 1]
    return truth, origins


def _guarded(model: Forecaster, past: Past, origin: int, horizon: int) -> NDArray[np.float64] | None:
    """What the model says at ``origin``, held within twice the observed range; None when it fails."""
    history = past.tokens[:origin]
    try:
        with np.errstate(all="ignore"):
            prediction = np.asarray(model.predict(history, horizon, past.season), dtype=np.float64)
    except Exception:  # noqa: BLE001 - a failing model drops out, never the run
        return None
    if prediction.shape != (horizon,) or not np.isfinite(prediction).all():
        return None
    low, high = np.nanmin(history), np.nanmax(history)
    return np.clip(prediction, low - (high - low) / 2, high + (high - low) / 2)


def _relative_error(residuals: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Mean absolute error in units of that of the reference over the same bins; infinite where it was never tried."""
    both = np.isfinite(residuals) & np.isfinite(reference)
    if not both.any():
        return np.inf
    own, other = float(np.abs(residuals[both]).mean()), float(np.abs(reference[both]).mean())
    if other == 0:
        return 1.0 if own == 0 else np.inf
    return own / other


def _mase(past: Past, residuals: NDArray[np.float64], origins: Sequence[int]) -> float | None:
    """Error over the horizon / in-sample error of repeating the bin one season ago, averaged over the origins.

    In-sample is what came before the origin; where that is less than a season of such errors, the whole history.
    """
    steps = np.abs(past.y[past.season :] - past.y[: -past.season])
    known = np.isfinite(steps)
    total, count = (np.concatenate(([0], np.cumsum(part))) for part in (np.where(known, steps, 0.0), known))
    # A series that repeats itself but for rounding has no error to compare with.
    typical = float(np.nanmean(np.abs(past.y)))
    ratios: list[float] = []
    for row, origin in zip(residuals, origins, strict=True):
        until = max(origin - past.season, 0)
        if count[until] < past.season:
            until = len(steps)
        if total[until] > count[until] * _NOISE * typical:
            error = float(np.abs(row[np.isfinite(row)]).mean()) * past.price[origin - 1]
            ratios.append(float(error / (total[until] / count[until])))
    return sum(ratios) / len(ratios) if ratios else None


def _wape(residuals: NDArray[np.float64], truth: NDArray[np.float64]) -> float | None:
    """Sum of absolute errors / sum of absolute earnings over the backtests."""
    tried = np.isfinite(residuals)
    earned = float(np.abs(truth[tried]).sum())
    return float(np.abs(residuals[tried]).sum()) / earned if earned > 0 else None
