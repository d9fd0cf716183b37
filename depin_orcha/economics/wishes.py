"""A bound of the owner that a grant breaks which no plan moves for gain: it is met, or told why it is not. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from depin_orcha.types import Resource

if TYPE_CHECKING:
    from . import NodeFacts

_STORAGE = str(Resource.STORAGE_BYTES)


@dataclass(frozen=True, slots=True)
class Wish:
    """The ``bound`` that is broken, and ``hindrance``: why no plan brings it about, "" where a plan does."""

    bound: float
    asked: str
    hindrance: str = ""

    @property
    def units(self) -> float | None:
        """What a plan makes of the grant, which is just the bound; None where the grant stays."""
        return None if self.hindrance else self.bound

    @property
    def reason(self) -> str:
        """Why the grant moves, or why it does not although it should."""
        return f"{self.asked}, but {self.hindrance}" if self.hindrance else self.asked


def wish_of(node: NodeFacts, hindrance: str, least_change: float, room: float) -> Wish | None:
    """The bound that the node's grant breaks by ``least_change`` units or more; ``room``: the most that would fit."""
    now, most = node.current_units, node.max_units
    if now is None or node.keep_reason:
        return None
    if most is not None and now - most >= max(least_change, now * 1e-9):
        bound, asked = most, f"no more than {most:g} units are allowed"
    elif node.min_units - now >= max(least_change, now * 1e-9):
        bound, asked = node.min_units, f"at least {node.min_units:g} units are asked for"
    else:
        return None
    why = ""
    if hindrance:
        why = f"no plan sets that: {hindrance}"
    elif not node.floor_units:
        why = "how much it stores is not known"
    elif bound < node.floor_units:
        why = f"with what it stores it needs {node.floor_units:.4g}"
    elif bound > max(room, now) * (1 + 1e-9):
        why = f"beside what others have there is room for {max(room, 0.0):.4g}"
    return Wish(bound, asked, why)


def room_of(
    node: NodeFacts, others: Iterable[NodeFacts], capacity: Mapping[str, float], disks: Mapping[str, float]
) -> float:
    """The units that fit beside the other nodes of the host, each with what it has, or is about to get if more."""
    others = [one for one in others if one.name != node.name and one.host == node.host]
    fits = [math.inf]
    for resource, amount in node.uses_per_unit.items():
        if resource in capacity:
            fits.append((capacity[resource] - sum(_takes(one, resource) for one in others)) / amount)
    if node.disk is not None and node.disk in disks and _STORAGE in node.uses_per_unit:
        there = sum(_takes(one, _STORAGE) for one in others if one.disk == node.disk)
        fits.append((disks[node.disk] - there) / node.uses_per_unit[_STORAGE])
    return min(fits)


def _takes(node: NodeFacts, resource: str) -> float:
    if node.unlimited:
        return 0.0
    coming = node.wish.units if node.wish is not None else None
    return max(node.current_units or 0.0, coming or 0.0) * node.uses_per_unit.get(resource, 0.0)
