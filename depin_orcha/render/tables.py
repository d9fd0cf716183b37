"""One function a verb: its data as tables and sentences. Meaning never rests on colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from depin_orcha.timefmt import parse_rfc3339

_STYLE = {"up": "green", "degraded": "yellow", "down": "red", "unknown": "magenta"}
_NARROW = 90


def status(console: Console, data: Mapping[str, Any], now_s: int) -> None:
    """What do I earn, is everything well, what was decided."""
    simulated = any("SIMULATED" in node["notes"] for node in data["nodes"])
    if not data["nodes"]:
        console.print("No node is known yet. Describe yours with: depin-orcha init")
        return
    table = _table("SIMULATED nodes" if simulated else "Nodes")
    wide = console.width >= _NARROW
    table.add_column("node", overflow="fold", min_width=8)
    if wide:
        table.add_column("host")
    table.add_column("health")
    for name in ("today $", "24 h $", "30 d $"):
        table.add_column(name, justify="right")
    if wide:
        table.add_column("held $", justify="right")
        table.add_column("at risk $", justify="right")
    table.add_column("forecast $/day", justify="right")
    if wide:
        table.add_column("granted", justify="right")
        table.add_column("seen", justify="right")
    for node in data["nodes"]:
        table.add_row(*_status_row(node, now_s, wide=wide))
    totals = data["totals"]
    cells = [_usd(totals[key]) for key in ("usd_today", "usd_24h", "usd_30d")]
    extra = [_usd(totals["held_usd"]), _usd(totals["at_risk_usd"])] if wide else []
    forecast = _usd(_times(totals["usd_per_hour_forecast"], 24))
    table.add_section()
    lead, tail = (["total", "", ""], ["", ""]) if wide else (["total", ""], [])
    table.add_row(*lead, *cells, *extra, forecast, *tail)
    console.print(table)
    _status_notes(console, data, now_s)


def _status_row(node: Mapping[str, Any], now_s: int, *, wide: bool) -> list[Any]:
    health = Text(node["health"], style=_STYLE.get(node["health"], ""))
    cells: list[Any] = [node["node"]]
    if wide:
        cells.append(node["host"])
    cells.append(health)
    cells += [_usd(node["usd_today"]), _usd(node["usd_24h"]), _usd(node["usd_30d"])]
    if wide:
        cells += [_usd(node["held_usd"]), _usd(node["at_risk_usd"])]
    cells.append(_usd(_times(node["usd_per_hour_forecast"], 24)))
    if wide:
        cells += [_granted(node["allocation"]), _age(node["last_seen"], now_s)]
    return cells


def _status_notes(console: Console, data: Mapping[str, Any], now_s: int) -> None:
    for node in data["nodes"]:
        if node["health"] != "up" and node["reason"]:
            _line(console, f"{node['node']}: {node['reason']}")
        for note in node["notes"]:
            if note not in ("SIMULATED", node["reason"]):
                _line(console, f"{node['node']}: {note}")
    priced = {one["currency"]: one for node in data["nodes"] for one in node["earned"] if one["currency"] != "USD"}
    for currency, one in sorted(priced.items()):
        if one["usd_per_unit"] is not None and one["price_source"] != "testnet":
            age = _age(one["price_observed_at"], now_s)
            stale = ", stale" if one["stale"] else ""
            _line(console, f"1 {currency} = {one['usd_per_unit']:.4g} USD ({one['price_source']}, {age} old{stale})")
    if data["plan"] is None:
        _line(console, "plan: none yet; make one with: depin-orcha optimize")
    else:
        plan = data["plan"]
        _line(console, f"plan {plan['plan_id']}: {plan['decision']} - {plan['reason']}")
    for pause in data["paused"]:
        until = f"until {pause['until']}" if pause["until"] else "until resumed"
        _line(console, f"paused: {pause['node'] or 'all nodes'}, {until}")
    _line(console, "USD is gross, after held amounts and shares, before power. - means unknown.")


def collect(console: Console, data: Mapping[str, Any]) -> None:
    """What each node delivered in this reading."""
    table = _table("Collected")
    for name, justify in (("node", "left"), ("health", "left"), ("earned since last", "right"), ("$", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]
    table.add_column("reason", overflow="fold")
    for node in data["nodes"]:
        earned = node["earned_since_previous"]
        status = node["health"]["status"]
        table.add_row(
            node["node"],
            Text(status, style=_STYLE.get(status, "")),
            "-" if earned is None else f"{_short(earned['amount'])} {earned['currency']}",
            "-" if earned is None else _usd(earned["usd"]),
            node["health"]["reason"],
        )
    console.print(table)


def forecast(console: Console, data: Mapping[str, Any]) -> None:
    """Expected income of each node over the horizon, with its 80 % band."""
    if not data["forecasts"]:
        console.print("No history yet: collect at least twice, an hour apart.")
        return
    table = _table(f"Forecast of the next {data['forecasts'][0]['horizon_h']} h")
    columns = ("node", "unit", "expected", "80 % band", "model", "MASE", "history", "what it is")
    for name in columns:
        table.add_column(name, justify="right" if name in ("expected", "80 % band", "MASE", "history") else "left")
    for one in data["forecasts"]:
        total = one["total"]
        table.add_row(
            one["node"],
            "USD" if one["unit"] == "usd_per_hour" else one["currency"],
            _usd(total["mean"]),
            f"{_usd(total['lo80'])} to {_usd(total['hi80'])}",
            one["model"],
            "-" if one["mase"] is None else f"{one['mase']:.2f}",
            f"{one['hours_of_history']:g} h",
            one["type"] + (f" ({', '.join(one['flags'])})" if one["flags"] else ""),
        )
    console.print(table)


def forecast_series(console: Console, data: Mapping[str, Any]) -> None:
    """The same for series that came in a file."""
    table = _table("Forecasts")
    for name in ("series", "starts", "total", "80 % band", "model", "MASE", "reason"):
        table.add_column(name, overflow="fold")
    for one in data["forecasts"]:
        total = one["total"]
        low, high = total["lo"].get("80"), total["hi"].get("80")
        mase = "-" if one["mase"] is None else f"{one['mase']:.2f}"
        table.add_row(
            one["id"],
            one["start"],
            _usd(total["mean"]),
            f"{_usd(low)} to {_usd(high)}",
            one["model"] or "-",
            mase,
            one["reason"],
        )
    console.print(table)


def optimize(console: Console, data: Mapping[str, Any]) -> None:
    """The decision for each host and node, with the reason."""
    _line(console, f"decision: {data['decision']} ({data['status']}) - {data['reason']}")
    table = _table("Plan")
    for name in ("host", "node"):
        table.add_column(name, overflow="fold")
    for name in ("units now", "units planned"):
        table.add_column(name, justify="right")
    table.add_column("evidence")
    table.add_column("why", overflow="fold", ratio=1)
    for host in data["hosts"]:
        for node in host["nodes"]:
            now = "-" if node["previous_units"] is None else f"{node['previous_units']:g}"
            table.add_row(
                host["host"],
                node["node"],
                now,
                f"{node['units']:g}",
                node["evidence"],
                node["reason"],
            )
    if table.row_count:
        console.print(table)
    for host in data["hosts"]:
        value = host["value"]
        if host["nodes"]:
            now, new = (_usd(_times(value[f"{key}_usd_per_hour"], 24)) for key in ("current", "new"))
            binding = ", ".join(host["binding"]) or "nothing"
            _line(console, f"{host['host']}: {now} USD/day now, {new} planned; binding: {binding}")
        for advice in host["advice"]:
            _line(console, f"{host['host']}: {advice if isinstance(advice, str) else advice.get('text', advice)}")


def apply(console: Console, data: Mapping[str, Any]) -> None:
    """Each action: what it would change or changed, and how it ended."""
    mode = "nothing was changed (dry run: add --yes to do it)" if data["mode"] == "dry_run" else "executed"
    _line(console, f"apply: {mode}, {data['changed']} changed")
    if not data["actions"]:
        _line(console, "nothing to do")
        return
    table = _table("Actions")
    for name in ("node", "what", "from", "to", "state"):
        table.add_column(name, overflow="fold")
    table.add_column("how and why", overflow="fold", ratio=1)
    for action in data["actions"]:
        how = action["command"] or action["request"] or action["path"] or ""
        how = how if isinstance(how, str) else " ".join(map(str, how))
        detail = f"{how}\n{action['why']}" + (f"\n{action['detail']}" if action["detail"] else "")
        table.add_row(
            action["node"],
            action["kind"],
            _pairs(action["before"]),
            _pairs(action["after"]),
            action["state"],
            detail.strip(),
        )
    console.print(table)


def run(console: Console, data: Mapping[str, Any]) -> None:
    """How each verb ended, then the status."""
    steps = [one["verb"] + (f" exit {one['exit_code']}" if one["exit_code"] else " ok") for one in data["verbs"]]
    _line(console, " → ".join(steps))
    now = max((one["finished_at"] for one in data["status"]["runs"].values() if one["finished_at"]), default=None)
    status(console, data["status"], parse_rfc3339(now) if now else 0)


def history(console: Console, rows: Sequence[Mapping[str, Any]], by: str) -> None:
    """What was earned per span."""
    if not rows:
        console.print("Nothing earned is known yet.")
        return
    key = {"hour": "hour_start", "day": "day", "month": "month"}[by]
    table = _table("Earned")
    who = next((name for name in ("node", "protocol", "host") if rows[0][name] is not None), None)
    for name in (by, *([who] if who else []), "amount", "currency", "$", "quality"):
        table.add_column(name, justify="right" if name in ("amount", "$") else "left", overflow="fold")
    for row in rows:
        cells = [row[key], *([row[who]] if who else []), _short(row["amount"]), row["currency"], _usd(row["usd"])]
        table.add_row(*cells, row["quality"])
    console.print(table)


def imported(console: Console, data: Mapping[str, Any]) -> None:
    """How many rows were new."""
    _line(console, f"{data['added']} rows added, {data['unchanged']} were there already")


def pauses(console: Console, data: Mapping[str, Any]) -> None:
    """The pauses in force."""
    if not data["paused"]:
        _line(console, "nothing is paused")
    for pause in data["paused"]:
        until = f"until {pause['until']}" if pause["until"] else "until resumed"
        _line(console, f"paused: {pause['node'] or 'all nodes'}, {until}; collecting goes on")


def initialised(console: Console, data: Mapping[str, Any]) -> None:
    """Where the configuration is, and what comes next."""
    _line(console, f"wrote {data['paths'][0]}")
    found = ", ".join(data["found"]) or "none"
    _line(console, f"nodes that answered on this machine: {found}. Next: edit the file, then depin-orcha collect")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=False)


def _usd(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if abs(value) >= 1 or value == 0 else f"{value:.4f}"


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _short(amount: str) -> str:
    """At most eight decimals for reading; the JSON has them all."""
    whole, _, fraction = amount.partition(".")
    return f"{whole}.{fraction[:8]}" if fraction else whole


def _granted(allocation: Mapping[str, float]) -> str:
    if "cpu_cores" in allocation:
        return f"{allocation['cpu_cores']:g} cores"
    if "storage_bytes" in allocation:
        return f"{allocation['storage_bytes'] / 1e12:.2f} TB"
    return "-"


def _age(instant: str | None, now_s: int) -> str:
    if instant is None:
        return "never"
    seconds = max(now_s - parse_rfc3339(instant), 0)
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _pairs(values: Mapping[str, Any]) -> str:
    shown = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items())
