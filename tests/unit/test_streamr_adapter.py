"""Streamr: one counter that a collection does not move, the owner's part of it, and what may not cost it."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import graph_gateway
import operator_contract
import pytest
from graphql import parse, validate
from loopback import Answer, Loopback, Request, Respond, broken, edited, sample
from pydantic import ValidationError

from depin_orcha import config
from depin_orcha.accrual import accrue
from depin_orcha.adapters._subgraph import QUERY, read_operator
from depin_orcha.adapters.streamr import Adapter, Options
from depin_orcha.collect import make_adapter
from depin_orcha.errors import AdapterError, ConfigError, FailureKind
from depin_orcha.net import HttpClient
from depin_orcha.types import EarningsSample, HealthStatus, Resource, Snapshot, Usage

SAMPLES = Path(__file__).parents[1] / "samples" / "streamr" / "103.3.1"
WORKING = SAMPLES / "working"
OPERATOR = "0xabcdef0123456789abcdef0123456789abcdef01"
KEY = "00112233445566778899aabbccddeeff"
BLOCK = 79_123_456
BLOCK_S = 1_795_377_600  # 2026-11-22T20:00:00Z
NOW_S = BLOCK_S + 60
DATA = 10**18
WALLET = "0x" + "2" * 40
GAS_WEI = 7_250_000_000_000_000_000
Entities = dict[str, Any]


def read(respond: Respond, since_s: int | None = None, now_s: int = NOW_S, **options: str | None) -> Snapshot:
    with Loopback(respond) as server, HttpClient(10) as http:
        return adapter(server.url, **options).collect(http, now_s, since_s)


def adapter(url: str, **options: Any) -> Adapter:
    given = {
        "operator": OPERATOR,
        "subgraph_url": f"{url}/subgraph",
        "subgraph_key": KEY,
        "rpc_url": f"{url}/rpc",
        "node_url": url,
        "node_key": "info-key",
    }
    return Adapter("streamr_1", Options.model_validate({"protocol": "streamr", **given, **options}))


def entities(change: Callable[[Entities], None] = lambda _: None) -> Entities:
    found = json.loads((SAMPLES / "operator.json").read_text())
    change(found)
    return found


def operator(found: Entities, /, uncollected_wei: int | None = None) -> Respond:
    """A server whose subgraph holds these entities and whose contract says this is uncollected, or cannot be asked."""

    def respond(request: Request) -> Answer:
        if request.path == "/subgraph":
            body = graph_gateway.answer(SAMPLES / "schema.graphql", found, request.headers, request.body, KEY)
        elif request.path == "/rpc" and uncollected_wei is not None:
            state = {"earnings_wei": {"0x51": str(uncollected_wei)}, "limit_wei": str(3150 * DATA)}
            number = str(found["_meta"]["block"]["number"])
            chain = {"operator": OPERATOR, "gas_wei": {WALLET: str(GAS_WEI)}, "blocks": {number: state}}
            body = operator_contract.answer(chain, request.body)
        elif request.path == "/info":
            body = (SAMPLES / "info.json").read_bytes()
        else:
            return Answer(503, b"{}", "application/json")
        return Answer(200, body, "application/json")

    return respond


def only(snapshot: Snapshot) -> EarningsSample:
    (one,) = snapshot.earnings
    return one


# The interfaces


def test_query_asks_only_for_what_the_subgraph_has() -> None:
    schema = graph_gateway.subgraph_schema(SAMPLES / "schema.graphql")
    assert validate(schema, parse(QUERY)) == []


def test_a_wrong_field_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("depin_orcha.adapters._subgraph.QUERY", QUERY.replace("lockedWei", "lockedWie"))
    with pytest.raises(AdapterError) as failure:
        read(sample(WORKING))
    assert failure.value.kind is FailureKind.SHAPE
    assert "lockedWie" in failure.value.message


def test_server_encodes_as_the_abi_of_the_contract() -> None:
    state = json.loads((SAMPLES / "chain.json").read_text())["blocks"][str(BLOCK)]
    by_ethers = json.loads((SAMPLES / "rpc_ethers.json").read_text())["result"]
    assert operator_contract.encoded(state["earnings_wei"], state["limit_wei"]) == by_ethers


def test_what_is_asked() -> None:
    with Loopback(sample(WORKING)) as server, HttpClient(10) as http:
        adapter(server.url, operator="0x" + OPERATOR[2:].upper()).collect(http, NOW_S, NOW_S - 900)
    subgraph, rpc, gas, info = server.requests
    asked = json.loads(subgraph.body)
    assert asked["variables"] == {"operator": OPERATOR, "since": str(NOW_S - 7 * 86400)}
    assert subgraph.headers["authorization"] == f"Bearer {KEY}"
    call = {"to": OPERATOR, "data": "0x2ebd89d1"}
    assert json.loads(rpc.body) == {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [call, "0x4b75400"]}
    balance = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": [WALLET, "latest"]}
    assert json.loads(gas.body) == balance
    assert (info.method, info.target, info.headers["authorization"]) == ("GET", "/info", "Bearer info-key")


def test_slashings_are_asked_for_since_the_oldest_block_of_the_last_reading() -> None:
    with Loopback(sample(WORKING)) as server, HttpClient(10) as http:
        adapter(server.url).collect(http, NOW_S, NOW_S - 30 * 86400)
    assert json.loads(server.requests[0].body)["variables"]["since"] == str(NOW_S - 30 * 86400 - 3600)


# What is earned


def test_uncollected_by_the_subgraph_is_what_the_contract_says() -> None:
    """Per stake and to the last digit, as a contract with these numbers computes it; the third ran dry 12 h before."""
    with Loopback(sample(WORKING)) as server, HttpClient(10) as http:
        key = adapter(server.url).options.subgraph_key
        state = read_operator(http, f"{server.url}/subgraph", key, OPERATOR, 0)
    exact = json.loads((SAMPLES / "chain.json").read_text())["blocks"][str(BLOCK)]["earnings_wei"]
    estimated = {stake.sponsorship: str(stake.uncollected_wei(BLOCK_S)) for stake in state.stakes}
    assert estimated == exact


@pytest.mark.parametrize(
    ("change", "earned_wei"),
    [
        ({"isRunning": False}, 12_500_000_000_000_000_000),
        ({"totalStakedWei": "0"}, 12_500_000_000_000_000_000),
        ({"projectedInsolvency": None}, 13_749_999_999_999_999_560),
        ({"projectedInsolvency": str(BLOCK_S - 3601)}, 12_500_000_000_000_000_000),
        ({"projectedInsolvency": str(BLOCK_S - 1800)}, 13_124_999_999_999_999_780),
    ],
)
def test_a_sponsorship_that_stops_earns_no_more(change: dict[str, Any], earned_wei: int) -> None:
    def only_second(found: Entities) -> None:
        found["operator"]["stakes"] = found["operator"]["stakes"][1:2]
        found["operator"]["stakes"][0]["sponsorship"] |= change

    shown = read(operator(entities(only_second))).health.details["uncollected_data"]
    assert Decimal(shown) == Decimal(earned_wei) / DATA


def test_a_collection_moves_no_money() -> None:
    """119 DATA are collected: the protocol takes its 5 %, and the counter stands where it stood."""
    before = only(read(operator(entities(), uncollected_wei=119 * DATA)))

    def collected(found: Entities) -> None:
        found["operator"]["cumulativeEarningsWei"] = str(3000 * DATA + 119 * DATA * 95 // 100)

    after = only(read(operator(entities(collected), uncollected_wei=0), NOW_S, NOW_S + 900))
    assert before.amount == after.amount == Decimal("3113.05")


@pytest.mark.parametrize(
    ("cut", "supply", "own", "share"),
    [
        (DATA // 10, 60_000 * DATA, 30_000 * DATA, "0.55"),
        (0, 60_000 * DATA, 0, "0"),
        (DATA, 60_000 * DATA, 0, "1"),
        (0, 3 * DATA, DATA, "0.333333333333333333"),
        (DATA // 4, 3 * DATA, DATA, "0.5"),
        (DATA // 10, 0, 0, "1"),
    ],
)
def test_owner_share_is_the_cut_and_a_delegators_part_of_the_rest(cut: int, supply: int, own: int, share: str) -> None:
    def change(found: Entities) -> None:
        found["operator"] |= {"operatorsCutFraction": str(cut), "operatorTokenTotalSupplyWei": str(supply)}
        found["operator"]["delegations"][0]["operatorTokenBalanceWei"] = str(own)
        # Those of others are not the owner's.
        found["operator"]["delegations"].append({"operatorTokenBalanceWei": str(7 * DATA), "isSelfDelegation": False})

    assert only(read(operator(entities(change)))).share == Decimal(share)


def _slashed(at_s: int) -> Callable[[Entities], None]:
    event = {"date": str(at_s), "amount": str(50 * DATA)}
    return lambda found: found["operator"].update(slashingEvents=[event])


def test_a_reading_is_of_its_block_and_tells_of_the_last_slashing() -> None:
    sample_of = only(read(operator(entities(_slashed(BLOCK_S - 2000))), NOW_S - 900))
    assert (sample_of.observed_s, sample_of.keeps_peak, sample_of.lost_s) == (BLOCK_S, True, BLOCK_S - 2000)
    assert only(read(operator(entities()), NOW_S - 900)).lost_s is None


@pytest.mark.parametrize(
    ("slashed", "total_data"),
    [
        # 100, 90 (an indexer behind the others), 110: only what lies beyond 100 is new.
        (False, Decimal(10) * Decimal("0.95")),
        # 100, 90 (the uncollected 10 were forfeited), 110: 20 were earned afterwards.
        (True, Decimal(20) * Decimal("0.95")),
    ],
)
def test_a_fall_counts_nothing_and_a_loss_starts_anew(slashed: bool, total_data: Decimal) -> None:
    samples = []
    for index, uncollected in enumerate((100, 90, 110)):
        at_s = NOW_S + 900 * index
        found = entities(_slashed(NOW_S + 600) if slashed and index else lambda _: None)
        found["_meta"]["block"]["timestamp"] = at_s - 5
        samples.append(only(read(operator(found, uncollected_wei=uncollected * DATA), at_s - 900, at_s)))
    hours = accrue(samples)
    assert sum(amount for amount, _ in hours.values()) == total_data * Decimal("0.55")
    assert all(amount >= 0 for amount, _ in hours.values())


# What may go wrong


WORDS = {name: f"{value:064x}" for name, value in {"0": 0, "1": 1, "96": 96, "160": 160, "huge": 2**255}.items()}


@pytest.mark.parametrize(
    "result",
    [
        "0x00",
        "0x" + WORDS["96"],
        "0x" + WORDS["96"] * 3,
        "0x" + WORDS["huge"] + WORDS["huge"] + WORDS["0"],
        "0x" + WORDS["96"] + WORDS["96"] + WORDS["0"] + WORDS["huge"],
        # One sponsorship, no earnings.
        "0x" + WORDS["96"] + WORDS["160"] + WORDS["0"] + WORDS["1"] + WORDS["1"] + WORDS["0"],
        "0xno",
        None,
        7,
    ],
)
def test_a_strange_contract_is_not_believed(result: Any) -> None:
    respond = edited(sample(WORKING), "/rpc", lambda answer: answer.update(result=result))
    snapshot = read(respond)
    assert snapshot.health.details["method"] == "estimated"
    assert only(snapshot).amount == Decimal("3112.812499999999997302")
    assert any("estimated" in warning for warning in snapshot.warnings)


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("auth error: API key not found", FailureKind.AUTH),
        ("subgraph not found: no allocations", FailureKind.CONFIG),
        ("bad query: missing query", FailureKind.SHAPE),
        ("no indexers found for subgraph deployment", FailureKind.TRANSIENT),
        ("bad indexers: {0xabc: BadResponse(timeout)}", FailureKind.TRANSIENT),
        ("internal error: failed to resolve block", FailureKind.TRANSIENT),
        ("indexing_error", FailureKind.TRANSIENT),
        ("Query timed out", FailureKind.TRANSIENT),
        ("Type `Query` has no field `operator`", FailureKind.SHAPE),
    ],
)
def test_refusals_are_told_apart_by_their_text(message: str, kind: FailureKind) -> None:
    refusal = Answer(200, json.dumps({"errors": [{"message": message}]}).encode(), "application/json")
    with pytest.raises(AdapterError) as failure:
        read(broken(sample(WORKING), refusal, only="/subgraph"))
    assert failure.value.kind is kind
    assert message in failure.value.message


def test_refusals_that_quote_a_key_do_not_spread_it() -> None:
    def quoting(request: Request) -> Answer:
        if request.path.startswith("/subgraph"):
            return Answer(200, operator_subgraph(request), "application/json")
        text = f"no project {request.path} {request.query} \n" + "x" * 500
        return Answer(200, json.dumps({"error": {"code": -32000, "message": text}}).encode(), "application/json")

    def operator_subgraph(request: Request) -> bytes:
        return graph_gateway.answer(SAMPLES / "schema.graphql", entities(), request.headers, request.body, KEY)

    with Loopback(quoting) as server, HttpClient(10) as http:
        url = f"{server.url}/v2/canary-of-the-rpc?apikey=canary-of-the-query"
        snapshot = adapter(server.url, rpc_url=url, node_url=None).collect(http, NOW_S, None)
    (warning,) = snapshot.warnings
    assert "no project" in warning
    assert "canary" not in warning
    assert len(warning) < 400

    refusal = Answer(200, json.dumps({"errors": [{"message": f"auth error: {KEY} expired"}]}).encode())
    with pytest.raises(AdapterError) as failure:
        read(broken(sample(WORKING), refusal))
    assert failure.value.message == "the subgraph answered: auth error: ... expired"


@pytest.mark.parametrize("path", ["operator", "network", "_meta"])
def test_an_answer_without_its_main_parts_is_no_reading(path: str) -> None:
    respond = edited(sample(WORKING), "/subgraph", lambda answer: answer["data"].update({path: None}))
    with pytest.raises(AdapterError) as failure:
        read(respond)
    assert failure.value.kind is (FailureKind.CONFIG if path == "operator" else FailureKind.SHAPE)


def _required(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    members = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, member in members:
        found += _required(member, (*path, key))
    return found


@cache
def _answer_text() -> bytes:
    """What the subgraph says of the sample's operator, were it flagged and slashed."""
    variables = {"operator": OPERATOR, "since": "0"}
    flagged = entities(_slashed(BLOCK_S - 60))
    flagged["operator"]["flagsTargeted"] = [{"result": "voting", "targetStakeAtRiskWei": "1"}]
    flagged["operator"]["queueEntries"] = [{"date": "1"}]
    body = json.dumps({"query": QUERY, "variables": variables}).encode()
    headers = {"authorization": f"Bearer {KEY}"}
    return graph_gateway.answer(SAMPLES / "schema.graphql", flagged, headers, body, KEY)


