"""What the database knows of one node at one instant, in the form in which ``anomalies`` judges it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any
from zlib import crc32

from .anomalies import (
    HISTORY_H,
    AtRisk,
    Contact,
    Details,
    Episode,
    Known,
    Past,
    Reference,
    Usual,
    learn,
    reference,
    without,
)
from .asof import AsOf, EarnedHour
from .store import to_json
from .timefmt import parse_rfc3339
from .types import DAY_S, HOUR_S, Quality
from .values import TESTNET, unit_price

SEEN_H = 8 * 24
_PENDING_S = 30 * HOUR_S
"""The step of a counter that moves in steps comes sooner; older hours in which nothing moved are true zeros."""
_UNPAID_S = 18 * HOUR_S
_HOURS_AGO_S, _WEEK_S = 3 * HOUR_S, 7 * DAY_S


class _Hours:
    """Hour by hour, what the database knew of a node."""

    def __init__(self, known: AsOf, node: str) -> None:
        self._known = known
        self._node = node

    def away(self, from_s: int) -> set[int]:
        """Hours in which the node was not read, did not run, or was paused at times."""
        rows = self._known.connection.execute(
            "SELECT DISTINCT observed_s / 3600 FROM health_samples WHERE node = ? AND observed_s >= ? "
            "AND learned_s <= ? AND (failure_kind IS NOT NULL OR status = 'down' OR reason LIKE 'paused%')",
            (self._node, from_s, self._known.now_s),
        )
        hours = {row[0] * HOUR_S for row in rows}
        for paused_s, until_s in self.pauses(from_s):
            hours.update(range(paused_s // HOUR_S * HOUR_S, until_s, HOUR_S))
        return hours

    def pauses(self, from_s: int) -> Iterable[tuple[int, int]]:
        """(from, until) of each pause, which may last."""
        return self._known.connection.execute(
            "SELECT max(paused_s, :from), min(coalesce(until_s, :now), CASE WHEN resumed_s <= :now THEN resumed_s "
            "ELSE :now END) FROM pauses WHERE (node IS NULL OR node = :node) AND paused_s <= :now",
            {"from": from_s, "now": self._known.now_s, "node": self._node},
        )

    def amounts(
        self, hours: Iterable[EarnedHour], currency: str | None, from_s: int, to_s: int, away: set[int]
    ) -> list[float | None]:
        """Income of each hour of [from, to): None where not known, NaN where it is not known how much."""
        amounts: list[float | None] = [None] * max((to_s - from_s) // HOUR_S, 0)
        for one in hours:
            index = (one.hour_s - from_s) // HOUR_S
            if one.currency != currency or one.hour_s in away or not 0 <= index < len(amounts):
                continue
            if one.quality in (Quality.MEASURED, Quality.ESTIMATED):
                amounts[index] = float(one.amount)
            elif one.quality is Quality.INTERPOLATED:
                is_zero = one.hour_s < self._known.now_s - _PENDING_S
                amounts[index] = math.nan if one.amount else 0.0 if is_zero else None
        return amounts

    def use(self, from_s: int, to_s: int) -> tuple[list[bool | None], list[float | None]]:
        """Of each hour of [from, to): whether the node worked throughout, or not at all; and what it stored at most."""
        work = ("cpu_cores_used", "gpu_count_used", "uplink_bps_used", "downlink_bps_used")
        used = " + ".join(f"coalesce({column}, 0)" for column in work)
        rows = self._known.connection.execute(
            f"SELECT observed_s / 3600, min({used}) > 0, max({used}) > 0, count(coalesce({', '.join(work)})), "  # noqa: S608
            "max(storage_bytes_used) FROM usage_samples WHERE node = ? AND observed_s >= ? AND learned_s <= ? "
            "GROUP BY 1",
            (self._node, from_s, self._known.now_s),
        )
        size = max((to_s - from_s) // HOUR_S, 0)
        working: list[bool | None] = [None] * size
        stored: list[float | None] = [None] * size
        for hour, always, ever, told, most in rows:
            index = hour - from_s // HOUR_S
            if 0 <= index < size:
                working[index] = bool(ever) if told and always == ever else None
                stored[index] = most
        return working, stored

    def told(self, from_s: int, to_s: int, away: set[int]) -> list[bool | None]:
        """Of each hour of [from, to): whether anything new of its income was told; None where it was not read."""
        connection, given = self._known.connection, (self._node, from_s, self._known.now_s)
        news = connection.execute(
            "SELECT DISTINCT learned_s / 3600 FROM accruals WHERE node = ? AND hour_s >= ? AND learned_s <= ?", given
        )
        told = {row[0] * HOUR_S for row in news}
        rows = connection.execute(
            "SELECT DISTINCT observed_s / 3600 FROM health_samples WHERE node = ? AND observed_s >= ? "
            "AND learned_s <= ?",
            given,
        )
        read = {row[0] * HOUR_S for row in rows} - away
        return [hour_s in told if hour_s in read else None for hour_s in range(from_s, to_s, HOUR_S)]


class Signals:
    """One node as it was known; ``hours``: its earned hours of the last days."""

    def __init__(self, known: AsOf, node: str, hours: Sequence[EarnedHour], episodes: Sequence[Episode]) -> None:
        self.node = node
        self.learned: tuple[str, str] | None = None
        """What was newly learned to be usual, and from which past, as JSON, to be stored."""
        self._known = known
        self._hours = hours
        self._episodes = episodes
        self._end_s = known.now_s // HOUR_S * HOUR_S

    def read(self) -> Known:
        """All that is known of the node, and what is usual for it."""
        known, now_s = self._known, self._known.now_s
        span = reference(self._episodes, self._renewed_s())
        currency = _currency(self._hours)
        first_s = self._end_s - SEEN_H * HOUR_S
        contact = self.contact()
        told = [one.hour_s + HOUR_S for one in self._hours if one.currency == currency and one.hour_s < self._end_s]
        told_s = max(told, default=None)
        own = _Hours(known, self.node)
        away = own.away(first_s)
        if contact is not None and contact.good_s is not None:
            # The last hour that was told of may not be told of in full.
            away |= set(range(contact.good_s // HOUR_S * HOUR_S, self._end_s, HOUR_S))
            away |= {told_s - HOUR_S} if told_s is not None and told_s < self._end_s else set()
        hours = own.amounts(self._hours, currency, first_s, self._end_s, away)
        working, stored = own.use(first_s, self._end_s)
        seen = known.last_seen(self.node)
        return Known(
            now_s,
            self._end_s,
            contact,
            self._usual(span, currency),
            without(hours, self._end_s, span.holes),
            without(working, self._end_s, span.holes),
            told_s,
            paused=any(pause.node in (None, self.node) for pause in known.pauses()),
            open={one.cause: one for one in self._episodes if one.is_open},
            details=seen.details if seen else {},
            details_hours_ago=self._details(now_s - _HOURS_AGO_S),
            details_week_ago=self._details(now_s - _WEEK_S),
            unchanged_since_s=self._unchanged_since_s(first_s),
            at_risk=self._at_risk(currency),
            stored_bytes=max((one for one in stored[-24:] if one is not None), default=None),
            expected_at_least=self._expected_at_least,
        )

    def _renewed_s(self) -> int:
        """When what is usual was last to be learned anew: once a day, at an hour that follows from the name."""
        offset_s = crc32(self.node.encode()) % 24 * HOUR_S
        return (self._end_s - offset_s) // DAY_S * DAY_S + offset_s

    def _usual(self, span: Reference, currency: str | None) -> Usual | None:
        """What is usual by this past: as it was stored, or learned now."""
        named = to_json({"currency": currency, "known_s": self._renewed_s()} | asdict(span))
        row = self._known.connection.execute(
            "SELECT usual_json FROM usual WHERE node = ? AND past_json = ?", (self.node, named)
        ).fetchone()
        if row is not None:
            document = json.loads(row[0])
            return document and Usual.of_dict(document)
        usual = learn(self._past(span, currency)) if currency is not None else None
        self.learned = named, to_json(usual and asdict(usual))
        return usual

    def _past(self, span: Reference, currency: str | None) -> Past:
        """As it was known when it was last to be learned anew: what is usual then follows from its past alone."""
        known = AsOf(self._known.connection, self._renewed_s())
        own = _Hours(known, self.node)
        from_s = max(span.from_s, span.to_s - HISTORY_H * HOUR_S)
        hours = [one for one in known.hours(from_s, self.node) if one.hour_s < span.to_s]
        from_s = min((one.hour_s for one in hours), default=span.to_s)
        away = own.away(from_s)
        working, stored = own.use(from_s, span.to_s)
        kept = [one for one in stored if one is not None]
        return Past(
            span.to_s,
            own.amounts(hours, currency, from_s, span.to_s, away),
            working,
            own.told(from_s, span.to_s, away),
            span.holes,
            median(kept) if kept else None,
        )

    def contact(self) -> Contact | None:
        """How reading the node has gone; None where it was never tried."""
        last = self._known.health(self.node)
        if last is None:
            return None
        at = (self.node, self._known.now_s)
        good_s = self._one(
            "SELECT max(observed_s) FROM health_samples WHERE node = ? AND learned_s <= ? AND failure_kind IS NULL "
            "AND status <> 'down'",
            at,
        )
        if last.failure_kind is None and last.status != "down":
            return Contact(last.observed_s, last.observed_s, status=last.status, reason=last.reason)
        bad_s, count = self._known.connection.execute(
            "SELECT min(observed_s), count(*) FROM health_samples WHERE node = ? AND learned_s <= ? AND observed_s > ?",
            (*at, good_s or 0),
        ).fetchone()
        # What was so during a pause was meant to be.
        resumed_s = max((until_s for _, until_s in _Hours(self._known, self.node).pauses(0)), default=0)
        bad_s = max(bad_s, min(resumed_s, last.observed_s))
        return Contact(last.observed_s, good_s, bad_s, count, last.failure_kind, last.status, last.reason)

    def _details(self, before_s: int) -> Details | None:
        text = self._one(
            "SELECT details_json FROM health_samples WHERE node = ? AND observed_s <= ? AND learned_s <= ? "
            "AND failure_kind IS NULL ORDER BY observed_s DESC LIMIT 1",
            (self.node, before_s, self._known.now_s),
        )
        return None if text is None else json.loads(text)

    def _unchanged_since_s(self, from_s: int) -> int | None:
        """Since when the node tells just the same; None where it has changed since, or always did."""
        return self._one(
            "SELECT min(observed_s) FROM health_samples AS own WHERE node = :node AND learned_s <= :now "
            "AND failure_kind IS NULL AND observed_s > (SELECT coalesce(max(observed_s), :from) FROM health_samples "
            "WHERE node = :node AND learned_s <= :now AND failure_kind IS NULL AND observed_s >= :from "
            "AND details_json <> (SELECT details_json FROM health_samples WHERE node = :node AND learned_s <= :now "
            "AND failure_kind IS NULL ORDER BY observed_s DESC LIMIT 1))",
            {"node": self.node, "now": self._known.now_s, "from": from_s},
        )

    def _at_risk(self, currency: str | None) -> AtRisk | None:
        """Where nothing is told of a week ago: what was told first."""
        now_s = self._known.now_s
        given = (self.node, currency, now_s)
        where = "FROM standings WHERE node = ? AND standing = 'at_risk' AND currency = ? AND learned_s <= ?"
        recent = self._one(f"SELECT min(CAST(amount AS REAL)) {where} AND observed_s > ?", (*given, now_s - _UNPAID_S))
        if recent is None:
            return None
        before = self._one(
            f"SELECT CAST(amount AS REAL) {where} ORDER BY observed_s <= ? DESC, "
            "CASE WHEN observed_s <= ? THEN -observed_s ELSE observed_s END LIMIT 1",
            (*given, now_s - _WEEK_S, now_s - _WEEK_S),
        )
        return AtRisk(str(currency), recent, before)

    def _expected_at_least(self, from_s: int, to_s: int) -> float | None:
        """The sum of the lower 80 % bounds of hours, as they were forecast before them; None where they were not."""
        text = self._one(
            "SELECT forecast_json FROM forecasts WHERE node = ? AND origin_hour_s <= ? AND learned_s <= ? "
            "ORDER BY origin_hour_s DESC LIMIT 1",
            (self.node, from_s, self._known.now_s),
        )
        if text is None:
            return None
        forecast: dict[str, Any] = json.loads(text)
        bounds: Mapping[int, float | None] = {parse_rfc3339(one["start"]): one["lo80"] for one in forecast["hours"]}
        wanted = [bounds.get(hour_s) for hour_s in range(from_s, to_s, HOUR_S)]
        known = [one for one in wanted if one is not None]
        price = unit_price(forecast["currency"], self._known.price_at(forecast["currency"], from_s), from_s)
        unit = 1.0 if forecast["unit"] == "native_per_hour" else float(price.usd_per_unit) if price else 0.0
        return sum(known) / unit if unit and len(known) == len(wanted) else None

    def _one(self, statement: str, given: Any) -> Any:
        row = self._known.connection.execute(statement, given).fetchone()
        return row[0] if row else None


def _currency(hours: Iterable[EarnedHour]) -> str | None:
    """What the node earns in most hours, test money apart."""
    counts: dict[str, int] = {}
    for one in hours:
        if one.currency not in TESTNET:
            counts[one.currency] = counts.get(one.currency, 0) + 1
    return max(counts, key=lambda one: (counts[one], one), default=None)
