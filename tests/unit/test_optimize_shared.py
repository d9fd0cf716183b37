"""What hosts share, how many restart at once, and what risk changes: every value by hand."""

from typing import Any

import pytest
from optimize_parts import box, decided, grants, node, offer, planned

from depin_orcha.optimize.plan import HostPlan, Plan

LINE = {"name": "isp", "resource": "uplink_bps", "limit": 10.0, "hosts": ["x", "y"]}
ROOM = {"uplink_bps": 100.0}


def sender(name: str, **changes: Any) -> dict[str, Any]:
    return node(name, uses_per_unit={"uplink_bps": 1}, max_units=9, current_units=0) | changes


def two(x: dict[str, Any], y: dict[str, Any], **top: Any) -> Plan:
    return planned(box("x", x, **ROOM), box("y", y, **ROOM), **top)


def units(plan: Plan) -> list[float]:
    return [each.units for host in plan.hosts for each in host.nodes]


def test_hosts_share_one_line() -> None:
    plan = two(sender("a"), sender("a", usd_per_unit_hour=0.02), coupling=[LINE])
    assert units(plan) == [1.0, 9.0]
    assert [host.decision for host in plan.hosts] == ["apply", "apply"]
    assert plan.hosts[0].binding == ("coupling:isp",)
    assert plan.hosts[1].binding == ("coupling:isp", "max_units:a")
    for host, less in zip(plan.hosts, (0.01, 0.02), strict=True):
        [price] = [each for each in host.shadow_prices if each.constraint == "coupling:isp"]
        assert price.less_usd_per_unit_hour == pytest.approx(less)
    assert plan.hosts[0].shadow_prices[-1].usd_per_unit_hour == pytest.approx(0.01)


def test_without_the_line_in_common_each_takes_what_it_can() -> None:
    assert units(two(sender("a"), sender("a"), coupling=[LINE | {"hosts": ["x"], "limit": 4}])) == [4.0, 9.0]


def test_a_host_gives_way_to_another_that_gains_more() -> None:
    plan = two(sender("a", current_units=6), sender("a", current_units=4, usd_per_unit_hour=0.02), coupling=[LINE])
    assert units(plan) == [1.0, 9.0]
    values = [host.value for host in plan.hosts]
    assert [value.net_benefit_usd_per_hour for value in values] == [pytest.approx(-0.05), pytest.approx(0.10)]
    assert "makes room for nodes that earn more with coupling:isp" in plan.hosts[0].nodes[0].reason


def test_hosts_that_do_not_gain_together_stay() -> None:
    wanted = {"min_net_benefit_usd_per_hour": 0.06}
    x, y = sender("a", current_units=6), sender("a", current_units=4, usd_per_unit_hour=0.02)
    plan = two(x, y, coupling=[LINE], thresholds=wanted)
    assert (units(plan), plan.decision) == ([6.0, 4.0], "hold")


def test_each_host_passes_the_thresholds_by_itself() -> None:
    x, y = sender("a", current_units=0), sender("a", current_units=4, usd_per_unit_hour=0.02)
    plan = two(x, y, coupling=[LINE], thresholds={"min_net_benefit_usd_per_hour": 0.015})
    assert (units(plan), [host.decision for host in plan.hosts]) == ([0.0, 9.0], ["hold", "apply"])
    assert "short of min_net_benefit" in plan.hosts[0].reason


def test_minimums_that_do_not_fit_on_the_line_are_lowered_where_that_costs_least() -> None:
    x, y = sender("a", min_units=6, current_units=None), sender("a", min_units=6, usd_per_unit_hour=0.02)
    plan = two(x, y | {"current_units": None}, coupling=[LINE])
    assert (plan.status, units(plan)) == ("relaxed", [4.0, 6.0])
    assert [host.status for host in plan.hosts] == ["relaxed", "optimal"]
    [short] = plan.hosts[0].relaxed
    assert (short.row, short.host, short.node, short.asked, short.possible) == ("min_units:a", "x", "a", 6.0, 4.0)
    assert short.repair == "lower min_units of a by 2 to 4"


def test_a_line_that_is_too_small_for_what_may_not_move_is_named_with_all_it_should_be() -> None:
    plan = two(*(sender("a", current_units=6, frozen=True) for _ in "xy"), coupling=[LINE])
    assert (plan.status, plan.decision) == ("relaxed", "hold")
    for host in plan.hosts:
        [short] = host.relaxed
        assert (short.row, short.shortfall, short.repair) == ("coupling:isp", 2.0, "raise isp by 2 to 12")


