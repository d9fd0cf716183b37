"""``history --reconcile``: our hours of a month against the network's own statement, and what was said beforehand.

The network's side of a month is what it says was earned less what it holds back: our hours are after held amounts too.
What it returns of earlier months is no income of this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import ROUND_UP, Decimal, localcontext
from itertools import pairwise
from typing import Any

from .asof import AsOf, EarnedHour, Node
from .outlooks import SCORED_DAYS, month_span_s
from .settled import outlooks, receipts, statements
from .timefmt import rfc3339
from .types import DAY_S, DECIMALS, HOUR_S, MonthOutlook, OutlookSource, Quality, Statement, decimal_text

_ZERO = Decimal(0)
_ESTIMATE = Decimal("1e-8")
_AGREES_PCT = Decimal("0.01")
_UNDERSTATED = {"storj": Decimal("0.6")}
"""Protocol -> how far below the settlement its counters may stay because their prices are cut to whole cents, in %."""
_TRUNCATED = (
    "the node's prices are cut to whole cents (149 for 149.76 per TB-month), so its counters understate storage by "
    "about 0.5 %"
)

_Key = tuple[str, str, str]
"""Month, node and currency."""


@dataclass(frozen=True, slots=True)
class _Cause:
    """A fact of the database that makes a difference, of ``at_most`` so much; None where nothing bounds it."""

    kind: str
    detail: str
    at_most: Decimal | None


@dataclass(slots=True)
class _Month:
    """All that is known of one node, month and currency."""

    node: Node
    period: str
    currency: str
    hours: list[EarnedHour] = field(default_factory=list[EarnedHour])
    statements: list[Statement] = field(default_factory=list[Statement])
    outlooks: list[MonthOutlook] = field(default_factory=list[MonthOutlook])
    received: Decimal | None = None
    """Payouts with a time in this month, or for this month."""

    @property
    def ours(self) -> Decimal | None:
        return _sum(hour.amount for hour in self.hours) if self.hours else None

    @property
    def network(self) -> Decimal | None:
        return self.total("earned") - self.total("held") if self.statements else None

    @property
    def span_s(self) -> tuple[int, int]:
        return month_span_s(self.period)

    @property
    def known_hours(self) -> int:
        return len({hour.hour_s for hour in self.hours})

    @property
    def per_hour(self) -> Decimal:
        """What a known hour brought on average."""
        return DECIMALS.divide(max(self.ours or _ZERO, _ZERO), Decimal(max(self.known_hours, 1)))

    def total(self, name: str) -> Decimal:
        return _sum(getattr(one, name) for one in self.statements)


def reconcile(known: AsOf, only: frozenset[str]) -> dict[str, list[dict[str, Any]]]:
    """``reconciliation[]`` of each month that a network has settled, ``scorecard[]`` of each month that is over."""
    months = [month for key, month in sorted(_months(known).items()) if not only or key[1] in only]
    ended = [month for month in months if month.span_s[1] <= known.now_s]
    with localcontext(DECIMALS):
        return {
            "reconciliation": [_compared(known, month) for month in months if month.statements],
            "scorecard": [_scored(month) for month in ended],
        }


def _months(known: AsOf) -> dict[_Key, _Month]:
    nodes = {node.name: node for node in known.nodes()}
    months: dict[_Key, _Month] = {}

    def month(period: str, node: str, currency: str) -> _Month:
        return months.setdefault((period, node, currency), _Month(nodes[node], period, currency))

    for hour in known.hours():
        month(rfc3339(hour.hour_s)[:7], hour.node, hour.currency).hours.append(hour)
    for node, statement in statements(known):
        month(statement.period, node, statement.currency).statements.append(statement)
    for node, outlook in outlooks(known):
        month(outlook.period, node, outlook.currency).outlooks.append(outlook)
    for receipt in receipts(known):
        payout = receipt.payout
        one = month(payout.period or rfc3339(receipt.at_s)[:7], receipt.node.name, payout.currency)
        one.received = (one.received or _ZERO) + payout.amount
    return months


def _compared(known: AsOf, month: _Month) -> dict[str, Any]:
    ours, network = month.ours, month.total("earned") - month.total("held")
    difference = None if ours is None else ours - network
    return {
        "month": month.period,
        "node": month.node.name,
        "protocol": month.node.protocol,
        "currency": month.currency,
        "ours": _shown(ours),
        "network": _shown(network),
        "difference": _shown(difference),
        "difference_pct": _percent(difference, network),
        "earned": _shown(month.total("earned")),
        "held": _shown(month.total("held")),
        "returned": _shown(month.total("returned")),
        "payable": _shown(month.total("payable")),
        "paid": _shown(month.total("paid")),
        "known_hours": month.known_hours,
        "hours": (month.span_s[1] - month.span_s[0]) // HOUR_S,
        **_explained(known, month, difference, network),
    }


def _explained(known: AsOf, month: _Month, difference: Decimal | None, network: Decimal) -> dict[str, Any]:
    """``status``, how much is ``unexplained``, and ``explanations``.

    Each cause explains no more than its bound; what is beyond all of them stays unexplained, whatever is said of it.
    """
    told: list[_Cause] = []
    rest = None if difference is None else _ZERO
    if difference is None:
        status = "not_read"
        told.append(_Cause("not_read", "no hour of this month is known here", None))
    elif abs(difference) * 100 <= _AGREES_PCT * abs(network):
        status = "agrees"
        told.append(_Cause("agrees", "both sums are the same to a hundredth of a percent", None))
    else:
        told += [
            replace(cause, detail=f"{cause.detail}: {_bound(cause.at_most, month.currency)}")
            for find in (_SMALLER if difference < 0 else _LARGER)
            if (cause := find(known, month)) is not None
        ]
        rest = max(abs(difference) - _sum(cause.at_most or _ZERO for cause in told), _ZERO)
        rest = _ZERO if rest * 100 <= _AGREES_PCT * abs(network) else rest.copy_sign(difference)
        status = "unexplained" if rest else "explained"
    if rest:
        beyond = "the rest" if told else "all of it"
        detail = f"{beyond}, {decimal_text(rest)} {month.currency}, is explained by nothing in the database"
        told.append(_Cause("unexplained", detail, None))
    undistributed = _sum(max(one.payable - one.paid, _ZERO) for one in month.statements)
    if undistributed:
        detail = f"{decimal_text(undistributed)} {month.currency} of it is due and was not sent yet"
        told.append(_Cause("not_distributed", detail, None))
    explanations = [{"kind": one.kind, "detail": one.detail, "at_most": _shown(one.at_most)} for one in told]
    return {"status": status, "unexplained": _shown(rest), "explanations": explanations}


def _bound(at_most: Decimal | None, currency: str) -> str:
    return "nobody can say how much" if at_most is None else f"at most {decimal_text(at_most)} {currency}"


def _missing_statements(known: AsOf, month: _Month) -> _Cause | None:
    """Series that we read and the network has not settled: no more than their last reading."""
    read = known.counter_readings(month.node.name, month.period)
    settled = {statement.external_id for statement in month.statements}
    last = {one: readings[-1][1] for one, readings in read.items() if one not in settled and readings[-1][1]}
    if not last or not _is_by_series(read):
        return None
    return _Cause("series_not_settled", f"no statement yet of {', '.join(sorted(last))}", _sum(last.values()))


def _never_read(known: AsOf, month: _Month) -> _Cause | None:
    """Series that the network has settled and we did not read: what it says of them."""
    read = known.counter_readings(month.node.name, month.period)
    never = [one for one in month.statements if one.earned and one.external_id not in read]
    if not never or not _is_by_series(read):
        return None
    names = ", ".join(one.external_id for one in never)
    return _Cause(
        "series_not_read", f"series that were not read: {names}", _sum(one.earned - one.held for one in never)
    )


def _is_by_series(read: Mapping[str, Any]) -> bool:
    return bool(read) and "all" not in read


def _gap_hours(_: AsOf, month: _Month) -> _Cause | None:
    """Hours that are not known: as much as the others brought on average."""
    start_s, end_s = month.span_s
    hours = (end_s - start_s) // HOUR_S
    missing = hours - month.known_hours
    if missing <= 0:
        return None
    first_s = min(hour.hour_s for hour in month.hours)
    since = f", which are known from {rfc3339(first_s)} on" if first_s > start_s else ""
    detail = f"{missing} of its {hours} hours are not known{since}; at the mean of the others"
    return _Cause("gap_hours", detail, _rounded(missing * month.per_hour))


def _restarts(known: AsOf, month: _Month) -> _Cause | None:
    """Starts of the node that a reading of this month was the first to see: an average hour each."""
    start_s, end_s = month.span_s
    starts = [
        (observed_s, details.get("started_at"))
        for observed_s, details in known.details_history(month.node.name, start_s - DAY_S)
        if observed_s < end_s
    ]
    count = sum(old[1] != new[1] and new[0] >= start_s for old, new in pairwise(starts))
    if not count:
        return None
    lost = "each of which can cost its counters an hour that is paid all the same"
    return _Cause("restarts", f"the node was restarted {_times(count)}, {lost}", _rounded(count * month.per_hour))


def _falls(known: AsOf, month: _Month) -> list[tuple[int, Decimal]]:
    """Of each fall of a counter, the seconds between the two readings and the amount."""
    return [
        (new[0] - old[0], old[1] - new[1])
        for readings in known.counter_readings(month.node.name, month.period).values()
        for old, new in pairwise(readings)
        if new[1] < old[1]
    ]


def _lost_in_falls(known: AsOf, month: _Month) -> _Cause | None:
    """What was earned between the two readings of a fall is not seen: as much as that time brought on average."""
    falls = _falls(known, month)
    seconds = sum(length_s for length_s, _ in falls)
    detail = f"its counters fell {_times(len(falls))}, and what was earned since the reading before was not seen"
    return _Cause("falls", detail, _rounded(seconds * month.per_hour / HOUR_S)) if falls else None


def _kept_after_falls(known: AsOf, month: _Month) -> _Cause | None:
    """What a counter lost stays booked here."""
    falls = _falls(known, month)
    detail = f"its counters fell {_times(len(falls))}, and what had been earned by then stays booked here"
    return _Cause("falls", detail, _sum(amount for _, amount in falls)) if falls else None


def _imported(_: AsOf, month: _Month) -> _Cause | None:
    """Hours out of a file that may say too much: no more than all that it says."""
    found = [hour.amount for hour in month.hours if hour.quality is Quality.IMPORTED]
    return _Cause("imported_hours", _from_file(found), max(_sum(found), _ZERO)) if found else None


def _imported_too_little(_: AsOf, month: _Month) -> _Cause | None:
    """Hours out of a file that may say too little, which nothing bounds."""
    found = [hour.amount for hour in month.hours if hour.quality is Quality.IMPORTED]
    return _Cause("imported_hours", f"{_from_file(found)}, which may say too little", None) if found else None


def _from_file(found: Sequence[Decimal]) -> str:
    return f"{len(found)} of its hours were imported from a file"


def _truncated(_: AsOf, month: _Month) -> _Cause | None:
    most_pct = _UNDERSTATED.get(month.node.protocol)
    network = month.network
    if most_pct is None or network is None or network <= 0:
        return None
    return _Cause("truncated_prices", _TRUNCATED, _rounded(network * most_pct / 100))


_SMALLER = (_never_read, _gap_hours, _restarts, _lost_in_falls, _imported_too_little, _truncated)
"""What can make our sum smaller than the network's."""
_LARGER = (_missing_statements, _kept_after_falls, _imported)
"""What can make it larger."""


