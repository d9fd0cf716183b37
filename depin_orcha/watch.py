"""``forecast`` also says what is wrong: each configured node is judged, and what is found is kept as episodes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from . import alarms
from .anomalies import follow, judge
from .anomalies.nouns import Episode
from .asof import AsOf, EarnedHour
from .cycle import Job
from .signals import SEEN_H, Signals
from .store import Store, to_json
from .types import HOUR_S


@dataclass(slots=True)
class Watched:
    """``anomalies``: members of ``data.anomalies[]``; ``warnings``: what could not be judged."""

    anomalies: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    warnings: list[str] = field(default_factory=list[str])


def watch(job: Job, store: Store) -> Watched:
    """The configured nodes are judged by what is known now, and what has changed is stored.

    An instant of the past that was asked for is only looked at: what is said of it was said then.
    """
    known = AsOf(store.connection, job.now_s)
    told = Watched()
    episodes = alarms.episodes(known)
    hours = _by_node(known)
    changed: list[Episode] = []
    learned: list[tuple[str, str, str]] = []
    judged = [node.name for node in known.nodes() if node.name in job.config.nodes and job.wanted(node.name)]
    for name in judged:
        own = [one for one in episodes if one.node == name]
        signals = Signals(known, name, hours.get(name, []), own)
        try:
            verdict = judge(signals.read())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            told.warnings.append(f"{name}: what it tells cannot be judged ({type(error).__name__}: {error})")
            continue
        changed += follow(name, verdict.findings, verdict.well, own, job.now_s)
        if signals.learned is not None:
            learned.append((name, *signals.learned))
    if not (job.fixed_now and known.ran_later("forecast")):
        with store.transaction() as connection:
            _store(connection, changed)
            connection.executemany("INSERT OR REPLACE INTO usual VALUES (?, ?, ?)", learned)
    latest = {(one.node, one.cause, one.since_s): one for one in (*episodes, *changed)}
    told.anomalies = [alarms.document(one) for one in alarms.recent(latest.values(), job.now_s) if one.node in judged]
    return told


def _by_node(known: AsOf) -> dict[str, list[EarnedHour]]:
    hours: dict[str, list[EarnedHour]] = {}
    for one in known.hours(known.now_s - (SEEN_H + 1) * HOUR_S):
        hours.setdefault(one.node, []).append(one)
    return hours


def _store(connection: sqlite3.Connection, changed: Iterable[Episode]) -> None:
    """Keep how episodes stand from now on; what was known of them before stays."""
    rows = [
        (
            *(one.node, one.cause, one.since_s, one.learned_s, one.kind, one.severity, one.score),
            *(to_json(one.evidence), one.until_s, one.well_since_s, one.settled),
        )
        for one in changed
    ]
    connection.executemany("INSERT OR REPLACE INTO anomalies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
