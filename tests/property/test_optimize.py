"""Whatever the problem: the plan is the one that trying everything finds, and its prices mean what they say."""

from __future__ import annotations

import itertools
import math
from copy import deepcopy
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from depin_orcha.optimize import Problem, solve
from depin_orcha.optimize.plan import HostPlan

HORIZON_H = 12
Document = dict[str, Any]

prices = st.sampled_from([-0.01, 0.0, 0.01, 0.02]) | st.integers(-10_000, 50_000).map(lambda micro: micro / 1e6)


@st.composite
def nodes(draw: st.DrawFn, name: str, *, lots: bool) -> Document:
    """A node of up to six units; with ``lots`` it is granted in whole ones, so that all grants can be tried."""
    step, top = draw(st.sampled_from([0.5, 1.0, 2.0])), draw(st.integers(1, 6))
    whole = st.integers(0, int(top / step)).map(lambda count: count * step)
    relatives = draw(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.8]), max_size=2).map(lambda all_: sorted(all_)[::-1]))
    return {
        "node": name,
        "uses_per_unit": {
            "cpu_cores": draw(st.sampled_from([0, 0.5, 1, 2])),
            "memory_bytes": draw(st.integers(0, 3)) * 1e9,
        },
        "current_units": draw(st.none() | whole | st.integers(0, 1000 * top).map(lambda milli: milli / 1000)),
        "max_units": top,
        "min_units": draw(st.sampled_from([0, 0, 0, 1, top])),
        "floor_units": draw(st.sampled_from([0, 0, 0, 0.5, 1])),
        "step_units": step if lots else draw(st.sampled_from([0, 0, 0.5])),
        "integer": lots,
        "on_off": draw(st.booleans()),
        "usd_per_unit_hour": draw(prices),
        "running_usd_per_unit_hour": draw(st.sampled_from([0, 0.005])),
        "segments": [{"width_units": draw(st.sampled_from([1, 1.5, 2])), "relative": each} for each in [1, *relatives]],
        "restart_loss_hours": draw(st.sampled_from([0, 0.1, 1, 6])),
        "restart_fee_usd": draw(st.sampled_from([0, 0.001, 0.05])),
        "frozen": draw(st.sampled_from([False, False, False, True])),
        "evidence": draw(st.sampled_from(["measured", "measured", "contract", "prior"])),
    }


@st.composite
def documents(draw: st.DrawFn, *, lots: bool, most: int = 3) -> Document:
    """A problem of one host."""
    capacity = {
        "cpu_cores": draw(st.sampled_from([0, 3, 5, 8, 12])),
        "memory_bytes": draw(st.sampled_from([8e9, 1.6e10])),
    }
    members = [draw(nodes(f"n{index}", lots=lots)) for index in range(draw(st.integers(1, most)))]
    return {
        "horizon_h": HORIZON_H,
        "thresholds": {
            "ignore_change_pct": draw(st.sampled_from([0, 0, 30])),
            "max_moves": draw(st.sampled_from([None, None, 0, 1])),
            "min_improvement_pct": draw(st.sampled_from([0, 0, 10])),
            "min_net_benefit_usd_per_hour": draw(st.sampled_from([0, 0, 0.01])),
        },
        "hosts": [{"host": "box", "capacity": capacity, "nodes": members}],
    }


def decided(document: Document, *, explain: bool = False) -> HostPlan:
    """The decision of the only host."""
    return solve(Problem.from_dict(document), explain=explain).hosts[0]


# What follows restates the rules of the problem document without using the package.


def base_of(node: Document) -> float:
    return node["current_units"] or 0.0


def net(node: Document, units: float) -> float:
    worth, left = 0.0, units
    for segment in node["segments"][:-1]:
        part = min(left, segment["width_units"])
        worth, left = worth + part * segment["relative"], left - part
    gross = worth + left * node["segments"][-1]["relative"]
    return node["usd_per_unit_hour"] * gross - node["running_usd_per_unit_hour"] * units


def restart_usd(node: Document) -> float:
    if node["current_units"] is None:
        return 0.0
    gross = node | {"running_usd_per_unit_hour": 0}
    income = max(net(gross, node["current_units"]), 0.35 * net(gross, node["max_units"]), 0.0)
    return node["restart_loss_hours"] * income + node["restart_fee_usd"]


