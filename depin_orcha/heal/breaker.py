"""The circuit breaker of a node: it waits longer after each try, gives up after the last, and closes when all is well.

Its states are values; where they are kept is up to the caller.
"""

from __future__ import annotations

import hashlib

from .nouns import Breaker, Circuit, Limits

_JITTER = 0.25


def tried(breaker: Breaker, node: str, limits: Limits, now_s: int) -> Breaker:
    """The breaker of a node that is restarted now: one try more, and none before the next wait is over."""
    tries = breaker.tries + 1
    until_s = now_s + backoff_s(node, tries, now_s, limits)
    return Breaker(Circuit.OPEN, tries, now_s, until_s, f"restarted {tries} of {limits.tries} times")


def given_up(breaker: Breaker, now_s: int, reason: str) -> Breaker:
    """The breaker of a node that is left to its owner until it has been well for a while."""
    return Breaker(Circuit.GIVEN_UP, breaker.tries, now_s, None, reason)


def settled(breaker: Breaker, bad_s: int, read_s: int, limits: Limits, now_s: int) -> Breaker | None:
    """The closed breaker of a node whose readings were good from ``bad_s`` to ``read_s``; None where it stays.

    That has to be long enough since it was tried last.
    """
    if breaker.circuit is Circuit.CLOSED or read_s - max(bad_s, breaker.changed_s) < limits.stable_s:
        return None
    return Breaker(changed_s=now_s, reason="it has been well since")


def backoff_s(node: str, tries: int, at_s: int, limits: Limits) -> int:
    """How long to wait after so many tries: twice as long after each, and up to a quarter more.

    The quarter follows from the arguments, so that nodes that fell together are not restarted together, and the same
    question has the same answer.
    """
    base_s = min(limits.backoff_s * 2 ** min(tries - 1, 30), limits.max_backoff_s)
    digest = hashlib.sha256(f"{node} {tries} {at_s}".encode()).digest()
    return base_s + int(base_s * _JITTER * int.from_bytes(digest[:4]) / 2**32)
