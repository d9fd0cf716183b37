"""`backup` makes sound copies while others write, keeps as many as asked for, and goes back to one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from ledger_parts import add, at, counter, opened, snapshot
from operator_parts import Place

NOW_S = at("2026-11-22T20:15:00")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.configure("")
    with opened(place.db, now_s=NOW_S) as store:
        add(store, snapshot("2026-11-22T20:00:00", counter("2026-11-22T20:00:00", "1")))
    return place


def samples(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM earnings_samples").fetchone()[0]


def test_a_copy_holds_what_is_only_in_the_log_of_a_writer(place: Place) -> None:
    with opened(place.db, now_s=NOW_S) as store:
        add(store, snapshot("2026-11-22T20:10:00", counter("2026-11-22T20:10:00", "2")))
        (path,) = map(Path, place.json("backup").data["paths"])
    assert path.parent == place.folder / "backups"
    assert samples(path) == samples(place.db) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name], "nothing half-made is left"


def test_the_oldest_go_and_files_of_others_stay(place: Place) -> None:
    folder = place.folder / "elsewhere"
    folder.mkdir()
    for day in range(1, 5):
        (folder / f"orcha-2026110{day}T000000Z.db").touch()
    (folder / "orcha.db").touch()
    data = place.json("backup", "--to", str(folder), "--keep", "2").data
    assert [Path(one).name for one in data["removed"]] == [f"orcha-2026110{day}T000000Z.db" for day in (1, 2, 3)]
    assert len(list(folder.iterdir())) == 3


def test_back_to_a_copy_and_forth_again(place: Place) -> None:
    (path,) = place.json("backup").data["paths"]
    with opened(place.db, now_s=NOW_S) as store:
        add(store, snapshot("2026-11-22T20:10:00", counter("2026-11-22T20:10:00", "2")))
    restored, kept = map(Path, place.json("backup", "--restore", path).data["paths"])
    assert (restored, samples(restored), samples(kept)) == (place.db, 1, 2)
    assert not Path(f"{place.db}-wal").exists()
    assert place.json("status", now=NOW_S).data["nodes"][0]["node"] == "node_1"
    place.json("backup", "--restore", str(kept))
    assert samples(place.db) == 2


def test_a_damaged_database_is_kept_as_it_is(place: Place) -> None:
    (path,) = place.json("backup").data["paths"]
    damaged = b"no database" * 1000
    place.db.write_bytes(damaged)
    _, kept = place.json("backup", "--restore", path).data["paths"]
    assert Path(kept).read_bytes() == damaged
    assert samples(place.db) == 1


@pytest.mark.parametrize("content", [None, b"", b"no database" * 1000, "foreign", "newer"])
def test_only_a_sound_copy_of_ours_is_taken(place: Place, content: bytes | str | None) -> None:
    bad = place.folder / "bad.db"
    if isinstance(content, bytes):
        bad.write_bytes(content)
    elif content == "foreign":
        with closing(sqlite3.connect(bad)) as other, other:
            other.execute("CREATE TABLE foreign_one (x)")
    elif content == "newer":
        place.json("backup", "--to", str(place.folder))
        next(place.folder.glob("orcha-*Z.db")).rename(bad)
        with closing(sqlite3.connect(bad)) as newer:
            newer.execute("PRAGMA user_version = 999")
    before = place.db.read_bytes()
    done = place("backup", "--restore", str(bad), exits=65)
    assert str(bad) in done.err
    assert place.db.read_bytes() == before
    assert not Path(f"{place.db}.before-restore").exists()


def test_without_a_database_there_is_nothing_to_copy(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.configure("")
    assert "there is no database to back up" in place("backup", exits=65).err


def test_a_restore_waits_for_its_turn(place: Place) -> None:
    (path,) = place.json("backup").data["paths"]
    with opened(place.db, now_s=NOW_S):
        assert place("backup", "--restore", path, exits=75).err
        assert place("backup").out.startswith("wrote "), "a copy waits for nobody"


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system needs root")
def test_a_full_disk_leaves_nothing_half_made(place: Place) -> None:
    small = place.folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], check=True)
    try:
        done = place("backup", "--to", str(small), exits=1)
        assert "is the disk full" in done.err or "free some space" in done.err
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)
