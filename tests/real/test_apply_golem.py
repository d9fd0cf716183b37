"""The whole way from a reading to the kernel: a Golem provider in a real container gets the cap of a stored plan."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from loopback import Answer, Loopback, Request
from real.docker_engine import DockerEngine
from real.namespace import unavailable

from depin_orcha.demo import SimulatedOperator

pytestmark = pytest.mark.real

PROVIDER = Path(__file__).parents[1] / "bin" / "ya-provider"
NODE = "golem_attic"


class Agent:
    """A daemon whose offers follow the provider's files, as the real agent's do; the rest is the simulated one's."""

    def __init__(self, operator: SimulatedOperator, data_dir: Path) -> None:
        self.upstream = operator.url(NODE)
        self.key = operator.secrets()[f"{NODE}.key"].strip()
        self.data_dir = data_dir
        self.busy = False

    def __call__(self, request: Request) -> Answer:
        if request.path == "/market-api/v1/offers":
            return _json(self.offers())
        if request.path.endswith("/_monitor"):
            activities = [{"id": "a", "state": "Ready", "agreementId": "b"}] if self.busy else []
            event = {"ts": "2026-11-22T19:43:51.719533665Z", "activities": activities}
            return Answer(200, f"data: {json.dumps(event)}\n\n".encode(), "text/event-stream", stream=True)
        if request.path == "/market-api/v1/agreements" and request.query.get("state") == "Approved":
            return _json([])
        headers = {"Authorization": f"Bearer {self.key}"}
        told = httpx.get(self.upstream + request.path, params=request.query, headers=headers, trust_env=False)
        return Answer(told.status_code, told.content, told.headers.get("content-type", ""))

    def offers(self) -> list[dict[str, Any]]:
        upstream = httpx.get(
            f"{self.upstream}/market-api/v1/offers", headers={"Authorization": f"Bearer {self.key}"}, trust_env=False
        ).json()
        hardware = json.loads((self.data_dir / "hardware.json").read_text())
        profile = hardware["profiles"][hardware["active"]]
        changed_s = (self.data_dir / "hardware.json").stat().st_mtime
        for offer in upstream:
            offer["timestamp"] = datetime.fromtimestamp(changed_s + 0.5, UTC).isoformat().replace("+00:00", "Z")
            offer["properties"] |= {
                "golem.inf.cpu.threads": profile["cpu_threads"],
                "golem.inf.mem.gib": profile["mem_gib"],
                "golem.inf.storage.gib": profile["storage_gib"],
            }
        return upstream


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), "application/json")


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine() as running:
        yield running


@pytest.fixture
def operator() -> Iterator[SimulatedOperator]:
    now_s = int(time.time())
    with SimulatedOperator(now_s - 3 * 86_400) as simulated:
        simulated.advance(now_s)
        yield simulated


@pytest.fixture
def provider(tmp_path: Path) -> Path:
    """The files of a provider whose owner offers both of two threads, in all presets."""
    folder = tmp_path / "ya-provider"
    folder.mkdir()
    profile = {"cpu_threads": 2, "mem_gib": 4.0, "storage_gib": 20.0}
    (folder / "hardware.json").write_text(json.dumps({"active": "default", "profiles": {"default": profile}}))
    coefficients = {"golem.usage.cpu_sec": 6.9e-06, "golem.usage.duration_sec": 1.3e-06}
    preset = {"name": "vm", "exeunit-name": "vm", "pricing-model": "linear", "initial-price": 0.0}
    presets = {"ver": "V1", "active": ["vm"], "presets": [preset | {"usage-coeffs": coefficients}]}
    (folder / "presets.json").write_text(json.dumps(presets))
    (folder / "globals.json").write_text(json.dumps({"node_name": "test", "subnet": "public", "account": None}))
    return folder


class Owner:
    """Types commands; the provider's own folder is named in the environment, as ya-provider wants it."""

    def __init__(self, folder: Path, agent: Agent) -> None:
        self.folder = folder
        self.agent = agent
        self.environment = os.environ | {"DATA_DIR": str(agent.data_dir), "HOME": str(folder)}

    def __call__(self, *words: str) -> dict[str, Any]:
        done = subprocess.run(self.words(*words), capture_output=True, text=True, env=self.environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["data"]

    def words(self, *words: str) -> list[str]:
        argv = [sys.executable, "-m", "depin_orcha", *words, "--json"]
        return [*argv, "--config", str(self.folder / "config.toml"), "--db", str(self.folder / "orcha.db")]


@pytest.fixture
def owner(tmp_path: Path, operator: SimulatedOperator, provider: Path, engine: DockerEngine) -> Iterator[Owner]:
    engine.run("golem")
    agent = Agent(operator, provider)
    with Loopback(agent) as daemon:
        (tmp_path / "golem.key").write_text(agent.key)
        (tmp_path / "config.toml").write_text(
            f'[prices]\nurl = "{operator.url("prices")}/api/v3"\nfallback_url = "{operator.url("prices")}"\n'
            "[optimize]\nlearning_days = 0\nmin_gain_usd_per_day = 0\nmin_dwell_h = 0\n"
            f'[apply]\ndocker_socket = "{engine.socket}"\nverify_timeout_s = 5\n'
            "[hosts.local]\ncapacity = {cpu_cores = 2}\nreserve = {cpu_cores = 1}\n"
            f'[nodes.golem_1]\nprotocol = "golem"\nurl = "{daemon.url}"\napp_key_file = "golem.key"\napply = true\n'
            f'runtime = "docker"\ncontainer = "golem"\nprovider_command = ["{PROVIDER}"]\n'
        )
        yield Owner(tmp_path, agent)
    engine.remove("golem")


def plan(owner: Owner) -> None:
    owner("collect")
    owner("forecast")
    made = owner("optimize")
    assert made["decision"] == "apply", made["reason"]


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
