"""What operators ask of a forecast: the month's income, days until a disk is full, and when money is paid."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from forecast_parts import Weeks, earned
from ledger_parts import add, at, opened, snapshot
from operator_parts import Place

from depin_orcha.timefmt import rfc3339
from depin_orcha.types import (
    DAY_S,
    HOUR_S,
    Accrual,
    Health,
    HealthStatus,
    Quality,
    Resource,
    Standing,
    StandingAmount,
    Usage,
)

NOW_S = at("2026-11-22T20:15:00")
TB = 1e12


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.config.touch()
    return place


def outlook(place: Place, kind: str, now_s: int = NOW_S) -> dict[str, Any]:
    rows = place.json("forecast", now=now_s).data["outlook"]
    (row,) = [row for row in rows if row["kind"] == kind]
    return row


def table(place: Place) -> str:
    return " ".join(place("forecast", now=NOW_S).out.split())


def disk(place: Place, used_tb: list[float], granted_tb: float = 10.0, protocol: str = "storj") -> None:
    """A reading a day until now."""
    with opened(place.db, now_s=NOW_S - 60 * DAY_S) as store:
        store.add_node("node_1", protocol, "local", NOW_S - 60 * DAY_S)
        for index, used in enumerate(used_tb):
            usage = {Resource.STORAGE_BYTES: Usage(granted_tb * TB, used * TB)}
            read_s = NOW_S - (len(used_tb) - 1 - index) * DAY_S
            add(store, replace(snapshot(rfc3339(read_s).removesuffix("Z")), usage=usage))


def test_days_until_a_disk_is_full(place: Place) -> None:
    uneven = [0.05, 0.15] * 10
    disk(place, [6 + sum(uneven[:day]) for day in range(21)])
    row = outlook(place, "disk_full")
    assert row["answer"] == "estimate"
    assert row["days"]["mean"] == pytest.approx(20)
    assert 15 < row["days"]["lo80"] < 20 < row["days"]["hi80"] < 26
    assert row["why"] == "2.00 of 10.00 TB are free; +0.1 TB a day over the last 20 days"


def test_a_disk_that_does_not_grow_says_so(place: Place) -> None:
    disk(place, [6 - 0.01 * day for day in range(20)])
    row = outlook(place, "disk_full")
    assert (row["answer"], row["days"]["mean"], row["days"]["hi80"]) == ("not_growing", None, None)


def test_a_full_disk_is_full(place: Place) -> None:
    disk(place, [9.0, 10.0])
    row = outlook(place, "disk_full")
    assert (row["answer"], row["days"]) == ("reached", {"mean": 0.0, "lo80": 0.0, "hi80": 0.0})


def test_a_new_disk_cannot_be_told(place: Place) -> None:
    disk(place, [1.0, 1.1, 1.2])
    row = outlook(place, "disk_full")
    assert (row["answer"], row["days"]) == ("cannot_tell", None)
    assert "4 steps" in row["why"]


def test_later_readings_are_hidden(place: Place) -> None:
    disk(place, [1.0, 1.1, 1.2, 1.3, 1.4, 9.0])
    assert outlook(place, "disk_full", NOW_S - DAY_S)["days"]["mean"] == pytest.approx(86)


def test_storage_lent_to_tasks_does_not_fill(place: Place) -> None:
    disk(place, [10.0] * 5, protocol="golem")
    assert place.json("forecast", now=NOW_S).data["outlook"] == []


def test_storj_pays_after_the_month(place: Place) -> None:
    disk(place, [1.0])
    row = outlook(place, "payout")
    days = (at("2026-12-01T00:00:00") - NOW_S) / DAY_S
    assert row["days"] == {"mean": days, "lo80": days, "hi80": days}
    assert "2026-12-01T00:00:00Z" in row["why"]


def test_days_until_mysterium_settles(place: Place) -> None:
    with opened(place.db, now_s=NOW_S - 10 * DAY_S) as store:
        store.add_node("node_1", "mysterium", "local", NOW_S - 10 * DAY_S)
        for hours in range(8 * 24 + 1):
            # 0.6 MYST a day; a settlement takes it all after five days.
            waiting = Decimal(hours % 120) * Decimal("0.025")
            standing = StandingAmount(Standing.PAYABLE, waiting, "MYST")
            read_s = NOW_S - (8 * 24 - hours) * HOUR_S
            add(store, replace(snapshot(rfc3339(read_s).removesuffix("Z")), standings=(standing,)))
    row = outlook(place, "payout")
    assert row["days"]["mean"] == pytest.approx((5 - 1.8) / 0.6)
    assert row["why"].startswith("1.80 of 5 MYST wait")


def test_days_until_the_uncollected_limit_of_streamr(place: Place) -> None:
    with opened(place.db, now_s=NOW_S - 10 * DAY_S) as store:
        store.add_node("node_1", "streamr", "local", NOW_S - 10 * DAY_S)
        for hours in range(72):
            details = {"uncollected_data": f"{10 + hours % 48}", "uncollected_limit_data": "1000"}
            read_s = NOW_S - (71 - hours) * HOUR_S
            health = Health(HealthStatus.UP, "fine", details)
            add(store, replace(snapshot(rfc3339(read_s).removesuffix("Z")), health=health))
    row = outlook(place, "uncollected_limit")
    assert row["days"]["mean"] == pytest.approx((1000 - 33) / 24)


def test_income_of_the_month_is_what_was_earned_and_what_is_forecast(place: Place) -> None:
    found = Weeks(place, {"line": earned(4, jump=False), "points": earned(5, jump=False)})
    start_s, now_s = at("2026-10-12T00:00:00"), at("2026-10-25T06:15:00")
    found.imported(start_s, now_s // HOUR_S * HOUR_S, now_s)
    with opened(place.db, "line", now_s) as store:
        running = Accrual(now_s // HOUR_S * HOUR_S, Decimal(7), "USD", Quality.MEASURED)
        store.add_accruals("line", [running], now_s)
    data = place.json("forecast", now=now_s).data
    line, points = [row for row in data["outlook"] if row["kind"] == "month_end"]
    origin_s = now_s // HOUR_S * HOUR_S
    so_far = sum(float(f"{value:.9f}") for hour_s, value in found.truth["line"].items() if hour_s < origin_s)
    left = (at("2026-11-01T00:00:00") - origin_s) / HOUR_S
    for key in ("mean", "lo80", "hi80"):
        expected = so_far + data["forecasts"][0]["total"][key] / 24 * left
        assert line["usd"][key] == pytest.approx(expected)
        assert float(line["amount"][key]) == pytest.approx(expected)
    assert "264 hours are not known" in line["why"]
    assert (points["usd"], points["amount"]["currency"]) == (None, "POINTS")
    text = " ".join(place("forecast", now=now_s).out.split())
    assert f"line income of this month {line['usd']['mean']:.2f} USD" in text


def test_tables_say_it_in_words(place: Place) -> None:
    disk(place, [1.0, 1.1, 1.2])
    assert "node_1 days until the disk is full cannot tell yet" in table(place)
