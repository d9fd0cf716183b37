"""What a node earned, as a series to forecast: in USD at each hour's price, or natively where there is none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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


def down_hours(known: AsOf, since_s: int) -> dict[str, set[int]]:
    """Node -> hours from ``since_s`` on in which every reading that tells says that the node did not run."""
    rows = known.connection.execute(
        "SELECT node, observed_s / 3600 * 3600 AS hour_s FROM health_samples AS one "
        "WHERE status = 'down' AND observed_s >= :since AND learned_s <= :now AND NOT EXISTS (SELECT 1 "
        "FROM health_samples WHERE node = one.node AND observed_s >= one.observed_s / 3600 * 3600 "
        "AND observed_s < one.observed_s / 3600 * 3600 + 3600 AND learned_s <= :now AND status IN ('up', 'degraded'))",
        {"since": since_s, "now": known.now_s},
    )
    found: dict[str, set[int]] = {}
    for node, hour_s in rows:
        found.setdefault(node, set()).add(hour_s)
    return found


def series_of(
    known: AsOf, hours: Sequence[EarnedHour], now_s: int, protocol: str, down: Collection[int] = ()
) -> tuple[dict[str, Any], str, str]:
    """A member of ``series`` for hours of one node that end before the hour of ``now_s``; its currency and unit.

    The price known then ends the series: it is the one that the forecast is made with. Hours that are known in sum
    only, or are paid in another currency than the first one, are unknown; those in ``down`` the node did not run.
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
    if any(first_s <= hour_s < first_s + count * HOUR_S for hour_s in down):
        # Of the others the rule for zeros decides: a node that runs may still not work.
        series["state"] = ["down" if first_s + index * HOUR_S in down else None for index in range(count)]
    if price_now is not None and currency != "USD":
        price[-1] = float(price_now.usd_per_unit)
        series["price"] = price
    return series, currency, NATIVE if price_now is None else USD
