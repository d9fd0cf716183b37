"""Limits of units where the manager is a script: what a start of the machine and missing rights mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from apply_parts import BACKENDS, FolderMachine, MemoryJournal

from depin_orcha.actuators import Target
from depin_orcha.adapters import NodeOptions
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.execute import execute
from depin_orcha.hands import Past, by_hand
from depin_orcha.types import Action, ActionState, Resource, RunCommand

GROUP = "/system.slice/node.service"
SYSTEMD = BACKENDS["systemd"]
MANAGER = """#!/bin/sh
here={here}
case "$1 $2" in
  "show --property=UserspaceTimestampMonotonic") echo "UserspaceTimestampMonotonic=$(cat $here/boot)" ;;
  "show "*) printf 'Id=node.service\\nLoadState=loaded\\nActiveState=active\\nControlGroup={group}\\n' ;;
  *) echo "$@" >>$here/asked; [ -e $here/refuses ] && {{ cat $here/refuses >&2; exit 1; }}
     quota=${{4#CPUQuota=}}; quota=${{quota%\\%}}
     [ -z "$quota" ] && echo "max 100000" >{cpu} || echo "${{quota}}000 100000" >{cpu} ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderMachine:
    """A machine of version 2 whose systemctl writes the kernel's file itself."""
    made = FolderMachine(tmp_path)
    made.write("/proc/self/cgroup", "0::/user.slice\n")
    made.write("/proc/self/mountinfo", "30 20 0:20 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    made.write(f"/sys/fs/cgroup{GROUP}/cgroup.controllers", "cpu memory\n")
    cpu = f"{tmp_path}/sys/fs/cgroup{GROUP}/cpu.max"
    made.write("/bin/systemctl", MANAGER.format(here=tmp_path, group=GROUP, cpu=cpu))
    (tmp_path / "bin/systemctl").chmod(0o755)
    made.write("/boot", "4711")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return made


def target(unit: str = "node", **options: Any) -> Target:
    made = NodeOptions(protocol="exec", apply=True, runtime="systemd", unit=unit, **options)
    return Target("n", made, 4)


def wanted(machine: FolderMachine, cores: float = 1.5, *, hard_caps: bool = True) -> list[Action]:
    node = target(hard_caps=hard_caps)
    return SYSTEMD.actions(node, SYSTEMD.read(node, machine), {Resource.CPU_CORES: cores}, "plan 1")


def run(machine: FolderMachine, action: Action) -> Any:
    return execute({0: action}, MemoryJournal(), BACKENDS, machine)[0]


def test_a_unit_that_was_never_limited_has_no_file_and_no_limit(machine: FolderMachine) -> None:
    (action,) = wanted(machine)
    assert (action.before, action.after) == ({"cpu_cores": None}, {"cpu_cores": 1.5})
    assert action.call == RunCommand(("systemctl", "set-property", "--runtime", "node.service", "CPUQuota=150%"))
    assert action.undo == RunCommand(("systemctl", "set-property", "--runtime", "node.service", "CPUQuota="))
    assert run(machine, action).state is ActionState.DONE
    assert wanted(machine) == []
    assert wanted(machine, 1.504) == [], "less than a step"


def test_what_a_start_of_the_machine_took_away_was_not_a_person(machine: FolderMachine) -> None:
    (action,) = wanted(machine)
    run(machine, action)
    past = [Past(1, "plan", ActionState.DONE, "", action)]
    machine.write(f"/sys/fs/cgroup{GROUP}/cpu.max", "max 100000")
    (again,) = wanted(machine)
    assert by_hand(again, past), "the machine is the same"
    machine.write("/boot", "815")
    (again,) = wanted(machine)
    assert by_hand(again, past) is None
    node = target(hard_caps=True)
    assert SYSTEMD.release(node, SYSTEMD.read(node, machine), [action]) == [], "it was lifted with the machine"


@pytest.mark.parametrize(
    "said",
    [
        "Failed to set unit properties on node.service: Access denied",
        "Failed to set unit properties: Interactive authentication required.",
    ],
)
def test_a_user_without_rights_is_told_so(machine: FolderMachine, said: str) -> None:
    machine.write("/refuses", said)
    (action,) = wanted(machine)
    outcome = run(machine, action)
    assert (outcome.state, outcome.failure.kind) == (ActionState.FAILED, FailureKind.PERMISSION)
    assert "run depin-orcha as root" in outcome.failure.hint
    assert (machine.text("/asked") or "").count("\n") == 1, "it is not asked again"


@pytest.mark.parametrize("cores", [0.001, 4.5])
def test_more_or_less_than_there_is_is_refused(machine: FolderMachine, cores: float) -> None:
    with pytest.raises(ActuatorError, match=r"a unit takes 0\.01 to 4"):
        wanted(machine, cores)


def test_a_small_change_of_a_weight_is_none(machine: FolderMachine) -> None:
    machine.write(f"/sys/fs/cgroup{GROUP}/cpu.weight", "200\n")
    assert wanted(machine, 2.05, hard_caps=False) == []
    (action,) = wanted(machine, 3, hard_caps=False)
    assert action.call == RunCommand(("systemctl", "set-property", "--runtime", "node.service", "CPUWeight=300"))
    assert SYSTEMD.grant([action]) == {Resource.CPU_CORES: 3}


@pytest.mark.parametrize("unit", ["docker-ede39db72fdb.scope", "libpod-ede39db72fdb.scope"])
def test_the_scope_of_a_container_is_left_to_its_engine(machine: FolderMachine, unit: str) -> None:
    with pytest.raises(ActuatorError, match="belongs to a container engine"):
        SYSTEMD.read(target(unit), machine)
