"""``collect``: read every node and the token prices once, at the same time, and store what they delivered."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

from . import commands, host, prices
from .adapters import Adapter, NodeOptions, adapter_class, paid_in
from .asof import AsOf
from .config import Config, with_secrets
from .cycle import Job, Result, require_nodes
from .energy import PowerSample
from .errors import AdapterError, ConfigError, ExitCode, FailureKind
from .local import LOCAL_CURRENCY
from .metering import Metering
from .net import HttpClient
from .retention import thin
from .roster import first_of_account
from .store import Store
from .timefmt import rfc3339
from .types import (
    DECIMALS,
    HOUR_S,
    Accrual,
    EarningsSample,
    Failure,
    HealthStatus,
    Price,
    SampleKind,
    Snapshot,
    decimal_text,
)
from .values import TESTNET, UNPRICED, unit_price

_THREADS = 16
_PRICES_DEADLINE_S = 20
_CLOCK_ERROR_S = 15 * 60
"""A difference of clocks that is worth a warning."""


def collect(job: Job, store: Store) -> Result:
    """Store one reading of each node, the prices, and the hours that can be valued now; a failed node adds nothing."""
    require_nodes(job)
    known = AsOf(store.connection, job.now_s)
    wanted = {name: options for name, options in job.config.nodes.items() if job.wanted(name)}
    currencies = {currency for options in job.config.nodes.values() for currency in paid_in(options)}
    since = {name: known.last_read_s(name) for name in wanted}
    booked_on = first_of_account({name: (one.protocol, one.account) for name, one in job.config.nodes.items()})
    backoffs = known.backoffs()
    pool = ThreadPoolExecutor(_THREADS)
    read_well: dict[str, Snapshot] = {}
    try:
        metering = Metering(pool, job, known)
        quotes = pool.submit(_latest_prices, job, currencies, backoffs)
        readings = {
            name: pool.submit(_read, job, name, options, since[name])
            for name, options in wanted.items()
            if booked_on[name] == name
        }
        nodes: list[dict[str, Any]] = []
        failures: list[Failure] = []
        warnings: list[str] = []
        for name, options in wanted.items():
            store.add_node(name, options.protocol, options.host, job.now_s)
            if name not in readings:
                nodes.append(_empty(name, options, job.now_s, f"its income is booked on {booked_on[name]}"))
                continue
            read = readings[name].result()
            if isinstance(read, Snapshot):
                read_well[name] = read
                warnings += [f"{name}: {text}" for text in read.warnings]
                with store.transaction():
                    booked = store.add_snapshot(read, job.now_s, _main_currency(options))
                nodes.append(_node(read, options, booked if since[name] is not None else []))
                if read.health.status is HealthStatus.DOWN:
                    hint = "start it, or look at its log"
                    failures.append(Failure(name, FailureKind.TRANSIENT, read.health.reason, hint))
            else:
                failures.append(read)
                with store.transaction():
                    store.add_health(
                        name, job.now_s, job.now_s, HealthStatus.UNKNOWN, read.message, failure_kind=read.kind
                    )
                nodes.append(_empty(name, options, job.now_s, read.message))
        asked, delivered = len(readings), len(readings) - len(failures)
        failures += _store_prices(job, store, quotes.result(), currencies, warnings)
        failures += metering.store(store, read_well, warnings)
    finally:
        # When this was interrupted, nobody wants what a hanging node may still deliver.
        pool.shutdown(wait=False, cancel_futures=True)
        commands.kill_all()
    thin(store, job.now_s, job.config.settings.raw_retention_days)
    _add_usd(nodes, known, job.now_s)
    data = {
        "nodes": nodes,
        "prices": _prices(known, {*currencies, job.config.settings.costs.currency}, job),
        "hosts": _hosts(job, store, metering.samples),
    }
    code = ExitCode.PARTIAL if failures else ExitCode.OK
    return Result(data, failures, ExitCode.UNREACHABLE if asked and not delivered else code, warnings)


def make_adapter(config: Config, name: str, options: NodeOptions) -> tuple[Adapter, list[str]]:
    """The adapter of a node with its secrets read, and warnings about files that others can read."""
    complete, warnings = with_secrets(options, config.path)
    return adapter_class(options.protocol)(name, complete), warnings


def _read(job: Job, name: str, options: NodeOptions, since_s: int | None) -> Snapshot | Failure:
    try:
        adapter, warnings = make_adapter(job.config, name, options)
        with HttpClient(options.deadline_s) as http:
            snapshot = adapter.collect(http, job.now_s, since_s)
    except (AdapterError, ConfigError) as error:
        return Failure(name, error.kind, error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - one adapter's bug must not cost the other nodes' data
        return Failure(
            name,
            FailureKind.INTERNAL,
            f"the {options.protocol} adapter broke: {type(error).__name__}: {error}",
            "please report this; --debug shows where",
        )
    if http.peer_clock_s is not None and not job.fixed_now and abs(http.peer_clock_s - job.now_s) > _CLOCK_ERROR_S:
        warnings.append(f"its clock says {rfc3339(http.peer_clock_s)}, ours {rfc3339(job.now_s)}: one of them is wrong")
    return _with_warnings(snapshot, warnings)


def _with_warnings(snapshot: Snapshot, warnings: list[str]) -> Snapshot:
    return replace(snapshot, warnings=(*snapshot.warnings, *warnings)) if warnings else snapshot


def _main_currency(options: NodeOptions) -> str:
    currencies = paid_in(options)
    return next((currency for currency in currencies if currency not in TESTNET), currencies[0])


def _latest_prices(job: Job, currencies: set[str], backoffs: Mapping[str, tuple[int, int]]) -> prices.Quotes:
    try:
        options, warnings = with_secrets(job.config.settings.prices, job.config.path)
    except ConfigError as error:
        problem = AdapterError(FailureKind.CONFIG, error.message, error.hint)
        return prices.Quotes(problems=[problem])
    with HttpClient(_PRICES_DEADLINE_S) as http:
        quotes = prices.latest(http, options, currencies, job.now_s, backoffs, job.config.settings.costs.currency)
    quotes.warnings += warnings
    return quotes


def _store_prices(
    job: Job, store: Store, quotes: prices.Quotes, currencies: set[str], warnings: list[str]
) -> list[Failure]:
    """Keep the prices, value the completed hours, and say which tokens have no usable price from anyone."""
    known, local = AsOf(store.connection, job.now_s), job.config.settings.costs.currency
    with store.transaction():
        store.set_meta(LOCAL_CURRENCY, local)
        store.add_prices(quotes.prices, job.now_s)
        for source, (not_before_s, backoff_s) in quotes.backoffs.items():
            store.set_backoff(source, not_before_s, backoff_s)
    _value_hours(job, store, known)
    warnings += quotes.warnings
    if unit_price(local, known.price_at(local, job.now_s), job.now_s) is None:
        warnings.append(f"no rate of {local} is known: amounts are told in USD alone")
    warnings += [f"{problem.message}; another source or a stored price is used" for problem in quotes.problems]
    max_age_s = job.config.settings.prices.max_age_s
    lacking = [
        currency
        for currency in sorted(currencies - UNPRICED)
        if (price := unit_price(currency, known.price_at(currency, job.now_s), job.now_s)) is None
        or job.now_s - price.observed_s > max_age_s
    ]
    if not lacking:
        return []
    reasons = "; ".join(problem.message for problem in quotes.problems) or "the sources do not know it"
    kind = quotes.problems[0].kind if quotes.problems else FailureKind.SHAPE
    return [
        Failure(None, kind, f"no usable price of {', '.join(lacking)}: {reasons}", "earnings are kept in their token")
    ]


def _value_hours(job: Job, store: Store, known: AsOf) -> None:
    """Fix the price of completed hours once: the last one at or before the hour's end, from the history if need be."""
    open_hours = known.unvalued_hours()
    max_age_s = job.config.settings.prices.max_age_s
    missing: dict[str, list[int]] = {}
    for currency, hour_s in open_hours:
        price = _price_of(known, currency, hour_s)
        if price is None or hour_s + HOUR_S - price.observed_s > max_age_s:
            missing.setdefault(currency, []).append(hour_s)
    for currency, hours in missing.items():
        _fetch_history(job, store, known, currency, hours)
    valued = [
        (currency, hour_s, price)
        for currency, hour_s in open_hours
        if (price := _price_of(known, currency, hour_s)) is not None
    ]
    local = job.config.settings.costs.currency
    rates = [(local, hour_s, _price_of(known, local, hour_s)) for hour_s in known.hours_without_rate(local)]
    valued += [(local, hour_s, rate) for _, hour_s, rate in rates if rate is not None]
    with store.transaction():
        store.value_hours(valued, job.now_s)


