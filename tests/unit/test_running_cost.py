"""What power takes of the income, over a real database that real collects wrote: watts, tariffs, the owner's money."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at
from loopback import Answer, Loopback
from power_parts import Owner, answer, owning
from rich.console import Console

from depin_orcha import database
from depin_orcha.asof import AsOf
from depin_orcha.errors import ExitCode
from depin_orcha.facts import gather
from depin_orcha.render import tables
from depin_orcha.types import HOUR_S

START = "2026-11-22T00:00:00"
TARIFF = "[costs]\nelectricity_per_kwh = 0.30\n"
EUROS = '[costs]\ncurrency = "EUR"\nelectricity_per_kwh = 0.30\n'

MakeOwner = Callable[[str], Owner]


@pytest.fixture
def make_owner(tmp_path: Path) -> Iterator[MakeOwner]:
    with ExitStack() as stack:
        yield lambda config: stack.enter_context(owning(tmp_path, config))


def totals(owner: Owner, *only: str) -> tuple[Any, Any]:
    found = owner.status(None, *only)["totals"]
    return found["running_cost_usd_24h"], found["net_usd_24h"]


def test_stated_watts_count_as_long_as_the_node_works(make_owner: MakeOwner) -> None:
    owner = make_owner(f"{TARIFF}[hosts.local]\nidle_watts = 40\n")
    owner.config += owner.sections("a", busy_watts="20")
    for hour, used in ((0, 2), (0.25, 0), (0.5, 2), (0.75, 2), (1, 0), (2, 0)):
        owner.node("a", f"{hour}", used)
        owner.collect(at(START) + int(hour * HOUR_S))
    assert owner.query("SELECT hour_s - 1795305600, watts, source, usd_per_kwh FROM power_hours") == [
        (0, 55.0, "by hand", 0.3), (HOUR_S, 40.0, "by hand", 0.3)
    ]  # fmt: skip
    assert totals(owner) == (pytest.approx(0.095 * 0.3), pytest.approx(2 - 0.095 * 0.3))
    (host,) = owner.status()["hosts"]
    assert (host["watts"], host["watts_source"], host["power_hours_24h"], host["note"]) == (40, "by hand", 2, "")


def test_a_day_is_the_last_24_completed_hours(make_owner: MakeOwner) -> None:
    owner = make_owner(f"{TARIFF}[hosts.local]\nidle_watts = 100\n")
    owner.config += owner.sections("a")
    owner.hourly(START, 31, "a")
    assert totals(owner) == (pytest.approx(24 * 0.03), pytest.approx(0.24 - 24 * 0.03))
    # Half an hour later nothing new is complete, and three hours later what nobody read is not counted.
    assert totals(owner)[0] == pytest.approx(owner.status(owner.now_s + 1800)["totals"]["running_cost_usd_24h"])
    assert owner.status(owner.now_s + 3 * HOUR_S)["totals"]["running_cost_usd_24h"] == pytest.approx(21 * 0.03)


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ("", "no watts are known"),
        (TARIFF, "no watts are known"),
        ("[hosts.local]\nidle_watts = 40\n", "no tariff is known"),
        (f"{TARIFF}[hosts.local]\nidle_watts = 40\nalways_on = true\n", "no watts are known"),
    ],
)
def test_net_is_unknown_without_watts_or_tariff(make_owner: MakeOwner, config: str, note: str) -> None:
    owner = make_owner(config)
    owner.config += owner.sections("a")
    owner.hourly(START, 4, "a")
    assert totals(owner) == (None, None)
    (host,) = owner.status()["hosts"]
    assert host["net_usd_24h"] is None
    assert note in host["note"]
    assert owner.status()["totals"]["usd_24h"] == pytest.approx(0.03)


def test_one_host_without_watts_makes_the_sum_unknown_and_not_its_neighbour(make_owner: MakeOwner) -> None:
    owner = make_owner(f"{TARIFF}[hosts.attic]\nidle_watts = 40\n[hosts.rack]\n")
    owner.config += owner.sections("a", host='"attic"') + owner.sections("b", host='"rack"')
    for hour in range(3):
        owner.node("b", str(hour))
        owner.hourly(f"2026-11-22T0{hour}:00:00", 1, "a")
    assert totals(owner) == (None, None)
    notes = {host["host"]: (host["net_usd_24h"] is None, host["note"]) for host in owner.status()["hosts"]}
    assert notes["attic"] == (False, "")
    assert notes["rack"][0]
    assert totals(owner, "a") == (pytest.approx(2 * 0.04 * 0.3), pytest.approx(-2 * 0.04 * 0.3))


def test_part_of_a_hosts_nodes_has_no_net(make_owner: MakeOwner) -> None:
    owner = make_owner(f"{TARIFF}[hosts.local]\nidle_watts = 40\n")
    owner.config += owner.sections("a", "b")
    owner.node("b", "1")
    owner.hourly(START, 3, "a")
    assert owner.status()["totals"]["net_usd_24h"] is not None
    assert totals(owner, "a") == (pytest.approx(2 * 0.012), None)
    assert "only some of its nodes" in owner.status(None, "a")["hosts"][0]["note"]


@contextmanager
def metered(owner: Owner) -> Iterator[dict[str, Any]]:
    reply: dict[str, Any] = {"answer": answer({"plug": {"w": "50"}})}
    with Loopback(lambda _: reply["answer"]) as plug:
        owner.config = owner.config.replace("PLUG", f'watts_url = "{plug.url}/"\nwatts_path = "plug.w"\n')
        yield reply


def test_a_meter_that_fails_costs_the_net_and_nothing_else(make_owner: MakeOwner) -> None:
    owner = make_owner(f"{TARIFF}[hosts.local]\nidle_watts = 10\nPLUG")
    owner.config += owner.sections("a")
    with metered(owner) as plug:
        owner.hourly(START, 2, "a")
        assert owner.last is not None
        assert owner.last.data["hosts"][0]["watts"] == 50
        assert totals(owner) == (pytest.approx(0.015), pytest.approx(0.01 - 0.015))
        plug["answer"] = Answer(500)
        owner.node("a", "0.02")
        result = owner.collect("2026-11-22T02:00:00")
        assert (result.exit_code, [(one.node, str(one.kind)) for one in result.failures]) == (
            ExitCode.PARTIAL, [(None, "transient")]
        )  # fmt: skip
        assert "power of local" in result.failures[0].message
        assert result.data["hosts"][0]["watts"] is None
        plug["answer"] = answer({"plug": {"w": "30"}})
        owner.node("a", "0.03")
        owner.collect("2026-11-22T03:00:00")
        assert owner.query("SELECT watts FROM power_samples ORDER BY observed_s") == [(50,), (50,), (30,)]
        assert totals(owner) == (None, None)
        assert "1 of 3 hours lack watts" in owner.status()["hosts"][0]["note"]


def test_of_a_machine_that_is_always_on_only_what_the_nodes_add_counts(make_owner: MakeOwner) -> None:
    owner = make_owner(f"{TARIFF}[hosts.local]\nidle_watts = 38\nalways_on = true\nPLUG")
    owner.config += owner.sections("a")
    with metered(owner):
        owner.hourly(START, 2, "a")
    assert owner.query("SELECT watts, source FROM power_hours") == [(12, "meter less idle_watts")]


def test_a_hanging_meter_does_not_hold_up_the_nodes(make_owner: MakeOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depin_orcha.power._DEADLINE_S", 0.3)
    owner = make_owner(f"{TARIFF}[hosts.local]\nPLUG")
    owner.config += owner.sections("a")
    with metered(owner) as plug:
        plug["answer"] = Answer(200, b"{", "application/json", stream=True)
        owner.node("a", "1")
        result = owner.collect(START)
    assert result.data["nodes"][0]["health"]["status"] == "up"
    assert [str(one.kind) for one in result.failures] == ["transient"]


def test_an_hour_is_fixed_once(make_owner: MakeOwner, tmp_path: Path) -> None:
    def listing(*prices: float) -> None:
        rows = [f"2026-11-22T0{hour}:00:00Z,{price}" for hour, price in enumerate(prices)]
        (tmp_path / "tariff.csv").write_text("\n".join(["start,price", *rows]))

    owner = make_owner('[costs]\nelectricity_per_kwh = {csv = "tariff.csv"}\n[hosts.local]\nidle_watts = 1000\n')
    owner.config += owner.sections("a")
    listing(0.1, 0.2)
    owner.hourly(START, 2, "a")
    listing(0.7, 0.2)
    owner.collect("2026-11-22T01:30:00")
    assert owner.last is not None
    assert owner.last.failures == []
    result = owner.collect("2026-11-22T02:10:00")
    assert [(one.node, str(one.kind)) for one in result.failures] == [(None, "data")]
    owner.collect("2026-11-22T03:10:00")
    fixed = "SELECT usd_per_kwh FROM power_hours ORDER BY hour_s"
    assert owner.query(fixed) == [(0.1,), (0.2,)]
    listing(0.1, 0.2, 0.3, 0.4)
    owner.collect("2026-11-22T03:20:00")
    assert owner.query(fixed) == [(0.1,), (0.2,), (0.3,)]


def test_a_url_of_prices_is_asked_now_and_then_and_remembered(make_owner: MakeOwner) -> None:
    owner = make_owner('[costs]\nelectricity_per_kwh = {url = "TARIFF"}\n[hosts.local]\nidle_watts = 1000\n')
    owner.config += owner.sections("a")
    owner.node("a", "1")
    rows = "".join(f"2026-11-22T{hour:02}:00:00Z,0.{hour + 1}\n" for hour in range(4))
    reply = Answer(200, f"start,price\n{rows}".encode(), "text/csv")
    with Loopback(lambda _: reply) as server:
        owner.config = owner.config.replace("TARIFF", f"{server.url}/prices?key=k")
        for minute in (0, 15, 30, 45, 60):
            assert owner.collect(at(START) + minute * 60).failures == []
        assert len(server.requests) == 2
        reply = Answer(503)
        result = owner.collect("2026-11-22T03:00:00")
        assert (result.failures, len(server.requests)) == ([], 3)
        assert any("known from before are used" in warning for warning in result.warnings)
        (failure,) = owner.collect("2026-11-22T04:00:00").failures
        assert (failure.node, str(failure.kind)) == (None, "transient")
        assert "no price of electricity" in failure.message
    assert owner.query("SELECT usd_per_kwh FROM power_hours ORDER BY hour_s") == [(0.1,), (0.2,), (0.4,)]


def test_the_owners_money_stands_beside_usd(make_owner: MakeOwner) -> None:
    owner = make_owner(f"{EUROS}[hosts.local]\nidle_watts = 1000\n")
    owner.config += owner.sections("a")
    for hour, eur in enumerate((80_000, 80_000, 50_000, 40_000)):
        owner.eur = eur
        owner.node("a", str(hour))
        owner.collect(at(START) + hour * HOUR_S)
    assert {tuple(sorted(query.items())) for query in owner.asked} == {
        (("ids", "bitcoin"), ("include_last_updated_at", "true"), ("precision", "full"), ("vs_currencies", "usd,eur"))
    }
    # Each hour at the rate at its end: 0.8, 0.5 and 0.4 EUR per USD, an hour's USD and its 0.30 EUR of power.
    found = owner.status()["totals"]
    assert found["local_currency"] == "EUR"
    assert found["last_24h_local"] == found["today_local"] == found["last_30d_local"] == pytest.approx(1.7)
    assert found["running_cost_24h_local"] == pytest.approx(0.9)
    assert found["net_24h_local"] == pytest.approx(0.8)
    assert found["running_cost_usd_24h"] == pytest.approx(0.3 / 0.8 + 0.3 / 0.5 + 0.3 / 0.4)
    assert found["net_usd_24h"] == pytest.approx(3 - found["running_cost_usd_24h"])
    assert [(row["local_currency"], row["value_local"]) for row in owner.history()] == [
        ("EUR", pytest.approx(0.8)), ("EUR", pytest.approx(0.5)), ("EUR", pytest.approx(0.4))
    ]  # fmt: skip
    assert owner.last is not None
    (price,) = [one for one in owner.last.data["prices"] if one["currency"] == "EUR"]
    assert (price["usd_per_unit"], price["source"], price["stale"]) == (2.5, "coingecko", False)
    (node,) = owner.status()["nodes"]
    spans = ("today_local", "last_24h_local", "last_30d_local")
    assert [node[key] for key in spans] == [found[key] for key in spans]
    assert found["local_rate"] == {"usd_per_unit": 2.5, "source": "coingecko", "observed_at": price["observed_at"]}


@pytest.mark.parametrize("width", [80, 120])
def test_tables_tell_the_owners_money_of_each_node_and_its_rate(make_owner: MakeOwner, width: int) -> None:
    owner = make_owner(f"{EUROS}[hosts.local]\nidle_watts = 1000\n")
    owner.config += owner.sections("a")
    owner.hourly(START, 3, "a")
    assert owner.last is not None
    printed = StringIO()
    shown = Console(width=width, file=printed, color_system=None)
    now_s = at(START) + 2 * HOUR_S + 600
    tables.status(shown, owner.status(), now_s)
    tables.collect(shown, owner.last.data, now_s)
    text = printed.getvalue()
    assert max(map(len, text.splitlines())) <= width
    rows = [line.split() for line in text.partition("The same in EUR")[2].splitlines()]
    assert [row for row in rows if len(row) > 1 and row[0] in ("a", "total", "net")][:3] == [
        ["a", "0.0160", "0.0160", "0.0160"], ["total", "0.0160", "0.0160", "0.0160"], ["net", "-0.5840"]
    ]  # fmt: skip
    assert len(re.findall(r"^1 EUR = 1.25 USD \(coingecko, 10 min old\)$", text, re.MULTILINE)) == 2


def test_without_a_rate_the_owners_money_is_unknown_and_usd_is_not(make_owner: MakeOwner) -> None:
    owner = make_owner(f"{EUROS}[hosts.local]\nidle_watts = 1000\n")
    owner.config += owner.sections("a")
    owner.prices_work = False
    owner.hourly(START, 3, "a")
    assert owner.last is not None
    assert owner.last.failures == []
    assert any("no rate of EUR" in warning for warning in owner.last.warnings)
    found = owner.status()["totals"]
    assert found["usd_24h"] == pytest.approx(0.02)
    unknown = ("last_24h_local", "running_cost_24h_local", "net_24h_local", "running_cost_usd_24h", "net_usd_24h")
    assert {key: found[key] for key in unknown} == dict.fromkeys(unknown)
    assert [row["value_local"] for row in owner.history()] == [None, None]


def test_what_is_learned_later_is_not_known_before(make_owner: MakeOwner) -> None:
    owner = make_owner(f"{TARIFF}[hosts.local]\nidle_watts = 1000\n")
    owner.config += owner.sections("a")
    owner.hourly(START, 5, "a")
    early = owner.status("2026-11-22T02:30:00")
    assert early["totals"]["running_cost_usd_24h"] == pytest.approx(2 * 0.3)
    assert early["hosts"][0]["watts_observed_at"] == "2026-11-22T02:00:00Z"
    assert owner.status("2026-11-22T04:00:00")["totals"]["running_cost_usd_24h"] == pytest.approx(4 * 0.3)


@pytest.mark.parametrize(
    ("tariff", "usd_per_kwh"),
    [
        ("0.4", 0.5),
        (
            '[{from = "00:00", price = 0.2}, {from = "03:00", price = 0.6}]\ntimezone = "UTC"',
            (0.2 + 11 * 0.6) / 12 / 0.8,
        ),
        ('{csv = "tariff.csv"}', (0.1 + 0.3) / 2 / 0.8),
    ],
)
def test_optimize_counts_with_the_tariff_of_the_coming_hours(
    make_owner: MakeOwner, tmp_path: Path, tariff: str, usd_per_kwh: float
) -> None:
    (tmp_path / "tariff.csv").write_text("start,price\n2026-11-22T02:00:00Z,0.1\n2026-11-22T03:00:00Z,0.3\n")
    owner = make_owner(f'[costs]\ncurrency = "EUR"\nelectricity_per_kwh = {tariff}\n')
    owner.config += owner.sections("a", busy_watts="80", max_units="4")
    owner.hourly(START, 3, "a", used=1)
    job = owner.job(owner.now_s)
    with database.open_for_reading(job.database) as connection:
        assert connection is not None
        (facts,) = gather(job, AsOf(connection, job.now_s))
    assert facts.running_usd_per_unit_hour == pytest.approx(0.08 / 4 * usd_per_kwh)
