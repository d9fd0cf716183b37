"""From one series to its forecast document: mask, contest, bands, and the reason in plain words."""

from __future__ import annotations

from dataclasses import replace
from math import hypot
from typing import TYPE_CHECKING, Any

import numpy as np

from depin_orcha.timefmt import rfc3339

from . import zero
from .bands import NORMAL_PER_MEAN_ERROR, Bands, conformal, from_spread, student
from .contest import Past, Verdict, hold
from .kinds import DEAD, EMPTY, INTERMITTENT, NEW, flags_of, kind_of, still_down
from .series import MAX_MAGNITUDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from . import Forecaster
    from .series import Series

MAX_SEASONS = 60
"""Seasons of history that are looked at: what is older describes another node."""
FLOOR_SHARE = 0.01
"""Least width of a band, as a share of what a bin earns on average."""
GOOD_WAPE, FAIR_WAPE = 0.15, 0.5
MASE_MIN_POINTS = 48
MIN_TOTALS = 3
RECENT_MEAN = "recent_mean"


def compose(series: Series, models: Sequence[Forecaster], horizon: int, levels: Sequence[float]) -> dict[str, Any]:
    """The member of ``data.forecasts`` for one series; ``levels`` ascend."""
    past = _past(series)
    kind = kind_of(past.tokens, series.season)
    verdict = None if kind in (EMPTY, NEW, DEAD) else hold(past, models, horizon)
    flags = flags_of(series, low_history=verdict is None and kind != DEAD)
    if verdict and verdict.wape and verdict.wape > FAIR_WAPE:
        flags.append("bursty")
    observed = int(np.isfinite(series.y).sum())
    if kind == EMPTY:
        model, said = None, None
    else:
        model = verdict.model if verdict else zero.name if kind == DEAD else RECENT_MEAN
        said = _said(series, past, kind, verdict, horizon=horizon, levels=levels)
    return {
        "id": series.id,
        "start": rfc3339(series.end_s),
        "model": model,
        "models": {model: 1.0} if model else {},
        "type": kind,
        "reason": _reason(series, past, kind, verdict, flags),
        "flags": flags,
        "hours_of_history": _whole(observed * series.freq_s / 3600),
        "mase": verdict.mase if verdict and observed >= MASE_MIN_POINTS else None,
        **(_unknown(horizon, levels) if said is None else _numbers(*said)),
    }


def _past(series: Series) -> Past:
    """The last seasons, with down bins masked: they tell of the outage, not of what the node earns when it runs."""
    used = slice(-MAX_SEASONS * series.season, None)
    y, down = series.y[used], series.down[used]
    running = np.where(down, np.nan, y)
    if np.isfinite(running).any():
        y = running
    price, tokens = np.ones(len(y)), y
    if series.price is not None:
        known = series.price[used]
        with np.errstate(all="ignore"):
            quotient = y / known
        quotient[~(np.abs(quotient) <= MAX_MAGNITUDE)] = np.nan
        if np.isfinite(quotient).any():
            price, tokens = known, quotient
    tokens = tokens.copy()
    tokens.setflags(write=False)
    return Past(y, price, tokens, series.season)


def _said(
    series: Series, past: Past, kind: str, verdict: Verdict | None, *, horizon: int, levels: Sequence[float]
) -> tuple[Bands, Bands]:
    """The bands of each bin and of the total, in the unit of ``y``."""
    earned = past.y[np.isfinite(past.y)]
    floor, non_negative = FLOOR_SHARE * float(np.abs(earned).mean()), bool((earned >= 0).all())
    if verdict:
        skewed = kind == INTERMITTENT
        bins = conformal(verdict.prediction, verdict.residuals, levels, skewed=skewed)
        total = _total(verdict, bins, past.season, levels, skewed=skewed and non_negative)
    elif kind == DEAD:
        bins, total = from_spread(np.zeros(horizon), 0.0, levels), from_spread(np.zeros(1), 0.0, levels)
    else:
        bins, total = _recent_mean(past, horizon, levels)
    bins = bins.times(past.price[-1]).settled(floor=floor, non_negative=non_negative)
    total = total.times(past.price[-1]).settled(floor=floor * horizon, non_negative=non_negative)
    total = replace(total, mean=bins.mean.sum(keepdims=True))
    return _with_outage(bins, total, still_down(series.down, horizon))


def _total(verdict: Verdict, bins: Bands, season: int, levels: Sequence[float], *, skewed: bool) -> Bands:
    """The whole horizon as one bin with errors of its own: those of the totals of the backtests.

    A total of which a quarter or more is not known is no total; what little is missing is filled in proportion.
    With too few totals to tell their spread, all bins are taken to err together.
    """
    horizon = verdict.prediction.size
    known = np.isfinite(verdict.residuals).sum(axis=1)
    errors = (np.nansum(verdict.residuals, axis=1) * horizon / known)[known > 0.75 * horizon]
    if errors.size < MIN_TOTALS:
        spread = float(np.nanmean(np.abs(verdict.residuals))) * NORMAL_PER_MEAN_ERROR * horizon
        return from_spread(bins.mean.sum(keepdims=True), spread, levels)
    rows = errors.size * min(1.0, season / horizon)
    return student(verdict.prediction.sum(keepdims=True), errors, levels, rows, skewed=skewed)


