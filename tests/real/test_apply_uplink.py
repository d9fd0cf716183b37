"""What a real unit sends over the default route is held to a plan, as far as iperf3 can tell, and nothing else is."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apply_parts import store_plan
from real.namespace import unavailable
from real.systemd import Systemd

pytestmark = pytest.mark.real
PROJECT = Path(__file__).parents[2]
PEER = "10.98.0.2"
CAP_BPS = 20_000_000
SERVER = "exec unshare --net sh -c 'ip link set lo up; exec iperf3 --server'"
CLIENT = (
    "while sleep 0.1; do [ -e /run/go-{unit} ] || continue; rm /run/go-{unit}; "
    f"iperf3 --client {PEER} --time 3 --omit 1 --json >/run/told; mv /run/told /run/told-{{unit}}; done"
)
"""Sends for four seconds each time that it is told to."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """Its default route leads to a server of iperf3 in a network of its own."""
    for tool in ("iperf3", "tc", "nft"):
        if shutil.which(tool) is None:
            unavailable(f"measuring what a unit sends needs {tool} (Debian: iperf3, iproute2, nftables)")
    with Systemd(shows=[tmp_path_factory.getbasetemp(), PROJECT, Path(sys.prefix)], is_tracked=True) as running:
        running.add("server", SERVER)
        ends = time.monotonic() + 10
        while not (pid := running.inside("pgrep", "--exact", "iperf3").stdout.strip()):
            assert time.monotonic() < ends
            time.sleep(0.1)
        for line in (
            "ip link set lo up",
            f"ip link add up0 type veth peer name down0 netns {pid}",
            "ip address add 10.98.0.1/24 dev up0",
            "ip link set up0 up",
            f"nsenter --net=/proc/{pid}/ns/net ip address add {PEER}/24 dev down0",
            f"nsenter --net=/proc/{pid}/ns/net ip link set down0 up",
            f"ip route add default via {PEER}",
        ):
            done = running.inside(*line.split())
            assert done.returncode == 0, done.stderr
        yield running


class Owner:
    """Types commands on the machine whose units they are about."""

    def __init__(self, machine: Systemd, folder: Path) -> None:
        self.machine = machine
        self.folder = folder

    def nodes(self, *units: str) -> None:
        text = "".join(
            f'[nodes.{unit}]\nprotocol = "exec"\ncommand = ["/bin/true"]\ncurrencies = ["USD"]\napply = true\n'
            f'hard_caps = true\nruntime = "systemd"\nunit = "{unit}"\n'
            for unit in units
        )
        (self.folder / "config.toml").write_text(text)
        for unit in units:
            self.machine.add(unit, CLIENT.format(unit=unit))

    def plan(self, node: str, bps: float) -> None:
        store_plan(self.folder / "orcha.db", node, {"uplink_bps": bps})

    def __call__(self, *words: str, exits: int = 0) -> dict[str, Any]:
        argv = [sys.executable, "-m", "depin_orcha", *words, "--json"]
        argv += ["--config", str(self.folder / "config.toml"), "--db", str(self.folder / "orcha.db")]
        done = self.machine.inside("env", f"HOME={self.folder}", f"PYTHONPATH={PROJECT}", *argv)
        assert done.returncode == exits, done.stdout + done.stderr
        return json.loads(done.stdout)

    def states(self, *words: str, exits: int = 0) -> list[tuple[str, Any]]:
        actions = self(*words, exits=exits)["data"]["actions"]
        return [(action["state"], *action["after"].values()) for action in actions]

    def ours(self) -> tuple[bool, bool]:
        """Is there a queue, and a table, of ours?"""
        queues, tables = (self.machine.inside(*line.split()).stdout for line in ("tc qdisc show", "nft list tables"))
        return "htb da7a:" in queues, "depin_orcha" in tables

    def measured_bps(self, unit: str) -> float:
        """What a unit sends to the other machine."""
        self.machine.inside("touch", f"/run/go-{unit}")
        ends = time.monotonic() + 20
        while not (told := self.machine.inside("cat", f"/run/told-{unit}").stdout):
            assert time.monotonic() < ends
            time.sleep(0.2)
        self.machine.inside("rm", f"/run/told-{unit}")
        return json.loads(told)["end"]["sum_received"]["bits_per_second"]


@pytest.fixture
def owner(machine: Systemd, tmp_path: Path) -> Iterator[Owner]:
    yield Owner(machine, tmp_path)
    for line in ("tc qdisc del dev up0 root", "nft delete table inet depin_orcha"):
        machine.inside(*line.split())


def test_a_unit_is_held_and_another_is_not(owner: Owner) -> None:
    owner.nodes("sends", "other")
    owner.plan("sends", CAP_BPS)
    assert owner.states("apply") == [("planned", CAP_BPS)]
    assert owner.ours() == (False, False), "nothing is done without --yes"

    (action,) = owner("apply", "--yes")["data"]["actions"]
    assert action["state"] == "done"
    assert "up0: htb class da7a:" in action["detail"]
    assert action["detail"].endswith("rule in depin_orcha for system.slice/sends.service")
    assert owner.measured_bps("sends") == pytest.approx(CAP_BPS, rel=0.1)
    assert owner.measured_bps("other") > 10 * CAP_BPS
    assert owner.states("apply", "--yes") == []

    owner.machine("restart", "sends")
    assert owner.measured_bps("sends") > 10 * CAP_BPS, "its control group is another now"
    assert owner.states("apply", "--yes") == [("done", CAP_BPS)]
    assert owner.measured_bps("sends") == pytest.approx(CAP_BPS, rel=0.1)

    assert owner.states("apply", "--release", "--yes") == [("done", None)]
    assert owner.ours() == (False, False)
    assert owner.measured_bps("sends") > 10 * CAP_BPS
    assert owner.states("apply", "--release", "--yes") == []
