"""What a node earned, as a series to forecast: in USD at each hour's price, or natively where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .asof import AsOf, EarnedHour
from .timefmt import rfc3339
from .types import DECIMALS, HOUR_S, Quality
from .values import TESTNET, unit_price

NATIVE, USD = "native_per_hour", "usd_per_hour"
HISTORY_DAYS = 60
"""What is older says nothing about tomorrow."""


def by_node(hours: Iterable[EarnedHour], until_s: int) -> dict[str, list[EarnedHour]]:
    """Node -> its hours before ``until_s`` in the order of time, by name, without test money."""
    found: dict[str, list[EarnedHour]] = {}
    for hour in hours:
        if hour.hour_s < until_s and hour.currency not in TESTNET:
            found.setdefault(hour.node, []).append(hour)
    return dict(sorted(found.items()))


def series_of(known: AsOf, hours: Sequence[EarnedHour], now_s: int, protocol: str) -> tuple[dict[str, Any], str, str]:
    """A member of ``series`` for hours of one node that end before the hour of ``now_s``; its currency and unit.

    The price known then ends the series: it is the one that the forecast is made with. Hours that are known in sum
    only, or are paid in another currency than the first one, are unknown.
    """
    currency = hours[0].currency
    price_now = unit_price(currency, known.price_at(currency, now_s), now_s)
    first_s = hours[0].hour_s
    count = (now_s // HOUR_S * HOUR_S - first_s) // HOUR_S
    y: list[float | None] = [None] * count
    price: list[float | None] = [None] * count
    for hour in hours:
        if hour.quality is Quality.INTERPOLATED or hour.currency != currency:
            continue
        index = (hour.hour_s - first_s) // HOUR_S
        if price_now is None:
            y[index] = float(hour.amount)
            continue
        used = price_now if index == count - 1 else hour.price or price_now
        price[index] = float(used.usd_per_unit)
        y[index] = float(DECIMALS.multiply(hour.amount, used.usd_per_unit))
    series: dict[str, Any] = {
        "id": hours[0].node,
        "start": rfc3339(first_s),
        "freq": "1h",
        "y": y,
        "protocol": protocol,
    }
    if price_now is not None and currency != "USD":
        price[-1] = float(price_now.usd_per_unit)
        series["price"] = price
    return series, currency, NATIVE if price_now is None else USD
