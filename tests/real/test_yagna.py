"""``collect`` against a real yagna daemon: exactly the GLM that it holds, valued in USD where a price is known."""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from real.namespace import LoopbackNamespace
from real.prices import LATEST_USD, PAST_USD, PriceServer
from real.yagna import URL, Yagna, yagna_binary

pytestmark = pytest.mark.real

HELD_GLM = Decimal("0.264448791131944429")
"""Settled, accepted, received on mainnet, and running; without the cancelled activity."""
RUNNING_GLM = Decimal("0.017690977777777777")
RUNNING = "60f5339a9b146e4a01b0d57ab45cb330"
AGREEMENT = "ce179290fb4ed512e1a21708848da5cbae3aaa6dd722a3a4551537e1a3f6058c"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("DEPIN_ORCHA_REAL_CACHE")
    return Path(named) if named else tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def space() -> Iterator[LoopbackNamespace]:
    with LoopbackNamespace() as made:
        yield made


@pytest.fixture
def yagna(cache: Path, tmp_path: Path, space: LoopbackNamespace) -> Iterator[Yagna]:
    with Yagna(yagna_binary(cache), tmp_path / "yagna", space) as daemon:
        daemon.fill()
        daemon.post_offer()
        yield daemon


@pytest.fixture
def prices(space: LoopbackNamespace) -> Iterator[PriceServer]:
    with space.call(PriceServer) as server:
        yield server


@dataclass
class Operator:
    """Somebody with one Golem provider who types commands inside the namespace."""

    space: LoopbackNamespace
    folder: Path

    @property
    def database(self) -> Path:
        return self.folder / "orcha.db"

    def __call__(self, *arguments: str, exits: int = 0) -> Any:
        argv = [sys.executable, "-m", "depin_orcha", *arguments, "--json"]
        places = ["--config", str(self.folder / "config.toml"), "--db", str(self.database)]
        own = {name: value for name, value in os.environ.items() if not name.startswith("DEPIN_ORCHA_")}
        done = self.space.run([*argv, *places], own | {"HOME": str(self.folder)})
        assert done.returncode == exits, done.stderr
        return json.loads(done.stdout)["data"]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    def stored_glm(self) -> Decimal:
        return sum((Decimal(amount) for (amount,) in self.rows("SELECT amount FROM accruals")), Decimal(0))


@pytest.fixture
def operator(tmp_path: Path, space: LoopbackNamespace, yagna: Yagna, prices: PriceServer) -> Operator:
    into_s = time.time() % 3600
    if not 90 < into_s < 3540:  # the hour would turn meanwhile, or the newest price would be of the hour before
        time.sleep((3690 - into_s) % 3600)
    folder = tmp_path / "operator"
    folder.mkdir()
    key = folder / "app-key"
    key.write_text(yagna.app_key)
    key.chmod(0o600)
    (folder / "config.toml").write_text(
        f'[prices]\nurl = "{prices.url}"\nfallback_url = "{prices.url}/fallback"\n'
        f'[nodes.golem_1]\nprotocol = "golem"\nurl = "{URL}"\napp_key_file = "app-key"\n'
    )
    return Operator(space, folder)


@pytest.mark.parametrize(
    ("path", "sample"),
    [
        ("/me", "me.json"),
        ("/payment-api/v1/invoices", "invoices.json"),
        ("/payment-api/v1/debitNotes", "debit_notes.json"),
        ("/payment-api/v1/payActivities", "pay_activities.json"),
        ("/payment-api/v1/payAgreements", "pay_agreements.json"),
        ("/payment-api/v1/payments?timeout=0", "payments.json"),
        ("/payment-api/v1/invoiceEvents?timeout=0", "invoice_events.json"),
        ("/payment-api/v1/debitNoteEvents?timeout=0", "debit_note_events.json"),
        ("/market-api/v1/agreements", "agreements_all.json"),
        ("/market-api/v1/agreements?state=Approved", "agreements_approved.json"),
        (f"/market-api/v1/agreements/{AGREEMENT}", "agreement_detail.json"),
        (f"/activity-api/v1/activity?agreementId={AGREEMENT}", "activity_ids.json"),
    ],
)
def test_daemon_answers_as_the_samples_say(path: str, sample: str, shared_yagna: Yagna) -> None:
    assert shared_yagna.get(path) == shared_yagna.samples(sample)


@pytest.fixture(scope="module")
def shared_yagna(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yagna]:
    """A daemon in a namespace of its own, for tests that only read it."""
    with LoopbackNamespace() as own, Yagna(yagna_binary(cache), tmp_path_factory.mktemp("yagna"), own) as daemon:
        daemon.fill()
        yield daemon


