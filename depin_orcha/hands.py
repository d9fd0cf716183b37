"""Whose hand set what is in force: ours, or that of a person, whose word counts until it is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .actuators import same
from .types import Action, ActionState

SET_AGAIN = "set again: it was in force and is not any more"
"""Why something is done that no plan asks for anew."""
CHANGED_BY_HAND = "changed by hand"
_OURS_ALONE = frozenset(("profile",))
"""What nobody else has a reason to change: the content of our own hardware profile while it is not in use."""


@dataclass(frozen=True, slots=True)
class Past:
    """An act of ours as the journal has it."""

    row: int
    plan_id: str | None
    state: ActionState
    detail: str
    action: Action

    @property
    def leaves(self) -> dict[str, Any] | None:
        """What was in force when it had ended; None where that is not known."""
        return {ActionState.DONE: self.action.after, ActionState.UNDONE: self.action.before}.get(self.state)


def done(past: Iterable[Past]) -> list[Action]:
    """The acts that were proven, in the same order."""
    return [one.action for one in past if one.state is ActionState.DONE]


def by_hand(action: Action, past: Sequence[Past]) -> str | None:
    """What a person changed since our last act, of what ``action`` would change now; None where nobody did.

    ``past``: the acts on the node, oldest first. What was made anew since was not changed by anybody.
    """
    for key, found in action.before.items():
        last = None if key in _OURS_ALONE else _last(action, key, past)
        if last is None or last.leaves is None or last.action.target != action.target:
            continue
        if not same(last.leaves[key], found):
            return f"{CHANGED_BY_HAND}: {key} is {_said(found)}, and we had set {_said(last.leaves[key])}"
    return None


def is_told(action: Action, reason: str, past: Sequence[Past]) -> bool:
    """Was it said before, and has nothing happened since?"""
    own = [one for one in past if one.action.kind == action.kind]
    return bool(own) and own[-1].state is ActionState.SKIPPED and own[-1].detail == reason


def _last(action: Action, key: str, past: Sequence[Past]) -> Past | None:
    ours = (
        one
        for one in reversed(past)
        if one.action.kind == action.kind and key in one.action.after and one.state is not ActionState.SKIPPED
    )
    return next(ours, None)


def _said(value: Any) -> str:
    if value is None:
        return "no limit"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
