"""What a Golem provider offers to new agreements: a hardware profile of our own, or nothing, set with ``ya-provider``.

The operator's profiles stay as they are: ours is named ``depin-orcha``, and releasing means to activate the
operator's again. A provider that is given no threads rests: its presets are deactivated, so that it makes no new
agreement, and the same ones are activated again later. Running agreements are never touched by any of this.
"""

from __future__ import annotations

import json
import math
import shlex
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from depin_orcha.bounds import refused
from depin_orcha.errors import ActuatorError, FailureKind, OrchaError
from depin_orcha.types import Action, Resource, RunCommand, Steps

from . import Grant, Offers, Reader, Reading, Target, latest, original, same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KIND = "golem"
OURS = "depin-orcha"
PRESET = "preset "
"""A value by this name says whether the preset named after it is active."""
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
    """The hardware profiles of a provider: values by key of ``OFFERED``, by name, and which one is active.

    ``presets``: the names of the active ones.
    """

    active: str
    by_name: Mapping[str, Mapping[str, float]]
    presets: tuple[str, ...] = ()

    @property
    def in_force(self) -> dict[str, Any]:
        return {"active": self.active, **self.by_name[self.active]}


class Actuator:
    """Sets the cap of a provider; with ``offers`` it counts as set only when the live offers say so."""

    def __init__(self, offers: Offers | None = None) -> None:
        self._offers = offers

    def read(self, target: Target, reader: Reader) -> Profiles:
        """The provider's profiles, and which presets are active."""
        command = _command(target)
        return replace(_profiles(command, reader), presets=tuple(_active_presets(command, reader)))

    def actions(self, target: Target, observed: Profiles, grant: Grant, why: str) -> list[Action]:
        """Writes our profile, then makes it the active one; nothing when the active one already says so.

        Threads are whole and leave one CPU of the machine free; what the grant does not name stays as it is in the
        active profile. Refuses everything else. No threads at all: every active preset is deactivated, and with
        threads again those that we deactivated are activated, and no other.
        """
        if grant.get(Resource.CPU_CORES) == 0:
            return [_switch(target, name, why, on=False) for name in observed.presets]
        resting = [name for name in target.rested if name not in observed.presets]
        return [
            *self._profiled(target, observed, grant, why),
            *(_switch(target, name, why, on=True) for name in resting),
        ]

    def _profiled(self, target: Target, observed: Profiles, grant: Grant, why: str) -> list[Action]:
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
        """Activates the operator's profile again, and the presets that we deactivated; our profile stays, inactive."""
        why = "put back what stood before depin-orcha"
        resting = [name for name in rested(done) if name not in observed.presets]
        return [
            *self._unprofiled(target, observed, done),
            *(_switch(target, name, why, on=True) for name in resting),
        ]

    def _unprofiled(self, target: Target, observed: Profiles, done: Sequence[Action]) -> list[Action]:
        if observed.active != OURS:
            return []
        before = {key: value for key, value in original(done).items() if not key.startswith(PRESET)}
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
        if "preset" in action.target:
            return self._switched(action, command, reader)
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
        """What our profile offers; nothing where it is not the active one; no threads where it rests."""
        if rested(done):
            return {Resource.CPU_CORES: 0.0}
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
        is_offered = "active" in action.after or "preset" in action.target
        return OFFER_SETTLE_S if self._offers is not None and is_offered else 0.0

    def advice(self, action: Action) -> str:
        """The ``ya-provider`` command itself."""
        calls = action.call.calls if isinstance(action.call, Steps) else (action.call,)
        return " && ".join(shlex.join(call.argv) for call in calls if isinstance(call, RunCommand))

    def _switched(self, action: Action, command: Sequence[str], reader: Reader) -> Reading:
        """Whether a preset is active, and whether the live offers say so too."""
        name, (key,) = action.target["preset"], action.after
        runtimes = _runtimes(command, reader)
        active = _active_presets(command, reader)
        values, evidence = {key: name in active}, f"active presets: {', '.join(active) or 'none'}"
        if self._offers is None or values != action.after:
            return Reading(values, evidence)
        try:
            offered = {offer["properties"]["golem.runtime.name"] for offer in self._offers(action.node)}
        except OrchaError as error:
            return Reading(values, evidence, f"the live offers cannot be read: {error.message}")
        except (KeyError, TypeError) as error:
            return Reading(values, evidence, f"the live offers have an unknown form ({error!r})")
        wanted = {runtimes[one] for one in active if one in runtimes}
        evidence += f"; {', '.join(sorted(offered)) or 'nothing'} is offered"
        runtime = runtimes.get(name)
        if (runtime in wanted) == (runtime in offered):
            return Reading(values, evidence)
        said = "still" if runtime in offered else "not yet"
        return Reading(values, evidence, f"runtime {runtime} is {said} offered")

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


