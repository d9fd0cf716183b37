"""Reading ``depin-orcha/problem/1``: every fault is a ``ValueError`` that starts with its JSON path."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from .document import Field
from .nouns import (
    EVIDENCE,
    QUANTILES,
    RESOURCES,
    Choice,
    Coupling,
    DataCap,
    Fill,
    Host,
    Node,
    Risk,
    Segment,
    Series,
    Thresholds,
    mean,
)

SCHEMA = "depin-orcha/problem/1"
_ALWAYS = ("node", "uses_per_unit")
_WITHOUT_CHOICES = ("current_units", "max_units", "usd_per_unit_hour")
_NUMBERS = ("min_units", "floor_units", "step_units", "restart_loss_hours", "restart_fee_usd", "min_dwell_h")


def read_members(document: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """Return the members of the problem of a parsed document that may have the keys ``known``.

    Raises ``ValueError`` naming the JSON path of the first fault.
    """
    root = Field("$", document)
    root.check_keys(("schema", *known), ("horizon_h", "hosts"))
    if root.has("schema"):
        root.at("schema").one_of((SCHEMA,))
    members: dict[str, Any] = {"horizon_h": root.at("horizon_h").whole(1)}
    if root.has("model"):
        members["model"] = root.at("model").one_of(("default", "lp", "spec"))
    if root.has("thresholds"):
        members["thresholds"] = _thresholds(root.at("thresholds"))
    hosts = tuple(_host(item, members["horizon_h"]) for item in root.at("hosts").items())
    _refuse_twins(root.at("hosts"), "host", [host.host for host in hosts])
    _check_names(root, hosts)
    _check_scenarios(root, hosts)
    _check_groups(root, hosts)
    return members | {"hosts": hosts} | _shared(root, tuple(host.host for host in hosts))


def _shared(root: Field, names: tuple[str, ...]) -> dict[str, Any]:
    """Members that hosts share, and how the whole is judged."""
    members: dict[str, Any] = {
        "coupling": tuple(_coupling(item, names) for item in _named(root, "coupling")),
        "data_caps": tuple(_data_cap(item, names) for item in _named(root, "data_caps")),
    }
    if root.has("risk"):
        members["risk"] = _risk(root.at("risk"))
    if root.has("max_income_share"):
        members["max_income_share"] = root.at("max_income_share").above(0, 1)
    if root.has("max_watts"):
        members["max_watts"] = root.at("max_watts").number(0)
    if root.has("max_restarts_at_once"):
        members["max_restarts_at_once"] = root.at("max_restarts_at_once").whole(0)
    return members


def _refuse_twins(array: Field, key: str, names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise array.items()[index].at(key).fault(f"{name} stands twice")


def _check_names(root: Field, hosts: tuple[Host, ...]) -> None:
    """``host/node`` means one node of all hosts."""
    names = [f"{host.host}/{node.node}" for host in hosts for node in host.nodes]
    if len(set(names)) < len(names):
        twice = next(index for index, name in enumerate(names) if name in names[:index])
        raise _nodes(root, hosts)[twice][0].at("node").fault(f"{names[twice]} means two nodes")


def _check_scenarios(root: Field, hosts: tuple[Host, ...]) -> None:
    """One scenario is one future of all nodes: all have equally many, or none has any."""
    counts = [(at, len(node.scenarios or ())) for at, node in _nodes(root, hosts)]
    for at, count in counts:
        if count != counts[0][1]:
            raise at.at("scenarios").fault(f"has {count} paths, {counts[0][0].path} has {counts[0][1]}")


def _check_groups(root: Field, hosts: tuple[Host, ...]) -> None:
    """Nodes of one group share one intake, so they must state the same."""
    shared: dict[str, float] = {}
    for at, node in _nodes(root, hosts):
        if node.fill and node.fill.group is not None:
            stated = shared.setdefault(node.fill.group, node.fill.per_hour)
            if stated != node.fill.per_hour:
                message = f"{node.fill.per_hour:g} differs from the {stated:g} of group {node.fill.group}"
                raise at.at("fill").at("per_hour").fault(message)


def _nodes(root: Field, hosts: tuple[Host, ...]) -> list[tuple[Field, Node]]:
    """Every node with the place where it stands."""
    places = [place for host in root.at("hosts").items() for place in host.at("nodes").items()]
    return list(zip(places, (node for host in hosts for node in host.nodes), strict=True))


def _thresholds(field: Field) -> Thresholds:
    known = tuple(member.name for member in fields(Thresholds))
    field.check_keys(known, ())
    numbers = {key: field.at(key).number(0) for key in known[:3] if key in field.raw}
    moves = field.at("max_moves").whole(0) if field.has("max_moves") else None
    return Thresholds(**numbers, max_moves=moves)


def _risk(field: Field) -> Risk:
    field.check_keys(("lambda", "alpha"), ("lambda",))
    weight = field.at("lambda").number(0)
    if weight > 1:
        raise field.at("lambda").fault(f"must be at most 1, not {weight:g}")
    if not field.has("alpha"):
        return Risk(weight)
    alpha = field.at("alpha").above(0, 1)
    if alpha == 1:
        raise field.at("alpha").fault("must be below 1")
    return Risk(weight, alpha)


def _named(root: Field, key: str) -> list[Field]:
    """Members of an optional array of things that have a name and hosts; no name stands twice."""
    if not root.has(key):
        return []
    items = root.at(key).items()
    known = tuple(member.name for member in fields(Coupling if key == "coupling" else DataCap))
    for item in items:
        item.check_keys(known, known)
    _refuse_twins(root.at(key), "name", [item.at("name").text() for item in items])
    return items


def _linked(field: Field, names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of hosts of this document, each once."""
    found: list[str] = []
    for item in field.items():
        if item.text() not in names:
            raise item.fault(f"{item.raw} is not among the hosts")
        if item.raw in found:
            raise item.fault(f"{item.raw} stands twice")
        found.append(item.text())
    return tuple(found)


