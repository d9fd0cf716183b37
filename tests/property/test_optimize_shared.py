"""Choices, fills, shared limits and risk: what is decided is what trying everything finds."""

from __future__ import annotations

import itertools
import json
import math
from copy import deepcopy
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from depin_orcha.optimize import Plan, Problem, solve
from depin_orcha.optimize.alternatives import front, what_if

HORIZON_H = 6
Document = dict[str, Any]
Level = tuple[str | None, float]
"""A grant: the name of the choice, None without choices or before any, and its units."""
Levels = dict[tuple[str, str], Level]

money = st.integers(-5_000, 40_000).map(lambda micro: micro / 1e6)
income = st.sampled_from([0.0, 0.01, 0.02]) | money


@st.composite
def common(draw: st.DrawFn, name: str) -> Document:
    return {
        "node": name,
        "protocol": draw(st.sampled_from(["x", "y", ""])),
        "uses_per_unit": {"cpu_cores": draw(st.sampled_from([0, 1, 2])), "uplink_bps": draw(st.sampled_from([0, 1e6]))},
        "restart_loss_hours": draw(st.sampled_from([0, 0.5, 2])),
        "restart_fee_usd": draw(st.sampled_from([0, 0.001])),
        "floor_units": draw(st.sampled_from([0, 0, 0, 1])),
        "evidence": draw(st.sampled_from(["measured", "measured", "measured", "none"])),
        "frozen": draw(st.sampled_from([False, False, False, True])),
        "traffic_bytes_per_unit_hour": draw(st.sampled_from([None, 1e9])),
        "watts_per_unit": draw(st.sampled_from([None, 5])),
    }


@st.composite
def choosing(draw: st.DrawFn, name: str) -> Document:
    """A node with up to four choices."""
    count = draw(st.integers(1, 4))
    choices = [
        {
            "name": f"c{index}",
            "units": draw(st.integers(0, 4)),
            "usd_per_hour": draw(income),
            "running_usd_per_hour": draw(st.sampled_from([0, 0.004])),
        }
        for index in range(count)
    ]
    current = draw(st.none() | st.sampled_from([each["name"] for each in choices]))
    return draw(common(name)) | {"choices": choices, "current_choice": current}


@st.composite
def granted(draw: st.DrawFn, name: str) -> Document:
    """A node that is granted up to four whole units."""
    segments = [{"width_units": 2, "relative": 1}, {"width_units": 1, "relative": draw(st.sampled_from([1, 0.4]))}]
    return draw(common(name)) | {
        "current_units": draw(st.none() | st.integers(0, 4)),
        "max_units": 4,
        "integer": True,
        "usd_per_unit_hour": draw(income),
        "running_usd_per_unit_hour": draw(st.sampled_from([0, 0.004])),
        "segments": segments,
    }


@st.composite
def filling(draw: st.DrawFn, name: str, per_hour: float) -> Document:
    """A node that fills up, granted in whole units."""
    stored = draw(st.sampled_from([0, 0.5, 1, 1.9]))
    fill = {
        "stored_units": stored,
        "per_hour": per_hour,
        "delete_per_hour": draw(st.sampled_from([0, 0.01, 0.5])),
        "life_h": draw(st.sampled_from([0, 240])),
        "group": draw(st.sampled_from([None, "home", "home"])),
    }
    return draw(common(name)) | {
        "current_units": draw(st.integers(math.ceil(stored), 4)),
        "max_units": 4,
        "integer": True,
        "usd_per_unit_hour": draw(income),
        "running_usd_per_unit_hour": draw(st.sampled_from([0, 0.001])),
        "fill": fill,
    }


