"""What each protocol lets an operator change, as it stands in the problem of a stored plan; and who carries it out."""

from __future__ import annotations

import json
import shlex
import subprocess
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
from decision_parts import DEAR, Past, Setting, in_turn
from ledger_parts import at
from operator_parts import Place

NOW_S = at("2026-11-22T20:15:00")
PROVIDER = Path(__file__).parents[1] / "bin" / "ya-provider"
GOLEM = f"""
[nodes.golem_1]
protocol = "golem"
url = "http://127.0.0.1:9"
app_key_file = "key"
busy_watts = 16
apply = true
provider_command = ["{PROVIDER}"]
"""
BOX = "[optimize]\nlearning_days = 7\n[hosts.local]\ncapacity = {cpu_cores = 8, storage_bytes = 2e13}\n"
TARIFF = (
    '[costs]\ntimezone = "UTC"\nelectricity_per_kwh = [{from = "07:00", price = 0.4}, {from = "22:00", price = 0.2}]\n'
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def planned(place: Place, config: str) -> tuple[Any, dict[str, Any]]:
    """The result of a plan, and each node of its problem."""
    place.configure(config, {"key": "0123456789abcdef"})
    place.json("forecast", now=NOW_S)
    data = place.json("optimize", now=NOW_S).data
    ((stored,),) = place.query("SELECT problem_json FROM plans")
    host = json.loads(stored)["hosts"][0]
    return data, {node["node"]: node for node in host["nodes"]} | {"": host}


def storj(name: str, more: str = "") -> str:
    return f'[nodes.{name}]\nprotocol = "storj"\nurl = "http://127.0.0.1:9"\n{more}'


def test_disks_fill_from_one_stream_and_are_never_moved(place: Place) -> None:
    past = Past(place, NOW_S)
    past.storage("storj_1", 6.0, lambda day: 4.0 + 0.02 * day, 1.5)
    past.storage("storj_2", 8.0, lambda day: 1.0 + 0.03 * day, 1.5)
    past.storage("storj_3", 2.0, lambda _: 1.99, 1.5)
    group = 'ingress_group = "home"\ndisk = "/mnt/{}"\n'
    nodes = storj("storj_1", group.format("a")) + storj("storj_2", group.format("b")) + storj("storj_3")
    data, found = planned(place, f'{BOX}disks = {{"/mnt/a" = 8e12, "/mnt/b" = 8e12}}\n{nodes}')
    one, two, full = (found[f"storj_{n}"] for n in (1, 2, 3))
    assert one["fill"]["per_hour"] == two["fill"]["per_hour"] == pytest.approx(0.05 / 24, rel=0.01)
    assert (one["fill"]["group"], two["fill"]["group"]) == ("home", "home")
    assert one["fill"]["stored_units"] == pytest.approx(4.32, rel=0.01)
    assert (one["disk"], two["disk"]) == ("/mnt/a", "/mnt/b")
    assert one["usd_per_unit_hour"] == pytest.approx(1.5 / 730.5, rel=0.05)
    assert "fill" not in full
    assert {node["evidence"] for node in (one, two)} == {"none"}
    assert all(node["frozen"] for node in (one, two, full))
    assert data["reason"].startswith("no change worth making: local: storj_1")
    assert (data["decision"], [node["changed"] for node in data["hosts"][0]["nodes"]]) == ("hold", [False] * 3)


def test_what_other_protocols_earn_does_not_grow_with_their_grant(place: Place) -> None:
    past = Past(place, NOW_S)
    past.steady("streamr_1", "streamr", "USD", "cpu_cores", 0.02, 2.0)
    streamr = f'operator = "0x{"1" * 40}"\nsubgraph_url = "http://127.0.0.1:9"\nrpc_url = "http://127.0.0.1:9"\n'
    _, found = planned(place, f'{BOX}[nodes.streamr_1]\nprotocol = "streamr"\n{streamr}')
    node = found["streamr_1"]
    assert (node["evidence"], node["frozen"], node["current_units"]) == ("contract", True, 2)
    assert [one["relative"] for one in node["segments"]] == [1.0, 0.0]
    assert node["segments"][0]["width_units"] == 2


def test_power_costs_what_the_tariff_says_hour_by_hour(place: Place) -> None:
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(6), Setting(2)), lambda _: 0.5)
    _, found = planned(place, TARIFF + BOX + GOLEM)
    running = found["golem_1"]["running_usd_per_unit_hour"]
    assert running[1] == pytest.approx(2 * running[2])
    assert running[0] == pytest.approx(0.5 * 16 / 8 / 1000 * 0.4, rel=0.1)


