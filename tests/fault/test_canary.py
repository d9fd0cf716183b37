"""A secret that is configured is found nowhere, however the world answers: not printed, not stored, not told.

A credential that is added to the code is tested too, or the first test says what it lacks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from sqlite3 import connect
from typing import Any
from urllib.parse import quote

import pytest
from credentials import (
    CREDENTIALS,
    SAMPLES,
    SHOWN,
    TABLES,
    WAYS,
    Credential,
    Owner,
    inside,
    is_secret,
    looks_secret,
    table,
    tables,
)
from loopback import Answer, Loopback, Request, Respond, Wire, sample
from operator_parts import Done
from pydantic import SecretStr

from depin_orcha import adapters, database
from depin_orcha.adapters import known_protocols
from depin_orcha.cli import app
from depin_orcha.store import Store
from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import HOUR_S

NOW_S = parse_rfc3339("2026-11-22T20:01:00Z")
LOUD = ("--debug", "-v", "-v")
NOWHERE = "http://127.0.0.1:9"
SHOWS_WHAT_IT_KNOWS = """
import json, os, sys
parent = open(f"/proc/{os.getppid()}/cmdline").read()
known = {"environment": dict(os.environ), "arguments": sys.argv, "parent": parent}
print(json.dumps({"earnings": [], "health": {"status": "up", "reason": json.dumps(known), "details": known}}))
"""
OPTIONS: dict[str, dict[str, Any]] = {
    "hosts.local": {"watts_path": "power"},
    "nodes.exec": {"command": [sys.executable, "-I", "-S", "-c", SHOWS_WHAT_IT_KNOWS]},
    "nodes.golem": {"provider_command": ["sh", "-c", "env | grep -a DEPIN_ORCHA >&2; exit 1"]},
}
"""What has to stand in a table beside its secrets, and commands that show what they are given."""

two_ways = pytest.mark.parametrize("way", ["files", "user and password"])


def test_whatever_looks_like_a_credential_is_one() -> None:
    built_in = {name for name in known_protocols() if (Path(adapters.__file__).parent / f"{name}.py").exists()}
    assert built_in == SAMPLES.keys(), "each protocol has a sample, whose options are those that are tested"
    for name, model in tables():
        for option, field in model.model_fields.items():
            where = f"{name}.{option}"
            if looks_secret(option) or list(inside(field.annotation, SecretStr)):
                assert is_secret(model, option), f"{where} is not marked as a secret"
                assert list(inside(field.annotation, SecretStr)), f"{where} would be printed"
                assert f"{option}_file" in model.model_fields, f"{where} cannot come from a file"
            if option.endswith("_file"):
                assert option.removesuffix("_file") in model.model_fields, where
    assert len({one.canary[:SHOWN] for one in CREDENTIALS}) == len(CREDENTIALS) > 15


# The world


def told(value: Any, status: int = 200) -> Answer:
    return Answer(status, json.dumps(value).encode(), "application/json")


def quotes(request: Request) -> Answer:
    ids = request.query.get("ids", "").split(",")
    return told({token: {"usd": 2} for token in ids if token})


TARIFF = "start,price\n" + "".join(f"2026-11-22T{hour:02}:00:00Z,0.3\n" for hour in range(24))
GOOD: dict[str, Respond] = {
    "prices": quotes,
    "hosts.local": lambda _: told({"power": 60}),
    "costs.electricity_per_kwh": lambda _: Answer(200, TARIFF.encode(), "text/csv"),
}


def truthful(name: str) -> Respond:
    """The server of a table answers well; for each canary a node's server hears what its sample expects."""
    if name in GOOD:
        return GOOD[name]
    case = SAMPLES[name.removeprefix("nodes.")]
    respond, own = sample(case.folder), [one for one in CREDENTIALS if one.table == name]
    expected = {one.canary: case.secrets().get(one.option, "") for one in own}

    def hears(request: Request) -> Answer:
        path, shown = request.path, request.headers.get("authorization", "")
        for canary, word in expected.items():
            path, shown = path.removeprefix(f"/{quote(canary, safe='')}"), shown.replace(canary, word)
        query = {key: value for key, value in request.query.items() if key != "key"}
        return respond(replace(request, path=path, query=query, headers={**request.headers, "authorization": shown}))

    return hears


