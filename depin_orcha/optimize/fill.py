"""What is stored of a node that fills up, hour by hour, and how nodes of one group share what comes in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .nouns import Fill

Path = tuple[float, ...]
"""Units stored at the end of every hour of the horizon."""


def paths(fills: Mapping[str, Fill], units: Mapping[str, float], horizon_h: int) -> dict[str, Path]:
    """Return what is stored by each of the nodes that share one intake, under these grants.

    In every hour the intake is split in equal parts among the nodes with room; what one of them has no room for goes
    in equal parts to the rest, as uploads do that find one node full.
    """
    stored = {name: fill.stored_units for name, fill in fills.items()}
    intake = next(iter(fills.values())).per_hour if fills else 0.0
    found: dict[str, list[float]] = {name: [] for name in fills}
    for _ in range(horizon_h):
        kept = {name: stored[name] * (1 - fill.delete_per_hour) for name, fill in fills.items()}
        room = {name: max(0.0, units[name] - kept[name]) for name in fills}
        given = _split(intake, room)
        for name in fills:
            stored[name] = min(units[name], kept[name] + given[name])
            found[name].append(stored[name])
    return {name: tuple(path) for name, path in found.items()}


def _split(intake: float, room: Mapping[str, float]) -> dict[str, float]:
    """Equal parts of an intake, none larger than the room there is."""
    given: dict[str, float] = {}
    left = intake
    for count, name in zip(range(len(room), 0, -1), sorted(room, key=lambda name: (room[name], name)), strict=True):
        given[name] = min(room[name], left / count)
        left -= given[name]
    return given


@lru_cache(maxsize=4096)
def _alone(fill: Fill, units: float, horizon_h: int) -> Path:
    return paths({"": fill}, {"": units}, horizon_h)[""]


@dataclass(frozen=True, slots=True)
class Filling:
    """A fill over a horizon: what a path is paid for, in unit-hours per hour."""

    fill: Fill
    horizon_h: int

    def alone(self, units: float) -> Path:
        """Return what is stored under a grant, with the whole intake."""
        return _alone(self.fill, units, self.horizon_h)

    def bends(self, others: Sequence[float] = ()) -> list[float]:
        """Return grants at which one hour more, or one hour less, ends with a full disk."""
        free = self.alone(float("inf"))
        ends = {*free, *others}
        return sorted({self.fill.stored_units, *(end for end in ends if end > self.fill.stored_units)})

    @property
    def later_h(self) -> float:
        """Hours that what is stored at the end earns on, per hour of the horizon."""
        return self.fill.life_h / self.horizon_h
