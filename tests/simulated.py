"""Simulated hourly earnings with known behaviour: equal seed, equal series."""

from __future__ import annotations

import numpy as np


def storage(seed: int, hours: int) -> np.ndarray:
    """Disk that fills: a slow trend, a slight day, persistent noise of 3 %."""
    random = np.random.default_rng(seed)
    hour = np.arange(hours)
    day = 1 + 0.05 * np.sin(2 * np.pi * hour / 24 + random.uniform(0, 2 * np.pi))
    return 0.01 * (1 + 0.0003 * hour) * day * np.exp(_persistent(random, hours, 0.7, 0.03))


def bandwidth(seed: int, hours: int) -> np.ndarray:
    """Traffic: a strong day, quieter weekends that begin anywhere, persistent noise of 20 %."""
    random = np.random.default_rng(seed)
    hour = np.arange(hours) + int(random.integers(0, 168))
    day = np.exp(0.5 * np.sin(2 * np.pi * hour / 24) + 0.2 * np.sin(4 * np.pi * hour / 24 + 1))
    week = np.where(hour // 24 % 7 < 5, 1.0, 0.75)
    return 0.02 * day * week * np.exp(_persistent(random, hours, 0.8, 0.2))


def daylight(seed: int, hours: int) -> np.ndarray:
    """A clear day under independent noise."""
    random = np.random.default_rng(seed)
    day = 1 + 0.6 * np.sin(2 * np.pi * np.arange(hours) / 24 + random.uniform(0, 2 * np.pi))
    return np.maximum(0.0, 0.05 * day + random.normal(0, 0.01, hours))


def tasks(seed: int, hours: int) -> np.ndarray:
    """Work that arrives at random, lasts a few hours and pays unevenly; most hours earn nothing."""
    random = np.random.default_rng(seed)
    earned = np.zeros(hours + 48)
    arrivals = int(random.poisson(len(earned) / 9))
    starts = random.integers(0, len(earned), arrivals)
    for start, length, pay in zip(
        starts, random.geometric(1 / 3, arrivals), random.lognormal(-3, 0.7, arrivals), strict=True
    ):
        earned[start : start + length] += pay
    return earned[48:]


def _persistent(random: np.random.Generator, hours: int, memory: float, size: float) -> np.ndarray:
    shocks = random.normal(0, size * np.sqrt(1 - memory**2), hours)
    noise = np.empty(hours)
    noise[0] = random.normal(0, size)
    for hour in range(1, hours):
        noise[hour] = memory * noise[hour - 1] + shocks[hour]
    return noise
