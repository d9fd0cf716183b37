"""What the back ends of container engines share: how a container is read, what is asked of it, and what is refused.

What an engine says is never proof: whatever is read as "in force" comes from the kernel's control group files.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from depin_orcha.bounds import bounds, granted, refuse_memory, refused
from depin_orcha.cgroups import (
    DEFAULT_SHARES,
    DEFAULT_WEIGHT,
    LEAST_SHARES,
    Enforced,
    enforced,
    shares_of_weight,
    weight_of_shares,
)
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import Action, HttpCall

from . import Grant, Reader, Reading, Target, is_podman, latest, original, same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CPU_STEP_CORES = 0.01
DEFAULT_PERIOD_US = 100_000
MIN_QUOTA_US = 1000
MEMORY_STEP_BYTES = 1024 * 1024
MIN_MEMORY_BYTES = 6 * 1024 * 1024
PAGE_BYTES = 4096
WEIGHT_STEP = 0.05
"""Grants of one host are relative to each other, and move with every plan: a smaller change is none."""
_RUNTIME = re.compile(r"(runc|crun)\D*(\d+)\.(\d+)(?:\.(\d+))?")
_FIRST_WITH_CURVE = {"runc": (1, 3, 2), "crun": (1, 23, 0)}
"""Since these releases a runtime makes the kernel's default weight of the default shares."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine configures it and as the kernel holds it; ``in_force`` is None while it is stopped.

    ``by_curve``: which weight of version 2 its runtime makes of shares (``weight_of_shares``).
    """

    socket: str
    name: str
    id: str
    started_at: str
    nano_cpus: int
    cpu_quota_us: int
    cpu_period_us: int
    cpu_shares: int
    memory_bytes: int
    memory_swap_bytes: int
    host_cpu_count: int
    host_memory_bytes: int
    in_force: Enforced | None
    made_s: int | None = None
    by_curve: bool = False

    @property
    def running(self) -> bool:
        return self.in_force is not None

    @property
    def period_us(self) -> int:
        return self.cpu_period_us or DEFAULT_PERIOD_US

    @property
    def swap_bytes(self) -> int | None:
        """What the owner allows of swap beyond memory; None is any amount."""
        if self.memory_bytes > 0 > self.memory_swap_bytes:
            return None
        return max(0, self.memory_swap_bytes - max(0, self.memory_bytes))

    def cores(self) -> float | None:
        """The cap that the kernel holds; None is none."""
        return capped(self.in_force.cpu_cores if self.in_force else None, self.host_cpu_count)

    def memory(self) -> int | None:
        """The limit that the kernel holds; None is none. It rounds to pages, and a limit of all there is is none."""
        limit = self.in_force.memory_bytes if self.in_force else None
        return None if limit is None or limit > self.host_memory_bytes - PAGE_BYTES else limit

    def weight(self) -> float:
        """The weight that the kernel holds, on the scale of version 2; a group without one has the kernel's."""
        if self.in_force is None or self.in_force.cpu_weight is None:
            return DEFAULT_WEIGHT
        shares = self.in_force.cpu_shares
        return self.in_force.cpu_weight if shares is None else shares * DEFAULT_WEIGHT / DEFAULT_SHARES

    def shares_for(self, weight: float) -> int:
        """What an engine has to be asked for, so that the kernel holds a weight."""
        if self.in_force is not None and self.in_force.cpu_shares is not None:
            return max(LEAST_SHARES, round(weight * DEFAULT_SHARES / DEFAULT_WEIGHT))
        return shares_of_weight(round(weight), curve=self.by_curve)

    def weight_of(self, shares: int) -> float:
        """What the kernel holds once an engine was asked for shares."""
        if self.in_force is not None and self.in_force.cpu_shares is not None:
            return shares * DEFAULT_WEIGHT / DEFAULT_SHARES
        return weight_of_shares(shares, curve=self.by_curve)

    def values(self) -> dict[str, Any]:
        """All that the kernel holds, as it stands in ``before`` and ``after`` of an action."""
        return {"cpu_cores": self.cores(), "memory_bytes": self.memory(), "cpu_weight": self.weight()}


