"""`kill -9` at any moment of a run: the database stays sound, and what was earned is neither lost nor doubled."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from operator_parts import START_S, Place, integrity, operating

from depin_orcha.types import HOUR_S

KILLS = 25
MOST_ROUNDS = 4 * KILLS
STEP_S = HOUR_S // 2


def ledger(place: Place) -> dict[tuple[str, str, int], Decimal]:
    """Node, currency and hour -> what was earned."""
    total: dict[tuple[str, str, int], Decimal] = defaultdict(Decimal)
    for node, currency, hour_s, amount in place.query("SELECT node, currency, hour_s, amount FROM accruals"):
        total[node, currency, hour_s] += Decimal(amount)
    return total


def by_node(hours: dict[tuple[str, str, int], Decimal]) -> dict[tuple[str, str], Decimal]:
    total: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for (node, currency, _), amount in hours.items():
        total[node, currency] += amount
    return total


def killed_after(place: Place, now_s: int, seconds: float) -> int:
    """Start a run, kill it that much later unless it has ended, and return how it ended."""
    process = place.start("run", now=now_s, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


@pytest.mark.parametrize("wait_s", [0, STEP_S], ids=["the same run again", "the next run"])
def test_killed_at_random_moments(tmp_path: Path, wait_s: int) -> None:
    random = Random(wait_s + 1)
    place, control = Place(tmp_path / "killed"), Place(tmp_path / "control")
    for folder in (place.folder, control.folder):
        folder.mkdir()
    with operating(place) as operator:
        control.configure(place.config.read_text(), operator.secrets())
        started = time.monotonic()
        assert place.process("run", now=START_S).code == 0
        whole_s = time.monotonic() - started
        control("collect", now=START_S)
        kills, now_s = 0, START_S
        while kills < KILLS:
            now_s += STEP_S
            assert now_s < START_S + MOST_ROUNDS * STEP_S, "the runs end before they can be killed"
            operator.advance(now_s)
            started = time.monotonic()
            if killed_after(place, now_s, random.uniform(0.05, whole_s)) == -signal.SIGKILL:
                kills += 1
            else:  # the first run was slower than this one: aim at moments that it has
                whole_s = min(whole_s, time.monotonic() - started)
            assert integrity(place.db) == "ok"
            if wait_s == 0:
                recovered = place("run", now=now_s)
                assert recovered.code == 0
            control("collect", now=now_s)
        if wait_s:
            assert place("run", now=now_s).code == 0
    _nothing_is_lost_or_doubled(place, control, exactly=wait_s == 0)
    assert place.query("SELECT count(*) FROM runs WHERE finished_s IS NULL")[0][0] > 0


def _nothing_is_lost_or_doubled(place: Place, control: Place, *, exactly: bool) -> None:
    """The ledger is that of a database that nobody disturbed; hour by hour where it was read at the same instants."""
    assert integrity(place.db) == "ok"
    mine, theirs = ledger(place), ledger(control)
    assert by_node(mine) == by_node(theirs)
    documents = {key for key in mine.keys() | theirs.keys() if key[1] == "GLM"}
    assert {key: mine.get(key) for key in documents} == {key: theirs.get(key) for key in documents}
    samples = (
        "SELECT node, currency, kind, period, external_id, observed_s, amount, voided_s IS NULL FROM earnings_samples"
    )
    stored: tuple[Any, Any] = (set(place.query(samples)), set(control.query(samples)))
    if exactly:
        assert mine == theirs
        assert stored[0] == stored[1]
        values = "SELECT currency, hour_s, price_usd, price_source, price_observed_s FROM hour_values ORDER BY 1, 2"
        assert place.query(values) == control.query(values)
    else:
        assert {row for row in stored[0] if row[1] == "GLM"} == {row for row in stored[1] if row[1] == "GLM"}
        assert {row for row in stored[0] if row[1] == "USD"} <= {row for row in stored[1] if row[1] == "USD"}
