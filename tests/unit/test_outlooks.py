"""What a month will bring: the formula, number by number, and the days on which it is said."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at, opened

from depin_orcha.asof import AsOf
from depin_orcha.outlooks import month_outlooks, month_span_s
from depin_orcha.store import Store
from depin_orcha.types import HOUR_S, Accrual, MonthOutlook, OutlookSource, Price, Quality


def hour(store: Store, when: str, amount: str, currency: str = "USD") -> None:
    store.add_accruals("node_1", [Accrual(at(when), Decimal(amount), currency, Quality.MEASURED)], at(when) + HOUR_S)


def forecast(currency: str = "USD", unit: str = "usd_per_hour", mean: float | None = 0.24) -> dict[str, Any]:
    total = {"mean": mean, "lo80": None if mean is None else 0.12, "hi80": None if mean is None else 0.48}
    return {"node": "node_1", "currency": currency, "unit": unit, "horizon_h": 24, "total": total}


@pytest.mark.parametrize(
    ("now", "means"),
    [
        # 720 h of November at 0.01 an hour; October's hour does not count.
        ("2026-11-01T00:10", ("7.2", "3.6", "14.4")),
        # 0.5 so far, the running hour is forecast: 503 h are left.
        ("2026-11-10T01:10", ("5.53", "3.015", "10.56")),
        ("2026-11-20T23:59", ("2.91", "1.705", "5.32")),
    ],
)
def test_earned_so_far_and_the_hours_that_are_left(tmp_path: Path, now: str, means: tuple[str, ...]) -> None:
    with opened(tmp_path / "orcha.db") as store:
        hour(store, "2026-10-31T23:00", "7")
        hour(store, "2026-11-01T00:00", "0.3")
        hour(store, "2026-11-09T23:00", "0.2")
        hour(store, "2026-11-10T01:00", "0")
        hour(store, "2026-11-09T23:00", "5", "GLM")
        told = list(month_outlooks(AsOf(store.connection, at(now)), [forecast()], at(now)))
    mean, lo80, hi80 = map(Decimal, means)
    day = int(now[8:10])
    assert told == [("node_1", MonthOutlook("2026-11", day, "USD", OutlookSource.FORECAST, mean, lo80, hi80))]


def test_a_token_is_told_in_itself(tmp_path: Path) -> None:
    now_s = at("2026-11-10T00:00")
    with opened(tmp_path / "orcha.db") as store:
        hour(store, "2026-11-09T12:00", "10", "GLM")
        store.add_prices([Price("GLM", Decimal("0.25"), "test", now_s - 60)], now_s - 60)
        known = AsOf(store.connection, now_s)
        ((_, in_usd),) = month_outlooks(known, [forecast("GLM")], now_s)
        ((_, native),) = month_outlooks(known, [forecast("GLM", "native_per_hour", 2.4)], now_s)
    assert (in_usd.mean, in_usd.currency) == (10 + 504 * Decimal("0.01") / Decimal("0.25"), "GLM")
    assert native.mean == 10 + 504 * Decimal("0.1")


@pytest.mark.parametrize("now", ["2026-11-02T00:00", "2026-11-09T23:59", "2026-11-30T12:00"])
def test_other_days_do_not_count(tmp_path: Path, now: str) -> None:
    with opened(tmp_path / "orcha.db") as store:
        hour(store, "2026-11-01T00:00", "1")
        assert list(month_outlooks(AsOf(store.connection, at(now)), [forecast()], at(now))) == []


def test_without_a_mean_or_a_price_nothing_is_said(tmp_path: Path) -> None:
    now_s = at("2026-11-10T00:00")
    with opened(tmp_path / "orcha.db") as store:
        known = AsOf(store.connection, now_s)
        assert list(month_outlooks(known, [forecast(mean=None), forecast("GLM")], now_s)) == []


def test_spans_of_months() -> None:
    assert month_span_s("2026-12") == (at("2026-12-01T00:00"), at("2027-01-01T00:00"))
    assert month_span_s("2028-02") == (at("2028-02-01T00:00"), at("2028-03-01T00:00"))
