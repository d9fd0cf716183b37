"""Nodes as they run and answer at this moment, and their restarts: on record before the act, proven by asking them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from . import restarts, supervisors
from .adapters import Adapter, NodeOptions
from .asof import AsOf
from .collect import make_adapter
from .cycle import Job
from .errors import ActuatorError, AdapterError, ConfigError, FailureKind
from .heal import Breaker, Limits, Patient, Restart, Runner, State, given_up, rules, tried
from .net import HttpClient
from .outside import Outside
from .restarts import Begun
from .store import Store
from .supervisors import Ours, Place
from .timefmt import rfc3339
from .types import ActionState, Failure, HealthStatus

STAYS_S = 10.0
"""What was seen to run for so long did not fall at once."""
POLL_S = 1.0
_SLACK_S = 60
_ONLINE_TIMEOUT_S = 10.0
_ANY_STATUS = tuple(range(100, 600))
_BACK = "it runs and is well"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a restart ended; ``changed``: whether anything was done to the node."""

    state: ActionState
    detail: str
    changed: bool = False
    failure: Failure | None = None


class Restarter:
    """What is asked of nodes, engines and the internet, and the one way in which nodes are restarted."""

    def __init__(self, job: Job, store: Store, outside: Outside, limits: Limits) -> None:
        self._job = job
        self._store = store
        self._outside = outside
        self._limits = limits
        self._options = job.config.settings.heal
        self._known = AsOf(store.connection, job.now_s)
        self._begun = restarts.latest(self._known)

    def place(self, options: NodeOptions) -> Place:
        """Where a node runs."""
        engines = self._job.config.settings.apply
        return Place(options, engines.docker_socket, engines.podman_socket)

    def look(self, name: str, options: NodeOptions) -> Runner:
        """What runs a node, as it stands now. Raises ``ActuatorError``."""
        begun = self._begun.get(name)
        ours = None
        if begun is not None and begun.state is ActionState.FAILED:
            ends_s = begun.started_s + rules(options.protocol).stop_s + _SLACK_S
            ours = Ours(begun.mark, begun.started_s, min(ends_s, begun.finished_s or ends_s))
        return supervisors.look(self.place(options), self._outside, ours)

    def answers(self, name: str) -> bool:
        """Does the node answer now, and not that it is down? To be refused is an answer."""

        def ask(adapter: Adapter, http: HttpClient) -> bool:
            reading = adapter.collect(http, self._job.clock_s(), self._known.last_read_s(name))
            return reading.health.status is not HealthStatus.DOWN

        try:
            return self._ask(name, ask)
        except (AdapterError, ConfigError) as error:
            return error.kind is not FailureKind.TRANSIENT

    def busy(self, name: str) -> bool | None:
        """Is the node bound to work now? None where it does not tell."""

        def ask(adapter: Adapter, http: HttpClient) -> bool | None:
            is_busy = getattr(adapter, "busy", None)
            return None if is_busy is None else is_busy(http)

        try:
            return self._ask(name, ask)
        except (AdapterError, ConfigError):
            return None

    @cached_property
    def is_online(self) -> bool:
        """Does a source of prices answer, whatever it says? They are on the internet."""
        prices = self._job.config.settings.prices
        for url in (prices.url, prices.fallback_url):
            try:
                with HttpClient(_ONLINE_TIMEOUT_S) as http:
                    http.request("GET", url, accept=_ANY_STATUS)
            except AdapterError:
                continue
            return True
        return False

    def recover(self) -> None:
        """What a run that died left unfinished has ended, by what runs now; what cannot be told now stays for later."""
        for begun in self._begun.values():
            options = self._job.config.nodes.get(begun.node)
            if begun.state is not ActionState.RUNNING:
                continue
            state, detail = ActionState.FAILED, "interrupted, and the node is not configured any more"
            if options is not None:
                try:
                    runner = self.look(begun.node, options)
                except ActuatorError:
                    continue
                is_back = runner.state is State.RUNNING and runner.mark != begun.mark
                state = ActionState.DONE if is_back else ActionState.FAILED
                detail = f"interrupted, {'but' if is_back else 'and'} {runner.said or runner.state}"
            restarts.finish(self._store, begun, state, detail, self._job.clock_s())
        self._begun = restarts.latest(self._known)

    def restart(self, one: Patient, why: str) -> Outcome:
        """The node was restarted once, and came back or not, unless it is not any more as it was when that was decided.

        The try is counted before it is made; after the last one in vain the node is given up.
        """
        options = self._job.config.nodes[one.node]
        try:
            before = self.look(one.node, options)
        except ActuatorError as error:
            failure = Failure(one.node, error.kind, error.message, error.hint)
            return Outcome(ActionState.SKIPPED, "it cannot be told any more how it runs", failure=failure)
        if (before.state, before.mark) != (one.runner.state, one.runner.mark):
            return Outcome(ActionState.SKIPPED, f"it changed meanwhile: {before.said}")
        now_s = self._job.clock_s()
        breaker = tried(one.breaker, one.node, self._limits, now_s)
        made = Restart(one.node, one.host, one.source, now_s)
        row = restarts.begin(self._store, made, options.runtime, why, before.mark, breaker)
        begun = Begun(row, one.node, before.mark, ActionState.RUNNING, now_s, None)
        refusal = self._refusal(options, before)
        trouble = self._trouble(one, options, before, refusal)
        changed = refusal is None or not trouble
        if not trouble:
            restarts.finish(self._store, begun, ActionState.DONE, _BACK, self._job.clock_s())
            return Outcome(ActionState.DONE, _BACK, changed)
        failure, after = self._in_vain(one.node, breaker, trouble, refusal)
        restarts.finish(self._store, begun, ActionState.FAILED, trouble, self._job.clock_s(), after)
        return Outcome(ActionState.FAILED, trouble, changed, failure)

    def _refusal(self, options: NodeOptions, before: Runner) -> ActuatorError | None:
        call = supervisors.call(self.place(options), before, rules(options.protocol).stop_s)
        try:
            self._outside.act(call)
        except ActuatorError as error:
            return error
        return None

    def _trouble(self, one: Patient, options: NodeOptions, before: Runner, refusal: ActuatorError | None) -> str:
        """Why the node is not back, "" as soon as it is."""
        own = rules(one.protocol)
        is_asked = own.own_interface or one.contact.failure_kind is None
        patience_s = max(min(own.comes_back_s, self._options.verify_timeout_s), STAYS_S + POLL_S)
        ends = time.monotonic() + (patience_s if refusal is None or refusal.kind is FailureKind.TRANSIENT else 0)
        seen, seen_at = "", 0.0
        while True:
            try:
                runner = supervisors.look(self.place(options), self._outside)
                trouble = _not_yet(runner, before)
                if not trouble and runner.mark != seen:
                    seen, seen_at = runner.mark, time.monotonic()
            except ActuatorError as error:
                trouble = error.message
            if not trouble and time.monotonic() - seen_at < STAYS_S:
                trouble = "it keeps falling"
            if not trouble and is_asked and not self.answers(one.node):
                trouble = "it runs, but does not answer"
            if not trouble or time.monotonic() >= ends:
                break
            time.sleep(min(POLL_S, max(ends - time.monotonic(), 0)))
        return refusal.message if trouble and refusal is not None else trouble

    def _in_vain(
        self, node: str, breaker: Breaker, trouble: str, refusal: ActuatorError | None
    ) -> tuple[Failure, Breaker | None]:
        kind = FailureKind.TRANSIENT if refusal is None else refusal.kind
        if breaker.tries < self._limits.tries:
            hint = f"it is tried again, not before {rfc3339(breaker.until_s or self._job.clock_s())}"
            return Failure(node, kind, f"restarted in vain: {trouble}", hint), None
        why = f"restarted {breaker.tries} times in vain: {trouble}"
        after = given_up(breaker, self._job.clock_s(), why)
        return Failure(node, kind, f"given up: {why}", after_care(self._limits)), after

    def _ask(self, name: str, question: Callable[[Adapter, HttpClient], _T]) -> _T:
        options = self._job.config.nodes[name]
        adapter, _ = make_adapter(self._job.config, name, options)
        with HttpClient(options.deadline_s) as http:
            return question(adapter, http)


def after_care(limits: Limits) -> str:
    """What the owner of a node that was given up can do."""
    return f"repair and start it yourself; when it has been well for {limits.stable_s} s it is healed again"


def _not_yet(runner: Runner, before: Runner) -> str:
    if runner.state is not State.RUNNING:
        return f"it does not run: {runner.said or runner.state}"
    return "it was not started anew" if runner.mark == before.mark else ""
