"""What a unit sends, with `systemctl`, `ip`, `tc` and `nft` scripted: what they tell, and what is never touched."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apply_parts import BACKENDS, FolderMachine

from depin_orcha.actuators import Target, TargetGoneError, from_json, kinds, route, to_json
from depin_orcha.adapters import NodeOptions
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.types import Action, Resource, RunCommand, Steps

UP, DOWN = Resource.UPLINK_BPS, Resource.DOWNLINK_BPS
UPLINK = BACKENDS["uplink"]
SCRIPTS = {
    "systemctl": "cat {folder}/unit",
    "ip": "cat {folder}/routes$2",
    "tc": 'case "$*" in *qdisc*) cat {folder}/queues;; *) cat {folder}/classes-$4;; esac',
    "nft": 'case "$*" in *tables) cat {folder}/tables;; *) cat {folder}/table;; esac',
    "unshare": 'shift 5; exec nft "$@"',
}
VERSION_2 = "30 20 0:20 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
BOTH = "29 20 0:19 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n30 20 0:20 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
GROUP = "system.slice/n.service"
CLASS, CHAIN = "da7a:93e5", "n93e5"
DEFAULT = {"kind": "mq", "handle": "0:", "root": True, "dev": "eth0"}
OURS = {"kind": "htb", "handle": "da7a:", "root": True, "dev": "eth0", "options": {"default": "0"}}


class Machine(FolderMachine):
    """A running unit on a machine with a default route, whose queues and rules a test may change."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        for name, script in SCRIPTS.items():
            self.tool(name, script.format(folder=folder))
        self.unit = {
            "Id": "n.service",
            "LoadState": "loaded",
            "ActiveState": "active",
            "ControlGroup": f"/{GROUP}",
            "InvocationID": "first",
            "PrivateNetwork": "no",
            "NetworkNamespacePath": "",
        }
        self.write("/proc/self/mountinfo", VERSION_2)
        self.write(f"/sys/fs/cgroup/{GROUP}/cgroup.procs", "77\n")
        self.write("/classes-eth0", "")
        self.tell(**{"routes-4": [{"dst": "default", "dev": "eth0"}]}, queues=[DEFAULT])
        self.rule(None)

    def tool(self, name: str, script: str) -> None:
        self.write(f"/bin/{name}", f"#!/bin/sh\n{script}\n")
        (self.folder / "bin" / name).chmod(0o755)

    def tell(self, **said: Any) -> None:
        for name, value in said.items():
            self.write(f"/{name}", json.dumps(value))

    def queue(self, rate: str, device: str = "eth0", classid: str = CLASS) -> None:
        """As iproute2 6.1 tells a class, which is in plain text."""
        self.tell(queues=[OURS])
        other = "class htb da7a:1 root prio 0 rate 5Mbit ceil 5Mbit burst 32Kb cburst 32Kb \n"
        line = f"class htb {classid} root prio 0 rate {rate} ceil {rate} burst 32Kb cburst 32Kb \n"
        self.write(f"/classes-{device}", other + line)

    def rule(self, group: str | None, owner: str = "n") -> None:
        """As nftables 1.0.6 tells a rule; a group that is no more is a number."""
        table = {"table": {"family": "inet", "name": "depin_orcha", "handle": 1}}
        names = {"family": "inet", "table": "depin_orcha"}
        match = {"match": {"op": "==", "left": {"socket": {"key": "cgroupv2"}}, "right": group}}
        sets = {"mangle": {"key": {"meta": {"key": "priority"}}, "value": CLASS}}
        rule = {"rule": names | {"chain": CHAIN, "handle": 2, "comment": owner, "expr": [match, sets]}}
        chain = {"chain": names | {"name": CHAIN, "handle": 1, "type": "filter", "hook": "output"}}
        about: dict[str, Any] = {"metainfo": {"version": "1.0.6"}}
        self.tell(tables={"nftables": [about, *([] if group is None else [table])]})
        self.tell(table={"nftables": [about, table, chain, rule]})

    def limited(self, rate: str = "25Mbit") -> None:
        self.queue(rate)
        self.rule(GROUP)

    def target(self, **options: Any) -> Target:
        usual = {"protocol": "exec", "runtime": "systemd", "unit": "n", "hard_caps": True}
        return Target("n", NodeOptions.model_validate(usual | options), 4)

    def read(self, **options: Any) -> Any:
        self.write("/unit", "".join(f"{key}={value}\n" for key, value in self.unit.items()))
        return UPLINK.read(self.target(**options), self)

    def wanted(self, bps: float) -> list[Action]:
        return UPLINK.actions(self.target(), self.read(), {UP: bps}, "plan 1")

    def released(self, *done: Action) -> list[Action]:
        return UPLINK.release(self.target(), self.read(), done)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    with Machine(tmp_path) as made:
        yield made


