"""Presearch nodes, read through the network's public interface (``/api/nodes/status/{key}``, one GET a reading).

The network tells what was earned between two instants, never a total. So each reading that finds a full hour gone asks
for the time between the hour up to which the last reading asked and now, and tells it as a counter that starts at zero
when that window opens: a longer gap is then spread over its hours, and the same window told twice counts once.

Questions with earnings are limited to four an hour and node: asked at any rhythm, this asks one an hour as long as it
is answered. Between them it asks for health alone, which may be done four times a minute.
Interface: ``nodes/api.md`` of PresearchOfficial/docs.presearch.io.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import Field, SecretStr

from depin_orcha.adapters import BaseUrl, Fields, HttpReader, NodeOptions
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import (
    DAY_S,
    HOUR_S,
    EarningsSample,
    Health,
    HealthStatus,
    Limits,
    Resource,
    SampleKind,
    Snapshot,
    Usage,
)

SETTLING_S = 600
"""The last minutes may still change: a window ends this long ago at least."""
FIRST_WINDOW_S = DAY_S
LONGEST_WINDOW_S = 30 * DAY_S
"""After a longer silence the time before stays unknown."""

_STATUS = "the status"
_CREDENTIALS = re.compile(r"unauthori[sz]ed|api.?key|forbidden", re.IGNORECASE)
_PASSING = re.compile(r"too many|rate limit|time[d ]*-?out|unavailable", re.IGNORECASE)


class Options(NodeOptions):
    """``[nodes.<name>]`` of Presearch nodes: one of them, or all of an account."""

    url: BaseUrl = "https://nodes.presearch.com"
    """The network's interface."""
    api_key_file: str | None = None
    """File that holds the account's key, from the bottom of any node's dashboard page."""
    api_key: Annotated[SecretStr | None, Field(json_schema_extra={"secret": True})] = None
    public_key: str | None = None
    """The node; unset: all nodes of the account together."""


class Adapter:
    """Reads the nodes of one account; see ``depin_orcha.adapters.Adapter``."""

    Options: ClassVar[type[NodeOptions]] = Options
    levers: ClassVar[Mapping[Resource, Literal["native", "runtime", "network"]]] = {
        Resource.CPU_CORES: "runtime",
        Resource.MEMORY_BYTES: "runtime",
    }
    uses_per_unit: ClassVar[Mapping[Resource, float]] = {Resource.CPU_CORES: 1}
    currencies: ClassVar[frozenset[str]] = frozenset({"PRE"})

    def __init__(self, node: str, options: Options) -> None:
        self.node = node
        self.options = options

    def collect(self, http: HttpReader, now_s: int, since_s: int | None) -> Snapshot:
        """Read the account once: health, and what was earned in the window that has closed since ``since_s``."""
        window = _window(now_s, since_s)
        nodes = self._nodes(http, window)
        warnings: list[str] = []
        earnings = [] if window is None else list(_earnings(nodes, window, warnings))
        return Snapshot(self.node, now_s, tuple(earnings), _health(nodes), warnings=tuple(warnings))

    def limits(self, usage: Mapping[Resource, Usage]) -> dict[Resource, Limits]:  # noqa: ARG002
        """None: a stronger machine earns no more."""
        return {}

    def _nodes(self, http: HttpReader, window: tuple[int, int] | None) -> dict[str, Fields]:
        key = self.options.api_key
        if key is None:
            hint = "copy it from the bottom of a node's dashboard page to a file and name that in api_key_file"
            raise AdapterError(FailureKind.CONFIG, "no key of the account is configured", hint)
        params: dict[str, str] = {}
        if self.options.public_key is not None:
            params["public_keys"] = self.options.public_key
        if window is not None:
            params |= {"stats": "true", "start_date": _minute(window[0]), "end_date": _minute(window[1])}
        path = f"/api/nodes/status/{quote(key.get_secret_value(), safe='')}"
        value = http.get_json(self.options.url + path, params=params)
        answer = Fields(value, _STATUS)
        if not answer.flag("success"):
            raise _refusal(answer.optional("error", answer.text) or "it does not say why")
        if window is not None and (answer.time_s("start_at"), answer.time_s("end_at")) != window:
            text = f"{_STATUS}: the answer is not about the time that was asked for"
            raise AdapterError(FailureKind.SHAPE, text, "nothing was stored")
        if value.get("nodes") == []:  # what PHP makes of an empty table
            return {}
        nodes = answer.object("nodes")
        return {name: nodes.object(name) for name in value["nodes"]}