def test_stores_exactly_what_the_daemon_holds(operator: Operator) -> None:
    node = operator("collect")["nodes"][0]

    assert node["health"]["status"] in ("up", "degraded")
    assert operator.stored_glm() == HELD_GLM
    (earned,) = operator("status")["nodes"][0]["earned"]
    assert (earned["currency"], earned["last_30d"]) == ("GLM", str(HELD_GLM))
    (running,) = [one for one in node["earnings"] if one["period"] == RUNNING]
    assert (running["kind"], Decimal(running["amount"])) == ("counter", RUNNING_GLM)


def test_second_collect_adds_nothing(operator: Operator) -> None:
    operator("collect")
    readings = "SELECT node, currency, kind, period, external_id, observed_s, amount FROM earnings_samples"
    accruals = "SELECT node, hour_s, currency, learned_s, amount FROM accruals"
    before = operator.rows(readings), operator.rows(accruals)

    again = operator("collect")["nodes"][0]

    assert before == (operator.rows(readings), operator.rows(accruals))
    assert again["earned_since_previous"] == {"currency": "GLM", "amount": "0", "usd": 0}


def test_running_work_is_followed_to_its_invoice(operator: Operator, yagna: Yagna) -> None:
    operator("collect")
    yagna.add_debit_note(RUNNING, "0.020000000000000001")
    grown = operator("collect")["nodes"][0]["earned_since_previous"]
    yagna.add_invoice(RUNNING, "0.020000000000000002")
    closed = operator("collect")["nodes"][0]["earned_since_previous"]

    assert Decimal(grown["amount"]) == Decimal("0.020000000000000001") - RUNNING_GLM
    assert closed["amount"] == "0.000000000000000001"
    assert operator.stored_glm() == HELD_GLM - RUNNING_GLM + Decimal("0.020000000000000002")


def test_rejected_invoice_is_taken_back(operator: Operator, yagna: Yagna) -> None:
    operator("collect")
    yagna.add_invoice(RUNNING, str(RUNNING_GLM))
    operator("collect")
    assert operator.stored_glm() == HELD_GLM

    yagna.reject_invoice(RUNNING)
    operator("collect")

    assert operator.stored_glm() == HELD_GLM - RUNNING_GLM


def test_usd_comes_with_the_source_and_age_of_its_price(operator: Operator) -> None:
    operator("collect")
    node = operator("status")["nodes"][0]
    earned = node["earned"][0]

    assert (earned["usd_per_unit"], earned["price_source"], earned["stale"]) == (LATEST_USD, "coingecko", False)
    assert 0 <= time.time() - datetime.fromisoformat(earned["price_observed_at"]).timestamp() < 120
    rows = operator("history", "--by", "hour")["rows"]
    running_hour = int(time.time()) // 3600 * 3600
    for row in rows:
        past = datetime.fromisoformat(row["hour_start"]).timestamp() < running_hour
        assert row["usd"] == pytest.approx(float(row["amount"]) * (PAST_USD if past else LATEST_USD), rel=1e-9)
    assert node["usd_30d"] == pytest.approx(sum(row["usd"] for row in rows))


def test_hours_without_a_price_have_no_usd_until_the_history_answers(operator: Operator, prices: PriceServer) -> None:
    prices.history_works = False
    operator("collect")
    running_hour = int(time.time()) // 3600 * 3600
    notes = operator("status")["nodes"][0]["notes"]
    past = [row for row in operator("history", "--by", "hour")["rows"] if _start_s(row) < running_hour]
    assert {row["usd"] for row in past if row["amount"] != "0"} == {None}
    assert {row["usd"] for row in past if row["amount"] == "0"} == {0}
    assert any("no price" in note for note in notes)

    prices.history_works = True
    operator("collect")
    filled = [row for row in operator("history", "--by", "hour")["rows"] if _start_s(row) < running_hour]
    assert [row["usd"] for row in filled] == pytest.approx([float(row["amount"]) * PAST_USD for row in past])


def test_stopped_daemon_is_unknown_and_costs_no_data(operator: Operator, yagna: Yagna) -> None:
    operator("collect")
    yagna.stop()
    node = operator("collect", exits=69)["nodes"][0]

    assert (node["health"]["status"], node["earnings"], node["earned_since_previous"]) == ("unknown", [], None)
    assert operator.stored_glm() == HELD_GLM


def _start_s(row: dict[str, Any]) -> float:
    return datetime.fromisoformat(row["hour_start"]).timestamp()
