"""The ledger in a real file: resets, rollovers, late and voided documents, duplicates, and what was known when."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from ledger_parts import add, at, counter, ledger, opened, snapshot

from depin_orcha import database
from depin_orcha.asof import AsOf
from depin_orcha.errors import DataError, LockHeld, NotPermitted
from depin_orcha.retention import thin
from depin_orcha.types import Accrual, EarningsSample, Price, Quality, SampleKind, VoidedSample


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "orcha.db"


def test_the_same_reading_twice_adds_nothing(path: Path) -> None:
    with opened(path) as store:
        for _ in range(2):
            add(store, snapshot("2026-11-22T10:00", counter("2026-11-22T10:00", "1")))
            add(store, snapshot("2026-11-22T10:15", counter("2026-11-22T10:15", "1.5")))
        assert ledger(store, "2026-11-22T11:00") == {"11-22T10": Decimal("0.5")}


def test_a_month_rolls_over_without_losing_or_doubling(path: Path) -> None:
    with opened(path) as store:
        add(store, snapshot("2026-10-31T23:52", counter("2026-10-31T23:52", "8.40", "2026-10")))
        after = [counter("2026-11-01T00:07", "8.52", "2026-10"), counter("2026-11-01T00:07", "0.13", "2026-11")]
        add(store, snapshot("2026-11-01T00:07", *after))
        assert ledger(store, "2026-11-01T01:00") == {"10-31T23": Decimal("0.12"), "11-01T00": Decimal("0.13")}


def test_an_epoch_follows_the_one_that_was_read_before_it(path: Path) -> None:
    with opened(path) as store:
        add(store, snapshot("2026-09-30T10:00", counter("2026-09-30T10:00", "500", "Epoch 9")))
        both = [counter("2026-10-01T10:00", "520", "Epoch 9"), counter("2026-10-01T11:00", "7", "Epoch 10")]
        add(store, snapshot("2026-10-01T11:00", *both))
        assert sum(ledger(store, "2026-10-02T00:00").values()) == 27


def epoch(when: str, amount: str, number: int) -> EarningsSample:
    return replace(counter(when, amount, f"Epoch {number}"), began_s=at(f"2026-{number - 14:02}-01T00:00"))


def test_an_epoch_that_was_over_before_the_first_reading_is_history(path: Path) -> None:
    with opened(path) as store:
        add(store, snapshot("2026-11-03T00:00", epoch("2026-11-02T20:00", "5", 25)))
        add(
            store,
            snapshot("2026-11-03T00:15", epoch("2026-11-03T00:05", "4000", 24), epoch("2026-11-02T20:00", "5", 25)),
        )
        add(store, snapshot("2026-11-04T00:00", epoch("2026-11-03T12:00", "4010", 24)))
        assert sum(ledger(store, "2026-11-05T00:00").values()) == 10


def test_an_epoch_that_began_after_the_first_reading_counts_whole(path: Path) -> None:
    with opened(path) as store:
        add(store, snapshot("2026-10-20T00:00"))
        add(store, snapshot("2026-11-03T00:00", epoch("2026-11-02T00:00", "7", 25)))
        hours = ledger(store, "2026-11-05T00:00")
        assert (sum(hours.values()), min(hours)) == (7, "11-01T00")


def test_what_rounding_withheld_too_much_is_not_forgotten_between_readings(path: Path) -> None:
    said = [("1.0000", "0.7500"), ("1.0001", "0.7502"), ("1.0005", "0.7502")]
    with opened(path) as store:
        for minute, (gross, held) in enumerate(said):
            when = f"2026-11-22T10:{minute:02}"
            add(store, snapshot(when, counter(when, gross, series="all", withheld=held)))
        assert ledger(store, "2026-11-22T11:00") == {"11-22T10": Decimal("0.0003")}


def test_a_late_statement_of_the_closed_month_is_added_once(path: Path) -> None:
    with opened(path) as store:
        add(store, snapshot("2026-10-31T23:52", counter("2026-10-31T23:52", "8.40", "2026-10")))
        for when, closed, running in (("00:07", "8.52", "0.13"), ("00:22", "8.52", "0.20"), ("09:00", "8.60", "0.20")):
            both = [counter(f"2026-11-01T{when}", closed, "2026-10"), counter(f"2026-11-01T{when}", running)]
            add(store, snapshot(f"2026-11-01T{when}", *both))
        total = sum(ledger(store, "2026-11-02T00:00").values())
        assert total == Decimal("0.20") + Decimal("0.20")


def test_what_was_estimated_is_told_as_such_until_it_was_read(path: Path) -> None:
    with opened(path) as store:
        add(store, snapshot("2026-11-22T10:00", replace(counter("2026-11-22T10:00", "1"), estimated=True)))
        add(store, snapshot("2026-11-22T11:00", counter("2026-11-22T11:00", "2")))
        add(store, snapshot("2026-11-22T12:00", counter("2026-11-22T12:00", "3")))
        hours = AsOf(store.connection, at("2026-11-22T12:00")).hours()
        assert [hour.quality for hour in hours] == [Quality.ESTIMATED, Quality.MEASURED]


def test_a_month_read_otherwise_than_the_one_before_begins_with_its_first_hour(path: Path) -> None:
    with opened(path) as store:
        add(
            store, snapshot("2026-10-31T23:50", replace(counter("2026-10-31T23:50", "8", "2026-10"), external_id="all"))
        )
        add(store, snapshot("2026-11-01T00:20", counter("2026-11-01T00:20", "0.2")))
        assert ledger(store, "2026-11-01T01:00") == {"11-01T00": Decimal("0.2")}


def test_hours_that_wait_for_a_step_are_known_in_sum_only(path: Path) -> None:
    def reading(when: str, traffic: str, storage: str) -> None:
        amount = str(Decimal(traffic) + Decimal(storage))
        add(store, snapshot(when, replace(counter(when, amount), stepped=Decimal(storage))))

    def told(now: str) -> list[tuple[Decimal, Quality]]:
        return [(hour.amount, hour.quality) for hour in AsOf(store.connection, at(now)).hours()]

    with opened(path) as store:
        for hour in range(3):
            reading(f"2026-11-22T0{hour}:00", str(hour), "5")
        assert told("2026-11-22T02:00") == [(Decimal(1), Quality.INTERPOLATED)] * 2
        reading("2026-11-22T03:00", "3", "8")
        assert told("2026-11-22T03:00") == [(Decimal(2), Quality.MEASURED)] * 3
        assert told("2026-11-22T02:30") == [(Decimal(1), Quality.INTERPOLATED)] * 2


def test_a_whole_month_missed_is_booked_from_its_statement(path: Path) -> None:
    with opened(path) as store:
        add(store, snapshot("2026-10-31T12:00", counter("2026-10-31T12:00", "8", "2026-10")))
        late = [counter("2026-12-05T00:00", "9", "2026-11"), counter("2026-12-05T00:00", "1", "2026-12")]
        add(store, snapshot("2026-12-05T00:00", *late))
        assert sum(ledger(store, "2026-12-06T00:00").values()) == 10


def test_a_late_document_between_two_is_split_where_it_belongs(path: Path) -> None:
    with opened(path) as store:
        add(
            store,
            snapshot("2026-11-22T13:00", counter("2026-11-22T10:00", "0", "a"), counter("2026-11-22T12:00", "2", "a")),
        )
        assert ledger(store, "2026-11-22T13:00") == {"11-22T10": Decimal(1), "11-22T11": Decimal(1)}
        add(store, snapshot("2026-11-22T13:15", counter("2026-11-22T11:00", "2", "a")))
        assert ledger(store, "2026-11-22T13:15") == {"11-22T10": Decimal(2), "11-22T11": Decimal(0)}
        assert ledger(store, "2026-11-22T13:00") == {"11-22T10": Decimal(1), "11-22T11": Decimal(1)}


def test_a_voided_document_is_taken_back_from_its_own_hours(path: Path) -> None:
    notes = [counter("2026-11-22T10:00", "0", "a"), counter("2026-11-22T10:30", "2", "a")]
    void = VoidedSample(at("2026-11-22T10:30"), "USD", SampleKind.COUNTER, "a", "sat")
    with opened(path) as store:
        add(store, snapshot("2026-11-22T11:00", *notes))
        for when in ("2026-11-22T12:00", "2026-11-22T13:00"):
            add(store, snapshot(when, voided=(void,)))
        assert ledger(store, "2026-11-22T11:30") == {"11-22T10": Decimal(2)}
        assert ledger(store, "2026-11-22T14:00") == {"11-22T10": Decimal(0)}


def test_a_complete_ledger_knows_its_zeros_and_a_gap_does_not(path: Path) -> None:
    with opened(path) as store:
        add(store, snapshot("2026-11-22T12:30", complete_since="2026-11-22T10:00"))
        add(store, snapshot("2026-11-22T20:30"))
        assert set(ledger(store, "2026-11-22T21:00")) == {"11-22T10", "11-22T11", "11-22T12"}


def test_a_peak_outlives_the_readings_that_made_it(path: Path) -> None:
    with opened(path) as store:
        for when, amount in (("2026-09-01T10:00", "5"), ("2026-09-01T11:00", "9"), ("2026-09-01T12:00", "7")):
            add(store, snapshot(when, replace(counter(when, amount, ""), keeps_peak=True)))
        thin(store, at("2026-11-22T00:00"), raw_days=30)
        last = replace(counter("2026-11-22T10:00", "10", ""), keeps_peak=True)
        add(store, snapshot("2026-11-22T10:00", last))
        assert sum(ledger(store, "2026-11-23T00:00").values()) == 5


def test_an_hour_is_valued_once(path: Path) -> None:
    hour = at("2026-11-22T10:00")
    with opened(path) as store:
        event = EarningsSample(hour, Decimal(2), "GLM", SampleKind.EVENT, "", "i")
        add(store, snapshot("2026-11-22T11:00", event), "GLM")
        for usd, learned in (("0.2", "2026-11-22T11:15"), ("0.9", "2026-11-22T12:15")):
            store.value_hours([("GLM", hour, Price("GLM", Decimal(usd), "test", hour))], at(learned))
        [before] = AsOf(store.connection, at("2026-11-22T11:00")).hours()
        [after] = AsOf(store.connection, at("2026-11-23T00:00")).hours()
        assert before.price is None
        assert after.price is not None
        assert after.price.usd_per_unit == Decimal("0.2")


def test_a_thousand_amounts_of_eighteen_decimals_add_up(path: Path) -> None:
    amounts = [Decimal("0.012345678901234567") * n for n in range(1, 1001)]
    with opened(path) as store:
        events = [
            EarningsSample(at("2026-11-22T10:00") + 60 * n, amount, "USD", SampleKind.EVENT, "", str(n))
            for n, amount in enumerate(amounts)
        ]
        add(store, snapshot("2026-11-23T10:00", *events))
        assert sum(ledger(store, "2026-11-23T10:00").values()) == sum(amounts)
        view = store.connection.execute(
            "SELECT decimal_sum(amount), decimal_sum(usd) FROM earnings_daily_usd"
        ).fetchone()
        assert [Decimal(value) for value in view] == [sum(amounts)] * 2
        assert sum(amounts) > 10


def test_one_writer_at_a_time(path: Path) -> None:
    with opened(path), pytest.raises(LockHeld), database.lock(path, 0.2):
        pass


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("this is not a database, it is a text that is long enough to be read as a header" * 20)
    with pytest.raises(DataError, match="damaged"), database.open_for_reading(path):
        pass
    with pytest.raises(DataError, match="damaged"), database.open_for_writing(path):
        pass


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    import sqlite3

    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    other.close()
    with pytest.raises(DataError, match="some other program"), database.open_for_writing(path):
        pass


def test_a_newer_database_is_refused(path: Path) -> None:
    with opened(path) as store:
        store.connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="newer depin-orcha"), database.open_for_reading(path):
        pass


@pytest.mark.parametrize(
    "before", ["UPDATE meta SET value = 'other' WHERE key = 'schema'", "DELETE FROM meta", "DROP TABLE meta"]
)
def test_a_database_of_an_unreleased_version_is_refused(path: Path, before: str) -> None:
    with opened(path) as store:
        store.connection.execute(before)
    for way_in in (database.open_for_reading, database.open_for_writing):
        with pytest.raises(DataError, match="unreleased version") as refused, way_in(path):
            pass
        assert "export" in refused.value.hint
        assert "--db" in refused.value.hint


def test_days_on_which_nothing_was_earned_are_worth_nothing_without_a_price(path: Path) -> None:
    with opened(path) as store:
        for day, amount, usd in (("20", "0", None), ("21", "5", None), ("22", "2", "0.5")):
            hour = at(f"2026-11-{day}T10:00")
            accruals = [Accrual(hour, Decimal(amount), "GLM", Quality.MEASURED)]
            store.add_accruals("node_1", accruals, hour)
            if usd:
                store.value_hours([("GLM", hour, Price("GLM", Decimal(usd), "test", hour))], hour)
        store.add_accruals("node_1", [Accrual(at("2026-11-20T10:00"), Decimal(0), "POINTS", Quality.MEASURED)], 0)
        rows = store.connection.execute("SELECT day, currency, usd FROM earnings_daily_usd ORDER BY 1, 2").fetchall()
    assert rows == [
        ("2026-11-20", "GLM", "0"), ("2026-11-20", "POINTS", None), ("2026-11-21", "GLM", None),
        ("2026-11-22", "GLM", "1"),
    ]  # fmt: skip


def test_a_folder_that_cannot_be_made_is_not_permitted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotPermitted), database.lock(tmp_path / "file" / "orcha.db", 0):
        pass


def test_an_interrupted_transaction_leaves_nothing(path: Path) -> None:
    with opened(path) as store:

        def interrupted() -> None:
            with store.transaction():
                store.add_snapshot(snapshot("2026-11-22T10:00", counter("2026-11-22T10:00", "1")), 0, "USD")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert store.connection.execute("SELECT count(*) FROM earnings_samples").fetchone() == (0,)


def test_thinning_keeps_every_sum_and_the_first_reading_of_an_hour(path: Path) -> None:
    with opened(path) as store:
        for minutes in range(0, 300, 15):
            when = f"2026-09-22T{10 + minutes // 60:02}:{minutes % 60:02}"
            add(store, snapshot(when, counter(when, str(minutes), "2026-09")))
        before = ledger(store, "2026-11-22T00:00")
        thin(store, at("2026-11-22T00:00"), raw_days=30)
        count = "SELECT count(*) FROM {} WHERE node = 'node_1'"
        assert store.connection.execute(count.format("health_samples")).fetchone() == (5,)
        assert store.connection.execute(count.format("earnings_samples")).fetchone() == (2,)
        late = counter("2026-09-22T15:00", "290", "2026-09")
        add(store, snapshot("2026-11-22T00:15", late))
        assert ledger(store, "2026-11-22T00:00") == before
        assert sum(ledger(store, "2026-11-22T01:00").values()) == 290


def test_thinning_happens_once_a_day(path: Path) -> None:
    with opened(path) as store:
        thin(store, at("2026-11-22T00:10"), raw_days=30)
        for when in ("2026-09-22T10:00", "2026-09-22T10:15"):
            add(store, snapshot(when))
        count = "SELECT count(*) FROM health_samples"
        thin(store, at("2026-11-22T23:50"), raw_days=30)
        assert store.connection.execute(count).fetchone() == (2,)
        thin(store, at("2026-11-23T00:05"), raw_days=30)
        assert store.connection.execute(count).fetchone() == (1,)


def test_keys_stand_first_in_tables_without_rowid(path: Path) -> None:
    """Otherwise the integrity check of SQLite 3.40 reports sound rows as NULL."""
    with opened(path) as store:
        rows = store.connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        for table in [name for name, sql in rows if "WITHOUT ROWID" in sql]:
            places = [row[5] for row in store.connection.execute(f"PRAGMA table_info({table})")]
            keys = [place for place in places if place]
            assert places == keys + [0] * (len(places) - len(keys)), table
