"""``demo``: fourteen simulated days, collected hour by hour over the wire, then the whole chain once."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from depin_orcha import database, status
from depin_orcha.applying import apply
from depin_orcha.asof import AsOf
from depin_orcha.collect import collect
from depin_orcha.config import load
from depin_orcha.cycle import Job, Result, Verb, chain, recorded
from depin_orcha.errors import UsageError
from depin_orcha.healing import heal
from depin_orcha.paths import state_dir
from depin_orcha.planning import forecast, optimize
from depin_orcha.roster import NodeConfig
from depin_orcha.store import Store
from depin_orcha.types import DAY_S, HOUR_S

from . import SimulatedOperator

DAYS = 14
_NOW_AND_THEN: dict[str, tuple[int, Verb]] = {"forecast": (6, forecast), "optimize": (24, optimize)}
"""What else runs every so many hours of these days, so that its worth can be told."""


def run_demo(db: Path | None) -> Result:
    """A fresh database of a simulated operator, and what every verb says of it; ``data`` as the contract of ``demo``.

    Raises ``UsageError`` where ``db`` is a database that is not simulated.
    """
    path = db or state_dir() / "demo" / "demo.db"
    _make_room(path)
    now_s = int(time.time())
    with SimulatedOperator(now_s - DAYS * DAY_S) as operator:
        job = _job(operator, path, now_s)
        with database.lock(path, 0), database.open_for_writing(path) as connection:
            store = Store(connection)
            store.set_meta("simulated", "yes")
            started = time.monotonic()
            for at_s in _progress(range(now_s - DAYS * DAY_S, now_s, HOUR_S)):
                operator.advance(at_s)
                past = replace(job, now_s=at_s, fixed_now=True)
                recorded(past, store, "collect", collect)
                for verb, (every_h, step) in _NOW_AND_THEN.items():
                    if (now_s - at_s) // HOUR_S % every_h == 0:
                        recorded(past, store, verb, step)
            backfill_s = round(time.monotonic() - started, 3)
            operator.advance(now_s)
            result = chain(
                job,
                store,
                {
                    "collect": collect,
                    "forecast": forecast,
                    "optimize": optimize,
                    "apply": lambda job, store: apply(job, store, execute=False),
                    "heal": lambda job, store: heal(job, store, execute=False),
                },
            )
            started = time.monotonic()
            data = _status(job, store)
            seconds = round(time.monotonic() - started, 3)
            result.data["verbs"].append({"verb": "status", "exit_code": 0, "seconds": seconds})
    result.data |= {"simulated": True, "backfill": {"days": DAYS, "seconds": backfill_s}, "status": data}
    result.data["paths"] = [str(path), str(job.config.path)]
    return result


def _status(job: Job, store: Store) -> dict[str, Any]:
    nodes = [NodeConfig(name, one.protocol, one.host, name) for name, one in job.config.nodes.items()]
    known = AsOf(store.connection, job.clock_s())
    return status.view(known, nodes, job.config.settings.prices.max_age_s, only=frozenset())


def _job(operator: SimulatedOperator, path: Path, now_s: int) -> Job:
    folder = path.with_name(f"{path.name}.operator")
    folder.mkdir(exist_ok=True)
    config = folder / "config.toml"
    text = operator.config_toml()
    config.write_text(text, encoding="utf-8")
    for name, secret in operator.secrets().items():
        file = folder / name
        file.touch(mode=0o600)
        file.write_text(secret, encoding="utf-8")
    return Job(load(config, text), path, now_s)


def _make_room(path: Path) -> None:
    """Remove the database of an earlier demo, and never any other."""
    with database.open_for_reading(path) as connection:
        if connection is not None and AsOf(connection, 0).meta("simulated") is None:
            raise UsageError(f"{path} is not a database of the demo", "name another file with --db, or leave it out")
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)


def _progress(instants: range) -> Iterator[int]:
    if not sys.stderr.isatty():
        yield from instants
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(instants, "SIMULATED days", console=Console(stderr=True), transient=True)
