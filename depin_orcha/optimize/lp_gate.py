"""From what the linear programme says to grants worth making, for all hosts of a fleet at once.

The programme charges every unit moved; a restart costs the same for a small move as for a big one. So what it says is
rounded, and judged by the exact value: true curve at mean prices, one true restart charge for each node that moves.
"""

from __future__ import annotations

from dataclasses import dataclass

from .case import HAIR, NOISE
from .fleet import Array, Fleet, np
from .problem import Thresholds
from .settle import tidy


@dataclass(frozen=True, slots=True)
class Judged:
    """What was decided for each host of a fleet.

    ``plan`` is the best plan found and ``asked`` what the programme asked for, both by node; ``applies`` by host
    whether the plan passes every threshold; ``gives`` marks hosts that lose so that others gain more, ``lost`` those
    for which rounding left no plan that keeps its rules, ``waits`` those that would restart, but not now.
    """

    plan: Array
    asked: Array
    applies: Array
    gives: Array
    lost: Array
    waits: Array


@dataclass(frozen=True, slots=True)
class Gains:
    """The exact worth of grants against those in force, by host, as in ``case.Gain``."""

    current: Array
    new: Array
    gross: Array
    restart_usd: Array
    net: Array
    noise: Array
    moves: Array


def gains(fleet: Fleet, units: Array) -> Gains:
    """Return what these grants are worth."""
    moved, old, new = units != fleet.base, fleet.net_now, fleet.net(units)
    gross = fleet.per_host(np.where(moved, new - old, 0.0))
    restart = fleet.per_host(np.where(moved, fleet.charge_usd, 0.0))
    return Gains(
        current=fleet.per_host(old),
        new=fleet.per_host(new),
        gross=gross,
        restart_usd=restart,
        net=gross - restart / fleet.horizon_h,
        noise=NOISE * fleet.per_host(np.where(moved, np.abs(new) + np.abs(old), 0.0)),
        moves=fleet.per_host(moved),
    )


def passes(worth: Gains, thresholds: Thresholds) -> Array:
    """Hosts whose plan reaches every threshold; the same rules as ``decide.shortfalls``."""
    enough = worth.net >= thresholds.min_net_benefit_usd_per_hour - worth.noise
    base, pct = np.abs(worth.current), thresholds.min_improvement_pct
    share = (base == 0) | (100 * (worth.net + worth.noise) >= pct * base) if pct else True
    return (worth.moves > 0) & (worth.net > worth.noise) & enough & share


def judge(fleet: Fleet, units: Array, thresholds: Thresholds, dear: Array | float = 0.0) -> Judged:
    """Return what to do, given the grants that the programme wants in the first period.

    ``dear``: what a unit of each node is worth to other hosts, USD per hour. A host that loses by itself, but less than
    what it gives up is worth to them, is not held back.
    """
    asked = rounded(fleet, units)
    few = _few_moves(fleet, asked, thresholds.max_moves, dear)
    plan, lost = gate(fleet, few, dear)
    plan = _topped_up(fleet, plan, dear)
    worth = gains(fleet, plan)
    priced = fleet.per_host(worth_of_moves(fleet, plan, dear))
    gives = (worth.net <= worth.noise) & (priced > worth.noise)
    applies = (passes(worth, thresholds) | gives) & ~lost
    return Judged(plan, asked, applies, gives, lost, np.zeros_like(lost))


def rounded(fleet: Fleet, units: Array) -> Array:
    """Return grants that keep the rules of each node, lots rounded down; a node without such a grant stays."""
    hair = HAIR * fleet.span
    units = np.where(units <= hair, 0.0, units)
    stays = fleet.locked | (np.abs(units - fleet.base) <= hair)
    lots = fleet.lot > 0
    size = np.where(lots, fleet.lot, 1.0)
    whole = np.where(lots, np.floor(units / size + HAIR) * size, units)
    whole = np.where(fleet.on_off & (whole < fleet.minimum - HAIR * fleet.minimum), 0.0, whole)
    whole = np.where(stays, fleet.base, whole)
    whole = np.where(_allows(fleet, whole), whole, fleet.base)
    for index in np.flatnonzero(whole != fleet.base):
        whole[index] = tidy(whole[index])
    return _hand_out(fleet, units, whole)


def _allows(fleet: Fleet, units: Array) -> Array:
    """Whether each grant keeps the rules of its node; lots are exact already."""
    slack = HAIR * np.maximum(units, fleet.base)
    inside = (units >= fleet.lowest - slack) & (units <= fleet.top + slack)
    works = ~fleet.on_off | (units <= 0) | (units >= fleet.minimum - slack)
    far = np.abs(units - fleet.base) >= fleet.band * (1 - HAIR)
    return fleet.locked | (inside & works & ((units == fleet.base) | far))


