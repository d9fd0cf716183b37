"""A price source with CoinGecko's interface on loopback, whose history can be made to fail."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

LATEST_USD = 0.25
PAST_USD = 0.2


class PriceServer(ThreadingHTTPServer):
    """Every token is worth 0.25 USD now and 0.2 USD at every full hour of the past; listens where it is made."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.history_works = True

    def __enter__(self) -> Self:
        self._serving = threading.Thread(target=self.serve_forever, daemon=True)
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._serving.join()
        self.server_close()

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if path == "/simple/price":
            quote = {"usd": LATEST_USD, "last_updated_at": int(time.time())}
            return 200, dict.fromkeys(query["ids"][0].split(","), quote)
        if path.endswith("/market_chart/range") and self.history_works:
            first_s, last_s = int(query["from"][0]), int(query["to"][0])
            hours = range(first_s // 3600 * 3600 + 3600, last_s + 1, 3600)
            return 200, {"prices": [[hour_s * 1000, PAST_USD] for hour_s in hours]}
        return 500, {"status": {"error_code": 500}}


class _Handler(BaseHTTPRequestHandler):
    server: PriceServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        status, value = self.server.answer(parts.path, parse_qs(parts.query))
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests to the tests."""
