"""``export``: rows of the ledger, or payouts really received, as CSV, JSON or JSON lines."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from . import settled
from .asof import AsOf
from .errors import NotPermitted
from .ledger import BY_DEFINITION, PRICE_COLUMNS, SPAN_COLUMN
from .local import LocalMoney
from .settled import Receipt
from .timefmt import rfc3339
from .types import DECIMALS, Price, decimal_text
from .values import unit_price

Format = Literal["csv", "json", "jsonl"]
RECEIPT_COLUMNS = (
    "received_at", "time_basis", "node", "protocol", "period", "amount", "currency",
    "usd", "usd_per_unit", "price_source", "price_observed_at", "local_currency", "value_local",
    "transaction", "fee", "external_id",
)  # fmt: skip


def history_columns(span: str) -> tuple[str, ...]:
    """Columns of the rows of ``history`` for a span (hour, day or month)."""
    usd = ("usd", *PRICE_COLUMNS, "unpriced_amount")
    own = ("local_currency", "value_local", "usd_without_rate")
    return (SPAN_COLUMN[span], "node", "protocol", "host", "currency", "amount", *usd, *own, "quality")


def receipts(known: AsOf, only: frozenset[str]) -> list[dict[str, Any]]:
    """A row for each payout, the earliest first, with what it was worth then in USD and in the owner's currency.

    ``time_basis`` says how ``received_at`` is known: told by the ``network``, ``first_seen`` in a reading, or, where it
    was older than the first reading, no earlier than ``month_end``. A value is None where no price of that time is
    known. The fee is in the currency of the amount.
    """
    local_currency = LocalMoney(known).currency
    return [
        {
            "received_at": rfc3339(one.at_s),
            "time_basis": str(one.time_basis),
            "node": one.node.name,
            "protocol": one.node.protocol,
            "period": one.payout.period or None,
            "amount": decimal_text(one.payout.amount),
            "currency": one.payout.currency,
            "usd": None if one.usd is None else float(one.usd),
            **_priced(one.price),
            "local_currency": local_currency,
            "value_local": _value(known, one, local_currency),
            "transaction": one.payout.transaction,
            "fee": None if one.payout.fee is None else decimal_text(one.payout.fee),
            "external_id": one.payout.external_id,
        }
        for one in settled.receipts(known)
        if not only or one.node.name in only
    ]


def _priced(price: Price | None) -> dict[str, Any]:
    """The price of a payout, whose it is, and when it was seen; some are prices by definition."""
    return {
        "usd_per_unit": None if price is None else float(price.usd_per_unit),
        "price_source": None if price is None else price.source,
        "price_observed_at": None if price is None or price.source in BY_DEFINITION else rfc3339(price.observed_s),
    }


def _value(known: AsOf, receipt: Receipt, currency: str) -> float | None:
    """What a payout was worth in a currency when it was received."""
    if receipt.payout.currency == currency:
        return float(receipt.payout.amount)
    rate = unit_price(currency, known.price_at(currency, receipt.at_s), receipt.at_s)
    return None if receipt.usd is None or rate is None else float(DECIMALS.divide(receipt.usd, rate.usd_per_unit))


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


def write_file(path: Path, text: str, mode: int | None = None) -> None:
    """The file holds the text, all of it or, on an error, what it held before. Raises ``NotPermitted``.

    ``mode``: who may read it, where that is not left to the umask.

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
            if mode is not None:
                new.chmod(mode)
            new.replace(whole)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise NotPermitted(f"cannot write {path} ({error.strerror})", "name another file with -o") from error
