"""One episode for each cause: it begins, goes on, ends, and comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from anomaly_parts import END_S, episode

from depin_orcha.alarms import document, recent
from depin_orcha.anomalies import (
    INCOME,
    UNUSED,
    Episode,
    Finding,
    Kind,
    Reference,
    Severity,
    follow,
    reference,
)
from depin_orcha.types import DAY_S, HOUR_S

EVIDENCE: Mapping[Kind, dict[str, Any]] = {
    Kind.FLATLINE: {"hours_without_income": 5, "longest_before_h": 1},
    Kind.DROP: {"window_h": 12, "share_of_expected": 0.5},
}


def finding(kind: Kind = Kind.DROP, severity: Severity = Severity.WARNING, since_s: int = END_S) -> Finding:
    return Finding(kind, INCOME, severity, since_s, 1.2, EVIDENCE[kind])


class Told:
    """What is known of a node's episodes, an hour at a time."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, int], Episode] = {}
        self.rows = 0
        self.now_s = END_S

    def hour(self, *found: Finding, well: bool = True, hours: int = 1) -> None:
        for _ in range(hours):
            self.now_s += HOUR_S
            fine = {INCOME} if well and not found else set[str]()
            for one in follow("node", found, fine, self.states.values(), self.now_s):
                self.states[one.cause, one.since_s] = one
                self.rows += 1

    @property
    def all(self) -> list[Episode]:
        return sorted(self.states.values(), key=lambda one: one.since_s)


def test_a_cause_is_told_once_however_long_it_lasts() -> None:
    told = Told()
    told.hour(finding(), hours=48)
    (one,) = told.all
    assert (one.is_open, one.since_s) == (True, END_S)
    assert told.rows == 48


def test_it_gets_worse_within_the_episode_and_never_better() -> None:
    told = Told()
    told.hour(finding())
    told.hour(finding(Kind.FLATLINE, Severity.CRITICAL, END_S + HOUR_S))
    told.hour(finding())
    (one,) = told.all
    assert (one.kind, one.severity, one.since_s) == (Kind.FLATLINE, Severity.CRITICAL, END_S)
    assert one.evidence["hours_without_income"] == 5


def test_it_ends_when_it_was_well_for_a_while_and_at_the_hour_from_which_it_was() -> None:
    told = Told()
    told.hour(finding(), hours=3)
    told.hour(hours=2)
    assert told.all[0].is_open
    told.hour(hours=4)
    assert told.all[0].until_s == END_S + 4 * HOUR_S


def test_causes_other_than_income_end_sooner() -> None:
    lasting = episode(UNUSED, Kind.EARNINGS_WITHOUT_USAGE)
    (quiet,) = follow("node", [], {UNUSED}, [lasting], END_S)
    assert follow("node", [], {UNUSED}, [quiet], END_S + HOUR_S) == []
    (ended,) = follow("node", [], {UNUSED}, [quiet], END_S + 2 * HOUR_S)
    assert ended.until_s == END_S


def test_it_does_not_end_while_nothing_is_known() -> None:
    told = Told()
    told.hour(finding())
    told.hour(well=False, hours=100)
    assert told.all[0].is_open


def test_a_wobble_does_not_end_it() -> None:
    told = Told()
    for _ in range(10):
        told.hour(finding())
        told.hour(hours=3)
    assert [one.is_open for one in told.all] == [True]


@pytest.mark.parametrize(("quiet_h", "episodes"), [(12, 1), (20, 1), (40, 2)])
def test_what_comes_back_within_a_day_is_the_same_episode(quiet_h: int, episodes: int) -> None:
    told = Told()
    told.hour(finding(), hours=3)
    told.hour(hours=quiet_h)
    assert not told.all[0].is_open
    told.hour(finding(since_s=told.now_s))
    assert len(told.all) == episodes
    assert told.all[-1].is_open
    assert all(one.until_s is not None and one.until_s <= told.all[-1].since_s for one in told.all[:-1])


def test_a_later_episode_does_not_begin_before_the_one_before_has_ended() -> None:
    told = Told()
    told.hour(finding(), hours=3)
    told.hour(hours=40)
    told.hour(finding(since_s=END_S - DAY_S))
    before, after = told.all
    assert after.since_s == before.until_s


def test_income_that_stays_lower_for_two_weeks_is_the_new_usual() -> None:
    told = Told()
    told.hour(finding(), hours=14 * 24 + 1)
    (one,) = told.all
    assert (one.settled, one.is_open) == (True, False)
    assert reference([one], one.until_s or 0) == Reference(END_S, one.until_s or 0)


def test_a_flatline_never_becomes_the_usual() -> None:
    told = Told()
    told.hour(finding(Kind.FLATLINE), hours=30 * 24)
    assert told.all[0].is_open


def test_what_is_usual_ends_where_too_little_began_and_leaves_it_out_later() -> None:
    lasting = episode(INCOME, Kind.DROP, END_S - 30 * HOUR_S)
    assert reference([lasting], END_S) == Reference(0, END_S - 30 * HOUR_S)
    ended = replace(lasting, until_s=END_S - 10 * HOUR_S)
    (hole,) = reference([ended], END_S).holes
    assert hole[0] < ended.since_s < END_S - 10 * HOUR_S < hole[1]
    other = episode("reputation s1", Kind.REPUTATION)
    assert reference([other], END_S) == Reference(0, END_S)


def test_other_causes_are_not_touched() -> None:
    lasting = episode(UNUSED, Kind.EARNINGS_WITHOUT_USAGE)
    assert [one.cause for one in follow("node", [finding()], {INCOME}, [lasting], END_S)] == [INCOME]


def test_what_is_open_is_told_first_and_the_worst_of_it_before() -> None:
    ended = episode("a", Kind.FLATLINE, until_s=END_S - HOUR_S)
    old = episode("b", Kind.FLATLINE, until_s=END_S - 2 * DAY_S)
    warning, critical = episode("c", Kind.FLATLINE), replace(episode("d", Kind.DROP), severity=Severity.CRITICAL)
    assert recent([ended, old, warning, critical], END_S) == [critical, warning, ended]


def test_evidence_is_said_in_words_with_its_numbers() -> None:
    said = document(replace(episode(INCOME, Kind.FLATLINE), evidence=EVIDENCE[Kind.FLATLINE]))
    assert said["evidence"]["text"] == ("it answers, but has earned nothing for 5 h; before, never for more than 1")
    assert said["evidence"]["hours_without_income"] == 5
    assert said["advice"].startswith("look at its log")
