"""What is to be decided: hosts, what they can give, and what each node earns with it.

Reads and writes ``depin-orcha/problem/1``.
"""

from __future__ import annotations

import functools
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
        document = {"schema": SCHEMA} | _object(self)
        text = json.dumps(
            document, default=_object, sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False
        )
        return hashlib.sha256(text.encode()).hexdigest()


_NULLS = frozenset({"current_units", "overage_usd_per_gb"})
"""Members that are written where they are None, because None says something."""
_SPELLING = {("Risk", "weight"): "lambda"}


def _plain(value: Any) -> Any:
    """JSON value of a noun of this module."""
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[Any, ...]", value)]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
    return _plain(_object(value)) if is_dataclass(value) else value


def _object(noun: Any) -> dict[str, Any]:
    """Members of a noun by the name they have in a document; what is None, or empty by default, is left out."""
    if isinstance(noun, Segment):  # a fleet has hundreds of thousands
        return {"width_units": noun.width_units, "relative": noun.relative}
    nulls = _NULLS | {"current_choice"} if getattr(noun, "choices", ()) else _NULLS
    return {
        spelling: item
        for key, spelling in _members(noun.__class__)
        if not ((item := getattr(noun, key)) is None and key not in nulls) and not (item == () and key in _LEFT_OUT)
    }


@functools.cache
def _members(noun: Any) -> tuple[tuple[str, str], ...]:
    return tuple((member.name, _SPELLING.get((noun.__name__, member.name), member.name)) for member in fields(noun))


_LEFT_OUT = ("segments", "choices")
"""Arrays that a document has or has not, but never empty."""
