"""How a node stands with the engine or service manager that runs it, and the call that restarts it there.

A node that a person stopped looks much like one that fell: what tells them apart is written here. In doubt it was a
person.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from .actuators import DOCKER_SOCKET, TargetGoneError, is_podman
from .adapters import NodeOptions
from .errors import ActuatorError, FailureKind
from .heal import Runner, State
from .timefmt import parse_rfc3339
from .types import HttpCall, RunCommand

_RESTARTING_POLICIES = ("always", "unless-stopped")
_NOT_TO_STOP = ("1", "10", "12", "28", "HUP", "USR1", "USR2", "WINCH", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH")
"""Signals by which a program is told something."""
_BY_SIGNAL = (130, 137, 143)
"""Exit codes of a program that SIGINT, SIGKILL or SIGTERM ended."""
_ENGINE_SLACK_S = 60
_UNIT = (
    "LoadState", "ActiveState", "SubState", "Result", "ExecMainCode", "ExecMainStatus", "InvocationID",
    "ExecMainExitTimestampMonotonic", "ActiveEnterTimestampMonotonic", "ActiveExitTimestampMonotonic",
)  # fmt: skip
_KILLED = "2"
"""``ExecMainCode`` of a process that a signal ended (CLD_KILLED)."""


class Reader(Protocol):
    """The outside world as this module sees it: nothing here changes anything. Raises ``ActuatorError``."""

    def get(self, socket: str, path: str) -> Any:
        """The JSON answer of the engine behind a unix socket to a GET."""
        ...

    def lines(self, socket: str, path: str) -> list[Any]:
        """The same of an answer of one JSON value a line."""
        ...

    def output(self, argv: Sequence[str]) -> str:
        """What a command that only reads prints on stdout, once it ended with 0."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node runs: its options, and the sockets of the engines of this machine."""

    options: NodeOptions
    docker_socket: str
    podman_socket: str

    @property
    def is_here(self) -> bool:
        """Does something on this machine run it, that can restart it?"""
        return self.options.host == "local" and self.options.runtime in ("docker", "podman", "systemd")

    @property
    def socket(self) -> str:
        """Of the engine that runs its container."""
        return self.podman_socket if self.options.runtime == "podman" else self.docker_socket


Event = Mapping[str, Any]
Events = Callable[[str, int], Iterable[Event] | None]
"""(id, since) -> what happened to a container, as the engine remembers; None of one that does not tell of stops."""


class Ours(NamedTuple):
    """A restart of ours that failed: the mark before it, and from when to when it may have stopped the node."""

    mark: str
    from_s: int
    to_s: int


def look(place: Place, reader: Reader, ours: Ours | None = None) -> Runner:
    """How the node stands now; asks by GET and by commands that only read. Raises ``ActuatorError``."""
    if not place.is_here:
        return Runner(State.UNMANAGED)
    try:
        if place.options.runtime == "systemd":
            return unit(
                _properties(reader.output(["systemctl", "show", _unit(place), f"--property={','.join(_UNIT)}"]))
            )
        name = quote(place.options.container or "", safe="")
        found = reader.get(place.socket, f"/containers/{name}/json")
        return container(found, lambda identity, since_s: _events(place.socket, identity, since_s, reader), ours)
    except TargetGoneError as error:
        return Runner(State.GONE, error.message)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ActuatorError(FailureKind.SHAPE, f"what runs it describes it in an unknown form ({error!r})") from error


def container(found: Mapping[str, Any], events: Events, ours: Ours | None = None) -> Runner:
    """A container by what its engine tells: ``found`` is its description, ``events`` what happened to it.

    Ended containers are only taken for fallen when the engine remembers that they ended, and that nobody told it to
    stop them, which Podman does not tell. An engine that restarts containers by their policy would have done so, had
    they not been stopped.
    """
    state, identity = found["State"], str(found["Id"])
    started_s, ended_s = _instant(state["StartedAt"]), _instant(state["FinishedAt"])
    status, code = str(state["Status"]), int(state["ExitCode"])
    if status == "restarting":
        how, said = State.STARTING, f"its engine restarts it, it ended with {code}"
    elif state["Running"] and status != "paused":
        how, said = State.RUNNING, "its container runs"
    elif status != "exited" or started_s is None:
        how, said = State.HELD, f"its container is {status}"
    elif ours is not None and ours.mark == state["StartedAt"] and ours.from_s <= (ended_s or 0) <= ours.to_s:
        how, said = State.CRASHED, "a restart of ours stopped it and did not start it again"
    else:
        how, said = _ended(found, events(identity, started_s))
    return Runner(how, said, started_s, ended_s, str(state["StartedAt"]), identity)


def _ended(found: Mapping[str, Any], happened: Iterable[Event] | None) -> tuple[State, str]:
    """How a container ended, and the words for it."""
    state, code = found["State"], int(found["State"]["ExitCode"])
    said = f"exit code {code}"
    if happened is None:
        return State.UNTOLD, f"{said}; Podman does not tell who stopped it"
    # The end of a restart may fall into the second of the start.
    since = _nanoseconds(str(state["StartedAt"]))
    own = [one for one in happened if int(one["timeNano"]) >= since]
    stops = [one for one in own if _tells_to_stop(one)]
    if stops:
        return State.STOPPED, f"by {_action(stops[-1])}, {said}"
    policy = str(found["HostConfig"]["RestartPolicy"]["Name"] or "no")
    if policy in _RESTARTING_POLICIES:
        return State.STOPPED, f"else its policy {policy} would have started it again, {said}"
    done = {_action(one) for one in own}
    is_oom = "oom" in done or bool(state["OOMKilled"])
    if "die" not in done or (code in _BY_SIGNAL and not is_oom):
        return State.UNTOLD, said
    return (State.CRASHED if code else State.ENDED), f"out of memory, {said}" if is_oom else said


