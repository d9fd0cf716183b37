"""A database in a temporary folder, and readings to put into it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from depin_orcha import database
from depin_orcha.asof import AsOf
from depin_orcha.store import Store
from depin_orcha.types import EarningsSample, Health, HealthStatus, SampleKind, Snapshot, VoidedSample


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


@contextmanager
def opened(path: Path, node: str = "node_1", now_s: int = 0) -> Iterator[Store]:
    with database.lock(path, 0), database.open_for_writing(path) as connection:
        store = Store(connection)
        store.start_run("collect", now_s, None)
        store.add_node(node, "golem", "local", now_s)
        yield store


def counter(when: str, amount: str, period: str = "2026-11", series: str = "sat", **more: str) -> EarningsSample:
    return EarningsSample(
        at(when), Decimal(amount), "USD", SampleKind.COUNTER, period, series,
        Decimal(more.get("share", "1")), Decimal(more.get("withheld", "0")),
    )  # fmt: skip


def snapshot(
    when: str,
    *earnings: EarningsSample,
    voided: tuple[VoidedSample, ...] = (),
    complete_since: str | None = None,
    node: str = "node_1",
) -> Snapshot:
    return Snapshot(
        node, at(when), earnings, Health(HealthStatus.UP, "fine"), voided=voided,
        complete_since_s=None if complete_since is None else at(complete_since),
    )  # fmt: skip


def add(store: Store, one: Snapshot, currency: str = "USD") -> None:
    with store.transaction():
        store.add_snapshot(one, one.observed_s, currency)


def ledger(store: Store, now: str) -> dict[str, Decimal]:
    """Hour (day and hour) -> amount, as known at an instant."""
    return {
        datetime.fromtimestamp(hour.hour_s, UTC).strftime("%m-%dT%H"): hour.amount
        for hour in AsOf(store.connection, at(now)).hours()
    }
