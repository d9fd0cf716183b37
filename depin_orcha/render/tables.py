"""One function a verb: its data as tables and sentences. Meaning never rests on colour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from depin_orcha.timefmt import parse_rfc3339

from . import decisions, money, power
from .parts import (
    NARROW,
    amount_text,
    new_table,
    percent_text,
    print_anomalies,
    print_hanging,
    print_line,
    print_table,
    span_text,
    usd_text,
)

_STYLE = {"up": "green", "degraded": "yellow", "down": "red", "unknown": "magenta"}
_FAILED = {
    "auth": "credentials refused",
    "blocked": "blocked",
    "config": "set up wrongly",
    "internal": "adapter broke",
    "permission": "not permitted",
    "shape": "answer changed",
    "transient": "unreachable",
    "unsupported": "not supported",
}
"""Why a node could not be read, which stands where its own health would."""


def status(console: Console, data: Mapping[str, Any], now_s: int) -> None:
    """What do I earn, is everything well, what was decided."""
    simulated = any("SIMULATED" in node["notes"] for node in data["nodes"])
    if not data["nodes"]:
        console.print("No node is known yet. Describe yours with: depin-orcha init")
        return
    table = new_table("SIMULATED nodes" if simulated else "Nodes")
    wide = console.width >= NARROW
    table.add_column("node", overflow="fold", min_width=8)
    if wide:
        table.add_column("host")
    table.add_column("health")
    for name in ("today $", "24 h $", "30 d $"):
        table.add_column(name, justify="right")
    table.add_column("forecast $/day", justify="right")
    table.add_column("in 80 %", justify="right")
    if wide:
        table.add_column("granted", justify="right")
        table.add_column("seen", justify="right")
    for node in data["nodes"]:
        table.add_row(*_status_row(node, now_s, wide=wide))
    totals = data["totals"]
    cells = [usd_text(totals[key]) for key in ("usd_today", "usd_24h", "usd_30d")]
    forecast = usd_text(_times(totals["usd_per_hour_forecast"], 24))
    table.add_section()
    lead, tail = (["total", "", ""], ["", ""]) if wide else (["total", ""], [])
    table.add_row(*lead, *cells, forecast, "", *tail)
    name, *cells = power.net_row(totals["net_usd_24h"])
    table.add_row(name, *lead[1:], *cells, "", "", *tail)
    print_table(console, table)
    power.own_money(console, data)
    money.standings(console, data)
    power.hosts(console, data)
    _status_notes(console, data, now_s)


def _status_row(node: Mapping[str, Any], now_s: int, *, wide: bool) -> list[Any]:
    health = Text(_state(node), style=_STYLE.get(node["health"], ""))
    cells: list[Any] = [node["node"]]
    if wide:
        cells.append(node["host"])
    cells.append(health)
    cells += [usd_text(node["usd_today"]), usd_text(node["usd_24h"]), usd_text(node["usd_30d"])]
    cells += [usd_text(_times(node["usd_per_hour_forecast"], 24)), percent_text(node["coverage80"])]
    if wide:
        cells += [_granted(node["allocation"]), _age(node["last_seen"], now_s)]
    return cells


def _state(node: Mapping[str, Any]) -> str:
    if node["failure_kind"] is None and node["last_seen"] is None:
        return "not read"
    if not node["configured"]:
        return "not in the file"
    return _FAILED.get(str(node["failure_kind"]), str(node["health"]))


def _status_notes(console: Console, data: Mapping[str, Any], now_s: int) -> None:
    for node in data["nodes"]:
        if node["health"] != "up" and node["reason"]:
            print_line(console, f"{node['node']}: {node['reason']}")
        for note in node["notes"]:
            if note not in ("SIMULATED", node["reason"]):
                print_line(console, f"{node['node']}: {note}")
        for one in node["earned"]:
            if one["usd_per_unit"] is None:
                day, month = amount_text(one["last_24h"]), amount_text(one["last_30d"])
                print_line(console, f"{node['node']}: {day} {one['currency']} in 24 h, {month} in 30 d")
    _prices(console, data, now_s)
    if data["plan"] is None:
        print_line(console, "plan: none yet; make one with: depin-orcha optimize")
    else:
        plan = data["plan"]
        print_line(console, f"plan {plan['plan_id']}: {plan['decision']} - {plan['reason']}")
    for pause in data["paused"]:
        until = f"until {pause['until']}" if pause["until"] else "until resumed"
        print_line(console, f"paused: {pause['node'] or 'all nodes'}, {until}")
    print_anomalies(console, data["anomalies"])
    gross = "USD is gross, each hour at its own price, after held amounts and shares, before power"
    print_line(console, f"{gross}; net is after it. - means unknown.")
    if any(node["coverage80"] is not None for node in data["nodes"]):
        print_line(console, "In 80 %: hours of the last 14 days that came true within the 80 % band of their forecast.")


def _prices(console: Console, data: Mapping[str, Any], now_s: int) -> None:
    priced = {one["currency"]: one for node in data["nodes"] for one in node["earned"] if one["currency"] != "USD"}
    for _, one in sorted(priced.items()):
        if one["usd_per_unit"] is not None and one["price_source"] != "testnet":
            price = {key.removeprefix("price_"): value for key, value in one.items()}
            _price(console, price, now_s, stale=one["stale"])
    rate = data["totals"]["local_rate"]
    if rate is not None:
        _price(console, rate | {"currency": data["totals"]["local_currency"]}, now_s)


def _price(console: Console, price: Mapping[str, Any], now_s: int, *, stale: bool = False) -> None:
    """What a unit of a currency is worth, who says so, and how old that is."""
    age = _age(price["observed_at"], now_s)
    told = f"{price['usd_per_unit']:.4g} USD ({price['source']}, {age} old{', stale' if stale else ''})"
    print_line(console, f"1 {price['currency']} = {told}")


def collect(console: Console, data: Mapping[str, Any], now_s: int) -> None:
    """What each node delivered in this reading, and the prices that value it."""
    table = new_table("Collected")
    for name, justify in (("node", "left"), ("health", "left"), ("earned since last", "right"), ("$", "right")):
        table.add_column(name, justify=justify, overflow="fold")  # pyright: ignore[reportArgumentType]
    table.add_column("reason", overflow="fold")
    for node in data["nodes"]:
        earned = node["earned_since_previous"]
        status = node["health"]["status"]
        table.add_row(
            node["node"],
            Text(status, style=_STYLE.get(status, "")),
            "-" if earned is None else f"{amount_text(earned['amount'])} {earned['currency']}",
            "-" if earned is None else usd_text(earned["usd"]),
            node["health"]["reason"],
        )
    print_table(console, table)
    for price in data["prices"]:
        _price(console, price, now_s, stale=price["stale"])


def optimize(console: Console, data: Mapping[str, Any]) -> None:
    """The decision for each host and node, with the reason."""
    print_line(console, f"decision: {data['decision']} ({data['status']}) - {data['reason']}")
    table = new_table("Plan")
    for name in ("host", "node"):
        table.add_column(name, overflow="fold")
    for name in ("units now", "units planned"):
        table.add_column(name, justify="right")
    table.add_column("evidence")
    for host in data["hosts"]:
        for node in host["nodes"]:
            now = "-" if node["previous_units"] is None else f"{node['previous_units']:g}"
            table.add_row(host["host"], node["node"], now, f"{node['units']:g}", node["evidence"])
    if table.row_count:
        print_table(console, table)
    for host in data["hosts"]:
        for node in host["nodes"]:
            print_hanging(console, f"{node['node']}: {node['reason']}", 2)
    for host in data["hosts"]:
        value = host["value"]
        if host["nodes"]:
            now, new = (usd_text(_times(value[f"{key}_usd_per_hour"], 24)) for key in ("current", "new"))
            binding = ", ".join(host["binding"]) or "nothing"
            print_line(console, f"{host['host']}: {now} USD/day now, {new} planned; binding: {binding}")
        for advice in host["advice"]:
            print_line(console, f"{host['host']}: {advice if isinstance(advice, str) else advice.get('text', advice)}")
    if data.get("front") is not None:
        decisions.front(console, data["front"])


def apply(console: Console, data: Mapping[str, Any]) -> None:
    """Each action: what it would change or changed, and how it ended."""
    _actions(console, "apply", data)


def heal(console: Console, data: Mapping[str, Any]) -> None:
    """The same of restarts, then every node that is not well, and why what is done about it is done."""
    _actions(console, "heal", data)
    for one in data["findings"]:
        until = f" (not before {one['next_at']})" if one["next_at"] else ""
        advice = f"; {one['advice']}" if one["advice"] else ""
        print_line(console, f"{one['node']}: {one['decision'].replace('_', ' ')}: {one['why']}{until}{advice}")


def _actions(console: Console, verb: str, data: Mapping[str, Any]) -> None:
    if data["mode"] == "executed":
        print_line(console, f"{verb}: {data['changed']} changed")
    else:
        doable = any(action["state"] == "planned" for action in data["actions"])
        print_line(console, f"{verb}: nothing was changed{' (dry run: add --yes to do it)' if doable else ''}")
    if not data["actions"]:
        print_line(console, "nothing to do")
        return
    table = new_table("Actions")
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
    print_table(console, table)


def run(console: Console, data: Mapping[str, Any]) -> None:
    """How each verb ended, then the status."""
    steps = [one["verb"] + (f" exit {one['exit_code']}" if one["exit_code"] else " ok") for one in data["verbs"]]
    simulated = "SIMULATED: " if data.get("simulated") else ""
    print_line(console, simulated + " → ".join(steps))
    now = max((one["finished_at"] for one in data["status"]["runs"].values() if one["finished_at"]), default=None)
    status(console, data["status"], parse_rfc3339(now) if now else 0)
    if data.get("paths"):
        database, config = data["paths"]
        for verb in ("explain", "verdict"):
            console.print(f"Read on: depin-orcha {verb} --config {config} --db {database}", soft_wrap=True)


def imported(console: Console, data: Mapping[str, Any]) -> None:
    """How many rows were new."""
    print_line(console, f"{data['added']} rows added, {data['unchanged']} were there already")


def pauses(console: Console, data: Mapping[str, Any]) -> None:
    """The pauses in force."""
    if not data["paused"]:
        print_line(console, "nothing is paused")
    for pause in data["paused"]:
        until = f"until {pause['until']}" if pause["until"] else "until resumed"
        print_line(console, f"paused: {pause['node'] or 'all nodes'}, {until}; collecting goes on")


_RESULT = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(console: Console, data: Mapping[str, Any]) -> None:
    """Every check, and below it what mends it."""
    for one in data["checks"]:
        name = one["name"] if one["node"] is None else f"{one['name']} {one['node']}"
        print_hanging(console, f"{one['result']:<6}{name}: {one['detail']}", 6, _RESULT[one["result"]])
        if one["fix"]:
            print_hanging(console, f"{'':6}-> {one['fix']}", 9)


def backed_up(console: Console, data: Mapping[str, Any]) -> None:
    """What was written, and which older ones went."""
    for path in data["paths"]:
        console.print(f"wrote {path}", soft_wrap=True, highlight=False)
    for path in data["removed"]:
        console.print(f"removed {path}", soft_wrap=True, highlight=False)


def initialised(console: Console, data: Mapping[str, Any]) -> None:
    """Where the configuration is, and what comes next."""
    print_line(console, f"wrote {data['paths'][0]}")
    found = ", ".join(data["found"]) or "none"
    print_line(console, f"nodes that answered on this machine: {found}. Next: edit the file, then depin-orcha collect")


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _granted(allocation: Mapping[str, float]) -> str:
    if "cpu_cores" in allocation:
        return f"{allocation['cpu_cores']:g} cores"
    if "storage_bytes" in allocation:
        return f"{allocation['storage_bytes'] / 1e12:.2f} TB"
    return "-"


def _age(instant: str | None, now_s: int) -> str:
    if instant is None:
        return "never"
    return span_text(max(now_s - parse_rfc3339(instant), 0))


def _pairs(values: Mapping[str, Any]) -> str:
    shown = {key: f"{value:g}" if isinstance(value, float) else str(value) for key, value in values.items()}
    return ", ".join(f"{key} {value}" for key, value in shown.items())
