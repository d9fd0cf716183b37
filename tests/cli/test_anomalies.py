"""What is wrong is found by ``forecast``, kept as one episode, and shown until it is over."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alarm_parts import START_S, Life
from faulty_years import bandwidth
from ledger_parts import opened
from numpy.random import default_rng
from operator_parts import Place

from depin_orcha.anomalies import Usual
from depin_orcha.asof import AsOf
from depin_orcha.retention import thin
from depin_orcha.signals import Signals
from depin_orcha.store import Store
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, HOUR_S

BEFORE_H = 21 * 24
LATER_H = 60


def earned() -> list[float]:
    return bandwidth(default_rng(7), BEFORE_H + LATER_H).tolist()


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Three weeks of two nodes on which nothing is wrong."""
    life = Life(Place(tmp_path_factory.mktemp("grown")))
    life.configure("relay", "spare")
    life.live(dict.fromkeys(("relay", "spare"), earned()[:BEFORE_H]))
    assert life.anomalies("forecast") == []
    return life


@pytest.fixture
def life(grown: Life, tmp_path: Path) -> Life:
    place = Place(tmp_path)
    place.config.write_bytes(grown.place.config.read_bytes())
    place.db.write_bytes(grown.place.db.read_bytes())
    return Life(place, grown.now_s, dict(grown.counters))


