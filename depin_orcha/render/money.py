"""Tables of earned money after it was earned: where it stands, what the networks say of it, what was exported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from .parts import amount_text, new_table, print_line, print_table, usd_text

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
