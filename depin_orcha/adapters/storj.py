"""Storj storage node, read through its console API (``/api/sno``, GET only).

Earnings are not the node's rounded cents but raw usage times the satellites' prices: bytes, and byte-months of
720 hours, times US cents per TB and per TB-month, over 1e14. Interfaces: ``storagenode/console/consoleserver`` and
``storagenode/payouts/estimatedpayouts`` of storj/storj.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from depin_orcha.adapters import BaseUrl, HttpReader, NodeOptions, _paystubs
from depin_orcha.adapters._read import Fields, objects
from depin_orcha.adapters._storj_health import Satellite, Satellites, health, own_verdict, satellites_of
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.types import (
    DECIMALS,
    EarningsSample,
    Limits,
    MonthOutlook,
    Resource,
    SampleKind,
    Snapshot,
    Standing,
    StandingAmount,
    Usage,
)

SMALLEST_ALLOCATION_BYTES = 500e9
"""Below this the node refuses to start (``storage2.monitor.minimum-disk-space``)."""
STEP_BYTES = 50e9
HEADROOM = 1.05
"""An allocation below used space plus this much stops all ingress."""

_ALL = "all"
_CENT_BYTES_PER_TB_IN_USD = 14
"""1e12 bytes of a TB times 100 cents of a dollar."""
_CONTINUOUS_SINCE = (1, 162)
_LARGEST_CLOCK_ERROR_S = 15 * 60
_PAYOUT = "/api/sno/estimated-payout"


class Options(NodeOptions):
    """``[nodes.<name>]`` of a storage node."""

    url: BaseUrl = "http://127.0.0.1:14002"
    """Its console (``console.address``)."""
    health_url: BaseUrl | None = None
    """Its public port, http://HOST:28967, for the node's own verdict on itself."""
    config_path: Annotated[str, Field(pattern="^/")] | None = None
    """Its config.yaml, the full path on this machine; with it, and ``disk``, its disk space can be set."""


@dataclass(frozen=True, slots=True)
class _Prices:
    """US cents per TB, for disk per TB-month; repair traffic is paid at the price of audits."""

    egress: Decimal
    audit: Decimal
    disk: Decimal

    def gross_usd(self, month: Fields) -> Decimal:
        """What the raw usage of a month has earned before anything is held."""
        with localcontext(DECIMALS):
            traffic = (
                month.number("egressBandwidth") * self.egress + month.number("egressRepairAudit") * self.audit
            ).scaleb(-_CENT_BYTES_PER_TB_IN_USD)
            return traffic + self.storage_usd(month)

    def storage_usd(self, month: Fields) -> Decimal:
        """The part of it that the stored bytes have earned."""
        with localcontext(DECIMALS):
            return (month.number("diskSpace") * self.disk).scaleb(-_CENT_BYTES_PER_TB_IN_USD)


@dataclass(frozen=True, slots=True)
class _Payout:
    """An estimated payout; ``node_s`` is when the node gave it by its own clock, where it says so."""

    answer: Any
    node_s: int | None

    @property
    def fields(self) -> Fields:
        """The answer itself."""
        return Fields(self.answer, _PAYOUT)

    def month(self, name: str) -> Fields:
        """``currentMonth`` or ``previousMonth``."""
        return self.fields.object(name)


