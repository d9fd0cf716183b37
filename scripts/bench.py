"""How long commands take beside programs that do nothing, how fast the store is, how much memory the chain needs.

``bench.py nodes200`` measures only the collection of many nodes. Everything is measured in this one run, in turns, so
that ratios hold on a busy machine too. Nothing fails here.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from rich.console import Console
from rich.table import Table

from depin_orcha import database
from depin_orcha.collect import collect
from depin_orcha.config import load
from depin_orcha.cycle import Job, recorded
from depin_orcha.demo import SimulatedOperator
from depin_orcha.store import Store
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import (
    DAY_S,
    HOUR_S,
    EarningsSample,
    Health,
    HealthStatus,
    Resource,
    SampleKind,
    Snapshot,
    Usage,
)

DAYS = 14
ROUNDS = 15
CHAIN_ROUNDS = 3
SNAPSHOTS, EVENTS = 200, 50
BARE = """
import sqlite3
from typing import Annotated
import typer
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
@app.callback()
def root(): pass
@app.command()
def status(db: str, json: Annotated[bool, typer.Option("--json")] = False):
    typer.echo(sqlite3.connect(db).execute("SELECT count(*) FROM nodes").fetchone()[0])
app(prog_name="bare")
"""
NODES = 200
NODES_NOW_S = 1_795_377_660
"""2026-11-22T20:01:00Z, when the samples were recorded."""
BARE_REQUESTS = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import httpx
nodes = {}
for one in json.load(open(sys.argv[1])):
    nodes.setdefault(one["url"].split("/")[3], []).append(one)
def ask(requests):
    for one in requests:
        with client.stream(**one) as response:
            next(response.iter_bytes(), b"") if "content-length" not in response.headers else response.read()
with httpx.Client(trust_env=False) as client, ThreadPoolExecutor(16) as pool:
    list(pool.map(ask, nodes.values()))
"""
PYTHON = sys.executable
ORCHA = [PYTHON, "-m", "depin_orcha"]


@dataclass(frozen=True, slots=True)
class Taken:
    """What a command took; seconds on the clock, and of all processors."""

    seconds: float
    cpu_s: float
    peak_bytes: int


