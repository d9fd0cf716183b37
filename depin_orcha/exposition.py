"""What ``status`` knows, as text for Prometheus: gauges in base units, without timestamps. Unknown is absent, never 0.

Format: ``prometheus.io/docs/instrumenting/exposition_formats``, version 0.0.4, as node_exporter's textfile collector
wants it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .asof import AsOf
from .hands import SET_AGAIN
from .timefmt import parse_rfc3339

Data = Mapping[str, Any]
Row = tuple[tuple[str, ...], float | None]
"""Values of the labels, and the value; None is unknown."""

_NODE = ("node", "protocol", "host")
_HEALTH = ("up", "degraded", "down", "unknown")
_LIMITS = {
    "cpu_cores": ("cpu_{}_cores", "Processor cores", (), 1.0),
    "memory_bytes": ("memory_{}_bytes", "Memory", (), 1.0),
    "storage_bytes": ("storage_{}_bytes", "Disk space", (), 1.0),
    "uplink_bps": ("bandwidth_{}_bytes_per_second", "Bandwidth", ("uplink",), 8.0),
    "downlink_bps": ("bandwidth_{}_bytes_per_second", "Bandwidth", ("downlink",), 8.0),
    "gpu_count": ("gpu_{}", "GPUs", (), 1.0),
}
_OF_A_NODE = {
    "usd_today": ("earned_today_usd", "Earned since midnight UTC, each hour at its own price."),
    "usd_24h": ("earned_24h_usd", "Earned in the last 24 hours, each hour at its own price."),
    "usd_30d": ("earned_30d_usd", "Earned in the last 30 days, each hour at its own price."),
    "known_hours_24h": ("known_hours_24h", "Of the last 24 hours, those of which the income is known."),
    "held_usd": ("held_usd", "Kept back by the network until later."),
    "payable_usd": ("payable_usd", "Earned and due, but not sent."),
    "at_risk_usd": ("at_risk_usd", "Earned, and overdue or disputed."),
    "paid_usd": ("paid_usd", "Received from the network, at the price of the day."),
    "usd_per_hour_forecast": ("forecast_usd_per_hour", "Expected income of an hour, mean over the next 24 hours."),
    "coverage80": ("forecast_coverage80_ratio", "Share of hours that came true inside their 80 % band."),
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What a status document does not hold: by verb when it last ended well, by node what ``apply`` had to see to."""

    last_success_s: Mapping[str, int]
    failures: Mapping[str, int]
    drift: Mapping[str, int]


def counts(known: AsOf) -> Counts:
    """As the database has them."""

    def told(query: str, *values: Any) -> dict[str, int]:
        return dict(known.connection.execute(query, (known.now_s, *values)).fetchall())

    acts = "SELECT node, count(*) FROM actions WHERE started_s <= ? AND "
    return Counts(
        told("SELECT command, max(finished_s) FROM runs WHERE finished_s <= ? AND exit_code = 0 GROUP BY command"),
        told(acts + "state IN ('failed', 'undone') GROUP BY node"),
        told(acts + "json_extract(action_json, '$.why') = ? GROUP BY node", SET_AGAIN),
    )


