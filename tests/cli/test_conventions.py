"""What every command has in common: help, options, streams, colour, width, locks, signals, places."""

from __future__ import annotations

import fcntl
import json
import math
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback
from operator_parts import PROGRAM, START_S, VERBS, Place, operating
from typer.testing import CliRunner

from depin_orcha import __version__
from depin_orcha.cli import app
from depin_orcha.types import HOUR_S

NOW_S = START_S + 6 * HOUR_S
READING = ("collect", "forecast", "optimize", "apply", "heal", "run", "status", "history")
ESCAPE = "\x1b["
SHARED = ("--config", "--db", "--json", "--json-schema", "-q", "-v", "--debug", "--no-color", "-h")
AT = ("--now", "--node")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(tmp_path_factory.mktemp("ready"))
    with operating(place) as operator:
        for now_s in range(START_S, NOW_S + 1, 2 * HOUR_S):
            operator.advance(now_s)
            place("collect", now=now_s)
        place("run", now=NOW_S)
        yield place


@pytest.fixture
def without_config(ready: Place) -> Place:
    """The same database, but the file that --config names is not there."""
    place = Place(ready.folder)
    place.config = ready.folder / "nowhere.toml"
    return place


def bare(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """The program without the files that tests name."""
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60}
    return subprocess.run([*PROGRAM, *words], check=False, **(options | more))


def cli(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


# Help and usage


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_of_a_verb(verb: str, flag: str) -> None:
    result = cli(verb, flag)
    assert (result.exit_code, result.stderr) == (0, "")
    text = " ".join(result.stdout.split())
    assert f"Example: depin-orcha {verb}" in text
    codes = text.partition("Exit codes: ")[2]
    assert codes.startswith("0, 1, 2")


@pytest.mark.parametrize("verb", VERBS)
def test_options_shared_by_all_stand_after_the_verb(verb: str) -> None:
    text = cli(verb, "--help").stdout
    wanted = SHARED + (AT if verb in (*READING, "export", "import", "pause", "resume") else ())
    assert [option for option in wanted if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)] == []


@pytest.mark.parametrize("verb", ["collect", "forecast", "optimize", "apply", "heal", "run"])
def test_cycle_verbs_can_wait_for_the_lock(verb: str) -> None:
    assert "--wait" in cli(verb, "--help").stdout


def test_root_help_names_every_verb() -> None:
    result = cli("--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [verb for verb in VERBS if not re.search(rf"^  {verb} ", result.stdout, re.MULTILINE)] == []


def test_without_arguments_it_shows_help_and_exits_2() -> None:
    result = cli()
    assert result.exit_code == 2
    assert result.stdout == cli("--help").stdout


def test_version() -> None:
    result = cli("--version")
    assert (result.exit_code, result.stdout) == (0, f"depin-orcha {__version__}\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("colect",), "collect"),
        (("status", "--jsno"), "--json"),
        (("history", "--by", "week"), "month"),
        (("import",), "file"),
        (("collect", "--now", "yesterday"), "2026-11-22T20:15:00Z"),
        (("status", "--now", "12026-01-01T00:00:00Z"), "2026-11-22T20:15:00Z"),
        (("status", "--now", "0001-01-01T00:00:00Z"), "2026-11-22T20:15:00Z"),
        (("status", "--now", "9999-12-31T23:59:59-12:00"), "2026-11-22T20:15:00Z"),
        (("collect", "--wait", "-1"), "--wait"),
        (("pause", "--for", "soon"), "4h"),
        (("forecast", "--horizon", "169"), "168"),
        (("optimize", "--risk", "2"), "--risk"),
    ],
)
def test_wrong_usage_leaves_stdout_empty(ready: Place, words: tuple[str, ...], told: str) -> None:
    done = ready(words[0], *words[1:], "--json", exits=2)
    assert done.out == ""
    assert told in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("verb", READING)
