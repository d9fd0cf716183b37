"""A network namespace that has only loopback: what is started in it cannot reach anything outside this machine."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Self, TypeVar

import pytest

T = TypeVar("T")


def unavailable(reason: str) -> None:
    """Skip by name, or fail where the real components are required (``.ci/run`` sets the variable)."""
    if os.environ.get("DEPIN_ORCHA_REAL_REQUIRED"):
        pytest.fail(reason)
    pytest.skip(reason)


class LoopbackNamespace:
    """Lives as long as the context; ``popen`` and ``run`` start programs inside, ``call`` runs a function inside."""

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            unavailable("making a network namespace needs root")
        for tool in ("unshare", "nsenter", "ip"):
            if shutil.which(tool) is None:
                unavailable(f"making a network namespace needs {tool} (Debian: util-linux, iproute2)")
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "up\n":
            unavailable(f"no network namespace: {self._holder.communicate()[1].strip()}")
        self._path = f"/proc/{self._holder.pid}/ns/net"
        self._inside = ThreadPoolExecutor(max_workers=1, initializer=_join, initargs=(self._path,))
        return self

    def __exit__(self, *_: object) -> None:
        self._inside.shutdown()
        self._holder.kill()
        self._holder.communicate()

    def call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """The result of the function, run in a thread of this process that is inside; sockets it makes stay inside."""
        return self._inside.submit(function, *args, **kwargs).result()

    def popen(self, argv: Sequence[str | Path], env: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        """A program started inside; its pid is the program's own."""
        return subprocess.Popen(
            ["nsenter", f"--net={self._path}", *argv],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def run(self, argv: Sequence[str | Path], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """A program run inside to its end, its streams captured."""
        return subprocess.run(
            ["nsenter", f"--net={self._path}", *argv],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def _join(path: str) -> None:
    """Move the calling thread, and only it, into a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(path).open() as handle:
        if libc.setns(handle.fileno(), 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {path}")
