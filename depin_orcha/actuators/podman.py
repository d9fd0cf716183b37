"""CPU and memory of a container, through the service of Podman 4.3 and later on a unix socket.

Podman 4.3 keeps an update in the kernel alone: a start forgets it and the container's description never shows it, so
a start makes the container new to us; later versions keep it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.types import Action, HttpCall

from . import PODMAN_SOCKET, Target
from ._containers import Container, ContainerActuator

KIND = "podman"
_OPTIONS = {
    "cpu": {"quota": "--cpu-quota", "period": "--cpu-period", "shares": "--cpu-shares"},
    "memory": {"limit": "--memory", "swap": "--memory-swap"},
}


class Actuator(ContainerActuator):
    """Sets quota and period, memory and swap, or shares, in the words of the OCI runtime specification."""

    kind = KIND

    def socket(self, target: Target) -> str:
        """The option ``podman_socket``."""
        return target.podman_socket

    def check(self, socket: str, *, podman: bool) -> None:
        """Docker has no interface of that kind."""
        if not podman:
            raise ActuatorError(
                FailureKind.UNSUPPORTED,
                f"the engine at {socket} is not Podman",
                'set runtime = "docker", or podman_socket in [apply]',
            )

    def identity(self, observed: Container) -> dict[str, str]:
        """With the start: what was set before it may be gone."""
        return super().identity(observed) | {"started_at": observed.started_at}

    def call(self, observed: Container, values: Mapping[str, Any]) -> HttpCall:
        """An update by id: never the namesake that replaced it; the interface for Docker has none."""
        body: dict[str, Any] = {}
        if "cpu_cores" in values:
            body["cpu"] = {"quota": _quota_us(observed, values["cpu_cores"]), "period": observed.period_us}
        if "memory_bytes" in values:
            body["memory"] = _memory_body(observed, values["memory_bytes"])
        if "cpu_weight" in values:
            body["cpu"] = {"shares": observed.shares_for(values["cpu_weight"])}
        return HttpCall(observed.socket, "POST", f"/libpod/containers/{observed.id}/update", body)

    def held(self, observed: Container, values: dict[str, Any]) -> dict[str, Any]:
        """What an odd period makes of a cap."""
        if values.get("cpu_cores") is None:
            return values
        return {"cpu_cores": round(_quota_us(observed, values["cpu_cores"]) / observed.period_us, 5)}

    def advice(self, action: Action) -> str:
        """``podman update``; that takes no -1, so what lifts a limit is sent with ``curl``."""
        call = action.call
        if not isinstance(call, HttpCall):
            raise TypeError(f"a podman action calls the service, not {call!r}")
        if any(value < 0 for part in call.body.values() for value in part.values()):
            json_type = "content-type: application/json"
            address = ["--unix-socket", str(call.socket), f"http://podman/v4.3.0{call.path}"]
            return shlex.join(["curl", "-fsS", "-H", json_type, "-d", json.dumps(call.body), *address])
        argv = ["podman"] if call.socket == PODMAN_SOCKET else ["podman", "--url", f"unix://{call.socket}"]
        argv.append("update")
        for part, knobs in call.body.items():
            for knob, value in knobs.items():
                argv += [_OPTIONS[part][knob], f"{value}b" if part == "memory" else str(value)]
        return shlex.join([*argv, action.target["container"]])


def _quota_us(observed: Container, cores: float | None) -> int:
    """-1 lifts; 0 leaves the limit alone."""
    return -1 if cores is None else round(cores * observed.period_us)


def _memory_body(observed: Container, limit: int | None) -> dict[str, int]:
    """Both together: the limit alone leaves swap unlimited, or is refused above the sum that was set before."""
    swap = observed.swap_bytes
    return (
        {"limit": -1, "swap": -1} if limit is None else {"limit": limit, "swap": -1 if swap is None else limit + swap}
    )
