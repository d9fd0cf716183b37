"""The pool: every model predicts days that are already over, and speaks the louder the less it erred."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from . import calendar, profiles, regression, smoothing
from .bands import sizes
from .kinds import scaled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from . import Forecaster
    from .history import History

    Floats = NDArray[np.float64]

POWER = 7.0
"""Weight of a model: its error, relative to the best, to minus this power."""
CUT = 1.6
"""Models that err so many times as much as the best say nothing."""
HALF_LIFE = 10.0
"""Backtests after which an error counts half."""
LOG_FLOOR = 0.02
"""Least value, as a share of the mean, of which a logarithm is taken."""
LEAST_WEIGHT = 0.005
LOG = "_log"
SMOOTH, CALENDAR = "smoothing", "calendar"
BATCH = 16
"""Series that are smoothed together: more would not stay near the processor."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What the pool knows of one series: model -> weight, and what each kind of model learned."""

    weights: dict[str, float]
    regressions: dict[str, list[float]]
    smoothing: dict[str, list[list[float]]]
    calendar: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Backtest:
    """What was learned, by those that speak and by everyone, and what they said together: origins x horizon.

    ``truth`` is in tokens, NaN where it is not known.
    """

    learned: Learned
    origins: NDArray[np.intp]
    said: Floats
    truth: Floats
    rivals: int
    everything: Learned
    dropped: list[str] = field(default_factory=list[str])


def backtests(histories: Sequence[History], horizon: int, plugins: Sequence[Forecaster]) -> list[Backtest | None]:
    """The backtest of each history; None where there is too little of it for even one."""
    smoothed = _smoothed(histories, horizon)
    return [_backtest(one, horizon, plugins, smooth) for one, smooth in zip(histories, smoothed, strict=True)]


def predict(learned: Learned, history: History, horizon: int, plugins: Sequence[Forecaster]) -> Floats:
    """The combined forecast after the end of ``history``, in its ``unit``, finite.

    Models that cannot speak leave their weight to the others; when none can, the mean of the last season speaks.
    """
    usable = candidates(learned, history, horizon, plugins)
    total = sum(weight for name, weight in learned.weights.items() if name in usable)
    if not total:
        return np.full(horizon, float(np.nanmean(history.z[-history.season :])))
    combined = np.zeros(horizon)
    for name, weight in learned.weights.items():
        if name in usable:
            combined += weight / total * usable[name]
    return combined


def candidates(
    learned: Learned, history: History, horizon: int, plugins: Sequence[Forecaster] = ()
) -> dict[str, Floats]:
    """What each model that was learned says by itself, in units of ``history.unit``."""
    now = np.array([len(history)])
    scales = _scales(history)
    said: dict[str, Floats] = dict(profiles.predict(history.z, _unfilled(history), history.season, now, horizon))
    names = [name for name in learned.regressions if _scale(name) in scales]
    if names:
        coefficients = [np.array(learned.regressions[name]) for name in names]
        values = regression.predict(coefficients, [scales[_scale(name)] for name in names], now, horizon)
        said |= dict(zip(names, values, strict=True))
    for name, settings in learned.smoothing.items():
        if _scale(name) in scales and len(history) >= smoothing.MIN_SEASONS * history.season:
            z, known = scales[_scale(name)][None], _known(history)[None].astype(np.float64)
            said[name] = smoothing.predict(z, known, history.season, np.array([settings]), now, horizon)[0]
    for name, profile in learned.calendar.items():
        z = scales.get(_scale(name))
        if z is not None:
            said[name] = calendar.predict(np.array(profile), z, history.season, history.phase, now, horizon)
    for plugin in plugins:
        if plugin.name in learned.weights:
            answer = _asked(plugin, history, now, horizon)
            said |= {} if answer is None else {plugin.name: answer}
    return {name: value[0] for name, value in _usable(said, history, now).items()}


def _backtest(
    history: History, horizon: int, plugins: Sequence[Forecaster], smoothed: dict[str, tuple[Floats, Floats]]
) -> Backtest | None:
    origins = history.origins(horizon)
    if not len(origins):
        return None
    truth = history.truth(origins, horizon, tokens=True)
    tried = np.isfinite(truth).any(axis=1)
    origins, truth = origins[tried], truth[tried]
    if not len(origins):
        return None
    said = dict(profiles.predict(history.z, _unfilled(history), history.season, origins, horizon))
    coefficients: dict[str, Floats] = {}
    weeks: dict[str, list[float]] = {}
    known = _known(history)
    for suffix, z in _scales(history).items():
        early, late = regression.fit(z, known, (int(origins[0]), len(history)), history.season)
        names = [name for name in early if name in late]
        if names:
            values = regression.predict([early[name] for name in names], [z] * len(names), origins, horizon)
            said |= {name + suffix: value for name, value in zip(names, values, strict=True)}
        coefficients |= {name + suffix: late[name] for name in names}
        past, now = (
            calendar.fit(z, known, end, history.season, history.phase) for end in (int(origins[0]), len(history))
        )
        if past is not None and now is not None:
            said[CALENDAR + suffix] = calendar.predict(past, z, history.season, history.phase, origins, horizon)
            weeks[CALENDAR + suffix] = sizes(now)
    said |= {name: values[tried] for name, (values, _) in smoothed.items()}
    dropped: list[str] = []
    seen = int(known[: origins[0]].sum())
    for plugin in plugins:
        if seen < max(1, scaled(plugin.min_points, history.season)):
            continue
        answer = _asked(plugin, history, np.append(origins, len(history)), horizon)
        if answer is None:
            dropped.append(plugin.name)
        else:
            said[plugin.name] = answer[:-1]
    usable = _usable(said, history, origins)
    errors = {name: _error(value, truth, positive=history.non_negative) for name, value in usable.items()}
    weights = _weights(errors)
    combined = np.zeros(truth.shape)
    for name, weight in weights.items():
        combined += weight * usable[name]
    regressions = {name: sizes(values) for name, values in coefficients.items()}
    settings = {name: [sizes(row) for row in late] for name, (_, late) in smoothed.items()}
    everything = Learned(weights, regressions, settings, weeks)
    learned = Learned(
        weights,
        {name: values for name, values in regressions.items() if name in weights},
        {name: rows for name, rows in settings.items() if name in weights},
        {name: values for name, values in weeks.items() if name in weights},
    )
    return Backtest(learned, origins, combined, truth, len(usable), everything, dropped)


