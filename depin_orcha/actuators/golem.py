"""What a Golem provider offers to new agreements: a hardware profile of our own, set with ``ya-provider``.

The operator's profiles stay as they are: ours is named ``depin-orcha``, and releasing means to activate the
operator's again. Running agreements are never touched by any of this.
"""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from depin_orcha.errors import ActuatorError, FailureKind, OrchaError
from depin_orcha.types import Action, Resource, RunCommand

from . import Grant, Offers, Reader, Reading, Target, latest, original, same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KIND = "golem"
OURS = "depin-orcha"
GIB = 2**30
STEP_GIB = 0.01
MIN_GIB = 0.1
OFFER_SETTLE_S = 60.0
OFFERED = {
    "cpu_threads": "golem.inf.cpu.threads",
    "mem_gib": "golem.inf.mem.gib",
    "storage_gib": "golem.inf.storage.gib",
}


@dataclass(frozen=True, slots=True)
class Profiles:
    """The hardware profiles of a provider: values by key of ``OFFERED``, by name, and which one is active."""

    active: str
    by_name: Mapping[str, Mapping[str, float]]

    @property
    def in_force(self) -> dict[str, Any]:
        return {"active": self.active, **self.by_name[self.active]}


class Actuator:
    """Sets the cap of a provider; with ``offers`` it counts as set only when the live offers say so."""

    def __init__(self, offers: Offers | None = None) -> None:
        self._offers = offers

    def read(self, target: Target, reader: Reader) -> Profiles:
        """The provider's profiles."""
        return _profiles(_command(target), reader)

    def actions(self, target: Target, observed: Profiles, grant: Grant, why: str) -> list[Action]:
        """Writes our profile, then makes it the active one; nothing when the active one already says so.

        Threads are whole and leave one CPU of the machine free; what the grant does not name stays as it is in the
        active profile. Refuses everything else.
        """
        wanted = _wanted(target, observed.by_name[observed.active], grant)
        if same(wanted, dict(observed.by_name[observed.active])):
            return []
        command = _command(target)
        identity = {"provider_command": list(command)}
        ours = observed.by_name.get(OURS)
        write = _write(command, wanted, exists=ours is not None)
        if observed.active == OURS:
            undo = _write(command, observed.by_name[OURS], exists=True)
            return [
                Action(target.node, KIND, why, observed.in_force, {"active": OURS, **wanted}, write, undo, identity)
            ]
        actions: list[Action] = []
        if ours is None or not same(wanted, dict(ours)):
            undo = _run(command, "remove", OURS) if ours is None else _write(command, ours, exists=True)
            before = None if ours is None else dict(ours)
            actions.append(
                Action(target.node, KIND, why, {"profile": before}, {"profile": wanted}, write, undo, identity)
            )
        activation = _activate(target.node, command, why, observed.in_force, {"active": OURS, **wanted})
        return [*actions, activation]

    def release(self, target: Target, observed: Profiles, done: Sequence[Action]) -> list[Action]:
        """Activates the operator's profile again; ours stays, inactive."""
        if observed.active != OURS:
            return []
        before = original(done)
        if before and "active" not in before and "profile" not in before:
            return self._rewritten(target, observed, before)
        profile = before.get("active")
        if profile is None or profile not in observed.by_name:
            raise ActuatorError(
                FailureKind.DATA,
                f"the profile that {target.node} had before depin-orcha is not there: {profile or 'none is on record'}",
                "activate one of your own: " + shlex.join([*_command(target), "profile", "activate", "NAME"]),
            )
        after = {"active": profile, **observed.by_name[profile]}
        why = "put back what stood before depin-orcha"
        return [_activate(target.node, _command(target), why, observed.in_force, after)]

    def _rewritten(self, target: Target, observed: Profiles, before: Mapping[str, float]) -> list[Action]:
        """Our profile as it was before, where it was the active one already."""
        command, now = _command(target), observed.by_name[OURS]
        wanted = {key: before.get(key, now[key]) for key in OFFERED}
        if same(wanted, dict(now)):
            return []
        call, undo = (_write(command, values, exists=True) for values in (wanted, now))
        identity = {"provider_command": list(command)}
        why = "put back what stood before the plan"
        return [Action(target.node, KIND, why, observed.in_force, {"active": OURS, **wanted}, call, undo, identity)]

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:
        """The profiles as they stand in the provider's files, and what its live offers say of the values changed."""
        command = tuple(action.target["provider_command"])
        profiles = _profiles(command, reader)
        if "profile" in action.after:
            ours = profiles.by_name.get(OURS)
            values = {"profile": None if ours is None else dict(ours)}
            return Reading(values, f"profile {OURS} is {_said(ours)}")
        evidence = f"active profile {profiles.active}: {_said(profiles.by_name[profiles.active])}"
        if self._offers is None or not same(profiles.in_force, action.after):
            return Reading(profiles.in_force, evidence)
        offered, contradiction = self._offered(action, _active_runtimes(command, reader), since_s)
        return Reading(profiles.in_force, f"{evidence}; {offered}", contradiction)

    def grant(self, done: Sequence[Action]) -> Grant:
        """What our profile offers; nothing where it is not the active one."""
        values = latest(done)
        if values.get("active") != OURS:
            return {}
        return {
            Resource.CPU_CORES: values["cpu_threads"],
            Resource.MEMORY_BYTES: values["mem_gib"] * GIB,
            Resource.STORAGE_BYTES: values["storage_gib"] * GIB,
        }

    def settle_s(self, action: Action) -> float:
        """The agent sees a change after up to 5 s and then makes new offers."""
        return OFFER_SETTLE_S if self._offers is not None and "active" in action.after else 0.0

    def advice(self, action: Action) -> str:
        """The ``ya-provider`` command itself."""
        if not isinstance(action.call, RunCommand):
            raise TypeError(f"a golem action runs a command, not {action.call!r}")
        return shlex.join(action.call.argv)

    def _offered(self, action: Action, runtimes: Sequence[str], since_s: float | None) -> tuple[str, str]:
        """What the offers say as evidence, and in what they contradict the action ("" when in nothing)."""
        if self._offers is None or not runtimes:
            return "no preset is active, so nothing is offered", ""
        changed = [key for key in OFFERED if not same(action.before.get(key), action.after[key])]
        try:
            latest = {
                offer["properties"]["golem.runtime.name"]: offer
                for offer in sorted(self._offers(action.node), key=lambda offer: _timestamp_s(offer["timestamp"]))
            }
            said: list[str] = []
            for runtime in runtimes:
                if runtime not in latest:
                    return "", f"there is no offer of runtime {runtime}, although its preset is active"
                offer = latest[runtime]
                is_new = since_s is not None and _timestamp_s(offer["timestamp"]) >= since_s
                for key in changed:
                    asked, given = action.after[key], float(offer["properties"][OFFERED[key]])
                    said.append(f"{runtime} offers {given:g} {key}")
                    # a newer offer of less is the agent's own cap at work, and then the real allocation
                    if not _about(key, given, asked) and not (is_new and given < asked):
                        return "", f"the live offer of {runtime} says {given:g} {key}, not {asked:g}"
        except OrchaError as error:
            return "", f"the live offers cannot be read: {error.message}"
        except (KeyError, TypeError, ValueError) as error:
            return "", f"the live offers have an unknown form ({error!r})"
        return ", ".join(said) or "the offers need no change", ""


