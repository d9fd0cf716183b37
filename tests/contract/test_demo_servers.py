"""The demo's servers speak the wire formats of the real programs, and never tell of what is yet to come."""

from __future__ import annotations

import json
import re
import socket
import threading
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from depin_orcha.config import load
from depin_orcha.demo import SimulatedOperator
from depin_orcha.demo.times import MICROS, month_start, utc_text
from depin_orcha.demo.world import World
from depin_orcha.types import DAY_S, HOUR_S

SAMPLES = Path(__file__).parents[1] / "samples" / "wire"
START_S = int(datetime(2026, 11, 22, 19, 42, 11, tzinfo=UTC).timestamp())
NOW_S = START_S + 10 * DAY_S
OPTIONAL = {"previousDebitNoteId", "paymentDueDate", "signature", "signedBytes", "usd_24h_change", "market_caps"}

STORJ = {
    "/api/sno/": "sno",
    "/api/sno/satellites": "satellites",
    "/api/sno/satellite/{satellite}": "satellite-us1",
    "/api/sno/satellites/{satellite}/pricing": "satellite-us1-pricing",
    "/api/sno/estimated-payout": "estimated-payout",
    "/api/sno/estimated-payout?id={satellite}": "estimated-payout-us1",
    "/api/heldamount/held-history": "held-history",
    "/api/heldamount/paystubs/2026-10": "paystubs-2026-10",
    "/api/heldamount/paystubs/2026-09/2026-10": "paystubs-2026-10",
    "/api/heldamount/payout-history/2026-10": "payout-history-2026-10",
    "/api/heldamount/periods": "periods",
    "/api/notifications/list?limit=5&page=1": "notifications",
}
GOLEM = {
    "/me": "me",
    "/version/get": "version_get",
    "/healthcheck": "healthcheck_200",
    "/payment-api/v1/invoices": "invoices",
    "/payment-api/v1/debitNotes": "debit_notes",
    "/payment-api/v1/invoiceEvents?timeout=0": "invoice_events",
    "/payment-api/v1/debitNoteEvents?timeout=0": "debit_note_events",
    "/payment-api/v1/payments?timeout=0": "payments",
    "/payment-api/v1/payActivities": "pay_activities",
    "/payment-api/v1/payAgreements": "pay_agreements",
    "/payment-api/v1/providerAccounts": "provider_accounts",
    "/market-api/v1/offers": "offers",
    "/market-api/v1/agreements": "agreements_all",
    "/market-api/v1/agreements/{agreement}": "agreement_detail",
    "/activity-api/v1/activity?agreementId={agreement}": "activity_ids",
    "/activity-api/v1/activity/{activity}/state": "activity_state",
    "/activity-api/v1/activity/{activity}/usage": "activity_usage",
}


@pytest.fixture(scope="module")
def operator() -> Iterator[SimulatedOperator]:
    with SimulatedOperator(START_S) as operator:
        operator.advance(NOW_S)
        yield operator


@pytest.fixture(scope="module")
def storj(operator: SimulatedOperator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=operator.url("storj_attic")) as client:
        yield client


@pytest.fixture(scope="module")
def golem(operator: SimulatedOperator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {operator.secrets()['golem_rack.key']}"}
    with httpx.Client(base_url=operator.url("golem_rack"), headers=headers) as client:
        yield client


@pytest.fixture(scope="module")
def prices(operator: SimulatedOperator) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=operator.url("prices") + "/api/v3") as client:
        yield client


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


def kind(value: Any) -> str:
    """What a scalar is on the wire; strings by what they hold, since clients read times and amounts from them."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    for name, pattern in {
        "instant": r"\d{4}-\d\d-\d\dT[\d:]{8}(\.\d+)?Z",
        "instant without zone": r"\d{4}-\d\d-\d\dT[\d:]{8}(\.\d+)?",
        "month": r"\d{4}-\d\d",
        "decimal": r"\d+(\.\d+)?",
        "address": r"0x[0-9a-fA-F]{40}",
        "document id": r"[0-9a-f]{32}-[0-9a-f]{64}",
        "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        "hash": r"([0-9a-f]{32}|[0-9a-f]{64})",
        "satellite": r"12[1-9A-HJ-NP-Za-km-z]{49}",
    }.items():
        if re.fullmatch(pattern, value):
            return name
    return "text"


def shapes(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, kind) of everything in a JSON value; members of lists share one path."""
    if isinstance(value, dict):
        yield path, "object"
        for key, member in value.items():
            yield from shapes(member, f"{path}.{key}")
    elif isinstance(value, list):
        yield path, "list"
        for member in value:
            yield from shapes(member, f"{path}[]")
    else:
        yield path, kind(value)


