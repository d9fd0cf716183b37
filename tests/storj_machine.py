"""A Storj node in a container of a stand-in engine: it reads its config.yaml when it starts, and at no other time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from loopback import Answer, Loopback, Request
from unix_engine import UnixEngine

from depin_orcha.actuators import Target
from depin_orcha.actuators._storj_size import KEY, size_bytes
from depin_orcha.adapters.storj import Options
from depin_orcha.outside import Outside

SAMPLES = Path(__file__).parent / "samples" / "storj"
ID = "5707" + "0" * 60
CONFIG = f"""# how much may be stored
# {KEY}: 1.00 TB
console.address: 127.0.0.1:14002
{KEY}: 6.00 TB   # since May
storage.path: /app/config/storage
"""


def dashboard(allocated: int, started_s: float, version: str = "1.162.3", **disk: int) -> dict[str, Any]:
    """A recorded answer to ``/api/sno/`` with another allocation and start."""
    document = json.loads((SAMPLES / version / "healthy" / "sno.json").read_text())
    space = document["diskSpace"]
    if "allocated" in space:
        space |= {"allocated": allocated, "available": max(0, allocated - space["used"]), **disk}
    else:
        space |= {"available": allocated, **disk}
    document["startedAt"] = datetime.fromtimestamp(started_s, UTC).isoformat().replace("+00:00", "Z")
    return document


class StorjMachine(Outside):
    """The node, its engine, and a disk of 10 TB of which it stores 4.31 TB; ``fate`` makes of what the file says what
    it starts with, None is a node that does not come back."""

    def __init__(self, folder: Path, version: str = "1.162.3") -> None:
        super().__init__()
        self.file = folder / "config.yaml"
        self.file.write_text(CONFIG)
        self.file.chmod(0o600)
        self.environment = ["PATH=/bin", "STORAGE="]
        self.args: list[str] = []
        self.labels: dict[str, str] = {}
        self.restarts = 0
        self.refuses: tuple[int, Any] | None = None
        self.fate: Callable[[int], int | None] = lambda said: said
        self.runs_with: int | None = 6 * 10**12
        self.free = 5 * 10**12
        self.running = True
        self.disk: dict[str, int] = {}
        self.version = version
        self.started_s = time.time() - 86_400 * 7
        self.engine = UnixEngine(folder / "s", self._answer)
        self.node = Loopback(self._dashboard)

    def __enter__(self) -> Self:
        self.engine.__enter__()
        self.node.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self.node.__exit__(*exc)
        self.engine.__exit__(*exc)

    def free_bytes(self, path: str) -> int:
        assert path == "/mnt/storj"
        return self.free

    def target(self, **options: Any) -> Target:
        fields: dict[str, Any] = {
            "container": "storj",
            "runtime": "docker",
            "disk": "/mnt/storj",
            "config_path": str(self.file),
        }
        made = Options(protocol="storj", apply=True, url=self.node.url, **(fields | options))
        return Target("storj_1", made, 8, self.engine.socket, self.engine.socket)

    def line(self) -> str:
        return next(line for line in self.file.read_text().splitlines() if line.startswith(KEY))

    def restart(self) -> None:
        said = size_bytes(self.line().partition(":")[2].partition("#")[0].strip())
        self.restarts += 1
        self.runs_with, self.started_s = self.fate(said), time.time()

    def _dashboard(self, request: Request) -> Answer:
        if self.runs_with is None:
            return Answer(503)
        document = dashboard(self.runs_with, self.started_s, self.version, **self.disk)
        return Answer(200 if request.path == "/api/sno/" else 404, json.dumps(document).encode(), "application/json")

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:  # noqa: ARG002
        if path == "/version":
            return 200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Components": [{"Name": "Engine"}]}
        if path in ("/containers/storj/json", f"/containers/{ID}/json"):
            config = {"Env": self.environment, "Labels": self.labels}
            return 200, {"Id": ID, "State": {"Running": self.running}, "Config": config, "Args": self.args}
        if (method, path) == ("POST", f"/containers/{ID}/restart?t=300"):
            if self.refuses is None:
                self.restart()
                return 204, b""
            return self.refuses
        return 404, {"message": f"No such container: {path}"}
