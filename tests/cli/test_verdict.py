"""`verdict`: is it worth its power, by the command line over real databases and plain configurations."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import honest
import pytest
from ledger_parts import at, opened
from operator_parts import START_S, Place, operating

from depin_orcha.economics.verdicts import MONTH_H
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, HOUR_S

NOW_S = at("2026-11-22T20:15:00")
FIRST_S = NOW_S // HOUR_S * HOUR_S - 30 * DAY_S
STORJ = '[nodes.storj_1]\nprotocol = "storj"\nurl = "http://127.0.0.1:9"\n'
TARIFF = "[costs]\nelectricity_per_kwh = 0.30\n"
BOX = "[hosts.local]\nidle_watts = 40\n"


def wavering(usd_per_hour: float) -> Callable[[int], float]:
    """Days that differ by a tenth up and down, in no order that repeats."""
    return lambda hour: usd_per_hour * (1 + 0.1 * math.sin(7.3 * (hour // 24)))


def imported(place: Place, node: str, usd: Callable[[int], float], days: int = 30, currency: str = "USD") -> None:
    rows = ["node,start,end,currency,amount,protocol"]
    for hour in range((30 - days) * 24, 30 * 24):
        start_s = FIRST_S + hour * HOUR_S
        amount = f"{usd(hour):.9f}"
        rows.append(f"{node},{rfc3339(start_s)},{rfc3339(start_s + HOUR_S)},{currency},{amount},storj")
    file = place.folder / f"{node}.csv"
    file.write_text("\n".join(rows))
    place("import", str(file), now=NOW_S)


def verdict(place: Place, *words: str) -> Any:
    return place.json("verdict", *words, now=NOW_S).data


def change(place: Place, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with closing(connect(place.db)) as connection, connection:
        for sql, values in statements:
            connection.execute(sql, values)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_stop_everything_you_lose_3_10_a_month(place: Place) -> None:
    """40 W at 0.30 are 8.77 a month, and the node earns 5.67."""
    place.configure(TARIFF + BOX + STORJ)
    imported(place, "storj_1", lambda _: 5.666 / MONTH_H)
    data = verdict(place)
    assert data["reason"] == "Stop everything: you lose 3.10 USD a month"
    (host,) = data["hosts"]
    assert (host["verdict"], host["watts"]) == ("stop", 40)
    assert host["running_cost_usd_month"]["mean"] == pytest.approx(0.040 * MONTH_H * 0.30)
    assert host["break_even"]["usd_per_kwh"] == pytest.approx(5.666 / (0.040 * MONTH_H), rel=1e-4)
    assert "Stop everything: you lose 3.10 USD a month" in place("verdict", now=NOW_S).out


def test_what_brings_more_than_its_power_costs_is_kept(place: Place) -> None:
    place.configure(TARIFF + BOX + STORJ)
    imported(place, "storj_1", wavering(0.03))
    data = verdict(place)
    assert data["reason"] == "Keep everything: every machine brings more than its power costs"
    (host,), (node,) = data["hosts"], data["nodes"]
    assert (host["verdict"], node["verdict"]) == ("keep", "keep")
    income = host["income_usd_month"]
    assert income["lo80"] < income["mean"] < income["hi80"]
    assert income["mean"] == pytest.approx(0.03 * MONTH_H, rel=0.02)


def test_a_machine_that_runs_anyway_saves_nothing_by_stopping(place: Place) -> None:
    place.configure(TARIFF + BOX + "always_on = true\n" + STORJ + "busy_watts = 0\n")
    imported(place, "storj_1", lambda _: 5.666 / MONTH_H)
    (host,) = verdict(place)["hosts"]
    assert (host["watts"], host["verdict"], host["running_cost_usd_month"]) == (None, "cannot_tell", None)
    assert "when it worked is not known" in verdict(place)["nodes"][0]["why"]


def test_a_loss_that_may_be_chance_is_not_told_as_one(place: Place) -> None:
    place.configure(TARIFF + BOX + STORJ)
    imported(place, "storj_1", wavering(0.012))
    (host,) = verdict(place)["hosts"]
    assert host["net_usd_month"]["lo80"] < 0 < host["net_usd_month"]["hi80"]
    assert (host["verdict"], "may be a gain or a loss" in host["why"]) == ("cannot_tell", True)


def test_six_days_are_too_few_to_judge_by(place: Place) -> None:
    place.configure(TARIFF + BOX + STORJ)
    imported(place, "storj_1", wavering(0.03), days=5)
    data = verdict(place)
    assert data["hosts"][0]["verdict"] == "cannot_tell"
    assert "it takes 7" in data["hosts"][0]["why"]


@pytest.mark.parametrize(
    ("config", "lack"),
    [
        (BOX + STORJ, "no tariff is known"),
        (TARIFF + STORJ, "no watts are known"),
        (TARIFF + BOX + STORJ + STORJ.replace("storj_1", "storj_2"), "what storj_2 earns is not known"),
    ],
)
def test_net_is_unknown_and_never_the_income(place: Place, config: str, lack: str) -> None:
    place.configure(config)
    imported(place, "storj_1", wavering(0.03))
    (host,) = verdict(place)["hosts"]
    assert (host["verdict"], host["net_usd_month"]) == ("cannot_tell", None)
    assert lack in host["why"]


def test_the_owners_money_beside_usd(place: Place) -> None:
    place.configure('[costs]\ncurrency = "EUR"\nelectricity_per_kwh = 0.30\n' + BOX + STORJ)
    imported(place, "storj_1", lambda _: 5.666 / MONTH_H)
    assert verdict(place)["hosts"][0]["running_cost_usd_month"] is None
    rate = ("EUR", NOW_S - 60, "1.25", "ecb daily", NOW_S - 60)
    change(
        place,
        ("INSERT OR REPLACE INTO meta VALUES ('local_currency', 'EUR')", ()),
        ("INSERT INTO prices VALUES (?, ?, ?, ?, ?)", rate),
    )
    (host,) = verdict(place)["hosts"]
    assert host["running_cost_local_month"]["mean"] == pytest.approx(0.040 * MONTH_H * 0.30)
    assert host["running_cost_usd_month"]["mean"] == pytest.approx(0.040 * MONTH_H * 0.30 * 1.25)
    assert "EUR" in host["why"]


def test_what_stopping_gives_up_is_named(place: Place) -> None:
    place.configure(TARIFF + BOX + STORJ)
    imported(place, "storj_1", lambda _: 5.666 / MONTH_H)
    change(
        place,
        ("INSERT INTO standings VALUES (?, ?, ?, ?, ?, ?)", ("storj_1", "USD", "held", NOW_S - 60, "4.2", NOW_S - 60)),
    )
    data = verdict(place)
    assert data["nodes"][0]["held_usd"] == 4.2
    assert "gives up 4.20 USD that is held" in data["hosts"][0]["why"]


def test_points_are_no_money(place: Place) -> None:
    place.configure(TARIFF + BOX + STORJ.replace("storj_1", "points_1"))
    imported(place, "points_1", lambda _: 12.0, currency="POINTS")
    (node,) = verdict(place)["nodes"]
    assert (node["income_usd_month"]["mean"], node["evidence"]) == (0, "contract")
    assert "no money until usd_per_point" in node["why"]


def test_dear_hours_of_a_provider_are_paused(place: Place) -> None:
    """A thread-hour brings 2 cents, 100 W cost 1 cent by night and 6 in the evening."""
    dear = '[{from = "00:00", price = 0.10}, {from = "17:00", price = 0.60}, {from = "21:00", price = 0.10}]'
    costs = f'[costs]\ntimezone = "UTC"\nelectricity_per_kwh = {dear}\n'
    golem = '[nodes.golem_1]\nprotocol = "golem"\nurl = "http://127.0.0.1:9"\napp_key_file = "key"\nbusy_watts = 100\n'
    place.configure(f"{costs}[hosts.local]\nidle_watts = 0\n{golem}", {"key": "0123456789abcdef"})
    with opened(place.db, "golem_1", now_s=FIRST_S) as store, store.transaction():
        for hour in range(30 * 24):
            hour_s, works = FIRST_S + hour * HOUR_S, hour % 5 != 0
            accrual = ("golem_1", hour_s, "USD", hour_s + HOUR_S, "0.02" if works else "0", "measured")
            store.connection.execute("INSERT INTO accruals VALUES (?, ?, ?, ?, ?, ?, 1)", accrual)
            columns = "node, observed_s, cpu_cores_allocated, cpu_cores_used, learned_s"
            values = ("golem_1", hour_s + 60, 4, 4 * works, hour_s + 60)
            store.connection.execute(f"INSERT INTO usage_samples ({columns}) VALUES (?, ?, ?, ?, ?)", values)
    data = verdict(place)
    (node,) = data["nodes"]
    # Work that begins at 17:00 and lasts an hour costs 6 cents.
    assert (node["verdict"], node["pause_hours"]) == ("pause", [17, 18, 19, 20])
    worked = MONTH_H / 24 * 4 * 4 / 5
    assert node["saved_usd_month"]["mean"] == pytest.approx(worked * 0.04, rel=0.02)
    assert "pause it at 17:00-21:00" in node["why"]
    assert "pause golem_1 at 17:00-21:00" in data["reason"]


def test_a_machine_that_loses_only_by_its_dear_hours_is_not_stopped(tmp_path: Path) -> None:
    """Work brings 2.5 cents an hour; 80 W cost 0.8 cents of it, and 14 in the evening."""
    place = honest.dear_evenings(tmp_path, 1)
    data = verdict(place)
    (host,), (node,) = data["hosts"], data["nodes"]
    assert host["net_usd_month"]["hi80"] < 0
    assert (host["verdict"], node["verdict"]) == ("pause", "pause")
    assert "no more once golem_1 rests at dear hours" in host["why"]
    assert data["reason"].startswith("Worth doing: pause golem_1 at ")
    assert ".." not in place("verdict", now=NOW_S).out


def test_an_empty_database_and_bad_input(place: Place) -> None:
    place.configure(STORJ)
    data = verdict(place)
    assert (data["hosts"], data["reason"]) == ([], "no node is known yet")
    done = place("verdict", "--node", "nobody", now=NOW_S, exits=2)
    assert (done.out, "there is no node 'nobody'" in done.err) == ("", True)
    place.configure("[costs]\nelectricity = 3\n")
    assert place("verdict", "--json", exits=78).failures[0]["kind"] == "config"


def test_the_simulated_operator_fits_80_columns(place: Place) -> None:
    with operating(place) as operator:
        for day in range(9):
            now_s = START_S + day * DAY_S
            operator.advance(now_s)
            place("collect", now=now_s)
        text = place("verdict", now=now_s, COLUMNS="80").out
        data = place.json("verdict", "--node", "golem_rack", now=now_s).data
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "golem_rack" in text
    assert ([one["node"] for one in data["nodes"]], [one["host"] for one in data["hosts"]]) == (
        ["golem_rack"],
        ["rack"],
    )


def test_an_income_of_two_machines_is_judged_on_neither(place: Place) -> None:
    hosts = "[hosts.attic]\nidle_watts = 20\n[hosts.rack]\nidle_watts = 20\n"
    nodes = "".join(
        STORJ.replace("storj_1", f"storj_{n}") + f'account = "mine"\nhost = "{host}"\n'
        for n, host in ((1, "attic"), (2, "rack"))
    )
    place.configure(TARIFF + hosts + nodes)
    imported(place, "storj_1", wavering(0.03))
    data = verdict(place)
    assert [host["verdict"] for host in data["hosts"]] == ["cannot_tell"] * 2
    assert all("shares its income with another machine" in host["why"] for host in data["hosts"])
    assert data["reason"] == "Nothing to stop or pause as far as can be told; cannot tell for attic, rack"


def test_what_left_the_configuration_long_ago_is_nobodys_question(place: Place) -> None:
    place.configure(TARIFF + BOX + STORJ)
    imported(place, "storj_1", wavering(0.03))
    change(place, ("INSERT INTO nodes VALUES ('gone', 'storj', 'local', 0, 'gone')", ()))
    assert [one["node"] for one in verdict(place)["nodes"]] == ["storj_1"]
