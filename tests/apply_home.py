"""A small home to apply plans to: two shaped nodes and a capped container; and plans as the database has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from apply_parts import HOST_MEMORY, FakeEngine
from ledger_parts import at, opened
from tequilapi import Tequilapi

from depin_orcha import applying, taking_back
from depin_orcha.actuators import mysterium
from depin_orcha.applying import apply
from depin_orcha.config import load
from depin_orcha.cycle import Job, Result
from depin_orcha.store import Store

NOW_S = at("2026-11-22T20:15:00")
CAPACITY = {"cpu_cores": 4.0, "memory_bytes": float(HOST_MEMORY), "uplink_bps": 4e7}
MIB = 2**20

Grants = Mapping[str, Mapping[str, float]]


def kbytes(bps: float) -> int:
    """What a shaped node makes of its uplink."""
    return int(bps / 8192)


def plan_of(grants: Grants, *, capacity: Mapping[str, float] = CAPACITY) -> tuple[dict[str, Any], dict[str, Any]]:
    """The result of a plan that changes the grants of nodes of this machine, and its problem."""
    nodes = [
        {"node": node, "units": 1.0, "choice": None, "previous_units": None, "previous_choice": None,
         "resources": dict(grant), "changed": True, "reason": "worth it", "evidence": "measured"}
        for node, grant in grants.items()
    ]  # fmt: skip
    host = {"host": "local", "status": "optimal", "decision": "apply", "reason": "", "nodes": nodes}
    result = {"status": "optimal", "decision": "apply", "reason": "worth it", "inputs_sha256": "0" * 64}
    problem = {"schema": "depin-orcha/problem/1", "hosts": [{"host": "local", "capacity": dict(capacity), "nodes": []}]}
    return result | {"hosts": [host | {"shadow_prices": []}]}, problem


class Home:
    """Nodes of one machine, its engine, and the database of their owner."""

    def __init__(self, folder: Path, store: Store, engine: FakeEngine, nodes: Mapping[str, Tequilapi]) -> None:
        self.database = folder / "orcha.db"
        self.store = store
        self.engine = engine
        self.nodes = nodes
        self.text = {
            "storj_1": 'protocol = "storj"\nurl = "http://127.0.0.1:9"\nhard_caps = true\n'
            'runtime = "docker"\ncontainer = "golem"\napply = true\n',
            **{name: f'protocol = "mysterium"\nurl = "{one.url}"\napply = true\n' for name, one in nodes.items()},
        }
        self.settings = f'[apply]\ndocker_socket = "{engine.server.socket}"\nverify_timeout_s = 0.2\n[hosts.rack]\n'
        self.now_s = NOW_S
        self.fixed_now = True

    def job(self) -> Job:
        text = self.settings + "".join(f"[nodes.{name}]\n{one}" for name, one in self.text.items())
        return Job(load(None, text), self.database, self.now_s, fixed_now=self.fixed_now)

    def plan(self, grants: Grants) -> str:
        """Store a plan that was made a minute ago, for the nodes as they are configured now."""
        places = {name: options.place for name, options in self.job().config.nodes.items()}
        return self.store.add_plan(self.now_s - 60, self.now_s + 600, *plan_of(grants), places)

    def apply(self, *, execute: bool = True) -> Result:
        return apply(self.job(), self.store, execute=execute)

    def rows(self) -> list[tuple[Any, ...]]:
        """Node, kind, state and detail of what the journal has, oldest first."""
        return self.store.connection.execute("SELECT node, kind, state, detail FROM actions ORDER BY id").fetchall()

    @property
    def writes(self) -> list[str]:
        """The nodes that were asked to change something."""
        engine = ["storj_1"] if self.engine.server.writes else []
        return engine + [name for name, node in self.nodes.items() if node.writes]


@contextmanager
def at_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """Serves the nodes ``myst_1``, ``myst_2`` and ``storj_1``, which runs in a container of the stand-in engine."""
    with ExitStack() as stack:
        engine = stack.enter_context(FakeEngine(folder))
        nodes = {name: stack.enter_context(Tequilapi(userspace=True)) for name in ("myst_1", "myst_2")}
        store = stack.enter_context(opened(folder / "orcha.db", node="myst_1", now_s=NOW_S))
        monkeypatch.setattr(mysterium, "PAUSE_S", 0.0)
        # the kernel's files are those of the engine's machine
        for module in (applying, taking_back):
            monkeypatch.setattr(module, "Outside", lambda *_: engine.machine)
        yield Home(folder, store, engine, nodes)


def states(result: Result) -> list[tuple[str, str]]:
    """Node and state of each action."""
    data: Any = result.data
    return [(action["node"], action["state"]) for action in data["actions"]]
