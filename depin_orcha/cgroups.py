"""What the kernel really enforces on a process, read from its control groups (version 1, 2, or both side by side)."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial

from .errors import ActuatorError, FailureKind

DEFAULT_WEIGHT = 100
DEFAULT_SHARES = 1024
"""What a group has of the CPU in version 2 and version 1 while nobody says anything."""
LEAST_SHARES, MOST_SHARES = 2, 262_144
UNLIMITED_BYTES = 2**62
"""Version 1 writes "no limit" as the largest page-aligned int64."""

_CONTAINER = re.compile(r"/(?:docker|libpod|libpod_parent|crio|cri-containerd|kubepods|lxc)(?:[-./:]|$)")
_UNIT = re.compile(r"/([^/]+\.(?:service|scope))(?=/|$)")

Text = Callable[[str], str | None]
"""The content of a file, None when there is no such file."""


@dataclass(frozen=True, slots=True)
class Enforced:
    """Limits in force, None where there is no limit.

    ``memory_used_bytes`` leaves out cache that can be dropped and is None where the kernel does not count memory;
    ``cpu_weight`` is on the scale of version 2, 1 to 10,000, and None where the group has none of its own. What is
    called evidence names the file and what stands in it. ``cpu_shares`` is what version 1 holds, None in version 2.
    """

    cpu_cores: float | None
    memory_bytes: int | None
    memory_used_bytes: int | None
    cpu_evidence: str
    memory_evidence: str
    cpu_weight: int | None = None
    weight_evidence: str = ""
    cpu_shares: int | None = None


def weight_of_shares(shares: int, *, curve: bool) -> int:
    """The weight of version 2 that a runtime makes of shares: by the line of the first years, or by the later curve.

    Source: opencontainers/cgroups, ``ConvertCPUSharesToCgroupV2Value``, before and since one default became the other.
    """
    shares = min(MOST_SHARES, max(LEAST_SHARES, shares))
    if not curve:
        return 1 + (shares - LEAST_SHARES) * 9999 // 262_142
    bits = math.log2(shares)
    return min(10_000, math.ceil(10 ** ((bits * bits + 125 * bits) / 612 - 7 / 34)))


def shares_of_weight(weight: int, *, curve: bool) -> int:
    """The fewest shares of which a runtime makes at least this weight."""
    if not curve:
        return LEAST_SHARES + math.ceil((weight - 1) * 262_142 / 9999)
    all_shares = range(LEAST_SHARES, MOST_SHARES + 1)
    return all_shares[bisect_left(all_shares, weight, key=lambda shares: weight_of_shares(shares, curve=True))]


def enforced(text: Text, pid: int, owner: str) -> Enforced:
    """Limits of the control group that belongs to ``owner`` (a container id) and holds process ``pid``.

    Raises ``ActuatorError`` when this machine shows no such process, or one that is not the owner's.
    """
    groups = text(f"/proc/{pid}/cgroup")
    mounts = text("/proc/self/mountinfo")
    if groups is None or mounts is None:
        raise _foreign(pid, owner)
    paths = _paths(groups)
    own = {controller: _up_to(owner, path) for controller, path in paths.items() if owner in path}
    if any(_hierarchy(paths, controller) not in own for controller in ("cpu", "memory")):
        raise _foreign(pid, owner)
    return _enforced(text, mounts, own, strict=True)


def enforced_in(text: Text, path: str) -> Enforced:
    """Limits of the control group at ``path``, as the service manager of this machine names it.

    A hierarchy of version 1 in which it has no folder does not limit it. Raises ``ActuatorError``.
    """
    groups, mounts = text("/proc/self/cgroup"), text("/proc/self/mountinfo")
    return _enforced(text, mounts or "", dict.fromkeys(_paths(groups or ""), path), strict=False)


def paths_of(text: Text, pid: int) -> dict[str, str] | None:
    """Paths of the control groups of a process by controller, version 2 under the empty name; None without it."""
    groups = text(f"/proc/{pid}/cgroup")
    return None if groups is None else _paths(groups)


def keeper(paths: Mapping[str, str]) -> str | None:
    """The service, or else the path of the container, that a process with these paths belongs to; None for no such."""
    for path in paths.values():
        if _CONTAINER.search(path):
            return path
        units = _UNIT.findall(path)
        if units and units[-1].endswith(".service"):
            return units[-1]
    return None


def folder_of(text: Text, paths: dict[str, str], controller: str) -> str:
    """Where the files of that controller are, of the group at one of ``paths``. Raises ``ActuatorError``."""
    return _folder(paths, text("/proc/self/mountinfo") or "", controller)


def enforced_at(text: Text, paths: dict[str, str]) -> Enforced:
    """Limits of the control groups at ``paths`` themselves, not of those above; a machine may do without memory's.

    Raises ``ActuatorError``.
    """
    mounts = text("/proc/self/mountinfo") or ""
    return _enforced(text, mounts, paths, strict=False, needs_memory=False)


def _paths(groups: str) -> dict[str, str]:
    """Path of the group by controller; version 2 stands under the empty name."""
    paths: dict[str, str] = {}
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def _hierarchy(paths: dict[str, str], controller: str) -> str:
    """Version 1 where that holds the controller, else version 2."""
    return controller if controller in paths else ""


def _up_to(owner: str, path: str) -> str:
    head, _, tail = path.partition(owner)
    return head + owner + tail.partition("/")[0]  # a service manager inside moves its processes further down


def _enforced(text: Text, mounts: str, paths: dict[str, str], *, strict: bool, needs_memory: bool = True) -> Enforced:
    read = partial(_needed, text) if strict else text
    cpu, memory = _folder(paths, mounts, "cpu"), "this machine"
    with nullcontext() if needs_memory else suppress(ActuatorError):
        memory = _folder(paths, mounts, "memory")
    cores, cpu_evidence = _cpu(text, read, cpu, version_1="cpu" in paths)
    limit, used, memory_evidence = _memory(text, memory, version_1="memory" in paths)
    weight, shares, weight_evidence = _weight(text, cpu, version_1="cpu" in paths)
    return Enforced(cores, limit, used, cpu_evidence, memory_evidence, weight, weight_evidence, shares)


def _folder(paths: dict[str, str], mounts: str, controller: str) -> str:
    version_1, own = controller in paths, paths.get(_hierarchy(paths, controller), "")
    for line in mounts.splitlines():
        fields, _, system = line.partition(" - ")
        root, mount = fields.split()[3:5]
        kind, _, options = system.split(" ", 2)
        if kind == "cgroup" and version_1 and controller in options.split(","):
            break
        if kind == "cgroup2" and not version_1:
            break
    else:
        raise ActuatorError(FailureKind.UNSUPPORTED, f"no control group file system for {controller} is mounted here")
    return mount.rstrip("/") + (own if root == "/" else own.removeprefix(root))


def _cpu(text: Text, read: Text, folder: str, *, version_1: bool) -> tuple[float | None, str]:
    if version_1:
        quota, period = read(f"{folder}/cpu.cfs_quota_us"), read(f"{folder}/cpu.cfs_period_us")
        if quota is None or period is None:
            return None, f"{folder} has no cpu.cfs_quota_us"
        evidence = f"{folder}/cpu.cfs_quota_us = {quota.strip()} of {period.strip()}"
        return (None if int(quota) < 0 else int(quota) / int(period)), evidence
    _needed(text, f"{folder}/cgroup.controllers")
    quota, _, period = (text(f"{folder}/cpu.max") or "max").strip().partition(" ")  # no file: controller not in use
    evidence = f"{folder}/cpu.max = {quota} {period}".rstrip()
    return (None if quota == "max" else int(quota) / int(period)), evidence


def _weight(text: Text, folder: str, *, version_1: bool) -> tuple[int | None, int | None, str]:
    name = "cpu.shares" if version_1 else "cpu.weight"
    found = text(f"{folder}/{name}")
    if found is None:
        return None, None, f"{folder} has no {name}"
    shares = int(found) if version_1 else None
    weight = int(found) if shares is None else round(shares * DEFAULT_WEIGHT / DEFAULT_SHARES)
    return weight, shares, f"{folder}/{name} = {found.strip()}"


def _memory(text: Text, folder: str, *, version_1: bool) -> tuple[int | None, int | None, str]:
    name, used_name, cache = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        if version_1
        else ("memory.max", "memory.current", "inactive_file")
    )
    limit = text(f"{folder}/{name}")
    if limit is None:
        return None, None, f"{folder} has no {name}"
    statistics = dict(line.split(" ", 1) for line in _needed(text, f"{folder}/memory.stat").splitlines())
    used = int(_needed(text, f"{folder}/{used_name}")) - int(statistics.get(cache, 0))
    unlimited = limit.strip() == "max" or int(limit) >= UNLIMITED_BYTES
    return (None if unlimited else int(limit)), max(0, used), f"{folder}/{name} = {limit.strip()}"


def _needed(text: Text, path: str) -> str:
    content = text(path)
    if content is None:
        raise ActuatorError(FailureKind.TRANSIENT, f"the kernel has no {path}", "did the container just stop?")
    return content.strip()


def _foreign(pid: int, owner: str) -> ActuatorError:
    return ActuatorError(
        FailureKind.UNSUPPORTED,
        f"this machine's kernel shows no process {pid} of container {owner[:12]}, so no limit can be proven",
        "run depin-orcha on the machine (not inside a container or beside a virtual machine) that runs the engine",
    )
