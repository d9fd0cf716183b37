"""What was forecast is held against what came true: hour by hour, in its own unit, and hidden before it was known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from forecast_parts import BEFORE_H, CURRENCIES, START_S, STEPS_H, Weeks, earned
from ledger_parts import opened
from operator_parts import Place

from depin_orcha.retention import thin
from depin_orcha.types import DAY_S, HOUR_S


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Weeks:
    truth = {"line": earned(1, jump=False), "points": earned(2, jump=True)}
    found = Weeks(Place(tmp_path_factory.mktemp("weeks")), truth)
    first_s = START_S + BEFORE_H * HOUR_S
    found.imported(START_S, first_s, first_s)
    for hour_s in range(first_s, first_s + STEPS_H * HOUR_S, HOUR_S):
        found.now_s = hour_s + 600
        found.imported(hour_s - HOUR_S, hour_s, found.now_s)
        found.published.append(found.place.json("forecast", now=found.now_s).data)
    return found


def state(weeks: Weeks, now_s: int, node: str) -> dict[str, Any]:
    nodes = weeks.place.json("status", now=now_s).data["nodes"]
    return next(one for one in nodes if one["node"] == node)


@pytest.mark.parametrize("node", list(CURRENCIES))
def test_coverage_is_what_the_printed_bands_held(weeks: Weeks, node: str) -> None:
    hours, inside80, inside95 = weeks.judged(node, weeks.now_s // HOUR_S * HOUR_S)
    assert hours == STEPS_H - 1
    ((scored, held80, held95, unit),) = weeks.place.query(
        "SELECT sum(hours), sum(inside80), sum(inside95), min(unit) FROM "
        "(SELECT *, max(learned_s) FROM forecast_scores WHERE node = ? GROUP BY day_s)", node,
    )  # fmt: skip
    assert (scored, unit) == (hours, "usd_per_hour" if node == "line" else "native_per_hour")
    assert (held80, held95) == (pytest.approx(inside80), pytest.approx(inside95))
    assert state(weeks, weeks.now_s, node)["coverage80"] == pytest.approx(inside80 / hours)


def test_coverage_waits_for_two_days_and_is_not_known_before(weeks: Weeks) -> None:
    first_s = START_S + BEFORE_H * HOUR_S
    assert state(weeks, first_s + 47 * HOUR_S + 600, "line")["coverage80"] is None
    early_s = first_s + 50 * HOUR_S + 600
    hours, inside80, _ = weeks.judged("line", early_s // HOUR_S * HOUR_S)
    assert hours == 50
    assert state(weeks, early_s, "line")["coverage80"] == pytest.approx(inside80 / hours)


def test_errors_are_those_of_the_medians_beside_the_day_before(weeks: Weeks) -> None:
    truth = {hour_s: float(f"{value:.9f}") for hour_s, value in weeks.truth["line"].items()}
    first_s = START_S + BEFORE_H * HOUR_S
    hours = range(first_s, weeks.now_s // HOUR_S * HOUR_S, HOUR_S)
    ((naive, total),) = weeks.place.query(
        "SELECT sum(naive_absolute_error), sum(earned) FROM (SELECT *, max(learned_s) FROM forecast_scores "
        "WHERE node = 'line' GROUP BY day_s)",
    )
    assert naive == pytest.approx(sum(abs(truth[hour] - truth[hour - DAY_S]) for hour in hours))
    assert total == pytest.approx(sum(truth[hour] for hour in hours))


def test_bands_that_are_missed_again_and_again_become_wider(weeks: Weeks) -> None:
    multipliers = dict(
        weeks.place.query(
            "SELECT through_s, multiplier FROM forecast_scores WHERE node = 'points' ORDER BY learned_s"
        )
    )
    jump_s = START_S + (BEFORE_H + 20) * HOUR_S
    assert multipliers[jump_s + 10 * HOUR_S] > multipliers[jump_s - HOUR_S] * 1.05
    assert all(0.5 <= one <= 3 for one in multipliers.values())


def test_same_hour_again_scores_nothing(weeks: Weeks) -> None:
    before = weeks.place.counts()["forecast_scores"]
    weeks.place("forecast", now=weeks.now_s)
    weeks.place("forecast", now=weeks.now_s + 900)
    assert weeks.place.counts()["forecast_scores"] == before


def test_hours_nobody_knows_are_not_scored(tmp_path: Path) -> None:
    place = Place(tmp_path)
    found = Weeks(place, {"line": earned(3, jump=False)})
    first_s = START_S + BEFORE_H * HOUR_S
    found.imported(START_S, first_s, first_s)
    place("forecast", now=first_s + 60)
    found.imported(first_s + 6 * HOUR_S, first_s + 8 * HOUR_S, first_s + 8 * HOUR_S)
    place("forecast", now=first_s + 9 * HOUR_S)
    assert place.query("SELECT hours, through_s FROM forecast_scores") == [(2, first_s + 7 * HOUR_S)]


def test_old_forecasts_are_thinned_and_the_scores_stay(weeks: Weeks, tmp_path: Path) -> None:
    copy = Place(tmp_path)
    copy.config.touch()
    copy.db.write_bytes(weeks.place.db.read_bytes())
    later_s = weeks.now_s + 16 * DAY_S
    with opened(copy.db, "line", later_s) as store:
        thin(store, later_s, raw_days=30)
    days = len({(weeks.now_s - step * HOUR_S) // DAY_S for step in range(STEPS_H)})
    assert copy.counts()["forecasts"] == copy.counts()["forecast_scores"] == days * len(CURRENCIES)
    hours = copy.query("SELECT sum(hours) FROM forecast_scores WHERE node = 'line'")
    assert hours == [(STEPS_H - 1,)]


def test_bands_that_do_not_hold_are_told_of(weeks: Weeks) -> None:
    shown = state(weeks, weeks.now_s, "points")
    assert shown["coverage80"] < 0.7
    assert f"its 80 % bands held only {shown['coverage80']:.0%} of the hours" in " ".join(shown["notes"])
    assert not any("bands held" in note for note in state(weeks, weeks.now_s, "line")["notes"])
