"""A node that fell is told from one that a person stopped, by what engines and systemd say of either."""

from __future__ import annotations

from typing import Any

import pytest

from depin_orcha.adapters import NodeOptions
from depin_orcha.heal import Runner, State
from depin_orcha.supervisors import Ours, Place, by_hand, call, container, unit
from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import HttpCall, RunCommand

ID = "c0ffee" + "0" * 58
STARTED = "2026-11-22T21:58:59.123456789Z"
ENDED = "2026-11-23T06:00:00.5Z"
STARTED_S, ENDED_S = parse_rfc3339(STARTED), parse_rfc3339(ENDED)


def event(action: str, at_s: float = ENDED_S, **attributes: str) -> dict[str, Any]:
    told = {"Action": action, "Actor": {"ID": ID, "Attributes": attributes}, "time": int(at_s)}
    return told | {"timeNano": int(at_s * 10**9)}


def looked(*happened: Any, policy: str = "no", ours: Ours | None = None, **state: Any) -> Runner:
    told = {"Status": "exited", "Running": False, "OOMKilled": False, "ExitCode": 1}
    told |= {"StartedAt": STARTED, "FinishedAt": ENDED} | state
    found = {"Id": ID, "State": told, "HostConfig": {"RestartPolicy": {"Name": policy, "MaximumRetryCount": 0}}}
    return container(found, lambda identity, since_s: happened if (identity, since_s) == (ID, STARTED_S) else (), ours)


DIED = event("die", exitCode="1")
STOPPED = (event("kill", ENDED_S - 1, signal="15"), DIED, event("stop", ENDED_S + 1))


@pytest.mark.parametrize(
    ("happened", "told", "state"),
    [
        ((DIED,), {}, State.CRASHED),
        ((DIED,), {"ExitCode": 139}, State.CRASHED),
        ((DIED,), {"policy": "on-failure"}, State.CRASHED),
        # In good order, or by a signal from who knows whom.
        ((DIED,), {"ExitCode": 0}, State.ENDED),
        *(((DIED,), {"ExitCode": code}, State.UNTOLD) for code in (130, 137, 143)),
        ((DIED,), {"ExitCode": 137, "OOMKilled": True}, State.CRASHED),
        ((event("oom"), DIED), {"ExitCode": 137}, State.CRASHED),
        # By a person, whatever code the program ended with.
        (STOPPED, {}, State.STOPPED),
        (STOPPED, {"ExitCode": 0}, State.STOPPED),
        (STOPPED, {"ExitCode": 137, "OOMKilled": True}, State.STOPPED),
        ((event("kill", signal="9"), DIED), {"ExitCode": 137}, State.STOPPED),
        ((event("kill", signal="SIGTERM"), DIED), {}, State.STOPPED),
        # A signal that only tells the program something, and the end of the run before this one.
        ((event("kill", signal="1"), DIED), {}, State.CRASHED),
        ((event("kill", STARTED_S + 0.05, signal="15"), event("stop", STARTED_S + 0.1), DIED), {}, State.CRASHED),
        # An engine that restarts it would have done so.
        *(((DIED,), {"policy": policy}, State.STOPPED) for policy in ("always", "unless-stopped")),
        # The engine has forgotten, or was started since.
        ((), {}, State.UNTOLD),
        ((), {"ExitCode": 139}, State.UNTOLD),
        # Not ended at all.
        ((), {"Status": "running", "Running": True}, State.RUNNING),
        ((), {"Status": "paused", "Running": True}, State.HELD),
        ((), {"Status": "restarting", "Running": True}, State.STARTING),
        *(((DIED,), {"Status": status}, State.HELD) for status in ("created", "removing", "dead")),
        ((DIED,), {"StartedAt": "0001-01-01T00:00:00Z"}, State.HELD),
    ],
)
def test_a_container(happened: tuple[Any, ...], told: dict[str, Any], state: State) -> None:
    runner = looked(*happened, **told)
    assert runner.state is state, runner
    assert runner.said


@pytest.mark.parametrize(
    ("ours", "state"),
    [
        (Ours(STARTED, ENDED_S - 2, ENDED_S), State.CRASHED),
        (Ours("2026-11-22T21:00:00Z", ENDED_S - 2, ENDED_S), State.STOPPED),
        (Ours(STARTED, ENDED_S + 1, ENDED_S + 9), State.STOPPED),
        (Ours(STARTED, ENDED_S - 99, ENDED_S - 1), State.STOPPED),
    ],
)
def test_what_our_own_restart_stopped_nobody_else_did(ours: Ours, state: State) -> None:
    assert looked(*STOPPED, ours=ours).state is state


