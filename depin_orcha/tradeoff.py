"""``optimize --front``: the best plans within ever tighter limits; and thresholds that no plan can pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any


def front_of(document: Mapping[str, Any], axis: str) -> dict[str, Any]:
    """``data.front``: what the best grants earn within a limit on watts, moves or the share of one protocol.

    ``reason`` says why there are no points, where fewer than two nodes can be traded off.
    """
    from .optimize import Problem
    from .optimize.alternatives import NOTHING_TO_TRADE, Axis, front

    axes: dict[str, Axis] = {"watts": "watts", "moves": "moves", "share": "share"}
    points = [asdict(one) for one in front(Problem.from_dict(document), axes[axis])]
    return {"axis": axis, "reason": None if points else NOTHING_TO_TRADE, "points": points}


def frozen_by_thresholds(data: Mapping[str, Any]) -> list[str]:
    """A warning for every host that earns less than the gain which it is asked to make, so that it never changes."""
    return [
        f"{host['host']}: {advice['text']}"
        for host in data["hosts"]
        for advice in host["advice"]
        if advice["kind"] == "threshold"
    ]