NULLABLE = {"latestHeartbeatTimestamp", "projectedInsolvency", "stream", "operator"}
FLAGS = {"hasIndexingErrors", "isRunning"}


WRONG = ("missing", None, {"a": 1}, [True], True, "-1.5e", 10**80)


def _is_fine(key: Any, wrong: Any) -> bool:
    """May the value of this key be that?"""
    if wrong is None:
        return key in NULLABLE
    if wrong == "missing":
        return isinstance(key, int)
    return (wrong is True and key in FLAGS) or (wrong == "-1.5e" and key == "id")


@pytest.mark.parametrize(
    "path", _required(json.loads(_answer_text())["data"]), ids=lambda path: ".".join(map(str, path))
)
def test_everything_asked_for_is_needed_and_of_its_type(path: tuple[Any, ...]) -> None:
    *parents, last = path
    served: dict[str, Any] = {}
    with (
        Loopback(lambda _: Answer(200, json.dumps(served).encode(), "application/json")) as server,
        HttpClient(10) as http,
    ):
        for wrong in (one for one in WRONG if not _is_fine(last, one)):
            served |= json.loads(_answer_text())
            place: Any = served["data"]
            for key in parents:
                place = place[key]
            if wrong == "missing":
                del place[last]
            else:
                place[last] = wrong
            with pytest.raises(AdapterError) as failure:
                adapter(server.url).collect(http, NOW_S, None)
            assert failure.value.kind is FailureKind.SHAPE, wrong


