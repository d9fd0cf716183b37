"""Which grants a plan may move, protocol by protocol, and what a reading says of one beside its amount.

A grant is movable where a larger one can earn more within hours and a back end sets it. Every other limit protects,
and is left to the owner.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .actuators import storj
from .actuators.mysterium import refusal
from .adapters import NodeOptions
from .types import Resource

Details = Mapping[str, Any]
"""``health.details`` of a reading."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How the grant of a protocol is planned; as they stand, those of one that no plan moves.

    ``restart_loss_hours``: hours of income that a change costs. ``terms``: what beside the grant decides what is
    earned; only hours with equal terms are compared. ``unlimited``: resources of which the node may take all there
    is. ``fixed``: why the grant of this very node cannot be moved, None where it can. ``pausable``:
    it may rest for some hours of the day, which costs no more than their income. ``fills``:
    it earns on what is stored, which grows by itself. ``told``: how people call terms,
    and the command that sets them. ``hindered``: why no plan can set the grant of a node that is moved for no gain,
    but to the owner's own bounds, "" where one can; a bound missed by less than ``least_change`` is met.
    """

    movable: bool = False
    restart_loss_hours: float = 0.0
    terms: Callable[[Details], Any] = lambda _: None
    unlimited: Callable[[Details], tuple[Resource, ...]] = lambda _: ()
    fixed: Callable[[Details], str | None] = lambda _: None
    pausable: bool = False
    fills: bool = False
    told: Callable[[Any, Sequence[str]], tuple[str, str]] = lambda _, __: ("", "")
    hindered: Callable[[NodeOptions], str] | None = None
    least_change: float = 0.0


def rules(protocol: str) -> Rules:
    """The rules of a protocol, which for one that is not known here are that nothing is moved."""
    return _RULES.get(protocol, Rules())


def _prices_offered(details: Details) -> Any:
    offers: list[dict[str, Any]] = details.get("offers") or []
    names = ("runtime", "glm_per_cpu_s", "glm_per_s", "glm_start")
    return sorted([str(offer.get(name)) for name in names] for offer in offers)


def _prices_told(terms: Any, command: Sequence[str]) -> tuple[str, str]:
    """What a thread costs by the hour, and the calls that set it for presets which are named as their runtime."""
    prices = [(runtime, *(float(one) for one in rest)) for runtime, *rest in terms]
    label = ", ".join(f"{thread * 3600:.4g}" for _, thread, *_ in prices) + " GLM/h"
    calls: list[str] = []
    for runtime, thread, second, start in prices:
        options = [f"CPU={thread!r}", f"Duration={second!r}", *([f"Init price={start!r}"] if start else [])]
        words = [word for option in options for word in ("--price", option)]
        calls.append(shlex.join([*command, "preset", "update", "--no-interactive", "--name", runtime, *words]))
    return label, " && ".join(calls)


def pause_command(terms: Any, command: Sequence[str]) -> str:
    """The calls of ``ya-provider`` after which nothing is offered any more; running agreements go on."""
    return " && ".join(shlex.join([*command, "preset", "deactivate", runtime]) for runtime, *_ in terms)


def _offers_nothing(details: Details) -> str | None:
    """A provider without an offer has no cap that could be moved, only to be resumed by its owner."""
    if details.get("offers") != []:
        return None
    return "it offers nothing: it is paused (resume it with: ya-provider preset activate NAME), or ya-provider is down"


def _services_offered(details: Details) -> Any:
    """The services that run, and whether consumers cannot reach them at all."""
    services: dict[str, str] = details.get("services") or {}
    network: Details = details.get("network") or {}
    return sorted(name for name, state in services.items() if state == "Running"), network.get("monitoring") == "failed"


def _unshaped(details: Details) -> tuple[Resource, ...]:
    shaper: Details | None = details.get("shaper")
    is_off = shaper is not None and not shaper["enabled"] and not shaper["per_connection"]
    return (Resource.UPLINK_BPS,) if is_off else ()


def _per_connection(details: Details) -> str | None:
    """The kernel shapes each connection by itself: its limit says nothing of what the node takes as a whole."""
    shaper: Details = details.get("shaper") or {}
    if shaper.get("per_connection"):
        return "its shaper sets a per-connection limit, which is none of the node as a whole: for protection, by hand"
    return refusal(str(details.get("version")))


def _disk_not_set(options: NodeOptions) -> str:
    """Its back end rewrites a file of this machine and restarts what runs the node."""
    if options.host != "local":
        return f"it runs on {options.host}, which this machine cannot change"
    if options.runtime not in ("docker", "podman", "systemd"):
        return "nothing that is configured here runs it, so it cannot be restarted (runtime)"
    missing = [name for name in ("config_path", "disk") if not getattr(options, name, None)]
    return f"its {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set" if missing else ""


_RULES = {
    "golem": Rules(
        movable=True,
        restart_loss_hours=0.1,
        terms=_prices_offered,
        fixed=_offers_nothing,
        pausable=True,
        told=_prices_told,
    ),
    "mysterium": Rules(movable=True, terms=_services_offered, unlimited=_unshaped, fixed=_per_connection),
    "storj": Rules(restart_loss_hours=0.5, fills=True, hindered=_disk_not_set, least_change=storj.STEP_BYTES),
}
