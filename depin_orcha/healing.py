"""``heal``: bring fallen nodes back whose owner allowed it, by the rules of :mod:`depin_orcha.heal`.

Nothing outside the state folder is written without ``execute``; what would be done is listed all the same.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from . import alarms, restarts, supervisors
from .adapters import NodeOptions
from .anomalies import Contact, Episode
from .anomalies.reading import REACH
from .anomalies.words import advice, sentence
from .asof import AsOf
from .cycle import Job, Result, require_nodes
from .errors import ActuatorError, ExitCode, FailureKind
from .heal import (
    Breaker,
    Course,
    Decision,
    Limits,
    Patient,
    Runner,
    State,
    decide,
    frozen,
    given_up,
    is_ill,
    rules,
    settled,
)
from .outside import Outside
from .restarting import Restarter, after_care
from .roster import sources_of
from .signals import Signals
from .store import Store
from .supervisors import Place
from .timefmt import rfc3339
from .types import DAY_S, ActionState, Failure, HttpCall


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
        self.execute = execute
        options = job.config.settings.heal
        self.limits = Limits(**{name: getattr(options, name) for name in Limits.__dataclass_fields__})
        self.restarter = Restarter(job, store, outside, self.limits)
        self.known = AsOf(store.connection, job.now_s)
        self.failures: list[Failure] = []
        self.changed = 0
        self._paused = {pause.node for pause in self.known.pauses()}
        accounts = {name: (one.protocol, one.account) for name, one in job.config.nodes.items()}
        self._sources = sources_of(accounts)
        self._episodes: dict[str, list[Episode]] = {}
        for one in alarms.lasting(self.known):
            self._episodes.setdefault(one.node, []).append(one)
        self._breakers = restarts.breakers(self.known)

    def heal(self) -> Result:
        """Judge, act and tell."""
        # The journal has to survive a power cut, not only the death of this process.
        self.store.connection.execute("PRAGMA synchronous = FULL")
        self.restarter.recover()
        ill = list(self._patients())
        patients = {one.node: one for one in ill if self.job.wanted(one.node)}
        others = [one for one in ill if one.node not in patients]
        made = restarts.since(self.known, self.job.now_s - DAY_S)
        decisions = decide(
            patients.values(), made, self.limits, self.job.now_s, lambda: self.restarter.is_online, beside=others
        )
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
            answers=lambda: self.restarter.answers(name),
            busy=lambda: self.restarter.busy(name),
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
            return self.restarter.look(name, options)
        except ActuatorError as error:
            if options.heal and self.job.wanted(name) and not self._is_paused(name):
                self.failures.append(Failure(name, error.kind, error.message, error.hint))
            return Runner(State.UNREADABLE, error.message)

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
                action |= self._carry_out(one, patient, broken)
            actions.append(action)
        return actions

    def _carry_out(self, decision: Decision, one: Patient, broken: set[str]) -> dict[str, str]:
        """How a restart ended; ``broken``: machines on which one did not succeed, where no other is tried."""
        if one.host in broken:
            detail = "the restart before it on this machine did not succeed"
            return {"state": str(ActionState.SKIPPED), "detail": detail}
        outcome = self.restarter.restart(one, decision.why)
        self.changed += outcome.changed
        if outcome.failure is not None:
            self.failures.append(outcome.failure)
            broken.add(one.host)
        return {"state": str(outcome.state), "detail": outcome.detail}

    def _give_up(self, decision: Decision) -> None:
        breaker = self._breakers.get(decision.node, Breaker())
        restarts.set_breaker(self.store, decision.node, given_up(breaker, self.job.now_s, decision.why))
        message = f"given up: {decision.why}"
        self.failures.append(Failure(decision.node, FailureKind.TRANSIENT, message, after_care(self.limits)))

    def _document(self, decision: Decision, one: Patient, *, advised: bool) -> dict[str, Any]:
        options = self.job.config.nodes[one.node]
        place, runner, stop_s = self.restarter.place(options), one.runner, rules(one.protocol).stop_s
        command, request, detail = None, None, ""
        if advised:
            command = supervisors.by_hand(place, runner, stop_s)
            detail = _why_not(place)
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
            "advice": after_care(self.limits) if decision.course is Course.GIVE_UP else None,
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


def _why_not(place: Place) -> str:
    if place.options.host != "local":
        return f"it runs on {place.options.host}, which this machine cannot change: do it there"
    if not place.is_here:
        return "nothing that is configured here runs it: start it as you always do"
    return "heal = true is not set for it"
