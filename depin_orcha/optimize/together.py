"""Hosts that share something, decided together; of all hosts that restart, only as many as may at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .case import Case, Gain
from .decide import Decision, decide, shortfalls
from .lever import Lever
from .linked import case_of, clusters, seen_from
from .nouns import Host, Thresholds
from .plan import STATUSES, ShadowPrice
from .problem import Problem
from .rows import build
from .search import Found, Short, best_grants
from .settle import Mutable

if TYPE_CHECKING:
    from .highs import Solver

LARGEST_JOINT = 60
"""Nodes that are decided in one programme; more are decided host by host, each within what the others leave."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is decided about one host.

    ``case`` is its own, in which all other hosts are as they will be; ``joint`` and ``grants`` are those of all hosts
    that it shares something with, by which ``gain`` is counted. ``prices``: shadow prices that are known already.
    """

    host: Host
    case: Case
    decision: Decision
    gain: Gain
    joint: Case
    grants: Mutable
    prices: tuple[ShadowPrice, ...] | None = None

    @property
    def restarts(self) -> bool:
        """Whether a node changes that had a grant before."""
        moved = self.gain.moved if self.decision.applies else ()
        return any(self.joint.lever(name).previous is not None for name in moved)


def verdicts(problem: Problem, solver: Solver) -> list[Verdict]:
    """Return the decision of every host, in the order of the problem."""
    found: dict[str, Verdict] = {}
    groups = clusters(problem)
    for hosts in groups:
        found |= decided(problem, hosts, solver, ())
    waiting = _must_wait(problem, list(found.values()))
    for hosts in groups:
        if waiting & {host.host for host in hosts}:
            settled = {host.host for host in hosts if not found[host.host].decision.applies}
            again = decided(problem, hosts, solver, waiting | settled)
            found |= {name: verdict for name, verdict in again.items() if name not in settled}
    return [found[host.host] for host in problem.hosts]


def _must_wait(problem: Problem, found: Sequence[Verdict]) -> set[str]:
    """Names of the hosts that would restart beyond the number that may, those that gain least."""
    if problem.max_restarts_at_once is None:
        return set()
    ranked = sorted(
        (one for one in found if one.restarts), key=lambda one: (-one.gain.judged_net_usd_per_hour, one.host.host)
    )
    return {one.host.host for one in ranked[problem.max_restarts_at_once :]}


def decided(problem: Problem, hosts: Sequence[Host], solver: Solver, waiting: Collection[str]) -> dict[str, Verdict]:
    """Return the decision of hosts that share something, where those that wait stay as they are."""
    joint = case_of(problem, *hosts)
    kept = joint.locking((one.name for one in joint.levers if one.host in waiting), "restarts")
    if len(hosts) == 1:
        decision = decide(kept, problem.thresholds, solver)
        gain = joint.gain(decision.units)
        return {hosts[0].host: Verdict(hosts[0], kept, decision, gain, joint, decision.units)}
    if len(joint.levers) > LARGEST_JOINT:
        decisions, grants = _one_by_one(kept, problem.thresholds, hosts, solver)
    else:
        decisions, grants = _all_at_once(kept, problem.thresholds, hosts, waiting, solver)
    return {
        host.host: Verdict(
            host,
            seen_from(kept, host.host, grants),
            decisions[host.host],
            joint.gain(grants, host.host),
            joint,
            grants,
        )
        for host in hosts
    }


def _all_at_once(
    case: Case, thresholds: Thresholds, hosts: Sequence[Host], waiting: Collection[str], solver: Solver
) -> tuple[dict[str, Decision], Mutable]:
    """Return the decisions of one programme; a host that it leaves alone is decided once more, with the others settled.

    That says why it stays, and finds what it can do by itself where there is no plan for all.
    """
    found = _best_for_all(case, thresholds, waiting, solver)
    grants = dict(found.units) if found and found.units else dict(case.hold)
    decisions: dict[str, Decision] = {}
    for host in hosts:
        view = seen_from(case, host.host, grants)
        mine = _mine(case, host.host)
        own = view.hold | {lever.node: grants[lever.name] for lever in mine}
        if found and own != view.hold:
            alone, unbound = _found_of(found, host, own), view.unbound()
            trusted = best_grants(unbound, solver).units if unbound != view else None
            decision = Decision(alone.status, applies=True, units=own, found=alone, trusted=trusted)
        else:
            decision = decide(view, thresholds, solver)
        decisions[host.host] = decision
        grants |= {lever.name: decision.units[lever.node] for lever in mine}
    return decisions, grants


def _mine(case: Case, host: str) -> list[Lever]:
    return [lever for lever in case.levers if lever.host == host]


def _one_by_one(
    case: Case, thresholds: Thresholds, hosts: Sequence[Host], solver: Solver
) -> tuple[dict[str, Decision], Mutable]:
    """Return the decisions of too many hosts for one programme, each within what the others leave.

    A host that is still to be decided is counted with what it has or with what the programme without 0/1 conditions
    would give it, whichever is more: so the first ones leave something to those that earn more.
    """
    meant = _meant(case, solver)
    grants, decisions = dict(case.hold), dict[str, Decision]()
    for host in hosts:
        mine = _mine(case, host.host)
        meant |= {lever.name: lever.base for lever in mine}
        view = seen_from(case, host.host, meant)
        if view.broken_limits(view.hold):
            view = seen_from(case, host.host, grants)
        decision = decide(view, thresholds, solver)
        decisions[host.host] = replace(decision, status=max("fallback", decision.status, key=STATUSES.index))
        settled = {lever.name: decision.units[lever.node] for lever in mine}
        grants |= settled
        meant |= settled
    return decisions, grants


def _meant(case: Case, solver: Solver) -> Mutable:
    """The present levels, or those of the linear programme where they are of more units."""
    program = build(case)
    values = solver.maximise(program, relaxed=True).values
    meant = dict(case.hold)
    for columns in program.levers if values else ():
        lever, level = columns.lever, columns.read(values or [])
        if lever.units(level) > lever.units(lever.base):
            meant[lever.name] = level
    return meant


def _found_of(found: Found, host: Host, own: Mutable) -> Found:
    """What was found for all hosts, as far as it is about one of them."""
    prefix = f"{host.host}/"
    short = tuple(_short_of(found, prefix))
    status = "optimal" if found.status == "relaxed" and not short else found.status
    return Found(status, own, short, found.message)


def _short_of(found: Found, prefix: str) -> Iterator[Short]:
    for short in found.short:
        family, subject = short.row.split(":", 1)
        if subject.startswith(prefix):
            yield replace(short, row=f"{family}:{subject.removeprefix(prefix)}")


def _best_for_all(case: Case, thresholds: Thresholds, waiting: Collection[str], solver: Solver) -> Found | None:
    """Return the best grants of hosts each of which passes the thresholds; None where there are none.

    A host that gives something up so that another gains more is not held back by its own loss, where all of them
    together pass and less is gained without it. Every other host that fails stays as it is, and the rest is decided
    again.
    """
    hosts = {lever.host for lever in case.levers}
    stays = set(waiting)
    while True:
        found = best_grants(_resting(case, stays), solver)
        if found.units is None:
            return None
        gains = {host: case.gain(found.units, host) for host in sorted(hosts - stays)}
        failing = {host: gain for host, gain in gains.items() if gain.moved and any(shortfalls(gain, thresholds))}
        giving = {
            host
            for host, gain in failing.items()
            if gain.judged_net_usd_per_hour <= gain.noise_usd_per_hour and _is_needed(case, found, stays, host, solver)
        }
        whole = case.gain(found.units)
        if giving == failing.keys() and not any(shortfalls(whole, thresholds if giving else Thresholds())):
            return found
        if not whole.moved:
            return found
        # of hosts with one intake each may gain by a move while all of them lose by the moves together
        least = min((host for host in gains if gains[host].moved), key=lambda host: gains[host].judged_net_usd_per_hour)
        stays |= failing.keys() - giving or giving or {least}


def _resting(case: Case, hosts: Collection[str]) -> Case:
    """The case where some hosts stay as they are, be it beyond what they can give."""
    rest = case.locking((lever.name for lever in case.levers if lever.host in hosts), "stays")
    return replace(rest, limits=tuple(limit for limit in rest.limits if limit.host not in hosts))


def _is_needed(case: Case, found: Found, stays: Collection[str], host: str, solver: Solver) -> bool:
    """Whether less is gained over all where a host stays as it is."""
    without = best_grants(_resting(case, {*stays, host}), solver).units
    return without is None or found.units is None or case.judged(found.units) > case.judged(without)
