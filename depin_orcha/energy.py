"""Power in the database: readings of each host, the tariff as it was listed, and the hours whose cost is fixed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .asof import AsOf
from .types import DAY_S, HOUR_S

_OPEN_DAYS = 7
"""An hour whose tariff did not become known within this many days stays unknown."""


@dataclass(frozen=True, slots=True)
class PowerSample:
    """What a host drew for its nodes when it was read."""

    watts: float
    source: str
    observed_s: int


@dataclass(frozen=True, slots=True)
class PowerHour:
    """Mean power of a completed hour, and what a kWh cost in it: in USD, and in the currency of the tariff."""

    host: str
    hour_s: int
    watts: float
    source: str
    usd_per_kwh: float
    price_per_kwh: float
    currency: str

    @property
    def usd(self) -> float:
        """What the hour cost."""
        return self.watts / 1000 * self.usd_per_kwh

    @property
    def local(self) -> float:
        """The same in the currency of the tariff."""
        return self.watts / 1000 * self.price_per_kwh


Tariff = Callable[[int], tuple[float, float, str] | None]
"""Hour -> (USD per kWh, price per kWh, currency of that price), None where it is not known."""


def add_samples(connection: sqlite3.Connection, samples: Mapping[str, PowerSample], learned_s: int) -> None:
    """Keep one reading of each host."""
    connection.executemany(
        "INSERT INTO power_samples VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(host, one.observed_s, one.watts, one.source, learned_s) for host, one in samples.items()],
    )


def add_listed(known: AsOf, currency: str, listed: Iterable[tuple[int, float]], source: str, *, learned_s: int) -> None:
    """Keep listed prices of electricity that are new or have changed; what was known earlier stays on record."""
    entries = sorted(listed)
    if not entries:
        return
    stored = dict(listed_prices(known, currency, entries[0][0], entries[-1][0] + 1))
    known.connection.executemany(
        "INSERT INTO tariff_prices (currency, start_s, price_per_kwh, source, learned_s) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        [(currency, start_s, price, source, learned_s) for start_s, price in entries if stored.get(start_s) != price],
    )


def listed_prices(known: AsOf, currency: str, from_s: int, to_s: int) -> list[tuple[int, float]]:
    """(start, price per kWh) of listed prices that begin in [from_s, to_s), by start, as last told."""
    rows = known.connection.execute(
        "SELECT start_s, price_per_kwh, max(learned_s) FROM tariff_prices WHERE currency = ? AND start_s >= ? "
        "AND start_s < ? AND learned_s <= ? GROUP BY start_s ORDER BY start_s",
        (currency, from_s, to_s, known.now_s),
    )
    return [(row[0], row[1]) for row in rows]


def fix_hours(known: AsOf, tariff: Tariff) -> None:
    """Fix the mean power and the tariff of completed hours, once; an hour without a tariff stays open for a week."""
    hour_s = known.now_s // HOUR_S * HOUR_S
    rows = known.connection.execute(
        f"SELECT host, observed_s / {HOUR_S} * {HOUR_S} AS hour, avg(watts), group_concat(DISTINCT source) "  # noqa: S608
        "FROM power_samples s WHERE observed_s >= ? AND observed_s < ? AND learned_s <= ? AND NOT EXISTS "
        f"(SELECT 1 FROM power_hours h WHERE h.host = s.host AND h.hour_s = s.observed_s / {HOUR_S} * {HOUR_S}) "
        "GROUP BY 1, 2",
        (hour_s - _OPEN_DAYS * DAY_S, hour_s, known.now_s),
    ).fetchall()
    known.connection.executemany(
        "INSERT INTO power_hours VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [(*row, *price, known.now_s) for row in rows if (price := tariff(row[1])) is not None],
    )


def hours(known: AsOf, from_s: int, to_s: int) -> list[PowerHour]:
    """The fixed hours in [from_s, to_s), by host and hour."""
    rows = known.connection.execute(
        "SELECT host, hour_s, watts, source, usd_per_kwh, price_per_kwh, currency FROM power_hours "
        "WHERE hour_s >= ? AND hour_s < ? AND learned_s <= ? ORDER BY host, hour_s",
        (from_s, to_s, known.now_s),
    )
    return [PowerHour(*row) for row in rows]


def watts_by_hour(known: AsOf, host: str, since_s: int) -> tuple[dict[int, float], str]:
    """Hour -> mean power of a host in the completed hours from ``since_s`` on, and who said so last."""
    rows = known.connection.execute(
        f"SELECT observed_s / {HOUR_S} * {HOUR_S} AS hour, avg(watts), max(observed_s), source "  # noqa: S608
        "FROM power_samples WHERE host = :host AND observed_s >= :since AND observed_s < :until AND learned_s <= :now "
        "GROUP BY hour UNION SELECT hour_s, watts, hour_s, source FROM power_hours "
        "WHERE host = :host AND hour_s >= :since AND learned_s <= :now ORDER BY 3",
        {"host": host, "since": since_s, "until": known.now_s // HOUR_S * HOUR_S, "now": known.now_s},
    ).fetchall()
    return {row[0]: row[1] for row in rows}, rows[-1][3] if rows else ""


def latest(known: AsOf, since_s: int) -> dict[str, PowerSample]:
    """Host -> its last reading at or after ``since_s``."""
    rows = known.connection.execute(
        "SELECT host, watts, source, max(observed_s) FROM power_samples WHERE observed_s >= ? AND learned_s <= ? "
        "GROUP BY host",
        (since_s, known.now_s),
    )
    return {row[0]: PowerSample(*row[1:]) for row in rows}
