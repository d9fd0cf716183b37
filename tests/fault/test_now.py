"""What was known at an instant is what is shown of it for ever; and clocks, months and disks that misbehave."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from ledger_parts import at
from loopback import Answer
from operator_parts import START_S, Place, integrity, noted_glm, operating, stored_usd, switchboard

from depin_orcha.demo import SimulatedOperator
from depin_orcha.demo.times import MICROS
from depin_orcha.demo.world import World
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import HOUR_S

STEPS = 40
"""Readings, two hours apart, from two days before the end of a month on."""
END_S = START_S + STEPS * 2 * HOUR_S
DARK = range(START_S + 9 * HOUR_S, START_S + 16 * HOUR_S)
"""No price source answers, nor the past be asked."""
COMMANDS = (
    ("status",),
    ("history", "--by", "hour"),
    ("history", "--by", "month", "--group", "currency"),
    ("forecast",),
    ("optimize",),
    ("status", "--node", "golem_rack"),
)

ROW_LEARNED = ("learned_s", "made_s", "started_s", "paused_s", "first_seen_s")
"""When a row came to be known, by the name of its column."""
LATER_FACTS = {"finished_s": ("finished_s", "exit_code"), "voided_s": ("voided_s",), "resumed_s": ("resumed_s",)}
"""What was added to a row at a later instant, and the columns that go with it."""
TIMELESS = {"meta", "backoffs"}
"""Not facts about the world: whether it is a simulation, and whom not to ask before when."""
CACHES = {"learned", "usual"}
"""What can be worked out again, at the cost of time."""
PLANS = {"allocations", "shadow_prices"}
"""Parts of a plan, which tells when it was made."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A database with everything in it: voided samples, pauses, imports, late prices, failures, plans."""
    place = Place(tmp_path_factory.mktemp("full"))
    with operating(place) as operator, switchboard(operator, place) as prices:
        answering = prices.respond
        for now_s in sorted({*range(START_S, END_S + 1, 2 * HOUR_S), *_before_cancellations()}):
            operator.advance(now_s)
            prices.respond = (lambda _: Answer(503)) if now_s in DARK else answering
            place("run" if now_s % (6 * HOUR_S) == 0 else "collect", now=now_s, exits=None)
            if now_s == START_S + 20 * HOUR_S:
                (place.folder / "golem_attic.key").rename(place.folder / "lost.key")
            if now_s == START_S + 26 * HOUR_S:
                (place.folder / "lost.key").rename(place.folder / "golem_attic.key")
        _owner_acts(place)
    return place


def _before_cancellations() -> set[int]:
    """Instants at which work is noted that will be taken back a moment later."""
    future = World(START_S)
    future.advance(END_S)
    agreements = [one for provider in future.providers.values() for one in provider.agreements]
    return {
        one.ended_us // MICROS + 2
        for one in agreements
        if one.cancelled_us is not None and one.cancelled_us < END_S * MICROS
    }


def _owner_acts(place: Place) -> None:
    file = place.folder / "earlier.csv"
    head = "node,start,end,currency,amount,protocol,usd_per_unit\n"
    file.write_text(head + "old,2026-10-01T00:00:00Z,2026-10-03T00:00:00Z,GLM,7.5,golem,0.2\n")
    place("import", str(file), now=START_S + 10 * HOUR_S)
    file.write_text(head + "old,2026-10-03T00:00:00Z,2026-10-04T12:00:00Z,GLM,3,golem,\n")
    place("import", str(file), now=START_S + 50 * HOUR_S)
    place("pause", "--node", "golem_rack", now=START_S + 12 * HOUR_S)
    place("pause", "--for", "10h", now=START_S + 30 * HOUR_S)
    place("resume", "--node", "golem_rack", now=START_S + 40 * HOUR_S)


