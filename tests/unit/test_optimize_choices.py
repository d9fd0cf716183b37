"""Nodes that offer choices, and nodes that fill up: every value by hand."""

from typing import Any

import pytest
from optimize_parts import box, decided, grants, node, offer, planned

PAUSED, SMALL, LARGE, DEAR = ("paused", 0.0, 0.0), ("small", 2.0, 0.03), ("large", 6.0, 0.05), ("dear", 2.0, 0.04)


def test_exactly_one_choice_is_in_force_and_the_best_that_fits_is_taken() -> None:
    host = decided(offer("golem", "paused", PAUSED, SMALL, LARGE), cores=4)
    [plan] = host.nodes
    assert (plan.choice, plan.units, plan.previous_choice, plan.previous_units) == ("small", 2.0, "paused", 0.0)
    assert (plan.changed, plan.resources, plan.flips_at_usd_per_unit_hour) == (True, {"cpu_cores": 2.0}, None)
    assert (host.value.current_usd_per_hour, host.value.new_usd_per_hour) == (0.0, pytest.approx(0.03))
    assert "paused (0 units) -> small (2 units): +0.03 $/h" in plan.reason


def test_another_choice_is_a_move_even_at_equal_units() -> None:
    host = decided(offer("golem", "small", PAUSED, SMALL, DEAR, restart_fee_usd=0.012))
    assert (host.nodes[0].choice, host.nodes[0].changed) == ("dear", True)
    assert host.value.restart_loss_usd == pytest.approx(0.012)
    assert host.value.net_benefit_usd_per_hour == pytest.approx(0.01 - 0.012 / 12)
    assert decided(offer("golem", "small", SMALL, DEAR), thresholds={"max_moves": 0}).nodes[0].choice == "small"


def test_prices_and_costs_by_the_hour_count_by_their_mean() -> None:
    golem = offer("golem", "paused", PAUSED, ("day", 1, 0.0))
    golem["choices"][1] |= {"usd_per_hour": [0.03, 0.01], "running_usd_per_hour": [0.004, 0.008]}
    host = decided(golem, horizon_h=2)
    assert host.nodes[0].choice == "day"
    assert host.value.new_usd_per_hour == pytest.approx(0.02 - 0.006)
    golem["choices"][1]["running_usd_per_hour"] = [0.03, 0.02]
    assert decided(golem, horizon_h=2).nodes[0].choice == "paused"


def test_a_restart_is_charged_by_the_best_choice() -> None:
    host = decided(offer("golem", "paused", PAUSED, SMALL, LARGE, restart_loss_hours=2), cores=4)
    assert host.value.restart_loss_usd == pytest.approx(2 * 0.35 * 0.05)
    host = decided(offer("golem", "small", SMALL, LARGE, restart_loss_hours=2))
    assert host.value.restart_loss_usd == pytest.approx(2 * 0.03)


def test_none_in_force_yet_costs_no_restart_and_is_worth_nothing() -> None:
    host = decided(offer("golem", None, PAUSED, SMALL, restart_loss_hours=9, restart_fee_usd=9))
    assert (host.nodes[0].choice, host.nodes[0].previous_choice, host.nodes[0].previous_units) == ("small", None, None)
    assert (host.value.restart_loss_usd, host.value.current_usd_per_hour) == (0.0, 0.0)
    idle = decided(offer("golem", None, ("loss", 1, -0.01)))
    assert (idle.decision, idle.nodes[0].choice, idle.nodes[0].units) == ("hold", None, 0.0)


def test_floor_units_remove_the_choices_below_them() -> None:
    host = decided(offer("golem", "large", SMALL, LARGE, floor_units=3), node("b", usd_per_unit_hour=1), cores=10)
    assert (host.nodes[0].choice, host.nodes[1].units) == ("large", 4.0)
    stuck = decided(offer("golem", "large", PAUSED, LARGE, floor_units=7))
    assert (stuck.status, stuck.decision, stuck.nodes[0].choice) == ("relaxed", "hold", "large")
    assert [short.row for short in stuck.relaxed] == ["choice:golem"]


