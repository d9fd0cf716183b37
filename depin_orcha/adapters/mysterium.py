"""Mysterium node, read through its TequilAPI (GET only, but for a login where one is configured).

Earnings are the node's lifetime total, gross: the part that is not settled yet falls to zero with every settlement, and
settling costs fees, which the history of settlements tells. Interface: ``tequilapi`` of mysteriumnetwork/node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, SecretStr

from depin_orcha.adapters import BaseUrl, HttpReader, NodeOptions
from depin_orcha.adapters._read import Fields
from depin_orcha.adapters._tequilapi import Identity, Node, Sessions, Shaper
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.types import (
    DECIMALS,
    EarningsSample,
    Health,
    HealthStatus,
    Limits,
    Payout,
    Resource,
    SampleKind,
    Snapshot,
    Standing,
    StandingAmount,
    Usage,
    decimal_text,
)

_T = TypeVar("_T")

DEFAULT_PASSWORD = "mystberry"  # noqa: S105 - the one that everybody knows, to warn of it
STEP_BPS = 8192.0
"""The shaper takes whole kilobytes per second."""

_LOGIN = "/auth/authenticate"


class Options(NodeOptions):
    """``[nodes.<name>]`` of a Mysterium node.

    In userspace mode its shaper limits all connections together, which a plan may move; with the shaper off, the node
    has all the ``uplink_bps`` that ``capacity`` of its host states. In kernel mode the shaper sets a per-connection
    limit: it protects the line, is never counted as a share of it, and is left to you. So are versions before 1.29.7.
    """

    url: BaseUrl = "http://127.0.0.1:4050"
    """Its TequilAPI (``tequilapi.address``, ``tequilapi.port``), or http://HOST:4449/tequilapi behind its Node UI."""
    username: str | None = None
    """Who logs in to its Node UI; not needed at its TequilAPI itself."""
    password_file: str | None = None
    """File that holds the password of its Node UI."""
    password: Annotated[SecretStr | None, Field(json_schema_extra={"secret": True})] = None


class Adapter:
    """Reads one node; see ``depin_orcha.adapters.Adapter``."""

    Options: ClassVar[type[NodeOptions]] = Options
    levers: ClassVar[Mapping[Resource, Literal["native", "runtime", "network"]]] = {
        Resource.UPLINK_BPS: "native",
        Resource.DOWNLINK_BPS: "network",
        Resource.CPU_CORES: "runtime",
        Resource.MEMORY_BYTES: "runtime",
    }
    uses_per_unit: ClassVar[Mapping[Resource, float]] = {Resource.UPLINK_BPS: 1e7}
    currencies: ClassVar[frozenset[str]] = frozenset({"MYST"})

    def __init__(self, node: str, options: Options) -> None:
        self.node = node
        self.options = options

    def collect(self, http: HttpReader, now_s: int, since_s: int | None) -> Snapshot:  # noqa: ARG002
        """Read the node once: one MYST counter of all it ever earned, what is unsettled, and how the network sees it.

        A total of 0 beside earlier payments only says that the node has not loaded its payment channels: no sample.
        """
        node = Node(http, self.options.url, self.authorization(http))
        warnings: list[str] = []
        details: dict[str, Any] = {"version": node.version()}
        identity = self._identity(node, warnings)
        if identity is None:
            return Snapshot(self.node, now_s, (), Health(HealthStatus.UP, "just set up: no identity yet", details))
        payouts = _told(warnings, "settlements are unknown", lambda: node.payouts(identity.id))
        sessions = _told(warnings, "sessions are unknown", lambda: node.sessions(now_s))
        services = _told(warnings, "services are unknown", node.services)
        shaper = _told(warnings, "the shaper is unknown", node.shaper)
        location = _told(warnings, "where it seems to be is unknown", node.location)
        network = node.network(warnings)
        details |= {"identity": identity.id, "registration": identity.registration, "services": services}
        details |= _details(sessions, shaper) | {"location": location, "network": network}
        loaded = bool(identity.total) or _never_paid(node, payouts, warnings)
        if not loaded:
            warnings.append("it says that it never earned anything, as it does while it starts: earnings are unknown")
        sample = EarningsSample(now_s, identity.total, "MYST", SampleKind.COUNTER, external_id=identity.id)
        usage = _usage(shaper)
        return Snapshot(
            node=self.node,
            observed_s=now_s,
            earnings=(sample,) if loaded else (),
            health=_health(identity.registration, services, network["monitoring"], details),
            usage=usage,
            limits=self.limits(usage),
            standings=_standings(identity if loaded else None, payouts),
            warnings=tuple(warnings),
            payouts=tuple(payouts or ()),
        )

    def limits(self, usage: Mapping[Resource, Usage]) -> dict[Resource, Limits]:
        """At least the least that the shaper can say: 0 would mean to stop the services, which it cannot."""
        return {Resource.UPLINK_BPS: Limits(STEP_BPS, None, STEP_BPS)} if Resource.UPLINK_BPS in usage else {}

    def authorization(self, http: HttpReader) -> dict[str, str]:
        """The headers that the node wants to see: a fresh token where a password is configured. Logs in."""
        password = self.options.password
        if password is None:
            return {}
        if self.options.username is None:
            raise AdapterError(FailureKind.CONFIG, "a password is configured, but no username", "it is often myst")
        body = {"username": self.options.username, "password": password.get_secret_value()}
        reply = http.request("POST", self.options.url + _LOGIN, body=body)
        return {"Authorization": f"Bearer {Fields(reply.json(), _LOGIN).text('token')}"}

    def _identity(self, node: Node, warnings: list[str]) -> Identity | None:
        """The provider's identity; None as long as the node has none."""
        password = self.options.password
        if password is not None and password.get_secret_value() == DEFAULT_PASSWORD:
            warnings.append("it still has the default password: who can reach it can take its money; change it")
        known = node.identities()
        if len(known) > 1:
            warnings.append(f"it has {len(known)} identities, of which the first is read")
        return node.identity(known[0]) if known else None


