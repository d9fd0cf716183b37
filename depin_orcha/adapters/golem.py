"""Golem provider, read through the REST interface of its yagna daemon (GET only).

Money comes from documents: a debit note says all that its activity has cost so far, the invoice at the end of an
agreement names the same money again. So an activity is a counter read by its notes, and an invoice adds only what
its notes do not cover. Interfaces: yagna's payment, market and activity APIs, model crate ya-client.

Every poll reads all invoices and all agreements (about 1 kB each), because the daemon tells nobody that it cancelled
an invoice of its own; notes, of which there are far more, are read from an hour before the last poll.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr

from depin_orcha.adapters import BaseUrl, HttpReader, NodeOptions
from depin_orcha.adapters._read import Fields, objects
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.types import (
    DAY_S,
    DECIMALS,
    HOUR_S,
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
    VoidedSample,
)

GIB = 2**30
PAGE = 1000
"""Documents per answer: a year of them would not fit into one."""

_PAYING_PLATFORMS = ("erc20-polygon-glm", "erc20-mainnet-glm")
"""Everything else is a test network, whatever its name says."""
_VOID = ("REJECTED", "CANCELLED", "FAILED")
_OPEN = ("ISSUED", "RECEIVED")
_GOOD_EVENTS = ("DebitNoteReceivedEvent", "DebitNoteAcceptedEvent", "DebitNoteSettledEvent")
_OVERLAP_S = HOUR_S
_REVIEW_S = 7 * DAY_S
"""How long after its invoice an agreement can still be taken back without us missing it."""
_LATE_ANSWER_S = 6 * HOUR_S
_HEALTHCHECK_S = 20.0
"""The daemon makes three checks of up to 5 s each."""


class Options(NodeOptions):
    """``[nodes.<name>]`` of a Golem provider."""

    url: BaseUrl = "http://127.0.0.1:7465"
    """Its daemon (``YAGNA_API_URL``)."""
    app_key_file: str | None = None
    """File that holds an application key, made by ``yagna app-key create depin-orcha``."""
    app_key: Annotated[SecretStr | None, Field(json_schema_extra={"secret": True})] = None
    provider_command: Annotated[list[str], Field(min_length=1)] = ["ya-provider"]
    """How to run ya-provider, e.g. ["docker", "exec", "NODE", "ya-provider"]."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A live offer: what a requestor can hire now and for how much; GLM per thread-second, per second, per start."""

    runtime: str
    threads: int
    mem_gib: float
    storage_gib: float
    glm_per_cpu_s: float
    glm_per_s: float
    glm_start: float
    published_s: int


@dataclass(frozen=True, slots=True)
class _Note:
    id: str
    at_s: int
    activity: str
    agreement: str
    amount: Decimal
    currency: str
    void: bool
    first: bool


@dataclass(frozen=True, slots=True)
class _Invoice:
    id: str
    at_s: int
    due_s: int
    activities: tuple[str, ...]
    agreement: str
    amount: Decimal
    currency: str
    status: str

    @property
    def void(self) -> bool:
        return self.status in _VOID


@dataclass(frozen=True, slots=True)
class _Ledger:
    """The documents of one reading; ``cursor_s`` None: all there are, else those since then and what they refer to."""

    invoices: list[_Invoice]
    notes: list[_Note]
    taken_back: set[str]
    """Activities whose invoice is void."""
    cursor_s: int | None

    def earnings(self, started_s: Callable[[str, str], int | None]) -> list[EarningsSample]:
        """A counter per activity, from zero at ``started_s`` of its agreement and itself, and what notes leave out."""
        samples: list[EarningsSample] = []
        totals: dict[str, Decimal] = {}
        for activity, notes in _by_activity(self.notes).items():
            live = {note.at_s: note for note in notes if not self._is_void(note)}
            if not live:
                continue
            first = notes[0]
            if first.first or self.cursor_s is None:
                # Without a known start, the second before the first note: the money is right, its hours are a guess.
                begin_s = min(started_s(first.agreement, activity) or first.at_s, first.at_s - 1)
                samples.append(_counter(first, begin_s, Decimal(0)))
            samples += [_counter(note, note.at_s, note.amount) for note in live.values()]
            totals[activity] = live[max(live)].amount
        for invoice in self.invoices:
            if invoice.void:
                continue
            with localcontext(DECIMALS):
                residual = invoice.amount - sum(totals.get(activity, Decimal(0)) for activity in invoice.activities)
            if residual:
                samples.append(
                    EarningsSample(
                        invoice.at_s, residual, invoice.currency, SampleKind.EVENT, external_id=invoice.id
                    )
                )
        return samples

    def voided(self, earnings: Iterable[EarningsSample]) -> list[VoidedSample]:
        """The readings that earlier snapshots may have held and that no longer count."""
        kept = {(sample.external_id, sample.observed_s) for sample in earnings}
        voided = [
            VoidedSample(note.at_s, note.currency, SampleKind.COUNTER, note.activity, note.activity)
            for note in self.notes
            if self._is_void(note) and (note.activity, note.at_s) not in kept
        ]
        voided += [
            VoidedSample(invoice.at_s, invoice.currency, SampleKind.EVENT, "", invoice.id)
            for invoice in self.invoices
            if invoice.void
        ]
        return list(dict.fromkeys(voided))

    def _is_void(self, note: _Note) -> bool:
        return note.void or note.activity in self.taken_back