def net_benefit(document: Document, units: tuple[float, ...]) -> float:
    pairs = list(zip(document["hosts"][0]["nodes"], units, strict=True))
    gain = math.fsum(net(node, grant) - net(node, base_of(node)) for node, grant in pairs)
    return gain - math.fsum(restart_usd(node) for node, grant in pairs if grant != base_of(node)) / HORIZON_H


def may_have(document: Document, node: Document, units: float) -> bool:
    base = base_of(node)
    if node["frozen"] or node["evidence"] == "prior":
        return units == base
    smallest = max(
        document["thresholds"]["ignore_change_pct"] / 100 * base, 0 if node["integer"] else node["step_units"]
    )
    if units != base and abs(units - base) < smallest - 1e-9:
        return False
    wish = node["min_units"] - 1e-9
    wished = units >= wish or (node["on_off"] and units == 0)
    return wished and node["floor_units"] - 1e-9 <= units <= node["max_units"] + 1e-9


def fits(document: Document, units: tuple[float, ...]) -> bool:
    host, most = document["hosts"][0], document["thresholds"]["max_moves"]
    moves = sum(grant != base_of(node) for node, grant in zip(host["nodes"], units, strict=True))
    return (most is None or moves <= most) and all(
        sum(node["uses_per_unit"][key] * grant for node, grant in zip(host["nodes"], units, strict=True))
        <= capacity * (1 + 1e-6)
        for key, capacity in host["capacity"].items()
    )


def passes(document: Document, benefit: float, current: float) -> bool:
    wanted = document["thresholds"]
    return (
        benefit > 1e-12
        and benefit >= wanted["min_net_benefit_usd_per_hour"] - 1e-12
        and (not current or 100 * benefit / abs(current) >= wanted["min_improvement_pct"] - 1e-9)
    )


