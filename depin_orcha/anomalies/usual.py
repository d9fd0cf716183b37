"""What is usual for a node, learned from its last eight weeks; what is unusual is measured against it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil, isfinite, log
from typing import TYPE_CHECKING, Any

from depin_orcha.types import HOUR_S

from .flow import LEAST_SIGMA, Flow, day_means, learn_flow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

HISTORY_H = 56 * 24
_LEAST_KNOWN_H, _LEAST_SPAN_H = 5 * 24, 7 * 24
"""Five known days over at least a week: before, nothing is said of income."""
_MONTH_H = 28 * 24
_FLOWS = 0.2
"""Largest share of hours without income that still counts as a flow."""
_PAYOUTS, _APART_H, _IRREGULAR = 6, 6, 0.15
_LAST_PAYOUTS = 14
_OUTLIER = 2.5
_ENDS_H = 12


@dataclass(frozen=True, slots=True)
class Payouts:
    """Income that comes at once now and then: the usual payout, and how far the logarithm of one may be below it."""

    amount: float
    spread: float


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual for a node.

    ``per_hour``: mean income; ``month_level`` and ``month_spread``: middle and spread of the means of the last 28 days.
    ``runs``: the longest run, in hours, of no income (``zero``), of work without income (``unpaid``), of income without
    work (``unused``), of good readings without anything new (``silent``), each with the length from which on one is
    unusual. Either ``flow`` or ``payouts`` or neither is there.
    """

    per_hour: float
    month_level: float
    month_spread: float
    runs: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    stored_bytes: float | None = None
    flow: Flow | None = None
    payouts: Payouts | None = None

    @classmethod
    def of_dict(cls, document: dict[str, Any]) -> Usual:
        """The same from its JSON value, as ``dataclasses.asdict`` makes it."""
        flow, payouts = document["flow"], document["payouts"]
        parts: dict[str, Any] = document | {
            "runs": {name: (run[0], run[1]) for name, run in document["runs"].items()},
            "flow": flow and Flow(**flow),
            "payouts": payouts and Payouts(**payouts),
        }
        return cls(**parts)


@dataclass(frozen=True, slots=True)
class Past:
    """Hours before ``end_s``, oldest first, as :class:`~depin_orcha.anomalies.nouns.Known` has them.

    ``told``: whether the node accounted for anything new in that hour; None where it was not read. ``holes``: spans of
    time, in seconds, in which something was wrong.
    """

    end_s: int
    hours: Sequence[float | None]
    working: Sequence[bool | None] = ()
    told: Sequence[bool | None] = ()
    holes: Sequence[tuple[int, int]] = ()
    stored_bytes: float | None = None