def _command(target: Target) -> tuple[str, ...]:
    return tuple(getattr(target.options, "provider_command", ()) or ("ya-provider",))


def _profiles(command: Sequence[str], reader: Reader) -> Profiles:
    listed = _json([*command, "profile", "list"], reader)
    active = _json([*command, "profile", "active"], reader)
    try:
        by_name = {str(name): {key: _number(values[key]) for key in OFFERED} for name, values in listed.items()}
        _ = by_name[active]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unknown_form([*command, "profile", "list"], error) from error
    return Profiles(active, by_name)


def _active_runtimes(command: Sequence[str], reader: Reader) -> list[str]:
    presets = _json([*command, "--json", "preset", "list"], reader)
    active = _json([*command, "--json", "preset", "active"], reader)
    try:
        return sorted({str(preset["exeunit-name"]) for preset in presets if preset["name"] in active})
    except (KeyError, TypeError) as error:
        raise _unknown_form([*command, "--json", "preset", "list"], error) from error


def _json(argv: Sequence[str], reader: Reader) -> Any:
    try:
        return json.loads(reader.output(argv))
    except ValueError as error:
        raise _unknown_form(argv, error) from error


def _unknown_form(argv: Sequence[str], error: Exception) -> ActuatorError:
    return ActuatorError(
        FailureKind.SHAPE,
        f"`{shlex.join(argv)}` answers in an unknown form ({error!r})",
        "is provider_command really ya-provider, run as the user of the provider?",
    )


