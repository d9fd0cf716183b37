"""Earnings brought from elsewhere: all rows or none, once, and shown as what they are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
from ledger_parts import at
from operator_parts import Done, Place

from depin_orcha.timefmt import rfc3339
from depin_orcha.types import HOUR_S

NOW_S = at("2026-11-22T20:15:00")
HEADER = "node,start,end,currency,amount"
DAY = "old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,1.000000000000000001"
CONFIG = """\
[hosts.attic]
[nodes.old_1]
protocol = "golem"
host = "attic"
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.config.write_text(CONFIG)
    return place


def bring(place: Place, *rows: str, header: str = HEADER, exits: int = 0, now: int = NOW_S) -> Done:
    """Import a file of these rows."""
    (place.folder / "file.csv").write_text("\n".join([header, *rows]) + "\n")
    return place.json("import", str(place.folder / "file.csv"), now=now, exits=exits)


def hours(place: Place, *options: str, now: int = NOW_S) -> dict[str, Decimal]:
    rows = place.json("history", "--by", "hour", *options, now=now).data["rows"]
    return {row["hour_start"]: Decimal(row["amount"]) for row in rows}


def test_amount_is_spread_evenly_and_exactly_over_its_hours(place: Place) -> None:
    assert bring(place, DAY).data == {"added": 1, "unchanged": 0}
    found = hours(place)
    assert list(found) == [f"2026-11-20T{hour:02}:00:00Z" for hour in range(24)]
    assert sum(found.values()) == Decimal("1.000000000000000001")
    assert max(found.values()) - min(found.values()) <= Decimal("1e-18")
    (row,) = place.json("history", "--by", "month", now=NOW_S).data["rows"]
    assert (row["month"], row["node"], row["protocol"], row["host"]) == ("2026-11", "old_1", "golem", "attic")
    assert (row["amount"], row["currency"], row["usd"]) == ("1.000000000000000001", "GLM", None)
    assert row["quality"] == "imported"


def test_part_of_an_hour_counts_for_that_hour(place: Place) -> None:
    bring(place, "old_1,2026-11-20T10:30:00Z,2026-11-20T12:15:00Z,GLM,7")
    assert hours(place) == {
        "2026-11-20T10:00:00Z": Decimal(2), "2026-11-20T11:00:00Z": Decimal(4), "2026-11-20T12:00:00Z": Decimal(1),
    }  # fmt: skip


def test_same_file_twice_adds_nothing(place: Place) -> None:
    rows = (DAY, "old_1,2026-11-21T00:00:00Z,2026-11-22T00:00:00Z,GLM,2")
    assert bring(place, *rows).data == {"added": 2, "unchanged": 0}
    before = place.counts()
    assert bring(place, *rows).data == {"added": 0, "unchanged": 2}
    assert bring(place, *rows, now=NOW_S + 60).data == {"added": 0, "unchanged": 2}
    assert place.counts() == before
    more = "old_1,2026-11-22T00:00:00Z,2026-11-22T01:00:00Z,GLM,3"
    assert bring(place, *rows, more).data == {"added": 1, "unchanged": 2}
    assert sum(hours(place).values()) == Decimal("6.000000000000000001")


def test_times_with_and_without_a_zone(place: Place) -> None:
    bring(place, "old_1,2026-11-20T02:00:00+02:00,2026-11-20T01:00:00,GLM,1")
    assert list(hours(place)) == ["2026-11-20T00:00:00Z"]


def test_price_comes_along(place: Place) -> None:
    bring(place, f"{DAY},0.25", "old_1,2026-11-21T00:00:00Z,2026-11-21T10:00:00Z,GLM,4,",
          header=f"{HEADER},usd_per_unit")  # fmt: skip
    days = {row["day"]: row["usd"] for row in place.json("history", now=NOW_S).data["rows"]}
    assert days == {"2026-11-20": pytest.approx(0.25), "2026-11-21": None}


def test_usd_needs_no_price(place: Place) -> None:
    bring(place, "old_1,2026-11-20T00:00:00Z,2026-11-20T02:00:00Z,USD,3")
    assert place.json("history", now=NOW_S).data["rows"][0]["usd"] == 3