def said(request: Request) -> str:
    """All that a server was told, on one line, the longest header first."""
    headers = sorted(request.headers.items(), key=lambda header: len(header[1]), reverse=True)
    named = "; ".join(f"{name}: {value}" for name, value in headers)
    return f"{request.path} {request.target} {named} {request.body.decode()}"


def page(request: Request) -> bytes:
    return f"<!DOCTYPE html><title>Not you, {said(request)}</title>".encode()


def text(request: Request, status: int, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value[:2000] for name, value in headers.items()}
    return Answer(status, said(request).encode(), "text/plain", named)


FAULTS: dict[str, Respond] = {
    "401": lambda asked: text(asked, 401, WWW_Authenticate=said(asked)),
    "403 with HTML": lambda asked: Answer(403, page(asked), "text/html"),
    "500": lambda asked: text(asked, 500, Location=f"/{said(asked)}"),
    "500 with JSON": lambda asked: told({"error": {"message": said(asked)}, "message": said(asked)}, 500),
    "302": lambda asked: text(asked, 302, Location=f"http://127.0.0.1:9{asked.target}?{said(asked)}"),
    "400": lambda asked: told({"error": said(asked)}, 400),
    "429": lambda asked: text(asked, 429, Retry_After=said(asked)),
    "text": lambda asked: text(asked, 200),
    "web page": lambda asked: Answer(200, page(asked), "text/html"),
    "not gzip": lambda asked: text(asked, 200, Content_Encoding="gzip"),
    "error": lambda asked: told({"error": {"message": said(asked)}, "errors": [{"message": said(asked)}]}),
    "error of the key": lambda asked: told(
        {"error": {"message": f"token {said(asked)}"}, "errors": [{"message": f"auth error: {said(asked)}"}]}
    ),
    "error as text": lambda asked: told({"error": said(asked), "status": {"error_message": said(asked)}}),
    "list": lambda asked: told([said(asked)]),
    "other names": lambda asked: told({said(asked): said(asked), "data": said(asked), "result": said(asked)}),
}
ECHOES: dict[str, tuple[bytes | Callable[[bytes], bytes], ...]] = {
    "echo": (lambda heard: heard,),
    "as status": (b"HTTP/1.1 ", lambda heard: heard),
    "as header": (b"HTTP/1.1 200 OK\r\n", lambda heard: heard),
    "as length": (b"HTTP/1.1 200 OK\r\nContent-Length: ", lambda heard: heard),
    "as chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", lambda heard: heard),
    "of the key": (lambda heard: heard.partition(b"uthorization: ")[2] or heard,),
}
ADDRESSES = {"refused": NOWHERE, "unknown host": "http://name.invalid", "no TLS": "https://127.0.0.1:9"}
DAMAGES = {
    "line break": "{0}\n{0}",
    "tab": "{0}\t{0}",
    "not ASCII": "{0}\u00e9\u20ac{0}",
    "control character": "{0}\x07{0}",
    "long": "{0}" + "x" * 10_000,
    "spaces around": " {0} ",
}
MISTAKES: dict[str, Callable[[Credential], tuple[str, str]]] = {
    "misspelt option": lambda one: (f"{one.variable}S", one.canary),
    "table": lambda one: (f"{one.variable}__MORE", one.canary),
    "other value": lambda one: (one.variable, one.canary),
    "other scheme": lambda one: (one.variable, f"ftp://user:{one.canary}@127.0.0.1/{one.canary}"),
    "password with a slash": lambda one: (one.variable, f"http://user:{one.canary}@127.0.0.1"),
    "broken JSON": lambda one: (one.variable.rpartition("__")[0], f'{{"{one.option}": "{one.canary}"'),
}


