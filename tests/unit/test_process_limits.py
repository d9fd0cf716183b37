"""Which process it is, who may limit it, and what is asked of the kernel or of systemd."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apply_parts import FolderMachine, golem_target

from depin_orcha import grouping
from depin_orcha.actuators import Target, TargetGoneError, from_json, named, observe, route, to_json
from depin_orcha.actuators.process import Actuator
from depin_orcha.adapters import NodeOptions
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.outside import Outside
from depin_orcha.processes import Running, running, started, topmost, tree
from depin_orcha.types import Action, Group, Resource, RunCommand, Steps

CPU, MEMORY = Resource.CPU_CORES, Resource.MEMORY_BYTES
MIB = 2**20
V1 = (
    "30 20 0:20 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "31 20 0:21 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
V2 = "30 20 0:20 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


def process(pid: int, parent: int, *names: str) -> Running:
    return Running(pid, parent, frozenset(names))


class Machine(FolderMachine):
    """Files of the kernel about processes that a test makes up; every one is in the same group unless it says so."""

    def __init__(self, root: Path, *, mounts: str = V1, manager: str = "init") -> None:
        super().__init__(root)
        self.processes: dict[int, Running] = {}
        self.is_2 = mounts == V2
        self.write("/proc/self/mountinfo", mounts)
        self.write("/proc/meminfo", f"MemTotal:       {8 * 2**20} kB\n")
        self.write("/proc/sys/kernel/random/boot_id", "boot-1\n")
        self.write("/proc/1/comm", f"{manager}\n")

    def start(self, pid: int, parent: int = 1, name: str = "node", path: str = "/home", ticks: int = 500) -> None:
        self.processes[pid] = process(pid, parent, name)
        self.write(f"/proc/{pid}/stat", f"{pid} (a (b) c) S {parent} {' '.join(['0'] * 17)} {ticks} 0 0\n")
        self.write(f"/proc/{pid}/status", "RssAnon:\t    1024 kB\nRssFile:\t  9999 kB\nRssShmem:\t    1024 kB\n")
        self.move(pid, path, path)

    def move(self, pid: int, cpu: str, memory: str) -> None:
        text = f"0::{cpu}\n" if self.is_2 else f"5:cpu,cpuacct:{cpu}\n4:memory:{memory}\n0::/\n"
        self.write(f"/proc/{pid}/cgroup", text)

    def group(self, path: str, *, quota: int = -1, shares: int = 1024, memory: int = 2**63 - 4096) -> None:
        if self.is_2:
            self.write(f"/sys/fs/cgroup{path}/cgroup.controllers", "cpu memory\n")
            self.write(f"/sys/fs/cgroup{path}/cpu.max", f"{'max' if quota < 0 else quota} 100000\n")
            return
        self.write(f"/sys/fs/cgroup/cpu,cpuacct{path}/cpu.cfs_quota_us", f"{quota}\n")
        self.write(f"/sys/fs/cgroup/cpu,cpuacct{path}/cpu.cfs_period_us", "100000\n")
        self.write(f"/sys/fs/cgroup/cpu,cpuacct{path}/cpu.shares", f"{shares}\n")
        folder = f"/sys/fs/cgroup/memory{path}"
        self.write(f"{folder}/memory.limit_in_bytes", f"{memory}\n")
        self.write(f"{folder}/memory.memsw.limit_in_bytes", f"{memory}\n")
        self.write(f"{folder}/memory.usage_in_bytes", f"{100 * MIB}\n")
        self.write(f"{folder}/memory.stat", "total_inactive_file 0\n")

    @property
    def backend(self) -> Actuator:
        return Actuator(lambda: self.processes)

    def actions(self, where: Target, grant: dict[Resource, float]) -> list[Action]:
        return self.backend.actions(where, self.backend.read(where, self), grant, "plan 1")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path) as made:
        yield made


@pytest.fixture
def machine_2(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path, mounts=V2, manager="systemd") as made:
        yield made


def target(protocol: str = "golem", **options: Any) -> Target:
    where = golem_target(runtime="process", process="node", **options)
    return Target(where.node, where.options.model_copy(update={"protocol": protocol}), where.cpu_count)


class _NoProfile(Actuator):
    """Stands in for Golem's own part, which has nothing to do."""

    def actions(self, *_: Any) -> list[Action]:  # type: ignore[override]
        return []


def call(action: Action) -> Group:
    assert isinstance(action.call, Group)
    return action.call