def test_unknown_node_is_wrong_usage(ready: Place, verb: str) -> None:
    done = ready(verb, "--json", "--node", "golem_rak", now=NOW_S, exits=2)
    assert done.out == ""
    assert "golem_rak" in done.err
    assert "golem_rack" in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    done = bare("--show-completion", shell)
    assert done.returncode == 0
    assert "depin-orcha" in done.stdout or "depin_orcha" in done.stdout


# JSON


@pytest.mark.parametrize("verb", READING)
def test_json_is_one_document_on_stdout(ready: Place, verb: str) -> None:
    done = ready.json(verb, "-v", now=NOW_S, FORCE_COLOR="1")
    assert ESCAPE not in done.out
    document = done.document
    assert list(document) == ["schema", "generated_at", "status", "data", "failures"]
    assert document["schema"] == f"depin-orcha/{verb}/1"
    _check_names_and_numbers(document)


def _check_names_and_numbers(value: Any, key: str = "") -> None:
    if isinstance(value, dict):
        free = key in ("limits", "usage", "allocation", "models", "details", "runs", "before", "after")
        for name, member in value.items():
            assert free or re.fullmatch(r"[a-z0-9_]+", name), name
            _check_names_and_numbers(member, name)
            if name.endswith(("_at", "_seen")) and member is not None:
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", member), (name, member)
    elif isinstance(value, list):
        for member in value:
            _check_names_and_numbers(member, key)
    elif isinstance(value, float):
        assert math.isfinite(value), key


