"""Plans that are not, or not any more, what can be carried out: what is refused, and in which words."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apply_home import CAPACITY, NOW_S, Home, at_home, plan_of, states

from depin_orcha.errors import DataError
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import Health, HealthStatus, Limits, Resource, Snapshot

SOUND = {"myst_1": {"uplink_bps": 2e7}, "myst_2": {"uplink_bps": 1e7}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    with at_home(tmp_path, monkeypatch) as one:
        yield one


def store(home: Home, result: Any, problem: Any, *, made_s: int = NOW_S - 60, expires_s: int = NOW_S + 600) -> None:
    row = ("plan_1", home.store.run_id, made_s, expires_s, "optimal", "apply", "", "0" * 64)
    values = (*row, json.dumps(problem), json.dumps(result), "{}")
    home.store.connection.execute("INSERT INTO plans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)


def refused(home: Home) -> str:
    """Why nothing at all is done."""
    with pytest.raises(DataError) as error:
        home.apply()
    assert error.value.hint == "make a new one with: depin-orcha optimize"
    assert (home.writes, home.rows()) == ([], [])
    return error.value.message


@pytest.mark.parametrize("amount", [math.nan, math.inf, -1e9, "4", True, 10**400])
def test_an_amount_that_is_none(home: Home, amount: Any) -> None:
    """The sum with a negative one, or with what is no number, would fit any host."""
    result, problem = plan_of(SOUND)
    result["hosts"][0]["nodes"][1]["resources"]["uplink_bps"] = amount
    store(home, result, problem)
    assert refused(home).startswith("plan plan_1 is damaged: hosts.0.nodes.1.resources.uplink_bps: Input should be")


def test_a_node_or_a_host_that_stands_in_it_twice_or_not_at_all(home: Home) -> None:
    result, problem = plan_of(SOUND)
    result["hosts"][0]["nodes"].append(result["hosts"][0]["nodes"][0])
    store(home, result, problem)
    assert refused(home) == "plan plan_1 is damaged: node 'myst_1' stands in it 2 times"
    home.store.connection.execute("DELETE FROM plans")
    result, problem = plan_of(SOUND)
    store(home, result, problem | {"hosts": []})
    assert refused(home) == "plan plan_1 is damaged: host 'local' is not in the problem that it solves"


def test_what_is_no_json(home: Home) -> None:
    store(home, *plan_of(SOUND))
    home.store.connection.execute("UPDATE plans SET result_json = substr(result_json, 1, 300)")
    assert refused(home).startswith("plan plan_1 is damaged: it is not JSON (")


def test_a_plan_lives_no_longer_than_the_owner_allows_now(home: Home) -> None:
    store(home, *plan_of(SOUND), made_s=NOW_S - 1801, expires_s=NOW_S + 10**9)
    assert refused(home) == "plan plan_1 expired at 2026-11-22T20:14:59Z"
    home.settings = home.settings.replace("[apply]", "[apply]\nmax_plan_age_s = 1801")
    assert home.apply().exit_code == 0


@pytest.mark.parametrize(
    ("capacity", "now", "told"),
    [
        (CAPACITY, CAPACITY | {"uplink_bps": 2.5e7}, "add up to 3e+07 uplink_bps, there are 2.5e+07"),
        ({"cpu_cores": 4.0}, CAPACITY, "add up to 3e+07 uplink_bps, there are 0"),
    ],
    ids=["it has less by now", "it was never told to have any"],
)
def test_more_than_the_host_has(home: Home, capacity: dict[str, float], now: dict[str, float], told: str) -> None:
    store(home, *plan_of(SOUND, capacity=capacity))
    home.store.add_host("local", NOW_S - 30, now, {})
    done = home.apply()
    assert (done.exit_code, home.writes) == (3, [])
    assert [failure.message for failure in done.failures] == [f"the grants of myst_1, myst_2 {told}"]


def test_less_than_a_node_needs_is_refused_for_it_alone(home: Home) -> None:
    store(home, *plan_of(SOUND))
    limits = {Resource.UPLINK_BPS: Limits(1.5e7, None, 8192.0)}
    with home.store.transaction():
        home.store.add_node("myst_2", "mysterium", "local", NOW_S - 60)
        told = Snapshot("myst_2", NOW_S - 60, (), Health(HealthStatus.UP, ""), limits=limits)
        home.store.add_snapshot(told, NOW_S - 60, "MYST")
    done = home.apply()
    assert (done.exit_code, states(done)) == (3, [("myst_1", "done")])
    assert [one.message for one in done.failures] == ["myst_2 is not given 1e+07 uplink_bps: it needs at least 1.5e+07"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('container = "golem"', 'container = "other"', "with container golem, and it is other now"),
        ('runtime = "docker"\n', "", "with runtime docker, and it is none now"),
        ('container = "golem"', 'container = "golem"\nhost = "rack"', "with host local, and it is rack now"),
        ("127.0.0.1:9", "127.0.0.1:10", "with url 127.0.0.1:9, and it is 127.0.0.1:10 now"),
    ],
)
def test_a_node_that_is_configured_as_another_by_now(home: Home, old: str, new: str, told: str) -> None:
    home.plan(SOUND | {"storj_1": {"cpu_cores": 2}})
    home.text["storj_1"] = home.text["storj_1"].replace(old, new)
    for execute in (False, True):
        done = home.apply(execute=execute)
        assert [failure.message for failure in done.failures] == [f"the plan was made for storj_1 {told}"]
        assert done.failures[0].hint == "make a new plan: depin-orcha optimize"
    assert (done.exit_code, home.engine.server.writes) == (3, [])
    assert states(done) == [("myst_1", "done"), ("myst_2", "done")]


def test_what_does_not_make_it_another_node(home: Home) -> None:
    home.text["storj_1"] = home.text["storj_1"].replace("apply = true", "apply = false")
    home.plan({"storj_1": {"cpu_cores": 2}})
    home.text["storj_1"] = home.text["storj_1"].replace("apply = false", "apply = true") + "deadline_s = 5\n"
    assert states(home.apply()) == [("storj_1", "done")]


def test_a_container_that_was_made_after_the_plan(home: Home) -> None:
    home.now_s, home.fixed_now = int(time.time()), False
    home.plan(SOUND | {"storj_1": {"cpu_cores": 2}})
    home.engine.made_s = home.now_s - 30
    done = home.apply()
    (failure,) = done.failures
    made = rfc3339(home.engine.made_s)
    assert failure.message == f"storj_1 is another since the plan was made: container golem is of {made}"
    assert (done.exit_code, home.engine.server.writes) == (3, [])
    assert states(done) == [("myst_1", "done"), ("myst_2", "done")]

    home.engine.made_s = home.now_s - 61
    assert states(home.apply()) == [("storj_1", "done")]


def test_a_container_that_is_made_anew_once_the_plan_was_set_on_it(home: Home) -> None:
    home.now_s, home.fixed_now = int(time.time()), False
    home.engine.made_s = home.now_s - 100
    home.plan({"storj_1": {"cpu_cores": 2}})
    assert states(home.apply()) == [("storj_1", "done")]
    home.engine.make("f" * 64, home.now_s)
    assert states(home.apply()) == [("storj_1", "done")]
    assert home.engine.cores == 2