def test_a_silent_node_costs_a_warning_only() -> None:
    whole = read(sample(WORKING))
    snapshot = read(broken(sample(WORKING), Answer(401), only="/info"))
    assert snapshot.earnings == whole.earnings
    assert snapshot.health.status is HealthStatus.UP
    assert snapshot.health.details["node"] is None
    (warning,) = snapshot.warnings
    assert "refused the credentials" in warning


def test_a_node_that_is_all_there_is_has_to_answer() -> None:
    alone: dict[str, Any] = {"operator": None, "subgraph_url": None, "subgraph_key": None, "rpc_url": None}
    snapshot = read(sample(WORKING), **alone)
    assert (snapshot.earnings, snapshot.standings) == ((), ())
    with pytest.raises(AdapterError) as failure:
        read(broken(sample(WORKING), Answer(401), only="/info"), **alone)
    assert failure.value.kind is FailureKind.AUTH


def test_staked_on_nothing_is_idle() -> None:
    snapshot = read(operator(entities(lambda found: found["operator"].update(stakes=[])), uncollected_wei=0))
    assert (snapshot.health.status, snapshot.health.reason) == (HealthStatus.UP, "idle: nothing is staked")
    assert snapshot.health.details["apy"] is None
    assert only(snapshot).amount == 3000