class Adapter:
    """Reads one provider; see ``depin_orcha.adapters.Adapter``."""

    Options: ClassVar[type[NodeOptions]] = Options
    levers: ClassVar[Mapping[Resource, Literal["native", "runtime", "network"]]] = {
        Resource.CPU_CORES: "native",
        Resource.MEMORY_BYTES: "native",
        Resource.STORAGE_BYTES: "native",
    }
    uses_per_unit: ClassVar[Mapping[Resource, float]] = {Resource.CPU_CORES: 1}
    currencies: ClassVar[frozenset[str]] = frozenset({"GLM", "tGLM"})

    def __init__(self, node: str, options: Options) -> None:
        self.node = node
        self.options = options

    def collect(self, http: HttpReader, now_s: int, since_s: int | None) -> Snapshot:
        """Read the provider once: its documents, what it offers, and whether it works.

        ``since_s`` None reads every document there is; otherwise those since then, with an hour's overlap.
        """
        daemon = _Daemon(http, self.options)
        identity = daemon.fields("/me").text("identity")
        cursor_s = None if since_s is None else since_s - _OVERLAP_S
        invoices = daemon.invoices(identity)
        ledger = _read_ledger(daemon, identity, invoices, cursor_s, now_s)
        earnings = ledger.earnings(daemon.started_s)
        totals = daemon.documents("/payment-api/v1/payAgreements", "id", time_key="createdTs")
        agreements = daemon.running_agreements(now_s)
        busy = bool(daemon.live_activities() or agreements)
        offers = daemon.offers()
        usage = _usage(offers, busy=busy)
        begin_s = min((sample.observed_s for sample in earnings), default=now_s)
        warnings: list[str] = []
        details: dict[str, Any] = {
            "busy": busy,
            "agreements_running": len(agreements),
            "offers": [asdict(offer) for offer in offers],
            "version": daemon.version(warnings),
            "identity": identity,
        }
        return Snapshot(
            node=self.node,
            observed_s=now_s,
            earnings=tuple(earnings),
            health=_health(details, daemon.troubles(warnings)),
            usage=usage,
            limits=self.limits(usage),
            standings=_standings(invoices, totals, now_s),
            voided=tuple(ledger.voided(earnings)),
            complete_since_s=begin_s if cursor_s is None else cursor_s,
            warnings=tuple(warnings),
        )

    def limits(self, usage: Mapping[Resource, Usage]) -> dict[Resource, Limits]:
        """The least that a hardware profile can say; less is a pause, which is no profile."""
        least = {Resource.CPU_CORES: 1.0, Resource.MEMORY_BYTES: GIB / 10, Resource.STORAGE_BYTES: GIB / 10}
        return {resource: Limits(least[resource], None, least[resource]) for resource in usage if resource in least}

    def busy(self, http: HttpReader) -> bool:
        """Does the provider work for somebody, or is it bound by an agreement, at this moment?"""
        daemon = _Daemon(http, self.options)
        return bool(daemon.live_activities() or daemon.running_agreements(int(time.time())))

    def offers(self, http: HttpReader) -> list[Offer]:
        """What can be hired at this moment, one offer per active preset."""
        return _Daemon(http, self.options).offers()


