"""What systemd is asked, where control groups are its own: a scope that adopts running processes, and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from depin_orcha.types import RunCommand

_MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")


def scope_of(node: str, pid: int) -> str:
    """The name of its scope; an old one may have children left, so each process has its own."""
    return f"depin_orcha-{node}-{pid}.scope"


def start(scope: str, pids: Sequence[int], key: str, value: Any) -> RunCommand:
    """A scope of these processes with that limit, until they end; only what is delegated can be given more later."""
    amounts = {
        "cpu_cores": ("CPUQuotaPerSecUSec", 1_000_000),
        "cpu_weight": ("CPUWeight", 1),
        "memory_bytes": ("MemoryMax", 1),
    }
    name, scale = amounts[key]
    properties = ("3", "PIDs", "au", *_listed(pids), "Delegate", "b", "true", name, "t", str(round(value * scale)))
    return _manager("StartTransientUnit", "ssa(sv)a(sa(sv))", scope, "fail", *properties, "0")


def attach(scope: str, pids: Sequence[int]) -> RunCommand:
    """These processes are in the scope too (systemd 238 and later)."""
    return _manager("AttachProcessesToUnit", "ssau", scope, "", *_listed(pids))


def limit(scope: str, key: str, value: Any) -> RunCommand:
    """The scope has that limit, or none."""
    if key == "cpu_cores":
        setting = "CPUQuota=" if value is None else f"CPUQuota={value * 100:g}%"
    elif key == "cpu_weight":
        setting = f"CPUWeight={value}"
    else:
        setting = f"MemoryMax={'infinity' if value is None else value}"
    return RunCommand(("systemctl", "set-property", "--runtime", scope, setting))


def _listed(pids: Sequence[int]) -> tuple[str, ...]:
    return str(len(pids)), *(str(pid) for pid in pids)


def _manager(method: str, *words: str) -> RunCommand:
    return RunCommand(("busctl", "call", *_MANAGER, method, *words))
