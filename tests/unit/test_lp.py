"""Model ``lp``: cases solved by hand, hour by hour, and what is shared between hosts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optimize_parts import decided, grants, node, solved
from scipy.optimize import linprog

from depin_orcha.optimize import Plan, Problem, solve
from depin_orcha.optimize.fleet import fleet_of
from depin_orcha.optimize.highs import Solver
from depin_orcha.optimize.lp import optimum
from depin_orcha.optimize.plan import HostPlan


def lp(*nodes: dict[str, Any], **more: Any) -> HostPlan:
    """The decision of one host."""
    return decided(*nodes, model="lp", **more)


def fleet(count: int, *, hours: int = 1, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """A problem of many hosts, with segments, lots, running costs and restarts."""
    random = np.random.default_rng(seed)
    hosts: list[dict[str, Any]] = []
    for index in range(count):
        nodes: list[dict[str, Any]] = []
        for name in "abcd":
            top, price = float(random.integers(2, 9)), random.uniform(0.002, 0.03)
            each = node(
                name,
                uses_per_unit={"cpu_cores": float(random.choice([0.5, 1, 2])), "uplink_bps": float(random.integers(3))},
                current_units=random.choice([None, 0.0, 1.0, 2.0]),
                max_units=top,
                usd_per_unit_hour=(price * random.lognormal(0, 0.3, hours)).tolist() if hours > 1 else price,
                segments=[{"width_units": top / 2, "relative": 1}, {"width_units": top / 2, "relative": 0.4}],
                running_usd_per_unit_hour=0.001,
                restart_loss_hours=float(random.choice([0, 0.1, 1])),
                watts_per_unit=1.0,
                traffic_bytes_per_unit_hour=1e6,
            )
            nodes.append(each | ({"integer": True, "step_units": 1} if random.random() < 0.4 else {}))
        capacity = {"cpu_cores": float(random.integers(4, 20)), "uplink_bps": 20.0}
        hosts.append({"host": f"h{index:03}", "capacity": capacity, "nodes": nodes})
    return {"horizon_h": max(hours, 12) if hours == 1 else hours, "model": "lp", "hosts": hosts} | changes


def plan_of(document: dict[str, Any], *, explain: bool = False) -> Plan:
    return solve(Problem.from_dict(document), explain=explain)


def total(plan: Plan, what: str) -> float:
    """What all grants take of a resource."""
    return sum(each.resources.get(what, 0.0) for host in plan.hosts for each in host.nodes)


def test_what_earns_more_gets_the_cores() -> None:
    host = lp(node("a", usd_per_unit_hour=0.02), node("b"))
    assert (host.decision, host.status, grants(host)) == ("apply", "optimal", [8.0, 0.0])
    assert host.value.gross_gain_usd_per_hour == pytest.approx(4 * 0.01, rel=1e-12)


def test_the_price_of_a_core_is_what_the_next_best_use_of_it_earns() -> None:
    first = [0.02, 0.04]  # 0.03 on average, in every hour above b
    host = lp(node("a", usd_per_unit_hour=first, max_units=6), node("b", usd_per_unit_hour=0.01), horizon_h=2)
    assert grants(host) == [6.0, 2.0]
    [price] = host.shadow_prices
    assert (price.constraint, price.usd_per_unit_hour) == ("capacity:cpu_cores", pytest.approx(0.01, rel=1e-6))


def test_segments_are_filled_in_order() -> None:
    halves = [{"width_units": 2, "relative": 1}, {"width_units": 6, "relative": 0.25}]
    host = lp(node("a", usd_per_unit_hour=0.02, segments=halves), node("b"))
    assert grants(host) == [2.0, 6.0]
    assert host.value.new_usd_per_hour == pytest.approx(2 * 0.02 + 6 * 0.01, rel=1e-12)


def test_units_are_those_of_the_first_hour() -> None:
    # a is worth more in the first of four hours only, but much more: 0.10 against 4 x 0.01 of b in all of them.
    host = lp(node("a", usd_per_unit_hour=[0.1, 0, 0, 0], current_units=0), node("b"), horizon_h=4)
    assert grants(host)[0] == 8.0
    # With the same mean but the good hour last, there is nothing to move for yet.
    late = lp(node("a", usd_per_unit_hour=[0, 0, 0, 0.1], current_units=0), node("b", current_units=8), horizon_h=4)
    assert (late.decision, grants(late)) == ("hold", [0.0, 8.0])


def test_a_move_that_the_linear_cost_underrates_is_dropped_by_the_gate() -> None:
    # One unit more of a earns 0.012 over 12 h. The programme charges half an hour of it, 0.005; the restart costs one
    # hour of seven units, 0.07. b gains 0.2 $/h with a restart of 0.08 $ and stays.
    host = lp(
        node("a", current_units=7, max_units=8, usd_per_unit_hour=0.001, restart_loss_hours=12),
        node("b", current_units=4, max_units=8, usd_per_unit_hour=0.05, restart_loss_hours=0.4),
        cores=16,
    )
    assert grants(host) == [7.0, 8.0]
    assert host.value.restart_loss_usd == pytest.approx(0.4 * 4 * 0.05, rel=1e-9)
    alone = lp(node("a", current_units=7, max_units=8, usd_per_unit_hour=0.001, restart_loss_hours=12), cores=16)
    assert (alone.decision, alone.status, grants(alone)) == ("hold", "optimal", [7.0])
    assert alone.runner_up is not None
    assert "not above 0" in alone.runner_up.short_of[0]


def test_huge_restarts_hold_and_free_ones_follow_the_price() -> None:
    pair = [node("a", usd_per_unit_hour=0.02, restart_loss_hours=1e6), node("b", restart_loss_hours=1e6)]
    assert lp(*pair).decision == "hold"
    assert grants(lp(*({**each, "restart_loss_hours": 0} for each in pair))) == [8.0, 0.0]


def test_lots_are_rounded_down_and_what_is_left_goes_to_the_largest_remainder() -> None:
    whole = {"integer": True, "step_units": 1, "current_units": 0}
    halves = [{"width_units": 2.6, "relative": 1}, {"width_units": 6, "relative": 0.1}]
    host = lp(node("a", usd_per_unit_hour=0.02, segments=halves, **whole), node("b", max_units=2.4, **whole), cores=5)
    assert grants(host) == [3.0, 2.0]


def test_floors_locks_and_dead_bands_are_kept() -> None:
    host = lp(
        node("a", floor_units=1),
        node("b", usd_per_unit_hour=0.05, frozen=True, current_units=2),
        node("c", usd_per_unit_hour=0.02, current_units=0, max_units=20),
        node("d", usd_per_unit_hour=0.03, current_units=2, max_units=2.5, step_units=1),
    )
    assert grants(host) == [1.0, 2.0, 3.0, 2.0]


def test_evidence_that_is_not_measured_gives_advice_only() -> None:
    host = lp(node("a", usd_per_unit_hour=0.02, evidence="prior"), node("b"))
    assert (host.decision, host.status, grants(host)) == ("hold", "held", [4.0, 4.0])
    assert [(each.kind, each.node, each.units) for each in host.advice] == [("evidence", "a", 8.0)]


def test_what_cannot_be_kept_is_named_as_by_the_default_model() -> None:
    nodes = [node("a", floor_units=6, current_units=6), node("b", floor_units=5, current_units=5)]
    host, usual = lp(*nodes), decided(*nodes)
    assert (host.status, host.decision) == (usual.status, usual.decision) == ("relaxed", "hold")
    assert host.relaxed == usual.relaxed != ()


@pytest.mark.parametrize("seed", range(30))
def test_one_period_without_restarts_lots_or_choices_is_the_default_model(seed: int) -> None:
    document = fleet(1, seed=seed)
    for each in document["hosts"][0]["nodes"]:
        each |= {"restart_loss_hours": 0, "integer": False, "step_units": 0}
    host, usual = plan_of(document).hosts[0], plan_of(document | {"model": "default"}).hosts[0]
    assert host.value.new_usd_per_hour == pytest.approx(usual.value.new_usd_per_hour, rel=1e-9)


def dense_optimum(document: dict[str, Any]) -> float:
    """The best worth of the programme of one host with linear costs of change, written down without the package."""
    host, hours = document["hosts"][0], document["horizon_h"]
    members = sorted(host["nodes"], key=lambda each: each["node"])
    size = len(members) * hours
    best, rows, sides = np.zeros(5 * size), [], []
    equal, equal_sides = [], []
    for at, each in enumerate(members):
        price = np.broadcast_to(each["usd_per_unit_hour"], hours)
        cost = each["restart_loss_hours"] * price.mean() / 2
        for hour in range(hours):
            col = at * hours + hour
            best[[col, size + col, 2 * size + col]] = (
                -each["running_usd_per_unit_hour"],
                price[hour],
                price[hour] * each["segments"][1]["relative"],
            )
            free = hour == 0 and each["current_units"] is None
            best[[3 * size + col, 4 * size + col]] = 0.0 if free else -cost
            split, move = np.zeros(5 * size), np.zeros(5 * size)
            split[[col, size + col, 2 * size + col]] = 1, -1, -1
            move[[col, 3 * size + col, 4 * size + col]] = 1, -1, 1
            if hour:
                move[col - 1] = -1
            equal += [split, move]
            equal_sides += [0.0, 0.0 if hour else each["current_units"] or 0.0]
    for resource, amount in host["capacity"].items():
        for hour in range(hours):
            row = np.zeros(5 * size)
            row[hour:size:hours] = [each["uses_per_unit"][resource] for each in members]
            rows.append(row / amount)
            sides.append(1.0)
    tops = np.repeat([each["max_units"] for each in members], hours)
    width = np.repeat([each["segments"][0]["width_units"] for each in members], hours)
    upper = np.concatenate([tops, width, tops, tops, tops])
    bounds = np.column_stack([np.zeros(5 * size), upper])
    options = {"dual_feasibility_tolerance": 1e-10}
    found = linprog(-best, rows, sides, equal, equal_sides, bounds, method="highs", options=options)
    assert found.status == 0
    return -found.fun / hours


@pytest.mark.parametrize("hours", [2, 6])
@pytest.mark.parametrize("seed", range(5))
def test_the_programme_is_worth_what_a_dense_one_is(seed: int, hours: int) -> None:
    document = fleet(1, hours=hours, seed=seed)
    problem = Problem.from_dict(document)
    found = optimum(fleet_of(problem, problem.hosts), Solver(2.0))
    assert found is not None
    assert found.usd_per_hour == pytest.approx(dense_optimum(document), rel=1e-9)


@pytest.mark.parametrize("hours", [1, 4])
def test_a_fleet_is_decided_as_its_hosts_are_one_by_one(hours: int) -> None:
    document = fleet(60, hours=hours, seed=5)
    plan = plan_of(document)
    for host, stated in zip(plan.hosts, document["hosts"], strict=True):
        alone = plan_of(document | {"hosts": [stated]}).hosts[0]
        assert (host.decision, host.status, host.binding) == (alone.decision, alone.status, alone.binding)
        assert grants(host) == pytest.approx(grants(alone), rel=1e-9, abs=1e-9)
        for name in ("current", "new", "gross_gain", "net_benefit"):
            both = [getattr(each.value, f"{name}_usd_per_hour") for each in (host, alone)]
            assert both[0] == pytest.approx(both[1], rel=1e-9, abs=1e-12)


LINKS = {
    "coupling": [{"name": "isp", "resource": "uplink_bps", "limit": 60.0, "hosts": [f"h{n:03}" for n in range(20)]}],
    "data_caps": [
        {
            "name": "isp",
            "hosts": [f"h{n:03}" for n in range(20)],
            "allowance_bytes": 1.2e9,
            "overage_usd_per_gb": None,
        }
    ],
    "max_watts": 110.0,
}


@pytest.mark.parametrize("hours", [1, 3])
@pytest.mark.parametrize("key", LINKS)
@pytest.mark.parametrize("at_once", [2000, 0])
def test_what_hosts_share_is_kept_by_rows_and_by_prices(
    key: str, hours: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("depin_orcha.optimize.lp.TOGETHER", at_once)
    document = fleet(20, hours=hours, seed=3)
    for host in document["hosts"]:
        for each in host["nodes"]:
            each["current_units"] = 0.0
    free, bound = plan_of(document), plan_of(document | {key: LINKS[key]})

    def taken(plan: Plan) -> float:
        units = sum(each.units for host in plan.hosts for each in host.nodes)
        every = {"coupling": total(plan, "uplink_bps"), "max_watts": units}
        return every.get(key, units * 1e6 * document["horizon_h"])

    limit = {"coupling": 60.0, "data_caps": 1.2e9 if hours == 1 else 3e8, "max_watts": 110.0}[key]
    if key == "data_caps":
        bound = plan_of(document | {key: [LINKS[key][0] | {"allowance_bytes": limit}]})
    assert taken(free) > limit * 1.1
    assert 0.85 * limit <= taken(bound) <= limit * (1 + 1e-6)
    worth = [sum(host.value.net_benefit_usd_per_hour for host in plan.hosts) for plan in (free, bound)]
    assert 0.5 * worth[0] < worth[1] < worth[0]
    assert 0 <= bound.solver.gap < 0.3


def test_the_price_of_what_is_shared_is_told_with_each_host() -> None:
    hosts = [
        {"host": name, "capacity": {"cpu_cores": 8}, "nodes": [node("a", usd_per_unit_hour=price, current_units=0)]}
        for name, price in (("x", 0.02), ("y", 0.01))
    ]
    row = {"name": "licence", "resource": "cpu_cores", "limit": 10, "hosts": ["x", "y"]}
    plan = plan_of({"horizon_h": 12, "model": "lp", "hosts": hosts, "coupling": [row]}, explain=True)
    assert [grants(host) for host in plan.hosts] == [[8.0], [2.0]]
    for host in plan.hosts:
        shared = next(each for each in host.shadow_prices if each.constraint == "coupling:licence")
        assert shared.usd_per_unit_hour == pytest.approx(0.01, rel=1e-6)


def test_only_so_many_hosts_restart_at_once_those_that_gain_most() -> None:
    document = fleet(60, seed=2)
    free = plan_of(document)
    ranked = sorted(
        (host for host in free.hosts if any(each.changed and each.previous_units is not None for each in host.nodes)),
        key=lambda host: -host.value.net_benefit_usd_per_hour,
    )
    plan = plan_of(document | {"max_restarts_at_once": 5})
    names = {host.host for host in ranked[:5]}
    restarts = {host.host for host in plan.hosts if host.decision == "apply"} & {host.host for host in ranked}
    assert restarts == names
    waiting = next(host for host in plan.hosts if host.host == ranked[5].host)
    assert waiting.status == "held"
    assert waiting.runner_up is not None
    assert "max_restarts_at_once" in waiting.runner_up.short_of[0]


def test_hosts_with_choices_and_fills_are_decided_as_by_the_default_model() -> None:
    document = fleet(3, seed=1)
    pick = [{"name": "off", "units": 0, "usd_per_hour": 0}, {"name": "on", "units": 2, "usd_per_hour": 0.5}]
    chosen = {"node": "z", "uses_per_unit": {"cpu_cores": 1}, "choices": pick, "current_choice": "off"}
    document["hosts"][1]["nodes"].append(chosen)
    plan, usual = plan_of(document), plan_of(document | {"model": "default"})
    assert plan.hosts[1].nodes == usual.hosts[1].nodes
    assert plan.hosts[1].nodes[-1].choice == "on"
    assert [host.host for host in plan.hosts] == ["h000", "h001", "h002"]


def test_noisy_prices_that_are_equal_on_average_move_nothing() -> None:
    random = np.random.default_rng(7)
    units = [4.0, 4.0]
    for _ in range(100):
        noisy = [(0.01 * random.lognormal(0, 0.05, 6)).tolist() for _ in range(2)]
        pair = [
            node(name, usd_per_unit_hour=price, current_units=now, restart_loss_hours=1, restart_fee_usd=1e-4)
            for name, price, now in zip("ab", noisy, units, strict=True)
        ]
        units = grants(decided(*pair, model="lp", horizon_h=6))
        assert units == [4.0, 4.0]


def test_equal_prices_keep_what_is_there_and_else_the_first_by_name() -> None:
    assert grants(lp(node("a"), node("b"))) == [4.0, 4.0]
    new = {"current_units": None}
    assert grants(lp(node("b", **new), node("a", **new))) == [0.0, 8.0]


def test_poor_hosts_are_decided_as_exactly_as_rich_ones() -> None:
    document = fleet(60, seed=4)
    for index, host in enumerate(document["hosts"]):
        for each in host["nodes"]:
            each["usd_per_unit_hour"] *= 1e-6 if index % 2 else 1e6
            each["running_usd_per_unit_hour"] *= 1e-6 if index % 2 else 1e6
    plan, plain = plan_of(document), plan_of(fleet(60, seed=4))
    for host, usual in zip(plan.hosts, plain.hosts, strict=True):
        assert grants(host) == pytest.approx(grants(usual), rel=1e-9)


def test_equal_problems_give_equal_plans_but_for_timings() -> None:
    first, second = (plan_of(fleet(55, hours=3, seed=9), explain=True).to_dict() for _ in range(2))
    for data in (first, second):
        del data["solver"]["build_ms"], data["solver"]["solve_ms"]
    assert first == second


def test_negative_prices_are_not_earned_by_skipping_the_first_segment() -> None:
    halves = [{"width_units": 2, "relative": 1}, {"width_units": 6, "relative": 0}]
    host = lp(node("a", usd_per_unit_hour=-0.01, segments=halves, current_units=0), node("b"))
    assert grants(host) == [0.0, 8.0]


def test_no_nodes_no_hosts() -> None:
    assert solved(model="lp").hosts[0].reason == "there is no node to decide"
    assert solve(Problem.from_dict({"horizon_h": 1, "model": "lp", "hosts": []})).decision == "hold"
