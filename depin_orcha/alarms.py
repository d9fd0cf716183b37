"""Episodes of what is wrong with nodes, as they were known, and how they are told."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .anomalies.nouns import Episode, Kind, Severity
from .anomalies.words import advice, sentence
from .asof import AsOf
from .timefmt import rfc3339
from .types import DAY_S

_SHOWN_S = DAY_S
"""How long ``forecast`` tells of an episode that has ended."""


def episodes(known: AsOf) -> list[Episode]:
    """Every episode as it was known, by node, cause and beginning."""
    rows = known.connection.execute(
        "SELECT node, cause, since_s, max(learned_s), kind, severity, score, evidence_json, until_s, well_since_s, "
        "settled FROM anomalies WHERE learned_s <= ? GROUP BY node, cause, since_s",
        (known.now_s,),
    )
    found: list[Episode] = []
    for node, cause, since_s, learned_s, kind, severity, score, evidence, until_s, well_since_s, settled in rows:
        told = (Kind(kind), Severity(severity), score, json.loads(evidence))
        found.append(Episode(node, cause, since_s, learned_s, *told, until_s, well_since_s, bool(settled)))
    return found


def lasting(known: AsOf) -> list[Episode]:
    """The open ones, the most severe first."""
    return _ranked(one for one in episodes(known) if one.is_open)


def recent(all_known: Iterable[Episode], now_s: int) -> list[Episode]:
    """The open ones and those that ended in the last day."""
    return _ranked(one for one in all_known if one.until_s is None or now_s - one.until_s < _SHOWN_S)


def document(one: Episode) -> dict[str, Any]:
    """A member of ``data.anomalies[]``."""
    return {
        "node": one.node,
        "kind": one.kind,
        "severity": one.severity,
        "since": rfc3339(one.since_s),
        "until": None if one.until_s is None else rfc3339(one.until_s),
        "score": round(one.score, 3),
        "evidence": {"text": sentence(one)} | one.evidence,
        "cause": one.cause,
        "advice": advice(one),
    }


def _ranked(found: Iterable[Episode]) -> list[Episode]:
    order = list(Severity)
    return sorted(found, key=lambda one: (one.until_s is not None, -order.index(one.severity), one.node, one.since_s))
