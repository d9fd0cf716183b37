"""The disk space allocated to a Storj node: one line of its ``config.yaml``, which it reads when it starts.

So every change is a restart, which costs hours of scanning and is dangerous while the node is offline: it is made
rarely (:data:`REST_S`), and only where that line counts. Where a container's ``STORAGE``, a flag or an environment
variable wins over it, there is only advice, as no environment of a container can be changed. Interface:
``storagenode/monitor/shared.go`` of storj/storj, ``memory/size.go`` of storj/common, the entry point of
storj/storagenode-docker.
"""

from __future__ import annotations

import math
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from depin_orcha.adapters import Fields
from depin_orcha.adapters.storj import HEADROOM, SMALLEST_ALLOCATION_BYTES, usage_of
from depin_orcha.errors import ActuatorError, AdapterError, FailureKind
from depin_orcha.heal import rules
from depin_orcha.lines import line_of
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import Action, HttpCall, Resource, RunCommand, Steps, WriteLine

from . import DOCKER_SOCKET, Grant, Reader, Reading, Target, latest, original
from ._storj_size import KEY, size_of_line, size_text, with_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

KIND = "storj"
STEP_BYTES = 10e9
"""Less of a change is none."""
ROUNDING_BYTES = 10_000_000
"""What is written has two decimals of a GB."""
MOST_OF_THE_DISK = 0.9
"""More than this share of what is free and its own: the node would end with a full disk."""
STOP_S = rules(KIND).stop_s
REST_S = rules(KIND).between_s
SETTLE_S = 180.0
"""The node answers once the satellites have told it the time."""

_DASHBOARD = "/api/sno/"
_RESTART_SLACK_S = 60
_FLAG = f"--{KEY}"
_VARIABLE = "STORJ_STORAGE_ALLOCATED_DISK_SPACE"


