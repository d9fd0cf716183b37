"""What the running month will bring, said on its 1st, 10th and 20th day, to be held against the network's settlement.

The outlook of a node is what its hours of the month have earned before the running hour, plus the hours that are left
times the forecast's expected income of an hour:

    outlook = earned so far + hours left * (forecast total / forecast horizon)

with the total's mean, and the bounds of its 80 % band for the range, divided by the price of now where the forecast is
in USD and the node is paid in a token. Hours that nobody knows count as nothing earned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

from .asof import AsOf
from .types import DECIMALS, HOUR_S, MonthOutlook, OutlookSource
from .values import unit_price

SCORED_DAYS = (1, 10, 20)
"""UTC days of a month on which its outlook is kept."""

_FINEST = Decimal("1e-18")


def month_span_s(period: str) -> tuple[int, int]:
    """First second of a month (YYYY-MM), and of the one after it."""
    first = datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(after.timestamp())


def month_outlooks(
    known: AsOf, forecasts: Iterable[Mapping[str, Any]], now_s: int
) -> Iterable[tuple[str, MonthOutlook]]:
    """(node, outlook) for each forecast (a member of ``data.forecasts[]``) with a mean; none on days that do not count.

    An outlook is in the currency that the node is paid in.
    """
    today = datetime.fromtimestamp(now_s, UTC)
    if today.day not in SCORED_DAYS:
        return
    period = today.strftime("%Y-%m")
    start_s, end_s = month_span_s(period)
    origin_s = now_s // HOUR_S * HOUR_S
    for one in forecasts:
        currency, total = one["currency"], one["total"]
        price = unit_price(currency, known.price_at(currency, now_s), now_s)
        unit = Decimal(1) if one["unit"] == "native_per_hour" else price and price.usd_per_unit
        if not unit or total["mean"] is None:
            continue
        with localcontext(DECIMALS):
            earned = sum(
                (
                    hour.amount
                    for hour in known.hours(start_s, one["node"])
                    if hour.currency == currency and hour.hour_s < origin_s
                ),
                Decimal(0),
            )
            scale = Decimal((end_s - origin_s) // HOUR_S) / one["horizon_h"] / unit
            mean, lo80, hi80 = (
                None if total[key] is None else (earned + Decimal(repr(float(total[key]))) * scale).quantize(_FINEST)
                for key in ("mean", "lo80", "hi80")
            )
        if mean is not None:
            yield one["node"], MonthOutlook(period, today.day, currency, OutlookSource.FORECAST, mean, lo80, hi80)
