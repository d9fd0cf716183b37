"""Hours in which a node said that it does not run: they teach nothing, and one that is down now is forecast so."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alarm_parts import Life
from operator_parts import Place
from simulated import bandwidth

from depin_orcha.types import HealthStatus

WEEKS_H = 16 * 24
SAYS_SO = {"status": HealthStatus.DOWN, "reason": "it does not run"}


def lived(folder: Path, *parts: tuple[int, dict[str, Any]]) -> Life:
    """A node that lives so many hours after one another; it earns nothing in those of which it tells anything."""
    folder.mkdir(exist_ok=True)
    life = Life(Place(folder))
    life.configure("line")
    earned, begin = bandwidth(3, 1000).tolist(), 0
    for hours, told in parts:
        own = [0.0] * hours if told else earned[begin : begin + hours]
        life.live({"line": own}, 1800, **told)
        begin += hours
    return life


def forecast(life: Life) -> dict[str, Any]:
    (one,) = life.place.json("forecast", now=life.now_s + 60).data["forecasts"]
    return one


def say_it_ran(life: Life) -> None:
    with closing(sqlite3.connect(life.place.db)) as connection, connection:
        connection.execute("UPDATE health_samples SET status = 'up', reason = 'fine'")


def test_a_node_that_is_down_now_is_forecast_so(tmp_path: Path) -> None:
    life = lived(tmp_path / "down", (WEEKS_H, {}), (2, SAYS_SO))
    said = forecast(life)
    assert "down" in said["flags"]
    assert said["hours"][0]["median"] == said["hours"][0]["lo80"] == 0
    assert said["hours"][0]["hi80"] > 0
    say_it_ran(life)
    with closing(sqlite3.connect(life.place.db)) as connection, connection:
        connection.execute("DELETE FROM forecasts")
    assert "down" not in forecast(life)["flags"]


def test_one_that_is_paused_is_down_too(tmp_path: Path) -> None:
    life = lived(tmp_path, (WEEKS_H, {}), (2, {"reason": "paused by its owner"}))
    assert "down" in forecast(life)["flags"]


def test_it_is_down_from_its_last_reading_on(tmp_path: Path) -> None:
    life = lived(tmp_path, (WEEKS_H, {}))
    with closing(sqlite3.connect(life.place.db)) as connection, connection:
        connection.execute("UPDATE health_samples SET status = 'down' WHERE observed_s >= ?", (life.now_s - 1800,))
    life.live({"line": []})
    assert "down" in forecast(life)["flags"]


def test_what_earns_while_it_is_down_is_not_forecast_to_pause(tmp_path: Path) -> None:
    life = lived(tmp_path, (WEEKS_H, {}))
    with closing(sqlite3.connect(life.place.db)) as connection, connection:
        connection.execute("UPDATE health_samples SET status = 'down'")
    said = forecast(life)
    assert "down" not in said["flags"]
    assert said["hours"][0]["median"] > 0


def test_failed_readings_say_nothing_of_the_node(tmp_path: Path) -> None:
    life = lived(tmp_path, (WEEKS_H, {}))
    life.live({"line": [None, None]}, 1800)
    assert "down" not in forecast(life)["flags"]


@pytest.fixture(scope="module")
def outages(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Down for five hours of every thirteen, which looks like work that comes and goes, until yesterday."""
    parts = [part for _ in range(28) for part in ((8, {}), (5, SAYS_SO))]
    return lived(tmp_path_factory.mktemp("outages"), *parts, (30, {}))


def test_hours_down_teach_nothing(outages: Life) -> None:
    with closing(sqlite3.connect(outages.place.db)) as connection, connection:
        connection.execute("DELETE FROM forecasts")
    said = forecast(outages)
    running = bandwidth(3, 1000)[:394]
    assert said["type"] == "regular"
    assert said["total"]["mean"] == pytest.approx(24 * running.mean(), rel=0.25)


def test_what_was_learned_before_a_state_was_known_is_not_used(outages: Life) -> None:
    def inputs() -> str:
        with closing(sqlite3.connect(outages.place.db)) as connection, connection:
            connection.execute("DELETE FROM forecasts")
        forecast(outages)
        with closing(sqlite3.connect(outages.place.db)) as connection:
            return connection.execute("SELECT inputs FROM learned").fetchone()[0]

    before = inputs()
    assert inputs() == before
    with closing(sqlite3.connect(outages.place.db)) as connection, connection:
        told = connection.execute("SELECT node, observed_s, status FROM health_samples").fetchall()
        connection.execute("UPDATE health_samples SET status = 'up'")
    assert inputs() != before
    with closing(sqlite3.connect(outages.place.db)) as connection, connection:
        connection.executemany("UPDATE health_samples SET status = ?3 WHERE node = ?1 AND observed_s = ?2", told)
    assert inputs() == before


def test_the_replay_knows_them_too(outages: Life, tmp_path: Path) -> None:
    shutil.copytree(outages.place.folder, tmp_path / "same")
    life = Life(Place(tmp_path / "same"), outages.now_s)
    words = ("backtest", "--forecasts", "--days", "1")
    knowing = life.place.json(*words, now=life.now_s + 60).data["forecast_accuracy"][0]
    say_it_ran(life)
    unknowing = life.place.json(*words, now=life.now_s + 60).data["forecast_accuracy"][0]
    assert knowing["hours"] == unknowing["hours"] == 24
    assert knowing["wape"] < unknowing["wape"]
