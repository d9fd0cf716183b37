"""A case solved by hand, and the textbook model against a textbook."""

import numpy as np
import pytest
from scipy.optimize import linprog

from depin_orcha.optimize import Plan, Problem, solve

# Six cores, all granted. A core earns golem 0.010 - 0.002 = 0.008 $/h. Of grass' four cores two earn 0.012 $/h each,
# two a quarter of it, 0.003. So golem should take two cores from grass: gross gain 2 * 0.008 - 2 * 0.003 = 0.010 $/h.
# golem loses half an hour of max(2 * 0.010, 0.35 * 8 * 0.010) = 0.028 $/h: 0.014 $, over 12 h 0.0011667 $/h.
BOX = {
    "horizon_h": 12,
    "hosts": [
        {
            "host": "box",
            "capacity": {"cpu_cores": 6},
            "nodes": [
                {
                    "node": "golem",
                    "uses_per_unit": {"cpu_cores": 1},
                    "current_units": 2,
                    "max_units": 8,
                    "step_units": 1,
                    "integer": True,
                    "usd_per_unit_hour": [0.005, 0.015] * 6,
                    "running_usd_per_unit_hour": 0.002,
                    "restart_loss_hours": 0.5,
                },
                {
                    "node": "grass",
                    "uses_per_unit": {"cpu_cores": 1},
                    "current_units": 4,
                    "max_units": 4,
                    "usd_per_unit_hour": 0.012,
                    "segments": [{"width_units": 2, "relative": 1}, {"width_units": 1, "relative": 0.25}],
                },
            ],
        }
    ],
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return solve(Problem.from_dict(BOX))


def test_grants_and_worth(plan: Plan) -> None:
    assert (plan.status, plan.decision) == ("optimal", "apply")
    golem, grass = plan.hosts[0].nodes
    assert (golem.units, golem.previous_units, golem.changed, golem.resources) == (4.0, 2.0, True, {"cpu_cores": 4.0})
    assert (grass.units, grass.previous_units, grass.changed) == (2.0, 4.0, True)
    value = plan.hosts[0].value
    assert value.current_usd_per_hour == pytest.approx(2 * 0.008 + 2 * 0.012 + 2 * 0.003, rel=1e-12)
    assert value.new_usd_per_hour == pytest.approx(4 * 0.008 + 2 * 0.012, rel=1e-12)
    assert value.gross_gain_usd_per_hour == pytest.approx(0.010, rel=1e-12)
    assert value.restart_loss_usd == pytest.approx(0.014, rel=1e-12)
    assert value.net_benefit_usd_per_hour == pytest.approx(0.010 - 0.014 / 12, rel=1e-12)


def test_prices_at_which_it_flips(plan: Plan) -> None:
    golem, grass = plan.hosts[0].nodes
    # golem at price p: 2 (p - 0.002) - 0.006 = 0.5 * 2.8 p / 12
    assert golem.flips_at_usd_per_unit_hour == pytest.approx(0.010 / (2 - 1.4 / 12), rel=1e-9)
    # grass at price p: two cores of it are worth 0.5 p, to golem 0.016 less its restart
    assert grass.flips_at_usd_per_unit_hour == pytest.approx((0.016 - 0.014 / 12) / 0.5, rel=1e-9)


def test_what_binds_and_what_a_core_is_worth(plan: Plan) -> None:
    host = plan.hosts[0]
    assert host.binding == ("capacity:cpu_cores",)
    [price] = host.shadow_prices
    assert (price.constraint, price.resource) == ("capacity:cpu_cores", "cpu_cores")
    assert price.usd_per_unit_hour == pytest.approx(0.003, rel=1e-9)


def test_words_carry_the_numbers(plan: Plan) -> None:
    host = plan.hosts[0]
    assert host.reason == plan.reason
    for part in ("2 of 2 nodes change", "+0.008833 $/h", "restart loss 0.014 $", "capacity:cpu_cores"):
        assert part in host.reason
    for part in ("2 -> 4 units", "+0.016 $/h", "limited by capacity:cpu_cores", "beyond 0.00530973 $"):
        assert part in host.nodes[0].reason
    assert "makes room for nodes that earn more with capacity:cpu_cores" in host.nodes[1].reason


def test_the_document_is_plain_json_values_with_the_fixed_keys(plan: Plan) -> None:
    data = plan.to_dict()
    assert set(data) == {"status", "decision", "reason", "hosts", "cap_costs", "solver", "inputs_sha256"}
    host = data["hosts"][0]
    assert {"host", "status", "decision", "reason", "value", "nodes", "shadow_prices", "binding", "relaxed"} < set(host)
    assert set(host["nodes"][0]) == {
        "node",
        "units",
        "choice",
        "previous_units",
        "previous_choice",
        "resources",
        "changed",
        "reason",
        "evidence",
        "flips_at_usd_per_unit_hour",
    }
    assert {type(value) for value in host["value"].values()} == {float}
    assert type(host["binding"]) is list
    assert data["inputs_sha256"] == Problem.from_dict(BOX).sha256()


def test_the_same_problem_gives_the_same_document_but_for_timings(plan: Plan) -> None:
    first, second = plan.to_dict(), solve(Problem.from_dict(BOX)).to_dict()
    for data in (first, second):
        assert data["solver"].pop("build_ms") >= 0
        assert data["solver"].pop("solve_ms") > 0
    assert first == second


def test_without_explaining_the_decision_is_the_same(plan: Plan) -> None:
    short = solve(Problem.from_dict(BOX), explain=False)
    assert [node.units for node in short.hosts[0].nodes] == [node.units for node in plan.hosts[0].nodes]
    assert short.hosts[0].value == plan.hosts[0].value
    assert [node.flips_at_usd_per_unit_hour for node in short.hosts[0].nodes] == [None, None]
    assert short.hosts[0].shadow_prices == ()


@pytest.mark.parametrize("seed", range(25))
def test_the_spec_model_agrees_with_a_textbook_programme(seed: int) -> None:
    random = np.random.default_rng(seed)
    count, capacity = int(random.integers(1, 12)), {"cpu_cores": 8.0, "memory_bytes": 1.6e10, "uplink_bps": 4e7}
    use = random.random((3, count)) * random.integers(0, 2, (3, count)) * [[2.0], [3e9], [1e7]]
    top, least = random.uniform(0.5, 10, count), random.choice([0.0, 0.1], count)
    price = random.choice([1e-9, 1.0, 1e6]) * random.choice([0.01, 0.01 * (1 + 1e-8), -0.02, 0.03], count)
    nodes = [
        {
            "node": f"n{index}",
            "uses_per_unit": dict(zip(capacity, map(float, use[:, index]), strict=True)),
            "current_units": None,
            "max_units": float(top[index]),
            "min_units": float(least[index]),
            "usd_per_unit_hour": [0.5 * float(price[index]), 1.5 * float(price[index])],
            # ignored by this model:
            "restart_loss_hours": 2,
            "running_usd_per_unit_hour": 1,
            "step_units": 1,
            "integer": True,
            "segments": [{"width_units": 1, "relative": 1}, {"width_units": 1, "relative": 0.1}],
        }
        for index in range(count)
    ]
    hosts = [{"host": "box", "capacity": capacity, "nodes": nodes}]
    plan = solve(Problem.from_dict({"horizon_h": 2, "model": "spec", "hosts": hosts}))
    full, room = price * top, np.array(list(capacity.values()))
    textbook = linprog(
        -full / abs(full).max(),
        A_ub=use * top / room[:, None],
        b_ub=np.ones(3),
        bounds=np.column_stack([least / top, np.ones(count)]),
        method="highs",
        options={"dual_feasibility_tolerance": 1e-10},
    )
    best = -textbook.fun * abs(full).max()
    host = plan.hosts[0]
    value = host.runner_up.value if host.runner_up else host.value
    assert textbook.status == 0
    assert value.new_usd_per_hour == pytest.approx(best, rel=1e-9, abs=1e-12 * abs(full).max())
    assert host.decision == ("apply" if best > 0 else "hold")
