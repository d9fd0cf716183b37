"""Episodes: a cause is told when it begins, goes on as one, and is over when it has been well for a while."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from depin_orcha.types import DAY_S, HOUR_S

from .nouns import INCOME, REACH, READING, UNUSED, Episode, Finding, Kind, Severity
from .usual import HISTORY_H

REOPEN_S = DAY_S
"""What comes back within a day is the same episode."""
SETTLED_S = 14 * DAY_S
"""Income that has been lower for so long is the new usual."""
_FORGOTTEN_S = HISTORY_H * HOUR_S
_BEFORE_S, _AFTER_S = 12 * HOUR_S, 6 * HOUR_S
_WELL_S = {REACH: HOUR_S // 2, INCOME: 4 * HOUR_S}
_USUALLY_WELL_S = 2 * HOUR_S
_REFRESH_S = HOUR_S
_WORSE = list(Severity)
_TELLING = (Kind.LEVEL_SHIFT, Kind.DROP, Kind.FLATLINE, Kind.STALE_READING, Kind.USAGE_WITHOUT_EARNINGS)
"""Kinds of too little income, the most telling last: an open episode may change to a later one."""


def follow(
    node: str, findings: Iterable[Finding], well: Container[str], episodes: Iterable[Episode], now_s: int
) -> list[Episode]:
    """What has changed: episodes of the node that begin, change, come back, or end at ``now_s``.

    ``episodes`` are its past and its present ones; open ones whose cause is neither found nor in ``well`` stay.
    """
    latest: dict[str, Episode] = {}
    for one in episodes:
        if one.cause not in latest or one.since_s > latest[one.cause].since_s:
            latest[one.cause] = one
    changed: list[Episode] = []
    for finding in findings:
        new = _with(node, latest.get(finding.cause), finding, now_s)
        if new is not None:
            changed.append(new)
    for cause, one in latest.items():
        if one.is_open and cause in well:
            new = _without(one, now_s)
            if new is not None:
                changed.append(new)
    return changed


@dataclass(frozen=True, slots=True)
class Reference:
    """Which past is the usual one: [from_s, to_s) without the holes."""

    from_s: int
    to_s: int
    holes: tuple[tuple[int, int], ...] = ()


def reference(episodes: Iterable[Episode], renewed_s: int) -> Reference:
    """The past against which income is measured, where it is renewed at ``renewed_s``.

    While too little is earned, it ends where that began, and later that stretch is left out, with what is unsure around
    it; what has settled is where the usual begins.
    """
    own = [one for one in episodes if one.cause in (INCOME, UNUSED, READING)]
    settled = [one.since_s for one in own if one.settled]
    lasting = [one.since_s for one in own if one.is_open and one.cause == INCOME]
    holes = [
        (one.since_s - _BEFORE_S, one.until_s + _AFTER_S) for one in own if one.until_s is not None and not one.settled
    ]
    to_s = min([renewed_s, *lasting]) // HOUR_S * HOUR_S
    return Reference(max(settled, default=0) // HOUR_S * HOUR_S, to_s, tuple(sorted(holes)))


def _with(node: str, one: Episode | None, finding: Finding, now_s: int) -> Episode | None:
    """The cause is found: its episode begins, comes back, or goes on; None where there is nothing to add."""
    kind, severity, score, evidence = finding.kind, finding.severity, finding.score, finding.evidence
    new = Episode(node, finding.cause, min(finding.since_s, now_s), now_s, kind, severity, score, evidence)
    if one is None:
        return new
    if one.until_s is not None:
        comes_back = now_s - one.until_s <= REOPEN_S and not one.settled
        return replace(new, since_s=one.since_s if comes_back else max(new.since_s, one.until_s))
    if one.cause == INCOME and one.kind in (Kind.DROP, Kind.LEVEL_SHIFT) and now_s - one.since_s > SETTLED_S:
        return replace(one, learned_s=now_s, until_s=now_s, settled=True)
    told = _more_telling(one.kind, kind)
    new = replace(
        new,
        since_s=one.since_s,
        kind=told,
        severity=max(one.severity, severity, key=_WORSE.index),
        score=max(one.score, score),
        evidence=(one.evidence if told is one.kind else {}) | (evidence if told is kind else {}),
    )
    is_news = new.kind is not one.kind or new.severity is not one.severity or one.well_since_s is not None
    return new if is_news or now_s - one.learned_s >= _REFRESH_S else None


def _without(one: Episode, now_s: int) -> Episode | None:
    """Nothing of it is found: after a while it is over."""
    if one.well_since_s is None:
        return replace(one, learned_s=now_s, well_since_s=now_s)
    if now_s - one.well_since_s >= _WELL_S.get(one.cause, _USUALLY_WELL_S):
        return replace(one, learned_s=now_s, until_s=one.well_since_s)
    return None


def _more_telling(before: Kind, now: Kind) -> Kind:
    if before in _TELLING and now in _TELLING:
        return max(before, now, key=_TELLING.index)
    return now
