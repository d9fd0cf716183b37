"""Everything that is read from the database, as it was known at one instant.

All queries hide what was learned later, so that a command with ``--now T`` sees exactly what it would have seen at T.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .accrual import period_window
from .backoff import Backoff
from .errors import DataError, FailureKind
from .types import CERTAINTY, DECIMALS, HOUR_S, Price, Quality, Resource, Usage
from .values import NO_MONEY, unit_price


@dataclass(frozen=True, slots=True)
class EarnedHour:
    """What a node earned in one hour; ``price`` is the one fixed for that hour, None while it has none."""

    node: str
    currency: str
    hour_s: int
    amount: Decimal
    quality: Quality
    price: Price | None


@dataclass(frozen=True, slots=True)
class Node:
    """A node that was collected or imported at least once."""

    name: str
    protocol: str
    host: str
    first_seen_s: int
    source: str
    """Whose income is read through it: its own, by its name, or that of an account."""


@dataclass(frozen=True, slots=True)
class HealthRow:
    """What a node said of itself, or why it could not be read (``failure_kind``)."""

    observed_s: int
    status: str
    reason: str
    failure_kind: str | None
    details: dict[str, Any]
    limits: dict[str, dict[str, float | None]]


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A stored plan: the problem and the result as in the public contract, and ``NodeOptions.place`` of each node."""

    plan_id: str
    made_s: int
    expires_s: int
    status: str
    decision: str
    reason: str
    problem: dict[str, Any]
    result: dict[str, Any]
    places: dict[str, dict[str, str | None]]


@dataclass(frozen=True, slots=True)
class Pause:
    """No action on a node, or on any (None), until ``until_s`` (None: until resumed)."""

    node: str | None
    paused_s: int
    until_s: int | None


