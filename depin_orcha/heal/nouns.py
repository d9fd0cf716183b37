"""What the rules of healing are told of nodes, and what they answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from depin_orcha.anomalies import Contact, Episode
from depin_orcha.types import HOUR_S


class State(StrEnum):
    """How a node stands with what runs it: an engine or a service manager."""

    RUNNING = "running"
    CRASHED = "crashed"
    """It ended by itself, and not in good order."""
    ENDED = "ended"
    """It ended by itself, in good order."""
    STOPPED = "stopped"
    """Somebody stopped it."""
    HELD = "held"
    """It is not meant to run now: frozen, masked, never started."""
    STARTING = "starting"
    """What runs it is starting it by itself."""
    UNTOLD = "untold"
    """It does not run, and nothing says why."""
    GONE = "gone"
    UNMANAGED = "unmanaged"
    """Nothing here runs it: a plain process, or a node on another machine."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Runner:
    """What an engine or a service manager says of a node; ``mark`` differs after every start of it."""

    state: State
    said: str = ""
    started_s: int | None = None
    ended_s: int | None = None
    mark: str = ""
    id: str = ""


class Circuit(StrEnum):
    """States of a breaker: closed, tried and waiting, given up."""

    CLOSED = "closed"
    OPEN = "open"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Breaker:
    """How often a node was restarted without lasting success, and until when it is not tried again."""

    circuit: Circuit = Circuit.CLOSED
    tries: int = 0
    changed_s: int = 0
    until_s: int | None = None
    reason: str = ""


class Restart(NamedTuple):
    """A restart that we began; ``source``: whose income the node earns, which nodes of one account share."""

    node: str
    host: str
    source: str
    started_s: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient, how often, how long: the options of ``[heal]``."""

    unanswered_s: int = 2700
    max_reading_age_s: int = 3600
    tries: int = 3
    backoff_s: int = 900
    max_backoff_s: int = 6 * HOUR_S
    stable_s: int = HOUR_S
    node_restarts_per_day: int = 4
    host_restarts_per_hour: int = 2


@dataclass(frozen=True, slots=True)
class Patient:
    """A node whose last reading was bad, or that is frozen; the last two are asked only when all else is for a restart.

    ``answers``: does it answer at this moment? ``busy``: is it bound to work? None where that is not known.
    """

    node: str
    host: str
    source: str
    protocol: str
    contact: Contact
    runner: Runner
    consent: bool = False
    paused: bool = False
    breaker: Breaker = Breaker()
    episodes: Sequence[Episode] = ()
    answers: Callable[[], bool] = field(default=lambda: False)
    busy: Callable[[], bool | None] = field(default=lambda: False)


class Course(StrEnum):
    """What to do about a node."""

    WAIT = "wait"
    RESTART = "restart"
    ADVISE = "advise"
    """It is due, but its owner has to do it."""
    BACK_OFF = "back_off"
    GIVE_UP = "give_up"
    LEAVE = "leave"
    """A restart is no cure, or not wanted."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about a node and why; ``next_s``: when it may be otherwise; ``is_news``: it was not so before."""

    node: str
    course: Course
    why: str
    next_s: int | None = None
    is_news: bool = False
