"""A Golem provider for a year: work, debit notes, late or smaller invoices, documents taken back or accepted after all.

Truth is what the documents say that a stored reading could see: an agreement is worth its invoice, nothing if that is
taken back, and before it comes what the last notes of its activities say.
"""

from __future__ import annotations

from base64 import b64encode
from decimal import Decimal
from functools import partial

from years.yagna import (
    DIGITS,
    KEY,
    PAYING,
    TEST,
    URL,
    US,
    Activity,
    Agreement,
    Daemon,
    Row,
    amount_text,
    instant,
)
from years.year import World

from depin_orcha.types import DAY_S, DECIMALS, HOUR_S

INTERVALS_S = (120, 600, 1200, 1800, HOUR_S, HOUR_S, 2 * HOUR_S, 20 * HOUR_S)
DENSE_S = 10
AMOUNTS = (12, 21, 23, 24)
Course = list[tuple[str, int]]
"""What becomes of an invoice: a status, and how many seconds after the one before."""


def world(seed: int, start_s: int) -> World:
    """A provider that has a past, or is new."""
    return Provider(seed, start_s)


class Provider(Daemon):
    """The daemon and its requestors, and what a reader of their documents knows."""

    node = "golem_1"
    protocol = "golem"
    options = {"protocol": "golem", "url": URL, "app_key": KEY}  # noqa: RUF012
    takes_back = True

    def __init__(self, seed: int, start_s: int) -> None:
        past_s = (0, 3 * DAY_S, 20 * DAY_S)[seed % 3]
        super().__init__(f"golem {seed}", start_s - past_s)
        chance = self.chance
        self._unread: dict[str, Agreement] = {}
        self._total = {"GLM": 0, "tGLM": 0}
        self._truth: dict[str, Decimal] = {}
        if past_s and chance.random() < 0.5:
            self._sign(DENSE_S, 4 * HOUR_S)
        self.now_and_then(2.5 * DAY_S, self._sign)
        self.now_and_then(9 * DAY_S, self._restart)
        self.now_and_then(30 * DAY_S, self._hire)
        self.after(chance.randrange(15, 45) * DAY_S, self._reinstall)
        if not self._is_new:
            self.after(chance.randrange(400) * DAY_S, self._upgrade)

    # What happens: work

    def _sign(self, interval_s: int | None = None, lasts_s: int | None = None) -> None:
        """An agreement; most last for an hour or some, and some tell of their cost every few seconds."""
        if self._down or not self._offered or sum(one.running for one in self._agreements.values()) > 1:
            return
        chance = self.chance
        if interval_s is None and chance.random() < 0.02:
            interval_s, lasts_s = DENSE_S, chance.randrange(HOUR_S, 3 * HOUR_S)
        lasts_s = lasts_s or min(int(chance.expovariate(1 / (3 * HOUR_S))) + 60, 2 * DAY_S)
        one = Agreement(
            id=f"{chance.randrange(16**64):064x}",
            requestor=self._address(),
            platform=chance.choice([*PAYING, *PAYING, *TEST]),
            approved_us=self._us(),
            interval_s=interval_s or chance.choice(INTERVALS_S),
            ends_s=self.now_s + lasts_s,
        )
        self._agreements[one.id] = one
        self.happened["agreements"] += 1
        for _ in range(chance.choice([1, 1, 1, 2, 4])):
            self.after(chance.randrange(1, max(lasts_s // 2, 2)), partial(self._begin, one))
        self.after(lasts_s, partial(self._finish, one))

    def _begin(self, one: Agreement) -> None:
        if one.running:
            one.activities.append(Activity(f"{self.chance.randrange(16**32):032x}", self._us()))
            self.after(one.interval_s, partial(self._work, one, one.activities[-1]))

    def _work(self, one: Agreement, activity: Activity) -> None:
        """Time for a note; work that ends before its first one may be in the invoice only."""
        if one.running:
            self._note(one, activity)
            self.after(one.interval_s * self.chance.uniform(0.9, 1.1), partial(self._work, one, activity))

    def _note(self, one: Agreement, activity: Activity, late_s: int = 0) -> None:
        """A note is made, and can be read up to a minute later, when the database has taken it and those before."""
        activity.due += self.chance.randrange(10 ** self.chance.choice(AMOUNTS))
        said = self._parties(one, "debitNoteId") | {
            "activityId": activity.id,
            "totalAmountDue": amount_text(activity.due),
            "usageCounterVector": [60.5, 120.0],
            "status": "ISSUED",
        }
        if activity.last_note is not None:
            said["previousDebitNoteId"] = activity.last_note
        activity.last_note = said["debitNoteId"]
        row = self._shelf.make(self._us(), said)
        if not late_s and self.chance.random() < 0.1:
            late_s = self.chance.randrange(1, 60)
        show = partial(self._show_note, one, activity, (row, activity.due))
        activity.shown_s = max(activity.shown_s, self.now_s + late_s)
        if activity.shown_s > self.now_s:
            self.after(activity.shown_s - self.now_s, show)
        else:
            show()

    def _show_note(self, one: Agreement, activity: Activity, note: tuple[Row, int]) -> None:
        if one.gone:
            return
        activity.notes.append(note)
        activity.notes.sort(key=lambda other: other[0])
        self._shelf.put("debitNotes", note[0])
        self._reckon(one)
        fate = self.chance.random()
        if fate < 0.005:
            self.after(self.chance.randrange(1, DAY_S), partial(self._set_note, one, note[0], "REJECTED"))
        elif fate < 0.9:
            self.after(self.chance.randrange(1, 300), partial(self._set_note, one, note[0], "ACCEPTED"))

    def _set_note(self, one: Agreement, row: Row, status: str) -> None:
        if not self._shelf.has("debitNotes", row):
            return
        if status == "REJECTED":
            if one.invoice is not None and one.invoice.said["status"] != "ISSUED":
                return
            self.happened["rejected notes"] += 1
        row.write(status=status)
        self._event("debitNote", row, status)
        self._reckon(one)

    def _finish(self, one: Agreement) -> None:
        """The last notes, and the invoice: at once, or days after; never if the provider was stopped before."""
        if not one.running:
            return
        one.running = False
        for activity in one.activities:
            if self.chance.random() < 0.8:
                self._note(one, activity)
        if self.chance.random() < 0.2 and one.activities:
            self._note(one, one.activities[-1], late_s=40)  # in the same second as the one before
        late_s = 70
        if self.chance.random() < 0.15:
            self.happened["late invoices"] += 1
            late_s = self.chance.randrange(HOUR_S, 9 * DAY_S)
        if one.activities:
            self.after(late_s, partial(self._bill, one))

    # What happens: money

    def _bill(self, one: Agreement) -> None:
        """The invoice: as the notes say, or more, or less."""
        if one.gone:
            return
        if self._down:
            self.after(600, partial(self._bill, one))
            return
        rest = self.chance.choice([0, 0, 0, 1, -1]) * self.chance.randrange(1, 10**23)
        one.amount = max(one.due + rest, 0)
        said = self._parties(one, "invoiceId") | {
            "activityIds": [activity.id for activity in one.activities],
            "amount": amount_text(one.amount),
            "paymentDueDate": instant((self.now_s + DAY_S) * US),
            "status": "ISSUED",
        }
        one.invoice = self._shelf.make(self._us(), said)
        self._shelf.put("invoices", one.invoice)
        self.happened["invoices"] += 1
        self._reckon(one)
        self._go_on(one, self._course())

    def _course(self) -> Course:
        chance = self.chance
        received = ("RECEIVED", chance.choice([1, 3, HOUR_S]))
        accepted = ("ACCEPTED", chance.choice([5, 60, HOUR_S, 3 * DAY_S]))
        settled = ("SETTLED", chance.randrange(60, 4 * DAY_S))
        rejected = ("REJECTED", chance.choice([chance.randrange(30, 600), chance.randrange(30, 30 * DAY_S)]))
        fate = chance.random()
        if fate < 0.65:
            return [received, accepted, settled]
        if fate < 0.68:
            return [received]
        if fate < 0.76:
            self.happened["cancelled"] += 1
            return [received, *chance.choice([[], [rejected]]), ("CANCELLED", chance.randrange(30, 20 * DAY_S))]
        if fate < 0.78:
            self.happened["failed"] += 1
            return [received, ("FAILED", chance.randrange(30, 6 * DAY_S))]
        if fate < 0.88:
            self.happened["rejected"] += 1
            return [received, rejected]
        self.happened["accepted after all"] += 1
        before = chance.choice([[received], [received, accepted]])
        return [*before, rejected, ("ACCEPTED", chance.choice([300, chance.randrange(300, 20 * DAY_S)])), settled]

    def _go_on(self, one: Agreement, course: Course) -> None:
        if course:
            (status, after_s), *rest = course
            self.after(after_s, partial(self._set_invoice, one, status, rest))

    def _set_invoice(self, one: Agreement, status: str, rest: Course) -> None:
        if one.gone or one.invoice is None:
            return
        if self._down:
            self.after(600, partial(self._set_invoice, one, status, rest))
            return
        one.invoice.write(status=status)
        if status not in ("RECEIVED", "FAILED"):  # of these the daemon has no event for a provider
            self._event("invoice", one.invoice, status)
        if status == "SETTLED":
            self._pay(one)
        self._reckon(one)
        self._go_on(one, rest)

    def _pay(self, one: Agreement) -> None:
        self.happened["payments"] += 1
        one.paid = one.amount
        said = self._parties(one, "paymentId") | {
            "payerId": one.requestor,
            "payeeId": self._identity,
            "amount": amount_text(one.amount),
            "details": b64encode(self.chance.randbytes(32)).decode(),
        }
        self._shelf.put("payments", self._shelf.make(self._us(), said))

    def _reckon(self, one: Agreement) -> None:
        told = one.told
        self._total[one.currency] += told - one.worth
        one.worth = told
        self._unread[one.id] = one

    # What happens: to the daemon

    def _restart(self) -> None:
        """Agreements break; what is left of them is billed, or never."""
        self.happened["restarts"] += 1
        self._down, self._offered = True, False
        for one in self._agreements.values():
            if one.running:
                one.running = False
                if one.activities and self.chance.random() < 0.5:
                    self.after(self.chance.randrange(4000, DAY_S), partial(self._bill, one))
        self.after(self.chance.randrange(20, 3000), self._up)

    def _up(self) -> None:
        self._down = False
        self._started_s = self.now_s
        self.after(self.chance.randrange(20, 1200), self._offer)

    def _offer(self) -> None:
        self._offered = True

    def _hire(self) -> None:
        """The same identity has work done by another provider: what it has to pay for that is no income."""
        self.happened["own tasks"] += 1
        theirs = Agreement(self._id(), self._address(), PAYING[0], self._us(), 0, 0)
        swapped = {"issuerId": theirs.requestor, "recipientId": self._identity, "status": "ACCEPTED"}
        note = self._parties(theirs, "debitNoteId") | swapped | {"activityId": self._id(), "totalAmountDue": "5"}
        bill = self._parties(theirs, "invoiceId") | swapped | {"activityIds": [note["activityId"]], "amount": "7"}
        bill["paymentDueDate"] = instant(self._us())
        self._shelf.put("debitNotes", self._shelf.make(self._us(), note))
        self._shelf.put("invoices", self._shelf.make(self._us(), bill))

    def _reinstall(self) -> None:
        """A new data folder or a new identity: every document is gone, and what nobody read of them stays unknown."""
        self.happened["reinstalled"] += 1
        for one in self._unread.values():
            self._total[one.currency] += one.known - one.worth
        for one in self._agreements.values():
            one.gone, one.running = True, False
        self._agreements, self._unread = {}, {}
        self._shelf.clear(*self._shelf.kinds)
        if self.chance.random() < 0.5:
            self._identity = self._address()
        self._restart()
        self.after(self.chance.randrange(15, 45) * DAY_S, self._reinstall)

    def _upgrade(self) -> None:
        """From 0.16 to 0.17, which deletes all notes and begins to sum up; done when nobody works for anybody.

        Notes that were not read yet are lost, unless there is an invoice.
        """
        is_busy = any(one.running for one in self._agreements.values())
        if is_busy or any(one.invoice is None for one in self._unread.values()):
            self.after(600, self._upgrade)
            return
        self.happened["upgrades"] += 1
        self._is_new = True
        self._shelf.clear("debitNotes", "debitNoteEvents")
        self._restart()

    # What its reader knows

    def polled(self, at_s: int) -> None:  # noqa: ARG002
        if self._unread or not self._truth:
            for one in self._unread.values():
                one.known = one.worth
            self._unread = {}
            self._truth = {name: Decimal(total).scaleb(-DIGITS, DECIMALS) for name, total in self._total.items()}

    def truth(self) -> dict[str, Decimal]:
        return self._truth

    def truth_by_month(self) -> dict[tuple[str, str], Decimal]:
        return {}