def learn(past: Past) -> Usual | None:
    """What is usual by these hours; None where they are too few to say."""
    import numpy as np

    whole = list(past.hours[-HISTORY_H:])
    whole = whole[next((index for index, one in enumerate(whole) if one is not None), len(whole)) :]
    hours = without(whole, past.end_s, past.holes)
    y = np.array([np.nan if one is None else max(one, 0.0) for one in hours], dtype=np.float64)[len(hours) % 24 :]
    known = np.isfinite(y[-_MONTH_H:])
    if known.sum() < _LEAST_KNOWN_H or len(y) < _LEAST_SPAN_H or not np.nansum(y[-_MONTH_H:]):
        return None
    days = day_means(y)[-_MONTH_H // 24 :]
    days = days[np.isfinite(days)]
    if not days.size:
        return None
    flow = payouts = None
    if float((y == 0).sum() / np.isfinite(y).sum()) <= _FLOWS:
        flow = learn_flow(y, past.end_s)
    else:
        payouts = _payouts(hours)
    # Where work comes at random, a lull that passed by itself was none of a fault.
    lulls = hours if flow or payouts else whole
    working, told = (without(marks, past.end_s, past.holes) for marks in (past.working, past.told))
    return Usual(
        per_hour=float(np.nanmean(y[-_MONTH_H:])),
        month_level=float(np.median(days)),
        month_spread=float(days.std()),
        runs={
            "zero": longest(zero_hours(lulls)),
            "unpaid": longest(unpaid_hours(hours, working)),
            "unused": longest(unused_hours(hours, working)),
            "silent": longest([None if new is None else not new for new in told]),
        },
        stored_bytes=past.stored_bytes,
        flow=flow,
        payouts=payouts,
    )


def without(hours: Sequence[Any], end_s: int, holes: Iterable[tuple[int, int]]) -> list[Any]:
    """What is known of hours, the last of which ends at ``end_s``, with None for those that touch one of the holes."""
    known = list(hours)
    start_s = end_s - len(known) * HOUR_S
    for from_s, until_s in holes:
        for index in range(max((from_s - start_s) // HOUR_S, 0), min(-(-(until_s - start_s) // HOUR_S), len(known))):
            known[index] = None
    return known


def amounts(hours: Sequence[float | None]) -> list[float]:
    """Those hours of which the amount is known."""
    return [one for one in hours if one is not None and isfinite(one)]


def zero_hours(hours: Sequence[float | None]) -> list[bool | None]:
    """Hours in which nothing was earned; None where that is not known."""
    return [None if one is None else one <= 0 for one in hours]


def unpaid_hours(hours: Sequence[float | None], working: Sequence[bool | None]) -> list[bool | None]:
    """Hours of work throughout for which nothing was earned; both end with the same hour."""
    return [
        None if one is None or works is None else works and one <= 0
        for one, works in zip(reversed(hours), reversed(working), strict=False)
    ][::-1]


def unused_hours(hours: Sequence[float | None], working: Sequence[bool | None]) -> list[bool | None]:
    """Hours in which something was earned without any work."""
    return [
        None if one is None or works is None else one > 0 and not works
        for one, works in zip(reversed(hours), reversed(working), strict=False)
    ][::-1]


def longest(marks: Sequence[bool | None]) -> tuple[int, int]:
    """(longest run of True that has ended, length from which on a run is unusual); None neither ends nor adds.

    Where nothing is known for half a day a run ends. Of runs that come to their end by chance, the longest of n is
    exceeded by so much once in a decade or so. Where most are nearly as long as the longest, it is enough to be half as
    far again from the middle one, and a quarter of that. Never below three hours.
    """
    lengths: list[int] = []
    length = unknown = 0
    for mark in marks:
        unknown = unknown + 1 if mark is None else 0
        if length and (mark is False or unknown >= _ENDS_H):
            lengths.append(length)
            length = 0
        length += mark is True
    if not lengths:
        return 0, 3
    lengths.sort()
    most, middle = lengths[-1], lengths[len(lengths) // 2]
    by_chance = most * (1 + log(100) / log(max(len(lengths), 3)))
    alike = most + (most - middle) / 2 + middle / 4
    return most, max(ceil(min(by_chance, alike) if middle > most / 2 else by_chance) + 2, 3)


def at_end(marks: Sequence[bool | None], *, across_gaps: bool = False) -> tuple[int, int]:
    """(length of the run of True at the end, positions from its first hour to the end).

    It ends where nothing is known for half a day, unless it is to be followed across gaps.
    """
    length = reach = unknown = 0
    for back, mark in enumerate(reversed(marks), start=1):
        unknown = unknown + 1 if mark is None else 0
        if mark is False or (unknown >= _ENDS_H and not across_gaps):
            break
        if mark:
            length, reach = length + 1, back
    return length, reach


def payouts_of(hours: Sequence[float | None]) -> list[tuple[int, float]]:
    """(positions from its last hour to the end, amount) of each payout: hours with income that lie side by side."""
    found: list[tuple[int, float]] = []
    total, last = 0.0, 0
    for position, one in enumerate(hours):
        if one is not None and one > 0:
            if total and position - last > 2:
                found.append((len(hours) - last, total))
                total = 0.0
            total, last = total + one, position
    if total:
        found.append((len(hours) - last, total))
    return found


def _payouts(hours: Sequence[float | None]) -> Payouts | None:
    """The usual payout of the last ones where they come at regular intervals; None where income is no such thing.

    The spread is that of all, of which none counts for more than some spreads of the middle ones.
    """
    import numpy as np

    found = payouts_of(hours)
    if len(found) < _PAYOUTS:
        return None
    apart = -np.diff([back for back, _ in found])
    middle = float(np.median(apart))
    if middle < _APART_H or float(np.median(np.abs(apart - middle))) > _IRREGULAR * middle:
        return None
    paid = np.array([amount for _, amount in found])
    below = -np.log(paid / np.median(paid))
    middling = 1.4826 * float(np.median(np.abs(below)))
    clipped = np.clip(below, -_OUTLIER * middling, _OUTLIER * middling)
    spread = max(float((clipped**2).mean()) ** 0.5, LEAST_SIGMA)
    return Payouts(float(np.median(paid[-_LAST_PAYOUTS:])), spread)