def typed(call: Any) -> list[str]:
    assert isinstance(call, Steps)
    return [shlex.join(one.argv) for one in call.calls if isinstance(one, RunCommand)]


def test_one_rule_and_one_class(machine: Machine) -> None:
    (action,) = machine.wanted(25_000_999)
    rule, queue, bucket = typed(action.call)
    rules = (
        f"add table inet depin_orcha; add chain inet depin_orcha {CHAIN} {{ type filter hook output priority 0; }}; "
        f"flush chain inet depin_orcha {CHAIN}; add rule inet depin_orcha {CHAIN} "
        f'socket cgroupv2 level 2 "{GROUP}" meta priority set {CLASS} comment "n"'
    )
    assert shlex.split(rule) == ["nft", rules]
    assert 'tc qdisc add dev "$0" root handle da7a: htb default 0\' eth0' in queue
    assert bucket == (
        f"tc class replace dev eth0 parent da7a: classid {CLASS} htb "
        "rate 25000000bit burst 32768 cburst 32768 quantum 60000"
    )
    assert len(typed(action.undo)) == 2
    assert UPLINK.advice(action) == f"{rule} && {queue} && {bucket}"
    assert UPLINK.grant([action]) == {UP: 25e6}
    assert from_json(to_json(action)) == action


def test_nft_finds_the_groups_where_they_stand_beside_version_1(machine: Machine) -> None:
    machine.write("/proc/self/mountinfo", BOTH)
    machine.write(f"/sys/fs/cgroup/unified/{GROUP}/cgroup.procs", "77\n")
    (action,) = machine.wanted(25e6)
    assert typed(action.call)[0].startswith(
        'unshare -m sh -c \'mount --bind "$0" /sys/fs/cgroup && exec nft "$@"\' /sys/fs/cgroup/unified \'add table'
    )
    machine.limited()
    assert machine.wanted(25e6) == []


@pytest.mark.parametrize(
    ("told", "bps"),
    [("64Kbit", 64_000), ("64120bit", 64_120), ("25Mbit", 25_000_000), ("1234Mbit", 1_234_000_000), ("2Gbit", 2e9)],
)
def test_rates_in_plain_text(machine: Machine, told: str, bps: int) -> None:
    machine.limited(told)
    assert machine.read().limit_bps == bps


@pytest.mark.parametrize("bps", [1_234_567_890, 999_999_999, 64_999])
def test_what_tc_rounds_is_rounded_before(machine: Machine, bps: int) -> None:
    """It tells 1234567890 bit/s as 1234Mbit, which would never be proven."""
    (action,) = machine.wanted(bps)
    wanted = action.after["uplink_bps"]
    told = f"{wanted // 10**6}Mbit" if wanted >= 10**9 else f"{wanted // 1000}Kbit"
    machine.limited(told)
    assert UPLINK.read_back(action, machine).values == action.after


def test_a_step_is_one_percent(machine: Machine) -> None:
    machine.limited("25Mbit")
    assert machine.wanted(25.2e6) == []
    (action,) = machine.wanted(26e6)
    assert (action.before, action.after) == ({"uplink_bps": 25_000_000}, {"uplink_bps": 26_000_000})
    assert "rate 25000000bit" in typed(action.undo)[2]
    reading = UPLINK.read_back(action, machine)
    assert (reading.values, reading.contradiction) == ({"uplink_bps": 25_000_000}, "")
    assert f"eth0: htb class {CLASS} rate 25000000 bit/s; rule in depin_orcha for {GROUP}" in reading.evidence


@pytest.mark.parametrize("group", ["46062", "system.slice/another.service"])
def test_a_rule_for_another_group_limits_nothing(machine: Machine, group: str) -> None:
    machine.limited()
    (action,) = machine.wanted(26e6)
    machine.rule(group)
    (again,) = machine.wanted(25e6)
    assert (again.before, again.after) == ({"uplink_bps": None}, {"uplink_bps": 25_000_000})
    assert "flush chain" in typed(again.call)[0], "the stale rule goes with it"
    assert "limits nothing" in UPLINK.read_back(action, machine).contradiction


@pytest.mark.parametrize("part", ["class", "rule"])
def test_half_of_it_is_no_limit_and_not_nothing(machine: Machine, part: str) -> None:
    (action,) = machine.wanted(25e6)
    if part == "class":
        machine.queue("25Mbit")
    else:
        machine.rule(GROUP)
    reading = UPLINK.read_back(action, machine)
    assert reading.values == {"uplink_bps": None}
    assert "a part of it is there and limits nothing" in reading.contradiction


