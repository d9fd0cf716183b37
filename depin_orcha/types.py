"""The nouns of depin-orcha: frozen values without behaviour beyond arithmetic and checks.

Time is UTC epoch seconds, money is :class:`decimal.Decimal`, and the unit of every number stands in its name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from enum import StrEnum
from typing import Any

from .errors import FailureKind

HOUR_S = 3600
DAY_S = 86_400
DECIMALS = Context(prec=80)
"""Arithmetic context of every sum of money: wide enough for 18 decimals of any token supply."""


class Resource(StrEnum):
    """What a host can share out; the value is the unit."""

    CPU_CORES = "cpu_cores"
    MEMORY_BYTES = "memory_bytes"
    STORAGE_BYTES = "storage_bytes"
    UPLINK_BPS = "uplink_bps"
    DOWNLINK_BPS = "downlink_bps"
    GPU_COUNT = "gpu_count"


class SampleKind(StrEnum):
    """How a reading becomes earnings."""

    COUNTER = "counter"
    """Grows inside its ``period``; a fall earns 0 and becomes the new baseline."""
    EVENT = "event"
    """Earned once, at ``observed_s``, under a unique ``external_id``."""
    BALANCE = "balance"
    """A level that grows by earnings and may fall by a payout."""


class HealthStatus(StrEnum):
    """State of one node as the node itself, or its container or unit, tells it."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"


class Quality(StrEnum):
    """How the amount of an hour is known."""

    MEASURED = "measured"
    INTERPOLATED = "interpolated"
    ESTIMATED = "estimated"
    IMPORTED = "imported"


CERTAINTY: tuple[Quality, ...] = (Quality.MEASURED, Quality.INTERPOLATED, Quality.ESTIMATED, Quality.IMPORTED)
"""From the most certain to the least: a sum is as certain as its least certain part."""


class Standing(StrEnum):
    """Where money that was already earned stands now."""

    HELD = "held"
    ACCEPTED = "accepted"
    PAID = "paid"
    AT_RISK = "at_risk"
    PAYABLE = "payable"
    WALLET = "wallet"


@dataclass(frozen=True, slots=True)
class Money:
    """An exact amount of one currency; two currencies do not add up."""

    amount: Decimal
    currency: str

    def __add__(self, other: Money) -> Money:
        if self.currency != other.currency:
            raise ValueError(f"cannot add {other.currency} to {self.currency}")
        with localcontext(DECIMALS):
            return Money(self.amount + other.amount, self.currency)


