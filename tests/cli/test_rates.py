"""The owner's own money: its rate now and in past hours, also where the first source tells none; none is invented."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at
from loopback import Answer, Loopback, Request
from operator_parts import Place

from depin_orcha.types import HOUR_S

SAMPLES = Path(__file__).parents[1] / "samples" / "prices"
NOW_S = at("2026-11-22T20:00:00")
"""A Sunday: the last rates are of Friday, 13:15 UTC."""
FRIDAY = "2026-11-20T13:15:00Z"


class Bank:
    """An owner who counts in some money, a source that may tell its rate, and a bank that does so daily."""

    def __init__(self, place: Place, url: str) -> None:
        self.place = place
        self.url = url
        self.quote: dict[str, Any] | None = None
        self.broken: Answer | None = None
        self.asked: list[str] = []
        self.earned = 0

    def answer(self, request: Request) -> Answer:
        self.asked.append(request.path)
        if request.path.startswith("/ecb/"):
            name = {"eurofxref-daily.xml": "ecb_daily.xml"}.get(request.path.removeprefix("/ecb/"), "ecb_hist_90d.xml")
            return self.broken or Answer(200, (SAMPLES / name).read_bytes(), "text/xml")
        if self.quote is None or request.path != "/simple/price":
            return Answer(503, b"busy", "text/plain")
        return Answer(200, json.dumps({"bitcoin": self.quote}).encode(), "application/json")

    def collect(self, now_s: int, currency: str = "EUR") -> Any:
        self.earned += 1
        counter = {"kind": "counter", "currency": "USD", "amount": str(self.earned)}
        says = self.place.folder / "says.json"
        says.write_text(json.dumps({"earnings": [counter], "health": {"status": "up", "reason": "fine"}}))
        self.place.configure(
            f'[costs]\ncurrency = "{currency}"\n'
            f'[prices]\nurl = "{self.url}"\nfallback_url = "{self.url}"\nrates_url = "{self.url}/ecb"\n'
            f'[nodes.relay]\nprotocol = "exec"\ncommand = {json.dumps(["cat", str(says)])}\ncurrencies = ["USD"]\n'
        )
        return self.place.json("collect", now=now_s)

    def hours(self, now_s: int) -> list[float | None]:
        rows = self.place.json("history", "--by", "hour", now=now_s).data["rows"]
        return [row["value_local"] for row in rows]

    def paths(self) -> list[str]:
        """What was asked of the bank since the last look."""
        asked, self.asked = self.asked, []
        return [path for path in asked if path.startswith("/ecb/")]


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    with Loopback(lambda _: Answer(500)) as server:
        one = Bank(Place(tmp_path), server.url)
        server.respond = one.answer
        yield one


@pytest.mark.parametrize(("currency", "usd"), [("EUR", 1.25), ("GBP", 1.5625), ("JPY", 1.25 / 181.25)])
def test_where_the_first_source_fails_the_daily_rate_stands_over_the_weekend(
    bank: Bank, currency: str, usd: float
) -> None:
    bank.collect(NOW_S - HOUR_S, currency)
    done = bank.collect(NOW_S, currency)
    (price,) = done.data["prices"]
    assert price == {
        "currency": currency, "usd_per_unit": pytest.approx(usd), "source": "ecb daily", "observed_at": FRIDAY,
        "stale": True,
    }  # fmt: skip
    totals = bank.place.json("status", now=NOW_S).data["totals"]
    assert (totals["local_rate"]["source"], totals["local_rate"]["observed_at"]) == ("ecb daily", FRIDAY)
    assert totals["last_24h_local"] == pytest.approx(1 / usd)
    assert f"1 {currency} = " in bank.place("status", now=NOW_S).out
    assert bank.hours(NOW_S) == [pytest.approx(1 / usd)]


def test_past_hours_get_the_rate_of_their_own_day_once(bank: Bank) -> None:
    bank.broken = Answer(500)
    starts = [at(f"2026-11-{day}T14:00:00") for day in (19, 20)]
    bank.collect(starts[0] - 50 * HOUR_S)
    for start_s in starts:
        bank.collect(start_s)
        bank.collect(start_s + HOUR_S)
    assert set(bank.hours(NOW_S)) == {None}
    bank.broken = None
    later_s = NOW_S + HOUR_S
    bank.paths()
    bank.collect(later_s)
    assert "/ecb/eurofxref-hist-90d.xml" in bank.paths()
    usd = {
        "2026-11-17T12": 1.15,
        "2026-11-17T13": 1.16,
        "2026-11-18T12": 1.16,
        "2026-11-18T13": 1.1,
        "2026-11-19T13": 1.2,
        "2026-11-20T14": 1.25,
    }
    rows = bank.place.query(
        "SELECT strftime('%Y-%m-%dT%H', hour_s, 'unixepoch'), CAST(price_usd AS REAL) FROM hour_values ORDER BY 1"
    )
    assert {hour: rate for hour, rate in rows if hour in usd} == usd
    told = bank.hours(later_s)
    assert None not in told
    bank.paths()
    bank.quote = {"usd": 120, "eur": 100, "last_updated_at": later_s + HOUR_S - 60}
    bank.collect(later_s + HOUR_S)
    assert bank.hours(later_s + HOUR_S)[: len(told)] == told
    assert bank.paths() == []


def test_the_bank_is_not_asked_while_the_first_source_tells_rates(bank: Bank) -> None:
    for hour in range(3):
        bank.quote = {"usd": 125_000, "eur": 100_000, "last_updated_at": NOW_S + hour * HOUR_S - 60}
        bank.collect(NOW_S + hour * HOUR_S)
    assert bank.paths() == []
    assert bank.hours(NOW_S + 2 * HOUR_S) == [pytest.approx(0.8)] * 2


def test_money_that_nobody_quotes_has_no_rate(bank: Bank) -> None:
    bank.collect(NOW_S - HOUR_S, "UAH")
    done = bank.collect(NOW_S, "UAH")
    assert "no rate of UAH is known" in done.err
    assert bank.paths() == []
    bank.collect(NOW_S + HOUR_S, "CZK")
    assert bank.hours(NOW_S + HOUR_S) == [None, None], "quoted by the bank, but not in this answer"


@pytest.mark.parametrize(
    "broken",
    [
        Answer(500),
        Answer(429, b"", "text/plain", {"retry-after": "7200"}),
        Answer(200, b"<html>moved</html>", "text/html"),
        Answer(200, b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "text/xml"),
        Answer(200, (SAMPLES / "ecb_daily.xml").read_bytes()[:300], "text/xml"),
        Answer(200, (SAMPLES / "ecb_daily.xml").read_bytes().replace(b"'1.2500'", b"'N/A'"), "text/xml"),
        Answer(200, (SAMPLES / "ecb_daily.xml").read_bytes().replace(b"'1.2500'", b"'-1'"), "text/xml"),
        Answer(200, (SAMPLES / "ecb_daily.xml").read_bytes().replace(b"'1.2500'", b"'Infinity'"), "text/xml"),
        Answer(200, (SAMPLES / "ecb_daily.xml").read_bytes().replace(b"2026-11-20", b"yesterday"), "text/xml"),
    ],
)
def test_answer_that_holds_no_rates_invents_none(bank: Bank, broken: Answer) -> None:
    bank.broken = broken
    bank.collect(NOW_S - HOUR_S)
    done = bank.collect(NOW_S)
    assert done.data["prices"] == []
    assert "no rate of EUR is known: amounts are told in USD alone" in done.err
    assert bank.hours(NOW_S) == [None]


def test_what_is_older_than_the_short_file_is_read_from_the_long_one(bank: Bank) -> None:
    old_s = at("2026-07-01T00:00:00")
    bank.broken = Answer(500)
    bank.collect(old_s)
    bank.collect(old_s + HOUR_S)
    bank.broken = None
    bank.paths()
    bank.collect(NOW_S)
    assert "/ecb/eurofxref-hist.xml" in bank.paths()
