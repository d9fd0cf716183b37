"""What a forecast may look at: the last weeks of a series in tokens, with outages masked and gaps filled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .kinds import EMPTY, NEW, OUTAGES, kind_of, outages

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .series import Series

    Floats = NDArray[np.float64]

MAX_SEASONS = 60
"""Seasons of history that are looked at: what is older describes another node."""
MAX_ORIGINS = 10
"""Backtests per series, one season apart."""
MAX_MAGNITUDE = 1e100


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """The last seasons of a series.

    ``y`` is earnings, ``price`` that of a token (ones without prices), ``tokens`` = y / price; NaN is unknown, also
    where the node was ``down``. ``z`` is ``tokens`` with gaps filled, in units of ``unit``: what models are fitted on.
    ``phase`` is the bin of the week of the first bin, weeks counted from the epoch; ``seen`` the bins observed before
    anything was masked or cut.
    """

    y: Floats
    price: Floats
    tokens: Floats
    z: Floats
    unit: float
    down: NDArray[np.bool_]
    season: int
    phase: int
    seen: int
    kind: str
    priced: bool

    def __len__(self) -> int:
        return len(self.y)

    def until(self, end: int) -> History:
        """The history as it was known at bin ``end``, of the same type."""
        cut = {name: getattr(self, name)[:end] for name in ("y", "price", "tokens", "z", "down")}
        return replace(self, **cut)

    @property
    def observed(self) -> Floats:
        """The tokens that are known, in order."""
        return self.tokens[np.isfinite(self.tokens)]

    @property
    def non_negative(self) -> bool:
        """Whether it never lost anything."""
        return bool((self.observed >= 0).all())

    def origins(self, horizon: int) -> NDArray[np.intp]:
        """Where the backtests begin, ascending: one season apart, each with at least a season to learn from.

        As many as there are full seasons after the first one and a half, and at most ten that know their whole
        horizon (up to a week of it) where the history is long enough.
        """
        extra = min(horizon, 7 * self.season) // self.season - 1
        wanted = MAX_ORIGINS + max(0, extra)
        possible = (len(self) - max(self.season, min(len(self) // 2, 14 * self.season))) // self.season
        back = np.arange(min(wanted, possible), 0, -1)
        origins = len(self) - self.season * back
        return origins[self.price[origins - 1] > 0] if len(origins) else origins

    def truth(self, origins: NDArray[np.intp], horizon: int, *, tokens: bool = False) -> Floats:
        """What was earned after each origin, in units of the price known there and of ``unit``; NaN = not known.

        In ``tokens``, what the price did after the origin is no part of it.
        """
        at = origins[:, None] + np.arange(horizon)
        values = self.tokens if tokens else self.y
        known = np.where(at < len(self), values[np.minimum(at, len(self) - 1)], np.nan)
        return known / (1.0 if tokens else self.price[origins - 1][:, None]) / self.unit


def history_of(series: Series, kind: str = "", unit: float = 0.0) -> History:
    """The history of ``series`` and its type, or as if it were of this ``kind`` and measured in this ``unit``."""
    used = slice(-MAX_SEASONS * series.season, None)
    y, down = series.y[used], series.down[used]
    running = np.where(down, np.nan, y)
    if np.isfinite(running).any():
        y = running
    price, tokens, priced = np.ones(len(y)), y, False
    if series.price is not None:
        known = series.price[used]
        with np.errstate(all="ignore"):
            quotient = y / known
        quotient[~(np.abs(quotient) <= MAX_MAGNITUDE)] = np.nan
        if np.isfinite(quotient).any():
            price, tokens, priced = known, quotient, True
    begins = np.flatnonzero(np.isfinite(tokens))
    if begins.size and begins[0]:
        first = int(begins[0])
        y, price, tokens, down = y[first:], price[first:], tokens[first:], down[first:]
    phase = (series.end_s // series.freq_s - len(y)) % (7 * series.season)
    kind = kind or kind_of(tokens, series.season, phase, told=series.told)
    if kind == OUTAGES and not series.told:
        masked = outages(tokens, series.season)
        down = down | masked
        tokens, y = np.where(masked, np.nan, tokens), np.where(masked, np.nan, y)
    seen = tokens[np.isfinite(tokens)]
    unit = unit or (float(np.abs(seen).mean()) if seen.size else 0.0) or 1.0
    z = tokens / unit if kind in (EMPTY, NEW) else filled(tokens / unit, series.season)
    observed = int(np.isfinite(series.y).sum())
    return History(y, price, tokens, z, unit, down, series.season, phase, observed, kind, priced)


def filled(y: Floats, season: int) -> Floats:
    """``y`` with unknown bins taken from the same bin of the nearest earlier season, else of the next later one.

    A bin of the season that was never observed takes the mean. For fitting only: nothing is scored on such bins.
    """
    if np.isfinite(y).all():
        return y
    seasons = -(-len(y) // season)
    table = np.full(seasons * season, np.nan)
    table[: len(y)] = y
    table = table.reshape(seasons, season)
    rows = np.arange(seasons)[:, None]
    seen = np.isfinite(table)
    before = np.maximum.accumulate(np.where(seen, rows, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, rows, seasons)[::-1], axis=0)[::-1]
    source = np.where(before >= 0, before, np.where(after < seasons, after, 0))
    whole = np.take_along_axis(table, source, axis=0).reshape(-1)[: len(y)]
    return np.where(np.isfinite(whole), whole, np.nanmean(y))
