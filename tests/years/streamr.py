"""A Streamr operator for a year: stakes that earn by the second, collections, slashings, sources that lag or fail.

The counter is all that was collected, and what is not yet, after the protocol's fee, at the block that the subgraph
knows. Truth is the growth of its peak from block to block, each at the owner's share at the newer one. A block no newer
than the last tells nothing; a slashing between two blocks makes the newer one the peak. Where the chain node is silent,
what is uncollected is what the subgraph alone lets one guess.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial
from typing import Any

import operator_contract
from years.agenda import Agenda, answer
from years.year import Answer, World

from depin_orcha.types import DAY_S, DECIMALS, HOUR_S

SUBGRAPH = "https://gateway.example/api/subgraphs/id/made-up"
RPC = "https://rpc.example"
KEY = "made-up-gateway-key"
WEI = 10**18
REMEMBERED_S = 300
"""How far back a chain node knows what contracts held, unless it keeps everything."""
DEEPEST_REORG_S = 600
GENESIS_S = 1_590_824_836
BLOCK_S = 2
BUSY = answer({"error": "too many requests"}, 429), answer({"error": "internal"}, 500)
TROUBLES: tuple[Answer, ...] = (
    *BUSY,
    answer({"errors": [{"message": "bad indexers: {0xabc: BadResponse(timeout)}"}]}),
    answer({"errors": [{"message": "internal error: failed to resolve block"}]}),
)
RPC_TROUBLES = (*BUSY, answer({"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": "limit exceeded"}}))
FORGOTTEN = answer({"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "missing trie node"}})


def world(seed: int, start_s: int) -> World:
    """An operator that has earned before, seen through a chain node or by the subgraph alone."""
    return Operator(seed, start_s)


@dataclass(frozen=True)
class Stake:
    """On one sponsorship: ``accrued_wei`` is uncollected at ``since_s``, ``told_wei`` what the subgraph has noted."""

    sponsorship: str
    amount_wei: int
    total_wei: int
    payout_wei_per_s: int
    dry_s: int
    since_s: int
    told_s: int
    running: bool = True
    accrued_wei: int = 0
    told_wei: int = 0

    def uncollected_wei(self, at_s: int) -> int:
        """What the contract says."""
        return self.accrued_wei + self._earned_wei(self.since_s, at_s)

    def guessed_wei(self, at_s: int) -> int:
        """What the subgraph lets one guess, as if nobody's stake had changed since it noted the last of ours."""
        return self.told_wei + self._earned_wei(self.told_s, at_s)

    def _earned_wei(self, from_s: int, to_s: int) -> int:
        seconds = max(min(to_s, self.dry_s) - from_s, 0)
        return self.payout_wei_per_s * seconds * self.amount_wei // self.total_wei if self.running else 0

    def at(self, now_s: int, **changes: Any) -> Stake:
        """Something changes that the subgraph does not note for this stake."""
        return replace(self, **({"accrued_wei": self.uncollected_wei(now_s), "since_s": now_s} | changes))


@dataclass(frozen=True)
class State:
    """The operator from ``since_s`` on."""

    since_s: int
    collected_wei: int
    cut_wei: int
    own_wei: int
    supply_wei: int
    fee_wei: int
    stakes: tuple[Stake, ...] = ()
    slashings: tuple[tuple[int, int], ...] = ()

    def lifetime_wei(self, at_s: int, *, exact: bool) -> int:
        """Collected, and uncollected after the fee."""
        gross = sum(one.uncollected_wei(at_s) if exact else one.guessed_wei(at_s) for one in self.stakes)
        return self.collected_wei + gross - gross * self.fee_wei // WEI

    @property
    def share_wei(self) -> int:
        """The owner's part: the cut, and a delegator's part of the rest."""
        return (self.cut_wei * self.supply_wei + (WEI - self.cut_wei) * self.own_wei) // self.supply_wei


