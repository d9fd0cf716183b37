"""From readings to what was earned in each hour, exactly: the sum of the hours is the sum of the readings.

Counters and balances earn their growth; a fall earns nothing and becomes the new baseline; a new period starts from
zero. Growth is spread evenly over the time it took, which for a part that moves in steps is the time since the last
step. Events are earned at their instant.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_FLOOR, Decimal, localcontext
from functools import lru_cache

from .types import CERTAINTY, DECIMALS, HOUR_S, Accrual, EarningsSample, Quality, SampleKind

GAP_S = 2 * HOUR_S
"""Longer than this between two readings, the hours between are known only in sum."""

STEP_S = 14 * HOUR_S
"""A step that took longer than this tells the hours only in sum."""

_QUANTUM = Decimal("1e-18")

Hours = dict[int, tuple[Decimal, Quality]]


@dataclass(frozen=True, slots=True)
class Imported:
    """An imported ``amount`` of [start_s, end_s), and what the node itself ``told`` of it since."""

    start_s: int
    end_s: int
    amount: Decimal
    told: Decimal = Decimal(0)


def accrue(samples: Iterable[EarningsSample], opened_s: int | None = None) -> Hours:
    """What one series (same currency, kind, period and external id) earned in each hour it covers.

    ``opened_s``: when the counter stood at zero; without it the first reading is only a baseline.
    Hours that the readings cover without earnings are present with amount 0. Amounts are after the operator's share.
    """
    hours: Hours = {}
    ordered = sorted(samples, key=lambda sample: sample.observed_s)
    if not ordered:
        return hours
    if ordered[0].kind is SampleKind.EVENT:
        for event in ordered:
            _add(hours, _hour(event.observed_s), DECIMALS.multiply(event.amount, event.share), Quality.MEASURED)
        return hours
    previous = None
    if opened_s is not None:
        first = ordered[0]
        previous = at_zero(first, min(opened_s, first.observed_s))
    for sample in ordered:
        if previous is not None:
            _add_growth(hours, previous, sample)
        previous = continued(sample, previous)
    return hours


def at_zero(sample: EarningsSample, opened_s: int) -> EarningsSample:
    """The counter of a sample when it stood at zero."""
    stepped = None if sample.stepped is None else Decimal(0)
    return replace(
        sample, observed_s=opened_s, amount=Decimal(0), withheld=Decimal(0), baseline=None, stepped=stepped,
        stepped_s=None,
    )  # fmt: skip


def continued(sample: EarningsSample, previous: EarningsSample | None) -> EarningsSample:
    """The sample with what the next one goes on from: from which amount it grows, and when it last stepped."""
    if previous is None:
        return sample
    if sample.baseline is None and sample.keeps_peak:
        peak = previous.amount if previous.baseline is None else previous.baseline
        is_lost = sample.lost_s is not None and sample.lost_s > previous.observed_s
        sample = replace(sample, baseline=sample.amount if is_lost else max(peak, sample.amount))
    elif sample.baseline is None and sample.withheld and (lacking := -_net(previous, sample)) > 0:
        # Amounts that are rounded withhold too much at times; what is lacking comes off the next growth.
        sample = replace(sample, baseline=DECIMALS.add(sample.amount, lacking))
    if sample.stepped is not None and sample.stepped_s is None and sample.stepped == previous.stepped:
        sample = replace(sample, stepped_s=_last_step_s(previous))
    return sample


def _last_step_s(sample: EarningsSample) -> int:
    return sample.observed_s if sample.stepped_s is None else sample.stepped_s


def growth(previous: EarningsSample, sample: EarningsSample) -> Decimal:
    """The operator's part of what a counter grew by between two readings; 0 when it fell."""
    return max(_net(previous, sample), Decimal(0))


def _net(previous: EarningsSample, sample: EarningsSample) -> Decimal:
    """The same, but below 0 where a peak is not passed yet, or more was withheld than the counter grew by."""
    if sample.amount < previous.amount:
        return Decimal(0)
    baseline = previous.amount if previous.baseline is None else previous.baseline
    with localcontext(DECIMALS):
        return (sample.amount - baseline) * sample.share - (sample.withheld - previous.withheld)


