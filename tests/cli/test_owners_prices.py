"""Prices by the owner's own word: of tokens that no source knows, and of points; and hours that need no price."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, Request
from operator_parts import Place

from depin_orcha.timefmt import parse_rfc3339, rfc3339
from depin_orcha.types import HOUR_S

NOW_S = parse_rfc3339("2026-11-22T18:00:00Z")


@dataclass
class Owner:
    """A node that a command reads, price sources that know what ``quotes`` holds, and a Grass account."""

    place: Place
    url: str
    quotes: dict[str, Any] = field(default_factory=dict)
    points: float = 1000.0

    def answer(self, request: Request) -> Answer:
        if request.path == "/simple/price":
            return _json(self.quotes)
        if request.path == "/epochEarnings":
            epoch = {"epochName": "Epoch 25", "totalPoints": self.points, "startDate": "2026-11-01"}
            return _json({"result": {"data": {"data": [epoch]}}})
        if request.path == "/activeDevices":
            return _json({"result": {"data": [{"ipScore": 80}]}})
        return _json({"result": {"data": {"totalPoints": self.points}}} if request.path == "/retrieveUser" else {})

    def relay(self, prices: str = "", **document: Any) -> None:
        """Configure the relay, paid in FLUX, and what it prints."""
        says = {"earnings": [], "health": {"status": "up", "reason": "fine"}} | document
        (self.place.folder / "says.json").write_text(json.dumps(says))
        command = json.dumps(["cat", str(self.place.folder / "says.json")])
        self._configure(prices, f'[nodes.relay]\nprotocol = "exec"\ncommand = {command}\ncurrencies = ["FLUX"]\n')

    def grass(self, options: str = "", prices: str = "") -> None:
        """Configure the Grass account."""
        section = f'[nodes.grass_1]\nprotocol = "grass"\nurl = "{self.url}"\ntoken_file = "token"\n{options}\n'
        self._configure(prices, section)

    def _configure(self, prices: str, section: str) -> None:
        sources = f'[prices]\nurl = "{self.url}"\nfallback_url = "{self.url}"\nrates_url = "{self.url}/ecb"\n{prices}\n'
        self.place.configure(sources + section, {"token": "made.up.token"})

    def collect(self, now: int, exits: int = 0) -> Any:
        return self.place.json("collect", now=now, exits=exits)

    def status(self, now: int) -> dict[str, Any]:
        return self.place.json("status", now=now).data["nodes"][0]

    def hours(self, now: int) -> dict[str, tuple[str, float | None]]:
        rows = self.place.json("history", "--by", "hour", now=now).data["rows"]
        return {row["hour_start"]: (row["amount"], row["usd"]) for row in rows}


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), "application/json")


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    with Loopback(lambda _: Answer(500)) as server:
        one = Owner(Place(tmp_path), server.url)
        server.respond = one.answer
        yield one


def counter(amount: str) -> list[dict[str, str]]:
    return [{"kind": "counter", "currency": "FLUX", "amount": amount}]


# Tokens


def test_token_without_a_price_names_both_ways_out(owner: Owner) -> None:
    owner.relay(earnings=counter("5"))
    (failure,) = owner.collect(NOW_S, exits=3).failures
    assert (failure["node"], failure["message"]) == (None, "no usable price of FLUX: the sources do not know it")
    assert "ids of [prices]" in failure["hint"]
    assert "static of [prices]" in failure["hint"]


def test_owner_prices_a_token_that_no_source_knows(owner: Owner) -> None:
    owner.relay("static = {FLUX = 0.06}", earnings=counter("5"))
    first = owner.collect(NOW_S)
    assert first.data["prices"] == [
        {"currency": "FLUX", "usd_per_unit": 0.06, "source": "manual", "observed_at": rfc3339(NOW_S), "stale": False}
    ]
    owner.relay("static = {FLUX = 0.06}", earnings=counter("7"))
    (node,) = owner.collect(NOW_S + HOUR_S).data["nodes"]
    assert node["earned_since_previous"] == {"currency": "FLUX", "amount": "2", "usd": 0.12}
    shown = owner.status(NOW_S + HOUR_S)
    assert (shown["earned"][0]["price_source"], shown["earned"][0]["stale"], shown["usd_24h"]) == (
        "manual",
        False,
        0.12,
    )
    (forecast,) = owner.place.json("forecast", now=NOW_S + HOUR_S).data["forecasts"]
    assert (forecast["unit"], forecast["currency"]) == ("usd_per_hour", "FLUX")


def test_other_word_of_the_owner_changes_no_past_hour(owner: Owner) -> None:
    for hour, usd in enumerate((0.06, 0.06, 0.5, 0.5)):
        owner.relay(f"static = {{FLUX = {usd}}}", earnings=counter(str(5 + 2 * hour)))
        owner.collect(NOW_S + hour * HOUR_S)
    starts = [rfc3339(NOW_S + hour * HOUR_S) for hour in range(3)]
    assert owner.hours(NOW_S + 3 * HOUR_S) == dict(zip(starts, [("2", 0.12), ("2", 1.0), ("2", 1.0)], strict=True))


def test_hours_before_the_first_word_are_worth_what_it_says(owner: Owner) -> None:
    """No source will ever know them."""
    for hour in range(2):
        owner.relay(earnings=counter(str(5 + 2 * hour)))
        owner.collect(NOW_S + hour * HOUR_S, exits=3)
    assert owner.hours(NOW_S + HOUR_S) == {rfc3339(NOW_S): ("2", None)}
    owner.relay("static = {FLUX = 0.06}", earnings=counter("9"))
    owner.collect(NOW_S + 60 * HOUR_S)
    values = list(owner.hours(NOW_S + 60 * HOUR_S).values())
    assert values[0] == ("2", 0.12)
    assert sum(usd or 0 for _, usd in values) == pytest.approx(4 * 0.06)
    assert owner.hours(NOW_S + HOUR_S) == {rfc3339(NOW_S): ("2", None)}


def test_word_of_the_owner_is_the_last_source(owner: Owner) -> None:
    def price(now: int) -> tuple[float, str]:
        owner.relay('ids = {FLUX = "zelcash"}\nstatic = {FLUX = 0.06}', earnings=counter("5"))
        (told,) = owner.collect(now).data["prices"]
        return told["usd_per_unit"], told["source"]

    owner.quotes = {"zelcash": {"usd": 0.5, "last_updated_at": NOW_S}}
    assert price(NOW_S) == (0.5, "coingecko")
    owner.quotes = {}
    assert price(NOW_S + 7200) == (0.5, "coingecko")
    assert price(NOW_S + 7201) == (0.06, "manual")
    assert price(NOW_S + 8100) == (0.06, "manual")
    owner.quotes = {"zelcash": {"usd": 0.7, "last_updated_at": NOW_S + 8990}}
    assert price(NOW_S + 9000) == (0.7, "coingecko")


def test_owner_states_a_rate_of_his_own_money(owner: Owner) -> None:
    owner.relay("static = {FLUX = 0.06, EUR = 1.2}", earnings=counter("5"))
    owner.place.config.write_text(owner.place.config.read_text() + '[costs]\ncurrency = "EUR"\n')
    done = owner.collect(NOW_S)
    assert {one["currency"]: one["usd_per_unit"] for one in done.data["prices"]} == {"FLUX": 0.06, "EUR": 1.2}
    assert "no rate of EUR" not in done.err


@pytest.mark.parametrize("stated", ["-0.1", "nan", "inf", '"much"'])
def test_word_that_is_no_price_is_refused(owner: Owner, stated: str) -> None:
    owner.relay(f"static = {{FLUX = {stated}}}")
    assert "prices.static.FLUX" in owner.place("collect", exits=78).err


def test_token_may_be_worth_nothing(owner: Owner) -> None:
    for hour in range(2):
        owner.relay("static = {FLUX = 0}", earnings=counter(str(5 + hour)))
        owner.collect(NOW_S + hour * HOUR_S)
    shown = owner.status(NOW_S + HOUR_S)
    assert (shown["earned"][0]["last_24h"], shown["usd_24h"]) == ("1", 0)
    assert owner.place.json("forecast", now=NOW_S + HOUR_S).data["forecasts"][0]["total"]["mean"] == 0


# Nothing


def test_hours_in_which_nothing_was_earned_need_no_price(owner: Owner) -> None:
    owner.relay(complete_since=rfc3339(NOW_S - 3 * HOUR_S))
    (node,) = owner.collect(NOW_S, exits=3).data["nodes"]
    assert node["earned_since_previous"] is None
    shown = owner.status(NOW_S)
    assert (shown["usd_24h"], shown["usd_30d"], shown["known_hours_24h"]) == (0, 0, 3)
    assert not [note for note in shown["notes"] if "hours have no price" in note]
    assert list(owner.hours(NOW_S).values()) == [("0", 0.0)] * 3
    (node,) = owner.collect(NOW_S + 60, exits=3).data["nodes"]
    assert node["earned_since_previous"] == {"currency": "FLUX", "amount": "0", "usd": 0.0}


def test_nothing_beside_earnings_without_a_price_is_not_shown_as_zero(owner: Owner) -> None:
    event = {"kind": "event", "currency": "FLUX", "amount": "5", "external_id": "job"}
    event |= {"observed_at": rfc3339(NOW_S - 2 * HOUR_S)}
    owner.relay(complete_since=rfc3339(NOW_S - 3 * HOUR_S), earnings=[event])
    owner.collect(NOW_S, exits=3)
    shown = owner.status(NOW_S)
    assert (shown["usd_24h"], shown["usd_30d"], shown["known_hours_24h"]) == (None, None, 2)
    assert "1 hours have no price, so their USD is unknown" in shown["notes"]
    assert list(owner.hours(NOW_S).values()) == [("0", 0.0), ("5", None), ("0", 0.0)]
    (day,) = owner.place.json("history", "--by", "day", now=NOW_S).data["rows"]
    assert (day["amount"], day["usd"], day["value_local"]) == ("5", None, None)


# Points


def test_points_stay_points(owner: Owner) -> None:
    owner.grass()
    owner.collect(NOW_S)
    owner.points += 50
    done = owner.collect(NOW_S + HOUR_S)
    assert done.data["prices"] == []
    assert done.data["nodes"][0]["earned_since_previous"] == {"currency": "POINTS", "amount": "50", "usd": None}
    shown = owner.status(NOW_S + HOUR_S)
    assert (shown["usd_24h"], shown["known_hours_24h"]) == (None, 0)
    assert list(owner.hours(NOW_S + HOUR_S).values()) == [("50", None)]
    (forecast,) = owner.place.json("forecast", now=NOW_S + HOUR_S).data["forecasts"]
    assert (forecast["unit"], forecast["currency"]) == ("native_per_hour", "POINTS")
    owner.collect(NOW_S + 2 * HOUR_S)
    assert owner.hours(NOW_S + 2 * HOUR_S)[rfc3339(NOW_S + HOUR_S)] == ("0", None)


def test_points_are_worth_what_the_owner_says_and_the_past_what_he_said(owner: Owner) -> None:
    for hour, usd in enumerate((0.002, 0.002, 0.01, 0.01)):
        owner.grass(f"usd_per_point = {usd}")
        owner.points += 50
        done = owner.collect(NOW_S + hour * HOUR_S)
    assert done.data["prices"] == [
        {
            "currency": "POINTS", "usd_per_unit": 0.01, "source": "usd_per_point",
            "observed_at": rfc3339(NOW_S + 3 * HOUR_S), "stale": False,
        }
    ]  # fmt: skip
    assert done.data["nodes"][0]["earned_since_previous"] == {"currency": "POINTS", "amount": "50", "usd": 0.5}
    now_s = NOW_S + 3 * HOUR_S
    assert list(owner.hours(now_s).values()) == [("50", 0.1), ("50", 0.5), ("50", 0.5)]
    shown = owner.status(now_s)
    assert (shown["usd_24h"], shown["known_hours_24h"]) == (pytest.approx(1.1), 3)
    (earned,) = shown["earned"]
    assert (earned["usd_per_unit"], earned["price_source"], earned["stale"]) == (0.01, "usd_per_point", False)
    assert not [note for note in shown["notes"] if "price" in note]
    (forecast,) = owner.place.json("forecast", now=now_s).data["forecasts"]
    assert (forecast["unit"], forecast["currency"]) == ("usd_per_hour", "POINTS")
    owner.grass()
    owner.collect(now_s + HOUR_S)
    assert [usd for _, usd in owner.hours(now_s).values()] == [0.1, 0.5, 0.5]


def test_points_of_another_node_may_be_priced_like_a_token(owner: Owner) -> None:
    owner.grass(prices="static = {POINTS = 0.003}")
    assert owner.collect(NOW_S).data["prices"][0]["source"] == "manual"
    owner.grass("usd_per_point = 0.004", prices="static = {POINTS = 0.003}")
    (price,) = owner.collect(NOW_S + 60).data["prices"]
    assert (price["source"], price["usd_per_unit"]) == ("usd_per_point", 0.004)
