"""Prices that fail, are late, old or partial: no figure is invented, and none that was given is changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at
from loopback import Answer, Loopback, Request
from operator_parts import Place

from depin_orcha.demo import SimulatedOperator
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import HOUR_S

SAMPLES = Path(__file__).parents[1] / "samples" / "prices"
NOW_S = 1_795_377_600
"""2026-11-22T20:00:00Z, when the samples were current."""
START_S = NOW_S - 5 * HOUR_S
NODE = "golem_rack"


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def told(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), "application/json", headers)


class Source:
    """A price source: what it says of now and of the past, unless it is broken."""

    def __init__(self, latest: Any, history: Any) -> None:
        self.latest: Answer = told(latest)
        self.history: Answer = told(history)
        self.broken: Answer | None = None
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        past = "market_chart" in request.path or "/chart/" in request.path
        return self.broken or (self.history if past else self.latest)

    def paths(self) -> list[str]:
        """What was asked since the last look."""
        asked, self.asked = self.asked, []
        return [request.path for request in asked]


class Market:
    """A Golem provider whose money is priced by two sources that a test can break."""

    def __init__(self, place: Place, operator: SimulatedOperator, gecko: Source, llama: Source) -> None:
        self.place = place
        self.operator = operator
        self.gecko = gecko
        self.llama = llama

    def collect(self, now: int, exits: int | None = 0) -> Any:
        if now >= self.operator.world.now_s:
            self.operator.advance(now)
        return self.place.json("collect", now=now, exits=exits)

    def status(self, now: int) -> dict[str, Any]:
        return next(node for node in self.place.json("status", now=now).data["nodes"] if node["node"] == NODE)

    def glm(self, now: int) -> dict[str, Any]:
        return next(one for one in self.status(now)["earned"] if one["currency"] == "GLM")

    def hours(self, now: int) -> dict[str, tuple[str, float | None]]:
        rows = self.place.json("history", "--by", "hour", now=now).data["rows"]
        return {row["hour_start"]: (row["amount"], row["usd"]) for row in rows}

    def backoff(self, source: str) -> tuple[int, int]:
        """Not before, and how long the last pause was."""
        rows = self.place.query("SELECT until_s, until_s - since_s FROM backoffs WHERE subject = ?", source)
        return rows[0] if rows else (0, 0)

    def values(self) -> dict[int, tuple[str, str, int]]:
        """Hour -> its price for good, whose it is, and since when we know."""
        rows = self.place.query("SELECT hour_s, price_usd, price_source, learned_s FROM hour_values")
        return {row[0]: row[1:] for row in rows}

    def know_nothing_else(self) -> None:
        """The first source has but its latest price, the second none."""
        self.gecko.history = told({"prices": []})
        self.llama.latest = told({"coins": {}})

    def break_both(self) -> None:
        self.gecko.broken = self.llama.broken = Answer(503, b"busy", "text/plain")

    def repair(self) -> None:
        self.gecko.broken = self.llama.broken = None


def seconds(hour_start: str) -> int:
    return at(hour_start.removesuffix("Z"))


def gecko_says(usd: Any, at_s: int) -> Answer:
    return told({"golem": {"usd": usd, "last_updated_at": at_s}})


def gecko_chart(points: dict[int, float]) -> Answer:
    return told({"prices": [[at_s * 1000 + 246, usd] for at_s, usd in points.items()], "market_caps": []})


def hourly(usd: float, step: float = 0.0) -> dict[int, float]:
    """A point at the beginning of each of the last ten hours, as the market chart has them."""
    return {NOW_S - back * HOUR_S: round(usd - back * step, 6) for back in range(10, -1, -1)}


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    place = Place(tmp_path)
    gecko = Source(sample("coingecko_simple_price"), sample("coingecko_market_chart_hourly"))
    llama = Source(sample("llama_prices_current"), sample("llama_prices_current_missing"))
    with SimulatedOperator(START_S) as operator, Loopback(gecko) as first, Loopback(llama) as second:
        place.configure(
            f'[prices]\nurl = "{first.url}/api/v3"\nfallback_url = "{second.url}"\n'
            f'[nodes.{NODE}]\nprotocol = "golem"\nurl = "{operator.url(NODE)}"\napp_key_file = "{NODE}.key"\n',
            operator.secrets(),
        )
        yield Market(place, operator, gecko, llama)


# One answer


@pytest.mark.parametrize("width", ["80", "120"])
def test_tables_tell_price_source_and_age(market: Market, width: str) -> None:
    market.operator.advance(NOW_S)
    for verb in ("collect", "status"):
        lines = market.place(verb, now=NOW_S, COLUMNS=width).out.splitlines()
        assert "1 GLM = 0.2146 USD (coingecko, 38 s old)" in lines
        assert max(map(len, lines)) <= int(width)
    market.know_nothing_else()
    market.gecko.broken = Answer(503, b"busy", "text/plain")
    text = market.place("collect", now=NOW_S + 3 * HOUR_S, exits=3, COLUMNS=width).out
    assert "1 GLM = 0.2146 USD (coingecko, 3 h old, stale)" in text


def test_price_is_told_with_its_source_and_age(market: Market) -> None:
    data = market.collect(NOW_S).data
    assert data["prices"] == [
        {
            "currency": "GLM", "usd_per_unit": 0.21456, "source": "coingecko",
            "observed_at": rfc3339(1_795_377_562), "stale": False,
        }
    ]  # fmt: skip
    assert market.place.query("SELECT usd_per_unit FROM prices WHERE source = 'coingecko'") == [("0.21456",)]
    assert market.llama.paths() == []


def test_one_request_carries_all_tokens_and_no_address(market: Market) -> None:
    market.collect(NOW_S)
    (request,) = [request for request in market.gecko.asked if request.path.endswith("/simple/price")]
    assert request.query == {
        "ids": "golem", "vs_currencies": "usd", "include_last_updated_at": "true", "precision": "full",
    }  # fmt: skip
    assert request.headers["user-agent"].startswith("depin-orcha/")


def test_key_goes_into_the_header_and_nowhere_else(market: Market) -> None:
    place = market.place
    (place.folder / "gecko.key").touch(0o600)
    (place.folder / "gecko.key").write_text("CG-canary")
    place.config.write_text(place.config.read_text().replace("[prices]", '[prices]\napi_key_file = "gecko.key"'))
    market.gecko.broken = Answer(401, json.dumps(sample("coingecko_error_10012")).encode(), "application/json")
    done = market.collect(NOW_S)
    assert market.gecko.asked[0].headers["x-cg-demo-api-key"] == "CG-canary"
    assert "CG-canary" not in market.gecko.asked[0].target
    assert "CG-canary" not in done.out + done.err
    assert b"CG-canary" not in place.db.read_bytes()


@pytest.mark.parametrize(
    "latest",
    [
        {},
        {"golem": {}},
        {"golem": None},
        {"golem": {"usd": None, "last_updated_at": NOW_S}},
        {"golem": {"usd": 0, "last_updated_at": NOW_S}},
        {"golem": {"usd": -0.2, "last_updated_at": NOW_S}},
        {"golem": {"usd": True, "last_updated_at": NOW_S}},
        {"golem": {"usd": "0.2", "last_updated_at": NOW_S}},
        {"golem": []},
        [],
        None,
    ],
    ids=json.dumps,
)
def test_second_source_prices_what_the_first_does_not(market: Market, latest: Any) -> None:
    market.gecko.latest = told(latest)
    (price,) = market.collect(NOW_S).data["prices"]
    assert (price["source"], price["usd_per_unit"]) == ("defillama", 0.2145)
    assert price["observed_at"] == rfc3339(1_795_377_534)


def test_samples_of_partial_answers(market: Market) -> None:
    for name in ("coingecko_simple_price_partial", "coingecko_simple_price_unknown"):
        market.gecko.latest = told(sample(name))
        assert market.collect(NOW_S).data["prices"][0]["source"] == "defillama"


@pytest.mark.parametrize(
    "broken",
    [
        Answer(500, b"", "text/plain"),
        Answer(403, b"<html>1020</html>", "text/html"),
        Answer(200, b"<html></html>", "text/html"),
        Answer(200, b'{"golem": {"usd": 0.2', "application/json"),
        Answer(200, b'{"golem": {"usd": NaN}}', "application/json"),
        Answer(301, b"", "text/html", {"Location": "http://127.0.0.1:9/"}),
    ],
    ids=["500", "403", "page", "cut", "nan", "redirect"],
)
def test_fallback_is_no_failure(market: Market, broken: Answer) -> None:
    market.gecko.broken = broken
    done = market.collect(NOW_S)
    assert done.failures == []
    assert done.data["prices"][0]["source"] == "defillama"
    assert "WARNING" in done.err


def test_price_may_be_tiny(market: Market) -> None:
    market.gecko.latest = Answer(
        200, b'{"golem": {"usd": 3.1e-05, "last_updated_at": %d}}' % NOW_S, "application/json"
    )  # fmt: skip
    assert market.collect(NOW_S).data["prices"][0]["usd_per_unit"] == 3.1e-05
    assert market.place.query("SELECT usd_per_unit FROM prices WHERE source = 'coingecko'") == [("0.000031",)]


def test_fallback_that_is_not_sure_is_not_believed(market: Market) -> None:
    market.gecko.broken = Answer(500, b"", "text/plain")
    quote = sample("llama_prices_current")
    quote["coins"]["coingecko:golem"]["confidence"] = 0.79
    market.llama.latest = told(quote)
    done = market.collect(NOW_S, exits=3)
    assert done.data["prices"] == []


def test_price_from_the_future_is_one_of_now(market: Market) -> None:
    market.gecko.latest = gecko_says(0.3, NOW_S + 1800)
    done = market.collect(NOW_S)
    assert done.data["prices"][0]["observed_at"] == rfc3339(NOW_S)
    assert "clock" in done.err


def test_second_source_is_asked_for_what_the_first_lacks_and_nothing_else(market: Market) -> None:
    """One price, one tiny one, an empty object, a null, a price of last week, and a token that is missing."""
    place = market.place
    says = json.dumps({"earnings": [], "health": {"status": "up", "reason": "fine"}})
    section = {"command": ["printf", "%s", says], "currencies": ["STORJ", "GRASS", "GLM", "DATA", "MYST", "POL"]}
    options = "".join(f"{name} = {json.dumps(value)}\n" for name, value in section.items())
    place.configure(place.config.read_text().partition("[nodes.")[0] + '[nodes.all]\nprotocol = "exec"\n' + options)
    partial = sample("coingecko_simple_price_partial")
    market.gecko.latest = told(partial | {"mysterium": {"usd": 0.3, "last_updated_at": NOW_S - 9 * 24 * HOUR_S}})
    done = place.json("collect", now=NOW_S, exits=3)
    (asked,) = market.llama.paths()
    lacking = ("golem", "mysterium", "polygon-ecosystem-token", "streamr")
    assert asked == f"/prices/current/{','.join(f'coingecko:{token}' for token in lacking)}"
    assert {price["currency"]: (price["source"], price["stale"]) for price in done.data["prices"]} == {
        "STORJ": ("coingecko", False),
        "GRASS": ("coingecko", False),
        "GLM": ("defillama", False),
        "DATA": ("defillama", False),
        "MYST": ("coingecko", True),
    }
    (failure,) = done.failures
    assert failure["node"] is None
    assert failure["message"].startswith("no usable price of MYST, POL: ")


def test_answers_without_the_token_are_no_price(market: Market) -> None:
    market.gecko.latest = told({})
    market.know_nothing_else()
    done = market.collect(NOW_S, exits=3)
    assert done.data["prices"] == []
    assert [(one["node"], one["kind"]) for one in done.failures] == [(None, "shape")]
    assert "GLM" in done.failures[0]["message"]


# Leaving a source alone


def test_retry_after_is_kept_over_runs_doubles_and_resets(market: Market) -> None:
    market.gecko.broken = told(sample("coingecko_429"), 429, **{"Retry-After": "119"})
    assert market.collect(NOW_S).data["prices"][0]["source"] == "defillama"
    assert market.backoff("coingecko") == (NOW_S + 119, 119)
    assert market.gecko.paths() == ["/api/v3/simple/price"]
    market.collect(NOW_S + 60)
    market.collect(NOW_S + 118)
    assert market.gecko.paths() == []
    market.gecko.broken = told(sample("coingecko_429"), 429)
    market.collect(NOW_S + 119)
    assert market.gecko.paths() == ["/api/v3/simple/price"]
    assert market.backoff("coingecko") == (NOW_S + 119 + 238, 238)
    market.repair()
    market.collect(NOW_S + 356)
    assert market.gecko.paths() == []
    market.gecko.latest = gecko_says(0.22, NOW_S + 357)
    assert market.collect(NOW_S + 357).data["prices"][0]["source"] == "coingecko"
    assert market.backoff("coingecko") == (0, 0)
    market.gecko.broken = Answer(429, b"<html>slow down</html>", "text/html")
    market.collect(NOW_S + 400)
    assert market.backoff("coingecko") == (NOW_S + 460, 60)


def test_pause_without_retry_after_grows_to_an_hour(market: Market) -> None:
    market.gecko.broken = told(sample("coingecko_429"), 429)
    now_s, pauses = NOW_S, []
    for _ in range(8):
        market.collect(now_s, exits=None)
        now_s, pause_s = market.backoff("coingecko")
        pauses.append(pause_s)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]


def test_both_asked_to_be_left_alone(market: Market) -> None:
    market.gecko.broken = market.llama.broken = told(sample("coingecko_429"), 429)
    done = market.collect(NOW_S, exits=3)
    assert [(one["node"], one["kind"]) for one in done.failures] == [(None, "transient")]
    assert "GLM" in done.failures[0]["message"]
    for source in (market.gecko, market.llama):
        source.paths()
    market.repair()
    again = market.collect(NOW_S + 30, exits=3)
    assert (market.gecko.paths(), market.llama.paths()) == ([], [])
    assert again.failures[0]["node"] is None
    assert market.collect(NOW_S + 60).data["prices"][0]["source"].startswith("coingecko")


@pytest.mark.parametrize(
    ("headers", "pause_s"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "Sun, 22 Nov 2026 20:05:00 GMT", "Date": "Sun, 22 Nov 2026 20:00:00 GMT"}, 300),
        ({"Retry-After": "Sun, 22 Nov 2026 20:05:00 GMT"}, 60),
        ({"Retry-After": "soon"}, 60),
        ({"Retry-After": "-5"}, 60),
        ({"Retry-After": "9" * 5000}, 60),
        ({"Retry-After": "999999"}, 3600),
    ],
)
def test_each_form_of_retry_after_is_understood(market: Market, headers: dict[str, str], pause_s: int) -> None:
    market.gecko.broken = told(sample("coingecko_429"), 429, **headers)
    market.collect(NOW_S)
    assert market.backoff("coingecko") == (NOW_S + pause_s, pause_s)


def test_source_that_is_left_alone_is_named_when_a_price_lacks(market: Market) -> None:
    market.gecko.broken = told(sample("coingecko_429"), 429, **{"Retry-After": "600"})
    market.llama.latest = told({"coins": {}})
    market.collect(NOW_S, exits=3)
    market.repair()
    (failure,) = market.collect(NOW_S + 300, exits=3).failures
    assert failure["kind"] == "transient"
    assert (
        f"coingecko asks to be left alone (429); it is not asked again before {rfc3339(NOW_S + 600)}"
        in (failure["message"])
    )


def test_clock_that_went_back_does_not_hold_a_source_for_long(market: Market) -> None:
    market.gecko.broken = told(sample("coingecko_429"), 429)
    market.collect(NOW_S + 300 * 24 * HOUR_S, exits=None)
    market.repair()
    market.gecko.paths()
    market.collect(NOW_S)
    assert "/api/v3/simple/price" in market.gecko.paths()


# A price that jumps


@pytest.mark.parametrize("usd", [0.66, 0.066], ids=["up", "down"])
def test_jump_is_not_used_before_the_next_reading_confirms_it(market: Market, usd: float) -> None:
    market.know_nothing_else()
    market.gecko.latest = gecko_says(0.21, NOW_S)
    market.collect(NOW_S)
    market.gecko.latest = gecko_says(usd, NOW_S + 880)
    done = market.collect(NOW_S + 900)
    assert [(one["usd_per_unit"], one["observed_at"]) for one in done.data["prices"]] == [(0.21, rfc3339(NOW_S))]
    assert f"coingecko says that GLM is worth {usd} USD, after 0.21" in done.err
    assert market.glm(NOW_S + 900)["usd_per_unit"] == 0.21
    market.collect(NOW_S + 960)
    assert market.glm(NOW_S + 960)["usd_per_unit"] == 0.21, "the same answer again confirms nothing"
    market.gecko.latest = gecko_says(usd * 1.1, NOW_S + 1780)
    done = market.collect(NOW_S + 1800)
    assert "GLM is worth" not in done.err
    assert market.glm(NOW_S + 1800)["usd_per_unit"] == usd * 1.1
    assert market.glm(NOW_S + 1799)["usd_per_unit"] == 0.21


def test_jump_that_the_second_source_confirms_is_used_at_once(market: Market) -> None:
    market.gecko.latest = gecko_says(0.21, NOW_S)
    market.collect(NOW_S)
    assert [path for path in market.llama.paths() if "/prices/" in path] == []
    market.gecko.latest = gecko_says(0.9, NOW_S + 880)
    quote = {"price": 0.88, "timestamp": NOW_S + 870, "confidence": 0.99}
    market.llama.latest = told({"coins": {"coingecko:golem": quote}})
    done = market.collect(NOW_S + 900)
    assert [(one["usd_per_unit"], one["source"]) for one in done.data["prices"]] == [(0.9, "coingecko")]
    assert "GLM is worth" not in done.err


def test_jump_that_the_second_source_denies_is_an_error_however_often_it_comes(market: Market) -> None:
    market.gecko.latest = gecko_says(0.21, NOW_S)
    market.collect(NOW_S)
    for later_s in (900, 1800, 2700):
        market.gecko.latest = gecko_says(2.1, NOW_S + later_s - 20)
        quote = {"price": 0.22, "timestamp": NOW_S + later_s - 40, "confidence": 0.99}
        market.llama.latest = told({"coins": {"coingecko:golem": quote}})
        done = market.collect(NOW_S + later_s)
        assert [(one["usd_per_unit"], one["source"]) for one in done.data["prices"]] == [(0.22, "defillama")]
        assert "coingecko says that GLM is worth 2.1 USD" in done.err


def test_single_wrong_answers_are_never_used(market: Market) -> None:
    market.know_nothing_else()
    shown: list[float] = []
    for step, usd in enumerate([0.2, 2.0, 0.21, 2.0, 0.02, 0.2]):
        now_s = NOW_S + step * 600
        market.gecko.latest = gecko_says(usd, now_s)
        market.collect(now_s)
        shown.append(market.glm(now_s)["usd_per_unit"])
    assert shown == [0.2, 0.2, 0.21, 0.21, 0.21, 0.2]


def test_after_an_hour_there_is_nothing_to_compare_with(market: Market) -> None:
    market.know_nothing_else()
    market.gecko.latest = gecko_says(0.21, NOW_S)
    market.collect(NOW_S)
    market.gecko.latest = gecko_says(2.1, NOW_S + HOUR_S + 1)
    market.collect(NOW_S + HOUR_S + 60)
    assert market.glm(NOW_S + HOUR_S + 60)["usd_per_unit"] == 2.1


# Without any price


def test_without_sources_the_money_is_kept_and_its_usd_unknown(market: Market) -> None:
    market.break_both()
    done = market.collect(NOW_S, exits=3)
    assert done.document["status"] == "partial"
    (failure,) = done.failures
    assert (failure["node"], failure["kind"]) == (None, "transient")
    assert "503" in failure["message"]
    (node,) = done.data["nodes"]
    assert node["earnings"]
    assert done.data["prices"] == []
    shown = market.status(NOW_S)
    assert Decimal(shown["earned"][0]["last_24h"]) > 0
    assert (shown["usd_24h"], shown["usd_30d"], shown["known_hours_24h"]) == (None, None, 0)
    assert shown["earned"][0]["usd_per_unit"] is None
    assert any("hours have no price" in note for note in shown["notes"])
    assert {usd for _, usd in market.hours(NOW_S).values()} == {None}


def test_missing_prices_are_filled_in_once_from_the_history(market: Market) -> None:
    market.break_both()
    market.collect(NOW_S, exits=3)
    unknown = market.hours(NOW_S)
    market.repair()
    market.gecko.latest = gecko_says(0.5, NOW_S + 600)
    market.gecko.history = gecko_chart(hourly(0.3, step=0.01))
    market.collect(NOW_S + 600)

    def price_at_end(hour_s: int) -> str:
        # Points are dated a moment after the full hour and cut to its second: the one at the end of the hour counts.
        return str(hourly(0.3, step=0.01)[hour_s + HOUR_S])

    values = market.values()
    assert values == {
        hour_s: (price_at_end(hour_s), "coingecko history", NOW_S + 600) for hour_s in map(seconds, unknown)
    }
    assert None not in {usd for _, usd in market.hours(NOW_S + 600).values()}
    assert market.hours(NOW_S + 599) == unknown
    market.gecko.history = gecko_chart(hourly(9.0))
    market.collect(NOW_S + 1200)
    assert {hour_s: market.values()[hour_s] for hour_s in values} == values


# Before the first stored price


def test_hours_before_the_first_price_are_valued_from_the_history(market: Market) -> None:
    market.gecko.latest = gecko_says(0.4, NOW_S)
    market.gecko.history = gecko_chart(hourly(0.3))
    market.collect(NOW_S)
    hours = market.hours(NOW_S)
    assert sum(Decimal(amount) for amount, _ in hours.values()) > 0
    last = rfc3339(NOW_S - HOUR_S)
    assert hours == {
        hour: (amount, pytest.approx(float(Decimal(amount)) * (0.4 if hour == last else 0.3)))
        for hour, (amount, _) in hours.items()
    }
    assert [path for path in market.gecko.paths() if "chart" in path] == ["/api/v3/coins/golem/market_chart/range"]
    assert market.status(NOW_S)["known_hours_24h"] == len(hours) > 2


@pytest.mark.parametrize("past", ["10012", "429", "empty"])
def test_history_falls_back_too(market: Market, past: str) -> None:
    market.gecko.history = {
        "10012": told(sample("coingecko_error_10012"), 401),
        "429": told(sample("coingecko_429"), 429),
        "empty": told({"prices": []}),
    }[past]
    chart = sample("llama_chart")["coins"]["coingecko:streamr"]
    chart["prices"] = [{"timestamp": at_s, "price": usd} for at_s, usd in hourly(0.35).items()]
    market.llama.history = told({"coins": {"coingecko:golem": chart}})
    market.collect(NOW_S)
    assert set(market.values().values()) == {("0.35", "defillama history", NOW_S)}
    assert all(usd is not None for _, usd in market.hours(NOW_S).values())


def test_without_history_the_early_hours_stay_unknown_and_are_counted(market: Market) -> None:
    market.gecko.history = market.llama.history = Answer(500, b"", "text/plain")
    market.gecko.latest = gecko_says(0.4, NOW_S)
    market.collect(NOW_S)
    hours = market.hours(NOW_S)
    unknown = [hour for hour, (_, usd) in hours.items() if usd is None]
    assert unknown == list(hours)[:-1]
    shown = market.status(NOW_S)
    assert f"{len(unknown)} hours have no price, so their USD is unknown" in shown["notes"]
    assert shown["known_hours_24h"] == 1
    assert shown["usd_24h"] == hours[rfc3339(NOW_S - HOUR_S)][1]


def test_better_price_later_changes_no_past_figure(market: Market) -> None:
    market.gecko.latest = gecko_says(0.4, NOW_S)
    market.gecko.history = gecko_chart(hourly(0.3))
    market.collect(NOW_S)
    values, before = market.values(), market.place("history", "--by", "hour", "--json", now=NOW_S).out
    market.gecko.history = gecko_chart({at_s + 1800: 3.0 for at_s in hourly(0)})
    for later_s in (NOW_S + 60, NOW_S + HOUR_S, NOW_S + 3 * HOUR_S):
        market.gecko.latest = gecko_says(4.0, later_s - 30)
        market.collect(later_s)
        assert {hour_s: market.values()[hour_s] for hour_s in values} == values
    assert market.place("history", "--by", "hour", "--json", now=NOW_S).out == before


# Old prices


@pytest.mark.parametrize(("age_s", "stale"), [(60, False), (7200, False), (7201, True), (24 * HOUR_S, True)])
def test_old_price_is_shown_as_stale(market: Market, age_s: int, stale: bool) -> None:
    market.gecko.latest = gecko_says(0.21, NOW_S - age_s)
    market.know_nothing_else()
    done = market.collect(NOW_S, exits=3 if stale else 0)
    (price,) = done.data["prices"]
    assert (price["stale"], price["observed_at"]) == (stale, rfc3339(NOW_S - age_s))
    shown = market.glm(NOW_S)
    assert (shown["usd_per_unit"], shown["stale"]) == (0.21, stale)
    if stale:
        assert [one["node"] for one in done.failures] == [None]
        assert "the price of GLM is stale" in market.status(NOW_S)["notes"]


def test_price_of_more_than_a_day_is_none(market: Market) -> None:
    market.gecko.latest = gecko_says(0.21, NOW_S - 24 * HOUR_S - 1)
    market.know_nothing_else()
    market.collect(NOW_S, exits=3)
    shown = market.glm(NOW_S)
    assert (shown["usd_per_unit"], shown["price_source"], shown["price_observed_at"]) == (None, None, None)
    (forecast,) = market.place.json("forecast", now=NOW_S).data["forecasts"]
    assert (forecast["unit"], forecast["currency"]) == ("native_per_hour", "GLM")


def test_price_grows_old_while_the_sources_are_down(market: Market) -> None:
    market.gecko.latest = gecko_says(0.21, NOW_S)
    market.gecko.history = gecko_chart(hourly(0.2))
    market.collect(NOW_S)
    known = market.status(NOW_S)["usd_30d"]
    market.break_both()
    market.collect(NOW_S + HOUR_S)
    assert market.glm(NOW_S + HOUR_S)["stale"] is False
    market.collect(NOW_S + 3 * HOUR_S, exits=3)
    assert (market.glm(NOW_S + 3 * HOUR_S)["stale"], market.glm(NOW_S + 3 * HOUR_S)["usd_per_unit"]) == (True, 0.21)
    plan = market.place.json("optimize", now=NOW_S + 3 * HOUR_S).data
    (node,) = plan["hosts"][0]["nodes"]
    assert (node["changed"], node["reason"]) == (False, "the price of GLM is missing or stale")
    market.collect(NOW_S + 25 * HOUR_S, exits=3)
    shown = market.status(NOW_S + 25 * HOUR_S)
    assert shown["earned"][0]["usd_per_unit"] is None
    assert shown["usd_30d"] >= known > 0
    assert "no price of GLM in the last 24 h" in shown["notes"]


# Test money


def test_test_money_is_worth_nothing_and_needs_no_price(market: Market) -> None:
    answer: Callable[..., Any] = market.operator._servers[NODE].respond

    def respond(path: str, query: Any, headers: Any) -> Any:
        told = answer(path, query, headers)
        return type(told)(
            told.status, told.body.replace(b"erc20-polygon-glm", b"erc20-holesky-tglm"), told.content_type,
            told.headers, told.stays_open,
        )  # fmt: skip

    market.operator._servers[NODE].respond = respond
    market.collect(NOW_S)
    shown = market.status(NOW_S)
    earned = {one["currency"]: one for one in shown["earned"]}
    assert (earned["tGLM"]["usd_per_unit"], earned["tGLM"]["price_source"]) == (0, "testnet")
    assert Decimal(earned["tGLM"]["last_24h"]) > 0
    assert {one["last_24h"] for currency, one in earned.items() if currency != "tGLM"} <= {"0"}
    assert (shown["usd_24h"], shown["usd_30d"]) == (0, 0)
    assert "tGLM is test money, worth nothing" in shown["notes"]
    assert {one["total"]["mean"] for one in market.place.json("forecast", now=NOW_S).data["forecasts"]} <= {0}
