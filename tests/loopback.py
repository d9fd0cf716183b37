"""A real HTTP server on loopback that answers like a node: from a sample folder, or with any bytes a test wants.

A sample folder holds ``routes.toml``: a table per route, named by its path or by path and query, with

- ``file`` (relative to the folder), or no body; ``status`` (200), ``content_type`` (by the name of the file),
- ``location`` for a redirect, ``date`` for the server's clock, ``stream = true`` for an answer that never ends,
- ``documents = "timestamp"``: the file is a list, of which ``afterTimestamp`` and ``maxItems`` select a part,
- ``schema`` (a file) and ``key``: the file holds entities, over which a GraphQL engine executes what is asked,
- ``contract = true``: the file says what a contract holds at each block, and calls to it are answered in its ABI,

beside ``["*"]`` for every other path, and ``["auth"]`` with the application ``key`` and the paths ``open`` without it.
"""

from __future__ import annotations

import json
import mimetypes
import re
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = b""

    @property
    def target(self) -> str:
        """Path and query, as a route is named."""
        return self.path + ("?" + "&".join(f"{key}={value}" for key, value in self.query.items()) if self.query else "")


@dataclass(frozen=True)
class Answer:
    """What the server says; ``stream``: and then keeps the connection open."""

    status: int = 200
    body: bytes = b""
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    stream: bool = False


Respond = Callable[[Request], Answer]


class _Server(ThreadingHTTPServer):
    """One that says nothing of a client that hung up: by then another test is running, which owns stderr."""

    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Loopback:
    """Serves on a free port of 127.0.0.1 as long as the context lives; ``requests`` is what was asked so far."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        loopback = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                loopback._answer(self)

            do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", 0)))
        request = Request(handler.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
        self.requests.append(request)
        answer = self.respond(request)
        handler.send_response_only(answer.status)
        sent = {"Content-Type": answer.content_type} if answer.content_type else {}
        sent |= {"Transfer-Encoding": "chunked"} if answer.stream else {"Content-Length": str(len(answer.body))}
        for name, value in (sent | answer.headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        if answer.stream:
            handler.wfile.write(f"{len(answer.body):x}\r\n".encode() + answer.body + b"\r\n")
            handler.close_connection = True
            handler.connection.settimeout(0.05)
            while not self._closing.is_set() and _is_open(handler.connection):
                pass
        else:
            handler.wfile.write(answer.body)


class Wire:
    """A server below HTTP: to each request it sends the bytes of ``script``, waits its seconds, and hangs up.

    What a function in the script makes of the request is sent too.
    """

    def __init__(self, *script: bytes | float | Callable[[bytes], bytes]) -> None:
        self._script = script
        self._closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._play, args=(connection,), daemon=True).start()

    def _play(self, connection: socket.socket) -> None:
        with connection:
            heard = _whole_request(connection)
            for step in self._script:
                if isinstance(step, int | float):
                    if self._closing.wait(step):
                        return
                    continue
                try:
                    connection.sendall(step if isinstance(step, bytes) else step(heard))
                except OSError:
                    return


def _whole_request(connection: socket.socket) -> bytes:
    """Header and body: what is left unread when a server hangs up resets the connection."""
    heard = b""
    while more := connection.recv(65536):
        heard += more
        head, ended, body = heard.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        if ended and len(body) >= int(length[1] if length else 0):
            break
    return heard


def sample(folder: Path) -> Respond:
    """A server's behaviour as a sample folder describes it."""
    routes = tomllib.loads((folder / "routes.toml").read_text())
    auth = routes.pop("auth", None)

    def respond(request: Request) -> Answer:
        if auth and request.path not in auth["open"]:
            shown = request.headers.get("authorization")
            if shown != f"Bearer {auth['key']}":
                text = "Invalid application key" if shown else "Missing application key"
                return Answer(401, text.encode(), "text/plain; charset=utf-8")
        route = next((routes[name] for name in _names(request) if name in routes), None)
        return _answer_of(folder, route, request) if route is not None else Answer(404)

    return respond


def _names(request: Request) -> Iterable[str]:
    """Names under which a route may answer a request, the most exact first."""
    yield request.target
    for key, value in request.query.items():
        yield f"{request.path}?{key}={value}"
    yield request.path
    yield "*"


def _answer_of(folder: Path, route: dict[str, Any], request: Request) -> Answer:
    name = route.get("file", "")
    body = (folder / name).read_bytes() if name else b""
    if "schema" in route:
        from graph_gateway import answer as graphql_answer

        body = graphql_answer(folder / route["schema"], json.loads(body), request.headers, request.body, route["key"])
    if "contract" in route:
        from operator_contract import answer as contract_answer

        body = contract_answer(json.loads(body), request.body)
    if "documents" in route:
        body = json.dumps(selected(json.loads(body), route["documents"], request.query)).encode()
    headers = {key.title(): route[key] for key in ("location", "date") if key in route}
    content_type = route.get("content_type", mimetypes.guess_type(name)[0] or "")
    return Answer(route.get("status", 200), body, content_type, headers, stream=route.get("stream", False))


def broken(respond: Respond, fault: Answer | float | str, *, only: str | None = None) -> Respond:
    """The same server, but every route, or ``only`` one, gives another answer, none for some seconds, or half of it."""

    def respond_broken(request: Request) -> Answer:
        answer = respond(request)
        if only not in (None, request.path, request.target):
            return answer
        if isinstance(fault, Answer):
            return fault
        if isinstance(fault, float):
            time.sleep(fault)
            return answer
        return replace(answer, body=answer.body[: len(answer.body) // 2])

    return respond_broken


def selected(documents: list[dict[str, Any]], time_key: str, query: dict[str, str]) -> list[dict[str, Any]]:
    """Those created after an instant, the oldest first, at most so many: yagna's selection."""
    after = datetime.fromisoformat(query.get("afterTimestamp", "0001-01-01T00:00:00Z")).replace(tzinfo=None)
    kept = [one for one in documents if datetime.fromisoformat(one[time_key]).replace(tzinfo=None) > after]
    return kept[: int(query.get("maxItems", len(kept)))]


def edited(respond: Respond, path: str, change: Callable[[Any], Any]) -> Respond:
    """The same server, but the JSON answer at ``path`` is changed in place, or is what ``change`` returns."""

    def respond_edited(request: Request) -> Answer:
        answer = respond(request)
        if path not in (request.path, request.target):
            return answer
        value = json.loads(answer.body)
        changed = change(value)
        return replace(answer, body=json.dumps(value if changed is None else changed).encode())

    return respond_edited


def _is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False
