"""What is to be decided: hosts, what they can give, and what each node earns with it.

Reads and writes ``depin-orcha/problem/1``. Units of every number are in its name; a "unit" is one unit of
activity of that node, and ``uses_per_unit`` says what it takes of each resource.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import Any

from depin_orcha.types import Resource

from .document import Field

SCHEMA = "depin-orcha/problem/1"
EVIDENCE = ("contract", "measured", "prior", "none")
RESOURCES = tuple(str(resource) for resource in Resource)
QUANTILES = ("0.1", "0.5", "0.9")

Series = float | tuple[float, ...]
"""One value for the whole horizon, or one per hour of it."""

_TOP_KEYS = ("schema", "horizon_h", "model", "thresholds", "hosts")
_TOP_UNSUPPORTED = ("risk", "max_income_share", "max_watts", "max_restarts_at_once", "coupling", "data_caps")
_NODE_REQUIRED = ("node", "uses_per_unit", "current_units", "max_units", "usd_per_unit_hour")
_NUMBERS = ("min_units", "floor_units", "step_units", "restart_loss_hours", "restart_fee_usd", "min_dwell_h")
_NODE_UNSUPPORTED = ("choices", "current_choice", "fill", "scenarios")


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the earnings curve: ``relative`` times the price of segment 1, for ``width_units``."""

    width_units: float
    relative: float


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a host, its grant in force and what it would earn per unit and hour.

    ``current_units`` None: nothing is granted yet. ``hours_since_change`` None: not known to have changed.
    ``segments`` empty: one, of relative 1. ``traffic_bytes_per_unit_hour``, ``watts_per_unit`` and
    ``usd_per_unit_hour_quantiles`` are carried along; no limit of this version depends on them.
    """

    node: str
    uses_per_unit: dict[str, float]
    current_units: float | None
    max_units: float
    usd_per_unit_hour: Series
    protocol: str = ""
    min_units: float = 0.0
    floor_units: float = 0.0
    step_units: float = 0.0
    integer: bool = False
    on_off: bool = False
    segments: tuple[Segment, ...] = ()
    running_usd_per_unit_hour: Series = 0.0
    restart_loss_hours: float = 0.0
    restart_fee_usd: float = 0.0
    min_dwell_h: float = 0.0
    hours_since_change: float | None = None
    frozen: bool = False
    disk: str | None = None
    evidence: str = "measured"
    traffic_bytes_per_unit_hour: float | None = None
    watts_per_unit: float | None = None
    usd_per_unit_hour_quantiles: dict[str, Series] | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One machine: ``capacity`` after the owner's reserve, bytes per mount in ``disks``, and its nodes."""

    host: str
    capacity: dict[str, float]
    disks: dict[str, float]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a plan must reach, per host, before it is applied; ``max_moves`` None: any number of nodes."""

    min_improvement_pct: float = 0.0
    min_net_benefit_usd_per_hour: float = 0.0
    ignore_change_pct: float = 0.0
    max_moves: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything that one decision depends on; equal problems give equal plans."""

    horizon_h: int
    hosts: tuple[Host, ...]
    model: str = "default"
    thresholds: Thresholds = Thresholds()

    @classmethod
    def from_dict(cls, document: Any) -> Problem:
        """Return the problem of a parsed ``depin-orcha/problem/1`` document.

        Raises ``ValueError`` that starts with the JSON path of the first fault, such as
        ``$.hosts[0].nodes[1].max_units: is required``.
        """
        root = Field("$", document)
        root.check_keys(_TOP_KEYS, ("horizon_h", "hosts"), _TOP_UNSUPPORTED)
        if root.has("schema"):
            root.at("schema").one_of((SCHEMA,))
        model = root.at("model").one_of(("default", "lp", "spec")) if root.has("model") else "default"
        if model == "lp":
            raise root.at("model").fault("lp is not supported by this version")
        horizon_h = root.at("horizon_h").whole(1)
        hosts = tuple(_host(item, horizon_h) for item in root.at("hosts").items())
        _refuse_twins(root.at("hosts"), "host", [host.host for host in hosts])
        thresholds = _thresholds(root.at("thresholds")) if root.has("thresholds") else Thresholds()
        return cls(horizon_h, hosts, model, thresholds)

    def to_dict(self) -> dict[str, Any]:
        """Return the document that ``from_dict`` reads back as an equal problem: defaults stated, no absent keys."""
        return {"schema": SCHEMA} | _plain(self)

    def sha256(self) -> str:
        """Return the fingerprint of the inputs: hex SHA-256 of the canonical JSON of ``to_dict``."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """JSON value of a noun of this module; members that are None are left out but for ``current_units``."""
    if isinstance(value, Problem | Host | Node | Segment | Thresholds):
        members = {member.name: getattr(value, member.name) for member in fields(value)}
        return {key: _plain(item) for key, item in members.items() if item is not None or key == "current_units"}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


def _refuse_twins(array: Field, key: str, names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise array.items()[index].at(key).fault(f"{name} stands twice")


def _thresholds(field: Field) -> Thresholds:
    known = tuple(member.name for member in fields(Thresholds))
    field.check_keys(known, ())
    numbers = {key: field.at(key).number(0) for key in known[:3] if key in field.raw}
    moves = field.at("max_moves").whole(0) if field.has("max_moves") else None
    return Thresholds(**numbers, max_moves=moves)


def _host(field: Field, horizon_h: int) -> Host:
    field.check_keys(("host", "capacity", "disks", "nodes"), ("host", "capacity", "nodes"))
    field.at("capacity").check_keys(RESOURCES, ())
    capacity = {key: value.number(0) for key, value in field.at("capacity").mapping().items()}
    mounts = field.at("disks").mapping() if field.has("disks") else {}
    disks = {key: value.number(0) for key, value in mounts.items()}
    nodes = tuple(_node(item, horizon_h, capacity, disks) for item in field.at("nodes").items())
    _refuse_twins(field.at("nodes"), "node", [node.node for node in nodes])
    return Host(field.at("host").text(), capacity, disks, nodes)


def _node(field: Field, horizon_h: int, capacity: dict[str, float], disks: dict[str, float]) -> Node:
    known = tuple(member.name for member in fields(Node))
    field.check_keys(known, _NODE_REQUIRED, _NODE_UNSUPPORTED)
    members: dict[str, Any] = {"node": field.at("node").text(), "uses_per_unit": _uses(field, capacity)}
    members["current_units"] = field.at("current_units").number(0) if field.has("current_units") else None
    for key in ("max_units", *_NUMBERS):
        if key in field.raw:
            members[key] = field.at(key).number(0)
    if members.get("min_units", 0.0) > members["max_units"]:
        raise field.at("min_units").fault(f"{members['min_units']:g} is above max_units {members['max_units']:g}")
    for key in ("hours_since_change", "traffic_bytes_per_unit_hour", "watts_per_unit"):
        if field.has(key):
            members[key] = field.at(key).number(0)
    for key in ("usd_per_unit_hour", "running_usd_per_unit_hour"):
        if key in field.raw:
            members[key] = field.at(key).series(horizon_h)
    for key in ("integer", "on_off", "frozen"):
        if key in field.raw:
            members[key] = field.at(key).flag()
    return Node(**members, **_node_nouns(field, horizon_h, disks))


def _node_nouns(field: Field, horizon_h: int, disks: dict[str, float]) -> dict[str, Any]:
    """Members of a node that are no plain number or flag."""
    members: dict[str, Any] = {}
    if field.raw.get("protocol", "") != "":
        members["protocol"] = field.at("protocol").text()
    if "evidence" in field.raw:
        members["evidence"] = field.at("evidence").one_of(EVIDENCE)
    if field.has("disk"):
        members["disk"] = field.at("disk").text()
        if members["disk"] not in disks:
            raise field.at("disk").fault(f"{members['disk']} is not among the disks of the host")
    if field.has("segments"):
        members["segments"] = _segments(field.at("segments"))
    if field.has("usd_per_unit_hour_quantiles"):
        members["usd_per_unit_hour_quantiles"] = _quantiles(field.at("usd_per_unit_hour_quantiles"), horizon_h)
    return members


def _uses(field: Field, capacity: dict[str, float]) -> dict[str, float]:
    """What one unit takes of each resource; what it takes must be something the host states."""
    uses = field.at("uses_per_unit")
    uses.check_keys(RESOURCES, ())
    amounts = {key: value.number(0) for key, value in uses.mapping().items()}
    for key, amount in amounts.items():
        if amount > 0 and key not in capacity:
            raise uses.at(key).fault(f"{key} is used but absent from the capacity of the host")
    return amounts


def _segments(field: Field) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for item in field.items():
        item.check_keys(("width_units", "relative"), ("width_units", "relative"))
        segment = Segment(item.at("width_units").number(0), item.at("relative").number(0))
        if segments and segment.relative > segments[-1].relative:
            raise item.at("relative").fault(f"{segment.relative:g} is above the segment before it; must not increase")
        segments.append(segment)
    return tuple(segments)


def _quantiles(field: Field, horizon_h: int) -> dict[str, Series]:
    field.check_keys(QUANTILES, ())
    return {key: value.series(horizon_h) for key, value in field.mapping().items()}
