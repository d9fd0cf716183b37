"""Rows that join hosts in model ``lp``: couplings, hard data caps, watts; and keeping them after all have decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .case import HAIR
from .fleet import Array, Fleet, np
from .lp_gate import Judged, gains, passes, worth_of_moves
from .problem import RESOURCES, Node, Problem, Thresholds
from .settle import tidy


@dataclass(frozen=True, slots=True)
class Link:
    """At most ``limit`` of ``resource`` for the nodes of a fleet together; ``weight`` is what one unit of each takes.

    ``hourly``: in every hour; else over the horizon, ``weight`` being that of a unit granted throughout.
    """

    name: str
    resource: str
    weight: Array
    limit: float
    hourly: bool

    @property
    def scale(self) -> float:
        """What 1 on the right-hand side of its rows stands for."""
        return self.limit or float(self.weight.max(initial=0.0)) or 1.0

    def used(self, units: Array) -> float:
        """What these grants take, held over the horizon."""
        return float(self.weight @ units)

    def most(self, fleet: Fleet) -> float:
        """What may be taken: the limit; where the present grants exceed it already, no more than they do."""
        return max(self.limit, self.used(fleet.base))


def links_of(problem: Problem, fleet: Fleet) -> tuple[Link, ...]:
    """Return the rows that nodes of this fleet take part in."""
    names = [host.host for host in fleet.hosts]

    def column(hosts: Sequence[str] | None, key: str) -> Array:
        member = np.ones(len(names), dtype=bool) if hosts is None else np.isin(names, hosts)
        return np.where(member[fleet.host], np.array([_taken(node, key) for node in fleet.nodes]), 0.0)

    found = [
        Link(f"coupling:{row.name}", row.resource, column(row.hosts, row.resource), row.limit, hourly=True)
        for row in problem.coupling
    ]
    for cap in problem.data_caps:
        if cap.overage_usd_per_gb is None:
            bytes_ = column(cap.hosts, "traffic_bytes_per_unit_hour") * problem.horizon_h
            found.append(Link(f"data_cap:{cap.name}", "traffic_bytes", bytes_, cap.allowance_bytes, hourly=False))
    if problem.max_watts is not None:
        found.append(Link("max_watts:all", "watts", column(None, "watts_per_unit"), problem.max_watts, hourly=True))
    return tuple(link for link in found if link.weight.any())


def _taken(node: Node, key: str) -> float:
    """What one unit of a node takes: of a resource, or of what a member of it says."""
    return node.uses_per_unit.get(key, 0.0) if key in RESOURCES else getattr(node, key) or 0.0


def kept(fleet: Fleet, judged: Judged, links: Sequence[Link], thresholds: Thresholds) -> Judged:
    """Return a judged that keeps every link: grants are cut where a unit of the row earns least, until it is enough.

    A host that no longer passes its thresholds holds; what then does not fit is cut again.
    """
    while True:
        units = np.where(judged.applies[fleet.host], judged.plan, fleet.base)
        over = next((link for link in links if link.used(units) > link.most(fleet) * (1 + HAIR)), None)
        if over is None:
            return judged
        plan = _cut(fleet, judged.plan, units, over)
        applies = judged.applies & (passes(gains(fleet, plan), thresholds) | judged.gives) & ~_broken_by(fleet, plan)
        if (plan == judged.plan).all() and (applies == judged.applies).all():
            return replace(judged, applies=np.zeros_like(applies))
        judged = replace(judged, plan=plan, applies=applies)


def _broken_by(fleet: Fleet, units: Array) -> Array:
    return fleet.hosts_of(fleet.used(units) > fleet.capacity * (1 + HAIR))


def _cut(fleet: Fleet, plan: Array, units: Array, link: Link) -> Array:
    """Take back what is too much from the nodes that were given more, the least valuable use first."""
    more = np.flatnonzero((units > fleet.base) & (link.weight > 0))
    if not len(more):
        users = np.unique(fleet.host[link.weight > 0])
        return np.where(np.isin(fleet.host, users), fleet.base, plan)
    gained = worth_of_moves(fleet, units, 0.0)[more]
    taken = (link.weight * (units - fleet.base))[more]
    more, taken = (each[np.argsort(gained / taken, kind="stable")] for each in (more, taken))
    excess = link.used(units) - link.most(fleet)
    before = np.cumsum(taken) - taken
    back = np.clip(excess - before, 0.0, taken)
    left = units[more] - back / link.weight[more]
    lot = np.where(fleet.lot[more] > 0, fleet.lot[more], 1.0)
    left = np.where(fleet.lot[more] > 0, np.floor(left / lot + HAIR) * lot, left)
    small = left - fleet.base[more] < np.maximum(fleet.band[more], HAIR * fleet.span[more])
    cut = plan.copy()
    changed = back > 0
    stays = small | (fleet.on_off[more] & (left < fleet.minimum[more]))
    cut[more[changed]] = [tidy(value) for value in np.where(stays, fleet.base[more], left)[changed]]
    return cut
