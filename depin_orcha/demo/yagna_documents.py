"""The bodies of yagna's REST interface, made from a simulated provider's agreements."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from typing import Any

from depin_orcha.types import DAY_S, HOUR_S

from .provider import NOTE_INTERVAL_S, PLATFORM, Agreement, Provider, Setting, address_of
from .times import MICROS, utc_text, utc_text_us

_OFFER_LIFE_S = HOUR_S


def invoice(provider: Provider, agreement: Agreement, now_us: int) -> dict[str, Any]:
    """An Invoice."""
    return {
        "invoiceId": agreement.invoice_id,
        **_parties(provider, agreement),
        "timestamp": utc_text_us(agreement.invoiced_us),
        "agreementId": agreement.id,
        "activityIds": [agreement.activity_id],
        "amount": agreement.amount,
        "paymentDueDate": utc_text_us(agreement.invoiced_us + DAY_S * MICROS),
        "status": agreement.invoice_status(now_us),
    }


def debit_note(provider: Provider, agreement: Agreement, index: int, now_us: int) -> dict[str, Any]:
    """The DebitNote that is number ``index`` of its activity."""
    note = agreement.notes[index]
    return {
        "debitNoteId": note.id,
        **_parties(provider, agreement),
        **({"previousDebitNoteId": agreement.notes[index - 1].id} if index else {}),
        "timestamp": utc_text_us(note.issued_us),
        "agreementId": agreement.id,
        "activityId": agreement.activity_id,
        "totalAmountDue": note.amount,
        "usageCounterVector": note.usage,
        "status": agreement.note_status(note, now_us),
    }


def payment(provider: Provider, settled_us: int, agreement: Agreement) -> dict[str, Any]:
    """The Payment that settled an invoice."""
    return {
        "paymentId": agreement.payment_id,
        "payerId": agreement.requestor,
        "payeeId": provider.identity,
        "payerAddr": agreement.requestor,
        "payeeAddr": provider.identity,
        "paymentPlatform": PLATFORM,
        "amount": agreement.amount,
        "timestamp": utc_text_us(settled_us),
        "agreementPayments": [{"agreementId": agreement.id, "amount": agreement.amount}],
        "activityPayments": [],
        "details": b64encode(sha256(agreement.payment_id.encode()).digest()).decode(),
    }


def pay_activity(provider: Provider, agreement: Agreement, now_us: int) -> dict[str, Any]:
    """Running totals of an activity; paid stays 0 because payments come through the invoice."""
    created = utc_text_us(agreement.started_us, zone="")
    return {
        "id": agreement.activity_id,
        "ownerId": provider.identity,
        "role": "P",
        "agreementId": agreement.id,
        **_totals(agreement, now_us),
        "totalAmountPaid": "0",
        "createdTs": created,
        "updatedTs": created,
    }


def pay_agreement(provider: Provider, agreement: Agreement, now_us: int) -> dict[str, Any]:
    """Running totals of an agreement."""
    created = utc_text_us(agreement.started_us, zone="")
    return {
        "id": agreement.id,
        "ownerId": provider.identity,
        "role": "P",
        "peerId": agreement.requestor,
        "payeeAddr": provider.identity,
        "payerAddr": agreement.requestor,
        "paymentPlatform": PLATFORM,
        **_totals(agreement, now_us),
        "totalAmountPaid": agreement.amount if agreement.invoice_status(now_us) == "SETTLED" else "0",
        "appSessionId": session(provider),
        "createdTs": created,
        "updatedTs": created,
    }


def account(provider: Provider) -> dict[str, Any]:
    """Where the provider is paid."""
    return {
        "platform": PLATFORM,
        "address": provider.identity,
        "driver": "erc20",
        "network": "polygon",
        "token": "GLM",
        "send": False,
        "receive": True,
    }


def agreement_row(agreement: Agreement) -> dict[str, str]:
    """An agreement as the list shows it."""
    return {
        "id": agreement.id,
        "timestamp": utc_text_us(agreement.signed_us),
        "approvedDate": utc_text_us(agreement.approved_us),
        "role": "Provider",
    }


def agreement_detail(provider: Provider, agreement: Agreement, now_us: int) -> dict[str, Any]:
    """An Agreement with the demand and the offer it was signed on."""
    signed = utc_text_us(agreement.signed_us)
    return {
        "agreementId": agreement.id,
        "demand": {
            "properties": {
                "golem.com.payment.chosen-platform": PLATFORM,
                "golem.com.payment.debit-notes.accept-timeout?": 240,
                f"golem.com.payment.platform.{PLATFORM}.address": agreement.requestor,
                "golem.com.scheme.payu.debit-note.interval-sec?": NOTE_INTERVAL_S,
                "golem.com.scheme.payu.payment-timeout-sec?": 120,
                "golem.node.debug.subnet": "public",
                "golem.node.id.name": "SIMULATED-requestor",
                "golem.srv.caps.multi-activity": True,
                "golem.srv.comp.expiration": agreement.signed_us // 1000 + 8 * HOUR_S * 1000,
                "golem.srv.comp.task_package": "hash:sha3:00:http://registry.invalid/SIMULATED.gvmi",
            },
            "constraints": "(&(golem.inf.mem.gib>=2)(golem.runtime.name=vm))",
            "demandId": _market_id("demand", agreement.id),
            "requestorId": agreement.requestor,
            "timestamp": signed,
        },
        "offer": _offer(provider, agreement.setting, agreement.signed_us),
        "validTo": utc_text_us(agreement.signed_us + 300 * MICROS),
        "approvedDate": utc_text_us(agreement.approved_us),
        "state": agreement.state(now_us),
        "timestamp": signed,
        "appSessionId": session(provider),
        "proposedSignature": "NoSignature",
        "approvedSignature": "NoSignature",
        "committedSignature": "NoSignature",
    }


def offer_in_force(provider: Provider, now_s: int) -> dict[str, Any]:
    """The live offer: replaced when a setting changes, and renewed when its life ends."""
    since_s, setting = provider.schedule.at(now_s)
    return _offer(provider, setting, (now_s - (now_s - since_s) % _OFFER_LIFE_S) * MICROS)


def monitored(agreement: Agreement, now_us: int) -> dict[str, Any]:
    """A running activity as the event stream shows it."""
    thread_seconds, seconds = agreement.usage(now_us)
    return {
        "id": agreement.activity_id,
        "state": "Ready",
        "usage": {"golem.usage.cpu_sec": thread_seconds, "golem.usage.duration_sec": seconds},
        "exeUnit": "vm",
        "agreementId": agreement.id,
    }


def version(provider: Provider) -> dict[str, Any]:
    """The daemon's version."""
    started = utc_text(provider.start_s).removesuffix("Z")
    current = {
        "version": "0.17.6",
        "name": "SIMULATED",
        "seen": True,
        "releaseTs": "2026-03-13T00:00:00",
        "insertionTs": started,
        "updateTs": started,
    }
    return {"current": current, "pending": None}