def _coupling(field: Field, names: tuple[str, ...]) -> Coupling:
    resource = field.at("resource").one_of(RESOURCES)
    return Coupling(field.at("name").text(), resource, field.at("limit").number(0), _linked(field.at("hosts"), names))


def _data_cap(field: Field, names: tuple[str, ...]) -> DataCap:
    overage = field.at("overage_usd_per_gb").number(0) if field.has("overage_usd_per_gb") else None
    hosts = _linked(field.at("hosts"), names)
    return DataCap(field.at("name").text(), hosts, field.at("allowance_bytes").number(0), overage)


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
    chosen = "choices" in field.mapping() and field.has("choices")
    field.check_keys(known, (*_ALWAYS, "current_choice") if chosen else (*_ALWAYS, *_WITHOUT_CHOICES))
    members: dict[str, Any] = {"node": field.at("node").text(), "uses_per_unit": _uses(field, capacity)}
    for key in ("current_units", "hours_since_change", "traffic_bytes_per_unit_hour", "watts_per_unit"):
        members[key] = field.at(key).number(0) if field.has(key) else None
    for key in ("max_units", *_NUMBERS):
        if key in field.raw:
            members[key] = field.at(key).number(0)
    for key in ("usd_per_unit_hour", "running_usd_per_unit_hour"):
        if key in field.raw:
            members[key] = field.at(key).series(horizon_h)
    for key in ("integer", "on_off", "frozen"):
        if key in field.raw:
            members[key] = field.at(key).flag()
    members |= _choices(field, horizon_h, members)
    if not chosen and members.get("min_units", 0.0) > members["max_units"]:
        raise field.at("min_units").fault(f"{members['min_units']:g} is above max_units {members['max_units']:g}")
    return Node(**members, **_node_nouns(field, horizon_h, disks))


def _choices(field: Field, horizon_h: int, members: dict[str, Any]) -> dict[str, Any]:
    """Choices, the one in force, and what follows from them for the grant in force, the largest and the price."""
    if not field.has("choices"):
        if field.has("current_choice"):
            raise field.at("current_choice").fault("needs choices")
        return {}
    for key in ("segments", "fill"):
        if field.has(key):
            raise field.at(key).fault("cannot stand beside choices")
    items = field.at("choices").items()
    if not items:
        raise field.at("choices").fault("must have at least one")
    choices = tuple(_choice(item, horizon_h) for item in items)
    _refuse_twins(field.at("choices"), "name", [choice.name for choice in choices])
    current = field.at("current_choice").text() if field.has("current_choice") else None
    units = {choice.name: choice.units for choice in choices}
    if current is not None and current not in units:
        raise field.at("current_choice").fault(f"{current} is not among the choices ({', '.join(units)})")
    in_force = units[current] if current is not None else None
    if members["current_units"] not in (None, in_force):
        raise field.at("current_units").fault("must be the units of current_choice, or absent")
    top = members.get("max_units", max(units.values()))
    best = max(choices, key=lambda choice: mean(choice.usd_per_hour))
    return {
        "choices": choices,
        "current_choice": current,
        "current_units": in_force,
        "max_units": top,
        "usd_per_unit_hour": _per_unit(best.usd_per_hour, top),
    }


def _per_unit(usd_per_hour: Series, units: float) -> Series:
    if isinstance(usd_per_hour, tuple):
        return tuple(each / (units or 1.0) for each in usd_per_hour)
    return usd_per_hour / (units or 1.0)


def _choice(field: Field, horizon_h: int) -> Choice:
    known = tuple(member.name for member in fields(Choice))
    field.check_keys(known, known[:3])
    running = field.at("running_usd_per_hour").series(horizon_h) if field.has("running_usd_per_hour") else 0.0
    usd_per_hour = field.at("usd_per_hour").series(horizon_h)
    return Choice(field.at("name").text(), field.at("units").number(0), usd_per_hour, running)


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
    if field.has("fill"):
        members["fill"] = _fill(field.at("fill"))
    if field.has("usd_per_unit_hour_quantiles"):
        members["usd_per_unit_hour_quantiles"] = _quantiles(field.at("usd_per_unit_hour_quantiles"), horizon_h)
    if field.has("scenarios"):
        members["scenarios"] = _scenarios(field, horizon_h)
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


def _fill(field: Field) -> Fill:
    known = tuple(member.name for member in fields(Fill))
    field.check_keys(known, known[:2])
    numbers = {key: field.at(key).number(0) for key in known[:4] if key in field.raw}
    if numbers.get("delete_per_hour", 0.0) > 1:
        raise field.at("delete_per_hour").fault("is a part of what is stored, so at most 1")
    return Fill(**numbers, group=field.at("group").text() if field.has("group") else None)


def _quantiles(field: Field, horizon_h: int) -> dict[str, Series]:
    field.check_keys(QUANTILES, ())
    return {key: value.series(horizon_h) for key, value in field.mapping().items()}


def _scenarios(field: Field, horizon_h: int) -> tuple[tuple[float, ...], ...] | None:
    """Price paths, one number per hour each; no path at all is the same as no scenarios."""
    at = field.at("scenarios")
    paths = tuple(item.hourly(horizon_h) for item in at.items())
    prices = [price for path in paths for price in path]
    if field.has("choices") and any(prices) and sum(prices) <= 0:
        raise at.fault("beside choices must have a mean above 0: they are read relative to it")
    return paths or None
