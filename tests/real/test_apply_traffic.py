"""What a real container sends and receives is held to a plan, as far as iperf3 can tell, until it is lifted."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from apply_parts import store_plan
from real.docker_engine import DockerEngine
from real.namespace import unavailable

pytestmark = pytest.mark.real
ADDRESS = "10.97.0.1"
PROJECT = Path(__file__).parents[2]
PORTS = count(5301)
UP_BPS, DOWN_BPS = 20_000_000, 12_000_000
CHANGE = ("tc", "qdisc", "change", "dev", "eth0", "root")
BUCKET = ("tbf", "rate", "3mbit", "burst", "32k", "latency", "100ms")
ASLEEP = ("/bin/sh", "-c", "while :; do /bin/busybox sleep 1; done")


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    for tool in ("iperf3", "tc"):
        if shutil.which(tool) is None:
            unavailable(f"measuring bandwidth needs {tool} (Debian: iperf3, iproute2)")
    with DockerEngine(bridge=ADDRESS) as running:
        yield running


class Owner:
    """Types commands on the machine that the engine runs on, which is a network of its own."""

    def __init__(self, engine: DockerEngine, folder: Path, name: str) -> None:
        self.engine = engine
        self.folder = folder
        self.name = name
        (folder / "config.toml").write_text(
            '[nodes.n]\nprotocol = "exec"\ncommand = ["/bin/true"]\ncurrencies = ["USD"]\napply = true\n'
            f'hard_caps = true\nruntime = "docker"\ncontainer = "{name}"\n'
            f'[apply]\ndocker_socket = "{engine.socket}"\n'
        )

    def plan(self, **grant: float) -> None:
        store_plan(self.folder / "orcha.db", "n", grant)

    def __call__(self, *words: str, exits: int = 0) -> dict[str, Any]:
        argv = [sys.executable, "-m", "depin_orcha", *words, "--json"]
        argv += ["--config", str(self.folder / "config.toml"), "--db", str(self.folder / "orcha.db")]
        environment = os.environ | {"HOME": str(self.folder), "PYTHONPATH": str(PROJECT)}
        done = self.engine.space.run(argv, environment)
        assert done.returncode == exits, done.stdout + done.stderr
        return json.loads(done.stdout)

    def states(self, *words: str, exits: int = 0) -> list[tuple[str, str, Any]]:
        actions = self(*words, exits=exits)["data"]["actions"]
        return [(one["state"], *item) for one in actions for item in one["after"].items()]

    def within(self, *argv: str) -> str:
        """A command of this machine in the network of the container."""
        words = ["nsenter", f"--net=/proc/{self.engine.pid(self.name)}/ns/net", *argv]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout

    def measured_bps(self, *, down: bool) -> float:
        """Against a server of its own on the engine's bridge: one that has just served another client is busy."""
        port = str(next(PORTS))
        argv = ["iperf3", "--server", "--one-off", "--forceflush", "--bind", ADDRESS, "--port", port]
        with (self.folder / "iperf3.log").open("wb") as log:
            server = self.engine.space.popen(argv, dict(os.environ), log)
            try:
                while "Server listening" not in (self.folder / "iperf3.log").read_text():
                    assert server.poll() is None
                    time.sleep(0.05)
                words = ["iperf3", "--client", ADDRESS, "--port", port, "--time", "3", "--omit", "1", "--json"]
                told = json.loads(self.within(*words, *(["--reverse"] if down else [])))
            finally:
                server.kill()
                server.wait()
        return told["end"]["sum_received"]["bits_per_second"]


@pytest.fixture
def owner(engine: DockerEngine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Owner]:
    name = request.node.name.removeprefix("test_")[:40]
    engine.run(name, ASLEEP, NetworkMode="bridge")
    yield Owner(engine, tmp_path, name)
    engine.remove(name)


def test_both_ways_are_held_and_lifted(owner: Owner) -> None:
    owner.plan(uplink_bps=UP_BPS, downlink_bps=DOWN_BPS)
    both = {("uplink_bps", UP_BPS), ("downlink_bps", DOWN_BPS)}
    assert {tuple(one[1:]) for one in owner.states("apply")} == both
    assert "tbf" not in owner.within("tc", "qdisc", "show"), "nothing is done without --yes"

    done = owner("apply", "--yes")["data"]
    assert [one["state"] for one in done["actions"]] == ["done", "done"]
    assert f"tbf da7a: rate {UP_BPS} bit/s" in done["actions"][0]["detail"]
    assert owner.measured_bps(down=False) == pytest.approx(UP_BPS, rel=0.1)
    assert owner.measured_bps(down=True) == pytest.approx(DOWN_BPS, rel=0.1)
    assert owner.states("apply", "--yes") == []

    owner.engine.restart(owner.name)
    assert "tbf" not in owner.within("tc", "qdisc", "show"), "a start makes a new link"
    assert {one[0] for one in owner.states("apply", "--yes")} == {"done"}
    assert owner.measured_bps(down=False) == pytest.approx(UP_BPS, rel=0.1)

    assert {(one[0], one[2]) for one in owner.states("apply", "--release", "--yes")} == {("done", None)}
    assert owner.measured_bps(down=False) > 10 * UP_BPS
    assert owner.measured_bps(down=True) > 10 * DOWN_BPS


def test_a_rate_is_changed_in_place_and_by_hand_it_is_left(owner: Owner) -> None:
    owner.plan(uplink_bps=UP_BPS)
    owner("apply", "--yes")
    owner.plan(uplink_bps=UP_BPS / 2)
    (action,) = owner("apply", "--yes")["data"]["actions"]
    assert (action["state"], " change " in action["command"]) == ("done", True)
    owner.within(*CHANGE, "handle", "da7a:", *BUCKET)
    assert [one[0] for one in owner.states("apply", "--yes")] == ["skipped"]
    assert [one[0] for one in owner.states("apply", "--reclaim", "n", "--yes")] == ["done"]


def test_a_queue_of_somebody_else_is_left_alone(owner: Owner) -> None:
    owner.within("tc", "qdisc", "add", "dev", "eth0", "root", *BUCKET)
    owner.plan(uplink_bps=UP_BPS)
    (failure,) = owner("apply", "--yes", exits=3)["failures"]
    assert "shaped by somebody else (tbf 80" in failure["message"]
    assert "rate 3Mbit" in owner.within("tc", "qdisc", "show", "dev", "eth0")


def test_a_container_in_the_network_of_the_host_is_left_alone(engine: DockerEngine, tmp_path: Path) -> None:
    engine.run("at_home", ASLEEP, NetworkMode="host")
    try:
        owner = Owner(engine, tmp_path, "at_home")
        owner.plan(uplink_bps=UP_BPS)
        (failure,) = owner("apply", "--yes", exits=3)["failures"]
        assert "its network is host" in failure["message"]
    finally:
        engine.remove("at_home")
