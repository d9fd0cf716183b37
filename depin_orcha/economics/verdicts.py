"""Is it worth its power: keep, pause at which hours, stop, or it cannot be told. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from depin_orcha.types import DAY_S, HOUR_S

from .estimate import Estimate, of_blocks

MONTH_H = 730.5
"""Hours of an average month: a twelfth of 365.25 days."""
LEAST_DAYS = 7
"""Fewer different days of income say too little to judge by."""


@dataclass(frozen=True, slots=True)
class DearHours:
    """Local hours of the day at which work costs more than it brings, and what pausing at them saves in a month."""

    hours: tuple[int, ...]
    saved_usd_month: Estimate


def judged(net: Estimate | None, days: int) -> str:
    """``keep`` or ``stop`` where the 80 % interval of the net is on one side of 0, else ``cannot_tell``."""
    if net is None or days < LEAST_DAYS or not math.isfinite(net.away):
        return "cannot_tell"
    if net.lo80 > 0:
        return "keep"
    return "stop" if net.hi80 < 0 else "cannot_tell"


def per_busy_hour(usd_by_hour: Mapping[int, float], busy: Mapping[int, float]) -> Estimate | None:
    """What an hour of work brings; None where it never worked in an hour whose income is known."""
    days: dict[int, tuple[float, float]] = {}
    for hour_s in usd_by_hour.keys() & busy.keys():
        usd, worked = days.get(hour_s // DAY_S, (0.0, 0.0))
        days[hour_s // DAY_S] = usd + usd_by_hour[hour_s], worked + busy[hour_s]
    return of_blocks(days) if sum(worked for _, worked in days.values()) > 0 else None


def ahead(prices: Sequence[float], first: int, length_h: float) -> float:
    """Mean of a day's prices over ``length_h`` hours from the ``first``: what work that begins then will pay."""
    whole = math.floor(length_h)
    parts = [(1.0, first + i) for i in range(whole)] + [(length_h - whole, first + whole)]
    return sum(weight * prices[hour % len(prices)] for weight, hour in parts) / length_h


def dear_hours(
    brings: Estimate, busy_watts: float, usd_per_kwh: Sequence[float], length_h: float, busy_share: Sequence[float]
) -> DearHours | None:
    """The hours at which new work surely costs more power than it brings; None where there are none, or only such.

    ``usd_per_kwh`` and ``busy_share``: by local hour of the day. Work that begins at an hour binds for ``length_h``.
    """
    costs = [busy_watts / 1000 * ahead(usd_per_kwh, hour, length_h) for hour in range(24)]
    dear = tuple(hour for hour in range(24) if costs[hour] > brings.hi80)
    if not dear or len(dear) == 24:
        return None
    days = MONTH_H / 24
    worked = sum(busy_share[hour] for hour in dear) * days
    spent = sum(busy_share[hour] * costs[hour] for hour in dear) * days
    return DearHours(dear, Estimate(spent).less(brings.times(worked)))


def spans(hours: Sequence[int]) -> str:
    """Hours of the day as people say them: ``17:00-21:00 and 23:00-02:00``."""
    chosen = set(hours)
    if len(chosen) == 24:
        return "all day"
    starts = [hour for hour in sorted(chosen) if (hour - 1) % 24 not in chosen]
    told: list[str] = []
    for start in starts:
        end = start
        while end % 24 in chosen:
            end += 1
        told.append(f"{start:02}:00-{end % 24:02}:00")
    return " and ".join(told)


def by_local_hour(values: Mapping[int, float], local_hour: Mapping[int, int]) -> list[float | None]:
    """Mean of hourly values by local hour of the day, from the hours whose local hour is given; None without any."""
    found: dict[int, list[float]] = {}
    for hour_s, value in values.items():
        if hour_s in local_hour:
            found.setdefault(local_hour[hour_s], []).append(value)
    return [sum(found[hour]) / len(found[hour]) if hour in found else None for hour in range(24)]


def first_hours(now_s: int, count: int) -> list[int]:
    """The last ``count`` completed hours before an instant, oldest first."""
    until_s = now_s // HOUR_S * HOUR_S
    return [until_s - (count - index) * HOUR_S for index in range(count)]
