"""CPU and memory limits of a unit, through ``systemctl set-property --runtime`` (systemd 230 and later).

Limits of that kind survive a restart of the unit and end with the machine's. What ``systemctl show`` says is never
proof, as it says so of limits too that the kernel was never told: whatever is read as "in force" comes from the
kernel's control group files.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depin_orcha.bounds import bounds, granted, refuse_memory, refused, unit_of
from depin_orcha.cgroups import DEFAULT_WEIGHT, Enforced, enforced_in
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.types import Action, RunCommand

from . import Grant, Reader, Reading, Target, TargetGoneError, latest, original, same

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND = "systemd"
LEAST_CORES = 0.01
"""One percent of a core: the kernel's smallest quota, 1 ms, in the manager's period of 100 ms."""
WEIGHT_STEP = 0.05
"""A weight that differs by less is the same: it says how nodes share what is short, not how much they get."""
MEMORY_STEP_BYTES = 1024 * 1024
_UNIT = ("Id", "LoadState", "ActiveState", "ControlGroup")
_BOOT = "UserspaceTimestampMonotonic"


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as the kernel holds it; ``in_force`` is None while it has no process. ``boot`` differs after each start
    of the machine, which forgets every limit of ours."""

    name: str
    boot: str
    cpu_count: int
    in_force: Enforced | None

    @property
    def running(self) -> bool:
        return self.in_force is not None

    @property
    def values(self) -> dict[str, Any]:
        """What can be set, as it is now; a group that nobody gave a weight has the kernel's."""
        if self.in_force is None:
            return {}
        weight = DEFAULT_WEIGHT if self.in_force.cpu_weight is None else self.in_force.cpu_weight
        return {
            "cpu_cores": self.in_force.cpu_cores,
            "cpu_weight": weight,
            "memory_bytes": self.in_force.memory_bytes,
        }


class Actuator:
    """Sets ``CPUQuota``, ``MemoryMax`` or ``CPUWeight`` until the machine is started anew."""

    def read(self, target: Target, reader: Reader) -> Unit:
        """The target's unit; asks the manager by commands that only read, and the kernel by file."""
        return _unit(unit_of(target), target.cpu_count, reader)

    def actions(self, target: Target, observed: Unit, grant: Grant, why: str) -> list[Action]:
        """One command for each of CPU, weight and memory that differs from the grant by a step.

        The steps are 0.01 cores, 1 MiB, and 5 % of a weight. Refuses more cores than there are, and a memory limit
        below 1.25 times what is used. A unit without processes is left alone, as nothing could be proven.
        """
        if observed.in_force is None:
            return []
        asked = bounds(target, grant)
        wanted: dict[str, Any] = {}
        if asked.cpu_cores is not None:
            wanted["cpu_cores"] = round(asked.cpu_cores, 2)
            if not LEAST_CORES <= wanted["cpu_cores"] <= observed.cpu_count:
                raise refused(target.node, f"{asked.cpu_cores:g} CPU cores: a unit takes 0.01 to {observed.cpu_count}")
        if asked.cpu_weight is not None:
            wanted["cpu_weight"] = asked.cpu_weight
        if asked.memory_bytes is not None:
            wanted["memory_bytes"] = asked.memory_bytes // MEMORY_STEP_BYTES * MEMORY_STEP_BYTES
            refuse_memory(
                target.node, f"unit {observed.name}", wanted["memory_bytes"], observed.in_force.memory_used_bytes
            )
        now = observed.values
        return [
            _action(target.node, observed, key, value, why)
            for key, value in wanted.items()
            if not _near(key, now[key], value)
        ]

    def release(self, target: Target, observed: Unit, done: Sequence[Action]) -> list[Action]:
        """Puts back what stood before our first write since the machine was started."""
        before = original([action for action in done if action.target == _identity(observed)])
        if before and observed.in_force is None:
            raise ActuatorError(
                FailureKind.TRANSIENT,
                f"unit {observed.name} is stopped, so lifting its limit could not be proven",
                "release again when it runs",
            )
        why = "put back what stood before depin-orcha"
        return [
            _action(target.node, observed, key, value, why)
            for key, value in before.items()
            if not same(observed.values[key], value)
        ]

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:  # noqa: ARG002
        """The kernel's own figure of what the action was to set."""
        unit = _unit(action.target["unit"], 0, reader)
        if unit.in_force is None:
            raise ActuatorError(FailureKind.TRANSIENT, f"unit {unit.name} stopped, no limit can be proven")
        (key,) = action.after
        evidence = {
            "cpu_cores": unit.in_force.cpu_evidence,
            "cpu_weight": unit.in_force.weight_evidence,
            "memory_bytes": unit.in_force.memory_evidence,
        }
        return Reading({key: unit.values[key]}, evidence[key])

    def grant(self, done: Sequence[Action]) -> Grant:
        """The caps by their resources, and the cores that a weight stands for."""
        return granted(latest(done))

    def settle_s(self, action: Action) -> float:  # noqa: ARG002
        """The manager tells the kernel before the command ends; two seconds are for a slow one."""
        return 2.0

    def advice(self, action: Action) -> str:
        """The command itself."""
        call = action.call
        if not isinstance(call, RunCommand):
            raise TypeError(f"a systemd action runs a command, not {call!r}")
        return shlex.join(call.argv)


def _unit(name: str, cpu_count: int, reader: Reader) -> Unit:
    told = _properties(reader.output(["systemctl", "show", name, f"--property={','.join(_UNIT)}"]))
    boot = _properties(reader.output(["systemctl", "show", f"--property={_BOOT}"]))
    try:
        if told["LoadState"] == "not-found":
            raise TargetGoneError(
                FailureKind.TRANSIENT, f"there is no unit {name}", "check its name: systemctl list-units --all"
            )
        group = told["ControlGroup"] if told["ActiveState"] in ("active", "reloading", "refreshing") else ""
        in_force = enforced_in(reader.text, group) if group else None
        return Unit(told["Id"], boot[_BOOT], cpu_count, in_force)
    except KeyError as error:
        raise ActuatorError(FailureKind.SHAPE, f"systemctl describes {name} in an unknown form ({error!r})") from error


def _properties(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def _identity(observed: Unit) -> dict[str, Any]:
    return {"unit": observed.name, "boot": observed.boot}


def _action(node: str, observed: Unit, key: str, value: Any, why: str) -> Action:
    before = observed.values[key]
    call, undo = (_set(observed.name, key, one) for one in (value, before))
    return Action(node, KIND, why, {key: before}, {key: value}, call, undo, _identity(observed))


def _set(name: str, key: str, value: Any) -> RunCommand:
    """Nothing is reverted, as that would take an administrator's own settings away with ours."""
    if key == "cpu_cores":
        setting = "CPUQuota=" if value is None else f"CPUQuota={value * 100:g}%"
    elif key == "cpu_weight":
        setting = f"CPUWeight={value}"
    else:
        setting = f"MemoryMax={'infinity' if value is None else value}"
    return RunCommand(("systemctl", "set-property", "--runtime", name, setting))


def _near(key: str, now: Any, wanted: Any) -> bool:
    if now is None or wanted is None:
        return now is wanted
    if key == "cpu_weight":
        return abs(now - wanted) <= WEIGHT_STEP * wanted
    return abs(now - wanted) < (LEAST_CORES / 2 if key == "cpu_cores" else MEMORY_STEP_BYTES)