@dataclass(frozen=True, slots=True)
class Runs:
    """What runs the node: what restarts it, what wins over its file ("" is nothing), and its labels.

    ``stopped`` names it where it does not run.
    """

    restart: HttpCall | RunCommand | None = None
    by_hand: str = ""
    overridden: str = ""
    labels: Mapping[str, str] | None = None
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What the node runs with and what its file says; ``line`` is None where no file is configured."""

    url: str
    allocated_bytes: float
    used_bytes: float | None
    started_s: int
    runs: Runs
    path: str | None = None
    line: str | None = None
    free_bytes: int | None = None

    @property
    def hindrance(self) -> str:
        """Why only a person can change it; "" where we can."""
        if self.runs.restart is None:
            return "nothing that is configured here runs it, so it cannot be restarted"
        return self.runs.overridden or ("" if self.path else "its config_path is not set")


@dataclass(frozen=True, slots=True)
class Stopped:
    """A node that somebody stopped: it is left alone."""

    what: str


class Actuator:
    """Rewrites the line and restarts the node, in one action; ``rest_s`` is how long it is left alone after that."""

    rest_s: float = REST_S

    def read(self, target: Target, reader: Reader) -> Allocation | Stopped:
        """The node's dashboard, its file, and what runs it; only reading."""
        url: str | None = getattr(target.options, "url", None)
        if url is None or "@" in url:  # it becomes part of the action, which is stored and shown
            raise ActuatorError(FailureKind.CONFIG, f"{target.node} has no url without user and password")
        path: str | None = getattr(target.options, "config_path", None)
        runs, disk = _runs(target, reader), target.options.disk
        if runs.stopped:
            return Stopped(runs.stopped)
        allocated, used, started_s = _dashboard(url, reader)
        line = None if path is None else _line(path, reader)
        free = None if disk is None else reader.free_bytes(disk)
        return Allocation(url, allocated, used, started_s, runs, path, line, free)

    def actions(self, target: Target, observed: Allocation | Stopped, grant: Grant, why: str) -> list[Action]:
        """One action when the grant differs by 10 GB from what the node runs with, and only its file decides that.

        Refuses less than the node starts with or stores and 5 %, and more than it has and 90 % of what is free and
        stored.
        """
        wanted = None if isinstance(observed, Stopped) else _wanted(observed, grant)
        if isinstance(observed, Stopped) or wanted is None:
            return []
        _check(target.node, observed, wanted)
        if observed.hindrance:
            return []
        if observed.free_bytes is None:
            hint = "set its option disk to the mount that holds its data"
            raise ActuatorError(FailureKind.CONFIG, f"{target.node}: how much its disk has free is not known", hint)
        return [_action(target, observed, with_size(_stated(target.node, observed), wanted), why)]

    def note(self, target: Target, observed: Allocation | Stopped, grant: Grant) -> str:
        """What a person has to do to give the node its grant, where we cannot; "" where we can."""
        if isinstance(observed, Stopped):
            return f"{observed.what} is stopped; its disk space is set when it runs"
        wanted = _wanted(observed, grant)
        if wanted is None or not observed.hindrance:
            return ""
        return (
            f"it keeps {size_text(observed.allocated_bytes)} and is due {size_text(wanted)}, but {observed.hindrance}; "
            f"by hand: {_by_hand(target, observed, wanted)}"
        )

    def release(self, target: Target, observed: Allocation | Stopped, done: Sequence[Action]) -> list[Action]:
        """Puts back the very line that stood there before our first write."""
        before = original(done).get("storage_bytes")
        if before is not None and isinstance(observed, Stopped):
            message = f"{observed.what} is stopped, so {size_text(before)} could not be proven"
            raise ActuatorError(FailureKind.TRANSIENT, message, "release again when it runs")
        if before is None or isinstance(observed, Stopped) or _near(observed.allocated_bytes, before):
            return []
        if observed.hindrance:
            hint = f"by hand: {_by_hand(target, observed, before)}"
            message = f"{target.node} cannot be given back {size_text(before)}: {observed.hindrance}"
            raise ActuatorError(FailureKind.UNSUPPORTED, message, hint)
        _stated(target.node, observed)
        written = (_written(one) for one in done if one.before["storage_bytes"] == before)
        line = next(one.old for one in written if one is not None)
        return [_action(target, observed, line, "put back what stood before depin-orcha")]

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:
        """What the node says that it runs with since its start; its file is only a promise."""
        path, url = action.target["config_path"], action.target["url"]
        stated = size_of_line(_line(path, reader), path)
        allocated, _, started_s = _dashboard(url, reader)
        evidence = f"the node runs with {size_text(allocated)} since {rfc3339(started_s)}"
        if not _near(allocated, stated):
            return Reading({"storage_bytes": round(allocated)}, evidence, f"{evidence}, not {size_text(stated)}")
        late = since_s is not None and started_s < int(since_s)
        return Reading({"storage_bytes": stated}, evidence, f"{evidence}: it was not started anew" if late else "")

    def grant(self, done: Sequence[Action]) -> Grant:
        """The disk space."""
        return {Resource.STORAGE_BYTES: float(latest(done)["storage_bytes"])}

    def settle_s(self, action: Action) -> float:  # noqa: ARG002
        """Until it answers again."""
        return SETTLE_S

    def advice(self, action: Action) -> str:
        """``sed`` for the line, then the restart."""
        write = _written(action)
        if write is None:
            raise TypeError(f"a storj action rewrites a line, not {action.call!r}")
        return f"{_sed(_verbatim(write.old), write.new, write.path)} && {action.target['restart']}"


def _dashboard(url: str, reader: Reader) -> tuple[float, float | None, int]:
    """What the node may store and stores, trash included, and when it was started."""
    try:
        dashboard = Fields(reader.ask(url, _DASHBOARD), _DASHBOARD)
        usage = usage_of(dashboard)[Resource.STORAGE_BYTES]
        return usage.allocated or 0.0, usage.used, dashboard.time_s("startedAt")
    except AdapterError as error:
        raise ActuatorError(error.kind, error.message, error.hint) from error


