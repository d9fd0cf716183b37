"""A yagna daemon as its REST interface shows it: documents listed by the time they were made, amounts as exact text."""

from __future__ import annotations

import json
from bisect import bisect_right, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from years.agenda import Agenda, answer
from years.year import Answer

from depin_orcha.types import DAY_S

URL = "http://127.0.0.1:7465"
KEY = "made-up-application-key"
FORGOTTEN_S = 90 * DAY_S
"""The market forgets agreements that are older."""

PAYING = ("erc20-polygon-glm", "erc20-mainnet-glm")
TEST = ("erc20-hoodi-tglm", "erc20-polygon-tglm")
VOID = ("REJECTED", "CANCELLED", "FAILED")
DIGITS = 24
"""Amounts are whole numbers of 1e-24 GLM: other programs than ya-provider write more than 18 digits."""
US = 1_000_000
JSON = {"content-type": "application/json"}
NO_ROUTE: Answer = (404, b"", {})
NOTHING = answer([])
UNKNOWN = answer({"message": None}, 404)
HEALTHY = answer({"status": "ok"})
OFFER = {
    "golem.com.payment.platform.erc20-polygon-glm.address": "0x00",
    "golem.com.pricing.model.linear.coeffs": [6.944444444444444e-06, 1.388888888888889e-06, 0.0],
    "golem.com.usage.vector": ["golem.usage.cpu_sec", "golem.usage.duration_sec"],
    "golem.inf.cpu.threads": 15,
    "golem.inf.mem.gib": 21.3,
    "golem.inf.storage.gib": 157.5,
    "golem.runtime.name": "vm",
}
OFFERED = answer([{"properties": OFFER, "offerId": "1", "timestamp": "2026-01-01T00:00:00Z"}])
OLD = answer({"current": {"version": "0.16.4"}, "pending": {"version": "0.17.6"}})
NEW = answer({"current": {"version": "0.17.6"}, "pending": None})


@dataclass(order=True)
class Row:
    """A document in its list; ``text`` is written again when the document changes."""

    at_us: int
    number: int
    said: dict[str, Any] = field(compare=False)
    text: bytes = field(default=b"", compare=False)

    def write(self, **changes: str) -> None:
        self.said |= changes
        self.text = json.dumps(self.said, separators=(",", ":")).encode()


class Shelf:
    """The documents of each kind; some come late, with the time at which they were made."""

    kinds = ("invoices", "debitNotes", "invoiceEvents", "debitNoteEvents", "payments")

    def __init__(self) -> None:
        self._made = 0
        self._rows: dict[str, list[Row]] = {kind: [] for kind in self.kinds}

    def clear(self, *kinds: str) -> None:
        """Nobody can read these any more."""
        self._rows |= {kind: [] for kind in kinds}

    def make(self, at_us: int, said: dict[str, Any], time_key: str = "timestamp") -> Row:
        """A document that nobody can read yet."""
        self._made += 1
        row = Row(at_us, self._made, said | {time_key: instant(at_us)})
        row.write()
        return row

    def put(self, kind: str, row: Row) -> None:
        insort(self._rows[kind], row)

    def has(self, kind: str, row: Row) -> bool:
        rows = self._rows[kind]
        return rows[bisect_right(rows, row) - 1 :][:1] == [row]

    def rows(self, kind: str) -> list[Row]:
        """The oldest first."""
        return self._rows[kind]


def listed(rows: list[Row], params: Mapping[str, str]) -> Answer:
    """Those strictly after an instant, the oldest first, at most as many as asked for."""
    after = params.get("afterTimestamp")
    start = bisect_right(rows, instant_us(after), key=lambda row: row.at_us) if after else 0
    most = params.get("maxItems") or params.get("maxEvents")
    chosen = rows[start : start + int(most)] if most else rows[start:]
    return 200, b"[" + b",".join([row.text for row in chosen]) + b"]", JSON


def total(said: dict[str, Any], created_us: int, due: int, accepted: int = 0, paid: int = 0) -> Row:
    """A running total of an agreement or an activity of a provider."""
    amounts = {"Due": due, "Accepted": accepted, "Scheduled": 0, "Paid": paid}
    told = {"role": "P"} | {f"totalAmount{name}": amount_text(amount) for name, amount in amounts.items()}
    row = Row(created_us, 0, said | told | {"createdTs": instant(created_us).removesuffix("Z")})
    row.write()
    return row


