"""What the tests of applying share: a journal in memory, targets, and a machine made of files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ledger_parts import opened
from unix_engine import UnixEngine

from depin_orcha.actuators import Target, actuators
from depin_orcha.adapters import NodeOptions
from depin_orcha.optimize import Problem, solve
from depin_orcha.outside import Outside
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import Resource

if TYPE_CHECKING:
    from depin_orcha.types import Action, ActionState

ID = "c0ffee" + "0" * 58
HOST_MEMORY = 8 * 2**30
FOLDER = f"/sys/fs/cgroup/docker/{ID}"
CPU = Resource.CPU_CORES
BACKENDS = actuators()


def uplink_plan(units: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """A plan that grants myst_1 so many units of uplink, and its problem."""
    return plan_of("myst_1", "mysterium", units, {"uplink_bps": 1e7}, {"uplink_bps": 4e7})


def plan_of(
    node: str, protocol: str, units: float, uses_per_unit: dict[str, float], capacity: dict[str, float]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A plan that grants a node so many units, and its problem."""
    wanted = {
        "node": node,
        "protocol": protocol,
        "uses_per_unit": uses_per_unit,
        "current_units": None,
        "max_units": units,
        "usd_per_unit_hour": 0.01,
    }
    document = {
        "schema": "depin-orcha/problem/1",
        "horizon_h": 12,
        "hosts": [{"host": "local", "capacity": capacity, "nodes": [wanted]}],
    }
    return solve(Problem.from_dict(document)).to_dict(), document


def storage_plan(units: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """A plan that grants storj_1 so many TB, and its problem."""
    node = {
        "node": "storj_1",
        "protocol": "storj",
        "uses_per_unit": {"storage_bytes": 1e12},
        "current_units": None,
        "max_units": units,
        "min_units": units,
        "usd_per_unit_hour": 0.01,
    }
    document = {
        "schema": "depin-orcha/problem/1",
        "horizon_h": 12,
        "hosts": [{"host": "local", "capacity": {"storage_bytes": 2e13}, "nodes": [node]}],
    }
    return solve(Problem.from_dict(document)).to_dict(), document


def store_plan(database: Path, node: str, grant: dict[str, float]) -> None:
    """The plan in force is that a node, read by a command, gets this grant."""
    result, problem = plan_of(node, "exec", 1, grant, {key: value * 4 for key, value in grant.items()})
    now_s = int(time.time())
    with opened(database, node=node, now_s=now_s) as store:
        store.add_plan(now_s - 60, now_s + 900, result, problem)


class MemoryJournal:
    """Keeps what a journal is told, in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str]] = []
        self.details: dict[int, str] = {}

    def running(self, seq: int) -> None:
        self.entries.append((seq, "running"))

    def finish(self, seq: int, state: ActionState, detail: str) -> None:
        self.entries.append((seq, str(state)))
        self.details[seq] = detail


class ProviderOptions(NodeOptions):
    provider_command: tuple[str, ...] = ("ya-provider",)


def golem_target(node: str = "golem_1", *, cpu_count: int = 8, socket: str = "/none", **options: Any) -> Target:
    return Target(node, ProviderOptions(protocol="golem", apply=True, **options), cpu_count, socket, socket)


def podman_api(newest: str, oldest: str = "4.0.0") -> dict[str, Any]:
    """What Podman answers to ``/version``, but for what nobody asks for."""
    own = {"Name": "Podman Engine", "Details": {"APIVersion": newest, "MinAPIVersion": oldest}}
    return {"ApiVersion": "1.41", "MinAPIVersion": "1.24", "Components": [own, {"Name": "Conmon"}]}


class FolderMachine(Outside):
    """The outside world, but for the kernel's files, which are below a folder."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def text(self, path: str) -> str | None:
        return super().text(f"{self.root}{path}")

    def write(self, path: str, content: str) -> None:
        file = Path(f"{self.root}{path}")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


class FakeEngine:
    """A small engine with one container on a machine of four CPUs; how it treats an update is up to a test."""

    def __init__(self, folder: Path) -> None:
        self.machine = FolderMachine(folder / "root")
        self.server = UnixEngine(folder / "s", self._answer)
        self.api: Any = {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Components": [{"Name": "Engine"}]}
        self.running = True
        self.gone = False
        self.on_update: Callable[[dict[str, int]], tuple[int, Any]] = self.obey
        self.machine.write("/proc/self/mountinfo", "30 20 0:20 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
        self.make(ID, 1_795_000_000)

    def make(self, identity: str, made_s: int) -> None:
        """The container is made (anew), without limits."""
        self.id, self.made_s, self.folder = identity, made_s, FOLDER.replace(ID, identity)
        self.host = {"NanoCpus": 0, "CpuQuota": 0, "CpuPeriod": 0, "CpuShares": 0, "Memory": 0, "MemorySwap": 0}
        self.machine.write("/proc/77/cgroup", f"0::/docker/{identity}\n")
        self.machine.write(f"{self.folder}/cgroup.controllers", "cpu memory\n")
        self.machine.write(f"{self.folder}/memory.max", "max\n")
        self.machine.write(f"{self.folder}/memory.current", f"{100 * 2**20}\n")
        self.machine.write(f"{self.folder}/memory.stat", "inactive_file 0\n")

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.__exit__()
        self.server.__exit__()

    def target(self, runtime: str = "docker") -> Target:
        return golem_target(socket=self.server.socket, runtime=runtime, container="golem")

    def cpu_action(self, cores: float = 1.0) -> Action:
        """What would limit the container to so many cores now."""
        docker = BACKENDS["docker"]
        return docker.actions(self.target(), docker.read(self.target(), self.machine), {CPU: cores}, "plan 1")[0]

    def obey(self, body: dict[str, int]) -> tuple[int, Any]:
        self.host.update(body)
        if "NanoCpus" in body:
            self.enforce(body["NanoCpus"] / 1e9)
        if "Memory" in body:
            self.machine.write(f"{self.folder}/memory.max", f"{body['Memory']}\n")
        return 200, {"Warnings": []}

    @property
    def cores(self) -> float:
        """What the kernel lets it have."""
        return int((self.machine.text(f"{self.folder}/cpu.max") or "0").split()[0]) / 100_000

    def enforce(self, cores: float) -> None:
        self.machine.write(f"{self.folder}/cpu.max", f"{round(cores * 100000)} 100000\n")

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if self.gone:
            return 0, None
        if path == "/version":
            return 200, self.api
        if path == "/info":
            return 200, {"NCPU": 4, "MemTotal": HOST_MEMORY}
        if path in ("/containers/golem/json", f"/containers/{self.id}/json"):
            state = {"Running": self.running, "Pid": 77 if self.running else 0, "StartedAt": "2026-11-22T21:58:59.1Z"}
            made = {"Created": f"{rfc3339(self.made_s)[:-1]}.123456789Z"}
            return 200, made | {"Id": self.id, "Name": "/golem", "State": state, "HostConfig": self.host}
        if path in (f"/containers/{self.id}/update", f"/libpod/containers/{self.id}/update") and method == "POST":
            return self.on_update(body)
        return 404, {"message": f"No such container: {path.split('/')[2]}"}
