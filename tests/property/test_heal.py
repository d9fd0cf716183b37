"""Whatever falls whenever: never a restart without consent, and never more than allowed in any window."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from heal_parts import NOW_S
from hypothesis import given
from hypothesis import strategies as st

from depin_orcha.anomalies import Contact
from depin_orcha.heal import Breaker, Course, Limits, Patient, Restart, Runner, State, decide, given_up, rules, tried
from depin_orcha.types import DAY_S, HOUR_S

STEP_S = 900
PROTOCOLS = ("storj", "golem", "streamr", "mysterium", "grass", "exec")
BY_HAND = (State.STOPPED, State.ENDED, State.HELD, State.UNTOLD, State.GONE, State.STARTING, State.UNREADABLE)

limits = st.builds(
    Limits,
    unanswered_s=st.integers(1, 7200),
    tries=st.integers(1, 5),
    backoff_s=st.integers(1, 3600),
    max_backoff_s=st.integers(1, 7200),
    node_restarts_per_day=st.integers(0, 5),
    host_restarts_per_hour=st.integers(0, 3),
)
nodes = st.lists(
    st.fixed_dictionaries(
        {
            "protocol": st.sampled_from(PROTOCOLS),
            "host": st.sampled_from(("local", "rack")),
            "source": st.sampled_from((None, "streamr home")),
            "consent": st.booleans(),
            "paused": st.sampled_from((False, False, False, True)),
            "busy": st.sampled_from((True, False, None)),
            "bad": st.lists(st.booleans(), min_size=24, max_size=24),
            "states": st.lists(st.sampled_from((State.CRASHED, State.RUNNING, *BY_HAND)), min_size=24, max_size=24),
        }
    ),
    min_size=1,
    max_size=5,
)


def patient(number: int, one: dict[str, Any], step: int, started_s: int, breaker: Breaker) -> Patient:
    now_s = NOW_S + step * STEP_S
    runner = Runner(one["states"][step], "", started_s=started_s, ended_s=max(started_s, now_s - HOUR_S))
    contact = Contact(
        now_s, NOW_S - 9 * HOUR_S, NOW_S - 8 * HOUR_S, 9, "transient" if one["bad"][step] else None, "down"
    )
    name = f"n{number}"
    busy = one["busy"]
    known = {key: one[key] for key in ("protocol", "host", "consent", "paused")}
    return Patient(name, source=one["source"] or name, contact=contact, runner=runner, breaker=breaker,
                   busy=lambda: busy, **known)  # fmt: skip


@given(nodes=nodes, limits=limits, comes_back=st.booleans())
def test_six_hours_of_a_fleet_that_keeps_falling(nodes: list[dict[str, Any]], limits: Limits, comes_back: bool) -> None:
    made: list[Restart] = []
    breakers = [Breaker() for _ in nodes]
    started = [NOW_S - 30 * DAY_S for _ in nodes]
    for step in range(24):
        now_s = NOW_S + step * STEP_S
        ill = [patient(number, one, step, started[number], breakers[number]) for number, one in enumerate(nodes)]
        decisions = decide(ill, made, limits, now_s)
        assert decide(reversed(ill), made, limits, now_s) == decisions, "the order in the file does not matter"
        by_name = {one.node: one for one in ill}
        for decision in decisions:
            if decision.course is not Course.RESTART:
                continue
            one, number = by_name[decision.node], int(decision.node[1:])
            assert one.consent
            assert not one.paused
            assert one.runner.state in (State.RUNNING, State.CRASHED)
            assert not (one.protocol == "golem" and one.runner.state is State.RUNNING and one.busy() is not False)
            assert now_s - started[number] >= rules(one.protocol).rest_s
            made.append(Restart(one.node, one.host, one.source, now_s))
            started[number] = now_s
            breaker = tried(breakers[number], one.node, limits, now_s)
            if breaker.tries >= limits.tries and not comes_back:
                breaker = given_up(breaker, now_s, "")
            breakers[number] = breaker
    for name in {one.node for one in made}:
        own = [one.started_s for one in made if one.node == name]
        assert len(own) <= min(limits.tries, limits.node_restarts_per_day)
        assert nodes[int(name[1:])]["protocol"] != "storj" or len(own) == 1
        waits = [later - earlier for earlier, later in pairwise(own)]
        assert all(wait >= min(limits.backoff_s * 2**n, limits.max_backoff_s) for n, wait in enumerate(waits))
    for host in ("local", "rack"):
        at = [one.started_s for one in made if one.host == host]
        windows = [sum(start <= other < start + HOUR_S for other in at) for start in at]
        assert max(windows, default=0) <= limits.host_restarts_per_hour


@given(nodes=nodes, limits=limits)
def test_without_any_consent_there_is_only_advice(nodes: list[dict[str, Any]], limits: Limits) -> None:
    ill = [
        replace(patient(number, one, step, NOW_S - 30 * DAY_S, Breaker()), consent=False, node=f"n{number}_{step}")
        for number, one in enumerate(nodes)
        for step in (0, 12, 23)
    ]
    courses = {one.course for one in decide(ill, [], limits, NOW_S + 23 * STEP_S)}
    assert courses <= {Course.WAIT, Course.LEAVE, Course.ADVISE}
