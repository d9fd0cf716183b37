"""What the worlds are made of: things that happen at instants of a seeded chance, counters that are read, answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from depin_orcha.types import DECIMALS

_JSON = {"content-type": "application/json"}


class Agenda:
    """Time, and what is due in it; ``told`` is what was asked and answered well since time last passed."""

    def __init__(self, name: str, start_s: int) -> None:
        self.chance = Random(name)
        self.now_s = start_s
        self.happened: Counter[str] = Counter()
        self.told: set[str] = set()
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._number = count()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Let it happen once, at least a second from now."""
        heappush(self._due, (self.now_s + max(1, int(seconds)), next(self._number), act))

    def now_and_then(self, mean_s: float, act: Callable[[], None]) -> None:
        """Let it happen again and again, so far apart in the mean."""

        def again() -> None:
            act()
            self.after(self.chance.expovariate(1 / mean_s), again)

        self.after(self.chance.expovariate(1 / mean_s), again)

    def advance(self, to_s: int) -> None:
        """All that is due happens, each at its instant."""
        self.told.clear()
        while self._due and self._due[0][0] <= to_s:
            self.now_s, _, act = heappop(self._due)
            act()
        self.now_s = to_s


@dataclass
class Meter:
    """A counter as its reader knows it: it earned what it grew by since the last reading; a fall earns nothing."""

    last: Decimal | None = None
    earned: Decimal = Decimal(0)

    def read(self, value: Decimal, share: Decimal = Decimal(1)) -> None:
        """The counter stands at ``value``, and ``share`` of its growth is the operator's."""
        with localcontext(DECIMALS):
            if self.last is not None and value > self.last:
                self.earned += (value - self.last) * share
        self.last = value


def answer(value: Any, status: int = 200) -> tuple[int, bytes, dict[str, str]]:
    """A JSON answer."""
    return status, json.dumps(value, separators=(",", ":")).encode(), _JSON
