"""What a unit of systemd sends over this machine's default route, held by a class of ``tc-htb(8)`` of its own.

A rule of nftables gives the packets of the unit's control group the class as their priority; packets without one pass
the same queue unshaped. The rule knows the group by its number, which is another after each start of the unit, so a
rule that names no group any more limits nothing. Everything of ours has a name or handle of ours.
"""

from __future__ import annotations

import json
import re
import shlex
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depin_orcha.bounds import refused, unit_of
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.types import Action, Resource, RunCommand, Steps

from . import Grant, Reader, Reading, Target, TargetGoneError, latest, original

if TYPE_CHECKING:
    from collections.abc import Sequence

KIND = "uplink"
KEY = "uplink_bps"
HANDLE = "da7a:"
TABLE = "depin_orcha"
"""By these we know our own queue and our own rules."""
LEAST_BPS = 64_000
STEP = 0.01
GROUPS = "/sys/fs/cgroup"
"""Where ``nft`` looks for control groups of version 2."""
_LEAST_BURST_BYTES = 32 * 1024
_TICKS_PER_S = 250
"""A bucket has to hold what passes between two ticks of the kernel's timer."""
_QUANTUM_BYTES = 60_000
"""Said by us, as the kernel complains in its log about the one that it derives from a high rate."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_NO_ROUTE = ("unreachable", "prohibit", "blackhole")
_UNIT = ("Id", "LoadState", "ActiveState", "ControlGroup", "InvocationID", "PrivateNetwork", "NetworkNamespacePath")

# What is decided when it runs, as an earlier action of the same run may have made or left something meanwhile.
_WITH_GROUPS = f'mount --bind "$0" {GROUPS} && exec nft "$@"'
_ADD_QUEUE = (
    f'tc qdisc show dev "$0" | grep -q "^qdisc htb {HANDLE} root" || '
    f'exec tc qdisc add dev "$0" root handle {HANDLE} htb default 0'
)
_DELETE_RULE = (
    f'nft "add table inet {TABLE}; add chain inet {TABLE} $0; delete chain inet {TABLE} $0" && '
    f"{{ nft list table inet {TABLE} | grep -q chain || nft delete table inet {TABLE}; }}"
)
_DELETE_CLASS = (
    'tc class show dev "$0" | grep -q "^class htb $1 " && tc class del dev "$0" classid "$1"; '
    f'tc class show dev "$0" | grep -q "^class htb {HANDLE}" || '
    f'! tc qdisc show dev "$0" | grep -q "^qdisc htb {HANDLE} root" || '
    f'tc qdisc del dev "$0" root handle {HANDLE}'
)


@dataclass(frozen=True, slots=True)
class Group:
    """A control group of version 2: where its hierarchy is mounted, and its path in that, without a leading slash."""

    mount: str
    path: str


@dataclass(frozen=True, slots=True)
class Uplink:
    """A unit, the device of the default route, and what is there of ours for the node.

    ``group`` is None while the unit is stopped; ``rates`` are those of the node's class by device, also of a device
    that was the default once; ``ruled`` are the groups that its rule names, a mere number where there is no such group.
    ``obstacle``: why nothing may be set, though what is there may still be taken away; ``device`` may be "" then.
    """

    unit: str
    invocation: str
    device: str
    group: Group | None
    rates: dict[str, int]
    ruled: tuple[str, ...]
    has_chain: bool
    obstacle: ActuatorError | None = None

    @property
    def running(self) -> bool:
        return self.group is not None

    @property
    def limit_bps(self) -> int | None:
        """What is in force: a class, and a rule for the group that the unit has now."""
        is_ruled = self.group is not None and self.group.path in self.ruled
        return self.rates.get(self.device) if is_ruled else None

    @property
    def is_left(self) -> bool:
        """Is anything of ours there?"""
        return bool(self.rates) or self.has_chain


class Actuator:
    """Sets one class and one rule; both take effect at once, also for connections that are open."""

    def read(self, target: Target, reader: Reader) -> Uplink:
        """The target's unit, device, class and rule, by commands that only read."""
        return _uplink(target.node, unit_of(target), reader)

    def actions(self, target: Target, observed: Uplink, grant: Grant, why: str) -> list[Action]:
        """Class and rule, where what is in force differs from the grant by 1 %. Refuses less than 64 kbit/s.

        A stopped unit is left alone, as it has no control group.
        """
        if Resource.UPLINK_BPS not in grant:
            return []
        if observed.obstacle is not None:
            raise observed.obstacle
        if observed.group is None:
            return []
        wanted = _as_told(int(grant[Resource.UPLINK_BPS]))
        if wanted < LEAST_BPS:
            raise refused(target.node, f"{grant[Resource.UPLINK_BPS]:g} {KEY}: less than {LEAST_BPS} cuts it off")
        now = observed.limit_bps
        if now is not None and abs(now - wanted) <= STEP * wanted:
            return []
        return [_action(target.node, observed, now, wanted, why)]

    def release(self, target: Target, observed: Uplink, done: Sequence[Action]) -> list[Action]:
        """Puts back what stood before our first write since the unit was started; else takes away all that is ours."""
        why = "put back what stood before depin-orcha"
        before = original([action for action in done if action.target == _identity(observed)]).get(KEY)
        if before is not None and observed.group is not None and observed.obstacle is None:
            now = observed.limit_bps
            return [] if now == before else [_action(target.node, observed, now, before, why)]
        if not observed.is_left:
            return []
        # a class whose rule is stale limits nothing, but it is what is taken away
        now = observed.limit_bps or observed.rates.get(observed.device)
        return [_action(target.node, observed, now, None, why)]

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:  # noqa: ARG002
        """The kernel's own class and rule; what is there without limiting anything contradicts."""
        found = _uplink(action.node, action.target["unit"], reader)
        if _identity(found) != action.target:
            raise TargetGoneError(
                FailureKind.TRANSIENT, f"unit {found.unit} was started, or the default route moved, meanwhile"
            )
        minor, limit = _minor(action.node), found.limit_bps
        rates = ", ".join(
            f"{device}: htb class {HANDLE}{minor:x} rate {bps} bit/s" for device, bps in found.rates.items()
        )
        rule = ", ".join(f"rule in {TABLE} for {group}" for group in found.ruled)
        evidence = f"{rates or f'{found.device}: no class of ours'}; {rule or 'no rule of ours'}"
        contradiction = (
            f"a part of it is there and limits nothing ({evidence})" if limit is None and found.is_left else ""
        )
        return Reading({KEY: limit}, evidence, contradiction)

    def grant(self, done: Sequence[Action]) -> Grant:
        """The limit by its resource."""
        return {Resource(key): float(value) for key, value in latest(done).items() if value is not None}

    def settle_s(self, action: Action) -> float:  # noqa: ARG002
        """The kernel has taken it over when the commands end; a second is for a slow machine."""
        return 1.0

    def advice(self, action: Action) -> str:
        """The commands, in one line."""
        if not isinstance(action.call, Steps):
            raise TypeError(f"an uplink action runs commands, not {action.call!r}")
        return " && ".join(shlex.join(one.argv) for one in action.call.calls if isinstance(one, RunCommand))


