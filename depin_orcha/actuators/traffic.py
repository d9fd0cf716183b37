"""What a container sends and receives, as token buckets of the kernel on the two ends of its own link (``tc-tbf(8)``).

What it sends is held back at its own end, in its network namespace; what it receives, at the end that is the host's.
Both vanish with every start of the container, which gets a new link. Containers in the network of the host or of
another container share theirs, and are left alone, as is a queue that somebody else set up.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from depin_orcha.bounds import refused
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.types import Action, Resource, RunCommand

from . import Grant, Reader, Reading, Target, TargetGoneError, latest

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND = "traffic"
HANDLE = "da7a:"
"""By this we know our own queues."""
LEAST_BPS = 64_000
STEP = 0.01
STEP_BPS = 10_000
LATENCY = "100ms"
_LEAST_BURST_BYTES = 32 * 1024
_TICKS_PER_S = 250
"""A bucket has to hold what passes between two ticks of the kernel's timer."""
_SHARED_NETWORKS = re.compile(r"(host|none|(container|ns|slirp4netns|pasta)(:.*)?)")
_SIDES = {"uplink_bps": "inside", "downlink_bps": "outside"}


@dataclass(frozen=True, slots=True)
class Link:
    """The link of a running container: its device inside, that of the host, and the limits of ours on them."""

    pid: int
    inside: str
    outside: str
    limits: dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Traffic:
    """A container and its link; ``link`` is None while it is stopped."""

    socket: str
    name: str
    id: str
    started_at: str
    link: Link | None = field(default=None)

    @property
    def running(self) -> bool:
        return self.link is not None


class Actuator:
    """Sets one token bucket for each direction that is granted; the other stays as it is."""

    def read(self, target: Target, reader: Reader) -> Traffic:
        """The target's container and its link; asks the engine by GET, and the kernel by commands that only read."""
        options = target.options
        if options.container is None:
            raise ActuatorError(
                FailureKind.UNSUPPORTED,
                f"{target.node} runs in no container, so its traffic cannot be told from that of others",
                "limit it at your router",
            )
        socket = target.podman_socket if options.runtime == "podman" else target.docker_socket
        return _traffic(socket, options.container, reader)

    def actions(self, target: Target, observed: Traffic, grant: Grant, why: str) -> list[Action]:
        """One command for each direction that differs from the grant by a step (1 %, or 10 kbit/s where that is more).

        Refuses less than 64 kbit/s. A stopped container is left alone, as it has no link.
        """
        if observed.link is None:
            return []
        actions: list[Action] = []
        for key in _SIDES:
            if Resource(key) in grant:
                wanted = int(grant[Resource(key)]) // 1000 * 1000
                if wanted < LEAST_BPS:
                    raise refused(target.node, f"{grant[Resource(key)]:g} {key}: less than {LEAST_BPS} cuts it off")
                now = observed.link.limits[key]
                if now is None or abs(now - wanted) > max(STEP * wanted, STEP_BPS):
                    actions.append(_action(target.node, observed, observed.link, key, wanted, why))
        return actions

    def release(self, target: Target, observed: Traffic, done: Sequence[Action]) -> list[Action]:
        """Takes our queues away; there was none of anybody else's before."""
        if observed.link is None:
            return []
        ours = {key for action in done if action.target == _identity(observed) for key in action.after}
        return [
            _action(target.node, observed, observed.link, key, None, "put back what stood before depin-orcha")
            for key in _SIDES
            if key in ours and observed.link.limits[key] is not None
        ]

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:  # noqa: ARG002
        """The kernel's own rate of the direction that was to be set."""
        found = _traffic(action.target["socket"], action.target["id"], reader)
        if found.link is None or _identity(found) != action.target:
            raise TargetGoneError(FailureKind.TRANSIENT, f"container {found.name} was stopped or started meanwhile")
        (key,) = action.after
        device = getattr(found.link, _SIDES[key])
        rate = found.link.limits[key]
        said = "no queue of ours" if rate is None else f"tbf {HANDLE} rate {rate} bit/s"
        return Reading({key: rate}, f"{device} of container {found.name}, {_SIDES[key]}: {said}")

    def grant(self, done: Sequence[Action]) -> Grant:
        """The limits by their resources."""
        return {Resource(key): float(value) for key, value in latest(done).items() if value is not None}

    def settle_s(self, action: Action) -> float:  # noqa: ARG002
        """The kernel has taken it over when the command ends; a second is for a slow machine."""
        return 1.0

    def advice(self, action: Action) -> str:
        """The command, with the process of the container looked up when it is typed."""
        if not isinstance(action.call, RunCommand):
            raise TypeError(f"a traffic action runs a command, not {action.call!r}")
        argv = action.call.argv
        if argv[0] != "nsenter":
            return shlex.join(argv)
        engine = "podman" if "podman" in action.target["socket"] else "docker"
        pid = f"$({engine} inspect --format '{{{{.State.Pid}}}}' {shlex.quote(action.target['container'])})"
        return f"nsenter --net=/proc/{pid}/ns/net {shlex.join(argv[2:])}"