def unit(told: Mapping[str, str]) -> Runner:
    """A unit by what ``systemctl show`` tells."""
    entered, left = int(told["ActiveEnterTimestampMonotonic"]), int(told["ActiveExitTimestampMonotonic"])
    active = told["ActiveState"]
    if told["LoadState"] != "loaded":
        how, said = (State.HELD if told["LoadState"] == "masked" else State.GONE), f"its unit is {told['LoadState']}"
    elif active in ("active", "reloading", "refreshing"):
        how, said = State.RUNNING, "its unit is active"
    elif active == "activating":
        how, said = State.STARTING, f"its unit is {told['SubState']}"
    elif active not in ("inactive", "failed") or not left:
        how, said = State.HELD, f"its unit is {active}"
    else:
        how, said = _left(told, left)
    ended_s = _since_boot(int(told["ExecMainExitTimestampMonotonic"]))
    return Runner(how, said, _since_boot(entered), ended_s, f"{told['InvocationID']} {entered}")


def _left(told: Mapping[str, str], left: int) -> tuple[State, str]:
    """How a unit came to run no more, and the words for it.

    One that is stopped leaves its active state first, and then its process ends; one that falls does it the other way
    round. systemd does not call a unit failed that was stopped while it waited for its next start.
    """
    result, code, ended = told["Result"], told["ExecMainStatus"], int(told["ExecMainExitTimestampMonotonic"])
    killed, failed = told["ExecMainCode"] == _KILLED, told["ActiveState"] == "failed"
    said = f"{result}, {'signal' if killed else 'exit code'} {code}"
    by_itself = 0 < ended <= left
    if failed and (result in ("watchdog", "oom-kill") or (by_itself and not (killed and code == "9"))):
        return State.CRASHED, said
    if not ended or (failed and by_itself):
        return State.UNTOLD, said
    return (State.ENDED if by_itself and result == "success" else State.STOPPED), said


def call(place: Place, runner: Runner, stop_s: int) -> HttpCall | RunCommand:
    """What starts a node that fell, or restarts one that runs, which has ``stop_s`` to stop in good order."""
    fallen = runner.state is State.CRASHED
    if place.options.runtime == "systemd":
        return RunCommand(("systemctl", "--no-block", "start" if fallen else "restart", _unit(place)))
    # By id: never the namesake that replaced it.
    path = f"/containers/{runner.id}/" + ("start" if fallen else f"restart?t={stop_s}")
    return HttpCall(place.socket, "POST", path, timeout_s=stop_s + _ENGINE_SLACK_S)


def by_hand(place: Place, runner: Runner, stop_s: int) -> str | None:
    """The command with which a person does the same where the node runs; None where nothing is known to run it."""
    options, fallen = place.options, runner.state is State.CRASHED
    if options.runtime == "systemd":
        return shlex.join(["systemctl", "start" if fallen else "restart", _unit(place)])
    if options.runtime not in ("docker", "podman"):
        return None
    argv = [str(options.runtime)]
    if options.runtime == "docker" and place.is_here and place.socket != DOCKER_SOCKET:
        argv += ["-H", f"unix://{place.socket}"]
    argv += ["start"] if fallen else ["restart", "-t", str(stop_s)]
    return shlex.join([*argv, str(options.container)])


def _unit(place: Place) -> str:
    return str(place.options.unit)


def _events(socket: str, identity: str, since_s: int, reader: Reader) -> list[Event] | None:
    if is_podman(reader.get(socket, "/version")):
        return None  # 4.3 has no event of a stop, and behind this interface it forgets the rest
    filters = {"type": ["container"], "container": [identity]}
    query = f"since={since_s}&until={time.time():.6f}&filters={quote(json.dumps(filters))}"
    return reader.lines(socket, f"/events?{query}")


def _action(event: Event) -> str:
    return str(event.get("Action") or "")


def _tells_to_stop(event: Event) -> bool:
    if _action(event) != "kill":
        return _action(event) == "stop"
    attributes: Event = event["Actor"].get("Attributes") or {}
    return str(attributes.get("signal")) not in _NOT_TO_STOP


def _instant(text: str) -> int | None:
    """Epoch seconds; None for the year 1, which stands for never."""
    return None if text.startswith("0001-") else parse_rfc3339(text)


def _nanoseconds(text: str) -> int:
    fraction = re.search(r"\.(\d{1,9})", text)
    return parse_rfc3339(text) * 10**9 + (int(fraction[1].ljust(9, "0")) if fraction else 0)


def _properties(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def _since_boot(monotonic_us: int) -> int | None:
    """Epoch seconds of an instant of the kernel's monotonic clock; None for 0, which stands for never."""
    return int(time.time() - time.monotonic() + monotonic_us / 1e6) if monotonic_us else None
