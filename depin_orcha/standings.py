"""Where the money of a node stands, in USD: what it is worth now, and of what was sent, what that was worth then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from .asof import AsOf
from .settled import Receipt
from .types import DECIMALS, Standing, decimal_text
from .values import unit_price

SHOWN = (Standing.HELD, Standing.PAYABLE, Standing.AT_RISK, Standing.PAID, Standing.WALLET)

_ZERO = Decimal(0)


def in_usd(known: AsOf, nodes: Sequence[str], received: Iterable[Receipt]) -> tuple[dict[str, Decimal], list[str]]:
    """Standing -> USD of the nodes that are read for one income, without what has no price; and notes on that.

    A standing is missing where nothing is told of it, or none of it has a price.
    """
    now_s = known.now_s
    usd: dict[str, Decimal] = {}
    paid: dict[str, Decimal] = {}
    for (standing, currency), amount in known.standings(nodes).items():
        if standing == Standing.PAID:
            paid[currency] = amount
            continue
        price = unit_price(currency, known.price_at(currency, now_s), now_s)
        if price is not None:
            usd[standing] = DECIMALS.add(usd.get(standing, _ZERO), DECIMALS.multiply(amount, price.usd_per_unit))
    # Several nodes of an account may each have told a payout.
    sent, unpriced = _sent(paid, {(one.payout.external_id, one.payout.currency): one for one in received}.values())
    if sent is not None:
        usd[Standing.PAID] = sent
    return usd, [
        f"{decimal_text(amount)} {currency} of what was paid has no price of its time, so it is not in the USD"
        for currency, amount in unpriced.items()
    ]


def _sent(told: Mapping[str, Decimal], received: Iterable[Receipt]) -> tuple[Decimal | None, dict[str, Decimal]]:
    """USD of all that was ever sent, each payout at the price of its time; by currency, what has none.

    ``told``: the sums as the node tells them, of which more was sent than the payouts that are known one by one.
    """
    usd: Decimal | None = None
    unpriced: dict[str, Decimal] = {}
    rest = dict(told)
    for one in received:
        amount, currency = one.payout.amount, one.payout.currency
        rest[currency] = DECIMALS.subtract(rest.get(currency, _ZERO), amount)
        if one.usd is None:
            unpriced[currency] = DECIMALS.add(unpriced.get(currency, _ZERO), amount)
        else:
            usd = DECIMALS.add(usd or _ZERO, one.usd)
    for currency, amount in rest.items():
        always = unit_price(currency, None, 0)
        if amount > 0 and always is None:
            unpriced[currency] = DECIMALS.add(unpriced.get(currency, _ZERO), amount)
        elif amount >= 0:
            usd = DECIMALS.add(
                usd or _ZERO, _ZERO if always is None else DECIMALS.multiply(amount, always.usd_per_unit)
            )
    return (None if unpriced and not usd else usd), unpriced
