"""The edges of a problem, one by one: what is decided at each."""

import random
from typing import Any

import pytest
from optimize_parts import box, decided, grants, node, offer, planned, solved

from depin_orcha.optimize import Problem, solve

MEAN_OF_JUMP = (11 * 0.01 + 0.1) / 12
SPEC = {"min_improvement_pct": 10, "min_net_benefit_usd_per_hour": 0.5, "ignore_change_pct": 5}
TIGHT_DISK = {"capacity": {"storage_bytes": 2e12}, "disks": {"/mnt/a": 2e12}}
STORED = node("a", uses_per_unit={"storage_bytes": 1e12}, disk="/mnt/a", current_units=3)
SPENT = {"name": "lte", "hosts": ["box"], "allowance_bytes": 0, "overage_usd_per_gb": None}

Edge = tuple[dict[str, Any], str, str, list[float]]


def document(*nodes: dict[str, Any], cores: float = 8, **top: Any) -> dict[str, Any]:
    return {"horizon_h": 12, "hosts": [box("box", *nodes, cpu_cores=cores)]} | top


EDGES: dict[str, Edge] = {
    "no protocol enabled": (document(), "optimal", "hold", []),
    "no host": ({"horizon_h": 12, "hosts": []}, "optimal", "hold", []),
    "one protocol": (document(node("a")), "optimal", "apply", [8.0]),
    "all forecasts at most 0: minimums only": (
        document(node("a", usd_per_unit_hour=0, min_units=1, running_usd_per_unit_hour=0.001)),
        "optimal",
        "apply",
        [1.0],
    ),
    "a forecast below 0 on a choice": (
        document(offer("a", "on", ("off", 0, 0.0), ("on", 4, -0.01))),
        "optimal",
        "apply",
        [0.0],
    ),
    "zero capacity, nothing granted": (document(node("a", current_units=0), cores=0), "optimal", "hold", [0.0]),
    "zero capacity, something granted": (document(node("a"), cores=0), "held", "hold", [4.0]),
    "zero capacity, a minimum": (
        document(node("a", current_units=None, min_units=1), cores=0),
        "relaxed",
        "hold",
        [0.0],
    ),
    "capacity below the used disk, nothing stored": (
        {"horizon_h": 12, "hosts": [{"host": "box", "nodes": [STORED]} | TIGHT_DISK]},
        "held",
        "hold",
        [3.0],
    ),
    "capacity below the used disk, all of it stored": (
        {
            "horizon_h": 12,
            "hosts": [{"host": "box", "nodes": [STORED | {"fill": {"stored_units": 3, "per_hour": 0.1}}]} | TIGHT_DISK],
        },
        "relaxed",
        "hold",
        [3.0],
    ),
    "floor above the maximum": (document(node("a", floor_units=9), cores=20), "relaxed", "hold", [4.0]),
    "restart time 0: pure greedy": (
        document(node("a", usd_per_unit_hour=0.01), node("b", usd_per_unit_hour=0.0100001)),
        "optimal",
        "apply",
        [0.0, 8.0],
    ),
    "restart time huge: pure hold": (
        document(node("a", restart_loss_hours=1e9), node("b", usd_per_unit_hour=9, restart_loss_hours=1e9)),
        "optimal",
        "hold",
        [4.0, 4.0],
    ),
    "a price that jumps tenfold for one hour does not pay a restart": (
        document(node("a"), node("b", usd_per_unit_hour=[0.01] * 11 + [0.1], restart_loss_hours=12)),
        "optimal",
        "hold",
        [4.0, 4.0],
    ),
    "a price that jumps tenfold for one hour counts by its mean": (
        document(node("a"), node("b", usd_per_unit_hour=[0.01] * 11 + [0.1])),
        "optimal",
        "apply",
        [0.0, 8.0],
    ),
    "protocol unreachable: its grant frozen, the rest optimised": (
        document(node("a", frozen=True, usd_per_unit_hour=0), node("b", current_units=1)),
        "optimal",
        "apply",
        [4.0, 4.0],
    ),
    "forecast older than its limit: evidence none holds": (document(node("a", evidence="none")), "held", "hold", [4.0]),
    "grant in force differs from the last decision: the measured one counts": (
        document(node("a", current_units=3.3, step_units=1, integer=True)),
        "optimal",
        "apply",
        [8.0],
    ),
    "restart in progress: dwell": (
        document(node("a", min_dwell_h=1, hours_since_change=0.25)),
        "held",
        "hold",
        [4.0],
    ),
    "a single segment": (
        document(node("a", segments=[{"width_units": 1, "relative": 1}])),
        "optimal",
        "apply",
        [8.0],
    ),
    "a segment without width": (
        document(node("a", segments=[{"width_units": 0, "relative": 1}, {"width_units": 9, "relative": 0.5}])),
        "optimal",
        "apply",
        [8.0],
    ),
    "a flat tail": (
        document(
            node(
                "a",
                current_units=0,
                segments=[{"width_units": 3, "relative": 1}, {"width_units": 5, "relative": 0}],
            )
        ),
        "optimal",
        "apply",
        [3.0],
    ),
    "data cap already exceeded": (
        document(node("a", traffic_bytes_per_unit_hour=1), data_caps=[SPENT]),
        "held",
        "hold",
        [4.0],
    ),
    "data cap already exceeded, nothing granted": (
        document(node("a", current_units=0, traffic_bytes_per_unit_hour=1), data_caps=[SPENT]),
        "optimal",
        "hold",
        [0.0],
    ),
    "thresholds of the textbook freeze a small host": (document(node("a"), thresholds=SPEC), "held", "hold", [4.0]),
    "a horizon of one hour": (document(node("a"), horizon_h=1), "optimal", "apply", [8.0]),
    "a choice of nothing, always": (document(offer("a", "off", ("off", 0, 0.0))), "optimal", "hold", [0.0]),
    "choices none of which fits": (
        document(offer("a", None, ("on", 9, 1.0)), cores=4),
        "optimal",
        "hold",
        [0.0],
    ),
    "the choice in force no longer fits": (
        document(offer("a", "on", ("on", 9, 1.0), ("off", 0, 0.0)), cores=4),
        "held",
        "hold",
        [9.0],
    ),
    "nothing comes in any more": (
        document(node("a", fill={"stored_units": 2, "per_hour": 0})),
        "optimal",
        "hold",
        [4.0],
    ),
    "all is deleted every hour": (
        document(node("a", fill={"stored_units": 2, "per_hour": 0, "delete_per_hour": 1})),
        "optimal",
        "hold",
        [4.0],
    ),
    "one scenario": (document(node("a", scenarios=[[0.01] * 12]), risk={"lambda": 1}), "optimal", "apply", [8.0]),
}


