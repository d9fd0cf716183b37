"""Nodes that cannot be read or reached, and what networks hold against them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from anomaly_parts import CONTACT, END_S, episode, kinds, last, node, told

from depin_orcha.anomalies import AtRisk, Contact, Kind, Severity, judge
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import HOUR_S

NOW_S = END_S + 120


def unread(minutes: int, readings: int = 4, failure: str | None = "transient") -> Contact:
    since_s = NOW_S - minutes * 60
    return Contact(NOW_S - 60, since_s - 900, since_s, readings, failure, "unknown" if failure else "down", "refused")


@pytest.mark.parametrize(
    ("contact", "severity"),
    [
        (unread(20), None),
        (unread(44), None),
        (unread(60, readings=1), None),
        (unread(46), Severity.WARNING),
        (unread(60, failure=None), Severity.WARNING),
        (unread(300), Severity.CRITICAL),
        (unread(300, failure="auth"), Severity.WARNING),
    ],
)
def test_a_node_that_does_not_answer_is_told_when_it_is_no_restart(contact: Contact, severity: Severity | None) -> None:
    found = told(node("storage", contact=contact))
    assert [(one.kind, one.severity) for one in found] == ([(Kind.UNREACHABLE, severity)] if severity else [])
    assert all(one.since_s == contact.bad_since_s and one.evidence["reason"] == "refused" for one in found)


def test_a_node_that_was_never_read_is_not_missed() -> None:
    never = Contact(NOW_S - 60, None, NOW_S - 9 * HOUR_S, 36, "config", "unknown", "no url")
    assert told(node("storage", contact=never)) == []
    assert told(node("storage", contact=None)) == []


def test_while_a_node_is_not_read_nothing_else_is_said_and_nothing_is_over() -> None:
    lasting = {"income": episode("income", Kind.DROP)}
    verdict = judge(node("storage", [0.0] * 12, contact=unread(120), open=lasting))
    assert [one.kind for one in verdict.findings] == [Kind.UNREACHABLE]
    assert verdict.well == frozenset()


@pytest.mark.parametrize(("hours", "found"), [(2, []), (4, [Kind.STALE_READING])])
def test_a_reader_that_stopped_is_told(hours: int, found: list[Kind]) -> None:
    asked_s = NOW_S - hours * HOUR_S
    assert kinds(node("storage", contact=Contact(asked_s, asked_s))) == found


def test_answers_without_news_are_a_stale_reading_and_not_a_flatline() -> None:
    quiet = node("storage", [None] * 6, told_s=END_S - 6 * HOUR_S)
    (one,) = told(quiet)
    assert (one.kind, one.since_s) == (Kind.STALE_READING, END_S - 6 * HOUR_S)
    assert one.evidence["hours_without_news"] == 6
    assert told(replace(quiet, told_s=END_S - 3 * HOUR_S)) == []


@pytest.mark.parametrize(("hours", "found"), [(2, []), (5, [Kind.UNREACHABLE])])
def test_a_node_that_the_network_does_not_reach_is_told(hours: int, found: list[Kind]) -> None:
    assert kinds(node("storage", details={"last_pinged_at": rfc3339(NOW_S - hours * HOUR_S)})) == found
    assert kinds(node("storage", details={"last_pinged_at": None})) == []


def test_a_failed_port_check_counts_when_it_lasts() -> None:
    failed, passed = ({"network": {"monitoring": state}} for state in ("failed", "success"))
    assert kinds(node("storage", details=failed, details_hours_ago=passed)) == []
    assert kinds(node("storage", details=failed, details_hours_ago=failed)) == [Kind.UNREACHABLE]


def satellite(state: str = "ok", **scores: float) -> dict[str, Any]:
    told = {"audit": 1.0, "suspension": 1.0, "online": 1.0} | scores if state != "unknown" else None
    return {"satellites": [{"id": "s1", "url": "one.invalid:7777", "state": state, "scores": told}]}


@pytest.mark.parametrize(
    ("now", "week_ago", "severity"),
    [
        (satellite(), satellite(), None),
        (satellite("unknown"), satellite(), None),
        (satellite("vetting", online=0.97), None, None),
        (satellite("warn", online=0.93), satellite(online=0.95), None),
        (satellite("warn", online=0.88), satellite(online=0.9), Severity.WARNING),
        (satellite(online=0.94), satellite(), Severity.WARNING),
        (satellite("warn", online=0.65), satellite(), Severity.CRITICAL),
        (satellite(audit=0.995), satellite(), None),
        (satellite(audit=0.985), satellite(), Severity.WARNING),
        (satellite("warn", audit=0.965), satellite(audit=0.965), Severity.CRITICAL),
        (satellite("warn", suspension=0.85), satellite(suspension=0.86), Severity.WARNING),
        (satellite("exited", online=0.2), satellite("exited"), None),
        (satellite("suspended"), satellite(), Severity.CRITICAL),
        (satellite("offline_suspended"), satellite("offline_suspended"), Severity.CRITICAL),
        (satellite("disqualified"), satellite(), Severity.CRITICAL),
        (satellite("disqualified"), satellite("disqualified"), None),
        (satellite("disqualified"), None, None),
    ],
)
def test_scores_of_satellites(now: dict[str, Any], week_ago: dict[str, Any] | None, severity: Severity | None) -> None:
    found = told(node("storage", details=now, details_week_ago=week_ago))
    assert [(one.kind, one.cause, one.severity) for one in found] == (
        [(Kind.REPUTATION, "reputation s1", severity)] if severity else []
    )


def test_a_low_score_goes_on_until_a_part_of_it_is_made_up_for() -> None:
    lasting = {"reputation s1": episode("reputation s1", Kind.REPUTATION)}
    better, good = (satellite("warn", online=score) for score in (0.91, 0.93))
    assert kinds(node("storage", details=better, details_week_ago=better)) == []
    assert kinds(node("storage", details=better, details_week_ago=better, open=lasting)) == [Kind.REPUTATION]
    assert kinds(node("storage", details=good, details_week_ago=better, open=lasting)) == []


def devices(*scores: float | None) -> dict[str, Any]:
    return {"devices": [{"ip_score": score} for score in scores]}


@pytest.mark.parametrize(
    ("now", "before", "week_ago", "found"),
    [
        (devices(70), devices(70), devices(75), False),
        (devices(40), devices(42), devices(75), True),
        (devices(40), devices(74), devices(75), False),
        (devices(40), devices(42), None, False),
        (devices(0), devices(0), None, True),
        (devices(None), devices(None), devices(75), False),
        (devices(), devices(), devices(75), False),
    ],
)
def test_quality_scores_of_a_connection(
    now: dict[str, Any], before: dict[str, Any], week_ago: dict[str, Any] | None, found: bool
) -> None:
    seen = node("storage", details=now, details_hours_ago=before, details_week_ago=week_ago)
    assert kinds(seen) == [Kind.REPUTATION] * found


@pytest.mark.parametrize(
    ("hours", "severity"), [(None, None), (24, None), (25.5, None), (27, Severity.WARNING), (51, Severity.CRITICAL)]
)
def test_heartbeats_that_stop(hours: float | None, severity: Severity | None) -> None:
    age_s = None if hours is None else int(hours * HOUR_S)
    found = told(node("storage", details={"heartbeat_age_s": age_s}))
    assert [(one.kind, one.severity) for one in found] == ([(Kind.STALE_HEARTBEAT, severity)] if severity else [])
    assert all(one.since_s == NOW_S - age_s for one in found if age_s)


@pytest.mark.parametrize(
    ("share", "is_open", "severity"),
    [
        (0.19, False, None),
        (0.21, False, Severity.WARNING),
        (0.16, True, Severity.WARNING),
        (0.14, True, None),
        (0.61, False, Severity.CRITICAL),
    ],
)
def test_earnings_that_nobody_collects(share: float, is_open: bool, severity: Severity | None) -> None:
    said = {"uncollected_data": str(50 * share), "uncollected_limit_data": "50"}
    lasting = {"uncollected": episode("uncollected", Kind.UNCOLLECTED)} if is_open else {}
    found = told(node("storage", details=said, open=lasting))
    assert [(one.kind, one.severity) for one in found] == ([(Kind.UNCOLLECTED, severity)] if severity else [])


def test_without_stake_there_is_no_limit_to_reach() -> None:
    assert kinds(node("storage", details={"uncollected_data": "0", "uncollected_limit_data": "0"})) == []


@pytest.mark.parametrize(("flags", "slashed", "found"), [(0, "0", False), (1, "0", True), (0, "12.5", True)])
def test_a_stake_at_risk(flags: int, slashed: str, found: bool) -> None:
    seen = node("storage", details={"open_flags": flags, "slashed_7d_data": slashed})
    assert [(one.kind, one.severity) for one in told(seen)] == [(Kind.REPUTATION, Severity.CRITICAL)] * found


def test_unpaid_work_is_told_where_it_grows_by_half_a_day() -> None:
    day = 24 * node("tasks").usual.per_hour  # pyright: ignore[reportOptionalMemberAccess]

    def owing(now: float, week_ago: float, **more: Any) -> list[Kind]:
        return kinds(node("tasks", at_risk=AtRisk("GLM", now, week_ago), **more))

    assert owing(0.4 * day, 0.0) == []
    assert owing(5.0 * day, 4.8 * day) == []
    assert owing(0.6 * day, 0.0) == [Kind.UNPAID_WORK]
    assert owing(0.4 * day, 0.0, open={"unpaid": episode("unpaid", Kind.UNPAID_WORK)}) == [Kind.UNPAID_WORK]


def test_who_owes_is_named() -> None:
    owing = [{"requestor": f"0x{n}", "at_risk": str(n)} for n in (0, 3, 9, 5, 7)]
    (one,) = told(node("tasks", at_risk=AtRisk("GLM", 24.0, 0.0), details={"requestors": owing}))
    assert [name["requestor"] for name in one.evidence["requestors"]] == ["0x9", "0x7", "0x5"]


def test_two_causes_are_told_beside_each_other() -> None:
    both = node("storage", last("storage", 24, 0.4), details=satellite(online=0.8), details_week_ago=satellite())
    assert sorted(kinds(both)) == [Kind.DROP, Kind.REPUTATION]
    assert kinds(replace(both, contact=replace(CONTACT, reason="paused: nothing is offered"))) == [Kind.REPUTATION]
