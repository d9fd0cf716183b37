"""From a problem to a proposal: grants that break a limit, and gains that are not sure enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from depin_orcha.economics import Gate, NodeFacts, Tried, Yield, problem_node
from depin_orcha.proposal import propose

GATE = Gate(learning_days=7, min_gain_usd_per_day=0.05, max_changes_per_day=2, min_dwell_h=1)
CURVE = Yield(
    (Tried(4, 0.010, 0.0005, 100, 10), Tried(8, 0.020, 0.0005, 100, 10)), 0.0025, ((8.0, 1.0),), "measured", "tried"
)
NODE = NodeFacts(
    name="golem_1",
    protocol="golem",
    uses_per_unit={"cpu_cores": 1.0},
    min_units=0,
    max_units=None,
    floor_units=1,
    current_units=4,
    integer=True,
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


def proposed(node: NodeFacts, cores: float = 12) -> dict[str, Any]:
    capacity = {"cpu_cores": cores}
    host = {"host": "box", "capacity": capacity, "nodes": [problem_node(node, GATE, capacity)]}
    data, _ = propose({"horizon_h": 12, "hosts": [host]}, [node], GATE)
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
        ({"curve": replace(CURVE, tried=(CURVE.tried[0], replace(CURVE.tried[1], error=0.02)))}, "with 80 % certainty"),
    ],
)
def test_what_is_not_sure_enough_is_held_with_its_reason(change: dict[str, Any], reason: str) -> None:
    data = proposed(replace(NODE, **change))
    assert data["decision"] == "hold"
    assert reason in data["reason"]
    assert data["hosts"][0]["nodes"][0]["units"] == 4


def test_a_grant_above_the_limit_is_brought_inside_it_at_once() -> None:
    data = proposed(replace(NODE, max_units=2, days_measured=0.5))
    (one,) = data["hosts"][0]["nodes"]
    assert (data["decision"], one["units"], one["previous_units"]) == ("apply", 2, 4)
    assert data["hosts"][0]["value"]["net_benefit_usd_per_hour"] < 0


def test_a_grant_above_the_limit_that_only_loses_money_is_cut_as_far_as_it_goes() -> None:
    data = proposed(replace(NODE, max_units=2, running_usd_per_unit_hour=1.0))
    (one,) = data["hosts"][0]["nodes"]
    assert (data["decision"], one["units"], one["previous_units"]) == ("apply", 1, 4)
