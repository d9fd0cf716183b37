"""Limits are read from the right control group, whatever mixture of versions the machine has."""

from __future__ import annotations

import pytest
from apply_parts import FolderMachine

from depin_orcha.cgroups import enforced, enforced_in
from depin_orcha.errors import ActuatorError, FailureKind

OWNER = "ede39db72fdb" + "0" * 52
PID = 4711
V1_MOUNTS = (
    "20 1 0:1 / / rw - ext4 /dev/vda rw\n"
    "30 20 0:20 / /sys/fs/cgroup/{cpu} rw,relatime shared:9 - cgroup cgroup rw,{cpu}\n"
    "31 20 0:21 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    "32 20 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
)
V2_MOUNTS = "20 1 0:1 / / rw - ext4 /dev/vda rw\n30 20 0:20 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n"


def machine(tmp_path, groups, mounts, files):
    made = FolderMachine(tmp_path)
    made.write(f"/proc/{PID}/cgroup", groups)
    made.write("/proc/self/mountinfo", mounts)
    for path, content in files.items():
        made.write(f"/sys/fs/cgroup/{path}", content)
    return made


def version_1_files(folder, cpu="cpu", quota="50000", limit="104857600"):
    return {
        f"{cpu}{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"{cpu}{folder}/cpu.cfs_period_us": "100000\n",
        f"memory{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"memory{folder}/memory.usage_in_bytes": "9000\n",
        f"memory{folder}/memory.stat": "cache 1\ninactive_file 7\ntotal_inactive_file 4000\n",
    }


def version_2_files(folder, cpu_max="25000 100000", limit="max"):
    return {
        f"{folder}/cgroup.controllers": "cpu memory\n",
        f"{folder}/cpu.max": f"{cpu_max}\n",
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": "9000\n",
        f"{folder}/memory.stat": "anon 5000\ninactive_file 4000\n",
    }


def test_version_1_beside_an_empty_version_2(tmp_path):
    folder = f"/docker/{OWNER}"
    groups = f"4:memory:{folder}\n1:cpu:{folder}\n0::{folder}\n"
    found = enforced(machine(tmp_path, groups, V1_MOUNTS.format(cpu="cpu"), version_1_files(folder)).text, PID, OWNER)
    assert (found.cpu_cores, found.memory_bytes, found.memory_used_bytes) == (0.5, 104857600, 5000)
    assert found.cpu_evidence == f"/sys/fs/cgroup/cpu{folder}/cpu.cfs_quota_us = 50000 of 100000"


def test_version_1_with_controllers_mounted_together_and_no_limits(tmp_path):
    folder = f"/system.slice/docker-{OWNER}.scope"
    groups = f"4:memory:{folder}\n1:cpu,cpuacct:{folder}\n"
    files = version_1_files(folder, cpu="cpu,cpuacct", quota="-1", limit="9223372036854771712")
    found = enforced(machine(tmp_path, groups, V1_MOUNTS.format(cpu="cpu,cpuacct"), files).text, PID, OWNER)
    assert (found.cpu_cores, found.memory_bytes) == (None, None)


def test_version_2_reads_the_owner_s_group_and_not_one_made_inside_it(tmp_path):
    folder = f"/system.slice/docker-{OWNER}.scope"
    files = version_2_files(folder) | version_2_files(f"{folder}/init.scope", cpu_max="max 100000")
    found = enforced(machine(tmp_path, f"0::{folder}/init.scope\n", V2_MOUNTS, files).text, PID, OWNER)
    assert (found.cpu_cores, found.memory_bytes, found.memory_used_bytes) == (0.25, None, 5000)
    assert found.cpu_evidence == f"/sys/fs/cgroup{folder}/cpu.max = 25000 100000"


def test_version_2_without_a_controller_in_use_is_unlimited_and_its_memory_use_unknown(tmp_path):
    folder = f"/docker/{OWNER}"
    files = {f"{folder}/cgroup.controllers": "pids\n"}
    found = enforced(machine(tmp_path, f"0::{folder}\n", V2_MOUNTS, files).text, PID, OWNER)
    assert (found.cpu_cores, found.memory_bytes, found.memory_used_bytes) == (None, None, None)


