"""Forecasts of single series: what they contain, what they are worth, and what they say when little is known."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import simulated

from depin_orcha.errors import DataError, ExitCode
from depin_orcha.forecast import forecast_series


def one(y: Any, horizon: int = 24, levels: tuple[float, ...] = (80, 95), **member: Any) -> dict[str, Any]:
    """The forecast of a single hourly series."""
    values = [None if value is None or math.isnan(value) else float(value) for value in y]
    document = {"id": "a", "start": "2026-01-01T00:00:00Z", "freq": "1h", "y": values, **member}
    return forecast_series([document], horizon, levels)[0]


def band(document: dict[str, Any], level: str) -> tuple[np.ndarray, np.ndarray]:
    return np.array(document["lo"][level]), np.array(document["hi"][level])


def test_has_exactly_the_promised_keys() -> None:
    document = one(simulated.daylight(1, 200))
    assert list(document) == [
        *("id", "start", "model", "models", "type", "reason", "flags", "hours_of_history", "mase"),
        *("mean", "median", "lo", "hi", "total"),
    ]
    assert list(document["total"]) == ["mean", "median", "lo", "hi"]
    assert list(document["lo"]) == list(document["hi"]) == list(document["total"]["lo"]) == ["80", "95"]
    assert {len(document["mean"]), len(document["median"]), len(document["lo"]["80"]), len(document["hi"]["95"])} == {
        24
    }
    assert document["model"] == "combination"
    assert sum(document["models"].values()) == pytest.approx(1.0, abs=1e-4)
    assert list(document["models"].values()) == sorted(document["models"].values(), reverse=True)
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_starts_at_the_end_of_the_last_bin_and_keeps_the_order() -> None:
    batch = [
        {"id": "b", "start": "2026-01-01T00:00:00Z", "freq": "1h", "y": [1.0] * 30},
        {"id": "a", "start": "2026-01-01T01:00:00+01:00", "freq": "15min", "y": [1.0] * 4},
        {"id": "c", "start": "2026-01-01", "freq": "1d", "y": []},
    ]
    found = [(document["id"], document["start"]) for document in forecast_series(batch)]
    assert found == [("b", "2026-01-02T06:00:00Z"), ("a", "2026-01-01T01:00:00Z"), ("c", "2026-01-01T00:00:00Z")]
    assert forecast_series([]) == []


@pytest.mark.parametrize(
    ("hours", "kind", "low_history", "model"),
    [
        (1, "new", True, "recent_mean"),
        (29, "new", True, "recent_mean"),
        (49, "regular", False, None),
        (200, "regular", False, None),
    ],
)
def test_short_histories(hours: int, kind: str, low_history: bool, model: str | None) -> None:
    document = one(simulated.daylight(3, hours))
    assert document["type"] == kind
    assert ("low_history" in document["flags"]) is low_history
    assert document["hours_of_history"] == hours
    assert model in (None, document["model"])
    assert (document["mase"] is None) is (hours < 48)


def test_the_less_is_known_the_wider_the_band() -> None:
    widths = [np.subtract(*band(one([0.05] * hours), "80")[::-1]).mean() / 0.05 for hours in (1, 5, 29, 47, 200)]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 1
    assert widths[-1] == pytest.approx(0.01)


@pytest.mark.parametrize("y", [[], [None] * 100])
def test_nothing_observed_says_nothing(y: list[float | None]) -> None:
    document = one(y)
    assert (document["type"], document["flags"], document["model"], document["models"]) == (
        "empty",
        ["low_history"],
        None,
        {},
    )
    assert document["mean"] == document["median"] == document["lo"]["80"] == document["hi"]["95"] == [None] * 24
    assert document["total"] == {
        "mean": None,
        "median": None,
        "lo": {"80": None, "95": None},
        "hi": {"80": None, "95": None},
    }
    assert document["hours_of_history"] == 0


def test_what_was_observed_long_ago_says_nothing_about_tomorrow() -> None:
    document = one([*[1.0] * 100, *[None] * 60 * 24])
    assert (document["type"], document["mean"], document["hours_of_history"]) == ("empty", [None] * 24, 100)
    assert document["reason"].startswith("nothing was observed in the last 60 days")


def test_never_earned_is_zero_without_a_band() -> None:
    document = one([0.0] * 300)
    assert document["type"] == "dead"
    assert document["mean"] == document["hi"]["95"] == [0.0] * 24
    assert document["mase"] is None


def test_stopped_earning_is_zero_but_never_certain() -> None:
    document = one([*simulated.daylight(4, 300), *[0.0] * 200])
    assert (document["type"], document["model"]) == ("dead", "zero")
    assert document["mean"] == document["median"] == [0.0] * 24
    assert min(document["hi"]["80"]) > 0


def test_a_pause_like_earlier_ones_is_not_the_end() -> None:
    y = np.tile([*[0.0] * 90, *[1.0] * 60], 4)
    assert one([*y, *[0.0] * 100])["type"] == "intermittent"


def test_constant_has_a_band_of_one_percent() -> None:
    document = one([0.5] * 720)
    low, high = band(document, "80")
    assert document["mean"] == pytest.approx([0.5] * 24)
    assert high - low == pytest.approx(np.full(24, 0.005))
    assert document["total"]["hi"]["80"] - document["total"]["lo"]["80"] == pytest.approx(0.005 * 24**0.5)


def test_single_spike_leaves_the_median_at_zero() -> None:
    document = one([*[0.0] * 400, 100.0, *[0.0] * 319])
    assert document["median"] == [0.0] * 24
    assert max(document["lo"]["95"]) == 0.0
    assert 0 < document["total"]["mean"] < 10
    assert min(document["hi"]["80"]) > 0


def test_unobserved_ends_change_nothing_but_the_start() -> None:
    y = simulated.daylight(5, 24 * 20)
    inner = one(y)
    outer = one([*[None] * 24, *y, *[None] * 24])
    assert outer["hours_of_history"] == inner["hours_of_history"]
    assert outer["mean"] == pytest.approx(inner["mean"], rel=0.2)


def test_a_gap_is_not_zero() -> None:
    y = simulated.daylight(6, 720)
    holes, zeros = y.copy(), y.copy()
    holes[600:690], zeros[600:690] = np.nan, 0.0
    full, gappy, zeroed = one(y), one(holes), one(zeros, state=["idle"] * 720)
    assert gappy["flags"] == ["gappy"]
    assert gappy["total"]["mean"] == pytest.approx(full["total"]["mean"], rel=0.1)
    assert zeroed["total"]["mean"] < 0.98 * full["total"]["mean"]
    assert gappy["hours_of_history"] == 630


def test_amounts_below_zero_are_kept() -> None:
    y = simulated.daylight(7, 400) - 0.05
    document = one(y)
    assert min(document["mean"]) < 0
    assert min(document["lo"]["95"]) < min(document["lo"]["80"]) < 0


def test_history_without_losses_forecasts_none() -> None:
    document = one(simulated.daylight(8, 400))
    assert min(document["lo"]["95"]) == 0.0
    assert document["total"]["lo"]["95"] >= 0.0


def test_outage_told_by_state_is_not_earnings_of_zero() -> None:
    y, state = simulated.daylight(9, 720), ["up"] * 720
    full = one(y)
    y[600:660], state[600:660] = 0.0, ["down"] * 60
    told, idle = one(y, state=state), one(y, state=["idle"] * 720)
    assert told["total"]["mean"] == pytest.approx(full["total"]["mean"], rel=0.05)
    assert told["total"]["lo"]["80"] > idle["total"]["lo"]["80"]
    assert told["hours_of_history"] == 720
    assert "down" not in told["flags"]


def test_down_at_the_origin_opens_the_lower_bounds() -> None:
    y, state = simulated.daylight(10, 720), ["up"] * 720
    running = one(y)
    for start, end in ((100, 140), (300, 340), (690, 720)):
        y[start:end], state[start:end] = 0.0, ["down"] * (end - start)
    document = one(y, state=state)
    assert "down" in document["flags"]
    assert "is down" in document["reason"]
    assert document["lo"]["80"] == [0.0] * 24
    assert document["total"]["lo"]["95"] == 0.0
    assert document["median"][0] == 0.0, "it has been down for 30 h, and earlier outages lasted 40 h"
    assert document["median"][-1] > 0
    assert document["total"]["mean"] < running["total"]["mean"]


def test_down_with_losses_opens_the_upper_bounds() -> None:
    document = one([-1.0] * 100, state=["up"] * 98 + ["down"] * 2)
    assert document["median"][0] == document["hi"]["80"][0] == 0.0
    assert document["total"]["lo"]["80"] < document["total"]["median"] < document["total"]["hi"]["80"] == 0.0


def test_a_node_that_was_always_down_keeps_its_zeros() -> None:
    assert one([0.0] * 100, state=["down"] * 100)["mean"] == [0.0] * 24


def test_tokens_are_valued_at_the_last_known_price() -> None:
    tokens = simulated.daylight(11, 720)
    price = [2.0] * 719 + [1.0]
    in_tokens, in_usd = one(tokens), one(tokens * price, price=price)
    assert in_usd["mean"] == pytest.approx(in_tokens["mean"], rel=0.05)
    assert in_usd["models"] == pytest.approx(in_tokens["models"])
    unpriced_end = one(tokens * price, price=[*price[:710], *[None] * 10])
    assert sum(unpriced_end["mean"]) > 1.8 * sum(in_usd["mean"]), "null repeats the last known price"


def test_price_risk_is_in_the_band() -> None:
    """The price of each hour multiplies the earnings, while a backtest knows only that of its own origin."""
    tokens = simulated.storage(12, 720)
    walk = np.exp(np.cumsum(np.random.default_rng(12).normal(0, 0.01, 720)))
    steady = one(tokens * walk[-1], price=[walk[-1]] * 720)
    moving = one(tokens * walk, price=walk.tolist())
    width = [document["total"]["hi"]["80"] - document["total"]["lo"]["80"] for document in (steady, moving)]
    assert width[1] > 1.5 * width[0]
    assert moving["total"]["mean"] == pytest.approx(steady["total"]["mean"], rel=0.15)


def test_earnings_before_the_first_price_are_unknown_tokens() -> None:
    y = np.concatenate((np.full(300, 9.0), simulated.daylight(13, 420)))
    late = one(y, price=[None] * 300 + [1.0] * 420)
    assert max(late["hi"]["95"]) < 1
    assert late["hours_of_history"] == 720


def test_prices_that_value_nothing_are_left_aside() -> None:
    y = simulated.daylight(14, 200)
    assert one(y, price=[None] * 200)["mean"] == one(y)["mean"]
    assert one([0.0] * 100, price=[0.0] * 100)["mean"] == [0.0] * 24


@pytest.mark.parametrize(("freq", "season", "hours"), [("15min", 96, 0.25), ("30min", 48, 0.5), ("1d", 7, 24)])
def test_other_bins_have_their_own_season(freq: str, season: int, hours: float) -> None:
    pattern = 1 + np.sin(2 * np.pi * np.arange(season) / season)
    document = one(np.tile(pattern, 10), horizon=season, freq=freq)
    assert document["median"] == pytest.approx(pattern, abs=1e-6)
    assert document["hours_of_history"] == season * 10 * hours
    assert one(pattern, freq=freq)["type"] == "new"


def test_horizon_beyond_the_history() -> None:
    document = one(simulated.bandwidth(15, 100), horizon=168)
    assert len(document["mean"]) == 168
    assert document["total"]["lo"]["80"] < document["total"]["median"] < document["total"]["hi"]["80"]


def test_weekly_pattern_is_repeated_where_the_day_fails() -> None:
    week = np.repeat([1.0, 1.0, 5.0, 1.0, 3.0, 0.5, 9.0], 24)
    document = one(np.tile(week, 4), horizon=168)
    assert "weekly_naive" in document["models"]
    assert document["median"] == pytest.approx(week, abs=0.01)


def test_any_levels_nest() -> None:
    document = one(simulated.bandwidth(16, 500), levels=(99.0, 50, 97.5))
    assert list(document["lo"]) == ["50", "97.5", "99"]
    for inner, outer in (("50", "97.5"), ("97.5", "99")):
        assert np.all(band(document, inner)[0] >= band(document, outer)[0])
        assert np.all(band(document, inner)[1] <= band(document, outer)[1])


def test_the_total_is_not_the_sum_of_the_hours() -> None:
    document = one(simulated.daylight(17, 720))
    hours = np.sum(document["hi"]["80"]) - np.sum(document["lo"]["80"])
    total = document["total"]["hi"]["80"] - document["total"]["lo"]["80"]
    assert total < hours / 2, "independent errors cancel"
    assert document["total"]["mean"] == pytest.approx(sum(document["mean"]))


def test_tasks_in_bursts_have_a_median_of_zero_and_a_mean_that_adds_up() -> None:
    means, medians, history = [], [], []
    for seed in range(40):
        y = simulated.tasks(seed, 720)
        document = one(y)
        assert "bursty" in document["flags"]
        means.append(document["total"]["mean"])
        medians.extend(document["median"])
        history.append(24 * y.mean())
    assert np.mean(np.equal(medians, 0.0)) > 0.9
    assert np.mean(means) == pytest.approx(np.mean(history), rel=0.05)


def test_equal_input_gives_equal_output() -> None:
    y = simulated.bandwidth(19, 500)
    assert json.dumps(one(y)) == json.dumps(one(y.copy()))


def test_only_the_last_sixty_days_count() -> None:
    recent = simulated.bandwidth(20, 60 * 24)
    old = np.full(6 * 168, 50.0)
    assert one([*old, *recent])["mean"] == one(recent)["mean"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"y": [1.0, math.inf]}, "series[0].y[1]: expected a finite amount, got inf"),
        ({"y": [10**400]}, "series[0].y[0]: expected a finite amount"),
        ({"y": [1.0, "2"]}, "series[0].y[1]: expected a number or null, got '2'"),
        ({"y": [True]}, "series[0].y[0]: expected a number or null, got True"),
        ({"y": 5}, "series[0].y: expected a list of numbers, got 5"),
        ({"price": [1.0]}, "series[0].price: has 1 values, y has 2"),
        ({"price": [1.0, -1.0]}, "series[0].price[1]: a price cannot be negative"),
        ({"price": [1.0, -math.inf]}, "series[0].price[1]: expected a finite amount"),
        ({"state": ["up", "broken"]}, "series[0].state[1]: expected up, down, idle or null, got 'broken'"),
        ({"state": ["up"]}, "series[0].state: has 1 values, y has 2"),
        ({"state": "up"}, "series[0].state: expected a list of states"),
        ({"state": ["up", []]}, "series[0].state[1]: expected up"),
        ({"start": "yesterday"}, "series[0].start: expected an RFC 3339 time, got 'yesterday'"),
        ({"start": 1763000000}, "series[0].start: expected an RFC 3339 time"),
        ({"start": "2026-01-01T00:30:00Z"}, "series[0].start: 2026-01-01T00:30:00Z is not the start of a bin"),
        ({"freq": "1w"}, "series[0].freq: expected one of 15min, 30min, 1h, 1d, got '1w'"),
        ({"freq": ["1h"]}, "series[0].freq: expected one of"),
        ({"id": 7}, "series[0].id: expected text, got 7"),
        ({"prices": []}, "series[0].prices: unknown key"),
    ],
)
def test_a_wrong_member_is_named_by_path(change: dict[str, Any], complaint: str) -> None:
    member = {"id": "a", "start": "2026-01-01T00:00:00Z", "freq": "1h", "y": [1.0, 2.0], **change}
    with pytest.raises(ValueError, match="series") as refused:
        forecast_series([member])
    assert str(refused.value).startswith(complaint)
    assert isinstance(refused.value, DataError)
    assert refused.value.exit_code is ExitCode.DATA


def test_a_member_names_what_it_lacks() -> None:
    with pytest.raises(ValueError, match=r"^series\[1\].y: missing$"):
        forecast_series([{"id": "a", "start": "2026-01-01", "y": []}, {"id": "b", "start": "2026-01-01"}])
    with pytest.raises(ValueError, match=r"^series\[0\]: expected an object, got 3$"):
        forecast_series([3])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("horizon", [0, -1, 1.5, True, "24", 10**9])
def test_a_wrong_horizon_is_refused(horizon: Any) -> None:
    with pytest.raises(ValueError, match="horizon: expected a whole number"):
        forecast_series([], horizon)


@pytest.mark.parametrize("levels", [[], [0], [100], [80, math.nan], ["80"], 80, [True]])
def test_wrong_levels_are_refused(levels: Any) -> None:
    with pytest.raises(ValueError, match="levels"):
        forecast_series([], 24, levels)


def test_numpy_arrays_are_welcome() -> None:
    y = simulated.daylight(21, 100)
    member = {"id": "a", "start": "2026-01-01", "y": y}
    assert forecast_series([member])[0]["mean"] == one(y)["mean"]