def _price_of(known: AsOf, currency: str, hour_s: int) -> Price | None:
    end_s = hour_s + HOUR_S
    return unit_price(currency, known.price_at(currency, end_s), end_s)


def _fetch_history(job: Job, store: Store, known: AsOf, currency: str, hours: list[int]) -> None:
    window = (min(hours) - prices.HISTORY_LOOKBACK_S, max(hours) + HOUR_S)
    try:
        options, _ = with_secrets(job.config.settings.prices, job.config.path)
    except ConfigError:
        return
    with HttpClient(_PRICES_DEADLINE_S) as http:
        found = prices.history(http, options, currency, window, job.now_s, known.backoffs())
    with store.transaction():
        store.add_prices(found.prices, job.now_s)
        for source, (not_before_s, backoff_s) in found.backoffs.items():
            store.set_backoff(source, not_before_s, backoff_s)


def _node(snapshot: Snapshot, options: NodeOptions, earned: list[Accrual]) -> dict[str, Any]:
    """``earned``: what was booked since the reading before; empty means that nothing can be said."""
    return {
        "node": snapshot.node,
        "host": options.host,
        "protocol": options.protocol,
        "observed_at": rfc3339(snapshot.observed_s),
        "earnings": [
            {
                "currency": sample.currency,
                "kind": str(sample.kind),
                "amount": decimal_text(sample.amount),
                "period": sample.period,
                "external_id": sample.external_id,
                "share": decimal_text(sample.share),
            }
            for sample in _last_readings(snapshot.earnings)
        ],
        "earned_since_previous": _earned(earned, _main_currency(options)) if earned else None,
        "usage": {str(r): {"allocated": u.allocated, "used": u.used} for r, u in snapshot.usage.items()},
        "limits": {
            str(resource): {"floor": limit.floor, "ceiling": limit.ceiling, "step": limit.step}
            for resource, limit in snapshot.limits.items()
        },
        "health": {
            "status": str(snapshot.health.status),
            "reason": snapshot.health.reason,
            "details": snapshot.health.details,
        },
    }


