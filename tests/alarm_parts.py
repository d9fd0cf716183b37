"""Nodes that lived for weeks: what they told was read every quarter of an hour and booked, as ``collect`` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ledger_parts import at, opened
from operator_parts import Place

from depin_orcha.errors import FailureKind
from depin_orcha.store import Store
from depin_orcha.types import (
    HOUR_S,
    EarningsSample,
    Health,
    HealthStatus,
    Resource,
    SampleKind,
    Snapshot,
    Standing,
    StandingAmount,
    Usage,
)

START_S = at("2026-10-01T00:00:00")
CURRENCY = "MYST"
QUARTER_S = 900


@dataclass
class Life:
    """Nodes in a database, each with a lifetime counter. ``reads``: what else they tell at each reading."""

    place: Place
    now_s: int = START_S
    counters: dict[str, Decimal] = field(default_factory=dict)

    def configure(self, *names: str) -> None:
        self.counters = dict.fromkeys(names, Decimal(0))
        nodes = (
            f'[nodes.{name}]\nprotocol = "exec"\ncommand = ["false"]\ncurrencies = ["{CURRENCY}"]\n' for name in names
        )
        self.place.configure("\n".join(nodes))

    def live(self, hours: Mapping[str, Iterable[float | None]], every_s: int = QUARTER_S, **told: Any) -> None:
        """The next hours: what each node earns in them, None where it does not answer."""
        first_s = self.now_s
        with opened(self.place.db, next(iter(self.counters)), first_s) as store:
            store.connection.execute("BEGIN IMMEDIATE")
            for name, earned in hours.items():
                store.add_node(name, "exec", "local", START_S)
                self.now_s = first_s
                for amount in earned:
                    self._hour(store, name, amount, every_s, **told)
            store.connection.execute("COMMIT")

    def _hour(self, store: Store, name: str, amount: float | None, every_s: int, **told: Any) -> None:
        hour_s = self.now_s
        for observed_s in range(hour_s + every_s, hour_s + HOUR_S + 1, every_s):
            if amount is None:
                store.add_health(
                    name, observed_s, observed_s, "unknown", "it refuses", failure_kind=FailureKind.TRANSIENT
                )
                continue
            self.counters[name] += Decimal(f"{amount * every_s / HOUR_S:.9f}")
            store.add_snapshot(self._snapshot(name, observed_s, **told), observed_s, CURRENCY)
        self.now_s = hour_s + HOUR_S

    def _snapshot(
        self,
        name: str,
        observed_s: int,
        *,
        details: Mapping[str, Any] | None = None,
        at_risk: float | None = None,
        working: bool | None = None,
        reason: str = "fine",
        status: HealthStatus = HealthStatus.UP,
    ) -> Snapshot:
        earned = EarningsSample(observed_s, self.counters[name], CURRENCY, SampleKind.COUNTER)
        own = {"read": observed_s} if details is None else dict(details)
        owed = () if at_risk is None else (StandingAmount(Standing.AT_RISK, Decimal(str(at_risk)), CURRENCY),)
        used = {} if working is None else {Resource.CPU_CORES: Usage(4.0, 4.0 if working else 0.0)}
        health = Health(status, reason, own)
        return Snapshot(name, observed_s, (earned,), health, used, standings=owed)

    def anomalies(self, verb: str, now_s: int | None = None) -> list[dict[str, Any]]:
        """What a verb says of them."""
        return self.place.json(verb, now=now_s or self.now_s).data["anomalies"]
