"""A host whose income follows its grants, hour by hour, and what each way of deciding makes of it.

Eight protocols want the same cores, memory and uplink. What one more unit earns falls with the grant, moves with the
hour, the weekday, a market that wanders and jumps, and noise; what is observed is noisy too. A move costs what the
protocol loses while it restarts. Nothing here is known to the optimiser but the problem document.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

HORIZON_H = 12
DAY_H = 24
CAPACITY = {"cpu_cores": 16.0, "memory_bytes": 64e9, "uplink_bps": 2e8}

Array = np.ndarray
Decide = Callable[[int, Array], Array]
"""Hour and grants in force -> grants from now on."""


@dataclass(frozen=True)
class Protocol:
    """What a protocol takes and earns: USD per hour of the first unit on average, and how that moves."""

    name: str
    uses: Mapping[str, float]
    usd: float
    most: float
    step: float
    segments: tuple[tuple[float, float], ...]
    loss_h: float
    running: float
    day: float
    wander: float
    jumps: float

    def curve(self, units: Array | float) -> Array:
        """Units of the first segment that earn as much."""
        total, left = np.zeros_like(np.asarray(units, dtype=float)), np.asarray(units, dtype=float)
        for width, relative in self.segments[:-1]:
            part = np.minimum(left, width)
            total, left = total + part * relative, left - part
        return total + left * self.segments[-1][1]


def _protocol(name: str, cpu: float, memory_gb: float, uplink_mbps: float, usd: float, **more: Any) -> Protocol:
    uses = {"cpu_cores": cpu, "memory_bytes": memory_gb * 1e9, "uplink_bps": uplink_mbps * 1e6}
    return Protocol(name, {key: value for key, value in uses.items() if value}, usd, **more)


PROTOCOLS = (
    _protocol("a_render", 1, 4, 2, 0.0110, most=12, step=1, segments=((4, 1.0), (4, 0.7), (4, 0.4)), loss_h=0.5,
              running=0.0010, day=0.25, wander=0.10, jumps=0.004),
    _protocol("b_batch", 1, 2, 1, 0.0080, most=12, step=1, segments=((6, 1.0), (6, 0.6)), loss_h=0.1,
              running=0.0010, day=0.15, wander=0.06, jumps=0.003),
    _protocol("c_relay", 0.2, 0.5, 10, 0.0060, most=15, step=0, segments=((5, 1.0), (5, 0.6), (5, 0.3)), loss_h=0.2,
              running=0.0001, day=0.30, wander=0.08, jumps=0.004),
    _protocol("d_proxy", 0.1, 0.25, 10, 0.0045, most=15, step=0, segments=((8, 1.0), (7, 0.5)), loss_h=0.1,
              running=0.0001, day=0.25, wander=0.05, jumps=0.002),
    _protocol("e_index", 0.5, 8, 5, 0.0130, most=6, step=1, segments=((2, 1.0), (2, 0.7), (2, 0.5)), loss_h=1.0,
              running=0.0008, day=0.10, wander=0.04, jumps=0.001),
    _protocol("f_prove", 2, 8, 0, 0.0260, most=6, step=1, segments=((3, 1.0), (3, 0.5)), loss_h=0.5,
              running=0.0025, day=0.20, wander=0.12, jumps=0.006),
    _protocol("g_stream", 0.5, 1, 8, 0.0070, most=10, step=0, segments=((4, 1.0), (6, 0.6)), loss_h=0.3,
              running=0.0004, day=0.35, wander=0.07, jumps=0.003),
    _protocol("h_store", 0.25, 2, 6, 0.0050, most=10, step=0, segments=((10, 1.0),), loss_h=0.25,
              running=0.0002, day=0.05, wander=0.03, jumps=0.001),
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """Prices of the first unit, USD per hour: what comes true and what is seen of it (hours x protocols)."""

    true: Array
    seen: Array
    warm_h: int

    @property
    def hours(self) -> range:
        """The hours that count; those before are history."""
        return range(self.warm_h, len(self.true) - HORIZON_H)


def world(seed: int, days: int, warm_days: int = 21) -> World:
    """``days`` that count after ``warm_days`` of history."""
    random = np.random.default_rng(seed)
    hours = (days + warm_days) * DAY_H + HORIZON_H
    at = np.arange(hours)
    true, seen = np.empty((hours, len(PROTOCOLS))), np.empty((hours, len(PROTOCOLS)))
    noon = random.uniform(0, 2 * np.pi)
    for index, one in enumerate(PROTOCOLS):
        shift, weekend = noon + random.normal(0, 0.7), random.uniform(0.75, 1.1)
        day = 1 + one.day * (np.sin(2 * np.pi * at / DAY_H + shift) + 0.2 * np.sin(4 * np.pi * at / DAY_H + 2 * shift))
        jumps = np.where(random.random(hours) < one.jumps, random.normal(0, 0.6, hours), 0.0)
        market = _remembered(random.normal(0, one.wander, hours), 0.97) + _remembered(jumps, 0.985)
        week = np.where(at // DAY_H % 7 < 5, 1.0, weekend)
        true[:, index] = one.usd * np.maximum(day, 0.05) * week * np.exp(market)
        seen[:, index] = true[:, index] * random.lognormal(-0.005, 0.1, hours)
    return World(true, seen, warm_days * DAY_H)


def _remembered(news: Array, share: float) -> Array:
    """What is left of all news so far, if an hour leaves this share."""
    total = np.empty_like(news)
    left = 0.0
    for hour, new in enumerate(news):
        left = share * left + new
        total[hour] = left
    return total


def problem(units: Array, prices: Array, **thresholds: float) -> dict[str, Any]:
    """The problem document of the host; ``prices``: hours x protocols, USD per unit of the first segment."""
    nodes = [
        {
            "node": one.name,
            "uses_per_unit": dict(one.uses),
            "current_units": float(units[index]),
            "max_units": one.most,
            "usd_per_unit_hour": [float(price) for price in prices[:, index]],
            "segments": [{"width_units": width, "relative": relative} for width, relative in one.segments],
            "running_usd_per_unit_hour": one.running,
            "restart_loss_hours": one.loss_h,
            "step_units": one.step,
            "integer": bool(one.step),
        }
        for index, one in enumerate(PROTOCOLS)
    ]
    host = {"host": "box", "capacity": CAPACITY, "nodes": nodes}
    return {"horizon_h": len(prices), "hosts": [host], "thresholds": thresholds}


@dataclass(frozen=True)
class Outcome:
    """What came of a way of deciding: USD after power and restarts, moves, and grants that were too many."""

    usd: float
    restarts: int
    infeasible: int
    grants: Array


def earned(units: Array, prices: Array) -> Array:
    """USD per hour after power of each protocol."""
    curves = np.stack([one.curve(units[..., index]) for index, one in enumerate(PROTOCOLS)], axis=-1)
    return prices * curves - units * np.array([one.running for one in PROTOCOLS])


def lost(old: Array, new: Array, prices: Array) -> Array:
    """USD that a move costs each protocol: so many hours of what it earned, at least of 35 % of what it could."""
    loss = np.array([one.loss_h for one in PROTOCOLS])
    now = np.stack([one.curve(old[..., index]) for index, one in enumerate(PROTOCOLS)], axis=-1)
    most = np.array([float(one.curve(one.most)) for one in PROTOCOLS])
    return np.where(old != new, loss * prices * np.maximum(now, 0.35 * most), 0.0)


def fits(units: Array) -> bool:
    """Do the grants fit into the host?"""
    used = {key: sum(one.uses.get(key, 0.0) * units[index] for index, one in enumerate(PROTOCOLS)) for key in CAPACITY}
    steps = all(not one.step or units[index] % one.step == 0 for index, one in enumerate(PROTOCOLS))
    most = all(0 <= units[index] <= one.most * (1 + 1e-9) for index, one in enumerate(PROTOCOLS))
    return steps and most and all(amount <= CAPACITY[key] * (1 + 1e-6) for key, amount in used.items())


def equal_split() -> Array:
    """The same share of what is scarcest for everyone, in whole steps."""
    share = min(CAPACITY[key] / sum(one.uses.get(key, 0.0) * one.most for one in PROTOCOLS) for key in CAPACITY)
    return np.array([share * one.most // (one.step or 1e-9) * (one.step or 1e-9) for one in PROTOCOLS])


def play(world: World, decide: Decide) -> Outcome:
    """Decide every hour that counts, and earn what comes true."""
    units = equal_split()
    usd, restarts, infeasible = 0.0, 0, 0
    grants = np.empty((len(world.hours), len(PROTOCOLS)))
    for row, hour in enumerate(world.hours):
        new = decide(hour, units)
        usd += float((earned(new, world.true[hour]) - lost(units, new, world.true[hour])).sum())
        restarts += int((new != units).sum())
        infeasible += not fits(new)
        grants[row] = units = new
    return Outcome(usd, restarts, infeasible, grants)


def ours(expected: Callable[[int], Array], **document: Any) -> Decide:
    """The optimiser with these prices of the next hours (hours x protocols)."""
    from depin_orcha.optimize import Problem, solve

    def decide(hour: int, units: Array) -> Array:
        plan = solve(Problem.from_dict(problem(units, expected(hour)) | document), explain=False).hosts[0]
        return np.array([node.units for node in plan.nodes])

    return decide


def textbook(expected: Callable[[int], Array], pct: float, usd_per_hour: float, ignore_pct: float) -> Decide:
    """The plain rule: the textbook programme in whole steps, made where it promises enough; restarts are not seen."""
    from depin_orcha.optimize import Problem, solve

    def decide(hour: int, units: Array) -> Array:
        prices = expected(hour)
        document = problem(units, prices) | {"model": "spec"}
        plan = solve(Problem.from_dict(document), explain=False).hosts[0]
        wanted = np.array([node.units for node in plan.nodes])
        steps = np.array([one.step or 1e-9 for one in PROTOCOLS])
        wanted = np.floor(wanted / steps + 1e-6) * steps
        wanted = np.where(np.abs(wanted - units) < ignore_pct / 100 * units, units, wanted)
        wanted = wanted if fits(wanted) else units
        value, now = (float(earned(one, prices.mean(axis=0)).sum()) for one in (wanted, units))
        passes = value - now >= usd_per_hour and value - now >= pct / 100 * abs(now)
        return wanted if passes else units

    return decide


def foresight(world: World) -> Callable[[int], Array]:
    """What will come true."""
    return lambda hour: world.true[hour : hour + HORIZON_H]


def forecasts(world: World, every_h: int = 6) -> Callable[[int], Array]:
    """What the forecaster says of what was seen, learned anew every so many hours and rolled forward between."""
    from depin_orcha.forecast.fit import fitted
    from depin_orcha.forecast.series import Series

    fits: list[Any] = []

    @cache
    def expected(hour: int) -> Array:
        members = [
            {"id": one.name, "start": "2026-01-01", "y": world.seen[:hour, index].tolist()}
            for index, one in enumerate(PROTOCOLS)
        ]
        batch = [Series.from_member(member, member["id"]) for member in members]
        if not fits or hour % every_h == 0:
            fits[:] = fitted(batch, HORIZON_H)
        return np.array([fit.forecast(one, HORIZON_H, [80])[0].mean for fit, one in zip(fits, batch, strict=True)]).T

    return expected


def clairvoyant(world: World) -> Outcome:
    """The best grants of every hour by itself where restarts cost nothing: nobody can earn more."""
    free = {"restart_loss_hours": 0.0}
    from depin_orcha.optimize import Problem, solve

    usd = 0.0
    grants = np.empty((len(world.hours), len(PROTOCOLS)))
    for row, hour in enumerate(world.hours):
        document = problem(np.zeros(len(PROTOCOLS)), world.true[hour : hour + 1])
        document["hosts"][0]["nodes"] = [node | free for node in document["hosts"][0]["nodes"]]
        plan = solve(Problem.from_dict(document), explain=False).hosts[0]
        grants[row] = [node.units for node in plan.nodes]
        usd += float(earned(grants[row], world.true[hour]).sum())
    return Outcome(usd, 0, 0, grants)


def hindsight(world: World, tried: list[Array], most: int = 400) -> float:
    """USD of the best sequence of grants out of all that anybody tried (hours x protocols each), restarts paid.

    Dynamic programming over the hours; of more than ``most`` different grants those that were tried longest.
    """
    every, counts = np.unique(np.concatenate([equal_split()[None], *tried]), axis=0, return_counts=True)
    start = int(np.flatnonzero((every == equal_split()).all(axis=1))[0])
    kept = np.union1d(np.argsort(-counts, kind="stable")[:most], [start])
    every, start = every[kept], int(np.searchsorted(kept, start))
    best = np.full(len(every), -np.inf)
    best[start] = 0.0
    loss = np.array([one.loss_h for one in PROTOCOLS])
    curves = np.stack([one.curve(every[:, index]) for index, one in enumerate(PROTOCOLS)], axis=-1)
    most_units = np.array([float(one.curve(one.most)) for one in PROTOCOLS])
    hours_lost = loss * np.maximum(curves, 0.35 * most_units)  # of the grant that is left
    moved = every[:, None, :] != every[None, :, :]
    for hour in world.hours:
        prices = world.true[hour]
        charge = np.einsum("ip,ijp->ij", hours_lost * prices, moved)
        best = (best[:, None] - charge).max(axis=0) + earned(every, prices).sum(axis=1)
    return float(best.max())
