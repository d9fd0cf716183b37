"""Reading a problem: what is refused, with which path, and what an accepted one looks like."""

import json
import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest

from depin_orcha.optimize import Problem

DOCUMENT: dict[str, Any] = {
    "schema": "depin-orcha/problem/1",
    "horizon_h": 2,
    "model": "default",
    "thresholds": {
        "min_improvement_pct": 1,
        "min_net_benefit_usd_per_hour": 0,
        "ignore_change_pct": 5,
        "max_moves": None,
    },
    "hosts": [
        {
            "host": "box",
            "capacity": {"cpu_cores": 8, "storage_bytes": 4e12},
            "disks": {"/mnt/a": 4e12},
            "nodes": [
                {
                    "node": "golem_1",
                    "protocol": "golem",
                    "uses_per_unit": {"cpu_cores": 1},
                    "current_units": 4,
                    "max_units": 8,
                    "usd_per_unit_hour": [0.012, 0.014],
                },
                {
                    "node": "storj_1",
                    "uses_per_unit": {"storage_bytes": 1e12},
                    "current_units": None,
                    "max_units": 4,
                    "usd_per_unit_hour": 0.002,
                    "segments": [{"width_units": 1, "relative": 1.0}, {"width_units": 3, "relative": 0.5}],
                    "disk": "/mnt/a",
                    "evidence": "contract",
                    "watts_per_unit": 2,
                    "traffic_bytes_per_unit_hour": 1e9,
                    "usd_per_unit_hour_quantiles": {"0.1": 0.001, "0.5": [0.002, 0.002], "0.9": 0.003},
                },
            ],
        }
    ],
    "coupling": [],
    "data_caps": [],
}
NODE = ("hosts", 0, "nodes", 0)
OTHER = ("hosts", 0, "nodes", 1)


def changed(*where: str | int, to: Any) -> dict[str, Any]:
    """The document with the value at a place replaced."""
    document = deepcopy(DOCUMENT)
    place: Any = document
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = to
    return document


def without(*where: str | int) -> dict[str, Any]:
    """The document without the member at a place."""
    document = deepcopy(DOCUMENT)
    place: Any = document
    for key in where[:-1]:
        place = place[key]
    del place[where[-1]]
    return document


def test_a_written_problem_reads_back_as_the_same_problem() -> None:
    problem = Problem.from_dict(DOCUMENT)
    again = Problem.from_dict(json.loads(json.dumps(problem.to_dict())))
    assert again == problem
    assert again.sha256() == problem.sha256()
    assert problem.to_dict()["hosts"][0]["nodes"][1]["current_units"] is None


def test_the_fingerprint_sees_values_not_spelling() -> None:
    assert Problem.from_dict(changed(*NODE, "current_units", to=4.0)).sha256() == Problem.from_dict(DOCUMENT).sha256()
    assert Problem.from_dict(changed(*NODE, "min_units", to=-0.0)).sha256() == Problem.from_dict(DOCUMENT).sha256()
    assert Problem.from_dict(changed(*NODE, "current_units", to=5)).sha256() != Problem.from_dict(DOCUMENT).sha256()


def test_only_horizon_and_hosts_are_required() -> None:
    problem = Problem.from_dict({"horizon_h": 12, "hosts": []})
    assert (problem.model, problem.thresholds.max_moves, problem.hosts) == ("default", None, ())


