"""What decisions earn where incomes follow the grants: some days of the worlds that `scripts/bench_worlds.py` plays."""

from __future__ import annotations

import numpy as np
import pytest
import responsive

SEED, DAYS = 1, 2


@pytest.fixture(scope="module")
def world() -> responsive.World:
    return responsive.world(SEED, DAYS, warm_days=14)


def test_with_perfect_forecasts_it_comes_near_the_best_in_hindsight(world: responsive.World) -> None:
    bound = responsive.clairvoyant(world)
    perfect = responsive.play(world, responsive.ours(responsive.foresight(world)))
    best = responsive.hindsight(world, [bound.grants, perfect.grants])
    assert perfect.usd <= best <= bound.usd
    assert perfect.usd > 0.95 * best
    assert perfect.infeasible == 0


def test_with_its_own_forecasts_it_beats_the_plain_rules(world: responsive.World) -> None:
    bound = responsive.clairvoyant(world)
    expected = responsive.forecasts(world)
    ours = responsive.play(world, responsive.ours(expected))
    spec = responsive.play(world, responsive.textbook(expected, 10, 0.5, 5))
    assert spec.restarts == 0, "half a dollar an hour freezes a host at home"
    assert ours.usd > 0.88 * bound.usd
    assert ours.usd > 1.2 * spec.usd
    assert ours.infeasible == 0


def test_the_world_and_its_play_add_up() -> None:
    world = responsive.world(SEED, 1, warm_days=1)
    still = responsive.play(world, lambda _, units: units)
    assert still.restarts == 0
    split = responsive.equal_split()
    assert responsive.fits(split)
    hours = list(world.hours)
    by_hand = sum(responsive.earned(split, world.true[hour]).sum() for hour in hours)
    assert still.usd == pytest.approx(by_hand)
    assert responsive.hindsight(world, [still.grants]) == pytest.approx(still.usd)
    moved = split.copy()
    moved[0] += 1
    price = world.true[hours[0]]
    one = responsive.PROTOCOLS[0]
    loss = one.loss_h * price[0] * max(one.curve(split[0]), 0.35 * one.curve(one.most))
    assert responsive.lost(split, moved, price)[0] == pytest.approx(float(loss))
    assert np.count_nonzero(responsive.lost(split, moved, price)) == 1