def test_what_does_not_hold_for_choices_is_ignored() -> None:
    host = decided(
        offer("golem", "small", SMALL, LARGE, min_units=9, step_units=5, integer=True, on_off=True),
        thresholds={"ignore_change_pct": 500},
    )
    assert host.nodes[0].choice == "large"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"frozen": True}, "optimal"),
        ({"min_dwell_h": 2, "hours_since_change": 1}, "held"),
        ({"evidence": "prior"}, "held"),
    ],
)
def test_a_lock_keeps_the_choice_in_force(changes: dict[str, Any], status: str) -> None:
    host = decided(offer("golem", "small", PAUSED, SMALL, LARGE, **changes))
    assert (host.status, host.decision, host.nodes[0].choice) == (status, "hold", "small")
    if "evidence" in changes:
        [advice] = host.advice
        assert (advice.units, host.runner_up and host.runner_up.choices) == (6.0, {"golem": "large"})
        assert "golem small (2 units) -> large (6 units) would be best" in advice.text


def test_a_choice_makes_room_for_who_earns_more() -> None:
    host = decided(offer("golem", "large", PAUSED, SMALL, LARGE), node("b", current_units=2, usd_per_unit_hour=0.02))
    assert (host.nodes[0].choice, host.nodes[1].units) == ("paused", 8.0)
    assert host.value.net_benefit_usd_per_hour == pytest.approx(0.16 - 0.05 - 0.04)


def test_spec_spreads_the_best_income_over_the_largest_choice() -> None:
    host = decided(offer("golem", "paused", PAUSED, SMALL, LARGE), cores=3, model="spec")
    assert (host.nodes[0].units, host.nodes[0].choice) == (3.0, None)
    assert host.value.new_usd_per_hour == pytest.approx(0.05 * 3 / 6)


def test_spec_weighs_scenarios_of_choices_by_the_price_it_uses() -> None:
    golem = offer("golem", "paused", PAUSED, LARGE, scenarios=[[0.0] * 12, [7.0] * 12])
    host = decided(golem, model="spec", risk={"lambda": 0.5, "alpha": 0.5})
    assert host.risk is not None
    assert (host.risk.new_cvar_usd_per_hour, host.risk.net_benefit_usd_per_hour) == (0.0, pytest.approx(0.025))


def disk_node(name: str, stored: float, current: float, **changes: Any) -> dict[str, Any]:
    fill = {"stored_units": stored, "per_hour": 0.5, "life_h": 0} | changes.pop("fill", {})
    return node(name, current_units=current, usd_per_unit_hour=0.01, fill=fill) | {"integer": True} | changes


def test_a_grant_that_fills_up_is_worth_what_is_stored() -> None:
    # 1 stored, half a unit more every hour, grants of 2 and of 4 units, at the ends of four hours
    small, large = (1.5 + 2 + 2 + 2) / 4, (1.5 + 2 + 2.5 + 3) / 4
    host = decided(disk_node("storj", 1, 2, running_usd_per_unit_hour=0.002), horizon_h=4)
    assert host.value.current_usd_per_hour == pytest.approx(small * 0.008)
    assert host.value.new_usd_per_hour == pytest.approx(large * 0.008)
    assert host.nodes[0].units == 3.0  # a fourth unit would not fill within the horizon


def test_what_is_stored_at_the_end_earns_on() -> None:
    host = decided(disk_node("storj", 1, 2, fill={"life_h": 240}), horizon_h=4)
    assert host.value.current_usd_per_hour == pytest.approx(0.01 * (7.5 / 4 + 240 * (2 - 1) / 4))
    assert host.value.new_usd_per_hour == pytest.approx(0.01 * (9 / 4 + 240 * (3 - 1) / 4))


def test_a_part_of_what_is_stored_goes_every_hour() -> None:
    host = decided(disk_node("storj", 4, 4, fill={"per_hour": 0, "delete_per_hour": 0.5}), horizon_h=2)
    assert (host.decision, host.nodes[0].units) == ("hold", 4.0)
    assert host.value.current_usd_per_hour == pytest.approx(0.01 * (2 + 1) / 2)