FAULTS: list[tuple[Any, str]] = [
    ([], "$: must be an object"),
    ({1: 2}, "$: has a key that is no text: 1"),
    (without("horizon_h"), "$.horizon_h: is required"),
    (without("hosts"), "$.hosts: is required"),
    (changed("horizon_h", to=0), "$.horizon_h: must be at least 1"),
    (changed("horizon_h", to=1.5), "$.horizon_h: must be a whole number"),
    (changed("schema", to="depin-orcha/problem/2"), "$.schema: must be one of depin-orcha/problem/1"),
    (changed("model", to="best"), "$.model: must be one of default, lp, spec"),
    (changed("model", to="lp"), "$.model: lp is not supported by this version"),
    (changed("risk", to={"lambda": 0.5}), "$.risk: risk is not supported by this version"),
    (changed("max_income_share", to=0.5), "$.max_income_share: max_income_share is not supported"),
    (changed("max_watts", to=100), "$.max_watts: max_watts is not supported"),
    (changed("max_restarts_at_once", to=0), "$.max_restarts_at_once: max_restarts_at_once is not supported"),
    (changed("coupling", to=[{"name": "isp"}]), "$.coupling: coupling is not supported"),
    (changed("data_caps", to=[{"name": "isp"}]), "$.data_caps: data_caps is not supported"),
    (changed("hostz", to=[]), "$.hostz: unknown key (did you mean hosts?)"),
    (changed("hosts", to={}), "$.hosts: must be an array"),
    (changed("hosts", to=[1]), "$.hosts[0]: must be an object"),
    (changed("thresholds", to={"max_move": 1}), "$.thresholds.max_move: unknown key (did you mean max_moves?)"),
    (changed("thresholds", "max_moves", to=1.5), "$.thresholds.max_moves: must be a whole number"),
    (changed("thresholds", "min_improvement_pct", to=-1), "$.thresholds.min_improvement_pct: must be at least 0"),
    (without("hosts", 0, "host"), "$.hosts[0].host: is required"),
    (without("hosts", 0, "capacity"), "$.hosts[0].capacity: is required"),
    (changed("hosts", 0, "capacity", "cpu_cores", to=-1), "$.hosts[0].capacity.cpu_cores: must be at least 0"),
    (changed("hosts", 0, "capacity", "cpu_cores", to=None), "$.hosts[0].capacity.cpu_cores: must be a number"),
    (changed("hosts", 0, "capacity", "cores", to=1), "$.hosts[0].capacity.cores: unknown key"),
    (changed("hosts", 0, "disks", "/mnt/a", to=-1), "$.hosts[0].disks./mnt/a: must be at least 0"),
    (changed("hosts", to=DOCUMENT["hosts"] * 2), "$.hosts[1].host: box stands twice"),
    (changed(*OTHER, "node", to="golem_1"), "$.hosts[0].nodes[1].node: golem_1 stands twice"),
    (changed(*NODE, "node", to=""), "$.hosts[0].nodes[0].node: must be text"),
    (without(*OTHER, "max_units"), "$.hosts[0].nodes[1].max_units: is required"),
    (without(*NODE, "current_units"), "$.hosts[0].nodes[0].current_units: is required"),
    (without(*NODE, "uses_per_unit"), "$.hosts[0].nodes[0].uses_per_unit: is required"),
    (without(*NODE, "usd_per_unit_hour"), "$.hosts[0].nodes[0].usd_per_unit_hour: is required"),
    (changed(*NODE, "max_units", to=float("nan")), "$.hosts[0].nodes[0].max_units: must be finite"),
    (changed(*NODE, "max_units", to=float("inf")), "$.hosts[0].nodes[0].max_units: must be finite"),
    (changed(*NODE, "max_units", to=10**400), "$.hosts[0].nodes[0].max_units: must not exceed"),
    (changed(*NODE, "max_units", to=True), "$.hosts[0].nodes[0].max_units: must be a number"),
    (changed(*NODE, "max_units", to="8"), "$.hosts[0].nodes[0].max_units: must be a number"),
    (changed(*NODE, "min_units", to=9), "$.hosts[0].nodes[0].min_units: 9 is above max_units 8"),
    (changed(*NODE, "current_units", to=-1), "$.hosts[0].nodes[0].current_units: must be at least 0"),
    (changed(*NODE, "usd_per_unit_hour", to=[0.1]), "$.hosts[0].nodes[0].usd_per_unit_hour: must have 2 numbers"),
    (changed(*NODE, "usd_per_unit_hour", to=[1, None]), "$.hosts[0].nodes[0].usd_per_unit_hour[1]: must be a number"),
    (changed(*NODE, "uses_per_unit", to={"gpu_count": 1}), "$.hosts[0].nodes[0].uses_per_unit.gpu_count: gpu_count is"),
    (changed(*NODE, "uses_per_unit", "cpu_cores", to=-1), "$.hosts[0].nodes[0].uses_per_unit.cpu_cores: must be at"),
    (changed(*NODE, "frozen", to=1), "$.hosts[0].nodes[0].frozen: must be true or false"),
    (changed(*NODE, "evidence", to="guess"), "$.hosts[0].nodes[0].evidence: must be one of contract"),
    (changed(*NODE, "disk", to="/mnt/b"), "$.hosts[0].nodes[0].disk: /mnt/b is not among the disks"),
    (changed(*NODE, "restart_fee_usd", to=-1), "$.hosts[0].nodes[0].restart_fee_usd: must be at least 0"),
    (
        changed(*NODE, "restart_loss_hour", to=1),
        "$.hosts[0].nodes[0].restart_loss_hour: unknown key (did you mean rest",
    ),
    (changed(*NODE, "choices", to=[{"name": "a"}]), "$.hosts[0].nodes[0].choices: choices is not supported"),
    (changed(*NODE, "current_choice", to="a"), "$.hosts[0].nodes[0].current_choice: current_choice is not supported"),
    (changed(*NODE, "fill", to={"life_h": 1}), "$.hosts[0].nodes[0].fill: fill is not supported"),
    (changed(*NODE, "scenarios", to=[[1, 2]]), "$.hosts[0].nodes[0].scenarios: scenarios is not supported"),
    (changed(*OTHER, "segments", 0, "width_units", to=-1), "$.hosts[0].nodes[1].segments[0].width_units: must be at"),
    (changed(*OTHER, "segments", 1, "relative", to=2), "$.hosts[0].nodes[1].segments[1].relative: 2 is above"),
    (changed(*OTHER, "segments", 1, "width", to=2), "$.hosts[0].nodes[1].segments[1].width: unknown key"),
    (
        changed(*OTHER, "usd_per_unit_hour_quantiles", to={"0.2": 1}),
        "$.hosts[0].nodes[1].usd_per_unit_hour_quantiles.0",
    ),
    (changed(*OTHER, "watts_per_unit", to=-1), "$.hosts[0].nodes[1].watts_per_unit: must be at least 0"),
]


@pytest.mark.parametrize(("document", "message"), FAULTS, ids=[message for _, message in FAULTS])
def test_a_fault_names_its_path(document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^\$") as caught:
        Problem.from_dict(document)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("key", ["choices", "current_choice", "fill", "scenarios"])
@pytest.mark.parametrize("empty", [None, [], {}])
def test_an_empty_member_of_a_later_version_changes_nothing(key: str, empty: Any) -> None:
    assert Problem.from_dict(changed(*NODE, key, to=empty)) == Problem.from_dict(DOCUMENT)


def test_a_resource_that_is_not_used_needs_no_capacity() -> None:
    problem = Problem.from_dict(changed(*NODE, "uses_per_unit", "gpu_count", to=0))
    assert problem.hosts[0].nodes[0].uses_per_unit == {"cpu_cores": 1.0, "gpu_count": 0.0}


def test_reading_a_problem_loads_neither_numpy_nor_scipy() -> None:
    code = (
        "import sys, json; from depin_orcha.optimize import Plan, Problem, solve;"
        "Problem.from_dict(json.load(sys.stdin)).sha256();"
        "print(sorted({'numpy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(DOCUMENT), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
