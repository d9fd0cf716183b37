"""Plans of model ``lp``: which hosts it decides, how many may restart, and what is told about them.

Hosts with choices or fills, with data caps that may be exceeded, and all of them where risk or an income share counts,
are decided as in model ``default``: there the whole is more than a sum over nodes and hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from .case import Case
from .decide import Decision, Rejected, locked_out
from .fleet import Array, np, positions
from .linked import case_of, clusters, key_of, seen_from
from .lp import Batch, joined, separate
from .lp_brief import brief_plans, is_brief, short_of_what
from .lp_gate import gains
from .lp_links import kept
from .nouns import Host
from .plan import HostPlan, ShadowPrice
from .problem import Problem
from .search import Found
from .together import Verdict, decided

if TYPE_CHECKING:
    from .highs import Solver

MANY_HOSTS = 50
"""Above so many hosts reasons are short and no flip prices are sought: both would take longer than the decision."""


def lp_plans(problem: Problem, solver: Solver, *, explain: bool) -> tuple[dict[str, HostPlan], list[Verdict]]:
    """Return the plans of hosts that need few words, by name, and the verdicts about all others."""
    batches, groups = _batches(problem, solver)
    found = {name: one for hosts in groups for name, one in decided(problem, hosts, solver, ()).items()}
    waiting = _must_wait(problem, batches, found)
    for hosts in groups:
        if waiting & {host.host for host in hosts}:
            stays = waiting | {host.host for host in hosts if not found[host.host].decision.applies}
            found |= decided(problem, hosts, solver, stays)
    plans: dict[str, HostPlan] = {}
    for batch in (_without(problem, each, waiting) for each in batches):
        brief = is_brief(problem, batch) & (len(problem.hosts) > MANY_HOSTS)
        plans |= {plan.host: plan for plan in brief_plans(problem, batch, brief, explain=explain)}
        found |= {one.host.host: one for one in _verdicts(problem, batch, positions(~brief), solver)}
    return plans, list(found.values())


def _batches(problem: Problem, solver: Solver) -> tuple[list[Batch], list[tuple[Host, ...]]]:
    """Return what the linear programmes decided, and groups of hosts that are to be decided otherwise."""
    groups = clusters(problem)
    if (problem.risk and problem.risk.weight) or problem.max_income_share is not None:
        return [], groups
    odd = {name for cap in problem.data_caps if cap.overage_usd_per_gb is not None for name in cap.hosts}
    odd |= {host.host for host in problem.hosts if any(node.choices or node.fill for node in host.nodes)}
    bound = {name for row in (*problem.coupling, *problem.data_caps) for name in row.hosts}
    left = [hosts for hosts in groups if any(host.host in odd for host in hosts)]
    fit = [hosts for hosts in groups if not any(host.host in odd for host in hosts)]

    def alone(hosts: Sequence[Host]) -> bool:
        return len(hosts) == 1 and problem.max_watts is None and hosts[0].host not in bound

    batches = list(separate(problem, [hosts[0] for hosts in fit if alone(hosts)], solver))
    for hosts in fit:
        batches += () if alone(hosts) else joined(problem, hosts, solver)
    done = {host.host for batch in batches for host in batch.fleet.hosts}
    lost = [hosts for hosts in fit if hosts[0].host not in done]
    return batches, left + lost


def _must_wait(problem: Problem, batches: Sequence[Batch], found: dict[str, Verdict]) -> set[str]:
    """Names of the hosts that would restart beyond the number that may, those that gain least."""
    if problem.max_restarts_at_once is None:
        return set()
    ranked = [(-one.gain.judged_net_usd_per_hour, name) for name, one in found.items() if one.restarts]
    for batch in batches:
        fleet, plan = batch.fleet, batch.judged.plan
        restarts = batch.judged.applies & (fleet.per_host((plan != fleet.base) & ~fleet.new) > 0)
        net = gains(fleet, plan).net
        ranked += [(-float(net[index]), fleet.hosts[index].host) for index in positions(restarts)]
    return {name for _, name in sorted(ranked)[problem.max_restarts_at_once :]}


def _without(problem: Problem, batch: Batch, waiting: set[str]) -> Batch:
    """Return a batch in which the hosts that wait stay as they are, and what they do not give up is not used."""
    judged = batch.judged
    waits = judged.applies & np.array([host.host in waiting for host in batch.fleet.hosts], dtype=bool)
    if not waits.any():
        return batch
    judged = replace(judged, applies=judged.applies & ~waits, waits=waits)
    links = [link for link, _ in batch.links]
    return replace(batch, judged=kept(batch.fleet, judged, links, problem.thresholds))


def _verdicts(problem: Problem, batch: Batch, indices: Sequence[int], solver: Solver) -> list[Verdict]:
    """Return the verdicts about some hosts of a batch; those that rounding left without a plan are decided anew."""
    fleet, judged = batch.fleet, batch.judged
    units = np.where(judged.applies[fleet.host], judged.plan, fleet.base).tolist()
    verdicts: list[Verdict] = []
    together = 1 < len(fleet.hosts) <= MANY_HOSTS and bool(batch.links)
    for index in indices:
        host = fleet.hosts[index]
        if judged.lost[index]:
            verdicts += decided(problem, (host,), solver, ()).values()
            continue
        mates = fleet.hosts if together else (host,)
        begin, end = (0, len(units)) if together else fleet.first_node[index : index + 2].tolist()
        owners: list[int] = fleet.host[begin:end].tolist()
        keys = [key_of(fleet.hosts[at], node, mates) for at, node in zip(owners, fleet.nodes[begin:end], strict=True)]
        grants = dict(zip(keys, units[begin:end], strict=True))
        joint = case_of(problem, *mates)
        case = seen_from(joint, host.host, grants) if together else joint
        decision, gain = _decision(problem, case, batch, index), joint.gain(grants, host.host)
        verdicts.append(Verdict(host, case, decision, gain, joint, grants, shadow_prices(batch, index)))
    return verdicts


def _decision(problem: Problem, case: Case, batch: Batch, index: int) -> Decision:
    """Return the decision of one host of a batch."""
    judged = batch.judged
    begin, end = batch.fleet.first_node[index : index + 2]
    names = [node.node for node in batch.fleet.nodes[begin:end]]

    def grants(units: Array) -> dict[str, float]:
        return case.hold | dict(zip(names, units[begin:end].tolist(), strict=True))

    plan, asked = grants(judged.plan), grants(judged.asked)
    trusted = None if batch.trusted is None else grants(batch.trusted)
    found, gain = Found("optimal", plan), case.gain(plan)
    if judged.applies[index]:
        return Decision("optimal", applies=True, units=plan, found=found, trusted=trusted)
    short_of = short_of_what(batch, index, gain, problem.thresholds)
    if gain.moved:
        rejected, status = Rejected(plan, gain, short_of), "held"
    else:
        rejected = locked_out(case, trusted)
        status = "held" if rejected else "optimal"
        wish = case.gain(asked)
        if rejected is None and wish.gross_usd_per_hour > wish.noise_usd_per_hour:
            rejected = Rejected(asked, wish, short_of_what(batch, index, wish, problem.thresholds))
    return Decision(status, applies=False, units=case.hold, found=found, rejected=rejected, trusted=trusted)


def shadow_prices(batch: Batch, index: int) -> tuple[ShadowPrice, ...]:
    """Prices of the limits of one host, and of those it shares, straight from the programme."""
    begin, end = np.searchsorted(batch.fleet.limit_host, [index, index + 1])
    rows = zip(batch.fleet.limits[begin:end], batch.optimum.prices[begin:end].tolist(), strict=True)
    own = [ShadowPrice(name, resource, price, price) for (name, resource), price in rows]
    return (*own, *(ShadowPrice(link.name, link.resource, price, price) for link, price in batch.links))
