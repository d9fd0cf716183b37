"""Golem: payouts with their transactions, and who owes what."""

from __future__ import annotations

import json
from base64 import b64encode
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, Request, Respond, broken, edited, sample

from depin_orcha.adapters import _yagna
from depin_orcha.adapters.golem import Adapter, Options
from depin_orcha.net import HttpClient
from depin_orcha.types import DAY_S, Payout, Snapshot

WORKING = Path(__file__).parents[1] / "samples" / "golem" / "0.17.6" / "working"
KEY = "00112233445566778899aabbccddeeff"
PAYMENTS = "/payment-api/v1/payments"
INVOICES = "/payment-api/v1/invoices"
TOTALS = "/payment-api/v1/payAgreements"
NOW_S = 1_795_377_180  # 2026-11-22T19:53:00Z
PAID_S = 1_795_293_932  # 2026-11-21T20:45:32Z
PAID = Payout(
    "69439bf4-6e76-a0cd-674f-d1a40762c26f",
    Decimal("0.1800038202986111"),
    "GLM",
    PAID_S,
    "0x1b5b9ccb3e8d006a5230de9bda23ff91edc794d4f56410560830b418528e446c",
)


def read(respond: Respond, since_s: int | None = None, now_s: int = NOW_S) -> tuple[Snapshot, list[Request]]:
    with Loopback(respond) as server, HttpClient(10) as http:
        options = Options.model_validate({"protocol": "golem", "url": server.url, "app_key": KEY})
        snapshot = Adapter("golem_1", options).collect(http, now_s, since_s)
        return snapshot, [one for one in server.requests if one.path == PAYMENTS]


def test_payment_is_a_payout_with_its_transaction() -> None:
    snapshot, (asked,) = read(sample(WORKING))
    assert snapshot.payouts == (PAID,)
    assert asked.query == {"maxEvents": "1000", "timeout": "0"}


@pytest.mark.parametrize(("since_s", "found"), [(PAID_S + 7 * DAY_S, 1), (PAID_S + 7 * DAY_S + 1, 0)])
def test_payments_of_a_week_are_read_again(since_s: int, found: int) -> None:
    snapshot, _ = read(sample(WORKING), since_s, since_s + 900)
    assert len(snapshot.payouts) == found


def test_what_we_paid_and_test_money_are_told_apart() -> None:
    def change(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
        (one,) = payments
        ours = one | {"paymentId": "out", "payerId": one["payeeId"], "payeeId": one["payerId"]}
        test = one | {"paymentId": "test", "paymentPlatform": "erc20-hoodi-tglm", "payeeId": one["payeeId"].upper()}
        bare = {"paymentId": "bare", "details": "", "timestamp": "2026-11-22T01:00:00Z"}
        return [one, ours, test, {key: value for key, value in (one | bare).items() if key != "signature"}]

    snapshot, _ = read(edited(sample(WORKING), PAYMENTS, change))
    found = [(one.external_id, one.currency, one.transaction) for one in snapshot.payouts]
    assert found == [
        (PAID.external_id, "GLM", PAID.transaction),
        ("test", "tGLM", PAID.transaction),
        ("bare", "GLM", None),
    ]


def test_payments_come_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = sample(WORKING)
    (one,) = json.loads((WORKING.parent / "payments.json").read_text())
    every = [
        one | {"paymentId": str(index), "timestamp": f"2026-11-22T0{index}:00:00.5Z", "details": _details(index)}
        for index in range(7)
    ]

    def respond(request: Request) -> Answer:
        if request.path != PAYMENTS:
            return plain(request)
        after = request.query.get("afterTimestamp", "")
        rows = [row for row in every if row["timestamp"] > after][: int(request.query["maxEvents"])]
        return Answer(200, json.dumps(rows).encode(), "application/json")

    monkeypatch.setattr(_yagna, "PAGE", 3)
    snapshot, asked = read(respond)
    assert [(payout.external_id, payout.transaction) for payout in snapshot.payouts] == [
        (str(index), f"0x{index:02x}ff") for index in range(7)
    ]
    assert len(asked) > 2


def _details(index: int) -> str:
    return b64encode(bytes((index, 255))).decode()


@pytest.mark.parametrize(
    "fault",
    [
        Answer(500, b'{"message": null}', "application/json"),
        Answer(200, b'[{"paymentId": "x"}]', "application/json"),
        Answer(404),
    ],
)
def test_a_failure_there_is_a_warning(fault: Answer) -> None:
    whole, _ = read(sample(WORKING))
    snapshot, _ = read(broken(sample(WORKING), fault, only=PAYMENTS))
    assert (snapshot.earnings, snapshot.standings, snapshot.payouts) == (whole.earnings, whole.standings, ())
    (warning,) = snapshot.warnings
    assert warning.startswith("payments received could not be read: ")


def test_details_that_are_no_hash_are_a_warning() -> None:
    def change(payments: list[dict[str, Any]]) -> None:
        payments[0]["details"] = "not base64!"

    snapshot, _ = read(edited(sample(WORKING), PAYMENTS, change))
    assert (snapshot.payouts, len(snapshot.warnings)) == ((), 1)


def split(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    return {
        one["requestor"][:6]: tuple(one[name] for name in ("paid", "accepted", "payable", "at_risk"))
        for one in snapshot.health.details["requestors"]
    }


def test_who_owes_what() -> None:
    snapshot, _ = read(sample(WORKING))
    nothing = ("0", "0", "0", "0")
    owed = "0.082276741666666662"
    assert split(snapshot) == {"0xc3f7": ("0.1800038202986111", owed, owed, "0"), "0x0e3c": nothing}
    late_s = 1_795_446_633  # the accepted invoice was due a second ago, the received one is ignored since yesterday
    snapshot, _ = read(sample(WORKING), now_s=late_s)
    assert split(snapshot) == {
        "0xc3f7": ("0.1800038202986111", owed, "0.017690977777777777", "0.064585763888888885"),
        "0x0e3c": ("0", "0", "0", "0.002168229166666667"),
    }
    sums = {str(one.standing): one.amount for one in snapshot.standings}
    assert sums["payable"] + sums["at_risk"] == Decimal(owed) + Decimal("0.002168229166666667")


def test_without_totals_the_invoices_tell() -> None:
    missing = Answer(404)
    respond = broken(sample(WORKING), missing, only=TOTALS)
    snapshot, _ = read(respond)
    assert split(snapshot)["0xc3f7"] == ("0.1800038202986111", "0.064585763888888885", "0.064585763888888885", "0")


def test_only_the_largest_debtors_are_told() -> None:
    def change(invoices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return invoices + [
            invoices[1] | {"invoiceId": f"i{index}", "agreementId": f"a{index}", "recipientId": f"0x{index:040x}",
                           "amount": str(index + 1), "activityIds": []}
            for index in range(40)
        ]  # fmt: skip

    respond = broken(edited(sample(WORKING), INVOICES, change), Answer(404), only=TOTALS)
    snapshot, _ = read(respond)
    told = snapshot.health.details["requestors"]
    assert [one["accepted"] for one in told] == [str(amount) for amount in range(40, 20, -1)]
    accepted = next(one.amount for one in snapshot.standings if one.standing == "accepted")
    assert accepted == sum(range(1, 41)) + Decimal("0.064585763888888885")
