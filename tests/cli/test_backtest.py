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

from depin_orcha.optimize import Problem, solve
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


def test_progress_is_shown_on_a_terminal_only(weeks: Weeks) -> None:
    ours, theirs = pty.openpty()
    running = weeks.place.start("backtest", "--forecasts", "--json", now=NOW_S, stderr=theirs)
    os.close(theirs)
    assert running.stdout
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


def planned(place: Place, forecast_usd: float, *, stored: bool = True) -> int:
    """Two nodes that share four cores; one had a rich day yesterday, which the forecast did not believe in.

    The plan of the day gives them to the other one. Returns when everything has come true.
    """
    place.config.touch()
    made_s = START_S + 5 * DAY_S + 900
    with opened(place.db, "steady", START_S) as store:
        store.add_node("lucky", "golem", "local", START_S)
        for hour in range(7 * 24):
            hour_s = START_S + hour * HOUR_S
            lucky = "0.09" if hour // 24 == 4 else "0.01"
            for name, amount in (("steady", "0.04"), ("lucky", lucky)):
                one = Accrual(hour_s, Decimal(amount), "USD", Quality.MEASURED)
                store.add_accruals(name, [one], hour_s + HOUR_S + 60)
        for name, usd in (("steady", 0.04), ("lucky", forecast_usd)):
            total = {"mean": usd * 24}
            said = {"node": name, "currency": "USD", "unit": "usd_per_hour", "horizon_h": 24, "total": total}
            if stored:
                store.add_forecast(name, "USD", made_s // HOUR_S * HOUR_S, said, made_s)
        node = {"uses_per_unit": {"cpu_cores": 1}, "max_units": 4, "frozen": False, "current_units": 2}
        prices = {"steady": 0.04 / 2, "lucky": forecast_usd / 2}
        nodes = [node | {"node": name, "usd_per_unit_hour": usd} for name, usd in prices.items()]
        problem = {"horizon_h": 12, "hosts": [{"host": "local", "capacity": {"cpu_cores": 4}, "nodes": nodes}]}
        store.add_plan(made_s, made_s + 1800, solve(Problem.from_dict(problem)).to_dict(), problem)
    return made_s + DAY_S + HOUR_S


def value(place: Place, now_s: int) -> dict[str, Any]:
    return place.json("backtest", "--forecasts", now=now_s).data["forecast_value"]


def test_a_plan_that_naive_would_have_made_otherwise_is_valued_at_what_came(tmp_path: Path) -> None:
    place = Place(tmp_path)
    now_s = planned(place, 0.01)
    told = value(place, now_s)
    assert (told["days"], told["days_resting_on_forecasts"], told["days_different"]) == (1, 1, 1)
    # Four cores of the steady node at 0.02 a core and hour, instead of four of the lucky one at 0.005.
    assert told["usd"] == pytest.approx(24 * (4 * 0.02 - 4 * 0.005))
    text = " ".join(place("backtest", "--forecasts", now=now_s).out.split())
    assert "against seasonal naive that was worth 1.44 USD" in text


def test_a_forecast_that_was_wrong_cost_nothing_where_naive_was_as_wrong(tmp_path: Path) -> None:
    told = value(Place(tmp_path), planned(Place(tmp_path), 0.08))
    assert (told["days"], told["days_different"], told["usd"]) == (1, 0, 0)


def test_a_day_without_its_forecast_is_not_valued(tmp_path: Path) -> None:
    told = value(Place(tmp_path), planned(Place(tmp_path), 0.01, stored=False))
    assert (told["days"], told["days_unknown"], told["days_different"], told["usd"]) == (0, 1, None, None)


def test_a_day_that_is_not_over_is_not_valued(tmp_path: Path) -> None:
    told = value(Place(tmp_path), planned(Place(tmp_path), 0.01) - 12 * HOUR_S)
    assert (told["days"], told["days_unknown"], told["usd"], told["why"]) == (0, 0, None, "no plan yet")
