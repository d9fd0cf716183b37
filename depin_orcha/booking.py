"""Readings into the ledger: which series a reading continues, and how the booked hours change by it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from . import accrual
from .types import HOUR_S, Accrual, EarningsSample, Quality, SampleKind, Snapshot, decimal_text

Series = tuple[str, str, str, str]
"""Currency, kind, period and external id: what one counter is told by."""

_IDS_OF_MONTH = """
WITH RECURSIVE ids (id) AS (
  SELECT min(external_id) FROM earnings_samples WHERE source = :source AND currency = :currency AND kind = 'counter'
  UNION ALL SELECT (SELECT min(external_id) FROM earnings_samples WHERE source = :source AND currency = :currency
    AND kind = 'counter' AND external_id > id) FROM ids WHERE id IS NOT NULL)
SELECT id FROM ids WHERE EXISTS (SELECT 1 FROM earnings_samples WHERE source = :source AND currency = :currency
  AND kind = 'counter' AND external_id = id AND period = :period)
"""
"""From one id to the next by the key of the table: a plain DISTINCT reads every sample of the node."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """Where what a node was read for goes; ``source``: whose income it is, its own or that of a shared account."""

    connection: sqlite3.Connection
    run_id: int
    learned_s: int
    node: str
    source: str


def book(connection: sqlite3.Connection, run_id: int, snapshot: Snapshot, learned_s: int) -> list[Accrual]:
    """Store the earnings samples of a reading; returns how the ledger changes by them, hour by hour."""
    named = connection.execute("SELECT source FROM nodes WHERE name = ?", (snapshot.node,)).fetchone()
    reading = _Reading(connection, run_id, learned_s, snapshot.node, named[0])
    new: dict[Series, list[EarningsSample]] = {}
    stored_ids = _stored_ids(reading, snapshot)
    for sample in accrual.without_mixing(snapshot.earnings, stored_ids):
        new.setdefault((sample.currency, str(sample.kind), sample.period, sample.external_id), []).append(sample)
    voided: dict[Series, list[int]] = {}
    for void in snapshot.voided:
        series = void.currency, str(void.kind), void.period, void.external_id
        instants = _instants(reading, series) if void.observed_s is None else [void.observed_s]
        voided.setdefault(series, []).extend(instants)
    for series, samples in new.items():
        if samples[0].kind is SampleKind.EVENT:
            # Told with another date, it is still the same event: what was told of it before gives way.
            told = {sample.observed_s for sample in samples}
            voided.setdefault(series, []).extend(one for one in _instants(reading, series) if one not in told)
    booked: list[Accrual] = []
    # Earlier periods first: a new period starts where the closed one ended.
    for series in sorted(
        new.keys() | {key for key, instants in voided.items() if instants},
        key=lambda key: (_first_s(new.get(key, [])), key[2]),
    ):
        booked += _book_series(reading, series, new.get(series, []), voided.get(series, []))
    return booked


def _instants(reading: _Reading, series: Series) -> list[int]:
    """When the samples of a series were that count."""
    currency, kind, period, external_id = series
    rows = reading.connection.execute(
        "SELECT observed_s FROM earnings_samples WHERE source = ? AND currency = ? AND kind = ? AND external_id = ? "
        "AND period = ? AND voided_s IS NULL",
        (reading.source, currency, kind, external_id, period),
    )
    return [row[0] for row in rows]


def _first_s(samples: Sequence[EarningsSample]) -> int:
    return min((sample.observed_s for sample in samples), default=0)


def _stored_ids(reading: _Reading, snapshot: Snapshot) -> dict[str, set[str]]:
    """Of each month, the external ids under which it is stored; other periods have no sum beside parts."""
    months = {
        (sample.currency, sample.period)
        for sample in snapshot.earnings
        if sample.kind is SampleKind.COUNTER and accrual.period_window(sample.period)
    }
    stored: dict[str, set[str]] = {}
    for currency, period in months:
        asked = {"source": reading.source, "currency": currency, "period": period}
        stored[period] = {row[0] for row in reading.connection.execute(_IDS_OF_MONTH, asked)}
    return stored


def _book_series(
    reading: _Reading, series: Series, new: Sequence[EarningsSample], voided: Sequence[int]
) -> list[Accrual]:
    """Store new samples of one series and void others, by their instants; returns how the ledger changes by them."""
    connection = reading.connection
    currency, kind, period, external_id = series
    key = (reading.source, currency, kind, external_id, period)
    first_s = min([*(sample.observed_s for sample in new), *voided])
    anchor_s = connection.execute(
        "SELECT max(observed_s) FROM earnings_samples WHERE source = ? AND currency = ? AND kind = ? "
        "AND external_id = ? AND period = ? AND voided_s IS NULL AND observed_s < ?",
        (*key, first_s),
    ).fetchone()[0]
    opened_s = _opened_s(connection, key, new, first_s) if anchor_s is None else None
    before = _samples(connection, key, anchor_s if anchor_s is not None else first_s)
    said = {(sample.observed_s, sample.amount, sample.share) for sample in before}
    if not voided and all((sample.observed_s, sample.amount, sample.share) in said for sample in new):
        return []
    possible = [sample for sample in new if not _is_dated_too_early(sample, before, voided)]
    _insert_samples(reading, _continued(before, possible, opened_s))
    connection.executemany(
        "UPDATE earnings_samples SET voided_s = ? WHERE source = ? AND currency = ? AND kind = ? "
        "AND external_id = ? AND period = ? AND observed_s = ? AND voided_s IS NULL",
        [(reading.learned_s, *key, observed_s) for observed_s in voided],
    )
    after = _samples(connection, key, anchor_s if anchor_s is not None else first_s)
    changes = accrual.difference(accrual.accrue(before, opened_s), accrual.accrue(after, opened_s), currency)
    began_s = anchor_s if anchor_s is not None else first_s if opened_s is None else opened_s
    return _beside_imported(reading, changes, (began_s, max([*(sample.observed_s for sample in new), *voided])))


def _beside_imported(reading: _Reading, changes: Sequence[Accrual], span_s: tuple[int, int]) -> list[Accrual]:
    """The changes without what was imported of the same time; remembers what the node has told of that."""
    booked: list[Accrual] = []
    for part in ([one for one in changes if one.amount < 0], [one for one in changes if one.amount >= 0]):
        rows = _imported_rows(reading, part) if part else []
        if not rows:
            booked += part
            continue
        imported = [accrual.Imported(row[2], row[3], Decimal(row[4]), Decimal(row[5])) for row in rows]
        left, imported = accrual.beside_imported(part, span_s, imported)
        booked += left
        reading.connection.executemany(
            "UPDATE imported_intervals SET told = ? WHERE node = ? AND currency = ? AND start_s = ?",
            [(decimal_text(one.told), *row[:3]) for one, row in zip(imported, rows, strict=True)],
        )
    return booked


def _imported_rows(reading: _Reading, part: Sequence[Accrual]) -> list[tuple[str, str, int, int, str, str]]:
    """Node, currency, start, end, amount and what was told of the imports of the hours of these, in order of time."""
    return reading.connection.execute(
        "SELECT node, currency, start_s, end_s, amount, told FROM imported_intervals WHERE currency = ? "
        "AND node IN (SELECT name FROM nodes WHERE source = ?) AND start_s < ? AND end_s > ? ORDER BY start_s",
        (part[0].currency, reading.source, part[-1].hour_s + HOUR_S, part[0].hour_s),
    ).fetchall()


def _opened_s(
    connection: sqlite3.Connection, key: tuple[str, ...], new: Sequence[EarningsSample], first_s: int
) -> int | None:
    """When a counter without a reading stood at zero; None where nobody was reading the source at that time."""
    began_s = next((sample.began_s for sample in new if sample.began_s is not None), None)
    if began_s is None:
        return accrual.opening_s(key[-1], _read_earlier_s(connection, key, first_s))
    first_read_s = connection.execute(
        "SELECT min(observed_s) FROM health_samples WHERE node IN (SELECT name FROM nodes WHERE source = ?) "
        "AND failure_kind IS NULL",
        key[:1],
    ).fetchone()[0]
    return began_s if first_read_s is not None and first_read_s < began_s else None


def _read_earlier_s(connection: sqlite3.Connection, key: tuple[str, ...], first_s: int) -> int | None:
    """When an earlier period was last read.

    Months are told apart by their names, and all that a node counts by the month begins with it: a satellite that it
    did not have, or that was only part of the sum before. Of other periods of a series, the one that was read earlier
    is the earlier one. What is counted since ever follows nothing.
    """
    source, currency, kind, external_id, period = key
    if not period:
        return None
    if accrual.period_window(period):
        where, values = "period GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]' AND period < ?", (period,)
    else:
        where, values = "external_id = ? AND period NOT IN (?, '')", (external_id, period)
    return connection.execute(
        "SELECT max(observed_s) FROM earnings_samples WHERE source = ? AND currency = ? AND kind = ? "  # noqa: S608
        f"AND {where} AND voided_s IS NULL AND observed_s < ?",
        (source, currency, kind, *values, first_s),
    ).fetchone()[0]


def _is_dated_too_early(sample: EarningsSample, stored: Sequence[EarningsSample], voided: Sequence[int]) -> bool:
    """Does the counter stand lower in a later reading? Then the clock went back, and its growth is known already.

    One that keeps its peak is told of by its last reading alone, whatever an older one, or another of that time, says.
    """
    if sample.keeps_peak:
        return any(one.observed_s >= sample.observed_s for one in stored)
    return sample.kind is SampleKind.COUNTER and any(
        one.observed_s > sample.observed_s and one.amount < sample.amount and one.observed_s not in voided
        for one in stored
    )


def _continued(
    before: Sequence[EarningsSample], new: Sequence[EarningsSample], opened_s: int | None
) -> list[EarningsSample]:
    """The new samples with what the next ones go on from, so that nothing is lost when old readings are thinned."""
    fresh = {id(sample) for sample in new}
    previous = accrual.at_zero(new[0], opened_s) if new and opened_s is not None else None
    settled: list[EarningsSample] = []
    for sample in sorted([*before, *new], key=lambda sample: sample.observed_s):
        previous = accrual.continued(sample, previous)
        if id(sample) in fresh:
            settled.append(previous)
    return settled


def _samples(connection: sqlite3.Connection, key: tuple[str, ...], from_s: int) -> list[EarningsSample]:
    rows = connection.execute(
        "SELECT observed_s, amount, share, withheld, baseline, stepped, stepped_s, estimated FROM earnings_samples "
        "WHERE source = ? AND currency = ? "
        "AND kind = ? AND external_id = ? AND period = ? AND voided_s IS NULL AND observed_s >= ?",
        (*key, from_s),
    )
    _, currency, kind, external_id, period = key
    return [
        EarningsSample(
            observed_s,
            Decimal(amount),
            currency,
            SampleKind(kind),
            period,
            external_id,
            Decimal(share),
            Decimal(withheld),
            baseline=None if baseline is None else Decimal(baseline),
            stepped=None if stepped is None else Decimal(stepped),
            stepped_s=stepped_s,
            estimated=bool(estimated),
        )
        for observed_s, amount, share, withheld, baseline, stepped, stepped_s, estimated in rows
    ]


def _insert_samples(reading: _Reading, samples: Iterable[EarningsSample]) -> None:
    reading.connection.executemany(
        "INSERT INTO earnings_samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?) "
        "ON CONFLICT DO UPDATE SET amount = excluded.amount, share = excluded.share, withheld = excluded.withheld, "
        "baseline = excluded.baseline, stepped = excluded.stepped, stepped_s = excluded.stepped_s, "
        "estimated = excluded.estimated, voided_s = NULL "
        "WHERE voided_s IS NOT NULL OR amount <> excluded.amount OR share <> excluded.share",
        [
            (
                reading.source,
                one.currency,
                str(one.kind),
                one.period,
                one.external_id,
                one.observed_s,
                reading.node,
                decimal_text(one.amount),
                decimal_text(one.share),
                decimal_text(one.withheld),
                None if one.baseline is None else decimal_text(one.baseline),
                None if one.stepped is None else decimal_text(one.stepped),
                one.stepped_s,
                one.estimated,
                reading.learned_s,
                reading.run_id,
            )
            for one in samples
        ],
    )


def known_zeros(snapshot: Snapshot, since_s: int, currency: str) -> list[Accrual]:
    """A ledger of documents is complete: hours after ``since_s`` without any are a true zero."""
    return [
        Accrual(hour_s, Decimal(0), currency, Quality.MEASURED)
        for hour_s in range(since_s // HOUR_S * HOUR_S, snapshot.observed_s, HOUR_S)
    ]