def test_unknown_node_is_made_when_its_protocol_is_told(place: Place) -> None:
    bring(place, "gone,2026-11-20T00:00:00Z,2026-11-20T02:00:00Z,USD,3,storj", header=f"{HEADER},protocol")
    nodes = {node["node"]: node for node in place.json("status", now=NOW_S).data["nodes"]}
    assert (nodes["gone"]["protocol"], nodes["gone"]["host"]) == ("storj", "local")
    assert nodes["gone"]["usd_30d"] == 3
    assert place.json("history", "--node", "gone", now=NOW_S).data["rows"]


def test_rows_count_as_learned_when_they_were_imported(place: Place) -> None:
    bring(place, DAY)
    assert hours(place, now=NOW_S - 1) == {}
    assert len(hours(place, now=NOW_S)) == 24


def test_rows_imported_for_the_past_are_known_from_then_on(place: Place) -> None:
    early_s = at("2026-11-21T00:00:00")
    bring(place, "old_1,2026-11-21T00:00:00Z,2026-11-22T00:00:00Z,GLM,2")
    bring(place, DAY, now=early_s)
    assert len(hours(place, now=early_s)) == 24
    assert len(hours(place)) == 48
    assert place.json("status", now=early_s).data["nodes"][0]["earned"]


GOOD = "old_1,2026-11-19T00:00:00Z,2026-11-19T01:00:00Z,GLM,1"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,much", "line 3, column amount: 'much'"),
        ("old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,1_000", "line 3, column amount: '1_000'"),
        ("old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,-1", "line 3, column amount: '-1'"),
        ("old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,NaN", "line 3, column amount: 'NaN'"),
        ("old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,1e999999", "line 3, column amount: '1e999999'"),
        ("old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,", "line 3, column amount: ''"),
        ("old_1,yesterday,2026-11-21T00:00:00Z,GLM,1", "line 3, column start: 'yesterday'"),
        ("old_1,0026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,1", "line 3, column start: 0026"),
        ("old_1,2026-11-20T00:00:00Z,2026-11-31T00:00:00Z,GLM,1", "line 3, column end: '2026-11-31"),
        ("old_1,2026-11-20T00:00:00Z,2026-11-20T00:00:00Z,GLM,1", "line 3, column end: .* not after start"),
        ("old_1,2026-11-22T00:00:00Z,2026-11-22T21:00:00Z,GLM,1", "line 3, column end: .* in the future"),
        ("Old 1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,1", "line 3, column node: 'Old 1'"),
        ("stranger,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,1", "line 3, column node: 'stranger' is not known"),
        ("old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,,1", "line 3, column currency: ''"),
        (
            "old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM",
            "line 3, column amount: missing, as the row ends before it",
        ),
        ("old_1,2026-11-20T00:00:00Z", "line 3, columns end, currency, amount: missing"),
        ("old_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,GLM,1,2", "line 3: has more columns than the header"),
        ("old_1,2026-11-19T00:30:00Z,2026-11-19T02:00:00Z,GLM,1", "line 3: old_1 already has other GLM earnings"),
        ("old_1,2026-11-19T00:00:00Z,2026-11-19T01:00:00Z,GLM,2", "line 3: old_1 already has other GLM earnings"),
    ],
)
def test_bad_row_names_line_and_column_and_nothing_is_stored(place: Place, row: str, told: str) -> None:
    done = bring(place, GOOD, row, exits=65)
    assert done.failures[0]["kind"] == "data"
    assert [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert re.search(told, done.err), done.err
    assert hours(place) == {}
    assert place.query("SELECT count(*) FROM nodes") == [(0,)]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "line 1: the header lacks node, start, end, currency, amount"),
        (b"node,start,end,amount\n", "line 1: the header lacks currency"),
        (b"node,start,end,currency,amount,note\n", "line 1: the header has note"),
        (b"node,start,end,currency,amount,amount\n", "line 1: the header has a column twice"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (b'node,start,end,currency,amount\n"old_1,2026', "not a CSV file"),
    ],
)
def test_bad_file(place: Place, content: bytes, told: str) -> None:
    (place.folder / "file.csv").write_bytes(content)
    done = place.json("import", str(place.folder / "file.csv"), now=NOW_S, exits=65)
    assert told in done.err


