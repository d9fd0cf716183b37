"""The machine as ``apply`` sees it: what reads it and sets it, and the journal of what we did."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from . import actuators, restarts
from .actuators import Route, Target, lowers, original, rises
from .actuators.golem import rested
from .adapters import NodeOptions
from .asof import AsOf
from .collect import make_adapter
from .config import Config
from .cycle import Job, Result
from .errors import ActuatorError, AdapterError, DataError, ExitCode, FailureKind
from .execute import NEEDS_ATTENTION, Outcome, execute, recover
from .hands import Past, by_hand, done, is_told
from .host import shared
from .net import HttpClient
from .outside import Outside
from .store import Store
from .timefmt import rfc3339
from .types import (
    Action,
    ActionState,
    Call,
    Failure,
    Group,
    HttpCall,
    HttpCalls,
    Resource,
    RunCommand,
    Steps,
    WriteLine,
)


@dataclass(slots=True)
class Work:
    """What is to be done: routes by node, and what already went wrong on the way there."""

    routes: dict[str, Route] = field(default_factory=dict[str, Route])
    failures: list[Failure] = field(default_factory=list[Failure])
    advice: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    notes: dict[str, str] = field(default_factory=dict[str, str])

    def in_order(self) -> list[tuple[str, Route]]:
        """Routes that only take, then those that do both, then those that only give, which may need the room."""
        return sorted(self.routes.items(), key=lambda one: _giving(one[1].actions))


class World:
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

    def capacity(self, host: str) -> dict[Resource, float]:
        """What the nodes of a host may have between them, as it was last measured or is stated."""
        measured, _ = self.known.hosts().get(host, ({}, {}))
        return {Resource(name): amount for name, amount in shared(measured, self.job.config.host(host)).items()}

    def target(self, node: str, options: NodeOptions) -> Target:
        """The node as the back ends need it."""
        return target_of(self.job.config, node, options, rested(done(self.past.get(node, ()))))

    def route(
        self, node: str, options: NodeOptions, grant: Mapping[Resource, float], why: str, since_s: int | None = None
    ) -> Route:
        """What brings the node to its grant, given what is in force now.

        ``since_s``: refuses with ``ActuatorError`` what was made anew after that instant.
        """
        target = self.target(node, options)
        names = actuators.kinds(target, self.backends, grant)
        observed = actuators.observe(target, self.outside, self.backends, names)
        made_s = max((getattr(one, "made_s", None) or 0 for one in observed.values()), default=0)
        if since_s is not None and made_s > since_s:
            message = f"{node} is another since the plan was made: {actuators.named(target)} is of {rfc3339(made_s)}"
            raise ActuatorError(FailureKind.DATA, message, "make a new plan: depin-orcha optimize")
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

    @cached_property
    def past(self) -> Mapping[str, Sequence[Past]]:
        """What the journal has of each node, oldest first."""
        acts: dict[str, list[Past]] = {}
        for row in self.known.actions():
            action = self._act(row)
            past = Past(row["id"], row["plan_id"], ActionState(row["state"]), row["detail"], action)
            acts.setdefault(row["node"], []).append(past)
        return acts

    def _act(self, row: Mapping[str, Any]) -> Action:
        """The act of a journal row. Raises ``DataError`` for one that we cannot have written."""
        try:
            action = actuators.from_json(row["action_json"])
            _ = self.backends[action.kind], ActionState(row["state"])
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            message = f"action {row['id']} of the journal, on {row['node']}, is damaged ({error!r})"
            raise DataError(message, "restore a backup, or name another file with --db") from error
        return action

    def granted(self, node: str) -> dict[Resource, float]:
        """What we last set on a node and have not taken back since; what the node itself offers counts most."""
        acts, protocol = done(self.past.get(node, ())), self.job.config.nodes[node].protocol
        grant: dict[Resource, float] = {}
        for kind in sorted({one.kind for one in acts}, key=lambda kind: kind == protocol):
            own = [one for one in acts if one.kind == kind]
            if original(own):
                grant |= self.backends[kind].grant(own)
        return grant

    def recover(self) -> list[Failure]:
        """End what is unfinished, by what is in force now: begun by a run that died, or neither proven nor put back."""
        # The journal has to survive a power cut, not only the death of this process.
        self.store.connection.execute("PRAGMA synchronous = FULL")
        journal = _Journal(self.store, None, self.job)
        for row in self.known.actions(state=str(ActionState.PLANNED)):
            journal.finish(row["id"], ActionState.SKIPPED, "the run ended before this was begun")
        actions = {row["id"]: self._act(row) for row in self._unfinished()}
        outcomes = recover(actions, journal, self.backends, self.outside, self._verify_s)
        return [outcome.failure for outcome in outcomes if outcome.failure is not None]

    def _unfinished(self) -> list[dict[str, Any]]:
        rows = [row for row in self.known.actions() if row["state"] != ActionState.SKIPPED]
        latest = {(row["node"], row["kind"]): row["id"] for row in rows}
        unproven = {row["id"] for row in rows if row["detail"].startswith(NEEDS_ATTENTION)} & set(latest.values())
        return [row for row in rows if row["state"] == ActionState.RUNNING or row["id"] in unproven]

    @property
    def _verify_s(self) -> float:
        return self.job.config.settings.apply.verify_timeout_s

    def carry_out(
        self,
        work: Work,
        plan_id: str | None,
        *,
        execute: bool,
        consent: Callable[[NodeOptions], bool],
        reclaim: bool = False,
    ) -> Result:
        """Run the routes of nodes with consent, or only list them; returns the document of ``apply``.

        What a person changed since our last act is left alone, unless we ``reclaim`` it.
        """
        documents: list[dict[str, Any]] = []
        to_run: dict[int, Action] = {}
        left: dict[int, tuple[Action, str]] = {}
        for node, route in work.in_order():
            allowed = consent(self.job.config.nodes[node])
            past = self.past.get(node, ())
            changed_by_hand = (
                None if reclaim else next(filter(None, (by_hand(one, past) for one in route.actions)), None)
            )
            for action in route.actions:
                state, detail = ActionState.PLANNED, ""
                if not allowed:
                    state, detail = ActionState.ADVICE, "apply = true is not set for it"
                elif changed_by_hand is not None:
                    state, detail = ActionState.SKIPPED, changed_by_hand
                    if not is_told(action, detail, past):
                        work.notes[node] = f"{detail}; take it back with: depin-orcha apply --reclaim {node} --yes"
                        left[len(documents)] = action, detail
                elif (reason := self._not_now(action)) is not None:
                    state, detail = ActionState.SKIPPED, reason
                elif execute:
                    to_run[len(documents)] = action
                documents.append(self._document(action, state, detail))
            documents += [self._document(action, ActionState.SKIPPED, reason) for action, reason in route.skipped]
        outcomes = self._run(to_run, left, plan_id) if execute and (to_run or left) else []
        for outcome in outcomes:
            documents[outcome.seq] |= {"state": str(outcome.state), "detail": outcome.detail}
        documents += work.advice
        notes = [f"{node}: {note}" for node, route in work.routes.items() for note in route.notes]
        notes += [f"{node}: {note}" for node, note in work.notes.items()]
        failures = work.failures + [outcome.failure for outcome in outcomes if outcome.failure is not None]
        data = {
            "plan_id": plan_id,
            "mode": "executed" if execute else "dry_run",
            "changed": sum(outcome.changed for outcome in outcomes),
            "actions": [{"seq": seq} | document for seq, document in enumerate(documents)],
        }
        return Result(data, failures, _code(failures, outcomes), notes)

    def _not_now(self, action: Action) -> str | None:
        """Why an action that restarts its node has to wait; None where it has not, or restarts nothing."""
        rest_s = getattr(self.backends[action.kind], "rest_s", None)
        return None if rest_s is None else restarts.not_now(self.known, action.node, action.kind, rest_s)

    def _run(
        self, actions: Mapping[int, Action], left: Mapping[int, tuple[Action, str]], plan_id: str | None
    ) -> list[Outcome]:
        with self.store.transaction():
            rows = {
                seq: self.store.add_action(plan_id, seq, action, actuators.to_json(action), self.job.now_s)
                for seq, action in {**actions, **{seq: action for seq, (action, _) in left.items()}}.items()
            }
            journal = _Journal(self.store, rows, self.job)
            for seq, (_, reason) in left.items():
                journal.finish(seq, ActionState.SKIPPED, reason)
        hosts = {node: options.host for node, options in self.job.config.nodes.items()}
        return execute(actions, journal, self.backends, self.outside, self._verify_s, hosts)

    def _document(self, action: Action, state: ActionState, detail: str) -> dict[str, Any]:
        calls = action.call.calls if isinstance(action.call, HttpCalls | Steps) else (action.call,)
        commands = [shlex.join(one.argv) for one in calls if isinstance(one, RunCommand)]
        command = " && ".join(commands) or None
        if state is ActionState.ADVICE:
            command = actuators.advice(action, self.backends)
        return {
            "node": action.node,
            "kind": action.kind,
            "why": action.why,
            "before": action.before,
            "after": action.after,
            "command": command,
            "path": next((one.path for one in calls if isinstance(one, WriteLine | Group)), None),
            "request": _request(calls),
            "state": str(state),
            "detail": detail,
        }


def _giving(actions: Iterable[Action]) -> tuple[bool, bool]:
    actions = tuple(actions)
    return any(rises(one) for one in actions), not any(lowers(one) for one in actions)


def _request(calls: Iterable[Call]) -> str | None:
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

    def __init__(self, store: Store, rows: Mapping[int, int] | None, job: Job) -> None:
        self._store = store
        self._rows = rows
        self._job = job

    def _row(self, seq: int) -> int:
        return seq if self._rows is None else self._rows[seq]

    def running(self, seq: int) -> None:
        self._store.set_action_state(self._row(seq), str(ActionState.RUNNING), "", None)

    def finish(self, seq: int, state: ActionState, detail: str) -> None:
        self._store.set_action_state(self._row(seq), str(state), detail, self._job.clock_s())


def target_of(config: Config, node: str, options: NodeOptions, rested: tuple[str, ...] = ()) -> Target:
    """A node of this machine as the back ends need it."""
    import psutil

    engines = config.settings.apply
    return Target(node, options, psutil.cpu_count() or 1, engines.docker_socket, engines.podman_socket, rested)


def authorization(config: Config, base_url: str) -> Mapping[str, str]:
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
