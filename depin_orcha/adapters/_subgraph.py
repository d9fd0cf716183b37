"""What the Streamr adapter asks the subgraph of the Streamr network, and how the answer reads.

One GraphQL query a reading, so that everything in it is of the same block. Amounts are DATA in wei (1e-18), fractions
are of 1e18, times are epoch seconds. Interfaces: ``packages/network-subgraphs`` of streamr-dev/network-contracts; The
Graph's gateway, all of whose refusals have status 200.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, localcontext

from pydantic import SecretStr

from depin_orcha.adapters import HttpReader
from depin_orcha.adapters._read import Fields
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.types import DECIMALS

WHOLE_WEI = 10**18
"""One DATA, and the whole of a fraction."""

QUERY = """
query Operator($operator: ID!, $since: BigInt!) {
  _meta { block { number timestamp } hasIndexingErrors }
  network(id: "network-entity-id") { protocolFeeFraction maxAllowedEarningsFraction }
  operator(id: $operator) {
    operatorsCutFraction operatorTokenTotalSupplyWei valueWithoutEarnings cumulativeEarningsWei
    latestHeartbeatTimestamp nodes dataTokenBalanceWei
    delegations(where: { isSelfDelegation: true }) { operatorTokenBalanceWei }
    flagsTargeted(where: { result_in: ["waiting", "voting"] }) { targetStakeAtRiskWei }
    queueEntries(first: 1000) { date }
    slashingEvents(first: 1000, where: { date_gte: $since }) { date amount }
    stakes(first: 1000) {
      amountWei lockedWei earningsWei updateTimestamp
      sponsorship {
        id isRunning totalStakedWei totalPayoutWeiPerSec projectedInsolvency spotAPY
        stream { id }
      }
    }
  }
}
"""

_SUBGRAPH = "the subgraph"
_PASSING = re.compile(
    r"no indexers|bad indexers|internal error|indexing_error|time[d ]*-?out|unavailable|too many|rate limit|overload",
    re.IGNORECASE,
)
"""Refusals of the gateway and of graph-node that may be gone at the next reading."""


@dataclass(frozen=True, slots=True)
class Stake:
    """What the operator has staked on one sponsorship; ``earned_wei`` is what it had not collected at ``updated_s``."""

    sponsorship: str
    stream: str | None
    amount_wei: int
    locked_wei: int
    earned_wei: int
    updated_s: int
    running: bool
    total_staked_wei: int
    payout_wei_per_s: int
    dry_s: int | None
    """When the sponsorship runs out of DATA."""
    apy: float

    def pays(self, at_s: int) -> bool:
        """Does the sponsorship pay at an instant?"""
        return self.running and self.total_staked_wei > 0 and (self.dry_s is None or at_s < self.dry_s)

    def wei_per_s(self, at_s: int) -> int:
        """What the stake earns at an instant, before the protocol's fee."""
        return self.payout_wei_per_s * self.amount_wei // self.total_staked_wei if self.pays(at_s) else 0

    def uncollected_wei(self, at_s: int) -> int:
        """What was earned and not collected until an instant, as if the stakes of all had stayed what they are."""
        if not self.running or not self.total_staked_wei:
            return self.earned_wei
        end_s = at_s if self.dry_s is None else min(at_s, self.dry_s)
        seconds = max(end_s - self.updated_s, 0)
        return self.earned_wei + self.payout_wei_per_s * seconds * self.amount_wei // self.total_staked_wei


@dataclass(frozen=True, slots=True)
class Slashing:
    """Stake that the operator lost."""

    at_s: int
    amount_wei: int


@dataclass(frozen=True, slots=True)
class OperatorState:
    """An operator as the subgraph knows it at one block."""

    block: int
    block_s: int
    has_indexing_errors: bool
    fee_fraction_wei: int
    uncollected_limit_fraction_wei: int
    cut_fraction_wei: int
    supply_wei: int
    self_delegated_wei: int
    value_wei: int
    collected_wei: int
    """Everything ever collected, after the protocol's fee."""
    heartbeat_s: int | None
    nodes: Sequence[str]
    """Addresses of the wallets that its nodes send transactions from."""
    unstaked_wei: int
    """What lies in the contract and earns nothing."""
    queued_s: Sequence[int]
    """Since when each delegator who leaves has waited for the money."""
    at_risk_wei: Sequence[int]
    """Stake at risk by each open flag."""
    slashings: Sequence[Slashing]
    stakes: Sequence[Stake]

    @property
    def owner_share(self) -> Decimal:
        """The owner's part of what is collected: the cut, and a delegator's part of the rest; to 18 decimals."""
        with localcontext(DECIMALS):
            cut = Decimal(self.cut_fraction_wei) / WHOLE_WEI
            # Without a single token there is no other delegator.
            own = Decimal(self.self_delegated_wei) / self.supply_wei if self.supply_wei else Decimal(1)
            return (cut + (1 - cut) * own).quantize(Decimal("1e-18"), rounding=ROUND_FLOOR)

    def after_fee_wei(self, gross_wei: int) -> int:
        """What the protocol leaves of earnings when they are collected."""
        return gross_wei - gross_wei * self.fee_fraction_wei // WHOLE_WEI


