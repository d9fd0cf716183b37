"""Storj: when a node is well, what it may be granted, and readings that must not be booked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, Respond, broken, edited, sample

from depin_orcha.adapters.storj import Adapter, Options
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.net import HttpClient
from depin_orcha.types import Limits, Resource, Snapshot, Usage

HEALTHY = Path(__file__).parents[1] / "samples" / "storj" / "1.162.3" / "healthy"
NOW_S = 1_795_375_805  # 2026-11-22T19:30:05Z
US1 = "12EayRS2V1kEsWESU9QMRseFhdxYxKicsiFmxrsLZHeLUtdps3S"
DASHBOARD = "/api/sno/"
PAYOUT = "/api/sno/estimated-payout"


def read(respond: Respond, now_s: int = NOW_S, since_s: int | None = NOW_S - 900, **options: Any) -> Snapshot:
    with Loopback(respond) as server, HttpClient(10) as http:
        given = {"protocol": "storj", "url": server.url} | dict.fromkeys(options, server.url)
        return Adapter("storj_1", Options.model_validate(given)).collect(http, now_s, since_s)


def scores(url: str, **changed: float) -> Callable[[Any], None]:
    def change(satellites: Any) -> None:
        next(one for one in satellites["audits"] if one["satelliteName"] == url).update(changed)

    return change


def satellite(index: int, **changed: Any) -> Callable[[Any], None]:
    return lambda dashboard: dashboard["satellites"][index].update(changed)


@pytest.mark.parametrize(
    ("path", "change", "status", "reason"),
    [
        (DASHBOARD, lambda _: None, "up", "4 satellites: 4 ok"),
        (DASHBOARD, satellite(0, vettedAt=None), "up", "4 satellites: 3 ok, 1 vetting"),
        (DASHBOARD, satellite(0, suspended="2026-11-20T04:11:09Z"), "degraded", "suspended by ap1.storj.io"),
        (
            DASHBOARD,
            lambda sno: [one.update(disqualified="2026-11-18T09:44:02Z") for one in sno["satellites"][:2]] and None,
            "degraded",
            "disqualified by ap1.storj.io, us1.storj.io",
        ),
        ("/api/sno/satellites", scores("us1.storj.io:7777", onlineScore=0.59), "degraded", "for being offline by us1"),
        ("/api/sno/satellites", scores("us1.storj.io:7777", onlineScore=0.94), "degraded", "scores are low with us1"),
        ("/api/sno/satellites", scores("us1.storj.io:7777", auditScore=0.979), "degraded", "scores are low with us1"),
        (
            "/api/sno/satellites",
            scores("us1.storj.io:7777", suspensionScore=0.89),
            "degraded",
            "scores are low with us1",
        ),
        ("/api/sno/satellites", lambda every: every.update(audits=None), "up", "4 satellites: 4 unknown"),
        (DASHBOARD, lambda sno: sno.update(upToDate=False), "degraded", "below 1.155.4"),
        (DASHBOARD, lambda sno: sno.update(lastPinged="2026-11-22T16:30:05Z"), "up", "4 ok"),
        (DASHBOARD, lambda sno: sno.update(lastPinged="2026-11-22T16:30:04Z"), "degraded", "for 180 minutes"),
        (
            DASHBOARD,
            lambda sno: sno.update(lastPinged="0001-01-01T00:00:00Z", startedAt="2026-11-22T19:15:06Z"),
            "up",
            "4 ok",
        ),
        (
            DASHBOARD,
            lambda sno: sno.update(lastPinged="0001-01-01T00:00:00Z", startedAt="2026-11-22T20:15:00+01:00"),
            "degraded",
            "nobody has reached the node for 15 minutes",
        ),
    ],
)
def test_health(path: str, change: Callable[[Any], Any], status: str, reason: str) -> None:
    health = read(edited(sample(HEALTHY), path, change)).health
    assert (health.status, reason in health.reason) == (status, True), health.reason


NOTIFICATIONS = "/api/notifications/list"
PERIODS, HISTORY = "/api/heldamount/periods", "/api/heldamount/payout-history/2026-10"
EU1 = "12L9ZFwhzVpuEKMUNUqkaTLGzwY9G24tbiigLiXpmZWKwmcNDDs"
LOW = edited(sample(HEALTHY), "/api/sno/satellites", scores("us1.storj.io:7777", onlineScore=0.59))


def notice(satellite_id: str, created_at: str, kind: int = 3) -> dict[str, Any]:
    message = f"This is a reminder that your StorageNode is suspended on Satellite {satellite_id}"
    return {"type": kind, "title": "", "message": message, "createdAt": created_at}


@pytest.mark.parametrize(
    ("notices", "reason", "told_at"),
    [
        ([notice(EU1, "2026-11-21T19:30:06Z")], "for being offline by eu1.storj.io", "2026-11-21T19:30:06Z"),
        ([notice(EU1, "2026-11-21T19:30:05Z")], "4 satellites: 4 ok", "2026-11-21T19:30:05Z"),
        ([notice(EU1, "2026-11-22T19:00:00Z", kind=0)], "4 satellites: 4 ok", None),
        ([notice("1Unknown", "2026-11-22T19:00:00Z")], "4 satellites: 4 ok", None),
        (
            [notice(EU1, "2026-11-22T19:00:00Z"), notice(EU1, "2026-09-01T00:00:00Z")],
            "for being offline by eu1.storj.io",
            "2026-11-22T19:00:00Z",
        ),
    ],
)
def test_a_suspension_for_downtime_is_told_by_a_notification(
    notices: list[dict[str, Any]], reason: str, told_at: str | None
) -> None:
    health = read(edited(sample(HEALTHY), NOTIFICATIONS, lambda one: one["page"].update(notifications=notices))).health
    assert reason in health.reason
    states = {one["id"]: one["suspension_told_at"] for one in health.details["satellites"]}
    assert states == dict.fromkeys(states) | {EU1: told_at}


def test_a_notification_tells_where_the_score_is_unknown() -> None:
    respond = edited(sample(HEALTHY), "/api/sno/satellites", lambda every: every.update(audits=None))
    notices = [notice(EU1, "2026-11-22T19:00:00Z")]
    health = read(edited(respond, NOTIFICATIONS, lambda one: one["page"].update(notifications=notices))).health
    assert health.reason == "suspended for being offline by eu1.storj.io"


def test_without_notifications_scores_tell() -> None:
    snapshot = read(broken(LOW, Answer(500), only=NOTIFICATIONS))
    assert snapshot.health.reason == "suspended for being offline by us1.storj.io"
    assert "told by scores alone" in snapshot.warnings[0]


@pytest.mark.parametrize(
    ("exited", "periods", "state"),
    [
        (True, ["2024-03", "2026-10", "2026-09"], "exited"),
        (False, ["2026-10"], "offline_suspended"),
        (True, None, "offline_suspended"),
    ],
)
def test_a_satellite_that_the_node_has_left_is_no_trouble(
    *, exited: bool, periods: list[str] | None, state: str
) -> None:
    respond = edited(
        LOW, HISTORY, lambda rows: next(one for one in rows if one["satelliteID"] == US1).update(isExitComplete=exited)
    )
    respond = edited(respond, f"{PERIODS}?id={US1}", lambda _: periods) if periods else respond
    respond = respond if periods else broken(respond, Answer(200, b"null", "application/json"), only=PERIODS)
    with Loopback(respond) as server, HttpClient(10) as http:
        adapter = Adapter("storj_1", Options.model_validate({"protocol": "storj", "url": server.url}))
        snapshot = adapter.collect(http, NOW_S, NOW_S - 900)
        asked = [one.query.get("id") for one in server.requests if one.path == PERIODS]
    assert [one["state"] for one in snapshot.health.details["satellites"] if one["id"] == US1] == [state]
    assert (snapshot.health.status == "up") is (state == "exited")
    assert (snapshot.warnings, asked) == ((), [US1])


@pytest.mark.parametrize("path", [PERIODS, HISTORY])
def test_whether_the_node_has_left_may_stay_unknown(path: str) -> None:
    snapshot = read(broken(LOW, Answer(500), only=path))
    assert snapshot.health.reason == "suspended for being offline by us1.storj.io"
    assert "whether the node has left" in snapshot.warnings[0]


@pytest.mark.parametrize(
    ("disk", "is_full"),
    [
        ({"allocated": 6e12, "available": 5e9, "used": 5.99e12, "trash": 0}, False),
        ({"allocated": 6e12, "available": 4.9e9, "used": 5.9e12, "trash": 0}, True),
        ({"available": 6e12, "used": 5.9e12, "trash": 95e9}, False),  # until 1.142: the whole, and pieces without trash
        ({"available": 6e12, "used": 5.9e12, "trash": 95.1e9}, True),
    ],
)
def test_a_full_node_is_said(disk: dict[str, float], *, is_full: bool) -> None:
    health = read(edited(sample(HEALTHY), DASHBOARD, lambda sno: sno.update(diskSpace=disk))).health
    assert (health.status, "full: they send it nothing new" in health.reason) == ("up", is_full)


def test_own_verdict_counts_where_nothing_else_explains_it() -> None:
    def verdict(*, healthy: bool, status: int) -> Respond:
        body = b'{"Statuses": null, "Help": "", "AllHealthy": %s}' % (b"true" if healthy else b"false")
        return broken(sample(HEALTHY), Answer(status, body, "application/json"), only="/")

    well = read(verdict(healthy=True, status=200), health_url=True)
    unwell = read(verdict(healthy=False, status=503), health_url=True)
    silent = read(broken(sample(HEALTHY), Answer(500), only="/"), health_url=True)
    assert (well.health.status, well.warnings) == ("up", ())
    assert (unwell.health.status, unwell.health.reason) == (
        "degraded",
        "it calls itself unhealthy on its public port",
    )
    assert silent.health.status == "up"
    assert "the public port was not read" in silent.warnings[0]


def test_negative_used_space_is_no_answer() -> None:
    snapshot = read(edited(sample(HEALTHY), DASHBOARD, lambda sno: sno["diskSpace"].update(used=-2048)))
    assert snapshot.usage == {Resource.STORAGE_BYTES: Usage(6e12, None)}
    assert snapshot.limits == {}


def test_limits_leave_room_and_respect_the_smallest_node() -> None:
    adapter = Adapter("storj_1", Options(protocol="storj"))
    for used, floor in ((0.0, 500e9), (400e9, 500e9), (4e12, 4.2e12)):
        limits = adapter.limits({Resource.STORAGE_BYTES: Usage(6e12, used)})
        assert limits == {Resource.STORAGE_BYTES: Limits(floor, None, 50e9)}
    assert adapter.limits({}) == {}


def test_one_misshapen_payout_stops_all_earnings() -> None:
    for path, change, says in (
        (f"{PAYOUT}?id={US1}", lambda body: body["currentMonth"].pop("diskSpace"), "currentMonth.diskSpace is missing"),
        (
            f"{PAYOUT}?id={US1}",
            lambda body: body["previousMonth"].update(heldRate="75"),
            "previousMonth.heldRate is a s",
        ),
        (f"/api/sno/satellites/{US1}/pricing", lambda body: body.pop("auditBandwidth"), "auditBandwidth is missing"),
    ):
        with pytest.raises(AdapterError, match=says) as failure:
            read(edited(sample(HEALTHY), path, lambda body, change=change: change(body) and None))
        assert failure.value.kind == FailureKind.SHAPE


@pytest.mark.parametrize("fault", [Answer(500, b"{}", "application/json"), Answer(200, b"<html>", "text/html")])
@pytest.mark.parametrize("path", [f"{PAYOUT}?id={US1}", f"/api/sno/satellites/{US1}/pricing"])
def test_a_satellite_that_cannot_be_read_makes_it_the_sum(path: str, fault: Answer) -> None:
    earnings = read(broken(sample(HEALTHY), fault, only=path)).earnings
    assert {(one.external_id, one.period) for one in earnings} == {("all", "2026-11"), ("all", "2026-10")}


def test_no_prices_at_all_is_a_failure_unless_the_satellites_have_not_told() -> None:
    respond = sample(HEALTHY)

    def without_prices(request: Any) -> Answer:
        return Answer(500, b"{}", "application/json") if request.path.endswith("/pricing") else respond(request)

    with pytest.raises(AdapterError) as failure:
        read(without_prices)
    assert failure.value.kind == FailureKind.TRANSIENT


@pytest.mark.parametrize(
    ("date", "now_s", "is_read"),
    [
        ("Tue, 01 Dec 2026 00:00:01 GMT", 1_796_083_199, False),  # ours is the last second of November
        ("Mon, 30 Nov 2026 23:59:58 GMT", 1_796_083_201, False),
        ("Mon, 30 Nov 2026 23:59:58 GMT", 1_796_083_199, True),
        ("Fri, 01 Jan 2027 00:00:00 GMT", 1_796_083_199, True),  # that clock is not believed
        ("soon", 1_796_083_199, True),
    ],
)
def test_month_turns_by_the_clock_of_the_node(date: str, now_s: int, *, is_read: bool) -> None:
    respond = sample(HEALTHY)

    def dated(request: Any) -> Answer:
        answer = respond(request)
        return Answer(answer.status, answer.body, answer.content_type, {"Date": date})

    assert bool(read(dated, now_s, now_s - 900).earnings) is is_read


def test_first_reading_leaves_the_closed_month_alone() -> None:
    assert {one.period for one in read(sample(HEALTHY), since_s=None).earnings} == {"2026-11"}
    assert {one.period for one in read(sample(HEALTHY)).earnings} == {"2026-11", "2026-10"}


@pytest.mark.parametrize(
    ("version", "steps"), [("1.161.9", True), ("1.162.0", False), ("2.0.1", False), ("dev", False)]
)
def test_stored_bytes_count_in_steps_before_1_162(version: str, *, steps: bool) -> None:
    snapshot = read(edited(sample(HEALTHY), DASHBOARD, lambda sno: sno.update(version=version)))
    assert snapshot.earnings
    assert [one.stepped is not None and 0 < one.stepped < one.amount for one in snapshot.earnings] == [steps] * len(
        snapshot.earnings
    )
