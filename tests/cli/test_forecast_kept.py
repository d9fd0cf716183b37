"""What a forecast reuses from one run to the next, and that it changes nothing but the time it takes."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import simulated
from ledger_parts import at
from operator_parts import Place

from depin_orcha import expected, learned
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, HOUR_S

START_S = at("2026-10-01T00:00:00")
HOURS = 30 * 24
NOW_S = START_S + HOURS * HOUR_S + 60
NODES = 6
SCIENCE = ("numpy", "scipy", "pandas", "sklearn", "statsmodels")
MAIN = f"""
import sys
from depin_orcha.cli import main
try:
    main()
finally:
    print("loaded", *sorted(set({SCIENCE!r}) & set(sys.modules)), file=sys.stderr)
"""


def bring(place: Place, first: int, last: int, now_s: int, *, nodes: int = NODES, factor: float = 1.0) -> None:
    """What each node earned from hour ``first`` to ``last`` becomes known."""
    lines = ["node,start,end,currency,amount,protocol"]
    for node in range(nodes):
        y = simulated.bandwidth(node, HOURS + 48) * factor
        for hour in range(first, last):
            span = f"{rfc3339(START_S + hour * HOUR_S)},{rfc3339(START_S + (hour + 1) * HOUR_S)}"
            lines.append(f"n{node},{span},USD,{y[hour]:.9f},exec")
    file = place.folder / "earned.csv"
    file.write_text("\n".join(lines) + "\n")
    place.config.touch()
    place("import", str(file), now=now_s)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A month of six nodes, forecast once."""
    place = Place(tmp_path_factory.mktemp("month"))
    bring(place, 0, HOURS, NOW_S)
    place.json("forecast", now=NOW_S)
    return place


@pytest.fixture
def place(month: Place, tmp_path: Path) -> Place:
    """A copy of it."""
    copy = Place(tmp_path)
    shutil.copy(month.db, copy.db)
    copy.config.touch()
    return copy


def forecasts(place: Place, now_s: int, *words: str) -> list[dict[str, Any]]:
    return place.json("forecast", *words, now=now_s).data["forecasts"]


