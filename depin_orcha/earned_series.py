"""What a node earned, as a series to forecast: in USD at each hour's price, or natively where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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


def down_hours(known: AsOf, since_s: int) -> dict[str, dict[int, bool]]:
    """Node -> hours from ``since_s`` on in the end of which it said that it does not run or is paused: all through?

    A failed reading says nothing of the node: it may run, and earn.
    """
    rows = known.connection.execute(
        "SELECT node, observed_s / 3600 * 3600, status = 'down' OR reason LIKE 'paused%' AS down, max(observed_s), "
        "count(*) = total(status = 'down' OR reason LIKE 'paused%') FROM health_samples "
        "WHERE observed_s >= ? AND learned_s <= ? AND failure_kind IS NULL GROUP BY 1, 2",
        (since_s // HOUR_S * HOUR_S, known.now_s),
    )
    found: dict[str, dict[int, bool]] = {}
    for node, hour_s, down, _, always in rows:
        if down:
            found.setdefault(node, {})[hour_s] = bool(always)
    return found


def series_of(
    known: AsOf, hours: Sequence[EarnedHour], now_s: int, protocol: str, down: Mapping[int, bool]
) -> tuple[dict[str, Any], str, str]:
    """A member of ``series`` for hours of one node that end before the hour of ``now_s``; its currency and unit.

    The price known then ends the series: it is the one that the forecast is made with. Hours that are known in sum
    only, or are paid in another currency than the first one, are unknown. ``down`` are hours of this node as
    :func:`down_hours` has them.
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
        "state": _states(y, first_s, down),
        "protocol": protocol,
    }
    if price_now is not None and currency != "USD":
        price[-1] = float(price_now.usd_per_unit)
        series["price"] = price
    return series, currency, NATIVE if price_now is None else USD


def _states(y: Sequence[float | None], first_s: int, down: Mapping[int, bool]) -> list[str | None]:
    """``down`` for hours without income at the end of which it did not run, and for the last hour whatever it earned.

    What earns while it is down, as a stake does, is not forecast to pause.
    """
    at = {index: always for hour_s, always in down.items() if 0 <= (index := (hour_s - first_s) // HOUR_S) < len(y)}
    states: list[str | None] = [None] * len(y)
    for index in at:
        states[index] = None if y[index] else "down"
    if len(y) - 1 in at and not any(y[index] for index, always in at.items() if always):
        states[-1] = "down"
    return states
