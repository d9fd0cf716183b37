"""What was learned is a small state that can be stored, and that speaks again when newer bins are known."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
import simulated
import worlds

from depin_orcha.forecast import forecast_series
from depin_orcha.forecast.document import document
from depin_orcha.forecast.fit import Fit, fingerprint, fitted
from depin_orcha.forecast.history import history_of
from depin_orcha.forecast.pool import candidates
from depin_orcha.forecast.series import Series


def series(y: Any, **member: Any) -> Series:
    return Series.from_member({"id": "a", "start": "2026-01-01", "y": y, **member}, "series[0]")


def of(world: str, hours: int = 720) -> Series:
    y, price, _ = worlds.WORLDS[world](np.random.default_rng(7), hours)
    return series(y) if price is None else series(y, price=price)


@pytest.mark.parametrize("world", worlds.WORLDS)
def test_a_stored_state_says_the_same_byte_for_byte(world: str) -> None:
    one = of(world)
    fit = fitted([one], 24)[0]
    text = json.dumps(fit.to_dict(), allow_nan=False)
    again = Fit.from_dict(json.loads(text))
    assert again == fit
    assert len(text) < 20_000
    levels = [80.0, 95.0]
    assert json.dumps(document(again, one, 24, levels)) == json.dumps(document(fit, one, 24, levels))
    member: dict[str, Any] = {"id": "a", "start": "2026-01-01", "y": one.y}
    if one.price is not None:
        member["price"] = one.price
    assert forecast_series([member])[0] == document(fit, one, 24, [80, 95])


@pytest.mark.parametrize("world", worlds.WORLDS)
@pytest.mark.parametrize("newer", [1, 6, 23])
def test_newer_bins_roll_it_forward(world: str, newer: int) -> None:
    whole = of(world, 744)
    cut = 720
    price = None if whole.price is None else whole.price
    past = series(whole.y[:cut]) if price is None else series(whole.y[:cut], price=price[:cut])
    now = (
        series(whole.y[: cut + newer]) if price is None else series(whole.y[: cut + newer], price=price[: cut + newer])
    )
    fit = fitted([past], 24)[0]
    rolled, fresh = document(fit, now, 24, [80]), document(fitted([now], 24)[0], now, 24, [80])
    assert rolled["start"] == fresh["start"] != document(fit, past, 24, [80])["start"]
    assert rolled["total"]["mean"] == pytest.approx(fresh["total"]["mean"], rel=0.25)
    assert fingerprint(now) != fit.fingerprint == fingerprint(past)


def test_weekdays_stay_what_they_were_when_old_days_fall_out() -> None:
    week = np.repeat([1.0, 1.0, 5.0, 1.0, 3.0, 0.5, 9.0], 24) * np.tile(1 + np.arange(24) / 24, 7)
    y = np.tile(week, 10) * np.random.default_rng(1).lognormal(0, 0.2, 1680)
    fit = fitted([series(y[: 60 * 24])], 24)[0]
    now = series(y[: 61 * 24])
    past = history_of(now, fit.kind, fit.unit)
    assert fit.pool is not None
    said = candidates(fit.pool, past, 24)
    assert said["calendar_log"].mean() * fit.unit == pytest.approx(week[5 * 24 : 6 * 24].mean(), rel=0.25)


def test_the_less_a_model_erred_the_louder_it_speaks() -> None:
    weights = fitted([of("bandwidth")], 24)[0].pool.weights  # pyright: ignore[reportOptionalMemberAccess]
    assert sum(weights.values()) == pytest.approx(1, abs=1e-4)
    assert "zero" not in weights
    assert max(weights.values()) > 4 * min(weights.values())


def test_rolling_forward_costs_less_than_learning() -> None:
    one = of("bandwidth")
    fit = fitted([one], 24)[0]

    def cost(work: Any) -> float:
        begin = time.process_time()
        for _ in range(5):
            work()
        return time.process_time() - begin

    assert cost(lambda: fit.forecast(one, 24, [80])) < 0.8 * cost(lambda: fitted([one], 24))


def test_a_node_that_dies_after_it_was_learned_is_forecast_dead() -> None:
    y = simulated.daylight(4, 300)
    fit = fitted([series(y)], 24)[0]
    found = document(fit, series([*y, *[0.0] * 200]), 24, [80])
    assert found["type"] == "dead"
    assert found["mean"] == [0.0] * 24


def test_another_version_is_refused() -> None:
    state = fitted([of("storage")], 24)[0].to_dict()
    with pytest.raises(ValueError, match="state of version 0"):
        Fit.from_dict(state | {"version": 0})


@pytest.mark.parametrize("world", worlds.WORLDS)
def test_the_multiplier_widens_every_band(world: str) -> None:
    one = of(world)
    fit = fitted([one], 24)[0]
    plain, wide = (document(fit, one, 24, [80], multiplier=factor) for factor in (1.0, 2.0))
    assert wide["median"] == plain["median"]
    for part in ("hi", "lo"):
        distance = [np.abs(np.subtract(doc[part]["80"], doc["median"])) for doc in (plain, wide)]
        assert np.all(distance[1] >= distance[0] - 1e-12)
    assert wide["total"]["hi"]["80"] > plain["total"]["hi"]["80"]


@pytest.mark.parametrize("change", [{"y": "last"}, {"y": "hole"}, {"price": True}, {"state": "down"}, {"state": "up"}])
def test_the_fingerprint_changes_with_what_was_learned_from(change: dict[str, Any]) -> None:
    y = simulated.daylight(4, 100)
    before = fingerprint(series(y))
    assert fingerprint(series(y.copy())) == before
    other = y.copy()
    if change.get("y") == "last":
        other[-1] *= 1.001
    elif change.get("y") == "hole":
        other[5] = np.nan
    extra: dict[str, Any] = {"price": [1.0] * 100} if "price" in change else {}
    extra |= {"state": [change["state"]] * 100} if "state" in change else {}
    assert fingerprint(series(other, **extra)) != before


@pytest.mark.parametrize("horizon", [1, 24, 30, 168, 1000])
def test_any_horizon(horizon: int) -> None:
    for world in worlds.WORLDS:
        one = of(world)
        bands = fitted([one], horizon)[0].forecast(one, horizon, [80])
        assert bands is not None
        assert bands[0].mean.shape == (horizon,)
        assert np.isfinite(bands[0].hi[80]).all()
        assert bands[1].lo[80][0] <= bands[1].median[0] <= bands[1].hi[80][0]
