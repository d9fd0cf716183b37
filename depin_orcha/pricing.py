"""Prices in a collect: asked for beside the nodes, then kept, and hours that are over and payouts valued for good."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from decimal import Decimal
from typing import Any

from . import prices
from .adapters import paid_in
from .asof import AsOf
from .backoff import Backoff
from .config import with_secrets
from .cycle import Job
from .errors import AdapterError, ConfigError, FailureKind
from .local import LOCAL_CURRENCY
from .net import HttpClient
from .settled import receipts, value_receipts
from .store import Store
from .timefmt import rfc3339
from .types import DAY_S, HOUR_S, Failure, Price
from .values import NO_MONEY, OWNERS_WORD, REFERENCE_MONEY, SHOWN_S, unit_price

_DEADLINE_S = 20
_LONGEST_WINDOW_S = 89 * DAY_S
"""Of 90 days and more the sources tell but one price a day."""
_MOST_WINDOWS = 4
"""Questions a token and collect; what is older is asked for by the next one."""
_OLD_AGAIN_S = 6 * HOUR_S
"""Until prices of more than a day ago that nobody knew are asked for again."""
_MANUAL, _POINTS = OWNERS_WORD
_HINT = (
    "earnings are kept in their token; a token that is not known to the sources needs its id in ids of [prices], or "
    "what it is worth in static of [prices]"
)


class Pricing:
    """The prices of one collect; the sources answer while the nodes are read."""

    def __init__(self, pool: Executor, job: Job, known: AsOf) -> None:
        self._job = job
        self._options = job.config.settings.prices
        self._local = job.config.settings.costs.currency
        self._currencies = {currency for options in job.config.nodes.values() for currency in paid_in(options)}
        self._by_owner = _stated(job)
        told = {currency: known.price_at(currency, job.now_s) for currency in {*self._currencies, self._local}}
        last = {currency: price for currency, price in told.items() if price and price.source not in OWNERS_WORD}
        self._quotes = pool.submit(self._latest, prices.Memory(last, known.price_jumps(), known.backoffs()))

    def store(self, store: Store, warnings: list[str]) -> list[Failure]:
        """Keep the prices, value completed hours and payouts, and say which tokens have no usable price from anyone."""
        quotes, now_s = self._quotes.result(), self._job.now_s
        known = AsOf(store.connection, now_s)
        with store.transaction():
            store.set_meta(LOCAL_CURRENCY, self._local)
            _keep(store, quotes, now_s)
            told = {price.currency for price in quotes.prices if self._is_usable(price)}
            store.add_prices(self._needed(known, told), now_s)
        self._value(store, known)
        warnings += quotes.warnings
        if unit_price(self._local, known.price_at(self._local, now_s), now_s) is None:
            warnings.append(f"no rate of {self._local} is known: amounts are told in USD alone")
        warnings += [f"{problem.message}; another source or a stored price is used" for problem in quotes.problems]
        lacking = [
            currency
            for currency in sorted(self._currencies - NO_MONEY)
            if not self._is_usable(unit_price(currency, known.price_at(currency, now_s), now_s))
        ]
        if not lacking:
            return []
        reasons = "; ".join(problem.message for problem in quotes.problems) or "the sources do not know it"
        kind = quotes.problems[0].kind if quotes.problems else FailureKind.SHAPE
        return [Failure(None, kind, f"no usable price of {', '.join(lacking)}: {reasons}", _HINT)]

    def rows(self, known: AsOf) -> list[dict[str, Any]]:
        """``data.prices[]``: the last known price of everything that is paid here, and of the owner's money."""
        found = [known.price_at(currency, self._job.now_s) for currency in sorted({*self._currencies, self._local})]
        return [
            {
                "currency": price.currency,
                "usd_per_unit": float(price.usd_per_unit),
                "source": price.source,
                "observed_at": rfc3339(price.observed_s),
                "stale": not self._is_usable(price),
            }
            for price in found
            if price is not None
        ]

    def _latest(self, memory: prices.Memory) -> prices.Quotes:
        try:
            options, warnings = with_secrets(self._options, self._job.config.path)
        except ConfigError as error:
            problem = AdapterError(FailureKind.CONFIG, error.message, error.hint)
            return prices.Quotes(problems=[problem])
        with HttpClient(_DEADLINE_S) as http:
            quotes = prices.latest(http, options, self._currencies, self._job.now_s, memory, self._local)
        quotes.warnings += warnings
        return quotes

    def _is_usable(self, price: Price | None) -> bool:
        return price is not None and self._job.now_s - price.observed_s <= self._options.max_age_s

    def _needed(self, known: AsOf, told: set[str]) -> list[Price]:
        """What the owner says of currencies that no source told a usable price of, now or shortly before."""
        last = {currency: known.price_at(currency, self._job.now_s) for currency in self._by_owner.keys() - told}
        return [
            self._by_owner[currency]
            for currency, price in last.items()
            if price is None or price.source in OWNERS_WORD or not self._is_usable(price)
        ]

    def _value(self, store: Store, known: AsOf) -> None:
        """Fix the price of completed hours and of payouts once: the last one at or before the hour's end or the payout.

        It is of the history if need be. Where no source knows the token, what is older than its first price is worth
        what the owner says. Hours and payouts get a rate of the owner's money in the same way.
        """
        hours, received = known.unvalued_hours(), receipts(known)
        paid = [one for one in received if one.price is None]
        local, without_rate = self._local, known.hours_without_rate(self._local)
        instants = {(currency, hour_s + HOUR_S) for currency, hour_s in hours}
        instants |= {(one.payout.currency, one.at_s) for one in paid}
        if local != "USD":
            instants |= {(local, hour_s + HOUR_S) for hour_s in without_rate} | {(local, one.at_s) for one in received}
        self._ask_history(store, known, instants)

        def price(currency: str, at_s: int) -> Price | None:
            is_known = prices.token_id(self._options, currency) is not None
            return _price_at(known, currency, at_s) or (None if is_known else self._by_owner.get(currency))

        found = [(one, hour_s, price(one, hour_s + HOUR_S)) for one, hour_s in hours]
        found += [(local, hour_s, _price_at(known, local, hour_s + HOUR_S)) for hour_s in without_rate]
        valued = [(one, price(one.payout.currency, one.at_s)) for one in paid]
        with store.transaction():
            store.value_hours([(one, hour_s, price) for one, hour_s, price in found if price], self._job.now_s)
            value_receipts(store.connection, [(one, price) for one, price in valued if price], self._job.now_s)

    def _ask_history(self, store: Store, known: AsOf, instants: Iterable[tuple[str, int]]) -> None:
        """Keep past prices for what lacks one; what is old and has none even so is asked for again in some hours.

        Of a source that just did not answer it is not known whether it has one: it is asked again by the next run.
        """
        now_s, old_s = self._job.now_s, self._job.now_s - DAY_S
        waiting = {subject for subject, backoff in known.backoffs().items() if backoff.holds(now_s)}
        missing = {
            (currency, at_s)
            for currency, at_s in instants
            if (at_s > old_s or _history_of(currency) not in waiting) and self._lacks(known, currency, at_s)
        }
        unanswered: set[str] = set()
        for currency in sorted({currency for currency, _ in missing}):
            moments = [at_s for one, at_s in missing if one == currency]
            # Rates of money come in one file, however old.
            is_money = currency in REFERENCE_MONEY
            for window in [(min(moments), max(moments))] if is_money else _windows(moments):
                if not self._fetch_history(store, known, currency, window):
                    unanswered.add(currency)
        lacking = {one for one, at_s in missing if at_s <= old_s and _price_at(known, one, at_s) is None}
        with store.transaction():
            for currency in lacking - unanswered:
                store.set_backoff(_history_of(currency), Backoff(now_s, now_s + _OLD_AGAIN_S))

    def _lacks(self, known: AsOf, currency: str, at_s: int) -> bool:
        """Has a token that the sources know, or money, no price that is usable at an instant?"""
        price = _price_at(known, currency, at_s)
        is_money = currency in REFERENCE_MONEY
        is_old = price is None or at_s - price.observed_s > (SHOWN_S if is_money else self._options.max_age_s)
        return is_old and (is_money or prices.token_id(self._options, currency) is not None)

    def _fetch_history(self, store: Store, known: AsOf, currency: str, window: tuple[int, int]) -> bool:
        """Keep what the history tells; False where a source did not answer this time."""
        try:
            options, _ = with_secrets(self._options, self._job.config.path)
        except ConfigError:
            return False
        with HttpClient(_DEADLINE_S) as http:
            found = prices.history(http, options, currency, window, self._job.now_s, known.backoffs())
        with store.transaction():
            _keep(store, found, self._job.now_s)
        return all(problem.kind is not FailureKind.TRANSIENT for problem in found.problems)