def test_a_start_or_another_route_is_another_target(machine: Machine) -> None:
    (action,) = machine.wanted(25e6)
    machine.unit["InvocationID"] = "second"
    (again,) = machine.wanted(25e6)
    assert again.target != action.target
    with pytest.raises(TargetGoneError, match="was started"):
        UPLINK.read_back(action, machine)
    machine.tell(**{"routes-4": [{"dst": "default", "dev": "eth1"}]})
    assert machine.wanted(25e6)[0].target["device"] == "eth1"


def test_release_takes_away_what_is_ours(machine: Machine) -> None:
    (action,) = machine.wanted(25e6)
    assert machine.released(action) == [], "there is nothing"
    machine.limited()
    (lift,) = machine.released(action)
    assert (lift.before, lift.after) == ({"uplink_bps": 25_000_000}, {"uplink_bps": None})
    assert typed(lift.call) == typed(action.undo)
    rule, queue = typed(lift.call)
    assert f"nft delete table inet depin_orcha; }}' {CHAIN}" in rule
    assert f'tc qdisc del dev "$0" root handle da7a:\' eth0 {CLASS}' in queue


def test_release_after_a_start_takes_the_stale_rule_away(machine: Machine) -> None:
    (action,) = machine.wanted(25e6)
    machine.limited()
    machine.unit["InvocationID"] = "second"
    machine.rule("46062")
    (lift,) = machine.released(action)
    assert (lift.before, lift.after, lift.call) == ({"uplink_bps": 25_000_000}, {"uplink_bps": None}, action.undo)


def test_release_of_a_stopped_unit(machine: Machine) -> None:
    (action,) = machine.wanted(25e6)
    machine.limited()
    machine.unit |= {"ActiveState": "inactive", "ControlGroup": ""}
    machine.rule("46062")
    assert machine.wanted(25e6) == [], "a stopped unit is left alone"
    observed = {"uplink": machine.read()}
    planned = route(machine.target(), observed, {UP: 25e6}, "plan 1", BACKENDS, busy=None)
    assert planned.notes == ("unit n is stopped; it is limited when it runs",)
    (lift,) = machine.released(action)
    assert (lift.call, lift.undo) == (action.undo, None)


def test_release_of_the_last_plan_puts_back_the_one_before(machine: Machine) -> None:
    machine.limited("20Mbit")
    (second,) = machine.wanted(25e6)
    machine.limited("25Mbit")
    (back,) = machine.released(second)
    assert back.after == {"uplink_bps": 20_000_000}
    assert "rate 20000000bit" in typed(back.call)[2]


def test_a_class_on_a_device_that_was_the_default_once_goes_too(machine: Machine) -> None:
    (action,) = machine.wanted(25e6)
    machine.limited()
    machine.tell(**{"routes-4": [{"dst": "default", "dev": "wlan0"}]})
    (lift,) = machine.released(action)
    assert [line.split()[-2] for line in typed(lift.call)[1:]] == ["wlan0", "eth0"]


@pytest.mark.parametrize("queue", [{"kind": "fq_codel", "handle": "8001:"}, {"kind": "htb", "handle": "1:"}])
def test_a_queue_of_somebody_else_is_left_alone(machine: Machine, queue: dict[str, Any]) -> None:
    other = queue | {"root": True, "dev": "eth1"}
    machine.tell(queues=[DEFAULT, other, {"kind": "ingress", "handle": "ffff:", "dev": "eth0"}])
    assert len(machine.wanted(25e6)) == 1, "that of another device is of no concern"
    machine.tell(queues=[queue | {"root": True, "dev": "eth0"}])
    with pytest.raises(ActuatorError, match="what eth0 sends is shaped by somebody else") as caught:
        machine.wanted(25e6)
    assert caught.value.kind is FailureKind.CONFIG


def test_what_is_ours_goes_also_where_nothing_may_be_set_any_more(machine: Machine) -> None:
    (action,) = machine.wanted(25e6)
    machine.rule(GROUP)
    machine.tell(queues=[{"kind": "tbf", "handle": "1:", "root": True, "dev": "eth0"}])
    (lift,) = machine.released(action)
    assert typed(lift.call) == typed(action.undo)
    machine.tell(**{"routes-4": []})
    machine.limited()
    (lift,) = machine.released(action)
    assert typed(lift.call) == typed(action.undo)


def test_two_nodes_of_one_class_are_refused(machine: Machine) -> None:
    machine.queue("25Mbit")
    machine.rule(GROUP, owner="m")
    with pytest.raises(ActuatorError, match=f"n and m come to the same class, {CLASS}") as caught:
        machine.wanted(25e6)
    assert caught.value.kind is FailureKind.CONFIG


