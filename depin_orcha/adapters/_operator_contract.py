"""What a Streamr operator's contract says itself, read by ``eth_call`` through any JSON-RPC node of its chain.

Interface: ``Operator.sol`` of streamr-dev/network-contracts, in Solidity's ABI encoding.
"""

from __future__ import annotations

from dataclasses import dataclass

from depin_orcha.adapters import HttpReader
from depin_orcha.adapters._read import Fields
from depin_orcha.adapters._subgraph import without_secrets
from depin_orcha.errors import AdapterError, FailureKind

_CALL = "0x2ebd89d1"
"""``getSponsorshipsAndEarnings() returns (address[], uint256[], uint256)``."""
_WORD = 32
_ENDPOINT = "eth_call"


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
    call = {"to": operator, "data": _CALL}
    body = {"jsonrpc": "2.0", "id": 1, "method": _ENDPOINT, "params": [call, hex(block)]}
    answer = Fields(http.request("POST", url, body=body, timeout_s=timeout_s).json(), _ENDPOINT)
    if error := answer.optional("error", answer.object):
        text = without_secrets(error.text("message"), url)
        raise AdapterError(FailureKind.TRANSIENT, f"{_ENDPOINT} was refused: {text}")
    result = answer.text("result")
    if result == "0x":
        raise AdapterError(
            FailureKind.CONFIG, f"there is no contract at {operator}", "is rpc_url a node of the operator's chain?"
        )
    try:
        return _decoded(bytes.fromhex(result.removeprefix("0x")))
    except ValueError:
        raise AdapterError(FailureKind.SHAPE, f"{_ENDPOINT}: the result is not what the contract returns") from None


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
