"""``history --reconcile``: our hours of a month against the network's own statement, and what was said beforehand.

The network's side of a month is what it says was earned less what it holds back: our hours are after held amounts too.
What it returns of earlier months is no income of this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any

from .asof import AsOf, EarnedHour, Node
from .outlooks import SCORED_DAYS, month_span_s
from .settled import outlooks, receipts, statements
from .timefmt import rfc3339
from .types import DAY_S, DECIMALS, HOUR_S, MonthOutlook, OutlookSource, Quality, Statement, decimal_text

_ZERO = Decimal(0)
_AGREES_PCT = Decimal("0.01")
_UNDERSTATED = {"storj": Decimal("0.6")}
"""Protocol -> how far below the settlement its counters may stay because their prices are cut to whole cents, in %."""
_TRUNCATED = (
    "the node's prices are cut to whole cents (149 for 149.76 per TB-month), so its counters understate storage by "
    "about 0.5 %"
)

_Key = tuple[str, str, str]
"""Month, node and currency."""


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

    def total(self, name: str) -> Decimal:
        return _sum(getattr(one, name) for one in self.statements)


def reconcile(known: AsOf, only: frozenset[str]) -> dict[str, list[dict[str, Any]]]:
    """``reconciliation[]`` of each month that a network has settled, ``scorecard[]`` of each month that is over."""
    months = [month for key, month in sorted(_months(known).items()) if not only or key[1] in only]
    ended = [month for month in months if month_span_s(month.period)[1] <= known.now_s]
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
    start_s, end_s = month_span_s(month.period)
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
        "known_hours": len({hour.hour_s for hour in month.hours}),
        "hours": (end_s - start_s) // HOUR_S,
        "explanations": _explanations(known, month, difference, network),
    }


def _explanations(known: AsOf, month: _Month, difference: Decimal | None, network: Decimal) -> list[dict[str, str]]:
    """Facts of the database that make such a difference; ``unexplained`` where none does."""
    undistributed = _sum(max(one.payable - one.paid, _ZERO) for one in month.statements)
    told: list[dict[str, str]] = []
    if difference is None:
        told.append(_because("not_read", "no hour of this month is known here"))
    elif abs(difference) * 100 <= _AGREES_PCT * abs(network):
        told.append(_because("agrees", "both sums are the same to a hundredth of a percent"))
    else:
        told += [
            _because(kind, detail)
            for kind, (low, high), find in _CAUSES
            if (low if difference < 0 else high) and (detail := find(known, month))
        ]
        most_pct = _UNDERSTATED.get(month.node.protocol, _ZERO)
        is_enough = bool(told) or 0 < -difference * 100 <= most_pct * network
        if difference < 0 and most_pct:
            told.append(_because("truncated_prices", _TRUNCATED))
        if not is_enough:
            told.append(_because("unexplained", "nothing in the database explains this much"))
    if undistributed:
        detail = f"{decimal_text(undistributed)} {month.currency} of it is due and was not sent yet"
        told.append(_because("not_distributed", detail))
    return told


def _because(kind: str, detail: str) -> dict[str, str]:
    return {"kind": kind, "detail": detail}


def _missing_statements(known: AsOf, month: _Month) -> str:
    """Series that we read and the network has not settled."""
    read = known.counter_readings(month.node.name, month.period)
    missing = sorted(one for one, amounts in read.items() if amounts[-1]) if _is_by_series(read) else []
    missing = [one for one in missing if one not in {statement.external_id for statement in month.statements}]
    return f"no statement yet of {', '.join(missing)}" if missing else ""


def _never_read(known: AsOf, month: _Month) -> str:
    """Series that the network has settled and we did not read."""
    read = known.counter_readings(month.node.name, month.period)
    never = [one for one in month.statements if one.earned and one.external_id not in read]
    if not never or not _is_by_series(read):
        return ""
    amount = decimal_text(_sum(one.earned - one.held for one in never))
    return f"{amount} {month.currency} of series that were not read: {', '.join(one.external_id for one in never)}"


def _is_by_series(read: Mapping[str, Any]) -> bool:
    return bool(read) and "all" not in read


def _gap_hours(known: AsOf, month: _Month) -> str:  # noqa: ARG001 - one of several causes
    start_s, end_s = month_span_s(month.period)
    hours = (end_s - start_s) // HOUR_S
    missing = hours - len({hour.hour_s for hour in month.hours})
    if missing <= 0:
        return ""
    first_s = min(hour.hour_s for hour in month.hours)
    since = f", which are known from {rfc3339(first_s)} on" if first_s > start_s else ""
    return f"{missing} of its {hours} hours are not known{since}"


def _restarts(known: AsOf, month: _Month) -> str:
    """Starts of the node that a reading of this month was the first to see."""
    start_s, end_s = month_span_s(month.period)
    starts = [
        (observed_s, details.get("started_at"))
        for observed_s, details in known.details_history(month.node.name, start_s - DAY_S)
        if observed_s < end_s
    ]
    count = sum(old[1] != new[1] and new[0] >= start_s for old, new in pairwise(starts))
    if not count:
        return ""
    return (
        f"the node was restarted {_times(count)}, each of which can cost its counters an hour that is paid all the same"
    )


def _falls(known: AsOf, month: _Month) -> str:
    readings = known.counter_readings(month.node.name, month.period).values()
    count = sum(new < old for amounts in readings for old, new in pairwise(amounts))
    return f"its counters fell {_times(count)}; a fall earns nothing" if count else ""


def _imported(known: AsOf, month: _Month) -> str:  # noqa: ARG001 - one of several causes
    count = sum(hour.quality is Quality.IMPORTED for hour in month.hours)
    return f"{count} of its hours were imported from a file" if count else ""


_CAUSES: tuple[tuple[str, tuple[bool, bool], Callable[[AsOf, _Month], str]], ...] = (
    ("series_not_read", (True, False), _never_read),
    ("series_not_settled", (False, True), _missing_statements),
    ("gap_hours", (True, False), _gap_hours),
    ("restarts", (True, False), _restarts),
    ("falls", (True, True), _falls),
    ("imported_hours", (True, True), _imported),
)
"""What can make a difference, whether it makes our sum the smaller and the larger one, and how it is found."""


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


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(DECIMALS):
        return sum(amounts, _ZERO)


def _shown(amount: Decimal | None) -> str | None:
    return None if amount is None else decimal_text(amount)


def _percent(part: Decimal | None, whole: Decimal) -> float | None:
    return None if part is None or not whole else round(float(part * 100 / whole), 4)
