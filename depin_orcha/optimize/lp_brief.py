"""Plans of whole fleets in short words, from arrays: a fraction of the time that solving takes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import starmap

from .case import HAIR, Gain
from .decide import shortfalls
from .fleet import Array, Fleet, np, positions
from .lp import Batch
from .lp_gate import Gains, gains
from .plan import HostPlan, NodePlan, RunnerUp, ShadowPrice, Worth
from .problem import Problem, Thresholds
from .words import LOCKS, money


def is_brief(problem: Problem, batch: Batch) -> Array:
    """Hosts about which nothing needs to be said that only full words can say."""
    fleet, judged = batch.fleet, batch.judged
    over = ~judged.applies & fleet.hosts_of(fleet.used(fleet.base) > fleet.capacity * (1 + HAIR))
    income = np.maximum(0.0, fleet.per_host(fleet.net_now))
    unreachable = problem.thresholds.min_net_benefit_usd_per_hour > income
    if batch.trusted is None:
        return ~(over | unreachable | judged.lost)
    worth = gains(fleet, batch.trusted)
    better = (gains(fleet, judged.plan).moves == 0) & (worth.moves > 0) & (worth.net > worth.noise)
    advised = fleet.per_host(fleet.locked & (batch.trusted != fleet.base)) > 0
    return ~(over | unreachable | judged.lost | better | advised)


def brief_plans(problem: Problem, batch: Batch, brief: Array, *, explain: bool) -> Iterator[HostPlan]:
    """Plans of the hosts that are marked; without ``explain`` shadow prices are left out."""
    fleet, judged = batch.fleet, batch.judged
    units = np.where(judged.applies[fleet.host], judged.plan, fleet.base)
    planned = gains(fleet, judged.plan).moves > 0
    other = np.where(planned[fleet.host], judged.plan, judged.asked)
    worth, missed = gains(fleet, units), gains(fleet, other)
    wanted = planned | (missed.gross > missed.noise)
    nodes, binding = _node_plans(fleet, units), _binding(fleet, units)
    limits = np.searchsorted(fleet.limit_host, np.arange(len(fleet.hosts) + 1)).tolist()
    ends = fleet.first_node.tolist()
    prices = [
        ShadowPrice(name, resource, price, price)
        for (name, resource), price in zip(fleet.limits, batch.optimum.prices.tolist(), strict=True)
    ]
    shared = tuple(ShadowPrice(link.name, link.resource, price, price) for link, price in batch.links)
    values = list(_worths(worth))
    for index in positions(brief):
        begin, end = ends[index : index + 2]
        applies, rejected = bool(judged.applies[index]), None
        if not applies and wanted[index]:
            rejected = _runner_up(batch, other, missed, index, problem.thresholds)
        yield HostPlan(
            host=fleet.hosts[index].host,
            status="held" if planned[index] and not applies else "optimal",
            decision="apply" if applies else "hold",
            reason=_reason(values[index], int(worth.moves[index]), end - begin, rejected),
            value=values[index],
            nodes=tuple(nodes[begin:end]),
            shadow_prices=(*prices[limits[index] : limits[index + 1]], *shared) if explain else (),
            reduced_costs=(),
            risk=None,
            binding=tuple(binding[index]),
            relaxed=(),
            advice=(),
            runner_up=rejected,
        )


def _worths(worth: Gains) -> Iterator[Worth]:
    columns = (worth.current, worth.new, worth.gross, worth.restart_usd, worth.net)
    return starmap(Worth, zip(*(column.tolist() for column in columns), strict=True))


def _runner_up(batch: Batch, units: Array, worth: Gains, index: int, thresholds: Thresholds) -> RunnerUp:
    fleet = batch.fleet
    begin, end = fleet.first_node[index : index + 2].tolist()
    grants = {node.node: value for node, value in zip(fleet.nodes[begin:end], units[begin:end].tolist(), strict=True)}
    moved = tuple(node.node for node in fleet.nodes[begin:end] if grants[node.node] != (node.current_units or 0.0))
    columns = (worth.current, worth.new, worth.gross, worth.restart_usd, worth.net, worth.noise)
    current, new, gross, restart_usd, net, noise = (float(column[index]) for column in columns)
    gain = Gain(current, new, gross, restart_usd, net, noise, moved, current, net)
    short_of = short_of_what(batch, index, gain, thresholds)
    return RunnerUp(Worth(current, new, gross, restart_usd, net), grants, {}, short_of)


def short_of_what(batch: Batch, index: int, gain: Gain, thresholds: Thresholds) -> tuple[str, ...]:
    """Every rule that a plan of one host fails, in words."""
    if batch.judged.waits[index]:
        return ("as many hosts restart now as max_restarts_at_once allows",)
    return tuple(shortfalls(gain, thresholds)) or ("what hosts share leaves no room for it",)


def _reason(value: Worth, moves: int, count: int, rejected: RunnerUp | None) -> str:
    if moves:
        loss = f"restart loss {value.restart_loss_usd:.4g} $ included"
        return f"{moves} of {count} nodes change: {money(value.net_benefit_usd_per_hour)} net, {loss}"
    if rejected is None:
        return "the present grants are the best" if count else "there is no node to decide"
    return f"held: the best other plan is rejected because {' and '.join(rejected.short_of)}"


def _node_plans(fleet: Fleet, units: Array) -> list[NodePlan]:
    gained = (fleet.net(units) - fleet.net_now).tolist()
    plans: list[NodePlan] = []
    grants: list[float] = units.tolist()
    rows = zip(fleet.nodes, fleet.base.tolist(), grants, gained, fleet.charge_usd.tolist(), strict=True)
    for (node, base, grant, gain, charge_usd), lock in zip(rows, fleet.locks, strict=True):
        if grant != base:
            reason = f"{base:.6g} -> {grant:.6g} units: {money(gain)}, restart loss {charge_usd:.4g} $"
        else:
            text = "nothing is granted" if node.current_units is None else f"stays at {base:.6g} units"
            reason = f"{text}: {'it ' + LOCKS[lock] if lock else 'no allowed change earns more'}"
        resources = {key: grant * per_unit for key, per_unit in node.uses_per_unit.items()}
        # By position, as everything else in a loop over all nodes of a fleet: keywords take twice as long.
        changed = grant != base
        plans.append(
            NodePlan(node.node, grant, None, node.current_units, None, resources, changed, reason, node.evidence, None)
        )
    return plans


def _binding(fleet: Fleet, units: Array) -> defaultdict[int, list[str]]:
    """Rows that bind, by host: limits that are full, then ends of the range where grants lie."""
    rows: defaultdict[int, list[str]] = defaultdict(list)
    in_use = np.bincount(fleet.use_limit, minlength=len(fleet.capacity)) > 0
    for index in positions(in_use & (fleet.used(units) >= fleet.capacity * (1 - HAIR))):
        rows[int(fleet.limit_host[index])].append(fleet.limits[index][0])
    ends = {
        "max_units": units >= fleet.top * (1 - HAIR),
        "min_units": (units > 0) & (units <= fleet.minimum * (1 + HAIR)),
        "floor_units": (units > 0) & (units <= fleet.floor * (1 + HAIR)),
    }
    for index in positions(np.logical_or.reduce(list(ends.values()))):
        name = fleet.nodes[index].node
        rows[int(fleet.host[index])] += [f"{end}:{name}" for end, reached in ends.items() if reached[index]]
    return rows
