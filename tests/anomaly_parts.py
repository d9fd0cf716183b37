"""Nodes as the detectors see them, with what is usual for them learned from made-up weeks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from faulty_years import bandwidth, storage, tasks
from ledger_parts import at

from depin_orcha.anomalies import Contact, Episode, Finding, Kind, Known, Past, Severity, Usual, judge, learn
from depin_orcha.types import HOUR_S

END_S = at("2026-11-10T09:00:00")
SEEN_H = 192
WEEKS_H = 7 * 168
MAKERS = {"storage": storage, "bandwidth": bandwidth, "tasks": tasks}
CONTACT = Contact(END_S + 60, END_S + 60)


def daily_payouts(random: np.random.Generator, hours: int) -> np.ndarray:
    """One a day at nine, a tenth more or less, that ends an hour before the last."""
    earned = np.zeros(hours)
    earned[hours % 24 :: 24] = random.lognormal(0, 0.1, len(earned[hours % 24 :: 24]))
    return np.roll(earned, -2)


@cache
def year(sort: str, seed: int = 1) -> tuple[float, ...]:
    """Hours of seven weeks and then of eight days, the last of which ends at END_S."""
    make = MAKERS.get(sort, daily_payouts)
    return tuple(make(np.random.default_rng(seed), WEEKS_H + SEEN_H).tolist())


@cache
def usual(sort: str, seed: int = 1) -> Usual:
    """What the seven weeks say."""
    earned = year(sort, seed)
    working = [one > 0 for one in earned]
    told = [True] * len(earned)
    end_s = END_S - SEEN_H * HOUR_S
    found = learn(Past(end_s, earned[:WEEKS_H], working[:WEEKS_H], told[:WEEKS_H], stored_bytes=2e12))
    assert found is not None
    return found


def node(sort: str, hours: Sequence[float | None] | None = None, **more: Any) -> Known:
    """A healthy node after its eight days; ``hours``: what its last ones were instead."""
    last: list[float | None] = list(year(sort)[-SEEN_H:])
    if hours is not None:
        last = [*last[: -len(hours)], *hours]
    known = Known(END_S + 120, END_S, CONTACT, usual(sort), last, [None] * SEEN_H, told_s=END_S)
    return replace(known, **more)


def last(sort: str, hours: int, factor: float = 1.0) -> list[float]:
    """The last hours of a node, all of them so many times as high."""
    return [one * factor for one in year(sort)[-hours:]]


def told(known: Known) -> list[Finding]:
    return judge(known).findings


def kinds(known: Known) -> list[Kind]:
    return [one.kind for one in told(known)]


def episode(cause: str, kind: Kind, since_s: int = END_S - 10 * HOUR_S, **more: Any) -> Episode:
    return Episode("node", cause, since_s, since_s, kind, Severity.WARNING, 1.5, {}, **more)
