"""Loopback HTTP servers in front of the simulated world: real sockets, real wire formats, its own clock."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self, cast
from urllib.parse import parse_qsl, urlsplit

from .coingecko import CoinGecko
from .console import Console
from .wire import Answer, Responder
from .world import World
from .yagna import Yagna


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer in one write, so that no half of it waits for the other's acknowledgement."""
        parts = urlsplit(self.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self._server.respond(parts.path, query, headers)
        self.wfile.write(_head(answer, self._server.now()) + answer.body)
        if answer.stays_open:
            self.close_connection = True
            with suppress(OSError):
                self.rfile.read(1)  # until the client has seen enough and goes

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is logged: the terminal belongs to the demo."""

    @property
    def _server(self) -> LoopbackServer:
        return cast("LoopbackServer", self.server)


class LoopbackServer(ThreadingHTTPServer):
    """An HTTP server on a free port of 127.0.0.1 that answers with ``respond`` until it is closed.

    Its answers are dated by ``now``.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, respond: Responder, now: Callable[[], int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.respond = respond
        self.now = now
        self._connections: set[socket.socket] = set()
        self._lock = Lock()
        self._thread = Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a trailing slash."""
        return f"http://127.0.0.1:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes in the middle of an answer is nobody's fault."""

    def close(self) -> None:
        """Nobody listens any more, and every open connection has ended."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class SimulatedOperator:
    """The servers of a simulated operator with two machines, from ``start_s`` on.

    Inside ``with`` it answers; :meth:`advance` moves its clock forward. Golem's keys are in :meth:`secrets`, to be
    written beside the file that holds :meth:`config_toml`.
    """

    def __init__(self, start_s: int, seed: int = 2) -> None:
        self.world = World(start_s, seed)
        self._servers: dict[str, LoopbackServer] = {}

    def __enter__(self) -> Self:
        for name, respond in self._responders().items():
            self._servers[name] = LoopbackServer(respond, self._now)
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    def advance(self, now_s: int) -> None:
        """The simulated clock stands at ``now_s``; raises ``ValueError`` for an instant in the past."""
        self.world.advance(now_s)

    def url(self, name: str) -> str:
        """Base URL of a node (``storj_attic``, ``golem_rack``, ...) or of ``prices``."""
        return self._servers[name].url

    def secrets(self) -> dict[str, str]:
        """File name -> text of the key files that the configuration names."""
        return {f"golem_{machine}.key": _app_key(machine) for machine in self.world.providers}

    def config_toml(self) -> str:
        """A configuration of all four nodes, to be written to a file with the key files beside it."""
        return _CONFIG.format(**{name: server.url for name, server in self._servers.items()})

    def _responders(self) -> dict[str, Responder]:
        now = self._now
        return {
            **{f"storj_{machine}": Console(node, now) for machine, node in self.world.storage.items()},
            **{
                f"golem_{machine}": Yagna(provider, _app_key(machine), now)
                for machine, provider in self.world.providers.items()
            },
            "prices": CoinGecko(self.world.prices, now),
        }

    def _now(self) -> int:
        return self.world.now_s


def _app_key(machine: str) -> str:
    return f"SIMULATED-key-of-golem-{machine}"


def _head(answer: Answer, now_s: int) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", f"Date: {formatdate(now_s, usegmt=True)}"]
    if answer.content_type:
        lines.append(f"Content-Type: {answer.content_type}")
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines.append("Connection: close" if answer.stays_open else f"Content-Length: {len(answer.body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


_CONFIG = """\
# SIMULATED: nothing in this file is real; every address is a server of this very demo.

[hosts.attic]
capacity = {{ cpu_cores = 8, memory_bytes = 34359738368, storage_bytes = 8e12, uplink_bps = 4e7, downlink_bps = 1e8 }}
reserve = {{ cpu_cores = 1 }}
idle_watts = 22

[hosts.rack]
capacity = {{ cpu_cores = 16, memory_bytes = 68719476736, storage_bytes = 16e12, uplink_bps = 4e7, downlink_bps = 1e8 }}
reserve = {{ cpu_cores = 1 }}
idle_watts = 45

[costs]
currency = "USD"
timezone = "UTC"
electricity_per_kwh = 0.25

[prices]
url = "{prices}/api/v3"
fallback_url = "{prices}"

[optimize]
learning_days = 7

[nodes.storj_attic]
protocol = "storj"
host = "attic"
url = "{storj_attic}"

[nodes.golem_attic]
protocol = "golem"
host = "attic"
url = "{golem_attic}"
app_key_file = "golem_attic.key"
busy_watts = 25

[nodes.storj_rack]
protocol = "storj"
host = "rack"
url = "{storj_rack}"

[nodes.golem_rack]
protocol = "golem"
host = "rack"
url = "{golem_rack}"
app_key_file = "golem_rack.key"
busy_watts = 60
"""