def test_without_a_tariff_the_net_is_not_the_income(place: Place) -> None:
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(6), Setting(2)), lambda _: 0.5)
    data, _ = planned(place, BOX + GOLEM)
    assert data["decision"] == "apply"
    assert data["reason"].endswith("before power")
    explained = place.json("explain", now=NOW_S).data["nodes"][0]
    assert explained["power_after"] == {"usd_month": None, "evidence": "none"}


def test_a_cap_among_the_offers_is_carried_out_and_a_price_is_not(place: Place) -> None:
    """Caps and prices were tried by turns: a plan sets the best cap, and tells the command of the better price."""
    past = Past(place, NOW_S, days=24)
    settings = (Setting(1), Setting(1, DEAR), Setting(2, DEAR), Setting(2))
    past.provider("golem_1", in_turn(*settings, days=20), lambda one: 0.9 if one.threads == 1 else 0.15)
    data, found = planned(place, TARIFF + BOX + GOLEM)
    names = [one["name"] for one in found["golem_1"]["choices"]]
    assert names == ["paused", "1 core at 0.025 GLM/h", "2 cores at 0.025 GLM/h"]
    assert found["golem_1"]["current_choice"] == "2 cores at 0.025 GLM/h"
    (node,) = data["hosts"][0]["nodes"]
    assert (data["decision"], node["choice"], node["units"]) == ("apply", "1 core at 0.025 GLM/h", 1)
    (advice,) = [one for one in data["hosts"][0]["advice"] if one["kind"] == "by_hand"]
    assert advice["text"].startswith("golem_1: 1 core at 0.05 GLM/h would bring +")

    explained = place.json("explain", now=NOW_S).data["nodes"][0]
    assert f"beyond {explained['flips_at_income_factor']:.4g} times its incomes" in node["reason"]

    folder = place.folder / "provider"
    folder.mkdir()
    environment = place.environment(DATA_DIR=str(folder))
    for command in ("profile update --name default --cpu-threads 2", "preset list"):
        subprocess.run([PROVIDER, *command.split()], env=environment, check=True, stdout=subprocess.DEVNULL)
    actions = place.json("apply", now=NOW_S, DATA_DIR=str(folder)).data["actions"]
    assert any("--cpu-threads 1" in str(action["command"]) for action in actions if action["state"] == "planned")

    command = shlex.split(advice["text"].split("you can: ")[1])
    subprocess.run(command, env=environment, check=True)
    presets = json.loads((folder / "presets.json").read_text())["presets"]
    (preset,) = [one for one in presets if one["name"] == "vm"]
    assert preset["usage-coeffs"]["golem.usage.cpu_sec"] == pytest.approx(DEAR / 3600)


def test_a_running_agreement_is_a_floor_until_it_ends(place: Place) -> None:
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(4), Setting(2)), lambda _: 0.5)
    dear = "[costs]\nelectricity_per_kwh = 5.0\n"
    data, _ = planned(place, dear + BOX + GOLEM)
    assert data["hosts"][0]["nodes"][0]["choice"] == "paused"
    sql = "UPDATE usage_samples SET cpu_cores_used = 2 WHERE observed_s = (SELECT max(observed_s) FROM usage_samples)"
    with closing(connect(place.db)) as connection, connection:
        connection.execute(sql)
    (node,) = place.json("optimize", now=NOW_S).data["hosts"][0]["nodes"]
    assert node["units"] >= 2, "it rests once it is idle"


def test_offers_at_the_usual_price_alone_are_a_curve(place: Place) -> None:
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(6), Setting(4), Setting(2)), lambda _: 0.5)
    _, found = planned(place, TARIFF + BOX + GOLEM)
    assert "choices" not in found["golem_1"]
    assert found["golem_1"]["max_units"] == 6
