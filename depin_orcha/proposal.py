"""From a problem to a proposal: solve it, take out what is not sure enough, and say why in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .economics import Gate, NodeFacts, kept_because, left_out_because, must_move, short_of, uses_while_held

Data = dict[str, Any]

_EXPLAINED_NODES = 8


def propose(document: Data, facts: Sequence[NodeFacts], gate: Gate) -> tuple[Data, Data]:
    """The result of the problem, and the problem as it was solved in the end.

    Nodes whose grant breaks a limit are brought inside it, whatever that costs. Of the other moves only those stay
    whose gain is sure enough; the rest is solved again without them.
    """
    by_name = {one.name: one for one in facts}
    forced = {
        node["node"]: reason
        for host in document["hosts"]
        for node in host["nodes"]
        if not node["frozen"] and (reason := must_move(by_name[node["node"]], host["capacity"])) is not None
    }
    over = forced.keys()
    present = _solved(document, explain=False) if forced else None
    if forced:
        tried = _solved(_without_grant(document, forced), explain=False)
        # Where no grant inside the limits earns anything, there is only the ordinary choice: less of a loss, or none.
        worth = {node["node"] for host in tried["hosts"] if host["decision"] == "apply" for node in host["nodes"]}
        forced = {name: reason for name, reason in forced.items() if name in worth}
    document = _without_grant(document, forced)
    rejected: dict[str, str] = {}
    while True:
        data = _solved(document, explain=False)
        unsure = {
            node["node"]: reason
            for host in data["hosts"]
            for node in host["nodes"]
            if node["changed"]
            and node["node"] not in over
            and (reason := short_of(by_name[node["node"]], gate, node["units"])) is not None
        }
        if not unsure:
            break
        rejected |= unsure
        document = _frozen(document, {name: by_name[name] for name in unsure})
    data = _solved(document, explain=_is_small(document))
    if present is not None:
        _tell_what_was_forced(data, present, forced)
    _explain(data, document, by_name, gate, rejected)
    return data, document


def _solved(document: Data, *, explain: bool) -> Data:
    from .optimize import Problem, solve

    return solve(Problem.from_dict(document), explain=explain).to_dict()


def _is_small(document: Data) -> bool:
    """Flip prices take a solve per node and direction: worth it up to a handful of nodes on a host."""
    return max((len(host["nodes"]) for host in document["hosts"]), default=0) <= _EXPLAINED_NODES


def _changed_nodes(document: Data, change: Callable[[Data], Data]) -> Data:
    hosts = [host | {"nodes": [node | change(node) for node in host["nodes"]]} for host in document["hosts"]]
    return document | {"hosts": hosts}


def _without_grant(document: Data, names: Mapping[str, str]) -> Data:
    """Nodes that may not stay where they are count as granted nothing yet: no threshold holds them back."""
    return _changed_nodes(document, lambda node: {"current_units": None} if node["node"] in names else {})


def _frozen(document: Data, nodes: Mapping[str, NodeFacts]) -> Data:
    def change(node: Data) -> Data:
        one = nodes.get(node["node"])
        return {"frozen": True, "uses_per_unit": uses_while_held(one)} if one else {}

    return _changed_nodes(document, change)


def _tell_what_was_forced(data: Data, present: Data, forced: Mapping[str, str]) -> None:
    """Put back what the forced nodes have now, and compare with what the host earns now."""
    before = {node["node"]: node for host in present["hosts"] for node in host["nodes"]}
    for host, host_now in zip(data["hosts"], present["hosts"], strict=True):
        for node in host["nodes"]:
            if node["node"] in forced:
                old = before[node["node"]]["previous_units"]
                node |= {"previous_units": old, "changed": node["units"] != old}
                node["reason"] = f"{old:g} -> {node['units']:g} units: {forced[node['node']]}"
        if any(node["node"] in forced for node in host["nodes"]):
            value, now = host["value"], host_now["value"]["current_usd_per_hour"]
            lost = value["gross_gain_usd_per_hour"] - value["net_benefit_usd_per_hour"]
            gain = value["new_usd_per_hour"] - now
            value |= {
                "current_usd_per_hour": now,
                "gross_gain_usd_per_hour": gain,
                "net_benefit_usd_per_hour": gain - lost,
            }


def _explain(
    data: Data, document: Data, facts: Mapping[str, NodeFacts], gate: Gate, rejected: Mapping[str, str]
) -> None:
    """Say of every node that was left alone by the gate why it was, and of the plan what it comes down to."""
    capacity = {host["host"]: host["capacity"] for host in document["hosts"]}
    left_out = {one.name: reason for one in facts.values() if (reason := left_out_because(one)) is not None}
    for host in data["hosts"]:
        host["advice"] += [
            {"kind": "left_out", "node": name, "units": None, "text": f"{name} is in no plan: {reason}"}
            for name, reason in left_out.items()
            if facts[name].host == host["host"]
        ]
        for node in host["nodes"]:
            one = facts[node["node"]]
            kept = rejected.get(one.name) or kept_because(one, gate, capacity[host["host"]])
            if kept and not node["changed"]:
                node["reason"] = kept
                node["evidence"] = one.curve.evidence if one.lever else node["evidence"]
        reasons = dict.fromkeys(f"{node['node']}: {node['reason']}" for node in host["nodes"] if not node["changed"])
        if host["decision"] == "hold" and host["nodes"]:
            if any(node["node"] in rejected for node in host["nodes"]):
                host["status"] = "held"
            host["reason"] = "; ".join(reasons)
    data["reason"] = _summary(data, facts)
    if data["decision"] == "hold" and rejected:
        data["status"] = "held"


def _summary(data: Data, facts: Mapping[str, NodeFacts]) -> str:
    if not any(host["nodes"] for host in data["hosts"]):
        advice = [one["text"] for host in data["hosts"] for one in host["advice"]]
        return "; ".join(advice) or "no node has told yet what it is granted: collect first"
    if data["decision"] == "hold":
        held = [f"{host['host']}: {host['reason']}" for host in data["hosts"] if host["nodes"]]
        return f"no change worth making: {'; '.join(held)}"
    applied = [host for host in data["hosts"] if host["decision"] == "apply"]
    moved = [node for host in applied for node in host["nodes"] if node["changed"]]
    moves = ", ".join(f"{one['node']} {_units(one['previous_units'])} -> {one['units']:g} units" for one in moved)
    if any(facts[one["node"]].usd_per_hour_forecast is None for one in moved):
        return f"{moves}: nothing is known yet of what that is worth"
    usd_per_day = round(24 * sum(host["value"]["net_benefit_usd_per_hour"] for host in applied), 2) + 0.0
    unpriced = any(facts[one["node"]].running_usd_per_unit_hour is None for one in moved)
    after = "after restarts, before power" if unpriced else "after restarts and power"
    return f"{moves}: {usd_per_day:+.2f} USD a day {after}"


def _units(units: float | None) -> str:
    return "nothing" if units is None else f"{units:g}"
