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
    """What nodes of one protocol have in common: the day (bin 0 is midnight UTC, mean 1) and their relative errors."""

    shape: list[float]
    error: float
    quantiles: list[float]
    count: int


def siblings_of(members: Sequence[tuple[History, Spread]]) -> Siblings | None:
    """What the ``members`` lend; None without any."""
    if not members:
        return None
    shapes: list[NDArray[np.float64]] = []
    for history, _ in members:
        whole = len(history) // history.season * history.season
        day = history.z[-whole:].reshape(-1, history.season).mean(axis=0)
        begin = (history.phase + len(history) - whole) % history.season
        shapes.append(np.roll(day, begin) / day.mean())
    shape = np.median(shapes, axis=0)
    return Siblings(
        sizes(shape / shape.mean()),
        float(f"{np.median([np.mean(spread.scale) for _, spread in members]):.8g}"),
        sizes(np.mean([spread.quantiles for _, spread in members], axis=0)),
        len(members),
    )


def say(
    shape: Sequence[float] | None, error: float, history: History, horizon: int, levels: Sequence[float]
) -> tuple[Bands, Bands]:
    """The mean of the last two seasons; unsure of the level by as much as itself after one bin, and of each bin.

    With the ``shape`` of siblings that day is laid over it, and their relative ``error`` is added to its scatter.
    The doubt about the level adds up over the horizon in full, the scatter of the bins less: it grows with the power
    0.75 of their number, between 0.5 (bins on their own) and 1 (all alike), because work comes in spells.
    """
    seen = np.flatnonzero(np.isfinite(history.z))[-2 * history.season :]
    recent = history.z[seen]
    day = np.array(shape) if shape is not None else np.ones(history.season)
    lived = day[(history.phase + seen) % history.season]
    expected = float(lived.sum())
    level = float(recent.sum()) / expected if expected > 0 else float(recent.mean())
    point = level * day[(history.phase + len(history) + np.arange(horizon)) % history.season]
    doubt = float(np.abs(recent).mean()) / recent.size**0.5
    scatter = hypot(float((recent - level * lived).std()), error * abs(level))
    bins = from_spread(point, hypot(doubt, scatter), levels)
    total = from_spread(point.sum(keepdims=True), hypot(doubt * horizon, scatter * horizon**0.75), levels)
    return bins, total
