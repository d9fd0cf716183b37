"""A real HTTP server on a unix socket that answers like a Docker Engine of our making, and remembers every request."""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

Answer = Callable[[str, str, dict[str, Any]], "tuple[int, Any]"]


class UnixEngine:
    """Serves ``answer(method, path without version, body) -> (status, JSON value or bytes)`` inside its context.

    With a status of 0 it hangs up instead.
    """

    def __init__(self, socket: Path, answer: Answer) -> None:
        self.socket = str(socket)
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        """Method, path with version, and body, in order of arrival."""
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def address_string(self) -> str:
                return "unix"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

            def reply(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length) or "{}")
                engine.requests.append((self.command, self.path, body))
                status, value = answer(self.command, re.sub(r"^/v\d+(\.\d+)+", "", self.path), body)
                if not status:
                    self.close_connection = True
                    return
                content = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = reply

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self._server = Server(self.socket, Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        Path(self.socket).unlink()

    @property
    def writes(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [request for request in self.requests if request[0] != "GET"]
