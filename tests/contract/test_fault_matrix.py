"""Every way in which a node can be wrong, for every adapter: the right kind of failure, and no number that nobody told.

The adapters are those that have a baseline among the samples (see ``sample_cases``); there is no code for any of them
here. What is required of an answer is found by taking each key of the recorded bodies away, or giving it another type.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from loopback import Answer, Loopback, Request, Respond, Wire, broken, sample
from mutations import mutations, shape
from operator_parts import Place
from pydantic import ValidationError
from sample_cases import Case, baselines, shown

from depin_orcha.collect import make_adapter
from depin_orcha.config import load
from depin_orcha.errors import AdapterError, ConfigError, ExitCode, FailureKind
from depin_orcha.types import DAY_S

AUTH, BLOCKED, CONFIG, SHAPE, TRANSIENT = (
    FailureKind.AUTH,
    FailureKind.BLOCKED,
    FailureKind.CONFIG,
    FailureKind.SHAPE,
    FailureKind.TRANSIENT,
)
JSON = "application/json"
PAGE = b"<!DOCTYPE html><title>Just a moment...</title>"
DEADLINE_S = 0.4
UNTRUSTED = Path(__file__).with_name("untrusted.pem")
BASELINES = baselines()

every_adapter = pytest.mark.parametrize("case", BASELINES, ids=lambda case: case.protocol)


def error(status: int, body: bytes = b'{"error": "no"}', content_type: str = JSON, **headers: str) -> Answer:
    """An answer that is no answer."""
    return Answer(status, body, content_type, {name.replace("_", "-"): text for name, text in headers.items()})


ANSWERS: list[tuple[str, FailureKind, Callable[[], Answer]]] = [
    ("301", SHAPE, lambda: error(301, b"", "", Location="http://127.0.0.1:9/")),
    ("401", AUTH, lambda: error(401, b"Missing key", "text/plain")),
    ("401 without a body", AUTH, lambda: error(401, b"", "")),
    ("403 with JSON", AUTH, lambda: error(403)),
    ("403 with text", AUTH, lambda: error(403, b"no", "text/plain")),
    ("403 with HTML", BLOCKED, lambda: error(403, PAGE, "text/html; charset=UTF-8")),
    ("403 cf-mitigated", BLOCKED, lambda: error(403, cf_mitigated="challenge")),
    ("503 with HTML", BLOCKED, lambda: error(503, PAGE, "text/html")),
    ("503 with text", TRANSIENT, lambda: error(503, b"busy", "text/plain")),
    ("404", SHAPE, lambda: error(404)),
    ("429", TRANSIENT, lambda: error(429)),
    ("429 with Retry-After", TRANSIENT, lambda: error(429, Retry_After="120")),
    ("500", TRANSIENT, lambda: error(500, b'{"error": "database is locked"}')),
    ("200 with HTML", SHAPE, lambda: error(200, b"<!DOCTYPE html><title>node</title>", "text/html")),
    ("200 without a body", SHAPE, lambda: error(200, b"")),
    ("200 with null", SHAPE, lambda: error(200, b"null")),
    ("200 with other JSON", SHAPE, lambda: error(200, b'{"hello": [1, 2, 3]}')),
    ("invalid UTF-8", SHAPE, lambda: error(200, b'{"name": "\xff\xfe"}')),
    ("huge body", SHAPE, lambda: error(200, b'"' + b"x" * 50_000_000 + b'"')),
    ("gzip bomb", SHAPE, lambda: error(200, gzip.compress(b"0" * 50_000_000, 1), Content_Encoding="gzip")),
]
SCRIPTS: list[tuple[str, FailureKind, tuple[bytes | float, ...]]] = [
    ("timeout", TRANSIENT, (30.0,)),
    ("slow drip", TRANSIENT, (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", *(b" ", 0.05) * 100)),
    ("slow header", TRANSIENT, (b"HTTP/1.1 200 OK\r\n", *(b"X", 0.05) * 100)),
    ("hung up", TRANSIENT, (b"",)),
    ("cut off", SHAPE, (b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"amount": 12',)),
]


def named(table: list[Any]) -> Any:
    """The rows of a table as cases of a test, named by their first column."""
    return pytest.mark.parametrize(("name", "kind", "fault"), table, ids=[row[0] for row in table])


def failure(case: Case, url: str, deadline_s: float = 20) -> AdapterError:
    """How reading the node at ``url`` fails."""
    with pytest.raises((AdapterError, ValidationError)) as caught:
        case.read(url, deadline_s)
    if isinstance(caught.value, ValidationError):
        return AdapterError(CONFIG, str(caught.value), "the configuration is not even loaded")
    return caught.value


def check(case: Case, found: AdapterError, kind: FailureKind) -> None:
    """It is of its kind, says what and what to do, and shows no secret."""
    assert found.kind == kind, found.message
    assert found.message
    assert found.hint, found.message
    assert not [name for name, secret in case.secrets().items() if secret in found.message + found.hint]


@every_adapter
@named(ANSWERS)
def test_wrong_answer(case: Case, name: str, kind: FailureKind, fault: Callable[[], Answer]) -> None:
    answer = fault()
    with Loopback(lambda _: answer) as server:
        check(case, failure(case, server.url), kind)
        assert server.requests, name


@every_adapter
@named(SCRIPTS)
def test_broken_connection(case: Case, name: str, kind: FailureKind, fault: tuple[bytes | float, ...]) -> None:
    with Wire(*fault) as server:
        found = failure(case, server.url, 20 if kind is SHAPE or name == "hung up" else DEADLINE_S)
    check(case, found, kind)


@every_adapter
def test_truncated_bodies(case: Case) -> None:
    with Loopback(broken(sample(case.folder), "half")) as server:
        check(case, failure(case, server.url), SHAPE)


@contextmanager
def untrusted() -> Iterator[str]:
    """A server with a certificate that nobody signed."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(UNTRUSTED)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"https://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@every_adapter