def _line(path: str, reader: Reader) -> str:
    text = reader.text(path)
    if text is None:
        raise ActuatorError(FailureKind.CONFIG, f"there is no {path}", "set config_path to the node's config.yaml")
    return line_of(text, KEY, path)


def _runs(target: Target, reader: Reader) -> Runs:
    if target.options.runtime in ("docker", "podman"):
        return _container(target, reader)
    return _unit(str(target.options.unit), reader) if target.options.runtime == "systemd" else Runs()


def _container(target: Target, reader: Reader) -> Runs:
    runtime, name = target.options.runtime, str(target.options.container)
    socket = target.podman_socket if runtime == "podman" else target.docker_socket
    try:
        found: Mapping[str, Any] = reader.get(socket, f"/containers/{quote(name, safe='')}/json")
        config = found["Config"]
        variables, words = config.get("Env") or (), found.get("Args") or ()
        running, identity = found["State"]["Running"], str(found["Id"])
        labels: Mapping[str, str] = config.get("Labels") or {}
    except (AttributeError, KeyError, TypeError) as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"the engine at {socket} describes container {name} in an unknown form ({error!r})"
        ) from error
    if not running:
        return Runs(stopped=f"container {name}")
    # By id: never the namesake that replaced it.
    restart = HttpCall(
        socket, "POST", f"/containers/{identity}/restart?t={STOP_S}", timeout_s=STOP_S + _RESTART_SLACK_S
    )
    argv = [runtime, "-H", f"unix://{socket}"] if runtime == "docker" and socket != DOCKER_SOCKET else [runtime]
    by_hand = shlex.join([*argv, "restart", "-t", str(STOP_S), name])
    return Runs(restart, by_hand, _overridden(variables, words, ("STORAGE", _VARIABLE)), labels)


def _unit(unit: str, reader: Reader) -> Runs:
    told = reader.output(["systemctl", "show", unit, "--property=ActiveState,Environment,ExecStart"])
    values = {name: value for name, _, value in (line.partition("=") for line in told.splitlines())}
    if values.get("ActiveState") not in ("active", "reloading", "refreshing"):
        return Runs(stopped=f"unit {unit}")
    argv = ("systemctl", "restart", unit)
    restart = RunCommand(argv, STOP_S + _RESTART_SLACK_S)
    variables, words = values.get("Environment", "").split(), values.get("ExecStart", "").split()
    return Runs(restart, shlex.join(argv), _overridden(variables, words, (_VARIABLE,)))


def _overridden(variables: Iterable[str], words: Iterable[str], names: Sequence[str]) -> str:
    """What wins over the file, in the order of the node: a flag, then the environment."""
    if any(re.match(rf"['\"]?{_FLAG}(=|$)", word) for word in words):
        return f"{_FLAG} of its command line wins over its file"
    pairs = (one.strip("\"'").partition("=") for one in variables)
    name = next((name for name, _, value in pairs if name in names and value), None)
    return f"{name} of its environment wins over its file" if name else ""


def _wanted(observed: Allocation, grant: Grant) -> int | None:
    """What the file is to say, to 10 MB and not below the grant; None where that is no change."""
    granted = grant.get(Resource.STORAGE_BYTES)
    if granted is None or abs(granted - observed.allocated_bytes) < STEP_BYTES:
        return None
    return math.ceil(granted / ROUNDING_BYTES - 1e-6) * ROUNDING_BYTES


def _check(node: str, observed: Allocation, wanted: int) -> None:
    used, free = observed.used_bytes, observed.free_bytes
    if wanted < SMALLEST_ALLOCATION_BYTES:
        raise _refused(node, wanted, f"it does not start below {size_text(SMALLEST_ALLOCATION_BYTES)}")
    if used is None:
        raise _refused(node, wanted, "how much it stores is not known")
    if wanted < used * HEADROOM:
        raise _refused(node, wanted, f"it stores {size_text(used)}, and needs 5 % more than that")
    if free is not None and wanted > max((free + used) * MOST_OF_THE_DISK, observed.allocated_bytes):
        room = f"its disk has {size_text(free)} free beside the {size_text(used)} it stores"
        raise _refused(node, wanted, f"{room}, of which a tenth stays free")


