"""Grass: what is asked and what is kept, when 0 points are unknown, and that no epoch loses or doubles a point."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import opened
from loopback import Answer, Loopback, Request, Respond, broken, edited, sample

from depin_orcha.adapters.grass import Adapter, Options
from depin_orcha.asof import AsOf
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.net import HttpClient
from depin_orcha.types import DAY_S, HOUR_S, Snapshot

EARNING = Path(__file__).parents[1] / "samples" / "grass" / "2026-11" / "earning"
NOW_S = 1_795_370_700  # 2026-11-22T18:05:00Z
TOKEN = "made.up.token"
EPOCHS, DEVICES, ACCOUNT = "/epochEarnings", "/activeDevices", "/retrieveUser"
LATEST = '/epochEarnings?input={"limit":1,"isLatestOnly":true}'
CLOSED = '/epochEarnings?input={"limit":12,"isLatestOnly":false}'


def read(respond: Respond, now_s: int = NOW_S, since_s: int | None = None, token: str = TOKEN) -> Snapshot:
    with Loopback(respond) as server, HttpClient(5) as http:
        return adapter(server.url, token).collect(http, now_s, since_s)


def adapter(url: str, token: str | None = TOKEN) -> Adapter:
    return Adapter("grass_1", Options.model_validate({"protocol": "grass", "url": url, "token": token}))


def failing(respond: Respond) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        read(respond)
    return caught.value


def answered(body: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(body).encode(), "application/json")


def in_epoch(**changed: Any) -> Callable[[Any], Any]:
    return lambda answer: answer["result"]["data"]["data"][0].update(changed)


def on_devices(**changed: Any) -> Callable[[Any], Any]:
    return lambda answer: {"result": {"data": [device | changed for device in answer["result"]["data"]]}}


def jwt(**payload: Any) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in ({}, payload)]
    return ".".join([*parts, "c2ln"])


def test_three_questions_with_the_bare_token() -> None:
    with Loopback(sample(EARNING)) as server, HttpClient(5) as http:
        adapter(server.url).collect(http, NOW_S, NOW_S - 900)
        assert [(one.method, one.target) for one in server.requests] == [
            ("GET", LATEST),
            ("GET", DEVICES),
            ("GET", ACCOUNT),
        ]
        assert {one.headers["authorization"] for one in server.requests} == {TOKEN}
        assert not {name for one in server.requests for name in one.headers} & {"origin", "referer", "cookie"}


def test_nothing_that_says_who_it_is_is_kept() -> None:
    kept = repr(read(sample(EARNING)))
    for private in ("user@example", "example-user", "1111111111", "203.0.113", "198.51.100", "00000000-", "EXAMPLE"):
        assert private not in kept
    assert "48211.37" in kept


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (jwt(exp=NOW_S + 15 * DAY_S), None),
        (jwt(exp=NOW_S + 13 * DAY_S), "expires on 2026-12-05T18:05:00Z"),
        (jwt(exp=NOW_S - 60, email="user@example.invalid"), "expired on 2026-11-22T18:04:00Z"),
        (jwt(exp="soon"), None),
        (jwt(exp=1e30), None),
        (jwt(iat=1), None),
        ("no-jwt", None),
        ("a.%%%.c", None),
        ("a.bnVsbA.c", None),
    ],
)
def test_warns_two_weeks_before_the_token_expires(token: str, says: str | None) -> None:
    warnings = read(sample(EARNING), token=token).warnings
    assert (says is None and not warnings) or (says is not None and says in warnings[0]), warnings
    assert "user@example" not in "".join(warnings)


@pytest.mark.parametrize(
    ("path", "change", "status", "reason"),
    [
        (DEVICES, lambda _: None, "degraded", "1 of 2 connected devices"),
        (DEVICES, on_devices(ipScore=1), "up", "connected devices: 2"),
        (DEVICES, on_devices(ipScore=None), "up", "connected devices: 2"),
        (DEVICES, lambda answer: answer["result"]["data"].clear(), "degraded", "no device is connected"),
        (DEVICES, lambda answer: answer["result"].update(data=None), "unknown", "could not be read"),
    ],
)
def test_health(path: str, change: Callable[[Any], Any], status: str, reason: str) -> None:
    health = read(edited(sample(EARNING), path, change)).health
    assert (health.status, reason in health.reason) == (status, True), health.reason


@pytest.mark.parametrize(
    ("factor", "points"),
    [({}, 20080.0), ({"multiplier": 1}, 10040.0), ({"multiplier": None}, None), ({"aggUptime": 0}, 0.0)],
)
def test_uptime_points_are_an_estimate_where_every_factor_is_known(factor: dict[str, Any], points: float) -> None:
    details = read(edited(sample(EARNING), DEVICES, on_devices(**factor))).health.details
    assert details["uptime_points_estimate"] == points


@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_no_points_yet_is_no_failure(status: int) -> None:
    none_yet = answered({"error": {"message": "User epoch earning not found."}}, status)
    snapshot = read(broken(sample(EARNING), none_yet, only=EPOCHS))
    assert (snapshot.earnings, snapshot.warnings) == ((), ())


@pytest.mark.parametrize(
    ("devices", "sampled"),
    [
        (None, False),
        (answered({"result": {"data": []}}), True),
        (answered({"result": {"data": None}}), False),
        (Answer(500), False),
    ],
)
def test_zero_is_a_sample_only_when_nothing_is_connected(devices: Answer | None, *, sampled: bool) -> None:
    respond = edited(sample(EARNING), EPOCHS, in_epoch(totalPoints=0))
    snapshot = read(respond if devices is None else broken(respond, devices, only=DEVICES))
    assert [one.amount for one in snapshot.earnings] == [Decimal(0)] * sampled
    assert sampled or "earnings are unknown" in snapshot.warnings[-1]


def test_a_counter_stands_at_the_moment_it_was_counted() -> None:
    def observed_s(**changed: Any) -> int:
        return read(edited(sample(EARNING), EPOCHS, in_epoch(**changed))).earnings[0].observed_s

    assert observed_s() == NOW_S - 297
    assert observed_s(modified="2026-11-23T18:00:00Z") == NOW_S
    assert observed_s(modified=None) == NOW_S


@pytest.mark.parametrize(
    ("fault", "kind", "hint"),
    [
        (answered({"error": {"message": "Unauthorized"}}, 401), FailureKind.AUTH, "copy accessToken"),
        (answered({"error": {"message": "jwt expired"}}), FailureKind.AUTH, "copy accessToken"),
        (answered({"error": {"message": "jwt malformed"}}, 400), FailureKind.AUTH, "copy accessToken"),
        (answered({"error": "Too many requests"}), FailureKind.TRANSIENT, "next run"),
        (answered({"error": {"message": f"what is {TOKEN}?"}}), FailureKind.AUTH, "copy accessToken"),
        (answered({"error": {"message": f"no procedure for {TOKEN[5:]} \x1b[31m"}}), FailureKind.AUTH, "accessToken"),
        (answered({"error": {"message": "no such\x1b[31m procedure"}}), FailureKind.SHAPE, "api.getgrass.io"),
        (answered({}, 404), FailureKind.SHAPE, "api.getgrass.io"),
        (answered({"result": {}}), FailureKind.SHAPE, "changed its answers"),
        (Answer(403, b"<html>", "text/html"), FailureKind.BLOCKED, "six hours"),
        (Answer(403, b"{}", "application/json", {"cf-mitigated": "challenge"}), FailureKind.BLOCKED, "six hours"),
        (Answer(503, b"<html>", "text/html"), FailureKind.BLOCKED, "six hours"),
        (Answer(500, b"", "text/plain"), FailureKind.TRANSIENT, "next run"),
    ],
)
def test_each_refusal_is_named_and_shows_no_token(fault: Answer, kind: FailureKind, hint: str) -> None:
    failure = failing(lambda _: fault)
    assert failure.kind == kind, failure.message
    assert hint in failure.hint
    assert TOKEN not in failure.message
    assert failure.message.isprintable()


def test_a_name_that_nobody_knows_leads_to_the_older_address() -> None:
    with HttpClient(5) as http, pytest.raises(AdapterError) as caught:
        adapter("http://name.invalid").collect(http, NOW_S, None)
    assert caught.value.kind == FailureKind.TRANSIENT
    assert "api.getgrass.io" in caught.value.hint


def test_without_a_token_nothing_is_asked() -> None:
    with Loopback(sample(EARNING)) as server, HttpClient(5) as http, pytest.raises(AdapterError) as caught:
        adapter(server.url, token=None).collect(http, NOW_S, None)
    assert (caught.value.kind, server.requests) == (FailureKind.CONFIG, [])


@pytest.mark.parametrize("fault", [Answer(401), Answer(403, b"<html>", "text/html")])
def test_a_refusal_ends_the_questions(fault: Answer) -> None:
    with Loopback(broken(sample(EARNING), fault, only=DEVICES)) as server, HttpClient(5) as http:
        with pytest.raises(AdapterError):
            adapter(server.url).collect(http, NOW_S, None)
        assert [one.path for one in server.requests] == [EPOCHS, DEVICES]


class Network:
    """An account whose points grow by the hour, in epochs of whole months that are counted once an hour."""

    def __init__(self) -> None:
        self.now_s = 0

    def respond(self, request: Request) -> Answer:
        if request.path == DEVICES:
            return answered({"result": {"data": [{"ipScore": 80, "type": "desktop"}]}})
        if request.path == ACCOUNT:
            return answered({"result": {"data": {}}})
        asked = json.loads(request.query["input"])
        rows = [self._epoch(start) for start in self._starts() if start <= self._now()][::-1]
        return answered({"result": {"data": {"data": rows[: asked["limit"]]}}})

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s, UTC)

    def _starts(self) -> list[datetime]:
        return [datetime(2026 + month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in range(4, 16)]

    def _epoch(self, start: datetime) -> dict[str, Any]:
        start_s = int(start.timestamp())
        end_s = int(start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1).timestamp())
        counted_s = min(self.now_s // HOUR_S * HOUR_S, end_s)
        return {
            "epochName": f"Epoch {20 + (start.year - 2026) * 12 + start.month}",
            "totalPoints": self.points_by(counted_s) - self.points_by(start_s),
            "startDate": start.strftime("%Y-%m-%d"),
            "endDate": datetime.fromtimestamp(end_s - 1, UTC).strftime("%Y-%m-%d"),
            "modified": datetime.fromtimestamp(counted_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.511Z"),
        }

    @staticmethod
    def points_by(instant_s: int) -> float:
        """12.25 points an hour, and 3 more at noon."""
        hours = instant_s // HOUR_S
        return hours * 12.25 + (hours + 12) // 24 * 3


@pytest.mark.parametrize(
    "polls_h",
    [
        pytest.param([*range(0, 24 * 70, 5)], id="often"),
        pytest.param([0, 1, 24 * 9, 24 * 12, 24 * 29, 24 * 33, 24 * 70], id="seldom"),
        pytest.param([0, 24 * 100, 24 * 100 + 1], id="epochs were missed"),
    ],
)
def test_every_point_is_booked_once_over_the_turns_of_epochs(tmp_path: Path, polls_h: list[int]) -> None:
    network = Network()
    start_s = int(datetime(2026, 9, 20, tzinfo=UTC).timestamp())
    since_s = None
    with Loopback(network.respond) as server, opened(tmp_path / "orcha.db", node="grass_1", now_s=start_s) as store:
        for poll_h in polls_h:
            now_s = network.now_s = start_s + poll_h * HOUR_S + 120
            with HttpClient(5) as http:
                snapshot = adapter(server.url).collect(http, now_s, since_s)
            with store.transaction():
                store.add_snapshot(snapshot, now_s, "POINTS")
            since_s = now_s
        hours = list(AsOf(store.connection, network.now_s).hours())
    assert sum(hour.amount for hour in hours) == Decimal(
        str(network.points_by(network.now_s) - network.points_by(start_s))
    )
    assert min(hour.amount for hour in hours) >= 0


def test_an_epoch_that_is_counted_late_is_finished_but_older_ones_are_history() -> None:
    def epochs(request: Request) -> Answer:
        rows = [
            {"epochName": "Epoch 25", "totalPoints": 0, "startDate": "2026-11-01", "endDate": "2026-11-30"},
            {"epochName": "Epoch 24", "totalPoints": 77.5, "startDate": "2026-10-01", "endDate": "2026-10-31"},
            {"epochName": "Epoch 23", "totalPoints": 50, "startDate": "2026-09-01", "endDate": "2026-09-30"},
        ]
        if request.path != EPOCHS:
            return sample(EARNING)(request)
        return answered({"result": {"data": {"data": rows[: json.loads(request.query["input"])["limit"]]}}})

    def closed(now: str, since: str | None) -> list[tuple[str, Decimal, int]]:
        now_s, since_s = (None if at is None else int(datetime.fromisoformat(at).timestamp()) for at in (now, since))
        assert now_s is not None
        return [(one.period, one.amount, one.observed_s) for one in read(epochs, now_s, since_s).earnings]

    counted_s = int(datetime(2026, 11, 10, tzinfo=UTC).timestamp())
    assert closed("2026-11-10T00:00:00Z", "2026-11-09T23:45:00Z") == [("Epoch 24", Decimal("77.5"), counted_s)]
    assert closed("2026-11-10T00:00:00Z", None) == []
    assert closed("2026-11-20T00:00:00Z", "2026-11-19T23:45:00Z") == []
