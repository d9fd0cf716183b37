"""What each node and each machine earned, drew and cost in the hours of the last month, per hour.

From the completed hours of the last 30 days whose income is known: every hour at what a token and a kWh are worth
today, days as the blocks of the statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from . import energy, standings
from .adapters import NodeOptions, adapter_class
from .asof import AsOf
from .costs import BY_HAND
from .cycle import Job
from .economics.estimate import Estimate, by_day, total
from .economics.verdicts import (
    by_local_hour,
    dear_hours,
    first_hours,
    judged,
    per_busy_hour,
)
from .metering import usd_per_kwh_by_hour
from .movable import rules
from .types import DAY_S, HOUR_S, Quality
from .values import NO_MONEY, unit_price
from .verdict_words import Judged
from .workload import busy_by_hour, usual_agreement_h

DAYS = 30


@dataclass(frozen=True, slots=True)
class Month:
    """The hours that are looked at, and what a kWh costs in each of them in USD, as far as known."""

    job: Job
    known: AsOf
    since_s: int
    tariff: Mapping[int, float]
    zone: ZoneInfo | None
    day_ahead: list[float] | None
    """What a kWh costs by local hour of the day."""

    @property
    def usd_per_kwh(self) -> float | None:
        return sum(self.tariff.values()) / len(self.tariff) if self.tariff else None


def month_of(job: Job, known: AsOf) -> Month:
    """The last 30 days before the instant of the job."""
    costs = job.config.settings.costs
    zone = ZoneInfo(costs.timezone) if costs.timezone else None
    hours = first_hours(job.now_s, DAYS * 24)
    past = usd_per_kwh_by_hour(job, known, hours[0], len(hours))
    coming = usd_per_kwh_by_hour(job, known, hours[-1] + HOUR_S, 24)
    by_hour: list[float] = []
    for hour in range(24):
        found = [
            price
            for i, price in enumerate(coming)
            if price is not None and datetime.fromtimestamp(hours[-1] + (i + 1) * HOUR_S, zone).hour == hour
        ]
        by_hour += found[:1]
    tariff = {hour_s: price for hour_s, price in zip(hours, past, strict=True) if price is not None}
    return Month(job, known, hours[0], tariff, zone, by_hour if len(by_hour) == 24 else None)


def node_month(month: Month, name: str, protocol: str, booked: Mapping[str, str]) -> Judged:
    """What is known of a stored node; ``booked``: configured node -> the one that shows its income."""
    one = Judged(name, protocol)
    options = month.job.config.nodes.get(name)
    first = booked.get(name, name)
    usd_by_hour: dict[int, float] = {}
    if first != name:
        one.booked_on = first
        one.lacks.append(f"its income is booked on {first}")
    else:
        usd_by_hour = _income(month, one)
    members = [other for other, on in booked.items() if on == first] or [name]
    told, _ = standings.in_usd(month.known, members, ())
    one.held_usd, one.at_risk_usd = (float(told[key]) if key in told else None for key in ("held", "at_risk"))
    resource = str(next(iter((options and options.uses_per_unit) or adapter_class(protocol).uses_per_unit), ""))
    _power(month, one, options, busy_by_hour(month.known, name, resource, month.since_s), usd_by_hour)
    return one


def _income(month: Month, one: Judged) -> dict[int, float]:
    """Fill in what a node earns; returns it by hour."""
    known, now_s = month.known, month.known.now_s
    usd_by_hour: dict[int, float] = {}
    amounts: dict[str, tuple[float, float]] = {}
    certain = unpriced = 0
    for hour in known.hours(month.since_s, one.name):
        if hour.hour_s + HOUR_S > now_s:
            continue
        price = unit_price(hour.currency, known.price_at(hour.currency, now_s), now_s)
        if price is None and hour.currency not in NO_MONEY and hour.amount:
            unpriced += 1
            continue
        usd = 0.0 if price is None else float(hour.amount * price.usd_per_unit)
        usd_by_hour[hour.hour_s] = usd_by_hour.get(hour.hour_s, 0.0) + usd
        before, _ = amounts.get(hour.currency, (0.0, 0.0))
        amounts[hour.currency] = before + float(hour.amount), 0.0 if price is None else float(price.usd_per_unit)
        certain += hour.quality is Quality.MEASURED
    one.hours, one.days = len(usd_by_hour), len({hour_s // DAY_S for hour_s in usd_by_hour})
    if unpriced:
        one.lacks.append(f"{unpriced} of its hours have no price of today")
    elif not usd_by_hour:
        one.lacks.append("no hour of its income is known")
    else:
        one.income = by_day(usd_by_hour)
        one.tokens = {
            currency: (amount / len(usd_by_hour), worth)
            for currency, (amount, worth) in amounts.items()
            if currency != "USD"
        }
        points = amounts.keys() <= NO_MONEY and not any(usd_by_hour.values())
        one.evidence = "contract" if points else "measured" if 2 * certain >= one.hours else "prior"
    return usd_by_hour


def _power(
    month: Month, one: Judged, options: NodeOptions | None, busy: Mapping[int, float], usd_by_hour: Mapping[int, float]
) -> None:
    """Fill in what a node draws of its own, what that costs, and the hours at which it is too dear."""
    own = month.job.config.host(options.host if options else "local")
    if options is None or options.busy_watts is None:
        metered = own.rapl or own.has_url or own.idle_watts is not None
        one.part_of_idle = not own.always_on and metered
        if one.part_of_idle:
            one.watts, one.cost, one.watts_source = 0.0, Estimate(0.0), "part of the machine's"
        else:
            one.lacks.append("its own power is not known (busy_watts)")
        return
    worked = by_day(busy)
    if worked is None:
        one.lacks.append("when it worked is not known")
        return
    one.watts, one.watts_source = worked.mean * options.busy_watts, BY_HAND
    priced = {hour_s: share * month.tariff[hour_s] for hour_s, share in busy.items() if hour_s in month.tariff}
    cost = by_day(priced)
    if cost is None:
        one.lacks.append("no tariff is known (electricity_per_kwh of costs)")
        return
    one.cost = cost.times(options.busy_watts / 1000)
    if rules(one.protocol).pausable and month.day_ahead is not None:
        _dear(month, one, options.busy_watts, busy, usd_by_hour)


def _dear(
    month: Month, one: Judged, busy_watts: float, busy: Mapping[int, float], usd_by_hour: Mapping[int, float]
) -> None:
    brings = per_busy_hour(usd_by_hour, busy)
    local = {hour_s: datetime.fromtimestamp(hour_s, month.zone).hour for hour_s in busy}
    shares = by_local_hour(busy, local)
    if brings is None or month.day_ahead is None or judged(brings, one.days) == "cannot_tell":
        return
    length_h = usual_agreement_h(month.known, one.name, month.since_s)
    known_shares = [0.0 if share is None else share for share in shares]
    dear = dear_hours(brings, busy_watts, month.day_ahead, length_h, known_shares)
    if dear is not None and not (one.word == "stop" and one.still_loses(dear.saved_usd_month)):
        one.dear = dear


def host_month(month: Month, name: str, members: list[Judged], torn: list[str]) -> Judged:
    """What is known of a machine with these nodes; ``torn``: those whose income is also that of other machines."""
    own = month.job.config.host(name)
    one = Judged(name, host=name)
    unknown = [node.name for node in members if node.income is None and node.booked_on is None]
    incomes = [node.income for node in members if node.income is not None]
    if torn:
        one.lacks.append(f"{', '.join(torn)} shares its income with another machine")
    elif unknown:
        one.lacks.append(f"what {', '.join(unknown)} earns is not known")
    elif incomes:
        one.income = total(incomes)
    earning = [node for node in members if node.income is not None]
    one.days, one.hours = (min((getattr(node, key) for node in earning), default=0) for key in ("days", "hours"))
    for node in members:
        for currency, (amount, worth) in node.tokens.items():
            one.tokens[currency] = one.tokens.get(currency, (0.0, 0.0))[0] + amount, worth
    classes = [node.evidence for node in earning]
    one.evidence = next((evidence for evidence in ("none", "prior", "measured") if evidence in classes), "contract")
    one.evidence = one.evidence if classes and one.income is not None else "none"
    drawn, source = energy.watts_by_hour(month.known, name, month.since_s)
    if drawn:
        mean = by_day(drawn)
        one.watts, one.watts_source = (mean.mean if mean else None), source
        priced = {
            hour_s: watts * month.tariff[hour_s] / 1000 for hour_s, watts in drawn.items() if hour_s in month.tariff
        }
        one.cost = by_day(priced)
    else:
        _stated_power(month, one, members, 0.0 if own.always_on else own.idle_watts)
    if one.watts is None:
        one.lacks.append("no watts are known (watts_url, rapl or idle_watts)")
    elif one.cost is None:
        one.lacks.append("no tariff is known (electricity_per_kwh of costs)")
    saved = [node.dear.saved_usd_month for node in members if node.dear is not None]
    one.pauses_save = bool(saved) and one.word == "stop" and not one.still_loses(total(saved))
    return one


def _stated_power(month: Month, one: Judged, members: list[Judged], idle_watts: float | None) -> None:
    """A machine that was never read: what the owner states of it."""
    parts = [node.watts for node in members]
    if idle_watts is None or None in parts:
        return
    one.watts, one.watts_source = idle_watts + sum(part for part in parts if part is not None), BY_HAND
    costs = [node.cost for node in members]
    usd_per_kwh = month.usd_per_kwh
    if usd_per_kwh is not None and None not in costs:
        idle = Estimate(idle_watts / 1000 * usd_per_kwh)
        one.cost = total([idle, *(cost for cost in costs if cost is not None)])
