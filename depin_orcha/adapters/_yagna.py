"""What the Golem adapter asks a yagna daemon over REST (GET only), and how its answers read.

Interfaces: yagna's payment, market and activity APIs; the model crate ya-client.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from depin_orcha.adapters import HttpReader
from depin_orcha.adapters._read import Fields, instant_s, objects
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.timefmt import rfc3339
from depin_orcha.types import Payout

PAGE = 1000
"""Documents per answer: a year of them would not fit into one."""

_SMALL_PAGE = 100
_OFFERS = "/market-api/v1/offers"
_PAYING_PLATFORMS = ("erc20-polygon-glm", "erc20-mainnet-glm")
_VOID = ("REJECTED", "CANCELLED", "FAILED")
_DULL_EVENTS = ("ReceivedEvent", "SettledEvent")
_GOOD_EVENTS = (*_DULL_EVENTS, "AcceptedEvent")
_HEALTHCHECK_S = 20.0
"""The daemon makes three checks of up to 5 s each."""
_AGENT_POLLS = re.compile(rb"^activity_provider_events_query (\d{1,18})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be hired, and for how much GLM per thread-second, per second and per start; ``test_money`` is no GLM."""

    runtime: str
    threads: int
    mem_gib: float
    storage_gib: float
    glm_per_cpu_s: float
    glm_per_s: float
    glm_start: float
    test_money: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """An agreement that binds the provider to what it offered then, whatever it offers now."""

    id: str
    requestor: str
    offer: Offer


@dataclass(frozen=True, slots=True)
class Note:
    """A debit note: all that its activity has cost until it was issued; ``first``: no note came before it."""

    id: str
    at_s: int
    activity: str
    agreement: str
    amount: Decimal
    currency: str
    void: bool
    first: bool


@dataclass(frozen=True, slots=True)
class Invoice:
    """The bill of a whole agreement."""

    id: str
    at_s: int
    due_s: int
    activities: tuple[str, ...]
    agreement: str
    requestor: str
    amount: Decimal
    currency: str
    status: str

    @property
    def void(self) -> bool:
        """Was it taken back?"""
        return self.status in _VOID


@dataclass(frozen=True, slots=True)
class AgreementTotal:
    """What an agreement has brought so far."""

    agreement: str
    requestor: str
    currency: str
    accepted: Decimal
    paid: Decimal


@dataclass(frozen=True, slots=True)
class _ActivityTotal:
    """What an activity has cost so far, and since when the daemon knows it, if it says so."""

    created_s: int | None
    due: Decimal


_UNHEARD_OF = _ActivityTotal(None, Decimal(0))


