"""``history`` and ``import``: the hours of the ledger grouped for people, and earnings brought from elsewhere."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from .accrual import spread
from .adapters import known_protocols
from .asof import AsOf, EarnedHour
from .cycle import Job, Result
from .errors import DataError
from .local import LocalMoney
from .prices import TOKEN_IDS
from .store import Store
from .timefmt import parse_rfc3339, rfc3339
from .types import CERTAINTY, DECIMALS, Accrual, Price, Quality, decimal_text
from .values import TESTNET

_KNOWN = ("USD", "POINTS", *TOKEN_IDS, *TESTNET)
REQUIRED = ("node", "start", "end", "currency", "amount")
OPTIONAL = ("protocol", "usd_per_unit")

_MOST_DIGITS = 30
"""Before and after the decimal point: more than any token has, fewer than sums are exact to."""
SPAN_COLUMN = {"hour": "hour_start", "day": "day", "month": "month"}
"""Span of a row -> the column that names it."""
_SPAN_WIDTH = {"hour": 20, "day": 10, "month": 7}
"""Characters of a time that name the span."""


def history(known: AsOf, by: str, group: str, only: frozenset[str]) -> list[dict[str, Any]]:
    """Rows of what was earned per span and group, oldest first; amounts stay in their currency.

    ``quality`` is the least certain of a row; ``usd`` leaves out earnings without a price, None where that is all.
    ``value_local`` is the same in the owner's money, None also when one of these hours has no rate.
    """
    local = LocalMoney(known)
    key_name, width = SPAN_COLUMN[by], _SPAN_WIDTH[by]
    nodes = {node.name: node for node in known.nodes()}
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for hour in known.hours():
        if only and hour.node not in only:
            continue
        node = nodes[hour.node]
        span = rfc3339(hour.hour_s)[:width]
        member = {"node": node.name, "protocol": node.protocol, "host": node.host, "currency": ""}[group]
        row = rows.setdefault(
            (span, member, hour.currency),
            {
                key_name: span,
                "node": node.name if group == "node" else None,
                "protocol": node.protocol if group in ("node", "protocol") else None,
                "currency": hour.currency,
                "host": node.host if group in ("node", "host") else None,
                "amount": Decimal(0),
                "usd": None,
                "local_currency": local.currency,
                "value_local": {},
                "quality": hour.quality,
                "unpriced": False,
            },
        )
        _add_hour(row, hour, known)
    finished = [rows[key] for key in sorted(rows)]
    for row in finished:
        row["amount"] = decimal_text(row["amount"])
        if row.pop("unpriced") and not row["usd"]:
            row |= {"usd": None, "value_local": {}}  # a zero would pass for nothing earned
        row["usd"] = None if row["usd"] is None else float(row["usd"])
        own = local.total(row["value_local"])
        row["value_local"] = None if own is None else float(own)
        row["quality"] = str(row["quality"])
    return finished


def _add_hour(row: dict[str, Any], hour: EarnedHour, known: AsOf) -> None:
    row["amount"] = DECIMALS.add(row["amount"], hour.amount)
    row["quality"] = max(row["quality"], hour.quality, key=CERTAINTY.index)
    usd, by_hour = known.usd(hour), row["value_local"]
    if usd is None:
        row["unpriced"] = True
    else:
        row["usd"] = DECIMALS.add(row["usd"] or Decimal(0), usd)
        by_hour[hour.hour_s] = DECIMALS.add(by_hour.get(hour.hour_s, Decimal(0)), usd)


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    node: str
    start_s: int
    end_s: int
    currency: str
    amount: Decimal
    protocol: str | None
    usd_per_unit: Decimal | None


def import_csv(job: Job, store: Store, path: Path) -> Result:
    """All rows of a CSV file booked as imported earnings, or none of them; the same file twice adds nothing.

    Raises ``DataError`` naming line and column.
    """
    rows = list(_parse(path, job.now_s))
    added = 0
    with store.transaction():
        protocols = {node.name: node.protocol for node in AsOf(store.connection, job.now_s).nodes()}
        for row in rows:
            _make_node_known(job, store, row, protocols)
            added += _book(store, row, job.now_s)
    return Result({"added": added, "unchanged": len(rows) - added})


def _make_node_known(job: Job, store: Store, row: _Row, protocols: dict[str, str]) -> None:
    options = job.config.nodes.get(row.node)
    protocol = protocols.get(row.node) or (options.protocol if options else row.protocol)
    if protocol is None:
        raise DataError(
            f"line {row.line}, column node: {row.node!r} is not known",
            "add a column protocol, or describe the node in the configuration",
        )
    if protocol not in known_protocols():
        raise DataError(f"line {row.line}, column protocol: {protocol!r} is not one of {', '.join(known_protocols())}")
    if row.protocol is not None and row.protocol != protocol:
        raise DataError(f"line {row.line}, column protocol: {row.node} is a {protocol} node, not {row.protocol}")
    if row.node not in protocols:
        store.add_node(row.node, protocol, options.host if options else "local", job.now_s)
        protocols[row.node] = protocol


def _book(store: Store, row: _Row, learned_s: int) -> bool:
    """Book one interval; False when it was booked before."""
    overlapping = store.imported_overlaps(row.node, row.currency, row.start_s, row.end_s)
    if (row.start_s, row.end_s, row.amount) in overlapping:
        return False
    hours = spread(row.amount, row.start_s, row.end_s)
    if overlapping or store.has_measured(row.node, row.currency, min(hours), max(hours)):
        raise DataError(
            f"line {row.line}: {row.node} already has other {row.currency} earnings between {rfc3339(row.start_s)} "
            f"and {rfc3339(row.end_s)}",
            "import only what is not in the database yet; nothing was stored",
        )
    store.add_imported(row.node, row.currency, (row.start_s, row.end_s), row.amount, row.usd_per_unit, learned_s)
    accruals = [Accrual(hour_s, part, row.currency, Quality.IMPORTED) for hour_s, part in hours.items()]
    store.add_accruals(row.node, accruals, learned_s)
    if row.usd_per_unit is not None:
        price = row.usd_per_unit
        values = [(row.currency, hour_s, Price(row.currency, price, "imported", row.end_s)) for hour_s in hours]
        store.value_hours(values, learned_s)
        other = store.price_fixed_otherwise(row.currency, min(hours), max(hours), price)
        if other is not None:
            raise DataError(
                f"line {row.line}, column usd_per_unit: {row.currency} is valued at {other} USD in these hours already",
                "an hour is valued once: leave the column out; nothing was stored",
            )
    return True


def _parse(path: Path, now_s: int) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(reader.fieldnames or (), path)
            for record in reader:
                yield _row(record, reader.line_num, now_s)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"{path}: cannot be read ({reason})") from None
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from None


def _check_header(names: Iterable[str], path: Path) -> None:
    names = list(names)
    missing = [name for name in REQUIRED if name not in names]
    unknown = [name for name in names if name not in (*REQUIRED, *OPTIONAL)]
    if missing or unknown or len(set(names)) < len(names):
        fault = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(unknown) or 'a column twice'}"
        raise DataError(
            f"{path}, line 1: the header {fault}", f"expected {','.join(REQUIRED)} and optionally {','.join(OPTIONAL)}"
        )


def _row(record: Mapping[str | None, Any], line: int, now_s: int) -> _Row:
    if None in record:
        raise DataError(f"line {line}: has more columns than the header")
    missing = [str(name) for name, value in record.items() if value is None]
    if missing:
        columns = "column" if len(missing) == 1 else "columns"
        raise DataError(f"line {line}, {columns} {', '.join(missing)}: missing, as the row ends before it")
    node, currency = record["node"].strip(), record["currency"].strip()
    if not node or not all(character in "abcdefghijklmnopqrstuvwxyz0123456789_" for character in node):
        raise DataError(f"line {line}, column node: {node!r} is no node name (a-z, 0-9 and _)")
    if not currency.isalnum():
        raise DataError(f"line {line}, column currency: {currency!r} is no currency")
    meant = [one for one in _KNOWN if one.lower() == currency.lower() and one != currency]
    if meant:
        raise DataError(f"line {line}, column currency: write {meant[0]}, not {currency}")
    start_s, end_s = _instant(record, "start", line), _instant(record, "end", line)
    if start_s < 0:
        raise DataError(f"line {line}, column start: {record['start']} is before 1970")
    if end_s <= start_s:
        raise DataError(f"line {line}, column end: {record['end']} is not after start")
    if end_s > now_s:
        raise DataError(f"line {line}, column end: {record['end']} is in the future; earnings are imported afterwards")
    price = (record.get("usd_per_unit") or "").strip()
    return _Row(
        line,
        node,
        start_s,
        end_s,
        currency,
        _amount(record["amount"], "amount", line),
        (record.get("protocol") or "").strip() or None,
        _amount(price, "usd_per_unit", line) if price else None,
    )


def _instant(record: Mapping[str | None, Any], column: str, line: int) -> int:
    try:
        return parse_rfc3339(record[column].strip())
    except ValueError:
        raise DataError(
            f"line {line}, column {column}: {record[column]!r} is no time", "write it as 2026-11-22T20:15:00Z"
        ) from None


def _amount(text: str, column: str, line: int) -> Decimal:
    try:
        amount = Decimal(text.strip().replace("_", "?"))  # Decimal would take 1_000 for 1000
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0 or _is_beyond(amount):
        raise DataError(f"line {line}, column {column}: {text!r} is not an amount of 0 or more")
    return amount


def _is_beyond(amount: Decimal) -> bool:
    exponent = amount.as_tuple().exponent
    return amount.adjusted() > _MOST_DIGITS or not isinstance(exponent, int) or exponent < -_MOST_DIGITS
