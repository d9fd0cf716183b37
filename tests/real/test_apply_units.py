"""Units of a real systemd get the limits of a plan in the kernel, keep them over restarts, and lose them on demand."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apply_parts import store_plan
from operator_parts import Done
from real.systemd import Systemd

pytestmark = pytest.mark.real
BUSY = "while :; do :; done"
MIB = 2**20
HUNGRY = (
    "while [ ! -e /run/eat ]; do sleep 0.1; done; exec python3 -c 'import time; bytearray(100 << 20); time.sleep(99)'"
)
"""Takes 100 MiB when it is told to."""
PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [tmp_path_factory.getbasetemp(), PROJECT, Path(sys.prefix)]


@pytest.fixture(scope="module")
def systemd(shown: list[Path]) -> Iterator[Systemd]:
    with Systemd(shows=shown) as running:
        yield running


class Owner:
    """Types commands on the machine whose units they are about."""

    def __init__(self, machine: Systemd, folder: Path) -> None:
        self.machine = machine
        self.folder = folder

    def node(self, unit: str, **options: Any) -> None:
        lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
        text = (
            f'[nodes.n]\nprotocol = "exec"\ncommand = ["/bin/true"]\ncurrencies = ["USD"]\napply = true\n'
            f'runtime = "systemd"\nunit = "{unit}"\n'
        )
        (self.folder / "config.toml").write_text(text + "\n".join(lines) + "\n")

    def plan(self, **grant: float) -> None:
        store_plan(self.folder / "orcha.db", "n", grant)

    def __call__(self, *words: str, exits: int = 0) -> Done:
        argv = [sys.executable, "-m", "depin_orcha", *words, "--json"]
        argv += ["--config", str(self.folder / "config.toml"), "--db", str(self.folder / "orcha.db")]
        done = self.machine.inside("env", f"HOME={self.folder}", f"PYTHONPATH={PROJECT}", *argv)
        assert done.returncode == exits, done.stdout + done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def states(self, *words: str, exits: int = 0) -> list[tuple[str, Any]]:
        actions = self(*words, exits=exits).data["actions"]
        return [(action["state"], *action["after"].values()) for action in actions]

    def kernel(self, unit: str, path: str) -> int:
        """The number in a file of the unit's group; -1, which is no limit, where the unit has no group."""
        file = f"/sys/fs/cgroup/{path.partition('.')[0]}/system.slice/{unit}.service/{path}"
        return int(self.machine.inside("cat", file).stdout or -1)


@pytest.fixture
def owner(systemd: Systemd, tmp_path: Path) -> Owner:
    return Owner(systemd, tmp_path)


def cores(owner: Owner, unit: str) -> float:
    """What the main process of a unit uses of the CPU, measured over four seconds."""
    first, began = used_s(owner, unit), time.monotonic()
    time.sleep(4)
    return (used_s(owner, unit) - first) / (time.monotonic() - began)


def used_s(owner: Owner, unit: str) -> float:
    pid = owner.machine("show", "-P", "MainPID", unit).strip()
    # the first number is the time that it ran, in nanoseconds
    return int(owner.machine.inside("cat", f"/proc/{pid}/schedstat").stdout.split()[0]) / 1e9


def test_a_capped_unit_gets_its_share_keeps_it_and_gets_it_back(owner: Owner) -> None:
    owner.machine.add("busy", BUSY)
    owner.node("busy", hard_caps=True)
    owner.plan(cpu_cores=0.25)
    assert owner.states("apply") == [("planned", 0.25)]
    assert owner.kernel("busy", "cpu.cfs_quota_us") == -1

    done = owner("apply", "--yes").data
    (action,) = done["actions"]
    assert (action["state"], done["changed"]) == ("done", 1)
    assert action["command"] == "systemctl set-property --runtime busy.service CPUQuota=25%"
    assert action["detail"].endswith("/system.slice/busy.service/cpu.cfs_quota_us = 25000 of 100000")
    assert cores(owner, "busy") == pytest.approx(0.25, rel=0.05)

    owner.machine("restart", "busy")
    assert owner.kernel("busy", "cpu.cfs_quota_us") == 25000, "a restart of the unit keeps it"
    assert owner.states("apply", "--yes") == []

    assert owner.states("apply", "--release", "--yes") == [("done", None)]
    assert owner.kernel("busy", "cpu.cfs_quota_us") == -1
    assert owner.states("apply", "--release", "--yes") == []