@pytest.mark.parametrize("name", EDGES)
def test_at_the_edge(name: str) -> None:
    problem, status, decision, units = EDGES[name]
    plan = solve(Problem.from_dict(problem))
    assert (plan.status, plan.decision) == (status, decision)
    assert [each.units for host in plan.hosts for each in host.nodes] == units
    assert plan.reason


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), -1])
@pytest.mark.parametrize("key", ["current_units", "max_units", "min_units", "restart_loss_hours"])
def test_numbers_that_are_none_or_negative_are_refused(key: str, number: float) -> None:
    with pytest.raises(ValueError, match=rf"^\$\.hosts\[0\]\.nodes\[0\]\.{key}: must"):
        Problem.from_dict(document(node("a", **{key: number})))


def test_a_minimum_above_the_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match="min_units: 9 is above max_units 8"):
        Problem.from_dict(document(node("a", min_units=9)))


@pytest.mark.parametrize("key", ["usd_per_unit_hour", "running_usd_per_unit_hour"])
def test_a_horizon_past_the_end_of_the_forecasts_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"{key}: must have 12 numbers, one per hour, not 6"):
        Problem.from_dict(document(node("a", **{key: [0.01] * 6})))


def test_prices_that_are_equal_but_for_noise_never_flap() -> None:
    noise, units, moves = random.Random(7), [2.0, 6.0, 0.0], 0
    for _ in range(100):
        prices = [0.01 * (1 + noise.gauss(0, 0.03)) for _ in units]
        nodes = [
            node(name, current_units=now, usd_per_unit_hour=price, restart_loss_hours=1, restart_fee_usd=0.0001)
            for name, now, price in zip("abc", units, prices, strict=True)
        ]
        plan = solved(*nodes)
        moves += sum(each.changed for each in plan.hosts[0].nodes)
        units = grants(plan.hosts[0])
    assert (moves, units) == (0, [2.0, 6.0, 0.0])


