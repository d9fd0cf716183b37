"""From a problem to a proposal: solve it, take out what is not sure enough, and say why in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .economics import Gate, NodeFacts, kept_because, left_out_because, must_move, short_of, uses_while_held
from .economics.offers import Offer

Data = dict[str, Any]

_EXPLAINED_NODES = 8


def propose(document: Data, facts: Sequence[NodeFacts], gate: Gate) -> tuple[Data, Data]:
    """The result of the problem, and the problem as it was solved in the end.

    Nodes whose grant breaks a limit are brought inside it, whatever that costs; one without a lever, which stands in
    the problem with what its owner asks for, is not decided, only told as a move. Of the other moves only those stay
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
    sifted = _sift(document, by_name, gate, frozenset(over))
    data = _solved(sifted.document, explain=_is_small(sifted.document))
    if present is not None:
        _tell_what_was_forced(data, present, forced)
    _bring_about(data, by_name, document["horizon_h"])
    _explain(data, sifted, by_name, gate)
    return data, sifted.document


@dataclass(slots=True)
class _Sifted:
    """What is left of a problem once every move in its plan is sure enough and can be carried out.

    ``rejected``: node -> why its best move is not sure enough. ``by_hand``: node -> the sure offer that only the
    operator can set. ``best``: host -> the best plan that was rejected.
    """

    document: Data
    rejected: dict[str, str] = field(default_factory=dict[str, str])
    by_hand: dict[str, Offer] = field(default_factory=dict[str, Offer])
    best: dict[str, Data] = field(default_factory=dict[str, Data])


def _sift(document: Data, facts: Mapping[str, NodeFacts], gate: Gate, over: frozenset[str]) -> _Sifted:
    """Solve again and again, without the moves that are not sure enough or nobody but the operator can make."""
    sifted = _Sifted(document)
    while True:
        data = _solved(sifted.document, explain=False)
        dropped: dict[str, set[str | None]] = {}
        for host in data["hosts"]:
            unsure: dict[str, str] = {}
            for node in host["nodes"]:
                one, choice = facts[node["node"]], node["choice"]
                if not node["changed"] or one.name in over:
                    continue
                reason = short_of(one, gate, node["units"], choice)
                offer = one.offers.named(choice) if one.offers and choice else None
                if reason is not None:
                    unsure[one.name] = reason
                    dropped[one.name] = {choice}
                elif one.offers and offer is not None and offer.command:
                    sifted.by_hand.setdefault(one.name, offer)
                    dropped[one.name] = {other.name for other in one.offers.offers if other.command}
            if unsure:
                sifted.rejected |= {name: why for name, why in unsure.items() if name not in sifted.rejected}
                sifted.best.setdefault(host["host"], _rejected_plan(host, unsure))
        if not dropped:
            return sifted
        sifted.document = _changed_nodes(sifted.document, partial(_without, dropped=dropped, facts=facts))


def _without(node: Data, *, dropped: Mapping[str, set[str | None]], facts: Mapping[str, NodeFacts]) -> Data:
    """A node without some of its offers, or at rest where it has none."""
    names = dropped.get(node["node"])
    if names is None:
        return {}
    if "choices" in node:
        return {"choices": [one for one in node["choices"] if one["name"] not in names]}
    return {"frozen": True, "uses_per_unit": uses_while_held(facts[node["node"]])}


def _rejected_plan(host: Data, unsure: Mapping[str, str]) -> Data:
    return {
        "value": host["value"],
        "units": {node["node"]: node["units"] for node in host["nodes"]},
        "choices": {node["node"]: node["choice"] for node in host["nodes"] if node["choice"] is not None},
        "short_of": [f"{name}: {reason}" for name, reason in unsure.items()],
    }


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


def _bring_about(data: Data, facts: Mapping[str, NodeFacts], horizon_h: int) -> None:
    """Tell what the owner asks for of nodes without a lever as moves; no threshold and no gate holds them back."""
    for host in data["hosts"]:
        if host["status"] == "failed":
            continue
        due = [(node, facts[node["node"]]) for node in host["nodes"]]
        due = [(node, one) for node, one in due if one.wish is not None and one.wish.units is not None]
        for node, one in due:
            old = one.current_units or 0.0
            node |= {"previous_units": old, "changed": True, "flips_at_usd_per_unit_hour": None}
            node["reason"] = f"{old:g} -> {node['units']:g} units: {one.wish.reason if one.wish else ''}"
            lost = one.restart_loss_hours * (one.usd_per_hour_forecast or 0.0)
            host["value"]["restart_loss_usd"] += lost
            host["value"]["net_benefit_usd_per_hour"] -= lost / horizon_h
        if due and host["decision"] == "hold":
            host |= {"decision": "apply", "reason": "; ".join(f"{one.name}: {node['reason']}" for node, one in due)}
            host["status"] = "optimal" if host["status"] == "held" else host["status"]
            data["decision"] = "apply"