def _traffic(socket: str, name: str, reader: Reader) -> Traffic:
    found = reader.get(socket, f"/containers/{quote(name, safe='')}/json")
    try:
        state, network = found["State"], str(found["HostConfig"]["NetworkMode"])
        names = str(found["Name"]).removeprefix("/"), str(found["Id"]), str(state["StartedAt"])
        pid = int(state["Pid"]) if state["Running"] else 0
    except (KeyError, TypeError, ValueError) as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"the engine at {socket} describes container {name} in an unknown form ({error!r})"
        ) from error
    if not pid:
        return Traffic(socket, *names)
    if _SHARED_NETWORKS.fullmatch(network):
        raise _unsupported(names[0], f"its network is {network}, so it has no link of its own")
    return Traffic(socket, *names, _link(names[0], pid, reader))


def _link(name: str, pid: int, reader: Reader) -> Link:
    within = _within(pid)
    devices = [one for one in _json([*within, "ip", "-j", "link", "show"], reader) if one["ifname"] != "lo"]
    hosts = _json(["ip", "-j", "link", "show"], reader)
    space = _space(pid, reader)
    # Numbers of devices are counted in each network by itself: two links may have the same.
    pairs = [
        (one["ifname"], other["ifname"])
        for one in devices
        for other in hosts
        if one.get("link_index") == other["ifindex"]
        and other.get("link_index") == one["ifindex"]
        and str(other.get("link_netnsid")) == space
    ]
    if len(devices) != 1 or len(pairs) != 1:
        told = ", ".join(one["ifname"] for one in devices) or "none"
        raise _unsupported(name, f"it has no single link to this machine (devices: {told})")
    ((inside, outside),) = pairs
    limits = {
        "uplink_bps": _limit(name, [*within, "tc", "-j", "qdisc", "show", "dev", inside], reader),
        "downlink_bps": _limit(name, ["tc", "-j", "qdisc", "show", "dev", outside], reader),
    }
    return Link(pid, inside, outside, limits)


def _space(pid: int, reader: Reader) -> str:
    """The number by which this network knows that of a process; ``lsns(8)`` says "unassigned" without a link to it."""
    argv = ["lsns", "--json", "--type", "net", "--output", "NETNSID", "--task", str(pid)]
    try:
        return str(json.loads(reader.output(argv))["namespaces"][0]["netnsid"])
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"`{shlex.join(argv)}` answers in an unknown form ({error!r})"
        ) from error


def _limit(name: str, argv: Sequence[str], reader: Reader) -> int | None:
    """Our rate on a device in bits per second; ``tc`` tells bytes. What the kernel put there itself has handle 0."""
    roots = [one for one in _json(argv, reader) if one.get("root")]
    for one in roots:
        if one["handle"] == HANDLE and one["kind"] == "tbf":
            return int(one["options"]["rate"]) * 8
        if one["handle"] != "0:":
            raise ActuatorError(
                FailureKind.CONFIG,
                f"the traffic of container {name} is shaped by somebody else ({one['kind']} {one['handle']})",
                "leave it to that, or take that away first: tc qdisc del dev DEVICE root",
            )
    return None


def _json(argv: Sequence[str], reader: Reader) -> list[dict[str, Any]]:
    try:
        return json.loads(reader.output(argv) or "[]")
    except ValueError as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"`{shlex.join(argv)}` answers something that is not JSON", "iproute2 5 or later does"
        ) from error


def _within(pid: int) -> list[str]:
    return ["nsenter", f"--net=/proc/{pid}/ns/net"]


def _identity(observed: Traffic) -> dict[str, Any]:
    """With the start, which takes every limit away."""
    return {
        "socket": observed.socket,
        "container": observed.name,
        "id": observed.id,
        "started_at": observed.started_at,
    }


def _action(node: str, observed: Traffic, link: Link, key: str, bps: int | None, why: str) -> Action:
    before = link.limits[key]
    call, undo = _command(link, key, before, bps), _command(link, key, bps, before)
    return Action(node, KIND, why, {key: before}, {key: bps}, call, undo, _identity(observed))


def _command(link: Link, key: str, now: int | None, wanted: int | None) -> RunCommand:
    """What touches nothing but our own queue: it is added where there is none, and changed or deleted by its handle."""
    prefix = _within(link.pid) if _SIDES[key] == "inside" else []
    queue = ["dev", getattr(link, _SIDES[key]), "root", "handle", HANDLE]
    if wanted is None:
        return RunCommand((*prefix, "tc", "qdisc", "del", *queue))
    burst = max(_LEAST_BURST_BYTES, wanted // 8 // _TICKS_PER_S)
    bucket = ["tbf", "rate", f"{wanted}bit", "burst", str(burst), "latency", LATENCY]
    return RunCommand((*prefix, "tc", "qdisc", "add" if now is None else "change", *queue, *bucket))


def _unsupported(name: str, why: str) -> ActuatorError:
    return ActuatorError(
        FailureKind.UNSUPPORTED, f"the traffic of container {name} cannot be limited: {why}", "limit it at your router"
    )
