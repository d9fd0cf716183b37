"""What the tests of the command line share: a simulated operator, a folder to run the program in, and what is true."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from pathlib import Path
from sqlite3 import connect
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from ledger_parts import at
from loopback import Answer, Loopback, Request
from typer.testing import CliRunner

from depin_orcha.cli import app
from depin_orcha.demo import SimulatedOperator
from depin_orcha.demo.coingecko import CoinGecko
from depin_orcha.demo.storage import CENTS_PER_TB, CENTS_PER_TB_MONTH, Satellite
from depin_orcha.demo.times import MICROS, month_start
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DECIMALS, HOUR_S

SCHEMAS = Path(__file__).parents[1] / "depin_orcha" / "schemas"
PROGRAM = (sys.executable, "-m", "depin_orcha")
VERBS = (
    "collect", "forecast", "optimize", "apply", "run", "status", "history", "export", "import", "init", "demo", "pause",
    "resume", "backtest", "verdict", "explain", "heal", "doctor", "backup",
)  # fmt: skip
START_S = at("2026-10-30T00:00:00")
"""The simulated operator starts two days before a month ends."""
_NOBODY = 65534
_NO_RIGHTS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-chown")
"""Makes root an ordinary user, to whom the rights of files apply."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def data(self) -> Any:
        return self.document["data"]

    @property
    def failures(self) -> list[dict[str, Any]]:
        return self.document["failures"]


