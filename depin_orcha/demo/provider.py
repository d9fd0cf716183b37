"""A simulated Golem provider: who hires it, for how long, for how much, and the documents that leaves behind.

Requestors come at random (more by day than by night, fewer at a higher price), find the provider free or not, take
its whole cap, and keep as many threads of it busy as their work has. So income is all or nothing in time, falls with
the price, and rises with the cap until nobody has work for more. The documents of an agreement are made when it is
signed; which of them exist at an instant, and in which state, follows from their times alone.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from hashlib import sha256
from random import Random
from uuid import UUID

from depin_orcha.types import DAY_S, DECIMALS, HOUR_S, decimal_text

from .times import MICROS

NOTE_INTERVAL_S = 900
PLATFORM = "erc20-polygon-glm"

_HEARD_US = MICROS
"""A document reaches the requestor this long after it was issued."""
_ATTO = Decimal(1).scaleb(-18)


@dataclass(frozen=True, slots=True)
class Setting:
    """What the provider offers: a cap in threads, and GLM per second for a thread and for the time itself."""

    threads: int
    glm_per_thread_s: float
    glm_per_s: float


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which setting is in force from which second on."""

    changes: tuple[tuple[int, Setting], ...]

    def at(self, at_s: int) -> tuple[int, Setting]:
        """The setting in force and since when."""
        index = bisect_right(self.changes, at_s, key=lambda change: change[0]) - 1
        return self.changes[max(0, index)]


@dataclass(frozen=True, slots=True)
class Demand:
    """The market around one provider.

    ``threads`` maps the threads that a requestor has work for to its weight; ``per_idle_h`` is how many requestors
    an hour would hire an idle provider at ``usual_glm_per_thread_s``; at a share x above that price there are
    exp(-``price_sensitivity`` * x) as many.
    """

    threads: Mapping[int, float]
    per_idle_h: float
    work_h: float
    usual_glm_per_thread_s: float
    price_sensitivity: float

    def requests_per_hour(self, at_s: int, setting: Setting) -> float:
        """How many requestors an hour would hire an idle provider now."""
        daily = 1 + 0.25 * math.sin(2 * math.pi * (at_s % DAY_S / DAY_S - 0.4))
        dearer = setting.glm_per_thread_s / self.usual_glm_per_thread_s - 1
        return self.per_idle_h * daily * math.exp(-self.price_sensitivity * dearer)

    @property
    def busiest_per_hour(self) -> float:
        """Upper bound of ``requests_per_hour`` at the usual price or above."""
        return self.per_idle_h * 1.25


@dataclass(frozen=True, slots=True)
class Note:
    """A debit note: all that its activity has cost so far."""

    id: str
    issued_us: int
    amount: str
    usage: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Agreement:
    """A signed agreement with everything that will come of it."""

    id: str
    activity_id: str
    invoice_id: str
    payment_id: str
    requestor: str
    setting: Setting
    signed_us: int
    started_us: int
    ended_us: int
    invoiced_us: int
    threads_busy: float
    notes: tuple[Note, ...]
    accepted_us: int | None
    """When the requestor accepts the invoice; None if it is cancelled instead."""
    settled_us: int | None
    cancelled_us: int | None

    @property
    def amount(self) -> str:
        """What the invoice asks for, in GLM."""
        return self.notes[-1].amount

    @property
    def approved_us(self) -> int:
        return self.signed_us + 2 * MICROS

    def state(self, now_us: int) -> str:
        return "Approved" if now_us < self.ended_us + 3 * MICROS else "Terminated"

    def running(self, now_us: int) -> bool:
        return self.started_us <= now_us < self.ended_us

    def usage(self, now_us: int) -> tuple[float, float]:
        """Thread-seconds and seconds of the activity so far."""
        seconds = Decimal(max(0, min(now_us, self.ended_us) - self.started_us)) / MICROS
        return float(seconds * Decimal(str(self.threads_busy))), float(seconds)

    def invoice_status(self, now_us: int) -> str:
        if self.cancelled_us is not None and self.cancelled_us <= now_us:
            return "CANCELLED"
        if self.settled_us is not None and self.settled_us <= now_us:
            return "SETTLED"
        if self.accepted_us is not None and self.accepted_us <= now_us:
            return "ACCEPTED"
        return "RECEIVED" if self.invoiced_us + _HEARD_US <= now_us else "ISSUED"

    def note_status(self, note: Note, now_us: int) -> str:
        if self.settled_us is not None and self.settled_us <= now_us:
            return "SETTLED"
        if self.note_accepted(note, now_us):
            return "ACCEPTED"
        return "RECEIVED" if note.issued_us + _HEARD_US <= now_us else "ISSUED"

    def note_accepted(self, note: Note, now_us: int) -> bool:
        return self.cancelled_us is None and note.issued_us + 2 * _HEARD_US <= now_us


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """Something that happened to a document."""

    at_us: int
    document_id: str
    kind: str


