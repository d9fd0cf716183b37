"""Runs actions: on record before the act, proven by reading afterwards, put back where the proof fails."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from .actuators import Actuators, Reader, Reading, TargetGoneError, inverse, lowers, rises, same
from .errors import ActuatorError, FailureKind
from .types import Action, ActionState, Call, Failure, HttpCall, HttpCalls, Steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ATTEMPTS = 2
FIRST_POLL_S = 0.1
SLOWEST_POLL_S = 2.0

NEEDS_ATTENTION = "needs attention"
"""How the detail of an act begins that could neither be proven nor put back."""
_GONE = "the target does not exist any more, so nothing is left to put back"


class Outside(Reader, Protocol):
    """The world as this module, and no other, may use it (``depin_orcha.outside.Outside``)."""

    def act(self, call: Call) -> None:
        """Runs the call. Raises ``ActuatorError``."""
        ...


class Journal(Protocol):
    """Where every action is on record before it runs; each call is durable when it returns."""

    def running(self, seq: int) -> None:
        """The action is about to run, or about to be taken back."""
        ...

    def finish(self, seq: int, state: ActionState, detail: str) -> None:
        """How it ended."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one action ended; ``changed`` says whether the world now differs from ``before``.

    DONE: proven by reading. UNDONE: put back, with the reason. FAILED: nothing changed, or it could not be put back.
    SKIPPED: an earlier action of the same node failed, or one that was to make room for it. ``failure`` stands beside
    FAILED and UNDONE.
    """

    seq: int
    action: Action
    state: ActionState
    changed: bool
    detail: str
    duration_s: float = 0.0
    failure: Failure | None = None


def execute(
    actions: Mapping[int, Action],
    journal: Journal,
    backends: Actuators,
    outside: Outside,
    verify_timeout_s: float = 60.0,
    hosts: Mapping[str, str] = MappingProxyType({}),
) -> list[Outcome]:
    """Runs the actions (by their number in the plan) in order and proves each by reading back.

    One that cannot be proven is tried once more; then it and the earlier ones of its node are put back, last first,
    and the rest of that node is skipped. Other nodes go on, but nothing is given on a host on which something could
    not be taken; nodes that ``hosts`` does not name share one. An interrupt leaves the action ``running`` in the
    journal, for :func:`recover`.
    """
    outcomes: dict[int, Outcome] = {}
    broken: set[str] = set()
    for seq, action in actions.items():
        run = _Run(seq, action, journal, backends, outside, verify_timeout_s)
        if action.node in broken:
            outcomes[seq] = run.end(ActionState.SKIPPED, changed=False, detail="an earlier action of this node failed")
            continue
        here = [one for one in outcomes.values() if hosts.get(one.action.node) == hosts.get(action.node)]
        kept = next((one for one in here if one.state is not ActionState.DONE and lowers(one.action)), None)
        if kept is not None and rises(action):
            detail = f"no room was made for it: {kept.action.node} was to get less (action {kept.seq}: {kept.state})"
            outcomes[seq] = run.end(ActionState.SKIPPED, changed=False, detail=detail)
            continue
        outcomes[seq] = run.forward()
        if outcomes[seq].state is ActionState.DONE:
            continue
        broken.add(action.node)
        reason = f"action {seq} of this node failed"
        for earlier in reversed([one for one in outcomes.values() if one.action.node == action.node]):
            if earlier.state is ActionState.DONE:
                run = _Run(earlier.seq, earlier.action, journal, backends, outside, verify_timeout_s)
                journal.running(earlier.seq)
                outcomes[earlier.seq] = run.back(reason, FailureKind.TRANSIENT)
    return list(outcomes.values())


def recover(
    actions: Mapping[int, Action], journal: Journal, backends: Actuators, reader: Reader, verify_timeout_s: float = 60.0
) -> list[Outcome]:
    """Ends every action that a dead process left ``running``, by what is in force now; runs nothing.

    What cannot be read now stays ``running`` for the next time. ``failure`` stands where a person has to look.
    """
    outcomes: list[Outcome] = []
    for seq, action in actions.items():
        settle_s = min(verify_timeout_s, backends[action.kind].settle_s(action))
        reading, error = _await(action, backends, reader, None, settle_s)
        if reading is None and not isinstance(error, TargetGoneError):
            message = error.message if error else "nothing could be read"
            failure = _failure(action, message, error)
            outcomes.append(Outcome(seq, action, ActionState.RUNNING, changed=False, detail=message, failure=failure))
            continue
        state, detail = classify(action, reading)
        journal.finish(seq, state, detail)
        changed = reading is not None and (bool(reading.contradiction) or not same(action.before, reading.values))
        failure = None
        if changed and state is ActionState.FAILED:
            failure = Failure(action.node, FailureKind.TRANSIENT, detail, _put_back(action, backends))
        outcomes.append(Outcome(seq, action, state, changed=changed, detail=detail, failure=failure))
    return outcomes


def classify(action: Action, reading: Reading | None) -> tuple[ActionState, str]:
    """How an interrupted action ended, and why we think so; a reading of None means that its target is gone."""
    if reading is None:
        return ActionState.FAILED, f"interrupted; {_GONE}"
    if same(action.after, reading.values) and not reading.contradiction:
        return ActionState.DONE, f"interrupted, but in force: {reading.evidence}"
    if same(action.before, reading.values) and not reading.contradiction:
        return ActionState.FAILED, f"interrupted before anything changed: {reading.evidence}"
    found = reading.contradiction or reading.evidence
    return (
        ActionState.FAILED,
        f"interrupted, {NEEDS_ATTENTION}: neither the old nor the new value is in force ({found})",
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """One action on its way."""

    seq: int
    action: Action
    journal: Journal
    backends: Actuators
    outside: Outside
    verify_timeout_s: float

    def forward(self) -> Outcome:
        started_s = time.monotonic()
        self.journal.running(self.seq)
        reading, error = self._attempt(self.action)
        if reading is not None and _arrived(self.action, reading, error):
            return self.end(ActionState.DONE, changed=True, detail=reading.evidence, started_s=started_s)
        reason = _reason(reading, error)
        untouched = reading is not None and same(self.action.before, reading.values) and not reading.contradiction
        if untouched or isinstance(error, TargetGoneError):
            if error is None and self.action.undo is not None:
                with suppress(ActuatorError):  # what was accepted must not come into force later
                    self.outside.act(self.action.undo)
            detail = f"nothing changed: {reason}"
            failure = _failure(self.action, detail, error)
            return self.end(ActionState.FAILED, changed=False, detail=detail, failure=failure, started_s=started_s)
        return self.back(reason, error.kind if error else FailureKind.TRANSIENT, started_s=started_s)

    def back(self, reason: str, kind: FailureKind, *, started_s: float | None = None) -> Outcome:
        """Puts the old value back; the journal already says ``running``."""
        hint = ""
        try:
            undo = inverse(self.action, reason)
            reading, error = self._attempt(undo)
            if reading is not None and _proven(undo, reading):
                detail = f"put back ({reading.evidence}), because {reason}"
                failure = Failure(self.action.node, kind, detail)
                return self.end(ActionState.UNDONE, changed=False, detail=detail, failure=failure, started_s=started_s)
            if isinstance(error, TargetGoneError):
                detail = f"{reason}; {_GONE}"
                failure = Failure(self.action.node, kind, detail)
                return self.end(ActionState.FAILED, changed=False, detail=detail, failure=failure, started_s=started_s)
            trouble = _reason(reading, error)
            hint = _put_back(self.action, self.backends)
        except ActuatorError as error:
            trouble = error.message
        detail = f"{NEEDS_ATTENTION}: {reason}; and it could not be put back: {trouble}"
        failure = Failure(self.action.node, kind, detail, hint)
        return self.end(ActionState.FAILED, changed=True, detail=detail, failure=failure, started_s=started_s)

    def end(
        self,
        state: ActionState,
        *,
        changed: bool,
        detail: str,
        failure: Failure | None = None,
        started_s: float | None = None,
    ) -> Outcome:
        self.journal.finish(self.seq, state, detail)
        duration_s = 0.0 if started_s is None else time.monotonic() - started_s
        return Outcome(self.seq, self.action, state, changed, detail, duration_s, failure)

    def _attempt(self, action: Action) -> tuple[Reading | None, ActuatorError | None]:
        """The last reading after at most two attempts, and the error of the last act or reading.

        Steps are tried once: what they restart is not restarted again for the same thing.
        """
        reading, trouble, call = None, None, action.call
        settle_s = min(self.verify_timeout_s, self.backends[action.kind].settle_s(action))
        for _ in range(1 if isinstance(action.call, Steps) else ATTEMPTS):
            since_s, refusal = time.time(), None
            try:
                self.outside.act(call)
            except ActuatorError as error:
                refusal = error
            # what was refused needs no time to settle; that it was refused does not prove that nothing happened
            since = None if refusal else since_s
            reading, unread = _await(action, self.backends, self.outside, since, 0 if refusal else settle_s)
            trouble = refusal or unread
            if (reading is not None and _arrived(action, reading, refusal)) or (
                refusal is not None and refusal.kind is not FailureKind.TRANSIENT
            ):
                break
            if refusal is None and isinstance(call, HttpCall) and call.instead is not None:
                call = replace(call, body=call.instead, instead=None)
        return reading, trouble


def _await(
    action: Action, backends: Actuators, reader: Reader, since_s: float | None, settle_s: float
) -> tuple[Reading | None, ActuatorError | None]:
    """Reads until the action is proven or its time to settle is over; the last reading, or why there is none."""
    reading, error = None, None
    for _ in _polls(settle_s):
        try:
            reading, error = backends[action.kind].read_back(action, reader, since_s), None
        except ActuatorError as unread:
            reading, error = None, unread
        if (reading is not None and _proven(action, reading)) or isinstance(error, TargetGoneError):
            break
    return reading, error


def _polls(settle_s: float) -> Iterator[None]:
    ends, pause_s = time.monotonic() + settle_s, FIRST_POLL_S
    yield
    while (left_s := ends - time.monotonic()) > 0:
        time.sleep(min(pause_s, left_s))
        pause_s = min(SLOWEST_POLL_S, pause_s * 2)
        yield


def _proven(action: Action, reading: Reading) -> bool:
    return same(action.after, reading.values) and not reading.contradiction


def _arrived(action: Action, reading: Reading, refusal: ActuatorError | None) -> bool:
    """Is it proven? Of requests that only together take effect, the first alone may show in what is read."""
    return _proven(action, reading) and not (refusal is not None and isinstance(action.call, HttpCalls))


def _reason(reading: Reading | None, error: ActuatorError | None) -> str:
    if error is not None:
        return error.message
    if reading is None:
        return "nothing could be read back"
    return reading.contradiction or f"accepted, but not in force ({reading.evidence})"


def _put_back(action: Action, backends: Actuators) -> str:
    """What a person can type to have it as before; "" where nothing takes it back."""
    if action.undo is None:
        return ""
    return f"put it back by hand: {backends[action.kind].advice(inverse(action, ''))}"


def _failure(action: Action, message: str, error: ActuatorError | None) -> Failure:
    kind = error.kind if error else FailureKind.TRANSIENT
    return Failure(action.node, kind, message, error.hint if error else "")