def signed(name: str, approved_us: int, role: str = "Provider") -> dict[str, str]:
    """A member of the list of agreements."""
    return {"id": name, "timestamp": instant(approved_us - 2 * US), "approvedDate": instant(approved_us), "role": role}


def agreed(platform: str, requestor: str, expires_s: int) -> Answer:
    """An agreement with the demand and the offer it was made on."""
    wanted = {"golem.com.payment.chosen-platform": platform, "golem.srv.comp.expiration": expires_s * 1000}
    return answer({"demand": {"properties": wanted, "requestorId": requestor}, "offer": {"properties": OFFER}})


def monitored(activities: Mapping[str, str], at_us: int) -> Answer:
    """The first event of a stream: the activities that run, and their agreements."""
    told = [
        {"id": name, "state": "Ready", "usage": {}, "exeUnit": "vm", "agreementId": agreement}
        for name, agreement in activities.items()
    ]
    event = json.dumps({"ts": instant(at_us), "activities": told}).encode()
    return 200, b"data: " + event + b"\n\n", {"content-type": "text/event-stream"}


def amount_text(amount: int) -> str:
    """Exact, and without zeros at the end."""
    whole, part = divmod(amount, 10**DIGITS)
    return f"{whole}.{part:0{DIGITS}d}".rstrip("0").rstrip(".")


def instant(at_us: int) -> str:
    """With as many digits as it takes."""
    second, part = divmod(at_us, US)
    text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{part:06d}".rstrip("0") + "Z" if part else f"{text}Z"


def instant_us(text: str) -> int:
    """Of an instant as ``instant`` writes it, or without a fraction."""
    whole = datetime.fromisoformat(text)
    return int(whole.timestamp()) * US + whole.microsecond


@dataclass
class Activity:
    """A piece of work; ``due`` is what it costs, ``notes`` can be read, with their amounts, all from ``shown_s`` on."""

    id: str
    created_us: int
    due: int = 0
    last_note: str | None = None
    shown_s: int = 0
    notes: list[tuple[Row, int]] = field(default_factory=list[tuple[Row, int]])

    @property
    def noted(self) -> int:
        """What it has cost by the last note that is not taken back."""
        return next((amount for row, amount in reversed(self.notes) if row.said["status"] not in VOID), 0)


@dataclass
class Agreement:
    """With one requestor; ``worth`` is what its documents say now, ``known`` what they said when last read."""

    id: str
    requestor: str
    platform: str
    approved_us: int
    interval_s: int
    ends_s: int
    activities: list[Activity] = field(default_factory=list[Activity])
    running: bool = True
    gone: bool = False
    invoice: Row | None = None
    amount: int = 0
    paid: int = 0
    worth: int = 0
    known: int = 0

    @property
    def currency(self) -> str:
        return "GLM" if self.platform in PAYING else "tGLM"

    @property
    def due(self) -> int:
        return sum(activity.due for activity in self.activities)

    @property
    def told(self) -> int:
        """What it is worth by the documents that can be read."""
        if self.invoice is None:
            return sum(activity.noted for activity in self.activities)
        return 0 if self.invoice.said["status"] in VOID else self.amount


