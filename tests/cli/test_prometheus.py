"""`status --prometheus`: what is known, in base units; what is not known is absent."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest
from decision_parts import GLM, Past, Setting
from ledger_parts import at
from operator_parts import Place
from prometheus_client.parser import text_string_to_metric_families

NOW_S = at("2026-11-22T20:15:00")
CONFIG = (
    '[nodes.golem_1]\nprotocol = "golem"\nurl = "http://127.0.0.1:9"\napp_key_file = "key"\n'
    '[nodes.new_one]\nprotocol = "storj"\nurl = "http://127.0.0.1:9"\n'
)
Sample = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.configure(CONFIG, {"key": "0123456789abcdef"})
    past = Past(place, NOW_S, days=3)
    past.provider("golem_1", lambda _: Setting(4), lambda _: 0.5)
    past.paused("golem_1", NOW_S - 3600)
    return place


def parsed(text: str) -> dict[Sample, float]:
    families = list(text_string_to_metric_families(text))
    assert all(one.documentation and one.name.startswith("depin_orcha_") for one in families)
    assert all(one.timestamp is None for family in families for one in family.samples)
    return {
        (sample.name.removeprefix("depin_orcha_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def of(name: str, node: str, **more: str) -> Sample:
    protocol = {"golem_1": "golem", "new_one": "storj"}[node]
    return name, tuple(sorted({"node": node, "protocol": protocol, "host": "local", **more}.items()))


def test_what_is_known_stands_there_and_what_is_not_does_not(place: Place) -> None:
    found = parsed(place("status", "--prometheus", "-", now=NOW_S).out)
    data = place.json("status", now=NOW_S).data["nodes"][0]
    assert found[of("earned_24h_usd", "golem_1")] == pytest.approx(data["usd_24h"])
    assert found[of("cpu_limit_cores", "golem_1")] == 4
    assert found[of("node_health", "golem_1", status="up")] == 1
    assert found[of("node_health", "golem_1", status="down")] == 0
    assert found[of("node_last_seen_timestamp_seconds", "golem_1")] == at("2026-11-22T19:00:00")
    assert found["price_usd", (("currency", "GLM"), ("source", "coingecko"))] == GLM
    assert of("earned_24h_usd", "new_one") not in found, "unknown is never zero"
    assert found[of("node_health", "new_one", status="unknown")] == 1


def test_a_run_and_what_apply_had_to_see_to(place: Place) -> None:
    place.json("forecast", now=NOW_S)
    found = parsed(place("status", "--prometheus", "-", now=NOW_S + 60).out)
    assert found["last_success_timestamp_seconds", (("verb", "forecast"),)] == NOW_S
    assert found["exit_code", (("verb", "forecast"),)] == 0
    with closing(connect(place.db)) as connection, connection:
        connection.execute("UPDATE actions SET state = 'undone'")
    found = parsed(place("status", "--prometheus", "-", now=NOW_S + 60).out)
    assert found["apply_failures_total", (("node", "golem_1"),)] == 1


def test_a_file_is_whole_and_readable_and_the_table_is_shown_too(place: Place) -> None:
    file = place.folder / "depin_orcha.prom"
    done = place("status", "--prometheus", str(file), now=NOW_S)
    assert "golem_1" in done.out
    assert file.stat().st_mode & 0o777 == 0o644
    assert parsed(file.read_text())
    assert [one.name for one in place.folder.iterdir() if "prom" in one.name] == [file.name]


def test_without_a_database_there_is_little_to_tell(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.configure(CONFIG, {"key": "0123456789abcdef"})
    found = parsed(place("status", "--prometheus", "-", now=NOW_S).out)
    assert found[of("node_health", "golem_1", status="unknown")] == 1
    assert not place.db.exists()


def test_two_cannot_have_stdout(place: Place) -> None:
    assert place("status", "--prometheus", "-", "--json", now=NOW_S, exits=2).out == ""


def test_a_file_that_cannot_be_written_is_told(place: Place) -> None:
    done = place("status", "--prometheus", str(place.folder / "no" / "x.prom"), now=NOW_S, exits=77)
    assert "cannot write" in done.err
