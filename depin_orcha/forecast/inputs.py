"""The text of ``forecast --input``, CSV or JSON, as a batch for ``forecast_series``."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from depin_orcha.errors import DataError
from depin_orcha.timefmt import rfc3339

from .series import DEFAULT_FREQ, SeriesError, epoch_s, freq_seconds, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER = ["series", "timestamp", "value"]
YEARS = ("2000-01-01", "2100-01-01")
"""First and last date of a row: a slipped digit must not become a million empty bins."""

_EARLIEST_S, _LATEST_S = map(epoch_s, YEARS)


@dataclass(frozen=True, slots=True)
class Request:
    """What a file asks for; ``horizon`` (bins) and ``levels`` (percent) are None where it leaves them open."""

    batch: list[dict[str, Any]]
    horizon: int | None = None
    levels: Sequence[float] | None = None


def read_request(text: str, freq: str = DEFAULT_FREQ) -> Request:
    """What ``text`` asks for: a JSON document when it begins with ``{`` or ``[``, else CSV.

    ``freq`` is the bin of CSV rows, and of JSON series that do not name their own. Raises ``DataError`` naming line
    and column, or JSON path; the members of a JSON ``series`` are checked by ``forecast_series``.
    """
    freq_seconds(freq, "freq")
    text = text.removeprefix("\ufeff")
    first = text.lstrip()[:1]
    if not first:
        raise DataError("the input is empty", "expected CSV (series,timestamp,value) or a JSON document")
    return _read_json(text, freq) if first in "{[" else Request(_read_csv(text, freq))


def _read_json(text: str, freq: str) -> Request:
    try:
        # NaN and Infinity are no JSON: as text they are refused by path, like any other word in place of a number
        document: Any = json.loads(text, parse_constant=str)
    except json.JSONDecodeError as error:
        raise DataError(f"line {error.lineno}, column {error.colno}: broken JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"broken JSON ({error})") from None
    if not isinstance(document, dict):
        raise DataError('expected a JSON object with the key "series"')
    entries = cast("dict[str, Any]", document)
    refuse_unknown(entries, ("horizon", "levels", "series"), "")
    members: Any = entries.get("series")
    if not isinstance(members, list) or not members:
        raise SeriesError("series: expected a list with at least one series")
    batch = [
        {"freq": freq, **cast("dict[str, Any]", member)} if isinstance(member, dict) else member
        for member in cast("list[Any]", members)
    ]
    return Request(batch, entries.get("horizon"), entries.get("levels"))


def _read_csv(text: str, freq: str) -> list[dict[str, Any]]:
    freq_s = freq_seconds(freq, "freq")
    sums: dict[str, dict[int, float]] = {}
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    try:
        header = next((row for row in reader if row), list[str]())
        if [cell.strip() for cell in header] != HEADER:
            raise DataError(f"line {reader.line_num}: expected the header {','.join(HEADER)}")
        for row in reader:
            if row:
                _add(sums, row, freq_s, reader.line_num)
    except csv.Error as error:
        raise DataError(f"line {reader.line_num}: broken CSV ({error})") from None
    if not sums:
        raise DataError("the input has no row with a value")
    return [_member(series, bins, freq, freq_s) for series, bins in sums.items()]


def _add(sums: dict[str, dict[int, float]], row: list[str], freq_s: int, line: int) -> None:
    """The row is part of its bin; an empty value is no row at all."""
    if len(row) != len(HEADER):
        raise DataError(f"line {line}: expected {len(HEADER)} columns, got {len(row)}")
    series, timestamp, value = (cell.strip() for cell in row)
    if not value:
        return
    if not series:
        raise DataError(f"line {line}, column series: empty")
    try:
        moment_s = epoch_s(timestamp)
    except (ValueError, OverflowError):
        raise DataError(f"line {line}, column timestamp: {timestamp[:40]!r} is not an RFC 3339 time") from None
    if not _EARLIEST_S <= moment_s < _LATEST_S:
        raise DataError(f"line {line}, column timestamp: {timestamp} is not between {' and '.join(YEARS)}")
    try:
        amount = float(value) if "_" not in value else math.nan
    except ValueError:
        amount = math.nan
    if not math.isfinite(amount):
        raise DataError(f"line {line}, column value: {value[:40]!r} is not a finite number")
    bins = sums.setdefault(series, {})
    index = moment_s // freq_s
    bins[index] = bins.get(index, 0.0) + amount


def _member(series: str, bins: dict[int, float], freq: str, freq_s: int) -> dict[str, Any]:
    first, last = min(bins), max(bins)
    return {
        "id": series,
        "start": rfc3339(first * freq_s),
        "freq": freq,
        "y": [bins.get(index) for index in range(first, last + 1)],
    }
