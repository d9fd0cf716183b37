"""``verdict``: what each node and each machine brings and costs in a month, and whether it is worth its power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .asof import AsOf
from .cycle import Job
from .economics.verdicts import MONTH_H
from .local import LocalMoney
from .monthly import DAYS, host_month, month_of, node_month
from .roster import first_of_account
from .verdict_words import Judged, Money, headline, host_why, node_why

NOTHING: dict[str, Any] = {
    "simulated": False,
    "days": DAYS,
    "month_h": MONTH_H,
    "currency": None,
    "usd_per_currency": None,
    "usd_per_kwh": None,
    "reason": "no node is known yet",
    "hosts": [],
    "nodes": [],
}
"""The same for a database that does not exist yet."""


def verdict(job: Job, known: AsOf) -> dict[str, Any]:
    """``data`` of the verb: machines and nodes, the money they are counted in, and one sentence for all."""
    month = month_of(job, known)
    options = job.config.nodes
    booked = first_of_account({name: (one.protocol, one.account) for name, one in options.items()})
    stored = {node.name: node for node in known.nodes()}
    host_of = {name: one.host for name, one in options.items()}
    host_of |= {name: node.host for name, node in stored.items() if name not in host_of}
    nodes: dict[str, Judged] = {}
    for name, host in host_of.items():
        if name in stored:
            nodes[name] = node_month(month, name, stored[name].protocol, booked)
        else:
            nodes[name] = Judged(name, options[name].protocol, lacks=["it was never read"])
        nodes[name].host = host
    # What left the configuration more than a month ago is nobody's question any more.
    nodes = {name: one for name, one in nodes.items() if name in options or one.hours}
    machines: dict[str, Judged] = {}
    for host in dict.fromkeys(one.host for name, one in nodes.items() if job.wanted(name)):
        members = [one for one in nodes.values() if one.host == host]
        machines[host] = host_month(month, host, members, _torn(host, host_of, booked))
    shown = [one for name, one in nodes.items() if job.wanted(name)]
    data = _document(job, month.usd_per_kwh, LocalMoney(known), machines, nodes, shown)
    return data | {"simulated": known.meta("simulated") is not None}


def _torn(host: str, host_of: Mapping[str, str], booked: Mapping[str, str]) -> list[str]:
    """The nodes of a machine whose account earns on another machine too."""
    apart = [(name, first) for name, first in booked.items() if host_of[name] != host_of[first]]
    return sorted({one for pair in apart for one in pair if host_of[one] == host})


def _document(
    job: Job,
    usd_per_kwh: float | None,
    local: LocalMoney,
    machines: Mapping[str, Judged],
    nodes: Mapping[str, Judged],
    shown: Sequence[Judged],
) -> dict[str, Any]:
    worth = 1.0 if local.currency == "USD" else None if local.latest is None else float(local.latest.usd_per_unit)
    money = Money("USD", 1.0) if worth is None else Money(local.currency, worth)
    rows: list[dict[str, Any]] = []
    for host, one in machines.items():
        members, always_on = [node for node in nodes.values() if node.host == host], job.config.host(host).always_on
        why = host_why(one, members, money, always_on=always_on)
        rows.append({"host": host} | _row(one, worth) | {"always_on": always_on, "why": why})
    return {
        "days": DAYS,
        "month_h": MONTH_H,
        "currency": local.currency,
        "usd_per_currency": worth,
        "usd_per_kwh": usd_per_kwh,
        "reason": headline(list(machines.values()), shown, money),
        "hosts": rows,
        "nodes": [
            {"node": one.name, "host": one.host, "protocol": one.protocol}
            | _row(one, worth)
            | {"why": node_why(one, money)}
            for one in shown
        ],
    }


def _row(one: Judged, usd_per_local: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {}
    parts = {"income": one.income, "running_cost": one.cost, "net": one.net}
    for unit, worth in (("usd", 1.0), ("local", usd_per_local)):
        for name, part in parts.items():
            known = part is not None and worth is not None
            row[f"{name}_{unit}_month"] = part.times(MONTH_H / worth).document() if part and known and worth else None
    return row | {
        "watts": one.watts,
        "watts_source": one.watts_source or None,
        "known_hours": one.hours,
        "known_days": one.days,
        "break_even": _break_even(one),
        "held_usd": one.held_usd,
        "at_risk_usd": one.at_risk_usd,
        "evidence": one.evidence,
        "verdict": one.word,
        "pause_hours": list(one.dear.hours) if one.dear else [],
        "saved_usd_month": one.dear.saved_usd_month.document() if one.dear else None,
    }


def _break_even(one: Judged) -> dict[str, float | None]:
    """The price of a kWh, and of its only token, at which nothing is left of the income; null: there is none."""
    per_kwh = per_token = None
    if one.income is not None and one.watts:
        per_kwh = one.income.mean / (one.watts / 1000)
    paid = [(amount, worth) for amount, worth in one.tokens.values() if amount > 0 and worth > 0]
    if one.net is not None and len(paid) == 1:
        ((amount, worth),) = paid
        per_token = max(worth - one.net.mean / amount, 0.0)
    return {"usd_per_kwh": per_kwh, "usd_per_token": per_token}
