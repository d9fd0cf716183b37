"""``pause`` and ``resume``: nodes that are read on but not acted on."""

from __future__ import annotations

import re

from .asof import AsOf
from .cycle import Job, Result
from .errors import UsageError
from .store import Store
from .timefmt import rfc3339
from .types import DAY_S, HOUR_S

_UNIT_S = {"m": 60, "h": HOUR_S, "d": DAY_S}


def pause(job: Job, store: Store, span: str | None) -> Result:
    """The nodes named, or all, are not acted on for ``span`` (``30m``, ``4h``, ``2d``) or until resumed."""
    until_s = None if span is None else job.now_s + _seconds(span)
    with store.transaction():
        for node in sorted(job.only) or [None]:
            store.add_pause(node, job.now_s, until_s)
    return _in_force(job, store)


def resume(job: Job, store: Store) -> Result:
    """The pauses of the nodes named, or all pauses, have ended."""
    with store.transaction():
        store.end_pauses(sorted(job.only), job.now_s)
    return _in_force(job, store)


def _in_force(job: Job, store: Store) -> Result:
    pauses = [
        {
            "node": one.node,
            "since": rfc3339(one.paused_s),
            "until": None if one.until_s is None else rfc3339(one.until_s),
        }
        for one in AsOf(store.connection, job.now_s).pauses()
    ]
    return Result({"paused": pauses})


def _seconds(span: str) -> int:
    match = re.fullmatch(r"(\d{1,5})([mhd])", span)
    if not match or not int(match[1]):
        raise UsageError(f"--for {span!r} is no length of time", "write it as 30m, 4h or 2d")
    return int(match[1]) * _UNIT_S[match[2]]
