"""Fronts and what-ifs: the best grants within a limit, and what more of a resource would bring."""

from typing import Any

import pytest
from optimize_parts import box, node, offer

from depin_orcha.optimize import Problem
from depin_orcha.optimize.alternatives import NOTHING_TO_TRADE, front, what_if


def problem(*hosts: dict[str, Any], **top: Any) -> Problem:
    return Problem.from_dict({"horizon_h": 12, "hosts": list(hosts)} | top)


THRIFTY = node("a", protocol="x", watts_per_unit=1, current_units=0)
HUNGRY = node("b", protocol="y", watts_per_unit=5, current_units=0, usd_per_unit_hour=0.02)


def test_the_front_of_watts_trades_income_for_power() -> None:
    points = front(problem(box("box", THRIFTY, HUNGRY)), "watts", 6)
    assert [point.limit for point in points] == [40.0, 32.0, 24.0, 16.0, 8.0, 0.0]
    # 8 cores at 0.02 and 5 W or at 0.01 and 1 W; of W watts, (W - 8) / 4 cores are at 5 W
    assert [point.value_usd_per_hour for point in points] == pytest.approx([0.16, 0.14, 0.12, 0.10, 0.08, 0.0])
    assert all(point.used <= point.limit * (1 + 1e-6) for point in points)
    assert points[2].units == {"box": {"a": pytest.approx(4.0), "b": pytest.approx(4.0)}}


def test_the_front_of_moves_gives_the_best_plan_for_each_number() -> None:
    nodes = [node(name, usd_per_unit_hour=price, current_units=1) for name, price in (("a", 0.01), ("b", 0.03))]
    points = front(problem(box("box", *nodes, offer("g", "no", ("no", 0, 0), ("go", 0, 0.5)), cpu_cores=16)), "moves")
    assert [(point.limit, point.moves) for point in points] == [(3.0, 3), (2, 2), (1, 1), (0, 0)]
    gains = [point.net_benefit_usd_per_hour for point in points]
    assert gains == pytest.approx([0.5 + 0.21 + 0.07, 0.5 + 0.21, 0.5, 0.0])
    assert [point.choices["box"]["g"] for point in points] == ["go", "go", "go", "no"]


def test_the_front_of_shares_spreads_income_over_protocols() -> None:
    points = front(problem(box("box", THRIFTY, HUNGRY)), "share", 3)
    assert [point.limit for point in points] == pytest.approx([1.0, 0.75, 0.5])
    assert [point.used for point in points] == pytest.approx([1.0, 0.75, 0.5])
    # 0.02 b = s (0.02 b + 0.01 (8 - b))
    shares = [8 * share / (2 - share) for share in (1.0, 0.75, 0.5)]
    assert [point.units["box"]["b"] for point in points] == pytest.approx(shares)


def test_a_limit_below_the_minimums_ends_the_front() -> None:
    points = front(problem(box("box", THRIFTY, HUNGRY | {"min_units": 4})), "watts", 6)
    assert [point.limit for point in points] == [40.0, 32.0, 24.0]


@pytest.mark.parametrize(
    "changes", [{"usd_per_unit_hour": 0}, {"evidence": "prior"}, {"frozen": True}, {"max_units": 0, "current_units": 0}]
)
def test_with_fewer_than_two_known_incomes_there_is_nothing_to_trade(changes: dict[str, Any]) -> None:
    assert front(problem(box("box", THRIFTY, HUNGRY | changes)), "watts") == []
    assert "nothing to trade off" in NOTHING_TO_TRADE


def test_a_front_needs_two_points() -> None:
    with pytest.raises(ValueError, match="at least two points"):
        front(problem(box("box", THRIFTY, HUNGRY)), "watts", 1)


