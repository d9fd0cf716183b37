"""`backtest --forecasts`: past days forecast again with what was known then, beside what is simpler."""

from __future__ import annotations

import os
import pty
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from forecast_parts import START_S, Weeks, earned
from ledger_parts import opened
from operator_parts import Place

from depin_orcha.types import DAY_S, HOUR_S, Accrual, Quality

DAYS = 6
NOW_S = START_S + 11 * DAY_S + 900


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Weeks:
    truth = {"line": earned(7, jump=False), "points": earned(8, jump=False)}
    found = Weeks(Place(tmp_path_factory.mktemp("weeks")), truth)
    found.imported(START_S, START_S + 11 * DAY_S, NOW_S)
    return found


def accuracy(place: Place, *words: str, now_s: int = NOW_S) -> list[dict[str, Any]]:
    return place.json("backtest", "--forecasts", *words, now=now_s).data["forecast_accuracy"]


def test_every_forecaster_is_scored_beside_the_day_before(weeks: Weeks) -> None:
    line, points = accuracy(weeks.place, "--days", str(DAYS))
    assert (line["node"], line["origins"], line["hours"], points["currency"]) == ("line", DAYS, DAYS * 24, "POINTS")
    models = {one["name"]: one for one in line["models"]}
    assert {"seasonal_naive", "weekly_naive", "day_mean", "ar_sparse", "zero"} <= models.keys()
    assert models["zero"]["wape"] == pytest.approx(1)
    assert line["mase"] < models["seasonal_naive"]["mase"]
    assert line["wape"] < models["seasonal_naive"]["wape"]
    assert 0.6 < line["coverage80"] <= line["coverage95"] <= 1
    assert line["total_coverage80"] in [held / DAYS for held in range(DAYS + 1)]


def test_seasonal_naive_is_what_the_page_defines(weeks: Weeks) -> None:
    (line, _) = accuracy(weeks.place, "--days", str(DAYS))
    (naive,) = [one for one in line["models"] if one["name"] == "seasonal_naive"]
    y = [float(f"{weeks.truth['line'][START_S + hour * HOUR_S]:.9f}") for hour in range(11 * 24)]
    errors, scaled = 0.0, []
    for origin in range(5 * 24, 11 * 24, 24):
        error = sum(abs(y[origin + hour] - y[origin + hour - 24]) for hour in range(24))
        in_sample = [abs(y[hour] - y[hour - 24]) for hour in range(24, origin)]
        errors += error
        scaled.append(error / 24 / (sum(in_sample) / len(in_sample)))
    assert naive["mase"] == pytest.approx(sum(scaled) / DAYS)
    assert naive["wape"] == pytest.approx(errors / sum(y[5 * 24 :]))


def test_what_is_learned_later_changes_nothing(weeks: Weeks, tmp_path: Path) -> None:
    copy = Place(tmp_path)
    copy.config.touch()
    copy.db.write_bytes(weeks.place.db.read_bytes())
    before = accuracy(copy)
    later = Weeks(copy, weeks.truth)
    later.imported(START_S + 11 * DAY_S, START_S + 12 * DAY_S, NOW_S + 2 * DAY_S)
    assert accuracy(copy) == before
    assert accuracy(copy, now_s=NOW_S + 2 * DAY_S) != before


def test_an_origin_does_not_see_readings_that_came_days_later(tmp_path: Path) -> None:
    """A node that was read again after three days: what it had earned meanwhile was not known in them."""
    found: dict[bool, list[int]] = {}
    for late in (False, True):
        place = Place(tmp_path / str(late))
        place.folder.mkdir()
        place.config.touch()
        with opened(place.db, now_s=START_S) as store:
            for hour in range(12 * 24):
                hour_s = START_S + hour * HOUR_S
                learned_s = hour_s + HOUR_S + 300
                if late and 7 * 24 <= hour < 10 * 24:
                    learned_s = START_S + 10 * DAY_S + 300
                one = Accrual(hour_s, Decimal(hour // 24), "USD", Quality.MEASURED)
                store.add_accruals("node_1", [one], learned_s)
        (row,) = accuracy(place, "--days", "4", now_s=START_S + 12 * DAY_S + 900)
        assert row["hours"] == 4 * 24
        found[late] = [one["wape"] for one in row["models"] if one["name"] == "seasonal_naive"]
    # Each day earns 1 more an hour than the day before. Two of the four days could only repeat an older day.
    assert found[False] == [pytest.approx(4 / (8 + 9 + 10 + 11))]
    assert found[True] == [pytest.approx((2 + 3 + 1 + 1) / (8 + 9 + 10 + 11))]


def test_the_table_names_the_best_and_the_references(weeks: Weeks) -> None:
    told = weeks.place("backtest", "--forecasts", "--days", "3", "--node", "line", now=NOW_S).out
    assert "published way" in told
    assert "seasonal_naive" in told
    assert "points" not in told


def test_nothing_to_replay(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.config.touch()
    assert accuracy(place) == []
    assert "Nothing can be replayed yet" in place("backtest", "--forecasts").out


def test_it_must_be_said_what_to_replay(tmp_path: Path) -> None:
    done = Place(tmp_path)("backtest", exits=2)
    assert (done.out, "backtest --forecasts" in done.err) == ("", True)


def test_progress_is_shown_on_a_terminal_only(weeks: Weeks) -> None:
    ours, theirs = pty.openpty()
    running = weeks.place.start("backtest", "--forecasts", "--json", now=NOW_S, stderr=theirs)
    os.close(theirs)
    out, shown = running.stdout.read(), b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:
            break
    os.close(ours)
    assert running.wait(30) == 0
    assert b"replaying" in shown
    assert out.startswith(b"{")
    assert weeks.place.process("backtest", "--forecasts", now=NOW_S).err == ""
