"""When a plan is applied, and when it is held and why."""

from typing import Any

import pytest
from optimize_parts import decided, grants, node, solved

from depin_orcha.optimize import Problem, solve

EARNERS = (("a", 0.01), ("b", 0.03), ("c", 0.02))


def test_a_free_core_goes_to_whoever_earns_with_it() -> None:
    host = decided(node("a"))
    assert (host.status, host.decision, grants(host)) == ("optimal", "apply", [8.0])
    assert host.binding == ("capacity:cpu_cores", "max_units:a")


def test_nothing_to_decide() -> None:
    assert solve(Problem.from_dict({"horizon_h": 12, "hosts": []})).reason == "there is no host to decide"
    plan = solved()
    assert (plan.status, plan.decision, plan.hosts[0].nodes) == ("optimal", "hold", ())
    assert plan.hosts[0].value.current_usd_per_hour == 0.0


def test_the_best_grants_stay_and_say_so() -> None:
    host = decided(node("a", current_units=8))
    assert (host.status, host.decision, grants(host), host.runner_up) == ("optimal", "hold", [8.0], None)
    assert host.reason == "the present grants are the best"
    assert host.value.net_benefit_usd_per_hour == 0.0


@pytest.mark.parametrize(("hours", "decision"), [(0, "apply"), (11.9, "apply"), (12.1, "hold"), (1e6, "hold")])
def test_a_restart_is_paid_within_the_horizon_or_not_made(hours: float, decision: str) -> None:
    host = decided(node("a", restart_loss_hours=hours))
    assert (host.status, host.decision) == ("optimal", decision)
    if decision == "hold":
        assert host.runner_up is not None
        assert host.runner_up.value.restart_loss_usd == pytest.approx(hours * 0.04)
        assert host.runner_up.units == {"a": 8.0}
        assert "is not above 0" in host.reason
        assert host.nodes[0].flips_at_usd_per_unit_hour == 0.0


def test_the_restart_of_a_stopped_node_costs_a_part_of_what_it_could_earn() -> None:
    host = decided(node("a", current_units=0, restart_loss_hours=2, restart_fee_usd=0.001))
    assert host.value.restart_loss_usd == pytest.approx(2 * 0.35 * 8 * 0.01 + 0.001, rel=1e-12)
    assert host.nodes[0].flips_at_usd_per_unit_hour == pytest.approx(0.001 / 12 / (8 - 5.6 / 12), rel=1e-9)


def test_a_first_grant_costs_no_restart() -> None:
    host = decided(node("a", current_units=None, restart_loss_hours=100, restart_fee_usd=100))
    assert (host.decision, grants(host), host.nodes[0].previous_units) == ("apply", [8.0], None)
    assert (host.value.restart_loss_usd, host.value.current_usd_per_hour) == (0.0, 0.0)


def test_a_fee_keeps_equal_prices_of_zero_from_moving() -> None:
    host = decided(node("a", usd_per_unit_hour=0.0, restart_loss_hours=1, restart_fee_usd=0.0001))
    assert (host.decision, grants(host)) == ("hold", [4.0])


@pytest.mark.parametrize(
    ("thresholds", "words"),
    [
        ({"min_net_benefit_usd_per_hour": 0.05}, "0.01 short of min_net_benefit_usd_per_hour 0.05"),
        ({"min_improvement_pct": 101}, "100 % is short of min_improvement_pct 101"),
        ({"ignore_change_pct": 101}, "by 4 units is below ignore_change_pct 101"),
        ({"max_moves": 0}, "it moves 1 nodes, max_moves is 0"),
    ],
)
def test_a_better_plan_below_a_threshold_is_held_and_named(thresholds: dict[str, float], words: str) -> None:
    host = decided(node("a"), thresholds=thresholds)
    assert (host.status, host.decision, grants(host)) == ("held", "hold", [4.0])
    assert words in host.reason
    assert words in host.nodes[0].reason
    assert host.runner_up is not None
    assert host.runner_up.units == {"a": 8.0}
    assert host.runner_up.value.net_benefit_usd_per_hour == pytest.approx(0.04)
    assert host.value.new_usd_per_hour == host.value.current_usd_per_hour


@pytest.mark.parametrize(
    "thresholds",
    [
        {"min_net_benefit_usd_per_hour": 0.04},
        {"min_improvement_pct": 100},
        {"ignore_change_pct": 100},
        {"max_moves": 1},
    ],
)
def test_a_threshold_that_is_just_met_is_met(thresholds: dict[str, float]) -> None:
    assert decided(node("a"), thresholds=thresholds).decision == "apply"