def test_more_of_a_resource_goes_to_who_earns_most_with_it() -> None:
    nodes = [node("a", max_units=20), node("b", current_units=1, usd_per_unit_hour=0.03, max_units=9)]
    found = what_if(problem(box("box", *nodes)), "box", "cpu_cores", 2, cost_usd=29.22)
    # 8 cores all go to b, the ninth too; the tenth is for a
    assert found.nodes == {"a": 1.0, "b": 1.0}
    assert found.gain_usd_per_hour == pytest.approx(0.04)
    assert found.gain_usd_per_day == pytest.approx(0.96)
    assert found.gain_usd_per_month == pytest.approx(0.04 * 730.5)
    assert found.payback_days == pytest.approx(29.22 / 0.96)


def test_a_maximum_that_was_all_the_host_had_grows_with_it() -> None:
    found = what_if(problem(box("box", node("a"))), "box", "cpu_cores", 4)
    assert (found.nodes, found.gain_usd_per_hour, found.payback_days) == ({"a": 4.0}, pytest.approx(0.04), None)
    owner = what_if(problem(box("box", node("a", max_units=6))), "box", "cpu_cores", 4, cost_usd=10)
    assert (owner.nodes, owner.gain_usd_per_hour, owner.payback_days) == ({}, 0.0, None)


def test_a_purchase_is_not_judged_by_this_run() -> None:
    slow = node("a", restart_fee_usd=100, min_dwell_h=5, hours_since_change=1, max_units=9)
    host = problem(box("box", slow), thresholds={"max_moves": 0, "min_net_benefit_usd_per_hour": 9})
    assert what_if(host, "box", "cpu_cores", 1).gain_usd_per_hour == pytest.approx(0.01)
    guess = problem(box("box", node("a", evidence="prior", max_units=9)))
    assert what_if(guess, "box", "cpu_cores", 1).gain_usd_per_hour == 0.0


def test_a_larger_choice_that_then_fits() -> None:
    golem = offer("golem", "small", ("small", 8, 0.05), ("large", 10, 0.09))
    assert what_if(problem(box("box", golem)), "box", "cpu_cores", 1).gain_usd_per_hour == 0.0
    found = what_if(problem(box("box", golem)), "box", "cpu_cores", 2)
    assert (found.gain_usd_per_hour, found.nodes) == (pytest.approx(0.04), {"golem": 2.0})


def test_storage_goes_to_the_mount_where_it_earns_most() -> None:
    storage = {"uses_per_unit": {"storage_bytes": 1e12}}
    nodes = [
        node("a", disk="/mnt/a", current_units=1, max_units=1, **storage),
        node("b", disk="/mnt/b", current_units=1, max_units=1, usd_per_unit_hour=0.02, **storage),
    ]
    host = box("box", *nodes, storage_bytes=2e12) | {"disks": {"/mnt/a": 1e12, "/mnt/b": 1e12}}
    found = what_if(problem(host), "box", "storage_bytes", 1e12)
    assert (found.disk, found.nodes, found.gain_usd_per_hour) == ("/mnt/b", {"b": 1.0}, pytest.approx(0.02))


def test_what_another_host_on_the_same_line_gains_counts_too() -> None:
    def sender(price: float) -> dict[str, Any]:
        return node("a", uses_per_unit={"uplink_bps": 1}, current_units=0, max_units=9, usd_per_unit_hour=price)

    line = {"name": "isp", "resource": "uplink_bps", "limit": 6, "hosts": ["x", "y"]}
    hosts = [box("x", sender(0.02), uplink_bps=2), box("y", sender(0.01), uplink_bps=9)]
    found = what_if(problem(*hosts, coupling=[line]), "x", "uplink_bps", 1)
    # x takes one unit more and y one unit less
    assert (found.nodes, found.gain_usd_per_hour) == ({"a": 1.0}, pytest.approx(0.01))


@pytest.mark.parametrize(
    ("host", "resource", "amount", "message"),
    [
        ("attic", "cpu_cores", 1, "attic is not among the hosts"),
        ("box", "cores", 1, "cores is not one of cpu_cores"),
        ("box", "cpu_cores", 0, "must be above 0"),
        ("box", "cpu_cores", float("nan"), "must be above 0"),
    ],
)
def test_what_cannot_be_asked_is_refused(host: str, resource: str, amount: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        what_if(problem(box("box", node("a"))), host, resource, amount)