@st.composite
def documents(draw: st.DrawFn, *, hosts: int = 1, scenarios: bool = False) -> Document:
    """A problem of one or two hosts with two or three nodes in all, and whatever links them."""
    per_hour = draw(st.sampled_from([0.05, 0.3]))
    kinds = {"choosing": choosing, "granted": granted, "filling": lambda name: filling(name, per_hour)}
    found: list[Document] = []
    for index in range(hosts):
        wanted = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=3 if hosts == 1 else 2))
        nodes = [draw(kinds[kind](f"n{each}")) for each, kind in enumerate(wanted)]
        capacity = {"cpu_cores": draw(st.sampled_from([0, 3, 5, 9])), "uplink_bps": 1e7}
        found.append({"host": f"h{index}", "capacity": capacity, "nodes": nodes})
    document: Document = {"horizon_h": HORIZON_H, "hosts": found}
    names = [host["host"] for host in found]
    if draw(st.booleans()):
        limit = draw(st.sampled_from([2e6, 4e6]))
        document["coupling"] = [{"name": "isp", "resource": "uplink_bps", "limit": limit, "hosts": names}]
    if draw(st.booleans()):
        cap = {"name": "lte", "hosts": names, "allowance_bytes": draw(st.sampled_from([0, 1.3e10, 3e10]))}
        document["data_caps"] = [cap | {"overage_usd_per_gb": draw(st.sampled_from([None, 0.001, 0.02]))}]
    if draw(st.booleans()):
        document["max_watts"] = draw(st.sampled_from([10, 22]))
    if scenarios:
        _with_scenarios(draw, document)
    elif draw(st.sampled_from([False, False, True])):
        document["max_income_share"] = draw(st.sampled_from([0.5, 0.8]))
    return document


def _with_scenarios(draw: st.DrawFn, document: Document) -> None:
    document["risk"] = {"lambda": draw(st.sampled_from([0.3, 1])), "alpha": draw(st.sampled_from([0.5, 0.75, 0.9]))}
    count = draw(st.integers(1, 5))
    for host in document["hosts"]:
        for node in host["nodes"]:
            prices = draw(st.lists(st.integers(0, 30), min_size=count, max_size=count))
            if "choices" in node and not any(prices):
                prices[0] = 1
            node["scenarios"] = [[price / 1000] * HORIZON_H for price in prices]


# What follows restates the rules of the problem document without using the package.


def members(document: Document) -> list[tuple[str, Document]]:
    return [(host["host"], node) for host in document["hosts"] for node in host["nodes"]]


def present(node: Document) -> Level:
    if "choices" not in node:
        return None, node["current_units"] or 0.0
    units = {choice["name"]: choice["units"] for choice in node["choices"]}
    return node["current_choice"], units.get(node["current_choice"], 0.0)


def may_have(node: Document) -> list[Level]:
    """Grants that keep the rules of the node, the present one among them if it does."""
    if node["frozen"] or node["evidence"] == "none":
        return [present(node)]
    if "choices" in node:
        found = [(each["name"], each["units"]) for each in node["choices"] if each["units"] >= node["floor_units"]]
        return found + ([present(node)] if node["current_choice"] is None else [])
    least = max(node["floor_units"], node.get("fill", {}).get("stored_units", 0))
    return [(None, float(units)) for units in range(5) if units >= least]


def curve(node: Document, units: float) -> float:
    worth, left = 0.0, units
    segments = node.get("segments", [{"width_units": 99, "relative": 1}])
    for segment in segments[:-1]:
        part = min(left, segment["width_units"])
        worth, left = worth + part * segment["relative"], left - part
    return worth + left * segments[-1]["relative"]


def stored(document: Document, levels: Levels) -> dict[tuple[str, str], list[float]]:
    """Hour by hour; nodes of one group pour one intake into whoever has room, always in equal parts."""
    pools: dict[str, list[tuple[tuple[str, str], Document]]] = {}
    for host, node in members(document):
        if "fill" in node:
            key = (host, node["node"])
            pools.setdefault(node["fill"]["group"] or f"{key}", []).append((key, node))
    found: dict[tuple[str, str], list[float]] = {}
    for pool in pools.values():
        now = {key: float(node["fill"]["stored_units"]) for key, node in pool}
        found |= {key: [] for key in now}
        for _ in range(HORIZON_H):
            now = {key: min(levels[key][1], now[key] * (1 - node["fill"]["delete_per_hour"])) for key, node in pool}
            left, open_keys = pool[0][1]["fill"]["per_hour"], [key for key in now if now[key] < levels[key][1]]
            while left > 1e-15 and open_keys:
                part = min(left / len(open_keys), *(levels[key][1] - now[key] for key in open_keys))
                now |= {key: now[key] + part for key in open_keys}
                left -= part * len(open_keys)
                open_keys = [key for key in open_keys if levels[key][1] - now[key] > 1e-12]
            for key, units in now.items():
                found[key].append(units)
    return found


