"""Whatever the order and number of polls, the ledger adds up to what the counter grew by."""

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from depin_orcha.accrual import Imported, accrue, beside_imported, spread
from depin_orcha.types import Accrual, EarningsSample, Quality, SampleKind

amounts = st.decimals(min_value=0, max_value=10**7, places=18)
instants = st.integers(min_value=1_790_000_000, max_value=1_800_000_000)


@given(amounts, instants, st.integers(min_value=1, max_value=10**6))
def test_spread_conserves_every_digit(amount: Decimal, start_s: int, length_s: int) -> None:
    parts = spread(amount, start_s, start_s + length_s)
    assert sum(parts.values()) == amount
    assert all(part >= 0 for part in parts.values())


@given(st.lists(st.tuples(instants, amounts), min_size=1, max_size=30, unique_by=lambda pair: pair[0]), st.randoms())
def test_accruals_conserve_growth_in_any_order(readings: list[tuple[int, Decimal]], random: object) -> None:
    samples = [EarningsSample(at_s, amount, "GLM", SampleKind.COUNTER, "", "a") for at_s, amount in readings]
    ordered = sorted(samples, key=lambda sample: sample.observed_s)
    grown = sum(
        (max(after.amount - before.amount, Decimal(0)) for before, after in pairwise(ordered)),
        Decimal(0),
    )
    random.shuffle(samples)  # type: ignore[attr-defined]
    assert sum((value for value, _ in accrue(samples).values()), Decimal(0)) == grown


@given(st.lists(amounts, min_size=2, max_size=20), st.data())
def test_more_polls_find_the_same_money(levels: list[Decimal], data: st.DataObject) -> None:
    levels = sorted(levels)
    samples = [
        EarningsSample(1_795_000_000 + 900 * i, level, "GLM", SampleKind.COUNTER, "", "a")
        for i, level in enumerate(levels)
    ]
    kept = [samples[0], *(one for one in samples[1:-1] if data.draw(st.booleans())), samples[-1]]
    every = sum((value for value, _ in accrue(samples).values()), Decimal(0))
    some = sum((value for value, _ in accrue(kept).values()), Decimal(0))
    assert every == some == levels[-1] - levels[0]


MINUTES = st.one_of(st.integers(0, 3 * 24 * 60), st.integers(0, 3 * 24).map(lambda hour: 60 * hour))


@given(
    st.lists(st.tuples(MINUTES, amounts), max_size=6, unique_by=lambda pair: pair[0]),
    st.lists(st.tuples(MINUTES, MINUTES, amounts), min_size=1, max_size=8),
)
def test_every_digit_is_booked_or_known_by_an_import(
    bounds: list[tuple[int, Decimal]], growths: list[tuple[int, int, Decimal]]
) -> None:
    """Growth of several series, over times that cross those of the imports in any way."""
    base_s = 1_794_999_600
    cuts = sorted(bounds)
    imported = [
        Imported(base_s + 60 * start, base_s + 60 * end, amount)
        for (start, amount), (end, _) in zip(cuts[::2], cuts[1::2], strict=False)
    ]
    for one, other, amount in growths:
        start_s, end_s = base_s + 60 * min(one, other), base_s + 60 * max(one, other)
        hours = [
            Accrual(hour_s, part, "GLM", Quality.MEASURED) for hour_s, part in spread(amount, start_s, end_s).items()
        ]
        known = sum((min(entry.told, entry.amount) for entry in imported), Decimal(0))
        booked, imported = beside_imported(hours, (start_s, end_s), imported)
        assert [entry.hour_s for entry in booked] == [entry.hour_s for entry in hours]
        assert all(entry.amount >= 0 for entry in booked)
        total = sum((entry.amount for entry in booked), Decimal(0))
        assert total == amount - sum((min(entry.told, entry.amount) for entry in imported), Decimal(0)) + known
        taken = beside_imported([replace(entry, amount=-entry.amount) for entry in hours], (start_s, end_s), imported)[
            0
        ]
        assert all(entry.amount <= 0 for entry in taken)
