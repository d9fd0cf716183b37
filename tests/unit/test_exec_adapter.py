"""What a command may print, how it may fail, and what it gets to know: real processes, no shell of ours."""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from sample_cases import SAMPLES

from depin_orcha.adapters import adapter_class, paid_in
from depin_orcha.commands import OUTPUT_CAP_BYTES
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.net import HttpClient
from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import HealthStatus, Snapshot

SCHEMA = Path(__file__).parents[2] / "depin_orcha" / "schemas" / "exec.json"
WHOLE = json.loads((SAMPLES / "exec" / "1" / "healthy" / "reading.json").read_text())
NOW_S = parse_rfc3339("2026-11-22T19:30:00Z")
UP: dict[str, Any] = {"earnings": [], "health": {"status": "up", "reason": "fine"}}


def read(*command: str, since_s: int | None = None, deadline_s: float = 20) -> Snapshot:
    adapter = adapter_class("exec")
    given = {"protocol": "exec", "command": list(command), "currencies": ["MYST", "USD"], "deadline_s": deadline_s}
    options = adapter.Options.model_validate(given)
    with HttpClient() as http:
        return adapter("node_1", options).collect(http, NOW_S, since_s)


def fault(*command: str, deadline_s: float = 20) -> AdapterError:
    with pytest.raises(AdapterError) as found:
        read(*command, deadline_s=deadline_s)
    assert found.value.hint
    return found.value


def printing(document: Any) -> tuple[str, ...]:
    return "printf", "%s", document if isinstance(document, str) else json.dumps(document)


def changed(*path: str | int, to: Any = None, remove: bool = False) -> Any:
    document = copy.deepcopy(WHOLE)
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if remove:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return document


GOOD = {
    "everything": WHOLE,
    "the least": UP,
    "a balance in one currency and one in another": UP
    | {"earnings": [{"currency": one, "kind": "balance", "amount": "1e-7"} for one in ("USD", "MYST")]},
    "a share of nothing": changed("earnings", 1, "share", to="0"),
    "no bound above": changed("limits", "cpu_cores", "ceiling", to=None),
    "no limits": changed("limits", to={}),
    "no series": changed("earnings", 1, "external_id", remove=True),
}
EVENT = {
    "currency": "USD", "kind": "event", "amount": "1", "external_id": "job", "observed_at": "2026-11-21T00:00:00Z",
}  # fmt: skip
LATER = EVENT | {"observed_at": "2026-11-22T00:00:00Z"}
BAD = {
    "a list": [],
    "nothing inside": {},
    "null earnings": UP | {"earnings": None},
    "null standings": UP | {"standings": None},
    "null since": UP | {"complete_since": None},
    "null warnings": UP | {"warnings": None},
    "a warning that is no text": UP | {"warnings": [7]},
    "amount as a number": changed("earnings", 0, "amount", to=1234.5),
    "amount with a unit": changed("earnings", 0, "amount", to="1 USD"),
    "endless amount": changed("earnings", 0, "amount", to="Infinity"),
    "unknown kind": changed("earnings", 0, "kind", to="payout"),
    "null share": changed("earnings", 1, "share", to=None),
    "event without an instant": changed("earnings", 2, "observed_at", remove=True),
    "event without a name": changed("earnings", 2, "external_id", remove=True),
    "event with an empty name": changed("earnings", 2, "external_id", to=""),
    "a day": changed("earnings", 1, "observed_at", to="2026-11-22"),
    "unknown state": changed("health", "status", to="fine"),
    "no reason": changed("health", "reason", remove=True),
    "details as a list": changed("health", "details", to=[1]),
    "use without what is used": changed("usage", "cpu_cores", to={"allocated": 1}),
    "null use": changed("usage", "cpu_cores", to=None),
    "no step": changed("limits", "cpu_cores", "step", remove=True),
    "unknown standing": changed("standings", 0, "standing", to="lost"),
    "failure of no kind": {"failure": {"message": "no"}},
    "failure of an unknown kind": {"failure": {"kind": "bad luck", "message": "no"}},
    "null failure": {"failure": None},
}


@pytest.mark.parametrize("document", GOOD.values(), ids=GOOD)
def test_right_document(document: Any) -> None:
    Draft202012Validator(json.loads(SCHEMA.read_text())).validate(document)
    assert len(read(*printing(document)).earnings) == len(document["earnings"])


@pytest.mark.parametrize("document", BAD.values(), ids=BAD)
def test_wrong_document(document: Any) -> None:
    assert not Draft202012Validator(json.loads(SCHEMA.read_text())).is_valid(document)
    error = fault(*printing(document))
    assert (error.kind, "`printf`" in error.message) == (FailureKind.SHAPE, True), error.message


@pytest.mark.parametrize(
    ("document", "kind", "says"),
    [
        (changed("earnings", 1, "share", to="1.1"), FailureKind.SHAPE, "not between 0 and 1"),
        (changed("earnings", 0, to=WHOLE["earnings"][1]), FailureKind.SHAPE, "one series and one instant"),
        (UP | {"earnings": [EVENT, LATER]}, FailureKind.SHAPE, "two events have one external_id"),
        (changed("earnings", 0, "currency", to="GLM"), FailureKind.CONFIG, "GLM, which is not among the currencies"),
        (changed("standings", 0, "currency", to="GLM"), FailureKind.CONFIG, "GLM, which is not among the currencies"),
        (json.dumps(WHOLE) * 2, FailureKind.SHAPE, "printed no JSON"),
        (json.dumps(WHOLE)[:-1], FailureKind.SHAPE, "printed no JSON"),
        (json.dumps(WHOLE).replace("0.97", "NaN"), FailureKind.SHAPE, "NaN is not a JSON number"),
        (json.dumps(WHOLE).replace("0.97", "1e999"), FailureKind.SHAPE, "cannot be kept"),
        ("", FailureKind.SHAPE, "printed no JSON"),
        ("fine", FailureKind.SHAPE, "printed no JSON"),
        ("[" * 100_000, FailureKind.SHAPE, "printed no JSON"),
    ],
)
def test_document_that_no_schema_can_refuse(document: Any, kind: FailureKind, says: str) -> None:
    error = fault(*printing(document))
    assert (error.kind, says in error.message) == (kind, True), error.message