@pytest.mark.parametrize("verb", VERBS)
def test_json_schema_is_printed(verb: str) -> None:
    words = ["file.csv"] if verb == "import" else []
    result = cli(verb, *words, "--json-schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["$defs"]["data"]


def test_now_makes_equal_bytes(ready: Place) -> None:
    for verb in READING:
        first, again = (ready(verb, "--json", now=NOW_S).out for _ in range(2))
        assert first == again, verb


# Streams, colour, width


def test_quiet_success_prints_nothing(ready: Place) -> None:
    (ready.folder / "golem_rack.key").chmod(0o644)
    try:
        assert "chmod 600" in ready("collect", now=NOW_S).err
        for verb in READING:
            assert ready(verb, "-q", now=NOW_S) == (done := ready(verb, "-q", now=NOW_S))
            assert (done.out, done.err) == ("", "")
    finally:
        (ready.folder / "golem_rack.key").chmod(0o600)


def test_errors_go_to_stderr_with_cause_and_next_step(without_config: Place) -> None:
    done = without_config("status", exits=78)
    assert done.out == ""
    assert re.fullmatch(r"error: .+nowhere\.toml: .+\nhint: .+\n", done.err)


@pytest.mark.parametrize("environment", [{}, {"TERM": "dumb"}, {"TERM": "xterm-256color"}])
def test_pipe_carries_no_escape_codes(ready: Place, environment: dict[str, str]) -> None:
    for verb in ("status", "collect", "optimize"):
        done = ready.process(verb, now=NOW_S, env=ready.environment(**environment))
        assert (done.code, ESCAPE in done.out + done.err) == (0, False)
        assert done.out


def test_force_color_colours_a_pipe(ready: Place) -> None:
    assert ESCAPE in ready("status", now=NOW_S, FORCE_COLOR="1").out
    assert not re.search(r"\x1b\[(?:\d+;)*3\d", ready("status", "--no-color", now=NOW_S, FORCE_COLOR="1").out)


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_terminal_shows_colour_unless_told_not_to(ready: Place, environment: dict[str, str], coloured: bool) -> None:
    text = on_a_terminal(ready, "status", {"TERM": "xterm-256color"} | environment)
    assert bool(re.search(r"\x1b\[(?:\d+;)*3\d", text)) is coloured
    assert "golem_rack" in text
    if environment.get("TERM") == "dumb":
        assert ESCAPE not in text


def on_a_terminal(place: Place, verb: str, environment: dict[str, str]) -> str:
    """What a terminal of 120 columns receives."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = place.start(verb, now=NOW_S, stdout=slave, stderr=slave, env=place.environment(**environment))
    os.close(slave)
    received = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:
            break
        if not block:
            break
        received += block
    os.close(master)
    assert process.wait(60) == 0
    return received.decode()


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_tables_fit_the_width(ready: Place, columns: int) -> None:
    for verb in ("status", "history", "collect", "optimize", "forecast"):
        lines = ready(verb, now=NOW_S, COLUMNS=str(columns)).out.splitlines()
        assert max(map(len, lines)) <= columns, verb
        assert "gol" in "".join(lines)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_poor_encoding_does_not_matter(ready: Place, encoding: str) -> None:
    for verb in ("status", "run", "collect"):
        environment = ready.environment(PYTHONIOENCODING=encoding, LC_ALL="C", PYTHONUTF8="0")
        done = ready.process(verb, now=NOW_S, env=environment)
        assert (done.code, done.err) == (0, "")
        assert done.out.isascii()
        assert "storj_attic" in done.out


@pytest.mark.parametrize("words", [("status",), ("status", "--json"), ("history", "--by", "hour"), ("status", "-h")])
def test_full_disk_behind_stdout(ready: Place, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = ready.process(*words, now=NOW_S, stdout=full)
    assert done.code == 1
    assert re.fullmatch(r"error: cannot write the result: No space left on device\n", done.err)


@pytest.mark.parametrize("words", [("status",), ("history", "--by", "hour", "--json"), ("status", "-h")])
def test_closed_pipe(ready: Place, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = ready.process(*words, now=NOW_S, stdout=writing)
    os.close(writing)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 1


def test_head_takes_one_line(ready: Place) -> None:
    line = subprocess.run(
        ["sh", "-c", '"$@" | head -1', "sh", *PROGRAM, *ready.words("history", "--by", "hour", now=NOW_S)],
        capture_output=True, text=True, env=ready.environment(), check=False,
    )  # fmt: skip
    assert line.stdout.strip() == "Earned"
    assert "Traceback" not in line.stderr


@pytest.mark.parametrize(("closed", "printed"), [("<&-", True), (">&-", False), ("2>&-", True), (">&- 2>&-", False)])
def test_closed_streams(ready: Place, closed: str, printed: bool) -> None:
    for words in (("status", "--json"), ("collect",)):
        done = subprocess.run(
            ["sh", "-c", f'"$@" {closed}', "sh", *PROGRAM, *ready.words(*words, now=NOW_S)],
            capture_output=True, text=True, env=ready.environment(), check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert bool(done.stdout) is printed
    assert ready.query("PRAGMA integrity_check") == [("ok",)]


def test_debug_shows_a_traceback_and_nothing_else_does(without_config: Place) -> None:
    assert "Traceback" in without_config("status", "--debug", exits=78).err
    assert "Traceback" not in without_config("status", "-v", "-v", exits=78).err


# Locks, signals, permissions


@contextmanager
def slow_node(folder: Path) -> Iterator[tuple[Place, Loopback]]:
    """A place whose only node answers after a minute."""
    place = Place(folder)

    def respond(_request: object) -> Answer:
        return Answer(200, b" ", "application/json", stream=True)

    with Loopback(respond) as server:
        place.configure(
            f'[prices]\nurl = "{server.url}"\nfallback_url = "{server.url}"\n'
            f'[nodes.slow]\nprotocol = "storj"\nurl = "{server.url}"\n'
        )
        yield place, server


def wait_until(happened: Any) -> None:
    """Return when it happened; fail after ten seconds."""
    ends = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < ends
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_it_at_once_and_the_next_run_goes_on(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with slow_node(tmp_path) as (place, server):
        process = place.start("collect", "--json", now=NOW_S)
        wait_until(lambda: server.requests)
        process.send_signal(number)
        started = time.monotonic()
        out, err = process.communicate(timeout=10)
        assert time.monotonic() - started < 2
        assert process.returncode == code
        document = json.loads(out)
        assert (document["status"], document["failures"][0]["kind"]) == ("error", "interrupted")
        assert re.fullmatch(rb"error: stopped .+\n", err)
        assert place.query("PRAGMA integrity_check") == [("ok",)]
        assert place.query("SELECT command, exit_code FROM runs") == [("collect", code)]
        place("forecast", now=NOW_S)


def test_second_run_is_told_of_the_lock_within_a_second(tmp_path: Path) -> None:
    with slow_node(tmp_path) as (place, server):
        process = place.start("collect", now=NOW_S)
        wait_until(lambda: server.requests)
        started = time.monotonic()
        done = place.json("run", now=NOW_S, exits=75)
        assert time.monotonic() - started < 1
        assert done.failures[0]["kind"] == "locked"
        assert "--wait" in done.err
        assert place("status", now=NOW_S).code == 0
        waiting = place.start("forecast", "--wait", "30", now=NOW_S)
        time.sleep(0.5)
        assert waiting.poll() is None
        process.kill()
        assert waiting.wait(10) == 0
        process.wait(10)


def test_lock_is_at_its_place(ready: Place) -> None:
    assert ready("collect", now=NOW_S).code == 0
    with Path(f"{ready.db}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert ready("collect", now=NOW_S, exits=75).out == ""


def test_another_user_may_look_but_not_write(ready: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    shutil.copy(ready.config, place.config)
    shutil.copy(ready.db, place.db)
    status = place.process_without_rights("status", "--json", now=NOW_S)
    assert (status.code, status.err) == (0, "")
    assert [node["node"] for node in status.data["nodes"] if node["earned"]]
    assert place.process_without_rights("history", "--json", now=NOW_S).data["rows"]
    refused = place.process_without_rights("collect", "--json", now=NOW_S)
    assert refused.code == 77
    assert refused.failures[0]["kind"] == "permission"
    assert re.fullmatch(r"error: .+\nhint: .+\n", refused.err)


# Places


def test_paths_follow_the_xdg_variables_and_nothing_lies_elsewhere(tmp_path: Path) -> None:
    home, config, state = tmp_path / "home", tmp_path / "conf", tmp_path / "stat"
    home.mkdir()
    (config / "depin-orcha").mkdir(parents=True)
    (config / "depin-orcha" / "config.toml").write_text("[costs]\n")
    place = Place(home)
    done = bare(
        "optimize", "--json", env=place.environment(XDG_CONFIG_HOME=str(config), XDG_STATE_HOME=str(state)), cwd=home
    )
    assert done.returncode == 78
    found = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert {str(path) for path in found} <= {
        "conf/depin-orcha/config.toml",
        "stat/depin-orcha/depin-orcha.db",
        "stat/depin-orcha/depin-orcha.db.lock",
    }
    assert list(state.rglob("depin-orcha.db"))
    assert list(home.iterdir()) == []


def test_systemd_names_the_state_folder(tmp_path: Path) -> None:
    place = Place(tmp_path)
    bare("pause", env=place.environment(STATE_DIRECTORY=str(tmp_path / "var")), cwd=tmp_path)
    assert (tmp_path / "var" / "depin-orcha.db").exists()


def test_secret_never_appears(ready: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    canary = "canary-3f9a41c7"
    shutil.copy(ready.config, place.config)
    for machine in ("attic", "rack"):
        (place.folder / f"golem_{machine}.key").touch(0o600)
        (place.folder / f"golem_{machine}.key").write_text(canary)
    seen = ""
    for verb in ("collect", "run", "status", "forecast", "optimize", "apply", "history"):
        for options in (("--json", "-v", "-v", "--debug"), ("--debug",)):
            done = place(verb, *options, now=NOW_S, exits=None)
            seen += done.out + done.err
    assert "refused the credentials" in seen
    assert canary not in seen
    for path in place.folder.iterdir():
        if path.suffix != ".key":
            assert canary.encode() not in path.read_bytes(), path


def test_environment_wins_over_the_file_for_secrets(ready: Place) -> None:
    collected = ready.json("collect", "--node", "golem_rack", now=NOW_S, exits=69,
                           DEPIN_ORCHA_NODES__GOLEM_RACK__APP_KEY="wrong")  # fmt: skip
    assert collected.failures[0]["kind"] == "auth"
