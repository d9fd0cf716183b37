"""What is decided where not everything fits, or where the solver has no answer."""

from typing import Any

import pytest
from optimize_parts import decided, grants, node

from depin_orcha.optimize import Problem, solve
from depin_orcha.optimize.linked import case_of
from depin_orcha.optimize.settle import whole_lots

EARNERS = (("a", 0.01), ("b", 0.03), ("c", 0.02))


def test_only_minimums_are_granted_when_nothing_earns() -> None:
    host = decided(node("a", usd_per_unit_hour=-0.01, min_units=1), node("b", usd_per_unit_hour=-0.02, current_units=3))
    assert grants(host) == [1.0, 0.0]
    assert "no price is above 0" in host.reason


def test_zero_capacity_with_nothing_granted_is_fine() -> None:
    host = decided(node("a", current_units=0), cores=0)
    assert (host.status, host.decision, grants(host)) == ("optimal", "hold", [0.0])
    assert host.shadow_prices[0].usd_per_unit_hour == pytest.approx(0.01)


def test_grants_beyond_capacity_are_kept_and_reported_while_shrinking_costs() -> None:
    host = decided(node("a"), node("b"), cores=6)
    assert (host.status, host.decision, grants(host)) == ("held", "hold", [4.0, 4.0])
    assert host.runner_up is not None
    assert sum(host.runner_up.units.values()) == 6.0
    assert [advice.kind for advice in host.advice] == ["over_limit"]
    assert "the present grants take 8 of 6 cpu_cores" in host.reason


def test_grants_beyond_capacity_are_moved_when_that_gains() -> None:
    host = decided(node("a"), node("b", usd_per_unit_hour=0.05), cores=6)
    assert (host.decision, grants(host)) == ("apply", [0.0, 6.0])


def test_minimums_that_do_not_fit_are_lowered_by_as_little_as_possible() -> None:
    host = decided(
        node("a", current_units=None, min_units=4),
        node("b", current_units=None, min_units=4, usd_per_unit_hour=0.03),
        cores=6,
    )
    assert (host.status, host.decision, grants(host)) == ("relaxed", "apply", [2.0, 4.0])
    [short] = host.relaxed
    assert (short.row, short.node, short.unit) == ("min_units:a", "a", "units")
    assert (short.asked, short.possible, short.shortfall) == (4.0, 2.0, 2.0)
    assert short.repair == "raise cpu_cores by 2 to 8"
    assert short.repair in host.reason


def test_a_minimum_between_two_lots_is_lowered_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    host = decided(node("a", current_units=0.012, max_units=3, min_units=3, step_units=2, integer=True))
    assert (host.status, host.decision, grants(host)) == ("relaxed", "apply", [2.0])
    assert [(short.row, short.shortfall) for short in host.relaxed] == [("min_units:a", 1.0)]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("changes", "cores", "row", "repair"),
    [
        ({"floor_units": 9}, 20, "floor_units:a", "raise max_units of a to 9"),
        ({"floor_units": 6}, 5, "floor_units:a", "lower floor_units of a by 1 to 5"),
        ({"frozen": True}, 3, "capacity:cpu_cores", "raise cpu_cores by 1 to 4"),
    ],
)
def test_physical_limits_are_never_broken_but_held(
    changes: dict[str, Any], cores: float, row: str, repair: str
) -> None:
    host = decided(node("a", **changes), cores=cores)
    assert (host.status, host.decision, grants(host)) == ("relaxed", "hold", [4.0])
    assert [(short.row, short.repair) for short in host.relaxed] == [(row, repair)]
    assert host.nodes[0].changed is False


def test_rounding_goes_down_and_hands_leftovers_to_the_largest_remainder() -> None:
    nodes = [
        node("a", current_units=0, step_units=2, integer=True),
        node("b", current_units=0, step_units=2, integer=True),
        node("c", current_units=0, on_off=True, min_units=3),
    ]
    document = {"horizon_h": 1, "hosts": [{"host": "box", "capacity": {"cpu_cores": 7}, "nodes": nodes}]}
    problem = Problem.from_dict(document)
    case = case_of(problem, problem.hosts[0])
    assert whole_lots(case, {"a": 3.0, "b": 3.8, "c": 0.2}) == {"a": 2.0, "b": 4.0, "c": 0.0}


def test_out_of_time_the_number_of_moves_still_counts() -> None:
    nodes = [node(name, current_units=1, restart_fee_usd=0.001, usd_per_unit_hour=price) for name, price in EARNERS]
    hosts = [{"host": "box", "capacity": {"cpu_cores": 9}, "nodes": nodes}]
    problem = Problem.from_dict({"horizon_h": 12, "thresholds": {"max_moves": 1}, "hosts": hosts})
    host = solve(problem, time_limit_s=0.0, explain=False).hosts[0]
    assert (host.status, host.decision, grants(host)) == ("fallback", "apply", [1.0, 7.0, 1.0])


def test_a_grant_above_its_maximum_that_may_not_move_leaves_no_plan() -> None:
    host = decided(node("a", current_units=5, max_units=4), thresholds={"max_moves": 0})
    assert (host.status, host.decision, grants(host), host.relaxed) == ("relaxed", "hold", [5.0], ())
    assert "the number of moves leave no plan" in host.reason


def test_without_any_usable_answer_the_present_grants_stay() -> None:
    # 5 is above max_units, and no whole lot lies between minimum and maximum; to find that out takes time
    cornered = node(
        "a", current_units=5, max_units=3.8, min_units=2.2, step_units=2, integer=True, usd_per_unit_hour=-0.01
    )
    hosts = [
        {"host": "x", "capacity": {"cpu_cores": 8}, "nodes": [cornered]},
        {"host": "y", "capacity": {"cpu_cores": 8}, "nodes": [node("a")]},
    ]
    problem = Problem.from_dict({"horizon_h": 12, "hosts": hosts})
    plan = solve(problem, time_limit_s=0.0)
    assert [(host.status, host.decision) for host in plan.hosts] == [("failed", "hold"), ("optimal", "apply")]
    assert (plan.status, grants(plan.hosts[0]), plan.hosts[0].shadow_prices) == ("failed", [5.0], ())
    assert "the solver gave no usable plan" in plan.hosts[0].reason
    assert [(host.status, grants(host)) for host in solve(problem).hosts] == [("relaxed", [2.0]), ("optimal", [8.0])]


def test_out_of_time_the_linear_programme_is_rounded_and_gated() -> None:
    nodes = [
        node("a", current_units=0, step_units=3, integer=True, restart_loss_hours=0.1),
        node("b", current_units=2, usd_per_unit_hour=0.02, on_off=True, min_units=4, restart_loss_hours=0.1),
        node("c", current_units=1, max_units=1.5, step_units=1, usd_per_unit_hour=0.05),
    ]
    hosts = [{"host": "box", "capacity": {"cpu_cores": 10}, "nodes": nodes}]
    problem = Problem.from_dict({"horizon_h": 12, "hosts": hosts})
    plan = solve(problem, time_limit_s=0.0, explain=False)
    assert (plan.status, plan.hosts[0].decision) == ("fallback", "apply")
    best = solve(problem, explain=False)
    assert best.status == "optimal"
    assert plan.hosts[0].value.net_benefit_usd_per_hour <= best.hosts[0].value.net_benefit_usd_per_hour + 1e-12
    a, b, c = grants(plan.hosts[0])
    assert a % 3 == 0
    assert b == 0 or b >= 4
    assert c == 1.0
    assert a + b + c <= 10