class _Daemon:
    """What this adapter asks a yagna daemon, and how the answers read."""

    def __init__(self, http: HttpReader, options: Options) -> None:
        if options.app_key is None:
            raise AdapterError(
                FailureKind.CONFIG,
                "no application key of the daemon is configured",
                "write what `yagna app-key create depin-orcha` prints to a file and name it in app_key_file",
            )
        self._http = http
        self._url = options.url
        self._headers = {"Authorization": f"Bearer {options.app_key.get_secret_value()}"}
        self._healthcheck_s = min(_HEALTHCHECK_S, options.deadline_s / 2)

    def fields(self, endpoint: str) -> Fields:
        """An answer that is an object."""
        return Fields(self._get(endpoint).json(), endpoint)

    def documents(
        self,
        endpoint: str,
        key: str,
        *,
        time_key: str = "timestamp",
        after_s: int | None = None,
        until_s: int | None = None,
    ) -> list[Fields] | None:
        """Every document created after one instant, at least up to another; None where the daemon is too old.

        The daemon gives the oldest ones of those created after an instant, so they are asked for page by page.
        """
        found: dict[str, Fields] = {}
        size = PAGE if until_s is None else SMALL_PAGE
        after = None if after_s is None else rfc3339(after_s)
        while True:
            params = {"maxItems": str(size)} | ({"afterTimestamp": after} if after else {})
            reply = self._get(endpoint, params, accept=(404,))
            if reply.status == 404:
                return None
            page = objects(reply.json(), endpoint)
            known = len(found)
            found |= {document.text(key): document for document in page}
            times = [at for document in page if (at := document.optional(time_key, document.text))]
            if len(page) < size or len(found) == known or not times:
                return list(found.values())
            if until_s is not None and instant_s(times[-1]) > until_s:
                return list(found.values())
            # The last instant may be shared with a document of the next page. Some times come without their zone.
            after = next((at for at in reversed(times) if at != times[-1]), times[-1]).removesuffix("Z") + "Z"

    def invoices(self, identity: str) -> list[_Invoice]:
        """Every invoice that this provider has issued."""
        return [
            _Invoice(
                id=invoice.text("invoiceId"),
                at_s=invoice.time_s("timestamp"),
                due_s=invoice.time_s("paymentDueDate"),
                activities=tuple(invoice.texts("activityIds")),
                agreement=invoice.text("agreementId"),
                amount=invoice.amount("amount"),
                currency=_currency(invoice.text("paymentPlatform")),
                status=invoice.text("status"),
            )
            for invoice in self.documents("/payment-api/v1/invoices", "invoiceId") or []
            if invoice.text("issuerId").lower() == identity.lower()
        ]

    def notes(self, identity: str, after_s: int | None, until_s: int | None = None) -> list[_Note]:
        """The debit notes that this provider has issued after an instant, at least up to another."""
        notes = self.documents("/payment-api/v1/debitNotes", "debitNoteId", after_s=after_s, until_s=until_s)
        return [_note(note) for note in notes or [] if note.text("issuerId").lower() == identity.lower()]

    def note(self, note_id: str) -> _Note:
        """One debit note."""
        return _note(self.fields(f"/payment-api/v1/debitNotes/{note_id}"))

    def moved(self, kind: Literal["invoice", "debitNote"], after_s: int) -> set[str]:
        """Documents, however old, to which something bad has happened after an instant."""
        endpoint = f"/payment-api/v1/{kind}Events"
        reply = self._get(endpoint, {"timeout": "0", "afterTimestamp": rfc3339(after_s)})
        events = objects(reply.json(), endpoint)
        return {event.text(f"{kind}Id") for event in events if not event.text("eventType").endswith(_GOOD_EVENTS)}

    def started_s(self, agreement: str, activity: str) -> int | None:
        """When an activity's agreement was approved, else when the activity was first heard of, else None."""
        approved_s = self._approved.get(agreement)
        return self._created.get(activity) if approved_s is None else approved_s

    @cached_property
    def _approved(self) -> dict[str, int]:
        endpoint = "/market-api/v1/agreements"
        agreements = objects(self._get(endpoint).json(), endpoint)
        return {
            one.text("id"): at_s for one in agreements if (at_s := one.optional("approvedDate", one.time_s)) is not None
        }

    @cached_property
    def _created(self) -> dict[str, int]:
        activities = self.documents("/payment-api/v1/payActivities", "id", time_key="createdTs") or []
        return {
            one.text("id"): at_s for one in activities if (at_s := one.optional("createdTs", one.time_s)) is not None
        }

    def running_agreements(self, now_s: int) -> list[str]:
        """Agreements that bind the provider: approved, and not past the end of the requestor's task."""
        endpoint = "/market-api/v1/agreements"
        approved = objects(self._get(endpoint, {"state": "Approved"}).json(), endpoint)
        running: list[str] = []
        for agreement in (one.text("id") for one in approved if one.text("role") == "Provider"):
            reply = self._get(f"{endpoint}/{agreement}", accept=(404,))
            if reply.status == 404:
                continue
            demand = Fields(reply.json(), f"{endpoint}/{{id}}").object("demand").object("properties")
            expires_ms = demand.optional("golem.srv.comp.expiration", demand.number)
            if expires_ms is None or expires_ms > now_s * 1000:
                running.append(agreement)
        return running

    def live_activities(self) -> list[str]:
        """Activities that are not over, of those since the daemon started."""
        endpoint = "/activity-api/v1/_monitor"
        reply = self._get(endpoint, first_line=True)
        event = next((line for line in reply.body.splitlines() if line.startswith(b"data:")), b"")
        answer = replace(reply, body=event.removeprefix(b"data:")).json()
        activities = Fields(answer, endpoint).objects("activities")
        return [one.text("id") for one in activities if one.text("state") != "Terminated"]

    def offers(self) -> list[Offer]:
        """What is offered: the proof of what the hardware profile and the presets really came to."""
        endpoint = "/market-api/v1/offers"
        return [_offer(offer, endpoint) for offer in objects(self._get(endpoint).json(), endpoint)]

    def version(self, warnings: list[str]) -> str | None:
        """The daemon's version; None, with a warning, where it does not say."""
        try:
            return self.fields("/version/get").object("current").text("version")
        except AdapterError as error:
            warnings.append(f"the version is unknown: {error.message}")
            return None

    def troubles(self, warnings: list[str]) -> list[str]:
        """What the daemon says is wrong with itself; a question it does not answer is a warning."""
        found: list[str] = []
        try:
            endpoint = "/payment-api/v1/payments/status"
            reply = self._get(endpoint, accept=(404,))
            if reply.status != 404:
                found += [f"its payments report {one.text('kind')}" for one in objects(reply.json(), endpoint)]
            reply = self._get("/healthcheck", accept=(404, 500), timeout_s=self._healthcheck_s)
            if reply.status == 500:
                found.append(f"its {Fields(reply.json(), '/healthcheck').text('step')} fails")
        except AdapterError as error:
            warnings.append(f"what the daemon thinks of itself is unknown: {error.message}")
        return found

    def _get(self, endpoint: str, params: Mapping[str, str] | None = None, **how: Any) -> Any:
        return self._http.request("GET", self._url + endpoint, headers=self._headers, params=params, **how)


def _read_ledger(
    daemon: _Daemon, identity: str, invoices: list[_Invoice], cursor_s: int | None, now_s: int
) -> _Ledger:
    """The notes that belong to the invoices, which were read before them: no invoice lacks a note still to come."""
    notes = daemon.notes(identity, cursor_s)
    if cursor_s is not None:
        noted = {note.activity for note in notes}
        moved = daemon.moved("invoice", cursor_s)
        live = {activity for invoice in invoices if not invoice.void for activity in invoice.activities}
        invoices = [
            invoice
            for invoice in invoices
            if invoice.at_s > cursor_s or (invoice.void and (invoice.at_s > now_s - _REVIEW_S or invoice.id in moved))
        ]
        for invoice in invoices:
            if invoice.void or not noted.issuperset(invoice.activities):
                notes += _notes_of(daemon, identity, invoice, cursor_s)
        notes += [daemon.note(note_id) for note_id in sorted(daemon.moved("debitNote", cursor_s))]
    else:
        live = ...
    return _Ledger(...)
