"""``status``: what every node earned, how it is, what was decided; from the database alone, with light imports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from . import alarms, net_income, restarts, standings
from .asof import AsOf, EarnedHour, Node
from .errors import FailureKind
from .heal import Circuit
from .local import LocalMoney
from .net_income import HostIncome
from .roster import NodeConfig
from .scoring import ROLLING_DAYS, Rolling, rolling
from .settled import Receipt, receipts
from .timefmt import rfc3339
from .types import DAY_S, DECIMALS, HOUR_S, decimal_text
from .values import NO_MONEY, SHOWN_S, TESTNET, unit_price

DAYS_SHOWN = 30
_POOR_COVERAGE = 0.7
"""Below this, an 80 % band is not what it says."""
_LOCAL = ("today_local", "last_24h_local", "last_30d_local")


@dataclass(slots=True)
class _Sums:
    """Earnings of one node in one currency over the spans that status shows."""

    today: Decimal = Decimal(0)
    last_24h: Decimal = Decimal(0)
    last_30d: Decimal = Decimal(0)


@dataclass(slots=True)
class _Usd:
    """USD over the spans, and the hours that are known; an hour counts when all of its money has a price."""

    today: Decimal | None = None
    last_24h: Decimal | None = None
    last_30d: Decimal | None = None
    hours_24h: set[int] = field(default_factory=set[int])
    hours_30d: set[int] = field(default_factory=set[int])
    unpriced: set[int] = field(default_factory=set[int])
    by_hour: dict[int, Decimal] = field(default_factory=dict[int, Decimal])
    money_unpriced: set[int] = field(default_factory=set[int])


def view(known: AsOf, configured: Iterable[NodeConfig], max_age_s: int, *, only: frozenset[str]) -> dict[str, Any]:
    """The ``data`` of a status document: configured nodes first, then those only the database knows."""
    stored = {node.name: node for node in known.nodes()}
    everyone = list(configured)
    names = {node.name for node in everyone}
    everyone += [
        NodeConfig(one.name, one.protocol, one.host, one.source) for one in stored.values() if one.name not in names
    ]
    first: dict[str, str] = {}
    booked_on = {node.name: first.setdefault(node.source, node.name) for node in everyone}
    order = [node for node in everyone if not only or node.name in only]
    hours: dict[str, list[EarnedHour]] = {}
    for hour in known.hours(known.now_s - DAYS_SHOWN * DAY_S):
        hours.setdefault(booked_on[hour.node], []).append(hour)
    members: dict[str, list[str]] = {}
    for name, shown_on in booked_on.items():
        members.setdefault(shown_on, []).append(name)
    received: dict[str, list[Receipt]] = {}
    for one in receipts(known):
        received.setdefault(booked_on[one.node.name], []).append(one)
    paused = {pause.node for pause in known.pauses()}
    local = LocalMoney(known, known.now_s - DAYS_SHOWN * DAY_S)
    context = _Context(
        known,
        local,
        max_age_s,
        paused,
        known.forecasts(),
        rolling(known),
        _simulated(known),
        names,
        booked_on,
        members,
        received,
        {},
        {name: one.reason for name, one in restarts.breakers(known).items() if one.circuit is Circuit.GIVEN_UP},
    )
    nodes = [_node(context, node, stored.get(node.name), hours.get(node.name, [])) for node in order]
    plan = known.plan()
    hosts, money = _money(context, order, {node.host for node in everyone if node not in order})
    return {
        "nodes": nodes,
        "hosts": hosts,
        "totals": _totals(nodes) | money,
        "plan": None
        if plan is None
        else {
            "plan_id": plan.plan_id,
            "made_at": rfc3339(plan.made_s),
            "expires_at": rfc3339(plan.expires_s),
            "decision": plan.decision,
            "reason": plan.reason,
        },
        "runs": {
            command: {
                "started_at": rfc3339(started_s),
                "finished_at": rfc3339(finished_s) if finished_s is not None else None,
                "exit_code": code,
            }
            for command, (started_s, finished_s, code) in known.runs().items()
        },
        "anomalies": [
            alarms.document(one)
            for one in alarms.lasting(known)
            if one.node in names and (not only or one.node in only)
        ],
        "paused": [
            {
                "node": pause.node,
                "since": rfc3339(pause.paused_s),
                "until": None if pause.until_s is None else rfc3339(pause.until_s),
            }
            for pause in known.pauses()
        ],
    }


@dataclass(frozen=True, slots=True)
class _Context:
    known: AsOf
    local: LocalMoney
    max_age_s: int
    paused: set[str | None]
    forecasts: Mapping[str, Mapping[str, Any]]
    scores: Mapping[str, Rolling]
    simulated: bool
    configured: set[str]
    booked_on: Mapping[str, str]
    """Node -> the one that shows the income of its source: the first in the file."""
    members: Mapping[str, list[str]]
    """Such a node -> the nodes of its source, itself among them."""
    received: Mapping[str, list[Receipt]]
    """Such a node -> the payouts of these."""
    usd: dict[str, _Usd]
    """Node -> its USD, as soon as it is known."""
    given_up: Mapping[str, str]
    """Node that is restarted no more -> why."""


def _simulated(known: AsOf) -> bool:
    return known.meta("simulated") is not None


def empty_view(configured: Iterable[NodeConfig]) -> dict[str, Any]:
    """The same for a database that does not exist yet."""
    nodes = [_blank(node, configured=True) | {"notes": ["never collected"]} for node in configured]
    local = dict.fromkeys(("local_currency", "local_rate", *_LOCAL))
    totals = _totals(nodes) | local | net_income.no_totals()
    return {
        "nodes": nodes,
        "hosts": [],
        "totals": totals,
        "plan": None,
        "runs": {},
        "anomalies": [],
        "paused": [],
    }


def _money(
    context: _Context, shown: Iterable[NodeConfig], partly_hidden: set[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """``hosts[]``, and of the totals what power leaves and what it is in the owner's money."""
    local = context.local
    everything = HostIncome()
    incomes: dict[str, HostIncome] = {}
    for node in shown:
        income = incomes.setdefault(node.host, HostIncome(whole=node.host not in partly_hidden))
        if node.name in context.usd:
            usd = context.usd[node.name]
            income.add(usd.by_hour, usd.money_unpriced)
            everything.add(usd.by_hour, ())
    hosts, power = net_income.view(context.known, local, incomes)
    rate = None if local.currency == "USD" else local.latest
    told = rate and {
        "usd_per_unit": float(rate.usd_per_unit),
        "source": rate.source,
        "observed_at": rfc3339(rate.observed_s),
    }
    sums = _in_local(context, everything.usd_by_hour)
    return hosts, {"local_currency": local.currency, "local_rate": told, **sums, **power}


