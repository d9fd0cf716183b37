"""The simulated operator: the same from any steps of its clock, consistent at every instant, with a lever to find."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from statistics import fmean

import pytest

from depin_orcha.demo.provider import Agreement, Provider, Setting
from depin_orcha.demo.storage import Satellite, held_percent
from depin_orcha.demo.times import MICROS, month_start
from depin_orcha.demo.world import World
from depin_orcha.types import DAY_S, HOUR_S

START_S = int(datetime(2026, 11, 22, 19, 42, 11, tzinfo=UTC).timestamp())
END_S = START_S + 14 * DAY_S


@pytest.fixture(scope="module")
def world() -> World:
    world = World(START_S)
    world.advance(END_S)
    return world


@pytest.fixture(params=["attic", "rack"])
def provider(request: pytest.FixtureRequest, world: World) -> Provider:
    return world.providers[request.param]


@pytest.fixture(params=["attic", "rack"])
def satellite(request: pytest.FixtureRequest, world: World) -> Satellite:
    return world.storage[request.param].satellites[0]


def earned_glm(provider: Provider, from_s: int, to_s: int) -> float:
    """What was earned in a stretch, each debit note spread over the time it covers."""
    total = 0.0
    for agreement in provider.agreements:
        since_us, before = agreement.started_us, 0.0
        for note in agreement.notes:
            overlap_us = min(note.issued_us, to_s * MICROS) - max(since_us, from_s * MICROS)
            rise = float(note.amount) - before
            total += max(0, overlap_us) / (note.issued_us - since_us) * rise
            since_us, before = note.issued_us, float(note.amount)
    return total


def daily_glm(provider: Provider) -> dict[Setting, list[float]]:
    """GLM an hour of every half day, by the setting in force, with the changes' own hours left out."""
    found: dict[Setting, list[float]] = defaultdict(list)
    changes = [*provider.schedule.changes, (END_S, provider.schedule.changes[-1][1])]
    for (since_s, setting), (until_s, _) in pairwise(changes):
        for half_s in range(since_s, until_s, DAY_S // 2):
            window = (max(half_s, since_s + HOUR_S), min(half_s + DAY_S // 2, until_s))
            found[setting].append(earned_glm(provider, *window) / (window[1] - window[0]) * HOUR_S)
    return found


def test_steps_of_the_clock_do_not_matter(world: World) -> None:
    stepwise = World(START_S)
    for now_s in range(START_S, END_S + 1, 7 * HOUR_S):
        stepwise.advance(now_s)
    stepwise.advance(END_S)
    for name, provider in world.providers.items():
        assert stepwise.providers[name].agreements == provider.agreements
        assert stepwise.providers[name].invoice_events == provider.invoice_events
    assert stepwise.storage["rack"].used_bytes(END_S) == world.storage["rack"].used_bytes(END_S)
    assert stepwise.prices["golem"].at(END_S) == world.prices["golem"].at(END_S)


def test_another_seed_is_another_world(world: World) -> None:
    other = World(START_S, seed=3)
    other.advance(END_S)
    assert other.providers["rack"].agreements[0].id != world.providers["rack"].agreements[0].id
    assert other.prices["golem"].at(END_S) != world.prices["golem"].at(END_S)


def test_the_clock_only_goes_forward() -> None:
    world = World(START_S)
    world.advance(START_S + HOUR_S)
    with pytest.raises(ValueError, match="cannot go back"):
        world.advance(START_S)


def test_a_provider_runs_one_agreement_at_a_time(provider: Provider) -> None:
    assert len(provider.agreements) > 60
    for earlier, later in pairwise(provider.agreements):
        assert earlier.invoiced_us < later.signed_us < later.started_us < later.ended_us < later.invoiced_us


def test_debit_notes_are_cumulative_and_the_invoice_names_the_last(provider: Provider) -> None:
    for agreement in provider.agreements:
        amounts = [Decimal(note.amount) for note in agreement.notes]
        assert amounts == sorted(amounts)
        assert amounts[0] > 0
        assert agreement.amount == agreement.notes[-1].amount
        assert agreement.notes[-1].issued_us == agreement.ended_us
        assert all(-Decimal(note.amount).as_tuple().exponent <= 18 for note in agreement.notes)  # type: ignore[operator]


def test_amount_is_price_times_usage(provider: Provider) -> None:
    agreement = provider.agreements[0]
    thread_seconds, seconds = (Decimal(str(one)) for one in agreement.notes[-1].usage)
    setting = agreement.setting
    cost = thread_seconds * Decimal(str(setting.glm_per_thread_s)) + seconds * Decimal(str(setting.glm_per_s))
    assert Decimal(agreement.amount) == pytest.approx(cost, abs=Decimal("1e-15"))
    assert agreement.threads_busy <= setting.threads


def test_nobody_gets_another_setting_than_the_one_in_force_when_it_signed(provider: Provider) -> None:
    for agreement in provider.agreements:
        assert agreement.setting == provider.schedule.at(agreement.signed_us // MICROS)[1]


def test_documents_move_through_their_states(provider: Provider) -> None:
    paths = {path_of(agreement) for agreement in provider.agreements}
    assert paths == {("ISSUED", "RECEIVED", "ACCEPTED", "SETTLED"), ("ISSUED", "RECEIVED", "CANCELLED")}
    cancelled = [agreement for agreement in provider.agreements if agreement.cancelled_us is not None]
    assert len(cancelled) < 0.15 * len(provider.agreements)
    for agreement in cancelled:
        assert agreement.note_status(agreement.notes[-1], END_S * MICROS * 2) == "RECEIVED"


def path_of(agreement: Agreement) -> tuple[str, ...]:
    moments = sorted(
        at_us
        for at_us in (
            agreement.invoiced_us,
            agreement.invoiced_us + MICROS,
            agreement.accepted_us,
            agreement.settled_us,
            agreement.cancelled_us,
        )
        if at_us is not None
    )
    return tuple(agreement.invoice_status(at_us) for at_us in moments)


def test_every_setting_was_tried_in_both_halves_of_the_day(provider: Provider) -> None:
    halves: dict[Setting, list[int]] = defaultdict(list)
    *trials, (left_s, left_at) = provider.schedule.changes
    for since_s, setting in trials:
        halves[setting].append((since_s - trials[0][0]) // (DAY_S // 2) % 2)
    assert left_s == trials[0][0] + 12 * DAY_S
    assert left_at in halves
    assert {(len(seen), sum(seen)) for seen in halves.values()} == {(6, 3)}


@pytest.mark.parametrize("shift_s", [0, 5 * HOUR_S, 3 * DAY_S + 1800])
def test_rack_was_left_far_below_what_it_could_earn(shift_s: int) -> None:
    world = World(START_S)
    world.advance(END_S + shift_s)
    by_setting = daily_glm(world.providers["rack"])
    left_at = world.providers["rack"].schedule.changes[-1][1]
    by_cap = {
        setting.threads: fmean(values)
        for setting, values in by_setting.items()
        if setting.glm_per_thread_s == left_at.glm_per_thread_s
    }
    assert left_at.threads == min(by_cap)
    assert by_cap[12] > 1.4 * by_cap[4]
    assert (by_cap[12] - by_cap[4]) * 24 * 0.2 > 0.15  # USD a day: far above what a change has to bring


def test_attic_is_already_set_as_well_as_it_can_be(world: World) -> None:
    demand = world.providers["attic"]
    by_setting = daily_glm(demand)
    left_at = demand.schedule.changes[-1][1]
    for setting, values in by_setting.items():
        gain_usd_per_day = (fmean(values) - fmean(by_setting[left_at])) * 24 * 0.21
        assert setting.glm_per_thread_s >= left_at.glm_per_thread_s
        assert gain_usd_per_day < 0.06


def test_fewer_come_at_a_higher_price(world: World) -> None:
    for provider in world.providers.values():
        settings = {setting for _, setting in provider.schedule.changes}
        dear = max(settings, key=lambda setting: setting.glm_per_thread_s)
        usual = next(one for one in settings if one.threads == dear.threads and one != dear)
        rate = provider.demand.requests_per_hour
        assert rate(START_S, dear) < 0.5 * rate(START_S, usual)


def test_storage_counters_add_up(satellite: Satellite) -> None:
    middle_s = START_S + 5 * DAY_S + 777
    whole = satellite.between(START_S, END_S)
    parts = [satellite.between(START_S, middle_s), satellite.between(middle_s, END_S)]
    for name in ("egress", "repair", "audit", "ingress", "ingress_repair"):
        assert getattr(whole, name) == sum(getattr(part, name) for part in parts)
        assert getattr(parts[0], name) > 0
    assert whole.byte_hours == pytest.approx(sum(part.byte_hours for part in parts), rel=1e-12)
    hours = (END_S - START_S) / HOUR_S
    mean_bytes = (satellite.stored_bytes(START_S) + satellite.stored_bytes(END_S)) / 2
    assert whole.byte_hours == pytest.approx(mean_bytes * hours, rel=1e-9)


def test_customers_read_more_by_day_than_by_night(satellite: Satellite) -> None:
    midnight_s = START_S - START_S % DAY_S
    nights = [satellite.between(midnight_s - day * DAY_S, midnight_s - day * DAY_S + 6 * HOUR_S) for day in range(28)]
    evenings = [
        satellite.between(midnight_s - day * DAY_S - 10 * HOUR_S, midnight_s - day * DAY_S - 4 * HOUR_S)
        for day in range(28)
    ]
    assert sum(one.egress for one in evenings) > 1.3 * sum(one.egress for one in nights)


def test_a_month_continues_into_its_closed_form(satellite: Satellite) -> None:
    next_s = month_start(START_S, 1)
    before, closed = (
        satellite.estimate(month_start(START_S), next_s - 60),
        satellite.estimate(month_start(START_S), END_S),
    )
    after = satellite.estimate(next_s, next_s + 60)
    assert 0 < closed.egress - before.egress < before.egress / 1000
    assert 0 < after.byte_months < before.byte_months / 1000
    assert closed == satellite.estimate(month_start(START_S), END_S + 3 * DAY_S)


def test_one_node_holds_nothing_back_and_the_young_one_half(world: World) -> None:
    for machine, rate in (("attic", 0), ("rack", 50)):
        for satellite in world.storage[machine].satellites:
            months = {month_start(START_S, -1), month_start(START_S), month_start(END_S)}
            assert {held_percent(satellite.joined_s, month_s) for month_s in months} == {rate}
            assert satellite.vetted_s < START_S


def test_cents_are_rounded_per_component(satellite: Satellite) -> None:
    month = satellite.estimate(month_start(START_S), START_S)
    assert month.egress_cents == round(Decimal(month.egress) * 200 / 10**12, 2)
    assert month.payout_cents == round(
        (month.egress_cents + month.repair_audit_cents + month.disk_cents) * (100 - month.held_rate) / 100, 2
    )


def test_closed_months_are_settled_close_to_their_estimate(satellite: Satellite) -> None:
    months = satellite.settlements(END_S)
    for month in months[1:]:
        estimate = satellite.estimate(month.month_s, END_S)
        gross_cents = estimate.egress_cents + estimate.repair_audit_cents + estimate.disk_cents
        assert month.earned / 10_000 == pytest.approx(float(gross_cents), rel=0.01)
        assert month.created_s > month_start(month.month_s, 1)
    assert len(satellite.settlements(months[-1].created_s - 1)) == len(months) - 1


def test_half_of_what_was_held_came_back_after_nine_months(world: World) -> None:
    months = world.storage["attic"].satellites[0].settlements(END_S)
    held = sum(month.held for month in months)
    assert held > 0
    assert [month.disposed for month in months if month.disposed] == [held // 2]


def test_storage_grows_inside_its_allocation(world: World) -> None:
    for node in world.storage.values():
        assert node.used_bytes(START_S) < node.used_bytes(END_S) < 0.9 * node.allocated_bytes


def test_token_price_is_known_from_forty_days_before(world: World) -> None:
    walk = world.prices["golem"]
    assert walk.at(START_S - 40 * DAY_S - 1) is None
    points = walk.between(START_S - 40 * DAY_S, END_S, HOUR_S)
    assert points[0][0] == START_S - 40 * DAY_S
    assert points[-1] == walk.at(END_S)
    assert all(0.1 < usd < 0.4 for _, usd in points)
    assert len({usd for _, usd in points}) > 1000
