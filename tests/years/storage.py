"""What satellites count of a storage node: traffic and stored bytes by month, what is held, and settled months."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from random import Random
from typing import Any

from depin_orcha.types import DAY_S, HOUR_S

CENTS = (200, 200, 149)
"""Per TB of egress, of repair and audits, and per TB-month of 720 hours."""
MONTH_H = 720
LATEST_TALLY_S = 3 * DAY_S


@dataclass(frozen=True)
class Month:
    """A UTC month; ``number`` counts months from year 0."""

    name: str
    number: int
    start_s: int
    end_s: int


@lru_cache(1000)
def numbered(number: int) -> Month:
    """The month of a number."""
    start, end = (datetime(one // 12, one % 12 + 1, 1, tzinfo=UTC) for one in (number, number + 1))
    return Month(start.strftime("%Y-%m"), number, int(start.timestamp()), int(end.timestamp()))


def month_of(instant_s: int, ago: int = 0) -> Month:
    """The month of an instant, or one before or after it."""
    moment = datetime.fromtimestamp(instant_s, UTC)
    return numbered(moment.year * 12 + moment.month - 1 + ago)


@dataclass
class Usage:
    """What a node has counted of one satellite's month: bytes, and byte-hours up to ``covered_s``."""

    covered_s: int
    egress: int = 0
    audit: int = 0
    byte_hours: float = 0.0
    rate: float = 0.0

    def cents(self, byte_months: float) -> float:
        """What it is worth as the node itself reckons: each part rounded to a hundredth of a cent."""
        egress, audit, disk = CENTS
        return (
            round(self.egress * egress / 1e10) + round(self.audit * audit / 1e10) + round(byte_months * disk / 1e10)
        ) / 100


class Satellite:
    """One satellite: what it stores on the node changes from day to day."""

    def __init__(self, name: str, chance: Random, now_s: int, *, fresh: bool = False) -> None:
        self.id = name + "".join(chance.choices("abcdefghijkmnopqrstuvwxyz123456789", k=50))
        self.url = f"{name}.storj.io:7777"
        self.has_prices = not fresh
        self.forgotten = False
        self.disqualified_s: int | None = None
        self._chance = chance
        self._joined_s = now_s if fresh else now_s - chance.randrange(300) * DAY_S
        self._stored = 10.0 ** chance.uniform(9, 13)
        self._usages: dict[str, Usage] = {}
        self._days: dict[int, float] = {}

    @property
    def is_paying(self) -> bool:
        """Does the node count anything of it?"""
        return self.disqualified_s is None and not self.forgotten

    def tell_prices(self) -> None:
        """The node has reached it for the first time."""
        self.has_prices = True

    def usage(self, month: Month) -> Usage:
        """The counters of a month."""
        if month.name not in self._usages:
            begun_s = max(month.start_s, min(self._joined_s, month.end_s))
            self._usages[month.name] = Usage(begun_s, rate=self._stored)
        return self._usages[month.name]

    def held_percent(self, month: Month) -> int:
        """75, 50, 25 by three months each since it was joined, then 0."""
        return max(0, 75 - (month.number - month_of(self._joined_s).number) // 3 * 25)

    def tell_storage(self, month: Month, now_s: int) -> None:
        """What was stored in a month up to some hours ago; in the first days after its end it may still change."""
        final = now_s > month.end_s + LATEST_TALLY_S
        lag_s = 0 if final else self._chance.randrange(30 * HOUR_S)
        usage = self.usage(month)
        begin_s = max(month.start_s, self._joined_s)
        usage.covered_s = max(usage.covered_s, min(now_s - lag_s, month.end_s))
        days = range(begin_s // DAY_S * DAY_S, usage.covered_s, DAY_S)
        lacking = (
            days[-1] - DAY_S * self._chance.randrange(3) if days and not final and self._chance.random() < 0.1 else 0
        )
        usage.byte_hours = sum(
            self._rate(day_s) * (min(day_s + DAY_S, usage.covered_s) - max(day_s, begin_s)) / HOUR_S
            for day_s in days
            if day_s != lacking
        )
        usage.rate = self._rate(days[-1]) if days else self._stored

    def _rate(self, day_s: int) -> float:
        """Bytes stored on a day."""
        if day_s not in self._days:
            self._stored *= self._chance.uniform(0.97, 1.035)
            self._days[day_s] = self._stored
        return self._days[day_s]

    def byte_months(self, month: Month, now_s: int, projected: bool) -> float:
        """What the node says was stored; ``projected``: the last known rate is taken to go on until now."""
        usage = self.usage(month)
        until_s = min(now_s, month.end_s) if projected and usage.rate else usage.covered_s
        return (usage.byte_hours + usage.rate * max(0, until_s - usage.covered_s) / HOUR_S) / MONTH_H

    def paystubs(self, last: str, now_s: int) -> Iterator[dict[str, Any]]:
        """Statements of its settled months."""
        for name, usage in self._usages.items():
            if name <= last and usage.covered_s < now_s - 40 * DAY_S:
                at_rest, get, audit = (int(amount) for amount in self._settled(usage))
                yield {
                    "satelliteId": self.id,
                    "period": name,
                    "compAtRest": at_rest,
                    "compGet": get,
                    "compGetRepair": 0,
                    "compGetAudit": audit,
                    "surgePercent": 0,
                    "held": 0,
                    "disposed": 0,
                    "paid": at_rest + get + audit,
                    "distributed": at_rest + get + audit,
                }

    def receipts(self, month: str, now_s: int) -> Iterator[dict[str, Any]]:
        """What it sent for a month."""
        for stub in self.paystubs(month, now_s):
            if stub["period"] == month:
                yield {"satelliteID": self.id, "distributed": stub["distributed"], "receipt": f"zksync:{month}"}

    def _settled(self, usage: Usage) -> tuple[float, float, float]:
        """In micro-USD, also for traffic that the node has forgotten."""
        egress, audit, disk = CENTS
        return usage.byte_hours / MONTH_H * disk / 1e8, usage.egress * egress * 1.01 / 1e8, usage.audit * audit / 1e8
