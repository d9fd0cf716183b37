"""What tests of forecasts through the command line share: weeks of cron, an hour at a time, and what was printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ledger_parts import at
from operator_parts import Place
from simulated import bandwidth

from depin_orcha.timefmt import rfc3339
from depin_orcha.types import HOUR_S

START_S = at("2026-10-12T00:00:00")
BEFORE_H = 10 * 24
STEPS_H = 75
CURRENCIES = {"line": "USD", "points": "POINTS"}
"""A node whose forecast is in USD, and one whose currency has no price, so that it is in the currency itself."""


@dataclass
class Weeks:
    """History that was imported, then cron: each hour is imported when it is over, then forecast."""

    place: Place
    truth: dict[str, dict[int, float]]
    published: list[dict[str, Any]] = field(default_factory=list)
    now_s: int = 0

    def imported(self, first_s: int, end_s: int, now_s: int) -> None:
        """What each node earned in [first, end) becomes known."""
        lines = ["node,start,end,currency,amount,protocol"]
        for node, hours in self.truth.items():
            for hour_s in range(first_s, end_s, HOUR_S):
                span = f"{rfc3339(hour_s)},{rfc3339(hour_s + HOUR_S)}"
                lines.append(f"{node},{span},{CURRENCIES[node]},{hours[hour_s]:.9f},exec")
        file = self.place.folder / "earned.csv"
        file.write_text("\n".join(lines) + "\n")
        self.place.config.touch()
        self.place("import", str(file), now=now_s)

    def judged(self, node: str, until_s: int) -> tuple[int, float, float]:
        """Hours, and how many of them lay in the 80 % and the 95 % band, counted anew from what was printed."""
        said: dict[int, list[Mapping[str, float]]] = {}
        for document in self.published:
            for one in document["forecasts"]:
                if one["node"] == node:
                    for hour in one["hours"][:24]:
                        said.setdefault(at(hour["start"].removesuffix("Z")), []).append(hour)
        hours, inside = 0, [0.0, 0.0]
        for hour_s, bands in said.items():
            if hour_s < until_s:
                hours += 1
                value = float(f"{self.truth[node][hour_s]:.9f}")
                for index, level in enumerate(("80", "95")):
                    held = sum(one[f"lo{level}"] <= value <= one[f"hi{level}"] for one in bands)
                    inside[index] += held / len(bands)
        return hours, inside[0], inside[1]


def earned(seed: int, jump: bool) -> dict[int, float]:
    values = bandwidth(seed, BEFORE_H + STEPS_H + 48)
    if jump:
        values[BEFORE_H + 20 :] *= 4
    return {START_S + index * HOUR_S: value for index, value in enumerate(values.tolist())}
