"""A storage node for a year: versions, restarts that lose counters, satellites that come and go, late tallies.

Truth is kept by month, in the way the month was first read: satellite by satellite, or their sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from years.agenda import Agenda, Meter, answer
from years.storage import CENTS, Month, Satellite, Usage, month_of
from years.year import Answer, World

from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, DECIMALS, HOUR_S

URL = "http://127.0.0.1:14002"
STEPPED, CONTINUOUS = ("1.120.4", "1.142.7", "1.150.2"), "1.162.3"
SYNC_S = DAY_S // 2
PAGE = b"<!DOCTYPE html><html></html>"


def world(seed: int, start_s: int) -> World:
    """A node with two satellites, one of which may leave, and a third that comes later."""
    return Node(seed, start_s)


@dataclass
class NetMeter:
    """Of a sum, gross and what is held of it: the rest earns, less what rounding gave too much before."""

    last: tuple[Decimal, Decimal] | None = None
    owing: Decimal = Decimal(0)
    earned: Decimal = Decimal(0)

    def read(self, gross: Decimal, held: Decimal) -> None:
        with localcontext(DECIMALS):
            if self.last is not None and gross >= self.last[0]:
                net = gross - self.last[0] - (held - self.last[1]) - self.owing
                self.earned += max(net, Decimal(0))
                self.owing = max(-net, Decimal(0))
            else:
                self.owing = Decimal(0)
        self.last = gross, held


@dataclass
class Known:
    """What the reader knows of a month: of each satellite, or of their sum, never of both."""

    as_sum: bool
    from_zero: bool
    satellites: dict[str, Meter] = field(default_factory=dict[str, Meter])
    total: NetMeter = field(default_factory=NetMeter)

    @property
    def earned(self) -> Decimal:
        with localcontext(DECIMALS):
            return sum((meter.earned for meter in self.satellites.values()), self.total.earned)


class Node(Agenda):
    """The node and its satellites; its clock is some seconds beside ours."""

    node = "storj_1"
    protocol = "storj"
    options = {"protocol": "storj", "url": URL}  # noqa: RUF012
    takes_back = False

    def __init__(self, seed: int, start_s: int) -> None:
        super().__init__(f"storj {seed}", start_s)
        chance = self.chance
        self._skew_s = chance.randrange(-4, 5)
        self._version = chance.choice([*STEPPED, CONTINUOUS])
        self._started_s = start_s - chance.randrange(20 * DAY_S)
        self._down = False
        self._failing: dict[str, int] = {}
        self._unflushed: list[tuple[int, Usage, str, int]] = []
        self._known: dict[str, Known] = {}
        self._was_read = False
        self._first_month = ""
        self._total = Decimal(0)
        self._byte_months_now: dict[tuple[str, str], float] = {}
        self._clock: dict[str, str] = {}
        self._satellites = [Satellite(name, chance, start_s) for name in ("ap1", "us1")]
        self._sync()
        self.now_and_then(900, self._traffic)
        self.now_and_then(5 * DAY_S, self._restart)
        self.now_and_then(20 * DAY_S, self._payouts_fail)
        self.after(chance.randrange(2, 400) * DAY_S, self._lose_satellite)
        self.after(chance.randrange(2, 400) * DAY_S, self._new_satellite)

    def advance(self, to_s: int) -> None:
        super().advance(to_s)
        self._byte_months_now = {}
        self._clock = {"date": formatdate(to_s + self._skew_s, usegmt=True)}

    # What happens

    def _traffic(self) -> None:
        satellite = self.chance.choice(self._satellites)
        if self._down or not satellite.is_paying:
            return
        usage = satellite.usage(self._node_month())
        kind = self.chance.choice(("egress", "audit"))
        size = self.chance.randrange(1, 10 ** self.chance.randrange(3, 11))
        setattr(usage, kind, getattr(usage, kind) + size)
        self._unflushed.append((self.now_s, usage, kind, size))
        if len(self._unflushed) > 100:
            self._flush()

    def _flush(self) -> None:
        """Traffic is written every hour of the program's life; what came later lives in memory only."""
        written_s = self.now_s - (self.now_s - self._started_s) % HOUR_S
        self._unflushed = [one for one in self._unflushed if one[0] > written_s]

    def _restart(self) -> None:
        if self._down:
            return
        self.happened["restarts"] += 1
        self._flush()
        for _, usage, kind, size in self._unflushed:
            setattr(usage, kind, getattr(usage, kind) - size)
        self._unflushed = []
        if self._version != CONTINUOUS and self.chance.random() < 0.05:
            self.happened["updates"] += 1
            later = [*STEPPED, CONTINUOUS]
            self._version = self.chance.choice(later[later.index(self._version) + 1 :])
        self._down = True
        self.after(self.chance.randrange(60, 1500), self._up)

    def _up(self) -> None:
        self._down = False
        self._started_s = self.now_s

    def _sync(self) -> None:
        """The satellites tell what was stored, up to some hours ago; of the last two days a day may be lacking."""
        months = [self._node_month(), self._node_month(-1)]
        if not self._down:
            for satellite in self._satellites:
                for month in months:
                    satellite.tell_storage(month, self.now_s)
        self.after(SYNC_S, self._sync)

    def _payouts_fail(self) -> None:
        """What is asked of one satellite fails for some time."""
        name = self.chance.choice(self._satellites).id
        path = self.chance.choice([f"/api/sno/estimated-payout?id={name}", f"/api/sno/satellites/{name}/pricing"])
        self._failing[path] = self.now_s + self.chance.randrange(HOUR_S, 3 * DAY_S)
        self.happened["failing endpoints"] += 1

    def _lose_satellite(self) -> None:
        satellite = self.chance.choice(self._satellites[1:])
        if self.chance.random() < 0.5:
            self.happened["disqualified"] += 1
            satellite.disqualified_s = self.now_s
        else:
            self.happened["forgotten satellites"] += 1
            satellite.forgotten = True

    def _new_satellite(self) -> None:
        self.happened["new satellites"] += 1
        satellite = Satellite("eu1", self.chance, self.now_s, fresh=True)
        self._satellites.append(satellite)
        self.after(self.chance.randrange(DAY_S // 3), satellite.tell_prices)

    # What it answers

    def respond(
        self, method: str, url: str, params: Mapping[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        assert (method, headers, body) == ("GET", {}, None)
        path = url.removeprefix(URL) + "".join(f"?{key}={value}" for key, value in params.items())
        if self._down:
            return 0, b"", {}
        status, content, said = self._route(path, params)
        if status == 200:
            self.told.add(path)
        return status, content, said | self._clock

    def _route(self, path: str, params: Mapping[str, str]) -> Answer:  # noqa: PLR0911 - one return a route
        if self._failing.get(path, 0) > self.now_s:
            return answer({"error": "database is locked"}, 500)
        named = {satellite.id: satellite for satellite in self._satellites}
        match path.partition("?")[0].split("/")[1:]:
            case ["api", "sno", ""]:
                return self._dashboard()
            case ["api", "sno", "estimated-payout"]:
                return self._payout([named[params["id"]]] if params else list(named.values()), bool(params))
            case ["api", "sno", "satellites"]:
                return _scores(tuple(one.url for one in named.values()))
            case ["api", "sno", "satellites", name, "pricing"]:
                return _pricing(name, CENTS if named[name].has_prices else (0, 0, 0))
            case ["api", "heldamount", "held-history"]:
                return answer(None)
            case ["api", "heldamount", "paystubs", _, last]:
                return answer([stub for one in named.values() for stub in one.paystubs(last, self.now_s)] or None)
            case ["api", "heldamount", "payout-history", month]:
                return answer([row for one in named.values() for row in one.receipts(month, self.now_s)] or None)
            case _:
                return 200, PAGE, {"content-type": "text/html"}

    def _dashboard(self) -> Answer:
        listed = tuple((one.id, one.url, one.disqualified_s) for one in self._satellites if not one.forgotten)
        return _dashboard(self._version, self._started_s, listed)

    def _payout(self, satellites: list[Satellite], single: bool) -> Answer:
        paying = [one for one in satellites if one.is_paying]
        if single and not paying:
            return answer({"error": "node was disqualified on satellite"}, 500)
        this, last = (self._estimate(paying, self._node_month(ago), single) for ago in (0, -1))
        return answer({"currentMonth": this, "previousMonth": last, "currentMonthExpectations": 12})

    def _estimate(self, paying: list[Satellite], month: Month, single: bool) -> dict[str, Any]:
        egress, audit, disk = self._figures(paying, month)
        return {
            "egressBandwidth": egress,
            "egressRepairAudit": audit,
            "diskSpace": disk,
            "heldRate": paying[0].held_percent(month) if single else 0,
            "held": self._held(paying, month),
        }

    def _figures(self, paying: list[Satellite], month: Month) -> tuple[int, int, float | int]:
        """Bytes of egress, of repair and audits, and byte-months."""
        usages = [one.usage(month) for one in paying]
        disk = sum((self._byte_months(one, month) for one in paying), 0.0)
        return sum(one.egress for one in usages), sum(one.audit for one in usages), _number(disk)

    def _held(self, paying: list[Satellite], month: Month) -> float | int:
        """Cents, rounded to hundredths of each satellite."""
        cents = ((one, one.usage(month).cents(self._byte_months(one, month))) for one in paying)
        return _number(sum((round(worth * one.held_percent(month)) / 100 for one, worth in cents), 0.0))

    def _byte_months(self, satellite: Satellite, month: Month) -> float:
        key = satellite.id, month.name
        if key not in self._byte_months_now:
            is_projected = self._version == CONTINUOUS
            self._byte_months_now[key] = satellite.byte_months(month, self.now_s + self._skew_s, is_projected)
        return self._byte_months_now[key]

    def _node_month(self, ago: int = 0) -> Month:
        return month_of(self.now_s + self._skew_s, ago)

    # What its reader knows

    def polled(self, at_s: int) -> None:
        was_read, self._was_read = self._was_read, True
        if month_of(at_s) != self._node_month():
            return  # of which month the figures are is not sure
        paying = [one for one in self._satellites if one.is_paying]
        priced = [one for one in paying if one.has_prices and f"/api/sno/satellites/{one.id}/pricing" in self.told]
        if not priced:
            return
        as_sum = any(one not in priced or f"/api/sno/estimated-payout?id={one.id}" not in self.told for one in paying)
        self._read(self._node_month(), paying, as_sum)
        if was_read:
            self._read(self._node_month(-1), paying, as_sum)

    def _read(self, month: Month, paying: list[Satellite], as_sum: bool) -> None:
        self._first_month = self._first_month or month.name
        is_new = month.name not in self._known
        known = self._known.setdefault(month.name, Known(as_sum, from_zero=month.name > self._first_month))
        before = known.earned
        if known.as_sum:
            if is_new and known.from_zero:
                known.total.last = Decimal(0), Decimal(0)
            known.total.read(*(self._net_of_sum if as_sum else self._net_of_parts)(paying, month))
        elif not as_sum:
            for one in paying:
                unread = Meter(None if is_new and not known.from_zero else Decimal(0))
                share = 1 - Decimal(one.held_percent(month)).scaleb(-2)
                known.satellites.setdefault(one.id, unread).read(self._gross([one], month), share)
        with localcontext(DECIMALS):
            self._total += known.earned - before

    def _gross(self, satellites: list[Satellite], month: Month) -> Decimal:
        """In USD, by the figures as the node writes them, down to the last digit of a fraction."""
        figures = self._figures(satellites, month)
        with localcontext(DECIMALS):
            worth = (Decimal(repr(figure)) * cents for figure, cents in zip(figures, CENTS, strict=True))
            return sum(worth, Decimal(0)).scaleb(-14)

    def _net_of_sum(self, paying: list[Satellite], month: Month) -> tuple[Decimal, Decimal]:
        return self._gross(paying, month), Decimal(repr(self._held(paying, month))).scaleb(-2)

    def _net_of_parts(self, paying: list[Satellite], month: Month) -> tuple[Decimal, Decimal]:
        with localcontext(DECIMALS):
            parts = [(self._gross([one], month), Decimal(one.held_percent(month)).scaleb(-2)) for one in paying]
            return sum((gross for gross, _ in parts), Decimal(0)), sum((g * rate for g, rate in parts), Decimal(0))

    def truth(self) -> dict[str, Decimal]:
        return {"USD": self._total}

    def truth_by_month(self) -> dict[tuple[str, str], Decimal]:
        return {("USD", name): known.earned for name, known in self._known.items()}


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


@lru_cache(1)
def _dashboard(version: str, started_s: int, listed: tuple[tuple[str, str, int | None], ...]) -> Answer:
    """In the shape of its version; nobody but its satellites changes between two starts."""
    numbers = tuple(map(int, version.split(".")))
    used, space = 3_400_000_000_000, {"used": 3_400_000_000_000, "trash": 20_000_000_000, "overused": 0}
    if numbers >= (1, 143):
        space |= {"allocated": 4_000_000_000_000, "available": 4_000_000_000_000 - used, "reclaimable": 0}
    else:
        space["available"] = 4_000_000_000_000
    vetted = {"vettedAt": "2024-01-01T00:00:00Z"} if numbers >= (1, 131) else {"currentStorageUsed": used}
    satellites = [
        {"id": name, "url": url, "disqualified": since_s and rfc3339(since_s), "suspended": None} | vetted
        for name, url, since_s in listed
    ]
    return answer(
        {
            "nodeID": "1",
            "satellites": satellites,
            "diskSpace": space,
            "bandwidth": {"used": 0, "available": 0},
            "lastPinged": rfc3339(started_s + 60),
            "version": version,
            "allowedVersion": "1.100.0",
            "upToDate": True,
            "startedAt": rfc3339(started_s),
            "quicStatus": "OK",
        }
    )


@lru_cache
def _scores(urls: tuple[str, ...]) -> Answer:
    audits = [{"satelliteName": url, "auditScore": 1, "suspensionScore": 1, "onlineScore": 0.998} for url in urls]
    return answer({"audits": audits, "storageDaily": None, "bandwidthDaily": None})


@lru_cache
def _pricing(name: str, cents: tuple[int, int, int]) -> Answer:
    egress, audit, disk = cents
    return answer(
        {
            "satelliteID": name,
            "egressBandwidth": egress,
            "repairBandwidth": audit,
            "auditBandwidth": audit,
            "diskSpace": disk,
        }
    )
