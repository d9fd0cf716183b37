"""Made-up nodes with faults at known times, watched hour by hour: what is found in time, and what is told for nothing.

``scripts/bench-anomalies`` does the same with more and longer years.
"""

from __future__ import annotations

import pytest
from faulty_years import SORTS, Tally, make_year, watch

HOURS = 150 * 24
SEEDS = (41,)


@pytest.fixture(scope="module")
def tally() -> Tally:
    found = Tally()
    for sort in SORTS:
        for seed in SEEDS:
            for faulty in (True, False):
                found.add(watch(make_year(sort, seed, faulty=faulty, hours=HOURS)))
    return found


def test_nearly_all_faults_are_found_in_time(tally: Tally) -> None:
    assert len(tally.faults) >= 8
    assert tally.faults.total() >= 60
    assert tally.found.total() >= 0.95 * tally.faults.total()


def test_outages_are_all_found_within_four_hours(tally: Tally) -> None:
    for kind in ("outage", "flatline", "frozen answers"):
        assert tally.found[kind] == tally.faults[kind] > 0


def test_hardly_anything_is_told_for_nothing(tally: Tally) -> None:
    assert tally.years > 5
    assert tally.false.total() <= tally.years
    assert tally.repeated <= 1


def test_everything_that_was_told_of_a_fault_is_over_after_it() -> None:
    year = make_year("storage", 43, faulty=True, hours=HOURS)
    watched = watch(year)
    assert len(watched.episodes) >= len(year.faults) > 5
    assert all(not one.is_open for one in watched.episodes)
