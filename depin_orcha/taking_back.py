"""``apply --release``, ``--rollback`` and ``--reclaim``: what we set is taken back, or set again over a person's hand.

None of them needs ``apply = true``, and paused nodes are no exception; without ``execute`` they are only listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from . import actuators
from .acting import Work, World, authorization
from .actuators import Route
from .adapters import NodeOptions
from .cycle import Job, Result
from .errors import ActuatorError, AdapterError, ConfigError, DataError, FailureKind, UsageError
from .hands import Past, done
from .outside import Outside
from .store import Store
from .types import ActionState, Failure

Chosen = Callable[[Sequence[Past]], Sequence[Past]]


def release(job: Job, store: Store, *, execute: bool) -> Result:
    """Everything that was ever set is back at what stood before our first write."""
    with Outside(partial(authorization, job.config)) as outside:
        return _take_back(World(job, store, outside), None, lambda past: past, execute=execute)


def rollback(job: Job, store: Store, plan_id: str | None, *, execute: bool) -> Result:
    """Everything is back at what stood before a plan (the latest that set anything) was applied.

    Raises ``DataError`` for a plan of which nothing was carried out.
    """
    with Outside(partial(authorization, job.config)) as outside:
        world = World(job, store, outside)
        plan_id = _applied(world.past, plan_id)
        return _take_back(world, plan_id, lambda past: _since(past, plan_id), execute=execute)


def reclaim(job: Job, store: Store, node: str, *, execute: bool) -> Result:
    """What we had last set on a node is in force again, whatever a person made of it since."""
    options = job.config.nodes.get(node)
    if options is None:
        raise UsageError(f"there is no node {node} in the configuration")
    with Outside(partial(authorization, job.config)) as outside:
        world = World(job, store, outside)
        work = Work(failures=world.recover())
        grant = world.granted(node)
        try:
            if grant:
                work.routes[node] = world.route(node, options, grant, "taken back from a person's hand")
        except (ActuatorError, AdapterError, ConfigError) as error:
            work.failures.append(Failure(node, error.kind, error.message, error.hint))
        return world.carry_out(work, None, execute=execute, consent=_needs_none, reclaim=True)


def _take_back(world: World, plan_id: str | None, chosen: Chosen, *, execute: bool) -> Result:
    """What stood before the first of the ``chosen`` acts of each node is in force again."""
    work = Work(failures=world.recover())
    for node, past in world.past.items():
        options, acts = world.job.config.nodes.get(node), done(chosen(past))
        if not acts or not world.job.wanted(node):
            continue
        if options is None:
            work.failures.append(_lost(node))
            continue
        target = world.target(node, options)
        try:
            observed = actuators.observe(target, world.outside, world.backends, dict.fromkeys(one.kind for one in acts))
            work.routes[node] = Route(tuple(actuators.release(target, observed, acts, world.backends)))
        except ActuatorError as error:
            work.failures.append(Failure(node, error.kind, error.message, error.hint))
    result = world.carry_out(work, None, execute=execute, consent=_needs_none)
    result.data["plan_id"] = plan_id
    return result


def _applied(past: Mapping[str, Sequence[Past]], plan_id: str | None) -> str:
    """The plan of this id, or the latest, of which something was carried out."""
    acts = [one for own in past.values() for one in own if one.state is ActionState.DONE and one.plan_id is not None]
    if plan_id is None and acts:
        return str(max(acts, key=lambda one: one.row).plan_id)
    if plan_id is None or all(one.plan_id != plan_id for one in acts):
        which = "no plan" if plan_id is None else f"of plan {plan_id} nothing"
        raise DataError(f"{which} was carried out, so there is nothing to take back", "see: depin-orcha status")
    return plan_id


def _since(past: Sequence[Past], plan_id: str) -> Sequence[Past]:
    first = next((index for index, one in enumerate(past) if one.plan_id == plan_id), len(past))
    return past[first:]


def _needs_none(options: NodeOptions) -> bool:  # noqa: ARG001 - what we set we may lift again
    return True


def _lost(node: str) -> Failure:
    return Failure(
        node,
        FailureKind.CONFIG,
        f"{node} was changed once but is not in the configuration any more",
        "put its section back to release it",
    )