def changed(**parts: Any) -> Entities:
    return entities(lambda found: found["operator"].update(parts))


@pytest.mark.parametrize(
    ("nodes", "balances_wei", "gas", "is_low"),
    [
        ([WALLET], {WALLET: 10**18}, "1", False),
        ([WALLET], {WALLET: 10**18 - 1}, "0.999999999999999999", True),
        ([WALLET, "0x" + "3" * 40], {WALLET: 5 * 10**18}, "0", True),
        ([WALLET, WALLET], {WALLET: 5 * 10**18}, "5", False),
        ([], {}, None, False),
    ],
)
def test_gas_is_that_of_the_poorest_wallet(
    nodes: list[str], balances_wei: dict[str, int], gas: str | None, *, is_low: bool
) -> None:
    state = json.loads((SAMPLES / "chain.json").read_text()) | {"gas_wei": balances_wei}

    def respond(request: Request) -> Answer:
        if request.path == "/rpc":
            return Answer(200, operator_contract.answer(state, request.body), "application/json")
        return operator(changed(nodes=nodes))(request)

    health = read(respond).health
    assert health.details["gas_pol"] == gas
    assert ("without gas" in health.reason, health.status == HealthStatus.DEGRADED) == (is_low, is_low)


@pytest.mark.parametrize("result", ["0x", "12", "0xno", "0x" + "f" * 65, None, 7])
def test_a_strange_balance_is_unknown_and_costs_nothing_else(result: Any) -> None:
    whole = read(sample(WORKING))

    def respond(request: Request) -> Answer:
        if b"eth_getBalance" in request.body:
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
            return Answer(200, body, "application/json")
        return sample(WORKING)(request)

    snapshot = read(respond)
    assert (snapshot.earnings, snapshot.health.status) == (whole.earnings, HealthStatus.UP)
    assert snapshot.health.details["gas_pol"] is None
    assert "the gas of its nodes is unknown" in snapshot.warnings[0]