def test_what_would_be_best_if_it_were_measured_is_told_of_linked_hosts_too() -> None:
    guess = sender("b", evidence="prior", usd_per_unit_hour=0.03)
    plan = planned(box("x", sender("a"), guess, **ROOM), box("y", sender("a"), **ROOM), coupling=[LINE])
    assert plan.hosts[0].decision == "apply"
    [advice] = plan.hosts[0].advice
    assert (advice.kind, advice.node) == ("evidence", "b")


def test_a_hard_data_cap_is_kept_over_the_horizon() -> None:
    cap = {"name": "lte", "hosts": ["x", "y"], "allowance_bytes": 120.0, "overage_usd_per_gb": None}
    plan = two(sender("a", traffic_bytes_per_unit_hour=2), sender("a"), data_caps=[cap])
    assert units(plan) == [5.0, 9.0]
    [price] = [each for each in plan.hosts[0].shadow_prices if each.constraint == "data_cap:lte"]
    assert (price.resource, price.usd_per_unit_hour) == ("traffic_bytes", pytest.approx(0.01 / 24))


@pytest.mark.parametrize(("price", "granted"), [(0.9, 9.0), (1.1, 5.0)])
def test_beyond_a_soft_data_cap_traffic_is_paid_for(price: float, granted: float) -> None:
    # a unit moves 0.01 GB and earns 0.01 $ an hour
    cap = {"name": "lte", "hosts": ["x"], "allowance_bytes": 6e8, "overage_usd_per_gb": price}
    plan = planned(box("x", sender("a", traffic_bytes_per_unit_hour=1e7), **ROOM), data_caps=[cap])
    assert units(plan) == [granted]
    over = max(0.0, granted - 5)
    assert plan.hosts[0].value.new_usd_per_hour == pytest.approx(0.01 * granted - over * 0.01 * price)
    assert "data_cap:lte" in plan.hosts[0].binding


def test_an_overage_is_borne_by_those_who_cause_it() -> None:
    cap = {"name": "lte", "hosts": ["x", "y"], "allowance_bytes": 0, "overage_usd_per_gb": 0.1}
    both = [sender("a", traffic_bytes_per_unit_hour=1e7 * part, current_units=2, frozen=True) for part in (1, 3)]
    plan = two(*both, data_caps=[cap])
    current = [host.value.current_usd_per_hour for host in plan.hosts]
    assert current == [pytest.approx(2 * (0.01 - 0.001)), pytest.approx(2 * (0.01 - 0.003))]


def test_an_allowance_already_used_up_stops_what_can_stop() -> None:
    cap = {"name": "lte", "hosts": ["x"], "allowance_bytes": 0, "overage_usd_per_gb": None}
    now = planned(box("x", sender("a", traffic_bytes_per_unit_hour=1, current_units=3), **ROOM), data_caps=[cap])
    assert (now.hosts[0].status, units(now)) == ("held", [3.0])
    assert "the present grants take 36 of 0 traffic_bytes" in now.hosts[0].reason
    assert [advice.kind for advice in now.hosts[0].advice] == ["over_limit"]
    later = planned(box("x", sender("a", traffic_bytes_per_unit_hour=1), **ROOM), data_caps=[cap])
    assert units(later) == [0.0]


def test_watts_of_all_hosts_stay_below_their_sum() -> None:
    plan = two(sender("a", watts_per_unit=5), sender("a", watts_per_unit=2), max_watts=23)
    assert units(plan) == [1.0, 9.0]
    assert plan.hosts[0].shadow_prices[-1].usd_per_unit_hour == pytest.approx(0.01 / 5)
    assert plan.hosts[0].shadow_prices[-1].resource == "watts"


def test_no_protocol_earns_more_than_its_part_and_what_that_costs_is_told() -> None:
    nodes = [node("a", protocol="golem", current_units=0), node("b", protocol="grass", current_units=0)]
    nodes[0]["usd_per_unit_hour"] = 0.03
    plan = planned(box("x", *nodes), max_income_share=0.6)
    # 0.03 a = 0.6 (0.03 a + 0.01 b), a + b = 8: a = 8 / 3
    assert units(plan) == [pytest.approx(8 / 3), pytest.approx(16 / 3)]
    [cost] = plan.cap_costs
    assert (cost.constraint, cost.usd_per_hour) == ("max_income_share", pytest.approx(0.24 - (0.08 + 0.16 / 3)))
    assert "income_share:golem" in plan.hosts[0].binding
    assert planned(box("x", *nodes), max_income_share=1).cap_costs == ()


