"""`optimize --front` and `--risk`: what is given up for less power, fewer moves, more than one source of income."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from decision_parts import Past, Setting, in_turn
from ledger_parts import at
from operator_parts import Place

from depin_orcha.economics.scenarios import COUNT, factors

NOW_S = at("2026-11-22T20:15:00")
GOLEM = '[nodes.golem_{n}]\nprotocol = "golem"\nurl = "http://127.0.0.1:9"\napp_key_file = "key"\nbusy_watts = 16\n'


def node(name: str, price: float, **more: Any) -> dict[str, Any]:
    own = {"node": name, "protocol": name, "uses_per_unit": {"cpu_cores": 1}, "current_units": 4, "max_units": 8}
    return own | {"usd_per_unit_hour": price, "watts_per_unit": 10} | more


def problem(place: Place, *nodes: dict[str, Any], **more: Any) -> str:
    host = {"host": "box", "capacity": {"cpu_cores": 8}, "nodes": list(nodes)}
    file = place.folder / "problem.json"
    file.write_text(json.dumps({"horizon_h": 12, "hosts": [host]} | more))
    return str(file)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("axis", ["watts", "moves", "share"])
def test_a_front_earns_less_the_less_is_allowed(place: Place, axis: str) -> None:
    file = problem(place, node("a", 0.02), node("b", 0.01))
    front = place.json("optimize", "--input", file, "--front", axis).data["front"]
    assert (front["axis"], front["reason"]) == (axis, None)
    values = [point["value_usd_per_hour"] for point in front["points"]]
    assert len(values) >= 2
    assert values == sorted(values, reverse=True)
    assert values[0] > values[-1]
    assert all(point["used"] <= point["limit"] * (1 + 1e-6) for point in front["points"])
    assert "USD/day" in place("optimize", "--input", file, "--front", axis).out


def test_one_node_is_nothing_to_trade_off(place: Place) -> None:
    file = problem(place, node("a", 0.02), node("b", 0.0))
    front = place.json("optimize", "--input", file, "--front", "watts").data["front"]
    assert front["points"] == []
    assert "fewer than two nodes" in front["reason"]
    assert "nothing to trade off" in place("optimize", "--input", file, "--front", "watts").out


def test_a_front_is_of_one_problem(place: Place) -> None:
    assert "--front" in place("optimize", "--input", "x.jsonl", "--front", "watts", exits=2).err
    assert place("optimize", "--front", "price", exits=2).out == ""


def test_risk_prefers_the_steady_node(place: Place) -> None:
    wild = [[0.04] * 12] * 5 + [[0.0] * 12] * 5
    steady = [[0.018] * 12] * 10
    file = problem(place, node("wild", 0.02, scenarios=wild), node("steady", 0.018, scenarios=steady))
    by_mean = place.json("optimize", "--input", file).data["hosts"][0]["nodes"]
    careful = place.json("optimize", "--input", file, "--risk", "1").data["hosts"][0]["nodes"]
    assert [one["units"] for one in by_mean] == [8, 0]
    assert [one["units"] for one in careful] == [0, 8]


def test_risk_from_the_database_is_the_same_every_time(place: Place) -> None:
    place.configure("".join(GOLEM.format(n=n) for n in (1, 2)), {"key": "0123456789abcdef"})
    past = Past(place, NOW_S)
    for number, name in enumerate(("golem_1", "golem_2")):
        past.provider(name, in_turn(Setting(4), Setting(2)), lambda _: 0.5, seed=number)
    place.json("forecast", now=NOW_S)
    first, second = (place.json("optimize", "--risk", "0.5", now=NOW_S).data for _ in range(2))
    assert first["inputs_sha256"] == second["inputs_sha256"]
    assert first["hosts"] == second["hosts"]
    ((stored,),) = place.query("SELECT problem_json FROM plans LIMIT 1")
    document = json.loads(stored)
    assert document["risk"] == {"lambda": 0.5}
    for one in document["hosts"][0]["nodes"]:
        assert len(one["scenarios"]) == COUNT
        paths = [path[0] for path in one["scenarios"]]
        assert sum(paths) / COUNT == pytest.approx(one["usd_per_unit_hour"])
        assert max(paths) > min(paths)
    assert place.json("optimize", "--front", "moves", now=NOW_S).data["front"]["axis"] == "moves"


def test_scenarios_are_as_wide_as_the_forecast() -> None:
    drawn = sorted(factors("a", 1.0, 0.5, 2.0))
    assert sum(drawn) / COUNT == pytest.approx(1)
    low, high = drawn[COUNT // 10], drawn[-COUNT // 10]
    assert low / drawn[COUNT // 2] == pytest.approx(0.5, abs=0.1)
    assert high / drawn[COUNT // 2] == pytest.approx(2.0, abs=0.25)
    assert factors("a", 1.0, 0.5, 2.0) == factors("a", 1.0, 0.5, 2.0) != factors("b", 1.0, 0.5, 2.0)
    assert set(factors("a", 0.0, 0.0, 0.0)) == {1.0}


def test_a_threshold_above_all_income_is_warned_of(place: Place) -> None:
    thresholds = {"min_net_benefit_usd_per_hour": 0.5, "min_improvement_pct": 10, "ignore_change_pct": 5}
    file = problem(place, node("a", 0.02), node("b", 0.01), thresholds=thresholds, model="spec")
    done = place.json("optimize", "--input", file)
    assert done.data["decision"] == "hold"
    assert "exceeds what the whole host earns" in done.err