def _hand_out(fleet: Fleet, wanted: Array, whole: Array) -> Array:
    """Give the lots that rounding left over, by largest remainder within each host, where they fit."""
    rest = np.where((fleet.lot > 0) & ~fleet.locked, wanted - whole, 0.0) / np.where(fleet.lot > 0, fleet.lot, 1.0)
    open_ = np.flatnonzero((rest > HAIR) & (rest < 1))
    open_ = open_[np.lexsort((-rest[open_], fleet.host[open_]))]
    _, first, count = np.unique(fleet.host[open_], return_index=True, return_counts=True)
    for rank in range(count.max(initial=0)):
        chosen = open_[first[count > rank] + rank]
        more = whole.copy()
        more[chosen] = [tidy(value) for value in whole[chosen] + fleet.lot[chosen]]
        fits = ~fleet.hosts_of(fleet.used(more) > fleet.capacity * (1 + NOISE))[fleet.host] & _allows(fleet, more)
        whole[chosen] = np.where(fits[chosen], more[chosen], whole[chosen])
    return whole


def worth_of_moves(fleet: Fleet, units: Array, dear: Array | float) -> Array:
    """What each move brings by itself after its restart, USD per hour; 0 where nothing moves."""
    worth = fleet.net(units) - fleet.net_now - fleet.charge_usd / fleet.horizon_h
    worth = worth - dear * (units - fleet.base)
    return np.where(units != fleet.base, worth, 0.0)


def _few_moves(fleet: Fleet, units: Array, most: int | None, dear: Array | float) -> Array:
    """Keep the moves of each host that gain most by themselves, as many as it may make."""
    if most is None:
        return units
    moved = np.flatnonzero(units != fleet.base)
    order = moved[np.lexsort((-worth_of_moves(fleet, units, dear)[moved], fleet.host[moved]))]
    rank = np.arange(len(order)) - np.searchsorted(fleet.host[order], fleet.host[order])
    kept = fleet.base.copy()
    kept[order[rank < most]] = units[order[rank < most]]
    return kept


def gate(fleet: Fleet, units: Array, dear: Array | float) -> tuple[Array, Array]:
    """Return the best of the grants, the grants with a move dropped (as often as that helps), and those in force.

    Judged by the exact value, among those that keep every limit; also the hosts for which none of them does.
    """
    units = units.copy()
    while True:
        worth = worth_of_moves(fleet, units, dear)
        better = _best_drop(fleet, units, worth)
        gain = -worth[better]
        broken = fleet.hosts_of(_broken(fleet, units))[fleet.host[better]]
        drop = better[(gain > 0) | broken]
        if not len(drop):
            break
        units[drop] = fleet.base[drop]
    lost = fleet.hosts_of(_broken(fleet, units))
    holds = ~fleet.hosts_of(_broken(fleet, fleet.base)) & (fleet.per_host(~_allows(fleet, fleet.base)) == 0)
    best_is_hold = holds & (lost | (fleet.per_host(worth_of_moves(fleet, units, dear)) <= 0))
    return np.where(best_is_hold[fleet.host], fleet.base, units), lost & ~best_is_hold


def _topped_up(fleet: Fleet, units: Array, dear: Array | float) -> Array:
    """Give what dropped moves and rounding left to nodes that rise anyway, the dearest of each host first."""
    units = units.copy()
    rising = np.flatnonzero(units > fleet.base)
    order = rising[np.lexsort((-fleet.price[rising], fleet.host[rising]))]
    _, first, count = np.unique(fleet.host[order], return_index=True, return_counts=True)
    for rank in range(count.max(initial=0)):
        chosen = order[first[count > rank] + rank]
        more = units.copy()
        more[chosen] = np.minimum(fleet.top, units + np.maximum(0.0, _room(fleet, units)))[chosen]
        size = np.where(fleet.lot > 0, fleet.lot, 1.0)
        more = np.where((fleet.lot > 0) & (more > units), np.floor(more / size + NOISE) * size, more)
        better = (fleet.net(more) - fleet.net(units) > dear * (more - units)) & (more - units > HAIR * fleet.span)
        taken = chosen[better[chosen]]
        units[taken] = [tidy(value) for value in more[taken]]
    return units


def _room(fleet: Fleet, units: Array) -> Array:
    """Units that the limits leave for each node beside the present grants of all."""
    room = np.full(len(units), np.inf)
    left = fleet.capacity - fleet.used(units)
    np.minimum.at(room, fleet.use_node, left[fleet.use_limit] / fleet.use_amount)
    return room


def _broken(fleet: Fleet, units: Array) -> Array:
    """Limits that these grants exceed by more than the tolerance."""
    return fleet.used(units) > fleet.capacity * (1 + HAIR)


def _best_drop(fleet: Fleet, units: Array, worth: Array) -> Array:
    """For each host, the move whose undoing is best among those that leave every rule kept; hosts without are left out.

    A move that the rules of its node ask for is not undone.
    """
    count = len(fleet.nodes)
    undone = fleet.used_instead(units, fleet.base)
    before = _broken(fleet, units)
    per_limit = undone > fleet.capacity[fleet.use_limit] * (1 + HAIR)
    change = np.bincount(fleet.use_node, per_limit * 1.0 - before[fleet.use_limit], minlength=count)
    left = np.bincount(fleet.limit_host, before, minlength=len(fleet.hosts))[fleet.host] + change
    able = np.flatnonzero((units != fleet.base) & (left < 0.5) & _allows(fleet, fleet.base))
    order = able[np.lexsort((worth[able], fleet.host[able]))]
    _, first = np.unique(fleet.host[order], return_index=True)
    return order[first]