def test_any_improvement_passes_at_a_current_value_of_zero() -> None:
    host = decided(node("a", current_units=0), thresholds={"min_improvement_pct": 1000})
    assert host.decision == "apply"


def test_the_price_that_lifts_a_plan_over_its_threshold() -> None:
    host = decided(node("a"), thresholds={"min_net_benefit_usd_per_hour": 0.05})
    assert host.nodes[0].flips_at_usd_per_unit_hour == pytest.approx(0.05 / 4, rel=1e-9)
    host = decided(node("a"), node("b", frozen=True), cores=12, thresholds={"min_improvement_pct": 60})
    assert host.decision == "hold"
    assert host.nodes[0].flips_at_usd_per_unit_hour == pytest.approx(0.015, rel=1e-9)


def test_max_moves_picks_the_moves_that_gain_most() -> None:
    nodes = [node(name, usd_per_unit_hour=price) for name, price in EARNERS]
    host = decided(*nodes, cores=100, thresholds={"max_moves": 2})
    assert grants(host) == [4.0, 8.0, 8.0]


def test_a_frozen_node_stays_and_the_rest_is_optimised() -> None:
    host = decided(node("a", frozen=True, current_units=3), node("b", current_units=0))
    assert grants(host) == [3.0, 5.0]
    assert "frozen" in host.nodes[0].reason
    assert host.nodes[0].flips_at_usd_per_unit_hour is None


@pytest.mark.parametrize(("since", "decision"), [(0.5, "hold"), (1.0, "apply"), (None, "apply")])
def test_dwell_time_holds_a_node(since: float | None, decision: str) -> None:
    host = decided(node("a", min_dwell_h=1, hours_since_change=since))
    assert (host.decision, host.status) == (decision, "held" if decision == "hold" else "optimal")
    assert ("min_dwell_h" in host.reason) == (decision == "hold")


@pytest.mark.parametrize(("evidence", "changed"), [("contract", 1), ("measured", 1), ("prior", 0), ("none", 0)])
def test_only_what_is_known_changes_a_node(evidence: str, changed: int) -> None:
    host = decided(node("a", evidence=evidence))
    assert host.nodes[0].changed == bool(changed)
    assert host.nodes[0].evidence == evidence
    assert [advice.units for advice in host.advice if advice.node == "a"] == ([] if changed else [8.0])
    assert host.status == ("optimal" if changed else "held")


def test_advice_on_a_guess_stands_beside_a_decision_on_the_rest() -> None:
    host = decided(node("a", evidence="prior", usd_per_unit_hour=0.05), node("b", current_units=3))
    assert (host.decision, grants(host)) == ("apply", [4.0, 4.0])
    [advice] = host.advice
    assert (advice.kind, advice.node, advice.units) == ("evidence", "a", 8.0)


def test_lots_are_whole_and_counted_from_zero() -> None:
    host = decided(node("a", current_units=3.7, step_units=2, integer=True), cores=7.9)
    assert grants(host) == [6.0]
    assert grants(decided(node("a", current_units=0, integer=True), cores=7.9)) == [7.0]


def test_a_move_smaller_than_the_step_is_not_made() -> None:
    host = decided(node("a", current_units=7, step_units=2))
    assert (host.decision, grants(host)) == ("hold", [7.0])
    assert grants(decided(node("a", current_units=6, step_units=2))) == [8.0]
    assert grants(decided(node("a", current_units=5.5, step_units=2))) == [8.0]


@pytest.mark.parametrize(("cores", "units"), [(8, 3.0), (2.9, 0.0)])
def test_on_off_is_nothing_or_at_least_the_minimum(cores: float, units: float) -> None:
    host = decided(node("a", current_units=0, on_off=True, min_units=3, max_units=3), cores=cores)
    assert grants(host) == [units]
    assert host.relaxed == ()


def test_segments_share_a_core_where_it_earns_most() -> None:
    falling = [
        {"width_units": 2, "relative": 1},
        {"width_units": 2, "relative": 0.5},
        {"width_units": 1, "relative": 0},
    ]
    host = decided(
        node("a", current_units=None, segments=falling),
        node("b", current_units=None, usd_per_unit_hour=0.007, max_units=5),
    )
    assert grants(host) == [3.0, 5.0]
    assert host.shadow_prices[0].usd_per_unit_hour == pytest.approx(0.005)


def test_a_flat_tail_is_not_granted_from_nothing_but_not_taken_back_either() -> None:
    flat = [{"width_units": 2, "relative": 1}, {"width_units": 1, "relative": 0}]
    assert grants(decided(node("a", current_units=None, segments=flat))) == [2.0]
    assert grants(decided(node("a", current_units=5, segments=flat))) == [5.0]