class Daemon:
    """One daemon, asked with one application key, which shows the documents of one identity."""

    def __init__(self, http: HttpReader, url: str, app_key: str, deadline_s: float) -> None:
        self._http = http
        self._url = url
        self._headers = {"Authorization": f"Bearer {app_key}"}
        self._healthcheck_s = min(_HEALTHCHECK_S, deadline_s / 2)

    @cached_property
    def identity(self) -> str:
        """The node id of the provider."""
        return self._fields("/me").text("identity")

    def invoices(self) -> list[Invoice]:
        """Every invoice that this provider has issued."""
        return [
            Invoice(
                id=invoice.text("invoiceId"),
                at_s=invoice.time_s("timestamp"),
                due_s=invoice.time_s("paymentDueDate"),
                activities=tuple(invoice.texts("activityIds")),
                agreement=invoice.text("agreementId"),
                requestor=invoice.text("recipientId").lower(),
                amount=invoice.amount("amount"),
                currency=_currency(invoice),
                status=invoice.text("status"),
            )
            for invoice in self._documents("/payment-api/v1/invoices", "invoiceId")
            if self._is_ours(invoice)
        ]

    def notes(self, after_s: int | None, until_s: int | None = None) -> list[Note]:
        """The debit notes that this provider has issued after an instant, at least up to another."""
        notes = self._documents("/payment-api/v1/debitNotes", "debitNoteId", after_s=after_s, until_s=until_s)
        return [_note(note) for note in notes if self._is_ours(note)]

    def spoiled_notes(self, after_s: int) -> list[Note]:
        """The debit notes, however old, to which something bad has happened after an instant."""
        endpoint = "/payment-api/v1/debitNotes/"
        spoiled = self._with_events("debitNote", after_s, but=_GOOD_EVENTS)
        notes = [self._fields(endpoint + note_id) for note_id in sorted(spoiled)]
        return [_note(note) for note in notes if self._is_ours(note)]

    def answered_invoices(self, after_s: int) -> set[str]:
        """Ids of the invoices, however old, that were accepted or taken back after an instant."""
        return self._with_events("invoice", after_s, but=_DULL_EVENTS)

    def started_s(self, agreement: str, activity: str, before_s: int) -> int | None:
        """When an activity's agreement was approved, else when the activity was first heard of; None if not before."""
        approved_s = self._approved_s.get(agreement)
        if approved_s is not None and approved_s < before_s:
            return approved_s
        heard_of_s = self._heard_of.get(activity, _UNHEARD_OF).created_s
        return heard_of_s if heard_of_s is not None and heard_of_s < before_s else None

    def due(self, activity: str) -> Decimal:
        """What the notes of an activity came to, even if the daemon has deleted them; 0 before 0.17."""
        return self._heard_of.get(activity, _UNHEARD_OF).due

    def totals(self) -> list[AgreementTotal] | None:
        """What each agreement of this provider has brought; None before 0.17, which does not sum up."""
        agreements = self._summed_up("/payment-api/v1/payAgreements")
        if agreements is None:
            return None
        return [
            AgreementTotal(
                agreement=one.text("id"),
                requestor=one.text("peerId").lower(),
                currency=_currency(one),
                accepted=one.amount("totalAmountAccepted"),
                paid=one.amount("totalAmountPaid"),
            )
            for one in agreements
            if one.text("role") == "P"
        ]

    def payouts(self, after_s: int | None) -> list[Payout]:
        """What reached this provider after an instant, with the hash of its transaction; the payer bears the fees."""
        payments = self._documents(
            "/payment-api/v1/payments", "paymentId", after_s=after_s, limit="maxEvents", more={"timeout": "0"}
        )
        return [
            Payout(
                external_id=payment.text("paymentId"),
                amount=payment.amount("amount"),
                currency=_currency(payment),
                received_s=payment.time_s("timestamp"),
                transaction=_transaction(payment),
            )
            for payment in payments
            if payment.text("payeeId").lower() == self.identity.lower()
        ]

    def running_agreements(self, now_s: int) -> list[Agreement]:
        """Agreements that bind the provider: approved, and not past the end of the requestor's task."""
        endpoint = "/market-api/v1/agreements"
        running: list[Agreement] = []
        for listed in self._objects(endpoint, {"state": "Approved"}):
            if listed.text("role") != "Provider":
                continue
            reply = self._get(f"{endpoint}/{listed.text('id')}", accept=(404,))
            if reply.status == 404:
                continue
            agreement = Fields(reply.json(), f"{endpoint}/{{id}}")
            demand = agreement.object("demand")
            wanted = demand.object("properties")
            expires_ms = wanted.optional("golem.srv.comp.expiration", wanted.number)
            if expires_ms is None or expires_ms > now_s * 1000:
                offer = _offer(agreement.object("offer").object("properties"))
                platform = wanted.optional("golem.com.payment.chosen-platform", wanted.text)
                if platform is not None:
                    offer = replace(offer, test_money=platform not in _PAYING_PLATFORMS)
                running.append(Agreement(listed.text("id"), demand.text("requestorId").lower(), offer))
        return running

    def live_activities(self) -> list[str]:
        """Activities that are not over, of those since the daemon started."""
        endpoint = "/activity-api/v1/_monitor"
        reply = self._get(endpoint, first_line=True)
        event = next((line for line in reply.body.splitlines() if line.startswith(b"data:")), b"")
        activities = Fields(replace(reply, body=event[len(b"data:") :]).json(), endpoint).objects("activities")
        return [one.text("id") for one in activities if one.text("state") != "Terminated"]

    def offers(self) -> list[Offer]:
        """What is offered: the proof of what the hardware profile and the presets really came to."""
        return [_offer(offer.object("properties")) for offer in objects(self.live_offers(), _OFFERS)]

    def live_offers(self) -> list[dict[str, Any]]:
        """The members of ``/market-api/v1/offers`` as they are, numbers with a fraction as ``Decimal``."""
        offers = self._get(_OFFERS).json()
        objects(offers, _OFFERS)
        return offers

    def versions(self) -> tuple[str, str | None]:
        """The daemon's version, and a newer one that it knows of."""
        answer = self._fields("/version/get")
        newer = answer.optional("pending", answer.object)
        return answer.object("current").text("version"), newer.text("version") if newer else None

    def agent_polls(self) -> int | None:
        """How often ya-provider has asked for work since the daemon started: every few seconds, as long as it runs."""
        found = _AGENT_POLLS.search(self._get("/metrics-api/v1/expose", accept=(404,)).body)
        return int(found[1]) if found else None

    def payment_troubles(self) -> list[str]:
        """What the payment drivers complain of."""
        endpoint = "/payment-api/v1/payments/status"
        reply = self._get(endpoint, accept=(404,))
        return [one.text("kind") for one in objects(reply.json(), endpoint)] if reply.status == 200 else []

    def failing_check(self) -> str | None:
        """The step of the daemon's own health check that fails; None where all is well, or before 0.16."""
        reply = self._get("/healthcheck", accept=(404, 500), timeout_s=self._healthcheck_s)
        return Fields(reply.json(), "/healthcheck").text("step") if reply.status == 500 else None

    @cached_property
    def _approved_s(self) -> dict[str, int]:
        agreements = self._objects("/market-api/v1/agreements")
        return {one.text("id"): at_s for one in agreements if (at_s := one.optional("approvedDate", one.time_s))}

    @cached_property
    def _heard_of(self) -> dict[str, _ActivityTotal]:
        return {
            one.text("id"): _ActivityTotal(one.optional("createdTs", one.time_s), one.amount("totalAmountDue"))
            for one in self._summed_up("/payment-api/v1/payActivities") or []
        }

    def _summed_up(self, endpoint: str) -> list[Fields] | None:
        if self._get(endpoint, {"maxItems": "1"}, accept=(404,)).status == 404:
            return None
        return self._documents(endpoint, "id", time_key="createdTs")

    def _is_ours(self, document: Fields) -> bool:
        """Did we issue it? What we would pay as a requestor is no income."""
        return document.text("issuerId").lower() == self.identity.lower()

    def _with_events(self, kind: Literal["invoice", "debitNote"], after_s: int, *, but: tuple[str, ...]) -> set[str]:
        """Ids of the documents to which something has happened after an instant, other than these events."""
        events = self._objects(f"/payment-api/v1/{kind}Events", {"timeout": "0", "afterTimestamp": rfc3339(after_s)})
        return {event.text(f"{kind}Id") for event in events if not event.text("eventType").endswith(but)}

    def _documents(
        self,
        endpoint: str,
        key: str,
        *,
        time_key: str = "timestamp",
        after_s: int | None = None,
        until_s: int | None = None,
        limit: str = "maxItems",
        more: Mapping[str, str] | None = None,
    ) -> list[Fields]:
        """Every document created after one instant, at least up to another; none where the daemon is too old.

        The daemon gives the oldest of those created after an instant, so they are asked for page by page.
        """
        size = PAGE if until_s is None else _SMALL_PAGE
        after = None if after_s is None else rfc3339(after_s)
        found: dict[str, Fields] = {}
        while True:
            params = {limit: str(size), **(more or {})} | ({"afterTimestamp": after} if after else {})
            page = self._objects(endpoint, params)
            known = len(found)
            found |= {document.text(key): document for document in page}
            times = [at for document in page if (at := document.optional(time_key, document.text))]
            is_last = len(page) < size or len(found) == known or not times
            if is_last or (until_s is not None and instant_s(times[-1]) > until_s):
                return list(found.values())
            # The last instant may be shared with a document of the next page; some times come without their zone.
            after = next((at for at in reversed(times) if at != times[-1]), times[-1]).removesuffix("Z") + "Z"

    def _fields(self, endpoint: str) -> Fields:
        return Fields(self._get(endpoint).json(), endpoint)

    def _objects(self, endpoint: str, params: Mapping[str, str] | None = None) -> list[Fields]:
        return objects(self._get(endpoint, params).json(), endpoint)

    def _get(self, endpoint: str, params: Mapping[str, str] | None = None, **how: Any) -> Any:
        return self._http.request("GET", self._url + endpoint, headers=self._headers, params=params, **how)