class Operator(Agenda):
    """The operator, its chain, the subgraph and a chain node."""

    node = "streamr_1"
    protocol = "streamr"
    takes_back = False

    def __init__(self, seed: int, start_s: int) -> None:
        super().__init__(f"streamr {seed}", start_s)
        chance = self.chance
        self._address = f"0x{chance.randrange(16**40):040x}"
        self._wallet = f"0x{chance.randrange(16**40):040x}"
        self.options = {"protocol": "streamr", "operator": self._address, "subgraph_url": SUBGRAPH, "subgraph_key": KEY}
        if chance.random() < 0.85:
            self.options["rpc_url"] = RPC
        self._remembers_all = chance.random() < 0.3
        self._subgraph_trouble: Answer | None = None
        self._rpc_trouble: Answer | None = None
        self._stuck_s: int | None = None
        self._slashed_s = 0
        own_wei = chance.randrange(1, 10**23)
        supply_wei = own_wei + chance.choice([0, chance.randrange(10**23)])
        collected_wei, cut_wei = chance.choice([0, chance.randrange(10**22)]), chance.randrange(WEI // 2)
        self._now = State(start_s, collected_wei, cut_wei, own_wei, supply_wei, WEI // 20)
        self._past = [self._now]
        self._served = start_s, start_s, self._now
        self._block_s: int | None = None
        self._peak_wei = 0
        self._earned = 0
        for _ in range(chance.randrange(1, 4)):
            self._join()
        self.now_and_then(25 * DAY_S, self._join)
        self.now_and_then(60 * DAY_S, self._leave)
        self.now_and_then(9 * DAY_S, self._collect)
        self.now_and_then(8 * DAY_S, self._others_stake)
        self.now_and_then(6 * DAY_S, self._delegate)
        self.now_and_then(90 * DAY_S, self._set_fraction)
        self.now_and_then(50 * DAY_S, self._slash)
        self.now_and_then(40 * DAY_S, self._pause)
        self.now_and_then(10 * DAY_S, self._subgraph_fails)
        self.now_and_then(7 * DAY_S, self._rpc_fails)
        self.now_and_then(12 * DAY_S, self._get_stuck)

    def advance(self, to_s: int) -> None:
        super().advance(to_s)
        while len(self._past) > 1 and self._past[1].since_s < to_s - 3 * HOUR_S:
            del self._past[0]

    # What happens on the chain

    def _change(self, **changes: Any) -> None:
        self._now = replace(self._now, since_s=self.now_s, **changes)
        self._past.append(self._now)

    def _join(self) -> None:
        if len(self._now.stakes) > 4:
            return
        self.happened["joined"] += 1
        chance = self.chance
        amount_wei = chance.randrange(5000 * WEI, 100_000 * WEI)
        stake = Stake(
            sponsorship=f"0x{chance.randrange(16**40):040x}",
            amount_wei=amount_wei,
            total_wei=amount_wei + chance.randrange(10**24),
            payout_wei_per_s=chance.randrange(10**14, 10**17),
            dry_s=self.now_s + chance.randrange(DAY_S, 200 * DAY_S),
            since_s=self.now_s,
            told_s=self.now_s,
        )
        self._change(stakes=(*self._now.stakes, stake))

    def _collected(self, wei: int) -> dict[str, int]:
        """The protocol takes its fee, and the owner's cut becomes self-delegation."""
        net_wei = wei - wei * self._now.fee_wei // WEI
        cut_wei = net_wei * self._now.cut_wei // WEI
        return {
            "collected_wei": self._now.collected_wei + net_wei,
            "own_wei": self._now.own_wei + cut_wei,
            "supply_wei": self._now.supply_wei + cut_wei,
        }

    def _collect(self) -> None:
        """From all of its sponsorships, or from some."""
        chosen = {one for one in self._now.stakes if self.chance.random() < 0.8}
        if wei := sum(one.uncollected_wei(self.now_s) for one in chosen):
            self.happened["collections"] += 1
            fresh = {"accrued_wei": 0, "told_wei": 0, "told_s": self.now_s}
            stakes = tuple(one.at(self.now_s, **fresh) if one in chosen else one for one in self._now.stakes)
            self._change(stakes=stakes, **self._collected(wei))

    def _leave(self) -> None:
        """With what was earned there, less a penalty for leaving early, which is a slashing."""
        if len(self._now.stakes) < 2:
            return
        self.happened["left"] += 1
        one = self.chance.choice(self._now.stakes)
        wei = one.uncollected_wei(self.now_s)
        slashed = self._now.slashings
        if self.chance.random() < 0.2:
            penalty_wei = self.chance.choice([5000 * WEI, wei // 2])
            slashed = self._slashed(penalty_wei)
            wei = max(wei - penalty_wei, 0)
        self._change(stakes=self._without(one), slashings=slashed, **self._collected(wei))

    def _slash(self) -> None:
        """Part of a stake is lost; who is kicked out loses what was not collected, too."""
        if not self._now.stakes:
            return
        self.happened["slashings"] += 1
        one = self.chance.choice(self._now.stakes)
        lost_wei = one.amount_wei // 100
        stakes = self._without(one)
        if self.chance.random() < 0.5:
            self.happened["kicks"] += 1
        else:
            left = {"amount_wei": one.amount_wei - lost_wei, "total_wei": one.total_wei - lost_wei}
            noted = {"told_wei": one.uncollected_wei(self.now_s), "told_s": self.now_s}
            stakes = (*stakes, one.at(self.now_s, **left, **noted))
        self._change(stakes=stakes, slashings=self._slashed(lost_wei))

    def _slashed(self, wei: int) -> tuple[tuple[int, int], ...]:
        self._slashed_s = self.now_s
        return (*self._now.slashings[-20:], (self.now_s, wei))

    def _without(self, one: Stake) -> tuple[Stake, ...]:
        return tuple(other for other in self._now.stakes if other is not one)

    def _swap(self, sponsorship: str, **changes: Any) -> None:
        stakes = (one.at(self.now_s, **changes) if one.sponsorship == sponsorship else one for one in self._now.stakes)
        self._change(stakes=tuple(stakes))

    def _others_stake(self) -> None:
        """The same payout is shared by more, or fewer; or it is paid for longer."""
        for one in self._now.stakes:
            others_wei = one.total_wei - one.amount_wei
            total_wei = one.amount_wei + self.chance.randrange(others_wei // 2, others_wei * 2 + 2)
            longer_s = self.chance.choice([0, 30 * DAY_S]) if one.dry_s > self.now_s else 0
            self._swap(one.sponsorship, total_wei=total_wei, dry_s=one.dry_s + longer_s)

    def _pause(self) -> None:
        """A sponsorship has too few operators for some time."""
        if self._now.stakes:
            self.happened["pauses"] += 1
            name = self.chance.choice(self._now.stakes).sponsorship
            self._swap(name, running=False)
            self.after(self.chance.randrange(600, DAY_S), partial(self._swap, name, running=True))

    def _delegate(self) -> None:
        """Others come and go, and so does the owner."""
        own_wei = self._now.own_wei + self.chance.choice([0, self.chance.randrange(10**22)])
        others_wei = self._now.supply_wei - self._now.own_wei
        self._change(own_wei=own_wei, supply_wei=own_wei + self.chance.randrange(others_wei + 10**22))

    def _set_fraction(self) -> None:
        """The owner sets another cut, or the network another fee."""
        if self.chance.random() < 0.5:
            self._change(cut_wei=self.chance.randrange(WEI))
        else:
            self._change(fee_wei=self.chance.randrange(WEI // 10))

    # What happens to the sources

    def _subgraph_fails(self) -> None:
        self.happened["subgraph failures"] += 1
        self._subgraph_trouble = self.chance.choice(TROUBLES)
        self.after(self.chance.randrange(600, DAY_S // 2), self._subgraph_well)

    def _subgraph_well(self) -> None:
        self._subgraph_trouble = None

    def _rpc_fails(self) -> None:
        self.happened["chain node failures"] += 1
        self._rpc_trouble = self.chance.choice(RPC_TROUBLES)
        self.after(self.chance.randrange(600, DAY_S // 2), self._rpc_well)

    def _rpc_well(self) -> None:
        self._rpc_trouble = None

    def _get_stuck(self) -> None:
        """The indexer indexes no more."""
        self.happened["stuck subgraphs"] += 1
        self._stuck_s = self.now_s
        self.after(self.chance.randrange(600, 3 * HOUR_S), self._go_on)

    def _go_on(self) -> None:
        self._stuck_s = None

    # What they answer

    def respond(
        self, method: str, url: str, params: Mapping[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        assert (method, params) == ("POST", {})
        if url == SUBGRAPH:
            assert headers == {"Authorization": f"Bearer {KEY}"}
            return self._subgraph_trouble or self._subgraph(body["variables"])
        assert (url, headers) == (RPC, {})
        return self._rpc_trouble or self._rpc(body["method"], body["params"])

    def _subgraph(self, variables: Mapping[str, str]) -> Answer:
        assert variables["operator"] == self._address
        fate = self.chance.random()
        lag_s = self.chance.randrange(2, 20)
        if self._stuck_s is not None:
            lag_s += self.now_s - self._stuck_s
        elif fate < 0.02:
            self.happened["other indexers"] += 1
            lag_s = self.chance.randrange(20, 4200)
        block_s = (self.now_s - lag_s - GENESIS_S) // BLOCK_S * BLOCK_S + GENESIS_S
        at_s = block_s
        if 0.02 < fate < 0.025 and block_s > self._slashed_s + 2 * DEEPEST_REORG_S:
            self.happened["reorgs"] += 1
            at_s -= self.chance.randrange(10, DEEPEST_REORG_S)
        state = self._past[max(bisect_right(self._past, at_s, key=lambda one: one.since_s) - 1, 0)]
        self._served = block_s, at_s, state
        return answer({"data": self._entities(block_s, at_s, state, int(variables["since"]))})

    def _entities(self, block_s: int, at_s: int, state: State, since_s: int) -> dict[str, Any]:
        return {
            "_meta": {
                "block": {"number": (block_s - GENESIS_S) // BLOCK_S, "timestamp": block_s},
                "hasIndexingErrors": False,
            },
            "network": {"protocolFeeFraction": str(state.fee_wei), "maxAllowedEarningsFraction": str(WEI // 20)},
            "operator": {
                "operatorsCutFraction": str(state.cut_wei),
                "operatorTokenTotalSupplyWei": str(state.supply_wei),
                "valueWithoutEarnings": str(10**24),
                "cumulativeEarningsWei": str(state.collected_wei),
                "latestHeartbeatTimestamp": str(block_s - 600),
                "nodes": [self._wallet],
                "dataTokenBalanceWei": "0",
                "delegations": [{"operatorTokenBalanceWei": str(state.own_wei)}],
                "flagsTargeted": [],
                "queueEntries": [],
                "slashingEvents": [
                    {"date": str(date_s), "amount": str(wei)}
                    for date_s, wei in state.slashings
                    if since_s <= date_s <= at_s
                ],
                "stakes": [_noted(one) for one in state.stakes],
            },
        }

    def _rpc(self, method: str, params: list[Any]) -> Answer:
        if method == "eth_getBalance":
            assert params == [self._wallet, "latest"]
            return answer({"jsonrpc": "2.0", "id": 1, "result": hex(5 * WEI)})
        block_s, at_s, state = self._served
        call, tag = params
        assert (method, call["to"], int(tag, 16)) == ("eth_call", self._address, (block_s - GENESIS_S) // BLOCK_S)
        assert call["data"] == operator_contract.GET_SPONSORSHIPS_AND_EARNINGS
        if block_s < self.now_s - REMEMBERED_S and not self._remembers_all:
            return FORGOTTEN
        self.told.add(method)
        earnings = {one.sponsorship: str(one.uncollected_wei(at_s)) for one in state.stakes}
        return answer({"jsonrpc": "2.0", "id": 1, "result": operator_contract.encoded(earnings, str(WEI))})

    # What its reader knows

    def polled(self, at_s: int) -> None:  # noqa: ARG002
        block_s, known_s, state = self._served
        is_exact = "eth_call" in self.told
        lifetime_wei = state.lifetime_wei(known_s if is_exact else block_s, exact=is_exact)
        if self._block_s is None:
            self._peak_wei = lifetime_wei
        elif block_s <= self._block_s:
            return
        else:
            self._earned += max(lifetime_wei - self._peak_wei, 0) * state.share_wei
            is_slashed = any(self._block_s < date_s <= known_s for date_s, _ in state.slashings)
            self._peak_wei = lifetime_wei if is_slashed else max(lifetime_wei, self._peak_wei)
        self._block_s = block_s

    def truth(self) -> dict[str, Decimal]:
        return {"DATA": Decimal(self._earned).scaleb(-36, DECIMALS)}

    def truth_by_month(self) -> dict[tuple[str, str], Decimal]:
        return {}


def _noted(one: Stake) -> dict[str, Any]:
    return {
        "amountWei": str(one.amount_wei),
        "lockedWei": "0",
        "earningsWei": str(one.told_wei),
        "updateTimestamp": one.told_s,
        "sponsorship": {
            "id": one.sponsorship,
            "isRunning": one.running,
            "totalStakedWei": str(one.total_wei),
            "totalPayoutWeiPerSec": str(one.payout_wei_per_s),
            "projectedInsolvency": str(one.dry_s),
            "spotAPY": "0.15",
            "stream": None,
        },
    }
