"""What is learned from a series, as a state that can be stored, and what it says once newer bins are known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from . import cold, payout, pool, sparse, totals
from .bands import NORMAL_PER_MEAN_ERROR, Bands, Spread, from_spread, sizes, spread_of
from .history import MAX_ORIGINS, History, history_of
from .kinds import DEAD, EMPTY, INTERMITTENT, NEW, OUTAGES, REGULAR, SCHEDULED, still_down

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from . import Forecaster
    from .series import Series

VERSION = 1
"""Of the stored state: raised whenever an older state would be read wrongly."""
FLOOR_SHARE = 0.01
"""Least width of a band, as a share of what a bin earns on average."""
NOTHING_SHARE = 0.9
"""A bin of the day that earned nothing more often than this has a lower bound of zero."""
POOLED = (REGULAR, OUTAGES)
JOIN = 4
"""Siblings' shape and a node's own models speak by their errors to minus this power."""
_NOISE = 1e-9


@dataclass(frozen=True, slots=True)
class Fit:
    """Everything learned from one series: plain numbers and text, a few kilobytes as JSON.

    ``fingerprint`` is that of the bins it was learned from, ``end_s`` where they ended. ``pool``, ``spread`` and
    ``total`` are those of regular series, ``similar`` the weights for bursts, ``shape`` and ``error`` what siblings
    lent and ``voice`` how loud their shape speaks beside the pool. ``mase``, ``wape``, ``rivals`` and ``rows`` say how
    it did in how many backtests.
    """

    version: int
    fingerprint: str
    end_s: int
    kind: str
    horizon: int
    unit: float
    pool: pool.Learned | None = None
    spread: Spread | None = None
    total: totals.Total | None = None
    similar: dict[str, float] = field(default_factory=dict[str, float])
    shape: list[float] | None = None
    error: float = 0.0
    voice: float = 0.0
    siblings: int = 0
    mase: float | None = None
    wape: float | None = None
    rivals: int = 0
    rows: int = 0
    dropped: list[str] = field(default_factory=list[str])

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Fit:
        """The fit that ``to_dict`` wrote. Raises ``ValueError`` for any other state: learn again."""
        if state.get("version") != VERSION:
            raise ValueError(f"state of version {state.get('version')}, this is {VERSION}")
        parts: dict[str, Any] = {"pool": pool.Learned, "spread": Spread, "total": totals.Total}
        try:
            built: dict[str, Any] = {key: parts[key](**state[key]) for key in parts if state.get(key)}
            return cls(**{**state, **built})
        except TypeError as error:
            raise ValueError(f"not a stored state: {error}") from None

    def forecast(
        self,
        series: Series,
        horizon: int,
        levels: Sequence[float],
        *,
        plugins: Sequence[Forecaster] = (),
        multiplier: float = 1.0,
    ) -> tuple[Bands, Bands] | None:
        """Bands of each bin after the end of ``series`` and of their total, in the unit of its ``y``; nothing is
        fitted.

        ``series`` is the one that was learned from, or the same with newer bins. ``multiplier`` widens every band: the
        factor that adaptive conformal inference keeps. None where nothing was observed.
        """
        history = history_of(series)
        if history.kind == EMPTY:
            return None
        if history.kind not in (DEAD, NEW):
            history = history_of(series, self.kind if self.kind not in (DEAD, NEW) else "", self.unit)
        said = self._said(series, history, horizon, levels, plugins)
        bins, total = (part.times(history.unit * history.price[-1]).wider(multiplier) for part in said)
        earned = history.y[np.isfinite(history.y)]
        floor, non_negative = FLOOR_SHARE * float(np.abs(earned).mean()), bool((earned >= 0).all())
        bins = _nothing_stays_nothing(bins, history).settled(floor=floor, non_negative=non_negative)
        total = total.settled(floor=floor * horizon**0.5, non_negative=non_negative)
        total = replace(total, mean=bins.mean.sum(keepdims=True))
        return _with_outage(bins, total, still_down(history.down, horizon))

    def _said(
        self, series: Series, history: History, horizon: int, levels: Sequence[float], plugins: Sequence[Forecaster]
    ) -> tuple[Bands, Bands]:
        if history.kind == DEAD:
            return from_spread(np.zeros(horizon), 0.0, levels), from_spread(np.zeros(1), 0.0, levels)
        if self.pool and self.spread and history.kind in POOLED:
            rolled = (series.end_s - self.end_s) // series.freq_s
            point = pool.predict(self.pool, history, horizon, plugins)
            if self.shape and self.voice:
                theirs = cold.rival(self.shape, history, [len(history)], horizon)[0]
                point = (1 - self.voice) * point + self.voice * theirs
            bins = _rolled(self.spread, rolled, history.season).around(point, levels)
            said = bins, self._total(self.spread, history, point, horizon, levels)
        elif history.kind == INTERMITTENT:
            said = sparse.say(self.similar or {"any_time": 1.0}, history, horizon, levels)
        elif history.kind == SCHEDULED:
            said = payout.say(history, horizon, levels)
        else:
            said = cold.say(self.shape, self.error, history, horizon, levels)
        return _with_price_risk(*said, history)

    def _total(
        self, spread: Spread, history: History, point: NDArray[np.float64], horizon: int, levels: Sequence[float]
    ) -> Bands:
        """Of its own backtests; where these were too few or for another horizon, all bins are taken to err together."""
        if self.total is None or horizon != self.horizon:
            size = float(np.mean(spread.scale)) * NORMAL_PER_MEAN_ERROR * horizon
            return from_spread(point.sum(keepdims=True), size, levels)
        others = totals.candidates(history.z, np.array([len(history)]), history.season, horizon)
        return self.total.around(float(point.sum()), {name: float(v[0]) for name, v in others.items()}, levels)


def fingerprint(series: Series) -> str:
    """Changes when a bin, a price or an outage of ``series`` does."""
    told = sha256(f"{series.id}/{series.freq_s}/{series.end_s}/{series.told}".encode())
    for part in (series.y, series.price if series.price is not None else np.empty(0), series.down):
        told.update(part.tobytes())
    return told.hexdigest()[:16]


def fitted(batch: Sequence[Series], horizon: int, plugins: Sequence[Forecaster] = ()) -> list[Fit]:
    """One fit for each series: those of one protocol lend each other what a new one cannot know yet."""
    return lent(batch, learned(batch, horizon, plugins))


def learned(batch: Sequence[Series], horizon: int, plugins: Sequence[Forecaster] = ()) -> list[Fit]:
    """One fit for each series, each from that series alone: what is stored."""
    histories = [history_of(series) for series in batch]
    horizons = [min(horizon, 7 * history.season) for history in histories]
    fits: list[Fit] = []
    groups: dict[int, list[int]] = {}
    for index, history in enumerate(histories):
        if history.kind in POOLED:
            groups.setdefault(horizons[index], []).append(index)
    tests: dict[int, pool.Backtest | None] = {}
    for bins, members in groups.items():
        tests |= dict(zip(members, pool.backtests([histories[i] for i in members], bins, plugins), strict=True))
    for index, (series, history) in enumerate(zip(batch, histories, strict=True)):
        blank = Fit(VERSION, fingerprint(series), series.end_s, history.kind, horizons[index], history.unit)
        test = tests.get(index)
        fits.append(_pooled(blank, history, test) if test else _other(blank, history))
    return fits


def _pooled(blank: Fit, history: History, test: pool.Backtest) -> Fit:
    residuals = test.truth - test.said
    others = totals.candidates(history.z, test.origins, history.season, blank.horizon)
    return replace(
        blank,
        pool=test.learned,
        spread=spread_of(residuals, test.said),
        total=totals.learn(test.said, others, test.truth, history.season),
        rivals=test.rivals,
        dropped=test.dropped,
        **_scores(history, test.said, test.origins),
    )


def _other(blank: Fit, history: History) -> Fit:
    if blank.kind == INTERMITTENT:
        weights, origins, medians = sparse.learn(history, blank.horizon)
        blank = replace(blank, similar=weights, rivals=len(sparse.MEMBERS))
    elif blank.kind == SCHEDULED:
        origins = history.origins(blank.horizon)
        medians = np.array([payout.say(history.until(o), blank.horizon, ())[0].median for o in origins.tolist()])
        blank = replace(blank, rivals=1)
    else:
        return blank
    if not len(origins):
        return blank
    return replace(blank, **_scores(history, medians, origins))


def lent(batch: Sequence[Series], fits: Sequence[Fit]) -> list[Fit]:
    """``fits`` with what siblings lend: a shape to the newest, and to those with few backtests error quantiles."""
    keys = [(series.protocol, series.freq_s) for series in batch]
    borrowers = {key for key, fit in zip(keys, fits, strict=True) if _borrows(fit)}
    lenders: dict[tuple[str, int], list[tuple[History, Spread]]] = {}
    for key, series, fit in zip(keys, batch, fits, strict=True):
        if series.protocol and fit.spread and key in borrowers:
            history = history_of(series)
            if len(history) >= cold.SIBLING_SEASONS * history.season and history.non_negative:
                lenders.setdefault(key, []).append((history, fit.spread))
    shared = {key: cold.siblings_of(members) for key, members in lenders.items()}
    found: list[Fit] = []
    for key, series, fit in zip(keys, batch, fits, strict=True):
        siblings = shared.get(key)
        if siblings is None or not _borrows(fit):
            found.append(fit)
        elif fit.spread is None:
            found.append(replace(fit, shape=siblings.shape, error=siblings.error, siblings=siblings.count))
        else:
            found.append(_joined(fit, history_of(series, fit.kind, fit.unit), fit.spread, siblings))
    return found


def _joined(fit: Fit, history: History, spread: Spread, siblings: cold.Siblings) -> Fit:
    """A fit with few backtests, whose pool is joined by the shape of its siblings, as loud as that errs little.

    Its quantiles lean on theirs. Two voices together err no more than each as often as it is heard.
    """
    own = fit.rows / MAX_ORIGINS
    mixed = own * np.array(spread.quantiles) + (1 - own) * np.array(siblings.quantiles)
    origins = history.origins(fit.horizon)
    missed = np.abs(
        history.truth(origins, fit.horizon, tokens=True)
        - cold.rival(siblings.shape, history, origins.tolist(), fit.horizon)
    )
    ours, theirs = float(np.mean(spread.scale)), float(np.nanmean(missed))
    voice = float(f"{(1 - own) * ours**JOIN / (ours**JOIN + theirs**JOIN):.8g}")
    size = 1 + voice * (theirs / ours - 1)
    joined = replace(spread, quantiles=sizes(mixed), scale=sizes(np.array(spread.scale) * size))
    return replace(fit, spread=joined, shape=siblings.shape, voice=voice, siblings=siblings.count)


def _borrows(fit: Fit) -> bool:
    return fit.rows < MAX_ORIGINS and fit.kind in (NEW, *POOLED)


def _scores(history: History, said: NDArray[np.float64], origins: NDArray[np.intp]) -> dict[str, Any]:
    """Errors in money: each origin knew its own price, so what prices did later is part of them."""
    truth = history.truth(origins, said.shape[1])
    residuals = truth - said
    tried = np.isfinite(residuals)
    earned = float(np.abs(truth[tried]).sum())
    return {
        "mase": mase(history, residuals, origins),
        "wape": float(np.abs(residuals[tried]).sum()) / earned if earned > 0 else None,
        "rows": int(tried.any(axis=1).sum()),
    }


def mase(history: History, residuals: NDArray[np.float64], origins: NDArray[np.intp]) -> float | None:
    """Error over the horizon / in-sample error of repeating the bin one season ago, averaged over the origins.

    In-sample is what came before the origin; where that is less than a season of such errors, the whole history.
    None where that error is zero.
    """
    y, season = history.y, history.season
    steps = np.abs(y[season:] - y[:-season])
    known = np.isfinite(steps)
    total, count = (np.concatenate(([0], np.cumsum(part))) for part in (np.where(known, steps, 0.0), known))
    # A series that repeats itself but for rounding has no error to compare with.
    typical = float(np.nanmean(np.abs(y)))
    ratios: list[float] = []
    for row, origin in zip(residuals, origins.tolist(), strict=True):
        until = max(origin - season, 0)
        if count[until] < season:
            until = len(steps)
        if np.isfinite(row).any() and total[until] > count[until] * _NOISE * typical:
            error = float(np.abs(row[np.isfinite(row)]).mean()) * history.price[origin - 1] * history.unit
            ratios.append(float(error / (total[until] / count[until])))
    return sum(ratios) / len(ratios) if ratios else None


def _rolled(spread: Spread, bins: int, season: int) -> Spread:
    """The spread for an origin so many bins later: halfway between so far ahead and so late in the day."""
    if not bins % season:
        return spread
    scale = np.array(spread.scale)
    return replace(spread, scale=sizes(np.sqrt(scale * np.roll(scale, -(bins % season)))))


def _nothing_stays_nothing(bands: Bands, history: History) -> Bands:
    """Lower bounds of exactly zero for the bins of the day that nearly always earned nothing."""
    hour = (history.phase + np.arange(len(history))) % history.season
    seen = np.isfinite(history.tokens)
    idle = np.bincount(hour[seen], weights=history.tokens[seen] == 0, minlength=history.season)
    share = idle / np.maximum(np.bincount(hour[seen], minlength=history.season), 1)
    if not (share > NOTHING_SHARE).any() or not history.non_negative:
        return bands
    ahead = (history.phase + len(history) + np.arange(bands.mean.size)) % history.season
    idle_ahead = share[ahead] > NOTHING_SHARE
    return replace(bands, lo={level: np.where(idle_ahead, 0.0, low) for level, low in bands.lo.items()})


def _with_price_risk(bins: Bands, total: Bands, history: History) -> tuple[Bands, Bands]:
    """Bands of tokens widened by what the price may do until then: a random walk, with the size of its past steps."""
    price = history.price[np.isfinite(history.price) & (history.price > 0)]
    steps = np.diff(np.log(price)) if history.priced and price.size > 1 else np.zeros(1)
    step = float(np.sqrt((steps**2).mean()))
    if not step:
        return bins, total
    ahead = np.arange(1, bins.mean.size + 1)
    return bins.moved(np.sqrt(step**2 * ahead)), total.moved(np.array([step * (bins.mean.size / 2) ** 0.5]))


def _with_outage(bins: Bands, total: Bands, down: NDArray[np.float64]) -> tuple[Bands, Bands]:
    """``bins`` and ``total`` of a node that is down in each bin with probability ``down``."""
    if not down.any():
        return bins, total
    mean = bins.mean * (1 - down)
    before = float(bins.mean.sum())
    left = min(max(float(mean.sum()) / before, 0.0), 1.0) if before else 1.0
    return (
        replace(bins, mean=mean, median=np.where(down > 0.5, 0.0, bins.median)).open_to_zero(),
        replace(total, mean=mean.sum(keepdims=True), median=total.median * left).open_to_zero(),
    )
