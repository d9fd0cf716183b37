"""The REST interface of a yagna daemon, answered from a simulated provider: keys, routes and query rules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

from . import yagna_documents as documents
from .provider import Agreement, Event, Provider
from .times import MICROS, parse_us, utc_text_us
from .wire import TEXT, Answer, Query, json_answer, text_answer

Row = TypeVar("Row")

_STATES = ("Proposal", "Pending", "Cancelled", "Rejected", "Approved", "Expired", "Terminated")
_NETWORKS = ("mainnet", "polygon", "holesky", "hoodi", "sepolia", "amoy")
_OPEN_PATHS = ("/metrics-api", "/version/get", "/dashboard")
_NO_ROUTE = Answer(404)


class Yagna:
    """Answers as the daemon beside ``provider`` at the instant ``now`` gives, to whoever has ``app_key``."""

    def __init__(self, provider: Provider, app_key: str, now: Callable[[], int]) -> None:
        self._provider = provider
        self._app_key = app_key
        self._now = now

    def __call__(self, path: str, query: Query, headers: Mapping[str, str]) -> Answer:
        if not path.startswith(_OPEN_PATHS):
            key = headers.get("authorization", "").removeprefix("Bearer ") or query.get("authToken")
            if key != self._app_key:
                return text_answer("Invalid application key" if key else "Missing application key", 401)
        try:
            return self._route(path.split("/")[1:], query, self._now() * MICROS)
        except ValueError as error:
            return text_answer(f"Query deserialize error: {error}", 400)

    def _route(self, segments: list[str], query: Query, now_us: int) -> Answer:  # noqa: PLR0911 - one return a route
        match segments:
            case ["me"]:
                return json_answer({"identity": self._provider.identity, "name": "SIMULATED", "role": "manager"})
            case ["version", "get"]:
                return json_answer(documents.version(self._provider))
            case ["healthcheck"]:
                return json_answer({"status": "ok"})
            case ["payment-api", "v1", *rest]:
                return self._payment(rest, query, now_us)
            case ["market-api", "v1", *rest]:
                return self._market(rest, query, now_us)
            case ["activity-api", "v1", *rest]:
                return self._activity(rest, query, now_us)
            case ["metrics-api", "v1", "expose"]:
                return Answer(200, _exposition(self._provider, now_us).encode(), TEXT)
            case _:
                return _NO_ROUTE

    def _payment(self, rest: list[str], query: Query, now_us: int) -> Answer:  # noqa: PLR0911 - one return a route
        """Lists ascend by the time of creation and hold what is strictly later than ``afterTimestamp``."""
        provider = self._provider
        match rest:
            case ["invoices"]:
                rows = _after(provider.agreements, _invoiced_us, query, now_us)
                return json_answer([documents.invoice(provider, row, now_us) for row in rows])
            case ["debitNotes"]:
                notes = _after(provider.notes, _note_us, query, now_us)
                return json_answer([documents.debit_note(provider, *note, now_us) for note in notes])
            case ["invoices" | "debitNotes" as kind, document_id]:
                return self._document(kind, document_id, now_us)
            case ["invoiceEvents"]:
                return json_answer(_events("invoiceId", provider.invoice_events, query, now_us))
            case ["debitNoteEvents"]:
                return json_answer(_events("debitNoteId", provider.note_events, query, now_us))
            case ["payments"]:
                return self._payments(query, now_us)
            case ["payActivities"]:
                rows = _after(provider.agreements, _started_us, query, now_us)
                return json_answer([documents.pay_activity(provider, row, now_us) for row in rows])
            case ["payAgreements"]:
                rows = _after(provider.agreements, _started_us, query, now_us)
                return json_answer([documents.pay_agreement(provider, row, now_us) for row in rows])
            case ["providerAccounts"]:
                return json_answer([documents.account(provider)])
            case ["payments", "status"]:
                return json_answer([])
            case _:
                return _NO_ROUTE

    def _document(self, kind: str, document_id: str, now_us: int) -> Answer:
        provider = self._provider
        for agreement in provider.agreements:
            if kind == "invoices" and agreement.invoice_id == document_id and agreement.invoiced_us <= now_us:
                return json_answer(documents.invoice(provider, agreement, now_us))
            for index, note in enumerate(agreement.notes):
                if kind == "debitNotes" and note.id == document_id and note.issued_us <= now_us:
                    return json_answer(documents.debit_note(provider, agreement, index, now_us))
        return json_answer({"message": None}, 404)

    def _payments(self, query: Query, now_us: int) -> Answer:
        """Settled invoices; asked for a network, the real daemon finds nothing or fails, and so does this."""
        if "network" in query:
            known = query["network"] in _NETWORKS
            return json_answer([]) if known else json_answer({"message": "Matching variant not found"}, 500)
        settled = _after(self._provider.settlements, _settled_us, query, now_us)
        return json_answer([documents.payment(self._provider, *one) for one in settled])

    def _market(self, rest: list[str], query: Query, now_us: int) -> Answer:
        match rest:
            case ["offers"]:
                return json_answer([documents.offer_in_force(self._provider, now_us // MICROS)])
            case ["agreements"]:
                return json_answer(self._agreements(query, now_us))
            case ["agreements", agreement_id]:
                for agreement in self._provider.agreements:
                    if agreement.id == agreement_id and agreement.approved_us <= now_us:
                        return json_answer(documents.agreement_detail(self._provider, agreement, now_us))
                return json_answer({"message": f"Agreement [{agreement_id}] not found."}, 404)
            case _:
                return _NO_ROUTE

    def _agreements(self, query: Query, now_us: int) -> list[dict[str, str]]:
        state = query.get("state")
        if state is not None and state not in _STATES:
            raise ValueError(f"unknown variant `{state}`, expected one of {', '.join(f'`{one}`' for one in _STATES)}")
        session = documents.session(self._provider)
        after_us = parse_us(query["afterDate"]) if "afterDate" in query else 0
        before_us = parse_us(query["beforeDate"]) if "beforeDate" in query else now_us + 1
        return [
            documents.agreement_row(agreement)
            for agreement in self._provider.agreements
            if agreement.approved_us <= now_us
            and after_us < agreement.signed_us < before_us
            and state in (None, agreement.state(now_us))
            and query.get("appSessionId", session) == session
        ]

    def _activity(self, rest: list[str], query: Query, now_us: int) -> Answer:
        started = [agreement for agreement in self._provider.agreements if agreement.started_us <= now_us]
        match rest:
            case ["_monitor"]:
                return self._monitor(now_us)
            case ["activity"]:
                wanted = query.get("agreementId")
                return json_answer([one.activity_id for one in started if wanted in (None, one.id)])
            case ["activity", activity_id, "state" | "usage" as what]:
                for agreement in started:
                    if agreement.activity_id == activity_id:
                        return json_answer(_activity_facts(agreement, what, now_us))
                return json_answer({"message": "Requested activity has not been found"}, 404)
            case _:
                return _NO_ROUTE

    def _monitor(self, now_us: int) -> Answer:
        running = self._provider.running(now_us)
        activities = [documents.monitored(running, now_us)] if running else []
        event = json_answer({"ts": utc_text_us(now_us, "000Z"), "activities": activities})
        return Answer(200, b"data: " + event.body + b"\n\n", "text/event-stream", stays_open=True)


def _after(rows: Sequence[Row], instant: Callable[[Row], int], query: Query, now_us: int) -> Sequence[Row]:
    """Rows after ``afterTimestamp`` that exist by now, oldest first, at most ``maxItems`` or ``maxEvents`` of them."""
    start = bisect_right(rows, parse_us(query["afterTimestamp"]), key=instant) if "afterTimestamp" in query else 0
    end = bisect_right(rows, now_us, key=instant)
    most = query.get("maxItems") or query.get("maxEvents")
    if most is not None:
        if not most.isdigit():
            raise ValueError("invalid digit found in string")
        end = min(end, start + int(most))
    return rows[start:end]


def _invoiced_us(agreement: Agreement) -> int:
    return agreement.invoiced_us


def _started_us(agreement: Agreement) -> int:
    return agreement.started_us


def _note_us(note: tuple[Agreement, int]) -> int:
    return note[0].notes[note[1]].issued_us


def _settled_us(settled: tuple[int, Agreement]) -> int:
    return settled[0]


def _event_us(event: Event) -> int:
    return event.at_us


def _events(id_key: str, events: Sequence[Event], query: Query, now_us: int) -> list[dict[str, str]]:
    return [
        {id_key: event.document_id, "eventDate": utc_text_us(event.at_us), "eventType": event.kind}
        for event in _after(events, _event_us, query, now_us)
    ]


def _activity_facts(agreement: Agreement, what: str, now_us: int) -> dict[str, Any]:
    if what == "state":
        return {"state": ["Ready" if agreement.running(now_us) else "Terminated", None]}
    return {"currentUsage": agreement.usage(now_us), "timestamp": min(now_us, agreement.ended_us) // MICROS}


def _exposition(provider: Provider, now_us: int) -> str:
    """Prometheus text with the counters of documents and work since the daemon's start."""
    agreements = [agreement for agreement in provider.agreements if agreement.approved_us <= now_us]
    ended = sum(agreement.ended_us <= now_us for agreement in agreements)
    statuses = [agreement.invoice_status(now_us) for agreement in agreements if agreement.invoiced_us <= now_us]
    notes = [(one, one.notes[index]) for one, index in _after(provider.notes, _note_us, {}, now_us)]
    seconds = now_us // MICROS - provider.start_s
    counters = {
        "activity_provider_created": sum(agreement.started_us <= now_us for agreement in agreements),
        "activity_provider_destroyed": ended,
        "activity_provider_destroyed_by_requestor": ended,
        "activity_provider_events_query": seconds // 5,
        "market_agreements_provider_approved": len(agreements),
        "market_agreements_provider_proposed": len(agreements),
        "market_agreements_provider_terminated": ended,
        'market_agreements_provider_terminated_reason{reason="Success"}': ended,
        "market_offers_subscribed": seconds // 3600 + 1,
        "market_offers_unsubscribed": seconds // 3600,
        'payment_amount_received{platform="erc20-polygon-glm"}': _nano_glm_received(provider, now_us),
        "payment_debit_notes_provider_accepted": sum(one.note_accepted(note, now_us) for one, note in notes),
        "payment_debit_notes_provider_issued": len(notes),
        "payment_debit_notes_provider_sent": len(notes),
        "payment_invoices_provider_accepted": sum(status in ("ACCEPTED", "SETTLED") for status in statuses),
        "payment_invoices_provider_cancelled": statuses.count("CANCELLED"),
        "payment_invoices_provider_issued": len(statuses),
        "payment_invoices_provider_paid": statuses.count("SETTLED"),
        "payment_invoices_provider_sent": len(statuses),
        "yagna_service_up": 1,
    }
    lines = [f"# metrics snapshot (ts={now_us // MICROS}) (prometheus exposition format)"]
    for name, value in counters.items():
        lines += [f"# TYPE {name.partition('{')[0]} counter", f"{name} {value}", ""]
    return "\n".join(lines)


def _nano_glm_received(provider: Provider, now_us: int) -> int:
    settled = _after(provider.settlements, _settled_us, {}, now_us)
    return sum(int(Decimal(agreement.amount) * 10**9) for _, agreement in settled)
