"""What sort of series it is, and what follows: outages, payouts, new nodes with siblings, and odd input."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import simulated
import worlds

from depin_orcha.forecast import forecast_series
from depin_orcha.forecast.inputs import read_request
from depin_orcha.forecast.series import epoch_s
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import HOUR_S


def one(y: Any, horizon: int = 24, **member: Any) -> dict[str, Any]:
    values = [None if value is None or math.isnan(value) else float(value) for value in y]
    return forecast_series([{"id": "a", "start": "2026-01-01", "y": values, **member}], horizon)[0]


def test_outages_are_seen_without_being_told() -> None:
    y = simulated.bandwidth(1, 720)
    whole = one(y)
    for start, end in ((90, 100), (300, 330), (500, 512)):
        y[start:end] = 0.0
    found = one(y)
    assert found["type"] == "outages"
    assert "taken as outages" in found["reason"]
    assert found["total"]["mean"] == pytest.approx(whole["total"]["mean"], rel=0.1)
    assert min(found["lo"]["80"]) > 0
    assert found["flags"] == []


def test_an_outage_that_lasts_is_flagged_and_opens_the_bands() -> None:
    y = simulated.bandwidth(2, 720)
    y[300:330] = y[712:] = 0.0
    found = one(y)
    assert (found["type"], found["flags"]) == ("outages", ["down"])
    assert found["lo"]["80"] == [0.0] * 24
    assert found["median"][0] == 0.0
    assert found["median"][-1] > 0


def test_zeros_at_the_same_hours_every_day_are_no_outages() -> None:
    y = simulated.daylight(3, 720) + 0.01
    y[np.arange(720) % 24 < 6] = 0.0
    found = one(y)
    assert found["type"] == "intermittent"
    assert found["median"][:6] == [0.0] * 6
    assert found["lo"]["95"][:6] == [0.0] * 6
    assert min(found["median"][6:]) > 0.01
    assert min(found["hi"]["95"]) > 0, "no band of an earning node is without width"


def test_idle_hours_that_are_told_are_no_outages() -> None:
    y = simulated.bandwidth(4, 720)
    y[300:360] = 0.0
    assert one(y, state=["up"] * 720)["type"] == "intermittent"
    assert one(y)["type"] == "outages"


def test_a_daily_payout_comes_at_its_hour_and_may_be_late() -> None:
    y, _, _ = worlds.payout(np.random.default_rng(5), 720)
    hour = int(np.argmax(np.bincount(np.arange(720) % 24, weights=y)))
    found = one(y)
    assert (found["type"], found["flags"]) == ("scheduled", ["scheduled"])
    assert found["median"][hour] == pytest.approx(1, rel=0.2)
    assert all(value == 0.0 for at, value in enumerate(found["median"]) if at != hour)
    assert all(value == 0.0 for at, value in enumerate(found["mean"]) if at != hour)
    assert found["hi"]["95"][(hour + 1) % 24] > 0.5, "late"
    assert found["lo"]["95"][hour] == 0.0
    assert found["lo"]["80"][hour] > 0.5
    assert found["total"]["lo"]["80"] > 0.5


def test_a_price_jump_moves_the_forecast_at_once() -> None:
    tokens = simulated.bandwidth(6, 720)
    price = np.where(np.arange(720) < 715, 1.0, 3.0)
    found, plain = one(tokens * price, price=price.tolist()), one(tokens)
    assert found["total"]["mean"] == pytest.approx(3 * plain["total"]["mean"], rel=0.01)
    width = [doc["total"]["hi"]["80"] - doc["total"]["lo"]["80"] for doc in (found, plain)]
    assert width[0] > 3 * width[1], "what jumped once may jump again"


@pytest.mark.parametrize("hours", [0, 1, 2, 20, 29, 49, 200])
def test_a_fresh_node_hears_what_can_be_said(hours: int) -> None:
    found = one(simulated.bandwidth(7, 200)[:hours])
    assert ("low_history" in found["flags"]) is (hours < 49)
    if hours == 0:
        assert found["mean"] == [None] * 24
        assert "first forecast comes after the first completed hour" in found["reason"]
    elif hours < 48:
        assert f"only {hours} usable hours" in found["reason"]
        assert found["hi"]["95"][0] > found["median"][0] > 0
    else:
        assert "backtests" in found["reason"]


def test_a_new_node_borrows_the_day_of_its_siblings() -> None:
    long = {"start": "2026-01-01", "protocol": "mysterium"}
    day = 1 + 0.8 * np.sin(2 * np.pi * np.arange(741) / 24)
    noise = np.random.default_rng(8).lognormal(0, 0.1, (4, 741))
    batch: list[dict[str, Any]] = [{"id": str(i), "y": day[:720] * noise[i, :720] * (i + 1), **long} for i in range(3)]
    new: dict[str, Any] = {"id": "new", "start": "2026-01-30T06:00:00Z", "y": 5 * (day * noise[3])[702:720]}
    alone, helped, stranger = forecast_series(
        [*batch, new, new | {"protocol": "mysterium"}, new | {"protocol": "golem"}], 21
    )[3:]
    truth = 5 * day[720:741]
    assert np.abs(np.array(helped["median"]) - truth).sum() < 0.3 * np.abs(np.array(alone["median"]) - truth).sum()
    assert "3 other nodes of its protocol" in helped["reason"]
    assert stranger["median"] == alone["median"]


def test_a_week_old_node_leans_on_the_errors_of_its_siblings() -> None:
    batch: list[dict[str, Any]] = [
        {"id": str(seed), "start": "2026-01-01", "y": simulated.bandwidth(seed, 720), "protocol": "storj"}
        for seed in range(3)
    ]
    young: dict[str, Any] = {"id": "y", "start": "2026-01-20", "y": simulated.bandwidth(9, 120)}
    alone, helped = forecast_series([*batch, young, young | {"protocol": "storj"}])[3:]
    assert helped["median"] == pytest.approx(alone["median"], rel=0.2)
    assert helped["hi"] != alone["hi"]
    assert "leans on 3 other nodes" in helped["reason"]


def fleet(shared: bool, hours: int) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Five nodes with a month, and twenty that are new; the next day of those is told as well."""
    random = np.random.default_rng(3)
    hour = np.arange(744)
    batch: list[dict[str, Any]] = []
    truth: list[np.ndarray] = []
    for index in range(25):
        day = np.exp(0.6 * np.sin(2 * np.pi * (hour + (0 if shared else random.integers(24))) / 24))
        y = random.lognormal(0, 1) * day * np.where(hour // 24 % 7 < 5, 1.0, 0.6) * random.lognormal(0, 0.2, 744)
        known = slice(0, 720) if index < 5 else slice(720 - hours, 720)
        start = "2026-01-01" if index < 5 else rfc3339(epoch_s("2026-01-31") - hours * HOUR_S)
        batch.append({"id": str(index), "start": start, "y": y[known], "protocol": "mysterium"})
        truth.append(y[720:])
    return batch, np.array(truth[5:])


@pytest.mark.parametrize(
    ("shared", "hours", "least", "most"), [(True, 72, 0.0, 0.9), (False, 72, 0.9, 1.05), (False, 12, 0.9, 1.1)]
)
def test_a_new_node_listens_to_siblings_as_far_as_they_agree(
    shared: bool, hours: int, least: float, most: float
) -> None:
    batch, truth = fleet(shared, hours)
    helped = forecast_series(batch)[5:]
    alone = forecast_series([one | {"protocol": ""} for one in batch])[5:]
    error = [np.abs(np.array([one["median"] for one in told]) - truth).sum() for told in (helped, alone)]
    assert least < error[0] / error[1] < most
    for one in helped:
        assert sum(one["models"].values()) == pytest.approx(1, abs=1e-4)
    assert ("siblings" in helped[0]["models"], "siblings" in alone[0]["models"]) == (hours > 30, False)


SPIKE = [*[0.0] * 300, 5.0, *[0.0] * 300]
ODD: dict[str, list[float | None]] = {
    "all null": [None] * 500,
    "all zero": [0.0] * 500,
    "constant": [2.0] * 500,
    "one spike": [*SPIKE],
    "spike on a level": [1.0 + (at == 400) * 1e6 for at in range(600)],
    "negative": [-1.0 - at % 24 for at in range(500)],
    "signs": [float((at * 7919) % 13 - 6) for at in range(500)],
    "huge": [1e99 * (1 + at % 5) for at in range(500)],
    "tiny": [1e-99 * (1 + at % 5) for at in range(500)],
    "holes at both ends": [*[None] * 50, *[1.0 + at % 24 for at in range(400)], *[None] * 50],
    "every other hour": [None if at % 2 else 1.0 + at % 24 for at in range(600)],
    "growing": [1.02**at for at in range(800)],
    "steps": [float(at // 200) for at in range(800)],
    "five years": [1.0 + at % 24 + at % 7 for at in range(5 * 8766)],
    **{f"{hours} points": [1.0 + at % 3 for at in range(hours)] for hours in range(1, 31)},
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("horizon", [24, 100])
def test_odd_series_get_a_sane_answer(name: str, horizon: int) -> None:
    document = one(ODD[name], horizon)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    seen = [value for value in ODD[name] if value is not None]
    if not seen:
        assert document["type"] == "empty"
        return
    rows = [document["lo"]["95"], document["lo"]["80"], document["median"], document["hi"]["80"], document["hi"]["95"]]
    for lower, upper in pairwise(rows):
        assert all(low <= high for low, high in zip(lower, upper, strict=True))
    if any(seen):
        assert all(low < high for low, high in zip(rows[1], rows[3], strict=True))
        assert document["total"]["lo"]["80"] < document["total"]["hi"]["80"]
    reach = 4 * max(abs(value) for value in seen)
    assert max(abs(value) for value in document["median"]) <= reach


def test_clock_changes_and_leap_days_are_ordinary_hours() -> None:
    rows = [f"a,2028-02-{27 + hour // 24:02}T{hour % 24:02}:00:00Z,{1 + hour % 24}" for hour in range(72)]
    rows += ["a,2028-03-26T01:30:00+01:00,1", "a,2028-03-26T03:00:00+02:00,1"]
    batch = read_request("series,timestamp,value\n" + "\n".join(rows) + "\n").batch
    assert batch[0]["y"][71] == 24.0
    assert batch[0]["y"][-1] == 1.0
    assert forecast_series(batch)[0]["start"] == "2028-03-26T02:00:00Z"


def test_mixed_frequencies_in_one_call_do_not_mix() -> None:
    y = simulated.bandwidth(10, 480)
    batch = [
        {"id": freq, "start": "2026-01-01", "freq": freq, "y": y, "protocol": "storj"}
        for freq in ("15min", "30min", "1h", "1d")
    ]
    together = forecast_series(batch)
    for member, document in zip(batch, together, strict=True):
        assert document == forecast_series([member])[0]


def test_ten_thousand_series_at_once() -> None:
    y = [1.0 + hour % 24 for hour in range(47)]
    documents = forecast_series([{"id": str(at), "start": "2026-01-01", "y": y[: at % 48]} for at in range(10_000)])
    assert len(documents) == 10_000
    assert documents[47]["hours_of_history"] == 47


def test_equal_input_gives_equal_bytes_whatever_else_is_asked() -> None:
    worlds_of = [worlds.WORLDS[name](np.random.default_rng(11), 720)[0] for name in worlds.WORLDS]
    batch = [{"id": str(at), "start": "2026-01-01", "y": y} for at, y in enumerate(worlds_of)]
    first = json.dumps(forecast_series(batch))
    assert first == json.dumps(forecast_series(batch))
    assert json.loads(first)[2] == forecast_series([batch[2]])[0]
