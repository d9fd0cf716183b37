"""What power leaves of a day's income, host by host; a net that is not known is never the gross."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from . import energy
from .asof import AsOf
from .energy import PowerHour, PowerSample
from .local import LocalMoney
from .timefmt import rfc3339
from .types import DAY_S, DECIMALS, HOUR_S


@dataclass(slots=True)
class HostIncome:
    """What the nodes of a host earned: USD by hour, and hours with money that has no price."""

    usd_by_hour: dict[int, Decimal] = field(default_factory=dict[int, Decimal])
    unpriced: set[int] = field(default_factory=set[int])
    whole: bool = True
    """Are all nodes of the host counted in?"""

    def add(self, usd_by_hour: Mapping[int, Decimal], unpriced: Iterable[int]) -> None:
        """Count in one more node."""
        for hour_s, usd in usd_by_hour.items():
            self.usd_by_hour[hour_s] = DECIMALS.add(self.usd_by_hour.get(hour_s, Decimal(0)), usd)
        self.unpriced.update(unpriced)


@dataclass(slots=True)
class _Day:
    """A host over the completed hours of the last day; ``local``: in the owner's money."""

    row: dict[str, Any]
    lacking: bool
    income: tuple[Decimal, Decimal | None] | None
    cost: tuple[float, float | None] | None


def view(
    known: AsOf, local: LocalMoney, incomes: Mapping[str, HostIncome]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """``hosts[]`` of a status document, and what its totals say of power.

    Both are over the same hours: those of the last 24 that were complete when the nodes were last read. A host with
    income in an hour whose watts or tariff are not known makes cost and net unknown.
    """
    from_s, to_s = _completed(known)
    power: dict[str, list[PowerHour]] = {}
    for hour in energy.hours(known, from_s, to_s):
        power.setdefault(hour.host, []).append(hour)
    samples = energy.latest(known, known.now_s - DAY_S)
    days = [
        _day(host, income, (from_s, to_s), power.get(host, []), samples.get(host), local)
        for host, income in incomes.items()
    ]
    return [day.row for day in days], _totals(days)


def no_totals() -> dict[str, Any]:
    """What the totals say of power where nothing is known."""
    return _totals([])


def _completed(known: AsOf) -> tuple[int, int]:
    started_s, finished_s, _ = known.runs().get("collect", (0, 0, None))
    to_s = started_s // HOUR_S * HOUR_S - (HOUR_S if finished_s is None else 0)
    return known.now_s // HOUR_S * HOUR_S - DAY_S, to_s


def _day(
    host: str,
    income: HostIncome,
    span_s: tuple[int, int],
    power: Sequence[PowerHour],
    sample: PowerSample | None,
    local: LocalMoney,
) -> _Day:
    usd_by_hour = {hour_s: usd for hour_s, usd in income.usd_by_hour.items() if span_s[0] <= hour_s < span_s[1]}
    unpriced = {hour_s for hour_s in income.unpriced if span_s[0] <= hour_s < span_s[1]}
    earning = usd_by_hour.keys() | unpriced
    lacking = len(earning - {hour.hour_s for hour in power})
    note = _note(income, lacking, len(earning), len(unpriced), sample, power)
    cost = None if lacking or not power else (sum(hour.usd for hour in power), _local_cost(power, local))
    earned = None
    if usd_by_hour and not unpriced:
        usd = Decimal(0)
        for one in usd_by_hour.values():
            usd = DECIMALS.add(usd, one)
        earned = usd, local.total(usd_by_hour)
    known_net = cost is not None and earned is not None and income.whole
    row = {
        "host": host,
        "watts": None if sample is None else sample.watts,
        "watts_source": None if sample is None else sample.source,
        "watts_observed_at": None if sample is None else rfc3339(sample.observed_s),
        "usd_per_kwh": power[-1].usd_per_kwh if power else None,
        "power_hours_24h": len(power),
        "running_cost_usd_24h": None if cost is None else cost[0],
        "net_usd_24h": float(earned[0]) - cost[0] if known_net and earned and cost else None,
        "note": note,
    }
    return _Day(row, bool(lacking or unpriced) or not income.whole, earned, cost)


def _note(
    income: HostIncome,
    lacking: int,
    earning: int,
    unpriced: int,
    sample: PowerSample | None,
    power: Sequence[PowerHour],
) -> str:
    """Why the net of a host is not known; empty where it is."""
    if not income.whole:
        return "net unknown: only some of its nodes are shown"
    if not earning:
        return "net unknown: no income of a completed hour is known"
    if lacking and sample is None:
        return "net unknown: no watts are known (watts_url, rapl or idle_watts)"
    if lacking and not power:
        return "net unknown: no tariff is known (electricity_per_kwh of costs)"
    if lacking:
        return f"net unknown: {lacking} of {earning} hours lack watts or a tariff"
    return f"net unknown: {unpriced} hours have no price" if unpriced else ""


def _local_cost(power: Sequence[PowerHour], local: LocalMoney) -> float | None:
    total = 0.0
    for hour in power:
        if hour.currency == local.currency:
            total += hour.local
            continue
        amount = local.amount(Decimal(hour.usd), hour.hour_s)
        if amount is None:
            return None
        total += float(amount)
    return total


def _totals(days: Sequence[_Day]) -> dict[str, Any]:
    costs = [day.cost for day in days if day.cost is not None]
    incomes = [day.income for day in days if day.income is not None]
    cost_usd = cost_local = net_usd = net_local = None
    if costs and not any(day.cost is None and day.lacking for day in days):
        cost_usd = sum(usd for usd, _ in costs)
        cost_local = _sum([own for _, own in costs])
    if cost_usd is not None and incomes and not any(day.lacking for day in days):
        net_usd = float(sum(usd for usd, _ in incomes)) - cost_usd
        income_local = _sum([None if own is None else float(own) for _, own in incomes])
        net_local = None if income_local is None or cost_local is None else income_local - cost_local
    return {
        "running_cost_usd_24h": cost_usd,
        "net_usd_24h": net_usd,
        "running_cost_24h_local": cost_local,
        "net_24h_local": net_local,
    }


def _sum(amounts: Sequence[float | None]) -> float | None:
    """None as soon as one is not known."""
    known = [one for one in amounts if one is not None]
    return sum(known) if len(known) == len(amounts) else None
