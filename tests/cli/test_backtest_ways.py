"""`backtest`: what was done, and what other ways of deciding would have made of the same weeks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from decision_parts import GLM, Past, Setting, in_turn
from ledger_parts import at
from operator_parts import Place

from depin_orcha.timefmt import rfc3339
from depin_orcha.types import HOUR_S

NOW_S = at("2026-11-22T20:15:00")
KEY = {"key": "0123456789abcdef"}
GOLEM = '[nodes.golem_1]\nprotocol = "golem"\nurl = "http://127.0.0.1:9"\napp_key_file = "key"\n'
STORJ = '[nodes.storj_1]\nprotocol = "storj"\nurl = "http://127.0.0.1:9"\n'
LEARNING = "[optimize]\nlearning_days = 2\n"
WAYS = ["done", "equal_split", "spec", "greedy", "ours", "hindsight"]
HOURS = 4 * 24
FIRST_S = NOW_S // HOUR_S * HOUR_S - HOURS * HOUR_S


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def replayed(place: Place, *words: str) -> tuple[dict[str, Any], Any]:
    data = place.json("backtest", *words, now=NOW_S).data
    return {one["name"]: one for one in data["policies"]}, data


def tried(place: Place) -> None:
    """A provider that earns three times as much with six threads as with two, left at two."""
    past = Past(place, NOW_S)
    past.provider("golem_1", in_turn(Setting(6), Setting(2), days=8), lambda _: 0.8)
    past.storage("storj_1", 6.0, lambda day: 4.0 + 0.02 * day, 1.5)


def imported(place: Place, *nodes: str, currency: str = "USD", priced: bool = True) -> None:
    """Four days that nobody read, earned with what the owner says was granted."""
    rows = ["node,start,end,currency,amount,protocol" + (",usd_per_unit" if priced else "")]
    for name in nodes:
        for hour in range(HOURS):
            start_s = FIRST_S + hour * HOUR_S
            amount = f"{0.01 * (1 + hour % 3)}" if name == nodes[0] else "0.005"
            row = f"{name},{rfc3339(start_s)},{rfc3339(start_s + HOUR_S)},{currency},{amount},golem"
            rows.append(row + (",1" if priced else ""))
    file = place.folder / "earned.csv"
    file.write_text("\n".join(rows) + "\n")
    place("import", str(file), now=NOW_S)


def test_ways_are_compared_on_what_was_measured(place: Place) -> None:
    place.configure(GOLEM + STORJ + LEARNING, KEY)
    tried(place)
    ways, data = replayed(place)
    assert list(ways) == WAYS
    span = [at(data[key].rstrip("Z")) for key in ("from", "until")]
    assert (span[1] - span[0]) / 3600 == 14 * 24
    earned = place.query(
        "SELECT sum(CASE currency WHEN 'GLM' THEN ? ELSE 1 END * amount) FROM accruals WHERE hour_s >= ?", GLM, span[0]
    )[0][0]
    done = ways["done"]
    assert done["net_usd"] == pytest.approx(earned - done["restart_loss_usd"])
    assert done["restarts"] == pytest.approx(12, abs=2), "six days of two trials each were left to see"
    assert ways["ours"]["restarts"] <= 2
    assert done["net_usd"] < ways["ours"]["net_usd"] <= ways["hindsight"]["net_usd"]
    assert ways["hindsight"]["share_of_hindsight"] == 1
    assert all(one["share_of_hindsight"] <= 1 + 1e-9 for one in ways.values())
    assert {one["node"]: one["movable"] for one in data["assumed"]} == {"golem_1": True, "storj_1": False}
    assert replayed(place)[1] == data
    text = place("backtest", now=NOW_S, COLUMNS="80").out
    assert "depin-orcha" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_where_nothing_was_measured_no_way_could_have_earned_more(place: Place) -> None:
    place.configure(GOLEM + LEARNING, KEY)
    Past(place, NOW_S).provider("golem_1", lambda _: Setting(4), lambda _: 0.5)
    ways, data = replayed(place)
    assert "never measured" in data["assumed"][0]["why"]
    for one in (ways[name] for name in WAYS[:-1]):
        assert one["net_usd"] + one["restart_loss_usd"] == pytest.approx(ways["done"]["net_usd"])
    assert (ways["ours"]["restarts"], ways["ours"]["share_of_hindsight"]) == (0, pytest.approx(1))


def test_power_is_taken_off(place: Place) -> None:
    Past(place, NOW_S).provider("golem_1", lambda _: Setting(4), lambda _: 0.5)
    place.configure(GOLEM + LEARNING, KEY)
    free = replayed(place)[0]["done"]
    place.configure(
        "[costs]\nelectricity_per_kwh = 0.30\n" + GOLEM + "busy_watts = 20\nmax_units = 4\n" + LEARNING, KEY
    )
    paid = replayed(place)[0]["done"]
    assert (free["energy_usd"], paid["energy_usd"]) == (0, pytest.approx(14 * 24 * 0.5 * 0.020 * 0.30, rel=0.2))
    assert paid["net_usd"] == pytest.approx(free["net_usd"] - paid["energy_usd"])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("", "no node with history is in the configuration (big, small)"),
        (GOLEM.replace("golem_1", "big"), "big was never read, and nothing says what it was granted"),
        (
            GOLEM.replace("golem_1", "big") + "max_units = 4\n",
            "what host local of big has is neither measured nor stated",
        ),
    ],
)
def test_what_imported_history_lacks_must_be_configured(place: Place, config: str, told: str) -> None:
    place.configure(config, KEY)
    imported(place, "big", "small")
    place.configure(config, KEY)
    done = place("backtest", now=NOW_S, exits=65)
    assert (done.out, done.err.splitlines()[0]) == ("", f"error: {told}")


def test_what_imported_tokens_were_worth_must_be_known(place: Place) -> None:
    config = GOLEM.replace("golem_1", "big") + "max_units = 4\n[hosts.local]\ncapacity = {cpu_cores = 8}\n"
    place.configure(config, KEY)
    imported(place, "big", currency="GLM", priced=False)
    done = place("backtest", now=NOW_S, exits=65)
    assert "what GLM was worth is not known, in which big was paid" in done.err


def test_imported_history_is_replayed_as_it_happened(place: Place) -> None:
    """Without a gate income counts as proportional to the grant: cores go to who earns more for them."""
    both = [GOLEM.replace("golem_1", name) + f"max_units = {most}\n" for name, most in (("big", 4), ("small", 2))]
    box = "[hosts.box]\ncapacity = {cpu_cores = 6, memory_bytes = 3.4e10, storage_bytes = 1e12}\n"
    text = "".join(one + 'host = "box"\n' for one in both) + box
    place.configure(text + "[optimize]\nlearning_days = 0\nmin_gain_usd_per_day = 0\n", KEY)
    imported(place, "big", "small")
    ways, data = replayed(place, "--days", "4")
    assert list(ways) == WAYS
    assert "proportional" in data["assumed"][0]["why"]
    assert ways["done"]["net_usd"] == pytest.approx(sum(0.01 * (1 + hour % 3) + 0.005 for hour in range(HOURS)))
    assert ways["equal_split"]["net_usd"] < ways["ours"]["net_usd"] <= ways["hindsight"]["net_usd"]


def test_nothing_to_replay_is_no_failure(place: Place) -> None:
    place.configure("")
    data = place.json("backtest", now=NOW_S).data
    assert (data["policies"], data["forecast_accuracy"]) == ([], [])
    assert "No way of deciding can be replayed yet" in place("backtest", now=NOW_S).out
