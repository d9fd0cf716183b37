"""Two real Streamr network nodes on loopback, from the npm packages of the network, beside a chain node's interface."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from real.namespace import LoopbackNamespace, unavailable

VERSION = "103.3.1"
PACKAGES = ("@streamr/sdk", "@streamr/trackerless-network")
SCRIPT = Path(__file__).with_name("streamr_node.cjs")
PORTS = (40501, 40502, 17171)
URL = f"http://127.0.0.1:{PORTS[2]}"
STUBS = {
    "node-datachannel": "exports.initLogger = () => {}; exports.cleanup = () => {};"
    "exports.PeerConnection = class { constructor() { throw new Error('no WebRTC here') } };",
    "sqlite3": "exports.Database = class { constructor() { throw new Error('no database here') } };",
}
"""Native parts that would have to be compiled, and that two nodes on one machine do without."""


def network_packages(cache: Path) -> Path:
    """The folder below ``cache`` that holds the packages, which are installed when they are not there yet."""
    home = cache / f"streamr-{VERSION}"
    if (home / "complete").exists():
        return home
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            unavailable(f"a Streamr node needs {tool} (Debian: nodejs, npm)")
    home.mkdir(parents=True, exist_ok=True)
    (home / "package.json").write_text('{"private": true}\n')
    wanted = [f"{package}@{VERSION}" for package in PACKAGES]
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent", *wanted]
    done = subprocess.run(install, cwd=home, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        unavailable(f"the Streamr packages {VERSION} cannot be installed: {(done.stdout + done.stderr).strip()[-300:]}")
    for name, source in STUBS.items():
        folder = home / "node_modules" / name
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "package.json").write_text(json.dumps({"name": name, "version": "0.0.0", "main": "index.cjs"}))
        (folder / "index.cjs").write_text(source)
    (home / "complete").touch()
    return home


class StreamrNode:
    """A node that is connected to another one, and a chain node that knows its operator; both listen at ``URL``.

    ``blocks`` is what the operator's contract says at each block: ``sponsorships``, ``earnings`` and ``limit`` in wei.
    """

    def __init__(
        self,
        packages: Path,
        log: Path,
        space: LoopbackNamespace,
        *,
        operator: str,
        key: str,
        blocks: Mapping[int, Mapping[str, Any]],
    ) -> None:
        settings = {"packages": str(packages), "ports": PORTS, "operator": operator, "key": key, "blocks": blocks}
        self._argv = [shutil.which("node") or "node", SCRIPT, json.dumps(settings)]
        self._log = log
        self._space = space

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = self._space.popen(self._argv, {"HOME": str(self._log.parent), "PATH": "/usr/bin:/bin"}, log)
        try:
            self.node_id = self._ready()["nodeId"]
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        """End it, politely first; its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _ready(self) -> dict[str, Any]:
        ends = time.monotonic() + 60
        while time.monotonic() < ends and self._process.poll() is None:
            lines = self._log.read_text().splitlines()
            if ready := next((line for line in lines if line.startswith('{"nodeId"')), None):
                return json.loads(ready)
            time.sleep(0.1)
        unavailable(f"a Streamr node {VERSION} does not start here: {self._log.read_text()[-500:]}")
        raise AssertionError("not reached")
