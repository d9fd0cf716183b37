"""What is measured and what is chance: grants tried by turns, offers, dear hours, disks, and how sure a mean is."""

from __future__ import annotations

import math
from random import Random
from statistics import fmean

import pytest

from depin_orcha.economics import Terms, yield_curve
from depin_orcha.economics.contrast import surely_different
from depin_orcha.economics.estimate import Estimate, by_day, student80, total
from depin_orcha.economics.offers import PAUSED, offers_of
from depin_orcha.economics.payback import more_disk
from depin_orcha.economics.verdicts import ahead, dear_hours, judged, spans
from depin_orcha.economics.yields import Steady, returned
from depin_orcha.growth import Growth
from depin_orcha.types import DAY_S, HOUR_S

CAPS = (4.0, 8.0, 12.0)
LOOKS = (15, 20, 30, 45, 60)
"""Days after which somebody looks."""


def demand(seed: int, alike: float, days: int = 60) -> list[float]:
    """Hourly income of a market whose level wanders from day to day and that hires for some hours at a time."""
    random, level, left = Random(seed), 0.0, 0
    hours: list[float] = []
    for hour in range(days * 24):
        if hour % 24 == 0:
            level = alike * level + random.gauss(0, 0.25)
        if left == 0 and random.random() < 0.25 * math.exp(level):
            left = 1 + int(random.expovariate(0.5))
        hours.append(0.02 if left else 0.0)
        left = max(left - 1, 0)
    return hours