def refusal(machine: Machine, where: Target | None = None, grant: dict[Resource, float] | None = None) -> ActuatorError:
    with pytest.raises(ActuatorError) as caught:
        machine.actions(where or target(), grant or {CPU: 1.0})
    return caught.value


def test_the_topmost_of_a_name_and_all_below_it():
    found = {
        one.pid: one
        for one in (
            process(1, 0, "init"),
            process(10, 1, "run.sh"),
            process(11, 10, "node", "/opt/node"),
            process(12, 11, "node", "/opt/node"),
            process(13, 12, "worker"),
            process(14, 13, "node", "/srv/node"),
            process(20, 1, "nodes"),
        )
    }
    assert topmost("node", found) == [11]
    assert topmost("/srv/node", found) == [14]
    assert topmost("nod", found) == []
    assert tree(11, found) == [11, 12, 13, 14]
    assert tree(20, found) == [20]
    assert tree(5, {5: process(5, 5, "loop"), 6: process(6, 7), 7: process(7, 6)}) == [5]


def test_a_process_is_found_by_what_ps_shows_and_by_its_path():
    argv = ["/none/oa-named", "-c", "import sys; sys.stdin.read()"]
    child = subprocess.Popen(argv, executable=sys.executable, stdin=subprocess.PIPE)
    try:
        names = running()[child.pid].names
        assert {"/none/oa-named", "oa-named", os.path.realpath(sys.executable)} <= names
        assert running()[child.pid].parent == os.getpid() or os.getpid() not in running()
        assert os.getpid() not in running(), "who looks is not looked for"
        assert started(Outside().text, child.pid)
    finally:
        child.kill()
    with Outside() as world:
        while started(world.text, child.pid) is not None:  # ended, and nobody has waited for it yet
            pass
        assert child.pid not in running()
        child.communicate()
        assert started(world.text, child.pid) is None


def test_two_trees_of_one_name_are_refused_by_their_numbers(machine: Machine) -> None:
    machine.start(77)
    machine.start(91)
    error = refusal(machine)
    assert (error.kind, "77, 91" in error.message, "full path" in error.hint) == (FailureKind.CONFIG, True, True)


def test_one_that_is_not_running_is_left_alone(machine: Machine) -> None:
    observed = machine.backend.read(target(), machine)
    assert not observed.running
    assert machine.actions(target(), {CPU: 1.0}) == []
    for where in (target(), target("storj", hard_caps=True)):
        backends = {
            "process": machine.backend,
            **({"golem": _NoProfile(dict)} if where.options.protocol == "golem" else {}),
        }
        found = route(where, observe(where, machine, backends), {CPU: 1.0}, "", backends, busy=None)
        assert found.actions == ()
        assert found.notes == ("process node is stopped; it is limited when it runs",)


def test_its_name_is_said_and_must_be_said() -> None:
    assert named(target()) == "process node"
    with pytest.raises(ValueError, match='runtime "process" needs the name of its process'):
        NodeOptions(protocol="golem", runtime="process")


