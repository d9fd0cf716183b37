"""CPU and memory of a plain process: a control group of its own (version 1), or a scope of systemd (version 2).

The group is made beside whatever runs where the process runs now, as weights compare with their neighbours only. It
ends with the process: one that was started again is outside, and is limited again. Version 1 counts the memory that is
taken from then on, so what a process holds already is asked of the process itself.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from depin_orcha.bounds import bounds, granted, refuse_memory, refused
from depin_orcha.cgroups import DEFAULT_SHARES, DEFAULT_WEIGHT, Enforced, enforced_at, folder_of, keeper, paths_of
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.processes import Listing, resident_bytes, running, started, topmost, tree
from depin_orcha.types import Action, Group, RunCommand, Steps

from . import Grant, Reader, Reading, Target, TargetGoneError, latest, original, same
from ._scopes import attach, limit, scope_of, start

KIND = "process"
LEAST_CORES = 0.01
"""The kernel's smallest quota, 1 ms, in a period of 100 ms."""
PERIOD_US = 100_000
WEIGHT_STEP = 0.05
"""A weight that differs by less is the same: it says how nodes share what is short, not how much they get."""
MEMORY_STEP_BYTES = 1024 * 1024
FREE: Mapping[str, Any] = {"cpu_cores": None, "cpu_weight": DEFAULT_WEIGHT, "memory_bytes": None}
"""What a process has while nobody gave it anything."""
_CONTROLLER = {"cpu_cores": "cpu", "cpu_weight": "cpu", "memory_bytes": "memory"}


@dataclass(frozen=True, slots=True)
class Process:
    """The node's process as the kernel holds it; ``pid`` is 0 while there is none.

    ``inside`` are the groups of ours that hold it, by controller, and ``home`` the folders of the groups they are to be
    made in, for version 1; for version 2 it is our scope, and None. ``astray`` are those below it that are not where it
    is.
    """

    node: str
    name: str
    pid: int = 0
    started: int = 0
    boot: str = ""
    pids: tuple[int, ...] = ()
    cpu_count: int = 1
    host_memory_bytes: int = 0
    used_bytes: int = 0
    has_swap: bool = False
    home: Mapping[str, str] | None = None
    inside: Mapping[str, str] | None = None
    astray: tuple[int, ...] = ()
    values: Mapping[str, Any] | None = None
    evidence: Mapping[str, str] | None = None

    @property
    def running(self) -> bool:
        return self.pid > 0

    @property
    def identity(self) -> dict[str, Any]:
        """What tells it from the one that is started after it, also with the same number."""
        return {"process": self.name, "pid": self.pid, "started": self.started, "boot": self.boot}


