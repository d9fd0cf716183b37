"""A simulated storage node: what each satellite counts for it at any instant.

Stored data grows by a constant rate, so its byte-hours are exact; traffic follows the data, the hour of the day,
the day of the week and chance. Payouts follow the node software's own formulas and roundings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from random import Random

from depin_orcha.types import DAY_S, HOUR_S

from .times import month_start, months_between

CENTS_PER_TB = 200
CENTS_PER_TB_MONTH = 149
SETTLED_CENTS_PER_TB_MONTH = Decimal("149.76")
"""Satellites settle with the true rate; the node sees it cut to whole cents."""
MONTH_H = 720

_EGRESS_PER_STORED = 0.055 / MONTH_H
_REPAIR_PER_STORED = 0.045 / MONTH_H
_AUDIT_PER_REPAIR = 0.0006
_INGRESS_PER_GROWTH = 1.35
_INGRESS_REPAIR_PER_REPAIR = 0.4


@dataclass(frozen=True, slots=True)
class Traffic:
    """What happened in a stretch of time: bytes, and byte-hours at rest."""

    egress: int
    repair: int
    audit: int
    ingress: int
    ingress_repair: int
    byte_hours: float

    @property
    def egress_total(self) -> int:
        return self.egress + self.repair + self.audit

    @property
    def ingress_total(self) -> int:
        return self.ingress + self.ingress_repair


@dataclass(frozen=True, slots=True)
class Estimate:
    """One month of one satellite, in the units of the payout estimation: bytes, byte-months, US cents, percent."""

    egress: int
    repair_audit: int
    byte_months: float
    held_rate: int

    @property
    def egress_cents(self) -> Decimal:
        return _cents(Decimal(self.egress) * CENTS_PER_TB / 10**12)

    @property
    def repair_audit_cents(self) -> Decimal:
        return _cents(Decimal(self.repair_audit) * CENTS_PER_TB / 10**12)

    @property
    def disk_cents(self) -> Decimal:
        return _cents(Decimal(self.byte_months) * CENTS_PER_TB_MONTH / 10**12)

    @property
    def held_cents(self) -> Decimal:
        return (self.egress_cents + self.repair_audit_cents + self.disk_cents) * self.held_rate / 100

    @property
    def payout_cents(self) -> Decimal:
        return _cents(self.egress_cents + self.repair_audit_cents + self.disk_cents - self.held_cents)


@dataclass(frozen=True, slots=True)
class Settlement:
    """A closed month of one satellite, in micro-USD."""

    month_s: int
    created_s: int
    traffic: Traffic
    at_rest: int
    get: int
    get_repair: int
    get_audit: int
    held: int
    disposed: int

    @property
    def earned(self) -> int:
        return self.at_rest + self.get + self.get_repair + self.get_audit

    @property
    def owed(self) -> int:
        return self.earned - self.held

    @property
    def paid(self) -> int:
        return self.owed + self.disposed


class Satellite:
    """One satellite as one simulated node knows it, from the hour the node joined."""

    def __init__(self, satellite_id: str, address: str, joined_s: int, growth_bytes_per_h: int, seed: str) -> None:
        self.id = satellite_id
        self.address = address
        self.joined_s = joined_s - joined_s % HOUR_S
        self.vetted_s = self.joined_s + 43 * DAY_S
        self._growth = growth_bytes_per_h
        self._random = Random(seed)  # noqa: S311
        self._usage = [0.0]
        self._repair = [0.0]
        self._ingress = [0.0]

    def advance(self, now_s: int) -> None:
        """Traffic is known up to ``now_s`` and the end of its hour."""
        while (hour := len(self._usage) - 1) * HOUR_S <= now_s - self.joined_s:
            at_s = self.joined_s + hour * HOUR_S
            daily = 1 + 0.4 * math.sin(2 * math.pi * (at_s % DAY_S / DAY_S - 0.4))
            weekly = 0.8 if at_s // DAY_S % 7 in (2, 3) else 1.08
            stored = self._growth * (hour + 0.5)
            customers = daily * weekly * self._random.lognormvariate(-0.02, 0.2)
            self._usage.append(self._usage[-1] + stored * customers)
            self._repair.append(self._repair[-1] + stored * self._random.lognormvariate(-0.045, 0.3))
            self._ingress.append(self._ingress[-1] + self._growth * customers)

    def stored_bytes(self, at_s: int) -> int:
        """Bytes at rest."""
        return self._growth * max(0, at_s - self.joined_s) // HOUR_S

    def between(self, from_s: int, to_s: int) -> Traffic:
        """What happened in (from_s, to_s]; stretches add up exactly."""
        first, last = self._counters(from_s), self._counters(to_s)
        counted = [new - old for old, new in zip(first, last, strict=True)]
        return Traffic(*counted, byte_hours=self._byte_hours(from_s, to_s))

    def estimate(self, month_s: int, now_s: int) -> Estimate:
        """The month that starts at ``month_s`` as far as it has come at ``now_s``."""
        traffic = self.between(month_s, min(now_s, month_start(month_s, 1)))
        rate = held_percent(self.joined_s, month_s)
        return Estimate(traffic.egress, traffic.repair + traffic.audit, traffic.byte_hours / MONTH_H, rate)

    def expected_cents(self, now_s: int) -> int:
        """The running month's payout if it went on like this, cut to whole cents."""
        first_s = max(month_start(now_s), self.joined_s)
        length_s = month_start(now_s, 1) - first_s
        payout = self.estimate(month_start(now_s), now_s).payout_cents
        return int(payout * length_s / max(60, now_s - first_s))

    def settlements(self, now_s: int) -> list[Settlement]:
        """Every month that this satellite has closed by ``now_s``, oldest first."""
        closed: list[Settlement] = []
        month_s = month_start(self.joined_s)
        while (created_s := month_start(month_s, 1) + self._closing_delay_s()) <= now_s:
            closed.append(self._settle(month_s, created_s, sum(month.held for month in closed)))
            month_s = month_start(month_s, 1)
        return closed

    def _settle(self, month_s: int, created_s: int, held_before: int) -> Settlement:
        traffic = self.between(month_s, month_start(month_s, 1))
        at_rest = _micro_usd(Decimal(traffic.byte_hours / MONTH_H) * SETTLED_CENTS_PER_TB_MONTH)
        get, repair, audit = (
            _micro_usd(Decimal(size) * CENTS_PER_TB) for size in (traffic.egress, traffic.repair, traffic.audit)
        )
        held = (at_rest + get + repair + audit) * held_percent(self.joined_s, month_s) // 100
        disposed = held_before // 2 if months_between(self.joined_s, month_s) == 9 else 0
        return Settlement(month_s, created_s, traffic, at_rest, get, repair, audit, held, disposed)

    def _closing_delay_s(self) -> int:
        return 5 * DAY_S + len(self.address) * 3571

    def _counters(self, at_s: int) -> tuple[int, int, int, int, int]:
        hour, rest_s = divmod(max(0, at_s - self.joined_s), HOUR_S)
        usage, repair, ingress = (
            series[hour] + (series[hour + 1] - series[hour]) * rest_s / HOUR_S
            for series in (self._usage, self._repair, self._ingress)
        )
        repaired = repair * _REPAIR_PER_STORED
        return (
            int(usage * _EGRESS_PER_STORED),
            int(repaired),
            int(repaired * _AUDIT_PER_REPAIR),
            int(ingress * _INGRESS_PER_GROWTH),
            int(repaired * _INGRESS_REPAIR_PER_REPAIR),
        )

    def _byte_hours(self, from_s: int, to_s: int) -> float:
        first, last = (max(0, at_s - self.joined_s) for at_s in (from_s, to_s))
        return self._growth * (last * last - first * first) / (2 * HOUR_S * HOUR_S)


