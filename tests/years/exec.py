"""A node read by a command for a year: counters with and without periods, a wallet, jobs told again and again.

The command is ``cat`` of what the node's script would print. Truth is the growth of each counter and of the wallet from
reading to reading, a period that follows on one that was read from zero, and each job once, as it was told last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Any

from years.agenda import Agenda, Meter
from years.year import Answer, World

from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, DECIMALS, HOUR_S

TOLD_S = 3 * DAY_S
"""How long a job is told of."""
EPOCH_S = 9 * DAY_S
FAST_MEMORY = Path("/dev/shm")
PRINTED_INSTEAD = (
    '{"failure": {"kind": "transient", "message": "the node does not answer"}}',
    '{"failure": {"kind": "auth", "message": "the token is refused", "hint": "renew it"}}',
    '{"earnings": [{"currency": "FLUX", "kind": "counter", "amount": "0", "external_id": "relay"}]}',
    '{"earnings": [], "health": {"status": "up", "rea',
    "Traceback (most recent call last):",
    "",
)


def world(seed: int, start_s: int) -> World:
    """A node with a script that is rewritten once."""
    return Node(seed, start_s)


@dataclass
class Counter:
    """A total in units of 1e-18, and what it may say beside: of which period it is, since when it stands so."""

    name: str
    currency: str = "FLUX"
    kind: str = "counter"
    period: str | None = None
    total: int = 0
    said_s: int | None = None
    said: int = 0
    meter: Meter = field(default_factory=Meter)


class Node(Agenda):
    """The node and its script."""

    node = "exec_1"
    protocol = "exec"
    takes_back = False

    def __init__(self, seed: int, start_s: int) -> None:
        super().__init__(f"exec {seed}", start_s)
        chance = self.chance
        self._folder = TemporaryDirectory(dir=FAST_MEMORY if FAST_MEMORY.is_dir() else None)
        self._printed = Path(self._folder.name) / "printed.json"
        self.options = {
            "protocol": "exec",
            "command": [which("cat") or "/bin/cat", str(self._printed)],
            "currencies": ["FLUX", "USD"],
        }
        self._share = "1"
        self._down_s = 0
        self._clock_s = chance.choice([0, 0, 40, -40])
        self._earned = {"FLUX": Decimal(0), "USD": Decimal(0)}
        self._jobs: list[tuple[int, dict[str, str]]] = []
        self._counted: dict[str, Decimal] = {}
        self._read_periods: set[str] = set()
        self._has_months = chance.random() < 0.5
        self._entries: list[tuple[Counter | None, dict[str, str]]] = []
        self._relay = Counter("relay", total=chance.choice([0, chance.randrange(10**21)]))
        self._cached = Counter("all", total=chance.randrange(10**21))
        self._wallet = Counter("wallet", "USD", "balance", total=chance.randrange(10**20))
        self._all_work = Counter("work", total=chance.randrange(10**21))
        self._months: list[Counter] = []
        self._epochs: list[Counter] = []
        self._turn_month()
        self._turn_epoch()
        self._refresh()
        self.now_and_then(1800, self._work)
        self.now_and_then(DAY_S, self._finish_job)
        self.now_and_then(3 * DAY_S, self._correct_job)
        self.now_and_then(20 * DAY_S, self._reset)
        self.now_and_then(11 * DAY_S, self._pay_out)
        self.now_and_then(60 * DAY_S, self._agree_on_share)
        self.now_and_then(2 * DAY_S, self._correct_closed)
        self.after(chance.randrange(300) * DAY_S, self._rewrite_script)

    def advance(self, to_s: int) -> None:
        super().advance(to_s)
        chance = self.chance.random()
        if chance < 0.0005:
            self._down_s = to_s + self.chance.randrange(HOUR_S, DAY_S)
        if chance > 0.97 or to_s < self._down_s:
            self._printed.write_text(self.chance.choice(PRINTED_INSTEAD))
        else:
            self._entries = self._read()
            health = {"status": "up", "reason": "it runs"}
            document = {"earnings": [entry for _, entry in self._entries], "health": health}
            self._printed.write_text(json.dumps(document))

    # What happens

    def _work(self) -> None:
        for counter in (self._relay, self._cached, self._wallet, self._months[-1], self._epochs[-1], self._all_work):
            counter.total += self.chance.randrange(10 ** self.chance.choice([3, 15, 18]))

    def _finish_job(self) -> None:
        """Some are told before their time, and some only hours after."""
        self.happened["jobs"] += 1
        chance = self.chance
        dated_s = self.now_s + chance.choice([0, 0, 0, 1200, 2 * HOUR_S, -chance.randrange(DAY_S)])
        job = {
            "kind": "event",
            "currency": chance.choice(["FLUX", "USD"]),
            "amount": _text(chance.randrange(10**19)),
            "external_id": f"job {self.happened['jobs']}",
            "observed_at": rfc3339(dated_s),
        }
        if chance.random() < 0.2:
            job["share"] = self._share
        self._jobs.append((dated_s, job))
        self._jobs = [one for one in self._jobs if one[0] > self.now_s - TOLD_S]

    def _correct_job(self) -> None:
        """It was another amount, another share, or at another time, which may be still to come."""
        if not self._jobs:
            return
        self.happened["corrections"] += 1
        chance = self.chance
        place = chance.randrange(len(self._jobs))
        dated_s, job = self._jobs[place]
        match chance.randrange(3):
            case 0:
                job = job | {"amount": _text(chance.randrange(10**19))}
            case 1:
                job = job | {"share": self._share}
            case _:
                dated_s += chance.randrange(-DAY_S, 2 * HOUR_S)
                job = job | {"observed_at": rfc3339(dated_s)}
        self._jobs[place] = dated_s, job

    def _refresh(self) -> None:
        """What the script keeps for an hour or two, and says so."""
        self._cached.said, self._cached.said_s = self._cached.total, self.now_s
        self.after(self.chance.randrange(1200, 2 * HOUR_S), self._refresh)

    def _turn_month(self) -> None:
        now = datetime.fromtimestamp(self.now_s, UTC)
        self._months = [*self._months[-1:], Counter("pool", period=f"{now:%Y-%m}")]
        if len(self._months) == 1:
            self._months[0].total = self.chance.randrange(10**20)
        next_month = now.replace(year=now.year + now.month // 12, month=now.month % 12 + 1, day=1, hour=0, minute=0)
        self.happened["months"] += 1
        self.after(next_month.replace(second=0).timestamp() - self.now_s, self._turn_month)

    def _turn_epoch(self) -> None:
        self.happened["epochs"] += 1
        self._epochs = [*self._epochs[-1:], Counter("work", period=f"epoch {self.happened['epochs']}")]
        if len(self._epochs) == 1:
            self._epochs[0].total = self.chance.randrange(10**20)
        self.after(EPOCH_S, self._turn_epoch)

    def _correct_closed(self) -> None:
        """What is closed gets more, or less, for some days."""
        for closed in (*self._months[:-1], *self._epochs[:-1]):
            closed.total = max(closed.total + self.chance.randrange(-(10**16), 10**18), 0)

    def _reset(self) -> None:
        """The node forgets some, or all."""
        self.happened["resets"] += 1
        self._relay.total = self.chance.choice([0, self._relay.total * 9 // 10])

    def _pay_out(self) -> None:
        self.happened["payouts"] += 1
        self._wallet.total -= self.chance.randrange(self._wallet.total + 1)

    def _agree_on_share(self) -> None:
        self._share = self.chance.choice(["1", "0.8", "0.333333333333333333", "0"])

    def _rewrite_script(self) -> None:
        """From now on it tells of months and of all work ever, too."""
        self._has_months = True

    # What is printed

    def _read(self) -> list[tuple[Counter | None, dict[str, str]]]:
        """The running period and the one before."""
        counters = [self._relay, self._cached, self._wallet, *self._epochs]
        if self._has_months:
            counters += [*self._months, self._all_work]
        entries: list[tuple[Counter | None, dict[str, str]]] = [(one, self._entry(one)) for one in counters]
        return entries + [(None, job) for _, job in self._jobs]

    def _entry(self, one: Counter) -> dict[str, str]:
        entry = {"kind": one.kind, "currency": one.currency, "external_id": one.name}
        entry["amount"] = _text(one.total if one.said_s is None else one.said)
        if one.period is not None:
            entry["period"] = one.period
        if one is self._relay:
            entry |= {"share": self._share, "observed_at": rfc3339(self.now_s + self._clock_s)}
        if one.said_s is not None:
            entry["observed_at"] = rfc3339(one.said_s)
        return entry

    def respond(
        self, method: str, url: str, params: Mapping[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        raise AssertionError(f"nobody asks over HTTP: {method} {url} {params} {headers} {body}")

    # What its reader knows

    def polled(self, at_s: int) -> None:
        read = {one.period for one, _ in self._entries if one is not None and one.period is not None}
        for one, entry in self._entries:
            if one is not None:
                self._read_counter(one, entry)
            elif entry["observed_at"] <= rfc3339(at_s):
                job = entry["external_id"]
                earned = DECIMALS.multiply(Decimal(entry["amount"]), Decimal(entry.get("share", "1")))
                self._earn(entry["currency"], DECIMALS.subtract(earned, self._counted.get(job, Decimal(0))), Decimal(1))
                self._counted[job] = earned
        self._read_periods |= read

    def _read_counter(self, one: Counter, entry: Mapping[str, str]) -> None:
        if one.meter.last is None and any(_follows(one.period, read) for read in self._read_periods):
            one.meter.last = Decimal(0)
        before = one.meter.earned
        one.meter.read(Decimal(entry["amount"]), Decimal(entry.get("share", "1")))
        self._earn(one.currency, DECIMALS.subtract(one.meter.earned, before), Decimal(1))

    def _earn(self, currency: str, amount: Decimal, share: Decimal) -> None:
        self._earned[currency] = DECIMALS.fma(amount, share, self._earned[currency])

    def truth(self) -> dict[str, Decimal]:
        return self._earned

    def truth_by_month(self) -> dict[tuple[str, str], Decimal]:
        return {}


def _follows(period: str | None, read: str) -> bool:
    """Is a period another one of the same counter?"""
    return period is not None and period != read and period.startswith("epoch") == read.startswith("epoch")


def _text(amount: int) -> str:
    return f"{Decimal(amount).scaleb(-18, DECIMALS):f}"