class AsOf:
    """A database as it was known at ``now_s``."""

    def __init__(self, connection: sqlite3.Connection, now_s: int) -> None:
        self.connection = connection
        self.now_s = now_s

    def meta(self, key: str) -> str | None:
        """One remembered fact about the whole database."""
        row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def nodes(self) -> list[Node]:
        """All nodes ever collected or imported, by name."""
        rows = self.connection.execute(
            "SELECT name, protocol, host, first_seen_s, source FROM nodes WHERE first_seen_s <= ? ORDER BY name",
            (self.now_s,),
        )
        return [Node(*row) for row in rows]

    def hours(self, since_s: int = 0, node: str | None = None) -> Iterator[EarnedHour]:
        """Earned hours from ``since_s`` on, ordered by node, hour and currency; the running hour included.

        An hour that still lacks its part of the next step of a counter is known in sum only.
        """
        unfinished = self._unfinished()
        rows = self.connection.execute(
            "SELECT n.name, a.hour_s, a.currency, group_concat(a.amount), max(CASE a.quality WHEN 'measured' THEN 0 "
            "WHEN 'interpolated' THEN 1 WHEN 'estimated' THEN 2 ELSE 3 END), "
            "v.price_usd, v.price_source, v.price_observed_s "
            # Node by node, the hours that are asked for are found without a look at the years before them.
            "FROM nodes n CROSS JOIN accruals a ON a.node = n.name AND a.hour_s >= :since "
            "LEFT JOIN hour_values v ON v.currency = a.currency AND v.hour_s = a.hour_s AND v.learned_s <= :now "
            "WHERE a.learned_s <= :now AND (:node IS NULL OR n.name = :node) "
            "GROUP BY n.name, a.hour_s, a.currency",
            {"now": self.now_s, "since": since_s // HOUR_S * HOUR_S, "node": node},
        )
        for name, hour_s, currency, amounts, worst, price, source, price_s in rows:
            quality = CERTAINTY[int(worst)]
            value = None if price is None else Price(currency, Decimal(price), source, price_s)
            if any(start_s < hour_s + HOUR_S and hour_s < end_s for start_s, end_s in unfinished.get(name, ())):
                quality = max(quality, Quality.INTERPOLATED, key=CERTAINTY.index)
            yield EarnedHour(name, currency, hour_s, _sum(amounts), quality, value)

    def _unfinished(self) -> dict[str, list[tuple[int, int]]]:
        """By node, from the last step of each counter that moves in steps to its last reading."""
        rows = self.connection.execute(
            "SELECT node, period, coalesce(stepped_s, observed_s), observed_s FROM earnings_samples AS one "
            "WHERE stepped IS NOT NULL AND learned_s <= :now AND observed_s = (SELECT max(observed_s) "
            "FROM earnings_samples WHERE node = one.node AND stepped IS NOT NULL AND learned_s <= :now)",
            {"now": self.now_s},
        )
        found: dict[str, list[tuple[int, int]]] = {}
        for node, period, step_s, read_s in rows:
            window = period_window(period)
            found.setdefault(node, []).append((step_s, min(read_s, window[1]) if window else read_s))
        return found

    def unvalued_hours(self) -> list[tuple[str, int]]:
        """(currency, hour) of completed hours with earnings and no fixed price yet; USD needs none."""
        rows = self.connection.execute(
            "SELECT DISTINCT a.currency, a.hour_s FROM accruals a WHERE a.currency <> 'USD' AND a.hour_s <= ? "
            "AND NOT EXISTS (SELECT 1 FROM hour_values v WHERE v.currency = a.currency AND v.hour_s = a.hour_s) "
            "ORDER BY 1, 2",
            (self.now_s - HOUR_S,),
        )
        return [(row[0], row[1]) for row in rows]

    def hours_without_rate(self, currency: str) -> list[int]:
        """Completed hours with earnings that lack a rate of the owner's money; USD needs none."""
        rows = self.connection.execute(
            "SELECT DISTINCT a.hour_s FROM accruals a WHERE :currency <> 'USD' AND a.hour_s <= :now - 3600 "
            "AND NOT EXISTS (SELECT 1 FROM hour_values v WHERE v.currency = :currency AND v.hour_s = a.hour_s) "
            "ORDER BY 1",
            {"now": self.now_s, "currency": currency},
        )
        return [row[0] for row in rows]

    def hour_prices(self, currency: str, since_s: int) -> dict[int, Decimal]:
        """Hour -> USD per unit as fixed for it, from ``since_s`` on."""
        rows = self.connection.execute(
            "SELECT hour_s, price_usd FROM hour_values WHERE currency = ? AND hour_s >= ? AND learned_s <= ?",
            (currency, since_s // HOUR_S * HOUR_S, self.now_s),
        )
        return {row[0]: Decimal(row[1]) for row in rows}

    def price_at(self, currency: str, instant_s: int) -> Price | None:
        """The last price at or before an instant, however old."""
        row = self.connection.execute(
            "SELECT usd_per_unit, source, observed_s FROM prices WHERE currency = ? AND observed_s <= ? "
            "AND learned_s <= ? ORDER BY observed_s DESC LIMIT 1",
            (currency, instant_s, self.now_s),
        ).fetchone()
        return Price(currency, Decimal(row[0]), row[1], row[2]) if row else None

    def price_jumps(self) -> dict[str, Price]:
        """Currency -> the last price that jumped, and was not used because nobody had confirmed it."""
        rows = self.connection.execute(
            "SELECT currency, usd_per_unit, source, max(observed_s) FROM price_jumps "
            "WHERE observed_s <= :now AND learned_s <= :now GROUP BY currency",
            {"now": self.now_s},
        )
        return {row[0]: Price(row[0], Decimal(row[1]), row[2], row[3]) for row in rows}

    def price_of(self, hour: EarnedHour) -> Price | None:
        """The price that values an hour: its own, of the running hour the latest; None if unknown."""
        if hour.price is not None:
            return hour.price
        runs = hour.hour_s + HOUR_S > self.now_s
        return unit_price(hour.currency, self.price_at(hour.currency, self.now_s) if runs else None, self.now_s)

    def usd(self, hour: EarnedHour) -> Decimal | None:
        """What was earned in an hour in USD, at :meth:`price_of` it; None if unknown.

        An amount of 0 needs no price, unless it is no money.
        """
        return usd_at(self.price_of(hour), hour)

    def backoffs(self) -> dict[str, Backoff]:
        """Sources and nodes that were to be left alone, for now or until before."""
        rows = self.connection.execute(
            "SELECT subject, since_s, until_s, failure_kind, message, fingerprint FROM backoffs WHERE since_s <= ?",
            (self.now_s,),
        )
        return {
            subject: Backoff(since_s, until_s, kind and FailureKind(kind), *words)
            for subject, since_s, until_s, kind, *words in rows
        }

    def health(self, node: str) -> HealthRow | None:
        """The last reading of a node, good or failed."""
        return self._health(node, "")

    def last_seen(self, node: str) -> HealthRow | None:
        """The last reading of a node that succeeded."""
        return self._health(node, "AND failure_kind IS NULL ")

    def last_read_s(self, node: str) -> int | None:
        """The date of the good reading that was made last, of this node or another that is read for the same income.

        Where a clock went back, earlier ones have later dates.
        """
        row = self.connection.execute(
            "SELECT observed_s FROM health_samples WHERE node IN (SELECT name FROM nodes WHERE source = "
            "(SELECT source FROM nodes WHERE name = ?)) AND learned_s <= ? AND failure_kind IS NULL "
            "ORDER BY run_id DESC LIMIT 1",
            (node, self.now_s),
        ).fetchone()
        return row[0] if row else None

    def _health(self, node: str, condition: str) -> HealthRow | None:
        row = self.connection.execute(
            "SELECT observed_s, status, reason, failure_kind, details_json, limits_json FROM health_samples "  # noqa: S608
            f"WHERE node = ? AND learned_s <= ? {condition}ORDER BY observed_s DESC LIMIT 1",
            (node, self.now_s),
        ).fetchone()
        if row is None:
            return None
        observed_s, status, reason, failure_kind, details, limits = row
        return HealthRow(observed_s, status, reason, failure_kind, json.loads(details), json.loads(limits))

    def details_history(self, node: str, since_s: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """(observed, details) of a node's successful readings from ``since_s`` on, oldest first."""
        rows = self.connection.execute(
            "SELECT observed_s, details_json FROM health_samples WHERE node = ? AND observed_s >= ? "
            "AND learned_s <= ? AND failure_kind IS NULL ORDER BY observed_s",
            (node, since_s, self.now_s),
        )
        for observed_s, details in rows:
            yield observed_s, json.loads(details)

    def usage(self, node: str) -> dict[Resource, Usage]:
        """What a node was granted and used when it was last read; resources it does not tell of are absent."""
        for _, usage in self.usage_history(node, 0, newest_only=True):
            return usage
        return {}

    def usage_history(
        self, node: str, since_s: int, *, newest_only: bool = False
    ) -> Iterator[tuple[int, dict[Resource, Usage]]]:
        """Readings of a node's grants and use from ``since_s`` on, newest first."""
        columns = ", ".join(f"{resource}_allocated, {resource}_used" for resource in Resource)
        rows = self.connection.execute(
            f"SELECT observed_s, {columns} FROM usage_samples WHERE node = ? AND observed_s >= ? "  # noqa: S608
            "AND learned_s <= ? ORDER BY observed_s DESC LIMIT ?",
            (node, since_s, self.now_s, 1 if newest_only else -1),
        )
        for observed_s, *values in rows:
            pairs = zip(Resource, values[::2], values[1::2], strict=True)
            yield (
                observed_s,
                {
                    resource: Usage(allocated, used)
                    for resource, allocated, used in pairs
                    if allocated is not None or used is not None
                },
            )

    def standings(self, nodes: Sequence[str]) -> dict[tuple[str, str], Decimal]:
        """(standing, currency) -> amount as last told by any of the nodes, which are read for one income."""
        rows = self.connection.execute(
            "SELECT standing, currency, amount, max(observed_s) FROM standings "  # noqa: S608 - only question marks
            f"WHERE node IN ({', '.join('?' * len(nodes))}) AND learned_s <= ? GROUP BY standing, currency",
            (*nodes, self.now_s),
        )
        return {(row[0], row[1]): Decimal(row[2]) for row in rows}

    def counter_readings(self, node: str, period: str) -> dict[str, list[tuple[int, Decimal]]]:
        """External id -> (observed, what a node's counter of a period stood at), the earliest reading first."""
        rows = self.connection.execute(
            "SELECT external_id, observed_s, amount FROM earnings_samples "
            "WHERE source = (SELECT source FROM nodes WHERE name = ?) AND kind = 'counter' AND period = ? "
            "AND learned_s <= ? ORDER BY external_id, observed_s",
            (node, period, self.now_s),
        )
        readings: dict[str, list[tuple[int, Decimal]]] = {}
        for external_id, observed_s, amount in rows:
            readings.setdefault(external_id, []).append((observed_s, Decimal(amount)))
        return readings

    def hosts(self) -> dict[str, tuple[dict[str, float], dict[str, float]]]:
        """Host -> (capacity, used) as last measured or configured."""
        rows = self.connection.execute(
            "SELECT host, capacity_json, used_json, max(observed_s) FROM host_samples WHERE learned_s <= ? "
            "GROUP BY host ORDER BY host",
            (self.now_s,),
        )
        return {row[0]: (json.loads(row[1]), json.loads(row[2])) for row in rows}

    def forecasts(self) -> dict[str, dict[str, Any]]:
        """Node -> its latest stored forecast, a member of ``data.forecasts[]``."""
        # With max(), SQLite takes the other columns from the row that has it: of the last hour the last one.
        rows = self.connection.execute(
            "SELECT node, forecast_json, max(origin_hour_s / 3600 * 10000000000 + learned_s) FROM forecasts "
            "WHERE learned_s <= ? GROUP BY node",
            (self.now_s,),
        )
        return {row[0]: json.loads(row[1]) for row in rows}

    def plan(self) -> PlanRow | None:
        """The latest plan. Raises ``DataError`` where what is stored is not JSON."""
        row = self.connection.execute(
            "SELECT id, made_s, expires_s, status, decision, reason, problem_json, result_json, places_json FROM plans "
            "WHERE made_s <= ? ORDER BY made_s DESC, rowid DESC LIMIT 1",
            (self.now_s,),
        ).fetchone()
        if row is None:
            return None
        plan_id, made_s, expires_s, status, decision, reason, *documents = row
        try:
            problem, result, places = map(json.loads, documents)
        except (ValueError, RecursionError) as error:
            hint = "make a new one with: depin-orcha optimize"
            raise DataError(f"plan {plan_id} is damaged: it is not JSON ({error})", hint) from error
        return PlanRow(plan_id, made_s, expires_s, status, decision, reason, problem, result, places)

    def runs(self) -> dict[str, tuple[int, int | None, int | None]]:
        """Command -> (started, finished, exit code) of its latest run; an end after now is not known yet."""
        rows = self.connection.execute(
            "SELECT command, started_s, finished_s, exit_code, max(id) FROM runs WHERE started_s <= ? "
            "GROUP BY command ORDER BY command",
            (self.now_s,),
        )
        latest: dict[str, tuple[int, int | None, int | None]] = {}
        for command, started_s, finished_s, code, _ in rows:
            ended = finished_s is not None and finished_s <= self.now_s
            latest[command] = (started_s, finished_s, code) if ended else (started_s, None, None)
        return latest

    def ran_later(self, command: str) -> bool:
        """Has a command been run since for a later instant?"""
        row = self.connection.execute(
            "SELECT 1 FROM runs WHERE command = ? AND started_s > ? LIMIT 1", (command, self.now_s)
        )
        return row.fetchone() is not None

    def pauses(self) -> list[Pause]:
        """Pauses in force."""
        rows = self.connection.execute(
            "SELECT node, paused_s, until_s FROM pauses WHERE paused_s <= :now "
            "AND (resumed_s IS NULL OR resumed_s > :now) AND (until_s IS NULL OR until_s > :now) ORDER BY id",
            {"now": self.now_s},
        )
        return [Pause(*row) for row in rows]

    def actions(self, *, state: str | None = None, node: str | None = None) -> list[dict[str, Any]]:
        """Journal rows, oldest first, as dictionaries of the table's columns."""
        cursor = self.connection.execute(
            "SELECT * FROM actions WHERE started_s <= :now AND (:state IS NULL OR state = :state) "
            "AND (:node IS NULL OR node = :node) ORDER BY id",
            {"now": self.now_s, "state": state, "node": node},
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def config_was_valid(self, config_sha256: str) -> bool:
        """Did a run validate this very configuration file in full?"""
        row = self.connection.execute("SELECT 1 FROM runs WHERE config_sha256 = ? LIMIT 1", (config_sha256,))
        return row.fetchone() is not None


def usd_at(price: Price | None, hour: EarnedHour) -> Decimal | None:
    """What was earned in an hour at a price; an amount of 0 needs none, unless it is no money."""
    if price is None:
        return None if hour.amount or hour.currency in NO_MONEY else Decimal(0)
    return DECIMALS.multiply(hour.amount, price.usd_per_unit)


def _sum(amounts: str) -> Decimal:
    """Exact sum of amounts that ``group_concat`` joined: many times faster than an aggregate in Python."""
    if "," not in amounts:
        return Decimal(amounts)
    total = Decimal(0)
    for amount in amounts.split(","):
        total = DECIMALS.add(total, Decimal(amount))
    return total
