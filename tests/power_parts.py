"""An owner with nodes that a command reads, a price source on loopback, and a real database."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger_parts import at
from loopback import Answer, Loopback, Request

from depin_orcha import database, status
from depin_orcha.asof import AsOf
from depin_orcha.collect import collect
from depin_orcha.config import load
from depin_orcha.cycle import Job, Result, single
from depin_orcha.ledger import history
from depin_orcha.roster import NodeConfig
from depin_orcha.types import HOUR_S


def answer(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode(), "application/json")


@dataclass
class Owner:
    """What the owner configured, and what the world answers; tests change both between readings."""

    folder: Path
    prices_url: str
    config: str
    usd: float = 100_000.0
    eur: float | None = 80_000.0
    prices_work: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)
    now_s: int = 0
    last: Result | None = None

    def node(self, name: str, usd: str, used: float | None = None, state: str = "up") -> None:
        """What a node says from now on: a counter of USD, the cores it uses, how it is."""
        usage = {} if used is None else {"usage": {"cpu_cores": {"allocated": 4, "used": used}}}
        document = {
            "schema": "depin-orcha/exec/1",
            "earnings": [{"currency": "USD", "kind": "counter", "amount": usd}],
            "health": {"status": state, "reason": "as told"},
        } | usage
        (self.folder / f"{name}.json").write_text(json.dumps(document))

    def sections(self, *names: str, **options: str) -> str:
        """``[nodes.<name>]`` of nodes that a script reads."""
        script = self.folder / "read.sh"
        script.write_text(f'#!/bin/sh\nexec cat "{self.folder}/$ORCHA_NODE.json"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        own = "".join(f"{key} = {value}\n" for key, value in options.items())
        head = f'protocol = "exec"\ncommand = ["{script}"]\ncurrencies = ["USD"]\n'
        return "".join(f"[nodes.{name}]\n{head}{own}" for name in names)

    def job(self, when: int | str) -> Job:
        prices = f'[prices]\nurl = "{self.prices_url}"\nfallback_url = "{self.prices_url}/llama"\n'
        prices += f'rates_url = "{self.prices_url}/ecb"\n'
        text = self.config + prices
        path = self.folder / "config.toml"
        path.write_text(text)
        self.now_s = at(when) if isinstance(when, str) else when
        return Job(load(path, text), self.folder / "orcha.db", self.now_s, fixed_now=True)

    def collect(self, when: int | str) -> Result:
        self.last = single(self.job(when), "collect", collect)
        return self.last

    def hourly(self, first: str, hours: int, node: str, used: float | None = None) -> None:
        """A reading each full hour, in which the node earned a cent more each time."""
        for hour in range(hours):
            self.node(node, f"{hour / 100:.2f}", used)
            self.collect(at(first) + hour * HOUR_S)

    def status(self, when: int | str | None = None, *only: str) -> dict[str, Any]:
        job = self.job(self.now_s if when is None else when)
        nodes = [NodeConfig(name, one.protocol, one.host, name) for name, one in job.config.nodes.items()]
        with database.open_for_reading(job.database) as connection:
            assert connection is not None
            return status.view(AsOf(connection, job.now_s), nodes, 7200, only=frozenset(only))

    def history(self) -> list[dict[str, Any]]:
        with database.open_for_reading(self.folder / "orcha.db") as connection:
            assert connection is not None
            return history(AsOf(connection, self.now_s), "hour", "node", frozenset())

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with database.open_for_reading(self.folder / "orcha.db") as connection:
            assert connection is not None
            return connection.execute(sql).fetchall()

    def quote(self, request: Request) -> Answer:
        """CoinGecko's latest prices, dated now."""
        self.asked.append(request.query)
        if not self.prices_work or not request.path.endswith("/simple/price"):
            return Answer(500)
        money = {"usd": self.usd, "eur": self.eur, "last_updated_at": self.now_s}
        wanted = [*request.query["vs_currencies"].split(","), "last_updated_at"]
        return answer({token: {key: money[key] for key in wanted} for token in request.query["ids"].split(",")})


@contextmanager
def owning(folder: Path, config: str) -> Iterator[Owner]:
    """An owner whose price source answers as long as the context lives."""
    owner = Owner(folder, "", config)
    with Loopback(owner.quote) as server:
        owner.prices_url = server.url
        yield owner
