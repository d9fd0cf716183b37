"""What holds for every series, however short, broken or odd."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from depin_orcha.forecast import forecast_series
from depin_orcha.forecast.inputs import read_request

LEVELS = (50.0, 80.0, 95.0, 99.5)
amounts = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False), st.floats(0, 10), st.just(0.0), st.integers(0, 5), st.floats(-1e100, 1e100)
)
states = st.sampled_from(["up", "down", "idle", None])
prices = st.one_of(st.none(), st.floats(1e-6, 1e3), st.just(0.0))


@st.composite
def members(draw: st.DrawFn, values: st.SearchStrategy[float] = amounts, *, bare: bool = False) -> dict[str, Any]:
    """A member of ``series``: a short pattern repeated, with holes, outages and prices."""
    pattern = draw(st.lists(st.one_of(values, st.none()), max_size=40))
    y = (pattern * draw(st.integers(1, 12)))[:300]
    member: dict[str, Any] = {
        "id": "a",
        "start": "2026-01-01",
        "freq": draw(st.sampled_from(["15min", "1h", "1d"])),
        "y": y,
    }
    if bare:
        return member
    if draw(st.booleans()):
        member["state"] = draw(st.lists(states, min_size=len(y), max_size=len(y)))
    if draw(st.booleans()):
        member["price"] = draw(st.lists(prices, min_size=len(y), max_size=len(y)))
    return member


@settings(max_examples=150, deadline=None)
@given(member=members(), horizon=st.integers(1, 60))
def test_every_forecast_is_finite_nested_and_repeatable(member: dict[str, Any], horizon: int) -> None:
    document = forecast_series([member], horizon, LEVELS)[0]
    text = json.dumps(document, allow_nan=False)
    assert text == json.dumps(forecast_series([member], horizon, LEVELS)[0])
    observed = [value for value in member["y"] if value is not None]
    if not observed:
        assert document["type"] == "empty"
        assert document["mean"] == [None] * horizon
        return
    earns = any(observed)
    for part, width in ((document, horizon), (totals_as_lists(document["total"]), 1)):
        assert len(part["mean"]) == len(part["median"]) == width
        bounds = [part["lo"][name] for name in reversed(part["lo"])] + [part["median"]] + list(part["hi"].values())
        for lower, upper in pairwise(bounds):
            assert all(low <= high for low, high in zip(lower, upper, strict=True))
        if min(observed) >= 0:
            assert min(part["mean"]) >= 0
            assert min(bounds[0]) >= 0
        if earns and not member.get("state") and not member.get("price"):
            assert all(low < high for low, high in zip(part["lo"]["50"], part["hi"]["50"], strict=True))
    if len(observed) < 48:
        assert document["mase"] is None


def totals_as_lists(total: dict[str, Any]) -> dict[str, Any]:
    """The total in the shape of the hours."""
    return {
        "mean": [total["mean"]],
        "median": [total["median"]],
        **{side: {level: [bound] for level, bound in total[side].items()} for side in ("lo", "hi")},
    }


@settings(max_examples=60, deadline=None)
@given(member=members(st.floats(1e-3, 1e3), bare=True), power=st.integers(-20, 20))
def test_the_unit_does_not_matter(member: dict[str, Any], power: int) -> None:
    factor = 2.0**power
    scaled = {**member, "y": [None if value is None else value * factor for value in member["y"]]}
    plain, other = forecast_series([member, scaled])
    for key in ("model", "type", "flags", "reason", "mase", "hours_of_history"):
        assert plain[key] == other[key]
    for key in ("mean", "median"):
        for value, twin in zip(plain[key], other[key], strict=True):
            assert value is twin is None or math.isclose(value * factor, twin, rel_tol=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 44_639), st.integers(-1000, 1000)), min_size=1, max_size=60
    ),
    order=st.randoms(use_true_random=False),
    freq=st.sampled_from([("15min", 900), ("30min", 1800), ("1h", 3600), ("1d", 86_400)]),
)
def test_rows_in_any_order_add_up_in_their_bins(
    rows: list[tuple[str, int, int]], order: Any, freq: tuple[str, int]
) -> None:
    def text(some: list[tuple[str, int, int]]) -> str:
        moments = [
            (name, f"2026-01-{1 + m // 1440:02}T{m // 60 % 24:02}:{m % 60:02}", value) for name, m, value in some
        ]
        return "series,timestamp,value\n" + "".join(f"{name},{moment},{value}\n" for name, moment, value in moments)

    shuffled = order.sample(rows, len(rows))
    batch = read_request(text(rows), freq[0]).batch
    assert sorted(batch, key=id_of) == sorted(read_request(text(shuffled), freq[0]).batch, key=id_of)
    for member in batch:
        mine = [(minute, value) for name, minute, value in rows if name == member["id"]]
        known = [value for value in member["y"] if value is not None]
        assert sum(known) == sum(value for _, value in mine)
        assert len(known) == len({minute * 60 // freq[1] for minute, _ in mine})
        assert member["y"][0] is not None
        assert member["y"][-1] is not None


def id_of(member: dict[str, Any]) -> str:
    return member["id"]
