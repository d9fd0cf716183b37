"""Whom not to ask again before when: sources and accounts that want to be left alone, or that refused us."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from .errors import AdapterError, FailureKind
from .timefmt import rfc3339

_SALT_DIGITS = 32


@dataclass(frozen=True, slots=True)
class Backoff:
    """From ``since_s`` on nothing is asked until ``until_s``, or (None) as long as the secret is the refused one.

    ``kind`` and ``message`` say why; ``kind`` is None where it is only not worth asking more often. Of a refused secret
    nothing is kept but its ``fingerprint``.
    """

    since_s: int
    until_s: int | None
    kind: FailureKind | None = None
    message: str = ""
    fingerprint: str = ""

    def holds(self, now_s: int, secret: str = "") -> bool:
        """Is it still to be left alone?"""
        if self.until_s is not None:
            return now_s < self.until_s
        return self.fingerprint == _fingerprint(secret, self.fingerprint[:_SALT_DIGITS])


def after(error: AdapterError, now_s: int, secret: str = "") -> Backoff | None:
    """What a failure asks for: its message, and until when; None where the next run may ask again."""
    if error.until_renewed and secret:
        message = f"{error.message}; it is not asked again before the credentials change"
        return Backoff(now_s, None, error.kind, message, _fingerprint(secret, os.urandom(_SALT_DIGITS // 2).hex()))
    if error.retry_after_s is None:
        return None
    until_s = now_s + error.retry_after_s
    message = f"{error.message}; it is not asked again before {rfc3339(until_s)}"
    return Backoff(now_s, until_s, error.kind, message)


def _fingerprint(secret: str, salt: str) -> str:
    """Salt and digest: enough to know the secret again, too slow to try out guesses, and too short to be sure."""
    return salt + hashlib.scrypt(secret.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=8).hex()
