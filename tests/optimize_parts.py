"""Small problems of one host, and what is decided about them."""

from typing import Any

from depin_orcha.optimize import Plan, Problem, solve
from depin_orcha.optimize.plan import HostPlan


def node(name: str, **changes: Any) -> dict[str, Any]:
    """A node of 4 cores at 0.01 $ per core and hour that could have 8."""
    return {
        "node": name,
        "uses_per_unit": {"cpu_cores": 1},
        "current_units": 4,
        "max_units": 8,
        "usd_per_unit_hour": 0.01,
    } | changes


def solved(*nodes: dict[str, Any], cores: float = 8, horizon_h: int = 12, **top: Any) -> Plan:
    """The plan of one host with these nodes."""
    hosts = [{"host": "box", "capacity": {"cpu_cores": cores}, "nodes": list(nodes)}]
    return solve(Problem.from_dict({"horizon_h": horizon_h, "hosts": hosts} | top))


def decided(*nodes: dict[str, Any], **more: Any) -> HostPlan:
    """The decision of that host."""
    return solved(*nodes, **more).hosts[0]


def grants(host: HostPlan) -> list[float]:
    """Units of each node."""
    return [each.units for each in host.nodes]


def offer(name: str, current: str | None, *choices: tuple[str, float, float], **changes: Any) -> dict[str, Any]:
    """A node with choices of (name, units, income per hour)."""
    return {
        "node": name,
        "uses_per_unit": {"cpu_cores": 1},
        "choices": [{"name": each, "units": units, "usd_per_hour": usd} for each, units, usd in choices],
        "current_choice": current,
    } | changes


def box(name: str, *nodes: dict[str, Any], **capacity: float) -> dict[str, Any]:
    """A host with these nodes."""
    return {"host": name, "capacity": capacity or {"cpu_cores": 8}, "nodes": list(nodes)}


def planned(*hosts: dict[str, Any], horizon_h: int = 12, explain: bool = True, **top: Any) -> Plan:
    """The plan of several hosts."""
    return solve(Problem.from_dict({"horizon_h": horizon_h, "hosts": list(hosts)} | top), explain=explain)
