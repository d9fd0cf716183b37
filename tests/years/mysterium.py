"""A Mysterium node for a year: paid sessions, settlements, restarts, restored backups, a new identity, idle spells.

Truth is the growth of the lifetime total between readings that a reader can believe: a restarted node says 0 until it
has loaded its payment channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from years.agenda import Agenda, Meter, answer
from years.year import Answer, World

from depin_orcha.timefmt import rfc3339
from depin_orcha.types import DAY_S, HOUR_S

WEI = 10**18
SETTLES_AT = 5 * WEI
PAGE = 50

_STATIC: dict[str, Answer] = {
    "/healthcheck": answer({"uptime": "25h53m33.5s", "process": 7, "version": "1.38.3", "build_info": {}}),
    "/services": answer([{"type": "dvpn", "status": "Running"}, {"type": "scraping", "status": "NotRunning"}]),
    "/config": answer({"data": {"shaper": {"enabled": False, "bandwidth": 6250}}}),
    "/location": answer({"ip": "203.0.113.7", "country": "DE", "ip_type": "residential"}),
    "/node/monitoring-status": answer({"status": "success"}),
    "/node/provider/quality": answer({"quality": 2.25}),
    "/node/provider/activity-stats": answer({"online_percent": 99.5, "active_percent": 12.25}),
    "/node/provider/service-earnings": answer({"total_dvpn_tokens": {"wei": "1", "ether": "0", "human": "0"}}),
}


def world(seed: int, start_s: int) -> World:
    """A node that has been earning for some time, or is new."""
    return Node(seed, start_s)


class Node(Agenda):
    """The node, and the network that pays it."""

    node = "myst_1"
    protocol = "mysterium"
    options = {"protocol": "mysterium", "url": "http://127.0.0.1:4050"}  # noqa: RUF012
    takes_back = False

    def __init__(self, seed: int, start_s: int) -> None:
        super().__init__(f"mysterium {seed}", start_s)
        self._meters: dict[str, Meter] = {}
        self._earned = Decimal(0)
        self._settlements: list[dict[str, Any]] = []
        self._pages: dict[int, Answer] = {}
        self._identity = ""
        self._idle = self._down = self._loading = self._remote_down = False
        self._new_identity()
        self._lifetime = self._unsettled = self.chance.choice([0, self.chance.randrange(SETTLES_AT)])
        self._paid = self._lifetime
        self.now_and_then(2400, self._session)
        self.now_and_then(40 * DAY_S, self._idle_spell)
        self.now_and_then(6 * DAY_S, self._restart)
        self.now_and_then(90 * DAY_S, self._recreate)
        self.now_and_then(10 * DAY_S, self._remote_trouble)

    def _new_identity(self) -> None:
        self._identity = f"0x{self.chance.randrange(16**40):040x}"
        self._lifetime = self._unsettled = self._paid = 0
        self._backups: list[int] = []

    def _session(self) -> None:
        if self._down or self._idle:
            return
        paid = self.chance.randrange(10**14, 5 * 10**16)
        self._lifetime += paid
        self._unsettled += paid
        self._paid += paid
        if self._unsettled >= SETTLES_AT:
            self._settle()

    def _settle(self) -> None:
        self.happened["settlements"] += 1
        fees = self._unsettled // 5
        self._settlements.append(
            {
                "tx_hash": f"0x{self.chance.randrange(16**64):064x}",
                "provider_id": self._identity.upper().replace("0X", "0x"),
                "amount": self._unsettled - fees,
                "fees": fees,
                "settled_at": rfc3339(self.now_s),
                "is_withdrawal": False,
            }
        )
        self._unsettled = 0
        self._pages.clear()
        self._backups.append(self._lifetime)

    def _idle_spell(self) -> None:
        self.happened["idle spells"] += 1
        self._idle = True
        self.after(self.chance.randrange(DAY_S, 45 * DAY_S), self._wake)

    def _wake(self) -> None:
        self._idle = False

    def _restart(self) -> None:
        self.happened["restarts"] += 1
        self._down = self._loading = True
        self.after(self.chance.randrange(30, 1800), self._up)

    def _up(self) -> None:
        self._down = False
        self.after(self.chance.randrange(30, 1800), self._loaded)

    def _loaded(self) -> None:
        self._loading = False

    def _recreate(self) -> None:
        """From a backup, which knows less, or from nothing."""
        if self._backups and self.chance.random() < 0.5:
            self.happened["restored backups"] += 1
            self._lifetime = self._paid = self.chance.choice(self._backups)
            self._unsettled = 0
        else:
            self.happened["new identities"] += 1
            self._new_identity()
        self._restart()

    def _remote_trouble(self) -> None:
        self._remote_down = True
        self.after(self.chance.randrange(HOUR_S, DAY_S // 2), self._remote_well)

    def _remote_well(self) -> None:
        self._remote_down = False

    def respond(  # noqa: PLR0911 - one return a route
        self, method: str, url: str, params: Mapping[str, str], headers: Mapping[str, str], body: Any
    ) -> Answer:
        assert (method, headers, body) == ("GET", {}, None)
        path = url.removeprefix("http://127.0.0.1:4050")
        if self._down:
            return 0, b"", {}
        if self._remote_down and path.startswith("/node/"):
            return answer({"error": {"code": "err_quality", "message": "timeout"}, "status": 500}, 500)
        self.told.add(path)
        if path in _STATIC:
            return _STATIC[path]
        match path.split("/")[1:]:
            case ["identities"]:
                return answer({"identities": [{"id": self._identity}]})
            case ["identities", identity] if identity == self._identity:
                return self._balances()
            case ["transactor", "settle", "history"]:
                return self._history(int(params.get("page", 1)))
            case ["sessions", "stats-daily"]:
                return answer({"items": {}, "stats": {"sum_tokens": 0 if self._idle else self._paid}})
            case ["sessions", "stats-aggregated"]:
                return answer({"stats": {"sum_tokens": self._paid}})
            case _:
                return answer({"error": {"code": "not_found", "message": path}, "status": 404}, 404)

    def _balances(self) -> Answer:
        total, unsettled = (0, 0) if self._loading else (self._lifetime, self._unsettled)
        return answer(
            {
                "id": self._identity,
                "registration_status": "Registered",
                "earnings_total_tokens": _tokens(total),
                "earnings_tokens": _tokens(unsettled),
                "balance_tokens": _tokens(0),
            }
        )

    def _history(self, page: int) -> Answer:
        if page not in self._pages:
            pages = max(1, -(-len(self._settlements) // PAGE))
            newest = self._settlements[::-1][(page - 1) * PAGE : page * PAGE]
            self._pages[page] = answer({"items": newest, "page": page, "page_size": PAGE, "total_pages": pages})
        return self._pages[page]

    def polled(self, at_s: int) -> None:  # noqa: ARG002
        total = 0 if self._loading else self._lifetime
        if total == 0 and (self._lifetime or not self._is_sure_of_zero()):
            return
        meter = self._meters.setdefault(self._identity, Meter())
        before = meter.earned
        meter.read(Decimal(total))
        self._earned += meter.earned - before

    def _is_sure_of_zero(self) -> bool:
        """Was the reader told this time that nothing was ever paid, neither for sessions nor by settlements?"""
        return {"/transactor/settle/history", "/sessions/stats-aggregated"} <= self.told

    def truth(self) -> dict[str, Decimal]:
        return {"MYST": self._earned / WEI}

    def truth_by_month(self) -> dict[tuple[str, str], Decimal]:
        return {}


def _tokens(wei: int) -> dict[str, str]:
    return {"wei": str(wei), "ether": str(Decimal(wei) / WEI), "human": f"{wei / WEI:.6f}"}
