"""Mysterium: exact amounts, when a total of 0 is not believed, and a node that is well while what it asks is not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import opened
from loopback import Answer, Loopback, Request, Respond, broken, edited, sample

from depin_orcha.adapters.mysterium import Adapter, Options
from depin_orcha.asof import AsOf
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.net import HttpClient
from depin_orcha.types import HOUR_S, Limits, Payout, Resource, Snapshot, Usage, decimal_text

EARNING = Path(__file__).parents[1] / "samples" / "mysterium" / "1.38.3" / "earning"
NODE_UI = EARNING.with_name("behind-node-ui")
STARTING = EARNING.with_name("starting")
NOW_S = 1_795_372_200  # 2026-11-22T18:30:00Z
PASSWORD = "made-up-password"
SELF = "0x0000000000000000000000000000000000000001"
IDENTITY = f"/identities/{SELF}"
HISTORY, SESSIONS, SERVICES, CONFIG = "/transactor/settle/history", "/sessions/stats-aggregated", "/services", "/config"
MONITORING, QUALITY = "/node/monitoring-status", "/node/provider/quality"


def read(respond: Respond, *, path: str = "", deadline_s: float = 5, **options: Any) -> Snapshot:
    with Loopback(respond) as server, HttpClient(deadline_s) as http:
        return adapter(server.url + path, **options).collect(http, NOW_S, None)


def adapter(url: str, **options: Any) -> Adapter:
    return Adapter("myst_1", Options.model_validate({"protocol": "mysterium", "url": url} | options))


def failing(respond: Respond, **options: Any) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        read(respond, **options)
    return caught.value


def tokens(wei: int | str) -> dict[str, str]:
    return {"wei": str(wei), "ether": "", "human": ""}


def earned(wei: int) -> Callable[[Any], Any]:
    return lambda identity: identity.update(earnings_total_tokens=tokens(wei))


@pytest.mark.parametrize(
    ("wei", "myst"),
    [
        (1, "0.000000000000000001"),
        (34215870000000000001, "34.215870000000000001"),
        (123456789_123456789123456789, "123456789.123456789123456789"),
        (10**30, "1000000000000"),
    ],
)
def test_a_total_is_exact_to_the_last_wei(wei: int, myst: str) -> None:
    (sample_,) = read(edited(sample(EARNING), IDENTITY, earned(wei))).earnings
    assert (decimal_text(sample_.amount), sample_.external_id, sample_.period) == (myst, SELF, "")


@pytest.mark.parametrize("wei", ["", "-1", "1.5", "0x12", "1e18", "9" * 100])
def test_a_total_that_is_no_number_of_wei_is_refused(wei: str) -> None:
    failure = failing(
        edited(sample(EARNING), IDENTITY, lambda one: one.update(earnings_total_tokens=tokens(wei))),
    )
    assert failure.kind == FailureKind.SHAPE
    assert "earnings_total_tokens.wei" in failure.message


def without(*changes: tuple[str, Callable[[Any], Any]]) -> Respond:
    respond = edited(sample(EARNING), IDENTITY, earned(0))
    for path, change in changes:
        respond = edited(respond, path, change)
    return respond


def no_payouts(answer: Any) -> None:
    answer.update(items=[], total_pages=0)


def no_sessions(answer: Any) -> None:
    answer["stats"].update(sum_tokens=0)


@pytest.mark.parametrize(
    ("respond", "believed"),
    [
        (without(), False),
        (without((HISTORY, no_payouts)), False),
        (without((SESSIONS, no_sessions)), False),
        (without((HISTORY, no_payouts), (SESSIONS, no_sessions)), True),
        (broken(without((SESSIONS, no_sessions)), Answer(500), only=HISTORY), False),
        (broken(without((HISTORY, no_payouts)), Answer(500), only=SESSIONS), False),
    ],
)
def test_a_total_of_zero_needs_to_be_likely(respond: Respond, *, believed: bool) -> None:
    snapshot = read(respond)
    assert [one.amount for one in snapshot.earnings] == [Decimal(0)] * believed
    assert believed or "earnings are unknown" in snapshot.warnings[-1]
    assert {str(one.standing) for one in snapshot.standings} & {"payable", "wallet"} == (
        {"payable", "wallet"} if believed else set()
    )


def settlement(number: int, provider: str = SELF) -> dict[str, Any]:
    return {
        "tx_hash": f"0x{number:064x}",
        "provider_id": provider,
        "amount": 5 * 10**18 + number,
        "fees": 10**18,
        "settled_at": "2026-11-12T03:11:09Z",
        "is_withdrawal": False,
        "error": "",
    }


def test_payouts_come_from_every_page_of_the_history_and_from_this_identity_alone() -> None:
    items = [settlement(number) for number in range(119)] + [settlement(999, "0x" + "9" * 40)]

    def paged(request: Request) -> Answer:
        if request.path != HISTORY:
            return sample(EARNING)(request)
        size, page = int(request.query["page_size"]), int(request.query.get("page", 1))
        body = {"items": items[(page - 1) * size : page * size], "total_pages": -(-len(items) // size)}
        return Answer(200, json.dumps(body).encode(), "application/json")

    snapshot = read(paged)
    assert len(snapshot.payouts) == 119
    assert snapshot.payouts[3] == Payout(
        f"0x{3:064x}", Decimal("5.000000000000000003"), "MYST", 1_794_453_069, f"0x{3:064x}", Decimal(1)
    )
    paid = {str(one.standing): one.amount for one in snapshot.standings}["paid"]
    assert paid == 119 * 5 + Decimal(sum(range(119))).scaleb(-18)


def test_idle_for_a_month_and_never_settled_is_no_reason_to_believe_a_zero() -> None:
    """Sessions of the last 30 days say nothing of what was earned before them."""
    respond = edited(without((HISTORY, no_payouts)), "/sessions/stats-daily", no_sessions)
    snapshot = read(respond)
    assert (snapshot.earnings, snapshot.health.details["sessions"]["paid_30d_myst"]) == ((), "0")
    assert "earnings are unknown" in snapshot.warnings[-1]


def test_location_is_told_without_the_address() -> None:
    snapshot = read(sample(EARNING))
    assert snapshot.health.details["location"] == {"country": "DE", "ip_type": "residential"}
    assert "203.0.113" not in json.dumps(snapshot.health.details)
    unknown = read(broken(sample(EARNING), Answer(500), only="/location"))
    assert (unknown.health.details["location"], len(unknown.warnings)) == (None, 1)
    assert unknown.earnings == snapshot.earnings


@pytest.mark.parametrize(
    ("path", "change", "status", "reason"),
    [
        (MONITORING, lambda _: None, "up", "running: dvpn, scraping"),
        (MONITORING, lambda answer: answer.update(status="pending"), "up", "running: dvpn, scraping"),
        (MONITORING, lambda answer: answer.update(status="failed"), "degraded", "cannot reach it from outside"),
        (IDENTITY, lambda one: one.update(registration_status="RegistrationError"), "degraded", "RegistrationError"),
        (IDENTITY, lambda one: one.update(registration_status="Unknown"), "up", "running"),
        (SERVICES, lambda services: [one.update(status="NotRunning") for one in services] and None, "up", "paused"),
        (SERVICES, lambda _: {"error": {}}, "unknown", "could not be read"),
    ],
)
def test_health(path: str, change: Callable[[Any], Any], status: str, reason: str) -> None:
    health = read(edited(sample(EARNING), path, change)).health
    assert (health.status, reason in health.reason) == (status, True), health.reason


@pytest.mark.parametrize(
    ("shaper", "userspace", "usage"),
    [
        ({"enabled": True, "bandwidth": 6250}, True, {Resource.UPLINK_BPS: Usage(51.2e6, None)}),
        ({"enabled": False, "bandwidth": 6250}, True, {Resource.UPLINK_BPS: Usage(None, None)}),
        ({"enabled": True, "bandwidth": 6250}, False, {}),
        ({"enabled": False, "bandwidth": 6250}, False, {}),
    ],
)
def test_a_limit_of_all_connections_together_is_what_is_allocated(
    shaper: dict[str, Any], usage: dict[Resource, Usage], *, userspace: bool
) -> None:
    def change(config: Any) -> None:
        config["data"].update(shaper=shaper, userspace=userspace)

    snapshot = read(edited(sample(EARNING), CONFIG, change))
    assert snapshot.usage == usage
    assert snapshot.limits == dict.fromkeys(usage, Limits(8192, None, 8192))
    told = {"enabled": shaper["enabled"], "kbytes_per_s": 6250, "per_connection": not userspace}
    assert snapshot.health.details["shaper"] == told


def test_several_identities_are_said_and_the_first_is_read() -> None:
    def change(answer: Any) -> None:
        answer["identities"].append({"id": "0x" + "2" * 40})

    snapshot = read(edited(sample(EARNING), "/identities", change))
    assert [one.external_id for one in snapshot.earnings] == [SELF]
    assert "2 identities" in snapshot.warnings[0]


def test_a_quality_service_that_hangs_costs_its_own_figures_only() -> None:
    def hanging(request: Request) -> Answer:
        if request.path == QUALITY:
            time.sleep(1.3)
        return sample(EARNING)(request)

    with Loopback(hanging) as server, HttpClient(1) as http:
        snapshot = adapter(server.url).collect(http, NOW_S, None)
        asked = [one.path for one in server.requests if one.path.startswith("/node/")]
    assert [decimal_text(one.amount) for one in snapshot.earnings] == ["34.21587"]
    network = snapshot.health.details["network"]
    assert (network["monitoring"], network["quality"], network["earned_myst"]) == ("success", None, None)
    assert asked == [MONITORING, QUALITY], "who does not answer once is not asked more"
    assert "not fully known" in snapshot.warnings[-1]


def test_it_logs_in_once_and_only_where_a_password_is_configured() -> None:
    with Loopback(sample(NODE_UI)) as server, HttpClient(5) as http:
        url = f"{server.url}/tequilapi"
        adapter(url, username="myst", password=PASSWORD).collect(http, NOW_S, None)
        posts = [one for one in server.requests if one.method != "GET"]
        assert [json.loads(one.body) for one in posts] == [{"username": "myst", "password": PASSWORD}]
        rest = [one.headers.get("authorization") for one in server.requests if one.method == "GET"]
        assert set(rest) == {"Bearer HEADER.PAYLOAD.SIGNATURE"}
        del server.requests[:]
        with pytest.raises(AdapterError) as caught:
            adapter(url, username="myst").collect(http, NOW_S, None)
        assert {one.method for one in server.requests} == {"GET"}
    assert caught.value.kind == FailureKind.AUTH


def test_a_password_without_a_name_asks_nothing() -> None:
    with Loopback(sample(NODE_UI)) as server, HttpClient(5) as http, pytest.raises(AdapterError) as caught:
        adapter(server.url, password=PASSWORD).collect(http, NOW_S, None)
    assert (caught.value.kind, server.requests) == (FailureKind.CONFIG, [])


def test_the_default_password_is_warned_of_when_it_works() -> None:
    def warnings(password: str) -> tuple[str, ...]:
        return read(sample(NODE_UI), path="/tequilapi", username="myst", password=password).warnings

    assert warnings(PASSWORD) == ()
    assert "default password" in warnings("mystberry")[0]
    refused = broken(sample(NODE_UI), Answer(401), only="/tequilapi/auth/authenticate")
    failure = failing(refused, path="/tequilapi", username="myst", password="mystberry")
    assert failure.kind == FailureKind.AUTH
    assert "mystberry" not in failure.message + failure.hint


def test_a_refused_host_name_is_told_from_refused_credentials() -> None:
    assert "allowed-hostnames" in failing(lambda _: Answer(403)).hint
    assert "allowed-hostnames" not in failing(broken(sample(EARNING), Answer(401), only="/identities")).hint


def test_settling_restarting_and_setting_up_anew_book_no_wrong_amount(tmp_path: Path) -> None:
    """The unsettled part falls at a settlement, a starting node says 0, a new one begins again from nothing."""
    polls = [(34, 1), (35, 2), (36, 0), (0, 0), (37, 1), (37, 1), (2, 2), (5, 0)]
    booked: list[Decimal] = []
    with opened(tmp_path / "orcha.db", node="myst_1", now_s=NOW_S) as store:
        for index, (total, unsettled) in enumerate(polls):

            def change(one: Any, total: int = total, unsettled: int = unsettled) -> None:
                one.update(earnings_total_tokens=tokens(total * 10**18), earnings_tokens=tokens(unsettled * 10**18))

            now_s = NOW_S + index * HOUR_S
            with Loopback(edited(sample(EARNING), IDENTITY, change)) as server, HttpClient(5) as http:
                snapshot = adapter(server.url).collect(http, now_s, None if index == 0 else now_s - HOUR_S)
            with store.transaction():
                accruals = store.add_snapshot(snapshot, now_s, "MYST")
            booked.append(sum((one.amount for one in accruals), Decimal(0)))
        ledger = sum((one.amount for one in AsOf(store.connection, NOW_S + 10 * HOUR_S).hours()), Decimal(0))
    assert booked == [0, 1, 1, 0, 1, 0, 0, 3]
    assert ledger == 6