def test_a_group_of_its_own_beside_what_it_ran_with(machine: Machine) -> None:
    machine.start(77)
    machine.group("/home")
    cpu, memory = machine.actions(target(), {CPU: 1.5, MEMORY: 64 * MIB + 5})
    folder = "/sys/fs/cgroup/cpu,cpuacct/home/depin_orcha-golem_1"
    quota = (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000"), ("cpu.shares", "1024"))
    assert cpu.call == Group(folder, 77, 500, quota)
    assert cpu.undo == Group(folder, 77, 500, leave=True)
    assert call(memory).path == "/sys/fs/cgroup/memory/home/depin_orcha-golem_1"
    assert call(memory).files == tuple((f"memory.{one}limit_in_bytes", str(64 * MIB)) for one in ("", "memsw."))
    assert cpu.target == {"process": "node", "pid": 77, "started": 500, "boot": "boot-1"}
    assert (cpu.before, cpu.after) == ({"cpu_cores": None}, {"cpu_cores": 1.5})
    assert from_json(to_json(cpu)) == cpu
    assert from_json(to_json(memory)) == memory


def test_without_swap_accounting_memory_alone_is_limited(machine: Machine) -> None:
    machine.start(77)
    machine.group("/home")
    (machine.root / "sys/fs/cgroup/memory/home/memory.memsw.limit_in_bytes").unlink()
    (memory,) = machine.actions(target(), {MEMORY: 64 * MIB})
    assert [name for name, _ in call(memory).files] == ["memory.limit_in_bytes"]


@pytest.mark.parametrize(
    ("groups", "said"),
    [("5:cpu:/home\n0::/\n", "no control groups of version 1 for memory"), ("3:pids:/\n", "without systemd")],
)
def test_a_kernel_without_the_controller_is_refused(machine: Machine, groups: str, said: str) -> None:
    """As the small computers have memory turned off."""
    machine.start(77)
    machine.group("/home")
    machine.write("/proc/77/cgroup", groups)
    error = refusal(machine, grant={MEMORY: 64 * MIB})
    assert (error.kind, said in error.message) == (FailureKind.UNSUPPORTED, True), error.message
    if "cpu" in groups:
        assert len(machine.actions(target(), {CPU: 1.0})) == 1


def test_in_its_group_the_other_value_stays_and_swap_goes_up_first(machine: Machine) -> None:
    own = "/home/depin_orcha-golem_1"
    machine.start(77, path=own)
    machine.group(own, quota=50_000, shares=2048, memory=256 * MIB)
    assert machine.actions(target(), {CPU: 0.5, MEMORY: 256 * MIB}) == []
    cpu, more = machine.actions(target(), {CPU: 0.25, MEMORY: 512 * MIB})
    assert call(cpu).path == f"/sys/fs/cgroup/cpu,cpuacct{own}", "not one in the other"
    assert dict(call(cpu).files)["cpu.shares"] == "2048"
    assert cpu.undo == Group(
        call(cpu).path, 77, 500, (*call(cpu).files[:1], ("cpu.cfs_quota_us", "50000"), call(cpu).files[2])
    )
    assert [name for name, _ in call(more).files] == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
    assert isinstance(more.undo, Group)
    assert [name for name, _ in more.undo.files] == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    (all_there_is,) = machine.actions(target(), {CPU: 8})
    assert (all_there_is.after, call(all_there_is).leave) == ({"cpu_cores": None}, False), "the weight stays"


def test_a_weight_for_who_may_not_starve(machine: Machine) -> None:
    machine.start(77)
    machine.group("/home")
    (action,) = machine.actions(target("storj"), {CPU: 3, MEMORY: 64 * MIB})
    assert action.after == {"cpu_weight": 300}
    assert dict(call(action).files) == {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "-1", "cpu.shares": "3072"}
    assert machine.backend.grant([action]) == {CPU: 3.0}
    machine.move(77, "/home/depin_orcha-golem_1", "/home")
    machine.group("/home/depin_orcha-golem_1", shares=3072)
    assert machine.actions(target("storj"), {CPU: 3}) == []
    assert machine.backend.read_back(action, machine).values == {"cpu_weight": 300}


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        ({CPU: 0.004}, "0.01 to 8"),
        ({CPU: 8.1}, "0.01 to 8"),
        ({MEMORY: 9 * 2**30}, "there are 8589934592"),
        ({MEMORY: 4 * MIB}, "less than 1.25 times the 4194304 in use"),
    ],
)
def test_a_guard_refuses_and_never_bends_the_grant(machine: Machine, grant: dict[Resource, float], said: str) -> None:
    """Version 1 leaves what is used already with the old group, so the processes are asked: 2 MiB each."""
    machine.start(77)
    machine.start(78, 77, "worker")
    machine.group("/home")
    error = refusal(machine, grant=grant)
    assert (error.kind, said in error.message) == (FailureKind.DATA, True), error.message


def test_what_its_own_group_uses_counts_too(machine: Machine) -> None:
    own = "/home/depin_orcha-golem_1"
    machine.start(77, path=own)
    machine.group(own)
    assert f"times the {100 * MIB} in use" in refusal(machine, grant={MEMORY: 120 * MIB}).message


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/system.slice/storagenode.service", 'unit = "storagenode.service"'),
        ("/system.slice/storagenode.service/worker", 'unit = "storagenode.service"'),
        ("/docker/c0ffee", 'runtime = "docker"'),
        ("/system.slice/docker-c0ffee.scope", 'runtime = "docker"'),
        ("/machine.slice/libpod-c0ffee.scope/container", 'runtime = "docker"'),
        ("/libpod_parent/libpod-c0ffee", 'runtime = "docker"'),
    ],
)
def test_the_group_of_a_service_or_a_container_is_left_alone(machine: Machine, path: str, said: str) -> None:
    machine.start(77, path=path)
    error = refusal(machine)
    assert (error.kind, said in error.hint) == (FailureKind.UNSUPPORTED, True), error.hint


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/user.slice/user-1000.slice/session-3.scope",
        "/user.slice/user@1000.service/app.slice/vte-1.scope",
        "/dockers",
    ],
)
def test_a_session_of_a_person_is_none(machine: Machine, path: str) -> None:
    machine.start(77, path=path)
    machine.group("" if path == "/" else path)
    assert len(machine.actions(target(), {CPU: 1.0})) == 1


