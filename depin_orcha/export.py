"""``export``: rows of the ledger, or payouts really received, as CSV, JSON or JSON lines."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Mapping, Sequence
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from .asof import AsOf
from .errors import NotPermitted
from .ledger import PRICE_COLUMNS, SPAN_COLUMN
from .local import LocalMoney
from .settled import payouts
from .timefmt import rfc3339
from .types import DECIMALS, Payout, decimal_text
from .values import unit_price

Format = Literal["csv", "json", "jsonl"]
RECEIPT_COLUMNS = (
    "received_at", "node", "protocol", "period", "amount", "currency", "usd", "local_currency", "value_local",
    "transaction", "fee", "external_id",
)  # fmt: skip


def history_columns(span: str) -> tuple[str, ...]:
    """Columns of the rows of ``history`` for a span (hour, day or month)."""
    sums = ("amount", "usd", "local_currency", "value_local", "quality")
    without = ("unpriced_amount", "usd_without_rate")
    return (SPAN_COLUMN[span], "node", "protocol", "host", "currency", *sums, *PRICE_COLUMNS, *without)


def receipts(known: AsOf, only: frozenset[str]) -> list[dict[str, Any]]:
    """A row for each payout, the earliest first, with what it was worth then in USD and in the owner's currency.

    ``received_at`` is None where the network tells no time; a value is None where no price of that time is known. The
    fee is in the currency of the amount.
    """
    local_currency = LocalMoney(known).currency
    protocols = {node.name: node.protocol for node in known.nodes()}
    return [
        {
            "received_at": None if payout.received_s is None else rfc3339(payout.received_s),
            "node": node,
            "protocol": protocols[node],
            "period": payout.period or None,
            "amount": decimal_text(payout.amount),
            "currency": payout.currency,
            "usd": _value(known, payout, "USD"),
            "local_currency": local_currency,
            "value_local": _value(known, payout, local_currency),
            "transaction": payout.transaction,
            "fee": None if payout.fee is None else decimal_text(payout.fee),
            "external_id": payout.external_id,
        }
        for node, payout in payouts(known)
        if not only or node in only
    ]


def _value(known: AsOf, payout: Payout, currency: str) -> float | None:
    """What a payout was worth in a currency when it was received."""
    if payout.currency == currency:
        return float(payout.amount)
    paid, wanted = _usd_then(known, payout, payout.currency), _usd_then(known, payout, currency)
    if paid is None or not wanted:
        return None
    return float(DECIMALS.divide(DECIMALS.multiply(payout.amount, paid), wanted))


def _usd_then(known: AsOf, payout: Payout, currency: str) -> Decimal | None:
    """The price of a currency at the time of a payout; without a time only that of USD."""
    then_s = payout.received_s
    price = None if then_s is None else known.price_at(currency, then_s)
    value = unit_price(currency, price, then_s or 0)
    return None if value is None else value.usd_per_unit


def as_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Format) -> str:
    """The rows in a format. What is unknown is null, in a CSV an empty cell; ``columns`` head a CSV, empty or not."""
    if form == "json":
        return json.dumps(rows, indent=1, allow_nan=False) + "\n"
    if form == "jsonl":
        return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    buffer = StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys([*columns, *(rows[0] if rows else ())])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def form_of(path: str) -> Format:
    """The format that the name of a file asks for: CSV unless it ends in .json or .jsonl."""
    forms: dict[str, Format] = {".json": "json", ".jsonl": "jsonl"}
    return forms.get(Path(path).suffix.lower(), "csv")


def write_file(path: Path, text: str) -> None:
    """The file holds the text, all of it or, on an error, what it held before. Raises ``NotPermitted``.

    What is no regular file (a pipe, a device) is written to as it is.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        whole = path.resolve()
        new = whole.with_name(f".{whole.name}.{os.getpid()}.new")
        try:
            new.write_text(text, encoding="utf-8")
            new.replace(whole)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise NotPermitted(f"cannot write {path} ({error.strerror})", "name another file with -o") from error
