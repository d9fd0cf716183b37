"""``backtest``: the stored weeks decided again, in several ways, with what was known then.

Every way begins with the grants that were in force and decides every six hours; the facts, the problem and the
proposal are made by the very functions of ``optimize``, from the database as it was known at that instant. What another
grant would have earned in an hour is what was earned, in proportion to the yield that was measured for the node:

    net of an hour = earned * G(units) / G(units in force then) - watts of a unit * units * price of a kWh - restarts

Where nobody measured what another grant earns, G is flat: then no way of deciding could have earned more, and
that is the answer. Only with the gate switched off does income count as proportional to the grant, as the owner asked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .asof import AsOf
from .cycle import Job
from .economics import Gate, NodeFacts
from .errors import DataError
from .expected import node_forecasts
from .facts import gather, grant_history
from .learned import keep
from .metering import usd_per_kwh_by_hour
from .planning import gate_of
from .store import Store
from .timefmt import rfc3339
from .types import DAY_S, HOUR_S, Quality
from .values import NO_MONEY
from .ways import Moment, Units, equal_split, greedy, ours, spec

STEP_H = 6
"""Hours between two decisions: the verbs decide every quarter of an hour, and seldom otherwise than before."""
MOST_GRANTS = 400
"""Different sets of grants that hindsight chooses from."""
_LOSS_SHARE = 0.35
_HAIR = 1e-9

NOTHING: dict[str, Any] = {"policies": [], "from": None, "until": None, "step_h": STEP_H, "assumed": []}
"""What there is to say without a history."""
Progress = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True, slots=True)
class _Node:
    """A node whose grant can be moved: what grants are worth to it, hour by hour."""

    facts: NodeFacts
    worth: Callable[[float], float]
    in_force: Mapping[int, float]
    usd: Mapping[int, float]
    usd_per_kwh: Mapping[int, float]
    usd_per_worth: float
    """Mean USD of an hour, for what ``worth`` is 1 of."""

    def income(self, hour_s: int, units: float) -> float:
        """USD that a grant would have earned in an hour; what nobody knows is nothing, whatever the grant."""
        base = self.worth(self.in_force[hour_s])
        return self.usd.get(hour_s, 0.0) * self.worth(units) / base if base > 0 else 0.0

    def energy(self, hour_s: int, units: float) -> float:
        """USD of power."""
        return (self.facts.watts_per_unit or 0.0) / 1000 * units * self.usd_per_kwh.get(hour_s, 0.0)

    def loss(self, old: float) -> float:
        """USD that a move away from a grant costs: hours of mean income, so that idle hours are no free ones."""
        most = self.worth(self.facts.max_units or old)
        return self.facts.restart_loss_hours * self.usd_per_worth * max(self.worth(old), _LOSS_SHARE * most)


@dataclass(slots=True)
class _Way:
    """How one way of deciding is doing."""

    units: Units
    moved_s: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    usd: float = 0.0
    energy_usd: float = 0.0
    restart_loss_usd: float = 0.0
    restarts: int = 0
    seen: list[tuple[float, ...]] = field(default_factory=list[tuple[float, ...]])

    def move(self, nodes: Mapping[str, _Node], wanted: Mapping[str, float], hour_s: int) -> None:
        for name, node in nodes.items():
            old, new = self.units[name], wanted.get(name, self.units[name])
            if abs(new - old) > _HAIR:
                self.restart_loss_usd += node.loss(old)
                self.restarts += 1
                self.moved_s.setdefault(name, []).append(hour_s)
                self.units[name] = new
        self.seen.append(tuple(self.units[name] for name in nodes))

    def live(self, nodes: Mapping[str, _Node], hour_s: int) -> None:
        for name, node in nodes.items():
            self.usd += node.income(hour_s, self.units[name])
            self.energy_usd += node.energy(hour_s, self.units[name])

    @property
    def net_usd(self) -> float:
        return self.usd - self.energy_usd - self.restart_loss_usd


def policies(job: Job, known: AsOf, days: int, progress: Progress) -> dict[str, Any]:
    """``policies[]`` of ``data``, from when to when, and what was assumed of each node: ``NOTHING`` filled in.

    Raises ``DataError`` (exit 65) where the configuration does not say what history alone cannot.
    """
    with_past = _with_past(known)
    try:
        return _replayed(job, AsOf(with_past, known.now_s), days, progress)
    finally:
        with_past.close()


def _with_past(known: AsOf) -> sqlite3.Connection:
    """A copy in memory in which what was imported was known when it happened."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    known.connection.backup(copy)
    copy.execute(
        "UPDATE hour_values SET learned_s = min(learned_s, hour_s + 3600) WHERE EXISTS (SELECT 1 FROM accruals AS one "
        "WHERE one.currency = hour_values.currency AND one.hour_s = hour_values.hour_s AND quality = 'imported')"
    )
    copy.execute("UPDATE accruals SET learned_s = min(learned_s, hour_s + 3600) WHERE quality = 'imported'")
    copy.execute(
        "UPDATE nodes SET first_seen_s = min(first_seen_s, coalesce((SELECT min(hour_s) FROM accruals "
        "WHERE node = nodes.name AND quality = 'imported'), first_seen_s))"
    )
    return copy