def test_missing_file_and_folder(place: Place) -> None:
    assert "No such file" in place.json("import", str(place.folder / "nowhere.csv"), exits=65).err
    assert "cannot be read" in place.json("import", str(place.folder), exits=65).err


def test_protocol_that_contradicts_what_is_known(place: Place) -> None:
    done = bring(place, f"{DAY},storj", header=f"{HEADER},protocol", exits=65)
    assert "line 2, column protocol: old_1 is a golem node, not storj" in done.err


def test_spreadsheet_with_mark_and_crlf(place: Place) -> None:
    (place.folder / "file.csv").write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\n{DAY}\r\n".encode())
    assert place.json("import", str(place.folder / "file.csv"), now=NOW_S).data["added"] == 1


def test_later_file_may_not_change_what_is_there(place: Place) -> None:
    bring(place, DAY)
    before = place.counts()
    other = "old_1,2026-11-20T12:00:00Z,2026-11-20T13:00:00Z,GLM,1"
    assert "old_1 already has other GLM earnings" in bring(place, GOOD, other, exits=65).err
    assert place.counts() == before
    bring(place, "old_1,2026-11-20T12:00:00Z,2026-11-20T13:00:00Z,USD,1")


def test_a_thousand_amounts_of_eighteen_decimals_come_back_to_the_last_digit(place: Place) -> None:
    amounts = [Decimal("0.012345678901234567") * n for n in range(1, 1001)]
    first_s = NOW_S // HOUR_S * HOUR_S - len(amounts) * HOUR_S
    rows = [
        f"earlier,{rfc3339(first_s + i * HOUR_S)},{rfc3339(first_s + (i + 1) * HOUR_S)},GLM,{amount},golem"
        for i, amount in enumerate(amounts)
    ]
    file = place.folder / "many.csv"
    file.write_text("node,start,end,currency,amount,protocol\n" + "\n".join(rows) + "\n")
    assert place.json("import", str(file), now=NOW_S).data == {"added": 1000, "unchanged": 0}
    months = place.json("history", "--by", "month", now=NOW_S).data["rows"]
    assert sum(Decimal(row["amount"]) for row in months) == sum(amounts)
    assert sum(amounts) > 10