def caps(hour: int, every_h: int, tried_days: int = 14) -> float:
    """Three caps by turns for two weeks, then the middle one."""
    return CAPS[hour // every_h % 3] if hour < tried_days * 24 else CAPS[1]


def evidence(usd: list[float], every_h: int, days: int) -> str:
    hours = {hour * HOUR_S: usd[hour] for hour in range(days * 24)}
    history = [Terms(hour * HOUR_S, caps(hour, every_h), "usual") for hour in range(days * 24)]
    return yield_curve(hours, history).evidence


@pytest.mark.parametrize(("every_h", "alike"), [(12, 0.0), (12, 0.9), (48, 0.5)])
def test_incomes_that_do_not_follow_grants_are_not_measured(every_h: int, alike: float) -> None:
    """Looked at again and again for two months, at most one placebo in twenty shows a curve."""
    worlds = range(24)
    found = [any(evidence(demand(seed, alike), every_h, days) == "measured" for days in LOOKS) for seed in worlds]
    assert sum(found) <= 1


def test_incomes_that_follow_grants_are_measured() -> None:
    """Four weeks of trials tell a cap of 12 from one of 4 in nearly every world."""
    found: list[bool] = []
    for seed in range(12):
        income = {hour * HOUR_S: one * caps(hour, 12, 28) / 4 for hour, one in enumerate(demand(seed, 0.3, days=28))}
        tried = [(hour_s, f"{caps(hour_s // HOUR_S, 12, 28):g}") for hour_s in income]
        found.append("12" in surely_different(income, tried, "4"))
    assert sum(found) >= 10


def test_a_market_that_rises_is_no_merit_of_what_came_last() -> None:
    usd = {hour * HOUR_S: 0.01 + 0.0001 * hour for hour in range(28 * 24)}
    by_turns = [(hour_s, "low" if hour_s // (7 * DAY_S) % 2 == 0 else "high") for hour_s in usd]
    assert surely_different(usd, by_turns, "high") == frozenset()
    better = {
        hour_s: value + 0.02 * (name == "high") for (hour_s, name), value in zip(by_turns, usd.values(), strict=True)
    }
    assert surely_different(better, by_turns, "high") == {"low"}


def test_one_change_is_no_trial() -> None:
    once = [Steady(hour * HOUR_S, 4.0 if hour < 100 else 8.0, "") for hour in range(200)]
    back = [*once, Steady(200 * HOUR_S, 4.0, "")]
    assert (returned(once, {4.0, 8.0}), returned(back, {4.0, 8.0})) == (False, True)
    usd = {hour * HOUR_S: 0.01 if hour < 10 * 24 else 0.03 + 0.001 * (hour % 5) for hour in range(20 * 24)}
    history = [Terms(hour * HOUR_S, 4.0 if hour < 10 * 24 else 8.0, "") for hour in range(20 * 24)]
    found = yield_curve(usd, history)
    assert (found.evidence, "none of them was tried again" in found.reason) == ("none", True)


def offers(incomes: dict[str, float], running: float | None, now: str, *, is_paused: bool = False) -> object:
    """Offers of 4 threads at prices that were tried half a day each by turns, at work half of the time."""
    prices = list(incomes)
    random = Random(3)
    steady = [Steady(hour * HOUR_S, 4.0, prices[hour // 12 % len(prices)]) for hour in range(16 * 24)]
    usd = {one.hour_s: incomes[one.terms] * random.uniform(0.8, 1.2) for one in steady}
    busy = {one.hour_s: 0.5 for one in steady}
    told = {price: (f"{price} GLM/h", "" if price == now else f"set {price}") for price in prices}
    return offers_of(usd, busy, steady, (4.0, now), running, told, is_paused=is_paused)


def test_offers_are_what_was_tried_and_a_pause() -> None:
    found = offers({"0.02": 0.010, "0.03": 0.016}, 0.001, "0.02")
    assert found is not None
    assert [one.name for one in found.offers] == [PAUSED, "4 cores at 0.02 GLM/h", "4 cores at 0.03 GLM/h"]  # type: ignore[attr-defined]
    assert found.sure == {"4 cores at 0.03 GLM/h"}  # type: ignore[attr-defined]
    dearer = found.named("4 cores at 0.03 GLM/h")  # type: ignore[attr-defined]
    assert (dearer.command, dearer.busy) == ("set 0.03", 0.5)
    assert dearer.running_usd_per_hour == pytest.approx(0.001 * 0.5 * 4)
    assert found.gain(dearer.name).mean == pytest.approx(0.006, rel=0.1)  # type: ignore[attr-defined]


def test_offers_say_nothing_where_a_curve_says_it_all() -> None:
    assert offers({"0.02": 0.010}, 0.001, "0.02") is None
    assert offers({"0.02": 0.010}, None, "0.02") is None


def test_work_that_costs_more_than_it_brings_is_better_paused() -> None:
    found = offers({"0.02": 0.010}, 0.01, "0.02")
    assert found is not None
    assert found.sure == {PAUSED}  # type: ignore[attr-defined]
    assert found.gain(PAUSED).mean == pytest.approx(0.010, rel=0.1)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("running", "sure"), [(0.001, {"4 cores at 0.02 GLM/h"}), (0.01, set())])
def test_what_is_paused_is_taken_up_again_where_that_surely_pays(running: float, sure: set[str]) -> None:
    found = offers({"0.02": 0.010}, running, "0.02", is_paused=True)
    assert found is not None
    assert (found.current, found.sure) == (PAUSED, sure)  # type: ignore[attr-defined]
    gain = found.gain("4 cores at 0.02 GLM/h")  # type: ignore[attr-defined]
    assert gain.mean == pytest.approx(0.010 - 0.5 * 4 * running, abs=0.001)


def test_work_that_begins_before_a_dear_hour_pays_for_it_too() -> None:
    prices = [0.1] * 17 + [0.6] * 4 + [0.1] * 3
    assert ahead(prices, 16, 1.0) == pytest.approx(0.1)
    assert ahead(prices, 16, 1.5) == pytest.approx((0.1 + 0.5 * 0.6) / 1.5)
    assert ahead(prices, 23, 2.0) == pytest.approx(0.1)
    brings = Estimate(0.02, 0.001, 20)
    short, long = (dear_hours(brings, 100, prices, hours, [0.5] * 24) for hours in (1.0, 3.0))
    assert short is not None
    assert long is not None
    assert (short.hours, long.hours) == ((17, 18, 19, 20), (15, 16, 17, 18, 19, 20))
    assert short.saved_usd_month.mean == pytest.approx(4 * 0.5 * 730.5 / 24 * (0.06 - 0.02))
    assert dear_hours(Estimate(0.05, 0.02, 20), 100, prices, 1.0, [0.5] * 24) is None
    assert dear_hours(brings, 100, [0.6] * 24, 1.0, [0.5] * 24) is None


def test_hours_are_told_as_people_say_them() -> None:
    assert spans((17, 18, 23, 0, 1)) == "17:00-19:00 and 23:00-02:00"
    assert spans(tuple(range(24))) == "all day"


def test_days_are_the_blocks() -> None:
    """The same hours in other days: a hundred hours of two days know less than a hundred hours of five."""
    random = Random(1)
    levels = [random.gauss(1.0, 0.2) for _ in range(40)]
    hours = {day * DAY_S + hour * HOUR_S: levels[day] for day in range(40) for hour in range(24)}
    found = by_day(hours)
    assert found is not None
    assert found.mean == pytest.approx(fmean(levels))
    assert found.error == pytest.approx(0.2 / math.sqrt(40), rel=0.5)
    one_day = by_day({hour * HOUR_S: 1.0 for hour in range(24)})
    assert one_day is not None
    assert one_day.document() == {"mean": 1.0, "lo80": None, "hi80": None}
    assert by_day({}) is None
    slow = {day * DAY_S: math.sin(day / 8) for day in range(40)}
    quick = {day * DAY_S: math.sin(day / 8 * 37) for day in range(40)}
    wide, narrow = by_day(slow), by_day(quick)
    assert wide is not None
    assert narrow is not None
    assert wide.error > 1.5 * narrow.error


def test_few_days_make_wide_intervals() -> None:
    assert student80(1e9) == pytest.approx(1.2816, abs=1e-3)
    assert student80(10) == pytest.approx(1.372, abs=2e-3)
    assert student80(4) == pytest.approx(1.533, abs=1e-2)
    both = total([Estimate(1, 3, 10), Estimate(2, 4, 10)])
    assert (both.mean, both.error) == (3, 5)
    assert both.freedom == pytest.approx(625 / (81 / 10 + 256 / 10))


@pytest.mark.parametrize(
    ("net", "days", "word"),
    [
        (Estimate(1, 0.1, 20), 30, "keep"),
        (Estimate(-1, 0.1, 20), 30, "stop"),
        (Estimate(0.1, 0.1, 20), 30, "cannot_tell"),
        (Estimate(1, 0.1, 20), 6, "cannot_tell"),
        (Estimate(1, math.inf, 1), 30, "cannot_tell"),
        (None, 30, "cannot_tell"),
    ],
)
def test_a_verdict_needs_an_interval_on_one_side(net: Estimate | None, days: int, word: str) -> None:
    assert judged(net, days) == word


def test_more_disk_brings_nothing_before_the_present_one_is_full() -> None:
    steady = Growth(per_day=0.01, noise=0.0, days=30, steps=29)
    found = more_disk(steady, free=1.0, more=1.0, usd_per_unit_month=1.5, cost_usd=20)
    assert found.used_after_days == pytest.approx(100)
    assert found.full_usd_month == pytest.approx(1.5)
    # Full after 200 days: half of it over the 100 days before, then all.
    assert found.pays_after_days == pytest.approx(200 + (20 - 0.5 * 100 / 30.44 * 1.5) / 1.5 * 30.44, rel=0.02)
    assert (found.pays_p10_days, found.pays_p90_days) == (found.pays_after_days, found.pays_after_days)
    uneven = more_disk(Growth(0.01, 0.03, 30, 29), 1.0, 1.0, 1.5, 20)
    assert uneven.pays_p10_days is not None
    assert found.pays_after_days is not None
    assert uneven.pays_p10_days < found.pays_after_days
    assert uneven.pays_p90_days is None or uneven.pays_p90_days > found.pays_after_days
    assert uneven.first_year_lo80 < uneven.first_year_usd < uneven.first_year_hi80
    never = more_disk(Growth(-0.01, 0.0, 30, 29), 1.0, 1.0, 1.5, 20)
    assert (never.used_after_days, never.pays_after_days, never.first_year_usd) == (None, None, 0)
