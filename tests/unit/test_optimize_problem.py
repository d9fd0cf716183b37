"""Reading a problem: what is refused, with which path, and what an accepted one looks like."""

import json
import subprocess
import sys
from copy import deepcopy
from typing import Any

import pytest

from depin_orcha.optimize import Problem
from depin_orcha.optimize.problem import Fill, Risk

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


RICH: dict[str, Any] = {
    "horizon_h": 2,
    "model": "lp",
    "hosts": [
        {
            "host": "box",
            "capacity": {"cpu_cores": 8, "uplink_bps": 1e7},
            "nodes": [
                {
                    "node": "golem_1",
                    "uses_per_unit": {"cpu_cores": 1},
                    "choices": [
                        {"name": "paused", "units": 0, "usd_per_hour": 0},
                        {"name": "cap 4", "units": 4, "usd_per_hour": [0.1, 0.3], "running_usd_per_hour": 0.01},
                        {"name": "cap 5", "units": 5, "usd_per_hour": 0.1},
                    ],
                    "current_choice": "cap 4",
                    "scenarios": [[0.1, 0.2], [0, 0]],
                },
                {
                    "node": "storj_1",
                    "uses_per_unit": {"uplink_bps": 1e5},
                    "current_units": 2,
                    "max_units": 4,
                    "usd_per_unit_hour": 0.002,
                    "fill": {"stored_units": 1, "per_hour": 0.01, "group": "home"},
                    "scenarios": [[0.001, 0.002], [0.003, 0.004]],
                },
            ],
        },
        {"host": "shed", "capacity": {}, "nodes": []},
    ],
    "coupling": [{"name": "isp", "resource": "uplink_bps", "limit": 1e7, "hosts": ["box", "shed"]}],
    "data_caps": [
        {"name": "isp", "hosts": ["box"], "allowance_bytes": 1e12, "overage_usd_per_gb": None},
        {"name": "lte", "hosts": ["shed"], "allowance_bytes": 1e9, "overage_usd_per_gb": 2},
    ],
    "risk": {"lambda": 0.5, "alpha": 0.8},
    "max_income_share": 0.7,
    "max_watts": 200,
    "max_restarts_at_once": 1,
}
GOLEM, STORJ = ("hosts", 0, "nodes", 0), ("hosts", 0, "nodes", 1)


def rich(*where: str | int, to: Any) -> dict[str, Any]:
    """The document with everything in it, one value replaced."""
    document = deepcopy(RICH)
    place: Any = document
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = to
    return document


def test_everything_there_is_reads_back_as_it_was_written() -> None:
    problem = Problem.from_dict(RICH)
    document = json.loads(json.dumps(problem.to_dict()))
    assert Problem.from_dict(document) == problem
    assert (document["risk"], document["max_income_share"]) == ({"lambda": 0.5, "alpha": 0.8}, 0.7)
    assert (document["max_watts"], document["max_restarts_at_once"]) == (200.0, 1)
    assert document["data_caps"][0]["overage_usd_per_gb"] is None
    golem, storj = document["hosts"][0]["nodes"]
    assert golem["scenarios"] == [[0.1, 0.2], [0.0, 0.0]]
    assert storj["fill"]["life_h"] == 240.0
    assert "choices" not in storj
    unset = Problem.from_dict(rich(*GOLEM, "current_choice", to=None))
    assert Problem.from_dict(unset.to_dict()) == unset
    assert unset.to_dict()["hosts"][0]["nodes"][0]["current_choice"] is None
    assert unset.hosts[0].nodes[0].current_units is None


def test_choices_tell_the_grant_in_force_the_largest_and_the_price() -> None:
    golem = Problem.from_dict(RICH).hosts[0].nodes[0]
    assert (golem.current_units, golem.max_units, golem.usd_per_unit_hour) == (4.0, 5.0, (0.1 / 5, 0.3 / 5))
    assert golem.choices[1].running_usd_per_hour == 0.01


