"""Every adapter against every sample: what a real server on loopback answers has to read as the sample says.

A sample is a folder ``samples/<protocol>/<version of the node>/<case>`` with ``routes.toml`` (see ``loopback``),
``meta.toml`` (where the bodies come from, when they are read, the options of the node) and ``expected.json``.
There is no code for any one adapter here.
"""

from __future__ import annotations

import json
import socket
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, broken, sample

from depin_orcha.adapters import adapter_class
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.net import HttpClient
from depin_orcha.types import Snapshot, decimal_text

SAMPLES = Path(__file__).parents[1] / "samples"
CASES = sorted(path.parent for path in SAMPLES.glob("*/*/*/meta.toml"))
HTML = Answer(200, b"<!DOCTYPE html><title>node</title>", "text/html; charset=utf-8")


@dataclass(frozen=True)
class Case:
    """One sample folder."""

    folder: Path

    @property
    def protocol(self) -> str:
        return self.folder.relative_to(SAMPLES).parts[0]

    @property
    def meta(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "meta.toml").read_text())

    @property
    def expected(self) -> dict[str, Any]:
        return json.loads((self.folder / "expected.json").read_text())

    def read(self, url: str, deadline_s: float = 10) -> Snapshot:
        """What the adapter makes of the server at ``url``; options may name it as ``{url}``."""
        meta = self.meta
        adapter = adapter_class(self.protocol)
        given = {name: value.replace("{url}", url) for name, value in meta.get("options", {}).items()}
        options = adapter.Options.model_validate({"protocol": self.protocol, "url": url, **given})
        with HttpClient(deadline_s) as http:
            return adapter("node_1", options).collect(http, _seconds(meta["now"]), _seconds(meta.get("since")))


def _seconds(instant: datetime | None) -> Any:
    return None if instant is None else int(instant.timestamp())


def _shown(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as ``expected.json`` says it: money as text, times in RFC 3339, defaults left out."""
    return {
        "earnings": [
            {
                "observed_at": _rfc3339(one.observed_s),
                "amount": decimal_text(one.amount),
                "currency": one.currency,
                "kind": str(one.kind),
                "period": one.period,
                "external_id": one.external_id,
            }
            | ({"share": decimal_text(one.share)} if one.share != 1 else {})
            | ({"withheld": decimal_text(one.withheld)} if one.withheld else {})
            for one in snapshot.earnings
        ],
        "voided": [
            {
                "observed_at": _rfc3339(one.observed_s),
                "currency": one.currency,
                "kind": str(one.kind),
                "period": one.period,
                "external_id": one.external_id,
            }
            for one in snapshot.voided
        ],
        "standings": {f"{one.standing} {one.currency}": decimal_text(one.amount) for one in snapshot.standings},
        "usage": {str(key): {"allocated": one.allocated, "used": one.used} for key, one in snapshot.usage.items()},
        "limits": {
            str(key): {"floor": one.floor, "ceiling": one.ceiling, "step": one.step}
            for key, one in snapshot.limits.items()
        },
        "health": {
            "status": str(snapshot.health.status),
            "reason": snapshot.health.reason,
            "details": json.loads(json.dumps(snapshot.health.details, allow_nan=False)),
        },
        "complete_since": None if snapshot.complete_since_s is None else _rfc3339(snapshot.complete_since_s),
        "warnings": list(snapshot.warnings),
    }


def _rfc3339(instant_s: int) -> str:
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: str(folder.relative_to(SAMPLES)))
def test_sample_reads_as_expected(folder: Path) -> None:
    case = Case(folder)
    with Loopback(sample(folder)) as server:
        try:
            shown = _shown(case.read(server.url))
        except AdapterError as error:
            shown = {"failure": {"kind": str(error.kind), "message": error.message}}
    assert json.loads(json.dumps(shown).replace(server.url, "{url}")) == case.expected
    assert {request.method for request in server.requests} == {"GET"}, "an adapter only reads"


BASELINES = [Case(folder) for folder in CASES if Case(folder).meta.get("baseline")]
"""One sample of each protocol in which everything is well; what is broken in it is broken here."""

FAULTS: list[tuple[str, Answer | float | str, FailureKind]] = [
    ("401", Answer(401, b"Missing application key", "text/plain"), FailureKind.AUTH),
    ("403", Answer(403, b'{"error": "forbidden"}', "application/json"), FailureKind.AUTH),
    ("404", Answer(404), FailureKind.SHAPE),
    ("429", Answer(429, b"{}", "application/json"), FailureKind.TRANSIENT),
    ("500", Answer(500, b'{"error": "database is locked"}', "application/json"), FailureKind.TRANSIENT),
    ("redirect", Answer(301, headers={"Location": "http://127.0.0.1:9/"}), FailureKind.SHAPE),
    ("web page", HTML, FailureKind.SHAPE),
    ("null", Answer(200, b"null", "application/json"), FailureKind.SHAPE),
    ("other JSON", Answer(200, b'{"hello": [1, 2, 3]}', "application/json"), FailureKind.SHAPE),
    ("truncated", "half", FailureKind.SHAPE),
    ("hang", 1.0, FailureKind.TRANSIENT),
]


@pytest.mark.parametrize("case", BASELINES, ids=lambda case: case.protocol)
@pytest.mark.parametrize(("name", "fault", "kind"), FAULTS, ids=[name for name, _, _ in FAULTS])
def test_broken_node_is_a_failure(case: Case, name: str, fault: Answer | float | str, kind: FailureKind) -> None:
    with Loopback(broken(sample(case.folder), fault)) as server, pytest.raises(AdapterError) as failure:
        case.read(server.url, deadline_s=0.3 if name == "hang" else 10)
    assert failure.value.kind == kind
    assert failure.value.message


@pytest.mark.parametrize("case", BASELINES, ids=lambda case: case.protocol)
def test_node_that_is_not_there_is_a_transient_failure(case: Case) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(AdapterError) as failure:
        case.read(url)
    assert failure.value.kind == FailureKind.TRANSIENT


def _asked(case: Case) -> list[str]:
    with Loopback(sample(case.folder)) as server:
        case.read(server.url)
    return sorted({request.path for request in server.requests})


@pytest.mark.parametrize(
    ("case", "path"),
    [pytest.param(case, path, id=f"{case.protocol}{path}") for case in BASELINES for path in _asked(case)],
)
def test_one_broken_endpoint_never_changes_an_amount(case: Case, path: str) -> None:
    """Either nothing is delivered, or what is delivered is what the whole node would have said."""
    whole = {_key(one): one for one in case.expected["earnings"]}
    faults = [
        fault for name, fault, _ in FAULTS if name in ("404", "500", "web page", "null", "other JSON", "truncated")
    ]
    for fault in faults:
        with Loopback(broken(sample(case.folder), fault, only=path)) as server:
            try:
                earnings = _shown(case.read(server.url, deadline_s=2))["earnings"]
            except AdapterError:
                continue
        others = case.meta.get("fallback_ids", [])
        assert all(
            one == whole[_key(one)] for one in earnings if one["amount"] != "0" and one["external_id"] not in others
        )


def _key(sample: dict[str, Any]) -> tuple[str, ...]:
    return tuple(sample[name] for name in ("observed_at", "currency", "kind", "period", "external_id"))
