"""`explain`: the latest plan and the questions of every operator, by the command line over a real database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from decision_parts import DEAR, GLM, USUAL, Past, Setting, in_turn
from ledger_parts import at
from operator_parts import Place

from depin_orcha.types import HOUR_S

NOW_S = at("2026-11-22T20:15:00")
GOLEM = '[nodes.golem_1]\nprotocol = "golem"\nurl = "http://127.0.0.1:9"\napp_key_file = "key"\nbusy_watts = 16\n'
STORJ = '[nodes.storj_1]\nprotocol = "storj"\nurl = "http://127.0.0.1:9"\n'
COSTS = '[costs]\ntimezone = "UTC"\nelectricity_per_kwh = 0.30\n[hosts.local]\nidle_watts = 10\n'
OPTIMIZE = "[optimize]\nlearning_days = 7\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.configure(COSTS + OPTIMIZE + GOLEM + STORJ, {"key": "0123456789abcdef"})
    return place


def planned(place: Place, *words: str) -> Any:
    for verb in ("forecast", "optimize"):
        place.json(verb, now=NOW_S)
    return place.json("explain", *words, now=NOW_S).data


def filled(place: Place) -> None:
    """A provider left at 2 of 6 threads, and a disk that takes 0.02 TB a day."""
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(6), Setting(2)), lambda _: 0.5)
    past.storage("storj_1", 6.0, lambda day: 4.0 + 0.02 * day + 0.005 * (int(day) % 3), 1.5)


def node(data: Any, name: str) -> Any:
    return next(one for one in data["nodes"] if one["node"] == name)


def test_a_change_is_told_with_its_numbers_and_their_evidence(place: Place) -> None:
    filled(place)
    data = planned(place)
    golem, storj = node(data, "golem_1"), node(data, "storj_1")
    assert (data["decision"], golem["changed"], storj["changed"]) == ("apply", True, False)
    assert (golem["grant_before"], golem["grant_after"]) == ("2 cores", "6 cores")
    before, after = golem["income_before"], golem["income_after"]
    assert (before["evidence"], after["evidence"]) == ("measured", "measured")
    assert before["lo80"] < before["usd_month"] < before["hi80"] < after["usd_month"]
    assert after["usd_month"] == pytest.approx(0.5 * 6 * USUAL * GLM * 730.5, rel=0.25)
    assert golem["power_after"]["usd_month"] == pytest.approx(3 * golem["power_before"]["usd_month"], rel=0.01)
    assert golem["restart_loss_usd"] > 0
    assert golem["flips_at_usd_per_unit_hour"] < golem["usd_per_unit_hour"]
    assert golem["alternative"]["gain_usd_day"]["lo80"] > data["gate"]["min_gain_usd_per_day"]
    assert (golem["gate"]["days_measured"], golem["gate"]["changes_last_day"]) == (16, 0)
    assert storj["evidence"] == "none"
    text = place("explain", now=NOW_S, COLUMNS="80").out
    for told in ("2 cores -> 6 cores", "0.05 USD a day with", "income:", "restart:", "flips:", "gate:"):
        assert told in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_hold_names_the_best_plan_and_what_it_was_short_of(place: Place) -> None:
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(4), Setting(2), hours=24), lambda one: 0.2 if one.threads == 4 else 0.3)
    data = planned(place)
    golem = node(data, "golem_1")
    assert (data["decision"], golem["decision"]) == ("hold", "hold")
    assert golem["evidence"] == "none"
    assert "may be chance" in " ".join(one["answer"] for one in data["questions"])
    assert golem["alternative"]["name"] == "4 cores"


def test_while_learning_nothing_is_proposed_and_it_says_how_long(place: Place) -> None:
    past = Past(place, NOW_S, days=5)
    past.provider("golem_1", in_turn(Setting(6), Setting(2), days=4), lambda _: 0.5)
    golem = node(planned(place), "golem_1")
    assert "still learning: 5.0 of 7 days" in golem["why"]
    assert golem["gate"]["learned"] is False


def test_more_disk_pays_back_after_the_present_one_is_full(place: Place) -> None:
    filled(place)
    data = planned(place, "--what-if", "storage_bytes=+1TB", "--cost", "20", "--node", "storj_1")
    (row,) = data["what_if"]
    assert (row["node"], row["amount"], row["evidence"]) == ("storj_1", 1e12, "prior")
    assert row["usd_month"] == pytest.approx(1.5, rel=0.1)
    # 1.68 TB are free: full in 84 days, then 50 more to fill 1 TB, and 20 USD at 1.5 a month take a year more.
    assert row["pays_after_months"]["p50"] == pytest.approx(84 / 30.4 + 25 / 30.4 + 20 / 1.5, rel=0.15)
    assert row["pays_after_months"]["p10"] <= row["pays_after_months"]["p50"] <= row["pays_after_months"]["p90"]
    assert row["first_year_usd"]["mean"] < 12 * row["usd_month"]
    assert "the present pace" in place("explain", "--what-if", "storage_bytes=+1TB", now=NOW_S).out


def test_without_a_measured_pace_more_disk_cannot_be_told(place: Place) -> None:
    past = Past(place, NOW_S, days=3)
    past.storage("storj_1", 6.0, lambda _: 4.0, 1.5)
    (row,) = planned(place, "--what-if", "storage_bytes=+1TB")["what_if"]
    assert (row["usd_month"], row["evidence"], row["why"].split(":")[0]) == (None, "none", "cannot tell")


def test_more_cores_are_worth_what_was_tried_and_no_more(place: Place) -> None:
    place.configure(COSTS.replace("[hosts.local]", "[hosts.local]\nreserve = {cpu_cores = 6}") + OPTIMIZE + GOLEM)
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(6), Setting(2)), lambda _: 0.5)
    data = planned(place, "--what-if", "cpu_cores=+4", "--cost", "40")
    (row,) = data["what_if"]
    assert (row["evidence"], row["usd_month"] > 0) == ("measured", True)
    assert row["pays_after_months"]["p50"] == pytest.approx(40 / row["usd_month"])
    (enough,) = place.json("explain", "--what-if", "cpu_cores=+6", now=NOW_S).data["what_if"]
    assert enough["usd_month"] == pytest.approx(row["usd_month"])
    (memory,) = place.json("explain", "--what-if", "memory_bytes=+16GiB", now=NOW_S).data["what_if"]
    assert (memory["usd_month"], memory["evidence"]) == (0, "contract")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("disk=+1TB", "'disk' is no resource"),
        ("storage_bytes=1TB", "'1TB' is no amount to add"),
        ("storage_bytes=+1Mbps", "no amount to add"),
        ("cpu_cores=+2GiB", "no amount to add"),
        ("cpu_cores=+0", "no amount to add"),
        ("cpu_cores", "no amount to add"),
    ],
)
def test_a_bad_question_is_a_usage_error(place: Place, asked: str, told: str) -> None:
    done = place("explain", "--what-if", asked, "--json", now=NOW_S, exits=2)
    assert (done.out, told in done.err, done.err.count("error:")) == ("", True, 1)


def test_a_cost_needs_a_question_and_nothing_known_is_no_failure(place: Place) -> None:
    assert "--what-if" in place("explain", "--cost", "3", now=NOW_S, exits=2).err
    data = place.json("explain", now=NOW_S).data
    assert (data["plan_id"], data["nodes"], data["what_if"]) == (None, [], None)
    assert "depin-orcha optimize" in data["reason"]
    assert place.json("explain", "--what-if", "cpu_cores=+1", now=NOW_S).data["what_if"] == []
    assert place("explain", "--node", "nobody", now=NOW_S, exits=2).out == ""


def test_it_tells_the_plan_of_its_instant(place: Place) -> None:
    filled(place)
    first = planned(place)
    later_s = NOW_S + 2 * HOUR_S
    place.json("optimize", now=later_s)
    assert place.json("explain", now=later_s).data["plan_id"] != first["plan_id"]
    assert place.json("explain", now=NOW_S).data == first


DEARER = in_turn(Setting(4, DEAR), Setting(4, USUAL))


def test_a_better_price_is_advice_with_the_exact_command(place: Place) -> None:
    past = Past(place, NOW_S)
    past.provider("golem_1", DEARER, lambda _: 0.5)
    data = planned(place)
    (advice,) = [one for one in data["hosts"][0]["advice"] if one["kind"] == "by_hand"]
    assert (advice["node"], advice["units"]) == ("golem_1", 4)
    command = f"ya-provider preset update --no-interactive --name vm --price CPU={DEAR / 3600!r} --price Duration=0.0"
    assert command in advice["text"]
    assert (data["decision"], node(data, "golem_1")["changed"]) == ("hold", False)
    assert data["reason"].startswith("by hand: golem_1: 4 cores at 0.05 GLM/h would bring +")
    assert place.json("apply", now=NOW_S).data["actions"] == []


def test_when_power_is_dear_a_provider_is_paused(place: Place) -> None:
    place.configure(COSTS.replace("0.30", "5.00") + OPTIMIZE + GOLEM)
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(4), Setting(2)), lambda _: 0.5)
    data = planned(place)
    paused = node(data, "golem_1")
    assert (data["decision"], paused["units"], paused["choice"]) == ("apply", 0, "paused")
    assert data["reason"].startswith("golem_1 2 cores at 0.025 GLM/h -> paused: +")


RESTING_H = 30


def rested(place: Place, price: str) -> Past:
    """A provider that worked for two weeks and has offered nothing for the last hours, now that a kWh costs so much."""
    place.configure(COSTS.replace("0.30", price) + OPTIMIZE + GOLEM)
    past, turns = Past(place, NOW_S), in_turn(Setting(4), Setting(2))
    awake_h = past.days * 24 - RESTING_H
    past.provider("golem_1", lambda hour: turns(hour) if hour < awake_h else Setting(0), lambda _: 0.5)
    return past


def test_what_a_plan_paused_is_taken_up_again_when_it_pays(place: Place) -> None:
    rested(place, "0.10").paused("golem_1", NOW_S - (RESTING_H + 1) * HOUR_S)
    data = planned(place)
    again = node(data, "golem_1")
    assert (data["decision"], again["units"], again["previous_choice"]) == ("apply", 2, "paused")
    assert data["reason"].startswith("golem_1 paused -> 2 cores at 0.025 GLM/h: +")


def test_what_a_plan_paused_stays_so_while_power_is_dear(place: Place) -> None:
    rested(place, "5.00").paused("golem_1", NOW_S - (RESTING_H + 1) * HOUR_S)
    data = planned(place)
    assert (data["decision"], node(data, "golem_1")["choice"]) == ("hold", "paused")


@pytest.mark.parametrize("since_h", [None, RESTING_H + 48])
def test_what_its_owner_paused_is_left_alone(place: Place, since_h: int | None) -> None:
    """Also after a pause of a plan, since which it had worked."""
    past = rested(place, "0.10")
    if since_h is not None:
        past.paused("golem_1", NOW_S - since_h * HOUR_S)
    data = planned(place)
    assert data["decision"] == "hold"
    assert "it offers nothing: it is paused" in data["reason"]


def test_a_least_grant_of_the_owner_s_is_not_paused(place: Place) -> None:
    place.configure(COSTS.replace("0.30", "5.00") + OPTIMIZE + GOLEM + "min_units = 1\n")
    Past(place, NOW_S).provider("golem_1", in_turn(Setting(4), Setting(2)), lambda _: 0.5)
    assert node(planned(place), "golem_1")["units"] > 0


@pytest.mark.parametrize(("from_h", "paused"), [(20, True), (18, True), (12, False)])
def test_a_dear_hour_looks_ahead_by_the_length_of_an_agreement(place: Place, from_h: int, *, paused: bool) -> None:
    """An agreement lasts two hours: at 20:15 work pays for the hours from 20 to 22."""
    steps = {"00:00": 0.1, f"{from_h}:00": 5.0, f"{min(from_h + 4, 23)}:30": 0.1}
    dear = ", ".join(f'{{from = "{hour}", price = {price}}}' for hour, price in steps.items())
    place.configure(COSTS.replace("0.30", f"[{dear}]") + OPTIMIZE + GOLEM)
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(4), Setting(2)), lambda _: 0.5)
    data = planned(place)
    assert (node(data, "golem_1")["choice"] == "paused") is paused
    (answer,) = [one for one in data["questions"] if one["question"] == "Is each node?"][:1]
    assert ("pause" in answer["answer"]) is True
