"""When a fallen node is restarted, case by case, each beside the nearest one in which it is not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from heal_parts import FELL, LIMITS, NOW_S, RUNS, frozen_episode, judge, patient, restarted, silent

from depin_orcha.anomalies import Contact
from depin_orcha.heal import (
    EARNS_S,
    GRACE_S,
    SHARED_S,
    Breaker,
    Circuit,
    Course,
    Limits,
    Runner,
    State,
    backoff_s,
    given_up,
    is_ill,
    settled,
    tried,
)
from depin_orcha.types import DAY_S, HOUR_S

WAIT, RESTART, ADVISE, LEAVE = Course.WAIT, Course.RESTART, Course.ADVISE, Course.LEAVE


def since(state: State, **more: Any) -> Runner:
    return replace(FELL, state=state, **more)


def started(ago_s: int) -> Runner:
    return replace(RUNS, started_s=NOW_S - ago_s)


@pytest.mark.parametrize(
    ("changes", "course", "word"),
    [
        # Due, or not yet.
        ({}, RESTART, "does not answer, for 120 minutes"),
        ({"contact": silent(2700)}, RESTART, "45 minutes"),
        ({"contact": silent(2699)}, WAIT, "come back by itself"),
        ({"contact": silent(readings=1)}, WAIT, "come back by itself"),
        ({"contact": silent(kind=None)}, RESTART, "does not answer"),
        ({"runner": FELL}, RESTART, "ended by itself (exit code 1)"),
        ({"runner": FELL, "contact": silent(60, readings=1)}, RESTART, "ended by itself"),
        ({"runner": replace(FELL, ended_s=NOW_S - GRACE_S)}, RESTART, "ended by itself"),
        ({"runner": replace(FELL, ended_s=NOW_S - GRACE_S + 1)}, WAIT, "at work on it"),
        ({"contact": replace(silent(), tried_s=NOW_S - 3600)}, RESTART, ""),
        ({"contact": replace(silent(), tried_s=NOW_S - 3601)}, WAIT, "collect first"),
        # What a restart does not cure.
        *(({"contact": silent(kind=kind)}, LEAVE, "no cure") for kind in ("auth", "blocked", "config", "shape")),
        ({"contact": replace(silent(), good_s=None)}, LEAVE, "never read well"),
        ({"contact": replace(silent(), good_s=None), "runner": FELL}, RESTART, ""),
        ({"protocol": "grass"}, LEAVE, "not the node itself"),
        ({"protocol": "exec"}, LEAVE, "not the node itself"),
        ({"protocol": "exec", "contact": silent(kind=None)}, RESTART, ""),
        ({"protocol": "grass", "runner": FELL}, RESTART, ""),
        # A person's hand.
        ({"runner": since(State.STOPPED)}, LEAVE, "somebody stopped it"),
        ({"runner": since(State.ENDED)}, LEAVE, "in good order"),
        ({"runner": since(State.HELD)}, LEAVE, "not meant to run"),
        ({"runner": since(State.UNTOLD)}, LEAVE, "nothing proves"),
        ({"runner": since(State.GONE)}, LEAVE, "not there any more"),
        ({"paused": True}, WAIT, "paused"),
        ({"paused": True, "runner": FELL}, WAIT, "paused"),
        ({"runner": since(State.STARTING)}, WAIT, "starts it by itself"),
        ({"runner": since(State.UNREADABLE)}, WAIT, "cannot be told"),
        # Consent.
        ({"consent": False}, ADVISE, "does not answer"),
        ({"consent": False, "runner": FELL}, ADVISE, "ended by itself"),
        ({"runner": Runner(State.UNMANAGED)}, ADVISE, "does not answer"),
        # Golem: never with a running agreement, nor where that is not known; one that ended has none.
        ({"protocol": "golem", "busy": lambda: False}, RESTART, ""),
        ({"protocol": "golem", "busy": lambda: True}, WAIT, "bound to work"),
        ({"protocol": "golem", "busy": lambda: None}, WAIT, "not known whether"),
        ({"protocol": "golem", "busy": lambda: True, "runner": FELL}, RESTART, ""),
        ({"protocol": "mysterium", "busy": lambda: True}, RESTART, ""),
        # Storj: a day after any start before it counts as hung; a fallen one is started.
        ({"protocol": "storj"}, RESTART, ""),
        ({"protocol": "storj", "runner": started(DAY_S)}, RESTART, ""),
        ({"protocol": "storj", "runner": started(DAY_S - 1)}, WAIT, "last start"),
        ({"protocol": "storj", "runner": replace(FELL, started_s=NOW_S - HOUR_S)}, RESTART, ""),
        # Streamr: 3.5 minutes after any start.
        ({"protocol": "streamr", "contact": silent(kind=None), "runner": started(900)}, RESTART, ""),
        ({"protocol": "streamr", "runner": replace(FELL, started_s=NOW_S - 210, ended_s=NOW_S - 300)}, RESTART, ""),
        ({"protocol": "streamr", "runner": replace(FELL, started_s=NOW_S - 209, ended_s=NOW_S - 300)}, WAIT, "start"),
        # One that has just started is starting, not hung.
        ({"runner": started(900)}, RESTART, ""),
        ({"runner": started(899)}, WAIT, "last start"),
        # It answers after all, or nothing does.
        ({"answers": lambda: True}, WAIT, "answers again"),
        ({"answers": lambda: True, "runner": FELL}, RESTART, ""),
    ],
)
def test_one_node(changes: dict[str, Any], course: Course, word: str) -> None:
    decision = judge(patient(**changes))
    assert (decision.course, word in decision.why) == (course, True), decision


@pytest.mark.parametrize(
    ("changes", "course"),
    [
        ({}, RESTART),
        ({"protocol": "golem", "busy": lambda: True}, WAIT),
        ({"protocol": "golem", "busy": lambda: False}, RESTART),
        ({"protocol": "grass"}, LEAVE),
        ({"runner": started(EARNS_S)}, RESTART),
        ({"runner": started(EARNS_S - 1)}, WAIT),
        ({"protocol": "storj", "runner": started(EARNS_S)}, WAIT),
        ({"contact": silent()}, WAIT),
        ({"contact": silent(), "answers": lambda: False}, RESTART),
    ],
)
def test_one_that_answers_the_same_for_longer_than_ever(changes: dict[str, Any], course: Course) -> None:
    well = Contact(NOW_S - 60, NOW_S - 60)
    told = {"contact": well, "episodes": (frozen_episode(),), "answers": lambda: True} | changes
    assert judge(patient(**told)).course is course


@pytest.mark.parametrize(
    ("contact", "episodes", "ill"),
    [
        (Contact(NOW_S, NOW_S), [], False),
        (silent(60, 1), [], True),
        (Contact(NOW_S, NOW_S), [frozen_episode()], True),
        (Contact(NOW_S, NOW_S), [frozen_episode(until_s=NOW_S)], False),
        (Contact(NOW_S, NOW_S), [frozen_episode(evidence={"hours_without_news": 9})], False),
    ],
)
def test_who_is_ill(contact: Contact, episodes: list[Any], ill: bool) -> None:
    assert is_ill(contact, episodes) is ill


def test_without_the_internet_nothing_is_restarted_and_it_is_asked_last() -> None:
    assert judge(patient(), is_online=lambda: False).course is WAIT
    assert judge(patient(runner=FELL), is_online=lambda: False).course is WAIT
    asked: list[int] = []
    judge(patient(contact=silent(60)), is_online=lambda: bool(asked.append(1)))
    judge(patient(answers=lambda: True), is_online=lambda: bool(asked.append(1)))
    assert asked == []


@pytest.mark.parametrize(
    ("other", "course"),
    [
        (patient("b", contact=silent(2 * HOUR_S - 900)), WAIT),
        (patient("b", host="rack", runner=Runner(State.UNMANAGED), contact=silent(2 * HOUR_S + 900)), WAIT),
        (patient("b", consent=False), WAIT),
        (patient("b", protocol="grass"), WAIT),
        (patient("b", contact=silent(2 * HOUR_S - 901)), RESTART),
        (patient("b", contact=silent(kind="auth")), RESTART),
        (patient("b", runner=FELL), RESTART),
        (patient("b", runner=since(State.STOPPED)), RESTART),
    ],
)
def test_nodes_that_fall_silent_at_once_share_a_cause(other: Any, course: Course) -> None:
    decision = judge(patient(), other)
    assert decision.course is course
    assert (decision.next_s == NOW_S - 2 * HOUR_S + SHARED_S) is (course is WAIT)


def test_a_shared_cause_is_not_held_for_ever() -> None:
    long_ago = silent(SHARED_S)
    assert judge(patient(contact=long_ago), patient("b", contact=long_ago)).course is RESTART


def test_those_that_ended_at_once_are_not_held_for_an_outage() -> None:
    assert judge(patient(runner=FELL), patient("b", runner=FELL)).course is RESTART


@pytest.mark.parametrize(
    ("made", "course"),
    [
        (restarted(DAY_S - 1, DAY_S - 2, DAY_S - 3), RESTART),
        (restarted(DAY_S - 1, DAY_S - 2, DAY_S - 3, 7200), WAIT),
        (restarted(DAY_S, DAY_S - 2, DAY_S - 3, 7200), RESTART),
        (restarted(600, node="b"), RESTART),
        (restarted(900, 600, node="b"), WAIT),
        (restarted(HOUR_S, 600, node="b"), RESTART),
        (restarted(900, 600, node="b", host="rack"), RESTART),
    ],
)
def test_no_more_than_so_many_of_a_node_and_on_a_machine(made: list[Any], course: Course) -> None:
    assert judge(patient(runner=FELL), made=made).course is course


def test_what_is_decided_now_counts_on_its_machine() -> None:
    nodes = [patient(name, runner=FELL) for name in "abcd"]
    courses = [judge(one, *(other for other in nodes if other is not one)).course for one in nodes]
    assert courses == [RESTART, RESTART, WAIT, WAIT]
    elsewhere = replace(nodes[3], host="rack")
    assert judge(elsewhere, *nodes[:3]).course is RESTART


def test_a_storj_node_is_restarted_once_a_day_whatever_was_allowed() -> None:
    storj = patient("s", "storj", runner=FELL)
    assert judge(storj, made=restarted(DAY_S - 1, node="s")).course is WAIT
    assert judge(storj, made=restarted(DAY_S - 1, node="s")).next_s == NOW_S + 1
    assert judge(storj, made=restarted(DAY_S, node="s")).course is RESTART


def test_one_node_of_a_fleet_at_a_time() -> None:
    fallen = patient("a", "streamr", runner=FELL, source="streamr home")
    sibling = restarted(209, node="b", source="streamr home", host="rack")
    assert judge(fallen, made=sibling).course is WAIT
    assert judge(fallen, made=restarted(210, node="b", source="streamr home", host="rack")).course is RESTART
    assert judge(fallen, made=restarted(209, node="b", source="streamr mine", host="rack")).course is RESTART


# The breaker


def test_it_waits_longer_after_each_try_and_then_gives_up() -> None:
    breaker, waits = Breaker(), []
    for number in range(1, LIMITS.tries + 1):
        breaker = tried(breaker, "myst_1", LIMITS, NOW_S)
        assert (breaker.circuit, breaker.tries) == (Circuit.OPEN, number)
        waits.append((breaker.until_s or 0) - NOW_S)
        held = judge(patient(runner=FELL, breaker=breaker))
        assert (held.course, held.next_s) == (Course.BACK_OFF, breaker.until_s)
        over = replace(breaker, until_s=NOW_S)
        last = number == LIMITS.tries
        assert judge(patient(runner=FELL, breaker=over)).course is (Course.GIVE_UP if last else RESTART)
    assert all(one < other for one, other in pairwise(waits))
    assert all(LIMITS.backoff_s * 2**n <= wait < 1.25 * LIMITS.backoff_s * 2**n for n, wait in enumerate(waits))


def test_it_is_given_up_once() -> None:
    spent = Breaker(Circuit.OPEN, LIMITS.tries, NOW_S - DAY_S, NOW_S - 60)
    first = judge(patient(runner=FELL, breaker=spent))
    assert (first.course, first.is_news) == (Course.GIVE_UP, True)
    then = judge(patient(runner=FELL, breaker=given_up(spent, NOW_S, first.why)))
    assert (then.course, then.is_news, then.why) == (Course.GIVE_UP, False, first.why)
    brief = judge(patient(contact=silent(60, readings=1), breaker=spent))
    assert brief.course is WAIT, "one bad reading is no reason to give up"


@pytest.mark.parametrize(
    ("bad_s", "read_s", "closes"),
    [
        (NOW_S - 2 * HOUR_S, NOW_S, True),
        (NOW_S - HOUR_S + 1, NOW_S, False),
        (0, NOW_S, True),
        (0, NOW_S - HOUR_S - 1, False),
    ],
)
def test_it_closes_when_all_was_well_for_a_while(bad_s: int, read_s: int, closes: bool) -> None:
    for circuit in (Circuit.OPEN, Circuit.GIVEN_UP):
        breaker = Breaker(circuit, 3, NOW_S - 2 * HOUR_S, NOW_S)
        after = settled(breaker, bad_s, read_s, LIMITS, NOW_S)
        assert (after is not None) is closes
        if after is not None:
            assert (after.circuit, after.tries, after.until_s) == (Circuit.CLOSED, 0, None)
    assert settled(Breaker(), bad_s, read_s, LIMITS, NOW_S) is None


def test_the_wait_follows_from_what_is_asked() -> None:
    limits = Limits(backoff_s=1000, max_backoff_s=5000)
    assert backoff_s("a", 1, NOW_S, limits) == backoff_s("a", 1, NOW_S, limits)
    assert len({backoff_s(name, 1, NOW_S, limits) for name in "abcdefgh"}) > 5, "nodes that fell together part"
    for tries in (4, 10, 10_000):
        assert 5000 <= backoff_s("a", tries, NOW_S, limits) < 6250
