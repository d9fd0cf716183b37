"""Our month against the network's: the difference to the last digit, what explains it, and what was said before."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at, counter, opened, snapshot

from depin_orcha.asof import AsOf
from depin_orcha.reconcile import reconcile
from depin_orcha.store import Store
from depin_orcha.types import (
    HOUR_S,
    Accrual,
    EarningsSample,
    Health,
    HealthStatus,
    MonthOutlook,
    OutlookSource,
    Payout,
    Quality,
    Statement,
)  # fmt: skip

FIRST_S, AFTER_S = at("2026-10-01T00:00"), at("2026-11-01T00:00")
SETTLED = "2026-11-08T18:00"


def earn(store: Store, each: str, hours: range = range(FIRST_S, AFTER_S, HOUR_S), **more: Any) -> None:
    """The same amount in each hour."""
    quality = more.pop("quality", Quality.MEASURED)
    accruals = [Accrual(hour_s, Decimal(each), more.get("currency", "USD"), quality) for hour_s in hours]
    store.add_accruals("storj_1", accruals, AFTER_S)


def statement(earned: str, *, series: str = "us1", held: str = "0", payable: str = "0", paid: str = "0") -> Statement:
    amounts = (Decimal(amount) for amount in (earned, held, "0", payable, paid))
    return Statement("2026-10", series, "USD", *amounts)


def settle(store: Store, *told: Statement, **more: Any) -> None:
    read(store, SETTLED, statements=told, **more)


def read(store: Store, when: str, *samples: EarningsSample, started: str | None = None, **more: Any) -> None:
    """One reading of a node whose counters do not move the ledger here."""
    health = Health(HealthStatus.UP, "fine", {} if started is None else {"started_at": started})
    one = replace(snapshot(when, *samples, node="storj_1"), health=health, **more)
    with store.transaction():
        store.add_snapshot(one, one.observed_s, "USD")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orcha.db"


def found(store: Store, now: str = "2026-12-01T00:00") -> dict[str, Any]:
    return reconcile(AsOf(store.connection, at(now)), frozenset())


def compared(store: Store, now: str = "2026-12-01T00:00") -> tuple[dict[str, Any], list[str]]:
    (one,) = found(store, now)["reconciliation"]
    return one, [why["kind"] for why in one["explanations"]]


def test_difference_is_exact_and_half_a_percent_is_the_price(path: Path) -> None:
    with opened(path, "storj_1") as store:
        store.add_node("storj_1", "storj", "local", FIRST_S)
        earn(store, "0.01096")
        four = [("ap1", "0.720005"), ("us1", "4.434273"), ("eu1", "2.613295")]
        told = [statement(amount, series=name, payable=amount, paid=amount) for name, amount in four]
        settle(store, *told, statement("0.429229", series="saltlake", payable="0.429229"))
        one, kinds = compared(store)
    assert one | {"explanations": []} == {
        "month": "2026-10", "node": "storj_1", "protocol": "storj", "currency": "USD",
        "ours": "8.15424", "network": "8.196802", "difference": "-0.042562", "difference_pct": -0.5193,
        "earned": "8.196802", "held": "0", "returned": "0", "payable": "8.196802", "paid": "7.767573",
        "known_hours": 744, "hours": 744, "status": "explained", "unexplained": "0", "explanations": [],
    }  # fmt: skip
    assert kinds == ["truncated_prices", "not_distributed"]
    assert one["explanations"][0]["at_most"] == "0.04918082"
    assert "0.429229 USD of it is due" in one["explanations"][1]["detail"]


def test_ours_is_after_held_and_so_is_the_networks(path: Path) -> None:
    with opened(path, "storj_1") as store:
        earn(store, "0.0025")
        settle(store, statement("7.44", held="5.58", payable="1.86", paid="1.86"))
        one, kinds = compared(store)
    assert (one["ours"], one["network"], one["difference"], kinds) == ("1.86", "1.86", "0", ["agrees"])
    assert (one["status"], one["unexplained"]) == ("agrees", "0")


def test_a_late_correction_counts_from_when_it_was_learned(path: Path) -> None:
    with opened(path, "storj_1") as store:
        earn(store, "0.01")
        settle(store, statement("7.54"))
        late = [Accrual(AFTER_S - HOUR_S, Decimal("0.1"), "USD", Quality.MEASURED)]
        store.add_accruals("storj_1", late, at("2026-11-15T00:00"))
        before, after = (compared(store, now)[0] for now in ("2026-11-14T00:00", "2026-11-16T00:00"))
        assert found(store, "2026-11-08T17:59")["reconciliation"] == []
    assert (before["difference"], after["difference"]) == ("-0.1", "0")


def test_hours_before_the_first_reading_are_missing(path: Path) -> None:
    with opened(path, "storj_1") as store:
        earn(store, "0.01", range(at("2026-10-10T12:00"), AFTER_S, HOUR_S))
        settle(store, statement("7.44"))
        one, kinds = compared(store)
    assert (one["known_hours"], kinds, one["status"], one["unexplained"]) == (516, ["gap_hours"], "explained", "0")
    assert one["explanations"] == [
        {
            "kind": "gap_hours",
            "detail": "228 of its 744 hours are not known, which are known from 2026-10-10T12:00:00Z on; "
            "at the mean of the others: at most 2.28 USD",
            "at_most": "2.28",
        }
    ]


def test_a_cause_hides_no_more_than_it_can_explain(path: Path) -> None:
    with opened(path, "storj_1") as store:
        earn(store, "0.01", range(FIRST_S + HOUR_S, AFTER_S, HOUR_S))
        settle(store, statement("20"))
        one, kinds = compared(store)
        assert (kinds, one["status"], one["unexplained"]) == (["gap_hours", "unexplained"], "unexplained", "-12.56")
        assert one["explanations"][1]["detail"] == "the rest, -12.56 USD, is explained by nothing in the database"
        read(store, "2026-11-09T12:00", statements=(statement("5"),))
        one, kinds = compared(store)  # a gap cannot make our sum the larger one
    assert (one["difference"], kinds, one["unexplained"]) == ("2.43", ["unexplained"], "2.43")
    assert one["explanations"][0]["detail"] == "all of it, 2.43 USD, is explained by nothing in the database"


def test_restarts_and_falls_are_counted(path: Path) -> None:
    with opened(path, "storj_1") as store:
        earn(store, "0.01")
        for when, amount, started in (
            ("2026-09-30T12:00", "0", "a"), ("2026-10-01T12:00", "4", "a"), ("2026-10-05T12:00", "3.9", "b"),
            ("2026-10-06T12:00", "4.5", "c"), ("2026-10-07T12:00", "4.5", "c"), ("2026-11-01T12:00", "4.5", "d"),
        ):  # fmt: skip
            read(store, when, counter(when, amount, "2026-10", "us1"), started=started)
        settle(store, statement("20", series="us1"))
        one, kinds = compared(store)
        assert kinds == ["restarts", "falls", "unexplained"]
        assert "restarted 2 times" in one["explanations"][0]["detail"]
        assert "fell once" in one["explanations"][1]["detail"]
        # An hour for each restart, and the four days between the readings of the fall.
        mean = float(one["ours"]) / 744
        bounds = [float(why["at_most"]) for why in one["explanations"][:2]]
        assert bounds == [pytest.approx(2 * mean, abs=1e-8), pytest.approx(96 * mean, abs=1e-8)]
        assert float(one["unexplained"]) == pytest.approx(float(one["difference"]) + sum(bounds))
        read(store, "2026-11-09T12:00", statements=(statement("11.9", series="us1"),))
        one, kinds = compared(store)
    assert (one["difference"], kinds, one["unexplained"]) == ("0.14", ["falls", "unexplained"], "0.04")


def test_series_that_only_one_side_knows(path: Path) -> None:
    with opened(path, "storj_1") as store:
        earn(store, "0.01")
        read(store, "2026-10-31T12:00", *(counter("2026-10-31T12:00", "1", "2026-10", one) for one in ("us1", "eu1")))
        settle(store, statement("6.44", series="us1"))
        assert compared(store)[1] == ["series_not_settled"]
        read(store, "2026-11-09T18:00", statements=(statement("1", series="eu1"), statement("3", series="ap1")))
        one, kinds = compared(store)
    assert (kinds, one["unexplained"]) == (["series_not_read"], "0")
    assert one["explanations"][0]["detail"] == "series that were not read: ap1: at most 3 USD"


def test_imported_hours_may_say_too_much_and_without_a_bound_too_little(path: Path) -> None:
    with opened(path, "storj_1") as store:
        earn(store, "0.01", range(FIRST_S, FIRST_S + 100 * HOUR_S, HOUR_S), quality=Quality.IMPORTED)
        earn(store, "0.01", range(FIRST_S + 100 * HOUR_S, AFTER_S, HOUR_S))
        settle(store, statement("8"))
        one, kinds = compared(store)
        assert (kinds, one["unexplained"]) == (["imported_hours", "unexplained"], "-0.56")
        assert one["explanations"][0] == {
            "kind": "imported_hours",
            "detail": "100 of its hours were imported from a file, which may say too little: nobody can say how much",
            "at_most": None,
        }
        read(store, "2026-11-09T12:00", statements=(statement("6"),))
        one, kinds = compared(store)
    assert (kinds, one["explanations"][0]["at_most"]) == (["imported_hours", "unexplained"], "1")
    assert one["unexplained"] == "0.44"


def test_what_nothing_explains_is_said_to_be_so(path: Path) -> None:
    with opened(path, "storj_1") as store:
        earn(store, "0.01")
        settle(store, statement("20"))
        assert compared(store)[1] == ["unexplained"]
        store.add_node("storj_1", "storj", "local", 0)
        one, kinds = compared(store)
    assert (kinds, one["unexplained"]) == (["truncated_prices", "unexplained"], "-12.44")


def test_a_month_of_which_nothing_was_read_shows_null(path: Path) -> None:
    with opened(path, "storj_1") as store:
        settle(store, statement("20"))
        one, kinds = compared(store)
    assert (one["ours"], one["difference"], one["difference_pct"], kinds) == (None, None, None, ["not_read"])
    assert (one["status"], one["unexplained"]) == ("not_read", None)


def test_scorecard_holds_every_opinion_against_the_settlement(path: Path) -> None:
    def said(day: int, source: OutlookSource, mean: str, *band: str) -> MonthOutlook:
        return MonthOutlook("2026-10", day, "USD", source, Decimal(mean), *map(Decimal, band))

    with opened(path, "storj_1") as store:
        earn(store, "0.01")
        settle(
            store, statement("8", paid="7.5"),
            outlooks=(
                said(1, OutlookSource.FORECAST, "6", "5", "7"), said(1, OutlookSource.DASHBOARD, "12"),
                said(20, OutlookSource.FORECAST, "8.2", "7.9", "8.5"), said(15, OutlookSource.DASHBOARD, "9"),
            ),
        )  # fmt: skip
        (one,) = found(store)["scorecard"]
        assert found(store, "2026-10-31T23:59")["scorecard"] == []
    assert (one["ours"], one["network"], one["paid"]) == ("7.44", "8", "7.5")
    nothing = {
        "mean": None, "lo80": None, "hi80": None, "off_pct": None, "inside80": None, "dashboard": None,
        "dashboard_off_pct": None,
    }  # fmt: skip
    first = {"mean": "6", "lo80": "5", "hi80": "7", "off_pct": -25.0, "inside80": False}
    last = {"mean": "8.2", "lo80": "7.9", "hi80": "8.5", "off_pct": 2.5, "inside80": True}
    assert one["said"] == [
        {"day": 1, **first, "dashboard": "12", "dashboard_off_pct": 50.0},
        {"day": 10, **nothing},
        {"day": 20, **last, "dashboard": None, "dashboard_off_pct": None},
    ]


def test_scorecard_of_a_month_without_a_settlement_shows_what_was_received(path: Path) -> None:
    with opened(path, "storj_1") as store:
        earn(store, "0.01", currency="GLM")
        payouts = [Payout(f"p{day}", Decimal("2.5"), "GLM", at(f"2026-10-{day}T12:00")) for day in (11, 31)]
        later = Payout("p3", Decimal(100), "GLM", at("2026-11-01T00:00"))
        read(store, SETTLED, payouts=(*payouts, later))
        october = [one for one in found(store)["scorecard"] if one["month"] == "2026-10"]
    assert [(one["currency"], one["ours"], one["network"], one["paid"]) for one in october] == [
        ("GLM", "7.44", None, "5")
    ]


def test_only_the_named_nodes(path: Path) -> None:
    with opened(path, "storj_1") as store:
        settle(store, statement("20"))
        known = AsOf(store.connection, at("2026-12-01T00:00"))
        assert reconcile(known, frozenset({"other"})) == {"reconciliation": [], "scorecard": []}
        assert len(reconcile(known, frozenset({"storj_1"}))["reconciliation"]) == 1