def _replayed(job: Job, known: AsOf, days: int, progress: Progress) -> dict[str, Any]:
    end_s = job.now_s // HOUR_S * HOUR_S
    usd = _usd_by_hour(job, known, end_s - days * DAY_S, end_s)
    hours = sorted({hour_s for found in usd.values() for hour_s in found})
    if not hours:
        return dict(NOTHING)
    _require_configured(job, known, usd)
    nodes, assumed = _nodes(job, known, usd, hours)
    span = range(hours[0], end_s, HOUR_S)
    start = {name: node.in_force[span[0]] for name, node in nodes.items()}
    ways = {name: _Way(dict(start)) for name in ("done", "equal_split", "spec", "greedy", "ours")}
    decide: dict[str, Callable[[Moment], Units]] = {"spec": spec, "greedy": greedy, "ours": ours}
    store = Store(known.connection)
    store.start_run("backtest", span[0], None)
    for host, capacity in _capacities(job, known).items():
        store.add_host(host, span[0] - 1, capacity, {})
    for hour_s in progress(span):
        if nodes and (hour_s - span[0]) % (STEP_H * HOUR_S) == 0:
            then = replace(job, now_s=hour_s, fixed_now=True)
            facts = _facts_then(then, store)
            first = {"equal_split": equal_split} if hour_s == span[0] else {}
            for name, choose in (decide | first).items():
                way = ways[name]
                own = [_as_if(one, way, hour_s) for one in facts]
                way.move(nodes, choose(Moment(then, AsOf(known.connection, hour_s), own)), hour_s)
        ways["done"].move(nodes, {name: node.in_force[hour_s] for name, node in nodes.items()}, hour_s)
        for way in ways.values():
            way.live(nodes, hour_s)
    rest = sum(sum(found.values()) for name, found in usd.items() if name not in nodes)
    best, restarts = _hindsight(nodes, ways, start, span)
    rows = [_row(name, rest + way.net_usd, way, rest + best) for name, way in ways.items()]
    rows.append(_row("hindsight", rest + best, None, rest + best) | {"restarts": restarts})
    span_told = {"from": rfc3339(span[0]), "until": rfc3339(end_s)}
    return NOTHING | span_told | {"policies": rows, "assumed": assumed}


def _row(name: str, net_usd: float, way: _Way | None, best_usd: float) -> dict[str, Any]:
    return {
        "name": name,
        "net_usd": net_usd,
        "restarts": way.restarts if way else 0,
        "share_of_hindsight": net_usd / best_usd if best_usd > 0 else None,
        "energy_usd": way.energy_usd if way else None,
        "restart_loss_usd": way.restart_loss_usd if way else None,
    }