def test_an_engine_that_does_not_tell_of_stops_proves_nothing() -> None:
    told = {"Status": "exited", "Running": False, "OOMKilled": True, "ExitCode": 1}
    told |= {"StartedAt": STARTED, "FinishedAt": ENDED}
    found = {"Id": ID, "State": told, "HostConfig": {"RestartPolicy": {"Name": "", "MaximumRetryCount": 0}}}
    assert container(found, lambda *_: None).state is State.UNTOLD
    assert container(found, lambda *_: None, Ours(STARTED, ENDED_S, ENDED_S)).state is State.CRASHED


def test_instants_and_marks_of_a_container() -> None:
    runner = looked(DIED)
    assert (runner.started_s, runner.ended_s, runner.mark, runner.id) == (STARTED_S, ENDED_S, STARTED, ID)


UNIT = {
    "LoadState": "loaded",
    "ActiveState": "failed",
    "SubState": "failed",
    "Result": "exit-code",
    "ExecMainCode": "1",
    "ExecMainStatus": "1",
    "InvocationID": "6ba0",
    "ActiveEnterTimestampMonotonic": "1000000",
    "ExecMainExitTimestampMonotonic": "9000000",
    "ActiveExitTimestampMonotonic": "9000100",
}
BY_HAND = {"ActiveExitTimestampMonotonic": "8999000"}
KILLED = {"Result": "signal", "ExecMainCode": "2"}
QUIET = {"ActiveState": "inactive", "SubState": "dead", "Result": "success", "ExecMainStatus": "0"}


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ({}, State.CRASHED),
        (KILLED | {"ExecMainStatus": "11"}, State.CRASHED),
        (KILLED | {"ExecMainStatus": "9"}, State.UNTOLD),
        (KILLED | {"ExecMainStatus": "9", "Result": "oom-kill"}, State.CRASHED),
        (BY_HAND | KILLED | {"ExecMainStatus": "6", "Result": "watchdog"}, State.CRASHED),
        # `systemctl stop` of a program that ends with 1 on SIGTERM leaves a unit that looks failed.
        (BY_HAND, State.STOPPED),
        (BY_HAND | QUIET, State.STOPPED),
        (BY_HAND | KILLED | {"ExecMainStatus": "9", "Result": "timeout"}, State.STOPPED),
        # Stopped while it waited for its next start.
        ({"ActiveState": "inactive"}, State.STOPPED),
        (QUIET, State.ENDED),
        ({"ExecMainExitTimestampMonotonic": "0"}, State.UNTOLD),
        ({"ActiveExitTimestampMonotonic": "0", "ActiveState": "inactive"}, State.HELD),
        ({"ActiveState": "active", "SubState": "running"}, State.RUNNING),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, State.STARTING),
        ({"ActiveState": "deactivating"}, State.HELD),
        ({"LoadState": "masked", "ActiveState": "inactive"}, State.HELD),
        ({"LoadState": "not-found", "ActiveState": "inactive"}, State.GONE),
    ],
)
def test_a_unit(told: dict[str, str], state: State) -> None:
    runner = unit(UNIT | told)
    assert runner.state is state, runner
    assert runner.said


def place(runtime: str, **options: Any) -> Place:
    known = {"container": "myst"} if runtime in ("docker", "podman") else {"unit": "myst.service", "process": "myst"}
    return Place(NodeOptions.model_validate({"protocol": "m", "runtime": runtime} | known | options), "/d", "/p")


FALLEN, HUNG = Runner(State.CRASHED, id=ID), Runner(State.RUNNING, id=ID)


@pytest.mark.parametrize(
    ("runtime", "runner", "wanted", "typed"),
    [
        ("docker", FALLEN, ("/d", f"/containers/{ID}/start"), "docker -H unix:///d start myst"),
        ("docker", HUNG, ("/d", f"/containers/{ID}/restart?t=30"), "docker -H unix:///d restart -t 30 myst"),
        ("podman", HUNG, ("/p", f"/containers/{ID}/restart?t=30"), "podman restart -t 30 myst"),
        ("systemd", FALLEN, "systemctl --no-block start myst.service", "systemctl start myst.service"),
        ("systemd", HUNG, "systemctl --no-block restart myst.service", "systemctl restart myst.service"),
    ],
)
def test_calls_and_what_a_person_types(runtime: str, runner: Runner, wanted: Any, typed: str) -> None:
    made = call(place(runtime), runner, 30)
    if isinstance(made, HttpCall):
        assert (made.socket, made.path, made.method) == (*wanted, "POST")
        assert (made.timeout_s or 0) > 30, "the engine answers only when it has stopped"
    else:
        assert made == RunCommand(tuple(wanted.split()))
    assert by_hand(place(runtime), runner, 30) == typed


def test_what_a_person_types_on_another_machine() -> None:
    assert by_hand(place("docker", host="rack"), HUNG, 30) == "docker restart -t 30 myst"
    assert by_hand(place("none"), HUNG, 30) is None
    assert by_hand(place("process"), HUNG, 30) is None
