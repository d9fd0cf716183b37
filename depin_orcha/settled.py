"""Where earned money stands, payouts, a network's statements, outlooks of a month: written, and known when.

Rows are only ever added; a payout or a statement when it differs from what was known, so that a corrected one keeps its
past.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from .accrual import period_window
from .asof import AsOf, Node
from .types import DECIMALS, MonthOutlook, OutlookSource, Payout, Price, Snapshot, Statement, decimal_text
from .values import unit_price

_FACTS = {
    "payouts": (("external_id", "currency"), ("received_s", "amount", "transaction_ref", "fee", "period")),
    "statements": (("period", "external_id", "currency"), ("earned", "held", "returned", "payable", "paid")),
    "month_outlooks": (("period", "day", "currency", "source"), ("mean", "lo80", "hi80")),
}
"""Table -> what names one of its facts, and what the fact says."""


class TimeBasis(StrEnum):
    """How the time of a payout is known.

    ``NETWORK``: told. ``FIRST_SEEN``: by the first reading that showed it. ``MONTH_END``: it was there before the node
    was first read, and cannot be older than the end of the month that it pays.
    """

    NETWORK = "network"
    FIRST_SEEN = "first_seen"
    MONTH_END = "month_end"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A payout and its time; ``price`` is the one fixed for that time, None while it has none."""

    node: Node
    payout: Payout
    at_s: int
    time_basis: TimeBasis
    price: Price | None

    @property
    def usd(self) -> Decimal | None:
        """What it was worth when it was received; None without a price of that time."""
        return None if self.price is None else DECIMALS.multiply(self.payout.amount, self.price.usd_per_unit)


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
        _add(connection, "payouts", _first_told_by(connection, "payouts", snapshot.node, named), named, said, learned_s)
    for one in snapshot.statements:
        named = (one.period, one.external_id, one.currency)
        said = tuple(decimal_text(amount) for amount in (one.earned, one.held, one.returned, one.payable, one.paid))
        node = _first_told_by(connection, "statements", snapshot.node, named)
        _add(connection, "statements", node, named, said, learned_s)
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


def receipts(known: AsOf) -> list[Receipt]:
    """Every payout as last told, the earliest first."""
    nodes = {node.name: node for node in known.nodes()}
    same = "node = p.node AND external_id = p.external_id AND currency = p.currency"
    rows = known.connection.execute(
        f"SELECT p.*, (SELECT min(learned_s) FROM payouts WHERE {same}), v.price_usd, v.price_source, "  # noqa: S608
        "v.price_observed_s FROM payouts p LEFT JOIN payout_values v ON v.node = p.node AND "
        "v.external_id = p.external_id AND v.currency = p.currency AND v.learned_s <= :now "
        f"WHERE p.learned_s = (SELECT max(learned_s) FROM payouts WHERE {same} AND learned_s <= :now)",
        {"now": known.now_s},
    )
    found: list[Receipt] = []
    for node, external_id, currency, _, received_s, amount, transaction, fee, period, first_s, *priced in rows:
        payout = Payout(external_id, Decimal(amount), currency, received_s, transaction, _decimal(fee), period)
        at_s, basis = _time(payout, nodes[node], first_s)
        price = None if priced[0] is None else Price(currency, Decimal(priced[0]), priced[1], priced[2])
        found.append(Receipt(nodes[node], payout, at_s, basis, price or unit_price(currency, None, at_s)))
    return sorted(found, key=lambda one: (one.at_s, one.node.name, one.payout.external_id))


def value_receipts(connection: sqlite3.Connection, valued: Iterable[tuple[Receipt, Price]], learned_s: int) -> None:
    """Fix the price of each payout once; one that is there already stays."""
    connection.executemany(
        "INSERT INTO payout_values VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        [
            (
                *(one.node.name, one.payout.external_id, one.payout.currency),
                *(decimal_text(price.usd_per_unit), price.source, price.observed_s, learned_s),
            )
            for one, price in valued
        ],
    )


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


def _first_told_by(connection: sqlite3.Connection, table: str, node: str, named: tuple[Any, ...]) -> str:
    """The node that first told a fact: nodes of one account tell the same ones, whichever of them is asked."""
    condition = " AND ".join(f"{name} = ?" for name in _FACTS[table][0])
    row = connection.execute(
        f"SELECT node FROM {table} WHERE {condition} AND node IN "  # noqa: S608 - only names of tables and columns
        "(SELECT name FROM nodes WHERE source = (SELECT source FROM nodes WHERE name = ?)) ORDER BY learned_s LIMIT 1",
        (*named, node),
    ).fetchone()
    return row[0] if row else node


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


def _time(payout: Payout, node: Node, first_seen_s: int) -> tuple[int, TimeBasis]:
    if payout.received_s is not None:
        return payout.received_s, TimeBasis.NETWORK
    month = period_window(payout.period)
    if month is not None and node.first_seen_s >= month[1]:
        return month[1], TimeBasis.MONTH_END
    return first_seen_s, TimeBasis.FIRST_SEEN


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else decimal_text(amount)


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
