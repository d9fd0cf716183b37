"""The worked example of docs/explanation/decisions.md comes out as the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from depin_orcha.optimize import Problem, solve

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "decisions.md").read_text()
EXAMPLE = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])


def solved(**changes: Any) -> tuple[dict[str, float], Any]:
    plan = solve(Problem.from_dict(EXAMPLE | changes)).to_dict()["hosts"][0]
    return {node["node"]: node["units"] for node in plan["nodes"]}, plan


def test_default_moves_two_cores() -> None:
    units, plan = solved()
    value = plan["value"]
    assert (units, plan["decision"]) == ({"a": 4, "b": 4}, "apply")
    assert (value["current_usd_per_hour"], value["new_usd_per_hour"]) == (pytest.approx(0.068), pytest.approx(0.072))
    assert value["restart_loss_usd"] == pytest.approx(0.022)
    assert value["net_benefit_usd_per_hour"] == pytest.approx(0.004 - 0.022 / 12)
    for told in ("0.068 an hour", "0.040 + 0.032 = 0.072", "together 0.022", "0.0021667", "3.2 % of 0.068"):
        assert told in PAGE
    assert 100 * value["net_benefit_usd_per_hour"] / 0.068 == pytest.approx(3.2, abs=0.05)
    assert solved(thresholds={"min_improvement_pct": 10})[1]["decision"] == "hold"


def test_spec_agrees_with_the_textbook() -> None:
    nodes, cores = EXAMPLE["hosts"][0]["nodes"], EXAMPLE["hosts"][0]["capacity"]["cpu_cores"]
    most = np.array([node["max_units"] for node in nodes])
    earns = np.array([node["usd_per_unit_hour"] for node in nodes]) * most
    textbook = linprog(-earns, A_ub=most[None, :], b_ub=[cores], bounds=[(0, 1)] * 2)
    units, plan = solved(model="spec")
    assert [units["a"], units["b"]] == pytest.approx(list(textbook.x * most), rel=1e-9)
    assert plan["value"]["new_usd_per_hour"] == pytest.approx(-textbook.fun, rel=1e-9)
    assert (units, round(-textbook.fun, 9)) == ({"a": 6, "b": 2}, 0.076)
    assert "0.060 + 0.016 = 0.076" in PAGE
    held = json.loads(json.dumps(EXAMPLE))
    for node in held["hosts"][0]["nodes"]:
        node |= {"current_units": units[node["node"]], "frozen": True}
    true = solve(Problem.from_dict(held)).to_dict()["hosts"][0]["value"]["current_usd_per_hour"]
    assert true == pytest.approx(0.066)
    assert "0.050 + 0.016 = 0.066" in PAGE
