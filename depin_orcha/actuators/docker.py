"""CPU and memory of a container, through the Docker Engine API (1.25 and later) on a unix socket."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from depin_orcha.cgroups import DEFAULT_WEIGHT
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.types import Action, HttpCall

from . import DOCKER_SOCKET, Target
from ._containers import Container, ContainerActuator, capped, near, near_weight

KIND = "docker"


class Actuator(ContainerActuator):
    """Sets ``NanoCpus`` (or ``CpuQuota`` where the container was made with it), ``Memory`` and ``MemorySwap``.

    Or ``CpuShares``, where the node is not capped.
    """

    kind = KIND

    def socket(self, target: Target) -> str:
        """The option ``docker_socket``."""
        return target.docker_socket

    def check(self, socket: str, *, podman: bool) -> None:
        """Podman's interface for clients of Docker has no update."""
        if podman:
            raise ActuatorError(
                FailureKind.UNSUPPORTED,
                f"the engine at {socket} cannot change the limits of a running container",
                'Docker Engine can; for Podman set runtime = "podman", and podman_socket in [apply]',
            )

    def call(self, observed: Container, values: Mapping[str, Any]) -> HttpCall:
        """An update by id: never the namesake that replaced it."""
        body: dict[str, Any] = {}
        if "cpu_cores" in values:
            body |= _cpu_body(observed, values["cpu_cores"])
        if "memory_bytes" in values:
            body |= _memory_body(observed, values["memory_bytes"])
        if "cpu_weight" in values:
            body["CpuShares"] = observed.shares_for(values["cpu_weight"])
        return HttpCall(observed.socket, "POST", f"/containers/{observed.id}/update", body)

    def keeps(self, observed: Container, values: Mapping[str, Any]) -> bool:
        """Is it what the engine sets at the next start?"""
        if "cpu_cores" in values:
            return near(_configured_cores(observed), values["cpu_cores"])
        if not observed.cpu_shares:
            return near_weight(DEFAULT_WEIGHT, values["cpu_weight"])  # a start leaves the kernel's own
        return near_weight(observed.cpu_shares, observed.shares_for(values["cpu_weight"]))

    def held(self, observed: Container, values: dict[str, Any]) -> dict[str, Any]:
        """What an odd period makes of a cap."""
        if values.get("cpu_cores") is None or not _by_quota(observed):
            return values
        quota_us = _cpu_body(observed, values["cpu_cores"])["CpuQuota"]
        return {"cpu_cores": round(quota_us / observed.period_us, 5)}

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
    if key in ("CpuQuota", "CpuShares"):
        return ["--cpu-quota" if key == "CpuQuota" else "--cpu-shares", str(value)]
    return ["--memory" if key == "Memory" else "--memory-swap", "-1" if value < 0 else f"{value}b"]


def _cpu_body(observed: Container, cores: float | None) -> dict[str, int]:
    """The knob the container already has, as the engine refuses the other one.

    Lifting means the whole machine: 0 leaves the limit alone, and a stored quota of -1 wins over ``NanoCpus`` at
    the next start.
    """
    amount = observed.host_cpu_count if cores is None else cores
    if _by_quota(observed):
        return {"CpuQuota": round(amount * observed.period_us)}
    return {"NanoCpus": round(amount * 1e9)}


def _memory_body(observed: Container, limit: int | None) -> dict[str, int]:
    """Both together, as one alone is refused; what the owner allowed of swap beyond memory is kept.

    Memory cannot be made unlimited again: lifting means all there is.
    """
    amount, swap = observed.host_memory_bytes if limit is None else limit, observed.swap_bytes
    return {"Memory": amount, "MemorySwap": -1 if swap is None else amount + swap}


def _by_quota(observed: Container) -> bool:
    return observed.nano_cpus == 0 and (observed.cpu_quota_us != 0 or observed.cpu_period_us != 0)


def _configured_cores(observed: Container) -> float | None:
    if observed.nano_cpus > 0:
        return capped(observed.nano_cpus / 1e9, observed.host_cpu_count)
    if observed.cpu_quota_us > 0:
        return capped(observed.cpu_quota_us / observed.period_us, observed.host_cpu_count)
    return None
