"""The adapter against a server that answers like the network, on loopback."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from depin_orcha_presearch import Adapter, Options

from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.net import HttpClient
from depin_orcha.types import HOUR_S, HealthStatus, Snapshot

SAMPLES = Path(__file__).parent / "samples"
KEY = "canary/key"
FIRST, SECOND = (f"PUBKEYEXAMPLE000000000000000000000000000000{number}" for number in (1, 2))
Answer = Callable[[dict[str, str]], tuple[int, bytes]]


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


NOW_S = at("2026-11-22T18:12:00")


def sample(name: str) -> Answer:
    return lambda _: (200, (SAMPLES / name).read_bytes())


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The url of a server, and the query of everything that was asked with the right path."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            assert parts.path == "/api/nodes/status/canary%2Fkey"
            asked.append(dict(parse_qsl(parts.query)))
            status, body = answer(asked[-1])
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def read(url: str, now_s: int = NOW_S, since_s: int | None = None, **options: str) -> Snapshot:
    given = Options.model_validate({"protocol": "presearch", "url": url, "api_key": KEY, **options})
    with HttpClient(5) as http:
        return Adapter("node_1", given).collect(http, now_s, since_s)


def test_first_reading_brings_the_last_day() -> None:
    with serving(sample("status_stats_true.json")) as (url, asked):
        snapshot = read(url)
    assert asked == [{"stats": "true", "start_date": "2026-11-21 18:00", "end_date": "2026-11-22 18:00"}]
    window = [at("2026-11-21T18:00:00"), at("2026-11-22T18:00:00")]
    assert [(one.observed_s, one.amount, one.external_id) for one in snapshot.earnings] == [
        (window[0], Decimal(0), FIRST),
        (window[1], Decimal("1.8421"), FIRST),
        (window[0], Decimal(0), SECOND),
        (window[1], Decimal("0.2204"), SECOND),
    ]
    assert {one.period for one in snapshot.earnings} == {"2026-11-21T18:00:00Z/2026-11-22T18:00:00Z"}
    assert snapshot.health.status is HealthStatus.DEGRADED
    assert snapshot.health.reason == f"{SECOND} is not connected"
    assert snapshot.health.details["nodes"][0]["avg_reliability_score"] == 95
    assert "203.0.113.10" not in json.dumps(snapshot.health.details)


def test_reading_within_the_hour_asks_for_health_alone() -> None:
    with serving(sample("status_stats_false.json")) as (url, asked):
        snapshot = read(url, since_s=NOW_S - 60, public_key=FIRST)
    assert asked == [{"public_keys": FIRST}]
    assert snapshot.earnings == ()
    assert (snapshot.health.status, snapshot.health.reason) == (HealthStatus.UP, "connected nodes: 1")


@pytest.mark.parametrize("nodes", [{}, []])
def test_account_without_nodes(nodes: Any) -> None:
    body = json.loads((SAMPLES / "status_no_nodes.json").read_text()) | {"nodes": nodes}
    with serving(lambda _: (200, json.dumps(body).encode())) as (url, _):
        snapshot = read(url)
    assert (snapshot.earnings, snapshot.health.reason) == ((), "the network knows no such node")


def test_unknown_earnings_are_no_zero() -> None:
    body = (SAMPLES / "status_stats_true.json").read_bytes().replace(b"0.2204", b"null")
    with serving(lambda _: (200, body)) as (url, _):
        snapshot = read(url)
    assert {one.external_id for one in snapshot.earnings} == {FIRST}
    assert [SECOND in warning for warning in snapshot.warnings] == [True]


WHOLE = json.loads((SAMPLES / "status_stats_true.json").read_text())


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", FailureKind.AUTH),
        (429, (SAMPLES / "status_429.json").read_bytes(), FailureKind.TRANSIENT),
        (200, (SAMPLES / "status_429.json").read_bytes(), FailureKind.TRANSIENT),
        (200, b'{"success": false, "error": "Invalid API key"}', FailureKind.AUTH),
        (200, b'{"success": false, "error": null}', FailureKind.SHAPE),
        (200, json.dumps(WHOLE | {"start_at": "2026-11-21T00:00:00Z"}).encode(), FailureKind.SHAPE),
        (200, json.dumps(WHOLE | {"nodes": None}).encode(), FailureKind.SHAPE),
        (200, (SAMPLES / "status_stats_false.json").read_bytes(), FailureKind.SHAPE),
        (200, b'{"success": true}', FailureKind.SHAPE),
        (200, b"<html>", FailureKind.SHAPE),
    ],
)
def test_failure(status: int, body: bytes, kind: FailureKind) -> None:
    with serving(lambda _: (status, body)) as (url, asked), pytest.raises(AdapterError) as found:
        read(url)
    assert (found.value.kind, len(asked)) == (kind, 1)
    assert "canary" not in found.value.message + found.value.hint
    assert found.value.hint


def test_no_key() -> None:
    with pytest.raises(AdapterError) as found, HttpClient() as http:
        Adapter("node_1", Options(protocol="presearch")).collect(http, NOW_S, None)
    assert found.value.kind == FailureKind.CONFIG


def told(query: dict[str, str]) -> tuple[int, bytes]:
    """A network in which a node earns a millionth of the epoch's second in each second."""
    status = {"connected": True, "blocked": False, "minutes_in_current_state": None}
    node: dict[str, Any] = {"meta": {"version": None}, "status": status}
    body = {"success": True, "nodes": {FIRST: node}}
    if "start_date" in query:
        start, end = (query[key].replace(" ", "T") + ":00" for key in ("start_date", "end_date"))
        body |= {"start_at": start + "Z", "end_at": end + "Z"}
        node["period"] = {"total_pre_earned": (at(end) - at(start)) / 1e6}
    return 200, json.dumps(body).encode()


@pytest.mark.parametrize("seed", range(5))
def test_windows_touch_whatever_the_rhythm(seed: int) -> None:
    """Two days of readings at odd times, some lost: every hour is told once, and it is asked for once an hour."""
    chance = random.Random(seed)
    now_s, since_s = NOW_S, None
    windows: list[tuple[int, int]] = []
    with serving(told) as (url, asked):
        while now_s < NOW_S + 2 * 24 * HOUR_S:
            if chance.random() < 0.8:
                samples = read(url, now_s, since_s).earnings
                windows += [(samples[0].observed_s, samples[1].observed_s)] if samples else []
                assert not samples or samples[1].amount == Decimal(windows[-1][1] - windows[-1][0]) / 10**6
                since_s = now_s
            now_s += chance.choice([60, 900, 900, 1800, 5 * HOUR_S])
    assert all(before[1] == after[0] for before, after in pairwise(windows))
    assert len(windows) == sum("stats" in query for query in asked) <= 49
    assert windows[-1][1] > NOW_S + 40 * HOUR_S
