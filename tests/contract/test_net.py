"""Every way an answer can be wrong, from a real server on loopback: the right kind of failure, in time, and no key."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from loopback import Answer, Loopback, Wire

from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.net import SIZE_CAP_BYTES, HttpClient, display_url

UNTRUSTED = Path(__file__).with_name("untrusted.pem")
JSON = "application/json"
CHALLENGE = b"<!DOCTYPE html><title>Just a moment...</title>"


def fault(url: str, deadline_s: float = 5, **how) -> AdapterError:
    """The failure that reading ``url`` ends in."""
    with HttpClient(deadline_s) as http, pytest.raises(AdapterError) as failure:
        http.request("GET", url, **how).json()
    return failure.value


def response(body: bytes, *headers: str, length: int | None = None) -> bytes:
    """A whole answer on the wire, which may lie about its length."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (Answer(401, b"Missing application key", "text/plain"), FailureKind.AUTH, "401"),
        (Answer(401, CHALLENGE, "text/html"), FailureKind.AUTH, "401"),
        (Answer(403, b'{"error": "forbidden"}', JSON), FailureKind.AUTH, "403"),
        (Answer(403, CHALLENGE, "text/html; charset=UTF-8"), FailureKind.BLOCKED, "challenge"),
        (Answer(403, CHALLENGE), FailureKind.BLOCKED, "challenge"),
        (Answer(403, b"{}", JSON, {"Cf-Mitigated": "challenge"}), FailureKind.BLOCKED, "challenge"),
        (Answer(503, CHALLENGE, "text/html"), FailureKind.BLOCKED, "challenge"),
        (Answer(503, b"busy", "text/plain"), FailureKind.TRANSIENT, "503"),
        (Answer(404, b'{"message": null}', JSON), FailureKind.SHAPE, "404"),
        (Answer(429, b"{}", JSON), FailureKind.TRANSIENT, "429"),
        (Answer(500, b'{"error": "database is locked"}', JSON), FailureKind.TRANSIENT, "500"),
        (Answer(301, headers={"Location": "https://example.org/"}), FailureKind.SHAPE, "301"),
        (Answer(204), FailureKind.SHAPE, "204"),
        (Answer(200, b"<!DOCTYPE html><title>node</title>", "text/html"), FailureKind.SHAPE, "web page"),
        (Answer(200, b" <html></html>", JSON), FailureKind.SHAPE, "web page"),
        (Answer(200, b'{"amount": 1', JSON), FailureKind.SHAPE, "broken JSON"),
        (Answer(200, b"", JSON), FailureKind.SHAPE, "broken JSON"),
        (Answer(200, b'{"amount": NaN}', JSON), FailureKind.SHAPE, "NaN"),
        (Answer(200, b'{"amount": -Infinity}', JSON), FailureKind.SHAPE, "Infinity"),
        (Answer(200, b'{"amount": 1e99999999999999999999}', JSON), FailureKind.SHAPE, "broken JSON"),
        (Answer(200, b'{"amount": ' + b"9" * 5000 + b"}", JSON), FailureKind.SHAPE, "broken JSON"),
        (Answer(200, b"[" * 100_000, JSON), FailureKind.SHAPE, "broken JSON"),
        (Answer(200, b'{"name": "\xff\xfe"}', JSON), FailureKind.SHAPE, "UTF-8"),
        (Answer(200, b"not gzip", JSON, {"Content-Encoding": "gzip"}), FailureKind.SHAPE, "garbled"),
    ],
)
def test_wrong_answer(answer: Answer, kind: FailureKind, says: str) -> None:
    with Loopback(lambda _: answer) as server:
        error = fault(server.url + "/api/secret-path")
    assert (error.kind, says in error.message) == (kind, True), error.message
    assert server.url in error.message
    assert "secret-path" not in error.message + error.hint


def test_right_answer_is_exact() -> None:
    body = b'{"a": 0.1800038202986111, "b": 1e-18, "c": 9007199254740993}'
    with Loopback(lambda _: Answer(200, body, JSON)) as server, HttpClient() as http:
        value = http.get_json(server.url + "/x", params={"id": "1"}, headers={"Authorization": "Bearer k"})
    assert value == {"a": Decimal("0.1800038202986111"), "b": Decimal("1e-18"), "c": 9007199254740993}
    (request,) = server.requests
    assert (request.target, request.headers["authorization"]) == ("/x?id=1", "Bearer k")


def test_redirect_is_not_followed() -> None:
    with Loopback(lambda _: Answer(301, headers={"Location": "/elsewhere"})) as server:
        fault(server.url)
    assert [request.path for request in server.requests] == ["/"]


