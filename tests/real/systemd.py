"""A real systemd as process 1 of a small machine of its own, over a throw-away copy of this one's files."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from real.namespace import unavailable

READY_TIMEOUT_S = 20
_GROUPS = Path("/sys/fs/cgroup")
_MACHINE = """
set -e
mount -t tmpfs tmpfs {folder}
cd {folder}
mkdir up work root
mount -t overlay overlay -o lowerdir=/,upperdir={folder}/up,workdir={folder}/work root
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
{groups}
mount -t tmpfs tmpfs root/run
mount -t tmpfs tmpfs root/tmp
mount --rbind /dev root/dev
{shown}
rm -rf root/etc/systemd/system
mkdir -p root/etc/systemd/system root/run/systemd/system
printf '[Unit]\\nDefaultDependencies=no\\n' >root/etc/systemd/system/test.target
exec chroot root env -i PATH="$PATH" container=test /lib/systemd/systemd --unit=test.target --log-target=null
"""
_VERSION_1 = """mount -t tmpfs tmpfs root/sys/fs/cgroup
mkdir root/sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup root/sys/fs/cgroup/systemd
for name in cpu cpuacct memory; do
  mkdir root/sys/fs/cgroup/$name
  mount -t cgroup -o $name cgroup root/sys/fs/cgroup/$name
  mount -o remount,bind,{access} root/sys/fs/cgroup/$name
done"""
_BOTH = """
mkdir root/sys/fs/cgroup/unified
mount -t cgroup2 cgroup2 root/sys/fs/cgroup/unified"""
_SHOWN = """
mkdir -p root{path}
mount --bind {path} root{path}"""
_VERSION_2 = "mount -t cgroup2 cgroup2 root/sys/fs/cgroup"


class Systemd:
    """Lives as long as the context, in namespaces and control groups of its own; nothing of this machine's is changed.

    ``bin`` is a folder with a ``systemctl`` that speaks to it. ``is_heard``: does the kernel hear of limits? ``shows``:
    folders that are the same inside. ``is_tracked``: has it groups of version 2 too, where the kernel here has both?
    """

    def __init__(self, *, is_heard: bool = True, shows: Iterable[Path] = (), is_tracked: bool = False) -> None:
        self._is_heard = is_heard
        self._is_tracked = is_tracked
        self._shows = tuple(shows)

    def __enter__(self) -> Self:
        if os.geteuid() != 0:
            unavailable("a systemd of our own needs root")
        for tool in ("unshare", "nsenter", "systemctl"):
            if shutil.which(tool) is None:
                unavailable(f"a systemd of our own needs {tool} (Debian: util-linux, systemd)")
        self._folder = Path(tempfile.mkdtemp(prefix="orcha-systemd-", dir="/tmp"))
        (self._folder / "machine").mkdir()
        self.bin = self._folder / "bin"
        self.bin.mkdir()
        is_2 = (_GROUPS / "cgroup.controllers").exists()
        # systemd shows itself every hierarchy there is
        hierarchies = [_GROUPS] if is_2 else [one for one in _GROUPS.iterdir() if (one / "cgroup.procs").exists()]
        self._groups = [hierarchy / self._folder.name for hierarchy in hierarchies]
        groups = _VERSION_2 if is_2 else _VERSION_1.format(access="rw" if self._is_heard else "ro")
        if self._is_tracked and not is_2:
            groups += _BOTH
        shown = "".join(_SHOWN.format(path=path) for path in self._shows)
        script = _MACHINE.format(folder=self._folder / "machine", groups=groups, shown=shown)
        try:
            for group in self._groups:
                group.mkdir()
                _inherit(group)
            join = "".join(f"echo $$ >{group}/cgroup.procs; " for group in self._groups)
            join += "exec unshare -mpuinCf --kill-child --propagation private "
            self._process = subprocess.Popen(
                ["sh", "-c", f'{join} sh -c "$0"', script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.wait()
        ends = time.monotonic() + 10
        while (left := [group for group in self._groups if group.exists()]) and time.monotonic() < ends:
            for group in left:
                for folder in sorted(group.rglob("*/"), key=lambda one: -len(one.parts)):
                    _remove(folder)
                _remove(group)
            time.sleep(0.05)
        shutil.rmtree(self._folder, ignore_errors=True)

    def inside(self, *argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """A command that ran as one of its own."""
        words = ["nsenter", "-t", str(self._pid), "-a", "-r", "-W/", *argv]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **options)

    def __call__(self, *words: str) -> str:
        """What ``systemctl`` prints, whatever its exit code."""
        done = subprocess.run([self.bin / "systemctl", *words], capture_output=True, text=True, timeout=60, check=False)
        return done.stdout + done.stderr

    def add(self, unit: str, script: str, *lines: str) -> None:
        """A service that runs a shell script, started."""
        text = "\n".join(("[Service]", f"ExecStart=/bin/sh -c {script!r}", "TimeoutStopSec=2", *lines, ""))
        enter = ["nsenter", "-t", str(self._pid), "-a", "-r", "sh", "-c"]
        subprocess.run([*enter, f"cat >/run/systemd/system/{unit}.service"], input=text, text=True, check=True)
        self("daemon-reload")
        self("start", unit)

    def until(self, unit: str, state: str) -> None:
        """Wait for an active state."""
        ends = time.monotonic() + 15
        while (now := self("show", "-P", "ActiveState", unit).strip()) != state:
            assert time.monotonic() < ends, f"{unit} is {now}, not {state}"
            time.sleep(0.1)

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < ends and self._process.poll() is None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if children:
                self._pid = int(children[0])
                (self.bin / "systemctl").write_text(
                    f'#!/bin/sh\nexec nsenter -t {self._pid} -a -r /usr/bin/systemctl "$@"\n'
                )
                (self.bin / "systemctl").chmod(0o755)
                if self("is-system-running").strip() in ("running", "degraded"):
                    return
            time.sleep(0.1)
        self._process.send_signal(signal.SIGKILL)
        said = self._process.communicate()[0].decode(errors="replace")
        unavailable(f"systemd does not start here: {said[-500:]}")


def _inherit(group: Path) -> None:
    """What a process needs before it may join."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists():
            (group / name).write_text((group.parent / name).read_text())


def _remove(folder: Path) -> None:
    with suppress(OSError):  # its last process may still be dying
        folder.rmdir()
