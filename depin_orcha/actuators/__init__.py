"""One module here is one back end that can set limits; this one decides which of them a node needs, and in which order.

Nothing here changes anything: reading goes through a :class:`Reader`, deciding returns ``Action`` values, and only
``depin_orcha.execute`` runs them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.types import Action, Call, Group, HttpCall, HttpCalls, Resource, RunCommand, Steps, WriteLine

if TYPE_CHECKING:
    from depin_orcha.adapters import NodeOptions

DOCKER_SOCKET = "/var/run/docker.sock"
PODMAN_SOCKET = "/run/podman/podman.sock"

Grant = Mapping[Resource, float]
_BY_PROTOCOL = {
    "golem": frozenset((Resource.CPU_CORES, Resource.MEMORY_BYTES, Resource.STORAGE_BYTES)),
    "mysterium": frozenset((Resource.UPLINK_BPS,)),
    "storj": frozenset((Resource.STORAGE_BYTES,)),
}
"""What a protocol's own back end grants; it is not even asked for the rest."""
_BY_RUNTIME = frozenset((Resource.CPU_CORES, Resource.MEMORY_BYTES))
_BY_NETWORK = frozenset((Resource.UPLINK_BPS, Resource.DOWNLINK_BPS))
_BY_UNIT = frozenset((Resource.UPLINK_BPS,))
_ON_NETWORK = ("traffic", "uplink")
Offers = Callable[[str], Sequence[Mapping[str, Any]]]
"""Live offers of a Golem node, by node name: the members of yagna's ``/market-api/v1/offers`` as they are."""


@dataclass(frozen=True, slots=True)
class Target:
    """What applying needs of a node; ``cpu_count`` is the number of logical CPUs of its machine.

    ``rested``: the presets of a Golem provider that we deactivated and have not activated since.
    """

    node: str
    options: NodeOptions
    cpu_count: int
    docker_socket: str = DOCKER_SOCKET
    podman_socket: str = PODMAN_SOCKET
    rested: tuple[str, ...] = ()

    @property
    def is_capped(self) -> bool:
        """Is it given caps, and not only weights?"""
        return self.options.protocol == "golem" or self.options.hard_caps


@dataclass(frozen=True, slots=True)
class Reading:
    """What is in force now: values that compare with ``before`` and ``after`` of an action, and where they were read.

    ``contradiction`` is not empty when another witness says that the values are not (yet) real.
    """

    values: dict[str, Any]
    evidence: str
    contradiction: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Actions to run in this order, those held back with the reason, and reasons for which there is no action."""

    actions: tuple[Action, ...] = ()
    skipped: tuple[tuple[Action, str], ...] = ()
    notes: tuple[str, ...] = field(default=())


class TargetGoneError(ActuatorError):
    """The container an action was made for does not exist (any more)."""


class Reader(Protocol):
    """The outside world as an actuator sees it: nothing here changes anything. Raises ``ActuatorError``."""

    def get(self, socket: str, path: str) -> Any:
        """The JSON answer of the engine behind a unix socket to a GET."""
        ...

    def ask(self, base_url: str, path: str) -> Any:
        """The JSON answer of a node's own interface to a GET."""
        ...

    def output(self, argv: Sequence[str]) -> str:
        """What a command that only reads prints on stdout, once it ended with 0."""
        ...

    def text(self, path: str) -> str | None:
        """The content of a text file, most often one of the kernel; None when there is no such file."""
        ...

    def free_bytes(self, path: str) -> int:
        """How much may still be written to the file system that holds ``path``."""
        ...


