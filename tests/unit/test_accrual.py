"""Readings become hourly earnings: differences, resets, rollovers, gaps, duplicates, and exact sums."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from depin_orcha.accrual import accrue, difference, opening_s, period_window, spread, without_mixing
from depin_orcha.types import HOUR_S, EarningsSample, Quality, SampleKind


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def counter(when: str, amount: str, period: str = "2026-11", share: str = "1", withheld: str = "0") -> EarningsSample:
    return EarningsSample(
        at(when), Decimal(amount), "USD", SampleKind.COUNTER, period, "sat", Decimal(share), Decimal(withheld)
    )


def test_the_first_reading_is_only_a_baseline() -> None:
    assert accrue([counter("2026-11-22T10:00", "5.90")]) == {}


def test_growth_is_spread_over_the_hours_it_took() -> None:
    hours = accrue([counter("2026-11-22T10:45", "1"), counter("2026-11-22T11:15", "1.2")])
    assert {hour: value for hour, (value, _) in hours.items()} == {
        at("2026-11-22T10:00"): Decimal("0.1"),
        at("2026-11-22T11:00"): Decimal("0.1"),
    }


def test_no_growth_is_a_known_zero() -> None:
    hours = accrue([counter("2026-11-22T10:00", "1"), counter("2026-11-22T10:15", "1")])
    assert hours == {at("2026-11-22T10:00"): (Decimal(0), Quality.MEASURED)}


def test_a_fall_earns_nothing_and_becomes_the_new_baseline() -> None:
    hours = accrue(
        [counter("2026-11-22T10:00", "5"), counter("2026-11-22T10:15", "3"), counter("2026-11-22T10:30", "3.5")]
    )
    assert hours == {at("2026-11-22T10:00"): (Decimal("0.5"), Quality.MEASURED)}


def test_a_wobbling_counter_counts_again_from_its_peak() -> None:
    readings = [counter("2026-11-22T10:00", "5"), counter("2026-11-22T10:15", "3"), counter("2026-11-22T10:30", "6")]
    kept = [replace(one, keeps_peak=True) for one in readings]
    assert accrue(kept) == {at("2026-11-22T10:00"): (Decimal(1), Quality.MEASURED)}
    slashed = [kept[0], readings[1], kept[2]]
    assert accrue(slashed) == {at("2026-11-22T10:00"): (Decimal(3), Quality.MEASURED)}


def stepping(when: str, traffic: str, storage: str, share: str = "1") -> EarningsSample:
    amount = Decimal(traffic) + Decimal(storage)
    return replace(counter(when, str(amount), share=share), stepped=Decimal(storage))


def test_a_step_is_spread_back_to_the_step_before() -> None:
    readings = [
        stepping("2026-11-22T00:00", "0", "10"),
        stepping("2026-11-22T01:00", "1", "10"),
        stepping("2026-11-22T02:00", "2", "10"),
        stepping("2026-11-22T03:00", "3", "13"),
        stepping("2026-11-22T04:00", "4", "14"),
    ]
    assert [value for value, _ in accrue(readings[:3]).values()] == [1, 1]
    hours = accrue(readings)
    assert list(hours.values()) == [(Decimal(2), Quality.MEASURED)] * 4
    assert sum(value for value, _ in accrue([replace(one, share=Decimal("0.25")) for one in readings]).values()) == 2


def test_a_month_begins_with_the_wait_for_its_first_step() -> None:
    readings = [stepping("2026-11-01T00:30", "0", "0"), stepping("2026-11-01T02:00", "0", "6")]
    hours = accrue(readings, opened_s=at("2026-11-01T00:00"))
    assert [value for value, _ in hours.values()] == [3, 3]


def test_a_step_after_more_than_its_usual_time_tells_the_hours_only_in_sum() -> None:
    readings = [stepping(f"2026-11-22T{hour:02}:00", "0", "0") for hour in range(15)]
    late = accrue([*readings, stepping("2026-11-22T15:00", "0", "15")])
    assert set(late.values()) == {(Decimal(1), Quality.INTERPOLATED)}


def test_a_fall_beside_a_step_earns_nothing() -> None:
    assert accrue([stepping("2026-11-22T00:00", "9", "10"), stepping("2026-11-22T01:00", "1", "13")]) == {
        at("2026-11-22T00:00"): (Decimal(0), Quality.MEASURED)
    }


def test_what_is_withheld_too_much_by_rounding_comes_off_the_next_growth() -> None:
    said = [("1.0000", "0.7500"), ("1.0001", "0.7502"), ("1.0005", "0.7502"), ("1.0006", "0.7501")]
    hours = accrue(counter(f"2026-11-22T1{n}:00", gross, withheld=held) for n, (gross, held) in enumerate(said))
    assert [value for value, _ in hours.values()] == [0, Decimal("0.0003"), Decimal("0.0002")]


def test_share_and_withheld_are_the_operators_part() -> None:
    quarter = accrue([counter("2026-11-22T10:00", "4", share="0.25"), counter("2026-11-22T10:15", "8", share="0.25")])
    held = accrue([counter("2026-11-22T10:00", "4", withheld="1"), counter("2026-11-22T10:15", "8", withheld="4")])
    assert quarter == held == {at("2026-11-22T10:00"): (Decimal(1), Quality.MEASURED)}


def test_a_long_gap_keeps_its_sum_but_is_only_interpolated() -> None:
    hours = accrue([counter("2026-11-22T10:00", "1"), counter("2026-11-22T14:00", "2")])
    assert sum(value for value, _ in hours.values()) == 1
    assert {quality for _, quality in hours.values()} == {Quality.INTERPOLATED}


def test_a_closed_month_is_finished_up_to_its_end() -> None:
    readings = [counter("2026-10-31T23:52", "8.41", "2026-10"), counter("2026-11-01T00:07", "8.53", "2026-10")]
    assert accrue(readings) == {at("2026-10-31T23:00"): (Decimal("0.12"), Quality.MEASURED)}


def test_a_correction_of_a_closed_month_is_booked_in_its_last_hour() -> None:
    readings = [counter("2026-11-01T00:07", "8.53", "2026-10"), counter("2026-11-02T09:00", "8.60", "2026-10")]
    assert accrue(readings) == {at("2026-10-31T23:00"): (Decimal("0.07"), Quality.INTERPOLATED)}


def test_a_new_month_starts_from_zero_at_its_first_instant() -> None:
    opened = opening_s("2026-11", last_earlier_s=at("2026-10-31T23:52"))
    hours = accrue([counter("2026-11-01T00:07", "0.13")], opened)
    assert hours == {at("2026-11-01T00:00"): (Decimal("0.13"), Quality.MEASURED)}


def test_without_an_earlier_period_nothing_is_known_of_the_start() -> None:
    assert opening_s("2026-11", None) is None
    assert opening_s("epoch 7", at("2026-11-01T00:00")) == at("2026-11-01T00:00")


def test_events_are_earned_at_their_hour() -> None:
    event = EarningsSample(at("2026-11-22T10:59"), Decimal("0.3"), "GLM", SampleKind.EVENT, "", "invoice-1")
    assert accrue([event]) == {at("2026-11-22T10:00"): (Decimal("0.3"), Quality.MEASURED)}


def test_a_duplicate_reading_changes_nothing() -> None:
    once = accrue([counter("2026-11-22T10:00", "1"), counter("2026-11-22T10:15", "2")])
    twice = accrue([counter("2026-11-22T10:00", "1"), *[counter("2026-11-22T10:15", "2")] * 2])
    assert {hour: value for hour, (value, _) in once.items()} == {hour: value for hour, (value, _) in twice.items()}


def test_a_difference_takes_back_what_was_voided() -> None:
    before = accrue([counter("2026-11-22T10:00", "1"), counter("2026-11-22T10:30", "2")])
    booked = difference(before, {}, "USD")
    assert [(one.hour_s, one.amount) for one in booked] == [(at("2026-11-22T10:00"), Decimal(-1))]


@pytest.mark.parametrize(
    ("period", "days"), [("2026-02", 28), ("2024-02", 29), ("2026-12", 31), ("nothing", None), ("2026-13", None)]
)
def test_period_windows(period: str, days: int | None) -> None:
    window = period_window(period)
    assert (window is None) if days is None else (window is not None and (window[1] - window[0]) == days * 24 * HOUR_S)


def test_spread_adds_up_to_the_last_digit() -> None:
    parts = spread(Decimal("0.100000000000000001"), at("2026-11-22T10:20"), at("2026-11-22T13:40"))
    assert sum(parts.values()) == Decimal("0.100000000000000001")
    assert len(parts) == 4


def test_one_way_of_counting_per_period() -> None:
    total = EarningsSample(0, Decimal(9), "USD", SampleKind.COUNTER, "2026-11", "all", withheld=Decimal(1))
    parts = [
        EarningsSample(0, Decimal(4), "USD", SampleKind.COUNTER, "2026-11", "a", Decimal("0.75")),
        EarningsSample(0, Decimal(5), "USD", SampleKind.COUNTER, "2026-11", "b"),
    ]
    assert without_mixing([total], {"2026-11": {"a", "b"}}) == []
    assert without_mixing(parts, {"2026-11": {"a"}}) == parts
    assert without_mixing(parts, {"2026-11": {"all"}}) == [total]
