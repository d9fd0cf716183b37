"""What is expected of nodes and series, and how much that is worth, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from .parts import NARROW, amount_text, new_table, percent_text, print_anomalies, print_line, print_table, usd_text

_VOICES = 3
"""Models that a table names."""


def expected(console: Console, data: Mapping[str, Any]) -> None:
    """What is wrong; then the expected income of each node over the horizon, with its 80 % band."""
    print_anomalies(console, data["anomalies"])
    if not data["forecasts"]:
        console.print("No history yet: collect at least twice, an hour apart.")
    elif "report" in data:
        _report(console, data["report"])
        return
    else:
        _totals(console, data["forecasts"])
    if data["outlook"]:
        _outlook(console, data["outlook"])


def _totals(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    table = new_table(f"Forecast of the next {rows[0]['horizon_h']} h")
    wide = console.width >= NARROW
    more = ("model", "MASE", "history") if wide else ()
    for name in ("node", "unit", "expected", "80 % band", *more, "what it is"):
        right = name in ("expected", "80 % band", "MASE", "history")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for one in rows:
        total = one["total"]
        cells = [one["node"], "USD" if one["unit"] == "usd_per_hour" else one["currency"], usd_text(total["mean"])]
        cells.append(f"{usd_text(total['lo80'])} to {usd_text(total['hi80'])}")
        if wide:
            mase = "-" if one["mase"] is None else f"{one['mase']:.2f}"
            cells += [one["model"] or "-", mase, f"{one['hours_of_history']:g} h"]
        table.add_row(*cells, one["type"] + (f" ({', '.join(one['flags'])})" if one["flags"] else ""))
    print_table(console, table)
    for one in rows:
        if "low_history" in one["flags"]:
            print_line(console, f"{one['node']}: {one['reason']}")


def _outlook(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """What the month brings, and how long until something is full or paid."""
    table = new_table("Where that leads")
    for name in ("node", "what", "expected", "80 % range"):
        right = name in ("expected", "80 % range")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    because: dict[str, list[str]] = {}
    for row in rows:
        mean, low, high = _range_text(row)
        span = "-" if low == high == "-" else f"{low} to {high}"
        table.add_row(row["node"], _WHAT[row["kind"]], mean, span if mean != span else "")
        because.setdefault(row["why"], []).append(row["node"])
    print_table(console, table)
    for why, nodes in because.items():
        print_line(console, f"{', '.join(nodes)}: {why}")


_WHAT = {
    "month_end": "income of this month",
    "disk_full": "days until the disk is full",
    "payout": "days to the payout",
    "uncollected_limit": "days to the uncollected limit",
}


def _range_text(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Expected, least and most, as words where there is no number."""
    if row["answer"] == "cannot_tell":
        return "cannot tell yet", "-", "-"
    if row["days"] is not None:
        mean, low, high = (row["days"][key] for key in ("mean", "lo80", "hi80"))
        told = {"not_growing": "not growing", "reached": "now"}.get(row["answer"], _days_text(mean))
        return told, _days_text(low), _days_text(high)
    if row["usd"] is not None:
        mean, low, high = (usd_text(row["usd"][key]) for key in ("mean", "lo80", "hi80"))
        return f"{mean} USD", low, high
    mean, low, high = (amount_text(row["amount"][key]) for key in ("mean", "lo80", "hi80"))
    return f"{mean} {row['amount']['currency']}", low, high


def _days_text(days: float | None) -> str:
    """Days for reading; what takes more than ten years never happens."""
    if days is None:
        return "never"
    return f"{days:.1f}" if days < 10 else f"{days:.0f}"


def of_series(console: Console, data: Mapping[str, Any]) -> None:
    """The same for series that came in a file."""
    table = new_table("Forecasts")
    for name in ("series", "starts", "total", "80 % band", "model", "MASE", "reason"):
        table.add_column(name, overflow="fold")
    for one in data["forecasts"]:
        total = one["total"]
        low, high = total["lo"].get("80"), total["hi"].get("80")
        mase = "-" if one["mase"] is None else f"{one['mase']:.2f}"
        table.add_row(
            one["id"],
            one["start"],
            usd_text(total["mean"]),
            f"{usd_text(low)} to {usd_text(high)}",
            one["model"] or "-",
            mase,
            one["reason"],
        )
    print_table(console, table)


def _report(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """How each series is forecast and how that went: in backtests, and as published."""
    table = new_table("Forecasts so far")
    for name in ("node", "type", "history", "MASE", "WAPE", "scored", "in 80 %", "in 95 %", "models"):
        right = name not in ("node", "type", "models")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(
            row["node"],
            row["type"],
            f"{row['hours_of_history']:g} h",
            "-" if row["backtest_mase"] is None else f"{row['backtest_mase']:.2f}",
            percent_text(row["backtest_wape"]),
            f"{row['scored_hours']} h",
            percent_text(row["coverage80"]),
            percent_text(row["coverage95"]),
            _voices(row["models"]),
        )
    print_table(console, table)
    for row in rows:
        print_line(console, f"{row['node']}: {row['verdict']}")
    print_line(console, "MASE and WAPE: of backtests. In 80 %, in 95 %: of published hours that have come true.")


def _voices(models: Mapping[str, float]) -> str:
    weights = sorted(models.items(), key=lambda pair: -pair[1])
    named = [f"{name} {weight:.0%}" for name, weight in weights[:_VOICES]]
    return ", ".join(named + [f"{len(weights) - _VOICES} more"] * (len(weights) > _VOICES)) or "-"


def accuracy(console: Console, data: Mapping[str, Any]) -> None:
    """How forecasts of past days would have done, beside those that are simpler."""
    if not data["forecast_accuracy"]:
        console.print("Nothing can be replayed yet: that takes more than a day of history.")
        return
    table = new_table("Past days forecast again")
    wide = console.width >= NARROW
    counts = ("days", "hours") if wide else ()
    for name in ("node", "forecaster", *counts, "MASE", "WAPE", "in 80 %", "in 95 %", "day in 80 %"):
        table.add_column(name, justify="left" if name in ("node", "forecaster") else "right", overflow="fold")
    for node in data["forecast_accuracy"]:
        held = [percent_text(node[key]) for key in ("coverage80", "coverage95", "total_coverage80")]
        table.add_row(node["node"], "published way", *_errors(node, wide), *held)
        best = [one for one in node["models"] if one["name"] not in _REFERENCES][:_VOICES]
        for one in [*best, *(one for one in node["models"] if one["name"] in _REFERENCES)]:
            table.add_row("", one["name"], *_errors(one, wide), "", "", "")
    print_table(console, table)
    print_line(console, "MASE, WAPE: errors of medians, beside seasonal naive and earnings; --json has all models.")
    value = data["forecast_value"]
    worth = f"; against seasonal naive that was worth {usd_text(value['usd'])} USD" if value["days_different"] else ""
    print_line(console, f"plans: {value['why']}{worth}")


_REFERENCES = ("seasonal_naive", "zero")


def _errors(row: Mapping[str, Any], wide: bool) -> list[str]:
    mase = "-" if row["mase"] is None else f"{row['mase']:.2f}"
    counts = [str(row["origins"]), str(row["hours"])] if wide else []
    return [*counts, mase, percent_text(row["wape"])]