def _usd_by_hour(job: Job, known: AsOf, from_s: int, until_s: int) -> dict[str, dict[int, float]]:
    """Node -> hour -> USD, at the price of that hour; hours that nobody knows are left out."""
    found: dict[str, dict[int, float]] = {}
    for hour in known.hours(from_s):
        if hour.hour_s >= until_s or not job.wanted(hour.node) or hour.currency in NO_MONEY:
            continue
        usd = known.usd(hour)
        if usd is None:
            if hour.quality is Quality.IMPORTED:
                message = f"what {hour.currency} was worth is not known, in which {hour.node} was paid"
                raise DataError(message, "give its price in [prices] (static, or ids), or usd_per_unit in the import")
            continue
        hours = found.setdefault(hour.node, {})
        hours[hour.hour_s] = hours.get(hour.hour_s, 0.0) + float(usd)
    return found


def _require_configured(job: Job, known: AsOf, usd: Iterable[str]) -> None:
    """What no reading told must be in the configuration: nodes, what their machine has, what they were granted."""
    here = [name for name in usd if name in job.config.nodes]
    if not here:
        message = f"no node with history is in the configuration ({', '.join(sorted(usd))})"
        raise DataError(message, "describe them: [nodes.<name>] with protocol, host and max_units, [hosts.<name>]")
    capacities = _capacities(job, known)
    for name in here:
        options = job.config.nodes[name]
        if not grant_history(known, options, name) and options.max_units is None:
            message = f"{name} was never read, and nothing says what it was granted"
            raise DataError(message, f"give max_units in [nodes.{name}]: the units that it had")
        if not capacities.get(options.host):
            message = f"what host {options.host} of {name} has is neither measured nor stated"
            raise DataError(message, f"give capacity in [hosts.{options.host}]")


def _capacities(job: Job, known: AsOf) -> dict[str, dict[str, float]]:
    """Host -> what it has, as stated, else as last measured."""
    measured = {host: capacity for host, (capacity, _) in known.hosts().items()}
    stated = {one.host: job.config.host(one.host).capacity for one in job.config.nodes.values()}
    return measured | {host: {str(key): one for key, one in given.items()} for host, given in stated.items() if given}


