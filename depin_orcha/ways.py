"""Ways of deciding that ``backtest`` compares: ours, the textbook rule, greed and an equal split."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import floor
from typing import Any

from .asof import AsOf
from .cycle import Job
from .economics import Gate, NodeFacts
from .facts import problem
from .planning import gate_of
from .proposal import propose

TEXTBOOK = {"min_improvement_pct": 10.0, "min_net_benefit_usd_per_hour": 0.5, "ignore_change_pct": 5.0}
"""Thresholds of the textbook rule."""
_HAIR = 1e-9

Units = dict[str, float]
"""Node -> units."""
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant at which is decided: what was known, with the grants that the way in question has come to."""

    job: Job
    known: AsOf
    facts: list[NodeFacts]


def ours(moment: Moment) -> Units:
    """What the product proposes."""
    gate = gate_of(moment.job)
    model = moment.job.config.settings.optimize.model
    data, _ = propose(problem(moment.job, moment.known, moment.facts, gate, model), moment.facts, gate)
    return {node["node"]: node["units"] for host in data["hosts"] for node in host["nodes"]}


def _plain(moment: Moment, model: str) -> dict[str, Any]:
    """The problem of somebody who takes income for proportional to the grant."""
    return problem(moment.job, moment.known, moment.facts, Gate(0, 0, 1, 0), model)


def spec(moment: Moment) -> Units:
    """The textbook programme, in whole steps, where it passes the thresholds; restarts are not seen."""
    from .optimize import Problem, solve

    document = _plain(moment, "spec") | {"thresholds": TEXTBOOK}
    plan = solve(Problem.from_dict(document), explain=False)
    steps = {one.name: one.step_units for one in moment.facts}
    return {
        node.node: _whole(node.units, steps[node.node]) if node.changed else node.units
        for host in plan.hosts
        for node in host.nodes
    }


def greedy(moment: Moment) -> Units:
    """Everything to whoever earns most for what is scarcest, whatever a restart costs."""
    wanted: Units = {}
    steps = {one.name: one.step_units for one in moment.facts}
    for host, movable, left in _hosts(moment, lambda node: not node["frozen"]):
        for node in sorted(movable, key=lambda node: (-_usd_per_share(node, host["capacity"]), node["node"])):
            fits = [left[key] / per for key, per in node["uses_per_unit"].items() if per > 0]
            units = _whole(max(min([node["max_units"], *fits]), 0.0), steps[node["node"]])
            wanted[node["node"]] = units
            _take(left, node["uses_per_unit"], units)
    return wanted


def equal_split(moment: Moment) -> Units:
    """The same part of the machine for each of its nodes that can be moved."""
    wanted: Units = {}
    steps = {one.name: one.step_units for one in moment.facts}
    shared = {one.name for one in moment.facts if one.lever and one.keep_reason is None}
    for _, movable, left in _hosts(moment, lambda node: node["node"] in shared):
        for node in movable:
            fits = [left[key] / len(movable) / per for key, per in node["uses_per_unit"].items() if per > 0]
            units = _whole(max(min([node["max_units"], *fits]), 0.0), steps[node["node"]])
            wanted[node["node"]] = max(units, node["floor_units"])
    return wanted


def _hosts(
    moment: Moment, moves: Callable[[Document], bool]
) -> Iterator[tuple[Document, list[Document], dict[str, float]]]:
    """Each host, its nodes that can be moved, and what the others leave them."""
    for host in _plain(moment, "default")["hosts"]:
        left = dict(host["capacity"])
        movable = [node for node in host["nodes"] if moves(node) and "usd_per_unit_hour" in node]
        for node in host["nodes"]:
            if node not in movable:
                _take(left, node["uses_per_unit"], node.get("current_units") or 0.0)
        yield host, movable, left


def _usd_per_share(node: Document, capacity: Mapping[str, float]) -> float:
    """What a node earns for a part of what is scarcest to it."""
    shares = [per / capacity[key] for key, per in node["uses_per_unit"].items() if per > 0 and capacity[key] > 0]
    return node["usd_per_unit_hour"] / max(shares, default=1.0)


def _take(left: dict[str, float], uses: Mapping[str, float], units: float) -> None:
    for key, per in uses.items():
        left[key] = left[key] - per * units


def _whole(units: float, step: float) -> float:
    return floor(units / step + _HAIR) * step if step else units