def _uplink(node: str, name: str, reader: Reader) -> Uplink:
    try:
        return _found(node, name, reader)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"systemctl, ip, tc or nft describes unit {name} in an unknown form ({error!r})"
        ) from error


def _found(node: str, name: str, reader: Reader) -> Uplink:
    told = _properties(reader.output(["systemctl", "show", name, f"--property={','.join(_UNIT)}"]))
    if told["LoadState"] == "not-found":
        raise TargetGoneError(
            FailureKind.TRANSIENT, f"there is no unit {name}", "check its name: systemctl list-units --all"
        )
    unit, invocation = told["Id"], told["InvocationID"]
    path = told["ControlGroup"] if told["ActiveState"] in ("active", "reloading", "refreshing") else ""
    group, device, obstacle = None, "", None
    try:
        if told.get("PrivateNetwork") == "yes" or told.get("NetworkNamespacePath"):
            raise _unsupported(unit, "it has a network of its own")
        group = _group(unit, path, reader) if path else None
        device = _device(unit, reader)
    except ActuatorError as error:
        if error.kind is not FailureKind.UNSUPPORTED:
            raise
        obstacle = error
    queues = _json(["tc", "-j", "qdisc", "show"], reader)
    rates = _rates(node, queues, reader)
    ruled, has_chain = _ruled(node, group, reader)
    return Uplink(unit, invocation, device, group, rates, ruled, has_chain, obstacle or _foreign(device, queues))


