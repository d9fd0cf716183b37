"""What is special about restarting the nodes of a protocol."""

from __future__ import annotations

from dataclasses import dataclass

from depin_orcha.types import DAY_S


@dataclass(frozen=True, slots=True)
class Rules:
    """What is special about restarting a node of a protocol.

    ``own_interface``: it is read through itself, so that silence speaks against it, not against a dashboard of others.
    ``binding``: it may be bound to work that a restart would break. ``stop_s``: how long stopping may take before it is
    killed. ``comes_back_s``: how long it may take to answer. ``rest_s``: not within so long of any start, whoever made
    it. ``hung_s``: a running one is not taken for hung within so long of its start. ``between_s``: not within so long
    of a restart of ours.
    """

    own_interface: bool = True
    binding: bool = False
    stop_s: int = 30
    comes_back_s: int = 180
    rest_s: int = 120
    hung_s: int = 900
    between_s: int = 0


_RULES = {
    # A start scans the disk for hours, and answers only when the satellites have told the time: it is no cure for slow.
    "storj": Rules(stop_s=300, comes_back_s=900, hung_s=DAY_S, between_s=DAY_S),
    "golem": Rules(binding=True),
    # For 210 s after a start the others of its fleet count on a node that is not there any more.
    "streamr": Rules(own_interface=False, rest_s=210),
    "mysterium": Rules(),
}
_OTHERS = Rules(own_interface=False)


def rules(protocol: str) -> Rules:
    """The rules of a protocol; of one that is not known here, silence says nothing of the node."""
    return _RULES.get(protocol, _OTHERS)
