"""What a change has brought: before against after, with an interval, and honest where that holds 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at, opened

from depin_orcha.asof import AsOf
from depin_orcha.realised import realised
from depin_orcha.types import DAY_S, HOUR_S

CHANGED_S = at("2026-10-20T00:00:00")
PLAN = (
    "INSERT INTO plans (id, run_id, made_s, expires_s, status, decision, reason, inputs_sha256, problem_json, "
    "result_json) VALUES (?, 1, ?, ?, 'optimal', 'apply', '', '', '{}', '{}')"
)
ACTION = (
    "INSERT INTO actions (run_id, plan_id, seq, node, kind, action_json, state, started_s, finished_s) "
    "VALUES (1, ?, 0, 'node_1', 'limit', '{}', ?, ?, ?)"
)


def after_change(
    path: Path, before: list[float], after: list[float], *, again_s: int | None = None
) -> list[dict[str, Any]]:
    """A node that earned so much a day before and after a change that was carried out."""
    days = [*before, *after]
    first_s, now_s = CHANGED_S - len(before) * DAY_S, CHANGED_S + len(after) * DAY_S
    with opened(path / "orcha.db", now_s=first_s) as store, store.transaction() as run:
        for index, usd in enumerate(days):
            for hour in range(24):
                hour_s = first_s + index * DAY_S + hour * HOUR_S
                row = ("node_1", hour_s, "USD", hour_s + HOUR_S, f"{usd / 24:.12f}", "measured")
                run.execute("INSERT INTO accruals VALUES (?, ?, ?, ?, ?, ?, 1)", row)
        for name, at_s in (("p1", CHANGED_S), ("p2", again_s)):
            if at_s is not None:
                run.execute(PLAN, (name, at_s, at_s))
                run.execute(ACTION, (name, "done", at_s, at_s))
                run.execute(ACTION, (name, "failed", at_s + DAY_S, at_s + DAY_S))
        return realised(AsOf(store.connection, now_s), frozenset())


def test_a_clear_gain_is_told_with_its_interval(tmp_path: Path) -> None:
    (row,) = after_change(tmp_path, [1.0, 1.1, 0.9, 1.0] * 3, [2.0, 2.1, 1.9, 2.0] * 3)
    gain = row["gain_usd_per_day"]
    assert (row["node"], row["plan_id"], row["changed_at"]) == ("node_1", "p1", "2026-10-20T00:00:00Z")
    assert (row["days_before"], row["days_after"]) == (12, 12)
    assert gain["mean"] == pytest.approx(1.0)
    assert 0.9 < gain["lo80"] < 1 < gain["hi80"] < 1.1
    assert row["text"].startswith("+1.00 USD a day (+0.")
    assert "zero" not in row["text"]


def test_what_may_be_nothing_is_told_as_such_and_how_long_it_takes(tmp_path: Path) -> None:
    """+0.10 a day against a spread of 0.80 takes hundreds of days, and as many before."""
    spread = [0.2, 1.8, 1.0, 1.8, 0.2, 1.0]
    (row,) = after_change(tmp_path, spread * 2, [one + 0.1 for one in spread] * 2)
    gain = row["gain_usd_per_day"]
    assert gain["lo80"] < 0 < gain["mean"] < gain["hi80"]
    assert row["text"].endswith("not distinguishable from zero yet, and too few days before it to ever tell")


def test_days_to_wait_are_those_after_which_it_could_be_told(tmp_path: Path) -> None:
    spread = [0.9, 1.1, 1.0, 1.1, 0.9, 1.0]
    (row,) = after_change(tmp_path, spread * 10, [one + 0.06 for one in spread[:3]] * 2)
    days = int(row["text"].split("not distinguishable from zero yet; about ")[1].split()[0])
    assert 1 <= days < 60
    later = tmp_path / "later"
    later.mkdir()
    (row,) = after_change(later, spread * 10, [one + 0.06 for one in spread[:3]] * (2 + days))
    assert "zero" not in row["text"]


def test_one_day_tells_nothing(tmp_path: Path) -> None:
    (row,) = after_change(tmp_path, [1.0] * 5, [2.0])
    assert (row["gain_usd_per_day"], row["text"]) == (None, "too few days before or after it to tell")


def test_the_days_of_another_change_belong_to_that(tmp_path: Path) -> None:
    rows = after_change(tmp_path, [1.0, 1.2] * 4, [2.0, 2.2] * 2 + [5.0, 5.2] * 2, again_s=CHANGED_S + 4 * DAY_S)
    assert [(row["plan_id"], row["days_before"], row["days_after"]) for row in rows] == [("p2", 4, 4), ("p1", 8, 4)]
    assert [round(row["gain_usd_per_day"]["mean"]) for row in rows] == [3, 1]
