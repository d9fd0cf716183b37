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
    for name in (by, *([who] if who else []), "amount", "currency", *values, "quality"):
        table.add_column(name, justify="right" if name in ("amount", *values) else "left", overflow="fold")
    for row in rows:
        span = row["hour_start" if by == "hour" else by]
        cells = [span, *([row[who]] if who else []), amount_text(row["amount"]), row["currency"]]
        table.add_row(*cells, *(usd_text(row[key]) for key in values.values()), row["quality"])
    print_table(console, table)
    for currency in sorted({row["currency"] for row in rows}):
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
    else:
        _compared(console, data)
    if data["scorecard"]:
        _scored(console, data)


def _compared(console: Console, data: Mapping[str, Any]) -> None:
    table = new_table("Settled months")
    columns = ("month", "node", "ours", "network", "difference", "%", "held", "payable", "paid", "currency")
    for name in columns:
        is_text = name in ("month", "node", "currency")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for one in data["reconciliation"]:
        amounts = [amount_text(one[name]) for name in ("ours", "network", "difference")]
        rest = [amount_text(one[name]) for name in ("held", "payable", "paid")]
        table.add_row(one["month"], one["node"], *amounts, _percent(one["difference_pct"]), *rest, one["currency"])
    print_table(console, table)
    for one in data["reconciliation"]:
        for why in one["explanations"]:
            print_line(console, f"{one['month']} {one['node']}: {why['detail']}")


def _scored(console: Console, data: Mapping[str, Any]) -> None:
    table = new_table("What was said of the month, and what came")
    for name in ("month", "node", "day", "we said", "80 % band", "off %", "dashboard", "network", "paid", "currency"):
        is_text = name in ("month", "node", "currency")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold")
    for one in data["scorecard"]:
        for said in one["said"]:
            band = "-" if said["lo80"] is None else f"{_two(said['lo80'])} to {_two(said['hi80'])}"
            opinion = (str(said["day"]), _two(said["mean"]), band, _percent(said["off_pct"]), _two(said["dashboard"]))
            came = (_two(one["network"]), _two(one["paid"]))
            table.add_row(one["month"], one["node"], *opinion, *came, one["currency"])
    print_table(console, table)


def exported(console: Console, data: Mapping[str, Any]) -> None:
    """Where the file is."""
    print_line(console, f"wrote {data['rows']} rows to {data['paths'][0]}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _two(amount: str | None) -> str:
    return usd_text(None if amount is None else float(amount))