class Adapter:
    """Reads one storage node; see ``depin_orcha.adapters.Adapter``."""

    Options: ClassVar[type[NodeOptions]] = Options
    levers: ClassVar[Mapping[Resource, Literal["native", "runtime", "network"]]] = {
        Resource.STORAGE_BYTES: "native",
        Resource.CPU_CORES: "runtime",
        Resource.MEMORY_BYTES: "runtime",
        Resource.UPLINK_BPS: "network",
        Resource.DOWNLINK_BPS: "network",
    }
    uses_per_unit: ClassVar[Mapping[Resource, float]] = {Resource.STORAGE_BYTES: 1e12}
    currencies: ClassVar[frozenset[str]] = frozenset({"USD"})

    def __init__(self, node: str, options: Options) -> None:
        self.node = node
        self.options = options

    def collect(self, http: HttpReader, now_s: int, since_s: int | None) -> Snapshot:
        """Read the node once: a USD counter per satellite, or one named ``all`` where only the sum can be had.

        From the second reading on, the closed month's last counters come along, which finish that month.
        """
        dashboard = self._fields(http, "/api/sno/")
        satellites = satellites_of(dashboard)
        warnings: list[str] = []
        earnings, outlooks = self._earnings(http, satellites, now_s, since_s, warnings)
        if not _storage_comes_in_steps(dashboard.text("version")):
            earnings = [replace(one, stepped=None) for one in earnings]
        usage = usage_of(dashboard)
        states = Satellites(http, self.options.url, warnings).states(satellites, now_s)
        standings = self._held(http, satellites, warnings)
        port = self.options.health_url
        verdict = None if port is None else own_verdict(http, port, warnings)
        settled = self._settled(http, now_s, since_s, warnings)
        return Snapshot(
            node=self.node,
            observed_s=now_s,
            earnings=tuple(earnings),
            health=health(dashboard, states, verdict, now_s),
            usage=usage,
            limits=self.limits(usage),
            standings=standings + settled.standings(),
            warnings=tuple(warnings),
            payouts=settled.payouts,
            statements=settled.statements,
            outlooks=outlooks,
        )

    def limits(self, usage: Mapping[Resource, Usage]) -> dict[Resource, Limits]:
        """Never below what is stored and 5 %, nor below what the node starts with; the disk is the host's matter."""
        storage = usage.get(Resource.STORAGE_BYTES)
        if storage is None or storage.used is None:
            return {}
        return {
            Resource.STORAGE_BYTES: Limits(max(storage.used * HEADROOM, SMALLEST_ALLOCATION_BYTES), None, STEP_BYTES)
        }

    def _earnings(
        self, http: HttpReader, satellites: Iterable[Satellite], now_s: int, since_s: int | None, warnings: list[str]
    ) -> tuple[list[EarningsSample], tuple[MonthOutlook, ...]]:
        paying = sorted(satellite.id for satellite in satellites if not satellite.disqualified)
        faults: list[AdapterError] = []
        prices = {one: known for one in paying if (known := self._prices(http, one, faults)) is not None}
        if not prices:
            if faults:
                raise faults[0]
            warnings.append("no satellite has told its prices yet: earnings are unknown")
            return [], ()
        payouts = {one: payout for one in prices if (payout := self._payout(http, one, faults)) is not None}
        if len(payouts) < len(paying):
            payouts, prices = {_ALL: self._asked_payout(http, {})}, {_ALL: next(iter(prices.values()))}
        if any(_month_differs(payout.node_s, now_s) for payout in payouts.values()):
            warnings.append("the month is turning at this moment: earnings are read next time")
            return [], ()
        # At first sight the closed month is left out: next to it, the running one would count from its beginning.
        months = ("currentMonth",) if since_s is None else ("currentMonth", "previousMonth")
        earnings = [
            _sample(series, payout.month(month), prices[series], now_s, _period(now_s, closed=month == "previousMonth"))
            for series, payout in payouts.items()
            for month in months
        ]
        return earnings, _paystubs.dashboard_outlook((payout.fields for payout in payouts.values()), now_s)

    def _prices(self, http: HttpReader, satellite: str, faults: list[AdapterError]) -> _Prices | None:
        """What a satellite pays; None if it has not told yet (all zero), or the node fails to say."""
        endpoint = "/api/sno/satellites/{id}/pricing"
        try:
            answer = http.get_json(self.options.url + endpoint.format(id=satellite))
        except AdapterError as error:
            faults.append(_absence(error))
            return None
        fields = Fields(answer, endpoint)
        prices = _Prices(fields.number("egressBandwidth"), fields.number("auditBandwidth"), fields.number("diskSpace"))
        return prices if prices.egress or prices.audit or prices.disk else None

    def _payout(self, http: HttpReader, satellite: str, faults: list[AdapterError]) -> _Payout | None:
        """The estimated payout of one satellite; None where the node fails to say."""
        try:
            return self._asked_payout(http, {"id": satellite})
        except AdapterError as error:
            faults.append(_absence(error))
            return None

    def _asked_payout(self, http: HttpReader, params: Mapping[str, str]) -> _Payout:
        reply = http.request("GET", self.options.url + _PAYOUT, params=params)
        try:
            node_s = int(parsedate_to_datetime(reply.headers["date"]).timestamp())
        except (KeyError, ValueError):
            node_s = None
        return _Payout(reply.json(), node_s)

    def _held(
        self, http: HttpReader, satellites: Iterable[Satellite], warnings: list[str]
    ) -> tuple[StandingAmount, ...]:
        """What the satellites hold back of closed months; a disqualified one keeps it for good."""
        endpoint = "/api/heldamount/held-history"
        lost = {satellite.id for satellite in satellites if satellite.disqualified}
        try:
            answer = http.get_json(self.options.url + endpoint)
            history = [] if answer is None else objects(answer, endpoint)
        except AdapterError as error:
            warnings.append(f"the held amount is unknown: {error.message}")
            return ()
        held = [
            row.number("totalHeld") - row.number("totalDisposed")
            for row in history
            if row.text("satelliteID") not in lost
        ]
        return (StandingAmount(Standing.HELD, sum(held, Decimal(0)).scaleb(-6), "USD"),) if held else ()

    def _settled(self, http: HttpReader, now_s: int, since_s: int | None, warnings: list[str]) -> _paystubs.Settled:
        """Closed months, once a day; nothing in between, or where the node fails to say."""
        if _paystubs.is_due(now_s, since_s):
            try:
                return _paystubs.read(http, self.options.url, now_s, since_s)
            except AdapterError as error:
                warnings.append(f"the paystubs were not read: {error.message}")
        return _paystubs.Settled((), ())

    def _fields(self, http: HttpReader, endpoint: str) -> Fields:
        return Fields(http.get_json(self.options.url + endpoint), endpoint)


