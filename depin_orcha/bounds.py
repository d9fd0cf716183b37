"""What a grant means for what runs a node: a cap where protocol or owner want one, else a weight.

An audited node that starves loses more than a cap of it can earn, so only Golem, whose agreements are over at a known
time, is capped without being asked. A weight costs nothing while there is enough for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .types import Resource

if TYPE_CHECKING:
    from .actuators import Grant, Target

WEIGHT_PER_CORE = 100
"""The weight of a unit or container whose owner said nothing stands for one core (``cgroup-v2.rst``, cpu.weight)."""
_LEAST_WEIGHT, _MOST_WEIGHT = 1, 10_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """What is asked of the kernel; None is not asked. ``cpu_weight`` is on the scale of version 2, 1 to 10,000."""

    cpu_cores: float | None = None
    cpu_weight: int | None = None
    memory_bytes: int | None = None


def bounds(target: Target, grant: Grant) -> Bounds:
    """The bounds of a grant; its memory is a bound only where the node may be capped."""
    cores, memory = grant.get(Resource.CPU_CORES), grant.get(Resource.MEMORY_BYTES)
    if target.is_capped:
        return Bounds(cpu_cores=cores, memory_bytes=None if memory is None else int(memory))
    if cores is None:
        return Bounds()
    return Bounds(cpu_weight=min(_MOST_WEIGHT, max(_LEAST_WEIGHT, round(cores * WEIGHT_PER_CORE))))
