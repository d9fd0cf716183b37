"""Capacity and use of this machine, measured; of other hosts, what the owner states."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from .sections import HostOptions
from .types import Resource


def measure(options: HostOptions, mounts: Iterable[str]) -> tuple[dict[str, float], dict[str, float]]:
    """(capacity, used) of this machine, capacity as configured where the owner states it.

    Disks are the mounts that nodes use, each device once, or the root file system. Bandwidth cannot be measured
    without disturbing the line: it is known only where it is stated.
    """
    import psutil

    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    capacity: dict[str, float] = {Resource.CPU_CORES: float(cores), Resource.MEMORY_BYTES: float(memory.total)}
    used: dict[str, float] = {
        Resource.CPU_CORES: round(min(os.getloadavg()[0], cores), 2),
        Resource.MEMORY_BYTES: float(memory.total - memory.available),
    }
    disks = {os.stat(mount).st_dev: psutil.disk_usage(mount) for mount in mounts if os.path.exists(mount)}  # noqa: PTH110, PTH116
    disks = disks or {0: psutil.disk_usage("/")}
    capacity[Resource.STORAGE_BYTES] = float(sum(disk.total for disk in disks.values()))
    used[Resource.STORAGE_BYTES] = float(sum(disk.used for disk in disks.values()))
    return stated(capacity, options), _ordered(used)


def stated(measured: dict[str, float], options: HostOptions) -> dict[str, float]:
    """Capacity with what the owner states in place of what was measured; plain names as keys."""
    merged = measured | {str(resource): amount for resource, amount in options.capacity.items()}
    return _ordered(merged)


def shared(capacity: Mapping[str, float], options: HostOptions) -> dict[str, float]:
    """What of a host's capacity its nodes may have between them: all that the owner does not keep for other things."""
    kept = options.reserve
    return {name: max(amount - kept.get(Resource(name), 0.0), 0.0) for name, amount in capacity.items()}


def _ordered(amounts: dict[str, float]) -> dict[str, float]:
    return {str(resource): amounts[resource] for resource in Resource if resource in amounts}