def rested(done: Sequence[Action]) -> tuple[str, ...]:
    """The presets that we deactivated and have not activated since."""
    before = original(done)
    return tuple(key.removeprefix(PRESET) for key, was in before.items() if key.startswith(PRESET) and was)


def _active_runtimes(command: Sequence[str], reader: Reader) -> list[str]:
    runtimes, active = _runtimes(command, reader), _active_presets(command, reader)
    return sorted({runtimes[name] for name in active if name in runtimes})


def _runtimes(command: Sequence[str], reader: Reader) -> dict[str, str]:
    """What runs the work of each preset."""
    argv = [*command, "--json", "preset", "list"]
    presets = _json(argv, reader)
    try:
        return {str(preset["name"]): str(preset["exeunit-name"]) for preset in presets}
    except (KeyError, TypeError) as error:
        raise _unknown_form(argv, error) from error


def _active_presets(command: Sequence[str], reader: Reader) -> list[str]:
    argv = [*command, "--json", "preset", "active"]
    active = _json(argv, reader)
    if not isinstance(active, list) or not all(isinstance(name, str) for name in cast("list[Any]", active)):
        raise _unknown_form(argv, TypeError(f"{active!r} is no list of names"))
    return cast("list[str]", active)


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
                raise refused(target.node, f"{wanted[key]:g} {key}: the provider offers at least {MIN_GIB}")
    return wanted


def _threads(target: Target, cores: float) -> int:
    threads = round(cores)
    if not math.isclose(cores, threads, abs_tol=1e-6):
        raise refused(target.node, f"{cores:g} threads: Golem takes whole ones")
    if not 1 <= threads <= target.cpu_count - 1:
        raise refused(target.node, f"{threads} threads: of {target.cpu_count} CPUs one stays free")
    return threads


def _write(command: Sequence[str], values: Mapping[str, float], *, exists: bool) -> RunCommand:
    """All three values in one call, as the provider takes no lock."""
    name = ("update", "--name", OURS) if exists else ("create", OURS)
    options = (word for key in OFFERED for word in (f"--{key.replace('_', '-')}", repr(values[key])))
    return _run(command, *name, *options)


def _activate(node: str, command: Sequence[str], why: str, before: dict[str, Any], after: dict[str, Any]) -> Action:
    call, undo = (_run(command, "activate", values["active"]) for values in (after, before))
    return Action(node, KIND, why, before, after, call, undo, {"provider_command": list(command)})


def _switch(target: Target, preset: str, why: str, *, on: bool) -> Action:
    command = _command(target)
    # tried once: the provider refuses to deactivate what is not active
    call, undo = (
        Steps((RunCommand((*command, "preset", "activate" if active else "deactivate", preset)),))
        for active in (on, not on)
    )
    identity = {"provider_command": list(command), "preset": preset}
    key = f"{PRESET}{preset}"
    return Action(target.node, KIND, why, {key: not on}, {key: on}, call, undo, identity)


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
