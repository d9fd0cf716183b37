"""What power takes of the income, and the owner's own money, beside the USD of ``status``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console

from .parts import print_line, usd_text


def total_rows(totals: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Rows under the total: name, today, 24 h, 30 d. Only of a day it is known what power took."""
    yield "net", "", _or_unknown(totals["net_usd_24h"]), ""
    currency = totals["local_currency"]
    if currency not in (None, "USD"):
        spans = [usd_text(totals[key]) for key in ("today_local", "last_24h_local", "last_30d_local")]
        yield f"total {currency}", spans[0], spans[1], spans[2]
        yield f"net {currency}", "", _or_unknown(totals["net_24h_local"]), ""


def hosts(console: Console, data: Mapping[str, Any]) -> None:
    """A line for each machine: its power and who says so, what that cost in a day, what is left."""
    for host in data["hosts"]:
        drawn = "power unknown" if host["watts"] is None else f"{host['watts']:.0f} W ({host['watts_source']})"
        cost, net = host["running_cost_usd_24h"], host["net_usd_24h"]
        paid = "" if cost is None else f", {usd_text(cost)} USD of power in 24 h"
        left = host["note"] or f"net {usd_text(net)} USD"
        print_line(console, f"{host['host']}: {drawn}{paid}, {left}")


def _or_unknown(amount: float | None) -> str:
    return "unknown" if amount is None else usd_text(amount)
