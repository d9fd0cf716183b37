"""Sample folders: what a node answered, when and with which options it is read, and what has to come of it.

A sample is a folder ``samples/<protocol>/<version of the node>/<case>`` with

- ``routes.toml``: what the server answers (see ``loopback``),
- ``meta.toml``: ``provenance`` of the bodies, ``now`` and ``since`` of the reading, ``options`` of the node, and
  ``questions``: the paths whose POSTs change nothing,
- ``expected.json``: the snapshot, or the failure, computed by hand.

In options ``{url}`` is the server, ``{folder}`` the sample, ``{python}`` the interpreter. One case of each protocol is
its ``baseline``, in which everything is well: what can break is broken in it. There a ``meta.toml`` may also hold

- ``fallback_ids``: external ids under which earnings are told where single ones cannot be had,
- ``errors``: answers with status 200 that are an error, a table each of ``body`` and the ``kind`` of the failure,
- ``may_lack``: what may be absent or null by the protocol's own rules, so that another reading is right: the place in
  a body (``key``, ``outer.key``, ``list[].key``), the path of a whole body, or both (``/api/sno/ diskSpace.key``).
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from loopback import Request, _names

from depin_orcha.adapters import NodeOptions, adapter_class
from depin_orcha.net import HttpClient
from depin_orcha.types import Snapshot, decimal_text

SAMPLES = Path(__file__).parent / "samples"


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

    @property
    def now_s(self) -> int:
        return int(self.meta["now"].timestamp())

    def options(self, url: str) -> dict[str, Any]:
        """The section of a node whose server is at ``url``; secrets stand in it."""
        given = {"protocol": self.protocol, **self.meta.get("options", {})}
        if "url" in adapter_class(self.protocol).Options.model_fields:
            given.setdefault("url", url)
        return _filled(given, {"{url}": url, "{folder}": str(self.folder), "{python}": sys.executable})

    def secrets(self) -> dict[str, str]:
        """Those options that may not stand in a configuration file."""
        fields: dict[str, Any] = dict(adapter_class(self.protocol).Options.model_fields)
        return {
            name: value
            for name, value in self.options("").items()
            if isinstance(extra := fields[name].json_schema_extra, dict) and "secret" in extra
        }

    def read(self, url: str, deadline_s: float = 10, transport: httpx.BaseTransport | None = None) -> Snapshot:
        """What the adapter makes of the server at ``url``, over loopback or another ``transport``."""
        adapter = adapter_class(self.protocol)
        options: NodeOptions = adapter.Options.model_validate(self.options(url) | {"deadline_s": deadline_s})
        since = self.meta.get("since")
        with HttpClient(deadline_s, transport=transport) as http:
            return adapter("node_1", options).collect(http, self.now_s, since and int(since.timestamp()))

    def opened(self, requests: Iterable[Request]) -> set[Path]:
        """The files that answered these requests."""
        routes = tomllib.loads((self.folder / "routes.toml").read_text())
        used = [next((routes[name] for name in _names(one) if name in routes), {}) for one in requests]
        named = {route[key] for route in used for key in ("file", "schema") if key in route}
        return {(self.folder / name).resolve() for name in named}


def cases() -> list[Case]:
    """Every sample."""
    return [Case(path.parent) for path in sorted(SAMPLES.glob("*/*/*/meta.toml"))]


def baselines() -> list[Case]:
    """The sample of each protocol in which everything is well."""
    return [case for case in cases() if case.meta.get("baseline")]


def shown(snapshot: Snapshot) -> dict[str, Any]:
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
            | ({"keeps_peak": True} if one.keeps_peak else {})
            | ({"estimated": True} if one.estimated else {})
            | ({"lost_at": _rfc3339(one.lost_s)} if one.lost_s is not None else {})
            for one in snapshot.earnings
        ],
        "voided": [
            {
                "observed_at": None if one.observed_s is None else _rfc3339(one.observed_s),
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
    } | _settled(snapshot)


def _settled(snapshot: Snapshot) -> dict[str, Any]:
    """Payouts, statements and outlooks, each where there are any."""
    payouts = [
        {
            "external_id": one.external_id,
            "amount": f"{decimal_text(one.amount)} {one.currency}",
            "received_at": None if one.received_s is None else _rfc3339(one.received_s),
            "transaction": one.transaction,
            "fee": None if one.fee is None else decimal_text(one.fee),
            "period": one.period,
        }
        for one in snapshot.payouts
    ]
    statements = [
        {"period": one.period, "external_id": one.external_id, "currency": one.currency}
        | {name: decimal_text(getattr(one, name)) for name in ("earned", "held", "returned", "payable", "paid")}
        for one in snapshot.statements
    ]
    outlooks = [
        {
            "period": one.period,
            "day": one.day,
            "source": str(one.source),
            "mean": f"{decimal_text(one.mean)} {one.currency}",
        }
        for one in snapshot.outlooks
    ]
    parts = {"payouts": payouts, "statements": statements, "outlooks": outlooks}
    return {name: rows for name, rows in parts.items() if rows}


def _filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(member, words) for key, member in value.items()}
    if isinstance(value, list):
        return [_filled(member, words) for member in value]
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace(word, text)
    return value


def _rfc3339(instant_s: int) -> str:
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