@dataclass(frozen=True, slots=True)
class StorageNode:
    """A simulated storage node on its machine."""

    id: str
    wallet: str
    allocated_bytes: int
    started_s: int
    satellites: tuple[Satellite, ...]

    def advance(self, now_s: int) -> None:
        """Everything up to ``now_s`` can be asked for."""
        for satellite in self.satellites:
            satellite.advance(now_s)

    def trash_bytes(self, now_s: int) -> int:
        """Deleted data that is not yet emptied."""
        return sum(satellite.stored_bytes(now_s) for satellite in self.satellites) // 40

    def used_bytes(self, now_s: int) -> int:
        """Everything inside the allocation: pieces, trash and what the hash store keeps beside them."""
        stored = sum(satellite.stored_bytes(now_s) for satellite in self.satellites)
        return stored + self.trash_bytes(now_s) + stored // 50


def held_percent(joined_s: int, month_s: int) -> int:
    """Part of a month's earnings that is held back, by calendar months since joining."""
    months = months_between(joined_s, month_s)
    return 75 if months < 3 else 50 if months < 6 else 25 if months < 9 else 0


def _cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)


def _micro_usd(cent_bytes_per_tb: Decimal) -> int:
    """Micro-USD of bytes times cents per TB, cut to whole ones."""
    return int(cent_bytes_per_tb / 10**8)
