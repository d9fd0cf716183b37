"""The disk space of a Storj node that is a unit of a real systemd, and takes its time to stop."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apply_parts import storage_plan
from ledger_parts import opened
from loopback import Answer, Loopback
from operator_parts import Place
from real.namespace import unavailable
from real.systemd import Systemd
from storj_machine import CONFIG, dashboard

from depin_orcha.types import Health, HealthStatus, Snapshot

pytestmark = pytest.mark.real
FOLDER = "/run/storj"
NODE = (
    f"grep ^storage.allocated {FOLDER}/config.yaml | cut -d: -f2 | cut -d. -f1 >{FOLDER}/runs_with; "
    f'date +%%s >{FOLDER}/started; trap "sleep 1; exit 0" TERM; while :; do sleep 0.1; done'
)


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    with Systemd() as running:
        monkeypatch.setenv("PATH", f"{running.bin}:{os.environ['PATH']}")
        yield running


@pytest.fixture
def data(systemd: Systemd) -> Path:
    """The node's folder inside the machine, as it is seen from here."""
    folder = Path(f"/proc/{systemd._pid}/root{FOLDER}")
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG.replace("6.00 TB", "6000.00 GB"))
    return folder


@pytest.fixture
def place(systemd: Systemd, data: Path, tmp_path: Path) -> Iterator[Place]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=10T,mode=755", "orcha-storj", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        unavailable("a disk of 10 TB in memory cannot be mounted here")

    def respond(request: Any) -> Answer:
        running = systemd("show", "-P", "ActiveState", "storj").strip() == "active"
        if request.path != "/api/sno/" or not running:
            return Answer(503)
        runs_with, started = (int((data / name).read_text()) for name in ("runs_with", "started"))
        return Answer(200, json.dumps(dashboard(runs_with * 10**9, started)).encode(), "application/json")

    try:
        with Loopback(respond) as node:
            made = Place(tmp_path)
            made.configure(
                f'[apply]\nverify_timeout_s = 8\n[nodes.storj_1]\nprotocol = "storj"\nurl = "{node.url}"\n'
                'apply = true\nruntime = "systemd"\nunit = "storj.service"\n'
                f'disk = "{disk}"\nconfig_path = "{data}/config.yaml"\n'
            )
            yield made
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def apply(place: Place, now_s: int, exits: int = 0) -> Any:
    with opened(place.db, "storj_1", now_s) as store:
        result, problem = storage_plan(7)
        store.add_plan(now_s - 60, now_s + 600, result, problem)
        with store.transaction():
            store.add_snapshot(Snapshot("storj_1", now_s - 60, (), Health(HealthStatus.UP, "well")), now_s, "USD")
    return place.json("apply", "--yes", now=now_s, exits=exits, PATH=os.environ["PATH"])


def test_set_by_its_file_and_a_restart(systemd: Systemd, data: Path, place: Place) -> None:
    systemd.add("storj", NODE)
    systemd.until("storj", "active")
    time.sleep(1)
    before = systemd("show", "-P", "InvocationID", "storj")
    done = apply(place, int(time.time()))
    (action,) = done.data["actions"]
    assert (action["state"], action["command"]) == ("done", "systemctl restart storj.service")
    assert ((data / "runs_with").read_text(), "7000.00 GB" in action["detail"]) == (" 7000\n", True)
    assert systemd("show", "-P", "InvocationID", "storj") != before


@pytest.mark.parametrize(
    ("script", "lines", "said"),
    [
        (
            NODE,
            ("Environment=A=b STORJ_STORAGE_ALLOCATED_DISK_SPACE=6TB",),
            "STORJ_STORAGE_ALLOCATED_DISK_SPACE of its",
        ),
        (NODE, ('Environment="STORJ_STORAGE_ALLOCATED_DISK_SPACE=6.0 TB"',), "STORJ_STORAGE_ALLOCATED_DISK_SPACE of"),
        (f": --storage.allocated-disk-space=6TB; {NODE}", (), "--storage.allocated-disk-space of its command line"),
    ],
)
def test_what_wins_over_the_file_is_told(
    systemd: Systemd, data: Path, place: Place, script: str, lines: tuple[str, ...], said: str
) -> None:
    systemd.add("storj", script, *lines)
    systemd.until("storj", "active")
    time.sleep(1)
    done = apply(place, int(time.time()))
    assert done.data["actions"] == []
    assert said in done.err
    assert (data / "runs_with").read_text() == " 6000\n"


def test_a_unit_that_somebody_stopped_is_not_started(systemd: Systemd, data: Path, place: Place) -> None:
    systemd.add("storj", NODE)
    systemd.until("storj", "active")
    systemd("stop", "storj")
    done = apply(place, int(time.time()))
    assert (done.data["actions"], "unit storj.service is stopped" in done.err) == ([], True)
    assert systemd("show", "-P", "ActiveState", "storj").strip() == "inactive"
    assert "6000.00 GB" in (data / "config.yaml").read_text()