def same_shape(ours: Any, theirs: Any) -> None:
    """Equal paths and kinds; a null on either side, an empty list and an optional key may stand for anything."""
    found, expected = group(ours), group(theirs)
    for path in found.keys() | expected.keys():
        if any(part in OPTIONAL for part in re.split(r"[.\[\]]+", path)) or under_null(path, found, expected):
            continue
        assert path in found, f"{path} is missing"
        assert path in expected, f"{path} is not in the real answer"
        if "null" not in found[path] | expected[path]:
            assert found[path] <= expected[path] | ({"text"} if "text" in expected[path] else set()), path


def group(value: Any) -> dict[str, set[str]]:
    grouped: dict[str, set[str]] = {}
    for path, one in shapes(value):
        grouped.setdefault(path, set()).add(one)
    return grouped


def under_null(path: str, *sides: dict[str, set[str]]) -> bool:
    """Does the path stand below something that one side leaves null or empty?"""
    parents = [path[:end] for end in range(len(path)) if path[end] in ".["]
    return any(
        "null" in side.get(parent, set()) or ("list" in side.get(parent, set()) and f"{parent}[]" not in side)
        for side in sides
        for parent in parents
    )


@pytest.mark.parametrize("path", STORJ)
def test_storage_node_answers_like_a_real_one(operator: SimulatedOperator, storj: httpx.Client, path: str) -> None:
    satellite = operator.world.storage["attic"].satellites[0].id
    reply = storj.get(path.format(satellite=satellite))
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    same_shape(reply.json(), sample(f"storj-{STORJ[path]}.json"))


@pytest.mark.parametrize("path", GOLEM)
def test_daemon_answers_like_a_real_one(operator: SimulatedOperator, golem: httpx.Client, path: str) -> None:
    agreement = operator.world.providers["rack"].agreements[5]
    reply = golem.get(path.format(agreement=agreement.id, activity=agreement.activity_id))
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() not in ([], None)
    same_shape(reply.json(), sample(f"golem-{GOLEM[path]}.json"))


def test_metrics_are_a_part_of_the_real_ones(operator: SimulatedOperator) -> None:
    reply = httpx.get(operator.url("golem_rack") + "/metrics-api/v1/expose")
    ours, theirs = reply.text.splitlines(), (SAMPLES / "golem-metrics.txt").read_text(encoding="utf-8").splitlines()
    assert ours[0] == f"# metrics snapshot (ts={NOW_S}) (prometheus exposition format)"
    assert {line for line in ours if line.startswith("# TYPE")} <= set(theirs)
    names = {line.rpartition(" ")[0] for line in theirs}
    values = {line.rpartition(" ")[0]: int(line.rpartition(" ")[2]) for line in ours if line and line[0] != "#"}
    assert values.keys() <= names
    assert values["activity_provider_events_query"] == 10 * DAY_S // 5
    assert 0 < values["payment_invoices_provider_paid"] <= values["payment_invoices_provider_issued"]


def test_prices_have_the_real_shape(prices: httpx.Client) -> None:
    params = {"ids": "golem,nobody", "vs_currencies": "usd", "include_last_updated_at": "true", "precision": "full"}
    latest = prices.get("/simple/price", params=params).json()
    assert latest.keys() == {"golem"}
    same_shape(latest["golem"], sample("prices-simple_price.json")["golem"])
    chart = prices.get("/coins/golem/market_chart/range", params={"vs_currency": "usd", "from": START_S, "to": NOW_S})
    same_shape(chart.json(), sample("prices-market_chart.json"))
    unknown = prices.get("/coins/nobody/market_chart/range", params={"from": 0, "to": 1})
    assert (unknown.status_code, unknown.json()) == (404, {"error": "coin not found"})


