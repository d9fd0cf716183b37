"""Golem: which documents make which samples, page by page, and whether the provider is busy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, Request, Respond, broken, edited, sample, selected
from pydantic import ValidationError

from depin_orcha.adapters import _yagna
from depin_orcha.adapters.golem import Adapter, Options
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.net import HttpClient
from depin_orcha.types import Resource, SampleKind, Snapshot, Standing, Usage

WORKING = Path(__file__).parents[1] / "samples" / "golem" / "0.17.6" / "working"
KEY = "00112233445566778899aabbccddeeff"
NOW_S = 1_795_377_180  # 2026-11-22T19:53:00Z
NOTES = "/payment-api/v1/debitNotes"
INVOICES = "/payment-api/v1/invoices"
OFFERS = "/market-api/v1/offers"
APPROVED = "/market-api/v1/agreements?state=Approved"
METRICS = "/metrics-api/v1/expose"
PLATFORM = "golem.com.payment.platform.erc20-{}.address"
RUNNING = "60f5339a9b146e4a01b0d57ab45cb330"
DONE = "9fe16ce8a3e455c4be52ab8a883a2cc6"


def read(respond: Respond, since_s: int | None = None, now_s: int = NOW_S) -> Snapshot:
    with Loopback(respond) as server, HttpClient(10) as http:
        return _adapter(server.url).collect(http, now_s, since_s)


def _adapter(url: str) -> Adapter:
    return Adapter("golem_1", Options.model_validate({"protocol": "golem", "url": url, "app_key": KEY}))


def idle(respond: Respond) -> Respond:
    """The same server, on which no activity is alive."""
    stream = (WORKING.parent / "monitor_idle.txt").read_bytes()
    return broken(respond, Answer(200, stream, "text/event-stream", stream=True), only="/activity-api/v1/_monitor")


def counter(snapshot: Snapshot, activity: str) -> list[tuple[int, str]]:
    return [(one.observed_s - NOW_S, str(one.amount)) for one in snapshot.earnings if one.external_id == activity]


def test_work_is_counted_once_and_to_the_last_digit() -> None:
    snapshot = read(sample(WORKING))
    last = {one.external_id: one.amount for one in snapshot.earnings}
    assert all(one.kind is SampleKind.COUNTER for one in snapshot.earnings)
    assert sum(last.values()) == Decimal("0.264448791131944429")
    assert last[RUNNING] == Decimal("0.017690977777777777")


def test_reading_again_delivers_the_same_samples() -> None:
    whole = {(one.external_id, one.observed_s): one for one in read(sample(WORKING)).earnings}
    for since_s in range(NOW_S - 30 * 3600, NOW_S, 3600):
        again = read(sample(WORKING), since_s)
        assert all(whole[one.external_id, one.observed_s] == one for one in again.earnings)
        assert again.complete_since_s == since_s - 3600
        due = {key for key in whole if key[1] > since_s - 3600}
        assert due <= {(one.external_id, one.observed_s) for one in again.earnings}


@pytest.mark.parametrize("size", [2, 3, 10])
def test_pages_join_without_a_seam(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    plain = sample(WORKING)
    notes = json.loads((WORKING.parent / "debit_notes.json").read_text())
    notes[2]["timestamp"] = notes[1]["timestamp"]

    def respond(request: Request) -> Answer:
        if request.path != NOTES:
            return plain(request)
        return Answer(200, json.dumps(selected(notes, "timestamp", request.query)).encode(), "application/json")

    whole = read(respond)
    monkeypatch.setattr(_yagna, "PAGE", size)
    monkeypatch.setattr(_yagna, "_SMALL_PAGE", size)
    paged = read(respond)
    assert (paged.earnings, paged.standings, paged.voided) == (whole.earnings, whole.standings, whole.voided)


def test_a_server_that_knows_no_pages_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_yagna, "PAGE", 2)
    respond = sample(WORKING)

    def everything(request: Any) -> Answer:
        request.query.clear()
        return respond(request)

    assert len(read(everything).earnings) == len(read(sample(WORKING)).earnings)


def test_of_two_notes_in_one_second_the_larger_counts() -> None:
    def change(notes: list[dict[str, Any]]) -> None:
        notes[1]["timestamp"], notes[2]["timestamp"] = "2026-11-21T18:45:27.9Z", "2026-11-21T18:45:27.1Z"

    respond = edited(sample(WORKING), NOTES, change)
    assert counter(read(respond), DONE)[1:] == [(-93_933, "0.006002155555555555"), (-90_453, "0.1800038202986111")]


@pytest.mark.parametrize(
    ("broken_parts", "begin_s"),
    [
        ([], -93_945),  # the agreement was approved 12 s before the first note
        (["agreement"], -94_053),  # the daemon first heard of the activity two minutes before it
        (["agreement", "activity"], -93_934),  # nothing is known but the note
    ],
)
def test_an_activity_starts_from_zero_where_it_is_known_to_start(broken_parts: list[str], begin_s: int) -> None:
    respond = sample(WORKING)
    if "agreement" in broken_parts:
        respond = edited(respond, "/market-api/v1/agreements", lambda every: every[1:])
    if "activity" in broken_parts:
        respond = edited(respond, "/payment-api/v1/payActivities", lambda every: every[0].update(createdTs=None))
    assert counter(read(respond), DONE)[0] == (begin_s, "0")


def _status(index: int, status: str) -> Callable[[Any], None]:
    return lambda documents: documents[index].update(status=status)


@pytest.mark.parametrize("status", ["REJECTED", "CANCELLED", "FAILED"])
def test_a_void_invoice_takes_all_its_notes_back(status: str) -> None:
    snapshot = read(edited(sample(WORKING), INVOICES, _status(0, status)))
    assert not counter(snapshot, DONE)
    assert [one.observed_s for one in snapshot.voided if one.external_id == DONE] == [None]
    assert sum(one.amount for one in snapshot.standings if one.standing is Standing.ACCEPTED) == Decimal(
        "0.082276741666666662"
    )


def test_an_invoice_that_replaces_a_void_one_keeps_the_notes() -> None:
    def change(invoices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [invoices[0] | {"invoiceId": "first", "status": "CANCELLED"}, *invoices]

    snapshot = read(edited(sample(WORKING), INVOICES, change))
    assert len(counter(snapshot, DONE)) == 4
    assert "first" in {one.external_id for one in snapshot.voided}


def test_a_void_note_is_left_to_the_next_one() -> None:
    snapshot = read(edited(sample(WORKING), NOTES, _status(1, "REJECTED")))
    assert [amount for _, amount in counter(snapshot, DONE)] == ["0", "0.006002155555555555", "0.1800038202986111"]
    assert [one.observed_s for one in snapshot.voided if one.external_id == DONE] == [NOW_S - 92_253]


def test_an_invoice_covers_what_its_last_note_could_not() -> None:
    snapshot = read(edited(sample(WORKING), NOTES, _status(2, "REJECTED")))
    (event,) = [one for one in snapshot.earnings if one.kind is SampleKind.EVENT]
    assert (event.external_id, event.amount) == (
        "0937cd69-4eb9-51b7-47c7-5e3426cc51d9",
        Decimal("0.089999915124999994"),
    )


def test_what_is_late_is_at_risk() -> None:
    def at_risk(respond: Respond, now_s: int) -> Decimal:
        standings = read(respond, now_s - 900, now_s).standings
        return next(one.amount for one in standings if one.standing is Standing.AT_RISK)

    received_s = 1_795_369_592  # 2026-11-22T17:46:32Z
    due_s = 1_795_446_632  # 2026-11-23T15:10:32Z
    assert at_risk(sample(WORKING), received_s + 6 * 3600) == 0
    assert at_risk(sample(WORKING), received_s + 6 * 3600 + 1) == Decimal("0.002168229166666667")
    assert at_risk(sample(WORKING), due_s + 1) == Decimal("0.066753993055555552")


@pytest.mark.parametrize(
    ("monitor", "approved", "expires_ms", "is_busy"),
    [
        ("working", True, 0, True),
        ("idle", True, 4_000_000_000_000, True),
        ("idle", True, None, True),
        ("idle", True, 1_000_000_000_000, False),
        ("idle", False, 4_000_000_000_000, False),
    ],
)
def test_busy_is_a_live_activity_or_a_binding_agreement(
    monitor: str, approved: bool, expires_ms: int | None, is_busy: bool
) -> None:
    stream = (WORKING.parent / f"monitor_{monitor}.txt").read_bytes()
    respond = broken(
        sample(WORKING), Answer(200, stream, "text/event-stream", stream=True), only="/activity-api/v1/_monitor"
    )

    def expiring(agreement: Any) -> None:
        agreement["demand"]["properties"]["golem.srv.comp.expiration"] = expires_ms

    respond = edited(respond, f"/market-api/v1/agreements/{_agreement()}", expiring)
    if not approved:
        respond = edited(respond, "/market-api/v1/agreements?state=Approved", lambda _: [])
    with Loopback(respond) as server, HttpClient(10) as http:
        started = time.monotonic()
        assert _adapter(server.url).busy(http) is is_busy
        assert time.monotonic() - started < 5, "the event stream never ends; it is not waited for"


def _agreement() -> str:
    return "ce179290fb4ed512e1a21708848da5cbae3aaa6dd722a3a4551537e1a3f6058c"


def test_an_agreement_that_vanished_binds_nobody() -> None:
    gone = broken(idle(sample(WORKING)), Answer(404), only=f"/market-api/v1/agreements/{_agreement()}")
    snapshot = read(gone)
    assert (snapshot.health.details["agreements"], snapshot.usage[Resource.CPU_CORES]) == ([], Usage(15, 0))


def test_offers_are_read_by_their_usage_vector() -> None:
    def swapped(offers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        small = {**offers[0], "properties": dict(offers[0]["properties"])}
        small["properties"] |= {
            "golem.runtime.name": "wasmtime",
            "golem.inf.cpu.threads": 2,
            "golem.com.usage.vector": ["golem.usage.duration_sec", "golem.usage.cpu_sec"],
            "golem.com.pricing.model.linear.coeffs": [0.25, 0.5, 3],
        }
        return [*offers, small]

    respond = edited(sample(WORKING), "/market-api/v1/offers", swapped)
    snapshot = read(respond)
    large, small = snapshot.health.details["offers"]
    assert (large["runtime"], large["threads"], large["glm_per_cpu_s"]) == ("vm", 15, 6.944444444444444e-06)
    assert (small["runtime"], small["threads"]) == ("wasmtime", 2)
    assert (small["glm_per_cpu_s"], small["glm_per_s"], small["glm_start"]) == (0.5, 0.25, 3)
    assert snapshot.usage[Resource.CPU_CORES] == Usage(15, 15)
    with Loopback(respond) as server, HttpClient(10) as http:
        shown = _adapter(server.url).offers(http)
    assert [offer["properties"]["golem.inf.cpu.threads"] for offer in shown] == [15, 2]
    assert shown[0]["timestamp"] == "2026-11-22T19:52:28.488702715Z"


def test_prices_that_do_not_match_their_vector_are_refused() -> None:
    def short(offers: list[dict[str, Any]]) -> None:
        offers[0]["properties"]["golem.com.pricing.model.linear.coeffs"].pop()

    with pytest.raises(AdapterError, match="do not match its usage vector") as failure:
        read(edited(sample(WORKING), "/market-api/v1/offers", short))
    assert failure.value.kind == FailureKind.SHAPE


def test_an_agreement_goes_on_when_nothing_is_offered_any_more() -> None:
    snapshot = read(edited(sample(WORKING), OFFERS, lambda _: []))
    assert snapshot.usage[Resource.CPU_CORES] == Usage(0, 15)
    assert (snapshot.health.status, snapshot.health.reason) == (
        "up",
        "draining: working, and nothing is offered to the next requestor",
    )


def test_work_that_neither_an_agreement_nor_an_offer_shows_is_of_unknown_size() -> None:
    respond = edited(edited(sample(WORKING), OFFERS, lambda _: []), APPROVED, lambda _: [])
    assert read(respond).usage[Resource.CPU_CORES] == Usage(0, None)


@pytest.mark.parametrize(
    ("offered", "agreed", "used", "floor"),
    [
        (15, [15], 15, 15),
        (8, [15], 15, 8),  # the grant was lowered meanwhile: to raise it again would set nothing free
        (15, [4], 4, 4),
        (15, [15, 15], 30, 15),  # each agreement may take the whole cap
        (15, [], 0, 1),
    ],
)
def test_a_running_agreement_is_a_floor(offered: int, agreed: list[int], used: float, floor: float) -> None:
    detail = json.loads((WORKING.parent / "agreement_detail.json").read_text())
    ids = [f"{index:064x}" for index in range(len(agreed))]

    def approved(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{**listed[0], "id": one} for one in ids]

    respond = edited(sample(WORKING), OFFERS, lambda offers: offers[0]["properties"].update(_threads(offered)))
    respond = edited(respond, APPROVED, approved)
    for one, threads in zip(ids, agreed, strict=True):
        body = json.dumps(detail | {"offer": {"properties": detail["offer"]["properties"] | _threads(threads)}})
        path = f"/market-api/v1/agreements/{one}"
        respond = broken(respond, Answer(200, body.encode(), "application/json"), only=path)
    snapshot = read(idle(respond))
    assert snapshot.usage[Resource.CPU_CORES] == Usage(offered, used)
    assert snapshot.limits[Resource.CPU_CORES].floor == floor


def _threads(count: int) -> dict[str, int]:
    return {"golem.inf.cpu.threads": count}


@pytest.mark.parametrize(
    ("platforms", "is_said"),
    [
        (["polygon-glm", "hoodi-tglm"], False),
        (["mainnet-glm"], False),
        (["hoodi-tglm"], True),
        (["polygon-tglm"], True),
    ],
)
def test_work_for_test_money_alone_is_said(platforms: list[str], is_said: bool) -> None:
    def change(offers: list[dict[str, Any]]) -> None:
        properties = offers[0]["properties"]
        kept = {key: value for key, value in properties.items() if "payment.platform" not in key}
        offers[0]["properties"] = kept | {PLATFORM.format(one): "0xdd0c" for one in platforms}

    respond = edited(edited(sample(WORKING), OFFERS, change), APPROVED, lambda _: [])
    snapshot = read(idle(respond))
    assert snapshot.health.details["offers"][0]["test_money"] is is_said
    assert snapshot.health.reason.startswith("idle")
    assert ("worth nothing" in snapshot.health.reason) is is_said


def test_the_platform_that_was_agreed_on_is_the_one_that_pays() -> None:
    def change(agreement: Any) -> None:
        agreement["demand"]["properties"]["golem.com.payment.chosen-platform"] = "erc20-hoodi-tglm"

    health = read(edited(sample(WORKING), f"/market-api/v1/agreements/{_agreement()}", change)).health
    assert health.reason == "working; it is paid in test money, which is worth nothing"
    assert [one["test_money"] for one in health.details["agreements"]] == [True]


@pytest.mark.parametrize(
    ("metrics", "polls", "status"),
    [
        (b"# TYPE activity_provider_events_query counter\nactivity_provider_events_query 0\n", 0, "degraded"),
        (b"activity_provider_events_query 7\n", 7, "up"),
        (b"another_counter 1\n", None, "up"),
        (None, None, "up"),
    ],
)
def test_nothing_is_offered_and_nobody_asked_for_work(metrics: bytes | None, polls: int | None, status: str) -> None:
    respond = edited(edited(sample(WORKING), OFFERS, lambda _: []), APPROVED, lambda _: [])
    told = Answer(404) if metrics is None else Answer(200, metrics, "text/plain")
    snapshot = read(broken(idle(respond), told, only=METRICS))
    assert (snapshot.health.details["agent_polls"], snapshot.health.status) == (polls, status)
    assert ("ya-provider has not asked" in snapshot.health.reason) is (status == "degraded")
    assert snapshot.warnings == ()


def test_slow_health_check_costs_its_own_limit_and_no_data() -> None:
    respond = broken(sample(WORKING), 3.0, only="/healthcheck")
    with Loopback(respond) as server, HttpClient(10) as http:
        options = {"protocol": "golem", "url": server.url, "app_key": KEY, "deadline_s": 1}
        snapshot = Adapter("golem_1", Options.model_validate(options)).collect(http, NOW_S, None)
    assert len(snapshot.earnings) == 13
    assert snapshot.health.status == "up"
    assert "the health check could not be read" in snapshot.warnings[0]


def test_without_a_key_nothing_is_asked() -> None:
    with Loopback(sample(WORKING)) as server, HttpClient(10) as http:
        adapter = Adapter("golem_1", Options(protocol="golem", url=server.url))
        for ask in (
            lambda: adapter.collect(http, NOW_S, None),
            lambda: adapter.busy(http),
            lambda: adapter.offers(http),
        ):
            with pytest.raises(AdapterError, match="application key") as failure:
                ask()
            assert failure.value.kind == FailureKind.CONFIG
    assert not server.requests


def test_key_travels_in_the_header_and_is_shown_nowhere() -> None:
    options = Options.model_validate({"protocol": "golem", "app_key": KEY})
    assert KEY not in repr(options) + options.model_dump_json()
    with Loopback(sample(WORKING)) as server, HttpClient(10) as http:
        snapshot = _adapter(server.url).collect(http, NOW_S, None)
    assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {KEY}"}
    assert not [request for request in server.requests if KEY in request.target]
    assert KEY not in repr(snapshot)


def test_provider_command_is_never_empty() -> None:
    assert Options(protocol="golem").provider_command == ["ya-provider"]
    with pytest.raises(ValidationError):
        Options(protocol="golem", provider_command=[])