def test_a_risk_without_alpha_looks_at_the_worst_tenth() -> None:
    assert Problem.from_dict(rich("risk", to={"lambda": 1})).risk == Risk(1.0, 0.9)


def test_no_path_is_no_scenario() -> None:
    document = rich(*GOLEM, "scenarios", to=[])
    document["hosts"][0]["nodes"][1]["scenarios"] = None
    assert Problem.from_dict(document).hosts[0].nodes[0].scenarios is None


RICH_FAULTS: list[tuple[Any, str]] = [
    (rich("risk", to={"alpha": 0.5}), "$.risk.lambda: is required"),
    (rich("risk", to={"lambda": 1.1}), "$.risk.lambda: must be at most 1, not 1.1"),
    (rich("risk", to={"lambda": -0.1}), "$.risk.lambda: must be at least 0"),
    (rich("risk", to={"lambda": 0.5, "alpha": 1}), "$.risk.alpha: must be below 1"),
    (rich("risk", to={"lambda": 0.5, "alpha": 0}), "$.risk.alpha: must be above 0 and at most 1"),
    (rich("risk", "theta", to=1), "$.risk.theta: unknown key"),
    (rich("max_income_share", to=0), "$.max_income_share: must be above 0 and at most 1, not 0"),
    (rich("max_income_share", to=1.2), "$.max_income_share: must be above 0 and at most 1, not 1.2"),
    (rich("max_watts", to=-1), "$.max_watts: must be at least 0"),
    (rich("max_watts", to=float("nan")), "$.max_watts: must be finite"),
    (rich("max_restarts_at_once", to=0.5), "$.max_restarts_at_once: must be a whole number"),
    (rich("coupling", 0, "hosts", to=["attic"]), "$.coupling[0].hosts[0]: attic is not among the hosts"),
    (rich("coupling", 0, "hosts", to=["box", "box"]), "$.coupling[0].hosts[1]: box stands twice"),
    (rich("coupling", 0, "resource", to="watts"), "$.coupling[0].resource: must be one of cpu_cores"),
    (rich("coupling", 0, "limit", to=-1), "$.coupling[0].limit: must be at least 0"),
    (rich("coupling", 0, to={"name": "isp"}), "$.coupling[0].resource: is required"),
    (rich("coupling", to=RICH["coupling"] * 2), "$.coupling[1].name: isp stands twice"),
    (rich("data_caps", 1, "name", to="isp"), "$.data_caps[1].name: isp stands twice"),
    (rich("data_caps", 0, "hosts", to="box"), "$.data_caps[0].hosts: must be an array"),
    (rich("data_caps", 0, "allowance_bytes", to=-1), "$.data_caps[0].allowance_bytes: must be at least 0"),
    (rich("data_caps", 1, "overage_usd_per_gb", to=-1), "$.data_caps[1].overage_usd_per_gb: must be at least 0"),
    (rich("data_caps", 1, "price", to=1), "$.data_caps[1].price: unknown key"),
    (rich(*GOLEM, "choices", to=[]), "$.hosts[0].nodes[0].choices: must have at least one"),
    (rich(*GOLEM, "choices", 1, "name", to="paused"), "$.hosts[0].nodes[0].choices[1].name: paused stands twice"),
    (rich(*GOLEM, "choices", 1, "units", to=-1), "$.hosts[0].nodes[0].choices[1].units: must be at least 0"),
    (rich(*GOLEM, "choices", 1, "usd_per_hour", to=[1]), "$.hosts[0].nodes[0].choices[1].usd_per_hour: must have 2"),
    (rich(*GOLEM, "choices", 1, "usd", to=1), "$.hosts[0].nodes[0].choices[1].usd: unknown key"),
    (rich(*GOLEM, "choices", 0, to={"name": "a", "units": 1}), "$.hosts[0].nodes[0].choices[0].usd_per_hour: is req"),
    (rich(*GOLEM, "current_choice", to="cap 9"), "$.hosts[0].nodes[0].current_choice: cap 9 is not among the choices"),
    (rich(*GOLEM, "current_units", to=3), "$.hosts[0].nodes[0].current_units: must be the units of current_choice"),
    (rich(*GOLEM, "segments", to=[{}]), "$.hosts[0].nodes[0].segments: cannot stand beside choices"),
    (rich(*GOLEM, "fill", to={"a": 1}), "$.hosts[0].nodes[0].fill: cannot stand beside choices"),
    (rich(*GOLEM, "scenarios", to=[[0, 1], [-1, 0]]), "$.hosts[0].nodes[0].scenarios: beside choices must have a mean"),
    (rich(*STORJ, "current_choice", to="a"), "$.hosts[0].nodes[1].current_choice: needs choices"),
    (rich(*STORJ, "scenarios", to=[[1, 2]]), "$.hosts[0].nodes[1].scenarios: has 1 paths, $.hosts[0].nodes[0] has 2"),
    (rich(*STORJ, "scenarios", to=[[1], [2]]), "$.hosts[0].nodes[1].scenarios[0]: must have 2 numbers"),
    (rich(*STORJ, "scenarios", to=[1]), "$.hosts[0].nodes[1].scenarios[0]: must be an array"),
    (rich(*STORJ, "fill", to={"stored_units": 1}), "$.hosts[0].nodes[1].fill.per_hour: is required"),
    (rich(*STORJ, "fill", "stored_units", to=-1), "$.hosts[0].nodes[1].fill.stored_units: must be at least 0"),
    (rich(*STORJ, "fill", "delete_per_hour", to=1.5), "$.hosts[0].nodes[1].fill.delete_per_hour: is a part"),
    (rich(*STORJ, "fill", "grup", to="a"), "$.hosts[0].nodes[1].fill.grup: unknown key (did you mean group?)"),
]


