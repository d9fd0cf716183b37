"""Power in a collect: meters and tariff are asked beside the nodes, and after them the cost of past hours is fixed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import cache
from pathlib import Path

from . import energy, power
from .adapters import NodeOptions, adapter_class
from .asof import AsOf
from .backoff import Backoff
from .costs import Watts, price_per_kwh, running_watts
from .cycle import Job
from .energy import PowerSample
from .errors import AdapterError, FailureKind, OrchaError
from .roster import first_of_account
from .sections import TariffSource
from .store import Store
from .types import DAY_S, HOUR_S, Failure, HealthStatus, Resource, Snapshot
from .values import unit_price

_SOURCE = "tariff"
_ASKED_EVERY_S = HOUR_S
"""A list of hourly prices changes once a day, so it is not asked for at every reading."""
_KEPT_DAYS = 8
"""Of a list of hourly prices only what lies so near can still matter."""


class Metering:
    """What was asked about power in one collect; the answers come while the nodes are read."""

    def __init__(self, pool: Executor, job: Job, known: AsOf) -> None:
        config = job.config
        self._job = job
        self._hosts = {name: config.host(name) for name in dict.fromkeys(one.host for one in config.nodes.values())}
        self._meters = {
            name: pool.submit(power.read_meter, options, config.path)
            for name, options in self._hosts.items()
            if options.rapl or options.has_url
        }
        tariff = config.settings.costs.electricity_per_kwh
        asked = known.backoffs().get(_SOURCE)
        due = asked is None or not asked.holds(job.now_s)
        source = tariff if isinstance(tariff, TariffSource) and (tariff.csv is not None or due) else None
        self._listed = None if source is None else pool.submit(power.read_tariff, source, config.path)
        self.samples: dict[str, PowerSample] = {}
        """Host -> its power, once it is stored."""

    def store(self, store: Store, readings: Mapping[str, Snapshot], warnings: list[str]) -> list[Failure]:
        """Keep the power of each host at this reading, the listed prices, and the cost of the hours that are over.

        ``readings``: those of the nodes that were read now. Adds to ``warnings``; returns what failed.
        """
        failures: list[Failure] = []
        warnings += _zone_warnings(self._job)
        at_work = _at_work(self._job, readings)
        for host in self._hosts:
            try:
                watts = self._watts(host, at_work, warnings)
            except OrchaError as error:
                hint = "can this machine reach the meter?" if error.kind is FailureKind.TRANSIENT else error.hint
                failures.append(Failure(None, error.kind, f"power of {host}: {error.message}", hint))
                continue
            if watts is not None:
                self.samples[host] = PowerSample(watts.watts, watts.source, self._job.now_s)
        known = AsOf(store.connection, self._job.now_s)
        with store.transaction():
            energy.add_samples(store.connection, self.samples, self._job.now_s)
            failures += self._store_listed(store, known, warnings)
            energy.fix_hours(known, _tariff(self._job, known))
        return failures

    def _watts(self, host: str, at_work: Mapping[str, bool], warnings: list[str]) -> Watts | None:
        metered = None
        if host in self._meters:
            metered, more = self._meters[host].result()
            warnings += more
        nodes = [
            (options.busy_watts, at_work.get(name))
            for name, options in self._job.config.nodes.items()
            if options.host == host
        ]
        return running_watts(self._hosts[host], metered, nodes)

    def _store_listed(self, store: Store, known: AsOf, warnings: list[str]) -> list[Failure]:
        """Keep what the list of hourly prices says; it failed only if the running hour has no price by now."""
        costs, now_s = self._job.config.settings.costs, self._job.now_s
        tariff, problem = costs.electricity_per_kwh, None
        if not isinstance(tariff, TariffSource):
            return []
        try:
            if self._listed is not None:
                rows, more = self._listed.result()
                warnings += more
                near = [row for row in rows if abs(row[0] - now_s) <= _KEPT_DAYS * DAY_S]
                energy.add_listed(known, costs.currency, near, "url" if tariff.csv is None else "csv", learned_s=now_s)
                if tariff.csv is None:
                    store.set_backoff(_SOURCE, Backoff(now_s, now_s + _ASKED_EVERY_S))
        except OrchaError as error:
            problem = error
        if _price(self._job, known, now_s // HOUR_S * HOUR_S) is not None:
            if problem is not None:
                warnings.append(f"{problem.message}; the prices of electricity known from before are used")
            return []
        if problem is None:
            problem = AdapterError(FailureKind.DATA, "the list has none for the running hour", "is it up to date?")
        return [Failure(None, problem.kind, f"no price of electricity: {problem.message}", problem.hint)]


def listed_prices(job: Job, known: AsOf, hour_s: int, horizon_h: int) -> list[tuple[int, float]]:
    """What a tariff of hourly prices is known to be in the hours from ``hour_s`` on; empty for any other tariff."""
    costs = job.config.settings.costs
    if not isinstance(costs.electricity_per_kwh, TariffSource):
        return []
    return energy.listed_prices(known, costs.currency, hour_s - HOUR_S, hour_s + horizon_h * HOUR_S)


def tariff_currency_usd(job: Job, known: AsOf, instant_s: int) -> float | None:
    """What a unit of the tariff's currency was worth in USD at an instant; None where that is not known."""
    currency = job.config.settings.costs.currency
    rate = unit_price(currency, known.price_at(currency, instant_s), instant_s)
    return None if rate is None else float(rate.usd_per_unit)