def test_a_grant_is_never_below_what_is_stored() -> None:
    dear = node("b", current_units=0, usd_per_unit_hour=1)
    assert grants(decided(disk_node("storj", 2.5, 4), dear)) == [3.0, 5.0]
    assert decided(disk_node("storj", 2.5, 4, usd_per_unit_hour=-1)).nodes[0].units == 3.0
    full = decided(disk_node("storj", 9, 8))
    assert (full.status, full.decision, full.relaxed[0].row) == ("relaxed", "hold", "floor_units:storj")


def test_growing_is_charged_as_a_restart_of_what_is_stored_now() -> None:
    host = decided(disk_node("storj", 2, 2, restart_loss_hours=1), horizon_h=4)
    assert host.nodes[0].units == 4.0
    assert host.value.restart_loss_usd == pytest.approx(0.01 * max(2, 0.35 * (2.5 + 3 + 3.5 + 4) / 4))


def test_nodes_of_a_group_share_one_intake_in_equal_parts() -> None:
    pair = [disk_node(name, 1, 1, fill={"group": "home"}, restart_fee_usd=1e-9) for name in "ab"]
    host = decided(*pair, horizon_h=2)
    # both full: all that comes in goes to the one that grows, and nothing is gained by growing both
    assert sorted(grants(host)) == [1.0, 2.0]
    assert host.value.new_usd_per_hour == pytest.approx(0.01 * (1 + (1.5 + 2) / 2))
    roomy = decided(*(each | {"current_units": 8} for each in pair), cores=16, horizon_h=2)
    assert roomy.decision == "hold"
    assert roomy.value.current_usd_per_hour == pytest.approx(2 * 0.01 * (1.25 + 1.5) / 2)


def test_what_one_of_a_group_has_no_room_for_goes_to_the_others() -> None:
    nodes = [disk_node("a", 1, 1.1, integer=False), disk_node("b", 1, 8)]
    for each in nodes:
        each["fill"]["group"] = "home"
        each["frozen"] = True
    host = decided(*nodes, cores=16, horizon_h=2)
    assert host.value.current_usd_per_hour == pytest.approx(0.01 * (1.1 + 1.1 + 1.4 + 1.9) / 2)


def test_a_group_reaches_over_hosts() -> None:
    pair = [disk_node(name, 1, 1, fill={"group": "home"}, restart_fee_usd=1e-9) for name in "ab"]
    plan = planned(box("x", pair[0]), box("y", pair[1]), horizon_h=2)
    assert sorted(host.nodes[0].units for host in plan.hosts) == [1.0, 2.0]


def test_what_lies_on_a_mount_fits_on_it() -> None:
    storage = {"uses_per_unit": {"storage_bytes": 1e12}, "disk": "/mnt/a"}
    document = box("x", disk_node("a", 1, 1) | storage, disk_node("b", 1, 1) | storage, storage_bytes=9e12)
    plan = planned(document | {"disks": {"/mnt/a": 3e12, "/mnt/b": 6e12}}, horizon_h=2)
    host = plan.hosts[0]
    assert sorted(grants(host)) == [1.0, 2.0]
    assert "disk:/mnt/a" in host.binding
    [price] = [each for each in host.shadow_prices if each.constraint == "disk:/mnt/a"]
    assert price.resource == "storage_bytes"


def test_a_choice_says_at_which_part_of_its_incomes_it_is_decided_otherwise() -> None:
    host = decided(offer("golem", "paused", PAUSED, SMALL, restart_fee_usd=0.09))
    assert "-> small (2 units)" in host.nodes[0].reason
    assert "decided otherwise beyond 0.25 times its incomes" in host.nodes[0].reason  # 0.0075 $/h pay 0.09 $ in 12 h
    held = decided(offer("golem", "paused", PAUSED, SMALL, restart_fee_usd=0.72))
    assert "decided otherwise beyond 2 times its incomes" in held.nodes[0].reason
    never = decided(offer("golem", "paused", PAUSED))
    assert "otherwise" not in never.nodes[0].reason