def test_accepted_status_is_an_answer() -> None:
    with Loopback(lambda _: Answer(503, b'{"AllHealthy": false}', JSON)) as server, HttpClient() as http:
        assert http.request("GET", server.url, accept=(503,)).json() == {"AllHealthy": False}


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    assert fault(url).kind == FailureKind.TRANSIENT
    assert fault("http://name.invalid").kind == FailureKind.TRANSIENT


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ((response(b'{"amount": 12', length=1000),), FailureKind.SHAPE),
        ((response(b"")[:30],), FailureKind.TRANSIENT),
        ((b"SSH-2.0-OpenSSH_9.2\r\n\r\n",), FailureKind.SHAPE),
        ((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1, 2",), FailureKind.SHAPE),
        ((b"",), FailureKind.TRANSIENT),
    ],
    ids=["short body", "half a header", "not http", "half a chunk", "no answer at all"],
)
def test_connection_that_breaks_off(script: tuple[bytes, ...], kind: FailureKind) -> None:
    with Wire(*script) as server:
        assert fault(server.url).kind == kind


DRIP = 0.05
HEADER = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"


@pytest.mark.parametrize(
    "script",
    [
        (30.0,),
        (HEADER, 30.0),
        (HEADER, *(b" ", DRIP) * 500),
        (b"HTTP/1.1 200 OK\r\n", *(b"X", DRIP) * 500),
        (b"HTTP/1.1 200 OK\r\n\r\n12", *(b"3", DRIP) * 500),
    ],
    ids=["silence", "silence after the header", "slow body", "slow header", "slow body that any cut completes"],
)
def test_deadline_holds_whatever_the_peer_does(script: tuple[bytes | float, ...]) -> None:
    with Wire(*script) as server:
        started = time.monotonic()
        error = fault(server.url, deadline_s=0.4)
        assert time.monotonic() - started < 3
    assert (error.kind, "0.4 s" in error.message) == (FailureKind.TRANSIENT, True)


def test_deadline_holds_during_a_tls_handshake() -> None:
    with Wire(30.0) as server:
        started = time.monotonic()
        assert fault(server.url.replace("http:", "https:"), deadline_s=0.4).kind == FailureKind.TRANSIENT
        assert time.monotonic() - started < 3


def test_deadline_is_of_all_requests_together() -> None:
    with Loopback(lambda _: Answer(200, b"[]", JSON)) as server, HttpClient(0.3) as http:
        assert http.get_json(server.url) == []
        time.sleep(0.35)
        with pytest.raises(AdapterError, match=r"within 0\.3 s"):
            http.get_json(server.url)
    assert len(server.requests) == 1


def test_own_limit_of_a_request_leaves_the_rest_of_the_deadline() -> None:
    with Wire(30.0) as slow, Loopback(lambda _: Answer(200, b"[]", JSON)) as server, HttpClient(10) as http:
        with pytest.raises(AdapterError, match=r"within 0\.2 s"):
            http.request("GET", slow.url, timeout_s=0.2)
        assert http.get_json(server.url) == []


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
def test_first_event_of_an_endless_stream(end: bytes) -> None:
    event = b'data: {"activities": []}'
    with (
        Loopback(lambda _: Answer(200, event + end, "text/event-stream", stream=True)) as server,
        HttpClient(5) as http,
    ):
        started = time.monotonic()
        assert http.request("GET", server.url, first_line=True).body == event + end
        assert time.monotonic() - started < 3


def test_answers_beyond_the_cap_are_refused() -> None:
    too_much = b'"' + b"x" * SIZE_CAP_BYTES + b'"'
    for answer in (
        Answer(200, too_much, JSON),
        Answer(200, gzip.compress(b"0" * 20 * SIZE_CAP_BYTES), JSON, {"Content-Encoding": "gzip"}),
    ):
        with Loopback(lambda _, answer=answer: answer) as server:
            error = fault(server.url, deadline_s=20)
        assert (error.kind, "16 MiB" in error.message) == (FailureKind.SHAPE, True)
    fits = json.dumps("x" * (SIZE_CAP_BYTES - 2)).encode()
    with Loopback(lambda _: Answer(200, fits, JSON)) as server, HttpClient(20) as http:
        assert len(http.get_json(server.url)) == SIZE_CAP_BYTES - 2


def test_certificate_that_nobody_signed() -> None:
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(UNTRUSTED)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        error = fault(f"https://localhost:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
    assert (error.kind, "certificate" in error.message) == (FailureKind.CONFIG, True)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/canary", "127.0.0.1/canary", "http://[::1/canary"])
def test_url_that_cannot_be_asked_is_a_matter_of_configuration(url: str) -> None:
    error = fault(url)
    assert error.kind == FailureKind.CONFIG
    assert "canary" not in error.message + error.hint


@pytest.mark.parametrize("key", ["canary\r\nX-Other: 1", "canary-\u20ac"])
def test_key_that_cannot_be_sent_is_not_shown(key: str) -> None:
    with Loopback(lambda _: Answer()) as server:
        error = fault(server.url, headers={"Authorization": f"Bearer {key}"})
    assert error.kind == FailureKind.CONFIG
    assert "canary" not in error.message + error.hint
    assert not server.requests


def test_shown_url_holds_no_secret() -> None:
    assert display_url("https://user:canary@host:8443/path/canary?key=canary") == "https://host:8443"
    assert display_url("http://[::1]:7465/x") == "http://[::1]:7465"
