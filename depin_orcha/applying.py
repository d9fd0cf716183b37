"""``apply``: carry out the latest plan on nodes whose owner allowed it, and set again what was lost.

Nothing outside the state folder is written without ``execute``; what would be done is listed all the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from math import inf
from typing import Any

from . import actuators
from .acting import Work, World, authorization
from .adapters import NodeOptions
from .asof import AsOf, PlanRow
from .cycle import Job, Result, require_nodes
from .errors import ActuatorError, AdapterError, ConfigError, DataError, FailureKind
from .grants import HostGrants, grants_of
from .hands import SET_AGAIN
from .movable import pause_command, rules
from .outside import Outside
from .store import Store
from .timefmt import rfc3339
from .types import ActionState, Failure, Resource

_ANEW = "make a new plan: depin-orcha optimize"


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
    # The owner may have become stricter since, and the row is only as good as the hands that were at it.
    expires_s = min(plan.expires_s, plan.made_s + job.config.settings.apply.max_plan_age_s)
    if job.now_s > expires_s:
        raise DataError(
            f"plan {plan.plan_id} expired at {rfc3339(expires_s)}", "make a new one with: depin-orcha optimize"
        )
    for grants, capacity in grants_of(plan):
        _route_host(world, plan, grants, capacity, work)
    return world.carry_out(work, plan.plan_id, execute=execute, consent=_opted_in)


def _opted_in(options: NodeOptions) -> bool:
    return options.apply


def _route_host(world: World, plan: PlanRow, host: HostGrants, capacity: Mapping[Resource, float], work: Work) -> None:
    to_apply = host.decision == "apply"
    try:
        if to_apply:
            there = _least(capacity, world.capacity(host.host))
            grants = host.by_node()
            if all(_is_taken(world.known, name, grant) for name, grant in grants.items()):
                there |= {Resource.STORAGE_BYTES: inf}
            actuators.refuse_overcommit(grants, there)
    except ActuatorError as error:
        work.failures.append(Failure(None, error.kind, error.message, error.hint))
        return
    kept: list[str] = []
    for node in host.nodes:
        name, options = node.node, world.job.config.nodes.get(node.node)
        if options is None or not world.job.wanted(name) or world.is_paused(name):
            continue
        changed = to_apply and node.changed
        grant = node.resources if changed else world.granted(name)
        if not grant:
            continue
        try:
            if changed:
                _check_place(options, {"host": host.host} | plan.places.get(name, {}), name)
                _check_floors(world.known, name, grant)
            if options.host == "local":
                why = node.reason if changed else SET_AGAIN
                since_s = _made_for(world, plan, name) if changed else None
                work.routes[name] = world.route(name, options, grant, why, since_s)
            elif changed:
                work.advice.append(_elsewhere(world.known, name, options, grant, node.reason))
        except (ActuatorError, AdapterError, ConfigError) as error:
            work.failures.append(Failure(name, error.kind, error.message, error.hint))
            if changed and node.makes_room:
                kept.append(name)
    for name in {one.node for one in host.nodes} & work.routes.keys() if kept else ():
        reason = f"no room was made for it: {', '.join(kept)} was to get less and cannot be set now"
        work.routes[name] = actuators.without_rises(work.routes[name], reason)


def _least(planned: Mapping[Resource, float], now: Mapping[Resource, float]) -> dict[Resource, float]:
    """What a host had for its nodes when the plan was made, or has now if that is less."""
    return {resource: min(amount, now.get(resource, amount)) for resource, amount in planned.items()}


def _is_taken(known: AsOf, node: str, grant: Mapping[Resource, float]) -> bool:
    """Does the node get no more disk space than it said that it has? That may be too much for long."""
    now = known.usage(node).get(Resource.STORAGE_BYTES)
    wanted = grant.get(Resource.STORAGE_BYTES, 0.0)
    return not wanted or (now is not None and now.allocated is not None and wanted <= now.allocated * (1 + 1e-9))


def _made_for(world: World, plan: PlanRow, node: str) -> int | None:
    """When the plan was made, where what runs the node has to be as old: it is the same until we set the plan on it.

    Afterwards, what is made anew gets the same grant again. None where the plan does not say what it was made for, and
    with an instant that is not that of the clock.
    """
    is_set = any(one.plan_id == plan.plan_id for one in world.past.get(node, ()))
    return None if is_set or node not in plan.places or world.job.fixed_now else plan.made_s


def _check_place(options: NodeOptions, place: Mapping[str, str | None], node: str) -> None:
    """Raises ``ActuatorError`` for a node that runs somewhere else than where it ran when it was planned."""
    now = options.place
    for key, planned in place.items():
        if now.get(key) != planned:
            message = (
                f"the plan was made for {node} with {key} {planned or 'unset'}, and it is {now.get(key) or 'unset'} now"
            )
            raise ActuatorError(FailureKind.DATA, message, _ANEW)


def _check_floors(known: AsOf, node: str, grant: Mapping[Resource, float]) -> None:
    """Raises ``ActuatorError`` for less than the node said that it needs."""
    seen = known.last_seen(node)
    for resource, amount in grant.items():
        floor = (seen.limits.get(resource, {}).get("floor") if seen else None) or 0.0
        if 0 < amount < floor * (1 - 1e-9):  # nothing at all is to rest, which is for the back end to judge
            message = f"{node} is not given {amount:g} {resource}: it needs at least {floor:g}"
            raise ActuatorError(FailureKind.DATA, message, _ANEW)


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
