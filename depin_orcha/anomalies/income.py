"""Too little income, work that nobody pays, income that no work explains: one cause, told by its most telling kind."""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, sqrt
from typing import Any

from depin_orcha.types import HOUR_S

from .flow import MATERIAL, Flow
from .nouns import INCOME, UNUSED, Finding, Kind, Known, Severity
from .usual import Usual, amounts, at_end, payouts_of, unpaid_hours, unused_hours, zero_hours

_SIGMAS = 5.0
_BEYOND_WORST = 1.2
"""A fall is one of at least so many sigmas, and so much deeper than any in the history."""
_LEAST_DAYS, _FEW_DAYS = 14, 7
_GOES_ON = 0.5
"""Part of a limit beyond which an open episode goes on."""
_RECENT_H, _LEAST_RECENT_H = 12, 6
_BACK = ((24, 0.8), (_RECENT_H, 0.85), (4, 0.95))
_FLOWS_AGAIN = ((2, 0.5),)
"""(hours, share of the usual): a fall is over when one of these is reached, a standstill when income flows again."""
_PAYOUT_SIGMAS = 3.4
_SHIFT = 0.6
_SHIFT_SIGMAS = 4.0
_WEEK_H, _MONTH_DAYS = 168, 28
_STORED = 0.5
_FLAT = (Kind.FLATLINE, Kind.USAGE_WITHOUT_EARNINGS, Kind.STALE_READING)


def income(known: Known) -> Finding | None:
    """What is wrong with the income now; None where nothing is, or where too little is known to say."""
    usual = known.usual
    if usual is None or not known.hours:
        return None
    return (
        _standstill(known, usual)
        or (_fall(known, usual) if usual.flow else _small_payout(known, usual))
        or _shift(known, usual)
    )


def can_tell(known: Known) -> bool:
    """Is enough of the last hours known to say that an episode is over?"""
    return len(amounts(known.hours[-_RECENT_H:])) >= _LEAST_RECENT_H


def unused(known: Known) -> Iterable[Finding]:
    """Income while the node does nothing that would earn it: what it says of its work, or of its income, is wrong."""
    usual = known.usual
    if usual is None:
        return
    length, reach = at_end(unused_hours(known.hours, known.working))
    longest, limit = usual.runs["unused"]
    limit = 1 if known.is_open(UNUSED) else max(limit, 6)
    since_s = known.end_s - reach * HOUR_S
    if length >= limit:
        evidence = {"hours_of_income_without_work": length, "longest_before_h": longest, "limit_h": limit}
        yield Finding(Kind.EARNINGS_WITHOUT_USAGE, UNUSED, Severity.INFO, since_s, length / limit, evidence)
    elif usual.stored_bytes and known.stored_bytes is not None and known.stored_bytes < _STORED * usual.stored_bytes:
        earned = sum(amounts(known.hours[-24:]))
        if earned >= MATERIAL * 24 * usual.per_hour:
            evidence: dict[str, Any] = {"stored_bytes": known.stored_bytes, "usual_bytes": usual.stored_bytes}
            evidence |= {"earned_24h": earned, "usual_24h": 24 * usual.per_hour}
            score = _STORED * usual.stored_bytes / max(known.stored_bytes, 1.0)
            since_s = known.end_s - 24 * HOUR_S
            yield Finding(Kind.EARNINGS_WITHOUT_USAGE, UNUSED, Severity.WARNING, since_s, min(score, 100.0), evidence)


def _standstill(known: Known, usual: Usual) -> Finding | None:
    """Nothing at all is earned for longer than ever, or nothing for work throughout."""
    marks = {"zero": zero_hours(known.hours), "unpaid": unpaid_hours(known.hours, known.working)}
    runs = {name: at_end(one) for name, one in marks.items()}
    runs |= {name: run for name, one in marks.items() if _goes_on(known, *(run := at_end(one, across_gaps=True)))}
    over = [name for name, run in runs.items() if run[0] >= usual.runs[name][1] or _goes_on(known, *run)]
    if not over:
        return None
    name = over[-1]
    length, reach = runs[name]
    longest, limit = usual.runs[name]
    since_s = known.end_s - reach * HOUR_S
    evidence: dict[str, Any] = {
        "hours_without_income": length,
        "longest_before_h": longest,
        "limit_h": limit,
        "usual_per_hour": usual.per_hour,
    }
    unchanged_s = known.unchanged_since_s
    if name == "unpaid":
        kind = Kind.USAGE_WITHOUT_EARNINGS
        evidence["hours_of_work_without_income"] = length
    elif unchanged_s is not None and unchanged_s <= since_s + HOUR_S and known.now_s - unchanged_s >= 3 * HOUR_S:
        kind = Kind.STALE_READING
        evidence["hours_unchanged"] = (known.now_s - unchanged_s) // HOUR_S
    else:
        kind = Kind.FLATLINE
    severity = Severity.CRITICAL if usual.flow and kind is Kind.FLATLINE else Severity.WARNING
    return Finding(kind, INCOME, severity, since_s, length / limit, evidence)


