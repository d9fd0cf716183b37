"""What a Streamr operator's contract says itself, and the gas of its nodes, through any JSON-RPC node of its chain.

Interfaces: ``Operator.sol`` of streamr-dev/network-contracts, in Solidity's ABI encoding; Ethereum's JSON-RPC.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from depin_orcha.adapters import HttpReader
from depin_orcha.adapters._read import Fields
from depin_orcha.errors import AdapterError, FailureKind

_CALL = "0x2ebd89d1"
"""``getSponsorshipsAndEarnings() returns (address[], uint256[], uint256)``."""
_WORD = 32
_QUANTITY = re.compile("0x[0-9a-fA-F]{1,64}")


@dataclass(frozen=True, slots=True)
class Uncollected:
    """What an operator has earned and not collected, before the protocol's fee, and how much it may leave so."""

    wei: int
    limit_wei: int


def read_uncollected(http: HttpReader, url: str, operator: str, block: int, timeout_s: float) -> Uncollected:
    """What the contract said at a block.

    Raises ``AdapterError``: config where there is no such contract, transient where the node refuses (it may have
    forgotten the block), shape for an answer that is not the contract's.
    """
    method = "eth_call"
    result = _asked(http, url, method, [{"to": operator, "data": _CALL}, hex(block)], timeout_s)
    if result == "0x":
        raise AdapterError(
            FailureKind.CONFIG, f"there is no contract at {operator}", "is rpc_url a node of the operator's chain?"
        )
    try:
        return _decoded(bytes.fromhex(result.removeprefix("0x")))
    except ValueError:
        raise AdapterError(FailureKind.SHAPE, f"{method}: the result is not what the contract returns") from None


def read_gas(http: HttpReader, url: str, wallets: Iterable[str], timeout_s: float) -> list[int]:
    """What each wallet holds of the chain's own coin, in wei. Raises ``AdapterError``."""
    method = "eth_getBalance"
    balances: list[int] = []
    for wallet in wallets:
        result = _asked(http, url, method, [wallet, "latest"], timeout_s)
        if _QUANTITY.fullmatch(result) is None:
            raise AdapterError(FailureKind.SHAPE, f"{method}: the result is no amount")
        balances.append(int(result, 16))
    return balances


def _asked(http: HttpReader, url: str, method: str, params: list[Any], timeout_s: float) -> str:
    """The result of one question to the chain node."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    reply = http.request("POST", url, body=body, timeout_s=timeout_s)
    answer = Fields(reply.json(), method)
    if error := answer.optional("error", answer.object):
        raise AdapterError(FailureKind.TRANSIENT, f"{method} was refused: {reply.quoted(error.text('message'))}")
    return answer.text("result")


def _decoded(result: bytes) -> Uncollected:
    """Raises ``ValueError``."""
    sponsorships, earnings = (_array(result, _number(result, word * _WORD)) for word in (0, 1))
    if len(sponsorships) != len(earnings):
        raise ValueError(result)
    return Uncollected(sum(earnings), _number(result, 2 * _WORD))


def _array(data: bytes, offset: int) -> list[int]:
    length = _number(data, offset)
    if offset + (1 + length) * _WORD > len(data):
        raise ValueError(data)
    return [_number(data, offset + (1 + index) * _WORD) for index in range(length)]


def _number(data: bytes, offset: int) -> int:
    word = data[offset : offset + _WORD]
    if len(word) < _WORD:
        raise ValueError(data)
    return int.from_bytes(word)
