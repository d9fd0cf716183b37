"""A JSON value that knows where it stands, so that every complaint names its path."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

LARGEST = 1e100
"""Numbers beyond this cannot be multiplied with one another without overflow; nearer to 0 than its inverse is 0."""


@dataclass(frozen=True, slots=True)
class Field:
    """``raw`` at ``path`` (``$.hosts[0].nodes[1].max_units``); every reader raises ``ValueError`` naming that path."""

    path: str
    raw: Any

    def fault(self, message: str) -> ValueError:
        """Build the error for this value."""
        return ValueError(f"{self.path}: {message}")

    def at(self, key: str) -> Field:
        """Return the member ``key`` of an object, None where it is absent."""
        return Field(f"{self.path}.{key}", self.raw.get(key))

    def has(self, key: str) -> bool:
        """Whether an object carries a member that is not null."""
        return self.raw.get(key) is not None

    def mapping(self) -> dict[str, Field]:
        """Members of an object by key."""
        raw = self.raw
        if not isinstance(raw, Mapping):
            raise self.fault("must be an object")
        members = cast("Mapping[Any, Any]", raw)
        for key in members:
            if not isinstance(key, str):
                raise self.fault(f"has a key that is no text: {key!r}")
        return {key: Field(f"{self.path}.{key}", value) for key, value in members.items()}

    def check_keys(self, known: Collection[str], required: Collection[str]) -> None:
        """Refuse unknown keys and missing ones, in that order."""
        members = self.mapping()
        for key, member in members.items():
            if key not in known:
                near = get_close_matches(key, known, 1)
                raise member.fault("unknown key" + (f" (did you mean {near[0]}?)" if near else ""))
        for key in required:
            if key not in members:
                raise self.at(key).fault("is required")

    def items(self) -> list[Field]:
        """Members of an array."""
        raw = self.raw
        if not isinstance(raw, list | tuple):
            raise self.fault("must be an array")
        values = cast("list[Any]", raw)
        return [Field(f"{self.path}[{index}]", value) for index, value in enumerate(values)]

    def text(self) -> str:
        """Text that is not empty."""
        if not isinstance(self.raw, str) or not self.raw:
            raise self.fault("must be text that is not empty")
        return self.raw

    def flag(self) -> bool:
        """Read true or false."""
        if not isinstance(self.raw, bool):
            raise self.fault("must be true or false")
        return self.raw

    def number(self, minimum: float = -LARGEST) -> float:
        """Return a finite number of at least ``minimum``; never -0.0, so that equal problems have equal bytes."""
        if isinstance(self.raw, bool) or not isinstance(self.raw, int | float):
            raise self.fault("must be a number")
        if isinstance(self.raw, float) and not math.isfinite(self.raw):
            raise self.fault(f"must be finite, not {self.raw}")
        if abs(self.raw) > LARGEST:
            raise self.fault(f"must not exceed {LARGEST:g}")
        if self.raw < minimum:
            raise self.fault(f"must be at least {minimum:g}, not {self.raw:g}")
        return float(self.raw) if abs(self.raw) > 1 / LARGEST else 0.0

    def above(self, least: float, most: float) -> float:
        """Return a number above ``least`` and at most ``most``."""
        value = self.number()
        if not least < value <= most:
            raise self.fault(f"must be above {least:g} and at most {most:g}, not {value:g}")
        return value

    def whole(self, minimum: int) -> int:
        """Return a whole number of at least ``minimum``."""
        value = self.number(minimum)
        if value != int(value):
            raise self.fault(f"must be a whole number, not {value:g}")
        return int(value)

    def one_of(self, choices: Collection[str]) -> str:
        """One of the texts in ``choices``."""
        if self.raw not in choices:
            raise self.fault(f"must be one of {', '.join(choices)}")
        return self.raw

    def series(self, length: int) -> float | tuple[float, ...]:
        """One number, or an array of exactly ``length`` numbers."""
        if not isinstance(self.raw, list | tuple):
            return self.number()
        return self.hourly(length)

    def hourly(self, length: int) -> tuple[float, ...]:
        """Return an array of exactly ``length`` numbers."""
        values = tuple(item.number() for item in self.items())
        if len(values) != length:
            raise self.fault(f"must have {length} numbers, one per hour, not {len(values)}")
        return values
