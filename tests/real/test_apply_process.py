"""Limits on a plain process, proven by what it can really use; all of it below control groups that the test made."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from apply_parts import MemoryJournal, golem_target
from real.golem_owner import Owner, golem_owner, plan
from real.namespace import unavailable
from real.systemd import Systemd

from depin_orcha import grouping
from depin_orcha.actuators import Target, TargetGoneError, actuators
from depin_orcha.actuators.process import FREE, Process
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.execute import execute, recover
from depin_orcha.outside import Outside
from depin_orcha.types import Action, ActionState, Resource, RunCommand, Steps

pytestmark = pytest.mark.real
CPU, MEMORY = Resource.CPU_CORES, Resource.MEMORY_BYTES
MIB = 2**20
BACKENDS = actuators()
PROCESS = BACKENDS["process"]
BUSY = "while True: pass"
IDLE = "import time\nwhile True: time.sleep(1)"
TWO_BUSY = "import os\nos.fork()\nwhile True: pass"
FORKING = (
    "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    "while True:\n  if os.fork() == 0:\n    time.sleep(2)\n    os._exit(0)\n  time.sleep(0.005)"
)
ALLOCATING = (
    "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: kept.append(b'x' * 104857600))\nkept = []\n"
    "print('ready', flush=True)\nwhile True: time.sleep(0.1)"
)


class Home:
    """Control groups of version 1, where what the test starts begins; its processes have one name of their own."""

    def __init__(self) -> None:
        self.name = f"oa-node-{os.getpid()}"
        self.groups = {one: Path("/sys/fs/cgroup") / one / f"oa_test_{os.getpid()}" for one in ("cpu", "memory")}
        self.children: list[subprocess.Popen[str]] = []

    def start(self, code: str, name: str | None = None) -> subprocess.Popen[str]:
        def enter() -> None:
            for group in self.groups.values():
                (group / "cgroup.procs").write_text(str(os.getpid()))

        child = subprocess.Popen(
            [name or self.name, "-c", code],
            executable=sys.executable,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=enter,  # noqa: PLW1509
        )
        self.children.append(child)
        time.sleep(0.3)
        return child

    def stop(self) -> None:
        """Ends everything in the groups, which nobody else was put into, and removes them, inner ones first."""
        for group in self.groups.values():
            for _ in range(100):
                held = [int(pid) for file in group.rglob("cgroup.procs") for pid in file.read_text().split()]
                for pid in held:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if not held:
                    break
                time.sleep(0.02)
        for child in self.children:
            child.wait(10)
        for group in self.groups.values():
            for folder in sorted((file.parent for file in group.rglob("cgroup.procs")), reverse=True):
                folder.rmdir()

    def ours(self, controller: str) -> Path:
        return self.groups[controller] / "depin_orcha-golem_1"

    def held(self, controller: str) -> set[int]:
        return {int(pid) for pid in (self.ours(controller) / "cgroup.procs").read_text().split()}


@pytest.fixture
def home() -> Iterator[Home]:
    if os.geteuid() != 0 or not Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").exists():
        unavailable("moving processes needs root and control groups of version 1")
    made = Home()
    try:
        for group in made.groups.values():
            group.mkdir()
        yield made
    finally:
        made.stop()


@pytest.fixture
def world() -> Iterator[Outside]:
    with Outside() as made:
        yield made


def target(home: Home, **options: Any) -> Target:
    return golem_target(cpu_count=os.cpu_count() or 1, runtime="process", process=home.name, **options)


def wanted(home: Home, world: Outside, grant: dict[Resource, float]) -> list[Action]:
    where = target(home)
    return PROCESS.actions(where, PROCESS.read(where, world), grant, "plan 1")


def lifting(home: Home, world: Outside, done: list[Action]) -> list[Action]:
    where = target(home)
    return PROCESS.release(where, PROCESS.read(where, world), done)


def do(actions: list[Action], world: Outside) -> list[str]:
    outcomes = execute(dict(enumerate(actions, 1)), MemoryJournal(), BACKENDS, world)
    return [str(outcome.state) for outcome in outcomes]


def cores(pid: int, seconds: float = 4.0) -> float:
    """What the process and all below it use."""

    def used_s() -> float:
        one = psutil.Process(pid)
        return sum(sum(each.cpu_times()[:2]) for each in (one, *one.children(recursive=True)))

    before_s, started_s = used_s(), time.monotonic()
    time.sleep(seconds)
    return (used_s() - before_s) / (time.monotonic() - started_s)


def close(measure: Callable[[], float], cap: float) -> bool:
    """Within 5 % of the cap; this machine may be too busy to let it have that much, but never gives it more."""
    for _ in range(5):
        found = measure()
        assert found < cap * 1.05
        if found > cap * 0.95:
            return True
    return False


@pytest.mark.parametrize(("code", "cap"), [(BUSY, 0.2), (TWO_BUSY, 0.5)])
def test_it_uses_what_it_may_and_is_lifted_again(home: Home, world: Outside, code: str, cap: float) -> None:
    child = home.start(code)
    done = wanted(home, world, {CPU: cap})
    assert do(done, world) == ["done"]
    assert (home.ours("cpu") / "cpu.cfs_quota_us").read_text() == f"{round(cap * 100_000)}\n"
    assert home.held("cpu") == {child.pid, *(one.pid for one in psutil.Process(child.pid).children())}
    assert close(lambda: cores(child.pid), cap)
    assert wanted(home, world, {CPU: cap}) == []

    back = lifting(home, world, done)
    assert do(back, world) == ["done"]
    assert not home.ours("cpu").exists()
    assert str(child.pid) in (home.groups["cpu"] / "cgroup.procs").read_text().split()
    assert lifting(home, world, [*done, *back]) == []
    assert any(cores(child.pid, 2) > cap * 1.15 for _ in range(10)), "this machine may be busy"


def test_what_is_forked_meanwhile_is_inside(home: Home, world: Outside) -> None:
    child = home.start(FORKING)
    (action,) = wanted(home, world, {CPU: 0.3})
    world.act(action.call)
    outside = (home.groups["cpu"] / "cgroup.procs").read_text().split()
    assert outside == [], "what was forked while the others were moved"
    assert len(home.held("cpu")) > 20
    assert not PROCESS.read_back(action, world).contradiction
    stray = psutil.Process(child.pid).children()[-1].pid
    (home.groups["cpu"] / "cgroup.procs").write_text(str(stray))
    assert f"not where it is: {stray}" in PROCESS.read_back(action, world).contradiction


def test_who_ended_and_who_moved_on_need_no_move(home: Home, world: Outside) -> None:
    """One that nobody waits for stays listed for ever; one that moved into a group below ours is inside."""
    child = home.start(f"import os\nif os.fork() == 0: os._exit(0)\nif os.fork() == 0: os.setsid()\n{IDLE}")
    done = wanted(home, world, {CPU: 0.3})
    assert do(done, world) == ["done"]
    assert len(home.held("cpu")) == 2
    inner = home.ours("cpu") / "inner"
    inner.mkdir()
    (inner / "cgroup.procs").write_text(str(next(iter(home.held("cpu") - {child.pid}))))
    assert do(wanted(home, world, {CPU: 0.2}), world) == ["done"]
    assert home.held("cpu") == {child.pid}


def test_ended_at_every_step_the_next_run_ends_what_was_begun(
    home: Home, world: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at the first, second, ... write to the kernel, until none is left."""
    child = home.start(f"import os\nif os.fork(): os.fork()\n{IDLE}")
    write = grouping._write
    for number in itertools.count(1):
        left = iter(range(1, number))

        def interrupted(file: Path, value: str, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            write(file, value)

        (action,) = wanted(home, world, {CPU: 0.3})
        assert action.before == {"cpu_cores": None}
        monkeypatch.setattr(grouping, "_write", interrupted)
        with suppress(KeyboardInterrupt):
            assert do([action], world) == ["done"]
            break
        monkeypatch.setattr(grouping, "_write", write)
        (outcome,) = recover({1: action}, MemoryJournal(), BACKENDS, world)
        assert outcome.state is (ActionState.DONE if len(home.held("cpu")) == 3 else ActionState.FAILED)
        (again,) = wanted(home, world, {CPU: 0.3}) or [action]
        assert do([again], world) == ["done"]
        assert len(home.held("cpu")) == 3
        assert do(lifting(home, world, [again]), world) == ["done"]
        assert not home.ours("cpu").exists()
    assert number == 7, "three files, three processes"
    assert child.poll() is None


def test_more_memory_than_it_may_have_ends_it(home: Home, world: Outside) -> None:
    child = home.start(ALLOCATING)
    with pytest.raises(ActuatorError, match=r"1\.25 times"):
        wanted(home, world, {MEMORY: 5 * MIB})
    done = wanted(home, world, {MEMORY: 64 * MIB})
    assert do(done, world) == ["done"]
    assert (home.ours("memory") / "memory.limit_in_bytes").read_text() == f"{64 * MIB}\n"
    assert (home.ours("memory") / "memory.memsw.limit_in_bytes").read_text() == f"{64 * MIB}\n"
    assert do(wanted(home, world, {MEMORY: 96 * MIB}), world) == ["done"], "more: swap and memory go up first"
    assert do(wanted(home, world, {MEMORY: 64 * MIB}), world) == ["done"]
    child.send_signal(signal.SIGUSR1)
    assert child.wait(20) == -signal.SIGKILL


def test_memory_is_lifted_again(home: Home, world: Outside) -> None:
    child = home.start(ALLOCATING)
    done = wanted(home, world, {CPU: 0.5, MEMORY: 64 * MIB})
    assert do(done, world) == ["done", "done"]
    back = lifting(home, world, done)
    assert do(back, world) == ["done", "done"]
    assert not any(home.ours(one).exists() for one in home.groups)
    child.send_signal(signal.SIGUSR1)
    for _ in range(100):
        if psutil.Process(child.pid).memory_info().rss > 100 * MIB:
            break
        time.sleep(0.1)
    assert psutil.Process(child.pid).memory_info().rss > 100 * MIB


def test_one_started_again_is_limited_again_and_was_never_ours(home: Home, world: Outside) -> None:
    first = home.start(IDLE)
    old = wanted(home, world, {CPU: 0.5})
    assert do(old, world) == ["done"]
    first.kill()
    first.wait()
    assert PROCESS.read(target(home), world).running is False
    assert wanted(home, world, {CPU: 0.5}) == []
    with pytest.raises(TargetGoneError):
        world.act(old[0].call)
    second = home.start(IDLE)
    assert lifting(home, world, old) == []
    again = wanted(home, world, {CPU: 0.5})
    assert again[0].before == {"cpu_cores": None}
    assert do(again, world) == ["done"]
    assert home.held("cpu") == {second.pid}


def test_a_weight_for_who_must_not_starve(home: Home, world: Outside) -> None:
    home.start(IDLE)
    where = target(home)
    where = Target(where.node, where.options.model_copy(update={"protocol": "storj"}), where.cpu_count)
    done = PROCESS.actions(where, PROCESS.read(where, world), {CPU: 1.5, MEMORY: 64 * MIB}, "plan 1")
    assert [action.after for action in done] == [{"cpu_weight": 150}]
    assert do(done, world) == ["done"]
    assert (home.ours("cpu") / "cpu.shares").read_text() == "1536\n"
    assert (home.ours("cpu") / "cpu.cfs_quota_us").read_text() == "-1\n"


def test_two_of_the_name_are_refused(home: Home, world: Outside) -> None:
    pids = sorted(home.start(IDLE).pid for _ in range(2))
    with pytest.raises(ActuatorError, match=f"processes {pids[0]}, {pids[1]}") as caught:
        wanted(home, world, {CPU: 0.5})
    assert caught.value.kind is FailureKind.CONFIG


def test_what_the_kernel_refuses_leaves_nothing_behind(home: Home, world: Outside) -> None:
    """Version 1 refuses a quota above that of the group it is made in."""
    home.start(IDLE)
    (home.groups["cpu"] / "cpu.cfs_quota_us").write_text("20000")
    (action,) = wanted(home, world, {CPU: 0.5})
    (outcome,) = execute({1: action}, MemoryJournal(), BACKENDS, world)
    assert (outcome.state, outcome.changed) == (ActionState.FAILED, False)
    assert "cpu.cfs_quota_us" in outcome.detail
    assert not home.ours("cpu").exists()


def test_the_command_told_to_a_person_does_the_same(home: Home, world: Outside) -> None:
    child = home.start(TWO_BUSY)
    (action,) = wanted(home, world, {CPU: 0.5})
    subprocess.run(["sh", "-ec", PROCESS.advice(action)], check=True)
    assert len(home.held("cpu")) == 2
    assert recover({1: action}, MemoryJournal(), BACKENDS, world)[0].state is ActionState.DONE
    (back,) = lifting(home, world, [action])
    subprocess.run(["sh", "-ec", PROCESS.advice(back)], check=True)
    assert not home.ours("cpu").exists()
    assert child.poll() is None


def test_systemd_takes_the_commands_for_version_2() -> None:
    """On whatever version its machine has: they name no control group."""
    if shutil.which("dbus-daemon") is None:
        unavailable("busctl needs a bus (Debian: dbus)")
    with Systemd() as machine:
        assert machine("start", "dbus.socket", "dbus.service") == ""
        code = "sleep 300 & echo $! >/tmp/pids; sleep 300 & echo $! >>/tmp/pids; sleep 300 & echo $! >>/tmp/pids"
        machine.inside("sh", "-c", f"({code}) >/dev/null 2>&1 </dev/null &")
        time.sleep(0.5)
        first, second, stray = (int(pid) for pid in machine.inside("cat", "/tmp/pids").stdout.split())
        found = Process("golem_1", "sleep", first, pids=(first, second))
        where = golem_target(runtime="process", process="sleep")
        grant = {CPU: 0.25, MEMORY: 64 * MIB}
        found = replace(found, cpu_count=2, host_memory_bytes=2**33)
        scope = f"depin_orcha-golem_1-{first}.scope"

        def run(action: Action) -> None:
            calls = action.call.calls if isinstance(action.call, Steps) else (action.call,)
            for call in calls:
                assert isinstance(call, RunCommand)
                done = machine.inside(*call.argv)
                assert done.returncode == 0, done.stderr

        def held() -> list[str]:
            group = f"/sys/fs/cgroup/cpu{machine('show', '-P', 'ControlGroup', scope).strip()}"
            told = machine.inside("sh", "-c", f"cat {group}/cgroup.procs {group}/cpu.cfs_quota_us").stdout.split()
            return [*sorted(told[:-1], key=int), told[-1]]

        for action in PROCESS.actions(where, found, grant, "plan 1"):
            run(action)
        machine.until(scope, "active")
        assert held() == [str(first), str(second), "25000"]
        assert machine("show", "-P", "MemoryMax", scope).strip() == str(64 * MIB)
        inside = replace(found, inside={"cpu": scope}, values={**FREE, "cpu_cores": 0.25}, astray=(stray,))
        (more,) = PROCESS.actions(where, inside, {CPU: 0.5}, "plan 2")
        run(more)
        assert held() == [str(first), str(second), str(stray), "50000"]
        (lift,) = PROCESS.release(where, replace(inside, astray=()), [replace(more, before={"cpu_cores": None})])
        run(lift)
        assert held()[-1] == "-1"


@pytest.fixture
def owner(tmp_path: Path, home: Home) -> Iterator[Owner]:
    with golem_owner(tmp_path, "process", "/none") as made:
        config = made.folder / "config.toml"
        text = config.read_text().replace('process_socket = "/none"\n', "")
        config.write_text(text.replace('container = "golem"', f'process = "{home.name}"'))
        yield made


def test_a_stored_plan_reaches_the_kernel_is_set_again_and_lifted(owner: Owner, home: Home) -> None:
    home.start(IDLE)
    rights = [one for one in owner("doctor")["checks"] if one["name"] == "rights"]
    assert [(one["result"], one["detail"]) for one in rights] == [("ok", "apply can act on it (golem, process)")]
    plan(owner)
    dry = owner("apply")
    assert {action["state"] for action in dry["actions"]} == {"planned"}
    assert {action["path"] for action in dry["actions"] if action["kind"] == "process"} == {str(home.ours("cpu"))}
    assert not home.ours("cpu").exists()

    done = owner("apply", "--yes")
    assert {(action["kind"], action["state"]) for action in done["actions"]} == {("golem", "done"), ("process", "done")}
    assert (home.ours("cpu") / "cpu.cfs_quota_us").read_text() == "100000\n"
    assert owner("apply", "--yes")["actions"] == []

    home.children[0].kill()
    home.children[0].wait()
    assert owner("apply", "--yes")["actions"] == [], "it is stopped"
    second = home.start(IDLE)
    again = owner("apply", "--yes")
    assert [(action["kind"], action["state"]) for action in again["actions"]] == [("process", "done")]
    assert home.held("cpu") == {second.pid}

    (home.groups["cpu"] / "cgroup.procs").write_text(str(second.pid))
    left = owner("apply", "--yes")
    assert [action["state"] for action in left["actions"]] == ["skipped"], "somebody took it out"
    owner("apply", "--reclaim", "golem_1", "--yes")
    assert home.held("cpu") == {second.pid}

    lifted = owner("apply", "--release", "--yes")
    assert {action["state"] for action in lifted["actions"]} == {"done"}
    assert not home.ours("cpu").exists()
    hardware = json.loads((owner.agent.data_dir / "hardware.json").read_bytes())
    assert hardware["active"] == "default"