def _absence(error: AdapterError) -> AdapterError:
    """The error, if it can mean that an endpoint is lacking or fails for one satellite; else it is raised."""
    if error.kind not in (FailureKind.SHAPE, FailureKind.TRANSIENT):
        raise error
    return error


def _sample(series: str, month: Fields, prices: _Prices, now_s: int, period: str) -> EarningsSample:
    """The counter of one satellite, whose held part is a share, or of all, whose held part is an amount."""
    share, withheld = Decimal(1), Decimal(0)
    if series == _ALL:
        withheld = month.number("held").scaleb(-2)
    else:
        share -= month.number("heldRate").scaleb(-2)
    gross = prices.gross_usd(month)
    stepped = prices.storage_usd(month)
    return EarningsSample(now_s, gross, "USD", SampleKind.COUNTER, period, series, share, withheld, stepped=stepped)


def _storage_comes_in_steps(version: str) -> bool:
    """Before 1.162 stored bytes count when the node hears of them from the satellite, every 12 hours."""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and tuple(map(int, numbers.groups())) < _CONTINUOUS_SINCE


def _period(now_s: int, *, closed: bool) -> str:
    """The UTC month, or the one before it."""
    month = datetime.fromtimestamp(now_s, UTC)
    return (month.replace(day=1) - timedelta(days=1) if closed else month).strftime("%Y-%m")


def _month_differs(node_s: int | None, now_s: int) -> bool:
    """Is the node already, or still, in another month than we are?

    The counters are of the node's month at the moment of its answer. A clock that is far off ours is not believed.
    """
    if node_s is None or abs(node_s - now_s) > _LARGEST_CLOCK_ERROR_S:
        return False
    return _period(node_s, closed=False) != _period(now_s, closed=False)


def usage_of(dashboard: Fields) -> dict[Resource, Usage]:
    """What the node may store and stores, trash included; the meaning of the fields changed in 1.143."""
    disk = dashboard.object("diskSpace")
    used = disk.number("used")
    if "allocated" in disk:
        allocated = disk.number("allocated")
    else:
        allocated, used = disk.number("available"), used + disk.number("trash")
    # A known fault of the used-space cache is a negative value: that is no answer.
    return {Resource.STORAGE_BYTES: Usage(float(allocated), float(used) if used >= 0 else None)}
