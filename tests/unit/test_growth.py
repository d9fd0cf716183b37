"""When something that grows reaches a limit: right on a line, honest about noise, silent where it cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from depin_orcha.growth import Reached, growth, reached
from depin_orcha.types import DAY_S


def daily(values: list[float]) -> list[tuple[int, float]]:
    return [(index * DAY_S, value) for index, value in enumerate(values)]


def test_a_line_reaches_its_limit_when_it_does() -> None:
    found = growth(daily([1.0, 1.5, 2.0, 2.5, 3.0]))
    assert found is not None
    days = reached(found, 4.0)
    assert (days.mean, days.lo80, days.hi80) == (pytest.approx(8), pytest.approx(8), pytest.approx(8))


def test_the_range_holds_the_truth_in_eight_of_ten_cases() -> None:
    held, early = 0, 0
    for seed in range(400):
        random = np.random.default_rng(seed)
        walk = np.cumsum(random.normal(1.0, 1.5, 800))
        found = growth(daily(walk[:21].tolist()))
        assert found is not None
        days = reached(found, 30.0)
        future = walk[21:] - walk[20] >= 30.0
        truth = int(np.argmax(future)) + 1
        assert future.any()
        held += (days.lo80 or 0) <= truth <= (days.hi80 or np.inf)
        early += truth < (days.lo80 or 0)
    assert 0.75 <= held / 400 <= 0.9
    assert early / 400 < 0.2


def test_what_shrinks_or_stands_still_is_never_full() -> None:
    for values in ([5.0, 4.0, 3.5, 3.0, 2.0], [5.0] * 6):
        found = growth(daily(values))
        assert found is not None
        assert (reached(found, 10.0).mean, reached(found, 10.0).hi80) == (None, None)


def test_a_limit_behind_is_reached_now() -> None:
    found = growth(daily([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert found is not None
    assert reached(found, 0.0) == reached(found, -3.0) == Reached(0.0, 0.0, 0.0)


def test_collections_are_no_growth() -> None:
    sawtooth = [float(step % 5) for step in range(21)]
    found = growth(daily(sawtooth), falls=False)
    assert found is not None
    assert (found.per_day, found.noise) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    with_falls = growth(daily(sawtooth))
    assert with_falls is not None
    assert with_falls.per_day == pytest.approx(0)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_few_readings_say_nothing(count: int) -> None:
    assert growth(daily([float(step) for step in range(count)])) is None


def test_readings_within_a_few_hours_say_nothing() -> None:
    assert growth([(index * 3600, float(index)) for index in range(12)]) is None