def decimal_text(amount: Decimal) -> str:
    """Canonical text of an amount: plain notation, no exponent, no trailing zeros, never ``-0``."""
    text = format(amount, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


@dataclass(frozen=True, slots=True)
class EarningsSample:
    """One reading of what a node earned.

    ``amount`` is gross in ``currency``; the operator's part of a growth d of a counter is
    ``d * share - growth of withheld``. ``period`` names the stretch inside which a counter only grows
    (``2026-11``, an activity id, ``""`` for a lifetime counter); ``external_id`` names the series
    (a satellite, an activity, an invoice). ``keeps_peak``: a fall is only a late or wobbling reading, so growth counts
    again once the old peak is passed, unless there was a loss, the last one at ``lost_s``, since the reading before;
    without it a fall is the new baseline. ``baseline`` is what the next growth
    counts from, as stored; None is the amount itself. ``began_s``: when the period began, where its name does not tell;
    what was not read then is history. ``estimated``: computed from what the network told, as its contract would.
    ``stepped``: the part of the amount that moves only now and then,
    for all the time since it last moved, at ``stepped_s`` as stored; None where nothing does.
    """

    observed_s: int
    amount: Decimal
    currency: str
    kind: SampleKind
    period: str = ""
    external_id: str = ""
    share: Decimal = Decimal(1)
    withheld: Decimal = Decimal(0)
    keeps_peak: bool = False
    lost_s: int | None = None
    baseline: Decimal | None = None
    stepped: Decimal | None = None
    stepped_s: int | None = None
    began_s: int | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class VoidedSample:
    """A sample that the network took back (rejected, cancelled, failed); what it earned is booked negative.

    ``observed_s`` None: every sample of the series. A sample that is delivered again counts again.
    """

    observed_s: int | None
    currency: str
    kind: SampleKind
    period: str
    external_id: str


@dataclass(frozen=True, slots=True)
class StandingAmount:
    """How much of what was earned is held, accepted, paid or at risk now."""

    standing: Standing
    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Payout:
    """Money that left the network for the operator.

    ``external_id`` is unique within the node; ``received_s``, ``transaction`` and ``fee`` are None where the network
    does not tell; ``period`` is the month that it pays, ``""`` where it pays documents.
    """

    external_id: str
    amount: Decimal
    currency: str
    received_s: int | None = None
    transaction: str | None = None
    fee: Decimal | None = None
    period: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """A network's own settled account of a month (``period``, YYYY-MM) with one series (``external_id``).

    Of what was ``earned``, ``held`` is kept back; ``returned`` was held earlier; ``payable`` is what is due by that, of
    which ``paid`` has been sent.
    """

    period: str
    external_id: str
    currency: str
    earned: Decimal
    held: Decimal
    returned: Decimal
    payable: Decimal
    paid: Decimal


class OutlookSource(StrEnum):
    """Who says what a month will bring."""

    FORECAST = "forecast"
    DASHBOARD = "dashboard"


@dataclass(frozen=True, slots=True)
class MonthOutlook:
    """What a whole month (``period``, YYYY-MM) will bring, net of held amounts, as said on one ``day`` of it (1 to 31).

    ``lo80`` and ``hi80`` are None where only one number is told. It is an opinion, never earnings.
    """

    period: str
    day: int
    currency: str
    source: OutlookSource
    mean: Decimal
    lo80: Decimal | None = None
    hi80: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a node may use of a resource and what it uses; None where the node does not say."""

    allocated: float | None
    used: float | None


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a grant: never below ``floor`` or above ``ceiling``, moved in multiples of ``step``."""

    floor: float
    ceiling: float | None
    step: float


@dataclass(frozen=True, slots=True)
class Health:
    """State of a node, the reason in one sentence, and protocol-specific facts that are JSON values."""

    status: HealthStatus
    reason: str
    details: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One successful reading of one node.

    ``complete_since_s``: every earning after this instant is in ``earnings`` (a ledger of documents), so
    hours without one are a true zero; None where only counters are read.
    """

    node: str
    observed_s: int
    earnings: tuple[EarningsSample, ...]
    health: Health
    usage: dict[Resource, Usage] = field(default_factory=dict[Resource, Usage])
    limits: dict[Resource, Limits] = field(default_factory=dict[Resource, Limits])
    standings: tuple[StandingAmount, ...] = ()
    voided: tuple[VoidedSample, ...] = ()
    complete_since_s: int | None = None
    warnings: tuple[str, ...] = ()
    payouts: tuple[Payout, ...] = ()
    statements: tuple[Statement, ...] = ()
    outlooks: tuple[MonthOutlook, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that did not work while the rest went on; ``node`` is None for a shared source."""

    node: str | None
    kind: FailureKind
    message: str
    hint: str = ""

    def to_dict(self) -> dict[str, str | None]:
        """The member of ``failures[]`` in a JSON document."""
        return {"node": self.node, "kind": str(self.kind), "message": self.message, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class Accrual:
    """What was earned in the hour that starts at ``hour_s``, after the operator's share; a delta, may be negative."""

    hour_s: int
    amount: Decimal
    currency: str
    quality: Quality


@dataclass(frozen=True, slots=True)
class Price:
    """What one unit of a token was worth in USD at ``observed_s``, and who said so."""

    currency: str
    usd_per_unit: Decimal
    source: str
    observed_s: int


@dataclass(frozen=True, slots=True)
class RunCommand:
    """Run ``argv`` without a shell; success is exit code 0. ``timeout_s``: where it may take longer than usual."""

    argv: tuple[str, ...]
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request, to an engine behind a unix ``socket`` or to a node's interface at ``base_url``; success is 2xx.

    ``timeout_s``: how long an engine may take, where that is longer than usual. ``instead``: the body to try next where
    this one was taken and is not what does it, which nothing but its effect can tell. What a node's interface wants to
    see of the owner's secrets is no part of it: whoever runs the call adds it.
    """

    socket: str | None
    method: str
    path: str
    body: dict[str, Any] = field(default_factory=dict[str, Any])
    base_url: str | None = None
    timeout_s: float | None = None
    instead: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class HttpCalls:
    """Requests that do one thing together, in this order, with a pause between them; success is success of each."""

    calls: tuple[HttpCall, ...]
    pause_s: float


@dataclass(frozen=True, slots=True)
class WriteLine:
    """Replace the one line that sets ``key`` in a text file, as long as that line is ``old``; success is a new file."""

    path: str
    key: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Group:
    """A process and all below it are in the control group of version 1 at ``path``, whose files hold these values.

    ``started``: in the kernel's clock ticks; another process with that number is left alone. ``leave``: all that is in
    the group is in the one above it instead, and the group is gone.
    """

    path: str
    pid: int
    started: int
    files: tuple[tuple[str, str], ...] = ()
    leave: bool = False


@dataclass(frozen=True, slots=True)
class Steps:
    """Calls that make one change together, in this order, up to the first that fails; not to be repeated lightly."""

    calls: tuple[RunCommand | HttpCall | WriteLine, ...]


Call = RunCommand | HttpCall | HttpCalls | WriteLine | Group | Steps
"""What can be run of an action, or to take it back."""


@dataclass(frozen=True, slots=True)
class Action:
    """One change to the world, as data: what, why, the values before and after, and how to take it back.

    ``kind`` names the actuator that can read the value back; ``target`` is what that actuator needs to
    find it again (a container id and its start time, a provider command).
    """

    node: str
    kind: str
    why: str
    before: dict[str, Any]
    after: dict[str, Any]
    call: Call
    undo: Call | None
    target: dict[str, Any] = field(default_factory=dict[str, Any])


class ActionState(StrEnum):
    """How far an action came; the states of ``actions[].state``."""

    PLANNED = "planned"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNDONE = "undone"
    SKIPPED = "skipped"
    ADVICE = "advice"
