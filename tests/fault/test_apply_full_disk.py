"""A disk that is full at any moment of ``apply``: no act without its intent on record, and the next run ends it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from apply_home import NOW_S, kbytes, plan_of
from ledger_parts import opened
from operator_parts import Place, integrity
from tequilapi import Tequilapi

from depin_orcha.actuators import mysterium

PAGE_BYTES = 4096
GRANTS = {"myst_1": {"uplink_bps": 1e7}, "myst_2": {"uplink_bps": 2e7}}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system needs root and mount")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, free_bytes: int) -> Path:
    """A file that leaves so much of its file system free."""
    filler = folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * PAGE_BYTES)
    os.truncate(filler, filler.stat().st_size - free_bytes)
    return filler


def test_full_after_any_number_of_pages(tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mysterium, "PAUSE_S", 0.0)
    place, fresh = Place(tmp_path), tmp_path / "fresh.db"
    place.db = small_disk / "orcha.db"
    with opened(fresh, node="myst_1", now_s=NOW_S) as store:
        store.add_plan(NOW_S - 60, NOW_S + 600, *plan_of(GRANTS))
    codes: list[int] = []
    acted: list[int] = []
    while 0 not in codes:
        for file in small_disk.iterdir():
            file.unlink()
        shutil.copy(fresh, place.db)
        with Tequilapi(userspace=True) as one, Tequilapi(userspace=True) as two:
            nodes = {"myst_1": one, "myst_2": two}
            place.configure(
                "".join(
                    f'[nodes.{name}]\nprotocol = "mysterium"\nurl = "{node.url}"\napply = true\n'
                    for name, node in nodes.items()
                )
            )
            filler = fill(small_disk, PAGE_BYTES * len(codes))
            done = place("apply", "--yes", now=NOW_S, exits=None)
            codes.append(done.code)
            if done.code:
                assert done.code == 1
                assert done.err.startswith(f"error: cannot write {place.db} (")
                assert "hint: free some space on that disk" in done.err
                assert len(done.err.splitlines()) == 2, done.err
            filler.unlink()
            assert integrity(place.db) == "ok"
            written = {name for name, node in nodes.items() if node.writes}
            begun = {row[0] for row in place.query("SELECT node FROM actions WHERE state <> 'planned'")}
            assert written <= begun, f"an act without a record, with {len(codes) - 1} pages left"
            acted.append(len(written))

            place.json("apply", "--yes", now=NOW_S)
            assert {name: node.in_force for name, node in nodes.items()} == {
                name: kbytes(grant["uplink_bps"]) for name, grant in GRANTS.items()
            }
            states = {row[0] for row in place.query("SELECT state FROM actions")}
            assert states <= {"done", "failed", "skipped"}
            assert states >= {"done"}
    assert set(acted) == {0, 1, 2}, "it was full before, between and after the acts"