def difference(before: Mapping[int, tuple[Decimal, Quality]], after: Hours, currency: str) -> list[Accrual]:
    """What has to be booked so that the ledger of a series says ``after`` where it said ``before``.

    Hours that became known with amount 0 are kept, so that a true zero is told from an unknown hour.
    """
    booked: list[Accrual] = []
    with localcontext(DECIMALS):
        for hour_s in sorted(before.keys() | after.keys()):
            old, _ = before.get(hour_s, (Decimal(0), None))
            new, quality = after.get(hour_s, (Decimal(0), Quality.MEASURED))
            if new != old or hour_s not in before:
                booked.append(Accrual(hour_s, new - old, currency, quality))
    return booked


def beside_imported(
    booked: Sequence[Accrual], span_s: tuple[int, int], imported: Sequence[Imported]
) -> tuple[list[Accrual], list[Imported]]:
    """What is left to be booked of one series' earnings in a span of time, and the imports with what is told of them.

    What an import says is not counted again; the rest falls on the time that is not imported, and if there is none, on
    the last hour. So the sum is what the node tells, or what was imported, whichever is more. ``booked``: in order of
    time, all of one sign.
    """
    start_s, end_s = _clipped(span_s, booked[0].hour_s, booked[-1].hour_s + HOUR_S)
    after = list(imported)
    with localcontext(DECIMALS):
        rest = total = sum((one.amount for one in booked), Decimal(0))
        for place, one in enumerate(imported):
            common_s = _common_s(one, start_s, end_s)
            if not common_s:
                continue
            share = rest
            if one.start_s > start_s or one.end_s < end_s:
                if one.start_s < start_s or one.end_s > end_s:
                    part = (total * common_s / (end_s - start_s)).quantize(_QUANTUM, rounding=ROUND_DOWN)
                    share = min(part, rest, key=abs)
                # An import says of a longer time than its own how much of it fell into its own, and no more.
                share = min(max(share, -one.told), max(one.amount - one.told, Decimal(0)))
            after[place] = replace(one, told=one.told + share)
            rest -= min(after[place].told, one.amount) - min(one.told, one.amount)
        free: list[Decimal] = []
        for one in booked:
            part_s = max(one.hour_s, start_s), min(one.hour_s + HOUR_S, end_s)
            taken_s = sum(_common_s(other, *part_s) for other in imported)
            free.append(one.amount * max(part_s[1] - part_s[0] - taken_s, 0) / (part_s[1] - part_s[0]))
        return _shared_out(booked, rest, free), after


def _clipped(span_s: tuple[int, int], first_s: int, last_s: int) -> tuple[int, int]:
    """The hours [first_s, last_s) of some earnings without what of the first and the last is not in the span."""
    start_s = span_s[0] if first_s <= span_s[0] < first_s + HOUR_S else first_s
    end_s = span_s[1] if last_s - HOUR_S < span_s[1] <= last_s else last_s
    return start_s, max(end_s, start_s + 1)


def _common_s(one: Imported, start_s: int, end_s: int) -> int:
    return max(min(one.end_s, end_s) - max(one.start_s, start_s), 0)


def _shared_out(booked: Sequence[Accrual], amount: Decimal, weights: Sequence[Decimal]) -> list[Accrual]:
    """An amount instead of what is booked, by weights, exactly; without any, in the last hour."""
    whole = sum(weights, Decimal(0))
    parts = [(amount * one / whole).quantize(_QUANTUM, rounding=ROUND_DOWN) if whole else Decimal(0) for one in weights]
    last = max((place for place, one in enumerate(weights) if one), default=len(parts) - 1)
    parts[last] += amount - sum(parts, Decimal(0))
    return [replace(one, amount=part) for one, part in zip(booked, parts, strict=True)]


@lru_cache
def period_window(period: str) -> tuple[int, int] | None:
    """First second and end of a ``YYYY-MM`` period in UTC; None for periods that carry no time."""
    try:
        start = datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        return None
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp()), int(end.timestamp())


def opening_s(period: str, last_earlier_s: int | None) -> int | None:
    """When a period started from zero: known only if an earlier period was read."""
    if last_earlier_s is None:
        return None
    window = period_window(period)
    return window[0] if window else last_earlier_s


def without_mixing(samples: Sequence[EarningsSample], stored_ids: Mapping[str, set[str]]) -> list[EarningsSample]:
    """The samples in the way their period began: per satellite, or only the sum ``all``, never both.

    ``stored_ids``: external ids already stored, by period. Where a period began with the sum, the parts are added up;
    where it began with parts, a lone sum is left out: that stretch stays unknown until the parts can be read again.
    """
    kept: list[EarningsSample] = []
    by_period: dict[str, list[EarningsSample]] = {}
    for sample in samples:
        by_period.setdefault(sample.period, []).append(sample)
    for period, members in by_period.items():
        stored = stored_ids.get(period, set())
        if "all" in stored:
            kept.append(_total(members))
        elif stored:
            kept.extend(sample for sample in members if sample.external_id != "all")
        else:
            kept.extend(members)
    return kept