def test_the_next_process_of_the_name_is_another_one(machine: Machine) -> None:
    machine.start(77)
    machine.group("/home")
    (old,) = machine.actions(target(), {CPU: 1.0})
    machine.start(77, ticks=900)
    with pytest.raises(TargetGoneError):
        machine.backend.read_back(old, machine)
    observed = machine.backend.read(target(), machine)
    assert machine.backend.release(target(), observed, [old]) == [], "the number was used again"
    assert observed.identity != old.target
    (again,) = machine.actions(target(), {CPU: 1.0})
    assert call(again).started == 900


def test_a_machine_started_anew_has_no_process_of_ours(machine: Machine) -> None:
    machine.start(77)
    machine.group("/home")
    (old,) = machine.actions(target(), {CPU: 1.0})
    machine.write("/proc/sys/kernel/random/boot_id", "boot-2\n")
    with pytest.raises(TargetGoneError):
        machine.backend.read_back(old, machine)


def test_it_is_proven_only_with_all_of_it_inside(machine: Machine) -> None:
    machine.start(77)
    machine.start(78, 77, "worker")
    machine.group("/home")
    (action,) = machine.actions(target(), {CPU: 1.0})
    own = "/home/depin_orcha-golem_1"
    machine.group(own, quota=100_000)
    assert machine.backend.read_back(action, machine).values == {"cpu_cores": None}, "the group alone limits nobody"
    machine.move(77, own, "/home")
    reading = machine.backend.read_back(action, machine)
    assert (reading.values, "78" in reading.contradiction) == ({"cpu_cores": None}, True), "a part of it is limited"
    assert [one.after for one in machine.actions(target(), {CPU: 1.0})] == [{"cpu_cores": 1.0}], "ended half way"
    machine.move(78, f"{own}/inner", "/home")
    reading = machine.backend.read_back(action, machine)
    assert (reading.contradiction, "cpu.cfs_quota_us = 100000" in reading.evidence) == ("", True)
    (back,) = machine.backend.release(target(), machine.backend.read(target(), machine), [action])
    machine.move(77, "/home", "/home")
    assert "78" in machine.backend.read_back(back, machine).contradiction, "left behind under a limit"


def test_release_of_two_values_leaves_with_the_last(machine: Machine) -> None:
    machine.start(77)
    machine.group("/home")
    done = [*machine.actions(target("storj"), {CPU: 3}), *machine.actions(target(), {CPU: 0.5})]
    own = "/home/depin_orcha-golem_1"
    machine.move(77, own, "/home")
    machine.group(own, quota=50_000, shares=3072)
    back = machine.backend.release(target(), machine.backend.read(target(), machine), done)
    assert [call(one).leave for one in back] == [False, True]


def test_who_took_the_place_of_another_in_our_group_is_lifted_as_well(machine: Machine) -> None:
    """As a daemon does that forks and ends."""
    machine.start(77)
    machine.group("/home")
    done = machine.actions(target(), {CPU: 0.5})
    own = "/home/depin_orcha-golem_1"
    machine.processes.clear()
    machine.start(99, ticks=900, path=own)
    machine.group(own, quota=50_000)
    assert machine.actions(target(), {CPU: 0.5}) == []
    (back,) = machine.backend.release(target(), machine.backend.read(target(), machine), done)
    assert (back.after, call(back).leave, call(back).pid) == ({"cpu_cores": None}, True, 99)


def test_what_a_container_below_it_holds_is_not_part_of_it(machine: Machine) -> None:
    own = "/home/depin_orcha-golem_1"
    machine.start(77, path=own)
    machine.start(78, 77, "conmon", path="/libpod_parent/libpod-c0ffee")
    machine.group(own, quota=50_000)
    observed = machine.backend.read(target(), machine)
    assert (observed.pids, observed.astray) == ((77,), ())
    assert machine.actions(target(), {CPU: 0.5}) == []


