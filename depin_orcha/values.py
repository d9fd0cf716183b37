"""What a unit of a currency is worth, and for how long a price may stand for it."""

from __future__ import annotations

from decimal import Decimal

from .types import DAY_S, Price

TESTNET = frozenset({"tGLM"})
"""Test money: worth nothing, by definition of a test network."""

NO_MONEY = frozenset({"POINTS"})
"""What is counted, but is not money unless the owner says what it is worth."""

OWNERS_WORD = ("manual", "usd_per_point")
"""Sources of prices that the owner states."""

SHOWN_S = DAY_S
"""Beyond this age a price is no price."""

REFERENCE_MONEY = frozenset({
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "IDR", "ILS", "INR", "ISK", "JPY",
    "KRW", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "RON", "SEK", "SGD", "THB", "TRY", "ZAR",
})  # fmt: skip
"""Money that central banks quote, once a working day."""

RATE_SHOWN_S = 5 * DAY_S
"""The same for its rates: the longest time between two of them, over Easter, and then nobody trades."""


def unit_price(currency: str, known: Price | None, now_s: int) -> Price | None:
    """The price that values ``currency`` now: 1 for USD, 0 for test money, None when unknown or too old."""
    if currency == "USD":
        return Price(currency, Decimal(1), "unit", now_s)
    if currency in TESTNET:
        return Price(currency, Decimal(0), "testnet", now_s)
    longest_s = RATE_SHOWN_S if currency in REFERENCE_MONEY else SHOWN_S
    return known if known is not None and now_s - known.observed_s <= longest_s else None