class Actuator:
    """Sets quota, shares and memory limit of a group that holds the process and all below it.

    ``listing`` tells which processes there are.
    """

    def __init__(self, listing: Listing = running) -> None:
        self._listing = listing

    def read(self, target: Target, reader: Reader) -> Process:
        """The topmost process of the name; refuses where somebody else sets the limits of its group."""
        name = target.options.process
        if name is None:
            raise ActuatorError(
                FailureKind.CONFIG, f"{target.node} has no process", "set its process option to the program's name"
            )
        return self._found(target.node, name, target.cpu_count, reader)

    def actions(self, target: Target, observed: Process, grant: Grant, why: str) -> list[Action]:
        """One call for each of CPU, weight and memory that differs from the grant by a step.

        The steps are 0.01 cores, 1 MiB, and 5 % of a weight. Refuses more than there is, and a memory limit below 1.25
        times what is used. A process that is not running is left alone, as nothing could be proven.
        """
        if not observed.running:
            return []
        asked = bounds(target, grant)
        wanted: dict[str, Any] = {}
        if asked.cpu_cores is not None:
            cores = round(asked.cpu_cores, 2)
            if not LEAST_CORES <= cores <= observed.cpu_count:
                reason = f"{asked.cpu_cores:g} CPU cores: a process takes 0.01 to {observed.cpu_count}"
                raise refused(target.node, reason)
            wanted["cpu_cores"] = None if cores >= observed.cpu_count else cores
        if asked.cpu_weight is not None:
            wanted["cpu_weight"] = asked.cpu_weight
        if asked.memory_bytes is not None:
            most = asked.memory_bytes // MEMORY_STEP_BYTES * MEMORY_STEP_BYTES
            if most > observed.host_memory_bytes:
                raise refused(target.node, f"{most} bytes of memory: there are {observed.host_memory_bytes}")
            refuse_memory(target.node, f"process {observed.pid}", most, observed.used_bytes)
            wanted["memory_bytes"] = most
        now = observed.values or FREE
        return _actions(observed, {key: one for key, one in wanted.items() if not _near(key, now[key], one)}, why)

    def release(self, target: Target, observed: Process, done: Sequence[Action]) -> list[Action]:  # noqa: ARG002
        """Puts back what the process had before our first write; the next one of its name was never ours.

        Unless it was born in our group, and is limited with it.
        """
        if not observed.running:
            return []
        before = original([action for action in done if self._is_of(action, observed)])
        now = observed.values or FREE
        changes = {key: value for key, value in before.items() if not same(now[key], value)}
        return _actions(observed, changes, "put back what stood before depin-orcha")

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:  # noqa: ARG002
        """The kernel's own figure for the group that holds the process, while all below the process is in it too."""
        pid = action.target["pid"]
        if started(reader.text, pid) != action.target["started"] or _boot(reader) != action.target["boot"]:
            raise TargetGoneError(
                FailureKind.TRANSIENT, f"process {pid} has ended", "the next apply limits the one that follows it"
            )
        found = self._look(Process(action.node, action.target["process"], pid), reader)
        (key,) = action.after
        strays = ", ".join(str(one) for one in found.astray)
        contradiction = f"below process {pid}, but not where it is: {strays}" if strays else ""
        return Reading({key: (found.values or FREE)[key]}, (found.evidence or {})[key], contradiction)

    def grant(self, done: Sequence[Action]) -> Grant:
        """The caps by their resources, and the cores that a weight stands for."""
        return granted(latest(done))

    def settle_s(self, action: Action) -> float:
        """The kernel is told directly; systemd answers before it is done."""
        return 0.5 if isinstance(action.call, Group) else 5.0

    def advice(self, action: Action) -> str:
        """What to type as root, in a shell."""
        call = action.call
        if isinstance(call, Group):
            return _shell(call)
        calls = call.calls if isinstance(call, Steps) else (call,)
        return " && ".join(shlex.join(one.argv) for one in calls if isinstance(one, RunCommand))

    def _is_of(self, action: Action, observed: Process) -> bool:
        """Was it done to this process, or to one whose place it took in a group of ours, as a daemon does?"""
        return action.target == observed.identity or any(
            _CONTROLLER[key] in (observed.inside or {}) for key in action.after
        )

    def _found(self, node: str, name: str, cpu_count: int, reader: Reader) -> Process:
        found = topmost(name, self._listing())
        if not found:
            return Process(node, name, cpu_count=cpu_count)
        if len(found) > 1:
            pids = ", ".join(str(pid) for pid in found)
            raise ActuatorError(
                FailureKind.CONFIG,
                f"{node}: {name} is running {len(found)} times, as processes {pids}",
                "set its process option to the full path of the one program, or run it as a unit or in a container",
            )
        observed = self._look(Process(node, name, found[0], cpu_count=cpu_count), reader)
        memory = re.search(r"^MemTotal:\s+(\d+) kB", reader.text("/proc/meminfo") or "", re.MULTILINE)
        return replace(observed, host_memory_bytes=int(memory[1]) * 1024 if memory else 0)

    def _look(self, observed: Process, reader: Reader) -> Process:
        """The process with all that the kernel says of it."""
        pid, paths, since = observed.pid, paths_of(reader.text, observed.pid), started(reader.text, observed.pid)
        if paths is None or since is None:
            raise ActuatorError(FailureKind.TRANSIENT, f"{observed.name} is not running: process {pid} has just ended")
        _refuse_kept(observed, paths)
        below = tree(pid, self._listing())
        pids = tuple(one for one in below if keeper(paths_of(reader.text, one) or {}) is None)
        found = replace(observed, started=since, boot=_boot(reader), pids=pids)
        found = (_in_version_1 if "cpu" in paths else _in_version_2)(found, paths, reader)
        used = max(resident_bytes(reader.text, pids), found.used_bytes)
        values = dict(FREE) if found.astray else found.values  # what limits a part of it is no limit
        return replace(found, used_bytes=used, values=values)


