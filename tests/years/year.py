"""A simulated node polled every 15 minutes into a real database; its ledger must say what the node's world says.

``world_of`` makes the world of a protocol: the function ``world(seed, start_s)`` of the module of that name beside this
one. ``live`` polls it. Everything that happens comes from the two seeds, so that a difference can be had again.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, Protocol

import httpx

from depin_orcha import database, net
from depin_orcha.adapters import Adapter, NodeOptions, adapter_class
from depin_orcha.asof import AsOf
from depin_orcha.collect import _main_currency
from depin_orcha.errors import AdapterError
from depin_orcha.retention import thin
from depin_orcha.store import Store
from depin_orcha.types import DAY_S, DECIMALS, HOUR_S, HealthStatus, Snapshot

POLL_S = 900
START_S = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
PROTOCOLS = ("storj", "golem", "streamr", "grass", "mysterium", "exec")

Totals = dict[str, Decimal]
"""Amounts by currency."""
Answer = tuple[int, bytes, dict[str, str]]
"""Status, body as the node writes it, headers by lower-case name; status 0: nobody listens."""


class World(Protocol):
    """A node and its network, as they are for one reader; the truth comes from its own list of events.

    Each poll is ``advance``, then ``respond`` for every request whose answer gets through, then ``polled`` if the
    reading was stored; a poll that fails or is lost ends without ``polled``. A missed poll is no call at all.
    """

    node: str
    protocol: str
    options: dict[str, Any]
    """The node's section of the configuration, secrets in it."""
    takes_back: bool
    """May an hour of the ledger become negative, because documents are taken back at their own hour?"""
    happened: Counter[str]
    """How often what happened (restarts, payouts, ...), to be reported."""

    def advance(self, to_s: int) -> None:
        """Time passes: usage, payouts, restarts, at instants of the world's own."""

    def respond(
        self, method: str, url: str, params: Mapping[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        """What the node answers at the instant it was advanced to; ``body`` is a JSON value."""
        ...

    def polled(self, at_s: int) -> None:
        """What was answered since ``advance`` is stored now: note what a reader knows by it."""

    def truth(self) -> Totals:
        """What a reader of all stored polls must have in its ledger, to the last digit. Asked often."""
        ...

    def truth_by_month(self) -> dict[tuple[str, str], Decimal]:
        """The same by currency and month (YYYY-MM), where months are exact; else empty."""
        ...


class Difference(AssertionError):
    """The ledger is not the truth; the text says since when."""


@dataclass(frozen=True)
class Trouble:
    """How often, per poll, something goes wrong between the node and the ledger."""

    missed: float = 0.03
    """One poll is not made."""
    absence: float = 0.0003
    """No poll is made for up to five days."""
    outage: float = 0.0005
    """The node refuses every connection for up to a day."""
    fault: float = 0.03
    """One of the first requests of the poll gets no answer, or a wrong one."""
    lost: float = 0.002
    """The reading is thrown away before it is stored."""
    repeated: float = 0.01
    """The same reading is stored a second time."""


@dataclass
class Outcome:
    """What simulated time was like, and what it earned."""

    years: float = 0
    total: Totals = field(default_factory=dict)
    polls: int = 0
    missed: int = 0
    failed: int = 0
    happened: Counter[str] = field(default_factory=Counter)
    cpu_s: float = 0.0

    def add(self, other: Outcome) -> None:
        """Both together."""
        for name in ("years", "polls", "missed", "failed", "cpu_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.happened.update(other.happened)
        _add_up(self.total, other.total.items())


def world_of(protocol: str, seed: int, start_s: int = START_S) -> World:
    """The world of a protocol."""
    return import_module(f"years.{protocol}").world(seed, start_s)


def prove(protocol: str, seed: int, days: int) -> Outcome:
    """A world that begins somewhere in a year, polled. Raises ``Difference``."""
    start_s = START_S + Random(f"start {seed}").randrange(365 * DAY_S)
    return live(world_of(protocol, seed, start_s), seed=seed, days=days, start_s=start_s)


class WireReader:
    """The HTTP client of an adapter, straight into a world; faults and wrong answers are those of the real client.

    ``fault``: the number of a request and what becomes of it; with number -1 it becomes of all of them.
    """

    def __init__(self, world: World, fault: tuple[int, str] | None = None) -> None:
        self._world = world
        self._fault = fault
        self._asked = -1

    def get_json(
        self, url: str, *, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> Any:
        return self.request("GET", url, headers=headers, params=params).json()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        accept: tuple[int, ...] = (),
        first_line: bool = False,  # noqa: ARG002 - no world streams
        timeout_s: float | None = None,  # noqa: ARG002 - no time passes
    ) -> net.Reply:
        self._asked += 1
        if self._fault is not None and self._fault[0] in (-1, self._asked):
            status, content, said = _wrong_answer(self._fault[1], net.display_url(url))
        else:
            status, content, said = self._world.respond(method, url, params or {}, headers or {}, body)
        if status == 0:
            _wrong_answer("refused", net.display_url(url))
        reply = net.Reply(url, status, said, content)
        if status != 200 and status not in accept:
            raise net._status_failure(reply)
        return reply


FAULTS = ("500", "page", "timeout", "hang up")


def _wrong_answer(fault: str, shown: str) -> Answer:
    match fault:
        case "500":
            return 500, b'{"error": "database is locked"}', {"content-type": "application/json"}
        case "page":
            return 200, b"<!DOCTYPE html><html></html>", {"content-type": "text/html"}
        case "timeout":
            raise net._transport_failure(httpx.ReadTimeout("timed out"), shown)
        case "hang up":
            error = httpx.RemoteProtocolError("Server disconnected without sending a response.")
            raise net._transport_failure(error, shown)
        case _:
            raise net._transport_failure(httpx.ConnectError("[Errno 111] Connection refused"), shown)


def live(
    world: World,
    *,
    seed: int,
    days: int,
    start_s: int = START_S,
    trouble: Trouble = Trouble(),
) -> Outcome:
    """Poll the world for some days. Raises ``Difference`` at the first poll after which the ledger is not its truth."""
    began = time.process_time()
    outcome = Outcome(days / 365, happened=world.happened)
    rng = Random(f"polls {seed}")
    with tempfile.TemporaryDirectory() as folder, _opened(world, Path(folder), start_s) as store:
        ledger = _Ledger(world, store, raw_days=rng.choice((1, 30)))
        for at_s, fate in _fates(rng, start_s, days, trouble):
            if fate == "missed":
                outcome.missed += 1
                continue
            world.advance(at_s)
            snapshot = ledger.read(at_s, fate)
            outcome.polls += 1
            outcome.failed += snapshot is None
            if snapshot is not None and fate != "lost":
                ledger.keep(snapshot, again=rng.random() < trouble.repeated)
        ledger.close()
        outcome.total = ledger.total
    outcome.cpu_s = time.process_time() - began
    return outcome


Fate = str | tuple[int, str] | None
"""``missed``, ``refused``, ``lost``, a fault (request, what becomes of it), or nothing."""


def _fates(rng: Random, start_s: int, days: int, trouble: Trouble) -> Iterator[tuple[int, Fate]]:
    """When it is polled, every quarter of an hour and some seconds, and what becomes of each poll."""
    absent_s = refused_s = 0
    for tick_s in range(start_s, start_s + days * DAY_S, POLL_S):
        at_s = tick_s + rng.randrange(1, 40)
        if rng.random() < trouble.absence:
            absent_s = at_s + rng.randrange(HOUR_S, 5 * DAY_S)
        if rng.random() < trouble.outage:
            refused_s = at_s + rng.randrange(HOUR_S, DAY_S)
        fate: Fate = None
        if at_s < absent_s or rng.random() < trouble.missed:
            fate = "missed"
        elif at_s < refused_s:
            fate = "refused"
        elif rng.random() < trouble.fault:
            fate = (rng.randrange(12), rng.choice(FAULTS))
        elif rng.random() < trouble.lost:
            fate = "lost"
        yield at_s, fate


@contextmanager
def _opened(world: World, folder: Path, start_s: int) -> Iterator[Store]:
    path = folder / "orcha.db"
    with database.open_for_writing(path) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        store = Store(connection)
        store.start_run("collect", start_s, None)
        store.add_node(world.node, world.protocol, "local", start_s)
        yield store


class _Ledger:
    """What ``collect`` does with one node, and what its database says afterwards."""

    def __init__(self, world: World, store: Store, raw_days: int) -> None:
        adapter = adapter_class(world.protocol)
        options: NodeOptions = adapter.Options.model_validate(world.options)
        self.total: Totals = {}
        self._world = world
        self._store = store
        self._raw_days = raw_days
        self._adapter: Adapter = adapter(world.node, options)
        self._currency = _main_currency(options)
        self._first_s: int | None = None
        self._last_s: int | None = None
        self._summed_s = 0
        self._summed: Totals = {}

    def read(self, at_s: int, fate: Fate) -> Snapshot | None:
        """What the adapter makes of the world's answers; a failure is stored as such."""
        fault = (-1, "refused") if fate == "refused" else fate if isinstance(fate, tuple) else None
        try:
            return self._adapter.collect(WireReader(self._world, fault), at_s, self._last_s)
        except AdapterError as error:
            status = HealthStatus.UNKNOWN
            self._store.add_health(self._world.node, at_s, at_s, status, error.message, failure_kind=error.kind)
            return None

    def keep(self, snapshot: Snapshot, *, again: bool) -> None:
        """Store the reading, and see that the ledger is the truth."""
        at_s = snapshot.observed_s
        with self._store.transaction():
            booked = self._store.add_snapshot(snapshot, at_s, self._currency)
        _add_up(self.total, ((one.currency, one.amount) for one in booked))
        self._world.polled(at_s)
        new_day = self._last_s is None or at_s // DAY_S != self._last_s // DAY_S
        self._first_s = at_s if self._first_s is None else self._first_s
        self._last_s = at_s
        self._compare(self.total, at_s, "what was booked")
        if again:
            with self._store.transaction():
                twice = self._store.add_snapshot(snapshot, at_s, self._currency)
            if any(one.amount for one in twice):
                raise _difference(at_s, f"the same reading again booked {twice}")
        if new_day:
            thin(self._store, at_s, self._raw_days)
            self._compare(self._sum(at_s), at_s, "the table of hours")

    def close(self) -> None:
        """See that each hour and each month of the ledger is possible and right, not only its sum."""
        at_s = self._last_s or 0
        hours = list(AsOf(self._store.connection, at_s).hours())
        for hour in hours:
            if hour.amount < 0 and not self._world.takes_back:
                raise _difference(at_s, f"{_utc(hour.hour_s)} earned {hour.amount} {hour.currency}")
            if hour.hour_s > at_s:
                raise _difference(at_s, f"{_utc(hour.hour_s)} was not over yet, but earned {hour.amount}")
        totals: Totals = {}
        _add_up(totals, ((hour.currency, hour.amount) for hour in hours))
        self._compare(totals, at_s, "all hours together")
        months: dict[tuple[str, str], Decimal] = {}
        _add_up(months, (((hour.currency, _utc(hour.hour_s)[:7]), hour.amount) for hour in hours))
        for month, amount in self._world.truth_by_month().items():
            if months.get(month, 0) != amount:
                raise _difference(at_s, f"{' '.join(month)}: the ledger has {months.get(month)}, truth {amount}")

    def _sum(self, at_s: int) -> Totals:
        """The sum of the table; what was learned on an earlier day is never changed, so its sum is kept."""
        rows = self._store.connection.execute(
            "SELECT currency, decimal_sum(amount) FROM accruals WHERE learned_s > ? GROUP BY currency",
            (self._summed_s,),
        )
        _add_up(self._summed, ((currency, Decimal(amount)) for currency, amount in rows))
        self._summed_s = at_s
        return self._summed

    def _compare(self, told: Totals, at_s: int, what: str) -> None:
        truth = self._world.truth()
        for currency in told.keys() | truth.keys():
            have, want = told.get(currency, Decimal(0)), truth.get(currency, Decimal(0))
            if have != want:
                text = f"{what} is {have} {currency}, truth {want}: {have - want:+}"
                raise _difference(at_s, text)


def _difference(at_s: int, text: str) -> Difference:
    return Difference(f"{_utc(at_s)} ({at_s}): {text}")


def _add_up(totals: dict[Any, Decimal], amounts: Iterable[tuple[Any, Decimal]]) -> None:
    """Add amounts to the totals of their names, exactly."""
    with localcontext(DECIMALS):
        for name, amount in amounts:
            totals[name] = totals.get(name, Decimal(0)) + amount


def _utc(instant_s: int) -> str:
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