def every_plan(document: Document) -> list[tuple[float, ...]]:
    """All grants in whole lots, or as they are, that keep every rule."""
    choices: list[list[float]] = []
    for node in document["hosts"][0]["nodes"]:
        lots = range(int(node["max_units"] / node["step_units"]) + 1)
        all_units = {lot * node["step_units"] for lot in lots} | {base_of(node)}
        choices.append([units for units in sorted(all_units) if may_have(document, node, units)])
    return [units for units in itertools.product(*choices) if fits(document, units)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(documents(lots=True))
def test_the_plan_is_the_best_of_all_plans(document: Document) -> None:
    plans = every_plan(document)
    host = decided(document)
    if not plans:
        assert host.status == "relaxed"
        return
    best = max(net_benefit(document, units) for units in plans)
    current = math.fsum(net(node, base_of(node)) for node in document["hosts"][0]["nodes"])
    assert (host.decision == "apply") == passes(document, best, current)
    if host.decision == "apply":
        assert abs(host.value.net_benefit_usd_per_hour - best) <= 1e-9
    elif best > 1e-9:
        assert host.status == "held"
        assert host.runner_up is not None
        assert abs(host.runner_up.value.net_benefit_usd_per_hour - best) <= 1e-9


@settings(max_examples=100, deadline=None, derandomize=True)
@given(documents(lots=False, most=5), st.data())
def test_what_is_applied_keeps_every_rule_and_no_other_grants_are_better(
    document: Document, data: st.DataObject
) -> None:
    members = document["hosts"][0]["nodes"]
    host = decided(document)
    units = tuple(each.units for each in host.nodes)
    value = host.value
    assert abs(value.net_benefit_usd_per_hour - net_benefit(document, units)) <= 1e-12
    if host.decision == "hold":
        assert units == tuple(base_of(node) for node in members)
        assert not any(each.changed for each in host.nodes)
    else:
        assert fits(document, units)
        for node, grant in zip(members, units, strict=True):
            lowered = node | {"min_units": 0} if host.status == "relaxed" else node
            assert may_have(document, lowered, grant)
        assert passes(document, value.net_benefit_usd_per_hour, value.current_usd_per_hour)
    other = tuple(
        data.draw(st.sampled_from([base_of(node), 0.0, node["floor_units"], node["max_units"]]) | st.floats(0, 6))
        for node in members
    )
    allowed = all(may_have(document, node, grant) for node, grant in zip(members, other, strict=True))
    if allowed and fits(document, other) and passes(document, net_benefit(document, other), value.current_usd_per_hour):
        assert host.decision == "apply"
        assert value.net_benefit_usd_per_hour >= net_benefit(document, other) * (1 - 2e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(documents(lots=True), st.integers(0, 2))
def test_beyond_the_flip_price_and_only_there_the_node_goes_another_way(document: Document, index: int) -> None:
    assume(index < len(document["hosts"][0]["nodes"]))

    def way(price: float) -> int:
        changed = deepcopy(document)
        changed["hosts"][0]["nodes"][index]["usd_per_unit_hour"] = price
        each = decided(changed).nodes[index]
        move = each.units - (each.previous_units or 0.0)
        return (move > 0) - (move < 0)

    now = document["hosts"][0]["nodes"][index]["usd_per_unit_hour"]
    flip = decided(document, explain=True).nodes[index].flips_at_usd_per_unit_hour
    if flip is None:
        assert {way(now + 1), way(now - 1)} == {way(now)}
        return
    hair = math.copysign(max(1e-6 * abs(flip), 1e-8), flip - now)
    if abs(flip - now) > 2 * abs(hair):
        assert way(flip + hair) != way(now)
        assert way(flip - hair) == way(now) == way((flip + now) / 2)
    else:
        assert {way(flip + hair), way(flip - hair)} != {way(now)}


@settings(max_examples=40, deadline=None, derandomize=True)
@given(documents(lots=False), st.sampled_from(["cpu_cores", "memory_bytes"]))
def test_a_shadow_price_is_what_a_little_more_capacity_earns(document: Document, resource: str) -> None:
    capacity = document["hosts"][0]["capacity"]
    document["thresholds"] = {}
    for node in document["hosts"][0]["nodes"]:
        # nothing but continuous grants: with lots and restarts, a little more capacity may earn nothing
        node |= {"restart_loss_hours": 0, "restart_fee_usd": 0, "step_units": 0, "on_off": False, "current_units": None}
        node |= {"evidence": "measured", "frozen": False, "usd_per_unit_hour": abs(node["usd_per_unit_hour"])}
    before = decided(document, explain=True)
    assume(before.status == "optimal")
    step = capacity[resource] * 1e-3 or 1e-3
    capacity[resource] += step
    after = decided(document)
    price = next(each.usd_per_unit_hour for each in before.shadow_prices if each.resource == resource)
    gain = after.value.new_usd_per_hour - before.value.new_usd_per_hour
    assert abs(gain - price * step) <= 1e-9 + 1e-3 * abs(gain)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(documents(lots=False), st.integers(-30, 30))
def test_the_unit_of_a_resource_does_not_matter(document: Document, power: int) -> None:
    before = decided(document)
    scaled = deepcopy(document)
    scaled["hosts"][0]["capacity"]["cpu_cores"] *= 2.0**power
    for node in scaled["hosts"][0]["nodes"]:
        node["uses_per_unit"]["cpu_cores"] *= 2.0**power
    after = decided(scaled)
    assert after.decision == before.decision
    assert abs(after.value.net_benefit_usd_per_hour - before.value.net_benefit_usd_per_hour) <= 1e-9


@settings(max_examples=60, deadline=None, derandomize=True)
@given(documents(lots=True), st.sampled_from([0.5, 1, 4]))
def test_more_capacity_never_lowers_what_is_gained(document: Document, more: float) -> None:
    roomy = deepcopy(document)
    roomy["hosts"][0]["capacity"]["cpu_cores"] += more
    before, after = decided(document), decided(roomy)
    assume(before.status == "optimal")
    assert after.value.net_benefit_usd_per_hour >= before.value.net_benefit_usd_per_hour - 1e-9


@settings(max_examples=60, deadline=None, derandomize=True)
@given(documents(lots=True), st.randoms())
def test_applied_once_a_plan_has_nothing_left_to_do(document: Document, random: Any) -> None:
    document["thresholds"] |= {"max_moves": None, "ignore_change_pct": 0}
    first = decided(document)
    for node, each in zip(document["hosts"][0]["nodes"], first.nodes, strict=True):
        node["current_units"] = each.units if each.changed else node["current_units"]
    random.shuffle(document["hosts"][0]["nodes"])
    assert decided(document).decision == "hold"
