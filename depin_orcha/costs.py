"""What power costs: the price of electricity at an hour, and the watts of a host that its nodes account for. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from .types import HOUR_S

if TYPE_CHECKING:
    from .sections import Costs, HostOptions, TariffHour

METER = "meter"
RAPL = "rapl, CPU only"
BY_HAND = "by hand"

Listed = Sequence[tuple[int, float]]
"""(start in epoch seconds, price per kWh), by start: each holds until the next one, an hour at most."""


@dataclass(frozen=True, slots=True)
class Watts:
    """Power of a host, and who says so."""

    watts: float
    source: str


def price_per_kwh(costs: Costs, hour_s: int, listed: Listed) -> float | None:
    """Mean price of electricity over an hour, in the owner's currency; None where any part of it has none.

    ``listed``: what a tariff of hourly prices is known to be. A table of local hours follows the clock on the wall, so
    that an hour which happens twice has its price twice, and an entry inside one that is left out begins after it.
    """
    tariff = costs.electricity_per_kwh
    if tariff is None or isinstance(tariff, int | float):
        return tariff
    if isinstance(tariff, list):
        return _by_the_clock(tariff, ZoneInfo(costs.timezone) if costs.timezone else None, hour_s)
    return _as_listed(listed, hour_s)


def _by_the_clock(tariff: list[TariffHour], zone: ZoneInfo | None, hour_s: int) -> float:
    entries = sorted((one.from_, one.price) for one in tariff)
    starts = [start for start, _ in entries]
    total = 0.0
    for minute in range(60):
        local = f"{datetime.fromtimestamp(hour_s + minute * 60, zone):%H:%M}"
        # Before the first entry of the day this is the last one: that of the day before is still in force.
        total += entries[bisect_right(starts, local) - 1][1]
    return total / 60


def _as_listed(listed: Listed, hour_s: int) -> float | None:
    first = bisect_right(listed, (hour_s - HOUR_S, float("inf")))
    around = listed[first : bisect_left(listed, (hour_s + HOUR_S, float("-inf")))]
    total, covered_s = 0.0, 0
    for (start_s, price), (next_s, _) in pairwise([*around, (hour_s + HOUR_S, 0.0)]):
        from_s, to_s = max(start_s, hour_s), min(next_s, start_s + HOUR_S)
        total += price * max(to_s - from_s, 0)
        covered_s += max(to_s - from_s, 0)
    return total / HOUR_S if covered_s == HOUR_S else None


def running_watts(
    host: HostOptions, metered: Watts | None, nodes: Iterable[tuple[float | None, bool | None]]
) -> Watts | None:
    """What a host would no longer draw if its nodes stopped; None where it is not known.

    ``metered``: what the host's meter says, None where it has none. ``nodes``: ``busy_watts`` of each node, and
    whether it was at work. A node without ``busy_watts`` is part of ``idle_watts``. On a machine that is always on only
    what exceeds ``idle_watts`` counts, and without a meter that is known only if every node says what it draws.
    """
    busy = _busy_watts(nodes, None if host.always_on else 0.0)
    if not host.always_on and metered is not None:
        return metered
    if not host.always_on:
        return None if host.idle_watts is None or busy is None else Watts(host.idle_watts + busy, BY_HAND)
    if metered is not None and metered.source == METER and host.idle_watts is not None:
        return Watts(max(metered.watts - host.idle_watts, 0.0), f"{METER} less idle_watts")
    return None if busy is None else Watts(busy, f"{BY_HAND}, without idle_watts")


def _busy_watts(nodes: Iterable[tuple[float | None, bool | None]], unset: float | None) -> float | None:
    total = 0.0
    for stated, at_work in nodes:
        watts = unset if stated is None else 0.0 if stated == 0 or at_work is False else stated if at_work else None
        if watts is None:
            return None
        total += watts
    return total
