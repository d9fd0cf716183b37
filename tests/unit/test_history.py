"""Lines of the history: the prices behind each USD figure, and how much has no price or no rate."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at, opened
from rich.console import Console

from depin_orcha.asof import AsOf
from depin_orcha.ledger import history
from depin_orcha.local import LOCAL_CURRENCY
from depin_orcha.render import money
from depin_orcha.store import Store
from depin_orcha.types import HOUR_S, Accrual, Price, Quality

NINE_S, TEN_S, NOW_S = at("2026-11-20T09:00"), at("2026-11-20T10:00"), at("2026-11-22T20:15")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path / "orcha.db") as opening:
        yield opening


def earn(store: Store, hour_s: int, amount: str, currency: str = "GLM") -> None:
    store.add_accruals("node_1", [Accrual(hour_s, Decimal(amount), currency, Quality.MEASURED)], hour_s)


def value(store: Store, hour_s: int, usd: str, age_s: int, source: str = "coingecko", currency: str = "GLM") -> None:
    price = Price(currency, Decimal(usd), source, hour_s + HOUR_S - age_s)
    store.value_hours([(currency, hour_s, price)], hour_s + HOUR_S)


def rows(store: Store, by: str = "month", now_s: int = NOW_S) -> list[dict[str, Any]]:
    return history(AsOf(store.connection, now_s), by, "node", frozenset())


def told(store: Store, width: int, by: str = "month") -> str:
    text = StringIO()
    money.history(Console(file=text, width=width), rows(store, by), by)
    return text.getvalue()


def prices_of(row: dict[str, Any]) -> tuple[Any, ...]:
    names = ("usd_per_unit", "usd_per_unit_min", "usd_per_unit_max", "price_source", "price_observed_at", "price_age_s")
    return tuple(row[name] for name in names)


def test_line_of_one_price_shows_it_with_its_source_and_time(store: Store) -> None:
    earn(store, NINE_S, "4")
    value(store, NINE_S, "0.25", 600)
    for by in ("hour", "month"):
        (row,) = rows(store, by)
        assert row["usd"] == 1.0
        assert prices_of(row) == (0.25, 0.25, 0.25, "coingecko", "2026-11-20T09:50:00Z", 600)


def test_line_of_several_prices_shows_mean_range_sources_and_oldest(store: Store) -> None:
    for hour_s, amount, usd, age_s, source in (
        (NINE_S, "1", "0.2", 60, "coingecko"), (TEN_S, "3", "0.4", 1800, "coingecko history"),
    ):  # fmt: skip
        earn(store, hour_s, amount)
        value(store, hour_s, usd, age_s, source)
    (row,) = rows(store)
    assert (row["amount"], row["usd"]) == ("4", 1.4)
    assert prices_of(row) == (0.35, 0.2, 0.4, "coingecko, coingecko history", None, 1800)


def test_dollars_have_a_price_by_definition_and_the_running_hour_the_latest(store: Store) -> None:
    earn(store, NOW_S // HOUR_S * HOUR_S - HOUR_S, "5", "USD")
    earn(store, NOW_S // HOUR_S * HOUR_S, "2")
    store.add_prices([Price("GLM", Decimal("0.3"), "defillama", NOW_S - 120)], NOW_S)
    dollars, glm = sorted(rows(store, now_s=NOW_S + HOUR_S // 2), key=lambda row: row["currency"], reverse=True)
    assert prices_of(dollars) == (1.0, 1.0, 1.0, "unit", None, None)
    assert prices_of(glm) == (0.3, 0.3, 0.3, "defillama", "2026-11-22T20:13:00Z", 120 + HOUR_S // 2)


def test_amount_without_a_price_is_told_beside_the_sum_of_the_rest(store: Store) -> None:
    earn(store, NINE_S, "4")
    value(store, NINE_S, "0.25", 60)
    earn(store, TEN_S, "6")
    (row,) = rows(store)
    assert (row["usd"], row["unpriced_amount"], row["usd_per_unit"]) == (1.0, "6", 0.25)
    store.connection.execute("DELETE FROM hour_values")
    (row,) = rows(store)
    assert (row["usd"], row["unpriced_amount"]) == (None, "10")
    assert prices_of(row) == (None, None, None, None, None, None)
    for width in (80, 120):
        assert "10 GLM has no price and is not in $" in " ".join(told(store, width).split())


def test_one_hour_without_a_rate_leaves_the_rest_of_the_month(store: Store) -> None:
    store.set_meta(LOCAL_CURRENCY, "EUR")
    for hour_s, amount in ((NINE_S, "3"), (TEN_S, "5.5")):
        earn(store, hour_s, amount, "USD")
    value(store, TEN_S, "1.1", 60, currency="EUR")
    (row,) = rows(store)
    assert (row["usd"], row["local_currency"], row["value_local"], row["usd_without_rate"]) == (8.5, "EUR", 5.0, 3.0)
    for width in (80, 120):
        text = told(store, width)
        assert max(map(len, text.splitlines())) <= width
        assert "EUR" in text.splitlines()[2].split()
        assert ["2026-11", "node_1", "8.5", "USD", "8.50", "5.00", "measured"] in map(str.split, text.splitlines())
        assert "3.00 USD has no EUR rate of its hour and is not in EUR" in " ".join(text.split())
    store.connection.execute("DELETE FROM hour_values")
    (row,) = rows(store)
    assert (row["value_local"], row["usd_without_rate"]) == (None, 8.5)


def test_hours_in_the_owners_money_fit_a_narrow_terminal(store: Store) -> None:
    store.set_meta(LOCAL_CURRENCY, "EUR")
    store.add_node("golem_attic_2", "golem", "local", 0)
    store.add_accruals("golem_attic_2", [Accrual(NINE_S, Decimal("12.123456789"), "GLM", Quality.INTERPOLATED)], NINE_S)
    value(store, NINE_S, "0.25", 60)
    lines = [line.split() for line in told(store, 80, "hour").splitlines()]
    row = ["2026-11-20", "09:00", "golem_attic_2", "12.12345678", "GLM", "3.03", "-", "interpolated"]
    assert row in lines


def test_table_says_whose_prices_they_are(store: Store) -> None:
    for hour_s, usd, source in ((NINE_S, "0.1234", "coingecko"), (TEN_S, "0.1301", "coingecko history")):
        earn(store, hour_s, "2")
        value(store, hour_s, usd, 840, source)
    for by in ("hour", "month"):
        for width in (80, 120):
            text = " ".join(told(store, width, by).split())
            assert "1 GLM = 0.1234 to 0.1301 USD (coingecko, coingecko history)" in text
            assert "seen at most 14 min before the end of the hour" in text
    assert "EUR" not in text
