"""Bounds of the owner on the disk space of a Storj node: met where a plan can set it, and told where none can."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
from decision_parts import Past, Setting, in_turn
from ledger_parts import at
from operator_parts import Place
from storj_machine import StorjMachine

Disk = namedtuple("Disk", "total used free")  # noqa: PYI024 - as shutil gives it
NOW_S = at("2026-11-22T20:15:00")
BOX = "[optimize]\nlearning_days = 7\n[hosts.local]\ncapacity = {cpu_cores = 8, storage_bytes = 2e13}\n"
GOLEM = '[nodes.golem_1]\nprotocol = "golem"\nurl = "http://127.0.0.1:9"\napp_key_file = "key"\nbusy_watts = 16\n'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def past(place: Place) -> None:
    past = Past(place, NOW_S)
    past.storage("storj_1", 6.0, lambda day: 4.0 + 0.02 * day, 1.5)


def storj(name: str = "storj_1", bounds: str = "", **options: str | None) -> str:
    """A node whose disk space can be set, but for the options that are None."""
    fields: dict[str, str | None] = {"runtime": "docker", "container": name, "disk": "/mnt/a", "config_path": "/c.yaml"}
    lines = [f'{key} = "{value}"\n' for key, value in (fields | options).items() if value is not None]
    return f'[nodes.{name}]\nprotocol = "storj"\nurl = "http://127.0.0.1:9"\n{"".join(lines)}{bounds}'


def planned(place: Place, nodes: str, box: str = BOX, *words: str) -> tuple[Any, dict[str, Any]]:
    """The result of a plan, and what it says of each node."""
    place.configure(box + nodes, {"key": "0123456789abcdef"})
    place.json("forecast", now=NOW_S)
    data = place.json("optimize", *words, now=NOW_S).data
    return data, {node["node"]: node for node in data["hosts"][0]["nodes"]}


@pytest.mark.parametrize("model", ["default", "lp"])
@pytest.mark.parametrize(
    ("bounds", "units", "asked"),
    [
        ("min_units = 7.25\n", 7.25, "at least 7.25 units are asked for"),
        ("max_units = 5.2\n", 5.2, "no more than 5.2 units are allowed"),
        ("min_units = 7\nmax_units = 9\n", 7, "at least 7 units are asked for"),
    ],
)
@pytest.mark.usefixtures("past")
def test_the_nearest_bound_is_the_new_size(place: Place, bounds: str, units: float, asked: str, model: str) -> None:
    data, nodes = planned(place, storj(bounds=bounds), BOX, "--model", model)
    node = nodes["storj_1"]
    assert (data["decision"], node["changed"], node["previous_units"], node["units"]) == ("apply", True, 6, units)
    assert node["resources"] == {"storage_bytes": pytest.approx(units * 1e12)}
    assert node["reason"] == f"6 -> {units:g} units: {asked}"
    assert data["reason"] == f"storj_1 6 -> {units:g} units: -0.01 USD a day after restarts, before power"
    value = data["hosts"][0]["value"]
    assert value["new_usd_per_hour"] == pytest.approx(value["current_usd_per_hour"]) == pytest.approx(0.0089, rel=0.05)
    assert value["restart_loss_usd"] == pytest.approx(0.5 * value["current_usd_per_hour"])
    assert -0.001 < value["net_benefit_usd_per_hour"] < 0


@pytest.mark.parametrize("bounds", ["", "min_units = 5\nmax_units = 7\n", "min_units = 6.005\n", "max_units = 5.995\n"])
@pytest.mark.usefixtures("past")
def test_inside_its_bounds_it_is_never_moved(place: Place, bounds: str) -> None:
    data, nodes = planned(place, storj(bounds=bounds))
    assert (data["decision"], nodes["storj_1"]["units"]) == ("hold", 6)
    assert "its allocation does not change what it earns" in nodes["storj_1"]["reason"]
    assert data["hosts"][0]["advice"] == []


@pytest.mark.parametrize(
    ("bounds", "options", "reason"),
    [
        ("min_units = 7\n", {"config_path": None}, "no plan sets that: its config_path is not set"),
        ("min_units = 7\n", {"config_path": None, "disk": None}, "its config_path and disk are not set"),
        ("max_units = 5\n", {"runtime": None, "container": None}, "nothing that is configured here runs it"),
        (
            "max_units = 5\n",
            {"runtime": "process", "container": None, "process": "storagenode"},
            "nothing that is configured here runs it",
        ),
        ("max_units = 4\n", {}, "no more than 4 units are allowed, but with what it stores it needs 4.535"),
        ("min_units = 20.5\n", {}, "at least 20.5 units are asked for, but beside what others have there is room for"),
    ],
)
@pytest.mark.usefixtures("past")
def test_what_cannot_be_met_stays_and_is_told(
    place: Place, bounds: str, options: dict[str, str | None], reason: str
) -> None:
    data, nodes = planned(place, storj("storj_1", bounds, **options))
    assert (data["decision"], nodes["storj_1"]["units"], nodes["storj_1"]["changed"]) == ("hold", 6, False)
    assert reason in nodes["storj_1"]["reason"]
    assert reason in data["reason"]
    (advice,) = data["hosts"][0]["advice"]
    assert (advice["kind"], advice["node"], advice["units"]) == ("bound", "storj_1", float(bounds.split("= ")[1]))
    told = place("explain", now=NOW_S).out
    assert "Which bound of yours is not met?" in told


def test_never_below_the_least_that_a_node_starts_with(place: Place) -> None:
    past = Past(place, NOW_S)
    past.storage("storj_1", 1.0, lambda _: 0.1, 1.5)
    data, nodes = planned(place, storj(bounds="max_units = 0.4\n"))
    assert (data["decision"], nodes["storj_1"]["units"]) == ("hold", 1)
    assert "it needs 0.5" in nodes["storj_1"]["reason"]


@pytest.mark.usefixtures("past")
def test_a_node_of_another_machine_is_left_to_its_owner(place: Place) -> None:
    box = BOX + "[hosts.attic]\ncapacity = {storage_bytes = 2e13}\n"
    data, nodes = planned(place, storj(bounds="min_units = 7\n", host="attic"), box)
    assert (data["decision"], nodes["storj_1"]["units"]) == ("hold", 6)
    assert "it runs on attic, which this machine cannot change" in data["reason"]


def test_disks_that_fill_together_and_a_full_host_do_not_hinder_it(place: Place) -> None:
    past = Past(place, NOW_S)
    past.storage("storj_1", 6.0, lambda day: 4.0 + 0.02 * day, 1.5)
    past.storage("storj_2", 8.0, lambda day: 1.0 + 0.03 * day, 1.5)
    past.storage("storj_3", 2.0, lambda _: 1.99, 1.5)
    group = 'ingress_group = "home"\n'
    nodes = storj(bounds=group + "max_units = 5\n") + storj("storj_2", group, disk="/mnt/b") + storj("storj_3")
    full = BOX.replace("2e13", "1e13") + 'disks = {"/mnt/a" = 5e12, "/mnt/b" = 7e12}\n'
    data, found = planned(place, nodes, full)
    assert (data["decision"], data["hosts"][0]["status"]) == ("apply", "optimal")
    assert {name: node["units"] for name, node in found.items()} == {"storj_1": 5, "storj_2": 8, "storj_3": 2}


def test_room_on_its_disk_and_its_host_goes_to_who_is_named_first(place: Place) -> None:
    past = Past(place, NOW_S)
    for name in ("storj_1", "storj_2"):
        past.storage(name, 6.0, lambda day: 4.0 + 0.02 * day, 1.5)
    nodes = storj(bounds="min_units = 7\n") + storj("storj_2", "min_units = 7\n")
    for size, box in ((2e13, BOX + 'disks = {"/mnt/a" = 1.3e13}\n'), (1.3e13, BOX)):
        with closing(connect(place.db)) as connection, connection:
            connection.execute("UPDATE host_samples SET capacity_json = ?", (json.dumps({"storage_bytes": size}),))
        data, found = planned(place, nodes, box)
        assert {name: node["units"] for name, node in found.items()} == {"storj_1": 7, "storj_2": 6}
        assert "beside what others have there is room for 6" in found["storj_2"]["reason"]
        assert [one["node"] for one in data["hosts"][0]["advice"]] == ["storj_2"]


def test_thresholds_learning_and_a_dear_power_do_not_hold_it_back(place: Place) -> None:
    past = Past(place, NOW_S, days=2)
    past.storage("storj_1", 6.0, lambda _: 4.0, 1.5)
    box = BOX.replace(
        "7\n", "7\nmin_net_benefit_usd_per_hour = 0.5\nmin_improvement_pct = 50\nignore_change_pct = 30\n"
    )
    dear = "[costs]\nelectricity_per_kwh = 5.0\n"
    data, nodes = planned(place, storj(bounds="min_units = 7\nbusy_watts = 50\n"), dear + box)
    assert (data["decision"], nodes["storj_1"]["units"]) == ("apply", 7)


@pytest.mark.usefixtures("past")
def test_paused_it_stays(place: Place) -> None:
    place.configure(BOX + storj(bounds="min_units = 7\n"))
    place.json("pause", "--node", "storj_1", now=NOW_S)
    data, nodes = planned(place, storj(bounds="min_units = 7\n"))
    assert (data["decision"], nodes["storj_1"]["reason"]) == ("hold", "paused by the owner")


@pytest.mark.usefixtures("past")
def test_explained_with_its_restart_and_the_same_income(place: Place) -> None:
    planned(place, storj(bounds="min_units = 7\n"))
    (node,) = place.json("explain", now=NOW_S).data["nodes"]
    assert (node["decision"], node["grant_before"], node["grant_after"]) == ("apply", "6 TB", "7 TB")
    assert node["income_before"] == node["income_after"]
    assert node["income_after"]["usd_month"] == pytest.approx(1.5 * 4.3, rel=0.05)
    assert node["restart_loss_usd"] == pytest.approx(0.5 * 1.5 * 4.3 / 730.5, rel=0.05)
    assert (node["flips_at_usd_per_unit_hour"], node["evidence"]) == (None, "contract")
    assert "at least 7 units are asked for" in place("explain", now=NOW_S).out


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[StorjMachine]:
    folder = tmp_path / "m"
    folder.mkdir()
    with StorjMachine(folder) as machine:
        yield machine


@pytest.mark.usefixtures("past")
@pytest.mark.parametrize(
    ("bound", "tb", "why"),
    [
        ("max_units = 5", 5, "6 -> 5 units: no more than 5 units are allowed"),
        ("min_units = 7", 7, "6 -> 7 units: at least 7 units are asked for"),
    ],
)
def test_apply_shows_the_file_and_the_restart(
    place: Place, machine: StorjMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, tb: int, why: str
) -> None:
    """A disk with hardly any room left takes less of it, and more only where there is room."""
    free = 10**10 if tb < 6 else 5 * 10**12
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**13, 10**13 - free, free))
    node = storj(bounds=f"{bound}\napply = true\n", container="storj", config_path=str(machine.file))
    node = node.replace("http://127.0.0.1:9", machine.node.url).replace("/mnt/a", str(tmp_path))
    planned(place, node, f'[apply]\ndocker_socket = "{machine.engine.socket}"\n{BOX}')
    (action,) = place.json("apply", now=NOW_S).data["actions"]
    assert (action["state"], action["path"], action["why"]) == ("planned", str(machine.file), why)
    assert [action[when]["storage_bytes"] for when in ("before", "after")] == [6 * 10**12, tb * 10**12]
    assert "/restart?t=300" in json.dumps(action["request"])
    assert machine.restarts == 0
    (action,) = place.json("apply", "--yes", now=NOW_S).data["actions"]
    assert (action["state"], machine.restarts, machine.line().split("#")[0].split()) == (
        "done",
        1,
        ["storage.allocated-disk-space:", f"{tb}000.00", "GB"],
    )


def test_what_is_more_than_the_host_has_may_become_less(place: Place, tmp_path: Path) -> None:
    """Of 10 TB two nodes have 12: one is given less, and still they have more than there is."""
    past = Past(place, NOW_S)
    for name in ("storj_1", "storj_2"):
        past.storage(name, 6.0, lambda day: 4.0 + 0.02 * day, 1.5)
    folder = tmp_path / "m"
    folder.mkdir()
    with StorjMachine(folder) as machine:
        node = storj(bounds="max_units = 5\napply = true\n", container="storj", config_path=str(machine.file))
        node = node.replace("http://127.0.0.1:9", machine.node.url).replace("/mnt/a", str(tmp_path))
        planned(place, node + storj("storj_2"), f'[apply]\ndocker_socket = "{machine.engine.socket}"\n{BOX}')
        (action,) = place.json("apply", now=NOW_S).data["actions"]
    assert (action["node"], action["after"]) == ("storj_1", {"storage_bytes": 5 * 10**12})


def test_beside_a_node_that_is_moved_for_gain(place: Place) -> None:
    """Neither hinders the other, whatever the model or the risk; and a bound counts where nothing is earned, too."""
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(6), Setting(2)), lambda _: 0.5)
    past.storage("storj_1", 6.0, lambda _: 4.0, 0.0)
    nodes = GOLEM + storj(bounds="min_units = 7\n")
    for words in ([], ["--model", "spec"], ["--model", "lp"], ["--risk", "0.5"], ["--front", "moves"]):
        data, found = planned(place, nodes, BOX, *words)
        assert {name: node["units"] for name, node in found.items()} == {"golem_1": 6, "storj_1": 7}, words
        assert data["decision"] == "apply"
    place.json("pause", "--node", "golem_1", now=NOW_S)
    data, found = planned(place, nodes)
    assert {name: node["changed"] for name, node in found.items()} == {"golem_1": False, "storj_1": True}
    assert data["reason"].startswith("storj_1 6 -> 7 units: ")
    assert place.json("explain", "--what-if", "storage_bytes=+1TB", now=NOW_S).data["what_if"]