def _recent_mean(past: Past, horizon: int, levels: Sequence[float]) -> tuple[Bands, Bands]:
    """The mean of the last two seasons; unsure of the level by as much as itself after one bin, and of each bin.

    The doubt about the level adds up over the horizon in full, the scatter of the bins less: it grows with the power
    0.75 of their number, between 0.5 (bins on their own) and 1 (all alike), because work comes in spells.
    """
    recent = past.tokens[np.isfinite(past.tokens)][-2 * past.season :]
    mean = float(recent.mean())
    doubt = float(np.abs(recent).mean()) / recent.size**0.5
    scatter = float(recent.std())
    bins = from_spread(np.full(horizon, mean), hypot(doubt, scatter), levels)
    total = from_spread(np.array([mean * horizon]), hypot(doubt * horizon, scatter * horizon**0.75), levels)
    return bins, total


def _with_outage(bins: Bands, total: Bands, down: NDArray[np.float64]) -> tuple[Bands, Bands]:
    """``bins`` and ``total`` of a node that is down in each bin with probability ``down``."""
    if not down.any():
        return bins, total
    mean = bins.mean * (1 - down)
    before = float(bins.mean.sum())
    left = min(max(float(mean.sum()) / before, 0.0), 1.0) if before else 1.0
    return (
        _open_to_zero(replace(bins, mean=mean, median=np.where(down > 0.5, 0.0, bins.median))),
        _open_to_zero(replace(total, mean=mean.sum(keepdims=True), median=total.median * left)),
    )


def _open_to_zero(bands: Bands) -> Bands:
    return replace(
        bands,
        lo={level: np.minimum(low, 0.0) for level, low in bands.lo.items()},
        hi={level: np.maximum(high, 0.0) for level, high in bands.hi.items()},
    )


def _reason(series: Series, past: Past, kind: str, verdict: Verdict | None, flags: Sequence[str]) -> str:
    """Why this forecast, in plain words."""
    if kind == EMPTY:
        return "nothing was observed in the last 60 days (60 weeks of daily bins), so nothing can be said"
    if kind == DEAD:
        parts = ["nothing was earned for so long that zero is forecast"]
    elif verdict is None:
        parts = [f"usable bins: {np.isfinite(past.tokens).sum()}, too few to test a model: recent mean, wide band"]
    else:
        parts = [f"{verdict.model} erred least of {verdict.rivals} models (backtests: {len(verdict.residuals)})"]
        if verdict.wape is not None:
            uneven = "fair" if verdict.wape <= FAIR_WAPE else "bursty: read the range"
            grade = "good" if verdict.wape <= GOOD_WAPE else uneven
            parts.append(f"mean error {verdict.wape:.0%} of earnings, {grade}")
        if verdict.dropped:
            parts.append(f"{', '.join(verdict.dropped)} failed and dropped out")
        if series.price is not None:
            parts.append("tokens are forecast and valued at the last known price")
    if "down" in flags:
        parts.append("the node is down and may stay so: the bands are open to zero")
    return "; ".join(parts)


def _numbers(bins: Bands, total: Bands) -> dict[str, Any]:
    """Bands as plain JSON values."""
    return {
        "mean": _plain(bins.mean),
        "median": _plain(bins.median),
        "lo": {_text(level): _plain(low) for level, low in bins.lo.items()},
        "hi": {_text(level): _plain(high) for level, high in bins.hi.items()},
        "total": {
            "mean": _plain(total.mean)[0],
            "median": _plain(total.median)[0],
            "lo": {_text(level): _plain(low)[0] for level, low in total.lo.items()},
            "hi": {_text(level): _plain(high)[0] for level, high in total.hi.items()},
        },
    }


def _unknown(horizon: int, levels: Sequence[float]) -> dict[str, Any]:
    """The same keys with null for every number."""
    names = [_text(level) for level in levels]
    per_bin: list[None] = [None] * horizon
    return {
        "mean": per_bin,
        "median": per_bin,
        "lo": dict.fromkeys(names, per_bin),
        "hi": dict.fromkeys(names, per_bin),
        "total": {"mean": None, "median": None, "lo": dict.fromkeys(names), "hi": dict.fromkeys(names)},
    }


def _plain(values: NDArray[np.float64]) -> list[float]:
    return (values + 0.0).tolist()  # + 0.0: no negative zero


def _whole(number: float) -> float | int:
    return int(number) if number == int(number) else float(number)


def _text(level: float) -> str:
    return str(_whole(level))
