"""CPU and memory limits of a container, through the Docker Engine API (1.25 and later) on a unix socket.

What the engine says is never proof: whatever is read as "in force" comes from the kernel's control group files.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from depin_orcha.bounds import bounds, refuse_memory, refused
from depin_orcha.cgroups import Enforced, enforced
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import Action, HttpCall, Resource

from . import DOCKER_SOCKET, Grant, Reader, Reading, Target, latest, original

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND = "docker"
CPU_STEP_CORES = 0.01
DEFAULT_PERIOD_US = 100_000
MIN_QUOTA_US = 1000
MEMORY_STEP_BYTES = 1024 * 1024
MIN_MEMORY_BYTES = 6 * 1024 * 1024
PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine configures it and as the kernel holds it; ``in_force`` is None while it is stopped."""

    socket: str
    name: str
    id: str
    started_at: str
    nano_cpus: int
    cpu_quota_us: int
    cpu_period_us: int
    memory_bytes: int
    memory_swap_bytes: int
    host_cpu_count: int
    host_memory_bytes: int
    in_force: Enforced | None
    made_s: int | None = None

    @property
    def running(self) -> bool:
        return self.in_force is not None


class Actuator:
    """Sets ``NanoCpus`` (or ``CpuQuota`` where the container was made with it), ``Memory`` and ``MemorySwap``."""

    def read(self, target: Target, reader: Reader) -> Container:
        """The target's container; asks the engine by GET and the kernel by file."""
        if target.options.container is None:
            raise ActuatorError(
                FailureKind.CONFIG, f"{target.node} has no container", "set its container option to a name or an id"
            )
        return _container(target.docker_socket, target.options.container, reader)

    def actions(self, target: Target, observed: Container, grant: Grant, why: str) -> list[Action]:
        """One update for each of CPU and memory that differs from the grant by a step (0.01 cores, 1 MiB).

        Refuses what the engine would refuse, and a memory limit below 1.25 times what is used. A stopped container
        is left alone, as nothing could be proven.
        """
        actions: list[Action] = []
        if not observed.running:
            return actions
        asked = bounds(target, grant)
        if asked.cpu_cores is not None:
            cores = round(asked.cpu_cores, 2)
            _check_cores(target.node, observed, cores)
            wanted = _capped(cores, observed.host_cpu_count)
            if not (_near(_cores(observed), wanted) and _near(_configured_cores(observed), wanted)):
                actions.append(_cpu_action(target.node, observed, wanted, why))
        if asked.memory_bytes is not None:
            limit = asked.memory_bytes // MEMORY_STEP_BYTES * MEMORY_STEP_BYTES
            _check_memory(target.node, observed, limit)
            wanted_bytes = _limited(limit, observed.host_memory_bytes)
            if _memory(observed) != wanted_bytes:
                actions.append(_memory_action(target.node, observed, wanted_bytes, why))
        return actions

    def release(self, target: Target, observed: Container, done: Sequence[Action]) -> list[Action]:
        """Puts back what this very container had before our first write; a new container was never ours."""
        before = original([action for action in done if action.target["id"] == observed.id])
        if before and not observed.running:
            raise ActuatorError(
                FailureKind.TRANSIENT,
                f"container {observed.name} is stopped, so lifting its limit could not be proven",
                "release again when it runs",
            )
        why = "put back what stood before depin-orcha"
        actions: list[Action] = []
        if "cpu_cores" in before and not _near(_cores(observed), before["cpu_cores"]):
            actions.append(_cpu_action(target.node, observed, before["cpu_cores"], why))
        if "memory_bytes" in before and _memory(observed) != before["memory_bytes"]:
            actions.append(_memory_action(target.node, observed, before["memory_bytes"], why))
        return actions

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:  # noqa: ARG002
        """The kernel's own figure of what the action was to set; the engine only tells the process to look at."""
        container = _container(action.target["socket"], action.target["id"], reader)
        if container.in_force is None:
            raise ActuatorError(FailureKind.TRANSIENT, f"container {container.name} stopped, no limit can be proven")
        if "cpu_cores" in action.after:
            return Reading({"cpu_cores": _cores(container)}, container.in_force.cpu_evidence)
        return Reading({"memory_bytes": _memory(container)}, container.in_force.memory_evidence)

    def grant(self, done: Sequence[Action]) -> Grant:
        """The caps by their resources."""
        return {Resource(key): float(value) for key, value in latest(done).items() if value is not None}

    def settle_s(self, action: Action) -> float:  # noqa: ARG002
        """The kernel holds the new value before the engine answers; a second is for a slow engine."""
        return 1.0

    def advice(self, action: Action) -> str:
        """``docker update`` with the options of the call."""
        call = action.call
        if not isinstance(call, HttpCall):
            raise TypeError(f"a docker action calls the engine, not {call!r}")
        argv = ["docker"] if call.socket == DOCKER_SOCKET else ["docker", "-H", f"unix://{call.socket}"]
        argv.append("update")
        for key, value in call.body.items():
            argv += _option(key, int(value))
        return shlex.join([*argv, action.target["container"]])


def _option(key: str, value: int) -> list[str]:
    if key == "NanoCpus":
        return ["--cpus", f"{value / 1e9:g}"]
    if key == "CpuQuota":
        return ["--cpu-quota", str(value)]
    return ["--memory" if key == "Memory" else "--memory-swap", "-1" if value < 0 else f"{value}b"]


