"""``apply``: carry out the latest plan on nodes whose owner allowed it, or lift everything that was ever set.

Nothing outside the state folder is written without ``execute``; what would be done is listed all the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from . import actuators
from .actuators import Route, Target
from .adapters import NodeOptions
from .asof import AsOf, PlanRow
from .collect import make_adapter
from .config import Config
from .cycle import Job, Result, require_nodes
from .errors import ActuatorError, AdapterError, ConfigError, DataError, ExitCode, FailureKind
from .execute import Outcome, execute, recover
from .net import HttpClient
from .outside import Outside
from .store import Store
from .timefmt import rfc3339
from .types import Action, ActionState, Call, Failure, HttpCall, HttpCalls, Resource, RunCommand


@dataclass(slots=True)
class _Work:
    """What is to be done: routes by node, and what already went wrong on the way there."""

    routes: dict[str, Route] = field(default_factory=dict[str, Route])
    failures: list[Failure] = field(default_factory=list[Failure])
    advice: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def apply(job: Job, store: Store, *, execute: bool) -> Result:
    """The latest plan is in force on every node with ``apply = true``; the others get the commands as advice.

    Raises ``DataError`` without a plan or with an expired one.
    """
    require_nodes(job)
    with Outside(partial(_authorization, job.config)) as outside:
        return _apply(_World(job, store, outside), execute=execute)


def _apply(world: _World, *, execute: bool) -> Result:
    job = world.job
    failures = world.recover()
    plan = world.known.plan()
    if plan is None:
        raise DataError("there is no plan to apply", "make one with: depin-orcha optimize")
    if job.now_s > plan.expires_s:
        raise DataError(
            f"plan {plan.plan_id} expired at {rfc3339(plan.expires_s)}", "make a new one with: depin-orcha optimize"
        )
    work = _Work(failures=failures)
    for host in plan.result["hosts"]:
        if host["decision"] == "apply":
            _route_host(world, plan, host, work)
    return world.carry_out(work, plan.plan_id, execute=execute, consent=_opted_in)


def release(job: Job, store: Store, *, execute: bool) -> Result:
    """Everything that was ever set is back at what stood before our first write, on paused nodes too."""
    with Outside(partial(_authorization, job.config)) as outside:
        return _release(_World(job, store, outside), execute=execute)


def _release(world: _World, *, execute: bool) -> Result:
    job = world.job
    work = _Work(failures=world.recover())
    for node, done in world.done().items():
        options = job.config.nodes.get(node)
        if options is None or not job.wanted(node):
            if options is None:
                work.failures.append(_lost(node))
            continue
        target = world.target(node, options)
        try:
            names = dict.fromkeys(action.kind for action in done)
            observed = actuators.observe(target, world.outside, world.backends, names)
            work.routes[node] = Route(tuple(actuators.release(target, observed, done, world.backends)))
        except ActuatorError as error:
            work.failures.append(Failure(node, error.kind, error.message, error.hint))
    return world.carry_out(work, None, execute=execute, consent=_needs_none)


def _authorization(config: Config, base_url: str) -> Mapping[str, str]:
    """The headers that a configured node's interface wants to see; none for an address that no node has.

    Raises ``AdapterError`` or ``ConfigError``.
    """
    for name, options in config.nodes.items():
        if getattr(options, "url", None) == base_url:
            adapter, _ = make_adapter(config, name, options)
            ask = getattr(adapter, "authorization", None)
            if ask is not None:
                with HttpClient(options.deadline_s) as http:
                    return ask(http)
    return {}


def _opted_in(options: NodeOptions) -> bool:
    return options.apply


def _needs_none(options: NodeOptions) -> bool:  # noqa: ARG001 - what we set we may lift again
    return True


def _lost(node: str) -> Failure:
    return Failure(
        node,
        FailureKind.CONFIG,
        f"{node} was changed once but is not in the configuration any more",
        "put its section back to release it",
    )


def _route_host(world: _World, plan: PlanRow, host: Mapping[str, Any], work: _Work) -> None:
    grants = {node["node"]: _grant(node) for node in host["nodes"]}
    capacity = next(one["capacity"] for one in plan.problem["hosts"] if one["host"] == host["host"])
    try:
        actuators.refuse_overcommit(grants, {Resource(name): amount for name, amount in capacity.items()})
    except ActuatorError as error:
        work.failures.append(Failure(None, error.kind, error.message, error.hint))
        return
    for node in host["nodes"]:
        name, options = node["node"], world.job.config.nodes.get(node["node"])
        if not node["changed"] or options is None or not world.job.wanted(name) or world.is_paused(name):
            continue
        if options.host != "local":
            work.advice.append(_elsewhere(world.known, name, options, grants[name], node["reason"]))
            continue
        try:
            work.routes[name] = world.route(name, options, grants[name], node["reason"])
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
    usage = known.usage(name)
    amounts = {resource: one.allocated for resource, one in usage.items() if one.allocated is not None} | dict(grant)
    if command is None or not {Resource.CPU_CORES, Resource.MEMORY_BYTES, Resource.STORAGE_BYTES} <= amounts.keys():
        return None
    gib = {key: f"{amounts[key] / 2**30:.4g}" for key in (Resource.MEMORY_BYTES, Resource.STORAGE_BYTES)}
    limits = ["--cpu-threads", f"{amounts[Resource.CPU_CORES]:.0f}", "--mem-gib", gib[Resource.MEMORY_BYTES]]
    create = [*command, "profile", "create", "depin-orcha", *limits, "--storage-gib", gib[Resource.STORAGE_BYTES]]
    return f"{shlex.join(create)} && {shlex.join([*command, 'profile', 'activate', 'depin-orcha'])}"


class _World:
    """The machine as apply sees it: back ends that read it, and what the journal says of earlier acts."""

    def __init__(self, job: Job, store: Store, outside: Outside) -> None:
        self.job = job
        self.store = store
        self.known = AsOf(store.connection, job.now_s)
        self.outside = outside
        self.backends = actuators.actuators(self._offers)
        self._pauses = {pause.node for pause in self.known.pauses()}

    def is_paused(self, node: str) -> bool:
        """Did the owner ask to leave this node alone?"""
        return None in self._pauses or node in self._pauses

    def target(self, node: str, options: NodeOptions) -> Target:
        """The node as the back ends need it."""
        import psutil

        engines = self.job.config.settings.apply
        return Target(node, options, psutil.cpu_count() or 1, engines.docker_socket, engines.podman_socket)

    def route(self, node: str, options: NodeOptions, grant: Mapping[Resource, float], why: str) -> Route:
        """What brings the node to its grant, given what is in force now."""
        target = self.target(node, options)
        names = actuators.kinds(target, self.backends, grant)
        observed = actuators.observe(target, self.outside, self.backends, names)
        return actuators.route(target, observed, grant, why, self.backends, busy=self._busy(node, options))

    def _busy(self, node: str, options: NodeOptions) -> bool | None:
        adapter, _ = make_adapter(self.job.config, node, options)
        ask = getattr(adapter, "busy", None)
        if ask is None:
            return None
        try:
            with HttpClient(options.deadline_s) as http:
                return ask(http)
        except AdapterError:
            return None

    def _offers(self, node: str) -> list[dict[str, Any]]:
        options = self.job.config.nodes[node]
        adapter: Any
        adapter, _ = make_adapter(self.job.config, node, options)
        try:
            with HttpClient(options.deadline_s) as http:
                return adapter.offers(http)
        except AdapterError as error:
            raise ActuatorError(error.kind, error.message, error.hint) from error

    def done(self) -> dict[str, list[Action]]:
        """The acts that are in force as far as the journal knows, by node, oldest first."""
        acts: dict[str, list[Action]] = {}
        for row in self.known.actions(state=str(ActionState.DONE)):
            acts.setdefault(row["node"], []).append(actuators.from_json(row["action_json"]))
        return acts

    def recover(self) -> list[Failure]:
        """End what a run that died left unfinished, by what is in force now."""
        rows = self.known.actions(state=str(ActionState.RUNNING))
        if not rows:
            return []
        actions = {row["id"]: actuators.from_json(row["action_json"]) for row in rows}
        journal = _Journal(self.store, {row: row for row in actions}, self.job)
        outcomes = recover(actions, journal, self.backends, self.outside, self._verify_s)
        return [outcome.failure for outcome in outcomes if outcome.failure is not None]

    @property
    def _verify_s(self) -> float:
        return self.job.config.settings.apply.verify_timeout_s

    def carry_out(
        self, work: _Work, plan_id: str | None, *, execute: bool, consent: Callable[[NodeOptions], bool]
    ) -> Result:
        """Run the routes of nodes with consent, or only list them; returns the document of ``apply``."""
        documents: list[dict[str, Any]] = []
        to_run: dict[int, Action] = {}
        for node, route in work.routes.items():
            allowed = consent(self.job.config.nodes[node])
            state = ActionState.PLANNED if allowed else ActionState.ADVICE
            for action in route.actions:
                if execute and allowed:
                    to_run[len(documents)] = action
                documents.append(self._document(action, state, "" if allowed else "apply = true is not set for it"))
            documents += [self._document(action, ActionState.SKIPPED, reason) for action, reason in route.skipped]
        outcomes = self._run(to_run, plan_id) if to_run else []
        for outcome in outcomes:
            documents[outcome.seq] |= {"state": str(outcome.state), "detail": outcome.detail}
        documents += work.advice
        notes = [f"{node}: {note}" for node, route in work.routes.items() for note in route.notes]
        failures = work.failures + [outcome.failure for outcome in outcomes if outcome.failure is not None]
        data = {
            "plan_id": plan_id,
            "mode": "executed" if execute else "dry_run",
            "changed": sum(outcome.changed for outcome in outcomes),
            "actions": [{"seq": seq} | document for seq, document in enumerate(documents)],
        }
        return Result(data, failures, _code(failures, outcomes), notes)

    def _run(self, actions: Mapping[int, Action], plan_id: str | None) -> list[Outcome]:
        # The journal has to survive a power cut, not only the death of this process.
        self.store.connection.execute("PRAGMA synchronous = FULL")
        with self.store.transaction():
            rows = {
                seq: self.store.add_action(plan_id, seq, action, actuators.to_json(action), self.job.now_s)
                for seq, action in actions.items()
            }
        return execute(actions, _Journal(self.store, rows, self.job), self.backends, self.outside, self._verify_s)

    def _document(self, action: Action, state: ActionState, detail: str) -> dict[str, Any]:
        call = action.call
        command = shlex.join(call.argv) if isinstance(call, RunCommand) else None
        if state is ActionState.ADVICE:
            command = actuators.advice(action, self.backends)
        return {
            "node": action.node,
            "kind": action.kind,
            "why": action.why,
            "before": action.before,
            "after": action.after,
            "command": command,
            "path": None,
            "request": _request(call),
            "state": str(state),
            "detail": detail,
        }


def _request(call: Call) -> str | None:
    calls = call.calls if isinstance(call, HttpCalls) else (call,)
    return ", ".join(dict.fromkeys(f"{one.method} {one.path}" for one in calls if isinstance(one, HttpCall))) or None


def _code(failures: Iterable[Failure], outcomes: Iterable[Outcome]) -> ExitCode:
    failures = list(failures)
    if not failures:
        return ExitCode.OK
    if all(one.kind is FailureKind.PERMISSION for one in failures) and not any(one.changed for one in outcomes):
        return ExitCode.NOT_PERMITTED
    return ExitCode.PARTIAL


class _Journal:
    """The table of actions: each state is committed before the next step is taken."""

    def __init__(self, store: Store, rows: Mapping[int, int], job: Job) -> None:
        self._store = store
        self._rows = rows
        self._job = job

    def running(self, seq: int) -> None:
        self._store.set_action_state(self._rows[seq], str(ActionState.RUNNING), "", None)

    def finish(self, seq: int, state: ActionState, detail: str) -> None:
        self._store.set_action_state(self._rows[seq], str(state), detail, self._job.clock_s())
