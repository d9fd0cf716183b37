"""Any node that a command can read: it prints one JSON document, described by ``schemas/exec.json``.

The command is an argument list, run without a shell, with a few variables of our environment and what it may want to
know: ``ORCHA_NODE``, ``ORCHA_NOW`` and, unless the node was never read before, ``ORCHA_SINCE``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from enum import StrEnum
from pathlib import PurePath
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar

from pydantic import Field

from depin_orcha.adapters import HttpReader, NodeOptions
from depin_orcha.adapters._read import Fields
from depin_orcha.commands import CommandError, Ended, run
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import (
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
)

_T = TypeVar("_T")

_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")
"""Never the rest: it may hold the secrets of other nodes."""
_LONGEST_TEXT = 300
_COMPARE = "compare what it prints with docs/how-to/exec-adapter.md"
_CLOCK_ERROR_S = 15 * 60
"""So far ahead the clock that the command reads is wrong; a little it always is, for it runs after our now."""


class _NodeFailure(StrEnum):
    """The kinds of failure that a node can have."""

    AUTH = "auth"
    BLOCKED = "blocked"
    TRANSIENT = "transient"
    SHAPE = "shape"
    UNSUPPORTED = "unsupported"
    CONFIG = "config"


class Options(NodeOptions):
    """``[nodes.<name>]`` of anything that a command can read."""

    command: Annotated[list[str], Field(min_length=1)]
    """The program, by its full path, and its arguments; there is no shell."""
    currencies: Annotated[list[Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,16}$")]], Field(min_length=1)]
    """What it is paid in, the main currency first; the price id of a token stands in ``ids`` of ``[prices]``."""


class Adapter:
    """Reads one node through its command; see ``depin_orcha.adapters.Adapter``."""

    Options: ClassVar[type[NodeOptions]] = Options
    levers: ClassVar[Mapping[Resource, Literal["native", "runtime", "network"]]] = {
        Resource.CPU_CORES: "runtime",
        Resource.MEMORY_BYTES: "runtime",
    }
    uses_per_unit: ClassVar[Mapping[Resource, float]] = {Resource.CPU_CORES: 1}
    currencies: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, node: str, options: Options) -> None:
        self.node = node
        self.options = options
        self._shown = PurePath(options.command[0]).name
        """All of the command that is shown: its arguments may hold a key."""
        self._source = f"`{self._shown}`"

    def collect(self, http: HttpReader, now_s: int, since_s: int | None) -> Snapshot:  # noqa: ARG002
        """Run the command once and read what it printed."""
        value = self._printed(now_s, since_s)
        document = Fields(value, self._source)
        complete_since_s = _given(document, "complete_since", document.time_s)
        earnings, warnings = self._earnings(document, now_s)
        return Snapshot(
            node=self.node,
            observed_s=now_s,
            earnings=earnings,
            health=_health(document.object("health"), value["health"]),
            usage=_usage(document),
            limits=_limits(document),
            standings=self._standings(document),
            complete_since_s=None if complete_since_s is None else min(complete_since_s, now_s),
            warnings=(*warnings, *map(_line, _given(document, "warnings", document.texts) or ())),
        )

    def limits(self, usage: Mapping[Resource, Usage]) -> dict[Resource, Limits]:  # noqa: ARG002
        """None of its own: the command tells the bounds."""
        return {}

    def _printed(self, now_s: int, since_s: int | None) -> Any:
        """The JSON value on stdout of a command that ended well; else the failure that it tells, or that it is."""
        ended = self._ended(now_s, since_s)
        try:
            value = self._parsed(ended.output)
            failure = _told(Fields(value, self._source))
        except AdapterError:
            if not ended.code:
                raise
            value = failure = None
        if failure is not None:
            raise failure
        if ended.code:
            text = f"`{self._shown}` ended with {ended.code}: {ended.said}"
            raise AdapterError(FailureKind.TRANSIENT, text, "run it by hand to see more")
        return value

    def _ended(self, now_s: int, since_s: int | None) -> Ended:
        known = {"ORCHA_NODE": self.node, "ORCHA_NOW": rfc3339(now_s)}
        if since_s is not None:
            known["ORCHA_SINCE"] = rfc3339(since_s)
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | known
        try:
            return run(self.options.command, timeout_s=self.options.deadline_s, shown=self._shown, env=env)
        except CommandError as error:
            raise AdapterError(error.kind, error.message, error.hint) from error

    def _parsed(self, output: bytes) -> Any:
        try:
            return json.loads(output.decode(), parse_float=Decimal, parse_constant=_refused)
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise AdapterError(FailureKind.SHAPE, f"`{self._shown}` printed no JSON ({error})", _COMPARE) from error

    def _earnings(self, document: Fields, now_s: int) -> tuple[tuple[EarningsSample, ...], list[str]]:
        """What was earned, and a warning for each instant that is far ahead: some clock is wrong.

        A counter from the future counts as read now. An event waits for its instant, or it would be booked at two.
        """
        earnings: list[EarningsSample] = []
        warnings: list[str] = []
        seen: set[tuple[Any, ...]] = set()
        for entry in document.objects("earnings", nullable=False):  # null would be a node that earned nothing
            sample = self._sample(entry, now_s)
            series = (sample.currency, sample.kind, sample.period, sample.external_id)
            named = series if sample.kind is SampleKind.EVENT else (*series, sample.observed_s)
            if named in seen:
                fault = "two earnings are of one series and one instant, or two events have one external_id"
                raise self._wrong(fault, "tell them apart by external_id")
            seen.add(named)
            if sample.observed_s <= now_s:
                earnings.append(sample)
                continue
            waits = sample.kind is SampleKind.EVENT
            if sample.observed_s > now_s + _CLOCK_ERROR_S:
                outcome = "it is left out until then" if waits else "it counts as read now"
                warnings.append(f"an earning in {sample.currency} is dated {rfc3339(sample.observed_s)}: {outcome}")
            if not waits:
                earnings.append(replace(sample, observed_s=now_s))
        return tuple(earnings), warnings

    def _sample(self, entry: Fields, now_s: int) -> EarningsSample:
        kind = entry.choice("kind", SampleKind)
        is_event = kind is SampleKind.EVENT
        series = entry.text("external_id") if is_event else _given(entry, "external_id", entry.text) or ""
        if is_event and not series:
            raise self._wrong("an event has an empty external_id")
        observed_s = entry.time_s("observed_at") if is_event else _given(entry, "observed_at", entry.time_s)
        share = _given(entry, "share", entry.amount)
        if share is not None and not 0 <= share <= 1:
            raise self._wrong(f"a share of {share:f} is not between 0 and 1")
        return EarningsSample(
            observed_s=now_s if observed_s is None else observed_s,
            amount=entry.amount("amount"),
            currency=self._currency(entry),
            kind=kind,
            period=_given(entry, "period", entry.text) or "",
            external_id=series,
            share=Decimal(1) if share is None else share,
        )

    def _standings(self, document: Fields) -> tuple[StandingAmount, ...]:
        entries = document.objects("standings", nullable=False) if "standings" in document else ()
        return tuple(
            StandingAmount(entry.choice("standing", Standing), entry.amount("amount"), self._currency(entry))
            for entry in entries
        )

    def _currency(self, entry: Fields) -> str:
        currency = entry.text("currency")
        if currency not in self.options.currencies:
            raise AdapterError(
                FailureKind.CONFIG,
                f"`{self._shown}` tells of {_line(currency)}, which is not among the currencies of this node",
                "add it to its option currencies",
            )
        return currency

    def _wrong(self, fault: str, hint: str = "") -> AdapterError:
        return AdapterError(FailureKind.SHAPE, f"`{self._shown}`: {fault}", hint or _COMPARE)


def _told(document: Fields) -> AdapterError | None:
    """The failure that the command itself tells."""
    failure = _given(document, "failure", document.object)
    if failure is None:
        return None
    kind = failure.choice("kind", _NodeFailure)
    return AdapterError(
        FailureKind(kind), _line(failure.text("message")), _line(_given(failure, "hint", failure.text) or "")
    )


def _health(health: Fields, value: dict[str, Any]) -> Health:
    details: dict[str, Any] = {}
    if _given(health, "details", health.object):
        try:
            # No exact fraction has a place among the facts, nor anything that is no JSON number.
            details = json.loads(json.dumps(value["details"], default=float, allow_nan=False))
        except (ValueError, RecursionError) as error:
            raise AdapterError(FailureKind.SHAPE, f"health.details cannot be kept ({error})", _COMPARE) from error
    return Health(health.choice("status", HealthStatus), _line(health.text("reason")), details)


def _usage(document: Fields) -> dict[Resource, Usage]:
    usage = _given(document, "usage", document.object)
    return {
        resource: Usage(_amount(one, "allocated"), _amount(one, "used"))
        for resource in Resource
        if usage is not None and (one := _given(usage, resource, usage.object)) is not None
    }


def _limits(document: Fields) -> dict[Resource, Limits]:
    limits = _given(document, "limits", document.object)
    return {
        resource: Limits(float(one.number("floor")), _amount(one, "ceiling"), float(one.number("step")))
        for resource in Resource
        if limits is not None and (one := _given(limits, resource, limits.object)) is not None
    }


def _given(fields: Fields, key: str, read: Callable[[str], _T]) -> _T | None:
    """``read(key)`` of a key that may be left out; null is no value, but what a script prints that lost it."""
    return read(key) if key in fields else None


def _amount(fields: Fields, key: str) -> float | None:
    number = fields.nullable(key, fields.number)
    return None if number is None else float(number)


def _line(text: str) -> str:
    """One line that a terminal can show."""
    return "".join(char if char.isprintable() else " " for char in text)[:_LONGEST_TEXT]


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
