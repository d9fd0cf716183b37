"""What the Mysterium adapter asks a node's TequilAPI (GET only), and how its answers read.

Interface: ``tequilapi`` of mysteriumnetwork/node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from depin_orcha.adapters import HttpReader
from depin_orcha.adapters._read import Fields, objects
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DECIMALS, Payout, decimal_text

_MYST_DIGITS = 18
_SERVICES = ("scraping", "data_transfer", "dvpn", "public", "monitoring")
_REMOTE_TIMEOUT_S = 20.0
_PAGE = 50


@dataclass(frozen=True, slots=True)
class Shaper:
    """The node's bandwidth limit: for each connection of a consumer, or, in userspace mode, for all together."""

    enabled: bool
    kbytes_per_s: int
    userspace: bool

    @classmethod
    def of(cls, answer: Any) -> Shaper:
        """The shaper in the answer to GET /config. Raises ``AdapterError``."""
        data = Fields(answer, "/config").object("data")
        shaper = data.object("shaper")
        return cls(
            enabled=shaper.flag("enabled"),
            kbytes_per_s=int(shaper.number("bandwidth")),
            userspace=data.optional("userspace", data.flag) or False,
        )

    @property
    def bits_per_kbyte(self) -> int:
        """The kernel's kilobyte has 1000 bytes, that of the limiter in userspace 1024."""
        return 8 * (1024 if self.userspace else 1000)

    @property
    def limit_bps(self) -> float | None:
        """The limit in bits per second; None where there is none."""
        return float(self.kbytes_per_s * self.bits_per_kbyte) if self.enabled else None


@dataclass(frozen=True, slots=True)
class Identity:
    """What the node says of itself as a provider: all it ever earned, what is not settled, and what it holds."""

    id: str
    registration: str | None
    total: Decimal
    unsettled: Decimal
    balance: Decimal


@dataclass(frozen=True, slots=True)
class Sessions:
    """What sessions of the last 30 days were paid; how many began today, and what those that are over moved."""

    paid: Decimal
    begun_today: int
    sent_bytes: int
    received_bytes: int