def test_address_that_does_not_lead_to_a_node(case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        refused = f"http://127.0.0.1:{free.getsockname()[1]}"
    check(case, failure(case, refused), TRANSIENT)
    check(case, failure(case, "http://name.invalid"), TRANSIENT)
    check(case, failure(case, "http://[::1/x"), CONFIG)
    with untrusted() as url:
        check(case, failure(case, url), CONFIG)


@pytest.mark.parametrize(
    ("case", "inside"),
    [
        pytest.param(case, inside, id=f"{case.protocol}-{index}")
        for case in BASELINES
        for index, inside in enumerate(case.meta.get("errors", []))
    ],
)
def test_error_inside_a_200(case: Case, inside: dict[str, str]) -> None:
    with Loopback(lambda _: Answer(200, inside["body"].encode(), JSON)) as server, pytest.raises(AdapterError) as found:
        case.read(server.url)
    assert found.value.kind == inside["kind"], found.value.message


@every_adapter
@pytest.mark.parametrize("skew_s", [-DAY_S, DAY_S])
def test_clock_that_is_wrong_costs_nothing(case: Case, skew_s: int) -> None:
    respond = sample(case.folder)
    date = {"Date": formatdate(case.now_s + skew_s, usegmt=True)}

    def skewed(request: Request) -> Answer:
        answer = respond(request)
        return replace(answer, headers=answer.headers | date)

    with Loopback(skewed) as server:
        read = shown(case.read(server.url))
    assert read["earnings"] == case.expected["earnings"]
    assert read["standings"] == case.expected["standings"]


class InProcess(httpx.BaseTransport):
    """The server without its sockets, for the many readings that differ in one key."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        query = dict(parse_qsl(request.url.query.decode()))
        answer = self._respond(Request(request.method, request.url.path, query, headers, request.read()))
        sent = answer.headers | ({"Content-Type": answer.content_type} if answer.content_type else {})
        return httpx.Response(answer.status, headers=sent, content=answer.body)


def recorded(case: Case) -> dict[bytes, str]:
    """The JSON bodies that a reading rests on and their paths; of those of one shape at one path the longest."""
    respond = sample(case.folder)
    longest: dict[tuple[str, bytes, frozenset[tuple[str, str]]], bytes] = {}

    def recording(request: Request) -> Answer:
        answer = respond(request)
        with suppress(ValueError):
            key = (request.path, request.body, shape(json.loads(answer.body)))
            longest[key] = max(longest.get(key, b""), answer.body, key=len)
        return answer

    with Loopback(recording) as server:
        case.read(server.url)
    return {body: path for (path, _, _), body in longest.items()}


@every_adapter
def test_no_key_can_be_wrong_unnoticed(case: Case) -> None:
    """Whatever is missing, null or of another type: a shape failure, or the same money as ever."""
    respond, may_lack = sample(case.folder), set(case.meta.get("may_lack", []))
    with Loopback(respond) as server:
        whole = shown(case.read(server.url))
        found: list[str] = []
        noticed = 0
        for body, path in recorded(case).items():
            for mutation in mutations(body):
                server.respond = replaced(respond, body, mutation.body)
                where = f"{path} {mutation.where}".strip()
                if mutation.what != "wrong type" and {where, mutation.where} & may_lack:
                    continue
                try:
                    read = shown(case.read(server.url, transport=InProcess(server.respond)))
                except AdapterError as fault:
                    noticed += 1
                    wrong = "" if fault.kind is SHAPE else f"a failure of kind {fault.kind}: {fault.message}"
                else:
                    wrong = complaint(case, whole, read, may_lose=mutation.what == "null" and mutation.of_list)
                if wrong:
                    found.append(f"{where} {mutation.what}: {wrong}")
    assert noticed
    assert not found, "\n".join(found)


def replaced(respond: Respond, body: bytes, other: bytes) -> Respond:
    """The same server, but one of its bodies is another."""

    def respond_replaced(request: Request) -> Answer:
        answer = respond(request)
        return replace(answer, body=other) if answer.body == body else answer

    return respond_replaced


def complaint(case: Case, whole: dict[str, Any], read: dict[str, Any], *, may_lose: bool = False) -> str:
    """What a reading tells that the whole node does not, or leaves out without a word; nothing if all is well."""
    before, now = ([judged(one) for one in side["earnings"]] for side in (whole, read))
    told = [one for one in now if one["external_id"] not in case.meta.get("fallback_ids", [])]
    if invented := [one for one in told if one not in before]:
        return f"invented {invented[0]}"
    for part in ("standings", "usage", "limits"):
        if changed := [key for key, value in read[part].items() if not agrees(value, whole[part].get(key))]:
            return f"invented {part} {changed}: {read[part][changed[0]]}"
    for part in ("voided", "payouts", "statements", "outlooks"):
        rows = whole.get(part, [])
        if changed := [one for one in read.get(part, []) if not any(agrees(one, row) for row in rows)]:
            return f"invented {part} {changed[0]}"
    if len(read["warnings"]) > len(whole["warnings"]) or may_lose:
        return ""
    if [one for one in before if one not in now] and len(told) == len(now):
        return "lost earnings without a word"
    return "lost a standing without a word" if read["standings"].keys() < whole["standings"].keys() else ""


def judged(earning: dict[str, Any]) -> dict[str, Any]:
    """From when on a counter counts from zero moves no money, and to be called estimated is no fault of an amount."""
    own = {key: value for key, value in earning.items() if key != "estimated"}
    return own | {"observed_at": None} if earning["amount"] == "0" else own


def agrees(value: Any, whole: Any) -> bool:
    """The same, or unknown."""
    if isinstance(value, dict):
        return isinstance(whole, dict) and all(agrees(member, whole.get(key)) for key, member in value.items())
    return value is None or value == whole


PARTIAL = ("404", "500", "200 with HTML", "200 with null", "200 with other JSON", "invalid UTF-8")


@every_adapter
def test_one_broken_endpoint_invents_nothing(case: Case) -> None:
    """Either that failure is the node's, or what is still told is what the whole node would have said."""
    respond = sample(case.folder)
    with Loopback(respond) as server:
        whole = shown(case.read(server.url))
        targets = {(request.target, request.body): request.path for request in server.requests}
        found: list[str] = []
        for target, (name, kind, fault) in product(targets, [row for row in ANSWERS if row[0] in PARTIAL]):
            if name in ("404", "200 with null") and targets[target] in case.meta.get("may_lack", []):
                continue
            answer = fault()
            server.respond = lambda one, target=target, answer=answer: (
                answer if (one.target, one.body) == target else respond(one)
            )
            try:
                read = shown(case.read(server.url, transport=InProcess(server.respond)))
            except AdapterError as error:
                wrong = "" if error.kind is kind else f"a failure of kind {error.kind}: {error.message}"
            else:
                wrong = complaint(case, whole, read)
            if wrong:
                found.append(f"{target[0]} {target[1].decode()} {name}: {wrong}")
    assert not found, "\n".join(found)


def section(case: Case, place: Path, name: str, url: str) -> str:
    """The node in TOML; its secrets in files of ``place``."""
    options = case.options(url)
    for secret, value in case.secrets().items():
        del options[secret]
        options[f"{secret}_file"] = f"{name}.{secret}"
        (place / f"{name}.{secret}").touch(0o600)
        (place / f"{name}.{secret}").write_text(value)
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    return "\n".join([f"[nodes.{name}]", *lines, ""])


def quotes(request: Request) -> Answer:
    """A price source that knows every token."""
    ids = request.query.get("ids", "").split(",")
    return Answer(200, json.dumps({token: {"usd": 1.5} for token in ids if token}).encode(), JSON)


KINDS = {
    AUTH: error(401),
    BLOCKED: error(403, PAGE, "text/html"),
    TRANSIENT: error(500),
    SHAPE: error(404),
}


@every_adapter
@pytest.mark.parametrize("kind", [*KINDS, CONFIG])
def test_node_beside_a_broken_one_is_stored(case: Case, kind: FailureKind, tmp_path: Path) -> None:
    other = next(one for one in BASELINES if one.protocol != case.protocol)
    place = Place(tmp_path)
    with (
        Loopback(quotes) as prices,
        Loopback(sample(other.folder)) as healthy,
        Loopback(lambda _: KINDS[kind]) as server,
        untrusted() as https,
    ):
        url = https if kind is CONFIG else server.url
        parts = [section(other, tmp_path, "good", healthy.url), section(case, tmp_path, "bad", url)]
        place.configure("\n".join([f'[prices]\nurl = "{prices.url}"\nfallback_url = "{prices.url}"', *parts]))
        done = place("collect", "--json", now=max(case.now_s, other.now_s), exits=ExitCode.PARTIAL)
    assert [(one["node"], one["kind"]) for one in done.failures if one["node"]] == [("bad", str(kind))]
    nodes = {node["node"]: node for node in done.data["nodes"]}
    assert nodes["good"]["earnings"]
    assert (nodes["bad"]["earnings"], nodes["bad"]["usage"], nodes["bad"]["health"]["status"]) == ([], {}, "unknown")
    for table in ("earnings_samples", "accruals", "usage_samples", "standings"):
        assert place.query(f"SELECT count(*) FROM {table} WHERE node = 'bad'") == [(0,)]
    assert place.query("SELECT count(*) > 0 FROM earnings_samples WHERE node = 'good'") == [(1,)]
    assert place.query("SELECT node, failure_kind FROM health_samples ORDER BY node") == [("bad", kind), ("good", None)]


@pytest.mark.parametrize("case", [case for case in BASELINES if case.secrets()], ids=lambda case: case.protocol)
def test_secret_that_cannot_be_read_is_a_matter_of_configuration(case: Case, tmp_path: Path) -> None:
    text = section(case, tmp_path, "node_1", "http://127.0.0.1:9")
    for name in case.secrets():
        (tmp_path / f"node_1.{name}").unlink()
    config = load(tmp_path / "config.toml", text)
    with pytest.raises(ConfigError, match="cannot read") as found:
        make_adapter(config, "node_1", config.nodes["node_1"])
    assert (found.value.kind, bool(found.value.hint)) == (CONFIG, True)
