"""The uplink of a Mysterium node: planned from what it earned at other settings of its shaper, set over real HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at
from loopback import Answer, Loopback, Request
from operator_parts import Place
from tequilapi import Tequilapi

from depin_orcha import database
from depin_orcha.actuators import mysterium
from depin_orcha.adapters.mysterium import Adapter, Options
from depin_orcha.asof import AsOf
from depin_orcha.config import load
from depin_orcha.cycle import Job
from depin_orcha.economics import NodeFacts
from depin_orcha.facts import gather
from depin_orcha.net import HttpClient
from depin_orcha.store import Store
from depin_orcha.types import HOUR_S, Price

START_S = at("2026-11-02T00:00:00")
USD = 0.5
"""What a MYST is worth now."""
LOW, HIGH = 1220, 3660
"""KBytes/s; by 8192 bits each about 1 and 3 units of 10 Mbit/s."""
LONG_H = 50
"""Long enough for a setting to count as tried."""
LINE = "capacity = {uplink_bps = 4e7}"


def units(kbytes: int) -> float:
    return kbytes * 8192 / 1e7


@dataclass
class Home:
    """A node that served for some time, and its owner."""

    place: Place
    node: Tequilapi
    now_s: int = START_S

    def configure(self, node: str, host: str, prices: str) -> None:
        self.place.configure(
            f'[prices]\nurl = "{prices}"\nfallback_url = "{prices}"\n[optimize]\nlearning_days = 4\n'
            f"[hosts.local]\n{host}\n"
            f'[nodes.myst_1]\nprotocol = "mysterium"\nurl = "{self.node.url}"\napply = true\n{node}\n'
        )

    def serve(self, kbytes: int | None, hours: int, milli_myst: int, usd: float = USD) -> None:
        """Read the node every hour, in which it earns so much, give or take a bit from hour to hour."""
        if "shaper" in self.node.defaults:
            self.node.shape(kbytes)
        adapter = Adapter("myst_1", Options.model_validate({"protocol": "mysterium", "url": self.node.url}))
        with database.lock(self.place.db, 0), database.open_for_writing(self.place.db) as db, HttpClient(5) as http:
            store = Store(db)
            store.start_run("collect", self.now_s, None)
            store.add_node("myst_1", "mysterium", "local", self.now_s)
            for _ in range(hours):
                snapshot = adapter.collect(http, self.now_s, None)
                price = Price("MYST", Decimal(str(usd)), "coingecko", self.now_s)
                with store.transaction():
                    store.add_snapshot(snapshot, self.now_s, "MYST")
                    store.value_hours([("MYST", self.now_s, price)], self.now_s + HOUR_S)
                # Up to a twentieth more or less, so that days differ, but less than settings do.
                self.node.earned_wei += milli_myst * 10**15 * (95 + 7 * (self.now_s // HOUR_S) % 11) // 100
                self.now_s += HOUR_S

    def tried(self, high: int | None, milli_myst: int, *, low: int = 20, **more: float) -> None:
        """One setting, and LOW before and after it: without the return, the times might have been better."""
        self.serve(LOW, LONG_H // 2, low)
        self.serve(high, LONG_H, milli_myst, **more)
        self.serve(LOW, LONG_H, low)

    def plan(self) -> dict[str, Any]:
        """Read it as it is now, and decide."""
        for verb in ("collect", "forecast"):
            self.place.json(verb, now=self.now_s)
        return self.place.json("optimize", now=self.now_s).data

    def apply(self, *words: str) -> dict[str, Any]:
        return self.place.json("apply", *words, now=self.now_s).data

    def facts(self) -> NodeFacts:
        """What is known of it now."""
        job = Job(load(self.place.config, self.place.config.read_text()), self.place.db, self.now_s, fixed_now=True)
        with database.open_for_reading(job.database) as db:
            assert db is not None
            (one,) = gather(job, AsOf(db, job.now_s))
        return one


@pytest.fixture
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysterium, "PAUSE_S", 0.01)


@pytest.fixture
def make_home(tmp_path: Path) -> Iterator[Any]:
    with ExitStack() as stack:

        def make(*, node: str = "", host: str = LINE, userspace: bool = True, version: str = "1.38.3") -> Home:
            home = Home(Place(tmp_path), stack.enter_context(Tequilapi(userspace=userspace, version=version)))

            def quote(_: Request) -> Answer:
                body = {"mysterium": {"usd": USD, "last_updated_at": home.now_s}}
                return Answer(200, json.dumps(body).encode(), "application/json")

            home.configure(node, host, stack.enter_context(Loopback(quote)).url)
            return home

        yield make


def the_node(plan: dict[str, Any]) -> dict[str, Any]:
    (node,) = plan["hosts"][0]["nodes"]
    return node


def test_what_earned_more_is_set_proven_kept_and_lifted_again(make_home: Any) -> None:
    home = make_home()
    home.tried(HIGH, 60)
    plan = home.plan()
    node = the_node(plan)
    assert (plan["decision"], node["evidence"]) == ("apply", "measured"), plan["reason"]
    assert (node["previous_units"], node["units"]) == (units(LOW), pytest.approx(units(HIGH), rel=1e-12))
    assert node["resources"] == {"uplink_bps": pytest.approx(HIGH * 8192)}
    # 0.04 MYST an hour more, at half a dollar.
    assert plan["hosts"][0]["value"]["net_benefit_usd_per_hour"] == pytest.approx(0.02, rel=0.02)

    assert [action["state"] for action in home.apply()["actions"]] == ["planned"]
    assert home.node.writes == []
    started, seen = time.monotonic(), len(home.node.server.requests)
    done = home.apply("--yes")
    assert time.monotonic() - started >= 1, "it is told twice, with a pause"
    assert (done["changed"], [action["state"] for action in done["actions"]]) == (1, ["done"])
    assert home.node.writes == [{"shaper": {"enabled": True, "bandwidth": HIGH}}] * 2
    asked = [(one.method, one.path) for one in home.node.server.requests[seen:]]
    assert asked[-3:] == [("POST", "/config/user"), ("POST", "/config/user"), ("GET", "/config")], "then read back"
    assert home.node.in_force == HIGH
    assert home.apply("--yes")["changed"] == 0

    home.now_s += 900
    again = home.plan()
    assert (again["decision"], the_node(again)["units"]) == ("hold", units(HIGH))
    assert home.apply("--yes") | {"plan_id": None} == {
        "plan_id": None, "mode": "executed", "changed": 0, "actions": []
    }  # fmt: skip

    lifted = home.apply("--release", "--yes")
    assert (lifted["changed"], [action["state"] for action in lifted["actions"]]) == (1, ["done"])
    assert home.node.in_force == LOW
    assert home.node.config["shaper"] == {"enabled": True, "bandwidth": LOW}


@pytest.mark.parametrize("settings", [(HIGH, LOW), (LOW, HIGH), (None, LOW)])
def test_where_every_setting_earns_the_same_nothing_is_moved(make_home: Any, settings: tuple[int | None, int]) -> None:
    home = make_home()
    for kbytes in (*settings, *settings):
        home.serve(kbytes, LONG_H, 40)
    plan = home.plan()
    assert plan["decision"] == "hold"
    assert the_node(plan)["evidence"] == "none"
    assert home.apply("--yes")["changed"] == 0
    assert home.node.writes == []


def test_a_dearer_token_is_no_merit_of_a_setting(make_home: Any) -> None:
    home = make_home()
    home.tried(HIGH, 40, low=40, usd=4 * USD)
    plan = home.plan()
    assert (plan["decision"], the_node(plan)["evidence"]) == ("hold", "none"), plan["reason"]


def test_a_change_without_a_return_may_be_the_market(make_home: Any) -> None:
    home = make_home()
    home.serve(HIGH, LONG_H, 60)
    home.serve(LOW, LONG_H, 20)
    assert (home.plan()["decision"], home.facts().curve.evidence) == ("hold", "none")
    assert "none of them was tried again after another" in home.facts().curve.reason


def test_other_services_are_no_merit_of_a_setting(make_home: Any) -> None:
    home = make_home()
    home.tried(HIGH, 60)
    home.node.services["scraping"] = "NotRunning"
    home.serve(LOW, LONG_H, 20)
    plan = home.plan()
    assert (plan["decision"], the_node(plan)["evidence"]) == ("hold", "none")
    assert "not measured" in plan["reason"]


@pytest.mark.usefixtures("_short_pauses")
def test_without_a_limit_it_has_the_whole_line(make_home: Any) -> None:
    home = make_home()
    home.tried(None, 60)
    plan = home.plan()
    assert (plan["decision"], the_node(plan)["evidence"]) == ("apply", "measured"), plan["reason"]
    assert home.apply("--yes")["changed"] == 1
    assert home.node.in_force == 4e7 // 8192
    assert home.place.json("status", now=home.now_s).data["nodes"][0]["allocation"] == {"uplink_bps": LOW * 8192}


@pytest.mark.usefixtures("_short_pauses")
@pytest.mark.parametrize(
    ("before", "options", "now"),
    [
        (None, {"node": "max_units = 2"}, 2441),
        (None, {"host": f"{LINE}\nreserve = {{uplink_bps = 1e7}}"}, 3662),
        (HIGH, {"node": "max_units = 2"}, 2441),
        (HIGH, {"host": "capacity = {uplink_bps = 2.5e7}"}, 3051),
        (HIGH, {"node": "max_units = 2", "host": ""}, 2441),
        (LOW, {"node": "min_units = 2"}, 2442),
        (LOW, {"node": "min_units = 2\nmax_units = 2"}, 2441),
    ],
)
def test_what_breaks_a_limit_is_brought_inside_at_once(
    make_home: Any, before: int | None, options: dict[str, str], now: int
) -> None:
    home = make_home(**options)
    home.serve(before, 2, 0)
    plan = home.plan()
    assert plan["decision"] == "apply", plan["reason"]
    assert home.apply("--yes")["changed"] == 1
    assert home.node.in_force == now
    home.now_s += 900
    assert home.plan()["decision"] == "hold"
    assert home.apply("--yes")["changed"] == 0
    home.apply("--release", "--yes")
    assert home.node.in_force == before


@pytest.mark.parametrize("kbytes", [LOW, None])
def test_a_limit_of_each_connection_is_no_grant_of_the_line(make_home: Any, kbytes: int | None) -> None:
    home = make_home(userspace=False, node="max_units = 0.5")
    home.serve(HIGH, LONG_H, 60)
    home.serve(kbytes, LONG_H, 20)
    collected = home.place.json("collect", now=home.now_s).data["nodes"][0]
    assert (collected["usage"], collected["limits"]) == ({}, {})
    plan = home.plan()
    assert (plan["decision"], plan["hosts"][0]["nodes"]) == ("hold", [])
    (advice,) = plan["hosts"][0]["advice"]
    assert advice["node"] == "myst_1"
    assert "per-connection limit" in advice["text"]
    assert "per-connection limit" in plan["reason"]
    assert "per-connection limit" in home.place("optimize", now=home.now_s).out
    assert home.apply("--yes")["actions"] == []
    assert home.node.writes == []


def test_a_version_that_keeps_another_limit_is_not_planned(make_home: Any) -> None:
    home = make_home(version="1.29.6", node="max_units = 2")
    home.serve(HIGH, LONG_H, 60)
    home.serve(LOW, LONG_H, 20)
    plan = home.plan()
    assert plan["decision"] == "hold"
    assert "version 1.29.6 may set another limit than it is given" in plan["reason"]
    assert home.apply("--yes")["actions"] == []


def test_a_reading_that_lacks_the_shaper_is_no_change(make_home: Any) -> None:
    home = make_home()
    home.serve(LOW, 3, 20)
    shaper = home.node.defaults.pop("shaper")
    home.node.user.clear()
    home.serve(None, 1, 20)
    unread = home.facts()
    home.node.defaults["shaper"] = shaper
    home.serve(LOW, 2, 20)
    again = home.facts()
    home.serve(HIGH, 2, 20)
    assert [unread.current_units, again.current_units, home.facts().current_units] == [None, units(LOW), units(HIGH)]
    assert [again.changes_last_day, home.facts().changes_last_day] == [0, 1]
    assert [again.hours_since_change, home.facts().hours_since_change] == [None, 2]


def test_a_line_that_is_not_stated_cannot_be_shared_out(make_home: Any) -> None:
    home = make_home(host="")
    home.serve(None, 2, 20)
    plan = home.plan()
    assert plan["decision"] == "hold"
    assert "nothing limits it, and how much uplink_bps its host has is not stated" in plan["reason"]
