"""How the outside world is read, and that every way it can refuse has a name of its own."""

from __future__ import annotations

import os
import sys
import time

import pytest
from apply_parts import BACKENDS, CPU, ID, FakeEngine, podman_api

from depin_orcha import outside as outside_module
from depin_orcha.actuators import TargetGoneError
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.outside import Outside


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("1.41", "1.12", "/v1.41"), ("1.52", "1.44", "/v1.44"), ("1.47", "1.24", "/v1.41"), ("1.30", "1.12", "/v1.30")],
)
def test_the_version_is_agreed_with_the_engine(engine, newest, oldest, spoken):
    engine.api = {"ApiVersion": newest, "MinAPIVersion": oldest}
    BACKENDS["docker"].read(engine.target(), engine.machine)
    assert engine.server.requests[0] == ("GET", "/version", {})
    assert {path.rpartition("/containers")[0] or path for _, path, _ in engine.server.requests[1:]} == {
        spoken,
        f"{spoken}/version",
        f"{spoken}/info",
    }


@pytest.mark.parametrize(
    ("api", "kind"),
    [
        ({"ApiVersion": "1.24", "MinAPIVersion": "1.12"}, FailureKind.UNSUPPORTED),
        (podman_api("4.2.1"), FailureKind.UNSUPPORTED),
        (podman_api("?"), FailureKind.SHAPE),
        ({"Version": "?"}, FailureKind.SHAPE),
        (b"<html>", FailureKind.SHAPE),
        ([], FailureKind.SHAPE),
    ],
)
def test_an_engine_that_cannot_do_it_is_named(engine, api, kind):
    engine.api = api
    with pytest.raises(ActuatorError) as caught:
        BACKENDS["docker"].read(engine.target(), engine.machine)
    assert caught.value.kind is kind
    assert caught.value.hint


@pytest.mark.parametrize(
    ("newest", "oldest", "spoken"),
    [("4.3.1", "4.0.0", "/v4.3.0"), ("5.4.2", "4.0.0", "/v4.3.0"), ("7.0.0-dev", "6.0.0", "/v6.0.0")],
)
def test_podman_is_written_to_by_its_own_interface(engine, newest, oldest, spoken):
    engine.api = podman_api(newest, oldest)
    engine.on_update = lambda _: (201, ID)
    (action,) = BACKENDS["podman"].actions(
        engine.target("podman"), BACKENDS["podman"].read(engine.target("podman"), engine.machine), {CPU: 1}, "plan 1"
    )
    engine.machine.act(action.call)
    body = {"cpu": {"quota": 100_000, "period": 100_000}}
    assert engine.server.writes == [("POST", f"{spoken}/libpod/containers/{ID}/update", body)]
    assert {path.split("/")[1] for _, path, _ in engine.server.requests if "libpod" not in path} == {"version", "v1.41"}


@pytest.mark.parametrize(
    ("backend", "api", "message", "hint"),
    [
        ("docker", podman_api("4.3.1"), "cannot change the limits of a running container", 'runtime = "podman"'),
        ("podman", {"ApiVersion": "1.41", "MinAPIVersion": "1.12"}, "is not Podman", 'runtime = "docker"'),
    ],
)
def test_the_other_kind_of_engine_is_named_before_anything_is_sent(engine, backend, api, message, hint):
    engine.api = api
    with pytest.raises(ActuatorError, match=message) as caught:
        BACKENDS[backend].read(engine.target(backend), engine.machine)
    assert caught.value.kind is FailureKind.UNSUPPORTED
    assert hint in caught.value.hint


def test_a_description_without_a_needed_key_is_a_shape_error(engine):
    del engine.host["NanoCpus"]
    with pytest.raises(ActuatorError, match="NanoCpus") as caught:
        BACKENDS["docker"].read(engine.target(), engine.machine)
    assert caught.value.kind is FailureKind.SHAPE


def test_an_absent_socket_is_transient_and_names_the_option(tmp_path):
    with Outside() as world, pytest.raises(ActuatorError, match="no engine answers") as caught:
        world.get(str(tmp_path / "absent"), "/info")
    assert caught.value.kind is FailureKind.TRANSIENT
    assert "docker_socket" in caught.value.hint


def test_a_forbidden_socket_is_a_matter_of_permission(engine):
    with Outside() as world:
        world.get(engine.server.socket, "/info")
    os.chmod(engine.server.socket, 0)  # noqa: PTH101
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may open everything
    try:
        with Outside() as world, pytest.raises(ActuatorError, match="may not use the socket") as caught:
            world.get(engine.server.socket, "/info")
    finally:
        os.seteuid(user)
    assert caught.value.kind is FailureKind.PERMISSION
    assert "as good as root" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "Range of CPUs is from 0.01 to 2.00", FailureKind.DATA),
        (403, "authorization denied by plugin", FailureKind.PERMISSION),
        (404, "No such container: golem", FailureKind.TRANSIENT),
        (404, "page not found", FailureKind.UNSUPPORTED),
        (409, "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set", FailureKind.DATA),
        (500, "runc did not terminate successfully", FailureKind.TRANSIENT),
        (302, "over there", FailureKind.SHAPE),
    ],
)
def test_each_refusal_of_the_engine_is_its_own_failure(engine, status, message, kind):
    action = engine.cpu_action()
    engine.on_update = lambda _: (status, {"message": message})
    with pytest.raises(ActuatorError, match=message.replace("(", ".")) as caught:
        engine.machine.act(action.call)
    assert caught.value.kind is kind
    assert caught.value.hint
    assert isinstance(caught.value, TargetGoneError) == message.startswith("No such container")


def test_a_command_is_an_argument_list_and_its_bytes_may_be_anything():
    assert Outside().output([sys.executable, "-c", r"import sys; sys.stdout.buffer.write(b'\xff ok')"]) == "\ufffd ok"
    assert Outside().output(["echo", "$HOME; exit 1"]) == "$HOME; exit 1\n"


@pytest.mark.parametrize(
    ("argv", "kind", "message"),
    [
        (["no-such-program"], FailureKind.CONFIG, "there is no program no-such-program"),
        (["/etc/passwd"], FailureKind.PERMISSION, "may not run"),
        (
            ["sh", "-c", "echo 'noise' >&2; echo 'Error: \x1b[31mno\x1b[0m' >&2; echo '  0: backtrace' >&2; exit 1"],
            FailureKind.TRANSIENT,
            r"ended with 1: Error: \[31mno\[0m$",
        ),
        (["false"], FailureKind.TRANSIENT, "it said nothing"),
    ],
)
def test_a_command_that_fails_is_named(argv, kind, message):
    with pytest.raises(ActuatorError, match=message) as caught:
        Outside().output(argv)
    assert caught.value.kind is kind


def test_a_command_that_hangs_is_ended_with_its_children(monkeypatch):
    monkeypatch.setattr(outside_module, "COMMAND_TIMEOUT_S", 0.3)
    started_s = time.monotonic()
    with pytest.raises(ActuatorError, match=r"did not end within 0\.3 s"):
        Outside().output(["sh", "-c", "sleep 60 & sleep 60"])
    assert time.monotonic() - started_s < 10