def _told(warnings: list[str], lacking: str, ask: Callable[[], _T]) -> _T | None:
    """The answer to a question that no earnings hang on; None, and a warning, where there is none."""
    try:
        return ask()
    except AdapterError as error:
        warnings.append(f"{lacking}: {error.message}")
        return None


def _never_paid(node: Node, payouts: Sequence[Payout] | None, warnings: list[str]) -> bool:
    """Is it sure that nothing was ever earned?"""
    if payouts is None or payouts:
        return False
    paid = _told(warnings, "what it was ever paid is unknown", node.paid_ever)
    return paid is not None and not paid


def _usage(shaper: Shaper | None) -> dict[Resource, Usage]:
    """The limit of all connections together as what is allocated, None where it is off; a limit of each is no grant.

    What is used is not told for any moment, only by day of begin.
    """
    return {Resource.UPLINK_BPS: Usage(shaper.limit_bps, None)} if shaper and shaper.userspace else {}


def _standings(identity: Identity | None, payouts: Sequence[Payout] | None) -> tuple[StandingAmount, ...]:
    amounts: list[tuple[Standing, Decimal]] = []
    if identity is not None:
        amounts += [(Standing.PAYABLE, identity.unsettled), (Standing.WALLET, identity.balance)]
    if payouts is not None:
        with localcontext(DECIMALS):
            amounts.append((Standing.PAID, sum((one.amount for one in payouts), Decimal(0))))
    return tuple(StandingAmount(standing, amount, "MYST") for standing, amount in amounts)


def _details(sessions: Sessions | None, shaper: Shaper | None) -> dict[str, Any]:
    return {
        "sessions": sessions
        and {
            "begun_today": sessions.begun_today,
            "sent_bytes": sessions.sent_bytes,
            "received_bytes": sessions.received_bytes,
            "paid_30d_myst": decimal_text(sessions.paid),
        },
        "shaper": shaper
        and {
            "enabled": shaper.enabled,
            "kbytes_per_s": shaper.kbytes_per_s,
            "per_connection": not shaper.userspace,
        },
    }


def _health(
    registration: str | None, services: Mapping[str, str] | None, monitoring: str | None, details: dict[str, Any]
) -> Health:
    troubles: list[str] = []
    if monitoring == "failed":
        troubles.append("the network cannot reach it from outside, so it earns nothing")
    if registration not in (None, "Registered", "Unknown"):
        troubles.append(f"its identity is not registered ({registration})")
    if troubles:
        return Health(HealthStatus.DEGRADED, "; ".join(troubles), details)
    if services is None:
        return Health(HealthStatus.UNKNOWN, "which services run could not be read", details)
    running = sorted(name for name, status in services.items() if status == "Running")
    if not running:
        return Health(HealthStatus.UP, "paused: no service runs", details)
    return Health(HealthStatus.UP, f"running: {', '.join(running)}", details)
