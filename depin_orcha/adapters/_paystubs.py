"""What a storage node knows of closed months: its satellites' paystubs, and the receipts of what they sent.

Money is micro-USD. A paystub appears when its satellite closes a month, days into the next one. Interfaces:
``storagenode/payouts`` of storj/storj.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

from depin_orcha.adapters import HttpReader
from depin_orcha.adapters._read import Fields, objects
from depin_orcha.types import DAY_S, DECIMALS, MonthOutlook, OutlookSource, Payout, Standing, StandingAmount, Statement

_FIRST_MONTH = "2018-01"
"""No satellite has paid for an earlier month."""
_RECENT_MONTHS = 3
"""Receipts of closed months that are looked at again every day: satellites postpone small payouts."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Statements of all closed months, the payouts of some, and how the sum of them stands."""

    statements: tuple[Statement, ...]
    payouts: tuple[Payout, ...]

    def standings(self) -> tuple[StandingAmount, ...]:
        """What is due and not sent yet, and what was ever sent; nothing where no month is settled."""
        if not self.statements:
            return ()
        with localcontext(DECIMALS):
            payable = sum((max(one.payable - one.paid, Decimal(0)) for one in self.statements), Decimal(0))
            paid = sum((one.paid for one in self.statements), Decimal(0))
        return (
            StandingAmount(Standing.PAYABLE, payable, "USD"),
            StandingAmount(Standing.PAID, paid, "USD"),
        )


def is_due(now_s: int, since_s: int | None) -> bool:
    """Is this the first reading, or the first of a UTC day?"""
    return since_s is None or since_s // DAY_S != now_s // DAY_S


def read(http: HttpReader, url: str, now_s: int, since_s: int | None) -> Settled:
    """All statements, and payouts of the last months; of all months on the first reading ever and of each month.

    Raises ``AdapterError``.
    """
    closed = _month_before(datetime.fromtimestamp(now_s, UTC))
    statements = _statements(http, url, closed.strftime("%Y-%m"))
    paid_months = sorted({one.period for one in statements if one.paid})
    if since_s is not None and _is_same_month(now_s, since_s):
        recent = [closed]
        while len(recent) < _RECENT_MONTHS:
            recent.append(_month_before(recent[-1]))
        paid_months = [month for month in paid_months if month >= recent[-1].strftime("%Y-%m")]
    return Settled(tuple(statements), tuple(_payouts(http, url, paid_months)))


def dashboard_outlook(payouts: Iterable[Fields], now_s: int) -> tuple[MonthOutlook, ...]:
    """What the node itself expects of the running month: whole cents, net of held; nothing where one does not say.

    ``payouts`` are its estimates of one satellite each, or the one of all.
    """
    told = [one.optional("currentMonthExpectations", one.number) for one in payouts]
    cents = [one for one in told if one is not None]
    if not cents or len(cents) < len(told):
        return ()
    today = datetime.fromtimestamp(now_s, UTC)
    expected = sum(cents, Decimal(0)).scaleb(-2)
    return (MonthOutlook(today.strftime("%Y-%m"), today.day, "USD", OutlookSource.DASHBOARD, expected),)


def _statements(http: HttpReader, url: str, last_month: str) -> list[Statement]:
    endpoint = "/api/heldamount/paystubs/{start}/{end}"
    answer = http.get_json(url + endpoint.format(start=_FIRST_MONTH, end=last_month))
    stubs = [] if answer is None else objects(answer, endpoint)
    return [
        Statement(
            period=stub.text("period"),
            external_id=stub.text("satelliteId"),
            currency="USD",
            earned=_earned(stub),
            held=_usd(stub, "held"),
            returned=_usd(stub, "disposed"),
            payable=_usd(stub, "paid"),
            paid=_usd(stub, "distributed"),
        )
        for stub in stubs
    ]


def _earned(stub: Fields) -> Decimal:
    """Compensation times surge, in percent; a surge of 0 is none. Uploads are not paid."""
    surge = stub.number("surgePercent") or Decimal(100)
    with localcontext(DECIMALS):
        paid_for = ("compAtRest", "compGet", "compGetRepair", "compGetAudit")
        return sum((_usd(stub, name) for name in paid_for), Decimal(0)) * surge.scaleb(-2)


def _payouts(http: HttpReader, url: str, months: Iterable[str]) -> Iterable[Payout]:
    endpoint = "/api/heldamount/payout-history/{month}"
    for month in months:
        answer = http.get_json(url + endpoint.format(month=month))
        for row in [] if answer is None else objects(answer, endpoint):
            sent = _usd(row, "distributed")
            if sent:
                external_id = f"{row.text('satelliteID')}/{month}"
                yield Payout(external_id, sent, "USD", transaction=row.text("receipt") or None, period=month)


def _usd(fields: Fields, name: str) -> Decimal:
    return fields.number(name).scaleb(-6)


def _month_before(month: datetime) -> datetime:
    return month.replace(day=1) - timedelta(days=1)


def _is_same_month(one_s: int, other_s: int) -> bool:
    one, other = (datetime.fromtimestamp(instant_s, UTC) for instant_s in (one_s, other_s))
    return (one.year, one.month) == (other.year, other.month)
