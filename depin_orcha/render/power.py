"""What power takes of the income, and the owner's own money, beside the USD of ``status``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from .parts import new_table, print_line, print_table, usd_text

_LOCAL = ("today_local", "last_24h_local", "last_30d_local")


def net_row(net: float | None) -> tuple[str, str, str, str]:
    """The row under a total: name, today, 24 h, 30 d. Only of a day it is known what power took."""
    return "net", "", "unknown" if net is None else usd_text(net), ""


def own_money(console: Console, data: Mapping[str, Any]) -> None:
    """The same in the money that the owner counts in, where that is not USD."""
    totals = data["totals"]
    currency = totals["local_currency"]
    if currency in (None, "USD"):
        return
    table = new_table(f"The same in {currency}")
    table.add_column("node", overflow="fold", min_width=8)
    for name in ("today", "24 h", "30 d"):
        table.add_column(name, justify="right")
    for node in data["nodes"]:
        table.add_row(node["node"], *(usd_text(node[key]) for key in _LOCAL))
    table.add_section()
    table.add_row("total", *(usd_text(totals[key]) for key in _LOCAL))
    table.add_row(*net_row(totals["net_24h_local"]))
    print_table(console, table)


def hosts(console: Console, data: Mapping[str, Any]) -> None:
    """A line for each machine: its power and who says so, what that cost in a day, what is left."""
    for host in data["hosts"]:
        drawn = "power unknown" if host["watts"] is None else f"{host['watts']:.0f} W ({host['watts_source']})"
        cost, net = host["running_cost_usd_24h"], host["net_usd_24h"]
        paid = "" if cost is None else f", {usd_text(cost)} USD of power in 24 h"
        left = host["note"] or f"net {usd_text(net)} USD"
        print_line(console, f"{host['host']}: {drawn}{paid}, {left}")