def test_the_last_price_is_the_latest(prices: httpx.Client) -> None:
    params = {"ids": "golem", "vs_currencies": "usd", "include_last_updated_at": "true"}
    latest = prices.get("/simple/price", params=params).json()["golem"]
    window = {"vs_currency": "usd", "from": START_S - 40 * DAY_S, "to": NOW_S + DAY_S}
    points = prices.get("/coins/golem/market_chart/range", params=window).json()["prices"]
    assert points[-1] == [latest["last_updated_at"] * 1000, latest["usd"]]
    assert NOW_S - 300 < latest["last_updated_at"] <= NOW_S
    assert all(later - earlier <= HOUR_S * 1000 for (earlier, _), (later, _) in pairwise(points))
    within_a_day = {"vs_currency": "usd", "from": NOW_S - HOUR_S, "to": NOW_S}
    assert len(prices.get("/coins/golem/market_chart/range", params=within_a_day).json()["prices"]) == 13


@pytest.mark.parametrize("name", ["golem_attic", "golem_rack"])
def test_daemon_wants_its_key(operator: SimulatedOperator, name: str) -> None:
    url = operator.url(name)
    for headers, text in (({}, "Missing application key"), ({"Authorization": "Bearer x"}, "Invalid application key")):
        reply = httpx.get(url + "/me", headers=headers)
        assert (reply.status_code, reply.text) == (401, text)
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert httpx.get(url + "/version/get").status_code == 200
    key = operator.secrets()[f"{name}.key"]
    assert httpx.get(url + "/me", params={"authToken": key}).status_code == 200


@pytest.mark.parametrize("kind_of", ["invoices", "debitNotes"])
def test_lists_ascend_after_an_instant_and_keep_the_oldest(golem: httpx.Client, kind_of: str) -> None:
    path = f"/payment-api/v1/{kind_of}"
    every = golem.get(path).json()
    stamps = [one["timestamp"] for one in every]
    assert stamps == sorted(stamps)
    assert max(stamps) <= utc_text(NOW_S)
    after = golem.get(path, params={"afterTimestamp": stamps[3], "maxItems": "2"}).json()
    assert [one["timestamp"] for one in after] == stamps[4:6]
    assert golem.get(path, params={"afterTimestamp": stamps[-1]}).json() == []
    single = golem.get(f"{path}/{every[4]['invoiceId' if kind_of == 'invoices' else 'debitNoteId']}")
    assert single.json() == every[4]


def test_daemon_refuses_like_a_real_one(golem: httpx.Client) -> None:
    bad_number = "Query deserialize error: invalid digit found in string"
    for path, status, content_type, text in (
        ("invoices/nope", 404, "application/json", '{"message":null}'),
        ("invoices?maxItems=abc", 400, "text/plain; charset=utf-8", bad_number),
        ("payments?network=bogus&timeout=0", 500, "application/json", '{"message":"Matching variant not found"}'),
        ("payments?network=polygon&timeout=0", 200, "application/json", "[]"),
        ("payments/status?network=polygon&driver=erc20", 200, "application/json", "[]"),
        ("accounts", 404, None, ""),
    ):
        reply = golem.get(f"/payment-api/v1/{path}")
        assert (reply.status_code, reply.headers.get("content-type"), reply.text) == (status, content_type, text)
    wrong_case = golem.get("/market-api/v1/agreements?state=approved")
    assert wrong_case.status_code == 400
    assert wrong_case.text.startswith("Query deserialize error: unknown variant `approved`, expected one of `Proposal`")


def test_storage_node_refuses_like_a_real_one(storj: httpx.Client) -> None:
    assert storj.get("/api/sno").headers["location"] == "/api/sno/"
    page = storj.get("/api/nothing")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    untrusted = storj.get("/api/sno/satellite/nobody")
    assert (untrusted.status_code, untrusted.json()) == (404, sample("storj-error-404.json"))
    assert storj.get("/api/heldamount/paystubs/1999-01").json() is None
    assert storj.get("/api/heldamount/paystubs/soon").status_code == 400
    assert storj.get("/api/notifications/list").status_code == 400