class Provider:
    """A simulated Golem provider from ``start_s`` on; it runs one agreement at a time."""

    def __init__(self, name: str, *, cores: int, start_s: int, schedule: Schedule, demand: Demand, seed: int) -> None:
        self.name = name
        self.cores = cores
        self.start_s = start_s
        self.schedule = schedule
        self.identity = address_of(f"provider {name} {seed}")
        self.agreements: list[Agreement] = []
        self.notes: list[tuple[Agreement, int]] = []
        self.invoice_events: list[Event] = []
        self.note_events: list[Event] = []
        self.settlements: list[tuple[int, Agreement]] = []
        self.demand = demand
        self._random = Random(f"{name} {seed}")  # noqa: S311
        self._next_us = start_s * MICROS + self._gap_us()

    def advance(self, now_s: int) -> None:
        """Every agreement signed by ``now_s`` exists, with all its documents."""
        while self._next_us <= now_s * MICROS:
            at_s = self._next_us // MICROS
            setting = self.schedule.at(at_s)[1]
            chance = self.demand.requests_per_hour(at_s, setting) / self.demand.busiest_per_hour
            if self._random.random() < chance:
                agreement = self._sign(self._next_us, setting)
                self._record(agreement)
                self._next_us = agreement.invoiced_us + 30 * MICROS
            self._next_us += self._gap_us()

    def running(self, now_us: int) -> Agreement | None:
        """The agreement whose activity runs now."""
        index = bisect_right(self.agreements, now_us, key=lambda agreement: agreement.signed_us) - 1
        return self.agreements[index] if index >= 0 and self.agreements[index].running(now_us) else None

    def _gap_us(self) -> int:
        return int(self._random.expovariate(self.demand.busiest_per_hour) * HOUR_S * MICROS)

    def _sign(self, signed_us: int, setting: Setting) -> Agreement:
        chance = self._random
        requestor = chance.choice(_REQUESTORS)
        wanted = chance.choices(list(self.demand.threads), list(self.demand.threads.values()))[0]
        cancelled = chance.random() < 0.04
        work_h = 0.1 if cancelled else self.demand.work_h * chance.lognormvariate(-0.18, 0.6)
        threads_busy = round(min(wanted, setting.threads) * chance.uniform(0.94, 1.0), 4)
        started_us = signed_us + chance.randrange(7 * MICROS, 40 * MICROS)
        ended_us = started_us + int(min(max(work_h, 0.1), 4) * HOUR_S * MICROS)
        invoiced_us = ended_us + 5 * MICROS
        accepted_us = invoiced_us + chance.randrange(2 * MICROS, 60 * MICROS)
        if requestor == _REQUESTORS[-1]:
            accepted_us += chance.randrange(3 * HOUR_S, 8 * HOUR_S) * MICROS
        settled_us = accepted_us + chance.randrange(2 * HOUR_S, 9 * HOUR_S) * MICROS
        return Agreement(
            id=f"{chance.getrandbits(256):064x}",
            activity_id=f"{chance.getrandbits(128):032x}",
            invoice_id=str(UUID(int=chance.getrandbits(128))),
            payment_id=str(UUID(int=chance.getrandbits(128))),
            requestor=requestor,
            setting=setting,
            signed_us=signed_us,
            started_us=started_us,
            ended_us=ended_us,
            invoiced_us=invoiced_us,
            threads_busy=threads_busy,
            notes=self._notes(setting, threads_busy, started_us, ended_us),
            accepted_us=None if cancelled else accepted_us,
            settled_us=None if cancelled else settled_us,
            cancelled_us=accepted_us if cancelled else None,
        )

    def _notes(self, setting: Setting, threads_busy: float, started_us: int, ended_us: int) -> tuple[Note, ...]:
        interval_us = NOTE_INTERVAL_S * MICROS
        instants = [*range(started_us + interval_us, ended_us - interval_us // 4, interval_us), ended_us]
        notes: list[Note] = []
        for at_us in instants:
            seconds = Decimal(at_us - started_us) / MICROS
            thread_seconds = seconds * Decimal(str(threads_busy))
            amount = _glm(setting, thread_seconds, seconds)
            usage = (float(thread_seconds), float(seconds))
            notes.append(Note(str(UUID(int=self._random.getrandbits(128))), at_us, amount, usage))
        return tuple(notes)

    def _record(self, agreement: Agreement) -> None:
        self.agreements.append(agreement)
        for index, note in enumerate(agreement.notes):
            self.notes.append((agreement, index))
            if agreement.cancelled_us is None:
                self.note_events.append(Event(note.issued_us + 2 * _HEARD_US, note.id, "DebitNoteAcceptedEvent"))
        for at_us, kind in (
            (agreement.accepted_us, "InvoiceAcceptedEvent"),
            (agreement.settled_us, "InvoiceSettledEvent"),
            (agreement.cancelled_us, "InvoiceCancelledEvent"),
        ):
            if at_us is not None:
                insort(self.invoice_events, Event(at_us, agreement.invoice_id, kind))
        if agreement.settled_us is not None:
            insort(self.settlements, (agreement.settled_us, agreement), key=lambda settled: settled[0])


def balanced_schedule(start_s: int, settings: Sequence[Setting], cycles: int, left_at: Setting) -> Schedule:
    """Each setting in turn for half a day, the turn shifted by one in every cycle, and ``left_at`` afterwards.

    With an even number of settings and of cycles each one meets the first half of the day as often as the second.
    """
    half_day_s = DAY_S // 2
    turns = [settings[(turn + cycle) % len(settings)] for cycle in range(cycles) for turn in range(len(settings))]
    return Schedule(tuple((start_s + turn * half_day_s, setting) for turn, setting in enumerate([*turns, left_at])))


def address_of(text: str) -> str:
    """A made-up account address."""
    return "0x" + sha256(text.encode()).hexdigest()[:40]


def _glm(setting: Setting, thread_seconds: Decimal, seconds: Decimal) -> str:
    """Cost of an activity, rounded to the 18 decimals of the token."""
    with localcontext(DECIMALS):
        cost = thread_seconds * Decimal(str(setting.glm_per_thread_s)) + seconds * Decimal(str(setting.glm_per_s))
        return decimal_text(cost.quantize(_ATTO))


_REQUESTORS = tuple(address_of(f"requestor {number}") for number in range(8))
