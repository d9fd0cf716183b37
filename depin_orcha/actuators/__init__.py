"""One module here is one back end that can set limits; this one decides which of them a node needs, and in which order.

Nothing here changes anything: reading goes through a :class:`Reader`, deciding returns ``Action`` values, and only
``depin_orcha.execute`` runs them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.types import Action, Call, HttpCall, HttpCalls, Resource, RunCommand

if TYPE_CHECKING:
    from depin_orcha.adapters import NodeOptions

DOCKER_SOCKET = "/var/run/docker.sock"

Grant = Mapping[Resource, float]
Offers = Callable[[str], Sequence[Mapping[str, Any]]]
"""Live offers of a Golem node, by node name: the members of yagna's ``/market-api/v1/offers`` as they are."""


@dataclass(frozen=True, slots=True)
class Target:
    """What applying needs of a node; ``cpu_count`` is the number of logical CPUs of its machine."""

    node: str
    options: NodeOptions
    cpu_count: int
    docker_socket: str = DOCKER_SOCKET


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
        """The content of a file of the kernel, None when there is no such file."""
        ...


class Actuator(Protocol):
    """A back end that can read and set limits; a guard of it raises ``ActuatorError`` and never bends a grant."""

    def read(self, target: Target, reader: Reader) -> Any:
        """What is configured and in force at the target now."""
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

    def settle_s(self, action: Action) -> float:
        """How long the effect of ``action`` may take to show, in seconds."""
        ...

    def advice(self, action: Action) -> str:
        """The shell command with which a person does the same."""
        ...


Actuators = Mapping[str, Actuator]


def actuators(offers: Offers | None = None) -> dict[str, Actuator]:
    """Every back end by its name, which is ``Action.kind``; without ``offers`` Golem is proven by its files only."""
    from . import docker, golem, mysterium

    return {
        docker.KIND: docker.Actuator(),
        golem.KIND: golem.Actuator(offers),
        mysterium.KIND: mysterium.Actuator(),
    }


def kinds(target: Target) -> tuple[str, ...]:
    """The back ends that set hard limits on this node: an audited node loses more by a cap than the cap earns."""
    if target.options.protocol == "mysterium":
        return ("mysterium",)
    if target.options.protocol != "golem":
        return ()
    in_container = target.options.runtime == "docker" and target.options.container is not None
    return ("golem", "docker") if in_container else ("golem",)


def observe(target: Target, reader: Reader, backends: Actuators) -> dict[str, Any]:
    """What each back end of the node reads now, by its name. Raises ``ActuatorError``."""
    return {kind: backends[kind].read(target, reader) for kind in kinds(target)}


def route(
    target: Target, observed: Mapping[str, Any], grant: Grant, why: str, backends: Actuators, *, busy: bool | None
) -> Route:
    """The actions that bring a node to ``grant``, decreases of what it offers before decreases of what it may use.

    Golem's own cap binds new agreements only, so its container keeps the larger CPU limit until the node is known
    to be idle (``busy`` False; None is unknown). Raises ``ActuatorError`` when a guard refuses the grant.
    """
    if target.options.protocol != "golem":
        return _beside_golem(target, observed, grant, why, backends)
    profile = tuple(backends["golem"].actions(target, observed["golem"], grant, why))
    if "docker" not in observed:
        return Route(profile, notes=_without_container(target))
    if not observed["docker"].running:
        return Route(profile, notes=(f"container {target.options.container} is stopped; it is limited when it runs",))
    cores = {Resource.CPU_CORES: grant[Resource.CPU_CORES]} if Resource.CPU_CORES in grant else {}
    container = tuple(backends["docker"].actions(target, observed["docker"], cores, why))
    if any(_rises(action) for action in container):
        return Route(container + profile)
    if busy is False:
        return Route(profile + container)
    doubt = "work is running" if busy else "it is not known whether work is running"
    reason = f"{doubt}: the container limit is effective from the next agreement"
    return Route(profile, tuple((action, reason) for action in container))


def release(target: Target, observed: Mapping[str, Any], done: Sequence[Action], backends: Actuators) -> list[Action]:
    """The actions that put back what stood before our first write; ``done`` are the node's actions, oldest first."""
    return [
        action
        for kind in reversed(kinds(target))
        for action in backends[kind].release(target, observed[kind], [action for action in done if action.kind == kind])
    ]


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


def refuse_overcommit(grants: Mapping[str, Grant], capacity: Grant) -> None:
    """The grants of one host (by node) fit its capacity after reserve; else ``ActuatorError`` names the resource."""
    for resource, available in capacity.items():
        asked = math.fsum(grant.get(resource, 0.0) for grant in grants.values())
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
    if "calls" in fields:
        return HttpCalls(tuple(HttpCall(**one) for one in fields["calls"]), fields["pause_s"])
    return RunCommand(tuple(fields["argv"])) if "argv" in fields else HttpCall(**fields)


def _beside_golem(target: Target, observed: Mapping[str, Any], grant: Grant, why: str, backends: Actuators) -> Route:
    protocol = target.options.protocol
    if protocol not in observed:
        return Route(notes=(f"{protocol} gets no hard limit: a starved node loses more than the cap earns",))
    actions = tuple(backends[protocol].actions(target, observed[protocol], grant, why))
    whole = observed[protocol].shaper.userspace or not actions
    return Route(actions, notes=() if whole else ("its shaper limits each connection, not the node as a whole",))


def _rises(action: Action) -> bool:
    before, after = action.before["cpu_cores"], action.after["cpu_cores"]
    return before is not None and (after is None or after > before)


def _without_container(target: Target) -> tuple[str, ...]:
    if target.options.runtime in ("none", "process"):
        return ()
    return (f"the {target.options.runtime} runtime gets no limit of its own, only Golem's profile is set",)
