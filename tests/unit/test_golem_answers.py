"""Golem: what becomes of money when requestors answer late, think again, or the daemon forgets notes."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, Request, Respond, broken, edited, sample, selected

from depin_orcha.adapters.golem import Adapter, Options
from depin_orcha.net import HttpClient
from depin_orcha.types import DAY_S, SampleKind, Snapshot

WORKING = Path(__file__).parents[1] / "samples" / "golem" / "0.17.6" / "working"
KEY = "00112233445566778899aabbccddeeff"
NOW_S = 1_795_377_180  # 2026-11-22T19:53:00Z
NOTES = "/payment-api/v1/debitNotes"
INVOICES = "/payment-api/v1/invoices"
INVOICE_EVENTS = "/payment-api/v1/invoiceEvents"
NOTE_EVENTS = "/payment-api/v1/debitNoteEvents"
DONE = "9fe16ce8a3e455c4be52ab8a883a2cc6"  # from 17:47:15 of the day before, three notes, invoiced at 18:45:32
DONE_INVOICE = "0937cd69-4eb9-51b7-47c7-5e3426cc51d9"
DONE_NOTE = "1ee0e6fa-afa3-6189-8ac5-51e45615a951"
DONE_COUNTER = ["0", "0.006002155555555555", "0.090003905173611106", "0.1800038202986111"]
WORTH = Decimal("0.1800038202986111")


def read(respond: Respond, since_s: int | None = NOW_S - 900) -> Snapshot:
    with Loopback(respond) as server, HttpClient(10) as http:
        options = Options.model_validate({"protocol": "golem", "url": server.url, "app_key": KEY})
        return Adapter("golem_1", options).collect(http, NOW_S, since_s)


def counter(snapshot: Snapshot, activity: str = DONE) -> list[str]:
    return [str(one.amount) for one in snapshot.earnings if one.external_id == activity]


def rests(snapshot: Snapshot) -> dict[str, Decimal]:
    return {one.external_id: one.amount for one in snapshot.earnings if one.kind is SampleKind.EVENT}


def changed(index: int, **changes: Any) -> Callable[[Any], None]:
    return lambda documents: documents[index].update(changes)


def stored_notes() -> list[dict[str, Any]]:
    return json.loads((WORKING.parent / "debit_notes.json").read_text())


def noted(index: int, notes: list[dict[str, Any]] | None = None, **changes: Any) -> Respond:
    """The sample, or these notes, with one of them changed, before any are selected."""
    notes = notes or stored_notes()
    notes[index] |= changes
    plain = sample(WORKING)

    def respond(request: Request) -> Answer:
        if request.path == f"{NOTES}/{notes[index]['debitNoteId']}":
            return Answer(200, json.dumps(notes[index]).encode(), "application/json")
        if request.path != NOTES:
            return plain(request)
        chosen = selected(sorted(notes, key=lambda note: note["timestamp"]), "timestamp", request.query)
        return Answer(200, json.dumps(chosen).encode(), "application/json")

    return respond


def happening(respond: Respond, path: str, key: str, name: str, kind: str) -> Respond:
    event = {key: name, "eventDate": "2026-11-22T19:40:00.5Z", "eventType": kind}
    return edited(respond, path, lambda events: [*events, event])


def test_an_invoice_that_is_accepted_after_all_gives_its_notes_back() -> None:
    respond = edited(sample(WORKING), INVOICES, changed(0, amount="0.2", status="ACCEPTED"))
    assert counter(read(respond)) == []
    snapshot = read(happening(respond, INVOICE_EVENTS, "invoiceId", DONE_INVOICE, "InvoiceAcceptedEvent"))
    assert counter(snapshot) == DONE_COUNTER
    assert rests(snapshot) == {DONE_INVOICE: Decimal("0.2") - WORTH}
    assert not [one for one in snapshot.voided if one.external_id in (DONE, DONE_INVOICE)]


@pytest.mark.parametrize("event", ["InvoiceReceivedEvent", "InvoiceSettledEvent"])
def test_other_events_cost_no_reading(event: str) -> None:
    assert counter(read(happening(sample(WORKING), INVOICE_EVENTS, "invoiceId", DONE_INVOICE, event))) == []


@pytest.mark.parametrize(("since_s", "is_seen"), [(NOW_S - 6 * DAY_S, True), (NOW_S - 5 * DAY_S, False)])
def test_an_invoice_that_failed_while_nobody_looked_is_taken_back(since_s: int, is_seen: bool) -> None:
    """No event tells of it, so it is watched for a week before the last reading, however long ago that was."""
    respond = edited(sample(WORKING), INVOICES, changed(0, timestamp="2026-11-10T12:00:00Z", status="FAILED"))
    snapshot = read(edited(respond, INVOICE_EVENTS, lambda _: []), since_s)
    assert (DONE_INVOICE in {one.external_id for one in snapshot.voided}) is is_seen


def test_a_rest_is_what_is_beyond_the_last_live_note_however_old() -> None:
    """The last note of all is void and recent, the one before is older than what is read again."""
    respond = edited(
        noted(2, timestamp="2026-11-22T19:30:00Z", status="REJECTED"),
        INVOICES,
        changed(0, timestamp="2026-11-22T19:30:05Z"),
    )
    assert rests(read(respond))[DONE_INVOICE] == WORTH - Decimal("0.090003905173611106")


def test_a_note_that_is_rejected_after_its_invoice_leaves_the_invoice_whole() -> None:
    respond = happening(noted(2, status="REJECTED"), NOTE_EVENTS, "debitNoteId", DONE_NOTE, "DebitNoteRejectedEvent")
    snapshot = read(respond)
    assert rests(snapshot) == {DONE_INVOICE: WORTH - Decimal("0.090003905173611106")}
    assert [one.external_id for one in snapshot.voided if one.kind is SampleKind.COUNTER].count(DONE) == 1


@pytest.mark.parametrize(("index", "left"), [(9, "0.011792538888888888"), (8, "0.017690977777777777")])
def test_a_note_that_is_rejected_gives_way_to_its_twin_of_the_same_second(index: int, left: str) -> None:
    """The second is older than what is read again, and a sample is known by its second alone."""
    notes = stored_notes()
    notes[7]["timestamp"], notes[8]["timestamp"] = "2026-11-22T17:00:00.1Z", "2026-11-22T17:15:27.9Z"
    notes[9]["timestamp"] = "2026-11-22T17:15:27.3Z"
    name, running = notes[index]["debitNoteId"], notes[index]["activityId"]
    respond = noted(index, notes, status="REJECTED")
    snapshot = read(happening(respond, NOTE_EVENTS, "debitNoteId", name, "DebitNoteRejectedEvent"))
    assert counter(snapshot, running) == [left]
    assert running not in {one.external_id for one in snapshot.voided}


def test_a_rest_that_is_no_more_is_taken_back() -> None:
    snapshot = read(happening(sample(WORKING), INVOICE_EVENTS, "invoiceId", DONE_INVOICE, "InvoiceAcceptedEvent"))
    assert rests(snapshot) == {}
    assert DONE_INVOICE in {one.external_id for one in snapshot.voided}


def test_an_activity_whose_first_note_was_void_at_once_still_starts_from_zero() -> None:
    """The next note may come when the first is no longer read."""
    respond = edited(sample(WORKING), NOTES, lambda notes: [notes[0] | {"status": "REJECTED"}])
    assert counter(read(respond), "60f5339a9b146e4a01b0d57ab45cb330") == ["0"]


@pytest.mark.parametrize("since_s", [None, NOW_S - 900])
def test_notes_that_an_upgrade_deleted_are_not_in_the_rest(since_s: int | None) -> None:
    """The daemon still knows what they came to: what nobody has read of them was earned until the invoice."""
    respond = edited(sample(WORKING), NOTES, lambda _: [])
    respond = edited(respond, INVOICES, changed(0, timestamp="2026-11-22T19:30:05Z", amount="0.2"))
    snapshot = read(respond, since_s)
    assert counter(snapshot) == ["0", str(WORTH)]
    assert rests(snapshot)[DONE_INVOICE] == Decimal("0.2") - WORTH


def test_without_totals_an_activity_without_notes_is_all_in_its_invoice() -> None:
    respond = edited(sample(WORKING), NOTES, lambda _: [])
    respond = edited(respond, INVOICES, changed(0, timestamp="2026-11-22T19:30:05Z"))
    snapshot = read(broken(respond, Answer(404), only="/payment-api/v1/payActivities"))
    assert (counter(snapshot), rests(snapshot)[DONE_INVOICE]) == ([], WORTH)


def test_where_the_start_is_forgotten_deleted_notes_go_on_from_what_was_read() -> None:
    respond = edited(sample(WORKING), NOTES, lambda _: [])
    respond = edited(respond, INVOICES, changed(0, timestamp="2026-11-22T19:30:05Z"))
    respond = edited(respond, "/market-api/v1/agreements", lambda every: every[1:])
    respond = edited(respond, "/payment-api/v1/payActivities", changed(0, createdTs=None))
    assert counter(read(respond)) == [str(WORTH)]