def _in_version_1(observed: Process, paths: dict[str, str], reader: Reader) -> Process:
    """Of each controller: in our group, or where that would be."""
    group = group_of(observed.node)
    folders = {one: folder_of(reader.text, paths, one) for one in ("cpu", "memory") if one in paths}
    inside = {one: folder for one, folder in folders.items() if PurePath(folder).name == group}
    home = {one: str(PurePath(folder).parent) if one in inside else folder for one, folder in folders.items()}
    values, evidence, used = _held(observed, enforced_at(reader.text, paths), inside, paths)
    has_swap = reader.text(f"{folders.get('memory')}/memory.memsw.limit_in_bytes") is not None
    return replace(
        observed,
        home=home,
        inside=inside,
        values=values,
        evidence=evidence,
        used_bytes=used,
        astray=_astray(observed, group, reader),
        has_swap=has_swap,
    )


def _in_version_2(observed: Process, paths: dict[str, str], reader: Reader) -> Process:
    if (reader.text("/proc/1/comm") or "").strip() != "systemd":
        raise ActuatorError(
            FailureKind.UNSUPPORTED,
            f"{observed.node}: without systemd nothing here gives process {observed.pid} limits of its own",
            'run it in a container and set runtime = "docker" or "podman", and container',
        )
    scope = scope_of(observed.node, observed.pid)
    head, found, _ = paths.get("", "").partition(f"/{scope}")
    inside = {"cpu": scope, "memory": scope} if found else {}
    paths = {"": head + found or "/"}  # it may have groups of its own below
    values, evidence, used = _held(observed, enforced_at(reader.text, paths), inside, paths)
    return replace(
        observed,
        inside=inside,
        values=values,
        evidence=evidence,
        used_bytes=used,
        astray=_astray(observed, scope, reader),
    )


def _held(
    observed: Process, found: Enforced, inside: Mapping[str, str], paths: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str], int]:
    """Values, where they were read, and memory in use; a group that is not ours says nothing of this process alone."""
    values = {"cpu_cores": found.cpu_cores, "cpu_weight": found.cpu_weight, "memory_bytes": found.memory_bytes}
    told = {
        "cpu_cores": found.cpu_evidence,
        "cpu_weight": found.weight_evidence,
        "memory_bytes": found.memory_evidence,
    }
    for key, controller in _CONTROLLER.items():
        if controller not in inside or values[key] is None:
            values[key] = FREE[key]
        if controller not in inside:
            path = paths.get(controller, paths.get(""))
            told[key] = f"/proc/{observed.pid}/cgroup = {path}, which is no group of ours"
        else:
            told[key] = f"{told[key]}, with process {observed.pid} in it"
    return values, told, (found.memory_used_bytes or 0) if "memory" in inside else 0


def _astray(observed: Process, group: str, reader: Reader) -> tuple[int, ...]:
    """Those below the process that are in a group of ours while it is not, or the other way round."""

    def ours(pid: int) -> set[str]:
        paths = paths_of(reader.text, pid) or {}
        return {one for one, path in paths.items() if f"/{group}/" in f"{path}/" and one in ("cpu", "memory", "")}

    own = ours(observed.pid)
    apart = [pid for pid in observed.pids if ours(pid) != own]
    return tuple(pid for pid in apart if started(reader.text, pid) is not None)


def group_of(node: str) -> str:
    """The name of its group."""
    return f"depin_orcha-{node}"


def _refuse_kept(observed: Process, paths: Mapping[str, str]) -> None:
    """Raises ``ActuatorError`` where a service or a container holds the process: its limits are set there."""
    found = keeper(paths)
    if found is None:
        return
    hint = f'set runtime = "systemd" and unit = "{found}"'
    if found.startswith("/"):
        hint, found = 'set runtime = "docker" or "podman", and container', f"the container of {found}"
    raise ActuatorError(
        FailureKind.UNSUPPORTED, f"{observed.node}: process {observed.pid} belongs to {found}, which has limits", hint
    )


def _boot(reader: Reader) -> str:
    return (reader.text("/proc/sys/kernel/random/boot_id") or "").strip()


