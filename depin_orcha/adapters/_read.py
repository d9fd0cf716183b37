"""Strict reading of JSON answers: what is needed must be there and of its type, the rest is ignored.

Every method raises ``AdapterError`` of kind shape that names the endpoint and the path of the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, TypeVar, cast

from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.timefmt import parse_rfc3339

_T = TypeVar("_T")
_Name = TypeVar("_Name", bound=StrEnum)
_LARGEST_EXPONENT = 60
"""No figure of any node is larger than 1e60 or finer than 1e-60; beyond, its plain text would fill the memory."""


class Fields:
    """One JSON object of the answer of ``endpoint``; ``path`` says where in that answer it stands."""

    def __init__(self, value: Any, endpoint: str, path: str = "") -> None:
        self._endpoint = endpoint
        self._path = path
        if not isinstance(value, dict):
            raise _misshapen(endpoint, path or "the answer", f"is {_kind(value)}, not an object")
        self._values = cast("dict[str, Any]", value)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        """A string."""
        return self._expect(key, str, "a string")

    def flag(self, key: str) -> bool:
        """True or false."""
        return self._expect(key, bool, "true or false")

    def number(self, key: str) -> Decimal:
        """A JSON number, exactly as it was written."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise self._wrong(key, f"is {_kind(value)}, not a number")
        return self._bounded(key, Decimal(value))

    def amount(self, key: str) -> Decimal:
        """A decimal number written as a string, as token amounts are."""
        text = self.text(key)
        try:
            return self._bounded(key, Decimal(text))
        except InvalidOperation:
            raise self._wrong(key, "is not a decimal number") from None

    def integer(self, key: str) -> int:
        """A whole number that is not negative, written in digits as a string, as amounts in wei are."""
        text = self.text(key)
        if not (text.isascii() and text.isdecimal()) or len(text) > _LARGEST_EXPONENT:
            raise self._wrong(key, "is not a whole number in digits")
        return int(text)

    def time_s(self, key: str) -> int:
        """Epoch seconds of an RFC 3339 instant, fractions cut off; an instant without a zone is UTC."""
        text = self.text(key)
        try:
            return instant_s(text)
        except ValueError:
            raise self._wrong(key, "is not an RFC 3339 time") from None

    def choice(self, key: str, names: type[_Name]) -> _Name:
        """A string that is one of a fixed set."""
        text = self.text(key)
        try:
            return names(text)
        except ValueError:
            raise self._wrong(key, f"is none of {', '.join(names)}") from None

    def object(self, key: str) -> Fields:
        """An object inside this one."""
        return Fields(self._get(key), self._endpoint, self._at(key))

    def objects(self, key: str, *, nullable: bool = True) -> list[Fields]:
        """A list of objects; null is an empty list where it may be null."""
        value = self._get(key)
        return [] if value is None and nullable else objects(value, self._endpoint, self._at(key))

    def texts(self, key: str) -> list[str]:
        """A list of strings."""
        return [self._element(key, value, str, "a string") for value in self._list(key)]

    def numbers(self, key: str) -> list[Decimal]:
        """A list of JSON numbers."""
        return [Decimal(self._element(key, value, (int, Decimal), "a number")) for value in self._list(key)]

    def optional(self, key: str, read: Callable[[str], _T]) -> _T | None:
        """``read(key)``, or None where the value is absent or null."""
        return None if self._values.get(key) is None else read(key)

    def nullable(self, key: str, read: Callable[[str], _T]) -> _T | None:
        """``read(key)``, or None where the value is null; the key must be there."""
        return None if self._get(key) is None else read(key)

    def _get(self, key: str) -> Any:
        if key not in self._values:
            raise self._wrong(key, "is missing")
        return self._values[key]

    def _list(self, key: str) -> list[Any]:
        return cast("list[Any]", self._expect(key, list, "a list"))

    def _expect(self, key: str, kind: type[_T], name: str) -> _T:
        return self._element(key, self._get(key), kind, name)

    def _element(self, key: str, value: Any, kind: type[_T] | tuple[type[_T], ...], name: str) -> _T:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(key, f"holds {_kind(value)} where {name} belongs")
        return value

    def _bounded(self, key: str, number: Decimal) -> Decimal:
        if not number.is_finite() or abs(number.adjusted()) > _LARGEST_EXPONENT:
            raise self._wrong(key, "is out of all bounds")
        return number

    def _at(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def _wrong(self, key: str, fault: str) -> AdapterError:
        return _misshapen(self._endpoint, self._at(key), fault)


def objects(value: Any, endpoint: str, path: str = "") -> list[Fields]:
    """A list of objects."""
    if not isinstance(value, list):
        raise _misshapen(endpoint, path or "the answer", f"is {_kind(value)}, not a list")
    members = cast("Iterable[Any]", value)
    return [Fields(member, endpoint, f"{path}[{index}]") for index, member in enumerate(members)]


def instant_s(text: str) -> int:
    """Epoch seconds of an RFC 3339 instant with a time of day. Raises ``ValueError``."""
    if "T" not in text:
        raise ValueError(text)
    return parse_rfc3339(text)


def _misshapen(endpoint: str, path: str, fault: str) -> AdapterError:
    return AdapterError(
        FailureKind.SHAPE, f"{endpoint}: {path} {fault}", "is this version of the node supported? nothing was stored"
    )


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", Decimal: "a number", str: "a string", list: "a list"}
    return names.get(cast("type[Any]", type(value)), "an object")
