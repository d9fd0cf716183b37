"""What the page of levers says: which resource of which node can be limited, by which back end, at what cost."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from depin_orcha.actuators import Actuators, Target, actuators, kinds
from depin_orcha.adapters import NodeOptions, adapter_class, known_protocols
from depin_orcha.movable import rules

TITLE = "Levers"
ABOUT = (
    "Which resource of which node can be limited, by which back end, and what that costs. "
    "[How that is done safely](../how-to/apply-safely.md)."
)
Table = Callable[[tuple[str, ...], Any], list[str]]
BACK_ENDS = {
    "docker": (
        "CPU and memory of a container: a cap with `hard_caps` and for Golem, else a weight",
        "the Docker Engine's socket",
        "until the container is made anew; then it is set again",
        "nothing; no restart",
    ),
    "podman": (
        "CPU and memory of a container: a cap with `hard_caps` and for Golem, else a weight",
        "the socket of Podman's service",
        "until the container starts again (Podman 4.3), or is made anew; then it is set again",
        "nothing; no restart",
    ),
    "systemd": (
        "CPU and memory of a unit: a cap with `hard_caps` and for Golem, else a weight",
        "root",
        "until the machine starts again; then it is set again",
        "nothing; no restart",
    ),
    "process": (
        "CPU and memory of a process and all below it: a cap with `hard_caps` and for Golem, else a weight",
        "root; with version 2 of control groups, systemd",
        "until the process ends; the next one is limited again",
        "nothing; no restart",
    ),
    "traffic": (
        "what a container with `hard_caps` sends and receives, each way for itself",
        "root; a network of its own, no queue of anybody else's",
        "until the container starts again; then it is set again",
        "nothing; no restart",
    ),
    "uplink": (
        "what a unit with `hard_caps` sends over the default route",
        "root, nftables; control groups of version 2, a default route without a queue of anybody else's",
        "until the unit starts again; then it is set again",
        "nothing; no restart",
    ),
    "golem": (
        "threads, memory and disk offered to new agreements, by a profile of our own; a rest, by its presets",
        "the user of the provider",
        "until it is changed; a rest ends when `golemsp` starts, and `ya-provider` alone does not start while it rests",
        "new offers within a minute; running agreements go on as they are",
    ),
    "mysterium": (
        "the uplink of the whole node in userspace mode, by its shaper",
        "its TequilAPI",
        "until it is changed",
        "nothing; no restart",
    ),
    "storj": (
        "the disk space allocated, by one line of its `config.yaml`; as advice where `STORAGE` or a flag wins over it",
        "the right to write that file, and what restarts the node",
        "until it is changed",
        "a restart of the node, at most one a day, and hours of its file walker",
    ),
}
"""Back end -> what it sets, what that takes, how long it lasts, what it costs."""
_BY_GAIN = "moved where that surely earns more"
_ALONG = "goes along with the first, where `uses_per_unit` of the node names both"
_KEPT = "left as it is: more of it earns nothing from day to day"


def levers(table: Table) -> list[str]:
    """The lines below the title: by protocol from what adapters and back ends say, and by back end."""
    made = actuators()
    if missing := made.keys() ^ BACK_ENDS.keys():
        sys.exit(f"scripts/levers_page.py has to say what these do, or no longer: {', '.join(sorted(missing))}")
    rows = [row for protocol in built_in() for row in _levers(protocol, made)]
    ends = [(f"`{kind}`", *BACK_ENDS[kind]) for kind in sorted(made)]
    return [
        "## By protocol",
        "",
        *table(("protocol", "resource", "back end", "what a plan does with it"), rows),
        "",
        "## By back end",
        "",
        *table(("back end", "what it sets", "what it takes", "how long it lasts", "what it costs"), ends),
    ]


def built_in() -> Iterator[str]:
    """The protocols of this package."""
    for protocol in known_protocols():
        if adapter_class(protocol).__module__.startswith("depin_orcha."):
            yield protocol


def _levers(protocol: str, made: Actuators) -> Iterator[tuple[str, str, str, str]]:
    adapter = adapter_class(protocol)
    main = next(iter(adapter.uses_per_unit))
    for resource in adapter.levers:
        kinds_of: dict[str, None] = {}
        for runtime in ("docker", "podman", "systemd", "process"):
            options = NodeOptions(
                protocol=protocol, runtime=runtime, container="c", unit="u", process="p", hard_caps=True
            )
            kinds_of |= dict.fromkeys(kinds(Target("n", options, 1), made, [resource]))
        does = (_BY_GAIN if resource == main else _ALONG) if rules(protocol).movable else _KEPT
        if protocol == "storj" and resource == main:
            does = "brought inside your own `min_units` and `max_units`; never moved for gain"
        yield protocol, f"`{resource}`", ", ".join(f"`{kind}`" for kind in kinds_of) or "none: by your hand", does