def _window(now_s: int, since_s: int | None) -> tuple[int, int] | None:
    """From the end of the window before, which ``since_s`` tells, to the last full hour; None while there is none."""
    end_s = _closed_s(now_s)
    start_s = end_s - FIRST_WINDOW_S if since_s is None else max(_closed_s(since_s), end_s - LONGEST_WINDOW_S)
    return (start_s, end_s) if start_s < end_s else None


def _closed_s(instant_s: int) -> int:
    """Up to where a reading at this instant knows what was earned."""
    return (instant_s - SETTLING_S) // HOUR_S * HOUR_S


def _minute(instant_s: int) -> str:
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%d %H:%M")


def _earnings(nodes: Mapping[str, Fields], window: tuple[int, int], warnings: list[str]) -> Iterable[EarningsSample]:
    """A counter per node and window, from zero to what the window brought."""
    period = "/".join(rfc3339(edge_s) for edge_s in window)
    for name, node in nodes.items():
        stats = node.object("period")
        earned = stats.nullable("total_pre_earned", stats.number)
        if earned is None:
            warnings.append(f"what {name} earned in {period} is not known to the network")
            continue
        for at_s, amount in zip(window, (Decimal(0), earned), strict=True):
            yield EarningsSample(at_s, amount, "PRE", SampleKind.COUNTER, period, external_id=name)


def _health(nodes: Mapping[str, Fields]) -> Health:
    details: list[dict[str, Any]] = []
    troubles: list[str] = []
    for name, node in nodes.items():
        status, meta = node.object("status"), node.object("meta")
        connected, blocked = status.flag("connected"), status.flag("blocked")
        minutes = status.nullable("minutes_in_current_state", status.number)
        known = {"node": name, "connected": connected, "blocked": blocked}
        known |= {"version": meta.nullable("version", meta.text), "minutes": None if minutes is None else int(minutes)}
        details.append(known | _scores(node))
        if blocked:
            troubles.append(f"{name} is blocked")
        if not connected:
            troubles.append(f"{name} is not connected")
    if not nodes:
        troubles.append("the network knows no such node")
    if troubles:
        return Health(HealthStatus.DEGRADED, "; ".join(troubles), {"nodes": details})
    return Health(HealthStatus.UP, f"connected nodes: {len(nodes)}", {"nodes": details})


def _scores(node: Fields) -> dict[str, float | None]:
    """What the rewards follow; only the questions with earnings tell it."""
    stats = node.optional("period", node.object)
    names = ("uptime_percentage", "avg_reliability_score", "avg_staked_capacity_percent", "avg_utilization_percent")
    if stats is None:
        return {}
    scores = {name: stats.optional(name, stats.number) for name in names}
    return {name: None if score is None else float(score) for name, score in scores.items()}


def _refusal(text: str) -> AdapterError:
    """The failure that an error inside a good answer stands for."""
    kind, hint = FailureKind.SHAPE, "has the interface changed?"
    if _CREDENTIALS.search(text):
        kind, hint = FailureKind.AUTH, "renew the file named in api_key_file"
    elif _PASSING.search(text):
        kind, hint = FailureKind.TRANSIENT, "it is asked too often: leave it alone for an hour"
    return AdapterError(kind, f"{_STATUS}: refused", hint)