def test_a_mount_that_shows_a_part_of_the_tree(tmp_path):
    mounts = V2_MOUNTS.replace("0:20 / /sys", "0:20 /docker /sys")
    files = version_2_files(f"/{OWNER}", limit="4096")
    found = enforced(machine(tmp_path, f"0::/docker/{OWNER}\n", mounts, files).text, PID, OWNER)
    assert (found.cpu_cores, found.memory_bytes) == (0.25, 4096)


@pytest.mark.parametrize(
    ("groups", "mounts", "kind"),
    [
        ("0::/user.slice\n", V2_MOUNTS, FailureKind.UNSUPPORTED),  # a process, but not the container's
        (f"0::/docker/{OWNER}\n", "20 1 0:1 / / rw - ext4 /dev/vda rw\n", FailureKind.UNSUPPORTED),
        (f"0::/docker/{OWNER}\n", V2_MOUNTS, FailureKind.TRANSIENT),  # the group is not there
    ],
)
def test_what_cannot_be_proven_is_an_error(tmp_path, groups, mounts, kind):
    with pytest.raises(ActuatorError) as caught:
        enforced(machine(tmp_path, groups, mounts, {}).text, PID, OWNER)
    assert caught.value.kind is kind


def test_a_process_that_is_not_here_is_an_error(tmp_path):
    with pytest.raises(ActuatorError, match="no process 4712 of container ede39db72fdb"):
        enforced(machine(tmp_path, "0::/\n", V2_MOUNTS, {}).text, 4712, OWNER)


def test_a_group_by_its_path_in_version_1(tmp_path):
    folder = "/system.slice/node.service"
    files = version_1_files(folder) | {f"cpu{folder}/cpu.shares": "512\n"}
    found = enforced_in(at_home(tmp_path, "4:memory:/a\n1:cpu:/b\n0::/\n", V1_MOUNTS.format(cpu="cpu"), files), folder)
    assert (found.cpu_cores, found.cpu_weight, found.memory_bytes) == (0.5, 50, 104857600)
    assert found.weight_evidence == f"/sys/fs/cgroup/cpu{folder}/cpu.shares = 512"


def test_a_group_that_version_1_has_no_folder_for_has_no_limit(tmp_path):
    text = at_home(tmp_path, "4:memory:/\n1:cpu:/\n0::/\n", V1_MOUNTS.format(cpu="cpu"), {})
    found = enforced_in(text, "/system.slice/node.service")
    assert (found.cpu_cores, found.cpu_weight, found.memory_bytes, found.memory_used_bytes) == (None, None, None, None)
    assert found.cpu_evidence == "/sys/fs/cgroup/cpu/system.slice/node.service has no cpu.cfs_quota_us"


def test_a_group_by_its_path_in_version_2(tmp_path):
    folder = "/system.slice/node.service"
    files = version_2_files(folder) | {f"{folder}/cpu.weight": "250\n"}
    found = enforced_in(at_home(tmp_path, "0::/user.slice\n", V2_MOUNTS, files), folder)
    assert (found.cpu_cores, found.cpu_weight, found.memory_bytes, found.memory_used_bytes) == (0.25, 250, None, 5000)


def test_version_2_without_a_cpu_controller_has_no_limit_and_a_missing_group_is_told(tmp_path):
    folder = "/system.slice/node.service"
    text = at_home(tmp_path, "0::/\n", V2_MOUNTS, {f"{folder}/cgroup.controllers": "pids\n"})
    found = enforced_in(text, folder)
    assert (found.cpu_cores, found.cpu_weight, found.memory_bytes) == (None, None, None)
    with pytest.raises(ActuatorError, match=r"the kernel has no /sys/fs/cgroup/gone/cgroup\.controllers"):
        enforced_in(text, "/gone")


def at_home(tmp_path, groups, mounts, files):
    made = machine(tmp_path, groups, mounts, files)
    made.write("/proc/self/cgroup", groups)
    return made.text
