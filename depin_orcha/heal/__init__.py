"""Which fallen nodes to restart and when, and when to stop trying: rules alone, that touch nothing.

A restart has to be due (the node ended badly, or does not answer although it runs), nobody may have stopped the node on
purpose, and nothing may speak against it now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from depin_orcha.anomalies import Contact, Episode, Kind
from depin_orcha.errors import FailureKind
from depin_orcha.types import DAY_S, HOUR_S

from .breaker import backoff_s, given_up, settled, tried
from .nouns import Breaker, Circuit, Course, Decision, Limits, Patient, Restart, Runner, State
from .protocols import Rules, rules

__all__ = [
    "AT_ONCE_S",
    "EARNS_S",
    "GRACE_S",
    "SHARED_S",
    "Breaker",
    "Circuit",
    "Course",
    "Decision",
    "Limits",
    "Patient",
    "Restart",
    "Rules",
    "Runner",
    "State",
    "backoff_s",
    "decide",
    "frozen",
    "given_up",
    "is_ill",
    "rules",
    "settled",
    "tried",
]

GRACE_S = 300
"""Who stopped a node to update it starts it again within this."""
AT_ONCE_S = 900
"""Nodes that fell silent within this of each other fell silent at once."""
EARNS_S = 6 * HOUR_S
"""After a start, a node has so long to earn and tell something new."""
SHARED_S = 6 * HOUR_S
"""So long what several nodes have at once is held for a cause that they share."""
_DOES_NOT_RUN = (State.CRASHED, State.ENDED, State.STOPPED, State.HELD, State.UNTOLD, State.GONE)
_LEFT_ALONE = {
    State.ENDED: "it ended by itself, in good order",
    State.STOPPED: "somebody stopped it",
    State.HELD: "it is not meant to run now",
    State.UNTOLD: "it does not run, and nothing proves that nobody stopped it",
    State.GONE: "it is not there any more",
}


def is_ill(contact: Contact, episodes: Iterable[Episode]) -> bool:
    """Was the last reading of a node bad, or is it frozen?"""
    return contact.bad_since_s is not None or frozen(episodes) is not None


def frozen(episodes: Iterable[Episode]) -> Episode | None:
    """The open episode of a node that answers, but has told just the same for longer than ever."""
    told = (one for one in episodes if one.is_open and one.kind is Kind.STALE_READING)
    return next((one for one in told if "hours_unchanged" in one.evidence), None)


def decide(
    patients: Iterable[Patient],
    restarts: Iterable[Restart],
    limits: Limits,
    now_s: int,
    is_online: Callable[[], bool] = lambda: True,
    beside: Iterable[Patient] = (),
) -> list[Decision]:
    """One decision for each patient, those that have been ill longest first.

    ``restarts``: all that we made in the last day; what is decided here counts as made. ``is_online``: does anything on
    the internet answer? Asked at most once for each restart that is due otherwise. ``beside``: who else is ill.
    """
    everyone = sorted(patients, key=lambda one: (_since_s(one, now_s), one.node))
    made = list(restarts)
    shared = _at_once([*everyone, *beside], now_s)
    decisions: list[Decision] = []
    for one in everyone:
        decision = _Case(one, rules(one.protocol), made, limits, now_s).decide(one.node in shared, is_online)
        if decision.course is Course.RESTART:
            made.append(Restart(one.node, one.host, one.source, now_s))
        decisions.append(decision)
    return decisions


def _since_s(one: Patient, now_s: int) -> int:
    return now_s if one.contact.bad_since_s is None else one.contact.bad_since_s


def _at_once(patients: Sequence[Patient], now_s: int) -> set[str]:
    """Nodes that fell silent with others, though what runs them does not say that they ended."""
    silent = {
        one.node: _since_s(one, now_s)
        for one in patients
        if one.contact.failure_kind == FailureKind.TRANSIENT and one.runner.state not in _DOES_NOT_RUN
    }
    return {
        node
        for node, since_s in silent.items()
        if now_s - since_s < SHARED_S
        and any(other != node and abs(since_s - other_s) <= AT_ONCE_S for other, other_s in silent.items())
    }


@dataclass(frozen=True, slots=True)
class _Case:
    """One patient, held against one rule after the other; what asks the node or the network comes last."""

    patient: Patient
    rules: Rules
    restarts: Sequence[Restart]
    limits: Limits
    now_s: int

    def decide(self, shared: bool, is_online: Callable[[], bool]) -> Decision:
        one = self.patient
        found = self._untouchable() or self._settled() or self._not_due()
        found = found or self._spent() or self._too_soon() or self._too_many()
        if found is not None:
            return found
        if shared:
            return self._wait(
                "other nodes fell silent with it: their network or machine rather than the nodes",
                _since_s(one, self.now_s) + SHARED_S,
            )
        if one.runner.state is not State.CRASHED:
            if one.contact.bad_since_s is not None and one.answers():
                return self._wait("it answers again")
            if self.rules.binding and (busy := one.busy()) is not False:
                known = "it is bound to work" if busy else "it is not known whether it is bound to work"
                return self._wait(f"{known}, which a restart would break")
        if not is_online():
            return self._wait("nothing on the internet answers: a restart would cure nothing, and may do harm")
        may = one.consent and one.runner.state is not State.UNMANAGED
        return self._so(Course.RESTART if may else Course.ADVISE, self._reason())

    def _untouchable(self) -> Decision | None:
        """Its owner, or what runs it, is at work on it."""
        one = self.patient
        if one.paused:
            return self._wait("its owner has paused it")
        if one.runner.state in _LEFT_ALONE:
            said = f" ({one.runner.said})" if one.runner.said else ""
            return self._so(Course.LEAVE, f"{_LEFT_ALONE[one.runner.state]}{said}")
        if one.runner.state is State.UNREADABLE:
            return self._wait(f"it cannot be told how it runs: {one.runner.said}")
        if one.runner.state is State.STARTING:
            return self._wait(f"what runs it starts it by itself ({one.runner.said})")
        return None

    def _settled(self) -> Decision | None:
        """Nothing new can be decided."""
        breaker = self.patient.breaker
        if breaker.circuit is Circuit.GIVEN_UP:
            return self._so(Course.GIVE_UP, breaker.reason)
        if breaker.until_s is not None and self.now_s < breaker.until_s:
            return self._so(Course.BACK_OFF, breaker.reason, breaker.until_s)
        if self.now_s - self.patient.contact.tried_s > self.limits.max_reading_age_s:
            return self._wait("it has not been read lately: collect first")
        return None

    def _not_due(self) -> Decision | None:
        """The node may still come back by itself, or a restart would not bring it back."""
        contact, runner = self.patient.contact, self.patient.runner
        since_s = _since_s(self.patient, self.now_s)
        if runner.state is State.CRASHED:
            ready_s = (runner.ended_s or since_s) + GRACE_S
            return None if self.now_s >= ready_s else self._wait("somebody may be at work on it", ready_s)
        found = self._incurable()
        if found is not None or contact.bad_since_s is None:
            return found
        if contact.bad_readings < 2 or self.now_s - since_s < self.limits.unanswered_s:
            return self._wait("it may come back by itself", since_s + self.limits.unanswered_s)
        return None

    def _incurable(self) -> Decision | None:
        """What is wrong with a node that runs is not its own silence."""
        contact, own = self.patient.contact, self.rules.own_interface
        if contact.good_s is None:
            return self._no_cure(f"it was never read well, its options may be wrong: {contact.reason}")
        if contact.bad_since_s is None:
            return None if own else self._no_cure("it answers")
        if contact.failure_kind not in (None, FailureKind.TRANSIENT):
            return self._no_cure(contact.reason)
        if contact.failure_kind is not None and not own:
            return self._no_cure(f"what tells of it does not answer, which is not the node itself: {contact.reason}")
        return None

    def _spent(self) -> Decision | None:
        tries = self.patient.breaker.tries
        if tries < self.limits.tries:
            return None
        why = f"it was restarted {tries} times and keeps falling: look at its log"
        return replace(self._so(Course.GIVE_UP, why), is_news=True)

    def _too_soon(self) -> Decision | None:
        """A start, ours or another's, of it or of one of its fleet, has not had its time yet."""
        one, runner = self.patient, self.patient.runner
        hung_s = 0 if runner.state is State.CRASHED else self.rules.hung_s
        if one.contact.bad_since_s is None:
            hung_s = max(hung_s, EARNS_S)
        own = [made.started_s for made in self.restarts if made.node == one.node]
        fleet = [made.started_s for made in self.restarts if made.source == one.source]
        starts = fleet if runner.started_s is None else [*fleet, runner.started_s]
        ready_s = max(
            *(start_s + self.rules.rest_s for start_s in starts),
            *(start_s + self.rules.between_s for start_s in own),
            (runner.started_s or 0) + hung_s,
            0,
        )
        if self.now_s >= ready_s:
            return None
        return self._wait("its last start is not long enough ago", ready_s)

    def _too_many(self) -> Decision | None:
        spans = (
            ("it", "node", self.limits.node_restarts_per_day, DAY_S),
            ("this machine", "host", self.limits.host_restarts_per_hour, HOUR_S),
        )
        for words, key, most, span_s in spans:
            own = getattr(self.patient, key)
            recent = sorted(
                made.started_s
                for made in self.restarts
                if getattr(made, key) == own and made.started_s > self.now_s - span_s
            )
            if len(recent) >= most:
                why = f"{words} has had its {most} restarts in {span_s // HOUR_S} h"
                return self._wait(why, recent[len(recent) - most] + span_s if most else None)
        return None

    def _reason(self) -> str:
        one, said = self.patient, self.patient.runner.said
        if one.runner.state is State.CRASHED:
            return f"it ended by itself ({said})"
        minutes = (self.now_s - _since_s(one, self.now_s)) // 60
        if one.contact.bad_since_s is None:
            return "it answers, but has told just the same for longer than ever, and earns nothing"
        return f"{one.contact.reason or 'it does not answer'}, for {minutes} minutes now"

    def _no_cure(self, why: str) -> Decision:
        return self._so(Course.LEAVE, f"a restart is no cure: {why}")

    def _wait(self, why: str, next_s: int | None = None) -> Decision:
        return self._so(Course.WAIT, why, next_s)

    def _so(self, course: Course, why: str, next_s: int | None = None) -> Decision:
        return Decision(self.patient.node, course, why, next_s)