def main() -> None:
    """Print the measurements as one table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [] if sys.argv[1:] == ["nodes200"] else _one_operator(folder)
        rows += _many_nodes(folder / "many")
    table = Table("measured")
    for heading in ("median", "× python", "× bare Typer"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    Console(width=100).print(table)


def _one_operator(folder: Path) -> list[tuple[str, ...]]:
    sys.stderr.write(f"collecting {DAYS} simulated days first; this takes about a minute\n")
    now_s = int(time.time())
    with SimulatedOperator(now_s - DAYS * DAY_S) as operator:
        places = _backfilled(operator, folder, now_s)
        rows = _start_up(folder, places) + _chains(folder, operator.config_toml(), places)
    return [*rows, ("rows into the store, one snapshot a transaction", f"{_store_rate(folder):,.0f} rows/s")]


def _backfilled(operator: SimulatedOperator, folder: Path, now_s: int) -> list[str]:
    """A database with two weeks of four simulated nodes; the options that name it and its configuration."""
    config, path = folder / "config.toml", folder / "orcha.db"
    config.write_text(operator.config_toml(), encoding="utf-8")
    for name, secret in operator.secrets().items():
        (folder / name).write_text(secret, encoding="utf-8")
        (folder / name).chmod(0o600)
    job = Job(load(config, config.read_text(encoding="utf-8")), path, now_s, fixed_now=True)
    with database.lock(path, 0), database.open_for_writing(path) as connection:
        store = Store(connection)
        for at_s in range(now_s - DAYS * DAY_S, now_s, HOUR_S):
            operator.advance(at_s)
            recorded(replace(job, now_s=at_s), store, "collect", collect)
    operator.advance(now_s)
    return ["--config", str(config), "--db", str(path)]


def _start_up(folder: Path, places: list[str]) -> list[tuple[str, ...]]:
    bare = folder / "bare.py"
    bare.write_text(BARE, encoding="utf-8")
    commands = {
        "python -c pass": [PYTHON, "-c", "pass"],
        "bare Typer program --help": [PYTHON, str(bare), "--help"],
        "depin-orcha --help": [*ORCHA, "--help"],
        "bare Typer program that opens SQLite": [PYTHON, str(bare), "status", places[-1], "--json"],
        f"depin-orcha status --json, 4 nodes, {DAYS} days": [*ORCHA, "status", "--json", *places],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, argv in commands.items():
            seconds[name].append(_run(argv).seconds)
    median = {name: statistics.median(taken) for name, taken in seconds.items()}
    nothing, bare_help, own_help, bare_status, own_status = median.values()
    like = {own_help: f"{own_help / bare_help:.2f}", own_status: f"{own_status / bare_status:.2f}"}
    return [
        (name, f"{taken * 1000:.0f} ms", f"{taken / nothing:.1f}", like.get(taken, ""))
        for name, taken in median.items()
    ]


def _chains(folder: Path, config: str, places: list[str]) -> list[tuple[str, ...]]:
    """The whole chain with the four nodes, and with each of them twice."""
    eight = folder / "eight.toml"
    head, nodes = config.split("[nodes.", 1)
    again = f"[nodes.{nodes}".replace('"\nhost', '"\n# the same node once more\nhost')
    for name in ("storj_attic", "golem_attic", "storj_rack", "golem_rack"):
        again = again.replace(f"[nodes.{name}]", f"[nodes.{name}_2]")
    eight.write_text(f"{head}[nodes.{nodes}\n{again}", encoding="utf-8")
    rows: list[tuple[str, ...]] = []
    for count, options in ((4, places), (8, ["--config", str(eight), *places[2:]])):
        runs = [_run([*ORCHA, "run", "--json", *options]) for _ in range(CHAIN_ROUNDS)]
        seconds = statistics.median(taken.seconds for taken in runs)
        peak = max(taken.peak_bytes for taken in runs)
        rows.append((f"run: collect to apply, {count} nodes", f"{seconds:.2f} s"))
        rows.append((f"  peak memory, {count} nodes", f"{peak / 1e6:.0f} MB"))
    return rows


def _many_nodes(folder: Path) -> list[tuple[str, ...]]:
    """One collect of many nodes, beside a program that only makes the same requests; a reading each quarter hour."""
    folder.mkdir()
    places = ["--config", str(folder / "config.toml"), "--db", str(folder / "orcha.db")]
    bare = folder / "bare.py"
    bare.write_text(BARE_REQUESTS, encoding="utf-8")
    with subprocess.Popen(
        [PYTHON, str(Path(__file__).with_name("bench_server.py")), str(folder), str(NODES)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdout.readline()
        collects: list[Taken] = []
        bares: list[Taken] = []
        for number in range(1 + CHAIN_ROUNDS):
            collects.append(_run([*ORCHA, "collect", "--json", *places, "--now", rfc3339(NODES_NOW_S + number * 900)]))
            print(file=server.stdin, flush=True)
            count = int(server.stdout.readline())
            bares.append(_run([PYTHON, str(bare), str(folder / "requests.json")]))
            print(file=server.stdin, flush=True)
            server.stdout.readline()
        server.stdin.close()
    first, again = collects[0], _median(collects[1:])
    alone = _median(bares[1:])
    return [
        (f"first collect of {NODES} nodes", f"{first.seconds:.2f} s"),
        (f"collect of {NODES} nodes, {count} requests", f"{again.seconds:.2f} s"),
        ("  processor time for each node", f"{again.cpu_s / NODES * 1000:.1f} ms"),
        ("  peak memory", f"{again.peak_bytes / 1e6:.0f} MB"),
        ("the same requests by bare httpx", f"{alone.seconds:.2f} s"),
        ("  processor time for each node", f"{alone.cpu_s / NODES * 1000:.1f} ms"),
        ("  collect in processor time of it", f"{again.cpu_s / alone.cpu_s:.2f} x"),
    ]


def _median(runs: list[Taken]) -> Taken:
    return sorted(runs, key=lambda taken: taken.cpu_s)[len(runs) // 2]


def _run(argv: list[str]) -> Taken:
    """What a command takes that succeeds."""
    started = time.perf_counter()
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    complaint = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    taken = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        sys.exit(f"{' '.join(argv)} ended with {process.returncode}: {complaint.decode()}")
    return Taken(taken, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _store_rate(folder: Path) -> float:
    path = folder / "store.db"
    with database.open_for_writing(path) as connection:
        store = Store(connection)
        store.start_run("collect", 0, None)
        store.add_node("golem_1", "golem", "local", 0)
        before = connection.total_changes
        started = time.perf_counter()
        for number in range(SNAPSHOTS):
            with store.transaction():
                store.add_snapshot(_snapshot(number), number * 900, "GLM")
        return (connection.total_changes - before) / (time.perf_counter() - started)


def _snapshot(number: int) -> Snapshot:
    now_s = number * 900
    events = tuple(
        EarningsSample(now_s + at, Decimal("0.264448791131944429"), "GLM", SampleKind.EVENT, "", f"{number}-{at}")
        for at in range(EVENTS)
    )
    usage = {Resource.CPU_CORES: Usage(4, 2.5), Resource.MEMORY_BYTES: Usage(8e9, 4e9)}
    return Snapshot("golem_1", now_s, events, Health(HealthStatus.UP, "working"), usage)


if __name__ == "__main__":
    main()
