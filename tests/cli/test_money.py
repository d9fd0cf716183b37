"""Money after it was earned, by the command line over real servers: receipts, files, standings, settled months."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, Request, Respond, edited, sample
from operator_parts import Place, at, operating

from depin_orcha.types import DAY_S, HOUR_S

SAMPLES = Path(__file__).parents[1] / "samples"
STORJ, GOLEM = SAMPLES / "storj" / "1.162.3" / "healthy", SAMPLES / "golem" / "0.17.6" / "working"
NOW_S = at("2026-11-22T19:53:00")
KEY = "00112233445566778899aabbccddeeff"
AP1 = "121RTSDpyNZVcEU84Ticf2L1ntiuUimbWgfATz21tuvgk3vzoA6"
US1 = "12EayRS2V1kEsWESU9QMRseFhdxYxKicsiFmxrsLZHeLUtdps3S"
EU1 = "12L9ZFwhzVpuEKMUNUqkaTLGzwY9G24tbiigLiXpmZWKwmcNDDs"
ZKSYNC = "zksync-era:0xaf2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf"
POLYGON = "0x1b5b9ccb3e8d006a5230de9bda23ff91edc794d4f56410560830b418528e446c"
HEAD = (
    "received_at,time_basis,node,protocol,period,amount,currency,usd,usd_per_unit,price_source,price_observed_at,"
    "local_currency,value_local,transaction,fee,external_id\n"
)
# The payouts of October were there before the first reading: no earlier than its end.
OCTOBER = "2026-11-01T00:00:00Z,month_end,storj_1,storj,2026-10"
RECEIPTS = (
    HEAD
    + f"{OCTOBER},0.720005,USD,0.720005,1.0,unit,,USD,0.720005,{ZKSYNC},,{AP1}/2026-10\n"
    + f"{OCTOBER},4.434273,USD,4.434273,1.0,unit,,USD,4.434273,{ZKSYNC},,{US1}/2026-10\n"
    + f"{OCTOBER},2.613295,USD,2.613295,1.0,unit,,USD,2.613295,{ZKSYNC},,{EU1}/2026-10\n"
    # 0.1800038202986111 GLM at 0.3 USD, the price of 20:00.
    + "2026-11-21T20:45:32Z,network,golem_1,golem,,0.1800038202986111,GLM,0.05400114608958333,0.3,coingecko history,"
    + f"2026-11-21T20:00:00Z,USD,0.05400114608958333,{POLYGON},,69439bf4-6e76-a0cd-674f-d1a40762c26f\n"
)


def prices(request: Request) -> Answer:
    """A GLM is worth 0.3 USD until the 22nd, 0.25 USD afterwards, and 0.2 EUR now."""
    if request.path.startswith("/ecb/"):
        return Answer(200, (SAMPLES / "prices" / "ecb_hist_90d.xml").read_bytes(), "text/xml")
    if request.path.endswith("/simple/price"):
        body: Any = {"golem": {"usd": 0.25, "eur": 0.2, "last_updated_at": NOW_S - 60}}
    else:
        first_s, change_s = at("2026-11-21T00:00:00"), at("2026-11-22T00:00:00")
        hours = range(first_s, NOW_S, HOUR_S)
        body = {"prices": [[hour_s * 1000, 0.3 if hour_s < change_s else 0.25] for hour_s in hours]}
    return Answer(200, json.dumps(body).encode(), "application/json")


@contextmanager
def collected(
    folder: Path, costs: str = "", provider: Respond | None = None, prices: Respond = prices
) -> Iterator[Place]:
    """Two sample nodes, collected once."""
    place = Place(folder)
    respond = provider or sample(GOLEM)
    with ExitStack() as stack:
        storj, golem, source = (stack.enter_context(Loopback(one)) for one in (sample(STORJ), respond, prices))
        place.configure(
            f'[costs]\n{costs}\n[prices]\nurl = "{source.url}"\nfallback_url = "{source.url}"\n'
            f'rates_url = "{source.url}/ecb"\n'
            f'[nodes.storj_1]\nprotocol = "storj"\nurl = "{storj.url}"\n'
            f'[nodes.golem_1]\nprotocol = "golem"\nurl = "{golem.url}"\napp_key_file = "golem.key"\n',
            {"golem.key": KEY},
        )
        place.json("collect", now=NOW_S)
        yield place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with collected(tmp_path_factory.mktemp("money")) as there:
        yield there


def node(place: Place, name: str) -> dict[str, Any]:
    return next(one for one in place.json("status", now=NOW_S).data["nodes"] if one["node"] == name)


def test_receipts_are_the_payouts_with_their_value_then(place: Place) -> None:
    assert place("export", "--receipts", now=NOW_S).out == RECEIPTS
    assert place("export", "--receipts", "-q", "-o", "-", "--format", "csv", now=NOW_S).out == RECEIPTS
    one = place("export", "--receipts", "--node", "golem_1", now=NOW_S).out
    assert one == HEAD + RECEIPTS.splitlines(keepends=True)[-1]
    assert place("export", "--receipts", now=NOW_S - 1).out == HEAD


def test_receipts_in_the_owners_money_have_a_value_where_the_rate_then_is_known(tmp_path: Path) -> None:
    def paid_again(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
        just_now = {"paymentId": "again", "amount": "1.5", "timestamp": "2026-11-22T19:52:30Z", "details": ""}
        return [*payments, payments[0] | just_now]

    provider = edited(sample(GOLEM), "/payment-api/v1/payments", paid_again)
    with collected(tmp_path, 'currency = "EUR"', provider) as place:
        rows = csv.DictReader(io.StringIO(place("export", "--receipts", now=NOW_S).out))
    told = [(row["usd"], row["local_currency"], row["value_local"], row["transaction"]) for row in rows]
    assert told == [
        ("0.720005", "EUR", "", ZKSYNC), ("4.434273", "EUR", "", ZKSYNC), ("2.613295", "EUR", "", ZKSYNC),
        ("0.05400114608958333", "EUR", "0.04320091687166666", POLYGON), ("0.375", "EUR", "0.3", ""),
    ]  # fmt: skip


@dataclass
class Archive:
    """A price source whose past costs 0.5 USD, while it is not ``closed``; remembers what was asked of the past."""

    closed: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        if not request.path.endswith("/range"):
            return Answer(404) if "/chart/" in request.path else prices(request)
        start_s, end_s = (int(request.query[name]) for name in ("from", "to"))
        self.asked.append((start_s, end_s))
        points = [] if self.closed else [[hour_s * 1000, 0.5] for hour_s in range(start_s, end_s, HOUR_S)]
        return Answer(200, json.dumps({"prices": points}).encode(), "application/json")


def paid_before(*days_ago: int) -> Respond:
    """The sample provider, which was also paid 2 GLM so many days ago."""

    def add(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
        dates = [datetime.fromtimestamp(NOW_S - days * DAY_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for days in days_ago]
        old = [{"paymentId": when, "amount": "2", "timestamp": when} for when in dates]
        return [*payments, *(payments[0] | one for one in old)]

    return edited(sample(GOLEM), "/payment-api/v1/payments", add)


def golem_receipts(place: Place, now_s: int) -> list[tuple[float | None, str | None]]:
    rows = json.loads(place("export", "--receipts", "--node", "golem_1", "--format", "json", now=now_s).out)
    return [(row["usd"], row["price_source"]) for row in rows if row["amount"] == "2"]


def test_payouts_before_the_first_collect_are_worth_what_they_were_then(tmp_path: Path) -> None:
    archive = Archive()
    with collected(tmp_path, provider=paid_before(40, 300), prices=archive) as place:
        assert golem_receipts(place, NOW_S) == [(1.0, "coingecko history")] * 2
        # Two questions for two stretches of time: so long a stretch as both would have but one price a day.
        assert [(end_s - start_s) // DAY_S for start_s, end_s in archive.asked] == [40, 0]
        place.json("collect", now=NOW_S + 900)
    assert len(archive.asked) == 2


def test_payouts_without_a_price_are_asked_for_again_but_not_by_every_collect(tmp_path: Path) -> None:
    archive = Archive(closed=True)
    with collected(tmp_path, provider=paid_before(100), prices=archive) as place:
        assert golem_receipts(place, NOW_S) == [(None, None)]
        for later_s in (900, 1800):
            place.json("collect", now=NOW_S + later_s)
        old = [window for window in archive.asked if window[1] < NOW_S - 50 * DAY_S]
        assert len(old) == 1
        archive.closed = False
        place.json("collect", now=NOW_S + 6 * HOUR_S)
        assert golem_receipts(place, NOW_S + 6 * HOUR_S) == [(1.0, "coingecko history")]
        assert golem_receipts(place, NOW_S + 900) == [(None, None)]


def test_json_and_json_lines_hold_the_same_rows(place: Place) -> None:
    rows = list(csv.DictReader(io.StringIO(RECEIPTS)))
    told = json.loads(place("export", "--receipts", "--format", "json", now=NOW_S).out)
    lines = place("export", "--receipts", "--format", "jsonl", now=NOW_S).out.splitlines()
    assert [json.loads(line) for line in lines] == told
    assert [{key: "" if value is None else str(value) for key, value in one.items()} for one in told] == rows
    assert (told[0]["price_observed_at"], told[0]["fee"], told[0]["usd"]) == (None, None, 0.720005)


@pytest.mark.parametrize("by", ["hour", "day", "month"])
@pytest.mark.parametrize("group", ["node", "protocol", "currency", "host"])
def test_exported_rows_are_those_of_history(place: Place, by: str, group: str) -> None:
    rows = place.json("history", "--by", by, "--group", group, now=NOW_S).data["rows"]
    out = place("export", "--by", by, "--group", group, "--format", "jsonl", now=NOW_S).out
    assert [json.loads(line) for line in out.splitlines()] == rows
    table = list(csv.DictReader(io.StringIO(place("export", "--by", by, "--group", group, now=NOW_S).out)))
    assert [row["amount"] for row in table] == [row["amount"] for row in rows]
    assert len(rows) > 0


def test_file_is_written_whole_and_told_of(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "receipts.csv"
    path.write_text("of last year\n")
    done = place.json("export", "--receipts", "-o", str(path), now=NOW_S)
    assert done.data == {"paths": [str(path)], "rows": 4}
    assert path.read_text() == RECEIPTS
    assert [one.name for one in tmp_path.iterdir()] == ["receipts.csv"]
    named = tmp_path / "hours.JSONL"
    assert f"to {named}" in " ".join(place("export", "--by", "hour", "-o", str(named), now=NOW_S).out.split())
    assert all(json.loads(line)["hour_start"] for line in named.read_text().splitlines())


def test_link_and_device_are_written_through(place: Place, tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "real.csv", tmp_path / "link.csv", tmp_path / "pipe"
    target.write_text("")
    link.symlink_to(target)
    place("export", "--receipts", "-o", str(link), now=NOW_S)
    assert (target.read_text(), link.is_symlink()) == (RECEIPTS, True)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        place("export", "--receipts", "-o", str(pipe), now=NOW_S)
        assert os.read(reader, 65536).decode() == RECEIPTS
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_wrong_usage_and_places_that_cannot_be_written(place: Place, tmp_path: Path) -> None:
    for words in (("--json",), ("--json", "-o", "-"), ("--receipts", "--by", "day"), ("--format", "xls")):
        done = place("export", *words, now=NOW_S, exits=2)
        assert done.out == ""
        assert done.err
    done = place("export", "-o", str(tmp_path / "nowhere" / "x.csv"), now=NOW_S, exits=77)
    assert done.out == ""
    assert "nowhere" in done.err
    assert place("export", "-o", str(tmp_path), now=NOW_S, exits=77).err


def test_nothing_known_is_a_header(tmp_path: Path) -> None:
    empty = Place(tmp_path)
    empty.configure("")
    assert empty("export", "--receipts").out == HEAD
    assert empty("export", "--by", "month").out == (
        "month,node,protocol,host,currency,amount,usd,usd_per_unit,usd_per_unit_min,usd_per_unit_max,price_source,"
        "price_observed_at,price_age_s,unpriced_amount,local_currency,value_local,usd_without_rate,quality\n"
    )
    assert empty("export", "--format", "json").out == "[]\n"
    assert empty.json("history", "--reconcile").data == {"rows": [], "reconciliation": [], "scorecard": []}


def test_status_tells_where_earned_money_stands(place: Place) -> None:
    keys = ("held_usd", "payable_usd", "at_risk_usd", "paid_usd", "wallet_usd")
    storj, golem = node(place, "storj_1"), node(place, "golem_1")
    assert [storj[key] for key in keys] == [5.4, 0.429229, None, 7.767573, None]
    assert [golem[key] for key in keys] == [
        None, float(Decimal("0.082276741666666662") / 4), 0.0, pytest.approx(0.1800038202986111 * 0.3), None,
    ]  # fmt: skip
    totals = place.json("status", now=NOW_S).data["totals"]
    assert totals["paid_usd"] == pytest.approx(7.767573 + 0.1800038202986111 * 0.3)
    for width in ("80", "120"):
        text = place("status", now=NOW_S, COLUMNS=width).out
        assert "Where earned money stands" in text
        assert max(map(len, text.splitlines())) <= int(width)
        lines = [line.split() for line in text.partition("stands")[2].splitlines()]
        assert ["storj_1", "5.40", "0.4292", "-", "7.77"] in lines
    assert "wallet" not in text


def test_payout_without_a_price_of_its_time_is_not_worth_todays(tmp_path: Path) -> None:
    def paid_long_ago(payments: list[dict[str, Any]]) -> list[dict[str, Any]]:
        earlier = {"paymentId": "earlier", "amount": "1.5", "timestamp": "2025-01-22T19:52:30Z", "details": ""}
        return [*payments, payments[0] | earlier]

    with collected(tmp_path, provider=edited(sample(GOLEM), "/payment-api/v1/payments", paid_long_ago)) as place:
        golem = node(place, "golem_1")
    assert golem["paid_usd"] == pytest.approx(0.1800038202986111 * 0.3)
    assert "1.5 GLM of what was paid has no price of its time, so it is not in the USD" in golem["notes"]


def test_settled_month_that_was_never_read_says_so(place: Place) -> None:
    (one,) = place.json("history", "--reconcile", now=NOW_S).data["reconciliation"]
    assert (one["month"], one["network"], one["paid"], one["ours"]) == ("2026-10", "8.196802", "7.767573", None)
    assert [why["kind"] for why in one["explanations"]] == ["not_read", "not_distributed"]
    for width in (80, 120):
        text = place("history", "--reconcile", now=NOW_S, COLUMNS=str(width)).out
        assert max(map(len, text.splitlines())) <= width
        assert "no hour of this month is known here" in text
        rows = [line.split() for line in text.splitlines()]
        assert ["2026-10", "storj_1", "-", "8.1968", "-", "-", "not", "read"] in rows
        assert ["month", "node", "earned", "held", "returned", "payable", "paid"] in rows
        assert ["2026-10", "storj_1", "8.1968", "0.0000", "0.0000", "8.1968", "7.7676"] in rows


def test_a_month_is_said_kept_and_settled(tmp_path: Path) -> None:
    """A simulated November, read once a day and hourly before the outlooks; the satellites close it in December."""
    place = Place(tmp_path)
    start_s, end_s = at("2026-10-31T00:00:00"), at("2026-12-09T00:00:00")
    tenth_s, twentieth_s = at("2026-11-10T06:00:00"), at("2026-11-20T06:00:00")
    hourly = [
        *range(tenth_s - 30 * HOUR_S, tenth_s + 1, HOUR_S),
        *range(twentieth_s - 18 * HOUR_S, twentieth_s + 1, HOUR_S),
    ]
    with operating(place, start_s) as operator:
        for now_s in sorted({*range(start_s, end_s + 1, DAY_S), *hourly}):
            operator.advance(now_s)
            place("collect", "--node", "storj_rack", now=now_s)
            if now_s in (tenth_s, twentieth_s):
                place("forecast", now=now_s)
        data = place.json("history", "--reconcile", "--node", "storj_rack", now=end_s).data
        stubs = [
            month
            for satellite in operator.world.storage["rack"].satellites
            for month in satellite.settlements(end_s)
            if month.month_s == at("2026-11-01T00:00:00")
        ]
        shown = place("history", "--reconcile", "--node", "storj_rack", now=end_s, COLUMNS="80").out
    assert max(map(len, shown.splitlines())) <= 80
    lines = [line.split() for line in shown.partition("What was said")[2].splitlines()]
    first = next(number for number, line in enumerate(lines) if line[:1] == ["2026-11"])
    november = lines[first : first + 4]
    assert [line[:-3] for line in november[2:]] == [["off", "%"], ["dashboard"]]
    assert [line[:3] for line in november[:2]] == [["2026-11", "we", "said"], ["storj_rack", "range", "-"]]
    assert [line[:3] for line in lines if line[1:3] == ["we", "said"]] == [["2026-11", "we", "said"]]
    (one,) = [row for row in data["reconciliation"] if row["month"] == "2026-11"]
    network = Decimal(sum(month.earned - month.held for month in stubs)).scaleb(-6)
    assert Decimal(one["network"]) == network
    assert (one["known_hours"], one["hours"]) == (720, 720)
    assert Decimal(one["difference"]) == Decimal(one["ours"]) - network
    assert -0.6 < one["difference_pct"] < 0
    assert "truncated_prices" in [why["kind"] for why in one["explanations"]]
    (card,) = [row for row in data["scorecard"] if row["month"] == "2026-11"]
    first, tenth, twentieth = card["said"]
    assert (first["mean"], first["off_pct"]) == (None, None)
    assert first["dashboard"] is not None
    assert None not in (tenth["mean"], tenth["inside80"], twentieth["mean"])
    assert Decimal(tenth["lo80"]) <= Decimal(tenth["mean"]) <= Decimal(tenth["hi80"])
    assert abs(twentieth["off_pct"]) < 30
