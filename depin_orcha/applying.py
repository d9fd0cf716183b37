"""``apply``: carry out the latest plan on nodes whose owner allowed it, and set again what was lost.

Nothing outside the state folder is written without ``execute``; what would be done is listed all the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from typing import Any

from . import actuators
from .acting import Work, World, authorization
from .adapters import NodeOptions
from .asof import AsOf, PlanRow
from .cycle import Job, Result, require_nodes
from .errors import ActuatorError, AdapterError, ConfigError, DataError
from .movable import pause_command, rules
from .outside import Outside
from .store import Store
from .timefmt import rfc3339
from .types import ActionState, Failure, Resource


def apply(job: Job, store: Store, *, execute: bool) -> Result:
    """The latest plan is in force on every node with ``apply = true``; the others get the commands as advice.

    What we had set and something other than a person undid, as a container made anew, is set again. Raises
    ``DataError`` without a plan or with an expired one.
    """
    require_nodes(job)
    with Outside(partial(authorization, job.config)) as outside:
        return _apply(World(job, store, outside), execute=execute)


def _apply(world: World, *, execute: bool) -> Result:
    job = world.job
    work = Work(failures=world.recover())
    plan = world.known.plan()
    if plan is None:
        raise DataError("there is no plan to apply", "make one with: depin-orcha optimize")
    if job.now_s > plan.expires_s:
        raise DataError(
            f"plan {plan.plan_id} expired at {rfc3339(plan.expires_s)}", "make a new one with: depin-orcha optimize"
        )
    for host in plan.result["hosts"]:
        _route_host(world, plan, host, work)
    return world.carry_out(work, plan.plan_id, execute=execute, consent=_opted_in)


def _opted_in(options: NodeOptions) -> bool:
    return options.apply


def _route_host(world: World, plan: PlanRow, host: Mapping[str, Any], work: Work) -> None:
    to_apply = host["decision"] == "apply"
    grants = {node["node"]: _grant(node) for node in host["nodes"]}
    capacity = next(one["capacity"] for one in plan.problem["hosts"] if one["host"] == host["host"])
    try:
        if to_apply:
            actuators.refuse_overcommit(grants, {Resource(name): amount for name, amount in capacity.items()})
    except ActuatorError as error:
        work.failures.append(Failure(None, error.kind, error.message, error.hint))
        return
    for node in host["nodes"]:
        name, options = node["node"], world.job.config.nodes.get(node["node"])
        if options is None or not world.job.wanted(name) or world.is_paused(name):
            continue
        changed = to_apply and node["changed"]
        grant = grants[name] if changed else world.granted(name)
        if not grant:
            continue
        if options.host != "local":
            if changed:
                work.advice.append(_elsewhere(world.known, name, options, grant, node["reason"]))
            continue
        try:
            why = node["reason"] if changed else "set again: it was in force and is not any more"
            work.routes[name] = world.route(name, options, grant, why)
        except (ActuatorError, AdapterError, ConfigError) as error:
            work.failures.append(Failure(name, error.kind, error.message, error.hint))


def _grant(node: Mapping[str, Any]) -> dict[Resource, float]:
    return {Resource(name): float(amount) for name, amount in node["resources"].items()}


def _elsewhere(
    known: AsOf, name: str, options: NodeOptions, grant: Mapping[Resource, float], why: str
) -> dict[str, Any]:
    wanted = ", ".join(f"{resource} = {amount:g}" for resource, amount in grant.items())
    return {
        "node": name,
        "kind": "advice",
        "why": why,
        "before": {},
        "after": {str(resource): amount for resource, amount in grant.items()},
        "command": _by_hand(known, name, options, grant),
        "path": None,
        "request": None,
        "state": str(ActionState.ADVICE),
        "detail": f"it runs on {options.host}, which this machine cannot change: set {wanted} there",
    }


def _by_hand(known: AsOf, name: str, options: NodeOptions, grant: Mapping[Resource, float]) -> str | None:
    """What its owner types on the other machine; None for a protocol without such a command."""
    command = getattr(options, "provider_command", None)
    seen = known.last_seen(name)
    if command is not None and seen is not None and grant.get(Resource.CPU_CORES) == 0:
        return pause_command(rules(options.protocol).terms(seen.details), command) or None
    usage = known.usage(name)
    amounts = {resource: one.allocated for resource, one in usage.items() if one.allocated is not None} | dict(grant)
    if command is None or not {Resource.CPU_CORES, Resource.MEMORY_BYTES, Resource.STORAGE_BYTES} <= amounts.keys():
        return None
    gib = {key: f"{amounts[key] / 2**30:.4g}" for key in (Resource.MEMORY_BYTES, Resource.STORAGE_BYTES)}
    limits = ["--cpu-threads", f"{amounts[Resource.CPU_CORES]:.0f}", "--mem-gib", gib[Resource.MEMORY_BYTES]]
    create = [*command, "profile", "create", "depin-orcha", *limits, "--storage-gib", gib[Resource.STORAGE_BYTES]]
    return f"{shlex.join(create)} && {shlex.join([*command, 'profile', 'activate', 'depin-orcha'])}"
