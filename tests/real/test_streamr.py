"""``collect`` against a real Streamr node, the operator's published ABI and a GraphQL engine over the schema."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import graph_gateway
import httpx
import pytest
from loopback import Answer, Loopback, Request
from real.namespace import LoopbackNamespace
from real.prices import PriceServer
from real.streamr import URL, VERSION, StreamrNode, network_packages

pytestmark = pytest.mark.real

SAMPLES = Path(__file__).parents[1] / "samples" / "streamr" / VERSION
OPERATOR = "0xabcdef0123456789abcdef0123456789abcdef01"
SPONSORSHIPS = [f"0x51000000000000000000000000000000000000{number:02}" for number in (1, 2, 3)]
DATA = 10**18
FIRST, SECOND = 79_123_456, 79_123_906
BLOCKS = {
    FIRST: {"sponsorships": SPONSORSHIPS, "earnings": [str(100 * DATA), "7", "0"], "limit": str(3150 * DATA)},
    # 100 DATA were collected in between, 10 more were earned.
    SECOND: {"sponsorships": SPONSORSHIPS[::-1], "earnings": ["0", "7", str(10 * DATA)], "limit": str(3150 * DATA)},
}
KEYS = {"subgraph": "00112233445566778899aabbccddeeff", "node": "canary-of-the-info-plugin"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("DEPIN_ORCHA_REAL_CACHE")
    return network_packages(Path(named) if named else tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def space() -> Iterator[LoopbackNamespace]:
    with LoopbackNamespace() as made:
        yield made


@pytest.fixture
def node(packages: Path, tmp_path: Path, space: LoopbackNamespace) -> Iterator[StreamrNode]:
    log = tmp_path / "node.log"
    with StreamrNode(packages, log, space, operator=OPERATOR, key=KEYS["node"], blocks=BLOCKS) as running:
        yield running


class Subgraph:
    """The sample's entities at a block that is a second old."""

    def __init__(self) -> None:
        self.entities: dict[str, Any] = json.loads((SAMPLES / "operator.json").read_text())
        self.operator = self.entities["operator"]
        self.move_to(FIRST)

    def move_to(self, block: int) -> None:
        now_s = int(time.time())
        self.entities["_meta"]["block"] = {"number": block, "timestamp": now_s - 1}
        self.operator["latestHeartbeatTimestamp"] = str(now_s - 3600)

    def __call__(self, request: Request) -> Answer:
        body = graph_gateway.answer(
            SAMPLES / "schema.graphql", self.entities, request.headers, request.body, KEYS["subgraph"]
        )
        return Answer(200, body, "application/json")


@pytest.fixture
def subgraph(space: LoopbackNamespace) -> Iterator[tuple[str, Subgraph]]:
    served = Subgraph()
    with space.call(Loopback, served) as server:
        yield server.url, served


@pytest.fixture
def prices(space: LoopbackNamespace) -> Iterator[PriceServer]:
    with space.call(PriceServer) as server:
        yield server


@pytest.fixture
def place(tmp_path: Path, subgraph: tuple[str, Subgraph], prices: PriceServer) -> Path:
    for name, key in KEYS.items():
        (tmp_path / name).write_text(key)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "config.toml").write_text(
        f'[prices]\nurl = "{prices.url}"\nfallback_url = "{prices.url}/fallback"\n'
        f'[nodes.streamr_1]\nprotocol = "streamr"\noperator = "0x{OPERATOR[2:].upper()}"\n'
        f'subgraph_url = "{subgraph[0]}"\nsubgraph_key_file = "subgraph"\nrpc_url = "{URL}/rpc"\n'
        f'node_url = "{URL}"\nnode_key_file = "node"\n'
    )
    return tmp_path


