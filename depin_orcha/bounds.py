"""What a grant means for what runs a node: a cap where protocol or owner want one, else a weight.

An audited node that starves loses more than a cap of it can earn, so only Golem, whose agreements are over at a known
time, is capped without being asked. A weight costs nothing while there is enough for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import ActuatorError, FailureKind
from .types import Resource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .actuators import Grant, Target

WEIGHT_PER_CORE = 100
"""The weight of a unit or container whose owner said nothing stands for one core (``cgroup-v2.rst``, cpu.weight)."""
MEMORY_HEADROOM = 1.25
"""Version 2 of control groups kills a process when a limit is set below what is used: keep clear of it."""
_LEAST_WEIGHT, _MOST_WEIGHT = 1, 10_000
_ENGINES = ("docker-", "libpod-")


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


def granted(values: Mapping[str, Any]) -> dict[Resource, float]:
    """What values that were set amount to, by resource; a weight is the cores that it stands for."""
    names = {str(resource) for resource in Resource}
    grant = {Resource(key): float(value) for key, value in values.items() if key in names and value is not None}
    if values.get("cpu_weight") is not None:
        grant.setdefault(Resource.CPU_CORES, values["cpu_weight"] / WEIGHT_PER_CORE)
    return grant


def unit_of(target: Target) -> str:
    """The unit of a node. Raises ``ActuatorError`` where it has none, or one that is a container engine's."""
    name = target.options.unit
    if name is None:
        raise ActuatorError(FailureKind.CONFIG, f"{target.node} has no unit", "set its unit option to a name")
    if name.startswith(_ENGINES):
        raise ActuatorError(
            FailureKind.CONFIG,
            f"{target.node}: unit {name} belongs to a container engine, which would undo what is set there",
            'set runtime = "docker" or "podman", and container',
        )
    return name


def refuse_memory(node: str, what: str, limit: int, used: int | None) -> None:
    """Raises ``ActuatorError`` for a memory limit that is too close to what is used, or where that is not known."""
    if used is None:
        raise refused(node, f"{limit} bytes of memory: what {what} uses is not known")
    if limit < used * MEMORY_HEADROOM:
        raise refused(node, f"{limit} bytes of memory: less than 1.25 times the {used} in use")


def refused(node: str, reason: str) -> ActuatorError:
    """The error of a grant that a node must not get."""
    return ActuatorError(FailureKind.DATA, f"{node} is not given {reason}", "make a new plan: depin-orcha optimize")
