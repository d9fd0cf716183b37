"""What the commands of a Golem provider print of the node in the samples, and what we read of it over REST: the same.

The commands of ``yagna`` keep accounts of their own, so they are the judge of our sums; those of ``ya-provider`` are
what the stand-in in ``tests/bin`` has to print.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback, sample
from sample_cases import SAMPLES, Case

from depin_orcha.types import SampleKind, Snapshot

NODE = SAMPLES / "golem" / "0.17.6"
COMMANDS = NODE / "commands"
STAND_IN = Path(__file__).parents[1] / "bin" / "ya-provider"
RUNNING_GLM = Decimal("0.017690977777777777")
"""What the agreement that still runs has brought, all of it accepted."""


def printed(name: str) -> Any:
    return json.loads((COMMANDS / name).read_text())


def body(name: str) -> Any:
    return json.loads((NODE / name).read_text())


@pytest.fixture(scope="module")
def read() -> Snapshot:
    case = Case(NODE / "working")
    with Loopback(sample(case.folder)) as server:
        return case.read(server.url)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["config", "get"], "ya-provider_config_get.json"),
        (["profile", "list"], "ya-provider_profile_list.json"),
        (["profile", "active"], "ya-provider_profile_active.json"),
        (["--json", "preset", "list"], "ya-provider_preset_list.json"),
        (["--json", "preset", "active"], "ya-provider_preset_active.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_stand_in_prints_what_the_real_one_does(words: list[str], name: str, tmp_path: Path) -> None:
    for file in ("hardware.json", "presets.json", "globals.json"):
        shutil.copy(COMMANDS / file, tmp_path)
    assert json.loads(_stand_in(words, tmp_path)) == printed(name)


def test_stand_in_knows_the_runtime_as_the_real_one_does(tmp_path: Path) -> None:
    (real,) = printed("ya-provider_exe-unit_list.json")
    shown = next(one for one in json.loads(_stand_in(["--json", "exe-unit", "list"], tmp_path)) if one["name"] == "vm")
    assert shown["version"] == real["version"]
    counters = shown["config"]["counters"]
    assert counters == {
        name: real["config"]["counters"][name] | {"description": one["description"]} for name, one in counters.items()
    }


def _stand_in(words: list[str], folder: Path) -> str:
    argv = [sys.executable, "-IS", str(STAND_IN), *words]
    return subprocess.run(
        argv, env=os.environ | {"DATA_DIR": str(folder)}, capture_output=True, check=True, text=True
    ).stdout


def test_offer_is_what_profile_and_preset_say(read: Snapshot) -> None:
    (offer,) = read.health.details["offers"]
    profile = printed("ya-provider_profile_list.json")[printed("ya-provider_profile_active.json")]
    assert {"cpu_threads": offer["threads"], **{key: offer[key] for key in ("mem_gib", "storage_gib")}} == profile
    preset = next(one for one in printed("ya-provider_preset_list.json") if one["exeunit-name"] == offer["runtime"])
    coefficients = preset["usage-coeffs"]
    assert offer["glm_per_cpu_s"] == coefficients["golem.usage.cpu_sec"]
    assert offer["glm_per_s"] == coefficients["golem.usage.duration_sec"]
    assert offer["glm_start"] == preset["initial-price"]


def test_settings_are_per_hour_where_offers_are_per_second(read: Snapshot) -> None:
    (offer,) = read.health.details["offers"]
    text = (COMMANDS / "golemsp_settings_show.txt").read_text()
    assert _found(r"cores:\s+(\d+)", text) == str(offer["threads"])
    assert _found(r"memory:\s+([\d.]+) GiB", text) == str(offer["mem_gib"])
    assert _found(r"disk:\s+([\d.]+) GiB", text) == str(offer["storage_gib"])
    prices = text.partition('preset "vm"')[2]
    per_hour = [float(_found(rf"([\d.]+) GLM {what}", prices)) for what in ("per cpu hour", "per hour")]
    assert per_hour == pytest.approx([3600 * offer["glm_per_cpu_s"], 3600 * offer["glm_per_s"]])


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, pattern
    return match[1]


def test_sums_agree_with_the_accounts_of_the_daemon(read: Snapshot) -> None:
    """Its command leaves out the running agreement and the other network, and keeps the invoice that was taken back."""
    incoming = {name: Decimal(one["totalAmount"]) for name, one in _incoming().items()}
    by_status = {name: Decimal(one["totalAmount"]) for name, one in _invoices("last_7d").items()}
    standings = {str(one.standing): one.amount for one in read.standings}
    assert standings["paid"] == incoming["confirmed"] == by_status["settled"]
    assert standings["accepted"] == incoming["accepted"] - incoming["confirmed"] + RUNNING_GLM
    assert incoming["accepted"] - incoming["confirmed"] == by_status["accepted"]
    earned = {one.external_id: one.amount for one in read.earnings if one.kind is SampleKind.COUNTER}
    assert sum(earned.values()) == incoming["requested"] - by_status["cancelled"] + RUNNING_GLM + by_status["received"]


def test_wallet_and_the_last_hour_are_no_earnings(read: Snapshot) -> None:
    """What the command shows by default: coins on the chain, and of the invoices those of one hour."""
    wallet = Decimal(printed("yagna_payment_status_polygon.json")["amount"])
    assert str(wallet) in (COMMANDS / "golemsp_status.txt").read_text()
    assert wallet not in [one.amount for one in read.standings]
    assert {one["totalAmount"] for one in _invoices("default_1h").values()} == {"0"}
    assert read.payouts


def _incoming() -> dict[str, Any]:
    return printed("yagna_payment_status_polygon.json")["incoming"]


def _invoices(window: str) -> dict[str, Any]:
    return printed(f"yagna_payment_invoice_status_{window}.json")["provider"]


def test_node_is_the_same_one(read: Snapshot) -> None:
    identity = read.health.details["identity"]
    assert printed("yagna_id_show.json")["Ok"]["nodeId"] == identity
    assert {one["id"] for one in printed("yagna_app_key_list.json")} == {identity}
    (running,) = printed("yagna_market_agreements_list.json")
    assert [running["id"]] == [one["id"] for one in body("agreements_approved.json")]
    states = printed("yagna_activity_status.json")["total"]
    assert sum(states.values()) == len({one.external_id for one in (*read.earnings, *read.voided) if one.period})
    assert (sum(states.values()) - states["Terminated"] > 0) is read.health.details["busy"]