def _explain(data: Data, sifted: _Sifted, facts: Mapping[str, NodeFacts], gate: Gate) -> None:
    """Say of every node that was left alone by the gate why it was, and of the plan what it comes down to."""
    capacity = {host["host"]: host["capacity"] for host in sifted.document["hosts"]}
    left_out = {one.name: reason for one in facts.values() if (reason := left_out_because(one)) is not None}
    for host in data["hosts"]:
        host["advice"] += [
            {"kind": "left_out", "node": name, "units": None, "text": f"{name} is in no plan: {reason}"}
            for name, reason in left_out.items()
            if facts[name].host == host["host"]
        ]
        for node in host["nodes"]:
            one = facts[node["node"]]
            kept = (
                sifted.rejected.get(one.name) or kept_because(one, gate, capacity[host["host"]]) or _unknown(one, node)
            )
            if kept and not node["changed"]:
                node["reason"] = kept
                node["evidence"] = _known(one) if one.lever else node["evidence"]
            if one.wish is not None and not node["changed"]:
                text = f"{one.name}: {one.wish.reason}"
                host["advice"].append({"kind": "bound", "node": one.name, "units": one.wish.bound, "text": text})
            if one.name in sifted.by_hand:
                host["advice"].append(_by_hand(one, sifted.by_hand[one.name]))
        reasons = dict.fromkeys(f"{node['node']}: {node['reason']}" for node in host["nodes"] if not node["changed"])
        best = sifted.best.get(host["host"])
        if host["decision"] == "hold" and host["nodes"]:
            if best is not None:
                host |= {"status": "held", "runner_up": best}
            host["reason"] = "; ".join(reasons)
    data["reason"] = _summary(data, facts)
    if data["decision"] == "hold" and sifted.rejected:
        data["status"] = "held"


def _known(one: NodeFacts) -> str:
    return one.curve.evidence if one.offers is None else one.offers.evidence


def _unknown(one: NodeFacts, node: Data) -> str | None:
    """Why nobody knows whether another grant would be better; None where it is known."""
    if not one.lever or node["evidence"] != "none":
        return None
    if one.offers is None:
        return f"what another grant would earn is not measured: {one.curve.reason}"
    return f"which of the {len(one.offers.offers)} offers earns most is not measured: what differs may be chance"


def _by_hand(node: NodeFacts, offer: Offer) -> Data:
    """What a plan cannot carry out is told with what it is worth and the command for it."""
    gain = node.offers.gain(offer.name) if node.offers else None
    day = None if gain is None else gain.times(24)
    worth = "" if day is None else f" would bring {day.mean:+.2f} USD a day, at least {day.lo80:+.2f}"
    power = "" if offer.running_usd_per_hour is not None else ", before power"
    text = f"{node.name}: {offer.name}{worth}{power}; no plan sets that, you can: {offer.command}"
    return {"kind": "by_hand", "node": node.name, "units": offer.units, "text": text}


def _summary(data: Data, facts: Mapping[str, NodeFacts]) -> str:
    if not any(host["nodes"] for host in data["hosts"]):
        advice = [one["text"] for host in data["hosts"] for one in host["advice"]]
        return "; ".join(advice) or "no node has told yet what it is granted: collect first"
    if data["decision"] == "hold":
        held = [f"{host['host']}: {host['reason']}" for host in data["hosts"] if host["nodes"]]
        hand = [one["text"] for host in data["hosts"] for one in host["advice"] if one["kind"] == "by_hand"]
        if hand:
            return f"by hand: {'; '.join(hand)}; nothing else is worth changing: {'; '.join(held)}"
        return f"no change worth making: {'; '.join(held)}"
    applied = [host for host in data["hosts"] if host["decision"] == "apply"]
    moved = [node for host in applied for node in host["nodes"] if node["changed"]]
    moves = ", ".join(f"{one['node']} {_move(one)}" for one in moved)
    if any(facts[one["node"]].usd_per_hour_forecast is None for one in moved):
        return f"{moves}: nothing is known yet of what that is worth"
    usd_per_day = round(24 * sum(host["value"]["net_benefit_usd_per_hour"] for host in applied), 2) + 0.0
    unpriced = any(facts[one["node"]].running_usd_per_unit_hour is None for one in moved)
    after = "after restarts, before power" if unpriced else "after restarts and power"
    return f"{moves}: {usd_per_day:+.2f} USD a day {after}"


def _move(node: Data) -> str:
    if node["choice"] is not None:
        return f"{node['previous_choice'] or 'nothing'} -> {node['choice']}"
    before = "nothing" if node["previous_units"] is None else f"{node['previous_units']:g}"
    return f"{before} -> {node['units']:g} units"
