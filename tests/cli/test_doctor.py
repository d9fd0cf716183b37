"""`doctor` finds what stands in the way and says what mends it; it changes nothing."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from operator_parts import Done, Place
from storj_machine import StorjMachine
from tequilapi import Tequilapi
from unix_engine import UnixEngine

SOUND = '[nodes.relay]\nprotocol = "mysterium"\nurl = "{url}"\n'


@pytest.fixture
def node() -> Iterator[Tequilapi]:
    with Tequilapi(userspace=True) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def found(done: Done, name: str, node: str | None = None) -> list[tuple[str, str, str]]:
    return [
        (one["result"], one["detail"], one["fix"])
        for one in done.data["checks"]
        if (one["name"], one["node"]) == (name, node)
    ]


def test_nothing_stands_in_the_way(place: Place, node: Tequilapi) -> None:
    place.configure(SOUND.format(url=node.url) + "apply = true\n")
    done = place.json("doctor")
    assert done.failures == []
    assert found(done, "configuration")[0][1].endswith("config.toml: 1 node")
    assert found(done, "node", "relay")[0][1].startswith("up: ")
    assert found(done, "rights", "relay") == [("ok", "apply can act on it (mysterium)", "")]
    assert not place.db.exists(), "nothing is made by looking"
    assert node.writes == []


def test_a_storj_node_whose_disk_space_is_only_advised(place: Place, tmp_path: Path) -> None:
    with StorjMachine(tmp_path) as machine:
        text = (
            f'[apply]\ndocker_socket = "{machine.engine.socket}"\n[nodes.attic]\nprotocol = "storj"\napply = true\n'
            f'url = "{machine.node.url}"\nruntime = "docker"\ncontainer = "storj"\ndisk = "{tmp_path}"\n'
        )
        place.configure(text)
        said = found(place.json("doctor", exits=None), "rights", "attic")
        assert ("warn", "storj: its config_path is not set", "apply tells the command") in said
        place.configure(f'{text}config_path = "{machine.file}"\n')
        machine.environment = ["STORAGE=6.0TB"]
        said = found(place.json("doctor", exits=None), "rights", "attic")
        assert "STORAGE of its environment wins over its file" in said[0][1]
        machine.environment = []
        said = found(place.json("doctor", exits=None), "rights", "attic")
        assert not any(detail.startswith("storj: ") for _, detail, _ in said)


def test_no_node(place: Place) -> None:
    assert "there is no such file" in place.json("doctor", exits=78).failures[0]["message"]
    place.configure("")
    done = place.json("doctor", exits=3)
    assert found(done, "configuration")[0][0] == "fail"
    assert found(done, "configuration")[0][2] == "describe your nodes there"


def test_a_node_that_does_not_answer(place: Place) -> None:
    place.configure(SOUND.format(url="http://127.0.0.1:9") + "apply = true\n")
    done = place.json("doctor", exits=3)
    assert [one[0] for one in found(done, "node", "relay")] == ["fail"]
    assert [one[0] for one in found(done, "rights", "relay")] == ["fail"]
    assert [one["kind"] for one in done.failures] == ["transient", "transient"]


def test_a_damaged_database(place: Place, node: Tequilapi) -> None:
    place.configure(SOUND.format(url=node.url))
    place.db.write_bytes(b"not a database, but long enough to be read as one" * 100)
    done = place.json("doctor", exits=3)
    assert found(done, "database")[0][0] == "fail"
    place.db.unlink()
    with sqlite3.connect(place.db) as other:
        other.execute("CREATE TABLE foreign_one (x)")
    assert "some other program" in found(place.json("doctor", exits=3), "database")[0][1]


def test_what_may_not_be_touched_is_not_asked_for_rights(place: Place, node: Tequilapi) -> None:
    place.configure(SOUND.format(url=node.url) + 'runtime = "docker"\ncontainer = "relay"\n')
    assert found(place.json("doctor"), "rights", "relay") == []


def test_a_node_that_nothing_can_restart(place: Place, node: Tequilapi) -> None:
    place.configure(SOUND.format(url=node.url) + "heal = true\n")
    ((result, detail, fix),) = found(place.json("doctor"), "rights", "relay")
    assert (result, detail) == ("warn", "nothing here can restart it")
    assert "[nodes.relay]" in fix


def test_an_engine_s_socket_that_this_user_may_not_use(place: Place, node: Tequilapi) -> None:
    def answer(*_: Any) -> Any:
        raise AssertionError("it is never reached")

    with UnixEngine(place.folder / "s", answer) as engine:
        Path(engine.socket).chmod(0o600)
        if os.geteuid() == 0:
            os.chown(engine.socket, 1, 1)
        place.configure(
            SOUND.format(url=node.url)
            + 'heal = true\nruntime = "docker"\ncontainer = "relay"\n'
            + f'[apply]\ndocker_socket = "{engine.socket}"\n'
        )
        done = place.process_without_rights("doctor", "--json")
        ((result, detail, fix),) = found(done, "rights", "relay")
    assert (result, done.failures[-1]["kind"]) == ("fail", "permission")
    assert "may not use the socket" in detail
    assert "group docker" in fix


def test_people_see_the_result_in_words_and_what_mends_it(place: Place) -> None:
    place.configure(SOUND.format(url="http://127.0.0.1:9"))
    done = place("doctor", exits=3, COLUMNS="80")
    assert "fail" in done.out
    assert "-> " in done.out
    assert (
        max(len(line) for line in done.out.splitlines() if "config.toml" not in line and "orcha.db" not in line) <= 80
    )