def test_memory_beyond_the_limit_is_not_to_be_had(owner: Owner) -> None:
    owner.machine.add("hungry", HUNGRY)
    owner.node("hungry", hard_caps=True)
    owner.plan(cpu_cores=0.5, memory_bytes=64 * MIB)
    assert owner.states("apply", "--yes") == [("done", 0.5), ("done", 64 * MIB)]
    assert owner.kernel("hungry", "memory.limit_in_bytes") == 64 * MIB

    owner.machine.inside("touch", "/run/eat")
    owner.machine.until("hungry", "failed")
    assert owner.machine("show", "-P", "ExecMainStatus", "hungry").strip() == "9", "the kernel killed it"

    owner.machine.inside("rm", "/run/eat")
    owner.machine("reset-failed", "hungry")
    owner.machine("start", "hungry")
    assert owner.states("apply", "--release", "--yes") == [("done", None), ("done", None)]
    owner.machine.inside("touch", "/run/eat")
    time.sleep(1)
    assert owner.machine("show", "-P", "ActiveState", "hungry").strip() == "active", "without a limit it lives"


def test_a_memory_limit_close_to_what_is_used_is_refused(owner: Owner) -> None:
    owner.machine.add("large", "exec python3 -c 'import time; b = bytes(100 << 20) + b\"x\"; time.sleep(99)'")
    owner.node("large", hard_caps=True)
    owner.plan(memory_bytes=64 * MIB)
    ends = time.monotonic() + 10
    while owner.kernel("large", "memory.usage_in_bytes") < 100 * MIB:
        assert time.monotonic() < ends
        time.sleep(0.1)
    (failure,) = owner("apply", "--yes", exits=3).failures
    assert "less than 1.25 times" in failure["message"]
    assert owner.kernel("large", "memory.limit_in_bytes") > 2**60


def test_what_the_unit_s_own_file_says_is_put_back(owner: Owner) -> None:
    owner.machine.add("own", BUSY, "CPUQuota=50%")
    owner.node("own", hard_caps=True)
    owner.plan(cpu_cores=0.1)
    assert owner.states("apply", "--yes") == [("done", 0.1)]
    assert owner.states("apply", "--release", "--yes") == [("done", 0.5)]
    assert owner.kernel("own", "cpu.cfs_quota_us") == 50000


def test_a_person_s_change_is_left_alone(owner: Owner) -> None:
    owner.machine.add("hand", BUSY)
    owner.node("hand", hard_caps=True)
    owner.plan(cpu_cores=0.1)
    owner("apply", "--yes")
    owner.machine("set-property", "--runtime", "hand", "CPUQuota=30%")
    assert owner.states("apply", "--yes") == [("skipped", 0.1)]
    assert owner.kernel("hand", "cpu.cfs_quota_us") == 30000
    assert owner.states("apply", "--reclaim", "n", "--yes") == [("done", 0.1)]


def test_an_audited_node_gets_a_weight_and_no_cap(owner: Owner) -> None:
    owner.machine.add("audited", BUSY)
    owner.node("audited")
    owner.plan(cpu_cores=2, memory_bytes=64 * MIB)
    assert owner.states("apply", "--yes") == [("done", 200)]
    assert owner.kernel("audited", "cpu.shares") == 2048
    assert owner.kernel("audited", "cpu.cfs_quota_us") == -1
    assert owner.kernel("audited", "memory.limit_in_bytes") > 2**60
    assert owner.states("apply", "--yes") == []
    assert owner.states("apply", "--release", "--yes") == [("done", 100)]
    assert owner.kernel("audited", "cpu.shares") == 1024


def test_a_stopped_or_missing_unit_is_told_and_left_alone(owner: Owner) -> None:
    owner.machine.add("stopped", BUSY)
    owner.machine("stop", "stopped")
    owner.node("stopped", hard_caps=True)
    owner.plan(cpu_cores=0.1)
    done = owner("apply", "--yes")
    assert done.data["actions"] == []
    assert "n: unit stopped is stopped; it is limited when it runs" in done.err
    assert owner.machine("show", "-P", "ActiveState", "stopped").strip() == "inactive"

    owner.node("nowhere", hard_caps=True)
    (failure,) = owner("apply", "--yes", exits=3).failures
    assert failure["message"] == "there is no unit nowhere"


def test_a_manager_that_only_believes_that_it_limits_is_found_out(shown: list[Path], tmp_path: Path) -> None:
    with Systemd(is_heard=False, shows=shown) as machine:
        owner = Owner(machine, tmp_path)
        machine.add("busy", BUSY)
        owner.node("busy", hard_caps=True)
        owner.plan(cpu_cores=0.25)
        done = owner("apply", "--yes", exits=3)
        (action,) = done.data["actions"]
        assert (action["state"], done.data["changed"]) == ("failed", 0)
        assert "accepted, but not in force" in action["detail"]
        assert machine("show", "-P", "CPUQuotaPerSecUSec", "busy").strip() == "infinity", "nothing of ours stays"
