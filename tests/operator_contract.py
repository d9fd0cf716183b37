"""A chain node that knows one contract of an operator: it decodes calls and encodes answers as its ABI says."""

from __future__ import annotations

import json
from typing import Any

GET_SPONSORSHIPS_AND_EARNINGS = "0x2ebd89d1"
"""The first four bytes of the Keccak hash of ``getSponsorshipsAndEarnings()``."""


def answer(chain: dict[str, Any], body: bytes) -> bytes:
    """The JSON-RPC answer to one ``eth_call`` or ``eth_getBalance``.

    ``chain`` holds the address of the ``operator``, ``gas_wei`` by wallet and, per number of a block, ``earnings_wei``
    by sponsorship and ``limit_wei``; a block that is not there was forgotten.
    """
    asked = json.loads(body)
    assert asked["jsonrpc"] == "2.0"
    return json.dumps(
        {"jsonrpc": "2.0", "id": asked["id"], **_outcome(chain, asked["method"], asked["params"])}
    ).encode()


def _outcome(chain: dict[str, Any], method: str, params: Any) -> dict[str, Any]:
    if method == "eth_getBalance":
        wallet, tag = params
        assert tag == "latest"
        return {"result": hex(int(chain.get("gas_wei", {}).get(wallet, 0)))}
    call, tag = params
    state = chain["blocks"].get(str(int(tag, 16)))
    if method != "eth_call":
        outcome: dict[str, Any] = {"error": {"code": -32601, "message": f"the method {method} does not exist"}}
    elif state is None:
        outcome = {"error": {"code": -32000, "message": "missing trie node (path ) state is not available"}}
    elif call["to"].lower() != chain["operator"]:
        outcome = {"result": "0x"}
    elif call["data"] != GET_SPONSORSHIPS_AND_EARNINGS:
        outcome = {"error": {"code": 3, "message": "execution reverted", "data": "0x"}}
    else:
        outcome = {"result": encoded(state["earnings_wei"], state["limit_wei"])}
    return outcome


def encoded(earnings_wei: dict[str, str], limit_wei: str) -> str:
    """``(address[] sponsorships, uint256[] earnings, uint256 maxAllowedEarnings)`` in ABI encoding."""
    count = len(earnings_wei)
    head = [3 * 32, (3 + 1 + count) * 32, int(limit_wei)]
    addresses = [int(sponsorship, 16) for sponsorship in earnings_wei]
    amounts = [int(amount) for amount in earnings_wei.values()]
    return "0x" + b"".join(word.to_bytes(32) for word in [*head, count, *addresses, count, *amounts]).hex()
