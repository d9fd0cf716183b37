"""A paused node is read on but not acted on, until its time is over or it is resumed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from operator_parts import START_S, Place, operating

from depin_orcha.timefmt import rfc3339
from depin_orcha.types import HOUR_S

NOW_S = START_S + 6 * HOUR_S


@pytest.fixture(scope="module")
def operator_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("pause"))
    with operating(place) as operator:
        operator.advance(NOW_S)
        at_once = "learning_days = 0\nmin_gain_usd_per_day = 0"
        place.config.write_text(place.config.read_text().replace("learning_days = 7", at_once))
        for verb in ("collect", "forecast"):
            place(verb, now=NOW_S)
        yield place


@pytest.fixture
def place(operator_place: Place) -> Iterator[Place]:
    yield operator_place
    with closing(sqlite3.connect(operator_place.db)) as connection, connection:
        connection.execute("DELETE FROM pauses")


def paused(place: Place, now: int) -> list[tuple[str | None, str | None]]:
    return [(one["node"], one["until"]) for one in place.json("status", now=now).data["paused"]]


def advised(place: Place, now: int) -> set[str]:
    return {action["node"] for action in place.json("apply", now=now).data["actions"]}


def test_named_nodes_are_paused_until_resumed(place: Place) -> None:
    told = place.json("pause", "--node", "golem_rack", "--node", "golem_attic", now=NOW_S).data["paused"]
    assert [(one["node"], one["since"], one["until"]) for one in told] == [
        ("golem_attic", rfc3339(NOW_S), None), ("golem_rack", rfc3339(NOW_S), None),
    ]  # fmt: skip
    later_s = NOW_S + 400 * HOUR_S
    assert paused(place, later_s) == [("golem_attic", None), ("golem_rack", None)]
    place("resume", "--node", "golem_attic", now=NOW_S + 60)
    assert paused(place, NOW_S + 60) == [("golem_rack", None)]
    assert paused(place, NOW_S + 59) == [("golem_attic", None), ("golem_rack", None)]


@pytest.mark.parametrize(("span", "seconds"), [("30m", 1800), ("4h", 14_400), ("2d", 172_800)])
def test_pause_ends_by_itself(place: Place, span: str, seconds: int) -> None:
    place("pause", "--for", span, now=NOW_S)
    assert paused(place, NOW_S + seconds - 1) == [(None, rfc3339(NOW_S + seconds))]
    assert paused(place, NOW_S + seconds) == []


@pytest.mark.parametrize("span", ["soon", "4", "0h", "-1h", "1w", "4h30m", ""])
def test_length_that_is_none(place: Place, span: str) -> None:
    done = place("pause", "--for", span, "--json", now=NOW_S, exits=2)
    assert done.out == ""
    assert "4h" in done.err
    assert paused(place, NOW_S) == []


def test_resume_of_a_node_does_not_lift_the_pause_of_all(place: Place) -> None:
    place("pause", now=NOW_S)
    assert place.json("resume", "--node", "golem_rack", now=NOW_S + 60).data["paused"][0]["node"] is None
    assert place.json("resume", now=NOW_S + 60).data["paused"] == []
    assert place.json("resume", now=NOW_S + 60).data["paused"] == []


def test_unknown_node(place: Place) -> None:
    for verb in ("pause", "resume"):
        done = place(verb, "--node", "golem_cellar", "--json", now=NOW_S, exits=2)
        assert (done.out, "golem_rack" in done.err) == ("", True)


def test_paused_node_is_collected_but_neither_planned_nor_acted_on(place: Place) -> None:
    plan = place.json("optimize", now=NOW_S).data
    assert plan["decision"] == "apply"
    assert "golem_attic" in advised(place, NOW_S)
    place("pause", "--node", "golem_attic", now=NOW_S)
    assert "golem_attic" not in advised(place, NOW_S)
    held = place.json("optimize", now=NOW_S + 60).data
    reasons = {node["node"]: node for host in held["hosts"] for node in host["nodes"]}
    assert (reasons["golem_attic"]["changed"], reasons["golem_attic"]["reason"]) == (False, "paused by the owner")
    collected = place.json("collect", now=NOW_S + 60).data["nodes"]
    assert [node["node"] for node in collected if node["health"]["status"] == "up"] == [
        "storj_attic", "golem_attic", "storj_rack", "golem_rack",
    ]  # fmt: skip
    notes = {node["node"]: node["notes"] for node in place.json("status", now=NOW_S + 60).data["nodes"]}
    assert "paused: collected, not acted on" in notes["golem_attic"]
    assert "paused: collected, not acted on" not in notes["golem_rack"]
    place("resume", now=NOW_S + 120)
    assert place.json("optimize", now=NOW_S + 120).data["decision"] == "apply"
    assert "golem_attic" in advised(place, NOW_S + 120)


def test_pause_shows_in_the_table(place: Place) -> None:
    place("pause", "--for", "4h", "--node", "golem_rack", now=NOW_S)
    assert f"paused: golem_rack, until {rfc3339(NOW_S + 4 * HOUR_S)}" in place("status", now=NOW_S).out


def test_pause_works_before_the_first_reading(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.config.write_text('[nodes.storj_1]\nprotocol = "storj"\n')
    assert place.json("pause", "--node", "storj_1", now=NOW_S).data["paused"][0]["node"] == "storj_1"