@pytest.mark.parametrize(("document", "message"), RICH_FAULTS, ids=[message for _, message in RICH_FAULTS])
def test_a_fault_in_what_is_optional_names_its_path(document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"^\$") as caught:
        Problem.from_dict(document)
    assert str(caught.value).startswith(message)


def test_choices_need_to_say_which_of_them_is_in_force() -> None:
    document = deepcopy(RICH)
    del document["hosts"][0]["nodes"][0]["current_choice"]
    with pytest.raises(ValueError, match=r"^\$\.hosts\[0\]\.nodes\[0\]\.current_choice: is required"):
        Problem.from_dict(document)


def test_a_host_and_a_node_together_name_one_node() -> None:
    document = deepcopy(RICH)
    document["hosts"][0]["nodes"][1]["node"] = "b/c"
    one = document["hosts"][0]["nodes"][1]
    document["hosts"][1] = {"host": "box/b", "capacity": {"uplink_bps": 1}, "nodes": [one | {"node": "c"}]}
    document["coupling"], document["data_caps"] = [], []
    with pytest.raises(ValueError, match=r"^\$\.hosts\[1\]\.nodes\[0\]\.node: box/b/c means two nodes"):
        Problem.from_dict(document)


def test_nodes_of_one_group_share_one_intake() -> None:
    document = deepcopy(RICH)
    document["hosts"][0]["nodes"].append(document["hosts"][0]["nodes"][1] | {"node": "storj_2"})
    assert Problem.from_dict(document).hosts[0].nodes[2].fill == Fill(1.0, 0.01, group="home")
    document["hosts"][0]["nodes"][2] |= {"fill": {"stored_units": 0, "per_hour": 0.02, "group": "home"}}
    with pytest.raises(ValueError, match=r"nodes\[2\]\.fill\.per_hour: 0.02 differs from the 0.01 of group home"):
        Problem.from_dict(document)


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
