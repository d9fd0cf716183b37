"""``heal``: bring fallen nodes back whose owner allowed it, by the rules of :mod:`depin_orcha.heal`.

Nothing outside the state folder is written without ``execute``; what would be done is listed all the same.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from . import alarms, restarts, supervisors
from .adapters import NodeOptions
from .anomalies import Contact, Episode
from .anomalies.reading import REACH
from .anomalies.words import advice, sentence
from .asof import AsOf
from .collect import make_adapter
from .cycle import Job, Result, require_nodes
from .errors import ActuatorError, AdapterError, ConfigError, ExitCode, FailureKind
from .heal import (
    Breaker,
    Course,
    Decision,
    Limits,
    Patient,
    Restart,
    Runner,
    State,
    decide,
    frozen,
    given_up,
    is_ill,
    rules,
    settled,
    tried,
)
from .net import HttpClient
from .outside import Outside
from .restarts import Begun
from .roster import sources_of
from .signals import Signals
from .store import Store
from .supervisors import Place
from .timefmt import rfc3339
from .types import DAY_S, ActionState, Failure, HealthStatus, HttpCall

STAYS_S = 10.0
"""What has run for so long since its start did not fall at once."""
_POLL_S = 1.0
_SLACK_S = 60
_ONLINE_TIMEOUT_S = 10.0
_ANY_STATUS = tuple(range(100, 600))


def heal(job: Job, store: Store, *, execute: bool) -> Result:
    """Every fallen node is judged, and restarted where that is due, safe and allowed; the others get the command."""
    require_nodes(job)
    with Outside(any_engine=True) as outside:
        return _Ward(job, store, outside, execute=execute).heal()


class _Ward:
    """The configured nodes: how they are, what runs them, and what was tried before."""

    def __init__(self, job: Job, store: Store, outside: Outside, *, execute: bool) -> None:
        self.job = job
        self.store = store
        self.outside = outside
        self.execute = execute
        self.options = job.config.settings.heal
        self.limits = Limits(**{name: getattr(self.options, name) for name in Limits.__dataclass_fields__})
        self.known = AsOf(store.connection, job.now_s)
        self.failures: list[Failure] = []
        self.changed = 0
        self._paused = {pause.node for pause in self.known.pauses()}
        accounts = {name: (one.protocol, one.account) for name, one in job.config.nodes.items()}
        self._sources = sources_of(accounts)
        self._episodes: dict[str, list[Episode]] = {}
        for one in alarms.lasting(self.known):
            self._episodes.setdefault(one.node, []).append(one)

    def heal(self) -> Result:
        # The journal has to survive a power cut, not only the death of this process.
        self.store.connection.execute("PRAGMA synchronous = FULL")
        self._recover()
        self._begun = restarts.latest(self.known)
        self._breakers = restarts.breakers(self.known)
        patients = {one.node: one for one in self._patients()}
        made = restarts.since(self.known, self.job.now_s - DAY_S)
        decisions = decide(patients.values(), made, self.limits, self.job.now_s, lambda: self._is_online)
        decisions = [one for one in decisions if self.job.wanted(one.node)]
        actions = self._actions(decisions, patients)
        for one in decisions:
            if one.is_news and self.execute and patients[one.node].consent:
                self._give_up(one)
        findings = [self._finding(one, patients[one.node]) for one in decisions]
        data = {
            "plan_id": None,
            "mode": "executed" if self.execute else "dry_run",
            "changed": self.changed,
            "actions": [{"seq": seq} | action for seq, action in enumerate(actions)],
            "findings": [*findings, *self._incurable()],
        }
        return Result(data, self.failures, self._code())

    def _patients(self) -> Iterable[Patient]:
        for name, options in self.job.config.nodes.items():
            contact = Signals(self.known, name, (), ()).contact()
            if contact is None:
                continue
            episodes = self._episodes.get(name, [])
            if is_ill(contact, episodes):
                yield self._patient(name, options, contact, episodes)
            elif name in self._breakers:
                self._settle(name, contact)

    def _patient(self, name: str, options: NodeOptions, contact: Contact, episodes: list[Episode]) -> Patient:
        return Patient(
            node=name,
            host=options.host,
            source=self._sources[name],
            protocol=options.protocol,
            contact=contact,
            runner=self._runner(name, options),
            consent=options.heal,
            paused=self._is_paused(name),
            breaker=self._breakers.get(name, Breaker()),
            episodes=episodes,
            answers=lambda: self._answers(name, options),
            busy=lambda: self._busy(name, options),
        )

    def _is_paused(self, name: str) -> bool:
        return None in self._paused or name in self._paused

    def _settle(self, name: str, contact: Contact) -> None:
        row = self.store.connection.execute(
            "SELECT coalesce(max(observed_s), 0) FROM health_samples WHERE node = ? AND learned_s <= ? "
            "AND (failure_kind IS NOT NULL OR status = 'down')",
            (name, self.job.now_s),
        ).fetchone()
        closed = settled(self._breakers[name], row[0], contact.tried_s, self.limits, self.job.now_s)
        if closed is not None:
            restarts.set_breaker(self.store, name, closed)

    def _runner(self, name: str, options: NodeOptions) -> Runner:
        try:
            return self._look(name, options)
        except ActuatorError as error:
            if options.heal and self.job.wanted(name) and not self._is_paused(name):
                self.failures.append(Failure(name, error.kind, error.message, error.hint))
            return Runner(State.UNREADABLE, error.message)

    def _look(self, name: str, options: NodeOptions) -> Runner:
        begun = self._begun.get(name)
        ours = None
        if begun is not None and begun.state is ActionState.FAILED:
            ends_s = begun.started_s + rules(options.protocol).stop_s + _SLACK_S
            ours = (begun.started_s, min(ends_s, begun.finished_s or ends_s))
        return supervisors.look(self._place(options), self.outside, ours)

    def _place(self, options: NodeOptions) -> Place:
        return Place(options, self.job.config.settings.apply.docker_socket, self.options.podman_socket)

    def _answers(self, name: str, options: NodeOptions) -> bool:
        """Does the node answer now, and not that it is down? To be refused is an answer."""
        try:
            adapter, _ = make_adapter(self.job.config, name, options)
            with HttpClient(options.deadline_s) as http:
                reading = adapter.collect(http, self.job.clock_s(), self.known.last_read_s(name))
        except (AdapterError, ConfigError) as error:
            return error.kind is not FailureKind.TRANSIENT
        return reading.health.status is not HealthStatus.DOWN

    def _busy(self, name: str, options: NodeOptions) -> bool | None:
        try:
            adapter, _ = make_adapter(self.job.config, name, options)
            ask = getattr(adapter, "busy", None)
            if ask is None:
                return None
            with HttpClient(options.deadline_s) as http:
                return ask(http)
        except (AdapterError, ConfigError):
            return None

    @cached_property
    def _is_online(self) -> bool:
        prices = self.job.config.settings.prices
        urls = [prices.url, prices.fallback_url] if self.options.internet_url is None else [self.options.internet_url]
        for url in urls:
            try:
                with HttpClient(_ONLINE_TIMEOUT_S) as http:
                    http.request("GET", url, accept=_ANY_STATUS)
            except AdapterError:
                continue
            return True
        return False

    def _recover(self) -> None:
        """End what a run that died left unfinished, by what runs now; what cannot be told now stays for later."""
        self._begun = {}
        for begun in restarts.latest(self.known).values():
            options = self.job.config.nodes.get(begun.node)
            if begun.state is not ActionState.RUNNING:
                continue
            state, detail = ActionState.FAILED, "interrupted, and the node is not configured any more"
            if options is not None:
                try:
                    runner = self._look(begun.node, options)
                except ActuatorError:
                    continue
                is_back = runner.state is State.RUNNING and runner.mark != begun.mark
                state = ActionState.DONE if is_back else ActionState.FAILED
                detail = f"interrupted, {'but' if is_back else 'and'} {runner.said or runner.state}"
            restarts.finish(self.store, begun, state, detail, self.job.clock_s())

    def _actions(self, decisions: Iterable[Decision], patients: dict[str, Patient]) -> list[dict[str, Any]]:
        """The restarts that are due, carried out one after the other where that is allowed."""
        actions: list[dict[str, Any]] = []
        broken: set[str] = set()
        for one in decisions:
            if one.course not in (Course.RESTART, Course.ADVISE):
                continue
            patient = patients[one.node]
            advised = one.course is Course.ADVISE
            action = self._document(one, patient, advised=advised)
            if self.execute and not advised:
                if patient.host in broken:
                    state, detail = ActionState.SKIPPED, "the restart before it on this machine did not succeed"
                else:
                    state, detail = self._restart(one, patient)
                if state is ActionState.FAILED:
                    broken.add(patient.host)
                action |= {"state": str(state), "detail": detail}
            actions.append(action)
        return actions

    def _restart(self, decision: Decision, one: Patient) -> tuple[ActionState, str]:
        """Restart a node once, and see whether it comes back."""
        options = self.job.config.nodes[one.node]
        before = self._runner(one.node, options)
        if (before.state, before.mark) != (one.runner.state, one.runner.mark):
            return ActionState.SKIPPED, f"it changed meanwhile: {before.said}"
        call = supervisors.call(self._place(options), before, rules(one.protocol).stop_s)
        now_s = self.job.clock_s()
        breaker = tried(one.breaker, one.node, self.limits, now_s)
        restart = Restart(one.node, one.host, one.source, now_s)
        row = restarts.begin(self.store, restart, options.runtime, decision.why, before.mark, breaker)
        begun = Begun(row, one.node, before.mark, ActionState.RUNNING, now_s, None)
        refusal = None
        try:
            self.outside.act(call)
        except ActuatorError as error:
            refusal = error
        trouble = self._trouble(one, options, before, refusal)
        self.changed += refusal is None or not trouble
        if not trouble:
            restarts.finish(self.store, begun, ActionState.DONE, "it runs and is well", self.job.clock_s())
            return ActionState.DONE, "it runs and is well"
        gone = breaker.tries >= self.limits.tries
        after = given_up(breaker, self.job.clock_s(), f"restarted {breaker.tries} times: {trouble}") if gone else None
        restarts.finish(self.store, begun, ActionState.FAILED, trouble, self.job.clock_s(), after)
        kind = refusal.kind if refusal is not None else FailureKind.TRANSIENT
        message = f"restarted, but {trouble}"
        if gone:
            message = f"given up after {breaker.tries} restarts: {trouble}"
        hint = self._after_care() if gone else f"it is tried again, not before {rfc3339(breaker.until_s or now_s)}"
        self.failures.append(Failure(one.node, kind, message, hint))
        return ActionState.FAILED, trouble

    def _trouble(self, one: Patient, options: NodeOptions, before: Runner, refusal: ActuatorError | None) -> str:
        """Why the node is not back, "" as soon as it is."""
        own = rules(one.protocol)
        is_asked = own.own_interface or one.contact.failure_kind is None
        patience_s = min(own.comes_back_s, self.options.verify_timeout_s)
        ends = time.monotonic() + (patience_s if refusal is None or refusal.kind is FailureKind.TRANSIENT else 0)
        while True:
            try:
                runner = supervisors.look(self._place(options), self.outside)
                trouble = self._not_yet(runner, before)
            except ActuatorError as error:
                trouble = error.message
            if not trouble and is_asked and not self._answers(one.node, options):
                trouble = "it runs, but does not answer"
            if not trouble or time.monotonic() >= ends:
                break
            time.sleep(min(_POLL_S, max(ends - time.monotonic(), 0)))
        if trouble and refusal is not None:
            return refusal.message
        return trouble

    def _not_yet(self, runner: Runner, before: Runner) -> str:
        if runner.state is not State.RUNNING:
            return f"it does not run: {runner.said or runner.state}"
        if runner.mark == before.mark:
            return "it was not started anew"
        stays = runner.started_s is not None and time.time() - runner.started_s >= STAYS_S
        return "" if stays else "it keeps falling"

    def _give_up(self, decision: Decision) -> None:
        breaker = self._breakers.get(decision.node, Breaker())
        restarts.set_breaker(self.store, decision.node, given_up(breaker, self.job.now_s, decision.why))
        message = f"given up: {decision.why}"
        self.failures.append(Failure(decision.node, FailureKind.TRANSIENT, message, self._after_care()))

    def _after_care(self) -> str:
        return f"repair and start it yourself; when it has been well for {self.limits.stable_s} s it is healed again"

    def _document(self, decision: Decision, one: Patient, *, advised: bool) -> dict[str, Any]:
        options = self.job.config.nodes[one.node]
        place, runner, stop_s = self._place(options), one.runner, rules(one.protocol).stop_s
        command, request, detail = None, None, ""
        if advised:
            command = supervisors.by_hand(place, runner, stop_s)
            detail = self._why_not(place)
        else:
            call = supervisors.call(place, runner, stop_s)
            request = f"{call.method} {call.path}" if isinstance(call, HttpCall) else None
            command = None if isinstance(call, HttpCall) else shlex.join(call.argv)
        started_at = None if runner.started_s is None else rfc3339(runner.started_s)
        return {
            "node": one.node,
            "kind": options.runtime,
            "why": decision.why,
            "before": {"state": str(runner.state), "started_at": started_at},
            "after": {"state": str(State.RUNNING)},
            "command": command,
            "path": None,
            "request": request,
            "state": str(ActionState.ADVICE if advised else ActionState.PLANNED),
            "detail": detail,
        }

    def _why_not(self, place: Place) -> str:
        if place.options.host != "local":
            return f"it runs on {place.options.host}, which this machine cannot change: do it there"
        if not place.is_here:
            return "nothing that is configured here runs it: start it as you always do"
        return "heal = true is not set for it"

    def _finding(self, decision: Decision, one: Patient) -> dict[str, Any]:
        since_s = one.contact.bad_since_s
        ill = frozen(one.episodes)
        if since_s is None and ill is not None:
            since_s = ill.since_s
        return {
            "node": decision.node,
            "decision": str(decision.course),
            "why": decision.why,
            "since": None if since_s is None else rfc3339(since_s),
            "next_at": None if decision.next_s is None else rfc3339(decision.next_s),
            "advice": self._after_care() if decision.course is Course.GIVE_UP else None,
        }

    def _incurable(self) -> Iterable[dict[str, Any]]:
        """What else is wrong with nodes, that no restart cures."""
        for name, episodes in self._episodes.items():
            for one in episodes:
                if one.cause == REACH or one is frozen(episodes) or name not in self.job.config.nodes:
                    continue
                if self.job.wanted(name):
                    yield {
                        "node": name,
                        "decision": str(Course.LEAVE),
                        "why": sentence(one),
                        "since": rfc3339(one.since_s),
                        "next_at": None,
                        "advice": advice(one),
                    }

    def _code(self) -> ExitCode:
        if not self.failures:
            return ExitCode.OK
        if not self.changed and all(one.kind is FailureKind.PERMISSION for one in self.failures):
            return ExitCode.NOT_PERMITTED
        return ExitCode.PARTIAL
