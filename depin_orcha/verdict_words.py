"""The sentences of ``verdict``. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .economics.estimate import Estimate, total
from .economics.verdicts import LEAST_DAYS, MONTH_H, DearHours, judged, spans


@dataclass(frozen=True, slots=True)
class Money:
    """How amounts are told: in the owner's money where its rate is known, else in USD."""

    currency: str
    usd_per_unit: float

    def text(self, usd: float) -> str:
        """An amount with its currency."""
        value = round(usd / self.usd_per_unit, 2) + 0.0
        return f"{value:.2f} {self.currency}"

    def month(self, usd_per_hour: Estimate) -> str:
        """An hourly estimate as a monthly amount with its 80 % range."""
        one = usd_per_hour.times(MONTH_H / self.usd_per_unit)
        told = f"{round(one.mean, 2) + 0.0:.2f} {self.currency}"
        if not math.isfinite(one.away) or one.away < 0.005:
            return told
        return f"{told} ({round(one.lo80, 2) + 0.0:.2f} to {round(one.hi80, 2) + 0.0:.2f})"


@dataclass(slots=True)
class Judged:
    """A node or a machine: USD and watts per hour, None where not known, and ``lacks``: why not."""

    name: str
    protocol: str = ""
    host: str = ""
    income: Estimate | None = None
    cost: Estimate | None = None
    watts: float | None = None
    watts_source: str = ""
    days: int = 0
    hours: int = 0
    tokens: dict[str, tuple[float, float]] = field(default_factory=dict[str, tuple[float, float]])
    """Currency -> what it earns of it in an hour, and what one is worth in USD."""
    evidence: str = "none"
    lacks: list[str] = field(default_factory=list[str])
    dear: DearHours | None = None
    held_usd: float | None = None
    at_risk_usd: float | None = None
    part_of_idle: bool = False
    """Is its power part of what the machine draws anyway?"""
    pauses_save: bool = False
    """Of a machine that loses: does it no longer once its nodes rest at their dear hours?"""
    booked_on: str | None = None
    """The node that shows its income."""

    @property
    def net(self) -> Estimate | None:
        """What power leaves."""
        return None if self.income is None or self.cost is None else self.income.less(self.cost)

    @property
    def word(self) -> str:
        """The verdict in one word."""
        return "pause" if self.dear is not None or self.pauses_save else judged(self.net, self.days)

    def still_loses(self, saved_usd_month: Estimate) -> bool:
        """Would it surely lose even if so much were saved?"""
        saved = saved_usd_month.times(1 / MONTH_H)
        return judged(None if self.net is None else total([self.net, saved]), self.days) == "stop"


def node_why(one: Judged, money: Money) -> str:
    """Why a node is to be kept, paused or stopped, or what is missing to tell."""
    if one.lacks or one.net is None or one.income is None or one.cost is None:
        known = "" if one.income is None else f"it brings {money.month(one.income)} a month, but "
        return f"{known}{'; '.join(one.lacks)}"
    if one.part_of_idle:
        told = f"it brings {money.month(one.income)} a month; its power is part of the machine's"
    else:
        told = f"it brings {money.month(one.income)} and its own power costs {money.month(one.cost)} a month"
    if one.evidence == "contract":
        told = f"{told}; points are no money until usd_per_point says what one is worth"
    if one.evidence == "prior":
        told = f"{told}; most of its hours were imported or estimated"
    if one.dear is not None:
        saved = money.text(one.dear.saved_usd_month.mean)
        when = f"pause it at {spans(one.dear.hours)}"
        return f"{told}; {when}: work that begins then costs more power than it brings, {saved} a month"
    if one.word == "stop":
        return f"{told}; {_stops(one, money)}"
    return told if one.word == "keep" else f"{told}; {_doubt(one, money)}"


def host_why(one: Judged, members: Sequence[Judged], money: Money, *, always_on: bool) -> str:
    """The same of a machine, with what its nodes would leave behind."""
    if one.lacks or one.net is None or one.income is None or one.cost is None:
        return f"net unknown: {'; '.join(one.lacks)}"
    what = "what its nodes draw" if always_on else "the power it would no longer draw"
    told = f"its nodes bring {money.month(one.income)} a month, {what} costs {money.month(one.cost)}"
    if one.word == "pause":
        names = ", ".join(node.name for node in members if node.dear is not None)
        return (
            f"{told}: you lose {money.month(one.net.times(-1.0))} a month, and no more once {names} rests at dear hours"
        )
    if one.word != "stop":
        left = f"{told}: {money.month(one.net)} is left"
        return left if one.word == "keep" else f"{told}; {_doubt(one, money)}"
    losses = " ".join(_exits(members, money))
    return f"stop everything on it: you lose {money.month(one.net.times(-1.0))} a month; {told}" + (
        f". {losses}" if losses else ""
    )


def headline(machines: Sequence[Judged], nodes: Iterable[Judged], money: Money) -> str:
    """One sentence for all machines and nodes."""
    if not machines:
        return "no node is known yet"
    words = {one.name: one.word for one in machines}
    pauses = [f"pause {one.name} at {spans(one.dear.hours)}" for one in nodes if one.dear is not None]
    stops = [f"stop {one.name}" for one in nodes if one.word == "stop" and words.get(one.host) != "stop"]
    nets = [one.net for one in machines]
    if set(words.values()) == {"stop"}:
        lost = -sum(net.mean for net in nets if net is not None) * MONTH_H
        return f"Stop everything: you lose {money.text(lost)} a month"
    todo = [f"stop {name}" for name, word in words.items() if word == "stop"] + stops + pauses
    unsure = [name for name, word in words.items() if word == "cannot_tell"]
    if todo:
        return f"Worth doing: {', '.join(todo)}" + (f"; cannot tell for {', '.join(unsure)}" if unsure else "")
    if unsure:
        return f"Nothing to stop or pause as far as can be told; cannot tell for {', '.join(unsure)}"
    return "Keep everything: every machine brings more than its power costs"


def _stops(one: Judged, money: Money) -> str:
    net = one.net
    lost = "" if net is None else f"stop it: you lose {money.month(net.times(-1.0))} a month"
    return ". ".join([lost, *_exits([one], money)])


def _exits(members: Iterable[Judged], money: Money) -> list[str]:
    """What stopping costs beside income: money that is held or not accepted yet, work under way, stake."""
    told: list[str] = []
    for one in members:
        if one.protocol == "storj" and one.held_usd:
            told.append(f"{one.name} gives up {money.text(one.held_usd)} that is held unless it exits gracefully.")
        elif one.protocol == "golem":
            told.append(f"Stop {one.name} while no agreement runs, or its work is not paid.")
        elif one.protocol == "streamr":
            told.append(f"Unstake before {one.name} stops: an operator that is gone can lose stake.")
        if one.at_risk_usd:
            told.append(f"{money.text(one.at_risk_usd)} of {one.name} is not accepted yet.")
    return told


def _doubt(one: Judged, money: Money) -> str:
    net = one.net
    if net is None or one.days < LEAST_DAYS:
        return f"only {one.days} days of income are known, it takes {LEAST_DAYS}"
    if not net.mean and not net.away:
        return "it neither brings nor costs money"
    return f"what is left, {money.month(net)} a month, may be a gain or a loss"