def test_estimates_follow_from_raw_usage_over_a_month_end() -> None:
    next_s = month_start(START_S, 1)
    with SimulatedOperator(START_S) as operator, httpx.Client(base_url=operator.url("storj_rack")) as client:
        operator.advance(next_s - 600)
        before = client.get("/api/sno/estimated-payout").json()["currentMonth"]
        operator.advance(next_s + 600)
        after = client.get("/api/sno/estimated-payout").json()
        each = [
            client.get("/api/sno/estimated-payout", params={"id": one["id"]}).json()["previousMonth"]
            for one in client.get("/api/sno/").json()["satellites"]
        ]
    closed = after["previousMonth"]
    for name in ("egressBandwidth", "egressRepairAudit", "diskSpace"):
        assert before[name] <= closed[name] == sum(one[name] for one in each)
        assert after["currentMonth"][name] < closed[name] / 100
    assert closed["heldRate"] == 0
    for one in each:
        gross = one["egressBandwidthPayout"] + one["egressRepairAuditPayout"] + one["diskSpacePayout"]
        assert one["heldRate"] == 50
        assert one["held"] == pytest.approx(gross / 2)
        assert one["payout"] == pytest.approx(gross / 2, abs=0.0051)
        assert one["egressBandwidthPayout"] == pytest.approx(one["egressBandwidth"] * 200 / 1e12, abs=0.0051)
        assert one["diskSpacePayout"] == pytest.approx(one["diskSpace"] * 149 / 1e12, abs=0.0051)


def test_days_add_up_to_the_month(storj: httpx.Client) -> None:
    month = storj.get("/api/sno/satellites").json()
    payout = storj.get("/api/sno/estimated-payout").json()["currentMonth"]
    assert sum(day["egress"]["usage"] for day in month["bandwidthDaily"]) == payout["egressBandwidth"]
    assert month["bandwidthSummary"] == storj.get("/api/sno/").json()["bandwidth"]["used"]
    assert month["bandwidthSummary"] == month["egressSummary"] + month["ingressSummary"]
    assert month["storageSummary"] == pytest.approx(sum(day["atRestTotal"] for day in month["storageDaily"]))
    assert [day["calculated"] for day in month["storageDaily"]][-1] is True


def test_documents_only_grow_and_only_their_state_moves() -> None:
    seen: dict[str, Any] = {}
    order = ["ISSUED", "RECEIVED", "ACCEPTED", "SETTLED"]
    with SimulatedOperator(START_S) as operator:
        headers = {"Authorization": f"Bearer {operator.secrets()['golem_attic.key']}"}
        with httpx.Client(base_url=operator.url("golem_attic"), headers=headers) as client:
            for hour in range(0, 72, 3):
                operator.advance(START_S + hour * HOUR_S)
                now = {one["invoiceId"]: one for one in client.get("/payment-api/v1/invoices").json()}
                assert seen.keys() <= now.keys()
                for key, earlier in seen.items():
                    assert earlier | {"status": ""} == now[key] | {"status": ""}
                    if now[key]["status"] != "CANCELLED":
                        assert order.index(earlier["status"]) <= order.index(now[key]["status"])
                seen = now
    assert len(seen) > 10


def test_totals_agree_with_the_documents(golem: httpx.Client) -> None:
    activities = {one["id"]: one for one in golem.get("/payment-api/v1/payActivities").json()}
    notes = {note["activityId"]: note for note in golem.get("/payment-api/v1/debitNotes").json()}
    assert {key: note["totalAmountDue"] for key, note in notes.items()} == {
        key: one["totalAmountDue"] for key, one in activities.items() if one["totalAmountDue"] != "0"
    }
    settled = [one for one in golem.get("/payment-api/v1/invoices").json() if one["status"] == "SETTLED"]
    payments = golem.get("/payment-api/v1/payments?timeout=0").json()
    paid = [one["totalAmountPaid"] for one in golem.get("/payment-api/v1/payAgreements").json()]
    sums = {sum(Decimal(one["amount"]) for one in documents) for documents in (settled, payments)}
    assert sums == {sum(map(Decimal, paid))}
    assert min(sums) > 0


