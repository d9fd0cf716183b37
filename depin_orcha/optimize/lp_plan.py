"""Plans of model ``lp``: in full words where hosts are few, in short ones for fleets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .case import Case, case_of
from .decide import Decision, Rejected, locked_out, shortfalls
from .fleet import Array, np
from .lp import Batch, batches
from .lp_brief import brief_plans, is_brief
from .plan import HostPlan, ShadowPrice
from .problem import Host, Problem
from .search import Found

if TYPE_CHECKING:
    from .highs import Solver

MANY_HOSTS = 50
"""Above so many hosts reasons are short and no flip prices are sought: both would take longer than the decision."""

Tell = Callable[[Host, Decision | None, tuple[ShadowPrice, ...] | None], HostPlan]
"""Makes the plan of one host in full words; without a decision it decides as model ``default`` does."""


def host_plans(problem: Problem, solver: Solver, tell: Tell, *, explain: bool) -> tuple[HostPlan, ...]:
    """Return the plans of all hosts, in their order."""
    plans: dict[str, HostPlan] = {}
    many = len(problem.hosts) > MANY_HOSTS
    for batch in batches(problem, solver):
        brief = is_brief(problem, batch) if many else np.zeros(len(batch.fleet.hosts), dtype=bool)
        if many:
            plans |= {plan.host: plan for plan in brief_plans(problem, batch, brief, explain=explain)}
        for index in np.flatnonzero(~brief & ~batch.verdict.lost).tolist():
            host = batch.fleet.hosts[index]
            decision = decision_of(problem, case_of(problem, host), batch, index)
            plans[host.host] = tell(host, decision, shadow_prices(batch, index))
    rest = [host for host in problem.hosts if host.host not in plans]
    plans |= {host.host: tell(host, None, None) for host in rest}
    return tuple(plans[host.host] for host in problem.hosts)


def decision_of(problem: Problem, case: Case, batch: Batch, index: int) -> Decision:
    """Return the decision of one host of a batch; the grants in force were compared by the gate."""
    begin, end = batch.fleet.first_node[index : index + 2]
    names = [node.node for node in batch.fleet.nodes[begin:end]]

    def grants(units: Array) -> dict[str, float]:
        return dict(zip(names, units[begin:end].tolist(), strict=True))

    plan, asked = grants(batch.verdict.plan), grants(batch.verdict.asked)
    trusted = None if batch.trusted is None else grants(batch.trusted)
    found, gain = Found("optimal", plan), case.gain(plan)
    short_of = tuple(shortfalls(gain, problem.thresholds))
    if not short_of:
        return Decision("optimal", applies=True, units=plan, found=found, trusted=trusted)
    if gain.moved:
        rejected, status = Rejected(plan, gain, short_of), "held"
    else:
        rejected = locked_out(case, trusted)
        status = "held" if rejected else "optimal"
        wish = case.gain(asked)
        if rejected is None and wish.gross_usd_per_hour > wish.noise_usd_per_hour:
            rejected = Rejected(asked, wish, tuple(shortfalls(wish, problem.thresholds)))
    return Decision(status, applies=False, units=case.hold, found=found, rejected=rejected, trusted=trusted)


def shadow_prices(batch: Batch, index: int) -> tuple[ShadowPrice, ...]:
    """Prices of the limits of one host, straight from the programme."""
    begin, end = np.searchsorted(batch.fleet.limit_host, [index, index + 1])
    rows = zip(batch.fleet.limits[begin:end], batch.optimum.prices[begin:end].tolist(), strict=True)
    return tuple(ShadowPrice(name, resource, price) for (name, resource), price in rows)