def nets(document: Document, levels: Levels, prices: dict[tuple[str, str], float]) -> tuple[float, dict[str, float]]:
    """Net income of all nodes, and gross income by protocol, at these prices, or factors on choices."""
    paths, net, gross = stored(document, levels), 0.0, {}
    for host, node in members(document):
        key, (name, units) = (host, node["node"]), levels[host, node["node"]]
        price = prices[key]
        if "choices" in node:
            choice = next((each for each in node["choices"] if each["name"] == name), None)
            earned = price * choice["usd_per_hour"] if choice else 0.0
            cost = choice["running_usd_per_hour"] if choice else 0.0
        elif "fill" in node:
            path, fill = paths[key], node["fill"]
            earned = price * sum(path) / HORIZON_H
            earned += price * fill["life_h"] * (path[-1] - fill["stored_units"]) / HORIZON_H
            cost = node["running_usd_per_unit_hour"] * sum(path) / HORIZON_H
        else:
            earned, cost = price * curve(node, units), node["running_usd_per_unit_hour"] * units
        net += earned - cost
        gross[node["protocol"]] = gross.get(node["protocol"], 0.0) + earned
    return net, gross


def usual(document: Document) -> dict[tuple[str, str], float]:
    return {(host, node["node"]): node.get("usd_per_unit_hour", 1.0) for host, node in members(document)}


def futures(document: Document) -> list[dict[tuple[str, str], float]]:
    everyone = members(document)
    found: list[dict[tuple[str, str], float]] = []
    for index in range(len(everyone[0][1]["scenarios"])):
        prices: dict[tuple[str, str], float] = {}
        for host, node in everyone:
            means = [sum(path) / HORIZON_H for path in node["scenarios"]]
            scale = sum(means) / len(means) if "choices" in node else 1.0
            prices[host, node["node"]] = means[index] / scale
        found.append(prices)
    return found


def overage(document: Document, levels: Levels) -> float:
    cost = 0.0
    for cap in document.get("data_caps", []):
        over = max(0.0, traffic(document, levels) - cap["allowance_bytes"])
        cost += (cap["overage_usd_per_gb"] or 0.0) * over / 1e9 / HORIZON_H
    return cost


def traffic(document: Document, levels: Levels) -> float:
    return total(document, levels, lambda node: (node["traffic_bytes_per_unit_hour"] or 0) * HORIZON_H)


def total(document: Document, levels: Levels, per_unit: Any, host: str | None = None) -> float:
    return sum(
        per_unit(node) * levels[name, node["node"]][1] for name, node in members(document) if host in (None, name)
    )


def worth(document: Document, levels: Levels) -> float:
    """Mean value, weighed with the worst scenarios."""
    mean = nets(document, levels, usual(document))[0]
    if "risk" in document:
        incomes = sorted(nets(document, levels, prices)[0] for prices in futures(document))
        mass = (1 - document["risk"]["alpha"]) * len(incomes)
        parts = [max(0.0, min(1.0, mass - index)) for index in range(len(incomes))]
        worst = sum(part * income for part, income in zip(parts, incomes, strict=True)) / mass
        mean += document["risk"]["lambda"] * (worst - mean)
    return mean - overage(document, levels)


def charges(document: Document, levels: Levels) -> float:
    found = 0.0
    for host, node in members(document):
        now = present(node)
        if levels[host, node["node"]] == now or (node.get("current_choice", now) is None or now_is_none(node)):
            continue
        if "choices" in node:
            incomes = {each["name"]: each["usd_per_hour"] for each in node["choices"]}
            lost = max(incomes[now[0]], 0.35 * max(incomes.values()))
        elif "fill" in node:
            alone = {"hosts": [{"host": host, "nodes": [node | {"fill": node["fill"] | {"group": None}}]}]}
            paths = [stored(alone, {(host, node["node"]): (None, units)}) for units in (now[1], 4.0)]
            held = [sum(path[host, node["node"]]) / HORIZON_H for path in paths]
            lost = node["usd_per_unit_hour"] * max(held[0], 0.35 * held[1])
        else:
            lost = max(
                part * node["usd_per_unit_hour"] * curve(node, units) for part, units in ((1, now[1]), (0.35, 4))
            )
        found += node["restart_loss_hours"] * max(0.0, lost) + node["restart_fee_usd"]
    return found / HORIZON_H


def now_is_none(node: Document) -> bool:
    return "choices" not in node and node["current_units"] is None