class Node:
    """One node, asked with the headers that it wants to see. Every question raises ``AdapterError``."""

    def __init__(self, http: HttpReader, url: str, headers: Mapping[str, str]) -> None:
        self._http = http
        self._url = url
        self._headers = headers

    def version(self) -> str:
        """Its version, which it tells everybody that it talks to at all."""
        try:
            return self._fields("/healthcheck").text("version")
        except AdapterError as error:
            if error.kind is not FailureKind.AUTH:
                raise
            hint = "it answers to IP addresses and names in tequilapi.allowed-hostnames only: write an IP into url"
            raise AdapterError(error.kind, error.message, hint) from error

    def identities(self) -> list[str]:
        """Its identities, the provider's first."""
        answer = self._get("/identities")
        Fields(answer, "/identities")
        return [one.text("id") for one in objects(answer.get("identities"), "/identities", "identities")]

    def identity(self, identity: str) -> Identity:
        """What an identity has earned."""
        fields = Fields(self._get(f"/identities/{identity}"), "/identities/{id}")
        return Identity(
            id=identity,
            registration=fields.optional("registration_status", fields.text),
            total=_myst(fields.object("earnings_total_tokens")),
            unsettled=_myst(fields.object("earnings_tokens")),
            balance=_myst(fields.object("balance_tokens")),
        )

    def payouts(self, identity: str) -> list[Payout]:
        """What settlements brought an identity, over all pages of the history; the amounts are after fees."""
        endpoint = "/transactor/settle/history"
        items: list[Fields] = []
        page, pages = 0, 1
        while page < pages:
            page += 1
            more = {"page": str(page)} if page > 1 else {}
            answer = self._get(endpoint, {"page_size": str(_PAGE)} | more)
            pages = int(Fields(answer, endpoint).number("total_pages"))
            items += objects(answer.get("items"), endpoint, "items")
        return [
            Payout(
                external_id=one.text("tx_hash"),
                amount=_from_wei(one.number("amount")),
                currency="MYST",
                received_s=one.time_s("settled_at"),
                transaction=one.text("tx_hash"),
                fee=_from_wei(one.number("fees")),
            )
            for one in items
            if one.text("provider_id").lower() == identity.lower() and _is_payout(one)
        ]

    def sessions(self, now_s: int) -> Sessions:
        """What the node did for consumers; a session belongs to the day on which it began."""
        endpoint = "/sessions/stats-daily"
        answer = Fields(self._get(endpoint, {"direction": "Provided"}), endpoint)
        days, today = answer.object("items"), rfc3339(now_s)[:10]
        day = days.object(today) if today in days else None
        paid = _from_wei(answer.object("stats").number("sum_tokens"))
        if day is None:
            return Sessions(paid, 0, 0, 0)
        return Sessions(
            paid=paid,
            begun_today=int(day.number("count")),
            sent_bytes=int(day.number("sum_bytes_sent")),
            received_bytes=int(day.number("sum_bytes_received")),
        )

    def paid_ever(self) -> Decimal:
        """What all its sessions were paid, as its own database knows them."""
        endpoint = "/sessions/stats-aggregated"
        answer = Fields(self._get(endpoint, {"direction": "Provided"}), endpoint)
        return _from_wei(answer.object("stats").number("sum_tokens"))

    def services(self) -> dict[str, str]:
        """The state of each service, by type."""
        answer = objects(self._get("/services", {"include_all": "true"}), "/services")
        return {one.text("type"): one.text("status") for one in answer}

    def shaper(self) -> Shaper:
        """Its bandwidth limit."""
        return Shaper.of(self._get("/config"))

    def location(self) -> dict[str, str]:
        """The country and the kind of its address, for which consumers choose it; the address itself is not kept."""
        answer = self._remote("/location")
        return {name: answer.text(name) for name in ("country", "ip_type")}

    def network(self, warnings: list[str]) -> dict[str, Any]:
        """How the network sees the node, which it asks elsewhere itself: what cannot be had is None, with a warning."""
        said: dict[str, Any] = dict.fromkeys(
            ("monitoring", "quality", "online_percent", "active_percent", "earned_myst")
        )
        try:
            said["monitoring"] = self._remote("/node/monitoring-status").text("status")
            said["quality"] = float(self._remote("/node/provider/quality").number("quality"))
            activity = self._remote("/node/provider/activity-stats")
            said |= {name: float(activity.number(name)) for name in ("online_percent", "active_percent")}
            totals = self._remote("/node/provider/service-earnings")
            said["earned_myst"] = {name: _myst_text(totals, f"total_{name}_tokens") for name in _SERVICES}
        except AdapterError as error:
            warnings.append(f"how the network sees it is not fully known: {error.message}")
        return said

    def _remote(self, endpoint: str) -> Fields:
        return Fields(self._get(endpoint, timeout_s=_REMOTE_TIMEOUT_S), endpoint)

    def _fields(self, endpoint: str) -> Fields:
        return Fields(self._get(endpoint), endpoint)

    def _get(self, endpoint: str, params: Mapping[str, str] | None = None, timeout_s: float | None = None) -> Any:
        url = self._url + endpoint
        return self._http.request("GET", url, headers=self._headers, params=params, timeout_s=timeout_s).json()


def _is_payout(entry: Fields) -> bool:
    """A settlement that failed has no amount, and a withdrawal sends on what a settlement has already brought."""
    return entry.nullable("amount", entry.number) is not None and not entry.optional("is_withdrawal", entry.flag)


def _myst(tokens: Fields) -> Decimal:
    return _from_wei(Decimal(tokens.integer("wei")))


def _from_wei(amount: Decimal) -> Decimal:
    with localcontext(DECIMALS):
        return amount.scaleb(-_MYST_DIGITS)


def _myst_text(totals: Fields, key: str) -> str | None:
    """An amount as text; None where it is lacking, or empty, as some come."""
    tokens = totals.optional(key, totals.object)
    return None if tokens is None or not tokens.text("wei") else decimal_text(_myst(tokens))