class Daemon(Agenda):
    """What is asked of it is answered from its documents, its agreements and its own state."""

    def __init__(self, name: str, start_s: int) -> None:
        super().__init__(name, start_s)
        chance = self.chance
        self._identity = self._address()
        self._is_new = chance.random() < 0.7
        self._skew_s = chance.choice([0, 0, 0, -1200, chance.randrange(-600, 1)])
        self._tick_us = chance.choice([1, 1, 1000, US])
        self._last_us = 0
        self._down, self._offered = False, True
        self._started_s = self.now_s
        self._shelf = Shelf()
        self._agreements: dict[str, Agreement] = {}
        self._answers: dict[str, Answer] = {}

    def advance(self, to_s: int) -> None:
        next_one = self._due[0]
        super().advance(to_s)
        if self._due[0] is not next_one:
            self._answers.clear()

    # What is written

    def _us(self) -> int:
        """The daemon's clock, which never goes back."""
        told_us = (self.now_s + self._skew_s) * US + self.chance.randrange(US)
        self._last_us = max(told_us // self._tick_us * self._tick_us, self._last_us)
        return self._last_us

    def _address(self) -> str:
        return f"0x{self.chance.randrange(16**40):040x}"

    def _id(self) -> str:
        digits = f"{self.chance.randrange(16**32):032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _parties(self, one: Agreement, key: str) -> dict[str, Any]:
        return {
            key: self._id(),
            "issuerId": self._identity,
            "recipientId": one.requestor,
            "payeeAddr": self._identity,
            "payerAddr": one.requestor,
            "paymentPlatform": one.platform,
            "agreementId": one.id,
        }

    def _event(self, kind: str, row: Row, status: str) -> None:
        name = f"{kind[0].upper()}{kind[1:]}{status.capitalize()}Event"
        said = {f"{kind}Id": row.said[f"{kind}Id"], "eventType": name}
        self._shelf.put(f"{kind}Events", self._shelf.make(self._us(), said, "eventDate"))

    # What it answers

    def respond(
        self, method: str, url: str, params: Mapping[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        assert (method, body) == ("GET", None)
        assert headers == {"Authorization": f"Bearer {KEY}"}
        path = url.removeprefix(URL)
        if self._down:
            return 0, b"", {}
        if path == "/metrics-api/v1/expose":
            return 200, b"activity_provider_events_query %d\n" % ((self.now_s - self._started_s) // 5), {}
        if "afterTimestamp" in params:
            return self._route(path, params)
        asked = f"{path} {params}"
        if asked not in self._answers:
            self._answers[asked] = self._route(path, params)
        return self._answers[asked]

    def _route(self, path: str, params: Mapping[str, str]) -> Answer:  # noqa: PLR0911 - one return a route
        match path.split("/")[1:]:
            case ["me"]:
                return answer({"identity": self._identity, "name": "made-up", "role": "manager"})
            case ["payment-api", "v1", *rest]:
                return self._payment(rest, params)
            case ["market-api", "v1", *rest]:
                return self._market(rest, params)
            case ["activity-api", "v1", "_monitor"]:
                running = [one for one in self._agreements.values() if one.running]
                return monitored({act.id: one.id for one in running for act in one.activities}, self._last_us)
            case ["version", "get"]:
                return NEW if self._is_new else OLD
            case ["healthcheck"]:
                return HEALTHY
            case _:
                return NO_ROUTE

    def _payment(self, rest: list[str], params: Mapping[str, str]) -> Answer:
        match rest:
            case ["payments", "status"]:
                return NOTHING
            case ["debitNotes", name]:
                rows = (row for row in self._shelf.rows("debitNotes") if row.said["debitNoteId"] == name)
                return next(((200, row.text, JSON) for row in rows), UNKNOWN)
            case ["payAgreements" | "payActivities" as kind] if self._is_new:
                return listed(sorted(self._totals(kind)), params)
            case [kind] if kind in self._shelf.kinds:
                return listed(self._shelf.rows(kind), params)
            case _:
                return NO_ROUTE

    def _totals(self, kind: str) -> list[Row]:
        rows: list[Row] = []
        for one in self._agreements.values():
            if kind == "payAgreements":
                said = {"id": one.id, "peerId": one.requestor, "paymentPlatform": one.platform}
                accepted = one.worth if one.invoice else 0
                rows.append(total(said, one.approved_us, max(one.amount, one.due), accepted, one.paid))
            for activity in one.activities if kind == "payActivities" else ():
                if activity.last_note is not None or one.invoice:
                    said = {"id": activity.id, "agreementId": one.id}
                    due = activity.due if activity.last_note is not None else 0
                    rows.append(total(said, activity.created_us, due))
        return rows

    def _market(self, rest: list[str], params: Mapping[str, str]) -> Answer:
        oldest_us = (self.now_s - FORGOTTEN_S) * US
        known = {name: one for name, one in self._agreements.items() if one.approved_us > oldest_us}
        match rest:
            case ["offers"]:
                return OFFERED if self._offered else NOTHING
            case ["agreements"]:
                wanted = [one for one in known.values() if one.running or "state" not in params]
                return answer([signed(one.id, one.approved_us) for one in wanted])
            case ["agreements", name] if name in known:
                return agreed(known[name].platform, known[name].requestor, known[name].ends_s)
            case _:
                return UNKNOWN