def cycles(life: Life, relay: list[float | None], **told: Any) -> list[list[dict[str, Any]]]:
    """Cron, an hour at a time: what ``forecast`` says after each."""
    said: list[list[dict[str, Any]]] = []
    for amount in relay:
        spare = earned()[(life.now_s - START_S) // HOUR_S]
        first_s = life.now_s
        life.live({"relay": [amount]}, **told)
        life.now_s = first_s
        life.live({"spare": [spare]})
        said.append(life.anomalies("forecast"))
    return said


def test_income_that_stops_is_told_once_and_closed(life: Life) -> None:
    stopped_s = life.now_s
    said = cycles(life, [0.0] * 5)
    assert [len(one) for one in said] == [0, 0, 1, 1, 1]
    (one,) = life.anomalies("status")
    assert (one["node"], one["kind"], one["severity"]) == ("relay", "flatline", "critical")
    assert (one["since"], one["until"]) == (rfc3339(stopped_s), None)
    assert "earned nothing for 5 h" in one["evidence"]["text"]
    back_s = life.now_s
    cycles(life, list(earned()[BEFORE_H + 5 : BEFORE_H + 12]))
    assert life.anomalies("status") == []
    (over,) = life.anomalies("forecast")
    assert rfc3339(back_s) < over["until"] <= rfc3339(back_s + 3 * HOUR_S)
    assert len(life.place.query("SELECT DISTINCT node, cause, since_s FROM anomalies")) == 1


def test_status_shows_it_in_its_table(life: Life) -> None:
    cycles(life, [None] * 2)
    shown = " ".join(life.place("status", now=life.now_s, COLUMNS="200").out.split())
    assert "warning: relay: it has not been read for 1.8 h: it refuses, since 2026-10-22T00:15:00Z." in shown
    assert "see whether it runs" in shown
    assert "spare: it" not in shown


def test_what_was_said_at_an_instant_is_said_of_it_for_ever(life: Life) -> None:
    """Bytes of status and forecast at earlier instants stay, whatever is learned later."""
    said: dict[int, tuple[str, str]] = {}
    for amount in [0.0, 0.0, 0.0, 0.0, *earned()[BEFORE_H + 4 : BEFORE_H + 12]]:
        cycles(life, [amount])
        between_s = life.now_s + 600
        for now_s in (life.now_s, between_s):
            told = [life.place(verb, "--json", now=now_s).out for verb in ("forecast", "status")]
            said[now_s] = (told[0], told[1])
    rows = life.place.counts()["anomalies"]
    for now_s, before in said.items():
        again = tuple(life.place(verb, "--json", now=now_s).out for verb in ("forecast", "status"))
        assert strip_runs(again[1]) == strip_runs(before[1])
        assert anomalies_of(again[0]) == anomalies_of(before[0])
    assert life.place.counts()["anomalies"] == rows


def test_an_instant_that_was_never_judged_is_only_looked_at(life: Life) -> None:
    life.live({"relay": [0.0] * 6})
    assert len(life.anomalies("forecast")) == 2  # of spare nobody has asked
    told, rows = life.anomalies("status"), life.place.query("SELECT * FROM anomalies")
    earlier_s = life.now_s - 2 * HOUR_S
    assert "flatline" in {one["kind"] for one in life.anomalies("forecast", earlier_s)}
    assert life.anomalies("status", earlier_s) == []
    assert (life.anomalies("status"), life.place.query("SELECT * FROM anomalies")) == (told, rows)


def test_what_is_usual_follows_from_what_was_known_when_it_was_learned(life: Life) -> None:
    """Whether it is stored or learned anew makes no difference, and what is told late waits for the next day."""

    def usual(store: Store, now_s: int) -> Usual | None:
        known = AsOf(store.connection, now_s)
        return Signals(known, "relay", list(known.hours(now_s - 8 * DAY_S, "relay")), []).read().usual

    with opened(life.place.db, "relay", life.now_s) as store, store.transaction() as connection:
        connection.execute("DELETE FROM usual")
        before = usual(store, life.now_s)
        late = (
            "INSERT INTO accruals SELECT node, hour_s, currency, ?, '5', quality, run_id FROM accruals WHERE hour_s < ?"
        )
        connection.execute(f"{late} GROUP BY node, hour_s", (life.now_s + 60, life.now_s - 2 * DAY_S))
        assert usual(store, life.now_s + 120) == before
        assert usual(store, life.now_s + DAY_S + 120) != before


def strip_runs(text: str) -> Any:
    document = json.loads(text)
    document["data"].pop("runs")
    return document


def anomalies_of(text: str) -> Any:
    return json.loads(text)["data"]["anomalies"]


def test_a_pause_keeps_a_planned_stop_quiet(life: Life) -> None:
    life.place("pause", "--node", "relay", "--for", "6h", now=life.now_s)
    assert [*filter(None, cycles(life, [None] * 6))] == []
    assert [*filter(None, cycles(life, list(earned()[BEFORE_H + 6 : BEFORE_H + 10])))] == []


def test_what_lasts_beyond_a_pause_is_told(life: Life) -> None:
    ends_s = life.now_s + 3 * HOUR_S
    life.place("pause", "--node", "relay", "--for", "3h", now=life.now_s)
    said = cycles(life, [None] * 4)
    assert [len(one) for one in said] == [0, 0, 0, 1]
    assert said[-1][0]["since"] == rfc3339(ends_s)


def test_a_price_that_falls_is_no_fall_of_income(life: Life) -> None:
    with opened(life.place.db, "relay", life.now_s) as store, store.transaction():
        for days, price in ((20, "0.5"), (0, "0.05")):
            store.connection.execute(
                "INSERT INTO prices VALUES ('MYST', ?, ?, 'test', ?)",
                (life.now_s - days * DAY_S, price, life.now_s - days * DAY_S),
            )
    assert [*filter(None, cycles(life, list(earned()[BEFORE_H : BEFORE_H + 4])))] == []


def test_a_fall_below_the_forecast_is_told_in_the_currency_itself(life: Life) -> None:
    """Forecast in USD while the price falls to a tenth: what is held against it is what was earned."""
    with opened(life.place.db, "relay", life.now_s) as store, store.transaction():
        for hour in range(-24, 60):
            at_s = life.now_s + hour * HOUR_S
            price = "0.5" if hour < 24 else "0.05"
            store.connection.execute("INSERT INTO prices VALUES ('MYST', ?, ?, 'test', ?)", (at_s, price, at_s))
    usual = earned()[BEFORE_H : BEFORE_H + 48]
    assert [*filter(None, cycles(life, list(usual[:27])))] == []
    said = cycles(life, [one * 0.4 for one in usual[27:]])
    (one,) = said[-1]
    assert (one["node"], one["kind"]) == ("relay", "drop")
    first = next(found for found in said if found)[0]["evidence"]
    assert "less than the lower end of the forecast" in first["text"]
    assert first["earned"] < first["forecast_at_least"] < first["expected"] < 2.5 * first["forecast_at_least"]


def test_cron_that_stood_still_is_no_fall(life: Life) -> None:
    """Nobody read anything for a day; the counters went on meanwhile."""
    for name in life.counters:
        life.counters[name] += Decimal("0.05")
    life.now_s += DAY_S
    assert [*filter(None, cycles(life, list(earned()[BEFORE_H + 24 : BEFORE_H + 30])))] == []


def test_a_collect_that_fails_to_run_is_told(life: Life) -> None:
    (relay, spare) = life.anomalies("forecast", life.now_s + 4 * HOUR_S)
    assert (relay["kind"], spare["kind"]) == ("stale_reading", "stale_reading")
    assert "nobody has read it for 4 h" in relay["evidence"]["text"]


def test_money_that_nobody_pays_is_told(life: Life) -> None:
    day = sum(earned()[BEFORE_H - 24 : BEFORE_H])
    cycles(life, list(earned()[BEFORE_H : BEFORE_H + 2]), at_risk=0.0)
    said = cycles(life, list(earned()[BEFORE_H + 2 : BEFORE_H + 24]), at_risk=day)
    (one,) = said[-1]
    assert (one["kind"], one["evidence"]["currency"]) == ("unpaid_work", "MYST")
    assert [bool(found) for found in said[:15]] == [False] * 15


def test_a_falling_score_is_told(life: Life) -> None:
    def details(online: float) -> dict[str, Any]:
        scores = {"audit": 1.0, "suspension": 1.0, "online": online}
        return {"satellites": [{"id": "s1", "url": "one.invalid:7777", "state": "ok", "scores": scores}]}

    assert cycles(life, [earned()[BEFORE_H]], details=details(0.99)) == [[]]
    ((one,),) = cycles(life, [earned()[BEFORE_H + 1]], details=details(0.85))
    assert (one["kind"], one["severity"]) == ("reputation", "warning")
    assert "one.invalid: its scores are low or fall" in one["evidence"]["text"]


def test_details_that_nobody_can_read_cost_a_warning_and_nothing_else(life: Life) -> None:
    life.live({"relay": [0.0] * 5}, details={"satellites": "none"})
    done = life.place("forecast", now=life.now_s)
    assert "relay: what it tells cannot be judged" in done.err
    assert "spare" in done.out


def test_a_node_that_is_not_configured_any_more_is_not_told_of(life: Life) -> None:
    cycles(life, [None] * 2)
    assert len(life.anomalies("status")) == 1
    life.place.config.write_text(life.place.config.read_text().replace("[nodes.relay]", "[nodes.other]"))
    assert life.anomalies("status") == []
    assert life.anomalies("forecast") == []


def test_only_named_nodes_are_shown(life: Life) -> None:
    cycles(life, [None] * 2)
    for name, count in (("relay", 1), ("spare", 0)):
        for verb in ("status", "forecast"):
            assert len(life.place.json(verb, "--node", name, now=life.now_s).data["anomalies"]) == count


def test_old_states_are_thinned_and_the_last_one_of_a_day_stays(life: Life) -> None:
    cycles(life, [None] * 10)
    states = life.place.query("SELECT learned_s FROM anomalies ORDER BY 1")
    assert len(states) >= 3
    later_s = life.now_s + 31 * DAY_S
    with opened(life.place.db, "relay", later_s) as store:
        thin(store, later_s, raw_days=30)
    assert life.place.query("SELECT learned_s FROM anomalies") == states[-1:]


def test_status_reads_episodes_without_numeric_libraries(life: Life) -> None:
    cycles(life, [None] * 2)
    heavy = "{'numpy', 'pandas', 'scipy', 'sklearn', 'statsmodels'}"
    program = (
        f"import sys; from depin_orcha.cli import app; app(standalone_mode=False); print({heavy} & set(sys.modules))"
    )
    words = life.place.words("status", now=life.now_s)
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        env=life.place.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "set()"
    assert "relay: it has not been read" in " ".join(done.stdout.split())
