"""``history`` and ``import``: the hours of the ledger grouped for people, and earnings brought from elsewhere."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from .accrual import spread
from .adapters import known_protocols
from .asof import AsOf, EarnedHour, usd_at
from .cycle import Job, Result
from .errors import DataError
from .local import LocalMoney
from .prices import TOKEN_IDS
from .store import Store
from .timefmt import parse_rfc3339, rfc3339
from .types import CERTAINTY, DECIMALS, HOUR_S, Accrual, Price, Quality, decimal_text
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
PRICE_COLUMNS = (
    "usd_per_unit", "usd_per_unit_min", "usd_per_unit_max", "price_source", "price_observed_at", "price_age_s",
)  # fmt: skip
BY_DEFINITION = ("unit", "testnet")
"""Sources of prices that are no observation."""


@dataclass(slots=True)
class _Sums:
    """What the hours of one line add up to, the prices that valued them, and how old the oldest was then."""

    quality: Quality
    amount: Decimal = Decimal(0)
    usd: Decimal | None = None
    unpriced: Decimal | None = None
    own: Decimal | None = None
    without_rate: Decimal = Decimal(0)
    prices: dict[tuple[int, str], Price] = field(default_factory=dict[tuple[int, str], Price])
    age_s: int | None = None

    def add(self, hour: EarnedHour, known: AsOf, local: LocalMoney) -> None:
        self.amount = DECIMALS.add(self.amount, hour.amount)
        self.quality = max(self.quality, hour.quality, key=CERTAINTY.index)
        price = known.price_of(hour)
        usd = usd_at(price, hour)
        if usd is None:
            self.unpriced = DECIMALS.add(self.unpriced or Decimal(0), hour.amount)
            return
        self.usd = DECIMALS.add(self.usd or Decimal(0), usd)
        if price is not None:
            self.prices[price.observed_s, price.source] = price
            if price.source not in BY_DEFINITION:
                age_s = min(hour.hour_s + HOUR_S, known.now_s) - price.observed_s
                self.age_s = max(age_s, self.age_s or 0)
        own = local.amount(usd, hour.hour_s)
        if own is not None:
            self.own = DECIMALS.add(self.own or Decimal(0), own)
        else:
            self.without_rate = DECIMALS.add(self.without_rate, usd)

    def told(self, local_currency: str) -> dict[str, Any]:
        """The columns of the line."""
        if self.unpriced is not None and not self.usd:
            self.usd = self.own = None  # a zero would pass for nothing earned
        return {
            "amount": decimal_text(self.amount),
            "usd": _number(self.usd),
            "local_currency": local_currency,
            "value_local": _number(self.own),
            "quality": str(self.quality),
            **self._priced(),
            "unpriced_amount": decimal_text(self.unpriced or Decimal(0)),
            "usd_without_rate": float(self.without_rate),
        }

    def _priced(self) -> dict[str, Any]:
        """The one price, or the mean of several with their range; ``PRICE_COLUMNS``."""
        if self.usd is None or not self.prices:
            return dict.fromkeys(PRICE_COLUMNS)
        units = [price.usd_per_unit for price in self.prices.values()]
        low, high = min(units), max(units)
        amount = DECIMALS.subtract(self.amount, self.unpriced or Decimal(0))
        mean = DECIMALS.divide(self.usd, amount) if amount else None
        is_one = len(units) == 1 and self.age_s is not None
        found = (
            *map(_number, (low if low == high else mean, low, high)),
            ", ".join(sorted({source for _, source in self.prices})),
            rfc3339(next(iter(self.prices))[0]) if is_one else None,
            self.age_s,
        )
        return dict(zip(PRICE_COLUMNS, found, strict=True))


def history(known: AsOf, by: str, group: str, only: frozenset[str]) -> list[dict[str, Any]]:
    """Rows of what was earned per span and group, oldest first; amounts stay in their currency.

    ``quality`` is the least certain of a row; ``usd`` leaves out the ``unpriced_amount``, None where that is all.
    ``value_local`` is the same in the owner's money, without the ``usd_without_rate`` of hours that have no rate.
    """
    local = LocalMoney(known)
    key_name, width = SPAN_COLUMN[by], _SPAN_WIDTH[by]
    nodes = {node.name: node for node in known.nodes()}
    rows: dict[tuple[str, str, str], tuple[dict[str, Any], _Sums]] = {}
    for hour in known.hours():
        if only and hour.node not in only:
            continue
        node = nodes[hour.node]
        span = rfc3339(hour.hour_s)[:width]
        member = {"node": node.name, "protocol": node.protocol, "host": node.host, "currency": ""}[group]
        named = {
            key_name: span,
            "node": node.name if group == "node" else None,
            "protocol": node.protocol if group in ("node", "protocol") else None,
            "currency": hour.currency,
            "host": node.host if group in ("node", "host") else None,
        }
        _, sums = rows.setdefault((span, member, hour.currency), (named, _Sums(hour.quality)))
        sums.add(hour, known, local)
    return [named | sums.told(local.currency) for _, (named, sums) in sorted(rows.items())]


def _number(amount: Decimal | None) -> float | None:
    return None if amount is None else float(amount)


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
    if row.protocol is not None and row.protocol != protocol:
        raise DataError(f"line {row.line}, column protocol: {row.node} is a {protocol} node, not {row.protocol}")
    if row.node not in protocols:
        if protocol not in (known := known_protocols()):
            raise DataError(f"line {row.line}, column protocol: {protocol!r} is not one of {', '.join(known)}")
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
