"""Nodes with weeks of hourly history, written straight into a real database, for decisions to be made on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from ledger_parts import opened
from operator_parts import Place

from depin_orcha.actuators import to_json
from depin_orcha.adapters.storj import Adapter, Options
from depin_orcha.types import DAY_S, HOUR_S, Action, Resource, RunCommand, Steps, Usage

GLM = 0.25
"""What a GLM is worth in USD."""
USUAL, DEAR = 0.025, 0.05
"""GLM for an hour of a thread."""


@dataclass(frozen=True)
class Setting:
    """What a provider offers from an hour on; without threads it offers nothing."""

    threads: int
    glm_per_thread_h: float = USUAL

    @property
    def offer(self) -> dict[str, Any]:
        price = {"glm_per_cpu_s": self.glm_per_thread_h / 3600, "glm_per_s": 0.0, "glm_start": 0.0}
        size = {"threads": self.threads, "mem_gib": 8.0, "storage_gib": 50.0, "test_money": False}
        return {"runtime": "vm"} | price | size


@dataclass
class Past:
    """Days until ``now_s`` in which every hour was read."""

    place: Place
    now_s: int
    days: int = 16

    @property
    def first_s(self) -> int:
        return self.now_s // HOUR_S * HOUR_S - self.days * DAY_S

    def provider(
        self, name: str, at: Callable[[int], Setting], share: Callable[[Setting], float], seed: int = 1
    ) -> None:
        """A Golem provider that is at work so much of the time, two hours at a time and idle in the end."""
        random, left, rows = Random(seed), 0, []
        for hour in range(self.days * 24):
            setting = at(hour)
            if left == 0 and hour < self.days * 24 - 2 and random.random() < share(setting) / (2 - share(setting)):
                left = 2
            works, left = left > 0, max(left - 1, 0)
            earned = works * setting.threads * setting.glm_per_thread_h
            details = {"offers": [setting.offer] if setting.threads else [], "agreements": [], "busy": works}
            rows.append((hour, earned, setting.threads, setting.threads * works, details))
        limits = {"cpu_cores": {"floor": 1.0, "ceiling": None, "step": 1.0}}
        self._write(name, "golem", "GLM", "cpu_cores", rows, limits)

    def paused(self, name: str, at_s: int) -> None:
        """A plan let the provider rest."""
        command = ("ya-provider", "preset")
        call, undo = (Steps((RunCommand((*command, word, "vm")),)) for word in ("deactivate", "activate"))
        identity = {"provider_command": ["ya-provider"], "preset": "vm"}
        action = Action(name, "golem", "power is dear", {"preset vm": True}, {"preset vm": False}, call, undo, identity)
        with opened(self.place.db, name, now_s=at_s) as store, store.transaction():
            row = store.add_action(None, 0, action, to_json(action), at_s)
            store.set_action_state(row, "done", "", at_s)

    def storage(self, name: str, granted_tb: float, tb: Callable[[float], float], usd_per_tb_month: float) -> None:
        """A Storj node with so many TB by day."""
        rows = []
        for hour in range(self.days * 24):
            stored = tb(hour / 24)
            rows.append((hour, stored * usd_per_tb_month / 730.5, granted_tb * 1e12, stored * 1e12, {}))
        used = Usage(granted_tb * 1e12, rows[-1][3])
        (limits,) = Adapter(name, Options(protocol="storj")).limits({Resource.STORAGE_BYTES: used}).values()
        self._write(name, "storj", "USD", "storage_bytes", rows, {"storage_bytes": asdict(limits)})

    def steady(self, name: str, protocol: str, currency: str, resource: str, per_hour: float, granted: float) -> None:
        """A node that earns the same every hour, and uses what it is granted."""
        rows = [(hour, per_hour, granted, granted, {}) for hour in range(self.days * 24)]
        self._write(name, protocol, currency, resource, rows, {})

    def _write(
        self, name: str, protocol: str, currency: str, resource: str, rows: list[Any], limits: dict[str, Any]
    ) -> None:
        place, last_s = self.place, self.now_s - 60
        with opened(place.db, name, now_s=self.first_s) as store, store.transaction():
            run = store.connection
            run.execute("UPDATE nodes SET protocol = ? WHERE name = ?", (protocol, name))
            capacity = json.dumps({"cpu_cores": 8.0, "memory_bytes": 3.4e10, "storage_bytes": 1e13})
            run.execute(
                "INSERT OR REPLACE INTO host_samples VALUES ('local', ?, ?, '{}', ?)", (last_s, capacity, last_s)
            )
            run.execute(
                "INSERT OR REPLACE INTO prices VALUES ('GLM', ?, ?, 'coingecko', ?)", (last_s, str(GLM), last_s)
            )
            for hour, earned, granted, used, details in rows:
                hour_s = self.first_s + hour * HOUR_S
                ends_s = hour_s + HOUR_S
                amount = f"{earned:.12f}".rstrip("0").rstrip(".") or "0"
                accrual = (name, hour_s, currency, ends_s, amount, "measured")
                run.execute("INSERT INTO accruals VALUES (?, ?, ?, ?, ?, ?, 1)", accrual)
                run.execute(
                    f"INSERT INTO usage_samples (node, observed_s, {resource}_allocated, {resource}_used, learned_s) "
                    "VALUES (?, ?, ?, ?, ?)",
                    (name, hour_s, granted, used, hour_s),
                )
                run.execute(
                    "INSERT INTO health_samples VALUES (?, ?, 'up', 'as told', NULL, ?, ?, ?, 1)",
                    (name, hour_s, json.dumps(details), json.dumps(limits), hour_s),
                )
                if currency != "USD":
                    value = (currency, hour_s, str(GLM), "coingecko", hour_s, ends_s)
                    run.execute("INSERT OR REPLACE INTO hour_values VALUES (?, ?, ?, ?, ?, ?)", value)


def wavering(mean: float) -> Callable[[int], float]:
    """Days that differ by a tenth up and down, in no order that repeats."""
    return lambda hour: mean * (1 + 0.1 * math.sin(7.3 * (hour // 24)))


def in_turn(*settings: Setting, hours: int = 12, days: int = 12) -> Callable[[int], Setting]:
    """Settings tried one after the other, again and again, and the last of them for good after so many days."""
    return lambda hour: settings[hour // hours % len(settings)] if hour < days * 24 else settings[-1]