def test_the_share_is_of_the_income_of_all_hosts() -> None:
    plan = two(
        sender("a", protocol="golem", usd_per_unit_hour=0.03), sender("a", protocol="grass"), max_income_share=0.5
    )
    assert units(plan) == [pytest.approx(3.0), 9.0]


def test_a_share_that_cannot_be_kept_is_named() -> None:
    plan = planned(box("x", node("a", protocol="golem", frozen=True)), max_income_share=0.5)
    assert (plan.status, plan.decision) == ("relaxed", "hold")
    [short] = plan.hosts[0].relaxed
    assert (short.row, short.unit, short.shortfall) == ("income_share:golem", "usd_per_hour", pytest.approx(0.02))


def test_as_many_hosts_restart_as_may_those_that_gain_most() -> None:
    prices = {"x": 0.01, "y": 0.03, "z": 0.02}
    hosts = [box(name, node("a", usd_per_unit_hour=price)) for name, price in prices.items()]
    plan = planned(*hosts, max_restarts_at_once=2)
    assert [host.decision for host in plan.hosts] == ["hold", "apply", "apply"]
    assert plan.hosts[0].status == "held"
    assert "as many hosts restart now as max_restarts_at_once allows" in plan.hosts[0].reason
    assert plan.hosts[0].runner_up is not None
    assert plan.hosts[0].runner_up.units == {"a": 8.0}
    assert planned(*hosts, max_restarts_at_once=0).decision == "hold"


def test_a_first_grant_is_no_restart() -> None:
    hosts = [box(name, node("a", current_units=None)) for name in "xyz"]
    assert [host.decision for host in planned(*hosts, max_restarts_at_once=0).hosts] == ["apply"] * 3


def test_a_linked_host_takes_what_a_waiting_one_leaves() -> None:
    plan = two(sender("a", usd_per_unit_hour=0.02), sender("a"), coupling=[LINE], max_restarts_at_once=1)
    assert units(plan) == [9.0, 0.0]
    plan = two(sender("a", usd_per_unit_hour=0.02), sender("a", current_units=2), coupling=[LINE | {"limit": 11}])
    assert units(plan) == [9.0, 2.0]


def fleet(count: int, **coupling: Any) -> Plan:
    hosts = [box(f"h{index:02}", *(sender(name) for name in "abcde"), **ROOM) for index in range(count)]
    line = LINE | {"hosts": [host["host"] for host in hosts]} | coupling
    return planned(*hosts, coupling=[line], explain=False)


def test_many_linked_hosts_are_decided_one_by_one_within_what_others_leave() -> None:
    small, large = fleet(12, limit=100.0), fleet(13, limit=100.0)
    assert (small.status, sum(units(small))) == ("optimal", 100.0)
    assert (large.status, sum(units(large))) == ("fallback", 100.0)


def test_what_many_hosts_share_goes_to_those_that_earn_most_with_it() -> None:
    prices = [0.01 + index / 1000 for index in range(70)]
    hosts = [box(f"h{index:02}", sender("a", usd_per_unit_hour=price), **ROOM) for index, price in enumerate(prices)]
    line = LINE | {"hosts": [host["host"] for host in hosts], "limit": 90.0}
    plan = planned(*hosts, coupling=[line], explain=False)
    assert units(plan) == [0.0] * 60 + [9.0] * 10


def test_of_three_hosts_one_may_give_while_another_does_not_gain_enough() -> None:
    line = LINE | {"hosts": ["x", "y", "z"], "limit": 10}
    hosts = [
        box("x", sender("a", current_units=9), **ROOM),
        box("y", sender("a", current_units=1, usd_per_unit_hour=0.05), **ROOM),
        box("z", sender("a", uses_per_unit={}, usd_per_unit_hour=0.001), **ROOM),
        box("w", sender("a", usd_per_unit_hour=0.0011, uses_per_unit={"uplink_bps": 0.001}), **ROOM),
    ]
    line["hosts"].append("w")
    plan = planned(*hosts, coupling=[line], thresholds={"min_net_benefit_usd_per_hour": 0.01})
    assert units(plan) == [1.0, 9.0, 0.0, 0.0]