def test_choices_that_are_equal_but_for_noise_never_flap() -> None:
    noise, current = random.Random(7), "b"
    for _ in range(100):
        offers = [(name, 4, 0.05 * (1 + noise.gauss(0, 0.02))) for name in "abc"]
        host = decided(offer("golem", current, *offers, restart_loss_hours=1))
        current = host.nodes[0].choice
        assert current == "b"


def test_exactly_equal_prices_never_move_even_when_moves_are_free() -> None:
    for units in ([2, 6], [6, 2], [0, 8], [3.7, 4.3]):
        nodes = [node(name, current_units=now) for name, now in zip("ab", units, strict=True)]
        assert grants(decided(*nodes)) == units
    assert decided(offer("golem", "b", ("a", 4, 0.05), ("b", 4, 0.05))).decision == "hold"


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_tiny_and_huge_prices_give_the_same_plan(scale: float) -> None:
    nodes = [
        node("a", usd_per_unit_hour=0.01 * scale, restart_loss_hours=1),
        offer("b", "off", ("off", 0, 0.0), ("on", 3, 0.06 * scale), restart_loss_hours=1),
        node("c", usd_per_unit_hour=0.002 * scale, fill={"stored_units": 1, "per_hour": 0.5, "life_h": 0}),
    ]
    host = decided(*nodes, cores=9)
    assert (host.nodes[0].units, host.nodes[1].choice, host.nodes[2].units) == (5.0, "on", 1.0)
    assert host.value.current_usd_per_hour == pytest.approx(
        scale * (0.04 + 0.002 * (1.5 + 2 + 2.5 + 3 + 3.5 + 7 * 4) / 12)
    )


def test_prices_nine_and_more_powers_of_ten_apart_meet_in_one_host() -> None:
    host = decided(
        node("a", current_units=0, usd_per_unit_hour=1e-9),
        node("b", current_units=0, usd_per_unit_hour=1e6, max_units=5),
        offer("c", None, ("one", 1, 1e-3), ("two", 2, 1e-2)),
    )
    assert ([each.units for each in host.nodes], host.nodes[2].choice) == ([1.0, 5.0, 2.0], "two")


def test_a_jump_in_the_mean_is_what_was_said() -> None:
    host = decided(node("a", usd_per_unit_hour=[0.01] * 11 + [0.1]))
    assert host.value.new_usd_per_hour == pytest.approx(8 * MEAN_OF_JUMP)


def test_thresholds_that_freeze_a_host_are_told() -> None:
    host = decided(node("a"), thresholds=SPEC)
    assert [advice.kind for advice in host.advice] == ["threshold"]
    assert "0.5 exceeds what the whole host earns now (0.04 $/h)" in host.advice[0].text


def test_equal_problems_give_equal_documents_with_everything_in_them() -> None:
    nodes = [
        node("a", protocol="x", watts_per_unit=1, scenarios=[[0.01] * 12, [0.02] * 12]),
        offer("b", "off", ("off", 0, 0.0), ("on", 3, 0.06), protocol="y", scenarios=[[0.5] * 12, [1.0] * 12]),
    ]
    top: dict[str, Any] = {"risk": {"lambda": 0.5}, "max_watts": 50, "max_income_share": 0.7}
    plans = [planned(box("x", *nodes), box("y", *nodes), **top).to_dict() for _ in range(2)]
    for plan in plans:
        plan["solver"] |= {"build_ms": 0, "solve_ms": 0}
    assert plans[0] == plans[1]
