"""`forecast --report`: what a forecast is worth, from its backtests and from what was published and came true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from forecast_parts import BEFORE_H, START_S, Weeks, earned
from operator_parts import Place

from depin_orcha.types import HOUR_S

FIRST_S = START_S + BEFORE_H * HOUR_S


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Weeks:
    """Three days of forecasts, one every six hours."""
    truth = {"line": earned(4, jump=False), "points": earned(5, jump=True)}
    found = Weeks(Place(tmp_path_factory.mktemp("days")), truth)
    found.imported(START_S, FIRST_S, FIRST_S)
    for now_s in range(FIRST_S + 60, FIRST_S + 72 * HOUR_S, 6 * HOUR_S):
        found.published.append(found.place.json("forecast", now=now_s).data)
        found.imported(now_s // HOUR_S * HOUR_S, now_s // HOUR_S * HOUR_S + 6 * HOUR_S, now_s + 6 * HOUR_S)
    found.now_s = FIRST_S + 72 * HOUR_S + 60
    return found


def test_report_tells_how_it_went(days: Weeks) -> None:
    data = days.place.json("forecast", "--report", now=days.now_s).data
    line, points = data["report"]
    (forecast,) = [one for one in data["forecasts"] if one["node"] == "line"]
    assert (line["type"], line["models"], line["backtest_mase"]) == ("regular", forecast["models"], forecast["mase"])
    assert line["backtest_wape"] == forecast["wape"]
    hours, inside80, inside95 = days.judged("line", FIRST_S + 72 * HOUR_S)
    assert (line["scored_hours"], hours) == (72, 72)
    assert (line["coverage80"], line["coverage95"]) == (pytest.approx(inside80 / 72), pytest.approx(inside95 / 72))
    assert line["grade"] == "fair"
    assert 0 < line["error_to_naive"] < 1
    assert f"it erred {line['error_to_naive']:.0%} as much as repeating the day before" in line["verdict"]
    assert (points["unit"], points["band_multiplier"] > line["band_multiplier"]) == ("native_per_hour", True)


def test_report_is_a_table_too(days: Weeks) -> None:
    told = days.place("forecast", "--report", now=days.now_s).out
    row = next(line for line in told.splitlines() if line.split()[:1] == ["line"])
    assert "72 h" in row
    assert re.search(r"\d%, \d+ more", " ".join(told.split()))
    assert "line: fair: plan with the day, hours vary; its 80 % bands held" in " ".join(told.split())


@pytest.mark.parametrize(("hours", "grade"), [(0, None), (2, "untested"), (20, "untested"), (200, "fair")])
def test_a_fresh_node_is_told_what_can_be_said(tmp_path: Path, hours: int, grade: str | None) -> None:
    found = Weeks(Place(tmp_path), {"line": earned(4, jump=False)})
    now_s = START_S + hours * HOUR_S + 60
    if hours:
        found.imported(START_S, START_S + hours * HOUR_S, now_s)
    else:
        found.place.config.write_text('[nodes.line]\nprotocol = "exec"\ncommand = ["true"]\ncurrencies = ["USD"]\n')
    done = found.place.json("forecast", "--report", now=now_s).data
    text = " ".join(found.place("forecast", "--report", now=now_s).out.split())
    if grade is None:
        assert done["report"] == []
        assert "No history yet: collect at least twice, an hour apart." in text
        return
    (row,) = done["report"]
    assert (row["grade"], row["coverage80"], row["scored_hours"]) == (grade, None, 0)
    assert "0 of 48 published hours have come true" in text
    assert ("too new to be tested" in text) == (grade == "untested")


def test_report_is_not_for_files(tmp_path: Path) -> None:
    done = Place(tmp_path)("forecast", "--report", "--input", "x.csv", exits=2)
    assert "--report" in done.err
