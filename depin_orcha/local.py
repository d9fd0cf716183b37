"""The owner's own money beside USD: what it was worth in each hour, as fixed with that hour."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from .asof import AsOf
from .types import DECIMALS, HOUR_S
from .values import unit_price

LOCAL_CURRENCY = "local_currency"
"""Under this name the database remembers which money the owner counts in."""


class LocalMoney:
    """Turns USD of an hour from ``since_s`` on into the owner's money."""

    def __init__(self, known: AsOf, since_s: int = 0) -> None:
        self.currency = known.meta(LOCAL_CURRENCY) or "USD"
        self._now_s = known.now_s
        self._fixed = known.hour_prices(self.currency, since_s)
        self.latest = unit_price(self.currency, known.price_at(self.currency, known.now_s), known.now_s)

    def usd_per_unit(self, hour_s: int) -> Decimal | None:
        """The rate of an hour, of the running one the latest; None where none is known."""
        if self.currency == "USD":
            return Decimal(1)
        if hour_s + HOUR_S > self._now_s:
            return None if self.latest is None else self.latest.usd_per_unit
        return self._fixed.get(hour_s)

    def amount(self, usd: Decimal, hour_s: int) -> Decimal | None:
        """What an amount of that hour was in the owner's money; None without a rate."""
        rate = self.usd_per_unit(hour_s)
        return None if rate is None else DECIMALS.divide(usd, rate)

    def total(self, usd_by_hour: Mapping[int, Decimal], from_s: int = 0) -> Decimal | None:
        """The sum of the hours from ``from_s`` on; None when there is none, or one of them has no rate."""
        total: Decimal | None = None
        for hour_s, usd in usd_by_hour.items():
            if hour_s < from_s:
                continue
            amount = self.amount(usd, hour_s)
            if amount is None:
                return None
            total = DECIMALS.add(total or Decimal(0), amount)
        return total