def _container(socket: str, name: str, reader: Reader) -> Container:
    found = reader.get(socket, f"/containers/{quote(name, safe='')}/json")
    info = reader.get(socket, "/info")
    try:
        host, state, identity = found["HostConfig"], found["State"], str(found["Id"])
        pid = int(state["Pid"]) if state["Running"] else 0
        return Container(
            socket=socket,
            name=str(found["Name"]).removeprefix("/"),
            id=identity,
            started_at=str(state["StartedAt"]),
            nano_cpus=int(host["NanoCpus"]),
            cpu_quota_us=int(host["CpuQuota"]),
            cpu_period_us=int(host["CpuPeriod"]),
            memory_bytes=int(host["Memory"]),
            memory_swap_bytes=int(host["MemorySwap"]),
            host_cpu_count=int(info["NCPU"]),
            host_memory_bytes=int(info["MemTotal"]),
            in_force=enforced(reader.text, pid, identity) if pid else None,
            made_s=parse_rfc3339(found["Created"]) if "Created" in found else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"the engine at {socket} describes container {name} in an unknown form ({error!r})"
        ) from error


def _cpu_action(node: str, observed: Container, cores: float | None, why: str) -> Action:
    before, body = _cores(observed), _cpu_body(observed, cores)
    if "CpuQuota" in body and cores is not None:
        cores = round(body["CpuQuota"] / _period_us(observed), 5)  # what an odd period makes of it
    values = ({"cpu_cores": before}, {"cpu_cores": cores})
    return _update(node, observed, why, values, (body, _cpu_body(observed, before)))


def _memory_action(node: str, observed: Container, limit: int | None, why: str) -> Action:
    before = _memory(observed)
    values = ({"memory_bytes": before}, {"memory_bytes": limit})
    return _update(node, observed, why, values, (_memory_body(observed, limit), _memory_body(observed, before)))


def _update(
    node: str,
    observed: Container,
    why: str,
    values: tuple[dict[str, Any], dict[str, Any]],
    bodies: tuple[dict[str, int], dict[str, int]],
) -> Action:
    path = f"/containers/{observed.id}/update"  # by id: never the namesake that replaced it
    call, undo = (HttpCall(observed.socket, "POST", path, dict(body)) for body in bodies)
    identity = {
        "socket": observed.socket,
        "container": observed.name,
        "id": observed.id,
    }
    return Action(node, KIND, why, *values, call, undo, identity)


def _cpu_body(observed: Container, cores: float | None) -> dict[str, int]:
    """The knob the container already has, as the engine refuses the other one.

    Lifting means the whole machine: 0 leaves the limit alone, and a stored quota of -1 wins over ``NanoCpus`` at
    the next start.
    """
    amount = observed.host_cpu_count if cores is None else cores
    if _by_quota(observed):
        return {"CpuQuota": round(amount * _period_us(observed))}
    return {"NanoCpus": round(amount * 1e9)}


def _memory_body(observed: Container, limit: int | None) -> dict[str, int]:
    """Both together, as one alone is refused; what the owner allowed of swap beyond memory is kept.

    Memory cannot be made unlimited again: lifting means all there is.
    """
    amount = observed.host_memory_bytes if limit is None else limit
    if observed.memory_swap_bytes < 0:
        return {"Memory": amount, "MemorySwap": -1}
    swap = max(0, observed.memory_swap_bytes - observed.memory_bytes)
    return {"Memory": amount, "MemorySwap": amount + swap}


def _check_cores(node: str, observed: Container, cores: float) -> None:
    if cores > observed.host_cpu_count or cores < CPU_STEP_CORES:
        raise refused(node, f"{cores:g} CPU cores: the engine takes 0.01 to {observed.host_cpu_count}")
    if _by_quota(observed) and _cpu_body(observed, cores)["CpuQuota"] < MIN_QUOTA_US:
        raise refused(node, f"{cores:g} CPU cores: below the kernel's 1 ms per period of {_period_us(observed)} us")


def _check_memory(node: str, observed: Container, limit: int) -> None:
    if limit < MIN_MEMORY_BYTES or limit > observed.host_memory_bytes:
        raise refused(node, f"{limit} bytes of memory: the engine takes 6 MiB to {observed.host_memory_bytes}")
    used = observed.in_force.memory_used_bytes if observed.in_force else None
    refuse_memory(node, f"container {observed.name}", limit, used)


def _by_quota(observed: Container) -> bool:
    return observed.nano_cpus == 0 and (observed.cpu_quota_us != 0 or observed.cpu_period_us != 0)


def _period_us(observed: Container) -> int:
    return observed.cpu_period_us or DEFAULT_PERIOD_US


def _cores(observed: Container) -> float | None:
    return _capped(observed.in_force.cpu_cores if observed.in_force else None, observed.host_cpu_count)


def _configured_cores(observed: Container) -> float | None:
    if observed.nano_cpus > 0:
        return _capped(observed.nano_cpus / 1e9, observed.host_cpu_count)
    if observed.cpu_quota_us > 0:
        return _capped(observed.cpu_quota_us / _period_us(observed), observed.host_cpu_count)
    return None


def _memory(observed: Container) -> int | None:
    return _limited(observed.in_force.memory_bytes if observed.in_force else None, observed.host_memory_bytes)


def _capped(cores: float | None, host_cpu_count: int) -> float | None:
    """A cap of the whole machine is no cap."""
    return None if cores is None or cores >= host_cpu_count else round(cores, 5)


def _limited(limit: int | None, host_memory_bytes: int) -> int | None:
    """The kernel rounds to pages; a limit of all there is is none."""
    return None if limit is None or limit > host_memory_bytes - PAGE_BYTES else limit


def _near(left: float | None, right: float | None) -> bool:
    if left is None or right is None:
        return left is right
    return abs(left - right) < CPU_STEP_CORES / 2
