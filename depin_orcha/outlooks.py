"""What the running month will bring, said on its 1st, 10th and 20th day, to be held against the network's settlement.

The outlook of a node is what its hours of the month have earned before the running hour, plus the hours that are left
times the forecast's expected income of an hour:

    outlook = earned so far + hours left * (forecast total / forecast horizon)

with the total's mean, and the bounds of its 80 % band for the range, divided by the price of now where the forecast is
in USD and the node is paid in a token. Hours that nobody knows count as nothing earned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any

from .asof import AsOf, EarnedHour
from .types import DECIMALS, HOUR_S, MonthOutlook, OutlookSource, Price, Quality, decimal_text
from .until import outlook_row
from .values import unit_price

SCORED_DAYS = (1, 10, 20)
"""UTC days of a month on which its outlook is kept."""

_BOUNDS = ("mean", "lo80", "hi80")
_FINEST = Decimal("1e-18")


def month_span_s(period: str) -> tuple[int, int]:
    """First second of a month (YYYY-MM), and of the one after it."""
    first = datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(after.timestamp())


@dataclass(slots=True)
class _SoFar:
    """What a node has earned of the month before the running hour; USD None where an hour has no price."""

    amount: Decimal = Decimal(0)
    usd: Decimal | None = Decimal(0)
    hours: int = 0


def month_outlooks(
    known: AsOf, forecasts: Iterable[Mapping[str, Any]], now_s: int
) -> Iterable[tuple[str, MonthOutlook]]:
    """(node, outlook) for each forecast (a member of ``data.forecasts[]``) with a mean; none on days that do not count.

    An outlook is in the currency that the node is paid in.
    """
    today = datetime.fromtimestamp(now_s, UTC)
    if today.day not in SCORED_DAYS:
        return
    for row in month_ends(known, forecasts, now_s):
        if row["amount"] is not None:
            bounds = [None if (text := row["amount"][key]) is None else Decimal(text) for key in _BOUNDS[1:]]
            mean, currency = Decimal(row["amount"]["mean"]), row["amount"]["currency"]
            source = OutlookSource.FORECAST
            yield row["node"], MonthOutlook(today.strftime("%Y-%m"), today.day, currency, source, mean, *bounds)


def month_ends(known: AsOf, forecasts: Iterable[Mapping[str, Any]], now_s: int) -> Iterable[dict[str, Any]]:
    """What the running month will bring, a member of ``data.outlook[]`` for each forecast."""
    month = datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m")
    start_s, end_s = month_span_s(month)
    origin_s = now_s // HOUR_S * HOUR_S
    earned = _earned(known, start_s, origin_s)
    gone, left = (origin_s - start_s) // HOUR_S, (end_s - origin_s) // HOUR_S
    for one in forecasts:
        currency, total = one["currency"], one["total"]
        price = unit_price(currency, known.price_at(currency, now_s), now_s)
        in_usd = one["unit"] == "usd_per_hour"
        unit = price and price.usd_per_unit if in_usd else Decimal(1)
        if not unit or total["mean"] is None:
            why = "the hours that are left cannot be forecast yet"
            yield outlook_row(one["node"], "month_end", "cannot_tell", why)
            continue
        so_far = earned.get((one["node"], currency), _SoFar())
        with localcontext(DECIMALS):
            scale = Decimal(left) / one["horizon_h"]
            rest = {key: None if total[key] is None else Decimal(repr(float(total[key]))) * scale for key in _BOUNDS}
            amount = {
                key: None if more is None else decimal_text((so_far.amount + more / unit).quantize(_FINEST))
                for key, more in rest.items()
            }
            usd = None
            if in_usd and so_far.usd is not None:
                usd = {key: None if more is None else float(so_far.usd + more) for key, more in rest.items()}
        unknown = f"; {gone - so_far.hours} hours are not known and count as nothing" if so_far.hours < gone else ""
        why = f"{month}: {so_far.hours} hours earned, {left} at the pace of the forecast{unknown}"
        shown: dict[str, Any] = {"currency": currency} | amount
        yield outlook_row(one["node"], "month_end", "estimate", why, amount=shown, usd=usd)


def _earned(known: AsOf, start_s: int, end_s: int) -> dict[tuple[str, str], _SoFar]:
    """By node and currency; hours of one price are valued together, as every run asks for a whole month."""
    rows = known.connection.execute(
        "SELECT n.name, a.currency, v.price_usd, group_concat(a.amount), count(DISTINCT a.hour_s), v.price_source, "
        "v.price_observed_s FROM nodes n CROSS JOIN accruals a ON a.node = n.name AND a.hour_s >= :start "
        "AND a.hour_s < :end LEFT JOIN hour_values v ON v.currency = a.currency AND v.hour_s = a.hour_s "
        "AND v.learned_s <= :now WHERE a.learned_s <= :now GROUP BY 1, 2, 3",
        {"start": start_s, "end": end_s, "now": known.now_s},
    )
    found: dict[tuple[str, str], _SoFar] = {}
    for node, currency, price, amounts, hours, source, price_s in rows:
        one, amount = found.setdefault((node, currency), _SoFar()), Decimal(0)
        for text in amounts.split(","):
            amount = DECIMALS.add(amount, Decimal(text))
        value = None if price is None else Price(currency, Decimal(price), source, price_s)
        usd = known.usd(EarnedHour(node, currency, start_s, amount, Quality.MEASURED, value))
        one.amount = DECIMALS.add(one.amount, amount)
        one.usd = None if usd is None or one.usd is None else DECIMALS.add(one.usd, usd)
        one.hours += hours
    return found
