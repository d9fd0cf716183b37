"""``verdict`` and ``explain`` for people: short tables, and one sentence for each thing that was decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from .parts import new_table, print_hanging, print_line, print_table

Row = Mapping[str, Any]


def verdict(console: Console, data: Row) -> None:
    """Is it worth its power: every machine, every node, and why."""
    print_line(console, f"{_simulated(data)}{data['reason']}.")
    if not data["hosts"]:
        return
    unit = "usd" if data["usd_per_currency"] is None else "local"
    currency = "USD" if unit == "usd" else data["currency"]
    for title, key, rows in (("Machines", "machine", data["hosts"]), ("Nodes", "node", data["nodes"])):
        _verdicts(console, f"{title}: {currency} a month", key, rows, unit)
    for key in ("hosts", "nodes"):
        for row in data[key]:
            print_hanging(console, f"{row['host' if key == 'hosts' else 'node']}: {row['why'].removesuffix('.')}.", 2)
    tariff = "not known" if data["usd_per_kwh"] is None else f"{data['usd_per_kwh']:.3f} USD"
    span = f"From the last {data['days']} days, at today's prices; a month has {data['month_h']:g} h"
    print_line(
        console, f"{span}; a kWh costs {tariff}. Even at: USD per kWh at which nothing is left. - means unknown."
    )


def _simulated(data: Row) -> str:
    return "SIMULATED: " if data["simulated"] else ""


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


def explain(console: Console, data: Row) -> None:
    """The latest plan node by node, and the questions that every operator asks."""
    made = "" if data["made_at"] is None else f"plan {data['plan_id']} of {data['made_at']}: {data['decision']} - "
    print_line(console, f"{_simulated(data)}{made}{data['reason']}")
    if data["made_at"] is not None:
        print_line(console, _gate(data["gate"]))
    for node in data["nodes"]:
        console.print()
        _node(console, node, data["gate"])
    for host in data["hosts"]:
        _host(console, host)
    before = None
    for one in data["questions"]:
        if one["question"] != before:
            console.print()
            print_line(console, one["question"])
            before = one["question"]
        print_hanging(console, f"  {one['subject']}: {one['answer']} [{one['evidence']}]", 4)
    if data["what_if"] is not None:
        console.print()
        for row in data["what_if"]:
            asked = f"{row['node'] or row['host']}, {row['asked']}"
            print_hanging(console, f"{asked}: {row['why']} [{row['evidence']}]", 2)
        if not data["what_if"]:
            print_line(console, "cannot tell: no node was ever read")


def _gate(gate: Row) -> str:
    if gate["off"]:
        return "The gate is off: what looks better is done."
    return (
        f"Changes need {gate['learning_days']:g} days of measured history, a gain of at least "
        f"{gate['min_gain_usd_per_day']:.2f} USD a day with 80 % certainty, fewer than {gate['max_changes_per_day']} "
        f"changes in 24 h, and {gate['min_dwell_h']:g} h since the last one."
    )


def _node(console: Console, node: Row, gate: Row) -> None:
    grant = f"{node['grant_before']} -> {node['grant_after']}" if node["changed"] else f"{node['grant_before']}, stays"
    print_line(console, f"{node['node']} on {node['host']}: {grant}")
    lines = {"income": _change(node, "income"), "power": _change(node, "power")}
    loss = node["restart_loss_usd"]
    lines["restart"] = "unknown" if loss is None else f"a change loses {loss:.4f} USD once"
    lines["binding"] = ", ".join(node["binding"]) or "nothing"
    factor = node["flips_at_income_factor"]
    lines["flips"] = "at no price" if factor is None else f"where what it earns is worth {factor:.4g} times as much"
    if node["flips_at_usd_per_unit_hour"] is not None and node["usd_per_unit_hour"] is not None:
        lines["flips"] += f": {node['flips_at_usd_per_unit_hour']:.6f} for {node['usd_per_unit_hour']:.6f} USD/h"
    if node["alternative"] is not None:
        lines["instead" if not node["changed"] else "gain"] = _alternative(node["alternative"])
    if node["gate"] is not None and not gate["off"]:
        lines["gate"] = _seen(node["gate"], gate)
    lines["why"] = f"{node['why']} [{node['evidence']}]"
    for name, text in lines.items():
        print_hanging(console, f"  {name + ':':9}{text}", 11)


def _change(node: Row, what: str) -> str:
    before, after = node[f"{what}_before"], node[f"{what}_after"]
    told = _usd(before) if not node["changed"] else f"{_usd(before)} -> {_usd(after)}"
    return f"{told} USD a month" if before["usd_month"] is not None else told


def _usd(one: Row) -> str:
    if one["usd_month"] is None:
        return f"unknown [{one['evidence']}]"
    span = "" if one.get("lo80") is None else f" ({one['lo80']:.2f} to {one['hi80']:.2f})"
    return f"{one['usd_month']:.2f}{span} [{one['evidence']}]"


def _alternative(one: Row) -> str:
    gain = one["gain_usd_day"]
    least = "" if gain["lo80"] is None else f", at least {gain['lo80']:+.2f}"
    short = f"; short of: {'; '.join(one['short_of'])}" if one["short_of"] else ""
    return f"{one['name']}: {gain['mean']:+.2f} USD a day{least}{short}"


def _seen(seen: Row, gate: Row) -> str:
    changed = seen["hours_since_change"]
    last = "never changed" if changed is None else f"last change {changed:.0f} h ago"
    return (
        f"{seen['days_measured']:.1f} of {gate['learning_days']:g} days; {seen['changes_last_day']} of "
        f"{gate['max_changes_per_day']} changes in 24 h; {last} ({gate['min_dwell_h']:g} h asked)"
    )


def _host(console: Console, host: Row) -> None:
    priced = [one for one in host["shadow_prices"] if one["usd_per_unit_hour"]]
    for one in priced:
        print_line(console, f"{host['host']}: one more {one['resource']} is worth {one['usd_per_unit_hour']:.3g} USD/h")
    best = host["runner_up"]
    if host["decision"] == "hold" and best is not None:
        gain = best["value"]["net_benefit_usd_per_hour"] * 24
        print_line(console, f"{host['host']}: the best plan that was rejected: {gain:+.2f} USD a day")
        for text in best["short_of"]:
            print_hanging(console, f"  short of: {text}", 4)
    for advice in host["advice"]:
        print_hanging(console, f"{host['host']}: {advice['text']}", 2)


def front(console: Console, data: Row) -> None:
    """What the best grants earn within ever tighter limits."""
    if data["reason"] is not None:
        print_line(console, f"{data['axis']}: {data['reason']}.")
        return
    units = {"watts": "W", "moves": "moves a host", "share": "of all income"}
    table = new_table(f"Best grants within a limit: {data['axis']}")
    for name in (f"at most {units[data['axis']]}", "used", "USD/day", "against now", "moves"):
        table.add_column(name, justify="right")
    table.add_column("units", overflow="fold")
    for point in data["points"]:
        shown = [f"{one:.0%}" if data["axis"] == "share" else f"{one:g}" for one in (point["limit"], point["used"])]
        now = f"{point['net_benefit_usd_per_hour'] * 24:+.2f}"
        units_of = [f"{node} {one:.4g}" for host in point["units"].values() for node, one in host.items()]
        table.add_row(*shown, f"{point['value_usd_per_hour'] * 24:.2f}", now, str(point["moves"]), ", ".join(units_of))
    print_table(console, table)


_CHANGES = 3
"""Changes whose gain is shown; --json has all of them."""
_WAYS = {
    "done": "what was done",
    "equal_split": "an equal split",
    "spec": "the 10 % rule",
    "greedy": "greedy",
    "ours": "depin-orcha",
    "hindsight": "hindsight",
}


def policies(console: Console, data: Row) -> None:
    """What every way of deciding would have earned."""
    if not data["policies"]:
        print_line(console, "No way of deciding can be replayed yet: that takes hours whose worth in USD is known.")
        return
    table = new_table(f"Decided again, from {data['from'][:16]} to {data['until'][:16]}, every {data['step_h']} h")
    table.add_column("way", overflow="fold")
    for name in ("net $", "of hindsight", "restarts", "lost by them $", "power $"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in data["policies"]:
        share = one["share_of_hindsight"]
        table.add_row(
            _WAYS[one["name"]],
            f"{one['net_usd']:.2f}",
            "-" if share is None else f"{100 * share:.1f}%",
            str(one["restarts"]),
            *("-" if one[key] is None else f"{one[key]:.2f}" for key in ("restart_loss_usd", "energy_usd")),
        )
    print_table(console, table)
    for one in data["realised"][:_CHANGES]:
        when = one["changed_at"][:16].replace("T", " ")
        print_hanging(console, f"change of {one['node']} at {when}, {one['method']}: {one['text']}.", 2)
    for one in data["assumed"]:
        print_hanging(console, f"{one['node']}: {one['why']}.", 2)
    told = (
        "Net of restarts and of the power of what plans can move, gross of all other power. Hindsight knew every hour"
    )
    print_line(console, f"{told} beforehand, and chose among the grants that another way came to.")
