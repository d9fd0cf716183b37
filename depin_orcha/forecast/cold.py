"""The first hours of a node: its recent mean, in the shape that its siblings have, with a band that admits it."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import TYPE_CHECKING

import numpy as np

from .bands import Bands, from_spread, sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from .bands import Spread
    from .history import History

SIBLING_SEASONS = 7
"""A sibling lends from so many seasons on."""


@dataclass(frozen=True, slots=True)
class Siblings:
    """What nodes of one protocol have in common: the week (bin 0 is midnight UTC of a Thursday, mean 1), and errors
    relative to their level."""

    shape: list[float]
    error: float
    quantiles: list[float]
    count: int


def siblings_of(members: Sequence[tuple[History, Spread]]) -> Siblings | None:
    """What the ``members`` lend; None without any."""
    if not members:
        return None
    days, weekdays = (
        np.array(parts) for parts in zip(*(_day_and_weekdays(history) for history, _ in members), strict=True)
    )
    shape = np.outer(_shared(weekdays), _shared(days)).reshape(-1)
    return Siblings(
        sizes(shape / shape.mean()),
        float(f"{np.median([np.mean(spread.scale) for _, spread in members]):.8g}"),
        sizes(np.mean([spread.quantiles for _, spread in members], axis=0)),
        len(members),
    )


def _day_and_weekdays(history: History) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The day of one node and its weekdays, each with mean 1; weekdays alike where it does not know each twice."""
    season = history.season
    at = (history.phase + np.arange(len(history))) % (7 * season)
    day = np.bincount(at % season, weights=history.z, minlength=season) / np.bincount(at % season, minlength=season)
    weekdays = np.ones(7)
    if len(history) >= 14 * season:
        expected = np.bincount(at // season, weights=day[at % season], minlength=7)
        weekdays = np.bincount(at // season, weights=history.z, minlength=7) / expected
    return day / day.mean(), weekdays / weekdays.mean()


def _shared(shapes: NDArray[np.float64]) -> NDArray[np.float64]:
    """The median shape of nodes (rows), flattened as far as they disagree.

    Nodes that have nothing in common have a median that is not flat either, by chance: its variance is that between
    them over their number. A few nodes tell that badly, so it is counted twice.
    """
    shape = np.median(shapes, axis=0)
    if len(shapes) < 2 or not shape.var():
        return shape
    chance = float(shapes.var(axis=0, ddof=1).mean()) / len(shapes)
    return 1 + max(0.0, 1 - 2 * chance / float(shape.var())) * (shape - 1)


def rival(shape: Sequence[float], history: History, origins: Sequence[int], horizon: int) -> NDArray[np.float64]:
    """What the ``shape`` of siblings, at the level of the last two seasons, says from each origin: origins x bins."""
    return np.array([_point(shape, history.until(origin), horizon)[0] for origin in origins])


def _point(
    shape: Sequence[float], history: History, horizon: int
) -> tuple[NDArray[np.float64], float, NDArray[np.float64]]:
    """The shape ahead at the recent level; that level, and the recent bins less what it said of them."""
    week = np.array(shape)
    seen = np.flatnonzero(np.isfinite(history.z))[-2 * history.season :]
    recent, lived = history.z[seen], week[(history.phase + seen) % week.size]
    expected = float(lived.sum())
    level = float(recent.sum()) / expected if expected > 0 else float(recent.mean())
    point = level * week[(history.phase + len(history) + np.arange(horizon)) % week.size]
    return point, level, recent - level * lived


def say(
    shape: Sequence[float] | None, error: float, history: History, horizon: int, levels: Sequence[float]
) -> tuple[Bands, Bands]:
    """The mean of the last two seasons; unsure of the level by as much as itself after one bin, and of each bin.

    With the ``shape`` of siblings that day is laid over it, and their relative ``error`` is added to its scatter.
    The doubt about the level adds up over the horizon in full, the scatter of the bins less: it grows with the power
    0.75 of their number, between 0.5 (bins on their own) and 1 (all alike), because work comes in spells.
    """
    point, level, missed = _point(shape if shape is not None else [1.0], history, horizon)
    recent = history.z[np.isfinite(history.z)][-2 * history.season :]
    doubt = float(np.abs(recent).mean()) / recent.size**0.5
    scatter = hypot(float(missed.std()), error * abs(level))
    bins = from_spread(point, hypot(doubt, scatter), levels)
    total = from_spread(point.sum(keepdims=True), hypot(doubt * horizon, scatter * horizon**0.75), levels)
    return bins, total
