"""``collect``: read every node and the token prices once, at the same time, and store what they delivered."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from decimal import Decimal, localcontext
from typing import Any

from . import commands, host
from .adapters import Adapter, NodeOptions, adapter_class, paid_in
from .asof import AsOf
from .backoff import Backoff, after
from .config import Config, secrets_of, with_secrets
from .cycle import Job, Result, require_nodes
from .energy import PowerSample
from .errors import AdapterError, ConfigError, ExitCode, FailureKind
from .metering import Metering
from .net import HttpClient
from .pricing import Pricing
from .retention import thin
from .roster import first_of_account, sources_of
from .store import Store
from .timefmt import rfc3339
from .types import (
    DECIMALS,
    Accrual,
    EarningsSample,
    Failure,
    HealthStatus,
    SampleKind,
    Snapshot,
    decimal_text,
)
from .values import NO_MONEY, TESTNET, unit_price

_THREADS = 16
_CLOCK_ERROR_S = 15 * 60
"""A difference of clocks that is worth a warning."""


@dataclass(frozen=True, slots=True)
class Unread:
    """A node without a reading: why, whether it is to be left alone now, and whether it was asked at all."""

    failure: Failure
    backoff: Backoff | None = None
    asked: bool = True


def collect(job: Job, store: Store) -> Result:
    """Store one reading of each node, the prices, and the hours that can be valued now; a failed node adds nothing."""
    require_nodes(job)
    known = AsOf(store.connection, job.now_s)
    wanted = {name: options for name, options in job.config.nodes.items() if job.wanted(name)}
    accounts = {name: (one.protocol, one.account) for name, one in job.config.nodes.items()}
    with store.transaction():
        for name, options in wanted.items():
            store.add_node(name, options.protocol, options.host, job.now_s)
        store.set_sources(sources_of(accounts))
    since = {name: known.last_read_s(name) for name in wanted}
    booked_on = first_of_account(accounts)
    backoffs = known.backoffs()
    pool = ThreadPoolExecutor(_THREADS)
    read_well: dict[str, Snapshot] = {}
    try:
        metering = Metering(pool, job, known)
        pricing = Pricing(pool, job, known)
        readings = {
            name: pool.submit(read_node, job, name, options, since[name], backoffs.get(_subject(name, options)))
            for name, options in wanted.items()
            if booked_on[name] == name
        }
        nodes: list[dict[str, Any]] = []
        failures: list[Failure] = []
        warnings: list[str] = []
        for name, options in wanted.items():
            if name not in readings:
                nodes.append(_empty(name, options, job.now_s, f"its income is booked on {booked_on[name]}"))
                continue
            read = readings[name].result()
            if isinstance(read, Snapshot):
                read_well[name] = read
                warnings += [f"{name}: {text}" for text in read.warnings]
                with store.transaction():
                    booked = store.add_snapshot(read, job.now_s, _main_currency(options))
                    store.set_backoff(_subject(name, options), None)
                nodes.append(_node(read, options, booked if since[name] is not None else []))
                if read.health.status is HealthStatus.DOWN:
                    hint = "start it, or look at its log"
                    failures.append(Failure(name, FailureKind.TRANSIENT, read.health.reason, hint))
            else:
                failures.append(read.failure)
                if read.asked:
                    _store_failure(job, store, name, options, read)
                nodes.append(_empty(name, options, job.now_s, read.failure.message))
        asked, delivered = len(readings), len(readings) - len(failures)
        failures += pricing.store(store, warnings)
        failures += metering.store(store, read_well, warnings)
    finally:
        # When this was interrupted, nobody wants what a hanging node may still deliver.
        pool.shutdown(wait=False, cancel_futures=True)
        commands.kill_all()
    thin(store, job.now_s, job.config.settings.raw_retention_days)
    _add_usd(nodes, known, job.now_s)
    data = {
        "nodes": nodes,
        "prices": pricing.rows(known),
        "hosts": _hosts(job, store, metering.samples),
    }
    code = ExitCode.PARTIAL if failures else ExitCode.OK
    return Result(data, failures, ExitCode.UNREACHABLE if asked and not delivered else code, warnings)


def make_adapter(config: Config, name: str, options: NodeOptions) -> tuple[Adapter, list[str]]:
    """The adapter of a node with its secrets read, and warnings about files that others can read."""
    complete, warnings = with_secrets(options, config.path)
    return adapter_class(options.protocol)(name, complete), warnings


def _subject(name: str, options: NodeOptions) -> str:
    """By which a node is remembered as one that is to be left alone."""
    return f"{options.protocol} {name}"


def read_node(
    job: Job, name: str, options: NodeOptions, since_s: int | None, backoff: Backoff | None
) -> Snapshot | Unread:
    """One reading of a node, or why there is none; ``since_s`` is when it was last read well. Nothing is stored."""
    secret = ""
    try:
        complete, warnings = with_secrets(options, job.config.path)
        secret = secrets_of(complete)
        if backoff is not None and backoff.kind is not None and backoff.holds(job.now_s, secret):
            hint = "leave it alone until then" if backoff.until_s else "renew them: then it is asked at once"
            return Unread(Failure(name, backoff.kind, backoff.message, hint), asked=False)
        adapter = adapter_class(options.protocol)(name, complete)
        with HttpClient(options.deadline_s) as http:
            snapshot = adapter.collect(http, job.now_s, since_s)
    except AdapterError as error:
        to_be_left = after(error, job.now_s, secret)
        message = error.message if to_be_left is None else to_be_left.message
        return Unread(Failure(name, error.kind, message, error.hint), to_be_left)
    except ConfigError as error:
        return Unread(Failure(name, error.kind, error.message, error.hint))
    except Exception as error:  # noqa: BLE001 - one adapter's bug must not cost the other nodes' data
        return Unread(
            Failure(
                name,
                FailureKind.INTERNAL,
                f"the {options.protocol} adapter broke: {type(error).__name__}: {error}",
                "please report this; --debug shows where",
            )
        )
    if http.peer_clock_s is not None and not job.fixed_now and abs(http.peer_clock_s - job.now_s) > _CLOCK_ERROR_S:
        warnings.append(f"its clock says {rfc3339(http.peer_clock_s)}, ours {rfc3339(job.now_s)}: one of them is wrong")
    return _with_warnings(snapshot, warnings)


def _store_failure(job: Job, store: Store, name: str, options: NodeOptions, read: Unread) -> None:
    why = read.failure
    with store.transaction():
        details = {"hint": why.hint} if why.hint else {}
        store.add_health(
            name, job.now_s, job.now_s, HealthStatus.UNKNOWN, why.message, failure_kind=why.kind, details=details
        )
        if read.backoff is not None:
            store.set_backoff(_subject(name, options), read.backoff)


def _with_warnings(snapshot: Snapshot, warnings: list[str]) -> Snapshot:
    return replace(snapshot, warnings=(*snapshot.warnings, *warnings)) if warnings else snapshot


def _main_currency(options: NodeOptions) -> str:
    currencies = paid_in(options)
    return next((currency for currency in currencies if currency not in TESTNET), currencies[0])


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
            if price is not None:
                earned["usd"] = float(Decimal(earned["amount"]) * price.usd_per_unit)
            elif earned["amount"] == "0" and currency not in NO_MONEY:
                earned["usd"] = 0.0


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