class Actuator(Protocol):
    """A back end that can read and set limits; a guard of it raises ``ActuatorError`` and never bends a grant."""

    def read(self, target: Target, reader: Reader) -> Any:
        """What is configured and in force at the target now; with ``made_s`` where it tells when it was made."""
        ...

    def actions(self, target: Target, observed: Any, grant: Grant, why: str) -> list[Action]:
        """What turns ``observed`` into ``grant``; empty when equal after rounding to the step of the lever."""
        ...

    def release(self, target: Target, observed: Any, done: Sequence[Action]) -> list[Action]:
        """What puts back the values before the first of our ``done`` actions (oldest first)."""
        ...

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:
        """What is in force now of what ``action`` was to set; ``since_s`` is when it was run, if that was just now."""
        ...

    def grant(self, done: Sequence[Action]) -> Grant:
        """What our ``done`` actions (oldest first) amount to; without what they left unlimited."""
        ...

    def settle_s(self, action: Action) -> float:
        """How long the effect of ``action`` may take to show, in seconds."""
        ...

    def advice(self, action: Action) -> str:
        """The shell command with which a person does the same."""
        ...


Actuators = Mapping[str, Actuator]


def actuators(offers: Offers | None = None) -> dict[str, Actuator]:
    """Every back end by its name, which is ``Action.kind``; without ``offers`` Golem is proven by its files only."""
    from . import docker, golem, mysterium, podman, process, storj, systemd, traffic, uplink

    made: dict[str, Actuator] = {golem.KIND: golem.Actuator(offers)}
    for module in (docker, mysterium, podman, process, storj, systemd, traffic, uplink):
        made[module.KIND] = module.Actuator()
    return made


def kinds(target: Target, backends: Actuators, resources: Iterable[Resource] = Resource) -> tuple[str, ...]:
    """The back ends that grant the node these resources: what it offers itself first, then what runs it."""
    protocol, runtime = target.options.protocol, target.options.runtime
    resources, own = frozenset(resources), _BY_PROTOCOL.get(protocol, frozenset())
    found: list[str] = [] if resources.isdisjoint(own) else [protocol]
    if not resources.isdisjoint(_BY_RUNTIME):
        found.append(runtime)
    if not resources.isdisjoint(_BY_NETWORK - own) and target.is_capped and runtime in ("docker", "podman"):
        found.append("traffic")
    if not resources.isdisjoint(_BY_UNIT - own) and target.is_capped and runtime == "systemd":
        found.append("uplink")
    return tuple(kind for kind in found if kind in backends)


def observe(target: Target, reader: Reader, backends: Actuators, names: Iterable[str] | None = None) -> dict[str, Any]:
    """What these back ends (all that can grant it something) read of the node now, by their names.

    Raises ``ActuatorError``.
    """
    return {kind: backends[kind].read(target, reader) for kind in (kinds(target, backends) if names is None else names)}


def route(
    target: Target, observed: Mapping[str, Any], grant: Grant, why: str, backends: Actuators, *, busy: bool | None
) -> Route:
    """The actions that bring a node to ``grant``, decreases of what it offers before decreases of what it may use.

    Golem's own cap binds new agreements only, so what runs it keeps the larger CPU limit until the node is known
    to be idle (``busy`` False; None is unknown). Raises ``ActuatorError`` when a guard refuses the grant.
    """
    if target.options.protocol != "golem" or "golem" not in observed:
        return _beside_golem(target, observed, grant, why, backends)
    runtime = target.options.runtime
    rest = {kind: one for kind, one in observed.items() if kind not in ("golem", runtime)}
    beside = _beside_golem(target, rest, grant, why, backends) if rest else Route()
    profile = (*backends["golem"].actions(target, observed["golem"], grant, why), *beside.actions)
    if runtime not in observed:
        return Route(profile, notes=(*_without_runtime(target), *beside.notes))
    if not observed[runtime].running:
        return Route(profile, notes=(f"{named(target)} is stopped; it is limited when it runs",))
    # who rests makes no new agreement, and what runs still needs what it was promised
    cores = {Resource.CPU_CORES: grant[Resource.CPU_CORES]} if grant.get(Resource.CPU_CORES) else {}
    caps = tuple(backends[runtime].actions(target, observed[runtime], cores, why))
    if any(rises(action) for action in caps):
        return Route(caps + profile, notes=beside.notes)
    if busy is False:
        return Route(profile + caps, notes=beside.notes)
    doubt = "work is running" if busy else "it is not known whether work is running"
    reason = f"{doubt}: the {runtime} limit is effective from the next agreement"
    return Route(profile, tuple((action, reason) for action in caps), beside.notes)