def test_more_wallets_than_a_fleet_has_are_not_asked_for() -> None:
    wallets = [f"0x{index:040x}" for index in range(40)]
    with Loopback(operator(changed(nodes=wallets), uncollected_wei=0)) as server, HttpClient(10) as http:
        adapter(server.url).collect(http, NOW_S, None)
        assert sum(b"eth_getBalance" in request.body for request in server.requests) == 5


@pytest.mark.parametrize(
    ("uncollected_data", "says"),
    [(629, ""), (630, "twice what nodes let come together"), (1889, "twice"), (1890, "anyone may collect")],
)
def test_what_is_not_collected_in_time_is_said_before_others_may_take_it(uncollected_data: int, says: str) -> None:
    """The limit is 3150 DATA: nodes collect at a tenth, and beyond the whole anyone may."""
    health = read(operator(entities(), uncollected_wei=uncollected_data * DATA)).health
    assert (health.status == HealthStatus.DEGRADED) is bool(says)
    assert says in health.reason


@pytest.mark.parametrize(("days", "says"), [(6.9, "of these 1 run dry within 7 days"), (7.1, None)])
def test_sponsorships_that_end_soon_are_said(days: float, says: str | None) -> None:
    found = entities()
    found["operator"]["stakes"][0]["sponsorship"]["projectedInsolvency"] = str(BLOCK_S + round(days * 86400))
    health = read(operator(found, uncollected_wei=0)).health
    assert health.status == HealthStatus.UP
    assert health.reason.split("; ") == ["sponsorships it is staked on: 3, of which 2 pay", *([says] if says else [])]


