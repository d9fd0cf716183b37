"""Golem provider, read through the REST interface of its yagna daemon.

Money comes from documents: a debit note says all that its activity has cost so far, the invoice at the end of an
agreement names the same money again. So an activity is a counter read by its notes, and an invoice adds only what
its notes do not cover.

Every poll reads all invoices and all agreements (about 1 kB each), because the daemon keeps no trace of when it took
back an invoice of its own; notes, of which there are far more, are read from an hour before the last poll on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal, localcontext
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, SecretStr

from depin_orcha.adapters import BaseUrl, HttpReader, NodeOptions
from depin_orcha.adapters._yagna import Agreement, AgreementTotal, Daemon, Invoice, Note, Offer
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
    decimal_text,
)

GIB = 2**30

_T = TypeVar("_T")

_OVERLAP_S = HOUR_S
_REVIEW_S = 7 * DAY_S
"""How long after its issue an invoice is watched for being taken back without an event that says so, and how far back
payments are read again."""
_LATE_ANSWER_S = 6 * HOUR_S
_REQUESTORS_TOLD = 20
"""A provider meets hundreds over the years, and every reading keeps what it tells."""
_TEST_MONEY = "; it is paid in test money, which is worth nothing"
_SETTLEMENT = {"SETTLED": Standing.PAID, "ACCEPTED": Standing.ACCEPTED}
_OFFERED: dict[Resource, Callable[[Offer], float]] = {
    Resource.CPU_CORES: lambda offer: float(offer.threads),
    Resource.MEMORY_BYTES: lambda offer: offer.mem_gib * GIB,
    Resource.STORAGE_BYTES: lambda offer: offer.storage_gib * GIB,
}
_STANDINGS = (Standing.PAID, Standing.ACCEPTED, Standing.PAYABLE, Standing.AT_RISK)


class Options(NodeOptions):
    """``[nodes.<name>]`` of a Golem provider."""

    url: BaseUrl = "http://127.0.0.1:7465"
    """Its daemon (``YAGNA_API_URL``)."""
    app_key_file: str | None = None
    """File that holds an application key, made by ``yagna app-key create depin-orcha``."""
    app_key: Annotated[SecretStr | None, Field(json_schema_extra={"secret": True})] = None
    provider_command: list[str] = Field(default=["ya-provider"], min_length=1)
    """How to run ya-provider, e.g. ["docker", "exec", "NODE", "ya-provider"]."""


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
        daemon = self._daemon(http)
        cursor_s = None if since_s is None else since_s - _OVERLAP_S
        invoices = daemon.invoices()
        ledger = _read_ledger(daemon, invoices, cursor_s)
        earnings = ledger.earnings(daemon.started_s)
        shares = _shares(invoices, daemon.totals(), now_s)
        agreements = daemon.running_agreements(now_s)
        busy = bool(daemon.live_activities() or agreements)
        offers = daemon.offers()
        usage = _usage(offers, agreements, busy=busy)
        warnings: list[str] = []
        version, newer = _told(warnings, "the version", daemon.versions) or (None, None)
        details: dict[str, Any] = {
            "busy": busy,
            "agreements": [{"requestor": one.requestor, **asdict(one.offer)} for one in agreements],
            "offers": [asdict(offer) for offer in offers],
            "version": version,
            "newer_version": newer,
            "agent_polls": _told(warnings, "whether ya-provider runs", daemon.agent_polls),
            "identity": daemon.identity,
            "requestors": _requestors(shares),
        }
        troubles = [
            f"its payments report {kind}" for kind in _told(warnings, "payments", daemon.payment_troubles) or []
        ]
        if step := _told(warnings, "the health check", daemon.failing_check):
            troubles.append(f"its {step} fails")
        # Payments are stored once, however often they are read: an answer that failed is made up for.
        paid_since_s = None if since_s is None else since_s - _REVIEW_S
        payouts = _told(warnings, "payments received", lambda: daemon.payouts(paid_since_s))
        first_s = min((sample.observed_s for sample in earnings), default=now_s)
        return Snapshot(
            node=self.node,
            observed_s=now_s,
            earnings=tuple(earnings),
            health=_health(troubles, details),
            usage=usage,
            limits=self.limits(usage),
            standings=_standings(shares),
            voided=tuple(ledger.voided(earnings)),
            complete_since_s=first_s if cursor_s is None else cursor_s,
            warnings=tuple(warnings),
            payouts=tuple(payouts or ()),
        )

    def limits(self, usage: Mapping[Resource, Usage]) -> dict[Resource, Limits]:
        """What running agreements hold of the grant, which no smaller one sets free; at least what a profile can say.

        To grant nothing is to pause, which no profile can say.
        """
        least = {Resource.CPU_CORES: 1.0, Resource.MEMORY_BYTES: GIB / 10, Resource.STORAGE_BYTES: GIB / 10}
        held = {resource: min(one.used or 0.0, one.allocated or 0.0) for resource, one in usage.items()}
        return {
            resource: Limits(max(amount, held[resource]), None, amount)
            for resource, amount in least.items()
            if resource in usage
        }

    def busy(self, http: HttpReader) -> bool:
        """Does the provider work for somebody, or is it bound by an agreement, at this moment?"""
        daemon = self._daemon(http)
        return bool(daemon.live_activities() or daemon.running_agreements(int(time.time())))

    def offers(self, http: HttpReader) -> list[dict[str, Any]]:
        """The live offers at this moment, one per active preset: members of ``/market-api/v1/offers`` as they are."""
        return self._daemon(http).live_offers()

    def _daemon(self, http: HttpReader) -> Daemon:
        key = self.options.app_key
        if key is None:
            raise AdapterError(
                FailureKind.CONFIG,
                "no application key of the daemon is configured",
                "write what `yagna app-key create depin-orcha` prints to a file and name it in app_key_file",
            )
        return Daemon(http, self.options.url, key.get_secret_value(), self.options.deadline_s)


@dataclass(frozen=True, slots=True)
class _Ledger:
    """The documents of one reading; unless ``whole``, those of a window and what they refer to."""

    invoices: Sequence[Invoice]
    notes: Sequence[Note]
    taken_back: frozenset[str]
    """Activities whose invoice is void."""
    whole: bool

    def earnings(self, started_s: Callable[[str, str, int], int | None]) -> list[EarningsSample]:
        """A counter per activity, which starts from zero, and an event per invoice that claims more or less."""
        samples: list[EarningsSample] = []
        totals: dict[str, Decimal] = {}
        by_activity: dict[str, list[Note]] = {}
        for note in sorted(self.notes, key=lambda one: (one.at_s, one.amount)):
            by_activity.setdefault(note.activity, []).append(note)
        for activity, notes in by_activity.items():
            live = {note.at_s: note for note in notes if not self._is_void(note)}
            if not live and activity in self.taken_back:
                continue
            first = notes[0]
            if first.first or self.whole:
                # With no known start the money stays right, but falls into the hour of the first note.
                begin_s = started_s(first.agreement, activity, first.at_s) or first.at_s - 1
                samples.append(_counter(first, begin_s, Decimal(0)))
            samples += [_counter(note, note.at_s, note.amount) for note in live.values()]
            totals[activity] = live[max(live)].amount if live else Decimal(0)
        for invoice in self.invoices:
            with localcontext(DECIMALS):
                rest = invoice.amount - sum(totals.get(activity, Decimal(0)) for activity in invoice.activities)
            if rest and not invoice.void:
                event = EarningsSample(invoice.at_s, rest, invoice.currency, SampleKind.EVENT, external_id=invoice.id)
                samples.append(event)
        return samples

    def voided(self, earnings: Iterable[EarningsSample]) -> list[VoidedSample]:
        """What earlier readings may have delivered and no longer counts."""
        kept = {(sample.external_id, sample.observed_s) for sample in earnings}
        voided = [
            VoidedSample(note.at_s, note.currency, SampleKind.COUNTER, note.activity, note.activity)
            for note in self.notes
            if note.void and (note.activity, note.at_s) not in kept
        ]
        for invoice in self.invoices:
            if invoice.void or not (self.whole or (invoice.id, invoice.at_s) in kept):
                voided.append(VoidedSample(invoice.at_s, invoice.currency, SampleKind.EVENT, "", invoice.id))
            voided += [
                VoidedSample(None, invoice.currency, SampleKind.COUNTER, activity, activity)
                for activity in invoice.activities
                if activity in self.taken_back
            ]
        return list(dict.fromkeys(voided))

    def _is_void(self, note: Note) -> bool:
        return note.void or note.activity in self.taken_back


def _read_ledger(daemon: Daemon, invoices: Sequence[Invoice], cursor_s: int | None) -> _Ledger:
    """The invoices were read before their notes, so no invoice here lacks a note that was still to come."""
    notes = daemon.notes(cursor_s)
    taken_back = _activities(invoices, void=True) - _activities(invoices, void=False)
    if cursor_s is None:
        return _Ledger(invoices, [*notes, *_deleted(daemon, invoices, notes)], taken_back, whole=True)
    answered = daemon.answered_invoices(cursor_s)
    spoiled = daemon.spoiled_notes(cursor_s)
    less_noted = {note.activity for note in spoiled}
    recent = [
        invoice
        for invoice in invoices
        if invoice.at_s > cursor_s
        or invoice.id in answered
        or (invoice.void and invoice.at_s > cursor_s - _REVIEW_S)
        or not less_noted.isdisjoint(invoice.activities)
    ]
    noted = {note.activity for note in notes if not note.void}
    for invoice in recent:
        # One that is accepted after all gives back all its notes; any other needs the last of each activity.
        if not invoice.void and (invoice.id in answered or not noted.issuperset(invoice.activities)):
            starts = [daemon.started_s(invoice.agreement, activity, invoice.at_s) for activity in invoice.activities]
            after_s = min((start_s for start_s in starts if start_s is not None), default=None)
            if after_s is None or after_s <= cursor_s:
                earlier = daemon.notes(None if after_s is None else after_s - 1, until_s=invoice.at_s)
                notes += [note for note in earlier if note.agreement == invoice.agreement]
    notes += [*spoiled, *_of_their_second(daemon, spoiled), *_deleted(daemon, recent, notes)]
    return _Ledger(recent, list({note.id: note for note in notes}.values()), taken_back, whole=False)


def _of_their_second(daemon: Daemon, spoiled: Iterable[Note]) -> list[Note]:
    """The other notes of the seconds of these: what was stored of that second counts again by the last that is left."""
    return [
        twin
        for note in spoiled
        for twin in daemon.notes(note.at_s - 1, until_s=note.at_s)
        if twin.activity == note.activity
    ]


def _deleted(daemon: Daemon, invoices: Iterable[Invoice], notes: Iterable[Note]) -> list[Note]:
    """One note for all those of an invoiced activity that the daemon has deleted, as it does when it is upgraded."""
    noted = {note.activity for note in notes}
    return [
        Note(activity, invoice.at_s, activity, invoice.agreement, due, invoice.currency, void=False, first=is_known)
        for invoice in invoices
        if not invoice.void
        for activity in invoice.activities
        if activity not in noted and (due := daemon.due(activity))
        for is_known in [daemon.started_s(invoice.agreement, activity, invoice.at_s) is not None]
    ]


def _activities(invoices: Iterable[Invoice], *, void: bool) -> frozenset[str]:
    return frozenset(activity for invoice in invoices if invoice.void is void for activity in invoice.activities)


def _counter(note: Note, observed_s: int, amount: Decimal) -> EarningsSample:
    return EarningsSample(observed_s, amount, note.currency, SampleKind.COUNTER, note.activity, note.activity)


@dataclass(frozen=True, slots=True)
class _Share:
    """How much of what one requestor owes or paid stands how."""

    requestor: str
    standing: Standing
    currency: str
    amount: Decimal


def _shares(invoices: Sequence[Invoice], totals: Sequence[AgreementTotal] | None, now_s: int) -> list[_Share]:
    """What was paid, what is accepted and not yet paid, and what of that, or of unanswered invoices, is at risk.

    Accepted money is payable until it is overdue, then it is at risk; so is an invoice ignored for hours. Of everything
    the daemon remembers: by its totals per agreement, or by the invoices where it keeps none.
    """
    void = {one.agreement for one in invoices if one.void} - {one.agreement for one in invoices if not one.void}
    overdue = {one.agreement for one in invoices if one.status == "ACCEPTED" and one.due_s < now_s}
    paid = {total.agreement: total.paid for total in totals or ()}
    parts: list[tuple[AgreementTotal | Invoice, Standing, Decimal]] = []
    with localcontext(DECIMALS):
        for total in totals or ():
            owed = max(total.accepted - total.paid, Decimal(0))
            parts.append((total, Standing.PAID, total.paid))
            if total.agreement not in void:
                parts.append((total, Standing.ACCEPTED, owed))
            if total.agreement not in void | overdue:
                parts.append((total, Standing.PAYABLE, owed))
        for invoice in invoices:
            ignored = invoice.status in ("ISSUED", "RECEIVED") and now_s - invoice.at_s > _LATE_ANSWER_S
            if (invoice.agreement in overdue and not invoice.void) or ignored:
                unpaid = max(invoice.amount - paid.get(invoice.agreement, Decimal(0)), Decimal(0))
                parts.append((invoice, Standing.AT_RISK, unpaid))
            if totals is None and invoice.status in _SETTLEMENT:
                parts.append((invoice, _SETTLEMENT[invoice.status], invoice.amount))
                if invoice.status == "ACCEPTED" and invoice.agreement not in overdue:
                    parts.append((invoice, Standing.PAYABLE, invoice.amount))
    return [_Share(one.requestor, standing, one.currency, amount) for one, standing, amount in parts]


def _standings(shares: Sequence[_Share]) -> tuple[StandingAmount, ...]:
    sums = {
        (standing, one): Decimal(0) for one in ("GLM", *(one.currency for one in shares)) for standing in _STANDINGS
    }
    with localcontext(DECIMALS):
        for one in shares:
            sums[one.standing, one.currency] += one.amount
    return tuple(StandingAmount(standing, amount, currency) for (standing, currency), amount in sums.items())


def _requestors(shares: Iterable[_Share]) -> list[dict[str, str]]:
    """The same for each requestor and currency, amounts as text: those who owe most, then those who paid most."""
    sums: dict[tuple[str, str], dict[Standing, Decimal]] = {}
    with localcontext(DECIMALS):
        for one in shares:
            own = sums.setdefault((one.requestor, one.currency), dict.fromkeys(_STANDINGS, Decimal(0)))
            own[one.standing] += one.amount
    ranked = sorted(
        sums.items(),
        key=lambda row: (-max(row[1][Standing.ACCEPTED], row[1][Standing.AT_RISK]), -row[1][Standing.PAID], row[0]),
    )
    return [
        {"requestor": requestor, "currency": currency}
        | {str(standing): decimal_text(amount) for standing, amount in own.items()}
        for (requestor, currency), own in ranked[:_REQUESTORS_TOLD]
    ]


def _usage(offers: Sequence[Offer], agreements: Sequence[Agreement], *, busy: bool) -> dict[Resource, Usage]:
    """The largest offer of each resource, as the presets share one profile, and all that is bound by agreements."""
    bound = [one.offer for one in agreements]
    return {
        resource: Usage(
            max(map(amount, offers), default=0.0),
            # Busy without an agreement: it is over, and what the last of its work takes is not told.
            sum(map(amount, bound)) if bound or not busy else max(map(amount, offers), default=None),
        )
        for resource, amount in _OFFERED.items()
    }


def _told(warnings: list[str], what: str, ask: Callable[[], _T]) -> _T | None:
    """The answer to a question that no money hangs on; None, and a warning, where there is none."""
    try:
        return ask()
    except AdapterError as error:
        warnings.append(f"{what} could not be read: {error.message}")
        return None


def _health(troubles: Sequence[str], details: dict[str, Any]) -> Health:
    if troubles:
        return Health(HealthStatus.DEGRADED, "; ".join(troubles), details)
    paid_in = "" if any(not one["test_money"] for one in details["agreements"] or details["offers"]) else _TEST_MONEY
    if details["busy"]:
        reason = "working" if details["offers"] else "draining: working, and nothing is offered to the next requestor"
        return Health(HealthStatus.UP, reason + (paid_in if details["agreements"] else ""), details)
    if details["offers"]:
        return Health(HealthStatus.UP, "idle: offered, and nobody hires" + paid_in, details)
    if details["agent_polls"] == 0:
        reason = "nothing is offered: ya-provider has not asked for work since the daemon started"
        return Health(HealthStatus.DEGRADED, reason, details)
    return Health(
        HealthStatus.UP, "paused: nothing is offered (no active preset, or ya-provider does not run)", details
    )
