"""The five verbs as a shell runs them on a fresh machine: three simulated days, and every number is the world's."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from ledger_parts import at
from operator_parts import PROGRAM, START_S, Place, check_schema, golem_usd, noted_glm, operating, stored_usd

from depin_orcha.demo import SimulatedOperator
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, HOUR_S

NOW_S = START_S + 3 * DAY_S + 20 * 60
MIDNIGHT_S = START_S + 3 * DAY_S


@dataclass
class Days:
    """Three days of cron, a reading an hour."""

    place: Place
    operator: SimulatedOperator
    documents: dict[str, Any]

    def node(self, name: str) -> dict[str, Any]:
        return next(node for node in self.documents["status"]["data"]["nodes"] if node["node"] == name)


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Days]:
    place = Place(tmp_path_factory.mktemp("fresh"))
    with operating(place) as operator:
        for now_s in range(START_S, MIDNIGHT_S + 1, HOUR_S):
            operator.advance(now_s)
            place.json("collect", now=now_s)
            if now_s % DAY_S == 0:
                place.json("run", now=now_s)
        operator.advance(NOW_S)
        yield Days(place, operator, _shell(place))


def _shell(place: Place) -> dict[str, Any]:
    """One after the other, each on condition that the one before ended well."""
    verbs = ("collect", "forecast", "optimize", "apply", "status")
    lines = [
        f"{shlex.join([*PROGRAM, *place.words(verb, '--json', now=NOW_S)])} > {verb}.json" for verb in verbs
    ]  # fmt: skip
    done = subprocess.run(
        ["sh", "-c", " && ".join(lines)], cwd=place.folder, env=place.environment(), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return {verb: json.loads((place.folder / f"{verb}.json").read_text()) for verb in verbs}


def test_every_document_is_what_its_schema_says(days: Days) -> None:
    for verb, document in days.documents.items():
        check_schema(verb, document)
        assert document["status"] == "success"
        assert document["generated_at"] == rfc3339(NOW_S)
        assert document["failures"] == []


@pytest.mark.parametrize("machine", ["attic", "rack"])
def test_storage_earned_what_the_world_says(days: Days, machine: str) -> None:
    node = days.node(f"storj_{machine}")
    (earned,) = node["earned"]
    assert Decimal(earned["last_30d"]) == stored_usd(days.operator, machine, START_S, NOW_S)
    assert Decimal(earned["today"]) == stored_usd(days.operator, machine, MIDNIGHT_S, NOW_S)
    assert node["usd_30d"] == float(Decimal(earned["last_30d"]))
    assert node["usd_today"] == float(Decimal(earned["today"]))


@pytest.mark.parametrize("machine", ["attic", "rack"])
def test_compute_earned_what_its_documents_say(days: Days, machine: str) -> None:
    node = days.node(f"golem_{machine}")
    (earned,) = node["earned"]
    assert Decimal(earned["last_30d"]) == noted_glm(days.operator, machine) > 0
    rows = days.place.json("history", "--by", "hour", "--node", f"golem_{machine}", now=NOW_S).data["rows"]
    hours = {at(row["hour_start"].removesuffix("Z")): Decimal(row["amount"]) for row in rows}
    assert sum(hours.values()) == Decimal(earned["last_30d"])
    assert node["usd_30d"] == pytest.approx(float(golem_usd(days.operator, hours, NOW_S)), rel=1e-12)
    today = {hour_s: amount for hour_s, amount in hours.items() if hour_s >= MIDNIGHT_S}
    assert Decimal(earned["today"]) == sum(today.values())
    assert node["usd_today"] == pytest.approx(float(golem_usd(days.operator, today, NOW_S)), rel=1e-12)


def test_price_is_the_worlds_with_its_source_and_age(days: Days) -> None:
    (earned,) = days.node("golem_rack")["earned"]
    quote = days.operator.world.prices["golem"].at(NOW_S)
    assert quote is not None
    assert (earned["price_observed_at"], earned["usd_per_unit"]) == (rfc3339(quote[0]), quote[1])
    assert (earned["price_source"], earned["stale"]) == ("coingecko", False)


def test_totals_are_the_sums_of_the_nodes(days: Days) -> None:
    data = days.documents["status"]["data"]
    for key in ("usd_today", "usd_24h", "usd_30d", "held_usd", "usd_per_hour_forecast"):
        values = [node[key] for node in data["nodes"] if node[key] is not None]
        assert data["totals"][key] == pytest.approx(sum(values), rel=1e-12)


def test_history_by_month_splits_at_the_month(days: Days) -> None:
    november_s = at("2026-11-01T00:00:00")
    rows = days.place.json("history", "--by", "month", "--node", "storj_attic", now=NOW_S).data["rows"]
    assert {row["month"]: Decimal(row["amount"]) for row in rows} == {
        "2026-10": stored_usd(days.operator, "attic", START_S, november_s),
        "2026-11": stored_usd(days.operator, "attic", november_s, NOW_S),
    }


def test_history_adds_up_however_it_is_grouped(days: Days) -> None:
    total: set[tuple[tuple[str, Decimal], ...]] = set()
    for span in ("hour", "day", "month"):
        for group in ("node", "protocol", "currency", "host"):
            sums: dict[str, Decimal] = {}
            for row in days.place.json("history", "--by", span, "--group", group, now=NOW_S).data["rows"]:
                sums[row["currency"]] = sums.get(row["currency"], Decimal(0)) + Decimal(row["amount"])
            total.add(tuple(sorted(sums.items())))
    assert len(total) == 1


def test_forecast_is_of_the_next_hours_of_every_node(days: Days) -> None:
    forecasts = days.documents["forecast"]["data"]["forecasts"]
    assert [one["node"] for one in forecasts] == ["golem_attic", "golem_rack", "storj_attic", "storj_rack"]
    for one in forecasts:
        assert one["unit"] == "usd_per_hour"
        assert [hour["start"] for hour in one["hours"]] == [rfc3339(MIDNIGHT_S + i * HOUR_S) for i in range(24)]
        assert one["total"]["mean"] == pytest.approx(sum(hour["mean"] for hour in one["hours"]))
        assert one["total"]["lo95"] <= one["total"]["lo80"] <= one["total"]["hi80"] <= one["total"]["hi95"]


def test_plan_holds_while_it_learns_and_apply_carries_it_out(days: Days) -> None:
    plan, applied = days.documents["optimize"]["data"], days.documents["apply"]["data"]
    assert plan["decision"] == "hold"
    assert "learning" in plan["reason"]
    assert (applied["plan_id"], applied["mode"], applied["changed"]) == (plan["plan_id"], "dry_run", 0)
    assert days.documents["status"]["data"]["plan"]["plan_id"] == plan["plan_id"]


def test_status_tells_of_every_run(days: Days) -> None:
    runs = days.documents["status"]["data"]["runs"]
    assert {verb: (run["started_at"], run["exit_code"]) for verb, run in runs.items()} == {
        **dict.fromkeys(("collect", "forecast", "optimize", "apply"), (rfc3339(NOW_S), 0)),
        "run": (rfc3339(MIDNIGHT_S), 0),
        "heal": (rfc3339(MIDNIGHT_S), 0),
    }


def test_same_instant_again_adds_nothing(days: Days) -> None:
    before = days.place.counts()
    for verb in ("collect", "forecast", "optimize", "apply"):
        days.place.json(verb, now=NOW_S)
    assert days.place.counts() == before