def test_delegators_who_wait_are_said() -> None:
    """Who undelegates everything has an amount of 2^256 - 1 in the queue: only the count tells something."""
    queue = [{"date": str(BLOCK_S - 3 * 86400 - 60), "amount": str(2**256 - 1)}, {"date": str(BLOCK_S), "amount": "1"}]
    health = read(operator(changed(queueEntries=queue), uncollected_wei=0)).health
    assert health.reason.endswith("; undelegations that wait for money: 2, for up to 3 days")
    assert (health.details["undelegations_waiting"], health.details["unstaked_data"]) == (2, "3000")


# Grants and options


def test_a_grant_keeps_what_the_node_uses() -> None:
    limits = adapter("http://127.0.0.1:9").limits(
        {Resource.CPU_CORES: Usage(4, 2.0), Resource.MEMORY_BYTES: Usage(8e9, None), Resource.UPLINK_BPS: Usage(1, 1)}
    )
    assert {resource: limit.floor for resource, limit in limits.items()} == {
        Resource.CPU_CORES: 2.5,
        Resource.MEMORY_BYTES: 2e9,
    }


@pytest.mark.parametrize(
    ("options", "account"),
    [
        ({"operator": OPERATOR.upper().replace("X", "x"), "subgraph_url_file": "u"}, OPERATOR),
        ({"operator": OPERATOR, "subgraph_url": "http://127.0.0.1:9", "account": "mine"}, "mine"),
        ({"node_url": "http://127.0.0.1:7171"}, None),
    ],
)
def test_an_operator_has_one_income_on_however_many_machines(options: dict[str, Any], account: str | None) -> None:
    assert Options.model_validate({"protocol": "streamr", **options}).account == account


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"operator": OPERATOR},
        {"operator": OPERATOR, "node_url": "http://127.0.0.1:7171"},
        {"subgraph_url": "http://127.0.0.1:9"},
        {"operator": OPERATOR[:-1], "subgraph_url": "http://127.0.0.1:9"},
        {"operator": OPERATOR, "subgraph_url": "gateway"},
    ],
)
def test_half_an_operator_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({"protocol": "streamr", **options})


CONFIG = f"""
[nodes.streamr_1]
protocol = "streamr"
operator = "{OPERATOR}"
subgraph_url_file = "subgraph"
subgraph_key_file = "key"
rpc_url_file = "rpc"
node_url = "http://127.0.0.1:7171"
"""


def test_urls_that_hold_a_key_come_from_files(tmp_path: Path) -> None:
    texts = {
        "subgraph": "http://127.0.0.1:9/api/KEY/subgraphs/id/ID/\n",
        "rpc": "http://127.0.0.1:9/v2/KEY",
        "key": KEY,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644 if name == "rpc" else 0o600)
    loaded = config.load(tmp_path / "config.toml", CONFIG)
    made, (warning,) = make_adapter(loaded, "streamr_1", loaded.nodes["streamr_1"])
    assert isinstance(made, Adapter)
    assert made.options.subgraph_url == "http://127.0.0.1:9/api/KEY/subgraphs/id/ID"
    assert made.options.rpc_url == "http://127.0.0.1:9/v2/KEY"
    assert made.options.subgraph_key is not None
    assert made.options.subgraph_key.get_secret_value() == KEY
    assert str(tmp_path / "rpc") in warning


def test_a_url_given_outright_needs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPIN_ORCHA_NODES__STREAMR_1__SUBGRAPH_URL", "http://127.0.0.1:8")
    monkeypatch.setenv("DEPIN_ORCHA_NODES__STREAMR_1__RPC_URL", "http://127.0.0.1:7")
    monkeypatch.setenv("DEPIN_ORCHA_NODES__STREAMR_1__SUBGRAPH_KEY", "from-the-environment")
    loaded = config.load(tmp_path / "config.toml", CONFIG)
    made, _ = make_adapter(loaded, "streamr_1", loaded.nodes["streamr_1"])
    assert isinstance(made, Adapter)
    assert (made.options.subgraph_url, made.options.rpc_url) == ("http://127.0.0.1:8", "http://127.0.0.1:7")


@pytest.mark.parametrize("option", ["subgraph_key", "node_key"])
def test_a_key_may_not_stand_in_the_file(option: str) -> None:
    with pytest.raises(ConfigError, match=f"nodes.streamr_1.{option}: a secret may not stand in this file"):
        config.load(None, CONFIG + f'{option} = "{KEY}"\n')
