"""A Grass account for a year: points counted now and then, epochs that turn and are finished days later, challenges.

Truth is all that was counted of the epochs that by their date began after the first reading, and the growth of those
before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

from years.agenda import Agenda, Meter, answer
from years.storage import month_of, numbered
from years.year import Answer, World

from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, HOUR_S

URL = "https://api.grass.io"
LATE_S = 8 * DAY_S
"""How long after its end an epoch may get points."""
FINAL_S = 13 * DAY_S
"""By then a reader that was away for some days has seen the last of it."""
NOT_FOUND = answer({"error": {"message": "User epoch earning not found."}})
TROUBLES: tuple[Answer, ...] = (
    answer({"message": "Unauthorized"}, 401),
    (
        403,
        b"<!DOCTYPE html><title>Just a moment...</title>",
        {"content-type": "text/html", "cf-mitigated": "challenge"},
    ),
    answer({"message": "Too Many Requests"}, 429),
    answer({"error": {"message": "Internal server error"}}, 500),
)
ACCOUNT = answer({"result": {"data": {"userId": "1", "totalPoints": 0, "uptimePoints": 12.5, "totalUptime": 99}}})


def world(seed: int, start_s: int) -> World:
    """An account with one or two devices, some of the time with none."""
    return Account(seed, start_s)


@dataclass
class Epoch:
    """A month, which may turn some hours beside midnight; ``shown`` is what the dashboard says of its points."""

    number: int
    start_s: int
    end_s: int
    start_day_s: int
    last_day_s: int
    counted: float = 0.0
    shown: float = 0.0
    modified_s: int | None = None


class Account(Agenda):
    """The account and the network's dashboard."""

    node = "grass_1"
    protocol = "grass"
    options = {"protocol": "grass", "url": URL, "token": "made.up.token"}  # noqa: RUF012
    takes_back = False

    def __init__(self, seed: int, start_s: int) -> None:
        super().__init__(f"grass {seed}", start_s)
        chance = self.chance
        self._late_s = chance.choice([0, 0, 13 * HOUR_S, -11 * HOUR_S])
        self._counts_while_running = chance.random() < 0.7
        self._says_when = chance.random() < 0.8
        self._is_new = chance.random() < 0.2
        self._devices = 1
        self._trouble: Answer | None = None
        self._first_s: int | None = None
        self._earned = Decimal(0)
        self._meters: dict[int, Meter] = {}
        self._epochs: list[Epoch] = []
        running = month_of(start_s - self._late_s).number
        for number in range(running - 2, running + 1):
            self._begin(number)
            if not self._is_new:
                self._epochs[-1].counted = chance.uniform(100, 3000)
                self._publish(self._epochs[-1], final=number < running)
        self.now_and_then(5 * HOUR_S, self._count)
        self.now_and_then(25 * DAY_S, self._correct)
        self.now_and_then(12 * DAY_S, self._unplug)
        self.now_and_then(15 * DAY_S, self._get_into_trouble)

    # What happens

    def _begin(self, number: int) -> None:
        """A new epoch begins; the one before it is finished within some days."""
        month = numbered(number)
        start_s, end_s = month.start_s + self._late_s, month.end_s + self._late_s
        self._epochs.append(Epoch(number, start_s, end_s, month.start_s, month.end_s - DAY_S))
        for closed in self._epochs[-2:-1]:
            for due_s in self.chance.sample(range(start_s, start_s + LATE_S), self.chance.randrange(1, 4)):
                if due_s > self.now_s:
                    self.after(due_s - self.now_s, partial(self._finish, closed))
        if end_s > self.now_s:
            self.after(end_s - self.now_s, self._turn)

    def _turn(self) -> None:
        self.happened["epochs"] += 1
        self._begin(self._epochs[-1].number + 1)

    def _finish(self, closed: Epoch) -> None:
        """Points of its last days are counted."""
        self.happened["late counts"] += 1
        closed.counted += self.chance.uniform(0, 40)
        self._publish(closed, final=True)

    def _count(self) -> None:
        if self._devices:
            running = self._epochs[-1]
            running.counted += self.chance.uniform(0, 60)
            self._publish(running, final=False)

    def _publish(self, epoch: Epoch, *, final: bool) -> None:
        if final or self._counts_while_running:
            epoch.shown = epoch.counted
        epoch.modified_s = self.now_s

    def _correct(self) -> None:
        """Points are taken away again."""
        running = self._epochs[-1]
        if running.counted:
            self.happened["corrections"] += 1
            running.counted *= self.chance.uniform(0.9, 1)
            self._publish(running, final=False)

    def _unplug(self) -> None:
        if self._counts_while_running:  # else 0 points without a device would look like a true zero
            self._devices = 0
            self.after(self.chance.randrange(HOUR_S, 4 * DAY_S), self._plug_in)

    def _plug_in(self) -> None:
        self._devices = self.chance.choice([1, 2])

    def _get_into_trouble(self) -> None:
        self.happened["refusals"] += 1
        self._trouble = self.chance.choice(TROUBLES)
        self.after(self.chance.randrange(HOUR_S // 2, DAY_S), self._get_out_of_trouble)

    def _get_out_of_trouble(self) -> None:
        self._trouble = None

    # What the dashboard answers

    def respond(
        self, method: str, url: str, params: Mapping[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        assert (method, body) == ("GET", None)
        assert headers == {"Authorization": "made.up.token"}
        if self._trouble is not None:
            return self._trouble
        path = url.removeprefix(URL)
        asked = json.loads(params.get("input", "{}"))
        if path == "/epochEarnings":
            path += " latest" if asked["isLatestOnly"] else " all"
        self.told.add(path)
        match path:
            case "/epochEarnings latest":
                return self._listed(self._epochs[-1:])
            case "/epochEarnings all":
                return self._listed(self._epochs[::-1][: asked["limit"]])
            case "/activeDevices":
                return answer({"result": {"data": [{"type": "desktop", "ipScore": 80}] * self._devices}})
            case "/retrieveUser":
                return ACCOUNT
            case _:
                return answer({"message": "Not Found"}, 404)

    def _listed(self, epochs: list[Epoch]) -> Answer:
        known = [one for one in epochs if one.modified_s is not None]
        if not known:
            return NOT_FOUND
        return answer({"result": {"data": {"data": [self._row(one) for one in known]}}})

    def _row(self, epoch: Epoch) -> dict[str, Any]:
        row = {
            "epochName": f"Epoch {epoch.number}",
            "stage": 2,
            "startDate": _day(epoch.start_day_s),
            "endDate": _day(epoch.last_day_s),
            "totalPoints": int(epoch.shown) if epoch.shown.is_integer() else epoch.shown,
        }
        if self._says_when and epoch.modified_s is not None:
            row["modified"] = rfc3339(epoch.modified_s).replace("Z", ".511Z")
        return row

    # What its reader knows

    def polled(self, at_s: int) -> None:
        is_first = self._first_s is None
        self._first_s = at_s if self._first_s is None else self._first_s
        latest, *closed = self._epochs[::-1]
        if latest.shown or (latest.modified_s is not None and "/activeDevices" in self.told and not self._devices):
            self._read(latest)
        for epoch in closed[:2]:
            was_told = "/epochEarnings all" in self.told or at_s > epoch.end_s + FINAL_S
            if epoch.shown and was_told and not is_first:
                self._read(epoch)

    def _read(self, epoch: Epoch) -> None:
        began_later = self._first_s is not None and epoch.start_day_s > self._first_s
        meter = self._meters.setdefault(epoch.number, Meter(Decimal(0) if began_later else None))
        before = meter.earned
        meter.read(Decimal(repr(epoch.shown)))
        self._earned += meter.earned - before

    def truth(self) -> dict[str, Decimal]:
        return {"POINTS": self._earned}

    def truth_by_month(self) -> dict[tuple[str, str], Decimal]:
        return {}


def _day(instant_s: int) -> str:
    return datetime.fromtimestamp(instant_s, UTC).strftime("%Y-%m-%d")