def forget(path: Path, after_s: int) -> None:
    """Delete everything that was learned later; what the schema offers is enough to tell."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            learned = [column for column in ROW_LEARNED if column in columns]
            assert learned or table in TIMELESS | CACHES | PLANS or table.startswith(("sqlite_", "_sqlite")), table
            for column in learned:
                connection.execute(f"DELETE FROM {table} WHERE {column} > ?", (after_s,))
            for column, cleared in LATER_FACTS.items():
                if column in columns:
                    empty = ", ".join(f"{name} = NULL" for name in cleared if name in columns)
                    connection.execute(f"UPDATE {table} SET {empty} WHERE {column} > ?", (after_s,))
        for table in CACHES:
            connection.execute(f"DELETE FROM {table}")
        for table in PLANS:
            connection.execute(f"DELETE FROM {table} WHERE plan_id NOT IN (SELECT id FROM plans)")


def answers(place: Place, folder: Path, now_s: int, after_s: int | None) -> dict[tuple[str, ...], str]:
    """What the commands print of an instant, on a copy of the database of its own."""
    folder.mkdir()
    copy = Place(place.folder)
    copy.db = folder / "orcha.db"
    with closing(sqlite3.connect(place.db)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy.db),))
    if after_s is not None:
        forget(copy.db, after_s)
    return {command: copy.json(*command, now=now_s).out for command in COMMANDS}


def test_database_of_this_test_holds_what_can_be_learned_late(full: Place) -> None:
    for what, least in {
        "SELECT count(*) FROM earnings_samples WHERE voided_s IS NOT NULL": 1,
        "SELECT count(*) FROM earnings_samples WHERE learned_s > observed_s + 3600": 10,
        "SELECT count(*) FROM hour_values WHERE learned_s > hour_s + 4 * 3600": 3,
        "SELECT count(*) FROM accruals WHERE quality = 'imported'": 80,
        "SELECT count(*) FROM accruals WHERE amount LIKE '-%'": 1,
        "SELECT count(*) FROM health_samples WHERE failure_kind IS NOT NULL": 3,
        "SELECT count(*) FROM pauses WHERE resumed_s IS NOT NULL": 1,
        "SELECT count(*) FROM plans": 10,
        "SELECT count(*) FROM forecasts": 40,
    }.items():
        assert full.query(what)[0][0] >= least, what
    assert integrity(full.db) == "ok"


@pytest.mark.parametrize(
    "after_h", [-1, 0, 5, 10, 12.5, 14, 15.99, 16, 24, 30, 40, 47.5, 50, 60, 71.3, 80],
)  # fmt: skip
def test_instant_looks_the_same_before_and_after_the_rest_was_learned(
    full: Place, tmp_path: Path, after_h: float
) -> None:
    now_s = START_S + int(after_h * HOUR_S)
    assert answers(full, tmp_path / "all", now_s, None) == answers(full, tmp_path / "then", now_s, now_s)


def test_what_is_learned_does_change_the_answers(full: Place, tmp_path: Path) -> None:
    """The comparison above would notice: at the end, a forgetful database says something else."""
    everything = answers(full, tmp_path / "all", END_S, None)
    forgetful = answers(full, tmp_path / "then", END_S, END_S - 3 * HOUR_S)
    assert [command for command in COMMANDS if everything[command] == forgetful[command]] == []


# Clocks


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def total(place: Place, node: str, now_s: int) -> Decimal:
    rows = place.json("history", "--by", "month", "--node", node, now=now_s).data["rows"]
    return sum((Decimal(row["amount"]) for row in rows), Decimal(0))


def all_is_the_worlds(place: Place, operator: SimulatedOperator, start_s: int, now_s: int) -> None:
    """Every node has earned, at the last, what the simulated world says."""
    for machine in ("attic", "rack"):
        assert total(place, f"storj_{machine}", now_s) == stored_usd(operator, machine, start_s, operator.world.now_s)
        assert total(place, f"golem_{machine}", now_s) == noted_glm(operator, machine)


def test_clock_that_goes_back_loses_and_doubles_nothing(place: Place) -> None:
    """Ours goes back by 90 minutes, then catches up; the nodes' clocks go on."""
    with operating(place) as operator:
        for true_h, ours_h in ((0, 0), (2, 2), (4, 4), (4.5, 3), (5, 3.5), (5.5, 4), (6, 4.5), (8, 8)):
            operator.advance(START_S + int(true_h * HOUR_S))
            now_s = START_S + int(ours_h * HOUR_S)
            place.json("run", now=now_s)
            for verb in ("status", "history"):
                place.json(verb, now=now_s)
        all_is_the_worlds(place, operator, START_S, START_S + 8 * HOUR_S)
    assert integrity(place.db) == "ok"


def test_first_reading_was_dated_too_late(place: Place) -> None:
    """A machine that boots with a wrong clock: the first reading lies in the future of all that follow."""
    with operating(place) as operator:
        operator.advance(START_S + 4 * HOUR_S)
        place("collect", now=START_S + 9 * HOUR_S, exits=3)
        for hour in (4, 5, 6):
            operator.advance(START_S + hour * HOUR_S)
            for verb in ("run", "status", "history"):
                place.json(verb, now=START_S + hour * HOUR_S)
        operator.advance(START_S + 10 * HOUR_S)
        place("collect", now=START_S + 10 * HOUR_S)
        all_is_the_worlds(place, operator, START_S + 4 * HOUR_S, START_S + 10 * HOUR_S)
    assert integrity(place.db) == "ok"


