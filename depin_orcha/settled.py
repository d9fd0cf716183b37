"""Where earned money stands, payouts, a network's statements, outlooks of a month: written, and known when.

Rows are only ever added; a payout or a statement when it differs from what was known, so that a corrected one keeps its
past.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from .asof import AsOf
from .timefmt import rfc3339
from .types import MonthOutlook, OutlookSource, Payout, Snapshot, Statement, decimal_text

_FACTS = {
    "payouts": (("external_id", "currency"), ("received_s", "amount", "transaction_ref", "fee", "period")),
    "statements": (("period", "external_id", "currency"), ("earned", "held", "returned", "payable", "paid")),
    "month_outlooks": (("period", "day", "currency", "source"), ("mean", "lo80", "hi80")),
}
"""Table -> what names one of its facts, and what the fact says."""


def add_settled(connection: sqlite3.Connection, snapshot: Snapshot, learned_s: int) -> None:
    """Store how money stands by a reading, what is new or corrected of its payouts and statements, and its outlooks."""
    connection.executemany(
        "INSERT INTO standings VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (snapshot.node, one.currency, str(one.standing), snapshot.observed_s, decimal_text(one.amount), learned_s)
            for one in snapshot.standings
        ],
    )
    for payout in snapshot.payouts:
        named = (payout.external_id, payout.currency)
        amount, fee = decimal_text(payout.amount), _text(payout.fee)
        said = (payout.received_s, amount, payout.transaction, fee, payout.period)
        _add(connection, "payouts", snapshot.node, named, said, learned_s)
    for one in snapshot.statements:
        named = (one.period, one.external_id, one.currency)
        said = tuple(decimal_text(amount) for amount in (one.earned, one.held, one.returned, one.payable, one.paid))
        _add(connection, "statements", snapshot.node, named, said, learned_s)
    add_outlooks(connection, snapshot.node, snapshot.outlooks, learned_s)


def add_outlooks(connection: sqlite3.Connection, node: str, outlooks: Iterable[MonthOutlook], learned_s: int) -> None:
    """Store what a month is said to bring; of each source, the first of a day is kept and later ones are ignored."""
    for one in outlooks:
        named = (one.period, one.day, one.currency, str(one.source))
        if not _known(connection, "month_outlooks", node, named, learned_s):
            _add(
                connection,
                "month_outlooks",
                node,
                named,
                (_text(one.mean), _text(one.lo80), _text(one.hi80)),
                learned_s,
            )


def payouts(known: AsOf) -> list[tuple[str, Payout]]:
    """(node, payout) of every payout, the earliest first; those without a time by the month they are for."""
    rows = [
        (node, Payout(external_id, Decimal(amount), currency, received_s, transaction, _decimal(fee), period))
        for node, external_id, currency, received_s, amount, transaction, fee, period in _latest(known, "payouts")
    ]
    return sorted(rows, key=lambda row: (_month(row[1]), row[1].received_s or 0, row[0], row[1].external_id))


def statements(known: AsOf) -> list[tuple[str, Statement]]:
    """(node, statement) of every settled month and series, as last told, ordered by node and month."""
    return [
        (node, Statement(period, external_id, currency, *(Decimal(amount) for amount in amounts)))
        for node, period, external_id, currency, *amounts in _latest(known, "statements")
    ]


def outlooks(known: AsOf) -> list[tuple[str, MonthOutlook]]:
    """(node, outlook) of every month, ordered by node, month and day."""
    return [
        (
            node,
            MonthOutlook(period, day, currency, OutlookSource(source), Decimal(mean), _decimal(lo80), _decimal(hi80)),
        )
        for node, period, day, currency, source, mean, lo80, hi80 in _latest(known, "month_outlooks")
    ]


def _add(
    connection: sqlite3.Connection,
    table: str,
    node: str,
    named: tuple[Any, ...],
    said: tuple[Any, ...],
    learned_s: int,
) -> None:
    if _known(connection, table, node, named, learned_s) != said:
        marks = ", ".join("?" * (len(named) + len(said) + 2))
        columns = ", ".join(("node", *_FACTS[table][0], *_FACTS[table][1], "learned_s"))
        connection.execute(
            f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})",  # noqa: S608 - only names of columns
            (node, *named, *said, learned_s),
        )


def _known(
    connection: sqlite3.Connection, table: str, node: str, named: tuple[Any, ...], now_s: int
) -> tuple[Any, ...] | None:
    names, says = _FACTS[table]
    condition = " AND ".join(f"{name} = ?" for name in names)
    return connection.execute(
        f"SELECT {', '.join(says)} FROM {table} WHERE node = ? AND {condition} AND learned_s <= ? "  # noqa: S608
        "ORDER BY learned_s DESC LIMIT 1",
        (node, *named, now_s),
    ).fetchone()


def _latest(known: AsOf, table: str) -> list[tuple[Any, ...]]:
    """Each fact as last told, in the order of its key."""
    names, says = _FACTS[table]
    key = ", ".join(("node", *names))
    # With max(), SQLite takes the other columns from the row that has it.
    rows = known.connection.execute(
        f"SELECT {key}, {', '.join(says)}, max(learned_s) FROM {table} WHERE learned_s <= ? "  # noqa: S608
        f"GROUP BY {key} ORDER BY {key}",
        (known.now_s,),
    )
    return [tuple(row[:-1]) for row in rows]


def _month(payout: Payout) -> str:
    return payout.period if payout.received_s is None else rfc3339(payout.received_s)[:7]


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else decimal_text(amount)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
