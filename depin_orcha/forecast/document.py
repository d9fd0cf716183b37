"""From a fit to the document that is printed: numbers, and the reason in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from depin_orcha.timefmt import rfc3339

from .history import history_of
from .kinds import DEAD, EMPTY, INTERMITTENT, OUTAGES, SCHEDULED, flags_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from . import Forecaster
    from .bands import Bands
    from .fit import Fit
    from .history import History
    from .series import Series

GOOD_WAPE, FAIR_WAPE = 0.15, 0.5
MASE_MIN_POINTS = 48
COMBINATION, RECENT_MEAN, ZERO, PAYOUT = "combination", "recent_mean", "zero", "daily_payout"
SIBLINGS = "siblings"


def document(
    fit: Fit,
    series: Series,
    horizon: int,
    levels: Sequence[float],
    plugins: Sequence[Forecaster] = (),
    multiplier: float = 1.0,
) -> dict[str, Any]:
    """The member of ``data.forecasts`` for ``series``, from what ``fit`` learned; ``levels`` ascend."""
    said = fit.forecast(series, horizon, levels, plugins=plugins, multiplier=multiplier)
    history = history_of(series)
    models = {} if said is None else _models(fit, history.kind)
    untested = not fit.rows and history.kind not in (DEAD, SCHEDULED)
    flags = flags_of(series, history.down, low_history=untested)
    if history.kind == SCHEDULED:
        flags.append("scheduled")
    elif fit.wape is not None and fit.wape > FAIR_WAPE and history.kind != DEAD:
        flags.append("bursty")
    return {
        "id": series.id,
        "start": rfc3339(series.end_s),
        "model": next(iter(models), None) if len(models) < 2 else COMBINATION,
        "models": models,
        "type": history.kind,
        "reason": _reason(fit, history, flags),
        "flags": flags,
        "hours_of_history": _whole(history.seen * series.freq_s / 3600),
        "mase": fit.mase if history.kind != DEAD and history.seen >= MASE_MIN_POINTS else None,
        **(_unknown(horizon, levels) if said is None else _numbers(*said)),
    }


def _models(fit: Fit, kind: str) -> dict[str, float]:
    if kind == DEAD:
        return {ZERO: 1.0}
    if kind == SCHEDULED:
        return {PAYOUT: 1.0}
    if kind == INTERMITTENT:
        return fit.similar or {"any_time": 1.0}
    if not fit.pool:
        return {RECENT_MEAN: 1.0}
    if not fit.voice:
        return dict(fit.pool.weights)
    voices = {name: (1 - fit.voice) * weight for name, weight in fit.pool.weights.items()} | {SIBLINGS: fit.voice}
    return {name: float(f"{weight:.6g}") for name, weight in sorted(voices.items(), key=lambda pair: -pair[1])}


def _reason(fit: Fit, history: History, flags: Sequence[str]) -> str:
    """Why this forecast, in plain words."""
    if history.kind == EMPTY:
        if history.seen:
            return "nothing was observed in the last 60 days (60 weeks of daily bins), so nothing can be said"
        return "nothing has been observed yet: the first forecast comes after the first completed hour"
    known = int(np.isfinite(history.tokens).sum())
    if history.kind == DEAD:
        parts = ["nothing was earned for so long that zero is forecast"]
    elif not fit.rows and history.kind == SCHEDULED:
        parts = ["nearly all money comes at one hour of the day"]
    elif not fit.rows:
        parts = [f"only {known} usable hours or bins so far, too few to test a model: recent mean, wide band"]
        if fit.siblings:
            shape = f"the hours of the day are shaped like those of {fit.siblings} other nodes of its protocol"
            parts.append(shape)
    else:
        parts = [_basis(fit, history)]
        if fit.wape is not None:
            uneven = "fair" if fit.wape <= FAIR_WAPE else "bursty: read the range"
            grade = "good" if fit.wape <= GOOD_WAPE else uneven
            parts.append(f"mean error {fit.wape:.0%} of earnings, {grade}")
        if fit.dropped:
            parts.append(f"{', '.join(fit.dropped)} failed and dropped out")
        if fit.siblings:
            parts.append(f"leans on {fit.siblings} other nodes of its protocol until it has ten backtests")
    if history.priced:
        parts.append("tokens are forecast and valued at the last known price")
    if "down" in flags:
        parts.append("the node is down and may stay so: the bands are open to zero")
    return "; ".join(parts)


def _basis(fit: Fit, history: History) -> str:
    tests = f"backtests: {fit.rows}"
    if history.kind == SCHEDULED:
        return f"nearly all money comes at one hour of the day; a late payout is within the 95 % band ({tests})"
    if history.kind == INTERMITTENT:
        return f"work comes and goes: what followed similar moments of the past ({tests})"
    voices = len(fit.pool.weights) if fit.pool else 0
    masked = "; hours without earnings are taken as outages" if history.kind == OUTAGES else ""
    return f"{voices} of {fit.rivals} models speak, weighted by their past errors ({tests}){masked}"


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
