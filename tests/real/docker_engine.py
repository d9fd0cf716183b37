"""A real Docker Engine, started by hand in a network namespace of its own, with a busybox image in it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import httpx
from real.kernel import KernelView
from real.namespace import LoopbackNamespace, unavailable

IMAGE = "bb:local"
BUSY = ("/bin/sh", "-c", "while :; do :; done")
READY_TIMEOUT_S = 20


class DockerEngine(KernelView):
    """Lives as long as the context; touches nothing of a Docker that may be installed, nor of the host's network.

    ``bridge``: the address of its bridge, which containers may be on; None has no network at all.
    """

    def __init__(self, bridge: str | None = None) -> None:
        self._bridge = bridge

    def __enter__(self) -> Self:
        busybox = shutil.which("busybox")
        if os.geteuid() != 0:
            unavailable("a Docker Engine of our own needs root")
        if shutil.which("dockerd") is None or busybox is None:
            unavailable("a Docker Engine of our own needs dockerd and busybox (Debian: docker.io, busybox-static)")
        self.space = LoopbackNamespace().__enter__()
        self._folder = Path(
            tempfile.mkdtemp(prefix="orcha-docker-", dir="/tmp")
        )  # short: a socket's path has 107 bytes
        self.socket = str(self._folder / "docker.sock")
        self._log = self._folder / "dockerd.log"
        with self._log.open("wb") as log:
            self._process = self.space.popen(self._argv(), {**os.environ, "HOME": str(self._folder)}, log)
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=self.socket), base_url="http://docker", timeout=60, trust_env=False
        )
        try:
            self._wait_until_ready()
            self._import(Path(str(busybox)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._process.poll() is None and Path(self.socket).exists():
                for found in self.call("GET", "/containers/json?all=1"):
                    self.remove(found["Id"])
        finally:
            self._http.close()
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self.space.__exit__()
            shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer of the engine; a refusal is an ``httpx.HTTPStatusError``."""
        response = self._http.request(method, path, json=body).raise_for_status()
        return response.json() if response.content else None

    def run(self, name: str, command: tuple[str, ...] = BUSY, **host: Any) -> str:
        """Id of a new running container; ``host`` is its HostConfig."""
        body = {"Image": IMAGE, "Cmd": list(command), "HostConfig": {"NetworkMode": "none", **host}}
        identity = self.call("POST", f"/containers/create?name={name}", body)["Id"]
        self.call("POST", f"/containers/{identity}/start")
        return identity

    def restart(self, name: str) -> None:
        self.call("POST", f"/containers/{name}/restart?t=0")

    def stop(self, name: str) -> None:
        self.call("POST", f"/containers/{name}/stop?t=0")

    def remove(self, name: str) -> None:
        self.call("DELETE", f"/containers/{name}?force=1")

    def host_config(self, name: str) -> dict[str, Any]:
        return self.call("GET", f"/containers/{name}/json")["HostConfig"]

    def pid(self, name: str) -> int:
        return self.call("GET", f"/containers/{name}/json")["State"]["Pid"]

    def _argv(self) -> list[str]:
        folder = self._folder
        return [
            "dockerd",
            f"--host=unix://{self.socket}",
            f"--data-root={folder}/root",
            f"--exec-root={folder}/exec",
            f"--pidfile={folder}/docker.pid",
            "--storage-driver=vfs",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            "--userland-proxy=false",
            f"--bip={self._bridge}/24" if self._bridge else "--bridge=none",
        ]

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < ends and self._process.poll() is None:
            try:
                if self._http.get("/_ping").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        unavailable(f"dockerd does not start here: {self._log.read_text(errors='replace')[-500:]}")

    def _import(self, busybox: Path) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(busybox.resolve(), "bin/busybox")
            link = tarfile.TarInfo("bin/sh")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        repository, _, tag = IMAGE.partition(":")
        self._http.post(
            f"/images/create?fromSrc=-&repo={repository}&tag={tag}",
            content=archive.getvalue(),
            headers={"content-type": "application/x-tar"},
        ).raise_for_status()