def _goes_on(known: Known, length: int, reach: int) -> bool:
    """Is it the very run that is told already?"""
    since_s = known.end_s - reach * HOUR_S
    return length > 0 and known.income_is(*_FLAT) and since_s <= known.open[INCOME].since_s + HOUR_S


def _fall(known: Known, usual: Usual) -> Finding | None:
    """Income that flows has fallen deeper than it ever does, and below what was forecast for these hours."""
    if usual.flow is None:
        return None
    limit = max(_SIGMAS, _BEYOND_WORST * -usual.flow.worst) * (1 + _FEW_DAYS / usual.flow.days)
    sigmas, span_h, least = 0.0, _RECENT_H, None
    if known.is_open(INCOME):
        earned, expected = usual.flow.shares(known.hours[-span_h:], known.end_s)
        if not expected or _is_back(known, usual.flow):
            return None
    elif usual.flow.days < _LEAST_DAYS:
        return None
    else:
        sigmas, span_h, earned, expected = usual.flow.fall(known.hours, known.end_s)
        least = known.expected_at_least(known.end_s - span_h * HOUR_S, known.end_s)
        if -sigmas < limit or (least is not None and earned >= least):
            return None
    evidence = {"window_h": span_h, "earned": earned, "expected": expected, "share_of_expected": earned / expected}
    evidence |= {"sigmas": -sigmas, "limit_sigmas": limit} if sigmas else {}
    evidence |= {} if least is None else {"forecast_at_least": least}
    score = -sigmas / limit
    return Finding(Kind.DROP, INCOME, Severity.WARNING, known.end_s - span_h * HOUR_S, score, evidence)


def _is_back(known: Known, flow: Flow) -> bool:
    """Is the income of an open episode what it used to be?"""
    for hours, share in _FLOWS_AGAIN if known.income_is(*_FLAT) else _BACK:
        if known.end_s - hours * HOUR_S < known.open[INCOME].since_s:
            continue
        earned, expected = flow.shares(known.hours[-hours:], known.end_s)
        if expected and earned >= share * expected:
            return True
    return False


def _small_payout(known: Known, usual: Usual) -> Finding | None:
    """The last payout is smaller than they ever are."""
    if usual.payouts is None:
        return None
    found = payouts_of(known.hours)
    if not found or found[-1][0] <= 3:  # it may not be complete
        return None
    back, amount = found[-1]
    share = amount / usual.payouts.amount
    limit = min(MATERIAL, exp(-_PAYOUT_SIGMAS * usual.payouts.spread))
    if share >= (MATERIAL if known.income_is(Kind.DROP) else limit):
        return None
    evidence = {"paid": amount, "usual": usual.payouts.amount, "share_of_usual": share, "limit_share": limit}
    score = (1 - share) / (1 - limit)
    return Finding(Kind.DROP, INCOME, Severity.WARNING, known.end_s - back * HOUR_S, score, evidence)


def _shift(known: Known, usual: Usual) -> Finding | None:
    """The last week's income is far below that of the month before."""
    last = amounts(known.hours[-_WEEK_H:])
    if (usual.flow is None and usual.payouts is None) or len(last) < 0.75 * _WEEK_H:
        return None
    mean = sum(last) / len(last)
    share = mean / usual.month_level
    spread = 1.5 * usual.month_spread * sqrt(1 / 7 + 1 / _MONTH_DAYS)
    goes_on = known.income_is(Kind.LEVEL_SHIFT)
    limit = (1 + _SHIFT) / 2 if goes_on else _SHIFT
    if share >= limit or (usual.month_level - mean < _SHIFT_SIGMAS * spread and not goes_on):
        return None
    evidence = {"week_per_hour": mean, "month_per_hour": usual.month_level, "share_of_month": share}
    since_s = known.end_s - _WEEK_H * HOUR_S
    return Finding(Kind.LEVEL_SHIFT, INCOME, Severity.WARNING, since_s, (1 - share) / (1 - limit), evidence)