def _smoothed(histories: Sequence[History], horizon: int) -> list[dict[str, tuple[Floats, Floats]]]:
    """For each history: model -> (what smoothing said from each origin, its settings for now)."""
    found: list[dict[str, tuple[Floats, Floats]]] = [{} for _ in histories]
    groups: dict[tuple[int, int, tuple[int, ...]], list[tuple[int, str, Floats]]] = {}
    for index, history in enumerate(histories):
        origins = history.origins(horizon)
        if len(origins) and origins[0] >= smoothing.MIN_SEASONS * history.season:
            key = (len(history), history.season, tuple(origins.tolist()))
            groups.setdefault(key, []).extend((index, suffix, z) for suffix, z in _scales(history).items())
    for (length, season, starts), members in groups.items():
        for begin in range(0, len(members), 2 * BATCH):
            part = members[begin : begin + 2 * BATCH]
            z = np.array([values for _, _, values in part])
            known = np.array([_known(histories[index]) for index, _, _ in part]).astype(np.float64)
            origins = np.array(starts)
            early, late = smoothing.search(z, known, season, (starts[0], length))
            said = smoothing.predict(z, known, season, early, origins, horizon)
            for row, (index, suffix, _) in enumerate(part):
                found[index][SMOOTH + suffix] = (said[row], late[row])
    return found


def _scales(history: History) -> dict[str, Floats]:
    """The values as they are, and the logarithms of those that have any."""
    if not history.non_negative:
        return {"": history.z}
    return {"": history.z, LOG: np.log(np.maximum(history.z, LOG_FLOOR))}


def _scale(name: str) -> str:
    return LOG if name.endswith(LOG) else ""


def _known(history: History) -> NDArray[np.bool_]:
    return np.isfinite(history.tokens)


def _unfilled(history: History) -> Floats:
    return history.tokens / history.unit


def _asked(plugin: Forecaster, history: History, origins: NDArray[np.intp], horizon: int) -> Floats | None:
    """What a plugin says from each origin; None when it fails once."""
    said: list[Floats] = []
    for origin in origins.tolist():
        past = history.tokens[:origin].copy()
        past.setflags(write=False)
        try:
            with np.errstate(all="ignore"):
                answer = np.asarray(plugin.predict(past, horizon, history.season), dtype=np.float64)
        except Exception:  # noqa: BLE001 - a failing model drops out, never the run
            return None
        if answer.shape != (horizon,) or not np.isfinite(answer).all():
            return None
        said.append(answer / history.unit)
    return np.array(said)


def _usable(said: dict[str, Floats], history: History, origins: NDArray[np.intp]) -> dict[str, Floats]:
    """Everything in earnings, held within half the observed range around it; without models that are not finite."""
    lowest, highest = np.minimum.accumulate(history.z), np.maximum.accumulate(history.z)
    low, high = lowest[origins - 1][:, None], highest[origins - 1][:, None]
    room = (high - low) / 2
    found: dict[str, Floats] = {}
    with np.errstate(all="ignore"):
        for name, values in said.items():
            plain = np.exp(np.minimum(values, 50.0)) if name.endswith(LOG) else values
            if np.isfinite(plain).all():
                found[name] = np.clip(plain, low - room, high + room)
    return found


def _error(said: Floats, truth: Floats, *, positive: bool) -> tuple[float, float]:
    """Mean absolute error and, for ``positive`` series, the symmetric relative one (else 0); recent days count more."""
    tried = np.isfinite(truth)
    miss = np.where(tried, np.abs(said - truth), 0.0)
    fade = 0.5 ** (np.arange(len(truth))[::-1] / HALF_LIFE)
    count = tried.sum(axis=1) * fade
    relative = 0.0
    if positive:
        size = np.where(tried, np.abs(said) + np.abs(truth), 1.0)
        share = np.divide(2 * miss, size, out=np.zeros_like(miss), where=size > 0)
        relative = float((share.sum(axis=1) * fade).sum() / count.sum())
    return float((miss.sum(axis=1) * fade).sum() / count.sum()), relative


def _weights(errors: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Model -> weight; they add up to 1. Relative to the best one: a hopeless member must not flatten the weights."""
    tiny = 1e-9
    best = [min(pair[part] for pair in errors.values()) + tiny for part in (0, 1)]
    score = {name: (pair[0] + tiny) / best[0] + (pair[1] + tiny) / best[1] for name, pair in errors.items()}
    least = min(score.values())
    raw = {name: (value / least) ** -POWER for name, value in score.items() if value <= CUT * least}
    total = sum(raw.values())
    kept = {name: weight / total for name, weight in raw.items() if weight >= LEAST_WEIGHT * total}
    total = sum(kept.values())
    order = sorted(kept, key=lambda name: (-kept[name], name))
    return {name: float(f"{kept[name] / total:.6g}") for name in order}
