"""The disk space of a Storj node: set by its file and a restart, proven by its dashboard, refused where it harms."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from apply_parts import BACKENDS, FakeEngine, MemoryJournal
from storj_machine import CONFIG, ID, StorjMachine

from depin_orcha.actuators import from_json, inverse, kinds, observe, route, to_json
from depin_orcha.actuators._storj_size import KEY, size_bytes, size_of_line, size_text
from depin_orcha.actuators.storj import Actuator, Stopped
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.execute import Outcome, execute, recover
from depin_orcha.hands import Past, by_hand
from depin_orcha.types import Action, ActionState, HttpCall, Resource, RunCommand, Steps, WriteLine

STORAGE = Resource.STORAGE_BYTES
TB, GB = 10**12, 10**9


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[StorjMachine]:
    with StorjMachine(tmp_path) as made:
        yield made


def planned(machine: StorjMachine, size: float, **options: object) -> list[Action]:
    target = machine.target(**options)
    return Actuator().actions(target, Actuator().read(target, machine), {STORAGE: size}, "plan 1")


def carry_out(machine: StorjMachine, *actions: Action, verify_timeout_s: float = 0.3) -> list[Outcome]:
    return execute(dict(enumerate(actions)), MemoryJournal(), BACKENDS, machine, verify_timeout_s)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2.00 TB", 2 * TB),
        ("2TB", 2 * TB),
        ("2T", 2 * TB),
        ("2t", 2 * TB),
        ("1 TiB", 2**40),
        ("1.5tib", 3 * 2**39),
        ("2500.00 GB", 2500 * GB),
        ("0.5PiB", 2**49),
        ("1 EB", 10**18),
        ("1e3 GB", TB),
        ("512 KiB", 2**19),
        ("700000000000", 700 * GB),
        ("700000000000B", 700 * GB),
        (".5 TB", TB // 2),
        ("1.0000000000009 B", 1),
    ],
)
def test_a_size_is_what_storj_makes_of_it(text: str, size: int) -> None:
    assert size_bytes(text) == size
    assert size_of_line(f"{KEY}: {text}", "f") == size
    assert size_of_line(f'{KEY}:   "{text}"   # {text}1', "f") == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "TB",
        "two TB",
        "1,5 TB",
        "2 TBB",
        "2 XB",
        "2 TB x",
        "nan",
        "inf TB",
        "2_000 GB",
        "1e400 TB",
        "2 \u212aB",
        "\u0662 TB",
    ],
)
def test_what_storj_takes_for_no_size_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        size_bytes(text)
    with pytest.raises(ActuatorError, match=r"is not a size|no value") as caught:
        size_of_line(f"{KEY}: {text}", "f")
    assert caught.value.kind is FailureKind.CONFIG


@pytest.mark.parametrize("size", [500 * GB, 1530 * GB, 12_345_670_000_000, 60 * TB])
def test_what_is_written_is_read_the_same(size: int) -> None:
    assert size_bytes(size_text(size)) == size


def test_the_plan_is_one_action_that_rewrites_the_line_and_restarts(machine: StorjMachine) -> None:
    (action,) = planned(machine, 7.5 * TB)
    old, new = f"{KEY}: 6.00 TB   # since May", f"{KEY}: 7500.00 GB   # since May"
    restart = HttpCall(machine.engine.socket, "POST", f"/containers/{ID}/restart?t=300", timeout_s=360)
    assert action.call == Steps((WriteLine(str(machine.file), KEY, old, new), restart))
    assert action.undo == Steps((WriteLine(str(machine.file), KEY, new, old), restart))
    assert (action.before, action.after) == ({"storage_bytes": 6 * TB}, {"storage_bytes": 7500 * GB})
    assert from_json(to_json(action)) == action
    assert from_json(to_json(inverse(action, "x"))) == inverse(action, "x")
    assert (machine.restarts, machine.file.read_text()) == (0, CONFIG)


def test_a_unit_is_restarted_with_time_to_stop(machine: StorjMachine, tmp_path: Path, monkeypatch) -> None:
    told = "ActiveState=active\nEnvironment=A=b\nExecStart={ path=/usr/bin/storagenode ; argv[]=storagenode run ; }\n"
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(told)}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    (action,) = planned(machine, 7 * TB, runtime="systemd", unit="storagenode.service")
    assert isinstance(action.call, Steps)
    assert action.call.calls[1] == RunCommand(("systemctl", "restart", "storagenode.service"), 360)
    assert from_json(to_json(action)) == action
    systemctl.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(told.replace('=b', f'=b {NAME}=2TB'))}\n")
    assert planned(machine, 7 * TB, runtime="systemd", unit="storagenode.service") == []
    systemctl.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(told.replace('run ', f'run --{KEY}=2TB '))}\n")
    assert planned(machine, 7 * TB, runtime="systemd", unit="storagenode.service") == []
    systemctl.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(told.replace('=active', '=failed'))}\n")
    target = machine.target(runtime="systemd", unit="storagenode.service")
    assert Actuator().read(target, machine) == Stopped("unit storagenode.service")


NAME = "STORJ_STORAGE_ALLOCATED_DISK_SPACE"


@pytest.mark.parametrize("size", [6 * TB, 6 * TB + 9.9 * GB, 6 * TB - 9.9 * GB])
def test_less_than_10_gb_is_no_change(machine: StorjMachine, size: float) -> None:
    machine.free = 0  # no guard is asked where nothing changes
    assert planned(machine, size) == []


def test_what_is_written_is_never_below_the_grant(machine: StorjMachine) -> None:
    (action,) = planned(machine, 7_000_000_001_000)
    assert action.after == {"storage_bytes": 7_000_010_000_000}


@pytest.mark.parametrize(
    ("size", "used", "free", "said"),
    [
        (499 * GB, 100 * GB, TB, "does not start below 500.00 GB"),
        (4.52 * TB, 4.310457126912 * TB, 5 * TB, "needs 5 % more"),
        (8.5 * TB, 4.310457126912 * TB, 5 * TB, "a tenth stays free"),
        (3.2 * TB, 3.1 * TB, 0.3 * TB, "needs 5 % more"),
        (7 * TB, -1, 5 * TB, "is not known"),
    ],
)
def test_a_guard_refuses_and_bends_nothing(
    machine: StorjMachine, size: float, used: float, free: float, said: str
) -> None:
    machine.disk, machine.free = {"used": int(used)}, int(free)
    with pytest.raises(ActuatorError, match=said) as caught:
        planned(machine, size)
    assert caught.value.kind is FailureKind.DATA
    assert machine.file.read_text() == CONFIG


@pytest.mark.parametrize(("size", "used", "free"), [(500 * GB, 400 * GB, 5 * TB), (8360 * GB, 4.3 * TB, 5 * TB)])
def test_at_the_edge_of_the_guards_it_is_set(machine: StorjMachine, size: float, used: float, free: float) -> None:
    machine.disk, machine.free = {"used": int(used)}, int(free)
    assert planned(machine, size)[0].after == {"storage_bytes": size}


def test_trash_counts_as_used_where_an_older_node_tells_it_apart(tmp_path: Path) -> None:
    with StorjMachine(tmp_path, "1.120.4") as machine:
        machine.disk = {"used": 4000 * GB, "trash": 500 * GB}
        assert planned(machine, 4.8 * TB)[0].before == {"storage_bytes": 6 * TB}
        with pytest.raises(ActuatorError, match=r"it stores 4500\.00 GB"):
            planned(machine, 4.7 * TB)


@pytest.mark.parametrize(
    ("environment", "args", "said"),
    [
        (["STORAGE=6.0TB"], [], "STORAGE of its environment"),
        (["STORAGE=", f"{NAME}=6TB"], [], f"{NAME} of its environment"),
        (["STORAGE="], ["run", f"--{KEY}=6TB"], f"--{KEY} of its command line"),
        (["STORAGE="], ["run", f"--{KEY}", "6TB"], f"--{KEY} of its command line"),
    ],
)
def test_what_wins_over_the_file_leaves_only_advice(
    machine: StorjMachine, environment: list[str], args: list[str], said: str
) -> None:
    machine.environment, machine.args = environment, args
    target = machine.target()
    observed = observe(target, machine, BACKENDS, kinds(target, BACKENDS, {STORAGE}))
    made = route(target, observed, {STORAGE: 7.5 * TB}, "plan 1", BACKENDS, busy=None)
    assert made.actions == ()
    (note,) = made.notes
    assert said in note
    assert (
        "docker stop -t 300 storj && docker rm storj, then your own docker run command with -e STORAGE=7.50TB" in note
    )
    assert route(target, observed, {STORAGE: 6 * TB}, "plan 1", BACKENDS, busy=None).notes == ()
    with pytest.raises(ActuatorError, match="a tenth stays free"):
        route(target, observed, {STORAGE: 9 * TB}, "plan 1", BACKENDS, busy=None)


def test_a_container_of_compose_is_made_anew_by_compose(machine: StorjMachine) -> None:
    machine.environment = ["STORAGE=6.0TB"]
    machine.labels = {
        "com.docker.compose.service": "node",
        "com.docker.compose.project.config_paths": "/srv/storj/compose.yaml",
    }
    target = machine.target()
    note = Actuator().note(target, Actuator().read(target, machine), {STORAGE: 7.51 * TB})
    assert "set STORAGE=7.51TB for node in /srv/storj/compose.yaml" in note
    assert "docker compose -f /srv/storj/compose.yaml up -d --no-deps -t 300 node" in note


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"config_path": None}, "its config_path is not set; by hand: docker stop"),
        ({"runtime": "none"}, f"cannot be restarted; by hand: sed -i 's|^{KEY.replace('.', chr(92) + '.')}: 6"),
    ],
)
def test_where_we_cannot_a_person_is_told_how(machine: StorjMachine, options: dict[str, object], said: str) -> None:
    target = machine.target(**options)
    observed = Actuator().read(target, machine)
    assert Actuator().actions(target, observed, {STORAGE: 7 * TB}, "plan 1") == []
    assert said in Actuator().note(target, observed, {STORAGE: 7 * TB})


def test_without_its_disk_there_is_no_guard_against_a_full_one(machine: StorjMachine) -> None:
    with pytest.raises(ActuatorError, match="how much its disk has free is not known"):
        planned(machine, 7 * TB, disk=None)


def test_a_file_that_does_not_say_what_the_node_runs_with_is_left_alone(machine: StorjMachine) -> None:
    machine.runs_with = 5 * TB
    with pytest.raises(ActuatorError, match=r"runs with 5000.00 GB, but .* says 6000.00 GB"):
        planned(machine, 7 * TB)


def test_a_stopped_container_is_left_alone(machine: StorjMachine) -> None:
    (done,) = planned(machine, 7.5 * TB)
    carry_out(machine, done)
    machine.running, machine.runs_with = False, None
    target = machine.target()
    observed = observe(target, machine, BACKENDS, kinds(target, BACKENDS, {STORAGE}))
    made = route(target, observed, {STORAGE: 7 * TB}, "plan 1", BACKENDS, busy=None)
    assert (made.actions, made.notes) == ((), ("container storj is stopped; its disk space is set when it runs",))
    with pytest.raises(ActuatorError, match="container storj is stopped"):
        Actuator().release(target, observed["storj"], [done])
    assert Actuator().release(target, observed["storj"], []) == []


def test_storage_alone_asks_the_node(machine: StorjMachine) -> None:
    assert kinds(machine.target(), BACKENDS, {Resource.CPU_CORES}) == ("docker",)
    assert kinds(machine.target(), BACKENDS, {STORAGE}) == ("storj",)


def test_the_restart_comes_after_what_is_set_without_one(machine: StorjMachine, tmp_path: Path) -> None:
    """Else it would be taken back by another one when a limit set after it fails."""
    target = machine.target(hard_caps=True)
    (tmp_path / "other").mkdir()
    with FakeEngine(tmp_path / "other") as engine:
        limits = BACKENDS["docker"].read(engine.target(), engine.machine)
    observed = {"storj": Actuator().read(target, machine), "docker": limits}
    made = route(target, observed, {STORAGE: 7 * TB, Resource.CPU_CORES: 1.0}, "plan 1", BACKENDS, busy=None)
    assert [action.kind for action in made.actions] == ["docker", "storj"]


def test_set_and_proven_by_the_dashboard(machine: StorjMachine) -> None:
    (action,) = planned(machine, 7.5 * TB)
    (outcome,) = carry_out(machine, action)
    assert (outcome.state, outcome.changed, outcome.failure) == (ActionState.DONE, True, None)
    assert "the node runs with 7500.00 GB since 20" in outcome.detail
    assert machine.file.read_text() == CONFIG.replace("6.00 TB", "7500.00 GB")
    assert (machine.restarts, machine.file.stat().st_mode & 0o777) == (1, 0o600)
    assert planned(machine, 7.5 * TB) == []
    assert Actuator().grant([action]) == {STORAGE: 7.5 * TB}
    machine.restarts = 0
    target = machine.target()
    (back,) = Actuator().release(target, Actuator().read(target, machine), [action])
    assert [one.state for one in carry_out(machine, back)] == [ActionState.DONE]
    assert (machine.file.read_text(), machine.restarts, machine.runs_with) == (CONFIG, 1, 6 * TB)
    assert Actuator().release(target, Actuator().read(target, machine), [action, back]) == []


def test_the_very_line_of_the_owner_comes_back_after_two_changes(machine: StorjMachine) -> None:
    (first,) = planned(machine, 7.5 * TB)
    carry_out(machine, first)
    (second,) = planned(machine, 7 * TB)
    carry_out(machine, second)
    target = machine.target()
    carry_out(machine, *Actuator().release(target, Actuator().read(target, machine), [first, second]))
    assert machine.file.read_text() == CONFIG


def test_a_node_that_takes_another_value_is_put_back(machine: StorjMachine) -> None:
    machine.fate = lambda said: min(said, 7 * TB)
    (action,) = planned(machine, 7.5 * TB)
    (outcome,) = carry_out(machine, action)
    assert (outcome.state, outcome.changed) == (ActionState.UNDONE, False)
    assert "the node runs with 7000.00 GB" in outcome.detail
    assert "not 7500.00 GB" in outcome.detail
    assert outcome.failure is not None
    assert (machine.file.read_text(), machine.restarts, machine.runs_with) == (CONFIG, 2, 6 * TB)


def test_a_node_that_does_not_come_back_is_put_back(machine: StorjMachine) -> None:
    machine.fate = lambda said: said if said == 6 * TB else None
    (outcome,) = carry_out(machine, *planned(machine, 7.5 * TB))
    assert outcome.state is ActionState.UNDONE
    assert outcome.failure is not None
    assert (machine.file.read_text(), machine.restarts, machine.runs_with) == (CONFIG, 2, 6 * TB)


def test_a_node_that_never_comes_back_is_told_and_not_restarted_again_and_again(machine: StorjMachine) -> None:
    machine.fate = lambda _: None
    (outcome,) = carry_out(machine, *planned(machine, 7.5 * TB))
    assert (outcome.state, outcome.changed) == (ActionState.FAILED, True)
    assert outcome.failure is not None
    assert "needs attention" in outcome.failure.message
    assert "docker -H" in outcome.failure.hint
    assert (machine.file.read_text(), machine.restarts) == (CONFIG, 2)


def test_a_restart_that_is_refused_puts_the_line_back(machine: StorjMachine) -> None:
    (action,) = planned(machine, 7.5 * TB)
    machine.refuses = (500, {"message": "no space left on device"})
    (outcome,) = carry_out(machine, action)
    assert (outcome.state, outcome.changed) == (ActionState.UNDONE, False)
    assert "no space left on device" in outcome.detail
    assert (machine.file.read_text(), machine.restarts, machine.runs_with) == (CONFIG, 0, 6 * TB)


def test_a_restart_that_did_not_happen_proves_nothing(machine: StorjMachine) -> None:
    """The engine says that it is done, and the node says what was asked for, but since an earlier start."""
    (action,) = planned(machine, 7.5 * TB)
    machine.refuses = (204, b"")
    machine.runs_with = 7500 * GB
    machine.act(action.call)
    reading = Actuator().read_back(action, machine, machine.started_s + 60)
    assert "was not started anew" in reading.contradiction
    assert Actuator().read_back(action, machine, machine.started_s - 1).contradiction == ""


def test_a_line_that_was_changed_meanwhile_is_left_as_it_is(machine: StorjMachine) -> None:
    (action,) = planned(machine, 7.5 * TB)
    machine.file.write_text(CONFIG.replace("6.00 TB", "6.5 TB"))
    (outcome,) = carry_out(machine, action)
    assert outcome.state is ActionState.FAILED
    assert "changed meanwhile" in outcome.detail
    assert (machine.file.read_text(), machine.restarts) == (CONFIG.replace("6.00 TB", "6.5 TB"), 0)


def test_a_person_who_changed_the_file_is_noticed(machine: StorjMachine) -> None:
    (done,) = planned(machine, 7.5 * TB)
    carry_out(machine, done)
    machine.file.write_text(CONFIG.replace("6.00 TB", "7 TB"))
    machine.restart()
    (again,) = planned(machine, 7.5 * TB)
    assert by_hand(again, [Past(1, "p", ActionState.DONE, "", done)]) == (
        "changed by hand: storage_bytes is 7000000000000, and we had set 7500000000000"
    )


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_run_that_died_between_the_steps_is_told_by_what_is_there(machine: StorjMachine, steps: int) -> None:
    (action,) = planned(machine, 7.5 * TB)
    assert isinstance(action.call, Steps)
    for one in action.call.calls[:steps]:
        machine.act(one)
    (outcome,) = recover({1: action}, MemoryJournal(), BACKENDS, machine, 0.1)
    said = ["before anything changed", "needs attention", "but in force"][steps]
    assert outcome.state is (ActionState.DONE if steps == 2 else ActionState.FAILED)
    assert said in outcome.detail
    assert (outcome.failure is not None) == (steps == 1)
    if outcome.failure is not None:
        sed, _, restart = outcome.failure.hint.removeprefix("put it back by hand: ").partition(" && ")
        subprocess.run(shlex.split(sed), check=True)
        assert (machine.file.read_text(), restart.startswith("docker ")) == (CONFIG, True)


def test_the_advice_does_the_same(machine: StorjMachine) -> None:
    (action,) = planned(machine, 7.5 * TB)
    sed, _, restart = Actuator().advice(action).partition(" && ")
    assert restart == f"docker -H unix://{machine.engine.socket} restart -t 300 storj"
    subprocess.run(shlex.split(sed), check=True)
    assert machine.file.read_text() == CONFIG.replace("6.00 TB", "7500.00 GB")
