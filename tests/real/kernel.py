"""What the kernel holds of a container, read without any code of depin-orcha."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from pathlib import Path


class KernelView(ABC):
    """Reads control group files of the first process of a container."""

    @abstractmethod
    def pid(self, name: str) -> int:
        """Its process id on this machine."""

    def kernel(self, name: str, controller: str, file: str) -> str:
        """A control group file of the container's process."""
        groups = dict(
            line.split(":", 2)[1:] for line in Path(f"/proc/{self.pid(name)}/cgroup").read_text().splitlines()
        )
        for controllers, path in groups.items():
            if controller in controllers.split(","):
                return Path(f"/sys/fs/cgroup/{controllers}{path}/{file}").read_text().strip()
        return Path(f"/sys/fs/cgroup{groups['']}/{file}").read_text().strip()

    def cpu_quota_us(self, name: str) -> int:
        """Microseconds of CPU time per 100,000; -1 is no limit."""
        try:
            return int(self.kernel(name, "cpu", "cpu.cfs_quota_us"))
        except FileNotFoundError:
            quota = self.kernel(name, "cpu", "cpu.max").split()[0]
            return -1 if quota == "max" else int(quota)

    def memory_limit_bytes(self, name: str) -> int:
        """No limit is a number beyond all memory."""
        try:
            return int(self.kernel(name, "memory", "memory.limit_in_bytes"))
        except FileNotFoundError:
            limit = self.kernel(name, "memory", "memory.max")
            return 2**63 - 4096 if limit == "max" else int(limit)

    def swap_bytes(self, name: str) -> int:
        """Swap that the container may use beyond its memory; no limit is a number beyond all memory."""
        try:
            return int(self.kernel(name, "memory", "memory.memsw.limit_in_bytes")) - self.memory_limit_bytes(name)
        except FileNotFoundError:
            limit = self.kernel(name, "memory", "memory.swap.max")
            return 2**63 - 4096 if limit == "max" else int(limit)

    def cpu_weight(self, name: str) -> int:
        """Shares in version 1, the weight that a runtime made of them in version 2."""
        try:
            return int(self.kernel(name, "cpu", "cpu.shares"))
        except FileNotFoundError:
            return int(self.kernel(name, "cpu", "cpu.weight"))

    def cpu_used_s(self, name: str) -> float:
        """CPU time the container's first process has used, in seconds."""
        fields = Path(f"/proc/{self.pid(name)}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cores_used(self, name: str, seconds: float) -> float:
        """Cores the container's first process uses, as measured from now on."""
        used_s, started_s = self.cpu_used_s(name), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_used_s(name) - used_s) / (time.monotonic() - started_s)
