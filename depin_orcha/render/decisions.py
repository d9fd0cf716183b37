"""``verdict`` and ``explain`` for people: short tables, and one sentence for each thing that was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from .parts import new_table, print_line, print_table

Row = Mapping[str, Any]


def verdict(console: Console, data: Row) -> None:
    """Is it worth its power: every machine, every node, and why."""
    print_line(console, f"{data['reason']}.")
    if not data["hosts"]:
        return
    unit = "usd" if data["usd_per_currency"] is None else "local"
    currency = "USD" if unit == "usd" else data["currency"]
    for title, key, rows in (("Machines", "machine", data["hosts"]), ("Nodes", "node", data["nodes"])):
        _verdicts(console, f"{title}: {currency} a month", key, rows, unit)
    for key in ("hosts", "nodes"):
        for row in data[key]:
            print_line(console, f"{row['host' if key == 'hosts' else 'node']}: {row['why']}.")
    tariff = "not known" if data["usd_per_kwh"] is None else f"{data['usd_per_kwh']:.3f} USD"
    span = f"From the last {data['days']} days, at today's prices; a month has {data['month_h']:g} h"
    print_line(
        console, f"{span}; a kWh costs {tariff}. Even at: USD per kWh at which nothing is left. - means unknown."
    )


def _verdicts(console: Console, title: str, key: str, rows: Sequence[Row], unit: str) -> None:
    table = new_table(title)
    table.add_column(key, overflow="fold", min_width=8)
    table.add_column("verdict")
    for name in ("income", "power", "net", "80 % range", "W", "even at"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        income, cost, net = (row[f"{name}_{unit}_month"] for name in ("income", "running_cost", "net"))
        even = row["break_even"]["usd_per_kwh"]
        table.add_row(
            row["host" if key == "machine" else key],
            row["verdict"].replace("_", " "),
            *(_mean(one) for one in (income, cost, net)),
            _range(net),
            "-" if row["watts"] is None else f"{row['watts']:.0f}",
            "-" if even is None else f"{even:.2f}",
        )
    print_table(console, table)


def _mean(amount: Row | None) -> str:
    return "-" if amount is None else f"{amount['mean']:.2f}"


def _range(amount: Row | None) -> str:
    known = amount is not None and amount["lo80"] is not None
    return f"{amount['lo80']:.2f} to {amount['hi80']:.2f}" if amount and known else "-"
