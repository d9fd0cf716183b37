"""A Storj node is restarted for a plan at most once a day, whoever of us restarted it, and only while it is well."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from apply_parts import storage_plan
from ledger_parts import at, opened
from storj_machine import CONFIG, StorjMachine

from depin_orcha import restarts
from depin_orcha.applying import apply
from depin_orcha.asof import AsOf
from depin_orcha.config import load
from depin_orcha.cycle import Job, Result
from depin_orcha.errors import ExitCode
from depin_orcha.heal import Breaker, Restart
from depin_orcha.store import Store
from depin_orcha.taking_back import release
from depin_orcha.types import DAY_S, HOUR_S, ActionState, Health, HealthStatus, Snapshot

NOW_S = at("2026-11-22T20:15:00")
Disk = namedtuple("Disk", "total used free")  # noqa: PYI024 - as psutil and shutil give it


@dataclass
class Home:
    """A node that is well, its owner and the database."""

    machine: StorjMachine
    store: Store
    job: Job

    def told(self, status: HealthStatus, now_s: int) -> None:
        """It was read."""
        with self.store.transaction():
            said = Snapshot("storj_1", now_s, (), Health(status, "nobody has reached the node for 300 minutes"))
            self.store.add_snapshot(said, now_s, "USD")

    def apply(self, tb: float, after_s: int = 0, *, status: HealthStatus | None = HealthStatus.UP) -> Result:
        now_s = NOW_S + after_s
        result, problem = storage_plan(tb)
        self.store.add_plan(now_s - 60, now_s + 600, result, problem)
        if status is not None:
            self.told(status, now_s - 60)
        return apply(replace(self.job, now_s=now_s), self.store, execute=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10 * 10**12, 5 * 10**12, 5 * 10**12))
    with StorjMachine(tmp_path) as machine, opened(tmp_path / "orcha.db", node="storj_1", now_s=NOW_S) as store:
        text = (
            f'[apply]\ndocker_socket = "{machine.engine.socket}"\nverify_timeout_s = 0.3\n'
            f'[nodes.storj_1]\nprotocol = "storj"\nurl = "{machine.node.url}"\napply = true\nruntime = "docker"\n'
            f'container = "storj"\ndisk = "{tmp_path}"\nconfig_path = "{machine.file}"\n'
        )
        yield Home(machine, store, Job(load(None, text), tmp_path / "orcha.db", NOW_S, fixed_now=True))


def ended(result: Result) -> list[tuple[str, int]]:
    data: Any = result.data
    return [(action["state"], action["after"]["storage_bytes"] // 10**9) for action in data["actions"]]


def detail(result: Result) -> str:
    data: Any = result.data
    return data["actions"][0]["detail"]


def test_set_once_and_not_again_within_the_day(home: Home) -> None:
    first = home.apply(7)
    assert (ended(first), first.exit_code) == ([("done", 7000)], ExitCode.OK)
    data: Any = first.data
    (action,) = data["actions"]
    assert action["path"] == str(home.machine.file)
    assert action["request"].endswith("/restart?t=300")
    assert (action["before"], action["command"]) == ({"storage_bytes": 6 * 10**12}, None)

    again = home.apply(7.5, DAY_S - 1)
    assert (ended(again), again.exit_code) == ([("skipped", 7500)], ExitCode.OK)
    assert detail(again) == "it was restarted at 2026-11-22T20:15:00Z, and is not again before 2026-11-23T20:15:00Z"
    assert home.machine.restarts == 1

    assert ended(home.apply(7.5, DAY_S)) == [("done", 7500)]
    assert (home.machine.restarts, home.machine.runs_with) == (2, 75 * 10**11)


def test_release_waits_for_the_same_day_and_puts_the_owner_s_line_back(home: Home) -> None:
    home.apply(7)
    early = release(replace(home.job, now_s=NOW_S + HOUR_S), home.store, execute=True)
    assert ended(early) == [("skipped", 6000)]
    assert home.machine.restarts == 1
    home.told(HealthStatus.UP, NOW_S + DAY_S)
    late = release(replace(home.job, now_s=NOW_S + DAY_S), home.store, execute=True)
    assert ended(late) == [("done", 6000)]
    assert (home.machine.file.read_text(), home.machine.restarts) == (CONFIG, 2)
    home.told(HealthStatus.UP, NOW_S + 3 * DAY_S)
    assert ended(release(replace(home.job, now_s=NOW_S + 3 * DAY_S), home.store, execute=True)) == []


def test_a_restart_by_heal_counts(home: Home) -> None:
    made = Restart("storj_1", "local", "storj_1", NOW_S - HOUR_S)
    restarts.begin(home.store, made, "docker", "it fell", "mark", Breaker())
    restarts.finish(
        home.store, restarts.latest(AsOf(home.store.connection, NOW_S))["storj_1"], ActionState.DONE, "", NOW_S - HOUR_S
    )
    assert ended(home.apply(7)) == [("skipped", 7000)]
    assert home.machine.restarts == 0
    assert ended(home.apply(7, DAY_S - HOUR_S)) == [("done", 7000)]


@pytest.mark.parametrize("status", [HealthStatus.DEGRADED, HealthStatus.DOWN, HealthStatus.UNKNOWN, None])
def test_a_node_that_is_not_well_is_not_restarted(home: Home, status: HealthStatus | None) -> None:
    held = home.apply(7, status=status)
    assert ended(held) == [("skipped", 7000)]
    assert "only done while it is well" in detail(held)
    assert (home.machine.restarts, home.machine.file.read_text()) == (0, CONFIG)


def test_a_value_that_the_node_does_not_take_is_put_back_and_told(home: Home) -> None:
    home.machine.fate = lambda said: min(said, 65 * 10**11)
    result = home.apply(7)
    assert (ended(result), result.exit_code) == ([("undone", 7000)], ExitCode.PARTIAL)
    assert (home.machine.file.read_text(), home.machine.restarts) == (CONFIG, 2)
    assert ended(home.apply(7, HOUR_S)) == [("skipped", 7000)], "not tried again and again"
    assert home.machine.restarts == 2


def test_where_the_environment_counts_the_owner_is_told_the_command(home: Home) -> None:
    home.machine.environment = ["STORAGE=6.0TB"]
    result = home.apply(7)
    assert (ended(result), result.exit_code) == ([], ExitCode.OK)
    assert "-e STORAGE=7.00TB" in result.warnings[0]


def test_without_consent_there_is_the_command(home: Home) -> None:
    node = home.job.config.nodes["storj_1"]
    job = replace(
        home.job, config=replace(home.job.config, nodes={"storj_1": node.model_copy(update={"apply": False})})
    )
    result, problem = storage_plan(7)
    home.store.add_plan(NOW_S - 60, NOW_S + 600, result, problem)
    told: Any = apply(job, home.store, execute=True).data
    (action,) = told["actions"]
    assert action["state"] == "advice"
    assert action["command"].startswith("sed -i ")
    assert action["command"].endswith(" restart -t 300 storj")
    assert home.machine.file.read_text() == CONFIG