def ends(place: Place) -> dict[str, int]:
    """Node -> hours until which it was learned."""
    return {node: (end_s - START_S) // HOUR_S for node, end_s in place.query("SELECT node, end_s FROM learned")}


def change(place: Place, statement: str) -> None:
    with closing(sqlite3.connect(place.db)) as connection, connection:
        connection.execute(statement)


def loads(place: Place, *words: str, now_s: int) -> list[str]:
    """Libraries for numbers that a run loads."""
    argv = [sys.executable, "-c", MAIN, *words, "--now", rfc3339(now_s)]
    argv += ["--config", str(place.config), "--db", str(place.db), "-q"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1].split()[1:]


def test_the_forecast_of_an_hour_is_made_once(place: Place) -> None:
    first = forecasts(place, NOW_S)
    assert len(first) == NODES
    assert forecasts(place, NOW_S + 45 * 60) == first
    assert place.query("SELECT count(*) FROM forecasts") == [(NODES,)]


def test_a_run_without_a_new_hour_computes_nothing(place: Place) -> None:
    assert loads(place, "forecast", now_s=NOW_S + 900) == []
    bring(place, HOURS, HOURS + 1, NOW_S + HOUR_S)
    assert loads(place, "forecast", now_s=NOW_S + HOUR_S) == ["numpy"]


def test_what_is_learned_late_makes_a_new_forecast_at_once(place: Place) -> None:
    before = forecasts(place, NOW_S)
    change(place, "UPDATE accruals SET amount = '9', learned_s = learned_s + 600 WHERE node = 'n0' AND hour_s = "
           f"{START_S + (HOURS - 1) * HOUR_S}")  # fmt: skip
    assert forecasts(place, NOW_S + 500) == before
    after = forecasts(place, NOW_S + 900)
    assert after[0]["hours"] != before[0]["hours"]
    assert after[1:] == before[1:]
    assert place.query("SELECT count(*) FROM forecasts WHERE node = 'n0'") == [(2,)]
    status = place.json("status", now=NOW_S + 1000).data["nodes"]
    (usd,) = [one["usd_per_hour_forecast"] for one in status if one["node"] == "n0"]
    assert usd == pytest.approx(after[0]["total"]["mean"] / 24)


def test_another_horizon_does_not_replace_what_was_published(place: Place) -> None:
    first = forecasts(place, NOW_S)
    assert len(forecasts(place, NOW_S + 60, "--horizon", "48")[0]["hours"]) == 48
    assert forecasts(place, NOW_S + 120) == first


def test_a_new_hour_rolls_forward_what_was_learned_until_its_turn_comes(place: Place) -> None:
    begin = ends(place)
    assert set(begin.values()) <= set(range(HOURS - 5, HOURS + 1))
    assert len(set(begin.values())) > 1
    learned_anew = dict.fromkeys(begin, 0)
    for hour in range(1, 7):
        now_s = NOW_S + hour * HOUR_S
        bring(place, HOURS + hour - 1, HOURS + hour, now_s)
        before = ends(place)
        forecasts(place, now_s)
        for node, end in ends(place).items():
            learned_anew[node] += end != before[node]
    assert learned_anew == dict.fromkeys(begin, 1)
    assert ends(place) == {node: end + 6 for node, end in begin.items()}


CORRUPTIONS = (
    "DELETE FROM learned",
    "UPDATE learned SET state_json = '{}'",
    "UPDATE learned SET state_json = 'no JSON at all'",
    "UPDATE learned SET state_json = replace(state_json, '0.1', '0.9')",
    "UPDATE learned SET state_json = substr(state_json, 1, 900)",
    "UPDATE learned SET inputs = 'of something else'",
    "UPDATE learned SET state_sha256 = ''",
)


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_lost_or_corrupt_one_costs_only_time(place: Place, tmp_path: Path, corruption: str) -> None:
    bring(place, HOURS, HOURS + 3, NOW_S + 3 * HOUR_S)
    lost = Place(tmp_path / "lost")
    lost.folder.mkdir()
    lost.config.touch()
    shutil.copy(place.db, lost.db)
    change(lost, corruption)
    now_s = NOW_S + 3 * HOUR_S
    kept, anew = (one("forecast", "--json", now=now_s).out for one in (place, lost))
    assert kept == anew
    assert ends(place) == ends(lost)


def test_what_was_learned_from_is_checked(place: Place) -> None:
    """An hour long ago that is corrected: everything is learned again, and said otherwise."""
    before = ends(place)
    bring_s = NOW_S + HOUR_S
    bring(place, HOURS, HOURS + 1, bring_s)
    change(place, f"UPDATE accruals SET amount = '3' WHERE node = 'n2' AND hour_s = {START_S + 400 * HOUR_S}")
    (inputs,) = place.query("SELECT inputs FROM learned WHERE node = 'n2'")
    forecasts(place, bring_s)
    assert place.query("SELECT inputs FROM learned WHERE node = 'n2'") != [inputs]
    assert ends(place)["n2"] >= before["n2"]


def test_bands_that_drift_are_learned_every_hour(place: Place) -> None:
    node, end = next((node, end) for node, end in ends(place).items() if end not in (HOURS, HOURS - 5))
    day_s = NOW_S // DAY_S * DAY_S - DAY_S
    columns = "node, currency, unit, day_s, learned_s, through_s, hours, inside80, inside95, absolute_error, "
    values = f"'{node}', 'USD', 'usd_per_hour', {day_s}, {NOW_S}, {day_s + 23 * HOUR_S}, 48, 20, 30, 1, 1, 1, 1"
    change(
        place,
        f"INSERT INTO forecast_scores ({columns}naive_absolute_error, earned, multiplier) VALUES ({values})",
    )
    bring(place, HOURS, HOURS + 1, NOW_S + HOUR_S)
    forecasts(place, NOW_S + HOUR_S)
    assert end < ends(place)[node] == HOURS + 1


def test_no_run_learns_for_longer_than_its_budget(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no time at all, nodes that were learned before speak from that; new ones are learned all the same."""
    bring(place, HOURS, HOURS + 8, NOW_S + 8 * HOUR_S)
    change(place, "DELETE FROM learned WHERE node = 'n3'")
    before = ends(place)
    monkeypatch.setattr(learned, "BUDGET_S", -1.0)
    found = replayed(place, NOW_S + 8 * HOUR_S)
    assert [one["node"] for one in found.documents] == [f"n{node}" for node in range(NODES)]
    assert [one.node for one in found.learned] == ["n3"]
    assert set(before) == {f"n{node}" for node in range(NODES)} - {"n3"}
    for one in found.documents:
        assert one["type"] == "regular"
        assert one["total"]["mean"] > 0


def test_the_longest_unlearned_go_first(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(place, HOURS, HOURS + 8, NOW_S + 8 * HOUR_S)
    monkeypatch.setattr(learned, "_CHUNK", 1)
    ticks = iter([0.0, *[1.0] * 3, *[100.0] * 50])
    monkeypatch.setattr(learned.time, "monotonic", lambda: next(ticks))
    oldest = sorted(ends(place).items(), key=lambda pair: (pair[1], pair[0]))
    found = replayed(place, NOW_S + 8 * HOUR_S)
    assert [one.node for one in found.learned] == [node for node, _ in oldest[:3]]


def replayed(place: Place, now_s: int) -> expected.Expected:
    """What a run by the clock would say, asked within this process."""
    from depin_orcha import database
    from depin_orcha.asof import AsOf
    from depin_orcha.config import load
    from depin_orcha.cycle import Job

    job = Job(load(None, None), place.db, now_s, fixed_now=False)
    with database.open_for_writing(place.db) as connection:
        return expected.node_forecasts(job, AsOf(connection, now_s), 24, [])


def test_an_old_instant_does_not_displace_what_is_newer(place: Place) -> None:
    bring(place, HOURS, HOURS + 12, NOW_S + 12 * HOUR_S)
    forecasts(place, NOW_S + 12 * HOUR_S)
    newest = ends(place)
    forecasts(place, NOW_S + HOUR_S)
    assert ends(place) == newest


def test_cost_of_a_cached_run(place: Place) -> None:
    """Processor time, which other processes on the machine hardly change."""
    argv = [sys.executable, "-m", "depin_orcha", "forecast", "--now", rfc3339(NOW_S + 900), "-q"]
    argv += ["--config", str(place.config), "--db", str(place.db)]
    costs: list[float] = []
    for _ in range(3):
        before = os.times()
        subprocess.run(argv, check=True)
        after = os.times()
        costs.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(costs) < 0.8


def test_only_the_command_line_limits_threads(tmp_path: Path) -> None:
    show = "import json, os; print(json.dumps(os.environ.get('OPENBLAS_NUM_THREADS')))"
    series = "[{'id': 'a', 'start': '2026-01-01', 'y': [1.0] * 100}]"
    library = (
        f"from depin_orcha.forecast import forecast_series; forecast_series({series}); import depin_orcha.cli; {show}"
    )
    main = f"import atexit; atexit.register(lambda: exec({show!r})); from depin_orcha.cli import main; main()"
    (tmp_path / "a.csv").write_text("series,timestamp,value\na,2026-01-01T00:00:00Z,1\n")
    line = ["-c", main, "forecast", "--input", str(tmp_path / "a.csv"), "-q"]
    bare = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}

    def told(argv: list[str], env: dict[str, str]) -> Any:
        done = subprocess.run([sys.executable, *argv], env=env, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    assert told(["-c", library], bare) is None
    assert told(line, bare) == "1"
    assert told(line, bare | {"OPENBLAS_NUM_THREADS": "2"}) == "2"


def test_a_file_is_forecast_without_the_heavy_libraries(place: Place) -> None:
    file = place.folder / "series.csv"
    rows = [f"a,{rfc3339(START_S + hour * HOUR_S)},{1 + hour % 24}" for hour in range(500)]
    file.write_text("\n".join(["series,timestamp,value", *rows]) + "\n")
    argv = [sys.executable, "-c", MAIN, "forecast", "--input", str(file), "-q"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1].split() == ["loaded", "numpy"]
    begin = time.monotonic()
    assert loads(place, "forecast", now_s=NOW_S + 20 * HOUR_S) == ["numpy"]
    assert time.monotonic() - begin < 30
