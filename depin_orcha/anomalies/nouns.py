"""What the detectors are told of a node, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .usual import Usual

Details = Mapping[str, Any]
"""``health.details`` of a reading."""


class Kind(StrEnum):
    """What is wrong."""

    UNREACHABLE = "unreachable"
    STALE_READING = "stale_reading"
    FLATLINE = "flatline"
    DROP = "drop"
    LEVEL_SHIFT = "level_shift"
    USAGE_WITHOUT_EARNINGS = "usage_without_earnings"
    EARNINGS_WITHOUT_USAGE = "earnings_without_usage"
    REPUTATION = "reputation"
    UNPAID_WORK = "unpaid_work"
    STALE_HEARTBEAT = "stale_heartbeat"
    UNCOLLECTED = "uncollected"


class Severity(StrEnum):
    """How soon somebody should look; the first is the least."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


INCOME = "income"
"""The cause of everything that shows as too little income: only one of its kinds is told at a time."""
UNUSED = "unused"
"""The cause of income without use."""
REACH = "reach"
READING = "reading"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong now.

    ``cause`` names it within the node, so that it is told once however it shows; ``score`` is how far it is beyond its
    limit, 1 at the limit itself; ``evidence`` holds the numbers, as JSON values.
    """

    kind: Kind
    cause: str
    severity: Severity
    since_s: int
    score: float
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Episode:
    """One cause from its beginning on, as known since ``learned_s``.

    ``until_s`` is None while it lasts; ``well_since_s``: since when nothing of it is found, None while it is.
    ``settled``: it did not end, but became the usual.
    """

    node: str
    cause: str
    since_s: int
    learned_s: int
    kind: Kind
    severity: Severity
    score: float
    evidence: dict[str, Any]
    until_s: int | None = None
    well_since_s: int | None = None
    settled: bool = False

    @property
    def is_open(self) -> bool:
        """Does it last?"""
        return self.until_s is None


@dataclass(frozen=True, slots=True)
class Contact:
    """How reading the node has gone: the last attempt, the last good one, and the unbroken run of bad ones since."""

    tried_s: int
    good_s: int | None
    bad_since_s: int | None = None
    bad_readings: int = 0
    failure_kind: str | None = None
    status: str = "up"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AtRisk:
    """Earned money that may never be paid: the least of the last half day, and what it was a week ago."""

    currency: str
    amount: float
    week_ago: float


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of a node at ``now_s``.

    ``hours``: native income of each completed hour, oldest first, the last one ends at ``end_s``; None where it is not
    known, or the node was not there to earn. ``working``: whether the node worked throughout that hour (True), not at
    all (False), or neither or unknown (None). ``told_s``: the end of the last hour that the node has accounted for.
    ``open``: the open episodes by cause. ``details``: of the last good reading; those of some hours and of a
    week before, None where there are none. ``unchanged_since_s``: since when the node tells just the same.
    ``expected_at_least``: (from, to) -> least income of these hours by the forecast made before them.
    """

    now_s: int
    end_s: int
    contact: Contact | None
    usual: Usual | None = None
    hours: Sequence[float | None] = ()
    working: Sequence[bool | None] = ()
    told_s: int | None = None
    paused: bool = False
    open: Mapping[str, Episode] = field(default_factory=dict[str, Episode])
    details: Details = field(default_factory=dict[str, Any])
    details_hours_ago: Details | None = None
    details_week_ago: Details | None = None
    unchanged_since_s: int | None = None
    at_risk: AtRisk | None = None
    stored_bytes: float | None = None
    expected_at_least: Callable[[int, int], float | None] = lambda _from_s, _to_s: None

    def is_open(self, cause: str) -> bool:
        """Is an episode of this cause open? Then less is enough for it to go on."""
        return cause in self.open

    def income_is(self, *kinds: Kind) -> bool:
        """Is an episode of too little income open, and of one of these kinds?"""
        return INCOME in self.open and self.open[INCOME].kind in kinds