def _last_readings(samples: tuple[EarningsSample, ...]) -> list[EarningsSample]:
    """The newest reading of each counter, and every event."""
    last: dict[tuple[str, ...], EarningsSample] = {}
    for sample in sorted(samples, key=lambda one: one.observed_s):
        instant = str(sample.observed_s) if sample.kind is SampleKind.EVENT else ""
        last[sample.currency, str(sample.kind), sample.period, sample.external_id, instant] = sample
    return list(last.values())


def _earned(booked: list[Accrual], currency: str) -> dict[str, Any]:
    with localcontext(DECIMALS):
        amount = sum((one.amount for one in booked if one.currency == currency), Decimal(0))
    return {"currency": currency, "amount": decimal_text(amount), "usd": None}


def _add_usd(nodes: list[dict[str, Any]], known: AsOf, now_s: int) -> None:
    for node in nodes:
        earned = node["earned_since_previous"]
        if earned is not None:
            currency = earned["currency"]
            price = unit_price(currency, known.price_at(currency, now_s), now_s)
            earned["usd"] = None if price is None else float(Decimal(earned["amount"]) * price.usd_per_unit)


def _empty(name: str, options: NodeOptions, now_s: int, reason: str) -> dict[str, Any]:
    return {
        "node": name,
        "host": options.host,
        "protocol": options.protocol,
        "observed_at": rfc3339(now_s),
        "earnings": [],
        "earned_since_previous": None,
        "usage": {},
        "limits": {},
        "health": {"status": "unknown", "reason": reason, "details": {}},
    }


def _prices(known: AsOf, currencies: set[str], job: Job) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for currency in sorted(currencies):
        price = known.price_at(currency, job.now_s)
        if price is not None:
            rows.append(
                {
                    "currency": currency,
                    "usd_per_unit": float(price.usd_per_unit),
                    "source": price.source,
                    "observed_at": rfc3339(price.observed_s),
                    "stale": job.now_s - price.observed_s > job.config.settings.prices.max_age_s,
                }
            )
    return rows


def _hosts(job: Job, store: Store, power: Mapping[str, PowerSample]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    names = dict.fromkeys([*job.config.settings.hosts, *(options.host for options in job.config.nodes.values())])
    for name in names:
        options = job.config.host(name)
        if name == "local":
            mounts = {node.disk for node in job.config.nodes.values() if node.host == "local" and node.disk}
            capacity, used = host.measure(options, sorted(mounts))
        else:
            capacity, used = host.stated({}, options), {}
        store.add_host(name, job.now_s, capacity, used)
        drawn = {"watts": power[name].watts, "watts_source": power[name].source} if name in power else {}
        rows.append({"host": name, "capacity": capacity, "used": used, "watts": None, "watts_source": None} | drawn)
    return rows