def named(target: Target) -> str:
    """What runs the node, in words: its container, unit or process."""
    options = target.options
    names = {"docker": options.container, "podman": options.container, "systemd": options.unit}
    name = (names | {"process": options.process}).get(options.runtime)
    word = {"docker": "container", "podman": "container", "systemd": "unit"}.get(options.runtime, options.runtime)
    return word if name is None else f"{word} {name}"


def release(target: Target, observed: Mapping[str, Any], done: Sequence[Action], backends: Actuators) -> list[Action]:
    """The actions that put back what stood before our first write; ``done`` are the node's actions, oldest first."""
    return [
        action
        for kind in reversed(tuple(observed))
        for action in backends[kind].release(target, observed[kind], [action for action in done if action.kind == kind])
    ]


def latest(done: Sequence[Action]) -> dict[str, Any]:
    """Of each value we changed: what we last made of it."""
    return {key: value for action in done for key, value in action.after.items()}


def original(done: Sequence[Action]) -> dict[str, Any]:
    """Of each value we changed and have not put back since: what the owner had before.

    A value that changed between two of our writes was changed by a person, and is the owner's from then on.
    """
    owners: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    for action in done:
        for key, value in action.before.items():
            if key not in owners or not same(ours[key], value):
                owners[key] = value
        ours.update(action.after)
    return {key: value for key, value in owners.items() if not same(ours[key], value)}


def inverse(action: Action, why: str) -> Action:
    """The action that takes ``action`` back. Raises ``ActuatorError`` when it cannot be taken back."""
    if action.undo is None:
        raise ActuatorError(FailureKind.UNSUPPORTED, f"{action.node}: this {action.kind} action cannot be taken back")
    return Action(
        action.node, action.kind, why, action.after, action.before, action.undo, action.call, dict(action.target)
    )


def is_podman(version: Mapping[str, Any]) -> bool:
    """Does an engine that answers as Docker does say in its ``/version`` that it is Podman?"""
    return any("podman" in str(part["Name"]).lower() for part in version.get("Components") or ())


def refuse_overcommit(grants: Mapping[str, Grant], capacity: Grant) -> None:
    """The grants of one host (by node) fit its capacity after reserve; else ``ActuatorError`` names the resource.

    Of what is not among its capacity it has nothing.
    """
    for resource in dict.fromkeys((*capacity, *(resource for grant in grants.values() for resource in grant))):
        available = capacity.get(resource, 0.0)
        asked = sum(grant.get(resource, 0.0) for grant in grants.values())
        if asked > available * (1 + 1e-9):
            raise ActuatorError(
                FailureKind.DATA,
                f"the grants of {', '.join(sorted(grants))} add up to {asked:g} {resource}, there are {available:g}",
                "make a new plan: depin-orcha optimize",
            )


def advice(action: Action, backends: Actuators) -> str:
    """The exact shell command with which a person does what ``action`` would do."""
    return backends[action.kind].advice(action)


def same(left: Any, right: Any) -> bool:
    """Are two values of ``before``, ``after`` or a reading equal, but for the last digits of a float?"""
    if isinstance(left, dict) and isinstance(right, dict):
        ours, theirs = cast("dict[str, Any]", left), cast("dict[str, Any]", right)
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(left, int | float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=1e-6)
    return left == right


def to_json(action: Action) -> str:
    """An action as one JSON object; :func:`from_json` gives an equal one back."""
    return json.dumps(asdict(action), sort_keys=True, allow_nan=False)