def _wanted(target: Target, active: Mapping[str, float], grant: Grant) -> dict[str, float]:
    wanted = dict(active)
    if Resource.CPU_CORES in grant:
        wanted["cpu_threads"] = _threads(target, grant[Resource.CPU_CORES])
    for resource, key in ((Resource.MEMORY_BYTES, "mem_gib"), (Resource.STORAGE_BYTES, "storage_gib")):
        if resource in grant and abs(grant[resource] / GIB - active[key]) >= STEP_GIB:
            wanted[key] = math.floor(grant[resource] / GIB * 100 + 1e-6) / 100
            if wanted[key] < MIN_GIB:
                raise _refused(target, f"{wanted[key]:g} {key}: the provider offers at least {MIN_GIB}")
    return wanted


def _threads(target: Target, cores: float) -> int:
    threads = round(cores)
    if not math.isclose(cores, threads, abs_tol=1e-6):
        raise _refused(target, f"{cores:g} threads: Golem takes whole ones")
    if threads == 0:
        raise ActuatorError(
            FailureKind.UNSUPPORTED,
            f"{target.node} is not given 0 threads: a profile cannot pause a provider",
            "pause it by hand: " + shlex.join([*_command(target), "preset", "deactivate", "NAME"]),
        )
    if not 1 <= threads <= target.cpu_count - 1:
        raise _refused(target, f"{threads} threads: of {target.cpu_count} CPUs one stays free")
    return threads


def _refused(target: Target, reason: str) -> ActuatorError:
    return ActuatorError(
        FailureKind.DATA, f"{target.node} is not given {reason}", "make a new plan: depin-orcha optimize"
    )


def _write(command: Sequence[str], values: Mapping[str, float], *, exists: bool) -> RunCommand:
    """All three values in one call, as the provider takes no lock."""
    name = ("update", "--name", OURS) if exists else ("create", OURS)
    options = (word for key in OFFERED for word in (f"--{key.replace('_', '-')}", repr(values[key])))
    return _run(command, *name, *options)


def _activate(node: str, command: Sequence[str], why: str, before: dict[str, Any], after: dict[str, Any]) -> Action:
    call, undo = (_run(command, "activate", values["active"]) for values in (after, before))
    return Action(node, KIND, why, before, after, call, undo, {"provider_command": list(command)})


def _run(command: Sequence[str], *words: str) -> RunCommand:
    return RunCommand((*command, "profile", *words))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return value


def _said(values: Mapping[str, float] | None) -> str:
    return "absent" if values is None else ", ".join(f"{values[key]:g} {key}" for key in OFFERED)


def _about(key: str, given: float, asked: float) -> bool:
    return given == asked if key == "cpu_threads" else math.isclose(given, asked, rel_tol=0.01)


def _timestamp_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
