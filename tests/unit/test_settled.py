"""Payouts, statements and outlooks in a real file: what is added, what is kept, and what was known when."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from ledger_parts import add, at, opened, snapshot

from depin_orcha.asof import AsOf
from depin_orcha.settled import TimeBasis, outlooks, receipts, statements, value_receipts
from depin_orcha.store import Store
from depin_orcha.types import MonthOutlook, OutlookSource, Payout, Price, Statement

FULL = Statement("2026-10", "sat", "USD", Decimal("8.4"), Decimal(0), Decimal(0), Decimal("8.4"), Decimal(0))
SENT = Payout("sat/2026-10", Decimal("8.4"), "USD", transaction="0xab", period="2026-10")
SAID = MonthOutlook("2026-11", 10, "USD", OutlookSource.FORECAST, Decimal(9), Decimal(8), Decimal(11))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orcha.db"


def payouts(known: AsOf) -> list[tuple[str, Payout]]:
    return [(one.node.name, one.payout) for one in receipts(known)]


def rows(store: Store, table: str) -> int:
    return store.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_only_what_differs_is_added_and_its_past_is_kept(path: Path) -> None:
    paid = replace(FULL, paid=Decimal("8.4"))
    with opened(path) as store:
        for when, statement, sent in (
            ("2026-11-08T12:00", FULL, ()),
            ("2026-11-09T12:00", FULL, ()),
            ("2026-11-10T12:00", paid, (SENT,)),
            ("2026-11-11T12:00", paid, (SENT,)),
        ):
            add(store, replace(snapshot(when), statements=(statement,), payouts=sent))
        assert (rows(store, "statements"), rows(store, "payouts")) == (2, 1)
        for now, told, received in (
            ("2026-11-08T11:59", [], []),
            ("2026-11-09T12:00", [("node_1", FULL)], []),
            ("2026-11-12T00:00", [("node_1", paid)], [("node_1", SENT)]),
        ):
            known = AsOf(store.connection, at(now))
            assert (statements(known), payouts(known)) == (told, received)


def test_a_payout_that_gets_its_transaction_later_is_one_payout(path: Path) -> None:
    with opened(path) as store:
        add(store, replace(snapshot("2026-11-08T12:00"), payouts=(replace(SENT, transaction=None),)))
        add(store, replace(snapshot("2026-11-09T12:00"), payouts=(SENT,)))
        assert payouts(AsOf(store.connection, at("2026-11-10T00:00"))) == [("node_1", SENT)]


def test_nodes_of_one_account_tell_the_same_payout_and_other_nodes_their_own(path: Path) -> None:
    told = {"payouts": (SENT,), "statements": (FULL,)}
    with opened(path) as store:
        with store.transaction():
            for name in ("node_2", "node_3"):
                store.add_node(name, "mysterium", "home", at("2026-11-01T00:00"))
            store.set_sources({"node_1": "mysterium a", "node_2": "mysterium a", "node_3": "node_3"})
        for day, name in enumerate(("node_2", "node_1", "node_3", "node_2"), start=8):
            add(store, replace(snapshot(f"2026-11-{day:02}T12:00", node=name), **told))
        known = AsOf(store.connection, at("2026-11-12T00:00"))
        assert payouts(known) == [("node_2", SENT), ("node_3", SENT)]
        assert statements(known) == [("node_2", FULL), ("node_3", FULL)]


def test_payouts_come_in_the_order_of_their_time_or_month(path: Path) -> None:
    def payout(name: str, when: str | None, period: str = "") -> Payout:
        return Payout(name, Decimal(1), "GLM", None if when is None else at(when), period=period, fee=Decimal("0.5"))

    late, early = payout("late", "2026-11-21T20:45"), payout("early", "2026-09-30T23:00")
    monthly, earlier = payout("monthly", None, "2026-10"), payout("earlier", None, "2025-12")
    with opened(path, now_s=at("2026-11-22T12:00")) as store:
        add(store, replace(snapshot("2026-11-22T12:00"), payouts=(late, early, monthly, earlier)))
        found = payouts(AsOf(store.connection, at("2026-11-22T12:00")))
    assert [one for _, one in found] == [earlier, early, monthly, late]


@pytest.mark.parametrize(
    ("since", "period", "received", "when", "basis"),
    [
        ("2026-10-20T00:00", "2026-10", None, "2026-11-08T12:00", TimeBasis.FIRST_SEEN),
        ("2026-11-01T00:00", "2026-10", None, "2026-11-01T00:00", TimeBasis.MONTH_END),
        ("2026-10-20T00:00", "2025-12", None, "2026-01-01T00:00", TimeBasis.MONTH_END),
        ("2026-10-20T00:00", "", None, "2026-11-08T12:00", TimeBasis.FIRST_SEEN),
        ("2026-10-20T00:00", "2026-10", "2026-11-05T06:07", "2026-11-05T06:07", TimeBasis.NETWORK),
    ],
)
def test_time_of_a_payout_is_told_or_what_can_be_known_of_it(
    path: Path, since: str, period: str, received: str | None, when: str, basis: TimeBasis
) -> None:
    told = replace(SENT, period=period, received_s=received and at(received), transaction=None)
    with opened(path, now_s=at(since)) as store:
        add(store, replace(snapshot("2026-11-08T12:00"), payouts=(told,)))
        add(store, replace(snapshot("2026-11-10T12:00"), payouts=(replace(told, transaction="0xab"),)))
        (one,) = receipts(AsOf(store.connection, at("2026-11-12T00:00")))
    assert (one.at_s, one.time_basis, one.payout.transaction) == (at(when), basis, "0xab")
    assert one.usd == one.payout.amount


def test_price_of_a_payout_is_fixed_once_and_unknown_before(path: Path) -> None:
    with opened(path) as store:
        add(store, replace(snapshot("2026-11-08T12:00"), payouts=(replace(SENT, currency="GLM"),)))
        (one,) = receipts(AsOf(store.connection, at("2026-11-08T12:00")))
        assert (one.price, one.usd) == (None, None)
        first, second = (Price("GLM", Decimal(usd), "coingecko", one.at_s - 60) for usd in ("0.25", "9"))
        for price, learned in ((first, "2026-11-09T00:00"), (second, "2026-11-10T00:00")):
            value_receipts(store.connection, [(one, price)], at(learned))
        for now, usd in (
            ("2026-11-08T23:59", None),
            ("2026-11-09T00:00", Decimal("2.1")),
            ("2026-11-12T00:00", Decimal("2.1")),
        ):
            (one,) = receipts(AsOf(store.connection, at(now)))
            assert (one.price, one.usd) == (first if usd else None, usd)


def test_of_outlooks_the_first_of_a_day_and_source_is_kept(path: Path) -> None:
    later, dashboard = replace(SAID, mean=Decimal(20)), MonthOutlook(
        "2026-11", 10, "USD", OutlookSource.DASHBOARD, Decimal("8.1")
    )  # fmt: skip
    with opened(path) as store:
        for when, said in (("10:00", SAID), ("11:00", later), ("12:00", dashboard)):
            add(store, replace(snapshot(f"2026-11-10T{when}"), outlooks=(said,)))
        assert outlooks(AsOf(store.connection, at("2026-11-10T09:59"))) == []
        assert outlooks(AsOf(store.connection, at("2026-11-10T11:00"))) == [("node_1", SAID)]
        assert outlooks(AsOf(store.connection, at("2026-12-01T00:00"))) == [("node_1", dashboard), ("node_1", SAID)]