def exposition(data: Data, counted: Counts) -> str:
    """The text of a status document's ``data``."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Known(lambda: _metrics(data, counted)))
    return generate_latest(registry).decode()


class _Known(Collector):
    """Hands out metrics that are known already."""

    def __init__(self, metrics: Callable[[], Iterable[Metric]]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._metrics()


def _metrics(data: Data, counted: Counts) -> Iterator[Metric]:
    nodes = data["nodes"]
    yield from _runs(data["runs"], counted)
    yield _gauge(
        "node_health",
        "1 for the state that the node is in, 0 for the others.",
        (*_NODE, "status"),
        (((*_labels(one), status), float(one["health"] == status)) for one in nodes for status in _HEALTH),
    )
    yield _gauge(
        "node_last_seen_timestamp_seconds",
        "When the node was last read.",
        _NODE,
        ((_labels(one), _seconds(one["last_seen"])) for one in nodes),
    )
    for key, (name, about) in _OF_A_NODE.items():
        yield _gauge(name, about, _NODE, ((_labels(one), one[key]) for one in nodes))
    for word, member, about in (
        ("limit", "allocation", "{} that the node may use."),
        ("used", "usage", "{} that the node uses."),
    ):
        yield from _resources(nodes, word, member, about)
    prices = {one["currency"]: one for node in nodes for one in node["earned"]}
    yield _gauge(
        "price_usd",
        "What a unit of the currency is worth.",
        ("currency", "source"),
        (((name, one["price_source"] or ""), one["usd_per_unit"]) for name, one in prices.items()),
    )
    hosts = data["hosts"]
    yield _gauge("host_power_watts", "Power that the machine draws.", ("host",), _of(hosts, "watts"))
    yield _gauge("host_power_cost_24h_usd", "Cost of power, 24 hours.", ("host",), _of(hosts, "running_cost_usd_24h"))
    yield _gauge("host_net_24h_usd", "Income after power, 24 hours.", ("host",), _of(hosts, "net_usd_24h"))
    wrong = [one["node"] for one in data["anomalies"]]
    yield _gauge(
        "anomalies_open",
        "Things that are wrong with the node now.",
        _NODE,
        ((_labels(one), float(wrong.count(one["node"]))) for one in nodes),
    )


def _runs(runs: Data, counted: Counts) -> Iterator[Metric]:
    verb = ("verb",)
    yield _gauge(
        "last_success_timestamp_seconds",
        "When the verb last ended well.",
        verb,
        (((name,), float(at_s)) for name, at_s in counted.last_success_s.items()),
    )
    yield _gauge(
        "run_duration_seconds",
        "How long the last run of the verb took.",
        verb,
        (((name,), _span(one["started_at"], one["finished_at"])) for name, one in runs.items()),
    )
    codes = (((name,), one["exit_code"]) for name, one in runs.items())
    yield _gauge("exit_code", "Exit code of the last run of the verb.", verb, codes)
    for name, about, by_node in (
        ("apply_failures", "Acts that could not be proven, and were put back or need a look.", counted.failures),
        ("drift", "Limits that were lost, and set again.", counted.drift),
    ):
        family = CounterMetricFamily(f"depin_orcha_{name}", about, labels=_NODE[:1])
        for node, count in by_node.items():
            family.add_metric([node], count)
        yield family


def _resources(nodes: Iterable[Data], word: str, member: str, about: str) -> Iterator[Metric]:
    """One metric for each resource; both directions of bandwidth are one."""
    families: dict[str, GaugeMetricFamily] = {}
    for resource, (name, what, direction, factor) in _LIMITS.items():
        key = name.format(word)
        if key not in families:
            labels = (*_NODE, *(("direction",) if direction else ()))
            families[key] = _gauge(key, about.format(what), labels, ())
        for node in nodes:
            amount = node[member].get(resource)
            if amount is not None:
                families[key].add_metric([*_labels(node), *direction], amount / factor)
    yield from families.values()


def _gauge(name: str, about: str, labels: tuple[str, ...], rows: Iterable[Row]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"depin_orcha_{name}", about, labels=labels)
    for values, value in rows:
        if value is not None:
            family.add_metric(values, value)
    return family


def _labels(node: Data) -> tuple[str, ...]:
    return node["node"], node["protocol"], node["host"]


def _of(hosts: Iterable[Data], key: str) -> Iterator[Row]:
    return (((one["host"],), one[key]) for one in hosts)


def _seconds(instant: str | None) -> float | None:
    return None if instant is None else float(parse_rfc3339(instant))


def _span(began: str, ended: str | None) -> float | None:
    return None if ended is None else float(parse_rfc3339(ended) - parse_rfc3339(began))