@pytest.mark.parametrize("month_end", ["2026-10-31T20:00:00", "2026-12-31T20:00:00", "2028-02-28T20:00:00"])
def test_month_rolls_over(place: Place, month_end: str) -> None:
    start_s = at(month_end)
    with operating(place, start_s) as operator:
        for hour in range(0, 37, 3):
            operator.advance(start_s + hour * HOUR_S)
            place.json("collect", now=start_s + hour * HOUR_S)
        now_s = start_s + 36 * HOUR_S
        all_is_the_worlds(place, operator, start_s, now_s)
        rows = place.json("history", "--by", "month", "--node", "storj_attic", now=now_s).data["rows"]
        assert [row["month"] for row in rows] == sorted({rfc3339(start_s)[:7], rfc3339(now_s)[:7]})
        first_s = at(f"{rfc3339(now_s)[:7]}-01T00:00:00")
        if len(rows) == 2:
            assert Decimal(rows[0]["amount"]) == stored_usd(operator, "attic", start_s, first_s)
            assert Decimal(rows[1]["amount"]) == stored_usd(operator, "attic", first_s, now_s)


@pytest.mark.parametrize(("start", "hours"), [("2026-10-24T22:00:00", 25), ("2026-03-28T23:00:00", 23)])
def test_days_on_which_local_time_changes(place: Place, start: str, hours: int) -> None:
    """A local day of 25 and one of 23 hours: the ledger counts in UTC, the tariff in local hours."""
    start_s = at(start)
    with operating(place, start_s) as operator:
        tariff = '[{from = "02:00", price = 0.2}, {from = "03:00", price = 0.4}]'
        text = place.config.read_text().replace('timezone = "UTC"', 'timezone = "Europe/Berlin"')
        place.config.write_text(text.replace("electricity_per_kwh = 0.25", f"electricity_per_kwh = {tariff}"))
        for hour in range(hours + 1):
            now_s = start_s + hour * HOUR_S
            operator.advance(now_s)
            place("run" if hour % 6 == 0 else "collect", now=now_s, TZ="Europe/Berlin")
        rows = place.json("history", "--by", "hour", "--node", "storj_rack", now=now_s).data["rows"]
        assert [row["hour_start"] for row in rows] == [rfc3339(start_s + i * HOUR_S) for i in range(hours)]
        all_is_the_worlds(place, operator, start_s, now_s)
        days = place("history", "--by", "day", "--json", now=now_s, TZ="Europe/Berlin").out
        assert days == place("history", "--by", "day", "--json", now=now_s, TZ="UTC").out


def test_running_hour_is_not_valued_before_it_is_over(place: Place) -> None:
    with operating(place) as operator:
        for minutes in (0, 45, 90, 119, 120):
            now_s = START_S + minutes * 60
            operator.advance(now_s)
            place("collect", now=now_s)
            valued = [row[0] for row in place.query("SELECT DISTINCT hour_s FROM hour_values")]
            assert max(valued, default=START_S - HOUR_S) <= now_s - HOUR_S
        assert operator.world.now_s * MICROS > 0


# Disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 kB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system needs root and mount")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_full_disk_stops_a_reading_in_one_sentence_and_loses_nothing(place: Place, small_disk: Path) -> None:
    with operating(place) as operator:
        place.db = small_disk / "orcha.db"
        full: list[int] = []
        for hour in range(60):
            now_s = START_S + hour * HOUR_S
            operator.advance(now_s)
            done = place("collect", "--json", now=now_s, exits=None)
            if done.code:
                assert (done.code, done.failures[0]["kind"]) == (1, "internal")
                assert "free some space" in done.err
                assert len(done.err.splitlines()) == 2
                full.append(hour)
            if len(full) == 3:
                break
        assert len(full) == 3
        assert integrity(place.db) == "ok"
        place.json("status", now=now_s)
        subprocess.run(["mount", "-o", "remount,size=20M", str(small_disk)], check=True)
        now_s += HOUR_S
        operator.advance(now_s)
        place.json("run", now=now_s)
        all_is_the_worlds(place, operator, START_S, now_s)
    assert integrity(place.db) == "ok"