def fits(document: Document, levels: Levels) -> bool:
    for host in document["hosts"]:
        for key, capacity in host["capacity"].items():
            if (
                total(document, levels, lambda node, key=key: node["uses_per_unit"][key], host["host"])
                > capacity + 1e-9
            ):
                return False
    for row in document.get("coupling", []):
        if total(document, levels, lambda node: node["uses_per_unit"]["uplink_bps"]) > row["limit"]:
            return False
    for cap in document.get("data_caps", []):
        if cap["overage_usd_per_gb"] is None and traffic(document, levels) > cap["allowance_bytes"]:
            return False
    if total(document, levels, lambda node: node["watts_per_unit"] or 0) > document.get("max_watts", math.inf):
        return False
    gross = nets(document, levels, usual(document))[1]
    most = document.get("max_income_share", 1) * sum(gross.values())
    scale = sum(map(abs, gross.values()))
    return "max_income_share" not in document or all(
        usd <= most + 1e-6 * scale for protocol, usd in gross.items() if protocol
    )


def every_plan(document: Document) -> list[Levels]:
    keys = [(host, node["node"]) for host, node in members(document)]
    grants = itertools.product(*(may_have(node) for _, node in members(document)))
    all_levels = [dict(zip(keys, levels, strict=True)) for levels in grants]
    return [levels for levels in all_levels if fits(document, levels)]


def decided(document: Document) -> Plan:
    return solve(Problem.from_dict(document), explain=False)


def levels_of(plan: Plan) -> Levels:
    return {(host.host, node.node): (node.choice, node.units) for host in plan.hosts for node in host.nodes}


def check(document: Document) -> None:
    """The plan is as good as the best of all, keeps every rule, and is worth what it says."""
    plans, plan = every_plan(document), decided(document)
    hold = {(host, node["node"]): present(node) for host, node in members(document)}
    held = worth(document, hold)
    levels = levels_of(plan)
    benefit = worth(document, levels) - held - charges(document, levels)
    for host in plan.hosts:
        kept = {key: hold[key] for key in levels if key[0] == host.host}
        assert host.decision == "apply" or kept.items() <= levels.items()
    if len(plan.hosts) > 1 and hold not in plans:
        return  # a host that must stay beyond its limits says nothing about the other one
    assert plan.decision == "hold" or levels in plans
    if "risk" not in document:
        assert abs(sum(host.value.net_benefit_usd_per_hour for host in plan.hosts) - benefit) <= 1e-9
        assert abs(sum(host.value.current_usd_per_hour for host in plan.hosts) - held) <= 1e-9
    if not plans:
        assert plan.status == "relaxed"
        return
    best = max(worth(document, each) - charges(document, each) for each in plans) - held
    assert benefit >= -1e-9
    assert abs(benefit - max(best, 0.0)) <= 1e-8, (best, benefit)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(documents())
def test_on_one_host_the_plan_is_the_best_of_all(document: Document) -> None:
    check(document)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(documents(hosts=2))
def test_linked_hosts_are_decided_as_well_as_together(document: Document) -> None:
    check(document)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(documents(scenarios=True))
def test_with_scenarios_the_plan_is_the_best_of_all_by_its_weight(document: Document) -> None:
    check(document)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(documents(hosts=2), st.sampled_from([1e-6, 1e3]))
def test_scaling_all_money_scales_the_value_and_changes_no_grant(document: Document, factor: float) -> None:
    scaled = deepcopy(document)
    for cap in scaled.get("data_caps", []):
        cap["overage_usd_per_gb"] = cap["overage_usd_per_gb"] and cap["overage_usd_per_gb"] * factor
    for _, node in members(scaled):
        node["restart_fee_usd"] *= factor
        for key in ("usd_per_unit_hour", "running_usd_per_unit_hour"):
            if key in node:
                node[key] *= factor
        for choice in node.get("choices", []):
            choice["usd_per_hour"] *= factor
            choice["running_usd_per_hour"] *= factor
    before, after = decided(document), decided(scaled)
    sums = [sum(host.value.net_benefit_usd_per_hour for host in plan.hosts) for plan in (before, after)]
    assert abs(sums[1] / factor - sums[0]) <= 1e-8
    assert after.decision == before.decision


