"""Tables of earned money after it was earned: where it stands, what the networks say of it, what was exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Console

from .parts import amount_text, new_table, print_line, print_table, span_text, usd_text

_STANDINGS = {
    "held $": "held_usd",
    "payable $": "payable_usd",
    "at risk $": "at_risk_usd",
    "paid $": "paid_usd",
    "wallet $": "wallet_usd",
}


def standings(console: Console, data: Mapping[str, Any]) -> None:
    """Where the money that was earned stands, where any network tells; the columns that one of them knows."""
    told = {name: key for name, key in _STANDINGS.items() if data["totals"][key] is not None}
    if not told:
        return
    table = new_table("Where earned money stands")
    table.add_column("node", overflow="fold", min_width=8)
    for name in told:
        table.add_column(name, justify="right")
    for node in data["nodes"]:
        if any(node[key] is not None for key in told.values()):
            table.add_row(node["node"], *(usd_text(node[key]) for key in told.values()))
    table.add_section()
    table.add_row("total", *(usd_text(data["totals"][key]) for key in told.values()))
    print_table(console, table)


def history(console: Console, rows: Sequence[Mapping[str, Any]], by: str) -> None:
    """What was earned per span, whose prices made USD of it, and what has none."""
    if not rows:
        print_line(console, "Nothing earned is known yet.")
        return
    own = rows[0]["local_currency"]
    table = new_table("Earned")
    who = next((name for name in ("node", "protocol", "host") if rows[0][name] is not None), None)
    values = {"$": "usd"} | ({} if own == "USD" else {own: "value_local"})
    for name in ("hour, UTC" if by == "hour" else by, *([who] if who else []), "amount", *values, "quality"):
        table.add_column(name, justify="right" if name in ("amount", *values) else "left", overflow="fold")
    for row in rows:
        span = row["hour_start"][:16].replace("T", " ") if by == "hour" else row[by]
        cells = [span, *([row[who]] if who else []), f"{amount_text(row['amount'])} {row['currency']}"]
        table.add_row(*cells, *(usd_text(row[key]) for key in values.values()), row["quality"])
    print_table(console, table)
    for currency in _currencies(rows):
        _prices(console, currency, [row for row in rows if row["currency"] == currency])
    without_rate = sum(row["usd_without_rate"] for row in rows)
    if without_rate:
        print_line(console, f"{usd_text(without_rate)} USD has no {own} rate of its hour and is not in {own}.")


def _prices(console: Console, currency: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The prices of one currency over all rows, and how much of it has none."""
    priced = [row for row in rows if row["price_age_s"] is not None]
    if priced:
        low = min(row["usd_per_unit_min"] for row in priced)
        high = max(row["usd_per_unit_max"] for row in priced)
        sources = sorted({source for row in priced for source in row["price_source"].split(", ")})
        age = span_text(max(row["price_age_s"] for row in priced))
        units = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        told = f"1 {currency} = {units} USD ({', '.join(sources)})"
        print_line(console, f"{told}, each seen at most {age} before the end of the hour that it values.")
    unpriced = sum((Decimal(row["unpriced_amount"]) for row in rows), Decimal(0))
    if unpriced:
        print_line(console, f"{amount_text(f'{unpriced:f}')} {currency} has no price and is not in $.")


def reconciliation(console: Console, data: Mapping[str, Any]) -> None:
    """Our sum of each settled month beside the network's, why they differ, and what was said beforehand."""
    if not data["reconciliation"]:
        print_line(console, "No network has settled a month yet.")
    for currency in _currencies(data["reconciliation"]):
        _compared(console, currency, [one for one in data["reconciliation"] if one["currency"] == currency])
    said = [one for one in data["scorecard"] if any(_is_said(day) for day in one["said"])]
    for currency in _currencies(said):
        _scored(console, currency, [one for one in said if one["currency"] == currency])
    if data["scorecard"] and not said:
        print_line(console, "Of the months that are over nothing was said beforehand.")


def _compared(console: Console, currency: str, months: Sequence[Mapping[str, Any]]) -> None:
    table = new_table(f"Settled months: our hours and the network's statement, in {currency}")
    statement = new_table(f"The statements, in {currency}")
    for one, names in (
        (table, ("ours", "network", "difference", "%", "unexplained")),
        (statement, ("earned", "held", "returned", "payable", "paid")),
    ):
        one.add_column("month")
        one.add_column("node", overflow="fold", min_width=8)
        for name in names:
            one.add_column(name, justify="right")
    for one in months:
        unexplained = {"agrees": "agrees", "not_read": "not read"}.get(one["status"]) or _four(one["unexplained"])
        ours, network, difference = (_four(one[name]) for name in ("ours", "network", "difference"))
        percent = _percent(one["difference_pct"])
        table.add_row(one["month"], one["node"], ours, network, difference, percent, unexplained)
        told = (_four(one[name]) for name in ("earned", "held", "returned", "payable", "paid"))
        statement.add_row(one["month"], one["node"], *told)
    print_table(console, table)
    for one in months:
        for why in one["explanations"]:
            if why["kind"] not in ("agrees", "not_read"):
                print_line(console, f"{one['month']} {one['node']}: {why['detail']}")
    if any(one["status"] == "not_read" for one in months):
        print_line(console, "not read: no hour of this month is known here.")
    print_table(console, statement)
    print_line(console, "network is earned less held; returned was held in earlier months and is paid with this one.")


def _scored(console: Console, currency: str, months: Sequence[Mapping[str, Any]]) -> None:
    table = new_table(f"What was said of the month, and what came, in {currency}")
    table.add_column("month, node", overflow="fold")
    table.add_column("")
    for name in (*(f"day {day['day']}" for day in months[0]["said"]), "network", "paid"):
        table.add_column(name, justify="right")
    for one in months:
        said = ("\n".join(_opinion(day)) for day in one["said"])
        table.add_row(f"{one['month']}\n{one['node']}", _OPINION, *said, _two(one["network"]), _two(one["paid"]))
        table.add_section()
    print_table(console, table)
    print_line(console, "range: 80 %; off: what we said against network; dashboard: what the node itself expected.")


_OPINION = "we said\nrange\noff %\ndashboard"


def _opinion(said: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """What was said on one day, in the order of ``_OPINION``."""
    band = "-" if said["lo80"] is None else f"{_two(said['lo80'])}–{_two(said['hi80'])}"
    return _two(said["mean"]), band, _percent(said["off_pct"]), _two(said["dashboard"])


def _is_said(day: Mapping[str, Any]) -> bool:
    return day["mean"] is not None or day["dashboard"] is not None


def _currencies(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({row["currency"] for row in rows})


def exported(console: Console, data: Mapping[str, Any]) -> None:
    """Where the file is."""
    print_line(console, f"wrote {data['rows']} rows to {data['paths'][0]}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _four(amount: str | None) -> str:
    return "-" if amount is None else f"{Decimal(amount):,.4f}"


def _two(amount: str | None) -> str:
    return usd_text(None if amount is None else float(amount))