def _actions(observed: Process, changes: Mapping[str, Any], why: str) -> list[Action]:
    """An action for each change, every one upon those before it."""
    actions: list[Action] = []
    for key, value in changes.items():
        now = dict(observed.values or FREE)
        after = now | {key: value}
        if observed.home is None:
            call, then = _scope(observed, key, value)
            undo = limit(scope_of(observed.node, observed.pid), key, now[key])
        else:
            controller = _CONTROLLER[key]
            call, undo = _group(observed, controller, now, after), _group(observed, controller, after, now)
            folder = f"{observed.home[controller]}/{group_of(observed.node)}"
            then = {one: place for one, place in (observed.inside or {}).items() if one != controller}
            then |= {} if call.leave else {controller: folder}
        actions.append(Action(observed.node, KIND, why, {key: now[key]}, {key: value}, call, undo, observed.identity))
        observed = replace(observed, values=after, inside=then, astray=())
    return actions


def _group(observed: Process, controller: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Group:
    """All that the group is to hold, so that nothing counts that an earlier process left there; nothing: no group."""
    home = (observed.home or {}).get(controller)
    if home is None:
        reason = f"{observed.node}: this kernel has no control groups of version 1 for {controller}"
        raise ActuatorError(
            FailureKind.UNSUPPORTED, reason, f"turn it on at the next start: cgroup_enable={controller}"
        )
    path = f"{home}/{group_of(observed.node)}"
    keys = [key for key, one in _CONTROLLER.items() if one == controller]
    if all(same(new[key], FREE[key]) for key in keys):
        return Group(path, observed.pid, observed.started, leave=True)
    if controller == "cpu":
        cores, shares = new["cpu_cores"], max(2, round(new["cpu_weight"] * DEFAULT_SHARES / DEFAULT_WEIGHT))
        files = [
            ("cpu.cfs_period_us", str(PERIOD_US)),
            ("cpu.cfs_quota_us", str(-1 if cores is None else round(cores * PERIOD_US))),
            ("cpu.shares", str(shares)),
        ]
    else:
        most, before = new["memory_bytes"], old["memory_bytes"]
        names = ["memory.limit_in_bytes", *(["memory.memsw.limit_in_bytes"] if observed.has_swap else [])]
        if most is None or (before is not None and most > before):
            names.reverse()  # memory may never be more than memory and swap together
        files = [(name, str(-1 if most is None else most)) for name in names]
    return Group(path, observed.pid, observed.started, tuple(files))


def _scope(observed: Process, key: str, value: Any) -> tuple[RunCommand | Steps, Mapping[str, str]]:
    """A scope of its own with the limit; where it has one, the limit for that, and those astray into it."""
    scope = scope_of(observed.node, observed.pid)
    inside = {"cpu": scope, "memory": scope}
    if not observed.inside:
        return start(scope, observed.pids, key, value), inside
    if observed.astray:
        return Steps((attach(scope, observed.astray), limit(scope, key, value))), inside
    return limit(scope, key, value), inside


def _shell(call: Group) -> str:
    group = PurePath(call.path)
    if call.leave:
        procs = shlex.join([f"{group.parent}/cgroup.procs"])
        moved = f"for p in $(cat {shlex.quote(f'{group}/cgroup.procs')}); do echo $p > {procs}; done"
        return f"{moved}; rmdir {shlex.quote(str(group))}"
    lines = [f"mkdir -p {shlex.quote(str(group))}"]
    lines += [f"echo {value} > {shlex.quote(f'{group}/{name}')}" for name, value in call.files]
    tree_of = f"for p in $(pstree -pT {call.pid} | grep -oE '\\([0-9]+\\)' | tr -d '()')"
    lines.append(f"{tree_of}; do echo $p > {shlex.quote(f'{group}/cgroup.procs')}; done")
    return " && ".join(lines)


def _near(key: str, now: Any, wanted: Any) -> bool:
    if now is None or wanted is None:
        return now is wanted
    if key == "cpu_weight":
        return abs(now - wanted) <= WEIGHT_STEP * wanted
    return abs(now - wanted) < (LEAST_CORES / 2 if key == "cpu_cores" else MEMORY_STEP_BYTES)