def _nodes(
    job: Job, known: AsOf, usd: Mapping[str, Mapping[int, float]], hours: Sequence[int]
) -> tuple[dict[str, _Node], list[dict[str, Any]]]:
    """The nodes whose grants plans may move, and what is assumed of every node."""
    gate = gate_of(job)
    span = range(hours[0], known.now_s // HOUR_S * HOUR_S, HOUR_S)
    prices = usd_per_kwh_by_hour(job, known, span[0], len(span))
    per_kwh = {hour_s: price for hour_s, price in zip(span, prices, strict=True) if price is not None}
    nodes: dict[str, _Node] = {}
    assumed: list[dict[str, Any]] = []
    for facts in gather(job, known):
        if facts.name not in usd:
            continue
        worth, why = _worth(facts, gate)
        assumed.append({"node": facts.name, "movable": facts.lever, "evidence": facts.curve.evidence, "why": why})
        if facts.lever:
            in_force = _in_force(job, known, facts, span)
            granted = sum(worth(in_force[hour_s]) for hour_s in usd[facts.name])
            mean = max(sum(usd[facts.name].values()), 0.0) / granted if granted > 0 else 0.0
            nodes[facts.name] = _Node(facts, worth, in_force, usd[facts.name], per_kwh, mean)
    return nodes, assumed


def _worth(facts: NodeFacts, gate: Gate) -> tuple[Callable[[float], float], str]:
    """What grants earn, in any unit, and how that is known."""
    if not facts.lever:
        return lambda _: 1.0, "its allocation does not change what it earns"
    if facts.curve.evidence == "measured" or (gate.off and facts.curve.segments):
        return lambda units: _along(facts.curve.segments, units), "income as it was measured at the grants tried"
    if gate.off:
        return lambda units: units, "the gate is off: income counts as proportional to the grant"
    return lambda units: float(units > 0), "what another grant earns was never measured: the same income, or none at 0"


def _along(segments: Sequence[tuple[float, float]], units: float) -> float:
    total, left = 0.0, units
    for width, relative in segments:
        total += min(left, width) * relative
        left = max(left - width, 0.0)
    return total


def _in_force(job: Job, known: AsOf, facts: NodeFacts, span: range) -> dict[int, float]:
    """Units granted in each hour, as far as readings tell; before the first one as then, without any ``max_units``."""
    readings = [
        (one.since_s, one.units)
        for one in grant_history(known, job.config.nodes[facts.name], facts.name)
        if one.units is not None
    ]
    units = readings[0][1] if readings else job.config.nodes[facts.name].max_units or 0.0
    found: dict[int, float] = {}
    index = 0
    for hour_s in span:
        while index < len(readings) and readings[index][0] <= hour_s:
            units = readings[index][1]
            index += 1
        found[hour_s] = units
    return found


def _facts_then(then: Job, store: Store) -> list[NodeFacts]:
    """The facts as they were known, with forecasts made then where none was stored."""
    known = AsOf(store.connection, then.now_s)
    made = node_forecasts(then, known, then.config.settings.forecast.horizon_h, [])
    for one in made.fresh:
        store.add_forecast(one["node"], one["currency"], then.now_s, one, then.now_s)
    keep(store.connection, made.learned, then.now_s)
    # What nobody ever read may be moved too: its history was brought, and its grant stated.
    return [replace(one, keep_reason=None) if known.health(one.name) is None else one for one in gather(then, known)]


def _as_if(facts: NodeFacts, way: _Way, now_s: int) -> NodeFacts:
    """The facts of a node as they would have been had a way been gone."""
    units = way.units.get(facts.name)
    if units is None:
        return facts
    moved = way.moved_s.get(facts.name, [])
    return replace(
        facts,
        current_units=units,
        hours_since_change=(now_s - moved[-1]) / HOUR_S if moved else facts.hours_since_change,
        changes_last_day=sum(1 for at_s in moved if at_s > now_s - DAY_S),
        offers=facts.offers if units == facts.current_units else None,
    )


def _hindsight(nodes: Mapping[str, _Node], ways: Mapping[str, _Way], start: Units, span: range) -> tuple[float, int]:
    """USD and moves of the best sequence of the grants that any way came to, known beforehand (dynamic programme)."""
    seen = [grants for way in ways.values() for grants in way.seen]
    counts = {grants: seen.count(grants) for grants in dict.fromkeys(seen)}
    kept = sorted(counts, key=lambda grants: (-counts[grants], grants))[:MOST_GRANTS]
    first = tuple(start[name] for name in nodes)
    every = [first, *(grants for grants in kept if grants != first)]
    best: list[tuple[float, int]] = [(0.0, 0)] + [(float("-inf"), 0)] * (len(every) - 1)
    members = list(nodes.values())
    for hour_s in span:
        if (hour_s - span[0]) % (STEP_H * HOUR_S) == 0:
            best = [_best_before(best, every, index, members) for index in range(len(every))]
        worth = [
            sum(
                node.income(hour_s, units) - node.energy(hour_s, units)
                for node, units in zip(members, grants, strict=True)
            )
            for grants in every
        ]
        best = [(usd + more, moves) for (usd, moves), more in zip(best, worth, strict=True)]
    return max(best, key=lambda one: (one[0], -one[1]))


def _best_before(
    best: Sequence[tuple[float, int]],
    every: Sequence[tuple[float, ...]],
    index: int,
    members: Sequence[_Node],
) -> tuple[float, int]:
    """The best way to come to these grants from any others."""
    found = best[index]
    for other, (usd, moves) in enumerate(best):
        if other == index or usd <= found[0]:
            continue
        changed = [at for at, (old, new) in enumerate(zip(every[other], every[index], strict=True)) if old != new]
        paid = usd - sum(members[at].loss(every[other][at]) for at in changed)
        found = max(found, (paid, moves + len(changed)), key=lambda one: one[0])
    return found
