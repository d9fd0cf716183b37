"""Years of nodes of every sort with faults at known times, watched hour by hour by the functions of the product.

Everything follows from the seed. A year holds what is normal and looks bad as well: restarts, spikes, quiet weeks,
lulls, demand that wanders, clocks that change, late payers, hours in which our own machine was off.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from simulated import _persistent

from depin_orcha.anomalies import (
    HISTORY_H,
    AtRisk,
    Contact,
    Episode,
    Known,
    Past,
    Reference,
    Usual,
    follow,
    judge,
    learn,
    reference,
    without,
)
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, HOUR_S

START_S = 1_767_225_600
"""2026-01-01T00:00:00Z."""
YEAR_H = 365 * 24
SEEN_H = 192
_CALM_H = 45 * 24
"""Before the first fault."""


@dataclass
class Fault:
    """Something that goes wrong in the hours [start, end) of a year."""

    kind: str
    start: int
    end: int
    deadline_h: int
    """How soon it is to be found after ``clock``, when it first shows."""
    clock: int
    aftermath_h: int
    """So long after its end what is said may still be about it."""


@dataclass
class Year:
    """What a node told, hour by hour: index h is the hour that begins ``START_S + h * HOUR_S``."""

    sort: str
    hours: list[float | None]
    working: list[bool | None]
    bad: list[bool]
    told: list[int]
    """Up to which hour the node had accounted for when hour h was over."""
    unchanged: list[int]
    """Since which hour it told just the same."""
    details: Callable[[int], dict[str, Any]]
    at_risk: list[float] | None
    faults: list[Fault] = field(default_factory=list)


def storage(random: Generator, hours: int) -> np.ndarray:
    """A disk that fills and is emptied now and then, traffic on top."""
    hour = np.arange(hours)
    day = 1 + 0.05 * np.sin(2 * np.pi * hour / 24 + random.uniform(0, 6))
    return (
        0.01 * (1 + 0.0002 * hour) * day * np.exp(_persistent(random, hours, 0.7, 0.03)) * _wander(random, hours, 0.002)
    )


def bandwidth(random: Generator, hours: int) -> np.ndarray:
    """Traffic with a strong day, quieter weekends, spikes, and clocks that change twice."""
    hour = np.arange(hours) + int(random.integers(0, 168))
    hour[hours // 4 : hours * 5 // 6] += 1
    day = np.exp(0.5 * np.sin(2 * np.pi * hour / 24) + 0.2 * np.sin(4 * np.pi * hour / 24 + 1))
    week = np.where(hour // 24 % 7 < 5, 1.0, 0.75)
    earned = 0.02 * day * week * np.exp(_persistent(random, hours, 0.8, 0.2)) * _wander(random, hours, 0.01)
    for start in random.integers(0, hours, hours // 400):
        earned[start : start + int(random.integers(1, 4))] *= random.uniform(4, 15)
    return earned


def daylight(random: Generator, hours: int) -> np.ndarray:
    """A clear day with cloudy ones among them."""
    hour = np.arange(hours)
    day = 1 + 0.6 * np.sin(2 * np.pi * hour / 24 + random.uniform(0, 6))
    return np.maximum(0.0, 0.05 * day * _wander(random, hours, 0.01) + random.normal(0, 0.01, hours))


def points(random: Generator, hours: int) -> np.ndarray:
    """Points of uptime times a score that wobbles."""
    score = 0.75 * np.exp(_persistent(random, hours, 0.97, 0.06))
    return 50 * np.clip(score, 0.3, 1.0)


def stake(random: Generator, hours: int) -> np.ndarray:
    """What a stake brings by the second; its rate moves when others come and go."""
    return 0.8 * _wander(random, hours, 0.01) * np.exp(random.normal(0, 0.002, hours))


def payouts(random: Generator, hours: int) -> np.ndarray:
    """One payment a day, some hours late at times."""
    earned = np.zeros(hours)
    at = int(random.integers(0, 24))
    for day in range(hours // 24):
        late = int(random.integers(0, 3)) + (int(random.integers(3, 7)) if random.random() < 0.03 else 0)
        earned[min(day * 24 + at + late, hours - 1)] += random.lognormal(0, 0.12)
    return earned


def tasks(random: Generator, hours: int) -> np.ndarray:
    """Work that comes at random, in weeks of plenty and weeks of little, and pays unevenly."""
    earned = np.zeros(hours)
    busy = np.repeat(random.lognormal(0, 0.35, hours // 168 + 1), 168)[:hours]
    for start in np.flatnonzero(random.random(hours) < busy / 9):
        earned[start : start + int(random.geometric(1 / 3))] += random.lognormal(-3, 0.7)
    return earned


SORTS: Mapping[str, Callable[[Generator, int], np.ndarray]] = {
    "storage": storage,
    "bandwidth": bandwidth,
    "daylight": daylight,
    "points": points,
    "stake": stake,
    "payouts": payouts,
    "tasks": tasks,
}


@dataclass(frozen=True)
class FaultKind:
    """``lasts``: shortest, longest, deadline, aftermath, in hours. ``causes``: what an episode of it may be about."""

    lasts: tuple[int, int, int, int]
    causes: tuple[str, ...]


KINDS: Mapping[str, FaultKind] = {
    "outage": FaultKind((5, 48, 4, 24), ("reach",)),
    "flatline": FaultKind((8, 72, 4, 24), ("income",)),
    "frozen answers": FaultKind((8, 72, 4, 24), ("income",)),
    "stale reading": FaultKind((24, 72, 24, 24), ("reading",)),
    "missed payouts": FaultKind((60, 120, 24, 24), ("income",)),
    "half income": FaultKind((72, 144, 24, 24), ("income",)),
    "drift": FaultKind((96, 168, 24, 24), ("income",)),
    "score falling": FaultKind((96, 168, 24, 192), ("reputation one", "reputation ip_score")),
    "unpaid work": FaultKind((72, 144, 24, 192), ("unpaid",)),
    "usage without earnings": FaultKind((18, 48, 24, 24), ("income",)),
    "earnings without usage": FaultKind((18, 48, 24, 24), ("unused",)),
    "stale heartbeat": FaultKind((72, 120, 24, 24), ("heartbeat",)),
    "uncollected": FaultKind((72, 120, 24, 24), ("uncollected",)),
}
"""An hour of nothing at all has to be found within 4 h, all else within a day."""
FAULTS: Mapping[str, tuple[str, ...]] = {
    "storage": ("outage", "flatline", "half income", "drift", "frozen answers", "score falling"),
    "bandwidth": ("outage", "flatline", "half income", "drift"),
    "daylight": ("outage", "flatline", "half income", "drift"),
    "points": ("outage", "flatline", "half income", "drift", "stale reading", "score falling"),
    "stake": ("outage", "flatline", "half income", "stale heartbeat", "uncollected"),
    "payouts": ("outage", "missed payouts", "half income"),
    "tasks": ("outage", "unpaid work", "usage without earnings", "earnings without usage"),
}


def _wander(random: Generator, hours: int, a_day: float) -> np.ndarray:
    """Demand that goes up and down by ``a_day`` from day to day, and comes back."""
    days = hours // 24 + 2
    level = np.zeros(days)
    for day in range(1, days):
        level[day] = 0.99 * level[day - 1] + random.normal(0, a_day)
    return np.exp(np.interp(np.arange(hours), np.arange(days) * 24, level))


def make_year(sort: str, seed: int, *, faulty: bool, hours: int = YEAR_H) -> Year:
    """A year of a node of this sort, with faults or only with what is normal."""
    random = np.random.default_rng([seed, list(SORTS).index(sort), int(faulty)])
    earned = SORTS[sort](random, hours)
    faults = _schedule(random, sort, earned) if faulty else []
    world = _World(sort, random, earned, faults)
    return world.year()


def _schedule(random: Generator, sort: str, earned: np.ndarray) -> list[Fault]:
    """Faults one after another, each kind as often, with calm days between."""
    faults: list[Fault] = []
    kinds = list(FAULTS[sort])
    at = _CALM_H + int(random.integers(0, 24))
    order: list[str] = []
    while True:
        if not order:
            order = [str(one) for one in random.permutation(kinds)]
        if at + 10 * 24 > len(earned):
            return faults
        fault = _fault(random, order.pop(), at, earned)
        faults.append(fault)
        at = fault.end + fault.aftermath_h + int(random.integers(4 * 24, 9 * 24))


def _fault(random: Generator, kind: str, at: int, earned: np.ndarray) -> Fault:
    shortest, longest, deadline, after = KINDS[kind].lasts
    end = at + int(random.integers(shortest, longest))
    clock = at
    if kind in ("missed payouts", "half income"):
        clock += int(np.flatnonzero(earned[at:])[0])
    elif kind == "drift":
        clock += 10
    return Fault(kind, at, end, deadline, clock, after)


class _World:
    """A year as the node lives it, and what it tells."""

    def __init__(self, sort: str, random: Generator, earned: np.ndarray, faults: list[Fault]) -> None:
        self.sort, self.random, self.faults = sort, random, faults
        self.size = len(earned)
        self.earned: list[float | None] = earned.tolist()
        self.bad = [False] * self.size
        self.working: list[bool | None] = [None] * self.size
        self.told = list(range(1, self.size + 1))
        self.unchanged = list(range(self.size))
        self.score = np.ones(self.size)
        self.online = np.ones(self.size)
        self.ip_score = np.full(self.size, 75.0) + random.normal(0, 3, self.size)
        self.heartbeat_h = np.arange(self.size) % 24
        self.uncollected = np.abs((np.arange(self.size) * 0.004) % 0.1)
        self.at_risk = np.zeros(self.size)
        if sort == "tasks":
            self.working = [
                one > 0 if one != before else None for one, before in zip(earned, [0, *earned], strict=False)
            ]
            self.working = [
                bool(one) if one is not None else bool(paid > 0) or None
                for one, paid in zip(self.working, earned, strict=True)
            ]
            self._late_payers()
        self._normal()
        for fault in faults:
            getattr(self, "_" + fault.kind.replace(" ", "_"))(fault)

    def year(self) -> Year:
        if self.sort == "points":
            self._count_now_and_then()
        return Year(
            self.sort, self.earned, self.working, self.bad, self.told, self.unchanged, self._details,
            self.at_risk.tolist() if self.sort == "tasks" else None, self.faults,
        )  # fmt: skip

    def _normal(self) -> None:
        """Our own machine is off for some hours a month; online scores dip after restarts."""
        for start in self.random.integers(0, self.size, self.size // 700):
            gap = range(start, min(start + int(self.random.integers(3, 10)), self.size))
            some = any(self.earned[hour] != 0 for hour in gap)
            for hour in gap:
                self.earned[hour] = math.nan if some else None
        for start in self.random.integers(0, self.size, self.size // 300):
            self.online[start : start + 200] -= 0.01

    def _late_payers(self) -> None:
        for start in self.random.integers(0, self.size, self.size // 500):
            self.at_risk[start : start + int(self.random.integers(2, 20))] += self.random.lognormal(-2, 0.5)

    def _count_now_and_then(self) -> None:
        """Points are counted every few hours, except while nothing new is told."""
        stuck = [fault for fault in self.faults if fault.kind == "stale reading"]
        told = 0
        for hour in range(self.size):
            if self.random.random() < 0.8 and not any(one.start <= hour < one.end for one in stuck):
                told = hour + 1
            self.told[hour] = told

    def _outage(self, fault: Fault) -> None:
        for hour in range(fault.start, fault.end):
            self.bad[hour], self.earned[hour] = True, None

    def _flatline(self, fault: Fault) -> None:
        for hour in range(fault.start, fault.end):
            self.earned[hour] = 0.0

    _missed_payouts = _flatline

    def _frozen_answers(self, fault: Fault) -> None:
        self._flatline(fault)
        for hour in range(fault.start, fault.end):
            self.unchanged[hour] = fault.start

    def _half_income(self, fault: Fault) -> None:
        self._scale(fault, lambda _: 0.5)

    def _drift(self, fault: Fault) -> None:
        """A slide by 3 % of the usual an hour, down to a third of it; a quarter is gone after ten hours."""
        self._scale(fault, lambda hour: max(0.35, 1 - 0.028 * (hour - fault.start)))

    def _scale(self, fault: Fault, factor: Callable[[int], float]) -> None:
        for hour in range(fault.start, fault.end):
            one = self.earned[hour]
            self.earned[hour] = None if one is None else one * factor(hour)

    def _stale_reading(self, fault: Fault) -> None:
        """It answers, but its points are not counted any more; they are made up for afterwards."""

    def _score_falling(self, fault: Fault) -> None:
        fallen = np.minimum(np.arange(fault.end - fault.start) * 0.0012, 0.035)
        self.score[fault.start : fault.end] -= fallen
        self.score[fault.end : fault.end + 48] -= 0.035 * np.linspace(1, 0, 48)[: max(self.size - fault.end, 0)]
        self.ip_score[fault.start : fault.end] *= 0.45

    def _unpaid_work(self, fault: Fault) -> None:
        day = float(np.nanmean([one for one in self.earned if one is not None])) * 24
        for hour in range(fault.start, self.size):
            self.at_risk[hour] += day * min(1.0, 0.8 + 0.01 * (hour - fault.start))

    def _usage_without_earnings(self, fault: Fault) -> None:
        for hour in range(fault.start, fault.end):
            self.working[hour], self.earned[hour] = True, 0.0

    def _earnings_without_usage(self, fault: Fault) -> None:
        for hour in range(fault.start, fault.end):
            self.working[hour], self.earned[hour] = False, 0.05

    def _stale_heartbeat(self, fault: Fault) -> None:
        """The clock starts when the next one is due."""
        due = 24 - int(self.heartbeat_h[fault.start])
        fault.clock = fault.start + due
        for hour in range(fault.start, fault.end):
            self.heartbeat_h[hour] = self.heartbeat_h[fault.start] + hour - fault.start

    def _uncollected(self, fault: Fault) -> None:
        """Nobody collects any more; the clock starts at twice of what nodes let come together."""
        for hour in range(fault.start, fault.end):
            self.uncollected[hour] = 0.09 + 0.006 * (hour - fault.start)
        fault.clock = fault.start + 18

    def _details(self, hour: int) -> dict[str, Any]:
        if self.sort == "storage":
            scores = {"audit": float(self.score[hour]), "suspension": 1.0, "online": float(self.online[hour])}
            satellites = [{"id": "one", "url": "one.invalid:7777", "state": "ok", "scores": scores}]
            return {"satellites": satellites, "last_pinged_at": rfc3339(START_S + hour * HOUR_S)}
        if self.sort == "points":
            return {"devices": [{"ip_score": float(self.ip_score[hour])}]}
        if self.sort == "stake":
            return {
                "heartbeat_age_s": int(self.heartbeat_h[hour]) * HOUR_S,
                "uncollected_data": str(100 * float(self.uncollected[hour])),
                "uncollected_limit_data": "100",
                "open_flags": 0,
                "slashed_7d_data": "0",
            }
        return {}


@dataclass
class Watched:
    """What was said of a year."""

    year: Year
    episodes: list[Episode]
    """The latest state of each."""
    told: dict[tuple[str, int], int]
    """(cause, since) -> hour at the end of which it was first said."""
    closed: dict[tuple[str, int], int]
    """The same for the hour in which it was said to be over."""


@dataclass
class Tally:
    """What came of it: ``found`` in time by kind of fault, ``false`` by kind of episode.

    ``delays``: hours until a fault was told, of all that were, by its kind.
    """

    faults: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    delays: dict[str, list[int]] = field(default_factory=dict)
    repeated: int = 0
    false: Counter[str] = field(default_factory=Counter)
    years: float = 0.0

    def add(self, watched: Watched) -> None:
        """Count in a year. An episode is one of a fault's if it is told while that lasts and is about its cause.

        The first is the find; any other one told meanwhile is a repetition; all the rest is false.
        """
        year = watched.year
        self.years += len(year.hours) / YEAR_H
        kinds = {(one.cause, one.since_s): str(one.kind) for one in watched.episodes}
        left = dict(watched.told)
        for fault in year.faults:
            own = sorted(
                (hour, key)
                for key, hour in left.items()
                if fault.start <= hour < fault.end + fault.aftermath_h and key[0] in KINDS[fault.kind].causes
            )
            self.faults[fault.kind] += 1
            delays = [hour + 1 - fault.clock for hour, _ in own[:1]]
            self.found[fault.kind] += any(one <= fault.deadline_h for one in delays)
            self.delays.setdefault(fault.kind, []).extend(delays)
            self.repeated += max(len(own) - 1, 0)
            for _, key in own:
                del left[key]
        self.false.update(kinds[key] for key in left)


def watch(year: Year) -> Watched:
    """The year, judged at the end of each hour as ``forecast`` does."""
    episodes: dict[tuple[str, int], Episode] = {}
    told: dict[tuple[str, int], int] = {}
    closed: dict[tuple[str, int], int] = {}
    usual: Usual | None = None
    learned_for: Reference | None = None
    bad_since: int | None = None
    for hour in range(len(year.hours)):
        end_s = START_S + (hour + 1) * HOUR_S
        bad_since = (hour if bad_since is None else bad_since) if year.bad[hour] else None
        now_s = end_s + 120
        wanted = reference(episodes.values(), end_s // DAY_S * DAY_S)
        if wanted != learned_for:
            usual, learned_for = _learn(year, wanted), wanted
        known = _known(year, hour, end_s, now_s, usual, bad_since, episodes, wanted.holes)
        verdict = judge(known)
        for one in follow("node", verdict.findings, verdict.well, episodes.values(), now_s):
            key = one.cause, one.since_s
            episodes[key] = one
            told.setdefault(key, hour)
            if not one.is_open:
                closed[key] = hour
    return Watched(year, list(episodes.values()), told, closed)


def _learn(year: Year, wanted: Reference) -> Usual | None:
    to = (wanted.to_s - START_S) // HOUR_S
    start = max(to - HISTORY_H, (wanted.from_s - START_S) // HOUR_S, 0)
    told = [None if year.bad[hour] else year.told[hour] != year.told[hour - 1] for hour in range(start, to)]
    return learn(Past(wanted.to_s, year.hours[start:to], year.working[start:to], told, wanted.holes))


def _known(
    year: Year, hour: int, end_s: int, now_s: int, usual: Usual | None, bad_since: int | None,
    episodes: dict[tuple[str, int], Episode], holes: Iterable[tuple[int, int]],
) -> Known:  # fmt: skip
    if bad_since is None:
        contact = Contact(now_s - 60, now_s - 60)
    else:
        since_s = START_S + bad_since * HOUR_S + 900
        readings = (hour - bad_since + 1) * 4
        contact = Contact(now_s - 60, since_s - 900, since_s, readings, "transient", "unknown", "it does not answer")
    first = max(0, hour + 1 - SEEN_H)
    last = min(hour + 1, year.told[hour])
    hours = year.hours[first:last] + [None] * (hour + 1 - last)
    if last <= hour and hours:
        hours[last - first - 1] = None
    hours = without(hours, end_s, holes)
    risk = None
    if year.at_risk is not None:
        risk = AtRisk("GLM", min(year.at_risk[max(0, hour - 18) : hour + 1]), year.at_risk[max(0, hour - 168)])
    return Known(
        now_s, end_s, contact, usual, hours, year.working[first : hour + 1],
        told_s=START_S + last * HOUR_S,
        open={one.cause: one for one in episodes.values() if one.is_open},
        details=year.details(hour),
        details_hours_ago=year.details(max(hour - 3, 0)),
        details_week_ago=year.details(max(hour - 168, 0)),
        unchanged_since_s=START_S + year.unchanged[hour] * HOUR_S,
        at_risk=risk,
    )  # fmt: skip
