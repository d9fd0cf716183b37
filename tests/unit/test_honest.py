"""What the product as it is shipped decides on operators whose true laws are known: some days of each world."""

from __future__ import annotations

from pathlib import Path

import honest
import pytest

SEEDS = (1, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_incomes_that_have_nothing_to_do_with_grants_move_nothing(tmp_path: Path, seed: int) -> None:
    found = honest.placebo(tmp_path, seed, days=12, every_h=12)
    assert found.looks == 24
    assert (found.proposals, found.measured, found.sure_gains) == ([], 0, 0)
    assert found.income_usd > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_where_no_lever_exists_nothing_is_changed(tmp_path: Path, seed: int) -> None:
    found = honest.without_lever(tmp_path, seed, days=12, every_h=24)
    assert (found.looks, found.proposals, found.lost_usd) == (12, [], 0)


@pytest.mark.parametrize("lever", honest.LEVERS)
def test_a_lever_is_found(tmp_path: Path, lever: str) -> None:
    assert honest.found(lever, tmp_path, SEEDS) == [True, True]


def test_the_worlds_would_show_a_change(tmp_path: Path) -> None:
    """The replay sees what a provider that follows its grants leads to."""
    config = "[optimize]\nlearning_days = 7\n" + honest.GOLEM.format("golem_1")
    place, past = honest.operator(tmp_path, config, 28)
    turns = honest.in_turn(honest.Setting(6), honest.Setting(2), days=25)
    past.provider("golem_1", turns, lambda _: 0.7)
    found = honest.decided_again(place, 2, 12)
    assert {(node, units) for _, node, units in found.proposals} == {("golem_1", 6.0)}
    assert found.measured == found.looks