def _properties(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def _group(unit: str, path: str, reader: Reader) -> Group:
    """The group of version 2, which may stand beside version 1."""
    for line in (reader.text("/proc/self/mountinfo") or "").splitlines():
        fields, _, system = line.partition(" - ")
        mount = fields.split()[4]
        if system.startswith("cgroup2 ") and path != "/" and reader.text(f"{mount}{path}/cgroup.procs") is not None:
            return Group(mount, path.strip("/"))
    raise _unsupported(unit, "it has no control group of version 2")


def _device(unit: str, reader: Reader) -> str:
    """The device of the default route, the same for both versions of IP."""
    families = ["-4", "-6"] if reader.text("/proc/net/if_inet6") is not None else ["-4"]
    devices: set[str] = set()
    for family in families:
        routes = _json(["ip", "-j", family, "route", "show", "default"], reader)
        routes = [one for one in routes if one.get("type") not in _NO_ROUTE]
        if routes:
            best = min(int(one.get("metric", 0)) for one in routes)
            used = [one for one in routes if int(one.get("metric", 0)) == best]
            devices |= {str(hop["dev"]) for one in used for hop in one.get("nexthops", [one])}
    if len(devices) != 1:
        raise _unsupported(
            unit, f"there is no single device of the default route ({', '.join(sorted(devices)) or 'none'})"
        )
    return devices.pop()


def _is_ours(queue: dict[str, Any]) -> bool:
    return bool(queue.get("root")) and queue["kind"] == "htb" and queue["handle"] == HANDLE


def _foreign(device: str, queues: list[dict[str, Any]]) -> ActuatorError | None:
    """The error where somebody else shapes a device; what the kernel put there itself has handle 0."""
    for one in queues:
        if one.get("root") and one["dev"] == device and one["handle"] != "0:" and not _is_ours(one):
            return ActuatorError(
                FailureKind.CONFIG,
                f"what {device} sends is shaped by somebody else ({one['kind']} {one['handle']})",
                f"leave it to that, or take that away first: tc qdisc del dev {device} root",
            )
    return None


def _rates(node: str, queues: list[dict[str, Any]], reader: Reader) -> dict[str, int]:
    """The rate of the node's class in bits per second, by device."""
    found: dict[str, int] = {}
    for name in (str(one["dev"]) for one in queues if _is_ours(one)):
        # Plain text: iproute2 6.1 knows no JSON for this kind.
        classes = _output(["tc", "class", "show", "dev", name], reader)
        line = re.search(rf"^class htb {HANDLE}{_minor(node):x} .*", classes, re.MULTILINE)
        if line:
            rate = re.search(r" rate (\d+)([KMGT]?)bit ", line[0])
            if rate is None:
                raise ValueError(line[0])
            found[name] = int(rate[1]) * _UNITS[rate[2]]
    return found


def _ruled(node: str, group: Group | None, reader: Reader) -> tuple[tuple[str, ...], bool]:
    """The groups that the node's rule names, and whether there is a chain for it."""
    tables = _json(["nft", "-j", "list", "tables"], reader)["nftables"]
    if not any(one.get("table", {}).get("name") == TABLE and one["table"]["family"] == "inet" for one in tables):
        return (), False
    mount = GROUPS if group is None else group.mount
    told = _json([*_nft(mount), "-j", "list", "table", "inet", TABLE], reader)["nftables"]
    minor = _minor(node)
    has_chain = any(one["chain"]["name"] == _chain(node) for one in told if "chain" in one)
    ruled: list[str] = []
    for rule in (one["rule"] for one in told if "rule" in one and one["rule"]["chain"] == _chain(node)):
        owner = str(rule.get("comment", "nobody"))
        if owner != node:
            raise ActuatorError(
                FailureKind.CONFIG,
                f"{node} and {owner} come to the same class, {HANDLE}{minor:x}",
                "give one of them another name",
            )
        match, sets = (expression for expression in rule["expr"])
        if int(str(sets["mangle"]["value"]).rpartition(":")[2], 16) == minor:
            ruled.append(str(match["match"]["right"]))
    return tuple(ruled), has_chain


def _json(argv: Sequence[str], reader: Reader) -> Any:
    try:
        return json.loads(_output(argv, reader) or "[]")
    except ValueError as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"`{shlex.join(argv)}` answers something that is not JSON", "iproute2 5 or later does"
        ) from error