def usd_per_kwh_by_hour(job: Job, known: AsOf, from_s: int, hours: int) -> list[float | None]:
    """What a kWh costs in USD, at today's rate, in each of so many hours from ``from_s`` on; None where not known."""
    rate = tariff_currency_usd(job, known, job.now_s)
    listed = listed_prices(job, known, from_s, hours)
    prices = (price_per_kwh(job.config.settings.costs, from_s + i * HOUR_S, listed) for i in range(hours))
    return [None if price is None or rate is None else price * rate for price in prices]


def _price(job: Job, known: AsOf, hour_s: int) -> float | None:
    return price_per_kwh(job.config.settings.costs, hour_s, listed_prices(job, known, hour_s, 1))


def _tariff(job: Job, known: AsOf) -> energy.Tariff:
    @cache
    def tariff(hour_s: int) -> tuple[float, float, str] | None:
        price, rate = _price(job, known, hour_s), tariff_currency_usd(job, known, hour_s + HOUR_S)
        if price is None or rate is None:
            return None
        return price * rate, price, job.config.settings.costs.currency

    return tariff


def _at_work(job: Job, readings: Mapping[str, Snapshot]) -> dict[str, bool]:
    """Was each node at work when it was read; one that shares an account follows the node that was read for it."""
    booked_on = first_of_account({name: (one.protocol, one.account) for name, one in job.config.nodes.items()})
    return {
        name: _is_at_work(options, readings[booked_on[name]])
        for name, options in job.config.nodes.items()
        if booked_on[name] in readings
    }


def _is_at_work(options: NodeOptions, reading: Snapshot) -> bool:
    """Does it use what it is paid for? A node that tells no use works while it is up."""
    if reading.health.status is HealthStatus.DOWN:
        return False
    main = next(iter(options.uses_per_unit or adapter_class(options.protocol).uses_per_unit))
    usage = reading.usage.get(Resource(main))
    return usage is None or usage.used is None or usage.used > 0


def _zone_warnings(job: Job) -> list[str]:
    costs = job.config.settings.costs
    told = costs.timezone or os.environ.get("TZ") or Path("/etc/localtime").exists()
    if told or not isinstance(costs.electricity_per_kwh, list):
        return []
    return ["costs.timezone is not set and this machine tells none: the hours of the tariff are taken as UTC"]
