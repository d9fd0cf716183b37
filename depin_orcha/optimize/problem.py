"""What is to be decided: hosts, what they can give, and what each node earns with it.

Reads and writes ``depin-orcha/problem/1``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, cast

from .nouns import (
    RESOURCES,
    Choice,
    Coupling,
    DataCap,
    Fill,
    Host,
    Node,
    Risk,
    Segment,
    Series,
    Thresholds,
    mean,
)
from .parsing import SCHEMA, read_members

__all__ = [
    "RESOURCES",
    "Choice",
    "Coupling",
    "DataCap",
    "Fill",
    "Host",
    "Node",
    "Problem",
    "Risk",
    "Segment",
    "Series",
    "Thresholds",
    "mean",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """Everything that one decision depends on; equal problems give equal plans.

    ``max_income_share`` is of all gross income and for each protocol, ``max_watts`` over all nodes,
    ``max_restarts_at_once`` counts hosts.
    """

    horizon_h: int
    hosts: tuple[Host, ...]
    model: str = "default"
    thresholds: Thresholds = field(default_factory=Thresholds)
    coupling: tuple[Coupling, ...] = ()
    data_caps: tuple[DataCap, ...] = ()
    risk: Risk | None = None
    max_income_share: float | None = None
    max_watts: float | None = None
    max_restarts_at_once: int | None = None

    @classmethod
    def from_dict(cls, document: Any) -> Problem:
        """Return the problem of a parsed ``depin-orcha/problem/1`` document.

        Raises ``ValueError`` that starts with the JSON path of the first fault, such as
        ``$.hosts[0].nodes[1].max_units: is required``.
        """
        return cls(**read_members(document, tuple(member.name for member in fields(cls))))

    def to_dict(self) -> dict[str, Any]:
        """Return the document that ``from_dict`` reads back as an equal problem: defaults stated, no absent keys."""
        return {"schema": SCHEMA} | _plain(self)

    def sha256(self) -> str:
        """Return the fingerprint of the inputs: hex SHA-256 of the canonical JSON of ``to_dict``."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


_NULLS = {("Node", "current_units"), ("DataCap", "overage_usd_per_gb")}
"""Members that are written where they are None, because None says something."""
_SPELLING = {("Risk", "weight"): "lambda"}


def _plain(value: Any) -> Any:
    """JSON value of a noun of this module; what is None, or empty by default, is left out."""
    if is_dataclass(value):
        noun = type(value).__name__
        members = {member.name: getattr(value, member.name) for member in fields(value)}
        nulls = _NULLS | {("Node", "current_choice")} if members.get("choices") else _NULLS
        return {
            _SPELLING.get((noun, key), key): _plain(item)
            for key, item in members.items()
            if (noun, key) in nulls or (item is not None and (key not in _LEFT_OUT or item != ()))
        }
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[Any, ...]", value)]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


_LEFT_OUT = ("segments", "choices")
"""Arrays that a document has or has not, but never empty."""
