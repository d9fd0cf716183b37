"""Everything that is written to the database; reading lives in :mod:`depin_orcha.asof`.

Every write is one immediate transaction; inserts are ignored when the same fact is already there, so that a repeated
run adds nothing.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, fields
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from . import __version__
from .backoff import Backoff
from .booking import book, known_zeros
from .errors import FailureKind
from .scoring import Score
from .settled import add_settled
from .timefmt import compact
from .types import (
    Accrual,
    Action,
    Price,
    Resource,
    Snapshot,
    decimal_text,
)


class Store:
    """A database that :func:`depin_orcha.database.open_for_writing` opened, inside one run."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.run_id = 0

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """All of the writes inside, or none of them."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            with suppress(sqlite3.Error):
                self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def start_run(self, command: str, now_s: int, config_sha256: str | None) -> int:
        """Record that a command began; what is written from here on belongs to it. Returns its number."""
        cursor = self.connection.execute(
            "INSERT INTO runs (command, started_s, version, config_sha256) VALUES (?, ?, ?, ?)",
            (command, now_s, __version__, config_sha256),
        )
        self.run_id = cursor.lastrowid or 0
        return self.run_id

    def finish_run(self, run_id: int, now_s: int, exit_code: int) -> None:
        """Record how the command ended."""
        self.connection.execute(
            "UPDATE runs SET finished_s = ?, exit_code = ? WHERE id = ?", (now_s, exit_code, run_id)
        )

    def set_meta(self, key: str, value: str) -> None:
        """Remember one fact about the whole database."""
        self.connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    def add_node(self, name: str, protocol: str, host: str, now_s: int) -> None:
        """Make a node known; its protocol and host follow the configuration."""
        self.connection.execute(
            "INSERT INTO nodes VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET protocol = excluded.protocol, "
            "host = excluded.host, first_seen_s = min(first_seen_s, excluded.first_seen_s)",
            (name, protocol, host, now_s, name),
        )

    def set_sources(self, sources: Mapping[str, str]) -> None:
        """From now on the income of known nodes is read as that of their source, whichever of its nodes is asked.

        ``sources``: of every configured node. A source that was never read goes on where the one before it ended, if
        no node is left there: a node that was alone and now shares an account, or is alone again.
        """
        in_use = set(sources.values())
        for name, source in sources.items():
            row = self.connection.execute("SELECT source FROM nodes WHERE name = ?", (name,)).fetchone()
            if row is None or row[0] == source:
                continue
            self.connection.execute("UPDATE nodes SET source = ? WHERE name = ?", (source, name))
            is_read = "SELECT 1 FROM earnings_samples WHERE source = ? LIMIT 1"
            if row[0] not in in_use and not self.connection.execute(is_read, (source,)).fetchone():
                self.connection.execute("UPDATE earnings_samples SET source = ? WHERE source = ?", (source, row[0]))

    def add_snapshot(self, snapshot: Snapshot, learned_s: int, currency: str) -> list[Accrual]:
        """Store one reading of a node and book what it earned since; returns what was booked.

        ``currency``: what the node is paid in, for hours of a complete ledger in which it earned nothing.
        """
        self.add_health(
            snapshot.node,
            snapshot.observed_s,
            learned_s,
            str(snapshot.health.status),
            snapshot.health.reason,
            details=snapshot.health.details,
            limits={
                str(resource): {"floor": limit.floor, "ceiling": limit.ceiling, "step": limit.step}
                for resource, limit in snapshot.limits.items()
            },
        )
        self._add_usage(snapshot, learned_s)
        add_settled(self.connection, snapshot, learned_s)
        booked = book(self.connection, self.run_id, snapshot, learned_s)
        if snapshot.complete_since_s is not None:
            booked += known_zeros(snapshot, snapshot.complete_since_s, currency)
        self.add_accruals(snapshot.node, booked, learned_s)
        return booked

    def add_health(
        self,
        node: str,
        observed_s: int,
        learned_s: int,
        status: str,
        reason: str,
        *,
        failure_kind: FailureKind | None = None,
        details: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        """Store what a node said of itself, or why it could not be read."""
        self.connection.execute(
            "INSERT INTO health_samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                node,
                observed_s,
                status,
                reason,
                failure_kind,
                to_json(details or {}),
                to_json(limits or {}),
                learned_s,
                self.run_id,
            ),
        )

    def add_host(self, host: str, observed_s: int, capacity: Mapping[str, float], used: Mapping[str, float]) -> None:
        """Store the capacity of a host and what is used of it."""
        self.connection.execute(
            "INSERT INTO host_samples VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (host, observed_s, to_json(capacity), to_json(used), observed_s),
        )

    def add_prices(self, prices: Iterable[Price], learned_s: int) -> None:
        """Store token prices; of an instant the price that was learned first is kept."""
        self.connection.executemany(
            "INSERT INTO prices VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET usd_per_unit = excluded.usd_per_unit, "
            "source = excluded.source, learned_s = excluded.learned_s WHERE excluded.learned_s < learned_s",
            [(p.currency, p.observed_s, decimal_text(p.usd_per_unit), p.source, learned_s) for p in prices],
        )

    def add_price_jumps(self, jumps: Iterable[Price], learned_s: int) -> None:
        """Remember prices that nobody confirmed yet; they value nothing."""
        self.connection.executemany(
            "INSERT INTO price_jumps VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(p.currency, p.observed_s, decimal_text(p.usd_per_unit), p.source, learned_s) for p in jumps],
        )

    def set_backoff(self, subject: str, backoff: Backoff | None) -> None:
        """Leave a source, or a node, alone; None lifts it."""
        if backoff is None:
            self.connection.execute("DELETE FROM backoffs WHERE subject = ?", (subject,))
            return
        self.connection.execute(
            "INSERT OR REPLACE INTO backoffs VALUES (?, ?, ?, ?, ?, ?)",
            (subject, backoff.since_s, backoff.until_s, backoff.kind, backoff.message, backoff.fingerprint),
        )

    def value_hours(self, valued: Iterable[tuple[str, int, Price]], learned_s: int) -> None:
        """Fix the price of hours, each (currency, hour, price) once; a value already there stays."""
        self.connection.executemany(
            "INSERT INTO hour_values VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [(c, hour_s, decimal_text(p.usd_per_unit), p.source, p.observed_s, learned_s) for c, hour_s, p in valued],
        )

    def add_forecast(self, node: str, currency: str, origin_hour_s: int, forecast: Any, learned_s: int) -> None:
        """Store a forecast made in an hour; what was said of that hour before stays, and is what will be scored."""
        self.connection.execute(
            "INSERT OR REPLACE INTO forecasts VALUES (?, ?, ?, ?, ?, ?)",
            (node, currency, origin_hour_s, learned_s, self.run_id, to_json(forecast)),
        )

    def add_scores(self, scores: Iterable[Score], learned_s: int) -> None:
        """Store how the forecasts of each day did, as far as it is scored now; earlier states of a day stay."""
        names = [column.name for column in fields(Score)]
        marks = ", ".join("?" * (len(names) + 1))
        self.connection.executemany(
            f"INSERT INTO forecast_scores ({', '.join(names)}, learned_s) VALUES ({marks}) ON CONFLICT DO NOTHING",  # noqa: S608 - only names of columns
            [(*astuple(one), learned_s) for one in scores],
        )

    def add_plan(
        self,
        made_s: int,
        expires_s: int,
        result: Mapping[str, Any],
        problem: Mapping[str, Any],
        places: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """Store a plan with its grants and shadow prices; returns its id, which the instant and the inputs make.

        ``places``: where each node runs, for which the plan is made.
        """
        plan_id = f"{compact(made_s)}-{result['inputs_sha256'][:8]}"
        cursor = self.connection.execute(
            "INSERT INTO plans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                plan_id,
                self.run_id,
                made_s,
                expires_s,
                result["status"],
                result["decision"],
                result["reason"],
                result["inputs_sha256"],
                to_json(problem),
                to_json(result),
                to_json(dict(places)),
            ),
        )
        if not cursor.rowcount:
            return plan_id
        for host in result["hosts"]:
            self.connection.executemany(
                "INSERT INTO allocations VALUES (?, ?, ?, ?, ?)",
                [
                    (plan_id, node["node"], resource, float(amount), _previous(node, amount))
                    for node in host["nodes"]
                    for resource, amount in node["resources"].items()
                ],
            )
            self.connection.executemany(
                "INSERT INTO shadow_prices VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(plan_id, host["host"], one["constraint"], one["usd_per_unit_hour"]) for one in host["shadow_prices"]],
            )
        return plan_id

    def add_action(self, plan_id: str | None, seq: int, action: Action, action_json: str, now_s: int) -> int:
        """Put an act on record before anything happens; returns the number of its row."""
        cursor = self.connection.execute(
            "INSERT INTO actions (run_id, plan_id, seq, node, kind, action_json, state, started_s) "
            "VALUES (?, ?, ?, ?, ?, ?, 'planned', ?)",
            (self.run_id, plan_id, seq, action.node, action.kind, action_json, now_s),
        )
        return cursor.lastrowid or 0

    def set_action_state(self, row: int, state: str, detail: str, finished_s: int | None) -> None:
        """How far an act came; durable when this returns."""
        self.connection.execute(
            "UPDATE actions SET state = ?, detail = ?, finished_s = ? WHERE id = ?", (state, detail, finished_s, row)
        )

    def add_pause(self, node: str | None, paused_s: int, until_s: int | None) -> None:
        """A node, or all of them (None), is left alone from now on."""
        self.connection.execute(
            "INSERT INTO pauses (node, paused_s, until_s) VALUES (?, ?, ?)", (node, paused_s, until_s)
        )

    def end_pauses(self, nodes: Sequence[str], resumed_s: int) -> None:
        """The pauses of these nodes have ended; without names, all have."""
        marks = ", ".join("?" * len(nodes))
        condition = f" AND node IN ({marks})" if nodes else ""
        self.connection.execute(
            f"UPDATE pauses SET resumed_s = ? WHERE resumed_s IS NULL{condition}",  # noqa: S608 - only marks go in
            (resumed_s, *nodes),
        )

    def imported_overlaps(self, node: str, currency: str, start_s: int, end_s: int) -> set[tuple[int, int, Decimal]]:
        """(start, end, amount) of imported intervals that share a second with [start, end)."""
        rows = self.connection.execute(
            "SELECT start_s, end_s, amount FROM imported_intervals WHERE node = ? AND currency = ? "
            "AND start_s < ? AND end_s > ?",
            (node, currency, end_s, start_s),
        )
        return {(row[0], row[1], Decimal(row[2])) for row in rows}

    def has_measured(self, node: str, currency: str, first_hour_s: int, last_hour_s: int) -> bool:
        """Did the node itself report earnings in any of these hours?"""
        row = self.connection.execute(
            "SELECT 1 FROM accruals WHERE node = ? AND currency = ? AND hour_s BETWEEN ? AND ? "
            "AND quality <> 'imported' AND amount <> '0' LIMIT 1",
            (node, currency, first_hour_s, last_hour_s),
        )
        return row.fetchone() is not None

    def price_fixed_otherwise(self, currency: str, first_hour_s: int, last_hour_s: int, price: Decimal) -> str | None:
        """Another price than this one that is fixed for one of the hours; None where there is none."""
        rows = self.connection.execute(
            "SELECT price_usd FROM hour_values WHERE currency = ? AND hour_s BETWEEN ? AND ?",
            (currency, first_hour_s, last_hour_s),
        )
        return next((row[0] for row in rows if Decimal(row[0]) != price), None)

    def add_imported(
        self,
        node: str,
        currency: str,
        span_s: tuple[int, int],
        amount: Decimal,
        usd_per_unit: Decimal | None,
        learned_s: int,
    ) -> None:
        """Remember an imported interval, so that the same file adds nothing the next time."""
        price = None if usd_per_unit is None else decimal_text(usd_per_unit)
        self.connection.execute(
            "INSERT INTO imported_intervals VALUES (?, ?, ?, ?, ?, ?, ?, '0')",
            (node, currency, *span_s, decimal_text(amount), price, learned_s),
        )

    def add_accruals(self, node: str, accruals: Iterable[Accrual], learned_s: int) -> None:
        """Append what was earned; several deltas of one hour learned at one instant are one row."""
        rows = [
            (node, one.hour_s, one.currency, learned_s, decimal_text(one.amount), str(one.quality), self.run_id)
            for one in accruals
            if one.amount or not self._is_known(node, one)
        ]
        self.connection.executemany(
            "INSERT INTO accruals VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "amount = decimal_add(amount, excluded.amount), quality = min(quality, excluded.quality)",
            rows,
        )

    def _is_known(self, node: str, one: Accrual) -> bool:
        row = self.connection.execute(
            "SELECT 1 FROM accruals WHERE node = ? AND hour_s = ? AND currency = ? LIMIT 1",
            (node, one.hour_s, one.currency),
        )
        return row.fetchone() is not None

    def _add_usage(self, snapshot: Snapshot, learned_s: int) -> None:
        columns = ["node", "observed_s", "learned_s"]
        values: list[Any] = [snapshot.node, snapshot.observed_s, learned_s]
        for resource, usage in snapshot.usage.items():
            columns += [f"{Resource(resource)}_allocated", f"{Resource(resource)}_used"]
            values += [usage.allocated, usage.used]
        self.connection.execute(
            f"INSERT INTO usage_samples ({', '.join(columns)}) VALUES ({', '.join('?' * len(values))}) "  # noqa: S608
            "ON CONFLICT DO NOTHING",
            values,
        )


def _previous(node: Mapping[str, Any], amount: float) -> float | None:
    """What a node had of a resource before: as much less as its units were."""
    if node["previous_units"] is None or not node["units"]:
        return None
    return float(amount) * float(node["previous_units"]) / float(node["units"])


def to_json(value: Any) -> str:
    """Compact JSON text with sorted keys; refuses NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_json_default)


def _json_default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return decimal_text(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")