def test_segments_keep_their_order_at_a_negative_price() -> None:
    falling = [{"width_units": 2, "relative": 1}, {"width_units": 2, "relative": 0.1}]
    host = decided(node("a", current_units=4, min_units=2, segments=falling, usd_per_unit_hour=-0.01))
    assert grants(host) == [2.0]
    assert host.value.gross_gain_usd_per_hour == pytest.approx(0.002)


def test_a_disk_limits_only_the_nodes_on_it() -> None:
    uses = {"storage_bytes": 1e12}
    on_a = node("a", current_units=1, uses_per_unit=uses, disk="/a")
    nodes = [on_a, on_a | {"node": "b", "disk": "/b"}]
    host = {"host": "box", "capacity": {"storage_bytes": 9e12}, "disks": {"/a": 3e12, "/b": 8e12}, "nodes": nodes}
    plan = solve(Problem.from_dict({"horizon_h": 12, "hosts": [host]})).hosts[0]
    assert sum(grants(plan)) == 9.0
    assert grants(plan)[0] <= 3.0
    assert [price.constraint for price in plan.shadow_prices] == ["capacity:storage_bytes", "disk:/a", "disk:/b"]
    assert plan.shadow_prices[0].usd_per_unit_hour == pytest.approx(1e-14)


def test_equal_offers_never_make_grants_wander() -> None:
    units: dict[str, float | None] = {"a": None, "b": None, "c": None}
    seen: list[list[float]] = []
    for _ in range(100):
        host = decided(*(node(name, current_units=now) for name, now in units.items()), cores=10)
        units = {each.node: each.units for each in host.nodes}
        seen.append(grants(host))
    assert seen[0] == [8.0, 2.0, 0.0]
    assert seen == seen[:1] * 100


def test_the_order_of_nodes_does_not_matter() -> None:
    nodes = [node(name, current_units=2, restart_loss_hours=0.1) for name in "abc"]
    forth, back = decided(*nodes, cores=10), decided(*reversed(nodes), cores=10)
    assert grants(forth) == list(reversed(grants(back)))


def test_numbers_at_the_edge_of_what_a_float_holds_are_no_accident() -> None:
    host = decided(node("a", usd_per_unit_hour=5e-324, current_units=1e-300, restart_fee_usd=1e-310), cores=1e-320)
    assert (host.status, host.decision, grants(host)) == ("optimal", "hold", [0.0])
    host = decided(node("a", usd_per_unit_hour=1e100, max_units=1e100, current_units=1e99), cores=1e100)
    assert (host.status, host.decision, grants(host)) == ("optimal", "apply", [1e100])


@pytest.mark.parametrize("price", [1e-9, 1.0, 1e6])
def test_prices_of_any_size_decide_alike(price: float) -> None:
    host = decided(
        node("a", usd_per_unit_hour=price, restart_loss_hours=0.1),
        node("b", usd_per_unit_hour=2 * price, restart_loss_hours=0.1),
    )
    assert grants(host) == [0.0, 8.0]
    assert host.value.gross_gain_usd_per_hour == pytest.approx(4 * price, rel=1e-12)
    assert host.shadow_prices[0].usd_per_unit_hour == pytest.approx(price, rel=1e-6)


def test_a_tiny_income_beside_a_huge_one_is_not_lost() -> None:
    host = decided(
        node("a", usd_per_unit_hour=1e6), node("b", usd_per_unit_hour=1e-9, restart_loss_hours=0.1), cores=16
    )
    assert (host.decision, grants(host)) == ("apply", [8.0, 8.0])


def test_a_threshold_above_the_income_is_pointed_out() -> None:
    host = decided(node("a"), thresholds={"min_net_benefit_usd_per_hour": 0.5})
    assert "exceeds what the whole host earns now (0.04 $/h)" in next(
        a.text for a in host.advice if a.kind == "threshold"
    )


def test_hosts_are_decided_apart_and_the_worst_status_wins() -> None:
    def host(name: str, *nodes: dict[str, Any]) -> dict[str, Any]:
        return {"host": name, "capacity": {"cpu_cores": 8}, "nodes": list(nodes)}

    hosts = [host("x", node("a")), host("y", node("a", current_units=8)), host("z", node("a", evidence="none"))]
    plan = solve(Problem.from_dict({"horizon_h": 12, "hosts": hosts}))
    assert [each.status for each in plan.hosts] == ["optimal", "optimal", "held"]
    assert (plan.status, plan.decision) == ("held", "apply")
    assert plan.reason.startswith("1 of 3 hosts change: +0.04 $/h")