@pytest.mark.parametrize(
    ("routes", "device"),
    [
        ([{"dev": "wlan0", "metric": 600}, {"dev": "eth0", "metric": 100}], "eth0"),
        ([{"dev": "lo", "type": "unreachable"}, {"dev": "eth0", "metric": 1024}], "eth0"),
        ([{"nexthops": [{"dev": "eth0", "via": "a"}, {"dev": "eth0", "via": "b"}]}], "eth0"),
    ],
)
def test_the_route_that_counts(machine: Machine, routes: list[dict[str, Any]], device: str) -> None:
    machine.tell(**{"routes-4": routes})
    assert machine.read().device == device


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ([], r"\(none\)"),
        ([{"nexthops": [{"dev": "eth0"}, {"dev": "eth1"}]}], r"\(eth0, eth1\)"),
        ([{"dev": "eth0"}, {"dev": "eth1"}], r"\(eth0, eth1\)"),
    ],
)
def test_without_a_single_device_nothing_is_pretended(machine: Machine, routes: list[Any], said: str) -> None:
    machine.tell(**{"routes-4": routes})
    with pytest.raises(ActuatorError, match=f"no single device of the default route {said}") as caught:
        machine.wanted(25e6)
    assert caught.value.kind is FailureKind.UNSUPPORTED


def test_version_6_of_ip_over_another_device_would_not_be_held(machine: Machine) -> None:
    machine.write("/proc/net/if_inet6", "")
    machine.tell(**{"routes-6": []})
    assert machine.read().device == "eth0"
    machine.tell(**{"routes-6": [{"dst": "default", "dev": "tun0"}]})
    with pytest.raises(ActuatorError, match=r"no single device .* \(eth0, tun0\)"):
        machine.wanted(25e6)


@pytest.mark.parametrize(
    ("key", "value"), [("PrivateNetwork", "yes"), ("NetworkNamespacePath", "/run/netns/vpn"), ("ControlGroup", "/")]
)
def test_a_unit_whose_packets_cannot_be_told(machine: Machine, key: str, value: str) -> None:
    machine.unit[key] = value
    with pytest.raises(ActuatorError, match=r"what unit n\.service sends cannot be limited") as caught:
        machine.wanted(25e6)
    assert caught.value.kind is FailureKind.UNSUPPORTED


def test_version_1_alone_does_not_do(machine: Machine) -> None:
    machine.write("/proc/self/mountinfo", "30 20 0:20 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n")
    with pytest.raises(ActuatorError, match="no control group of version 2"):
        machine.wanted(25e6)


def test_units_of_engines_and_missing_ones(machine: Machine) -> None:
    with pytest.raises(ActuatorError, match="belongs to a container engine"):
        machine.read(unit="docker-c0ffee.scope")
    machine.unit["LoadState"] = "not-found"
    with pytest.raises(TargetGoneError, match="there is no unit n"):
        machine.read()


def test_a_crumb_is_refused(machine: Machine) -> None:
    with pytest.raises(ActuatorError, match="less than 64000 cuts it off"):
        machine.wanted(63_999)


def test_a_missing_tool_is_said_in_a_sentence(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in ("cat", "sh"):
        (machine.folder / "bin" / tool).symlink_to(f"/bin/{tool}")
    monkeypatch.setenv("PATH", f"{machine.folder}/bin")
    (machine.folder / "bin" / "nft").unlink()
    with pytest.raises(ActuatorError, match="there is no program nft, which limits what a unit sends") as caught:
        machine.read()
    assert (caught.value.kind, "nftables" in caught.value.hint) == (FailureKind.CONFIG, True)


def test_a_kernel_without_nftables_is_told(machine: Machine) -> None:
    machine.tool("nft", 'echo "netlink: Error: cache initialization failed: Operation not supported" >&2; exit 1')
    with pytest.raises(ActuatorError, match="this machine's kernel lacks what limits what a unit sends") as caught:
        machine.read()
    assert caught.value.kind is FailureKind.UNSUPPORTED


def test_what_nobody_understands_is_no_limit(machine: Machine) -> None:
    machine.limited("1e6 quux")
    with pytest.raises(ActuatorError, match="in an unknown form") as caught:
        machine.read()
    assert caught.value.kind is FailureKind.SHAPE


def test_only_capped_units_are_shaped_and_only_what_they_send(machine: Machine) -> None:
    assert kinds(machine.target(), BACKENDS, [UP]) == ("uplink",)
    assert kinds(machine.target(), BACKENDS, [DOWN]) == ()
    assert kinds(machine.target(hard_caps=False), BACKENDS, [UP]) == ()
    assert kinds(machine.target(runtime="docker", container="n"), BACKENDS, [UP]) == ("traffic",)
    assert kinds(machine.target(protocol="mysterium"), BACKENDS, [UP]) == ("mysterium",), "it does so itself"
    assert kinds(machine.target(), BACKENDS, [Resource.CPU_CORES, UP]) == ("systemd", "uplink")
