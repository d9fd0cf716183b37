"""A Mysterium node's bandwidth shaper, set through its TequilAPI (1.29.7 and later).

In kernel mode the shaper limits each connection of a consumer, in userspace mode all of them together. A running node
takes a change over only when it hears of it after it was stored, but it tells itself before: so what starts the shaper
is sent twice. Interface: ``core/shaper``, ``config`` and ``tequilapi/endpoints/config.go`` of mysteriumnetwork/node.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from depin_orcha.adapters.mysterium import Shaper
from depin_orcha.errors import ActuatorError, AdapterError, FailureKind
from depin_orcha.types import Action, HttpCall, HttpCalls, Resource

from . import Grant, Reader, Reading, Target, latest, original, same

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KIND = "mysterium"
OLDEST_VERSION = (1, 29, 7)
"""Before, the kernel's limit was eight times tighter than asked for."""
PAUSE_S = 1.0
"""The node takes a change over in the background."""

_CHANGE = "/config/user"


@dataclass(frozen=True, slots=True)
class Shaped:
    """A node and its shaper as it is configured."""

    url: str
    version: str
    shaper: Shaper

    @property
    def in_force(self) -> dict[str, Any]:
        return {"enabled": self.shaper.enabled, "kbytes_per_s": self.shaper.kbytes_per_s}


class Actuator:
    """Sets ``shaper.bandwidth`` and ``shaper.enabled``; what else the owner configured stays as it is."""

    def read(self, target: Target, reader: Reader) -> Shaped:
        """The target's shaper and version, by GET."""
        url: str | None = getattr(target.options, "url", None)
        if url is None or "@" in url:  # it becomes part of the action, which is stored and shown
            hint = "set url to its TequilAPI; to log in to a Node UI there are username and password_file"
            raise ActuatorError(FailureKind.CONFIG, f"{target.node} has no url without user and password", hint)
        try:
            version = str(reader.ask(url, "/healthcheck")["version"])
        except (KeyError, TypeError) as error:
            raise ActuatorError(
                FailureKind.SHAPE, f"{target.node} does not tell its version", "is url a TequilAPI?"
            ) from error
        return Shaped(url, version, _shaper(url, reader))

    def actions(self, target: Target, observed: Shaped, grant: Grant, why: str) -> list[Action]:
        """One change of the shaper to the uplink granted, in whole kilobytes per second; none when it says so already.

        Refuses less than one, and nodes whose version does not keep the limit that it is given.
        """
        if Resource.UPLINK_BPS not in grant:
            return []
        kbytes = math.floor(grant[Resource.UPLINK_BPS] / observed.shaper.bits_per_kbyte + 1e-6)
        if kbytes < 1:
            raise ActuatorError(
                FailureKind.DATA,
                f"{target.node} is not given {grant[Resource.UPLINK_BPS]:g} bits per second: its shaper cannot say 0",
                "make a new plan: depin-orcha optimize",
            )
        wanted = {"enabled": True, "kbytes_per_s": kbytes}
        if same(observed.in_force, wanted):
            return []
        _refuse_old(target.node, observed.version)
        return [_action(target, observed, wanted, why)]

    def release(self, target: Target, observed: Shaped, done: Sequence[Action]) -> list[Action]:
        """Puts back the values before our first write."""
        wanted = observed.in_force | original(done)
        if same(observed.in_force, wanted):
            return []
        return [_action(target, observed, wanted, "put back what stood before depin-orcha")]

    def read_back(self, action: Action, reader: Reader, since_s: float | None = None) -> Reading:  # noqa: ARG002
        """The node's own configuration, in which a flag of its command line wins over what was set here."""
        url = action.target["url"]
        observed = Shaped(url, "", _shaper(url, reader))
        return Reading(observed.in_force, f"the node's configuration says {_said(observed.shaper)}")

    def grant(self, done: Sequence[Action]) -> Grant:
        """The uplink of the whole node; nothing where its shaper is off."""
        values = latest(done)
        bits_per_kbyte = done[-1].target["bits_per_kbyte"]
        return {Resource.UPLINK_BPS: values["kbytes_per_s"] * bits_per_kbyte} if values["enabled"] else {}

    def settle_s(self, action: Action) -> float:  # noqa: ARG002
        """The node has stored the value when it answers; a second is for a slow one."""
        return 1.0

    def advice(self, action: Action) -> str:
        """The same requests with ``curl``; behind a Node UI, TOKEN is what its login gave."""
        if not isinstance(action.call, HttpCalls):
            raise TypeError(f"a mysterium action calls the node, not {action.call!r}")
        login = ' -H "Authorization: Bearer $TOKEN"' if action.target["login"] else ""
        return f" && sleep {action.call.pause_s:g} && ".join(
            f"curl -fsS{login} -d {shlex.quote(json.dumps(call.body))} {shlex.quote(f'{call.base_url}{call.path}')}"
            for call in action.call.calls
        )


def _shaper(url: str, reader: Reader) -> Shaper:
    try:
        return Shaper.of(reader.ask(url, "/config"))
    except AdapterError as error:
        raise ActuatorError(error.kind, error.message, error.hint) from error


def refusal(version: str) -> str | None:
    """Why a node of this version is not shaped; None where it keeps the limit that it is given."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if found is not None and tuple(int(part) for part in found.groups()) >= OLDEST_VERSION:
        return None
    return f"version {version} may set another limit than it is given"


def _refuse_old(node: str, version: str) -> None:
    reason = refusal(version)
    if reason is not None:
        hint = f"update the node to {'.'.join(map(str, OLDEST_VERSION))} or later"
        raise ActuatorError(FailureKind.UNSUPPORTED, f"{node} is not shaped: {reason}", hint)


def _action(target: Target, observed: Shaped, after: Mapping[str, Any], why: str) -> Action:
    userspace = observed.shaper.userspace
    call, undo = (_calls(observed.url, values, userspace=userspace) for values in (after, observed.in_force))
    login = getattr(target.options, "username", None) is not None
    identity = {"url": observed.url, "login": login, "bits_per_kbyte": observed.shaper.bits_per_kbyte}
    return Action(target.node, KIND, why, observed.in_force, dict(after), call, undo, identity)


def _calls(url: str, values: Mapping[str, Any], *, userspace: bool) -> HttpCalls:
    """Kernel mode listens for ``shaper.enabled`` alone, userspace mode for ``shaper``; each hears of it too early."""
    if userspace:
        changes = [{"shaper": {"enabled": values["enabled"], "bandwidth": values["kbytes_per_s"]}}] * 2
    else:
        switch = {"shaper.enabled": values["enabled"]}
        changes = [{"shaper.bandwidth": values["kbytes_per_s"]}, switch, switch]
    return HttpCalls(tuple(HttpCall(None, "POST", _CHANGE, {"data": one}, url) for one in changes), PAUSE_S)


def _said(shaper: Shaper) -> str:
    if not shaper.enabled:
        return "no limit"
    return f"{shaper.kbytes_per_s} KBytes/s for {'all connections together' if shaper.userspace else 'each connection'}"
