"""A simulated token price: a random walk in steps of five minutes that is pulled back to where it came from."""

from __future__ import annotations

import math
from bisect import bisect_right
from random import Random

STEP_S = 300
_PULL = 0.0004
_SPREAD = 0.0016


class PriceWalk:
    """USD per token from ``first_s`` on."""

    def __init__(self, first_s: int, usd: float, seed: str) -> None:
        self._first_s = first_s
        self._usual = math.log(usd)
        self._random = Random(seed)  # noqa: S311
        self._log = [self._usual]

    def advance(self, now_s: int) -> None:
        """Prices up to ``now_s`` are known."""
        while self._first_s + len(self._log) * STEP_S <= now_s:
            last = self._log[-1]
            self._log.append(last + _PULL * (self._usual - last) + self._random.gauss(0, _SPREAD))

    def at(self, at_s: int) -> tuple[int, float] | None:
        """The last price at or before an instant and its own instant; None before the first."""
        step = min((at_s - self._first_s) // STEP_S, len(self._log) - 1)
        return None if step < 0 else (self._first_s + step * STEP_S, self._usd(step))

    def between(self, from_s: int, to_s: int, spacing_s: int) -> list[tuple[int, float]]:
        """Prices in [from_s, to_s], one every ``spacing_s`` and the last one."""
        instants = range(self._first_s, self._first_s + len(self._log) * STEP_S, spacing_s)
        chosen = list(instants[bisect_right(instants, from_s - 1) : bisect_right(instants, to_s)])
        last = self.at(to_s)
        if last and last[0] >= from_s and (not chosen or chosen[-1] != last[0]):
            chosen.append(last[0])
        return [(at_s, self._usd((at_s - self._first_s) // STEP_S)) for at_s in chosen]

    def _usd(self, step: int) -> float:
        return float(f"{math.exp(self._log[step]):.8g}")