@pytest.fixture(scope="module")
def world() -> Iterator[dict[str, Loopback]]:
    """A server for each table; a test says what they answer."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Loopback(truthful(name))) for name in TABLES}


def answering(world: Mapping[str, Loopback], respond: Callable[[str], Respond]) -> dict[str, str]:
    """Where the servers are, which answer so from now on."""
    for name, server in world.items():
        server.respond = respond(name)
    return {name: server.url for name, server in world.items()}


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    """Whose database has its write-ahead log all the time: a reader holds it."""
    (tmp_path / "state").mkdir()
    place = Owner(tmp_path / "state")
    with database.open_for_writing(place.db):
        pass
    with closing(connect(place.db)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM runs").fetchone()
        yield place


def collected(owner: Owner, environment: Mapping[str, str], *options: str) -> Done:
    return owner.checked(owner("collect", *options, *LOUD, now=NOW_S, exits=None, **environment))


def check_failed(done: Done) -> None:
    """All nodes but that of the command did."""
    assert done.err.count("error: ") >= len(SAMPLES) - 1, done.err
    assert done.code == 3


@two_ways
@pytest.mark.parametrize("fault", FAULTS)
def test_server_tells_what_it_was_told(owner: Owner, world: dict[str, Loopback], fault: str, way: str) -> None:
    environment = owner.configure_all(answering(world, lambda _: FAULTS[fault]), way, more=OPTIONS)
    check_failed(collected(owner, environment, "--json"))


@two_ways
@pytest.mark.parametrize("echo", ECHOES)
def test_answer_that_is_no_http(owner: Owner, echo: str, way: str) -> None:
    with ExitStack() as stack:
        wires = {name: stack.enter_context(Wire(*ECHOES[echo])).url for name in TABLES}
        check_failed(collected(owner, owner.configure_all(wires, way, more=OPTIONS)))


@two_ways
@pytest.mark.parametrize("address", ADDRESSES)
def test_nobody_answers(owner: Owner, address: str, way: str) -> None:
    environment = owner.configure_all(dict.fromkeys(TABLES, ADDRESSES[address]), way, more=OPTIONS)
    if address == "unknown host":  # only a process of its own can be told to ask once
        environment["RES_OPTIONS"] = "timeout:1 attempts:1"
        check_failed(owner.watched(["collect", *LOUD], NOW_S, environment))
    else:
        check_failed(collected(owner, environment))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_secret_that_cannot_be_one(owner: Owner, world: dict[str, Loopback], damage: str, way: str) -> None:
    servers = answering(world, lambda _: FAULTS["error"])
    check_failed(collected(owner, owner.configure_all(servers, way, damage=DAMAGES[damage], more=OPTIONS)))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_the_environment(owner: Owner, mistake: str) -> None:
    owner.configure_all(dict.fromkeys(TABLES, NOWHERE), "files", more=OPTIONS)
    for one in CREDENTIALS:
        done = collected(owner, dict([MISTAKES[mistake](one)]))
        assert done.code in (3, 78), done.err


def test_mistake_beside_secrets(owner: Owner) -> None:
    wrong = {f"nodes.{name}": {"min_units": 3, "max_units": 2} | OPTIONS.get(f"nodes.{name}", {}) for name in SAMPLES}
    done = collected(owner, owner.configure_all(dict.fromkeys(TABLES, NOWHERE), "environment", more=OPTIONS | wrong))
    assert (done.code, done.err.count("error: ")) == (78, len(SAMPLES))


def test_mistake_in_the_file(owner: Owner) -> None:
    owner.config = owner.folder.parent / "config.toml"
    for one in CREDENTIALS:
        owner.config.write_text(table(one.table, {one.option: one.value(one.canary, NOWHERE, userinfo=True)}))
        done = collected(owner, {})
        assert done.code == 78
        assert "may not stand in " in done.err


# The verbs


def every_verb(folder: Path) -> list[tuple[str, ...]]:
    """Each verb that works on a configuration which exists, with the words that it needs."""
    words = {
        "apply": ["--dry-run"],
        "export": ["-o", str(folder / "out.csv")],
        "import": [str(folder / "earned.csv")],
    }
    (folder / "earned.csv").write_text("node,start,end,currency,amount\n")
    names = [str(command.name) for command in app.registered_commands]
    return [(name, *words.get(name, [])) for name in names if name not in ("demo", "init")]


def plan_for_all(owner: Owner) -> None:
    """The latest plan changes every node, so that ``apply`` asks each that it can change."""
    grant = {"cpu_cores": 1, "memory_bytes": 1e9, "storage_bytes": 1e12, "uplink_bps": 1e7}
    move = {"changed": True, "reason": "a test", "resources": grant, "units": 1, "previous_units": None}
    host = {"host": "local", "decision": "apply", "nodes": [{"node": name} | move for name in SAMPLES]}
    head = {"status": "optimal", "decision": "apply", "reason": "a test", "inputs_sha256": "0" * 64}
    room = {resource: amount * 100 for resource, amount in grant.items()}
    with database.open_for_writing(owner.db) as connection:
        store = Store(connection)
        store.start_run("optimize", NOW_S, None)
        result = head | {"hosts": [host | {"shadow_prices": []}]}
        connection.execute("DELETE FROM host_samples")
        store.add_host("local", NOW_S, room, {})
        store.add_plan(NOW_S, NOW_S + HOUR_S, result, {"hosts": [{"host": "local", "capacity": room}]})


@pytest.mark.parametrize("way", WAYS)
def test_every_verb(owner: Owner, world: dict[str, Loopback], way: str) -> None:
    environment = owner.configure_all(answering(world, truthful), way, more=OPTIONS)
    first = owner.checked(owner("collect", now=NOW_S - 1200, exits=None, **environment))
    assert first.code == (3 if way == "user and password" else 0), first.err
    for verb, *words in every_verb(owner.folder):
        for options in ((*LOUD, "--json"), LOUD):
            if verb == "apply":
                plan_for_all(owner)
            done = owner.checked(owner(verb, *words, *options, now=NOW_S, exits=None, **environment))
            assert done.code in (0, 3), done.err
            if verb == "apply":
                limits = "no url without user and password" if way == "user and password" else "/config/user"
                assert limits in done.out + done.err


def test_processes(owner: Owner, world: dict[str, Loopback]) -> None:
    environment = owner.configure_all(answering(world, truthful), "environment", more=OPTIONS)
    plan_for_all(owner)
    for words in (["apply", "--dry-run"], ["collect"], ["run"], ["export"]):
        assert owner.watched([*words, *LOUD], NOW_S, environment).code in (0, 3), words
    (details,) = owner.query("SELECT details_json FROM health_samples WHERE node = 'exec' LIMIT 1")[0]
    assert json.loads(details)["environment"]["ORCHA_NODE"] == "exec"


def test_node_that_refuses_a_change(owner: Owner, world: dict[str, Loopback]) -> None:
    def respond(name: str) -> Respond:
        return lambda asked: (FAULTS["400"] if asked.path.endswith("/config/user") else truthful(name))(asked)

    willing = {f"nodes.{name}": {"apply": True} | OPTIONS.get(f"nodes.{name}", {}) for name in SAMPLES}
    environment = owner.configure_all(answering(world, respond), "environment", more=OPTIONS | willing)
    plan_for_all(owner)
    done = owner.checked(owner("apply", "--yes", *LOUD, "--json", now=NOW_S, exits=3, **environment))
    messages = {one["node"]: one["message"] for one in done.failures}
    assert "answered 400 to POST /config/user: {" in messages["mysterium"]
    assert "it said nothing" in messages["golem"]
