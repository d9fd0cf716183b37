"""Too little income is told, and what only looks like it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from anomaly_parts import CONTACT, END_S, SEEN_H, WEEKS_H, episode, kinds, last, node, told, usual, year

from depin_orcha.anomalies import INCOME, Contact, Kind, Past, Severity, judge, learn
from depin_orcha.anomalies.flow import Flow
from depin_orcha.types import DAY_S, HOUR_S


@pytest.mark.parametrize("sort", ["storage", "bandwidth", "payouts", "tasks"])
def test_nothing_is_said_of_a_usual_week(sort: str) -> None:
    assert told(node(sort)) == []


@pytest.mark.parametrize(("hours", "found"), [(2, []), (3, [Kind.FLATLINE]), (30, [Kind.FLATLINE])])
def test_income_that_stops_is_a_flatline_within_three_hours(hours: int, found: list[Kind]) -> None:
    assert kinds(node("storage", [0.0] * hours)) == found


def test_a_flatline_names_its_beginning_and_its_numbers() -> None:
    (one,) = told(node("storage", [0.0] * 5))
    assert (one.since_s, one.severity) == (END_S - 5 * HOUR_S, Severity.CRITICAL)
    assert (one.evidence["hours_without_income"], one.evidence["longest_before_h"]) == (5, 0)
    assert one.score == pytest.approx(5 / 3)


def test_nights_without_income_are_usual() -> None:
    hour = np.arange(WEEKS_H + SEEN_H)
    earned = np.where((hour - len(hour)) % 24 >= 20, 0.0, 0.02)
    nightly = learn(Past(END_S - SEEN_H * HOUR_S, earned[:WEEKS_H].tolist()))
    seen = earned[-SEEN_H:].tolist()
    assert kinds(node("storage", seen, usual=nightly)) == []
    assert kinds(node("storage", [*seen[:-10], *[0.0] * 10], usual=nightly)) == [Kind.FLATLINE]


def test_lulls_between_tasks_are_usual_until_they_are_longer_than_ever() -> None:
    longest, limit = usual("tasks").runs["zero"]
    assert 15 < longest < limit
    assert kinds(node("tasks", [0.1, *[0.0] * longest])) == []
    (one,) = told(node("tasks", [0.1, *[0.0] * (limit + 1)]))
    assert (one.kind, one.severity) == (Kind.FLATLINE, Severity.WARNING)


def test_a_month_begins_without_an_alarm() -> None:
    """The counter of the new month stands still for an hour, and the level steps down by a tenth."""
    month = [*last("storage", 30, 1.0), 0.0, *last("storage", 40, 0.9)]
    assert kinds(node("storage", month)) == []


@pytest.mark.parametrize("sort", ["storage", "bandwidth"])
@pytest.mark.parametrize(("share", "found"), [(1.0, []), (0.85, []), (0.4, [Kind.DROP])])
def test_a_fall_is_told_where_it_is_deep(sort: str, share: float, found: list[Kind]) -> None:
    assert kinds(node(sort, last(sort, 24, share))) == found


def test_a_fall_has_the_expected_amount_as_evidence() -> None:
    (one,) = told(node("storage", last("storage", 24, 0.4)))
    assert one.evidence["share_of_expected"] == pytest.approx(0.4, abs=0.08)
    assert one.evidence["earned"] == pytest.approx(sum(last("storage", one.evidence["window_h"], 0.4)))
    assert one.evidence["sigmas"] > one.evidence["limit_sigmas"] >= 5


def test_what_was_forecast_is_no_fall() -> None:
    fallen = node("storage", last("storage", 24, 0.4))
    asked: list[int] = []

    def least(from_s: int, to_s: int) -> float:
        asked.append((to_s - from_s) // HOUR_S)
        return sum(last("storage", asked[-1], 0.3))

    assert kinds(replace(fallen, expected_at_least=least)) == []
    assert asked
    assert asked[0] >= 4
    assert kinds(replace(fallen, expected_at_least=lambda _from_s, _to_s: 1e9)) == [Kind.DROP]


def test_the_end_of_a_spike_is_no_fall() -> None:
    spiky = [*last("bandwidth", 3, 12.0), *last("bandwidth", 8, 0.9)]
    assert kinds(node("bandwidth", spiky)) == []


def test_clocks_that_change_are_no_fall() -> None:
    earned = year("bandwidth")
    assert kinds(node("bandwidth", earned[-121:-1])) == []
    assert kinds(node("bandwidth", [*earned[-119:], earned[-24]])) == []


def test_a_weekend_that_begins_at_any_hour_is_no_fall() -> None:
    hour = np.arange(WEEKS_H + SEEN_H)
    random = np.random.default_rng(5)
    earned = 0.02 * np.where((hour + 55) % 168 < 120, 1.0, 0.55) * np.exp(random.normal(0, 0.05, len(hour)))
    week = learn(Past(END_S - SEEN_H * HOUR_S, earned[:WEEKS_H].tolist()))
    for back in range(168):
        seen = earned[: len(hour) - back][-SEEN_H:].tolist()
        shifted = END_S - back * HOUR_S
        assert kinds(node("storage", seen, usual=week, end_s=shifted, told_s=shifted)) == []


def test_a_missed_reading_is_not_nothing_earned() -> None:
    """Unknown hours are no zeros; and while nothing is known, nothing is over."""
    gap: list[float | None] = [None] * 40
    lasting = {INCOME: episode(INCOME, Kind.FLATLINE)}
    assert told(node("storage", gap)) == []
    assert judge(node("storage", gap, open=lasting)).well == frozenset()
    assert judge(node("storage", open=lasting)).well == {INCOME}


def test_a_gap_whose_sum_alone_is_known_is_no_fall() -> None:
    assert told(node("storage", [float("nan")] * 20)) == []


@pytest.mark.parametrize("reason", ["paused: no service runs", "idle: nothing is staked"])
def test_who_wants_to_earn_nothing_is_left_alone(reason: str) -> None:
    stopped = node("storage", [0.0] * 12)
    assert kinds(stopped) == [Kind.FLATLINE]
    assert told(replace(stopped, contact=replace(CONTACT, reason=reason))) == []


def test_a_pause_of_the_owner_keeps_everything_quiet_and_ends_what_was_told() -> None:
    down = Contact(END_S, END_S - DAY_S, END_S - DAY_S + 900, 90, "transient", "unknown", "refused")
    lasting = {INCOME: episode(INCOME, Kind.FLATLINE)}
    verdict = judge(node("storage", [0.0] * 12, contact=down, open=lasting, paused=True))
    assert (verdict.findings, verdict.well) == ([], {INCOME})


@pytest.mark.parametrize("known_h", [0, 1, 48, 4 * 24, 6 * 24])
def test_nothing_is_said_of_income_in_the_first_week(known_h: int) -> None:
    early = learn(Past(END_S, year("storage")[:known_h]))
    assert early is None
    assert told(node("storage", [0.0] * 60, usual=early)) == []


def test_a_week_of_which_little_is_known_says_nothing() -> None:
    hours: list[float | None] = [*year("storage")[:50], *[None] * 120, *year("storage")[170:216]]
    assert learn(Past(END_S, hours)) is None


def test_a_week_is_enough_for_a_flatline_and_too_little_for_a_fall() -> None:
    young = learn(Past(END_S - 24 * HOUR_S, year("storage")[-9 * 24 : -24]))
    assert kinds(node("storage", [0.0] * 4, usual=young)) == [Kind.FLATLINE]
    assert kinds(node("storage", last("storage", 24, 0.5), usual=young)) == []


def test_holes_are_no_part_of_what_is_usual() -> None:
    earned = [*year("storage")[:800], *[0.0] * 60, *year("storage")[860:WEEKS_H]]
    end_s = END_S - SEEN_H * HOUR_S
    hole = (end_s - (WEEKS_H - 795) * HOUR_S, end_s - (WEEKS_H - 865) * HOUR_S)
    tainted, clean = (learn(Past(end_s, earned, holes=holes)) for holes in ((), (hole,)))
    assert tainted is not None
    assert clean is not None
    assert tainted.runs["zero"][1] > 60
    assert clean.runs["zero"] == (0, 3)


def test_what_lies_on_both_sides_of_an_outage_is_not_one_lull() -> None:
    _, limit = usual("tasks").runs["zero"]
    part = limit - 4
    apart: list[float | None] = [0.1, *[0.0] * part, *[None] * 14, *[0.0] * part]
    assert kinds(node("tasks", apart)) == []
    lasting = {INCOME: episode(INCOME, Kind.FLATLINE, END_S - (2 * part + 14) * HOUR_S)}
    assert kinds(node("tasks", apart, open=lasting)) == [Kind.FLATLINE]


def test_payouts_may_be_late_but_not_missing() -> None:
    assert kinds(node("payouts", [0.0] * 6)) == []
    seen = list(year("payouts")[-SEEN_H:-40])
    assert kinds(node("payouts", [*seen, *[0.0] * 40])) == [Kind.FLATLINE]


@pytest.mark.parametrize(("share", "found"), [(0.85, []), (0.4, [Kind.DROP])])
def test_a_small_payout_is_a_fall(share: float, found: list[Kind]) -> None:
    seen = list(year("payouts")[-SEEN_H:])
    at = max(index for index, one in enumerate(seen) if one and index < SEEN_H - 4)
    seen[at:] = [share, *[0.0] * (SEEN_H - at - 1)]
    assert kinds(node("payouts", seen)) == found


def test_a_week_far_below_the_month_is_a_level_shift() -> None:
    """Where single payouts vary too much to tell, a week of them still does."""
    paid = usual("payouts").payouts
    assert paid is not None
    wide = replace(usual("payouts"), payouts=replace(paid, spread=0.6))
    assert kinds(node("payouts", last("payouts", 168, 0.9), usual=wide)) == []
    (one,) = told(node("payouts", last("payouts", 168, 0.45), usual=wide))
    assert one.kind is Kind.LEVEL_SHIFT
    assert one.evidence["share_of_month"] == pytest.approx(0.45, abs=0.1)


def test_frozen_answers_are_told_as_a_stale_reading() -> None:
    frozen = node("storage", [0.0] * 6, unchanged_since_s=END_S - 6 * HOUR_S)
    (one,) = told(frozen)
    assert (one.kind, one.cause) == (Kind.STALE_READING, INCOME)
    assert one.evidence["hours_unchanged"] == 6
    assert kinds(replace(frozen, unchanged_since_s=END_S - HOUR_S)) == [Kind.FLATLINE]
    later = node("storage", [0.0] * 12, unchanged_since_s=END_S - 6 * HOUR_S)
    assert kinds(later) == [Kind.FLATLINE]


def test_work_that_nobody_pays_is_told_before_a_lull_would_be() -> None:
    hours = usual("tasks").runs["unpaid"][1] + 2
    assert hours < usual("tasks").runs["zero"][1]
    busy = node("tasks", [0.0] * hours, working=[*[None] * (SEEN_H - hours), *[True] * hours])
    (one,) = told(busy)
    assert (one.kind, one.cause) == (Kind.USAGE_WITHOUT_EARNINGS, INCOME)
    assert one.evidence["hours_of_work_without_income"] == hours
    assert told(replace(busy, working=[None] * SEEN_H)) == []


def test_income_without_any_work_is_told() -> None:
    def resting(hours: int) -> list[Kind]:
        return kinds(node("tasks", [0.05] * hours, working=[*[None] * (SEEN_H - hours), *[False] * hours]))

    assert resting(5) == []
    assert resting(8) == [Kind.EARNINGS_WITHOUT_USAGE]


@pytest.mark.parametrize(("stored_bytes", "found"), [(1.9e12, []), (0.5e12, [Kind.EARNINGS_WITHOUT_USAGE])])
def test_income_from_a_disk_that_says_it_is_empty_is_told(stored_bytes: float, found: list[Kind]) -> None:
    assert kinds(node("storage", stored_bytes=stored_bytes)) == found
    assert Kind.EARNINGS_WITHOUT_USAGE not in kinds(
        node("storage", last("storage", 24, 0.3), stored_bytes=stored_bytes)
    )


def test_an_open_fall_goes_on_until_income_is_back() -> None:
    lasting = {INCOME: episode(INCOME, Kind.DROP, END_S - 30 * HOUR_S)}
    assert kinds(node("storage", last("storage", 24, 0.75), open=lasting)) == [Kind.DROP]
    assert kinds(node("storage", last("storage", 24, 0.95), open=lasting)) == []


def test_the_hours_before_a_fall_do_not_end_it() -> None:
    fallen = last("storage", 5, 0.4)
    lasting = {INCOME: episode(INCOME, Kind.DROP, END_S - 5 * HOUR_S)}
    assert kinds(node("storage", fallen, open=lasting)) == [Kind.DROP]


def test_a_standstill_is_over_when_income_flows_again() -> None:
    lasting = {INCOME: episode(INCOME, Kind.FLATLINE)}
    assert kinds(node("storage", [0.0] * 8, open=lasting)) == [Kind.FLATLINE]
    assert kinds(node("storage", [*[0.0] * 8, *last("storage", 2, 0.3)], open=lasting)) == [Kind.DROP]
    assert kinds(node("storage", [*[0.0] * 8, *last("storage", 2, 0.8)], open=lasting)) == []


STEADY = Flow(1.0, [1.0] * 24, [1.0] * 168, 0.0, 0.5, [0.05] * 24, 0.07, 56)


@pytest.mark.parametrize(
    ("hours", "found"),
    [
        ([1.0] * 60, False),
        ([1.0] * 36 + [0.8] * 24, False),
        ([1.0] * 36 + [0.7] * 24, True),
        ([1.0] * 56 + [0.5] * 4, False),
        ([1.0] * 52 + [0.5] * 8, True),
        ([1.0] * 40 + [None] * 16 + [0.2] * 4, False),
        ([1.0] * 40 + [None, 0.3] * 10, False),
    ],
)
def test_a_fall_counts_where_it_is_deep_long_and_known(hours: list[float | None], found: bool) -> None:
    assert (STEADY.fall(hours, END_S)[0] < -5) == found


def test_the_hour_after_a_spike_is_no_beginning_of_a_fall() -> None:
    after = [0.7] * 12
    plain, hours, *_ = STEADY.fall([*[1.0] * 40, *after], END_S)
    assert hours == 12
    sigmas, hours, *_ = STEADY.fall([*[1.0] * 37, 9.0, 9.0, 9.0, *after], END_S)
    assert hours != 12
    assert sigmas > plain


def test_what_is_expected_follows_a_weekend_that_begins_at_any_hour() -> None:
    hour = np.arange(END_S // HOUR_S - WEEKS_H, END_S // HOUR_S)
    level = np.where((hour + 55) % 168 < 120, 1.0, 0.5)
    random = np.random.default_rng(5)
    week = learn(Past(END_S, (level * np.exp(random.normal(0, 0.03, WEEKS_H))).tolist()))
    assert week is not None
    assert week.flow is not None
    inside = [one for one in range(168) if level[one] == level[one - 5] == level[one + 5]]
    ratios = [week.flow.expected(int(hour[one + 168])) / level[one + 168] for one in inside]
    assert len(inside) > 140
    assert min(ratios) > 0.8
    assert max(ratios) < 1.25


def test_a_slide_is_told_of_traffic_that_goes_up_and_down_by_a_fifth() -> None:
    """A slow filter finds what the one for sudden falls alone does not."""
    found = 0
    for seed in range(12):
        earned = np.array(year("bandwidth", seed)[-SEEN_H:])
        earned[-26:] *= np.maximum(1 - 0.028 * np.arange(26), 0.35)
        slid = node("bandwidth", earned.tolist(), usual=usual("bandwidth", seed))
        found += Kind.DROP in kinds(slid)
    assert found >= 9


def test_one_rich_day_around_an_episode_is_not_the_level() -> None:
    earned = list(year("storage")[:WEEKS_H])
    earned[-24:] = [5 * one for one in earned[-24:]]
    end_s = END_S - SEEN_H * HOUR_S
    hole = (end_s - 8 * 24 * HOUR_S, end_s - 24 * HOUR_S)
    lived = learn(Past(end_s, earned, holes=[hole]))
    assert lived is not None
    assert lived.flow is not None
    assert lived.flow.level == pytest.approx(np.mean(earned[-240:-192]), rel=0.15)


def test_small_payouts_that_went_unseen_hide_no_other() -> None:
    """Two small ones among fifty widen the spread of all by less than one part in four."""
    paid = np.array(year("payouts")[:WEEKS_H])
    at_payouts = np.flatnonzero(paid)
    paid[at_payouts[[-20, -10]]] *= 0.4
    end_s = END_S - SEEN_H * HOUR_S
    clean, dirty = (learn(Past(end_s, list(one))) for one in (year("payouts")[:WEEKS_H], paid.tolist()))
    assert clean is not None
    assert dirty is not None
    assert clean.payouts is not None
    assert dirty.payouts is not None
    assert clean.payouts.spread == pytest.approx(0.1, rel=0.3)
    assert dirty.payouts.spread < 1.25 * clean.payouts.spread
