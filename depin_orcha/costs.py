"""The price of electricity at an hour, as the owner states it."""

from __future__ import annotations

from datetime import datetime
from statistics import fmean
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from .types import HOUR_S

if TYPE_CHECKING:
    from .config import Costs


def usd_per_kwh(costs: Costs, now_s: int, horizon_h: int) -> float | None:
    """Mean tariff of the coming hours in USD; None where it is not stated, or in a currency without a rate."""
    tariff = costs.electricity_per_kwh
    if tariff is None or costs.currency != "USD":
        return None
    if isinstance(tariff, int | float):
        return float(tariff)
    zone = ZoneInfo(costs.timezone) if costs.timezone else None
    entries = sorted((one.from_, one.price) for one in tariff)
    prices: list[float] = []
    for hour in range(horizon_h):
        local = datetime.fromtimestamp(now_s + hour * HOUR_S, zone).strftime("%H:%M")
        # Before the first entry of the day the last one of the day before is still in force.
        prices.append(next((price for start, price in reversed(entries) if start <= local), entries[-1][1]))
    return fmean(prices)