def session(provider: Provider) -> str:
    """The requestors' session that every agreement names."""
    return f"SIMULATED-{provider.name}"


def _parties(provider: Provider, agreement: Agreement) -> dict[str, str]:
    return {
        "issuerId": provider.identity,
        "recipientId": agreement.requestor,
        "payeeAddr": provider.identity,
        "payerAddr": agreement.requestor,
        "paymentPlatform": PLATFORM,
    }


def _totals(agreement: Agreement, now_us: int) -> dict[str, str]:
    """What an agreement, or its one activity, comes to so far."""
    due, accepted = "0", "0"
    for note in agreement.notes:
        if note.issued_us <= now_us:
            due = note.amount
            accepted = note.amount if agreement.note_accepted(note, now_us) else accepted
    return {"totalAmountDue": due, "totalAmountAccepted": accepted, "totalAmountScheduled": "0"}


def _offer(provider: Provider, setting: Setting, made_us: int) -> dict[str, Any]:
    return {
        "properties": {
            "golem.com.payment.platform.erc20-mainnet-glm.address": provider.identity,
            "golem.com.payment.platform.erc20-polygon-glm.address": provider.identity,
            "golem.com.payment.protocol.version": 3,
            "golem.com.pricing.model": "linear",
            "golem.com.pricing.model.linear.coeffs": [setting.glm_per_thread_s, setting.glm_per_s, 0.0],
            "golem.com.scheme": "payu",
            "golem.com.scheme.payu.debit-note.interval-sec?": NOTE_INTERVAL_S,
            "golem.com.scheme.payu.payment-timeout-sec?": 120,
            "golem.com.usage.vector": ["golem.usage.cpu_sec", "golem.usage.duration_sec"],
            "golem.inf.cpu.architecture": "x86_64",
            "golem.inf.cpu.cores": provider.cores,
            "golem.inf.cpu.threads": setting.threads,
            "golem.inf.mem.gib": setting.threads * 2.0,
            "golem.inf.storage.gib": 120.0,
            "golem.node.debug.subnet": "public",
            "golem.node.id.name": f"SIMULATED-{provider.name}",
            "golem.node.net.is-public": False,
            "golem.runtime.name": "vm",
            "golem.runtime.version": "0.5.3",
            "golem.srv.caps.multi-activity": True,
            "golem.srv.caps.payload-manifest": True,
        },
        "constraints": f"(&\n  (golem.srv.comp.expiration>{made_us // 1000})\n  (golem.node.debug.subnet=public)\n)",
        "offerId": _market_id("offer", f"{provider.identity}{made_us}"),
        "providerId": provider.identity,
        "timestamp": utc_text_us(made_us),
    }


def _market_id(kind: str, text: str) -> str:
    """Shape of a market document's id: 32 and 64 hexadecimal digits."""
    return f"{address_of(kind + text)[2:34]}-{sha256(text.encode()).hexdigest()}"