def _in_local(context: _Context, usd_by_hour: Mapping[int, Decimal]) -> dict[str, float | None]:
    now_s = context.known.now_s
    spans_s = (now_s // DAY_S * DAY_S, now_s - DAY_S, 0)
    return {key: _number(context.local.total(usd_by_hour, from_s)) for key, from_s in zip(_LOCAL, spans_s, strict=True)}


def _blank(node: NodeConfig, *, configured: bool) -> dict[str, Any]:
    return {
        "node": node.name,
        "host": node.host,
        "protocol": node.protocol,
        "configured": configured,
        "health": "unknown",
        "failure_kind": None,
        "reason": "never collected",
        "last_seen": None,
        "earned": [],
        "usd_today": None,
        "usd_24h": None,
        "usd_30d": None,
        **dict.fromkeys(_LOCAL),
        "known_hours_24h": 0,
        "known_hours_30d": 0,
        "held_usd": None,
        "payable_usd": None,
        "at_risk_usd": None,
        "paid_usd": None,
        "wallet_usd": None,
        "usd_per_hour_forecast": None,
        "coverage80": None,
        "allocation": {},
        "usage": {},
        "notes": [],
    }


def _node(context: _Context, node: NodeConfig, stored: Node | None, hours: list[EarnedHour]) -> dict[str, Any]:
    is_configured = node.name in context.configured or context.simulated
    row = _blank(node, configured=is_configured)
    shown_on = context.booked_on[node.name]
    if shown_on != node.name:
        reason = f"its income is booked on {shown_on}"
        return row | {"reason": reason, "notes": [reason]}
    if stored is None and not hours:
        return row | {"notes": ["never collected"]}
    known = context.known
    health, seen = known.health(node.name), known.last_seen(node.name)
    if not is_configured:
        reason = "it is in the database, but not in the configuration: nothing reads it"
        row |= {"failure_kind": FailureKind.CONFIG, "reason": reason}
    elif health is not None:
        row |= {"health": health.status, "failure_kind": health.failure_kind, "reason": health.reason}
    row["last_seen"] = rfc3339(seen.observed_s) if seen else None
    native, usd = _sum_up(context, hours)
    context.usd[node.name] = usd
    standing_usd, unpriced = standings.in_usd(known, context.members[node.name], context.received.get(node.name, ()))
    spans = zip(_in_local(context, usd.by_hour).items(), (usd.today, usd.last_24h, usd.last_30d), strict=True)
    own = {key: None if span_usd is None else amount for (key, amount), span_usd in spans}
    row["earned"] = [_earned(context, currency, sums) for currency, sums in native.items()]
    row |= {
        "usd_today": _number(usd.today),
        "usd_24h": _number(usd.last_24h),
        "usd_30d": _number(usd.last_30d),
        **own,
        "known_hours_24h": len(usd.hours_24h),
        "known_hours_30d": len(usd.hours_30d),
        **{f"{one}_usd": _number(standing_usd.get(one)) for one in standings.SHOWN},
        "usd_per_hour_forecast": _forecast(context.forecasts.get(node.name)),
        "coverage80": scores.coverage80 if (scores := context.scores.get(node.name)) else None,
    }
    usage = known.usage(node.name)
    row["allocation"] = {str(r): one.allocated for r, one in usage.items() if one.allocated is not None}
    row["usage"] = {str(r): one.used for r, one in usage.items() if one.used is not None}
    hint = health.details.get("hint") if is_configured and health is not None and health.failure_kind else None
    row["notes"] = [*([hint] if hint else []), *_notes(context, node, row, usd, hours), *unpriced]
    return row


def _sum_up(context: _Context, hours: Iterable[EarnedHour]) -> tuple[dict[str, _Sums], _Usd]:
    now_s = context.known.now_s
    today_s = now_s // DAY_S * DAY_S
    native: dict[str, _Sums] = {}
    usd = _Usd()
    for hour in hours:
        sums = native.setdefault(hour.currency, _Sums())
        value = context.known.usd(hour)
        if value is None:
            usd.unpriced.add(hour.hour_s)
            if hour.currency not in NO_MONEY:
                usd.money_unpriced.add(hour.hour_s)
        else:
            usd.by_hour[hour.hour_s] = DECIMALS.add(usd.by_hour.get(hour.hour_s, Decimal(0)), value)
        _add(sums, usd, hour, value, today_s, now_s)
    usd.hours_24h -= usd.unpriced
    usd.hours_30d -= usd.unpriced
    usd.today = _telling(usd.today, usd.unpriced, today_s)
    usd.last_24h = _telling(usd.last_24h, usd.unpriced, now_s - DAY_S)
    usd.last_30d = _telling(usd.last_30d, usd.unpriced, 0)
    return native, usd


def _telling(total: Decimal | None, unpriced: Iterable[int], from_s: int) -> Decimal | None:
    """The total, but None for a zero beside hours whose earnings have no price: it would pass for nothing earned."""
    return total if total or not any(hour_s >= from_s for hour_s in unpriced) else None


def _add(sums: _Sums, usd: _Usd, hour: EarnedHour, value: Decimal | None, today_s: int, now_s: int) -> None:
    sums.last_30d = DECIMALS.add(sums.last_30d, hour.amount)
    usd.hours_30d.add(hour.hour_s)
    if value is not None:
        usd.last_30d = DECIMALS.add(usd.last_30d or Decimal(0), value)
    if hour.hour_s >= now_s - DAY_S:
        sums.last_24h = DECIMALS.add(sums.last_24h, hour.amount)
        usd.hours_24h.add(hour.hour_s)
        if value is not None:
            usd.last_24h = DECIMALS.add(usd.last_24h or Decimal(0), value)
    if hour.hour_s >= today_s:
        sums.today = DECIMALS.add(sums.today, hour.amount)
        if value is not None:
            usd.today = DECIMALS.add(usd.today or Decimal(0), value)


def _earned(context: _Context, currency: str, sums: _Sums) -> dict[str, Any]:
    now_s = context.known.now_s
    known = context.known.price_at(currency, now_s)
    price = unit_price(currency, known, now_s)
    return {
        "currency": currency,
        "today": decimal_text(sums.today),
        "last_24h": decimal_text(sums.last_24h),
        "last_30d": decimal_text(sums.last_30d),
        "usd_per_unit": None if price is None else float(price.usd_per_unit),
        "price_source": None if price is None else price.source,
        "price_observed_at": None if price is None else rfc3339(price.observed_s),
        "stale": price is None or now_s - price.observed_s > context.max_age_s,
    }


def _forecast(forecast: Mapping[str, Any] | None) -> float | None:
    if forecast is None or forecast["unit"] != "usd_per_hour" or forecast["total"]["mean"] is None:
        return None
    return forecast["total"]["mean"] / forecast["horizon_h"]


def _notes(
    context: _Context, node: NodeConfig, row: Mapping[str, Any], usd: _Usd, hours: list[EarnedHour]
) -> Iterable[str]:
    if context.simulated:
        yield "SIMULATED"
    if None in context.paused or node.name in context.paused:
        yield "paused: collected, not acted on"
    if node.name in context.given_up:
        yield f"restarted no more: {context.given_up[node.name]}"
    if usd.unpriced:
        yield f"{len(usd.unpriced)} hours have no price, so their USD is unknown"
    if row["coverage80"] is not None and row["coverage80"] < _POOR_COVERAGE:
        yield f"its 80 % bands held only {row['coverage80']:.0%} of the hours of the last {ROLLING_DAYS} days"
    if not hours and row["last_seen"]:
        yield "no earnings known yet: the next readings will tell"
    for one in row["earned"]:
        if one["currency"] in TESTNET:
            yield f"{one['currency']} is test money, worth nothing"
        elif one["usd_per_unit"] is None:
            yield f"no price of {one['currency']} in the last {SHOWN_S // HOUR_S} h"
        elif one["stale"]:
            yield f"the price of {one['currency']} is stale"


def _totals(nodes: list[dict[str, Any]]) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    for key in ("usd_today", "usd_24h", "usd_30d", *(f"{one}_usd" for one in standings.SHOWN), "usd_per_hour_forecast"):
        values = [node[key] for node in nodes if node[key] is not None]
        totals[key] = sum(values) if values else None
    return totals


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)
