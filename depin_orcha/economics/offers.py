"""What a provider can offer, of which one thing is in force: paused, or a cap at a price that was tried. Pure.

A running agreement takes the whole cap at the price it was made at, so nothing is told of caps and prices in between.
What an offer brings is the mean of the hours in which it stood, idle ones too: how often it was hired is in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from .contrast import surely_different
from .estimate import Estimate
from .yields import Steady, tried_grants

PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Offer:
    """One alternative. ``income``: USD per hour; ``busy``: share of the time at work, None where nothing tells.

    ``command``: what the operator has to run for it; empty where a plan can be carried out without.
    """

    name: str
    units: float
    income: Estimate
    busy: float | None
    running_usd_per_hour: float | None
    evidence: str
    command: str = ""

    @property
    def net(self) -> Estimate:
        """What power leaves, or the income where that is not known."""
        return self.income.less(Estimate(self.running_usd_per_hour or 0.0))

    def choice(self) -> dict[str, Any]:
        """A member of ``choices[]`` of a problem."""
        return {
            "name": self.name,
            "units": self.units,
            "usd_per_hour": self.income.mean,
            "running_usd_per_hour": self.running_usd_per_hour or 0.0,
        }


@dataclass(frozen=True, slots=True)
class Offers:
    """All alternatives of a node and the name of the one in force."""

    offers: tuple[Offer, ...]
    current: str
    sure: frozenset[str] = frozenset()
    """The offers that earn otherwise than the present one by more than chance."""

    def named(self, name: str | None) -> Offer | None:
        """The offer of that name."""
        return next((one for one in self.offers if one.name == name), None)

    def gain(self, name: str | None) -> Estimate | None:
        """What an offer would bring more than the present one, in USD per hour after power."""
        new, old = self.named(name), self.named(self.current)
        return None if new is None or old is None else new.net.less(old.net)

    @property
    def evidence(self) -> str:
        """``measured`` where some alternative differs from the present one by more than chance."""
        return "measured" if self.sure else "none"

    def is_sure(self, name: str | None) -> bool:
        """Does an alternative differ from the present one by more than chance?"""
        return name in self.sure


def offers_of(
    usd_by_hour: Mapping[int, float],
    busy: Mapping[int, float],
    steady: Sequence[Steady],
    now: tuple[float, str],
    running: float | None,
    told: Mapping[str, tuple[str, str]],
    *,
    is_paused: bool = False,
) -> Offers | None:
    """The alternatives that the operator's own hours tell of; None where they add nothing to a curve of caps.

    ``now``: the cap and the terms in force, or those before a pause. ``running``: cost of power of a unit at work, USD
    per hour. ``told``: terms -> (what they are called, the command that sets them; empty for the terms in force). They
    add something where another price was tried, where work costs more than it brings, or where a plan paused it.
    """
    found: list[Offer] = []
    current = ""
    for terms in dict.fromkeys(one.terms for one in steady):
        hours = [one for one in steady if one.terms == terms]
        for one in tried_grants(usd_by_hour, hours):
            shares = [busy[hour.hour_s] for hour in hours if hour.units == one.units and hour.hour_s in busy]
            share = fmean(shares) if shares else None
            cost = None if running is None or share is None else running * share * one.units
            label, command = told[terms]
            name = _named(one.units, label)
            found.append(Offer(name, one.units, one.estimate, share, cost, "measured", command))
            if (one.units, terms) == now:
                current = name
    hours = [(one.hour_s, _named(one.units, told[one.terms][0])) for one in steady]
    made = [(hour_s, name) for hour_s, name in hours if name in {one.name for one in found}]
    if not _by_turns([name for _, name in made]):
        found = [one for one in found if one.name == current]
    present = next((one for one in found if one.name == current), None)
    if present is None:
        return None
    loses = present.running_usd_per_hour is not None and present.net.mean < 0
    if not loses and not is_paused and not any(one.command for one in found):
        return None
    sure = surely_different(usd_by_hour, made, current) if len(found) > 1 else frozenset[str]()
    if is_paused or present.running_usd_per_hour is not None:
        found.append(Offer(PAUSED, 0.0, Estimate(0.0), 0.0, 0.0, "contract"))
        # That a pause earns nothing needs no proof, only that work loses does; it is no measurement of anything else.
        sure |= {PAUSED} if present.net.hi80 < 0 else frozenset()
    in_order = tuple(sorted(found, key=lambda one: (one.units, one.name)))
    if not is_paused:
        return Offers(in_order, current, sure)
    # Nor does it need more proof than that to take up again what was given up.
    return Offers(in_order, PAUSED, frozenset({current}) if present.net.lo80 > 0 else frozenset())


def _named(units: float, label: str) -> str:
    return f"{units:g} {'core' if units == 1 else 'cores'} at {label}"


def _by_turns(names: Sequence[str]) -> bool:
    """Was one of the offers made again after another one, so that a changing market is not taken for their merit?"""
    spells = [name for name, _ in groupby(names)]
    return len(spells) > len(set(spells))
