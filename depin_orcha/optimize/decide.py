"""Whether the best grants are worth making: thresholds, the hold, and what was rejected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .case import Case, Gain
from .plan import STATUSES
from .problem import Thresholds
from .search import Found, best_grants
from .settle import Mutable

if TYPE_CHECKING:
    from .highs import Solver


@dataclass(frozen=True, slots=True)
class Rejected:
    """A plan that was not applied, its worth, and every rule that it failed, in words."""

    units: Mutable
    gain: Gain
    short_of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of one host: ``units`` are the grants that hold from now on, ``found`` what the search gave.

    ``trusted`` are the grants of the best plan without dwell, evidence and thresholds, None where nobody asked.
    """

    status: str
    applies: bool
    units: Mutable
    found: Found
    rejected: Rejected | None = None
    trusted: Mutable | None = None


def decide(case: Case, thresholds: Thresholds, solver: Solver) -> Decision:
    """Return the decision of a case: apply its best grants where they pass every threshold, else hold."""
    found = best_grants(case, solver)
    if found.units is None:
        status = "relaxed" if found.status == "infeasible" else "failed"
        return Decision(status, applies=False, units=case.hold, found=found)
    gain = case.gain(found.units)
    short_of = tuple(shortfalls(gain, thresholds))
    unbound = case.unbound()
    trusted = best_grants(unbound, solver).units if unbound != case else None
    if not short_of:
        return Decision(found.status, applies=True, units=found.units, found=found, trusted=trusted)
    if gain.moved:
        rejected, status = Rejected(found.units, gain, short_of), "held"
    else:
        rejected = locked_out(case, trusted)
        status = "held" if rejected else "optimal"
        rejected = rejected or _not_worth_a_restart(case, thresholds, solver)
    status = max(status, found.status, key=STATUSES.index)
    return Decision(status, applies=False, units=case.hold, found=found, rejected=rejected, trusted=trusted)


def shortfalls(gain: Gain, thresholds: Thresholds) -> Iterator[str]:
    """Every threshold that a plan fails, with its number, in words; none: the plan is applied."""
    net, noise = gain.judged_net_usd_per_hour, gain.noise_usd_per_hour
    if not gain.moved:
        yield "it changes no node"
    elif net <= noise:
        yield f"its net benefit of {net:.4g} $/h is not above 0"
    wanted = thresholds.min_net_benefit_usd_per_hour
    if wanted and net < wanted - noise:
        yield f"its net benefit of {net:.4g} $/h is {wanted - net:.4g} short of min_net_benefit_usd_per_hour {wanted:g}"
    base, pct = abs(gain.judged_current_usd_per_hour), thresholds.min_improvement_pct
    if pct and base and 100 * (net + noise) < pct * base:
        yield f"its improvement of {100 * net / base:.4g} % is short of min_improvement_pct {pct:g}"


def locked_out(case: Case, trusted: Mutable | None) -> Rejected | None:
    """Return the plan that dwell, evidence, ``ignore_change_pct`` or ``max_moves`` kept from being considered."""
    if trusted is None:
        return None
    gain = case.gain(trusted)
    if not gain.moved or gain.judged_net_usd_per_hour <= gain.noise_usd_per_hour:
        return None
    return Rejected(trusted, gain, tuple(_locks(case, trusted, gain)))


def _locks(case: Case, units: Mutable, gain: Gain) -> Iterator[str]:
    for name in gain.moved:
        lever = case.lever(name)
        move = abs(lever.units(units[name]) - lever.units(lever.base))
        if lever.lock == "dwell":
            yield f"{name} changed less than min_dwell_h ago"
        elif lever.lock == "restarts":
            yield "as many hosts restart now as max_restarts_at_once allows"
        elif lever.lock == "evidence":
            yield f"the price of {name} is not measured"
        elif not lever.picks and move < lever.ignore_pct / 100 * lever.base:
            yield f"the change of {name} by {move:.4g} units is below ignore_change_pct {lever.ignore_pct:g}"
    if case.max_moves is not None and len(gain.moved) > case.max_moves:
        yield f"it moves {len(gain.moved)} nodes, max_moves is {case.max_moves}"


def _not_worth_a_restart(case: Case, thresholds: Thresholds, solver: Solver) -> Rejected | None:
    """Return the plan that would be best if restarts were free, where there is one and restarts are not."""
    free = case.without_charges()
    if free == case:
        return None
    units = best_grants(free, solver).units
    gain = case.gain(units) if units else None
    if units is None or gain is None or gain.gross_usd_per_hour <= gain.noise_usd_per_hour:
        return None
    short_of = tuple(shortfalls(gain, thresholds))
    return Rejected(units, gain, short_of) if short_of else None
