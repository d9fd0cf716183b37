"""Earnings of made-up nodes whose true law is known: a history, and as many futures of it as one likes.

Every world gives (y, price or None, futures), where ``futures(random, paths)`` draws what comes after ``y``. One path
is taken for the truth; the quantiles of many are what an oracle would say that knows the law and its parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

AHEAD = 24
World = tuple[np.ndarray, np.ndarray | None, Callable[[np.random.Generator, int], np.ndarray]]


def storage(random: np.random.Generator, hours: int) -> World:
    """A disk that fills: a slow trend, a slight day, persistent noise of 3 %."""
    day = 0.05 * np.sin(2 * np.pi * np.arange(hours + AHEAD) / 24 + random.uniform(0, 2 * np.pi))
    base = np.log(0.01 * (1 + random.uniform(0, 0.0006) * np.arange(hours + AHEAD)) * (1 + day))
    return _lognormal(random, base, hours, memory=0.7, size=0.03)


def bandwidth(random: np.random.Generator, hours: int) -> World:
    """Traffic: a strong day, quieter weekends that begin anywhere, persistent noise of 20 %."""
    hour = np.arange(hours + AHEAD) + int(random.integers(0, 168))
    day = 0.5 * np.sin(2 * np.pi * hour / 24) + 0.2 * np.sin(4 * np.pi * hour / 24 + 1)
    base = np.log(0.02) + day + np.where(hour // 24 % 7 < 5, 0.0, np.log(0.75))
    return _lognormal(random, base, hours, memory=0.8, size=0.2)


def bursty(random: np.random.Generator, hours: int) -> World:
    """Compute tasks: arrive at random, last some hours, pay unevenly by the hour; most hours earn nothing."""
    rate, stay = random.uniform(0.06, 0.15), random.uniform(0.5, 0.75)

    def run(draw: np.random.Generator, pays: list[float], length: int) -> tuple[np.ndarray, list[float]]:
        earned = np.zeros(length)
        arrivals = draw.poisson(rate, length)
        for at in range(length):
            pays = [pay for pay in pays if draw.random() < stay]
            pays += draw.lognormal(-3, 0.7, arrivals[at]).tolist()
            earned[at] = sum(pays)
        return earned, pays

    y, left = run(random, [], hours)
    return y, None, lambda draw, paths: np.array([run(draw, left, AHEAD)[0] for _ in range(paths)])


def payout(random: np.random.Generator, hours: int) -> World:
    """One payment a day at a fixed hour, an hour late on three days of a hundred, of an uneven amount."""
    hour, spread = int(random.integers(0, 24)), random.uniform(0.1, 0.3)

    def run(draw: np.random.Generator, begin: int, length: int) -> np.ndarray:
        earned = np.zeros(length + 1)
        for at in range(length):
            if (begin + at) % 24 == hour:
                earned[at + int(draw.random() < 0.03)] += draw.lognormal(0, spread)
        return earned[:length]

    y = run(random, 0, hours)
    return y, None, lambda draw, paths: np.array([run(draw, hours, AHEAD) for _ in range(paths)])


def token(random: np.random.Generator, hours: int) -> World:
    """Traffic paid in tokens, whose price is a random walk of 0.7 % an hour."""
    y, _, futures = bandwidth(random, hours)
    price = 0.5 * np.exp(np.cumsum(random.normal(0, 0.007, hours)))

    def ahead(draw: np.random.Generator, paths: int) -> np.ndarray:
        walk = np.exp(np.cumsum(draw.normal(0, 0.007, (paths, AHEAD)), axis=1))
        return futures(draw, paths) * price[-1] * walk

    return y * price, price, ahead


WORLDS = {"storage": storage, "bandwidth": bandwidth, "bursty": bursty, "payout": payout, "token": token}


def _lognormal(random: np.random.Generator, base: np.ndarray, hours: int, *, memory: float, size: float) -> World:
    """exp(base + noise), where the noise remembers a share of its last value."""

    def run(draw: np.random.Generator, last: np.ndarray, length: int) -> np.ndarray:
        noise = np.empty((len(last), length))
        for at in range(length):
            last = memory * last + draw.normal(0, size * np.sqrt(1 - memory**2), len(last))
            noise[:, at] = last
        return noise

    noise = run(random, random.normal(0, size, 1), hours)[0]
    y = np.exp(base[:hours] + noise)
    return y, None, lambda draw, paths: np.exp(base[hours:] + run(draw, np.full(paths, noise[-1]), AHEAD))