@pytest.mark.parametrize("code", [0, 1, 77])
@pytest.mark.parametrize("kind", ["auth", "blocked", "transient", "shape", "unsupported", "config"])
def test_failure_that_the_command_tells(kind: str, code: int) -> None:
    told = json.dumps({"failure": {"kind": kind, "message": "no\x1b[31m way", "hint": "ask\nagain"}})
    error = fault("sh", "-c", f"printf '%s' '{told}'; exit {code}")
    assert (error.kind, error.message, error.hint) == (kind, "no [31m way", "ask again")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("echo noise >&2; echo 'error: no route' >&2; exit 3", "`sh` ended with 3: error: no route"),
        ("exit 1", "`sh` ended with 1: it said nothing"),
        (f"printf '%s' '{json.dumps(UP)}'; exit 1", "`sh` ended with 1"),
        ('echo \'{"failure": {"kind": "odd"}}\'; echo half >&2; exit 1', "`sh` ended with 1: half"),
        ("kill -9 $$", "`sh` ended with -9"),
    ],
)
def test_command_that_fails_without_saying_how(script: str, says: str) -> None:
    error = fault("sh", "-c", script)
    assert (error.kind, says in error.message) == (FailureKind.TRANSIENT, True), error.message


def test_command_that_cannot_be_run(tmp_path: Path) -> None:
    script = tmp_path / "script"
    assert fault(str(script)).kind == FailureKind.CONFIG
    script.write_text("echo no first line\n")
    if os.geteuid():
        assert fault(str(script)).kind == FailureKind.PERMISSION
    script.chmod(0o755)
    assert fault(str(script)).kind == FailureKind.CONFIG


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone(pid: int) -> bool:
    """Within two seconds."""
    for _ in range(100):
        if not alive(pid):
            return True
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60 & echo $! > child; sleep 60",
        "sleep 60 & echo $! > child; exit 0",
        "sleep 60 & echo $! > child; while :; do printf .; sleep 0.05; done",
        "trap '' TERM; sleep 60 & echo $! > child; exec >&- 2>&-; sleep 60",
    ],
    ids=["hangs", "leaves a child with its output", "drips", "closes its output and hangs"],
)
def test_deadline_ends_the_command_and_its_children(script: str, tmp_path: Path) -> None:
    started = time.monotonic()
    error = fault("sh", "-c", f"cd {tmp_path}; {script}", deadline_s=0.5)
    assert time.monotonic() - started < 5
    assert (error.kind, "0.5 s" in error.message) == (FailureKind.TRANSIENT, True)
    assert gone(int((tmp_path / "child").read_text()))


def test_too_much_output_ends_the_command(tmp_path: Path) -> None:
    for stream in ("", " >&2"):
        error = fault("sh", "-c", f"echo $$ > {tmp_path}/pid; yes{stream}")
        assert (error.kind, "16 MiB" in error.message) == (FailureKind.SHAPE, True)
        assert gone(int((tmp_path / "pid").read_text()))
    script = f"import json; print(json.dumps({UP!r} | {{'more': 'x' * {OUTPUT_CAP_BYTES - 200}}}))"
    assert read(sys.executable, "-I", "-S", "-c", script).health.status is HealthStatus.UP


def test_command_knows_its_node_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPIN_ORCHA_NODES__GOLEM_1__APP_KEY", "canary")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    health = "{'status': 'up', 'reason': '', 'details': dict(os.environ)}"
    script = f"import json, os; print(json.dumps({{'earnings': [], 'health': {health}}}))"
    command = (sys.executable, "-I", "-S", "-c", script)
    first, later = read(*command).health.details, read(*command, since_s=NOW_S - 900).health.details
    assert first["ORCHA_NODE"] == "node_1"
    assert first["ORCHA_NOW"] == "2026-11-22T19:30:00Z"
    assert first["PATH"] == os.environ["PATH"]
    assert (first.get("ORCHA_SINCE"), later["ORCHA_SINCE"]) == (None, "2026-11-22T19:15:00Z")
    assert "canary" not in first.values()


def test_arguments_are_no_shell_and_are_not_shown() -> None:
    echoed = read("printf", "%s", json.dumps(UP | {"warnings": ["$HOME; `id`"]}))
    assert echoed.warnings == ("$HOME; `id`",)
    error = fault("/bin/sh", "-c", "exit 1", "--token=canary")
    assert "canary" not in error.message + error.hint
    assert "canary" not in fault("no-such-program", "canary").message


def test_options() -> None:
    options = adapter_class("exec").Options
    given: dict[str, Any] = {"protocol": "exec", "command": ["true"], "currencies": ["USD", "MYST"]}
    assert paid_in(options.model_validate(given)) == ("USD", "MYST")
    assert paid_in(adapter_class("golem").Options(protocol="golem")) == ("GLM", "tGLM")
    for wrong in ({"command": []}, {"command": "true"}, {"currencies": []}, {"currencies": ["U$D"]}):
        with pytest.raises(ValidationError):
            options.model_validate(given | wrong)
    for key in ("command", "currencies"):
        with pytest.raises(ValidationError):
            options.model_validate({name: value for name, value in given.items() if name != key})
