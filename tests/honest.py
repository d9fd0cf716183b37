"""Operators whose true laws are known, on whom the whole product decides: placebo, without a lever, and with one.

Histories are written into a real database as a collect would have left them, and the past is decided again and again:
facts, problem and proposal are made by the functions of ``optimize`` at every instant, with the gate as it is shipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from decision_parts import DEAR, GLM, USUAL, Past, Setting, in_turn
from ledger_parts import at, opened
from operator_parts import Place

from depin_orcha.asof import AsOf
from depin_orcha.config import load
from depin_orcha.cycle import Job
from depin_orcha.expected import node_forecasts
from depin_orcha.facts import gather, problem
from depin_orcha.learned import keep
from depin_orcha.planning import gate_of
from depin_orcha.proposal import propose
from depin_orcha.store import Store
from depin_orcha.types import DAY_S, HOUR_S

NOW_S = at("2026-11-22T20:15:00")
LEARNING_DAYS = 14
_KEY = {"key": "0123456789abcdef"}
_COSTS = '[costs]\ntimezone = "UTC"\nelectricity_per_kwh = {}\n[hosts.local]\nidle_watts = {}\n'
GOLEM = '[nodes.{}]\nprotocol = "golem"\nurl = "http://127.0.0.1:9"\napp_key_file = "key"\nbusy_watts = 16\n'
_STORJ = '[nodes.{}]\nprotocol = "storj"\nurl = "http://127.0.0.1:9"\n'
_GRASS = '[nodes.{}]\nprotocol = "grass"\nurl = "http://127.0.0.1:9"\ntoken_file = "key"\n'


@dataclass
class Decided:
    """What was proposed after the learning period, a proposal that is only repeated counted once."""

    looks: int = 0
    proposals: list[tuple[int, str, float]] = field(default_factory=list)
    measured: int = 0
    sure_gains: int = 0
    lost_usd: float = 0.0
    income_usd: float = 0.0


def operator(folder: Path, config: str, days: int) -> tuple[Place, Past]:
    """A place with a configuration, and the past that is to be written."""
    place = Place(folder)
    place.configure(config, _KEY)
    return place, Past(place, NOW_S, days)


def decided_again(place: Place, days: int, every_h: int) -> Decided:
    """Decide every so many hours of the last days, each time with what was known then."""
    text = place.config.read_text()
    config, found = load(place.config, text), Decided()
    with opened(place.db, now_s=NOW_S) as store:
        _quote_prices(store, days)
        latest: dict[str, float] = {}
        for now_s in range(NOW_S - days * DAY_S, NOW_S, every_h * HOUR_S):
            job = Job(config, place.db, now_s, fixed_now=True)
            known = AsOf(store.connection, now_s)
            with store.transaction():
                made = node_forecasts(job, known, 24, [])
                for one in made.fresh:
                    store.add_forecast(one["node"], one["currency"], now_s // HOUR_S * HOUR_S, one, now_s)
                keep(store.connection, made.learned, now_s)
            facts, gate = gather(job, known), gate_of(job)
            data, _ = propose(problem(job, known, facts, gate, "default"), facts, gate)
            found.looks += 1
            found.measured += sum(1 for one in facts if one.lever and one.curve.evidence == "measured")
            found.sure_gains += sum(1 for one in facts if one.curve.sure)
            for host in data["hosts"]:
                found.lost_usd += host["value"]["restart_loss_usd"] if host["decision"] == "apply" else 0.0
                for node in host["nodes"]:
                    wanted = node["units"] if node["changed"] else None
                    if wanted is not None and latest.get(node["node"]) != wanted:
                        found.proposals.append((now_s, node["node"], wanted))
                    latest = latest | {node["node"]: wanted} if wanted is not None else latest
        worth = "SELECT sum(amount * CASE currency WHEN 'GLM' THEN ? WHEN 'USD' THEN 1 ELSE 0 END) FROM accruals"
        found.income_usd = store.connection.execute(worth, (GLM,)).fetchone()[0]
    return found


def _quote_prices(store: Store, days: int) -> None:
    """A price of every hour, and what the machine has from the beginning."""
    capacity = json.dumps({"cpu_cores": 8.0, "memory_bytes": 3.4e10, "storage_bytes": 1e13})
    first_s = NOW_S - (days + LEARNING_DAYS + 1) * DAY_S
    with store.transaction() as connection:
        connection.execute("INSERT INTO host_samples VALUES ('local', ?, ?, '{}', ?)", (first_s, capacity, first_s))
        rows = [("GLM", one, str(GLM), "coingecko", one) for one in range(first_s, NOW_S, HOUR_S)]
        connection.executemany("INSERT OR IGNORE INTO prices VALUES (?, ?, ?, ?, ?)", rows)


def placebo(folder: Path, seed: int, days: int = 60, every_h: int = 6) -> Decided:
    """Two providers tried with six and two threads by turns for two weeks; what they earn has nothing to do with it."""
    config = _COSTS.format(0.30, 10) + GOLEM.format("golem_1") + GOLEM.format("golem_2")
    place, past = operator(folder, config, days + LEARNING_DAYS)
    random = Random(seed)
    for index, hours in ((1, 12), (2, 24)):
        busy = random.uniform(0.2, 0.8)
        turns = in_turn(Setting(6), Setting(2), hours=hours, days=LEARNING_DAYS)
        past.provider(f"golem_{index}", turns, lambda _, busy=busy: busy, seed=seed * 10 + index)
    with opened(place.db, now_s=NOW_S) as store, store.transaction() as connection:
        connection.execute(  # a task pays the same whatever it runs on
            "UPDATE accruals SET amount = CASE WHEN amount + 0 > 0 THEN ? ELSE '0' END", (f"{4 * USUAL:.6f}",)
        )
    return decided_again(place, days, every_h)


def without_lever(folder: Path, seed: int, days: int = 60, every_h: int = 6) -> Decided:
    """A disk that fills, a provider that was never tried otherwise, and points: nothing can be gained."""
    config = _COSTS.format(0.30, 10) + GOLEM.format("golem_1") + _STORJ.format("storj_1") + _GRASS.format("grass_1")
    place, past = operator(folder, config, days + LEARNING_DAYS)
    random = Random(seed)
    past.provider("golem_1", lambda _: Setting(4), lambda _: 0.5, seed=seed)
    pace = random.uniform(0.005, 0.02)
    past.storage("storj_1", 8.0, lambda day: 3.0 + pace * day, 1.5)
    past.steady("grass_1", "grass", "POINTS", "uplink_bps", 20.0, 1e6)
    return decided_again(place, days, every_h)


def _explained(place: Place) -> Any:
    for verb in ("forecast", "optimize"):
        place.json(verb, now=NOW_S)
    return place.json("explain", now=NOW_S).data


def _has_advice(data: Any, text: str) -> bool:
    return any(one["kind"] == "by_hand" and text in one["text"] for host in data["hosts"] for one in host["advice"])


def more_threads(folder: Path, seed: int) -> bool:
    """All-or-nothing demand that takes what is offered: six threads earn three times as much as the two in force."""
    place, past = operator(folder, _COSTS.format(0.20, 10) + GOLEM.format("golem_1"), 28)
    past.provider("golem_1", in_turn(Setting(6), Setting(2), days=28), lambda _: 0.5, seed=seed)
    (node,) = _explained(place)["nodes"]
    return node["changed"] and node["grant_after"] == "6 cores"


def better_price(folder: Path, seed: int) -> bool:
    """P(busy) falls from 0.6 to 0.5 at twice the price, so that the dear one earns more; tried by turns for 7 weeks."""
    place, past = operator(folder, _COSTS.format(0.20, 10) + GOLEM.format("golem_1"), 49)
    demand = {USUAL: 0.6, DEAR: 0.5}
    turns = in_turn(Setting(4, DEAR), Setting(4, USUAL), days=49)
    past.provider("golem_1", turns, lambda one: demand[one.glm_per_thread_h], seed=seed)
    return _has_advice(_explained(place), f"CPU={DEAR / 3600!r}")


def full_disk(folder: Path, seed: int) -> bool:
    """A disk that filled up three days ago: more would earn, and it says so."""
    place, past = operator(folder, _COSTS.format(0.20, 10) + _STORJ.format("storj_1"), 28)
    pace = Random(seed).uniform(0.02, 0.05)
    past.storage("storj_1", 4.0, lambda day: min(4.0, 4.0 + pace * (day - 25)), 1.5)
    data = _explained(place)
    said = next(one for one in data["questions"] if one["question"] == "What would more of it bring?")
    return "its disk is full" in said["answer"]


def unprofitable_box(folder: Path, seed: int) -> bool:
    """60 W at 0.35 a kWh for a disk that brings a third of that."""
    place, past = operator(folder, _COSTS.format(0.35, 60) + _STORJ.format("storj_1"), 28)
    usd = Random(seed).uniform(0.8, 1.2)
    past.storage("storj_1", 8.0, lambda day: 3.0 + 0.01 * day, usd)
    (host,) = place.json("verdict", now=NOW_S).data["hosts"]
    return host["verdict"] == "stop"


def dear_evenings(folder: Path, seed: int) -> Place:
    """Work brings 2.5 cents an hour; 80 W cost 0.8 cents of it, and 14 in the evening."""
    tariff = '[{from = "00:00", price = 0.10}, {from = "17:00", price = 1.80}, {from = "21:00", price = 0.10}]'
    config = _COSTS.format(tariff, 0) + GOLEM.format("golem_1").replace("16", "80") + "max_units = 4\n"
    place, past = operator(folder, config, 28)
    past.provider("golem_1", lambda _: Setting(4), lambda _: 0.6, seed=seed)
    return place


def dear_hours(folder: Path, seed: int) -> bool:
    """Evenings in which work costs more than it brings."""
    place = dear_evenings(folder, seed)
    (node,) = place.json("verdict", now=NOW_S).data["nodes"]
    return node["verdict"] == "pause" and set(node["pause_hours"]) >= {18, 19, 20}


LEVERS: dict[str, Callable[[Path, int], bool]] = {
    "more threads": more_threads,
    "a better price": better_price,
    "a full disk": full_disk,
    "an unprofitable box": unprofitable_box,
    "dear hours": dear_hours,
}


def found(lever: str, folder: Path, seeds: Iterable[int]) -> list[bool]:
    """Was the lever found, for each seed?"""
    outcome: list[bool] = []
    for seed in seeds:
        place = folder / f"{lever.replace(' ', '_')}_{seed}"
        place.mkdir()
        outcome.append(LEVERS[lever](place, seed))
    return outcome
