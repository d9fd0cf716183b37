"""A machine whose nodes run in the containers of a stand-in engine: they fall, are stopped, and come back."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

from loopback import Answer, Loopback, Request
from tequilapi import Tequilapi
from unix_engine import UnixEngine


def instant(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Container:
    """One that runs since a week; ``on_start`` is what comes of a start: by default the node is back."""

    name: str
    status: str = "running"
    code: int = 0
    policy: str = "no"
    started_s: float = field(default_factory=lambda: time.time() - 7 * 86_400)
    ended_s: float = 0
    events: list[tuple[str, float]] = field(default_factory=list)
    answers: bool = True
    on_start: Callable[[Container], Any] = lambda _: None

    @property
    def id(self) -> str:
        return self.name.encode().hex().ljust(64, "0")

    def crash(self, ago_s: float = 1800, code: int = 1) -> None:
        """It ends by itself."""
        self.status, self.code, self.ended_s, self.answers = "exited", code, time.time() - ago_s, False
        self.events.append(("die", self.ended_s))

    def stop(self, ago_s: float = 1800, code: int = 1) -> None:
        """A person stops it; many programs end with 1 then."""
        self.events.append(("kill", time.time() - ago_s))
        self.crash(ago_s, code)
        self.events.append(("stop", self.ended_s))

    def hang(self) -> None:
        self.answers = False

    def start(self) -> None:
        self.status, self.started_s, self.answers = "running", time.time(), True
        self.on_start(self)

    def restart(self) -> None:
        self.stop(0)
        self.start()

    def described(self) -> dict[str, Any]:
        state = {"Status": self.status, "Running": self.status == "running", "ExitCode": self.code, "OOMKilled": False}
        state |= {"StartedAt": instant(self.started_s), "FinishedAt": instant(self.ended_s)}
        policy = {"Name": self.policy, "MaximumRetryCount": 0}
        return {"Id": self.id, "Name": f"/{self.name}", "State": state, "HostConfig": {"RestartPolicy": policy}}


class Machine:
    """Serves Mysterium nodes and their engine inside its context."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.containers = {name: Container(name) for name in names}
        self.engine = UnixEngine(folder / "s", self._answer)
        self.api: Any = {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Components": [{"Name": "Engine"}]}
        self.refuses: tuple[int, Any] | None = None
        self.internet = Loopback(lambda _: Answer(404))
        self._node = Tequilapi()
        self._nodes = {name: Loopback(self._in_front(one)) for name, one in self.containers.items()}

    def __enter__(self) -> Self:
        for one in (self.engine, self.internet, *self._nodes.values()):
            one.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self.engine, self.internet, *self._nodes.values()):
            one.__exit__()

    def url(self, name: str) -> str:
        return self._nodes[name].url

    @property
    def writes(self) -> list[str]:
        """What was asked to be changed, in order: the verb and the container of each call."""
        return [f"{path.split('/')[-1]} {_name(path)}" for _, path, _ in self.engine.writes]

    def _in_front(self, container: Container) -> Callable[[Request], Answer]:
        return lambda request: self._node._answer(request) if container.answers else Answer(503)

    def _answer(self, method: str, path: str, _: dict[str, Any]) -> tuple[int, Any]:
        if path == "/version":
            return 200, self.api
        if path.startswith("/events?"):
            lines = [self._event(one, *done) for one in self.containers.values() if one.id in unquote(path)
                     for done in one.events]  # fmt: skip
            return 200, b"\n".join(lines)
        found = next((one for one in self.containers.values() if path.split("/")[2] in (one.name, one.id)), None)
        if found is None:
            return 404, {"message": f"No such container: {path.split('/')[2]}"}
        if method == "GET":
            return 200, found.described()
        if self.refuses is not None:
            return self.refuses
        found.restart() if "/restart?t=" in path else found.start()
        return 204, b""

    def _event(self, one: Container, action: str, at_s: float) -> bytes:
        signal = '"signal": "15"' if action == "kill" else ""
        actor = f'{{"ID": "{one.id}", "Attributes": {{{signal}}}}}'
        return f'{{"Action": "{action}", "Actor": {actor}, "timeNano": {int(at_s * 1e9)}}}'.encode()


def _name(path: str) -> str:
    return bytes.fromhex(path.split("/")[-2]).rstrip(b"\0").decode()
