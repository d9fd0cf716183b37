"""The whole way from a reading to the kernel: a Golem provider in a real container gets the cap of a stored plan."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from real.docker_engine import DockerEngine
from real.golem_owner import Owner, golem_owner, plan
from real.namespace import unavailable

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine() as running:
        yield running


@pytest.fixture
def owner(tmp_path: Path, engine: DockerEngine) -> Iterator[Owner]:
    engine.run("golem")
    with golem_owner(tmp_path, "docker", engine.socket) as made:
        yield made
    engine.remove("golem")


def test_a_stored_plan_reaches_the_kernel_once_and_is_lifted_again(owner: Owner, engine: DockerEngine) -> None:
    plan(owner)
    hardware = (owner.agent.data_dir / "hardware.json").read_bytes()

    dry = owner("apply")
    assert (dry["mode"], dry["changed"]) == ("dry_run", 0)
    assert {action["state"] for action in dry["actions"]} == {"planned"}
    assert engine.cpu_quota_us("golem") == -1
    assert (owner.agent.data_dir / "hardware.json").read_bytes() == hardware

    done = owner("apply", "--yes")
    assert {action["state"] for action in done["actions"]} == {"done"}
    assert done["changed"] == len(done["actions"]) >= 2
    assert engine.cpu_quota_us("golem") == 100_000
    written = json.loads((owner.agent.data_dir / "hardware.json").read_bytes())
    assert written["active"] == "depin-orcha"
    assert written["profiles"]["depin-orcha"]["cpu_threads"] == 1
    assert written["profiles"]["default"] == json.loads(hardware)["profiles"]["default"]

    again = owner("apply", "--yes")
    assert (again["changed"], again["actions"]) == (0, [])

    lifted = owner("apply", "--release", "--yes")
    assert {action["state"] for action in lifted["actions"]} == {"done"}
    assert json.loads((owner.agent.data_dir / "hardware.json").read_bytes())["active"] == "default"
    assert engine.cpu_quota_us("golem") == 100_000 * (os.cpu_count() or 1)


def test_a_busy_providers_container_keeps_its_cores(owner: Owner, engine: DockerEngine) -> None:
    plan(owner)
    owner.agent.busy = True
    done = owner("apply", "--yes")
    states = {action["kind"]: action["state"] for action in done["actions"]}
    assert states == {"golem": "done", "docker": "skipped"}
    assert engine.cpu_quota_us("golem") == -1


def test_a_paused_node_and_one_without_consent_are_left_alone(owner: Owner, engine: DockerEngine) -> None:
    plan(owner)
    owner("pause")
    assert owner("apply", "--yes")["actions"] == []
    owner("resume")
    config = owner.folder / "config.toml"
    config.write_text(config.read_text().replace("apply = true", "apply = false"))
    advised = owner("apply", "--yes")
    assert {action["state"] for action in advised["actions"]} == {"advice"}
    commands = [action["command"] for action in advised["actions"]]
    assert any("update --cpus 1 golem" in command for command in commands), commands
    assert engine.cpu_quota_us("golem") == -1


def test_the_journal_tells_the_story(owner: Owner) -> None:
    plan(owner)
    owner("apply", "--yes")
    with closing(sqlite3.connect(owner.folder / "orcha.db")) as connection:
        rows = connection.execute("SELECT kind, state, finished_s IS NOT NULL FROM actions ORDER BY id").fetchall()
    assert {row[1:] for row in rows} == {("done", 1)}
    assert {row[0] for row in rows} == {"golem", "docker"}


def test_what_work_held_back_follows_when_it_is_over(owner: Owner, engine: DockerEngine) -> None:
    plan(owner)
    owner.agent.busy = True
    owner("apply", "--yes")
    owner.agent.busy = False
    owner("collect")
    assert owner("optimize")["decision"] == "hold", "the provider offers what was planned already"
    done = owner("apply", "--yes")
    assert [(action["kind"], action["state"]) for action in done["actions"]] == [("docker", "done")]
    assert engine.cpu_quota_us("golem") == 100_000


def test_a_container_made_anew_is_limited_again_and_one_changed_by_hand_is_not(
    owner: Owner, engine: DockerEngine
) -> None:
    plan(owner)
    owner("apply", "--yes")
    engine.remove("golem")
    engine.run("golem")
    assert engine.cpu_quota_us("golem") == -1
    done = owner("apply", "--yes")
    assert [(action["kind"], action["state"]) for action in done["actions"]] == [("docker", "done")]
    assert engine.cpu_quota_us("golem") == 100_000

    engine.call("POST", "/containers/golem/update", {"NanoCpus": 1_500_000_000})
    for _ in range(2):
        left = owner("apply", "--yes")
        assert [(action["state"], left["changed"]) for action in left["actions"]] == [("skipped", 0)]
        assert engine.cpu_quota_us("golem") == 150_000
    owner("apply", "--reclaim", "golem_1", "--yes")
    assert engine.cpu_quota_us("golem") == 100_000
    owner("apply", "--rollback", "--yes")
    assert engine.cpu_quota_us("golem") == 150_000, "the last that was not ours"


def test_a_container_that_was_made_after_the_plan_is_not_limited_by_it(owner: Owner, engine: DockerEngine) -> None:
    plan(owner)
    time.sleep(1.1)
    engine.remove("golem")
    engine.run("golem")
    done = subprocess.run(owner.words("apply", "--yes"), capture_output=True, env=owner.environment, check=False)
    assert done.returncode == 3
    (failure,) = json.loads(done.stdout)["failures"]
    assert failure["message"].startswith("golem_1 is another since the plan was made: container golem is of 20")
    assert engine.cpu_quota_us("golem") == -1
    owner("collect")
    plan(owner)
    owner("apply", "--yes")
    assert engine.cpu_quota_us("golem") == 100_000


@pytest.mark.parametrize("call", ["fdatasync", "sendto"])
def test_killed_at_every_step_the_next_run_ends_what_was_begun(owner: Owner, engine: DockerEngine, call: str) -> None:
    """Killed when it makes the call for the first, second, ... time, until it lives to its end."""
    if shutil.which("strace") is None:
        unavailable("being killed at every step needs strace")
    plan(owner)
    files = (owner.folder / "orcha.db", owner.agent.data_dir / "hardware.json", owner.agent.data_dir / "presets.json")
    assert not (owner.folder / "orcha.db-wal").exists(), "the database is whole in its one file"
    kept = [file.read_bytes() for file in files]
    killed = 0
    while True:
        for file, content in zip(files, kept, strict=True):
            file.write_bytes(content)
        engine.call("POST", "/containers/golem/update", {"NanoCpus": (os.cpu_count() or 1) * 10**9})
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={killed + 1}"]
        words = owner.words("apply", "--yes")
        strace = ["strace", "-f", "-qq", "-o", str(owner.folder / "trace"), *inject, *words]
        done = subprocess.run(strace, capture_output=True, text=True, env=owner.environment, check=False)
        if done.returncode != -signal.SIGKILL:
            break
        killed += 1
        owner("apply", "--yes")
        assert engine.cpu_quota_us("golem") == 100_000, f"killed at {call} {killed}"
        hardware = json.loads((owner.agent.data_dir / "hardware.json").read_bytes())
        assert (hardware["active"], hardware["profiles"]["depin-orcha"]["cpu_threads"]) == ("depin-orcha", 1)
        with closing(sqlite3.connect(owner.folder / "orcha.db")) as connection:
            states = {row[0] for row in connection.execute("SELECT state FROM actions")}
        assert states <= {"done", "failed", "skipped"}, f"killed at {call} {killed}"
    assert done.returncode == 0, done.stderr
    assert killed > 3