def test_what_runs_is_told_everywhere_alike() -> None:
    foreseen = World(START_S)
    foreseen.advance(START_S + DAY_S)
    agreement = foreseen.providers["rack"].agreements[-1]
    moment_s = agreement.started_us // MICROS + 120
    with SimulatedOperator(START_S) as operator:
        provider = operator.world.providers["rack"]
        operator.advance(moment_s)
        headers = {"Authorization": f"Bearer {operator.secrets()['golem_rack.key']}"}
        with httpx.Client(base_url=operator.url("golem_rack"), headers=headers) as client:
            approved = client.get("/market-api/v1/agreements?state=Approved").json()
            assert [one["id"] for one in approved] == [agreement.id]
            detail = client.get(f"/market-api/v1/agreements/{agreement.id}").json()
            usage = client.get(f"/activity-api/v1/activity/{agreement.activity_id}/usage").json()["currentUsage"]
            with client.stream("GET", "/activity-api/v1/_monitor") as stream:
                event = json.loads(next(stream.iter_lines()).removeprefix("data: "))
    threads = detail["offer"]["properties"]["golem.inf.cpu.threads"]
    assert threads == provider.schedule.at(agreement.signed_us // MICROS)[1].threads
    assert detail["demand"]["properties"]["golem.srv.comp.expiration"] > moment_s * 1000
    assert [(one["id"], one["state"]) for one in event["activities"]] == [(agreement.activity_id, "Ready")]
    assert [*event["activities"][0]["usage"].values()] == usage
    text = (SAMPLES / "golem-monitor.txt").read_text(encoding="utf-8").strip().splitlines()[-1]
    same_shape(event, json.loads(text.removeprefix("data: ")))


def test_offers_follow_the_schedule() -> None:
    seen = []
    with SimulatedOperator(START_S) as operator:
        headers = {"Authorization": f"Bearer {operator.secrets()['golem_rack.key']}"}
        with httpx.Client(base_url=operator.url("golem_rack"), headers=headers) as client:
            for half_day in range(27):
                operator.advance(START_S + half_day * DAY_S // 2)
                (offer,) = client.get("/market-api/v1/offers").json()
                assert "SIMULATED" in offer["properties"]["golem.node.id.name"]
                seen.append(offer["properties"]["golem.inf.cpu.threads"])
    assert seen[:8] == [4, 12, 8, 8, 12, 8, 8, 4]
    assert seen[24:] == [4, 4, 4]


def test_configuration_is_valid_and_names_every_server(operator: SimulatedOperator, tmp_path: Path) -> None:
    for name, text in operator.secrets().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    text = operator.config_toml()
    assert "SIMULATED" in text
    config = load(tmp_path / "config.toml", text)
    assert list(config.nodes) == ["storj_attic", "golem_attic", "storj_rack", "golem_rack"]
    assert config.settings.optimize.learning_days == 7
    assert {options.host for options in config.nodes.values()} == set(config.settings.hosts)
    assert not any(options.apply for options in config.nodes.values())
    raw = tomllib.loads(text)
    for name, options in raw["nodes"].items():
        assert options["url"] == operator.url(name)
        if "app_key_file" in options:
            assert (tmp_path / options["app_key_file"]).exists()


def test_many_clients_at_once_and_a_clean_end() -> None:
    threads_before = threading.active_count()
    with SimulatedOperator(START_S) as operator:
        url = operator.url("storj_attic")

        def ask(_: int) -> int:
            with httpx.Client(base_url=url) as client:
                return sum(client.get("/api/sno/").status_code == 200 for _ in range(5))

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(ask, range(32))) == 160
        idle = socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0))
        idle.sendall(b"GET /api/sno/ HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
    idle.settimeout(5)
    while idle.recv(4096):
        pass
    idle.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(url + "/api/sno/")
    assert threading.active_count() <= threads_before