@settings(max_examples=30, deadline=None, derandomize=True)
@given(documents(hosts=2), st.randoms())
def test_order_and_names_change_nothing(document: Document, random: Any) -> None:
    other = deepcopy(document)
    for host in other["hosts"]:
        random.shuffle(host["nodes"])
        for node in host["nodes"]:
            node["node"] = f"z{node['node']}"
        host["host"] = f"z{host['host']}"
    random.shuffle(other["hosts"])
    for row in [*other.get("coupling", []), *other.get("data_caps", [])]:
        row["hosts"] = [f"z{name}" for name in row["hosts"]]
    before, after = decided(document), decided(other)
    worths = [sum(host.value.net_benefit_usd_per_hour for host in plan.hosts) for plan in (before, after)]
    assert abs(worths[0] - worths[1]) <= 1e-9
    assert before.decision == after.decision


@settings(max_examples=30, deadline=None, derandomize=True)
@given(documents(hosts=2), st.sampled_from(["cores", "uplink", "allowance", "watts"]))
def test_more_of_a_limit_never_lowers_what_is_gained(document: Document, what: str) -> None:
    roomy = deepcopy(document)
    if what == "cores":
        roomy["hosts"][0]["capacity"]["cpu_cores"] += 1
    elif what == "uplink" and "coupling" in roomy:
        roomy["coupling"][0]["limit"] += 1e6
    elif what == "allowance" and "data_caps" in roomy:
        roomy["data_caps"][0]["allowance_bytes"] += 6e9
    elif "max_watts" in roomy:
        roomy["max_watts"] += 5
    plans = every_plan(document)
    hold = {(host, node["node"]): present(node) for host, node in members(document)}
    assume(plans)
    values = [
        worth(roomy, levels_of(decided(each))) - charges(roomy, levels_of(decided(each))) for each in (roomy, document)
    ]
    assert values[0] >= values[1] - 1e-8
    assert values[0] >= worth(roomy, hold) - 1e-8


@settings(max_examples=20, deadline=None, derandomize=True)
@given(documents(hosts=2) | documents(scenarios=True))
def test_explaining_changes_no_decision_and_gives_plain_json(document: Document) -> None:
    problem = Problem.from_dict(document)
    explained, short = solve(problem), decided(document)
    assert levels_of(explained) == levels_of(short)
    assert [host.value for host in explained.hosts] == [host.value for host in short.hosts]
    json.dumps(explained.to_dict(), allow_nan=False)
    for host in explained.hosts:
        assert all(price.usd_per_unit_hour >= 0 for price in host.shadow_prices)
        assert all(cost.usd_per_unit_hour > 0 for cost in host.reduced_costs)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(documents(), st.integers(0, 2))
def test_beyond_the_flip_price_a_node_is_decided_otherwise(document: Document, index: int) -> None:
    nodes = document["hosts"][0]["nodes"]
    assume(index < len(nodes) and "choices" not in nodes[index])

    def way(price: float) -> int:
        changed = deepcopy(document)
        changed["hosts"][0]["nodes"][index]["usd_per_unit_hour"] = price
        plan = decided(changed).hosts[0].nodes[index]
        move = plan.units - (plan.previous_units or 0.0)
        return (move > 0) - (move < 0)

    now = nodes[index]["usd_per_unit_hour"]
    flip = solve(Problem.from_dict(document)).hosts[0].nodes[index].flips_at_usd_per_unit_hour
    if flip is not None and abs(flip - now) > 1e-7:
        assert way(flip + math.copysign(max(1e-6 * abs(flip), 1e-8), flip - now)) != way(now)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(documents(hosts=2), st.sampled_from(["watts", "moves", "share"]))
def test_a_front_keeps_its_limits_and_tighter_ones_earn_no_more(document: Document, axis: Any) -> None:
    points = front(Problem.from_dict(document), axis, 4)
    for point in points:
        assert point.used <= point.limit * (1 + 1e-5) + 1e-9
    gains = [point.net_benefit_usd_per_hour for point in points]
    assert all(after <= before + 1e-8 for before, after in itertools.pairwise(gains))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(documents(hosts=2), st.sampled_from(["cpu_cores", "uplink_bps"]))
def test_more_of_a_resource_is_never_worth_less_than_nothing(document: Document, resource: str) -> None:
    found = what_if(Problem.from_dict(document), "h0", resource, 2.0 if resource == "cpu_cores" else 2e6, 10.0)
    assert found.gain_usd_per_hour >= 0
    assert (found.payback_days is None) == (found.gain_usd_per_hour == 0)
