"""The disk space of a Storj node in a container of a real Docker Engine: set, clamped, not coming back, given back.

The node is a shell that reads its config.yaml when it starts, as storagenode does; its dashboard, in the recorded form,
is told by what that shell made of it, and only while its container runs.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apply_parts import storage_plan
from ledger_parts import opened
from loopback import Answer, Loopback, Request
from operator_parts import PROGRAM, Place
from real.docker_engine import DockerEngine
from real.namespace import unavailable
from storj_machine import CONFIG, dashboard

from depin_orcha.types import DAY_S, Health, HealthStatus, Snapshot

pytestmark = pytest.mark.real
NODE = """
said=$(/bin/busybox sed -n 's/^storage.allocated-disk-space: \\([0-9]*\\)[.0-9]* GB.*/\\1/p' /app/config.yaml)
[ "$said" ] || said=6000
[ "$said" -gt "$(/bin/busybox cat /app/refuses)" ] && exit 1
most=$(/bin/busybox cat /app/most)
[ "$said" -gt "$most" ] && said=$most
trap 'exit 0' TERM
/bin/busybox date +%s > /app/started
echo "$said" > /app/runs_with
while :; do /bin/busybox sleep 0.1; done
"""
NEW = CONFIG.replace("6.00 TB", "7000.00 GB")


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine() as running:
        yield running


class Owner:
    """Has one Storj node, in a container with its folder, and a disk of 10 TB, which are a file system in memory."""

    def __init__(self, folder: Path, engine: DockerEngine) -> None:
        self.place = Place(folder)
        self.engine = engine
        self.data = folder / "storj"
        self.now_s = int(time.time())
        self.file = self.data / "config.yaml"

    def serve(self, url: str, environment: list[str]) -> None:
        self.file.write_text(CONFIG)
        self.file.chmod(0o600)
        os.chown(self.file, 1000, 1000)
        self.fate()
        command = ["/bin/sh", "-c", NODE]
        host = {"NetworkMode": "none", "Binds": [f"{self.data}:/app"]}
        body = {"Image": "bb:local", "Cmd": command, "Env": environment, "HostConfig": host}
        self.engine.call("POST", "/containers/create?name=storj", body)
        self.engine.call("POST", "/containers/storj/start")
        self.wait_until_it_runs_with(6000)
        self.place.configure(
            f'[apply]\ndocker_socket = "{self.engine.socket}"\nverify_timeout_s = 5\n'
            f'[nodes.storj_1]\nprotocol = "storj"\nurl = "{url}"\napply = true\nruntime = "docker"\n'
            f'container = "storj"\ndisk = "{self.data}"\nconfig_path = "{self.file}"\n'
        )

    def fate(self, *, most: int = 10**6, refuses: int = 10**6) -> None:
        """The GB that it takes at most, and beyond which it does not even start."""
        (self.data / "most").write_text(str(most))
        (self.data / "refuses").write_text(str(refuses))

    def dashboard(self, request: Request) -> Answer:
        if request.path != "/api/sno/" or not self.state()["Running"]:
            return Answer(503)
        runs_with, started = ((self.data / name).read_text() for name in ("runs_with", "started"))
        document = dashboard(int(runs_with) * 10**9, int(started))
        return Answer(200, json.dumps(document).encode(), "application/json")

    def state(self) -> dict[str, Any]:
        return self.engine.call("GET", "/containers/storj/json")["State"]

    def runs_with(self) -> int:
        return int((self.data / "runs_with").read_text())

    def wait_until_it_runs_with(self, gb: int) -> None:
        ends = time.monotonic() + 10
        while not (self.data / "runs_with").exists() or self.runs_with() != gb:
            assert time.monotonic() < ends
            time.sleep(0.05)

    def plan(self, tb: float, now_s: int) -> None:
        with opened(self.place.db, "storj_1", now_s) as store:
            result, problem = storage_plan(tb)
            store.add_plan(now_s - 60, now_s + 600, result, problem)
            with store.transaction():
                store.add_snapshot(Snapshot("storj_1", now_s - 60, (), Health(HealthStatus.UP, "well")), now_s, "USD")

    def apply(self, tb: float, *words: str, later_s: int = 0, exits: int | None = 0) -> Any:
        self.plan(tb, self.now_s + later_s)
        return self.place.json("apply", *words, now=self.now_s + later_s, exits=exits)


@pytest.fixture
def owner(tmp_path: Path, engine: DockerEngine, request: pytest.FixtureRequest) -> Iterator[Owner]:
    owner = Owner(tmp_path, engine)
    owner.data.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=10T,mode=755", "orcha-storj", str(owner.data)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        unavailable("a disk of 10 TB in memory cannot be mounted here")
    try:
        with Loopback(owner.dashboard) as node:
            owner.serve(node.url, getattr(request, "param", ["STORAGE="]))
            yield owner
    finally:
        engine.remove("storj")
        subprocess.run(["umount", str(owner.data)], check=True)


def told(done: Any) -> list[tuple[str, int]]:
    return [(one["state"], one["after"]["storage_bytes"] // 10**9) for one in done.data["actions"]]


def test_set_proven_and_given_back(owner: Owner) -> None:
    before, told_before = owner.state()["StartedAt"], owner.file.stat()
    dry = owner.apply(7)
    assert (told(dry), dry.data["mode"]) == ([("planned", 7000)], "dry_run")
    assert (owner.file.read_text(), owner.state()["StartedAt"]) == (CONFIG, before)

    done = owner.apply(7, "--yes")
    assert (told(done), done.failures) == ([("done", 7000)], [])
    assert "the node runs with 7000.00 GB since 20" in done.data["actions"][0]["detail"]
    assert (owner.file.read_text(), owner.runs_with()) == (NEW, 7000)
    now = owner.file.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (told_before.st_mode, 1000, 1000)
    started = owner.state()["StartedAt"]
    assert started > before

    assert told(owner.apply(7, "--yes", later_s=3600)) == []
    assert told(owner.apply(7.5, "--yes", later_s=3600)) == [("skipped", 7500)]
    assert owner.state()["StartedAt"] == started, "not twice a day"

    owner.plan(7, owner.now_s + DAY_S + 60)
    given = owner.place.json("apply", "--release", "--yes", now=owner.now_s + DAY_S + 60)
    assert told(given) == [("done", 6000)]
    assert (owner.file.read_text(), owner.runs_with()) == (CONFIG, 6000)


def test_a_node_that_takes_less_is_put_back(owner: Owner) -> None:
    owner.fate(most=6500)
    done = owner.apply(7, "--yes", exits=3)
    assert told(done) == [("undone", 7000)]
    assert "the node runs with 6500.00 GB" in done.failures[0]["message"]
    assert (owner.file.read_text(), owner.runs_with(), owner.state()["Running"]) == (CONFIG, 6000, True)


def test_a_node_that_does_not_start_with_it_is_put_back(owner: Owner) -> None:
    owner.fate(refuses=6500)
    done = owner.apply(7, "--yes", exits=3)
    assert told(done) == [("undone", 7000)]
    assert (owner.file.read_text(), owner.runs_with(), owner.state()["Running"]) == (CONFIG, 6000, True)


def test_a_node_that_never_comes_back_is_told(owner: Owner) -> None:
    owner.fate(refuses=100)
    done = owner.apply(7, "--yes", exits=3)
    assert told(done) == [("failed", 7000)]
    assert "needs attention" in done.failures[0]["message"]
    assert "restart -t 300 storj" in done.failures[0]["hint"]
    assert (owner.file.read_text(), owner.state()["Running"]) == (CONFIG, False)


def test_a_disk_that_is_too_full_for_a_second_file_keeps_the_first(owner: Owner) -> None:
    """The real thing: the file system of the configuration has no room left for the new file."""
    size = 2**20
    subprocess.run(["mount", "-o", f"remount,size={size}", str(owner.data)], check=True)
    owner.file.write_text(CONFIG + "#" * 4096)
    free = os.statvfs(owner.data)
    (owner.data / "filler").write_bytes(b"x" * (free.f_bavail * free.f_frsize))
    big = owner.place.folder / "big"
    other = owner.place.config.read_text().replace(f'disk = "{owner.data}"', f'disk = "{big}"')
    big.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=10T", "orcha-storj", str(big)], check=True)
        owner.place.config.write_text(other)
        done = owner.apply(7, "--yes", exits=3)
    finally:
        subprocess.run(["umount", str(big)], check=False)
    assert told(done) == [("failed", 7000)]
    assert "No space left on device" in done.failures[0]["message"]
    assert owner.file.read_text() == CONFIG + "#" * 4096
    assert [one.name for one in owner.data.iterdir() if one.name.startswith(".")] == []


@pytest.mark.parametrize("owner", [["STORAGE=6.0TB"]], indirect=True)
def test_a_container_whose_environment_counts_is_left_alone(owner: Owner) -> None:
    before = owner.state()["StartedAt"]
    done = owner.apply(7, "--yes")
    assert told(done) == []
    assert "STORAGE of its environment wins over its file" in done.err
    assert "-e STORAGE=7.00TB" in done.err
    assert (owner.file.read_text(), owner.state()["StartedAt"]) == (CONFIG, before)


@pytest.mark.parametrize("call", ["fsync", "rename", "sendto"])
def test_killed_at_every_step_the_file_is_whole_and_what_is_left_to_do_is_told(owner: Owner, call: str) -> None:
    """Killed when it makes the call for the first, second, ... time, until it lives to its end."""
    if shutil.which("strace") is None:
        unavailable("being killed at every step needs strace")
    owner.plan(7, owner.now_s)
    kept = owner.place.db.read_bytes()
    killed, told_by_hand = 0, 0
    env = owner.place.environment(PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    while True:
        owner.place.db.write_bytes(kept)
        owner.file.write_text(CONFIG)
        owner.engine.call("POST", "/containers/storj/restart?t=5")
        owner.wait_until_it_runs_with(6000)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={killed + 1}"]
        words = [*PROGRAM, *owner.place.words("apply", "--yes", now=owner.now_s)]
        strace = ["strace", "-f", "-qq", "-o", str(owner.place.folder / "trace"), *inject, *words]
        done = subprocess.run(strace, capture_output=True, text=True, env=env, check=False)
        if done.returncode != -signal.SIGKILL:
            break
        killed += 1
        where = f"killed at {call} {killed}"
        assert owner.file.read_text() in (CONFIG, NEW), where
        after = owner.apply(7, "--yes", later_s=DAY_S + 60, exits=None)
        if after.code:
            (hint,) = {one["hint"] for one in after.failures if one["hint"].startswith("put it back by hand: ")}
            sed, _, restart = hint.removeprefix("put it back by hand: ").partition(" && ")
            subprocess.run(shlex.split(sed), check=True)
            assert restart.endswith(" restart -t 300 storj"), where
            assert (owner.file.read_text(), owner.runs_with()) == (CONFIG, 6000), where
            told_by_hand += 1
        else:
            assert (owner.file.read_text(), owner.runs_with()) == (NEW, 7000), where
            assert [one.name for one in owner.data.iterdir() if one.name.startswith(".")] == [], where
    assert done.returncode == 0, done.stderr
    assert killed > 0
    assert told_by_hand < killed
