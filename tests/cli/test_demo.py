"""The demo: the whole chain over a simulated operator, in a database of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from operator_parts import START_S, Done, Place, integrity, operating

ENDS = ("", ".lock", "-wal", "-shm")
VERBS = ["collect", "forecast", "optimize", "apply", "heal", "status"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A user who has a database of a real node already; the demo gets a file beside it."""
    place = Place(tmp_path_factory.mktemp("home"))
    with operating(place):
        place("collect", now=START_S)
    return place


@pytest.fixture(scope="module")
def demo(place: Place) -> Place:
    own = Place(place.folder / "demo")
    own.folder.mkdir()
    return own


@pytest.fixture(scope="module")
def shown(demo: Place) -> Done:
    return demo.json("demo")


def test_every_verb_ran_and_a_decision_was_made(shown: Done) -> None:
    data = shown.data
    assert [(step["verb"], step["exit_code"]) for step in data["verbs"]] == [(verb, 0) for verb in VERBS]
    assert all(step["seconds"] >= 0 for step in data["verbs"])
    assert data["simulated"] is True
    plan = data["status"]["plan"]
    assert plan["decision"] == "apply" or "learning" not in plan["reason"]


def test_every_node_has_two_weeks_of_measured_income_and_says_simulated(shown: Done, demo: Place) -> None:
    nodes = shown.data["status"]["nodes"]
    assert [node["node"] for node in nodes] == ["storj_attic", "golem_attic", "storj_rack", "golem_rack"]
    for node in nodes:
        assert "SIMULATED" in node["notes"]
        assert node["health"] == "up"
        assert node["usd_30d"] > node["usd_24h"] > 0
        assert node["known_hours_30d"] >= 13 * 24
        assert node["usd_per_hour_forecast"] > 0
    assert {row[0] for row in demo.query("SELECT DISTINCT quality FROM accruals")} == {"measured"}
    assert demo.query("SELECT count(*) FROM actions") == [(0,)]
    assert integrity(demo.db) == "ok"


def test_its_database_can_be_looked_at(shown: Done, demo: Place) -> None:
    assert shown.code == 0
    config = next(demo.folder.rglob("config.toml"))
    look = Place(demo.folder)
    look.config, look.db = config, demo.db
    assert "SIMULATED" in look("status").out
    assert look.json("history", "--by", "month").data["rows"]


def test_database_of_a_user_is_never_taken(place: Place) -> None:
    before = place.db.read_bytes()
    done = place("demo", "--json", exits=2)
    assert (done.out, "not a database of the demo" in done.err) == ("", True)
    assert place.db.read_bytes() == before


def test_nothing_lies_outside_its_own_folder(shown: Done, place: Place) -> None:
    assert shown.code == 0
    own = {"demo", "config.toml", "golem_attic.key", "golem_rack.key"}
    assert [
        path.name for path in place.folder.iterdir() if path.name not in own | {f"orcha.db{end}" for end in ENDS}
    ] == []


def test_keys_of_the_demo_are_private(shown: Done, demo: Place) -> None:
    assert "chmod" not in shown.err
    keys: list[Path] = list(demo.folder.rglob("*.key"))
    assert len(keys) == 2
    assert {path.stat().st_mode & 0o077 for path in keys} == {0}
