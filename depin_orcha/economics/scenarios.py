"""Futures for a decision that minds bad ones: how a node's income may differ from what is expected of it. Pure."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from statistics import NormalDist, fmean

from .estimate import Z80

COUNT = 40


def factors(node: str, mean: float, lo80: float, hi80: float) -> tuple[float, ...]:
    """Income over the horizon as multiples of what is expected, one for each scenario; their mean is 1.

    As spread as the 80 % range of the forecast, each side by itself, and never below 0. Which node has a good future
    together with which other's bad one is drawn from its name and forecast: equal inputs give equal futures.
    """
    if mean <= 0:
        return (1.0,) * COUNT
    quantiles = [NormalDist().inv_cdf((index + 0.5) / COUNT) for index in range(COUNT)]
    above, below = max(hi80 - mean, 0.0) / Z80 / mean, max(mean - lo80, 0.0) / Z80 / mean
    drawn = [max(1 + one * (above if one > 0 else below), 0.0) for one in quantiles]
    seed = sha256(f"{node} {mean!r} {lo80!r} {hi80!r}".encode()).digest()
    Random(seed).shuffle(drawn)  # noqa: S311 - nothing is secret
    average = fmean(drawn)
    return tuple(one / average for one in drawn)