def _scored(month: _Month) -> dict[str, Any]:
    """What was said of a month on each scored day, by us and by the node, and what came of it."""
    paid = month.total("paid") if month.statements else month.received
    return {
        "month": month.period,
        "node": month.node.name,
        "currency": month.currency,
        "said": [_said(month, day) for day in SCORED_DAYS],
        "ours": _shown(month.ours),
        "network": _shown(month.network),
        "paid": _shown(paid),
    }


def _said(month: _Month, day: int) -> dict[str, Any]:
    """One outlook beside the settlement; None where there was no outlook, or the month is not settled."""
    by_source = {one.source: one for one in month.outlooks if one.day == day}
    ours, theirs = by_source.get(OutlookSource.FORECAST), by_source.get(OutlookSource.DASHBOARD)
    network, inside = month.network, None
    if network is not None and ours is not None and ours.lo80 is not None and ours.hi80 is not None:
        inside = ours.lo80 <= network <= ours.hi80
    return {
        "day": day,
        "mean": None if ours is None else _shown(ours.mean),
        "lo80": None if ours is None else _shown(ours.lo80),
        "hi80": None if ours is None else _shown(ours.hi80),
        "off_pct": None if ours is None or network is None else _percent(ours.mean - network, network),
        "inside80": inside,
        "dashboard": None if theirs is None else _shown(theirs.mean),
        "dashboard_off_pct": None if theirs is None or network is None else _percent(theirs.mean - network, network),
    }


def _rounded(amount: Decimal) -> Decimal:
    """An estimate with no more digits than it deserves, rounded up."""
    return amount.quantize(_ESTIMATE, ROUND_UP)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(DECIMALS):
        return sum(amounts, _ZERO)


def _shown(amount: Decimal | None) -> str | None:
    return None if amount is None else decimal_text(amount)


def _percent(part: Decimal | None, whole: Decimal) -> float | None:
    return None if part is None or not whole else round(float(part * 100 / whole), 4)