def test_what_was_forked_meanwhile_is_moved_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group, passes = tmp_path / "group", iter(range(1, 100))
    procs = group / "cgroup.procs"

    def listing(pids: Iterable[int]) -> dict[int, Running]:
        return {pid: process(pid, int(pid > 1)) for pid in pids}

    def put(pid: int, folder: Path) -> None:
        procs.write_text("".join(f"{one}\n" for one in (*grouping._held(folder), pid)))

    monkeypatch.setattr(grouping, "running", lambda: listing(range(1, 1 + min(4, next(passes)))))
    monkeypatch.setattr(grouping, "started", lambda _text, _pid: 5)
    monkeypatch.setattr(grouping, "paths_of", lambda _text, pid: {"cpu": "/docker/c0ffee" if pid == 4 else "/"})
    monkeypatch.setattr(grouping, "_put", put)
    grouping.move(Group(str(group), 1, 5, (("cpu.shares", "2"),)))
    assert sorted(grouping._held(group)) == [1, 2, 3], "4 is in a container"
    monkeypatch.setattr(grouping, "running", lambda: listing(range(1, 10 + next(passes))))
    with pytest.raises(ActuatorError, match="forks faster"):
        grouping.move(Group(str(group), 1, 5))


def test_another_process_with_the_number_is_not_moved(tmp_path: Path) -> None:
    with Outside() as world:
        since = started(world.text, os.getpid())
        assert since is not None
        with pytest.raises(TargetGoneError):
            world.act(Group(str(tmp_path / "group"), os.getpid(), since + 1, (("cpu.shares", "2"),)))
    assert not (tmp_path / "group").exists()


def test_a_group_that_cannot_be_made_is_named() -> None:
    with Outside() as world:
        call = Group("/sys/none/group", os.getpid(), started(world.text, os.getpid()) or 0)
        with pytest.raises(ActuatorError, match="/sys/none/group"):
            world.act(call)


def test_version_2_without_systemd_is_refused(tmp_path: Path) -> None:
    with Machine(tmp_path, mounts=V2) as machine:
        machine.start(77)
        machine.group("/home")
        error = refusal(machine)
    assert (error.kind, "without systemd" in error.message) == (FailureKind.UNSUPPORTED, True)


SESSION = "/user.slice/user-1000.slice/session-3.scope"
SCOPE = "depin_orcha-golem_1-77.scope"


def test_version_2_with_systemd_adopts_it_into_a_scope(machine_2: Machine) -> None:
    machine_2.start(77, path=SESSION)
    machine_2.start(78, 77, "worker", path=SESSION)
    machine_2.group(SESSION)
    cpu, memory = machine_2.actions(target(), {CPU: 0.5, MEMORY: 64 * MIB})
    assert isinstance(cpu.call, RunCommand)
    assert cpu.call.argv[5:] == (
        "StartTransientUnit", "ssa(sv)a(sa(sv))", SCOPE, "fail",
        "3", "PIDs", "au", "2", "77", "78", "Delegate", "b", "true", "CPUQuotaPerSecUSec", "t", "500000", "0",
    )  # fmt: skip
    lift = RunCommand(("systemctl", "set-property", "--runtime", SCOPE, "CPUQuota="))
    assert cpu.undo == lift
    assert memory.call == RunCommand(("systemctl", "set-property", "--runtime", SCOPE, f"MemoryMax={64 * MIB}"))
    assert from_json(to_json(cpu)) == cpu
    assert machine_2.backend.read_back(cpu, machine_2).values == {"cpu_cores": None}

    own = f"/system.slice/{SCOPE}"
    machine_2.group(own, quota=50_000)
    machine_2.move(77, f"{own}/inner", "")
    reading = machine_2.backend.read_back(cpu, machine_2)
    assert (reading.values, "78" in reading.contradiction) == ({"cpu_cores": None}, True)
    (more,) = machine_2.actions(target(), {CPU: 0.75})
    set_more = RunCommand(("systemctl", "set-property", "--runtime", SCOPE, "CPUQuota=75%"))
    assert isinstance(more.call, Steps)
    assert more.call.calls[1] == set_more
    attach = more.call.calls[0]
    assert isinstance(attach, RunCommand)
    assert attach.argv[5:] == ("AttachProcessesToUnit", "ssau", SCOPE, "", "1", "78")
    machine_2.move(78, own, "")
    assert [one.call for one in machine_2.actions(target(), {CPU: 0.75})] == [set_more]
    (back,) = machine_2.backend.release(target(), machine_2.backend.read(target(), machine_2), [cpu])
    assert back.call == lift
    assert machine_2.backend.advice(back) == f"systemctl set-property --runtime {SCOPE} CPUQuota="