class Place:
    """A folder with a configuration and a database, to run commands in; also what HOME is for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.toml"
        self.db = folder / "orcha.db"

    def configure(self, text: str, secrets: Mapping[str, str] = {}) -> None:
        self.config.write_text(text)
        for name, secret in secrets.items():
            (self.folder / name).touch(0o600)
            (self.folder / name).write_text(secret)

    def words(self, verb: str, *words: str, now: int | None = None) -> list[str]:
        """The command line of a verb."""
        files = ["--config", str(self.config), "--db", str(self.db)]
        return [verb, *words, *files, *([] if now is None else ["--now", rfc3339(now)])]

    def environment(self, **more: str) -> dict[str, str]:
        """The tests' own environment without what is meant for a depin-orcha of the person who runs them."""
        own = ("DEPIN_ORCHA_", "XDG_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "STATE_DIRECTORY", "CREDENTIALS_DIRECTORY")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        return kept | {"HOME": str(self.folder)} | more

    def __call__(self, verb: str, *words: str, now: int | None = None, exits: int | None = 0, **env: str) -> Done:
        """Run a verb in this process."""
        wanted: dict[str, str | None] = dict.fromkeys(os.environ.keys() - self.environment().keys())
        result = CliRunner().invoke(app, self.words(verb, *words, now=now), env=wanted | self.environment(**env))
        done = Done(result.exit_code, result.stdout, result.stderr)
        assert exits in (None, done.code), f"{verb} {words}: exit {done.code}\n{done.out[-2000:]}{done.err}"
        return done

    def json(self, verb: str, *words: str, now: int | None = None, exits: int | None = 0, **env: str) -> Done:
        """The same with ``--json``; what it prints is what its schema says."""
        done = self(verb, *words, "--json", now=now, exits=exits, **env)
        check_schema(verb, done.document)
        return done

    def process(self, verb: str, *words: str, now: int | None = None, **more: Any) -> Done:
        """Run a verb in a process of its own; what it prints is decoded as UTF-8."""
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options |= {"env": self.environment(), "timeout": 60} | more
        done = subprocess.run([*PROGRAM, *self.words(verb, *words, now=now)], check=False, **options)
        return Done(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())

    def process_without_rights(self, verb: str, *words: str, now: int | None = None) -> Done:
        """The same where the folder belongs to somebody else and may only be read."""
        paths = [self.folder, *self.folder.iterdir()]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
            if os.geteuid() == 0:
                os.chown(path, _NOBODY, _NOBODY)
        prefix = _NO_RIGHTS if os.geteuid() == 0 else ()
        argv = [*prefix, *PROGRAM, *self.words(verb, *words, now=now)]
        done = subprocess.run(argv, env=self.environment(), capture_output=True, text=True, timeout=60, check=False)
        for path in paths:
            if os.geteuid() == 0:
                os.chown(path, 0, 0)
            path.chmod(0o755 if path.is_dir() else 0o600)
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, verb: str, *words: str, now: int | None = None, **more: Any) -> subprocess.Popen[Any]:
        """Begin a verb in a process of its own."""
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        options |= {"env": self.environment()} | more
        return subprocess.Popen([*PROGRAM, *self.words(verb, *words, now=now)], **options)

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        with closing(connect(self.db)) as connection:
            return connection.execute(sql, values).fetchall()

    def counts(self) -> dict[str, int]:
        """Rows of every table but that of the runs."""
        names = [row[0] for row in self.query("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: self.query(f"SELECT count(*) FROM {name}")[0][0] for name in sorted(names) if name != "runs"}


@cache
def _validator(verb: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((SCHEMAS / f"{verb}.json").read_text()))


def check_schema(verb: str, document: Any) -> None:
    """A document is what the schema file of its verb says."""
    fault = best_match(_validator(verb).iter_errors(document))
    assert fault is None, f"{verb}: {fault.json_path}: {fault.message[:300]}"


@contextmanager
def operating(place: Place, start_s: int = START_S) -> Iterator[SimulatedOperator]:
    """A simulated operator whose nodes are configured in ``place``."""
    with SimulatedOperator(start_s) as operator:
        place.configure(operator.config_toml(), operator.secrets())
        yield operator


@contextmanager
def switchboard(operator: SimulatedOperator, place: Place) -> Iterator[Loopback]:
    """The operator's price source behind a server whose ``respond`` a test may change; both sources are there."""
    prices = CoinGecko(operator.world.prices, lambda: operator.world.now_s)

    def respond(request: Request) -> Answer:
        told = prices(request.path, request.query, request.headers)
        return Answer(told.status, told.body, told.content_type or "")

    with Loopback(respond) as server:
        place.config.write_text(place.config.read_text().replace(operator.url("prices"), server.url))
        yield server


def integrity(path: Path) -> str:
    """What SQLite's own check says of a database."""
    with closing(connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchone()[0]


def stored_usd(operator: SimulatedOperator, machine: str, from_s: int, to_s: int) -> Decimal:
    """What a storage node of the simulated world earned for its operator in (from, to], exactly."""
    satellites = operator.world.storage[machine].satellites
    with localcontext(DECIMALS):
        return sum((_satellite_usd(one, from_s, to_s) for one in satellites), Decimal(0))


def _satellite_usd(satellite: Satellite, from_s: int, to_s: int) -> Decimal:
    total, month_s = Decimal(0), month_start(from_s)
    while month_s < to_s:
        end_s = min(to_s, month_start(month_s, 1))
        before = _gross_usd(satellite, month_s, from_s) if from_s > month_s else Decimal(0)
        share = 1 - Decimal(satellite.estimate(month_s, end_s).held_rate) / 100
        total += (_gross_usd(satellite, month_s, end_s) - before) * share
        month_s = month_start(month_s, 1)
    return total


def _gross_usd(satellite: Satellite, month_s: int, to_s: int) -> Decimal:
    """Bytes at cents per TB and byte-months at cents per TB-month, as the month stands at an instant."""
    month = satellite.estimate(month_s, to_s)
    cent_bytes = (month.egress + month.repair_audit) * CENTS_PER_TB
    return (cent_bytes + Decimal(repr(month.byte_months)) * CENTS_PER_TB_MONTH).scaleb(-14)


def noted_glm(operator: SimulatedOperator, machine: str) -> Decimal:
    """What the documents of a simulated Golem provider say by now, cancelled work left out, running work included."""
    now_us = operator.world.now_s * MICROS
    with localcontext(DECIMALS):
        total = Decimal(0)
        for agreement in operator.world.providers[machine].agreements:
            issued = [Decimal(note.amount) for note in agreement.notes if note.issued_us <= now_us]
            if issued and not (agreement.cancelled_us is not None and agreement.cancelled_us <= now_us):
                total += max(issued)
        return total


def golem_usd(operator: SimulatedOperator, hours: Mapping[int, Decimal], now_s: int) -> Decimal:
    """Hourly GLM, each hour at the price at its end, the running one at the price now."""
    walk = operator.world.prices["golem"]
    total = Decimal(0)
    with localcontext(DECIMALS):
        for hour_s, amount in hours.items():
            quote = walk.at(min(hour_s + HOUR_S, now_s))
            assert quote is not None
            total += amount * Decimal(repr(quote[1]))
    return total