def _refused(node: str, wanted: int, reason: str) -> ActuatorError:
    message = f"{node} is not given {size_text(wanted)}: {reason}"
    return ActuatorError(FailureKind.DATA, message, "make a new plan: depin-orcha optimize")


def _stated(node: str, observed: Allocation) -> str:
    """The line of the file, which is what the node runs with. Raises ``ActuatorError`` where it is not."""
    path, line = str(observed.path), str(observed.line)
    stated = size_of_line(line, path)
    if not _near(stated, observed.allocated_bytes):
        raise ActuatorError(
            FailureKind.DATA,
            f"{node} runs with {size_text(observed.allocated_bytes)}, but {path} says {size_text(stated)}",
            "it reads the file when it starts: make both say the same, then restart it",
        )
    return line


def _action(target: Target, observed: Allocation, line: str, why: str) -> Action:
    path, old = str(observed.path), str(observed.line)
    restart = () if observed.runs.restart is None else (observed.runs.restart,)
    call, undo = (Steps((WriteLine(path, KEY, *lines), *restart)) for lines in ((old, line), (line, old)))
    before, after = ({"storage_bytes": size_of_line(one, path)} for one in (old, line))
    identity = {"config_path": path, "url": observed.url, "restart": observed.runs.by_hand}
    return Action(target.node, KIND, why, before, after, call, undo, identity)


def _written(action: Action) -> WriteLine | None:
    calls = action.call.calls if isinstance(action.call, Steps) else ()
    return next((one for one in calls if isinstance(one, WriteLine)), None)


def _near(left: float, right: float) -> bool:
    return abs(left - right) < ROUNDING_BYTES


def _by_hand(target: Target, observed: Allocation, size: int) -> str:
    """What a person types; an environment is changed only by making the container anew, by the owner's own command."""
    runs, options = observed.runs, target.options
    if options.runtime in ("docker", "podman") and (runs.overridden or observed.path is None):
        return _made_anew(str(options.runtime), str(options.container), runs.labels or {}, size)
    path = observed.path or "config.yaml"
    restart = runs.by_hand or "restart it"
    if runs.overridden:
        return f"set {size_text(size)} there, then {restart}"
    pattern, line = _verbatim(f"{KEY}:") + ".*", f"{KEY}: {size_text(size)}"
    if observed.line is not None:
        pattern, line = _verbatim(observed.line), with_size(observed.line, size)
    return f"{_sed(pattern, line, path)} && {restart}"


def _made_anew(runtime: str, name: str, labels: Mapping[str, str], size: int) -> str:
    service, files = labels.get("com.docker.compose.service"), labels.get("com.docker.compose.project.config_paths")
    value = f"{size / 1e12:.2f}TB" if size % 10_000_000_000 == 0 else f"{size / 1e9:.2f}GB"
    if service and files:
        words = [word for file in files.split(",") for word in ("-f", file)]
        compose = shlex.join([runtime, "compose", *words, "up", "-d", "--no-deps", "-t", str(STOP_S), service])
        return f"set STORAGE={value} for {service} in {files}, then {compose}"
    stop, remove = shlex.join([runtime, "stop", "-t", str(STOP_S), name]), shlex.join([runtime, "rm", name])
    return (
        f"{stop} && {remove}, then your own {runtime} run command with -e STORAGE={value} and everything else as it is"
    )


def _sed(pattern: str, line: str, path: str) -> str:
    text = re.sub(r"([\\&|])", r"\\\1", line)
    return shlex.join(["sed", "-i", f"s|^{pattern}$|{text}|", path])


def _verbatim(line: str) -> str:
    """A pattern of ``sed`` that is this very line."""
    return re.sub(r"([\\.*^$\[\]|])", r"\\\1", line)