def spread(amount: Decimal, start_s: int, end_s: int) -> dict[int, Decimal]:
    """``amount`` shared over the hours of [start, end) by the seconds in each; the parts add up exactly.

    Parts are multiples of 1e-18 (or of the amount's own last digit, if finer); what remains goes to the largest
    remainders, the earliest hour first.
    """
    if end_s <= start_s:
        return {_hour(end_s): amount}
    seconds = {
        hour_s: min(end_s, hour_s + HOUR_S) - max(start_s, hour_s) for hour_s in range(_hour(start_s), end_s, HOUR_S)
    }
    if len(seconds) == 1:
        return dict.fromkeys(seconds, amount)
    exponent = amount.as_tuple().exponent
    quantum = min(_QUANTUM, Decimal(1).scaleb(exponent)) if isinstance(exponent, int) else _QUANTUM
    with localcontext(DECIMALS):
        exact = {hour_s: amount * part / (end_s - start_s) for hour_s, part in seconds.items()}
        parts = {hour_s: value.quantize(quantum, rounding=ROUND_FLOOR) for hour_s, value in exact.items()}
        quanta_left = int((amount - sum(parts.values())) / quantum)
        by_remainder = sorted(exact, key=lambda hour_s: (parts[hour_s] - exact[hour_s], hour_s))
        for hour_s in by_remainder[:quanta_left]:
            parts[hour_s] += quantum
    return parts


def _add_growth(hours: Hours, previous: EarningsSample, sample: EarningsSample) -> None:
    earned = growth(previous, sample)
    start_s, end_s = previous.observed_s, sample.observed_s
    window = period_window(sample.period)
    if window:
        start_s, end_s = max(start_s, window[0]), min(end_s, window[1])
        if start_s >= end_s:
            # A closed month that was corrected afterwards: booked in its last hour, where the statement puts it.
            if earned:
                _add(hours, window[1] - HOUR_S, earned, Quality.INTERPOLATED)
            return
    step = _step(previous, sample, earned)
    quality = Quality.MEASURED if end_s - start_s <= GAP_S else Quality.INTERPOLATED
    if sample.estimated or previous.estimated:
        quality = Quality.ESTIMATED
    for hour_s, part in spread(DECIMALS.subtract(earned, step), start_s, end_s).items():
        _add(hours, hour_s, part, quality)
    if step:
        start_s = max(_last_step_s(previous), window[0]) if window else _last_step_s(previous)
        quality = Quality.MEASURED if end_s - start_s <= STEP_S else Quality.INTERPOLATED
        for hour_s, part in spread(step, start_s, end_s).items():
            _add(hours, hour_s, part, quality)


def _step(previous: EarningsSample, sample: EarningsSample, earned: Decimal) -> Decimal:
    """The part of what was earned that came in one step."""
    if sample.stepped is None or previous.stepped is None or sample.stepped <= previous.stepped or not earned:
        return Decimal(0)
    if sample.amount == previous.amount:
        return earned
    with localcontext(DECIMALS):
        part = (sample.stepped - previous.stepped) / (sample.amount - previous.amount)
        return min((earned * part).quantize(_QUANTUM, rounding=ROUND_FLOOR), earned)


def _add(hours: Hours, hour_s: int, amount: Decimal, quality: Quality) -> None:
    with localcontext(DECIMALS):
        old, old_quality = hours.get(hour_s, (Decimal(0), quality))
        hours[hour_s] = (old + amount, max(quality, old_quality, key=CERTAINTY.index))


def _hour(instant_s: int) -> int:
    return instant_s // HOUR_S * HOUR_S


def _total(samples: Sequence[EarningsSample]) -> EarningsSample:
    """Several satellites, or the sum itself, as one reading of the sum."""
    for sample in samples:
        if sample.external_id == "all":
            return sample
    with localcontext(DECIMALS):
        gross = sum((sample.amount for sample in samples), Decimal(0))
        withheld = sum((sample.amount * (1 - sample.share) for sample in samples), Decimal(0))
        steps = [sample.stepped for sample in samples if sample.stepped is not None]
    return replace(
        samples[0],
        external_id="all",
        amount=gross,
        share=Decimal(1),
        withheld=withheld,
        stepped=sum(steps, Decimal(0)) if steps else None,
    )
