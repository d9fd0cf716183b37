"""Nodes that share an account: its income is booked once, whichever of them is first in the file, none is lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ledger_parts import at
from operator_parts import Place

NOW_S = at("2026-11-22T18:00:00")
QUARTER_S = 900


class Shared:
    """A counter that several nodes read, and a configuration that changes."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.printed = folder / "printed.json"
        self.amount = Decimal(1000)
        self.now_s = NOW_S
        self.reported = Decimal(0)

    def earn(self, amount: int) -> None:
        self.amount += amount

    def configure(self, nodes: Sequence[str], account: str | None = "home") -> None:
        line = "" if account is None else f'account = "{account}"\n'
        command = json.dumps(["cat", str(self.printed)])
        self.place.configure(
            "".join(
                f'[nodes.{name}]\nprotocol = "exec"\ncommand = {command}\ncurrencies = ["USD"]\n{line}\n'
                for name in nodes
            )
        )

    def collect(self, *words: str) -> list[dict[str, Any]]:
        counter = {"kind": "counter", "currency": "USD", "amount": str(self.amount), "external_id": "relay"}
        health = {"status": "up", "reason": "fine"}
        held = {"standing": "held", "currency": "USD", "amount": str(self.amount / 10)}
        self.printed.write_text(json.dumps({"earnings": [counter], "standings": [held], "health": health}))
        nodes = self.place.json("collect", *words, now=self.now_s).data["nodes"]
        told = [node["earned_since_previous"]["amount"] for node in nodes if node["earned_since_previous"]]
        self.reported += sum(map(Decimal, told))
        self.now_s += QUARTER_S
        return nodes

    def status(self, *words: str) -> dict[str, Any]:
        data = self.place.json("status", *words, now=self.now_s).data
        return {"total": data["totals"]["usd_30d"]} | {node["node"]: node for node in data["nodes"]}

    def booked(self) -> Decimal:
        rows = self.place.json("history", now=self.now_s).data["rows"]
        return sum((Decimal(row["amount"]) for row in rows), Decimal(0))


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_whichever_is_first_all_growth_is_booked_once(shared: Shared, seed: int) -> None:
    chance = Random(seed)
    for step in range(14):
        if not step or chance.random() < 0.6:
            nodes = chance.sample(["a", "b", "c"], chance.randint(1, 3))
            shared.configure(nodes)
        shared.earn(chance.randrange(1, 50))
        if not step:
            first = shared.amount
        shared.collect(*(("--node", nodes[0]) if chance.random() < 0.2 else ()))
        assert shared.booked() == shared.reported == shared.amount - first, f"step {step}: {nodes}"


def test_income_goes_on_when_a_second_node_joins_and_when_it_leaves(shared: Shared) -> None:
    """A node alone has no account; with a second one both get it, and a node that is alone again needs none."""
    for nodes, account in (
        ("a", None), ("ba", "home"), ("ba", "house"), ("a", None), ("a", "home"), ("b", "home"), ("ab", "home"),
        ("ba", "home"), ("b", None),
    ):  # fmt: skip
        shared.configure(nodes, account)
        shared.earn(8)
        shared.collect()
        shared.earn(3)
        shared.collect()
    assert shared.booked() == shared.reported == 9 * 11 - 8


def test_node_that_leaves_for_an_account_of_its_own_takes_nothing_along(shared: Shared) -> None:
    shared.configure("ba")
    shared.collect()
    shared.earn(10)
    shared.collect()
    command = json.dumps(["cat", str(shared.place.folder / "other.json")])
    other = json.loads(shared.printed.read_text())
    other["earnings"][0]["amount"] = "500000"
    (shared.place.folder / "other.json").write_text(json.dumps(other))
    shared.configure("a")
    own = f'[nodes.b]\nprotocol = "exec"\ncommand = {command}\ncurrencies = ["USD"]\n'
    shared.place.config.write_text(own + shared.place.config.read_text())
    shared.earn(5)
    first, second = shared.collect()
    assert (first["node"], first["earned_since_previous"]) == ("b", None)
    assert (second["node"], second["earnings"][0]["amount"]) == ("a", "1015")
    assert shared.booked() == 15


def test_status_shows_all_income_of_an_account_once_and_never_loses_it(shared: Shared) -> None:
    """Whichever node it was booked on: the first in the file, one behind it, or one that was taken out."""
    for nodes in ("ab", "ba", "cba", "c"):
        shared.configure(nodes)
        told = shared.status()
        if shared.reported:
            assert (told["total"], told[nodes[0]]["usd_30d"]) == (float(shared.reported), float(shared.reported))
        shared.earn(8)
        shared.collect()
        told = shared.status()
        assert told[nodes[0]]["held_usd"] == float(shared.amount / 10)
        for other in set(told) - {"total", nodes[0]}:
            assert (told[other]["usd_30d"], told[other]["held_usd"], told[other]["earned"]) == (None, None, [])
            assert told[other]["configured"] is (other in nodes)
            assert told[other]["notes"][0] == f"its income is booked on {nodes[0]}"
        assert told["total"] == (float(shared.reported) if shared.reported else None)
        assert shared.status("--node", nodes[0])["total"] == told["total"]
    assert shared.reported == 24
    data = shared.place.json("status", now=shared.now_s).data
    assert data["totals"]["held_usd"] == float(shared.amount / 10)
    shared.configure("")
    assert shared.status()["total"] == 24
