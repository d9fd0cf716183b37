"""Hour-of-day profile: the shape of the past days, moved to the level of the last ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

name = "profile"
min_points = 24

SHAPE_HALF_LIFE = 7.0
"""Seasons after which a season counts half in the shape: slow, because a shape is hard to see and seldom moves."""
LEVEL_HALF_LIFE = 2.0
"""The same for the level, which does move: disks fill, demand grows."""


def predict(y: NDArray[np.float64], horizon: int, season: int) -> NDArray[np.float64]:
    """The recency-weighted mean of each bin of the season, scaled by how the last seasons compare with it."""
    seasons = -(-len(y) // season)
    table = np.full(seasons * season, np.nan)
    table[len(table) - len(y) :] = y
    table = table.reshape(seasons, season)
    seen = np.isfinite(table)
    earned = np.where(seen, table, 0.0)
    age = np.arange(seasons - 1, -1, -1.0)[:, None]

    weight = 0.5 ** (age / SHAPE_HALF_LIFE) * seen
    known = weight.sum(axis=0)
    shape = np.divide((weight * earned).sum(axis=0), known, out=np.full(season, np.nan), where=known > 0)
    shape = np.where(known > 0, shape, shape[known > 0].mean())

    recent = 0.5 ** (age / LEVEL_HALF_LIFE) * seen
    expected = float((recent * shape).sum())
    scalable = expected > 0 and bool((shape >= 0).all())
    level = float((recent * earned).sum()) / expected if scalable else 1.0
    return np.resize(shape * level, horizon)