class ContainerActuator(ABC):
    """Sets CPU and memory of a container through an engine; how that is said is up to the engine."""

    kind: str

    @abstractmethod
    def socket(self, target: Target) -> str:
        """Where the engine listens."""

    @abstractmethod
    def check(self, socket: str, *, podman: bool) -> None:
        """Raises ``ActuatorError`` for an engine of the other kind."""

    @abstractmethod
    def call(self, observed: Container, values: Mapping[str, Any]) -> HttpCall:
        """What makes ``values`` (some of ``cpu_cores``, ``memory_bytes``, ``cpu_weight``) those of the container."""

    @abstractmethod
    def advice(self, action: Action) -> str:
        """The shell command with which a person does the same."""

    def identity(self, observed: Container) -> dict[str, str]:
        """What tells the container from its namesakes."""
        return {"socket": observed.socket, "container": observed.name, "id": observed.id}

    def keeps(self, observed: Container, values: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Would ``values`` be in force after the next start as far as the engine can see to that?"""
        return True

    def held(self, observed: Container, values: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        """What the kernel will hold of ``values``."""
        return values

    def read(self, target: Target, reader: Reader) -> Container:
        """The target's container; asks the engine by GET and the kernel by file."""
        if target.options.container is None:
            raise ActuatorError(
                FailureKind.CONFIG, f"{target.node} has no container", "set its container option to a name or an id"
            )
        socket = self.socket(target)
        self.check(socket, podman=is_podman(reader.get(socket, "/version")))
        return container(socket, target.options.container, reader)

    def actions(self, target: Target, observed: Container, grant: Grant, why: str) -> list[Action]:
        """One update for each of CPU, weight and memory that differs from the grant by a step (0.01 cores, 5 %, 1 MiB).

        Refuses what the engine would refuse, and a memory limit below 1.25 times what is used. A stopped container
        is left alone, as nothing could be proven.
        """
        wanted: list[dict[str, Any]] = []
        if not observed.running:
            return []
        asked = bounds(target, grant)
        if asked.cpu_cores is not None:
            cores = round(asked.cpu_cores, 2)
            _check_cores(target.node, observed, cores)
            cap = {"cpu_cores": capped(cores, observed.host_cpu_count)}
            if not (near(observed.cores(), cap["cpu_cores"]) and self.keeps(observed, cap)):
                wanted.append(cap)
        if asked.memory_bytes is not None:
            limit = asked.memory_bytes // MEMORY_STEP_BYTES * MEMORY_STEP_BYTES
            _check_memory(target.node, observed, limit)
            bytes_ = None if limit > observed.host_memory_bytes - PAGE_BYTES else limit
            if observed.memory() != bytes_:
                wanted.append({"memory_bytes": bytes_})
        if asked.cpu_weight is not None:
            weight = {"cpu_weight": observed.weight_of(observed.shares_for(asked.cpu_weight))}
            if not (near_weight(observed.weight(), asked.cpu_weight) and self.keeps(observed, weight)):
                wanted.append(weight)
        return [self._action(target.node, observed, values, why) for values in wanted]

    def release(self, target: Target, observed: Container, done: Sequence[Action]) -> list[Action]:
        """Puts back what this very container had before our first write; a new container was never ours.

        Nor is what a start undid, and somebody else may have set since.
        """
        own = [action for action in done if action.target["id"] == observed.id]
        last = {key: action for action in own for key in action.after}
        before = original(own)
        if before and not observed.running:
            raise ActuatorError(
                FailureKind.TRANSIENT,
                f"container {observed.name} is stopped, so lifting its limit could not be proven",
                "release again when it runs",
            )
        identity, why = self.identity(observed), "put back what stood before depin-orcha"
        actions: list[Action] = []
        for key, value in before.items():
            found = observed.values()[key]
            is_ours = last[key].target == identity or same(last[key].after[key], found)
            if is_ours and not (near(found, value) if key == "cpu_cores" else same(found, value)):
                actions.append(self._action(target.node, observed, {key: value}, why))
        return actions

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:  # noqa: ARG002
        """The kernel's own figure of what the action was to set; the engine only tells the process to look at."""
        found = container(action.target["socket"], action.target["id"], reader)
        if found.in_force is None:
            raise ActuatorError(FailureKind.TRANSIENT, f"container {found.name} stopped, no limit can be proven")
        (key,) = action.after
        evidence = {
            "cpu_cores": found.in_force.cpu_evidence,
            "memory_bytes": found.in_force.memory_evidence,
            "cpu_weight": found.in_force.weight_evidence,
        }
        return Reading({key: found.values()[key]}, evidence[key])

    def grant(self, done: Sequence[Action]) -> Grant:
        """The caps by their resources, and the cores that a weight stands for where there is no cap."""
        values = latest(done)
        if "cpu_weight" not in original(done):
            values.pop("cpu_weight", None)
        return granted(values)

    def settle_s(self, action: Action) -> float:  # noqa: ARG002
        """The kernel holds the new value before the engine answers; a second is for a slow engine."""
        return 1.0

    def _action(self, node: str, observed: Container, values: dict[str, Any], why: str) -> Action:
        before = {key: observed.values()[key] for key in values}
        call, undo = self._call(observed, values), self._call(observed, before)
        return Action(node, self.kind, why, before, self.held(observed, values), call, undo, self.identity(observed))

    def _call(self, observed: Container, values: Mapping[str, Any]) -> HttpCall:
        """With the other way of a runtime: one may be patched, or replaced under a container that runs."""
        call = self.call(observed, values)
        other = self.call(replace(observed, by_curve=not observed.by_curve), values)
        return call if other == call else replace(call, instead=other.body)


def container(socket: str, name: str, reader: Reader) -> Container:
    """The container of this name or id behind a Docker-compatible interface. Raises ``ActuatorError``."""
    found = reader.get(socket, f"/containers/{quote(name, safe='')}/json")
    info, version = reader.get(socket, "/info"), reader.get(socket, "/version")
    try:
        host, state, identity = found["HostConfig"], found["State"], str(found["Id"])
        pid = int(state["Pid"]) if state["Running"] else 0
        in_force = enforced(reader.text, pid, identity) if pid else None
        return Container(
            socket=socket,
            name=str(found["Name"]).removeprefix("/"),
            id=identity,
            started_at=str(state["StartedAt"]),
            nano_cpus=int(host["NanoCpus"]),
            cpu_quota_us=int(host["CpuQuota"]),
            cpu_period_us=int(host["CpuPeriod"]),
            cpu_shares=int(host["CpuShares"]),
            memory_bytes=int(host["Memory"]),
            memory_swap_bytes=int(host["MemorySwap"]),
            host_cpu_count=int(info["NCPU"]),
            host_memory_bytes=int(info["MemTotal"]),
            in_force=in_force,
            by_curve=_by_curve(version, int(host["CpuShares"]), in_force),
            made_s=parse_rfc3339(found["Created"]) if "Created" in found else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"the engine at {socket} describes container {name} in an unknown form ({error!r})"
        ) from error


def capped(cores: float | None, host_cpu_count: int) -> float | None:
    """A cap of the whole machine is no cap."""
    return None if cores is None or cores >= host_cpu_count else round(cores, 5)


def near(left: float | None, right: float | None) -> bool:
    """Do two caps differ by less than a step?"""
    if left is None or right is None:
        return left is right
    return abs(left - right) < CPU_STEP_CORES / 2


def near_weight(found: float, wanted: float) -> bool:
    """Are they the same but for a step?"""
    return abs(wanted - found) <= found * WEIGHT_STEP


def _by_curve(version: Mapping[str, Any], shares: int, in_force: Enforced | None) -> bool:
    """Which way the runtime goes, by what the kernel holds of the shares configured, else by the runtime's version."""
    line, curve = (weight_of_shares(shares, curve=way) for way in (False, True))
    if shares and in_force is not None and in_force.cpu_weight in (line, curve) and line != curve:
        return in_force.cpu_weight == curve
    told = (f"{part.get('Name')} {part.get('Version')}" for part in version.get("Components") or ())
    found = [match for text in told if (match := _RUNTIME.search(text))]
    return any(tuple(int(number or 0) for number in one.groups()[1:]) >= _FIRST_WITH_CURVE[one[1]] for one in found)


def _check_cores(node: str, observed: Container, cores: float) -> None:
    if cores > observed.host_cpu_count or cores < CPU_STEP_CORES:
        raise refused(node, f"{cores:g} CPU cores: the engine takes 0.01 to {observed.host_cpu_count}")
    if cores * observed.period_us < MIN_QUOTA_US:
        raise refused(node, f"{cores:g} CPU cores: below the kernel's 1 ms per period of {observed.period_us} us")


def _check_memory(node: str, observed: Container, limit: int) -> None:
    if limit < MIN_MEMORY_BYTES or limit > observed.host_memory_bytes:
        raise refused(node, f"{limit} bytes of memory: the engine takes 6 MiB to {observed.host_memory_bytes}")
    used = observed.in_force.memory_used_bytes if observed.in_force else None
    refuse_memory(node, f"container {observed.name}", limit, used)
