"""A stand-in for a Mysterium node's TequilAPI on loopback, with what is peculiar to the real one.

Its configuration has three layers (defaults, what was set by request, flags of the command line), of which the last
that says something wins. A change is told to the shaper before it is stored, and the shaper then reads the stored
configuration. It listens for one literal key: ``shaper.enabled`` in kernel mode, ``shaper`` in userspace mode.
"""

from __future__ import annotations

import copy
import json
from typing import Any, Self

from loopback import Answer, Loopback, Request

TOKEN = "HEADER.PAYLOAD.SIGNATURE"
IDENTITY = "0x0000000000000000000000000000000000000001"
DEFAULTS = {"shaper": {"enabled": False, "bandwidth": 6250}, "active-services": "scraping,dvpn"}


class Tequilapi:
    """Serves inside its context; ``in_force`` is what the shaper really does: its limit in KBytes/s, or None.

    ``earned_wei`` is the lifetime total of its only identity.
    """

    def __init__(self, *, userspace: bool = False, version: str = "1.38.3", password: str | None = None) -> None:
        self.version = version
        self.password = password
        self.defaults: dict[str, Any] = copy.deepcopy(DEFAULTS) | {"userspace": userspace}
        self.user: dict[str, Any] = {}
        self.flags: dict[str, Any] = {}
        self.services = {"dvpn": "Running", "scraping": "Running"}
        self.earned_wei = 0
        self.can_save = True
        self.leaves_after: int | None = None
        """After so many changes it answers no more."""
        self.in_force: int | None = None
        self.server = Loopback(self._answer)
        self.url = self.server.url

    def __enter__(self) -> Self:
        self.server.__enter__()
        self.apply_limits()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.__exit__()

    @property
    def config(self) -> dict[str, Any]:
        """All layers together."""
        merged: dict[str, Any] = copy.deepcopy(self.defaults)
        for layer in (self.user, self.flags):
            for key, value in layer.items():
                merged[key] = merged.get(key, {}) | value if isinstance(value, dict) else value
        return merged

    @property
    def writes(self) -> list[Any]:
        """What was asked to be changed, in order."""
        return [json.loads(one.body)["data"] for one in self.server.requests if one.path == "/config/user"]

    def shape(self, kbytes_per_s: int | None) -> None:
        """Set the shaper as its owner would, by hand and with a restart."""
        self.user["shaper"] = {"enabled": kbytes_per_s is not None, "bandwidth": kbytes_per_s or 6250}
        self.apply_limits()

    def apply_limits(self) -> None:
        shaper = self.config["shaper"]
        self.in_force = shaper["bandwidth"] if shaper["enabled"] else None

    def _answer(self, request: Request) -> Answer:
        has_left = self.leaves_after is not None and len(self.writes) > self.leaves_after
        is_open = not self.password or request.path in ("/auth/authenticate", "/healthcheck")
        if has_left or not (is_open or request.headers.get("authorization") == _bearer()):
            return Answer(503 if has_left else 401)
        if (request.method, request.path) == ("POST", "/auth/authenticate"):
            good = json.loads(request.body) == {"username": "myst", "password": self.password}
            return (
                _json({"token": TOKEN, "expires_at": "2026-11-24T19:00:00Z"}) if good else _error(401, "unauthorized")
            )
        if (request.method, request.path) == ("GET", "/healthcheck"):
            return _json({"uptime": "1h2m3.5s", "process": 1, "version": self.version, "build_info": {}})
        if (request.method, request.path) == ("GET", "/config"):
            return _json({"data": self.config})
        if (request.method, request.path) == ("POST", "/config/user"):
            return self._set(request.body)
        return self._earnings(request.path)

    def _earnings(self, path: str) -> Answer:
        """What tells of earnings; the network's own view of the node is not to be had."""
        if path == "/identities":
            return _json({"identities": [{"id": IDENTITY}]})
        if path == f"/identities/{IDENTITY}":
            total, nothing = ({"wei": str(wei), "ether": "", "human": ""} for wei in (self.earned_wei, 0))
            earned = {"earnings_total_tokens": total, "earnings_tokens": nothing, "balance_tokens": nothing}
            return _json({"id": IDENTITY, "registration_status": "Registered"} | earned)
        if path == "/services":
            return _json([{"type": name, "status": state} for name, state in self.services.items()])
        return _error(404, "not_found")

    def _set(self, body: bytes) -> Answer:
        try:
            asked = json.loads(body)
            (changes,) = (asked[key] for key in asked if key == "data")
            if len(asked) != 1 or not isinstance(changes, dict):
                raise ValueError("unknown key")
        except (TypeError, ValueError):
            return _error(400, "parse_failed")
        listens_for = "shaper" if self.config["userspace"] else "shaper.enabled"
        for key, value in changes.items():
            if value is not None and key == listens_for:
                self.apply_limits()
            self._store(key, value)
        return _json({"data": self.user}) if self.can_save else _error(500, "err_config_save")

    def _store(self, key: str, value: Any) -> None:
        section, _, name = key.partition(".")
        target = self.user.setdefault(section, {}) if name else self.user
        if value is None:
            target.pop(name or section, None)
        else:
            target[name or section] = value


def _bearer() -> str:
    return f"Bearer {TOKEN}"


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), "application/json")


def _error(status: int, code: str) -> Answer:
    body = {"error": {"code": code, "message": code}, "path": "/", "status": status}
    return Answer(status, json.dumps(body).encode(), "application/json")
