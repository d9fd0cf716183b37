"""From a problem to a proposal: grants that break a limit, and gains that are not sure enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from depin_orcha.economics import Gate, NodeFacts, Tried, Yield, problem_node
from depin_orcha.proposal import propose

GATE = Gate(learning_days=7, min_gain_usd_per_day=0.05, max_changes_per_day=2, min_dwell_h=1)
CURVE = Yield(
    (Tried(4, 0.010, 0.0005, 100, 10), Tried(8, 0.020, 0.0005, 100, 10)),
    0.0025,
    ((8.0, 1.0),),
    "measured",
    "tried",
    frozenset({8}),
)
UNTRIED = Yield((), 0.0025, (), "none", "never varied")
WHOLE_LINE = replace(
    CURVE, tried=(Tried(1, 0.010, 0.0005, 100, 10), Tried(4, 0.020, 0.0005, 100, 10)), sure=frozenset({1})
)
UNSURE = (Tried(4, 0.010, 0.02, 100, 10), Tried(8, 0.020, 0.02, 100, 10))
SILENT = "no node has told yet what it is granted"
NODE = NodeFacts(
    name="golem_1",
    protocol="golem",
    uses_per_unit={"cpu_cores": 1.0},
    min_units=0,
    max_units=None,
    floor_units=1,
    current_units=4,
    step_units=1,
    lever=True,
    usd_per_hour_forecast=0.01,
    curve=CURVE,
    days_measured=14,
    hours_since_change=48,
    changes_last_day=0,
    restart_loss_hours=0.1,
    running_usd_per_unit_hour=None,
    keep_reason=None,
)


def proposed(*nodes: NodeFacts, cores: float = 12, uplink: float = 4e7) -> dict[str, Any]:
    capacity = {"cpu_cores": cores, "uplink_bps": uplink}
    known = [one for node in nodes if (one := problem_node(node, GATE, capacity)) is not None]
    host = {"host": "local", "capacity": capacity, "nodes": known}
    data, _ = propose({"horizon_h": 12, "hosts": [host]}, nodes, GATE)
    return data


def test_a_sure_gain_is_proposed_and_summed_up() -> None:
    data = proposed(NODE)
    (one,) = data["hosts"][0]["nodes"]
    assert (data["decision"], one["units"]) == ("apply", 8)
    assert data["reason"].startswith("golem_1 4 -> 8 units: +0.24 USD a day")
    assert data["reason"].endswith("before power")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"days_measured": 3.0}, "still learning: 3.0 of 7 days"),
        ({"keep_reason": "paused by the owner"}, "paused by the owner"),
        ({"changes_last_day": 2}, "changed 2 times in the last 24 h"),
        ({"curve": replace(CURVE, tried=UNSURE)}, "with 80 % certainty"),
        ({"curve": replace(CURVE, sure=frozenset())}, "but so much can be chance among 2 that were tried"),
    ],
)
def test_what_is_not_sure_enough_is_held_with_its_reason(change: dict[str, Any], reason: str) -> None:
    data = proposed(replace(NODE, **change))
    assert data["decision"] == "hold"
    assert reason in data["reason"]
    assert data["hosts"][0]["nodes"][0]["units"] == 4


@pytest.mark.parametrize("forecast", [0.0, None])
def test_a_grant_above_the_limit_is_cut_where_it_earned_nothing_too(forecast: float | None) -> None:
    data = proposed(replace(NODE, max_units=2, curve=UNTRIED, usd_per_hour_forecast=forecast))
    assert (data["decision"], data["hosts"][0]["nodes"][0]["units"]) == ("apply", 2)
    told = "+0.00 USD a day" if forecast == 0 else "nothing is known yet of what that is worth"
    assert told in data["reason"]


def test_a_grant_below_the_owners_wish_is_raised_to_it_and_no_further() -> None:
    data = proposed(replace(NODE, min_units=6, curve=UNTRIED))
    (one,) = data["hosts"][0]["nodes"]
    assert (data["decision"], one["units"], one["previous_units"]) == ("apply", 6, 4)


def test_a_wish_between_two_steps_is_not_tried_again_and_again() -> None:
    node = replace(NODE, step_units=3, floor_units=0, min_units=4, max_units=5)
    first = proposed(replace(node, current_units=6))
    assert first["hosts"][0]["nodes"][0]["units"] == 3
    again = proposed(replace(node, current_units=3))
    assert (again["decision"], again["hosts"][0]["nodes"][0]["units"]) == ("hold", 3)


UNLIMITED = replace(NODE, name="myst_1", uses_per_unit={"uplink_bps": 1e7}, unlimited=True, step_units=0.0008192)


@pytest.mark.parametrize("change", [{"keep_reason": "paused by the owner"}, {"curve": UNTRIED}, {"curve": WHOLE_LINE}])
def test_what_nothing_limits_takes_no_room_from_others_while_it_stays(change: dict[str, Any]) -> None:
    """Two nodes may each take the whole line: none is cut for the other, and the rest is decided all the same."""
    one, twin = (replace(UNLIMITED, name=name, **change) for name in ("myst_1", "myst_2"))
    dear = replace(CURVE, tried=(CURVE.tried[0], Tried(8, 0.1, 0.0005, 100, 10)), usd_per_unit_hour=0.0125)
    data = proposed(replace(NODE, curve=dear), one, twin)
    nodes = {one["node"]: one for one in data["hosts"][0]["nodes"]}
    assert {name: one["units"] for name, one in nodes.items()} == {"golem_1": 8, "myst_1": 4, "myst_2": 4}
    assert nodes["myst_1"]["resources"] == nodes["myst_2"]["resources"] == {}


def test_what_is_in_no_plan_is_told_with_the_reason() -> None:
    data = proposed(NODE, replace(UNLIMITED, current_units=None))
    (advice,) = data["hosts"][0]["advice"]
    assert (advice["node"], advice["units"]) == ("myst_1", None)
    assert "how much uplink_bps its host has is not stated" in advice["text"]
    alone = proposed(replace(UNLIMITED, current_units=None, keep_reason="a per-connection limit"))
    assert alone["reason"] == "myst_1 is in no plan: a per-connection limit"
    silent = proposed(replace(UNLIMITED, current_units=None, lever=False))
    assert (silent["hosts"][0]["advice"], silent["reason"].split(":")[0]) == ([], SILENT)


def test_a_grant_above_the_limit_is_brought_inside_it_at_once() -> None:
    data = proposed(replace(NODE, max_units=2, days_measured=0.5))
    (one,) = data["hosts"][0]["nodes"]
    assert (data["decision"], one["units"], one["previous_units"]) == ("apply", 2, 4)
    assert data["hosts"][0]["value"]["net_benefit_usd_per_hour"] < 0


def test_a_grant_above_the_limit_that_only_loses_money_is_cut_as_far_as_it_goes() -> None:
    data = proposed(replace(NODE, max_units=2, running_usd_per_unit_hour=1.0))
    (one,) = data["hosts"][0]["nodes"]
    assert (data["decision"], one["units"], one["previous_units"]) == ("apply", 1, 4)