def test_a_linked_host_beyond_its_own_limits_stays_there_while_shrinking_costs() -> None:
    beyond = box("x", sender("a", current_units=6), uplink_bps=5)
    plan = planned(beyond, box("y", sender("a", current_units=1, usd_per_unit_hour=0.05), **ROOM), coupling=[LINE])
    assert units(plan) == [1.0, 9.0]  # what x gives up, y gains
    wide = planned(beyond, box("y", sender("a", current_units=1), **ROOM), coupling=[LINE | {"limit": 15}])
    assert (units(wide), [host.decision for host in wide.hosts]) == ([6.0, 9.0], ["hold", "apply"])


def risky(steady: dict[str, Any] | None = None, **risk: float) -> HostPlan:
    """A node with a sure 0.01 $/h a unit and one with 0, 0 or 0.036, in the mean 0.012."""
    safe = node("safe", current_units=None, scenarios=[[0.01] * 12] * 3) | (steady or {})
    wild = node("wild", current_units=None, usd_per_unit_hour=0.012, scenarios=[[0.0] * 12, [0.0] * 12, [0.036] * 12])
    return decided(safe, wild, risk={"lambda": 1} | risk)


@pytest.mark.parametrize(("weight", "expected"), [(0, [0.0, 8.0]), (0.1, [0.0, 8.0]), (0.2, [8.0, 0.0])])
def test_risk_weighs_the_worst_scenarios(weight: float, expected: list[float]) -> None:
    # (1 - w) 0.012 = 0.01 at w = 1/6
    assert grants(risky(**{"lambda": weight}, alpha=0.5)) == expected


def test_the_mean_of_the_worst_part_takes_scenarios_in_parts() -> None:
    host = risky({"frozen": True, "current_units": 0}, **{"lambda": 1}, alpha=0.5)
    assert host.risk is not None
    assert (host.risk.weight, host.risk.alpha, grants(host)) == (1.0, 0.5, [0.0, 0.0])
    # the worst half of three are one and a half, all of them 0; of the worst 5/6 half a third one counts
    wide = risky({"frozen": True, "current_units": 0}, **{"lambda": 1}, alpha=1 / 6)
    assert wide.risk is not None
    assert wide.risk.new_cvar_usd_per_hour == pytest.approx(8 * 0.036 * 0.5 / 2.5)
    assert wide.risk.current_cvar_usd_per_hour == 0.0


def test_values_stay_the_mean_while_the_decision_is_by_weight() -> None:
    host = risky({"current_units": 0}, **{"lambda": 0.5}, alpha=0.5)
    assert (grants(host), host.value.new_usd_per_hour) == ([8.0, 0.0], pytest.approx(0.08))
    assert host.risk is not None
    assert host.risk.new_cvar_usd_per_hour == pytest.approx(0.08)
    assert host.risk.net_benefit_usd_per_hour == pytest.approx(0.08)


def test_choices_earn_in_a_scenario_in_proportion_to_its_price() -> None:
    golem = offer("golem", None, ("paused", 0, 0.0), ("on", 4, 0.06), scenarios=[[0.0] * 12, [0.2] * 12])
    steady = node("b", current_units=None, usd_per_unit_hour=0.006, scenarios=[[0.006] * 12] * 2, max_units=5)
    free = decided(golem, steady, risk={"lambda": 0})
    assert (free.nodes[0].choice, free.nodes[1].units) == ("on", 4.0)
    wary = decided(golem, steady, risk={"lambda": 1}, cores=5)
    assert wary.nodes[1].units == 5.0
    assert wary.nodes[0].choice != "on"


@pytest.mark.parametrize(("current", "expected"), [(0, [8.0, 0.0]), (1, [0.0, 8.0])])
def test_without_scenarios_what_does_not_run_yet_is_judged_by_a_cautious_price(
    current: float, expected: list[float]
) -> None:
    low = {"0.1": 0.002, "0.5": 0.012}
    wild = node("wild", current_units=current, usd_per_unit_hour=0.012, usd_per_unit_hour_quantiles=low)
    host = decided(node("safe", current_units=0), wild, risk={"lambda": 0.5})
    assert grants(host) == expected
    assert [advice.kind for advice in host.advice] == ["risk"]
    assert "no scenarios" in host.advice[0].text


def test_without_anything_to_weigh_it_says_so() -> None:
    [advice] = decided(node("a"), risk={"lambda": 0.5}).advice
    assert "there are neither scenarios nor quantiles" in advice.text
    assert decided(node("a"), risk={"lambda": 0}).advice == ()
