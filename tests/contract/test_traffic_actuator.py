"""Token buckets on a container's link where `tc` and `ip` are scripts: what they tell, and what is never touched."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apply_parts import BACKENDS, FolderMachine
from unix_engine import UnixEngine

from depin_orcha.actuators import Target, kinds
from depin_orcha.adapters import NodeOptions
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.types import Action, Resource, RunCommand

UP, DOWN = Resource.UPLINK_BPS, Resource.DOWNLINK_BPS
TRAFFIC = BACKENDS["traffic"]
SCRIPTS = {
    "nsenter": '#!/bin/sh\nshift\nINSIDE=1 exec "$@"\n',
    "ip": '#!/bin/sh\n[ "$INSIDE" ] && exec cat {folder}/ip_inside\nexec cat {folder}/ip_outside\n',
    "lsns": '#!/bin/sh\necho \'{{"namespaces": [{{"netnsid": "3", "ns": 4026532300}}]}}\'\n',
    "tc": '#!/bin/sh\n[ "$INSIDE" ] && exec cat {folder}/tc_inside\nexec cat {folder}/tc_outside\n',
}
LOOPBACK = {"ifindex": 1, "ifname": "lo"}
DEFAULT = {"kind": "noqueue", "handle": "0:", "root": True, "options": {}}


def ours(bytes_per_s: int) -> dict[str, Any]:
    """As ``tc -j`` of iproute2 6.1 tells it."""
    options = {"rate": bytes_per_s, "burst": 32767, "lat": 100000}
    return {"kind": "tbf", "handle": "da7a:", "root": True, "refcnt": 2, "options": options}


class Machine(FolderMachine):
    """A running container on a bridge, whose link and queues a test may change."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.mode, self.started_at, self.pid = "bridge", "2026-11-23T10:00:00Z", 77
        self.server = UnixEngine(folder / "s", self._answer)
        for name, script in SCRIPTS.items():
            self.write(f"/bin/{name}", script.format(folder=folder))
            (folder / "bin" / name).chmod(0o755)
        self.tell(ip_inside=[LOOPBACK, {"ifindex": 4, "ifname": "eth0", "link_index": 5}])
        self.tell(ip_outside=[LOOPBACK, {"ifindex": 5, "ifname": "veth1", "link_index": 4, "link_netnsid": 3}])
        self.tell(tc_inside=[DEFAULT], tc_outside=[DEFAULT])

    def tell(self, **said: Any) -> None:
        for name, value in said.items():
            self.write(f"/{name}", json.dumps(value))

    def _answer(self, _method: str, path: str, _body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Components": [{"Name": "Engine"}]}
        state = {"Running": bool(self.pid), "Pid": self.pid, "StartedAt": self.started_at}
        return 200, {"Id": "c0ffee", "Name": "/n", "State": state, "HostConfig": {"NetworkMode": self.mode}}

    def target(self, **options: Any) -> Target:
        usual = {"protocol": "exec", "runtime": "docker", "container": "n", "hard_caps": True}
        return Target("n", NodeOptions.model_validate(usual | options), 4, self.server.socket)

    def wanted(self, grant: dict[Resource, float]) -> list[Action]:
        return TRAFFIC.actions(self.target(), TRAFFIC.read(self.target(), self), grant, "plan 1")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    made = Machine(tmp_path)
    with made.server, made:
        yield made


def test_each_end_of_the_link_holds_one_way(machine: Machine) -> None:
    up, down = machine.wanted({UP: 25e6, DOWN: 1e9})
    assert isinstance(up.call, RunCommand)
    assert isinstance(down.call, RunCommand)
    assert " ".join(up.call.argv) == (
        "nsenter --net=/proc/77/ns/net tc qdisc add dev eth0 root handle da7a: "
        "tbf rate 25000000bit burst 32768 latency 100ms"
    )
    assert " ".join(down.call.argv).startswith(
        "tc qdisc add dev veth1 root handle da7a: tbf rate 1000000000bit burst 500000"
    )
    assert isinstance(up.undo, RunCommand)
    assert up.undo.argv[-7:] == ("qdisc", "del", "dev", "eth0", "root", "handle", "da7a:")
    assert "$(docker inspect --format '{{.State.Pid}}' n)" in TRAFFIC.advice(up)
    assert TRAFFIC.grant([up, down]) == {UP: 25e6, DOWN: 1e9}


def test_the_kernel_tells_bytes_and_we_say_bits(machine: Machine) -> None:
    machine.tell(tc_inside=[ours(3_125_000)])
    assert machine.wanted({UP: 25e6}) == []
    assert machine.wanted({UP: 25.2e6}) == [], "less than a step"
    (action,) = machine.wanted({UP: 26e6})
    assert (action.before, action.after) == ({"uplink_bps": 25_000_000}, {"uplink_bps": 26_000_000})
    assert TRAFFIC.read_back(action, machine).values == {"uplink_bps": 25_000_000}


def test_a_start_made_the_link_anew(machine: Machine) -> None:
    (action,) = machine.wanted({UP: 25e6})
    machine.started_at = "2026-11-23T11:00:00Z"
    with pytest.raises(ActuatorError, match="was stopped or started meanwhile"):
        TRAFFIC.read_back(action, machine)
    machine.tell(tc_inside=[ours(3_125_000)])
    assert TRAFFIC.release(machine.target(), TRAFFIC.read(machine.target(), machine), [action]) == [], "not by us"


def test_a_stopped_container_is_left_alone(machine: Machine) -> None:
    machine.pid = 0
    assert machine.wanted({UP: 25e6}) == []


def test_a_crumb_is_refused(machine: Machine) -> None:
    with pytest.raises(ActuatorError, match="less than 64000 cuts it off"):
        machine.wanted({UP: 1000})


@pytest.mark.parametrize("mode", ["host", "none", "container:other", "slirp4netns"])
def test_a_shared_network_is_refused(machine: Machine, mode: str) -> None:
    machine.mode = mode
    with pytest.raises(ActuatorError, match=f"its network is {mode}"):
        machine.wanted({UP: 25e6})


def test_a_link_of_the_same_numbers_into_another_network_is_no_pair(machine: Machine) -> None:
    machine.tell(ip_outside=[LOOPBACK, {"ifindex": 5, "ifname": "veth9", "link_index": 4, "link_netnsid": 8}])
    with pytest.raises(ActuatorError, match="no single link to this machine"):
        machine.wanted({UP: 25e6})


def test_a_network_of_any_name_is_a_network(machine: Machine) -> None:
    machine.mode = "hosting"
    assert len(machine.wanted({UP: 25e6})) == 1


def test_a_device_that_is_no_pair_is_refused(machine: Machine) -> None:
    """The parent of a macvlan is the machine's own card."""
    machine.tell(ip_outside=[LOOPBACK, {"ifindex": 5, "ifname": "enp3s0"}])
    with pytest.raises(ActuatorError, match="no single link to this machine"):
        machine.wanted({UP: 25e6})


@pytest.mark.parametrize(
    "queue",
    [{"kind": "htb", "handle": "1:", "root": True}, {"kind": "tbf", "handle": "8001:", "root": True}],
)
def test_a_queue_of_somebody_else_is_left_alone(machine: Machine, queue: dict[str, Any]) -> None:
    machine.tell(tc_outside=[queue, {"kind": "ingress", "handle": "ffff:"}])
    with pytest.raises(ActuatorError, match="shaped by somebody else") as caught:
        machine.wanted({DOWN: 25e6})
    assert caught.value.kind is FailureKind.CONFIG


def test_only_capped_nodes_in_containers_are_shaped(machine: Machine) -> None:
    assert kinds(machine.target(), BACKENDS, [UP]) == ("traffic",)
    assert kinds(machine.target(hard_caps=False), BACKENDS, [UP]) == ()
    assert "traffic" not in kinds(machine.target(runtime="systemd", unit="n.service"), BACKENDS, [UP])
