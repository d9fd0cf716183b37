"""Whatever the order and number of polls, the ledger adds up to what the counter grew by."""

from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from depin_orcha.accrual import accrue, spread
from depin_orcha.types import EarningsSample, SampleKind

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
