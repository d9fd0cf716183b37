"""A real Podman service, the second kind of engine, with a busybox image, and its files in a folder of its own."""

from __future__ import annotations

import io
import os
import resource
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
from real.namespace import unavailable

IMAGE = "localhost/bb:local"
READY_TIMEOUT_S = 20
_CONFIG = """
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
netns = "none"
default_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]
"""


class PodmanEngine(KernelView):
    """Lives as long as the context; a Podman that may be installed keeps its own containers."""

    def __enter__(self) -> Self:
        busybox = shutil.which("busybox")
        if os.geteuid() != 0:
            unavailable("a Podman of our own needs root")
        if shutil.which("podman") is None or shutil.which("runc") is None or busybox is None:
            unavailable("a Podman of our own needs podman, runc and busybox (Debian: podman, runc, busybox-static)")
        self._folder = Path(tempfile.mkdtemp(prefix="orcha-podman-", dir="/tmp"))
        self.socket = str(self._folder / "s")
        config = self._folder / "containers.conf"
        files, processes = (min(resource.getrlimit(one)[1], 20_000) for one in (7, 6))
        config.write_text(_CONFIG.format(files=files, processes=processes))
        self.environment = {**os.environ, "HOME": str(self._folder), "CONTAINERS_CONF": str(config)}
        self._process = subprocess.Popen(
            [*self._podman(), "system", "service", "--time=0", f"unix://{self.socket}"],
            env=self.environment,
            cwd=self._folder,  # where conmon leaves a file when a container runs out of memory
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=self.socket), base_url="http://podman", timeout=60, trust_env=False
        )
        try:
            self._wait_until_ready()
            self._import(Path(str(busybox)))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._podman(), "rm", "--all", "--force", "--time=0"], env=self.environment,
                       capture_output=True, timeout=60, check=False)  # fmt: skip
        self._http.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=20)
        subprocess.run(["umount", f"{self._folder}/root/vfs"], capture_output=True, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON answer of the service; a refusal is an ``httpx.HTTPStatusError``."""
        response = self._http.request(method, path, json=body).raise_for_status()
        return response.json() if response.content else None

    def run(self, name: str, script: str = "while :; do :; done", **host: Any) -> str:
        """Id of a new running container with a shell script; ``host`` is its HostConfig."""
        body = {"Image": IMAGE, "Cmd": ["/bin/sh", "-c", script], "HostConfig": {"NetworkMode": "none", **host}}
        identity = self.call("POST", f"/v1.41/containers/create?name={name}", body)["Id"]
        self.call("POST", f"/v1.41/containers/{identity}/start")
        return identity

    def restart(self, name: str) -> None:
        self.call("POST", f"/v1.41/containers/{name}/restart?t=0")

    def stop(self, name: str) -> None:
        self.call("POST", f"/v1.41/containers/{name}/stop?t=0")

    def start(self, name: str) -> None:
        self.call("POST", f"/v1.41/containers/{name}/start")

    def signal(self, name: str, signal_name: str) -> None:
        self.call("POST", f"/v1.41/containers/{name}/kill?signal={signal_name}")

    def remove(self, name: str) -> None:
        self.call("DELETE", f"/v1.41/containers/{name}?force=1")

    def pid(self, name: str) -> int:
        return self.state(name)["Pid"]

    def state(self, name: str) -> dict[str, Any]:
        return self.call("GET", f"/v1.41/containers/{name}/json")["State"]

    def _podman(self) -> list[str]:
        folders = [f"--{name}={self._folder}/{name}" for name in ("root", "runroot", "tmpdir")]
        return ["podman", *folders, "--storage-driver=vfs"]

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < ends and self._process.poll() is None:
            try:
                if self._http.get("/_ping").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        unavailable(f"podman's service does not start here (exit {self._process.poll()})")

    def _import(self, busybox: Path) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(busybox.resolve(), "bin/busybox")
            link = tarfile.TarInfo("bin/sh")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        self._http.post(
            f"/v4.0.0/libpod/images/import?reference={IMAGE}",
            content=archive.getvalue(),
            headers={"content-type": "application/x-tar"},
        ).raise_for_status()