def _note(note: Fields) -> Note:
    return Note(
        id=note.text("debitNoteId"),
        at_s=note.time_s("timestamp"),
        activity=note.text("activityId"),
        agreement=note.text("agreementId"),
        amount=note.amount("totalAmountDue"),
        currency=_currency(note),
        void=note.text("status") in _VOID,
        first=note.optional("previousDebitNoteId", note.text) is None,
    )


def _offer(properties: Fields) -> Offer:
    """The coefficients stand in the order of the usage vector, the price of a start after them."""
    counters = properties.texts("golem.com.usage.vector")
    coefficients = properties.numbers("golem.com.pricing.model.linear.coeffs")
    if len(coefficients) != len(counters) + 1:
        raise AdapterError(FailureKind.SHAPE, "the prices of an offer do not match its usage vector")
    price = dict(zip(counters, coefficients, strict=False))
    return Offer(
        runtime=properties.text("golem.runtime.name"),
        threads=int(properties.number("golem.inf.cpu.threads")),
        mem_gib=float(properties.number("golem.inf.mem.gib")),
        storage_gib=float(properties.number("golem.inf.storage.gib")),
        glm_per_cpu_s=float(price.get("golem.usage.cpu_sec", 0)),
        glm_per_s=float(price.get("golem.usage.duration_sec", 0)),
        glm_start=float(coefficients[-1]),
        test_money=not any(f"golem.com.payment.platform.{one}.address" in properties for one in _PAYING_PLATFORMS),
    )


def _transaction(payment: Fields) -> str | None:
    """The hash of the transaction on its chain, which stands in ``details`` in base64; None where there is none."""
    try:
        told = b64decode(payment.text("details"), validate=True)
    except ValueError:
        raise AdapterError(FailureKind.SHAPE, "/payment-api/v1/payments: details is not base64") from None
    return f"0x{told.hex()}" if told else None


def _currency(document: Fields) -> str:
    """Everything but two platforms is a test network, whatever its name says."""
    return "GLM" if document.text("paymentPlatform") in _PAYING_PLATFORMS else "tGLM"