def read_operator(http: HttpReader, url: str, key: SecretStr | None, operator: str, since_s: int) -> OperatorState:
    """The state of an operator (address in lower case), with the slashings from ``since_s`` on.

    Raises ``AdapterError``: auth for a refused key, config for an unknown subgraph or operator, transient where the
    gateway has no answer just now, shape for anything else.
    """
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else None
    variables = {"operator": operator, "since": str(since_s)}
    reply = http.request("POST", url, headers=headers, body={"query": QUERY, "variables": variables})
    answer = Fields(reply.json(), _SUBGRAPH)
    if errors := answer.optional("errors", answer.objects):
        text = errors[0].text("message")
        kind, hint = _refusal(text)
        raise AdapterError(kind, f"{_SUBGRAPH} answered: {reply.quoted(text)}", hint)
    data = answer.object("data")
    if data.nullable("operator", data.object) is None:
        raise AdapterError(
            FailureKind.CONFIG,
            f"{_SUBGRAPH} knows no operator {operator}",
            "operator has to be the address of the Operator contract, and subgraph_url the one of its chain",
        )
    return _state(data)


def _refusal(text: str) -> tuple[FailureKind, str]:
    """What kind of failure a refusal is, by its text, and a hint."""
    if "auth error" in text:
        return FailureKind.AUTH, "renew the file named in subgraph_key_file"
    if "subgraph not found" in text:
        return FailureKind.CONFIG, "check the id in subgraph_url"
    if _PASSING.search(text):
        return FailureKind.TRANSIENT, "it is asked again at the next reading"
    return FailureKind.SHAPE, "is subgraph_url that of the Streamr network?"


def _state(data: Fields) -> OperatorState:
    meta, network, operator = data.object("_meta"), data.object("network"), data.object("operator")
    block = meta.object("block")
    delegations = operator.objects("delegations", nullable=False)
    return OperatorState(
        block=int(block.number("number")),
        block_s=int(block.number("timestamp")),
        has_indexing_errors=meta.flag("hasIndexingErrors"),
        fee_fraction_wei=network.integer("protocolFeeFraction"),
        uncollected_limit_fraction_wei=network.integer("maxAllowedEarningsFraction"),
        cut_fraction_wei=operator.integer("operatorsCutFraction"),
        supply_wei=operator.integer("operatorTokenTotalSupplyWei"),
        self_delegated_wei=sum(one.integer("operatorTokenBalanceWei") for one in delegations),
        value_wei=operator.integer("valueWithoutEarnings"),
        collected_wei=operator.integer("cumulativeEarningsWei"),
        heartbeat_s=operator.nullable("latestHeartbeatTimestamp", operator.integer),
        nodes=[_address(one) for one in operator.texts("nodes")],
        unstaked_wei=operator.integer("dataTokenBalanceWei"),
        queued_s=[entry.integer("date") for entry in operator.objects("queueEntries", nullable=False)],
        at_risk_wei=[
            flag.integer("targetStakeAtRiskWei") for flag in operator.objects("flagsTargeted", nullable=False)
        ],
        slashings=[
            Slashing(one.integer("date"), one.integer("amount"))
            for one in operator.objects("slashingEvents", nullable=False)
        ],
        stakes=[_stake(stake) for stake in operator.objects("stakes", nullable=False)],
    )


def _address(text: str) -> str:
    if re.fullmatch("0x[0-9a-fA-F]{40}", text) is None:
        raise AdapterError(FailureKind.SHAPE, f"{_SUBGRAPH}: a node is no address", "is it the Streamr network's?")
    return text


def _stake(stake: Fields) -> Stake:
    sponsorship = stake.object("sponsorship")
    stream = sponsorship.nullable("stream", sponsorship.object)
    return Stake(
        sponsorship=sponsorship.text("id"),
        stream=stream.text("id") if stream else None,
        amount_wei=stake.integer("amountWei"),
        locked_wei=stake.integer("lockedWei"),
        earned_wei=stake.integer("earningsWei"),
        updated_s=int(stake.number("updateTimestamp")),
        running=sponsorship.flag("isRunning"),
        total_staked_wei=sponsorship.integer("totalStakedWei"),
        payout_wei_per_s=sponsorship.integer("totalPayoutWeiPerSec"),
        dry_s=sponsorship.nullable("projectedInsolvency", sponsorship.integer),
        apy=float(sponsorship.amount("spotAPY")),
    )