def from_json(text: str) -> Action:
    """The action that :func:`to_json` wrote. Raises ``ValueError``, ``KeyError`` or ``TypeError`` on anything else."""
    fields = json.loads(text)
    undo = fields.pop("undo")
    return Action(call=_call(fields.pop("call")), undo=None if undo is None else _call(undo), **fields)


def _call(fields: dict[str, Any]) -> Call:
    if "pause_s" in fields:
        return HttpCalls(tuple(HttpCall(**one) for one in fields["calls"]), fields["pause_s"])
    if "calls" in fields:
        return Steps(tuple(_step(one) for one in fields["calls"]))
    if "leave" in fields:
        files = tuple((name, value) for name, value in fields.pop("files"))
        return Group(files=files, **fields)
    return _step(fields)


def _step(fields: dict[str, Any]) -> RunCommand | HttpCall | WriteLine:
    if "argv" in fields:
        return RunCommand(tuple(fields["argv"]), fields.get("timeout_s"))
    return WriteLine(**fields) if "key" in fields else HttpCall(**fields)


def rises(action: Action) -> bool:
    """Does the node get more of anything by this action? No limit is more than any."""
    return _any_more(_limits(action.after), _limits(action.before))


def without_rises(route: Route, reason: str) -> Route:
    """The route without what gives the node more, which is skipped for this reason."""
    held = tuple((action, reason) for action in route.actions if rises(action))
    return replace(route, actions=tuple(one for one in route.actions if not rises(one)), skipped=route.skipped + held)


def lowers(action: Action) -> bool:
    """Does the node get less of anything by this action?"""
    return _any_more(_limits(action.before), _limits(action.after))


def _limits(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that bound something: where a limiter is there but not enabled, its figure bounds nothing."""
    is_off = values.get("enabled") is False
    return {key: None if is_off else value for key, value in values.items() if key != "enabled"}


def _any_more(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return any(_is_more(value, right[key]) for key, value in left.items() if key in right)


def _is_more(left: Any, right: Any) -> bool:
    if not isinstance(right, int | float) or same(left, right):
        return False
    return left is None or (isinstance(left, int | float) and left > right)


def _beside_golem(target: Target, observed: Mapping[str, Any], grant: Grant, why: str, backends: Actuators) -> Route:
    protocol = target.options.protocol
    actions: list[Action] = []
    notes: list[str] = []
    for kind, one in observed.items():
        wanted = _without_own(protocol, grant) if kind in _ON_NETWORK else grant
        found = backends[kind].actions(target, one, wanted, why)
        stopped = f"{named(target)} is stopped; it is limited when it runs"
        if kind in (target.options.runtime, *_ON_NETWORK) and not one.running and stopped not in notes:
            notes.append(stopped)
        if kind == target.options.runtime and found and not target.is_capped:
            notes.append(f"{protocol} gets a weight and no hard limit: a starved node loses more than the cap earns")
        if kind == "mysterium" and found and not one.shaper.userspace:
            notes.append("its shaper limits each connection, not the node as a whole")
        actions += found
        told = getattr(backends[kind], "note", None)
        notes += [note] if told is not None and (note := told(target, one, grant)) else []
    # What restarts the node comes last: it would be taken back, with one restart more, if anything after it failed.
    actions.sort(key=lambda action: isinstance(action.call, Steps))
    if not observed:
        notes.append(f"{protocol} gets neither limit nor weight: nothing that runs it can be set from here")
    return Route(tuple(actions), notes=tuple(notes))


def _without_own(protocol: str, grant: Grant) -> Grant:
    """What the protocol's own back end does not set."""
    own = _BY_PROTOCOL.get(protocol, frozenset())
    return {resource: amount for resource, amount in grant.items() if resource not in own}


def _without_runtime(target: Target) -> tuple[str, ...]:
    runtime = target.options.runtime
    if runtime == "none":
        return ()
    return (f"the {runtime} runtime gets no limit of its own, only Golem's profile is set",)