class Outage:
    """A node that was read until ten in the morning, and again when its outage is over."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.read("10:00", job="100")

    def read(self, clock: str, *, events: Mapping[str, str] | None = None, **counters: str) -> Decimal | None:
        """What it earned since the reading before, by its counters and by events at their time."""
        earnings = [
            {"kind": "counter", "currency": "USD", "external_id": name, "amount": amount}
            for name, amount in counters.items()
        ] + [
            {"kind": "event", "currency": "USD", "external_id": when, "amount": amount, "observed_at": f"{DATE}{when}Z"}
            for when, amount in (events or {}).items()
        ]
        printed = json.dumps({"earnings": earnings, "health": {"status": "up", "reason": "fine"}})
        command = json.dumps(["printf", "%s", printed])
        self.place.configure(f'[nodes.old_1]\nprotocol = "exec"\ncommand = {command}\ncurrencies = ["USD"]\n')
        earned = self.place.json("collect", now=at(f"{DATE}{clock}")).data["nodes"][0]["earned_since_previous"]
        return None if earned is None else Decimal(earned["amount"])

    def bring(self, start: str, end: str, amount: str) -> None:
        bring(self.place, f"old_1,{DATE}{start}Z,{DATE}{end}Z,USD,{amount}", now=at(f"{DATE}{end}"))

    def hours(self) -> dict[str, Decimal]:
        """Hour of the day -> amount, where there is one."""
        return {hour[11:13]: amount for hour, amount in hours(self.place, now=at(f"{DATE}23:59")).items() if amount}


DATE = "2026-11-20T"


@pytest.fixture
def outage(place: Place) -> Outage:
    return Outage(place)


def test_growth_over_an_outage_falls_on_the_hours_that_were_not_imported(outage: Outage) -> None:
    outage.bring("12:00", "15:00", "9")
    assert outage.read("16:00", job="112") == 3
    assert outage.hours() == {hour: Decimal(3 if hour in {"12", "13", "14"} else 1) for hour in OF_OUTAGE}
    assert outage.read("16:15", job="113") == 1
    assert sum(outage.hours().values()) == 13


OF_OUTAGE = ("10", "11", "12", "13", "14", "15")


def test_what_a_wholly_imported_outage_lacks_falls_on_its_last_hour(outage: Outage) -> None:
    outage.bring("10:00", "16:00", "6")
    assert outage.read("16:00", job="110.5") == Decimal("4.5")
    assert outage.hours() == {hour: Decimal("5.5" if hour == "15" else 1) for hour in OF_OUTAGE}


def test_import_of_more_than_the_node_tells_is_kept(outage: Outage) -> None:
    outage.bring("12:00", "15:00", "9")
    assert outage.read("16:00", job="107") == 0
    assert outage.hours() == {"12": 3, "13": 3, "14": 3}
    assert outage.read("17:00", job="109") == 2


def test_bounds_of_an_import_count_to_the_second(outage: Outage) -> None:
    outage.bring("10:00", "10:20", "1")
    assert outage.read("10:20", job="103") == 2
    assert outage.read("10:40", job="104") == 1
    outage.bring("11:00", "12:30", "3")
    assert outage.read("12:40", job="109") == 2
    assert {hour: round(amount, 6) for hour, amount in outage.hours().items()} == {
        "10": Decimal("5.333333"), "11": 2, "12": Decimal("1.666667"),
    }  # fmt: skip


def test_counters_share_what_was_imported(outage: Outage) -> None:
    outage.read("10:00:30", job="100", work="50")
    outage.bring("12:00", "15:00", "6")
    assert outage.read("16:00:30", job="105", work="55") == 4
    assert sum(outage.hours().values()) == 10


def test_documents_of_an_imported_day_are_that_money_until_they_are_more(outage: Outage) -> None:
    outage.bring("12:00", "20:00", "8")
    told = {"12:10": "3", "15:30": "3"}
    assert outage.read("20:00", job="100", events=told) == 0
    told |= {"12:20": "1", "19:30": "4"}
    assert outage.read("20:15", job="100", events=told) == 3
    assert sum(outage.hours().values()) == 11
    assert outage.read("20:30", job="100", events=told | {"19:30": "2"}) == -2
    assert outage.read("20:45", job="100", events=told | {"19:30": "0"}) == -1
    assert outage.read("21:00", job="100", events=told | {"19:30": "0", "21:00": "1"}) == 1
    assert sum(outage.hours().values()) == 9


@pytest.mark.parametrize("seed", range(4))
def test_ledger_is_the_counter_whatever_was_imported_of_it(outage: Outage, seed: int) -> None:
    chance = Random(seed)
    amount, earned, hour = Decimal(100), Decimal(0), 10
    while hour < 23:
        begin, hour = hour, min(hour + chance.randint(1, 5), 23)
        grown = Decimal(chance.randrange(1, 10**6)).scaleb(-5)
        amount += grown
        imported = Decimal(0)
        bounds = [f"{at_hour:02}:{minute:02}" for at_hour in range(begin, hour) for minute in (0, 17, 30)]
        cuts = sorted(chance.sample([*bounds, f"{hour:02}:00"], 2 * chance.randint(0, len(bounds) // 3)))
        for start, end in zip(cuts[::2], cuts[1::2], strict=True):
            part = (grown / chance.randint(len(cuts), 40)).quantize(Decimal("1e-18"))
            outage.bring(start, end, str(part))
            imported += part
        earned_now = outage.read(f"{hour:02}:00", job=str(amount))
        assert earned_now == grown - imported
        earned += grown
        assert sum(outage.hours().values()) == earned == amount - 100
