"""Processes of this machine: those of a program's name, and what tells one from a later one with its number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

Text = Callable[[str], str | None]
"""The content of a file, None when there is no such file."""


@dataclass(frozen=True, slots=True)
class Running:
    """A process and its names: what ``ps`` shows, its program, and what it was called by, with and without folders."""

    pid: int
    parent: int
    names: frozenset[str]


Listing = Callable[[], Mapping[int, Running]]


def running() -> dict[int, Running]:
    """Every process that is not over, but for this one, by its number."""
    import psutil

    found: dict[int, Running] = {}
    for one in psutil.process_iter(["ppid", "name", "exe", "cmdline", "status"]):
        told = one.info
        if told["status"] == psutil.STATUS_ZOMBIE or one.pid == os.getpid():
            continue
        called = [told["name"], told["exe"], *(told["cmdline"] or ())[:1]]
        names = {name for path in called if path for name in (path, PurePath(path).name)}
        found[one.pid] = Running(one.pid, told["ppid"] or 0, frozenset(names))
    return found


def topmost(name: str, processes: Mapping[int, Running]) -> list[int]:
    """The processes of that name that stand below no other of that name."""
    own = {pid for pid, one in processes.items() if name in one.names}
    return sorted(pid for pid in own if own.isdisjoint(_above(pid, processes)))


def tree(root: int, processes: Mapping[int, Running]) -> list[int]:
    """A process and all that stand below it."""
    return [root, *sorted(pid for pid in processes if pid != root and root in _above(pid, processes))]


def started(text: Text, pid: int) -> int | None:
    """When the process was started, in the kernel's ticks since the machine was; None when there is none (any more)."""
    told = text(f"/proc/{pid}/stat")
    if not told:
        return None
    state, *fields = told.rpartition(")")[2].split()  # its name may hold blanks and brackets
    return None if state in "ZX" else int(fields[18])


def resident_bytes(text: Text, pids: Iterable[int]) -> int:
    """Memory of these processes that cannot be dropped, as their files can; what they share counts for each."""
    total = 0
    for pid in pids:
        for line in (text(f"/proc/{pid}/status") or "").splitlines():
            name, _, rest = line.partition(":")
            if name in ("RssAnon", "RssShmem"):
                total += int(rest.split()[0]) * 1024
    return total


def _above(pid: int, processes: Mapping[int, Running]) -> set[int]:
    above: set[int] = set()
    while pid in processes and processes[pid].parent not in above:
        pid = processes[pid].parent
        above.add(pid)
    return above