def _output(argv: Sequence[str], reader: Reader) -> str:
    try:
        return reader.output(argv)
    except ActuatorError as error:
        if error.kind is FailureKind.CONFIG:
            hint = "install iproute2, nftables and util-linux, or limit it at your router"
            raise ActuatorError(FailureKind.CONFIG, f"{error.message}, which limits what a unit sends", hint) from error
        if "not supported" in error.message:
            message = f"this machine's kernel lacks what limits what a unit sends: {error.message}"
            raise ActuatorError(FailureKind.UNSUPPORTED, message, "limit it at your router") from error
        raise


def _identity(observed: Uplink) -> dict[str, Any]:
    """With the start, after which the rule names a group that is no more, and with the device that has the class."""
    return {"unit": observed.unit, "invocation": observed.invocation, "device": observed.device}


def _minor(node: str) -> int:
    """The number of a node's class: the same on every machine and at every time; neither 0 nor the root's ffff."""
    return zlib.crc32(node.encode()) % 0xFFFE + 1


def _chain(node: str) -> str:
    return f"n{_minor(node):04x}"


def _as_told(bps: int) -> int:
    """Rounded down to what ``tc`` can tell again: three digits behind its unit at least."""
    unit = 10**6 if bps >= 10**9 else 1000
    return bps // unit * unit


def _action(node: str, observed: Uplink, before: int | None, after: int | None, why: str) -> Action:
    call, undo = _steps(node, observed, after), _steps(node, observed, before) if observed.running else None
    return Action(node, KIND, why, {KEY: before}, {KEY: after}, call, undo, _identity(observed))


def _steps(node: str, observed: Uplink, bps: int | None) -> Steps:
    """They do the same a second time. Raises ``ActuatorError`` for a limit of a unit that is stopped."""
    minor = _minor(node)
    classid = f"{HANDLE}{minor:x}"
    if bps is None:
        devices = dict.fromkeys((*([observed.device] if observed.device else ()), *observed.rates))
        classes = (RunCommand(("sh", "-c", _DELETE_CLASS, device, classid)) for device in devices)
        return Steps((RunCommand(("sh", "-c", _DELETE_RULE, _chain(node))), *classes))
    if observed.group is None:
        raise ActuatorError(FailureKind.TRANSIENT, f"unit {observed.unit} is stopped", "apply again when it runs")
    path = observed.group.path
    chain = f"inet {TABLE} {_chain(node)}"
    rules = (
        f"add table inet {TABLE}; add chain {chain} {{ type filter hook output priority 0; }}; flush chain {chain}; "
        f'add rule {chain} socket cgroupv2 level {path.count("/") + 1} "{path}" '
        f'meta priority set {classid} comment "{node}"'
    )
    device, burst = observed.device, str(max(_LEAST_BURST_BYTES, bps // 8 // _TICKS_PER_S))
    bucket = ("rate", f"{bps}bit", "burst", burst, "cburst", burst, "quantum", str(_QUANTUM_BYTES))
    return Steps(
        (
            RunCommand((*_nft(observed.group.mount), rules)),
            RunCommand(("sh", "-c", _ADD_QUEUE, device)),
            RunCommand(("tc", "class", "replace", "dev", device, "parent", HANDLE, "classid", classid, "htb", *bucket)),
        )
    )


def _nft(mount: str) -> tuple[str, ...]:
    """The tool, which has to see the groups of version 2 at the place of its choice."""
    return ("nft",) if mount == GROUPS else ("unshare", "-m", "sh", "-c", _WITH_GROUPS, mount)


def _unsupported(unit: str, why: str) -> ActuatorError:
    message = f"what unit {unit} sends cannot be limited: {why}"
    return ActuatorError(FailureKind.UNSUPPORTED, message, "limit it at your router")