def _windows(instants: Iterable[int]) -> list[tuple[int, int]]:
    """The stretches of time that hold the latest of some instants, the latest first, each with its look-back."""
    windows: list[tuple[int, int]] = []
    for at_s in sorted(instants, reverse=True):
        start_s = at_s - prices.HISTORY_LOOKBACK_S
        if windows and windows[-1][1] - start_s <= _LONGEST_WINDOW_S:
            windows[-1] = start_s, windows[-1][1]
        else:
            windows.append((start_s, at_s))
    return windows[:_MOST_WINDOWS]


def _history_of(currency: str) -> str:
    """Under this name the database remembers that there is no past price of a token to be had for now."""
    return f"{currency} history"


def _stated(job: Job) -> dict[str, Price]:
    """What the owner says that units are worth: tokens in ``[prices]``, points in the section of their node."""
    stated = {currency: (_MANUAL, usd) for currency, usd in job.config.settings.prices.static.items()}
    for options in job.config.nodes.values():
        usd_per_point = getattr(options, _POINTS, None)
        if usd_per_point is not None:
            stated |= dict.fromkeys(NO_MONEY, (_POINTS, usd_per_point))
    return {
        currency: Price(currency, Decimal(str(usd)), source, job.now_s) for currency, (source, usd) in stated.items()
    }


def _keep(store: Store, quotes: prices.Quotes, now_s: int) -> None:
    store.add_prices(quotes.prices, now_s)
    store.add_price_jumps(quotes.jumps.values(), now_s)
    for source, backoff in quotes.backoffs.items():
        store.set_backoff(source, backoff)


def _price_at(known: AsOf, currency: str, at_s: int) -> Price | None:
    return unit_price(currency, known.price_at(currency, at_s), at_s)
