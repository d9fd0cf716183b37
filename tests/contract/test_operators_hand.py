"""Whose hand set a limit: ours is taken back on demand, a person's is left alone until it is reclaimed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from apply_parts import uplink_plan
from ledger_parts import at, opened
from tequilapi import Tequilapi

from depin_orcha.applying import apply
from depin_orcha.config import load
from depin_orcha.cycle import Job, Result
from depin_orcha.errors import DataError, UsageError
from depin_orcha.store import Store
from depin_orcha.taking_back import reclaim, release, rollback

NOW_S = at("2026-11-22T20:15:00")
THEIRS = 3000
"""KBytes/s."""


@dataclass
class Home:
    """A node that is shaped as a whole, its owner and the database."""

    node: Tequilapi
    store: Store
    job: Job

    def plan(self, units: float) -> str:
        result, problem = uplink_plan(units)
        return self.store.add_plan(NOW_S - 60, NOW_S + 600, result, problem)

    def apply(self, *, execute: bool = True) -> Result:
        return apply(self.job, self.store, execute=execute)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with Tequilapi(userspace=True) as node, opened(tmp_path / "orcha.db", node="myst_1", now_s=NOW_S) as store:
        text = f'[nodes.myst_1]\nprotocol = "mysterium"\nurl = "{node.url}"\napply = true\n'
        yield Home(node, store, Job(load(None, text), tmp_path / "orcha.db", NOW_S, fixed_now=True))


def ended(result: Result) -> list[tuple[str, Any]]:
    data: Any = result.data
    return [(action["state"], action["after"].get("kbytes_per_s")) for action in data["actions"]]


def test_a_person_s_limit_is_told_once_and_kept_until_it_is_reclaimed(home: Home) -> None:
    home.plan(2)
    assert ended(home.apply()) == [("done", home.node.in_force)]
    ours = home.node.in_force
    home.node.shape(THEIRS)

    first, second = home.apply(), home.apply()
    assert [state for state, _ in ended(first) + ended(second)] == ["skipped", "skipped"]
    assert [len(result.warnings) for result in (first, second)] == [1, 0], "told once"
    assert f"changed by hand: kbytes_per_s is {THEIRS}, and we had set {ours}" in first.warnings[0]
    assert "apply --reclaim myst_1" in first.warnings[0]
    assert (first.exit_code, home.node.in_force) == (0, THEIRS)

    assert ended(reclaim(home.job, home.store, "myst_1", execute=False)) == [("planned", ours)]
    assert home.node.in_force == THEIRS
    assert ended(reclaim(home.job, home.store, "myst_1", execute=True)) == [("done", ours)]
    assert home.node.in_force == ours
    assert ended(home.apply()) == []


def test_nothing_that_a_person_changed_is_lifted(home: Home) -> None:
    home.plan(2)
    home.apply()
    home.node.shape(THEIRS)
    assert [state for state, _ in ended(release(home.job, home.store, execute=True))] == ["skipped"]
    assert home.node.in_force == THEIRS


def test_plans_are_rolled_back_one_by_one(home: Home) -> None:
    first = home.plan(2)
    home.apply()
    ours = home.node.in_force
    second = home.plan(1)
    home.apply()
    assert home.node.in_force not in (ours, None)

    shown = rollback(home.job, home.store, None, execute=False)
    assert (shown.data["plan_id"], ended(shown)) == (second, [("planned", ours)])
    assert ended(rollback(home.job, home.store, None, execute=True)) == [("done", ours)]
    assert home.node.in_force == ours
    assert ended(rollback(home.job, home.store, second, execute=True)) == [], "it is back already"
    assert [state for state, _ in ended(rollback(home.job, home.store, first, execute=True))] == ["done"]
    assert home.node.in_force is None
    with pytest.raises(DataError, match="of plan nowhere nothing was carried out"):
        rollback(home.job, home.store, "nowhere", execute=True)


def test_without_an_act_there_is_nothing_to_take_back(home: Home) -> None:
    with pytest.raises(DataError, match="no plan was carried out"):
        rollback(home.job, home.store, None, execute=True)
    assert ended(release(home.job, home.store, execute=True)) == []
    assert ended(reclaim(home.job, home.store, "myst_1", execute=True)) == []
    with pytest.raises(UsageError, match="no node other_1"):
        reclaim(home.job, home.store, "other_1", execute=True)
    assert home.node.writes == []
