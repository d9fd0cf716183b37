"""Whatever the fleet: model ``lp`` keeps every limit and every rule, and more room is never worth less."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property.test_optimize import documents

from depin_orcha.optimize import Problem, solve
from depin_orcha.optimize.fleet import fleet_of
from depin_orcha.optimize.highs import Solver
from depin_orcha.optimize.lp import optimum

HAIR = 1e-6


def hosts_of(drawn: list[dict[str, Any]]) -> dict[str, Any]:
    """One problem of the hosts of many; the thresholds of the first."""
    hosts = [each["hosts"][0] | {"host": f"h{index}"} for index, each in enumerate(drawn)]
    return drawn[0] | {"model": "lp", "hosts": hosts}


@settings(max_examples=60, deadline=None)
@given(drawn=st.lists(documents(lots=False) | documents(lots=True), min_size=1, max_size=4))
def test_no_limit_and_no_rule_is_broken_and_nothing_is_lost(drawn: list[dict[str, Any]]) -> None:
    document = hosts_of(drawn)
    plan = solve(Problem.from_dict(document), explain=False)
    most = document["thresholds"]["max_moves"]
    for host, stated in zip(plan.hosts, document["hosts"], strict=True):
        moved = [each for each in host.nodes if each.changed]
        assert (host.decision == "apply") == bool(moved)
        assert most is None or len(moved) <= most
        if not moved:
            continue
        assert host.value.net_benefit_usd_per_hour > 0
        for resource, size in stated["capacity"].items():
            assert sum(each.resources.get(resource, 0.0) for each in host.nodes) <= size * (1 + HAIR)
        for each, node in zip(host.nodes, stated["nodes"], strict=True):
            if each.changed:
                assert node["floor_units"] - HAIR <= each.units <= node["max_units"] * (1 + HAIR)
                assert not node["frozen"]
                assert node["evidence"] in {"measured", "contract"}
                if node["integer"]:
                    assert each.units % node["step_units"] == pytest.approx(0, abs=1e-9)
                if node["on_off"]:
                    assert each.units == 0 or each.units >= node["min_units"] - HAIR


@settings(max_examples=40, deadline=None)
@given(document=documents(lots=False), more=st.sampled_from(["cpu_cores", "memory_bytes"]))
def test_more_capacity_never_lowers_the_optimum(document: dict[str, Any], more: str) -> None:
    worth: list[float] = []
    for factor in (1.0, 1.5):
        [host] = document["hosts"]
        wider = host | {"capacity": host["capacity"] | {more: host["capacity"][more] * factor}}
        problem = Problem.from_dict(document | {"model": "lp", "hosts": [wider]})
        fleet = fleet_of(problem, problem.hosts)
        best = None if fleet.unable().any() else optimum(fleet, Solver(2.0))
        worth.append(-1e9 if best is None else best.usd_per_hour)
    assert worth[1] >= worth[0] - 1e-6 * (1 + abs(worth[0]))
