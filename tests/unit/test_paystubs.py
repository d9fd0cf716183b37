"""Storj's closed months: when they are asked for, what of them, and what a failure there costs."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at
from loopback import Answer, Loopback, Request, Respond, broken, edited, sample

from depin_orcha.adapters.storj import Adapter, Options
from depin_orcha.net import HttpClient
from depin_orcha.types import Snapshot, Standing

HEALTHY = Path(__file__).parents[1] / "samples" / "storj" / "1.162.3" / "healthy"
STUBS = "/api/heldamount/paystubs/2018-01/2026-10"
HISTORY = "/api/heldamount/payout-history/"
NOW = "2026-11-22T19:30:05"
US1 = "12EayRS2V1kEsWESU9QMRseFhdxYxKicsiFmxrsLZHeLUtdps3S"


def read(respond: Respond, now: str = NOW, since: str | None = None) -> tuple[Snapshot, list[str]]:
    """The reading, and the paths under ``heldamount`` that it asked for."""
    with Loopback(respond) as server, HttpClient(10) as http:
        adapter = Adapter("storj_1", Options(protocol="storj", url=server.url))
        snapshot = adapter.collect(http, at(now), None if since is None else at(since))
        asked = [one.path for one in server.requests if "/heldamount/p" in one.path]
    return snapshot, asked


def with_months(months: dict[str, int]) -> Respond:
    """The healthy node, but its satellite us1 sent so many micro-USD for each of these months."""
    plain = sample(HEALTHY)
    stub: dict[str, Any] = json.loads((HEALTHY.parent / "paystubs.json").read_text())[1]
    row: dict[str, Any] = json.loads((HEALTHY.parent / "payout-history-2026-10.json").read_text())[1]

    def respond(request: Request) -> Answer:
        if request.path.startswith("/api/heldamount/paystubs/"):
            body: Any = [stub | {"period": month, "distributed": sent} for month, sent in months.items()]
        elif request.path.startswith(HISTORY):
            body = [row | {"distributed": months[request.path.removeprefix(HISTORY)]}]
        else:
            return plain(request)
        return Answer(200, json.dumps(body).encode(), "application/json")

    return respond


@pytest.mark.parametrize(
    ("since", "asked"),
    [
        (None, [STUBS, *(f"{HISTORY}{month}" for month in ("2024-05", "2026-07", "2026-08", "2026-10"))]),
        ("2026-11-22T00:00:00", []),
        ("2026-11-21T23:59:59", [STUBS, f"{HISTORY}2026-08", f"{HISTORY}2026-10"]),
        # The first reading of a month looks at all receipts again.
        (
            "2026-10-31T23:59:59",
            [STUBS, *(f"{HISTORY}{month}" for month in ("2024-05", "2026-07", "2026-08", "2026-10"))],
        ),
    ],
)
def test_closed_months_are_read_once_a_day(since: str | None, asked: list[str]) -> None:
    months = {"2024-05": 1, "2026-07": 2, "2026-08": 3, "2026-09": 0, "2026-10": 4}
    snapshot, found = read(with_months(months), since=since)
    assert found == asked
    assert len(snapshot.statements) == (5 if asked else 0)
    paid = [one.amount for one in snapshot.standings if one.standing is Standing.PAID]
    assert paid == ([Decimal("0.00001")] if asked else [])


def test_january_looks_back_over_the_turn_of_the_year() -> None:
    months = {"2026-09": 1, "2026-10": 1, "2026-11": 1, "2026-12": 1}
    _, asked = read(with_months(months), now="2027-01-15T00:00:10", since="2027-01-14T23:59:50")
    assert asked == [
        "/api/heldamount/paystubs/2018-01/2026-12", f"{HISTORY}2026-10", f"{HISTORY}2026-11", f"{HISTORY}2026-12",
    ]  # fmt: skip


def test_a_month_is_told_with_its_surge_and_what_is_held() -> None:
    def change(stubs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        us1 = {"compGet": 571_329, "compGetRepair": 661_539, "compGetAudit": 360, "compAtRest": 3_201_045}
        other = {"surgePercent": 150, "held": 4_988_557, "owed": 1_662_852, "paid": 1_662_852, "distributed": 1_000_000}
        return [stubs[1] | us1 | other]

    snapshot, _ = read(edited(sample(HEALTHY), STUBS, change))
    (one,) = snapshot.statements
    assert one.earned == Decimal("4.434273") * Decimal("1.5")
    assert (one.held, one.payable, one.paid) == (Decimal("4.988557"), Decimal("1.662852"), Decimal(1))
    standings = {str(amount.standing): amount.amount for amount in snapshot.standings}
    assert standings == {"held": Decimal("5.4"), "payable": Decimal("0.662852"), "paid": Decimal(1)}


@pytest.mark.parametrize("path", [STUBS, f"{HISTORY}2026-10"])
@pytest.mark.parametrize(
    "fault",
    [
        Answer(500, b'{"error": "locked"}', "application/json"),
        Answer(200, b"<html>", "text/html"),
        Answer(401),
        Answer(404),
    ],
)
def test_a_failure_there_is_a_warning(path: str, fault: Answer) -> None:
    whole, _ = read(sample(HEALTHY))
    snapshot, _ = read(broken(sample(HEALTHY), fault, only=path))
    assert snapshot.earnings == whole.earnings
    assert (snapshot.statements, snapshot.payouts) == ((), ())
    (warning,) = snapshot.warnings
    assert warning.startswith("the paystubs were not read: ")


def test_null_means_that_nothing_is_settled() -> None:
    null = Answer(200, b"null", "application/json")
    snapshot, asked = read(broken(sample(HEALTHY), null, only=STUBS))
    assert (snapshot.statements, snapshot.payouts, snapshot.warnings, asked) == ((), (), (), [STUBS])
    snapshot, _ = read(broken(sample(HEALTHY), null, only=f"{HISTORY}2026-10"))
    assert (len(snapshot.statements), snapshot.payouts, snapshot.warnings) == (4, (), ())


def test_the_dashboards_expectation_is_told_where_every_satellite_has_one() -> None:
    path = f"/api/sno/estimated-payout?id={US1}"
    for body, means in (
        (lambda _: None, [Decimal("8.10")]),
        (lambda one: one.pop("currentMonthExpectations") and None, []),
    ):
        snapshot, _ = read(edited(sample(HEALTHY), path, body))
        assert [one.mean for one in snapshot.outlooks] == means
        assert len(snapshot.earnings) == 4
