"""Readings that change what earlier ones said: taken back, given back, restated, of an older block, another period."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from ledger_parts import add, at, counter, ledger, opened, snapshot

from depin_orcha.retention import thin
from depin_orcha.store import Store
from depin_orcha.types import EarningsSample, SampleKind, VoidedSample

NOTES = (("10:00", "0"), ("10:30", "2"), ("11:30", "5"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orcha.db"


def note(when: str, amount: str, day: str = "2026-11-22") -> EarningsSample:
    return counter(f"{day}T{when}", amount, "a")


def void(when: str | None, kind: SampleKind = SampleKind.COUNTER, period: str = "a", name: str = "sat") -> VoidedSample:
    return VoidedSample(None if when is None else at(when), "USD", kind, period, name)


def total(store: Store, now: str) -> Decimal:
    return sum(ledger(store, now).values(), Decimal(0))


def test_what_is_delivered_again_after_it_was_taken_back_counts_again(path: Path) -> None:
    notes = [note(when, amount) for when, amount in NOTES]
    with opened(path) as store:
        add(store, snapshot("2026-11-22T12:00", *notes))
        earned = ledger(store, "2026-11-22T12:30")
        add(store, snapshot("2026-11-22T13:00", voided=(void("2026-11-22T10:30"), void("2026-11-22T11:30"))))
        assert total(store, "2026-11-22T13:30") == 0
        add(store, snapshot("2026-11-22T14:00", *notes))
        assert ledger(store, "2026-11-22T15:00") == earned
        assert sum(earned.values()) == 5


def test_an_event_comes_back_too(path: Path) -> None:
    job = EarningsSample(at("2026-11-22T10:30"), Decimal(7), "USD", SampleKind.EVENT, external_id="job")
    with opened(path) as store:
        add(store, snapshot("2026-11-22T11:00", job))
        add(store, snapshot("2026-11-22T12:00", voided=(void("2026-11-22T10:30", SampleKind.EVENT, "", "job"),)))
        add(store, snapshot("2026-11-22T13:00", job))
        assert total(store, "2026-11-22T14:00") == 7


def test_a_whole_series_is_taken_back_without_naming_its_readings(path: Path) -> None:
    notes = [note(when, amount) for when, amount in NOTES]
    with opened(path) as store:
        add(store, snapshot("2026-11-22T12:00", *notes))
        for when in ("2026-11-22T13:00", "2026-11-22T14:00"):
            add(store, snapshot(when, voided=(void(None),)))
        assert ledger(store, "2026-11-22T15:00") == {"11-22T10": 0, "11-22T11": 0}
        add(store, snapshot("2026-11-22T16:00", *notes))
        assert total(store, "2026-11-22T17:00") == 5


@pytest.mark.parametrize("kind", [SampleKind.COUNTER, SampleKind.EVENT])
def test_a_reading_of_the_same_second_may_say_another_amount(path: Path, kind: SampleKind) -> None:
    """Two notes of one second, one of which was not there yet; an invoice whose notes were taken back later."""
    first = replace(note("10:30", "2"), kind=kind)
    with opened(path) as store:
        add(store, snapshot("2026-11-22T11:00", *([note("10:00", "0")] if kind is SampleKind.COUNTER else []), first))
        add(store, snapshot("2026-11-22T11:15", replace(first, amount=Decimal(3))))
        assert ledger(store, "2026-11-22T12:00") == {"11-22T10": 3}


@pytest.mark.parametrize("again", ["2", "6"])
def test_thinning_keeps_the_last_reading_that_counts(path: Path, again: str) -> None:
    """The last note was taken back; long after, the one before it is delivered again, or the next one comes."""
    with opened(path) as store:
        add(store, snapshot("2026-09-01T12:00", *(note(when, amount, "2026-09-01") for when, amount in NOTES)))
        add(store, snapshot("2026-09-01T13:00", voided=(void("2026-09-01T11:30"),)))
        thin(store, at("2026-11-22T00:00"), raw_days=30)
        when = "2026-09-01T10:30" if again == "2" else "2026-11-22T10:00"
        add(store, snapshot("2026-11-22T10:00", counter(when, again, "a")))
        assert total(store, "2026-11-22T12:00") == Decimal(again)


@pytest.mark.parametrize(("before", "after"), [("", "2026-11"), ("0042", "2026-11"), ("2026-11", ""), ("Epoch 7", "")])
@pytest.mark.parametrize("series", ["sat", "other"])
def test_a_counter_of_another_make_is_no_earlier_period(path: Path, before: str, after: str, series: str) -> None:
    """A script that told of all time tells of months from now on, or of both: their first reading earns nothing."""
    with opened(path) as store:
        add(store, snapshot("2026-11-22T10:00", counter("2026-11-22T10:00", "100", before)))
        add(store, snapshot("2026-11-22T10:15", counter("2026-11-22T10:15", "30", after, series=series)))
        add(store, snapshot("2026-11-22T10:30", counter("2026-11-22T10:30", "31", after, series=series)))
        assert ledger(store, "2026-11-22T11:00") == {"11-22T10": 1}


def peak(when: str, amount: str, lost: str | None = None) -> EarningsSample:
    lost_s = None if lost is None else at(f"2026-11-22T{lost}")
    return replace(counter(f"2026-11-22T{when}", amount, ""), keeps_peak=True, lost_s=lost_s)


@pytest.mark.parametrize(
    ("readings", "earned"),
    [
        # A loss is a new start, once, however long it is told of.
        ([("10:00", "100", None), ("10:15", "90", "10:10"), ("10:30", "95", "10:10")], 5),
        ([("10:00", "100", None), ("10:15", "90", "10:10"), ("10:30", "85", "10:10"), ("10:45", "95", "10:10")], 5),
        # One that the reading before knew already excuses no fall.
        ([("10:00", "100", "09:55"), ("10:15", "90", "09:55"), ("10:30", "105", "09:55")], 5),
        # Late to be told of, but after the block of the reading before.
        ([("09:10", "100", None), ("10:15", "90", "09:20"), ("10:30", "95", "09:20")], 5),
        # A wobble before it leaves nothing behind.
        ([("10:00", "100", None), ("10:15", "95", None), ("10:30", "97", "10:20"), ("10:45", "99", "10:20")], 2),
    ],
)  # fmt: skip
def test_a_loss_counts_from_the_first_reading_after_it(
    path: Path, readings: list[tuple[str, str, str | None]], earned: int
) -> None:
    with opened(path) as store:
        for when, amount, lost in readings:
            add(store, snapshot("2026-11-22T11:00", peak(when, amount, lost)))
        assert total(store, "2026-11-22T12:00") == earned


def test_an_older_block_tells_nothing_of_a_peak(path: Path) -> None:
    """100 at 10:00, 90 at 10:30 after a loss: what stood there at 10:20 is known already, and so is another guess."""
    with opened(path) as store:
        for reading in (peak("10:00", "100"), peak("10:30", "90", "10:25"), peak("10:20", "105"), peak("10:30", "93")):
            add(store, snapshot("2026-11-22T11:00", reading))
        add(store, snapshot("2026-11-22T11:00", peak("10:45", "94", "10:25")))
        assert total(store, "2026-11-22T12:00") == 4