def collect(space: LoopbackNamespace, place: Path) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    argv = [sys.executable, "-m", "depin_orcha", "collect", "--json", "--debug", "-v"]
    places = ["--config", str(place / "config.toml"), "--db", str(place / "orcha.db")]
    own = {name: value for name, value in os.environ.items() if not name.startswith("DEPIN_ORCHA_")}
    done = space.run([*argv, *places], own | {"HOME": str(place)})
    assert done.returncode == 0, done.stderr
    (node,) = json.loads(done.stdout)["data"]["nodes"]
    return node, done


@pytest.mark.usefixtures("node")
def test_node_answers_as_the_sample_says(space: LoopbackNamespace) -> None:
    def info(key: str | None) -> httpx.Response:
        headers = {"Authorization": f"bearer {key}"} if key else {}
        return space.call(httpx.get, f"{URL}/info", headers=headers, trust_env=False)

    assert [info(key).status_code for key in (None, "wrong", KEYS["node"])] == [401, 403, 200]
    recorded = json.loads((SAMPLES / "info.json").read_text())
    assert shape(info(KEYS["node"]).json()) == shape(recorded)


def shape(value: Any) -> Any:
    """The types in a JSON value; of a list, those of its first member."""
    if isinstance(value, dict):
        return {key: shape(member) for key, member in value.items()}
    if isinstance(value, list):
        return [shape(member) for member in value[:1]]
    return type(value)


def test_operator_is_read_with_all_that_is_real(node: StreamrNode, space: LoopbackNamespace, place: Path) -> None:
    read, done = collect(space, place)
    (sample,) = read["earnings"]
    # 3000 were collected, 100 DATA and 7 wei were not, of which the protocol takes 5 %.
    assert sample["amount"] == "3095.000000000000000007"
    assert (sample["external_id"], sample["share"]) == (OPERATOR, "0.55")
    assert read["earned_since_previous"] is None
    assert read["health"]["status"] == "up"
    details = read["health"]["details"]
    assert (details["method"], details["uncollected_limit_data"]) == ("contract", "3150")
    expected = {"id": node.node_id, "connections": 1, "neighbors": 1, "stream_parts": 1}
    assert details["node"] == expected
    assert not [key for key in KEYS.values() if key in done.stdout + done.stderr]


@pytest.mark.usefixtures("node")
def test_a_collection_earns_nothing_by_itself(
    space: LoopbackNamespace, place: Path, subgraph: tuple[str, Subgraph]
) -> None:
    collect(space, place)
    operator = subgraph[1].operator
    operator["cumulativeEarningsWei"] = str(int(operator["cumulativeEarningsWei"]) + 95 * DATA)
    time.sleep(1.1)
    subgraph[1].move_to(SECOND)
    read, _ = collect(space, place)
    earned = read["earned_since_previous"]
    assert Decimal(earned["amount"]) == Decimal(10) * Decimal("0.95") * Decimal("0.55")
    assert earned["usd"] == pytest.approx(float(earned["amount"]) * 0.25)
    assert read["health"]["details"]["method"] == "contract"


def test_another_start_is_another_node(
    node: StreamrNode, packages: Path, tmp_path: Path, space: LoopbackNamespace
) -> None:
    assert node.stop() == 0
    again = partial(StreamrNode, operator=OPERATOR, key=KEYS["node"], blocks=BLOCKS)
    with again(packages, tmp_path / "again.log", space) as other:
        assert other.node_id != node.node_id
        # The first bytes come from the address, the last from chance.
        assert other.node_id[:26] == node.node_id[:26]


def test_operator_is_read_without_its_node(node: StreamrNode, space: LoopbackNamespace, place: Path) -> None:
    node.stop()
    read, done = collect(space, place)
    assert read["health"]["details"]["method"] == "estimated"
    assert read["health"]["details"]["node"] is None
    # The sample's stakes at their rates, extrapolated by the engine's block: at least what they were last updated to.
    assert Decimal(read["earnings"][0]["amount"]) > 3000
    assert "the network node was not read" in done.stderr
    assert "estimated" in done.stderr
