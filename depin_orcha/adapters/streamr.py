"""Streamr operator: what its contract earns, from the subgraph and the chain, and the state of its network node.

Earnings belong to the operator, not to a machine, and flow by the second; they are collected days apart. So one counter
is everything collected and everything uncollected, both at the same block, after the protocol's fee. A collection moves
money from one to the other and changes nothing in the sum. Interfaces: ``packages/network-subgraphs`` and
``OperatorTokenomics`` of streamr-dev/network-contracts, the ``info`` plugin of streamr-dev/network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import AfterValidator, Field, SecretStr, model_validator

from depin_orcha.adapters import BaseUrl, HttpReader, NodeOptions
from depin_orcha.adapters._operator_contract import Uncollected, read_gas, read_uncollected
from depin_orcha.adapters._read import Fields
from depin_orcha.adapters._subgraph import WHOLE_WEI, OperatorState, read_operator
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import (
    DAY_S,
    DECIMALS,
    HOUR_S,
    EarningsSample,
    Health,
    HealthStatus,
    Limits,
    Resource,
    SampleKind,
    Snapshot,
    Standing,
    StandingAmount,
    Usage,
    decimal_text,
)

LEAST = {Resource.CPU_CORES: 1.0, Resource.MEMORY_BYTES: 2e9}
"""With less the node lags or is killed, which puts the stake at risk."""
STEPS = {Resource.CPU_CORES: 0.5, Resource.MEMORY_BYTES: 5e8}
HEADROOM = 1.25
"""What the node uses now grows with the streams that it is assigned."""

_USUAL_LAG_S = 300
"""A subgraph is seconds behind the chain; from about here on a chain node may have forgotten the block."""
_LARGEST_LAG_S = HOUR_S
_HEARTBEAT_S = 26 * HOUR_S
"""A node writes its heartbeat to the chain once a day."""
_SLASHING_SHOWN_S = 7 * DAY_S
_NEAR_LIMIT = 0.6
_OVERDUE = 0.2
"""Nodes collect at a tenth of the limit."""
_LEAST_GAS_WEI = 10**18
"""Less than one POL lasts for days at most."""
_WALLETS = 5
"""A fleet seldom has more than one wallet, and never needs more to be warned."""
_SOON_S = 7 * DAY_S
_YEAR_S = 365 * DAY_S
_INFO = "/info"


class Options(NodeOptions):
    """``[nodes.<name>]`` of a Streamr operator; or, with nothing but ``node_url``, of one more machine of its fleet."""

    operator: Annotated[str, Field(pattern="^0x[0-9a-fA-F]{40}$"), AfterValidator(str.lower)] | None = None
    """Address of its Operator contract; nodes with the same one share its income (``account``)."""
    subgraph_url: BaseUrl | None = None
    """The subgraph of the Streamr network on its chain: https://gateway.thegraph.com/api/subgraphs/id/ID."""
    subgraph_url_file: str | None = None
    """File that holds that address, where a key stands in it."""
    subgraph_key_file: str | None = None
    """File that holds a key of The Graph's gateway."""
    subgraph_key: Annotated[SecretStr | None, Field(json_schema_extra={"secret": True})] = None
    rpc_url: BaseUrl | None = None
    """A JSON-RPC node of its chain; unset: what is uncollected is estimated from the subgraph."""
    rpc_url_file: str | None = None
    """File that holds that address, where a key stands in it."""
    node_url: BaseUrl | None = None
    """The network node's HTTP server, if its ``info`` plugin is on: http://127.0.0.1:7171."""
    node_key_file: str | None = None
    """File that holds one of the node's ``apiAuthentication`` keys."""
    node_key: Annotated[SecretStr | None, Field(json_schema_extra={"secret": True})] = None

    @model_validator(mode="before")
    @classmethod
    def _one_income_per_operator(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            given = cast("Mapping[str, Any]", values)
            operator = given.get("operator")
            if isinstance(operator, str) and given.get("account") is None:
                return {**given, "account": operator.lower()}
        return cast("Any", values)

    @model_validator(mode="after")
    def _has_something_to_read(self) -> Options:
        subgraph = self.subgraph_url or self.subgraph_url_file
        if (self.operator is None) != (subgraph is None) or not (subgraph or self.node_url):
            raise ValueError("expected operator with subgraph_url or subgraph_url_file, or node_url alone")
        return self


class Adapter:
    """Reads one operator and its node; see ``depin_orcha.adapters.Adapter``."""

    Options: ClassVar[type[NodeOptions]] = Options
    levers: ClassVar[Mapping[Resource, Literal["native", "runtime", "network"]]] = {
        Resource.CPU_CORES: "runtime",
        Resource.MEMORY_BYTES: "runtime",
    }
    uses_per_unit: ClassVar[Mapping[Resource, float]] = {Resource.CPU_CORES: 1}
    currencies: ClassVar[frozenset[str]] = frozenset({"DATA"})

    def __init__(self, node: str, options: Options) -> None:
        self.node = node
        self.options = options

    def collect(self, http: HttpReader, now_s: int, since_s: int | None) -> Snapshot:
        """Read the operator and its node once: one DATA counter, or none where only the node is configured.

        A node that does not answer is a warning, unless there is nothing else to read.
        """
        operator, url = self.options.operator, self.options.subgraph_url
        if operator is None or url is None:
            node = self._read_node(http)
            return Snapshot(self.node, now_s, (), _node_health(node), limits=self.limits({}))
        warnings: list[str] = []
        slashed_since_s = now_s - _SLASHING_SHOWN_S
        if since_s is not None:
            slashed_since_s = min(slashed_since_s, since_s - _LARGEST_LAG_S)
        state = read_operator(http, url, self.options.subgraph_key, operator, slashed_since_s)
        if now_s - state.block_s > _LARGEST_LAG_S:
            raise AdapterError(
                FailureKind.TRANSIENT,
                f"the subgraph is {_minutes(now_s - state.block_s)} minutes behind the chain: its figures are too old",
                "is the clock of this machine right?",
            )
        exact = self._contract(http, operator, state.block, warnings)
        uncollected = exact or _estimated(state)
        gas_wei = self._gas(http, state.nodes, warnings) if exact else None
        node = None if self.options.node_url is None else self._told_node(http, warnings)
        net_wei = state.after_fee_wei(uncollected.wei)
        share = state.owner_share
        return Snapshot(
            node=self.node,
            observed_s=now_s,
            earnings=(
                EarningsSample(
                    observed_s=state.block_s,
                    amount=_data(state.collected_wei + net_wei),
                    currency="DATA",
                    kind=SampleKind.COUNTER,
                    external_id=operator,
                    share=share,
                    keeps_peak=True,
                    estimated=exact is None,
                    lost_s=max((one.at_s for one in state.slashings), default=None),
                ),
            ),
            health=_health(state, uncollected, gas_wei, node, now_s, method="contract" if exact else "estimated"),
            limits=self.limits({}),
            standings=(StandingAmount(Standing.PAYABLE, _times(share, net_wei), "DATA"),),
            warnings=tuple(warnings),
        )

    def limits(self, usage: Mapping[Resource, Usage]) -> dict[Resource, Limits]:
        """Enough for the promised work, never less than it takes now: more earns nothing, less may cost the stake."""
        used = {resource: usage[resource].used or 0.0 if resource in usage else 0.0 for resource in LEAST}
        return {
            resource: Limits(max(least, used[resource] * HEADROOM), None, STEPS[resource])
            for resource, least in LEAST.items()
        }

    def _contract(self, http: HttpReader, operator: str, block: int, warnings: list[str]) -> Uncollected | None:
        """What the contract says is uncollected; None where no chain node is configured or delivers."""
        if self.options.rpc_url is None:
            return None
        try:
            return read_uncollected(http, self.options.rpc_url, operator, block, self.options.deadline_s / 3)
        except AdapterError as error:
            hint = f" ({error.hint})" if error.hint else ""
            warnings.append(f"the contract was not read, so what is uncollected is estimated: {error.message}{hint}")
            return None

    def _gas(self, http: HttpReader, wallets: Sequence[str], warnings: list[str]) -> int | None:
        """What the poorest of the nodes' wallets holds; None where there is none, or the chain node does not say."""
        if self.options.rpc_url is None:
            return None
        try:
            wei = read_gas(http, self.options.rpc_url, sorted(set(wallets))[:_WALLETS], self.options.deadline_s / 3)
        except AdapterError as error:
            warnings.append(f"the gas of its nodes is unknown: {error.message}")
            return None
        return min(wei, default=None)

    def _told_node(self, http: HttpReader, warnings: list[str]) -> dict[str, Any] | None:
        try:
            return self._read_node(http)
        except AdapterError as error:
            warnings.append(f"the network node was not read: {error.message}")
            return None

    def _read_node(self, http: HttpReader) -> dict[str, Any]:
        """Who the node is and what it serves, from its ``info`` plugin."""
        key = self.options.node_key
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else None
        reply = http.request(
            "GET", f"{self.options.node_url}{_INFO}", headers=headers, timeout_s=self.options.deadline_s / 3
        )
        info = Fields(reply.json(), _INFO)
        control = info.object("controlLayer")
        return {
            "id": _hex(control.object("localPeerDescriptor").object("nodeId")),
            "connections": int(control.object("transport").number("connectionCount")),
            "neighbors": int(control.number("neighborCount")),
            "stream_parts": len(info.object("contentLayer").objects("streamParts", nullable=False)),
        }


def _estimated(state: OperatorState) -> Uncollected:
    """What is uncollected by the subgraph alone: each stake as it was last touched, and its rate since then."""
    limit_wei = state.value_wei * state.uncollected_limit_fraction_wei // WHOLE_WEI
    return Uncollected(sum(stake.uncollected_wei(state.block_s) for stake in state.stakes), limit_wei)


def _health(
    state: OperatorState,
    uncollected: Uncollected,
    gas_wei: int | None,
    node: dict[str, Any] | None,
    now_s: int,
    *,
    method: str,
) -> Health:
    """The state of the operator at its block; by the clock of the chain, which is what its rules go by."""
    troubles = [*_operator_troubles(state, uncollected), *_node_troubles(node)]
    gas = None if gas_wei is None else decimal_text(_data(gas_wei))
    if gas_wei is not None and gas_wei < _LEAST_GAS_WEI:
        troubles.append(f"a wallet of its nodes holds {gas} POL: without gas they neither collect nor are heard of")
    if now_s - state.block_s > _USUAL_LAG_S:
        troubles.append(f"the subgraph is {_minutes(now_s - state.block_s)} minutes behind the chain")
    details = _details(state, uncollected, now_s) | {"gas_pol": gas, "method": method, "node": node}
    if troubles:
        return Health(HealthStatus.DEGRADED, "; ".join(troubles), details)
    return Health(HealthStatus.UP, "; ".join(_remarks(state)), details)


def _remarks(state: OperatorState) -> list[str]:
    """What is no fault of the operator's, and worth to know."""
    if not state.stakes:
        return ["idle: nothing is staked"]
    paying = [stake for stake in state.stakes if stake.pays(state.block_s)]
    remarks = [f"sponsorships it is staked on: {len(state.stakes)}, of which {len(paying)} pay"]
    if ending := sum(not stake.pays(state.block_s + _SOON_S) for stake in paying):
        remarks.append(f"of these {ending} run dry within 7 days")
    if state.queued_s:
        days = (state.block_s - min(state.queued_s)) // DAY_S
        remarks.append(f"undelegations that wait for money: {len(state.queued_s)}, for up to {days} days")
    return remarks


def _operator_troubles(state: OperatorState, uncollected: Uncollected) -> list[str]:
    troubles: list[str] = []
    if state.at_risk_wei:
        stake = decimal_text(_data(sum(state.at_risk_wei)))
        troubles.append(f"flagged on {len(state.at_risk_wei)} of its sponsorships: {stake} DATA of stake are at risk")
    if slashed_wei := _slashed_wei(state):
        troubles.append(f"slashed of {decimal_text(_data(slashed_wei))} DATA in the last 7 days")
    if state.heartbeat_s is None:
        troubles.append("its nodes have never sent a heartbeat")
    elif state.block_s - state.heartbeat_s > _HEARTBEAT_S:
        hours = (state.block_s - state.heartbeat_s) // HOUR_S
        troubles.append(f"its nodes have sent no heartbeat for {hours} hours")
    if uncollected.wei and uncollected.wei >= _NEAR_LIMIT * uncollected.limit_wei:
        troubles.append(
            f"{decimal_text(_data(uncollected.wei))} DATA are uncollected: beyond "
            f"{decimal_text(_data(uncollected.limit_wei))} anyone may collect them and take a part"
        )
    elif uncollected.wei and uncollected.wei >= _OVERDUE * uncollected.limit_wei:
        troubles.append(
            f"{decimal_text(_data(uncollected.wei))} DATA are uncollected, twice what nodes let come together: "
            "do they run, and have they gas?"
        )
    if state.has_indexing_errors:
        troubles.append("the subgraph reports indexing errors")
    return troubles


def _node_troubles(node: dict[str, Any] | None) -> list[str]:
    return ["its node is connected to no other"] if node is not None and not node["connections"] else []


def _node_health(node: dict[str, Any]) -> Health:
    """Health of a machine of which only the network node is known."""
    details = {"node": node}
    if troubles := _node_troubles(node):
        return Health(HealthStatus.DEGRADED, "; ".join(troubles), details)
    return Health(HealthStatus.UP, f"stream parts it serves: {node['stream_parts']}", details)


def _details(state: OperatorState, uncollected: Uncollected, now_s: int) -> dict[str, Any]:
    staked_wei = sum(stake.amount_wei for stake in state.stakes)
    wei_per_s = sum(stake.wei_per_s(state.block_s) for stake in state.stakes)
    return {
        "block": state.block,
        "block_age_s": now_s - state.block_s,
        "collected_data": decimal_text(_data(state.collected_wei)),
        "uncollected_data": decimal_text(_data(uncollected.wei)),
        "uncollected_limit_data": decimal_text(_data(uncollected.limit_wei)),
        "value_data": decimal_text(_data(state.value_wei)),
        "staked_data": decimal_text(_data(staked_wei)),
        "unstaked_data": decimal_text(_data(state.unstaked_wei)),
        "undelegations_waiting": len(state.queued_s),
        "net_data_per_hour": decimal_text(_data(state.after_fee_wei(wei_per_s * HOUR_S))),
        "apy": wei_per_s * _YEAR_S / staked_wei if staked_wei else None,
        "slashed_7d_data": decimal_text(_data(_slashed_wei(state))),
        "open_flags": len(state.at_risk_wei),
        "heartbeat_age_s": None if state.heartbeat_s is None else state.block_s - state.heartbeat_s,
        "sponsorships": [
            {
                "id": stake.sponsorship,
                "stream": stake.stream,
                "staked_data": decimal_text(_data(stake.amount_wei)),
                "locked_data": decimal_text(_data(stake.locked_wei)),
                "pays": stake.pays(state.block_s),
                "runs_dry_at": None if stake.dry_s is None else rfc3339(stake.dry_s),
                "apy": stake.apy,
            }
            for stake in state.stakes
        ],
    }


def _slashed_wei(state: OperatorState) -> int:
    return sum(one.amount_wei for one in state.slashings if one.at_s > state.block_s - _SLASHING_SHOWN_S)


def _hex(value: Fields) -> str:
    """A byte string, which JSON shows as ``{"type": "Buffer", "data": [...]}`` or as ``{"0": ..., "1": ...}``."""
    if "data" in value:
        numbers = value.numbers("data")
    else:
        numbers = list[Decimal]()
        while str(len(numbers)) in value:
            numbers.append(value.number(str(len(numbers))))
    return "".join(f"{int(number) & 0xFF:02x}" for number in numbers)


def _data(wei: int) -> Decimal:
    with localcontext(DECIMALS):
        return Decimal(wei).scaleb(-18)


def _times(share: Decimal, wei: int) -> Decimal:
    with localcontext(DECIMALS):
        return share * _data(wei)


def _minutes(seconds: int) -> int:
    return seconds // 60
