"""What a real unit sends over the default route is held to a plan, as far as iperf3 can tell, and nothing else is."""

from __future__ import annotations

import json
import os
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
BUCKET = ("rate", "3mbit", "burst", "32k", "latency", "100ms")
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
        self.path = ""

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
        settings = (f"HOME={self.folder}", f"PYTHONPATH={PROJECT}", f"PATH={self.path}{os.environ['PATH']}")
        done = self.machine.inside("env", *settings, *argv)
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


def test_two_nodes_share_the_queue_and_the_last_one_takes_it_along(owner: Owner) -> None:
    owner.nodes("one", "two")
    grants = {"one": CAP_BPS, "two": CAP_BPS / 2}
    for node, bps in grants.items():
        owner.plan(node, bps)
        assert owner.states("apply", "--yes", "--node", node) == [("done", bps)]
    assert owner.measured_bps("one") == pytest.approx(CAP_BPS, rel=0.1)
    assert owner.measured_bps("two") == pytest.approx(CAP_BPS / 2, rel=0.1)

    owner.machine("stop", "one")
    assert owner.states("apply", "--release", "--yes", "--node", "one") == [("done", None)], "also of a stopped unit"
    assert owner.ours() == (True, True)
    assert owner.measured_bps("two") == pytest.approx(CAP_BPS / 2, rel=0.1)
    assert owner.states("apply", "--release", "--yes") == [("done", None)]
    assert owner.ours() == (False, False)


def test_a_rate_is_changed_in_place_and_by_hand_it_is_left(owner: Owner) -> None:
    owner.nodes("changes")
    owner.plan("changes", CAP_BPS)
    owner("apply", "--yes")
    owner.plan("changes", CAP_BPS / 2)
    assert owner.states("apply", "--yes") == [("done", CAP_BPS / 2)]
    assert owner.measured_bps("changes") == pytest.approx(CAP_BPS / 2, rel=0.1)
    assert owner.states("apply", "--rollback", "--yes") == [("done", CAP_BPS)], "what the plan before had set"

    owner.machine.inside("nft", "delete", "table", "inet", "depin_orcha")
    assert [one[0] for one in owner.states("apply", "--yes")] == ["skipped"]
    assert owner.states("apply", "--reclaim", "changes", "--yes") == [("done", CAP_BPS)]


def test_a_queue_of_somebody_else_is_left_alone(owner: Owner) -> None:
    owner.nodes("guest")
    owner.machine.inside("tc", "qdisc", "add", "dev", "up0", "root", "handle", "1:", "tbf", *BUCKET)
    owner.plan("guest", CAP_BPS)
    (failure,) = owner("apply", "--yes", exits=3)["failures"]
    assert failure["kind"] == "config"
    assert "what up0 sends is shaped by somebody else (tbf 1:)" in failure["message"]
    assert "tbf 1:" in owner.machine.inside("tc", "qdisc", "show", "dev", "up0").stdout
    assert owner.ours() == (False, False)


def test_what_works_in_part_is_undone_as_a_whole(owner: Owner) -> None:
    """As on a kernel that has nftables, but not this kind of queue."""
    owner.nodes("half")
    owner.plan("half", CAP_BPS)
    poor = owner.folder / "tc"
    poor.write_text(
        '#!/bin/sh\n[ "$2" = replace ] && { echo "Error: no such kind" >&2; exit 2; }\nexec /sbin/tc "$@"\n'
    )
    poor.chmod(0o755)
    owner.path = f"{owner.folder}:"
    (action,) = owner("apply", "--yes", exits=3)["data"]["actions"]
    assert (action["state"], "Error: no such kind" in action["detail"]) == ("undone", True)
    assert owner.ours() == (False, False)
    owner.path = ""
    assert owner.states("apply", "--yes") == [("done", CAP_BPS)]
