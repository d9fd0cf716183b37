"""Prices in USD of tokens and of the owner's money: the latest and the history, each from a source and a fallback.

Interfaces: ``coingecko/coingecko-api-oas`` (``/simple/price``, ``/coins/{id}/market_chart/range``) and the DefiLlama
coins API (``/prices/current``, ``/chart``); rates of money also as in :mod:`.rates`. A source that says 429 is left
alone until it allows more. A price that jumps is not believed before the other source, or the next reading, says so
too: most often it is that of another token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, InvalidOperation
from functools import partial
from typing import Any, TypeVar, cast

from . import rates
from .backoff import Backoff, after
from .config import Prices
from .errors import AdapterError, FailureKind
from .net import HttpClient
from .timefmt import retry_after_s
from .types import HOUR_S, Price
from .values import REFERENCE_MONEY, SHOWN_S

TOKEN_IDS = {
    "STORJ": "storj",
    "GLM": "golem",
    "DATA": "streamr",
    "GRASS": "grass",
    "MYST": "mysterium",
    "POL": "polygon-ecosystem-token",
}
"""CoinGecko ids; symbols are ambiguous (``streamr-xdata`` is the old token), ids are not."""

HISTORY_LOOKBACK_S = 90 * 60
_FIRST_BACKOFF_S = 60
_LONGEST_BACKOFF_S = HOUR_S
_CLOCK_SKEW_S = 300
_JUMP = 3
"""So many times more or less within an hour is a jump."""
_ABSURD_USD = Decimal(10) ** 12
_LEAST_CONFIDENCE = Decimal("0.8")
_TOO_MANY_REQUESTS = 429
_REFERENCE = "bitcoin"
"""Asked for its price in two moneys where no token of the owner's is."""
_RATES = Context(prec=12)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Memory:
    """What earlier runs know: the last price of a token from a source, its last jump, and whom to leave alone."""

    last: Mapping[str, Price]
    jumps: Mapping[str, Price]
    backoffs: Mapping[str, Backoff]


@dataclass(slots=True)
class Quotes:
    """What the sources said: prices, why some did not answer, and which are to be left alone.

    ``jumps``: prices that await confirmation. ``backoffs``: None lifts one.
    """

    prices: list[Price] = field(default_factory=list[Price])
    problems: list[AdapterError] = field(default_factory=list[AdapterError])
    backoffs: dict[str, Backoff | None] = field(default_factory=dict[str, Backoff | None])
    warnings: list[str] = field(default_factory=list[str])
    jumps: dict[str, Price] = field(default_factory=dict[str, Price])

    def take(self, price: Price, memory: Memory) -> None:
        """Keep a price: as it is, or as a jump that awaits confirmation; with it, a jump that it confirms."""
        last, earlier, jump = (known.get(price.currency) for known in (memory.last, memory.jumps, self.jumps))
        if last is None or price.observed_s - last.observed_s > HOUR_S or _is_near(price, last):
            self.prices.append(price)
        elif jump is not None and _is_near(price, jump):
            self.prices += [self.jumps.pop(price.currency), price]
        # The same answer again says nothing new, and a jump after which the price was the old one was an error.
        elif earlier and last.observed_s < earlier.observed_s < price.observed_s and _is_near(price, earlier):
            self.prices.append(price)
        else:
            self.jumps.setdefault(price.currency, price)


def latest(
    http: HttpClient,
    options: Prices,
    currencies: Iterable[str],
    now_s: int,
    memory: Memory,
    local: str = "USD",
) -> Quotes:
    """Current prices of tokens, one batched request a source; what the first cannot price, the second is asked.

    The rate of ``local``, the owner's money, is among them: that of the first where it answers, else the daily one.
    """
    quotes = Quotes()
    wanted = {currency: token for currency in sorted(set(currencies)) if (token := token_id(options, currency))}
    for source, ask in (("coingecko", partial(_coingecko_latest, local)), ("defillama", _llama_latest)):
        if not wanted and (local == "USD" or source != "coingecko"):
            break
        for price in _ask(quotes, source, memory.backoffs, now_s, partial(ask, http, options, wanted, now_s)):
            if price.observed_s > now_s + SHOWN_S:
                continue  # of another day than the one we are asked about
            if price.observed_s > now_s + _CLOCK_SKEW_S:
                quotes.warnings.append(f"{source} dates the price of {price.currency} in the future: check the clock")
            quotes.take(Price(price.currency, price.usd_per_unit, source, min(price.observed_s, now_s)), memory)
        # A source may answer 200 with an old price: the next one is asked whether it knows a newer.
        have = {price.currency for price in quotes.prices if now_s - price.observed_s <= options.max_age_s}
        wanted = {currency: token for currency, token in wanted.items() if currency not in have}
    if local in REFERENCE_MONEY and local not in {price.currency for price in quotes.prices}:
        daily = _ask(quotes, "ecb", memory.backoffs, now_s, partial(rates.latest, http, options.rates_url, local))
        quotes.prices += [rate for rate in daily if rate.observed_s <= now_s]
    for currency, jump in quotes.jumps.items():
        told = f"{jump.source} says that {currency} is worth {jump.usd_per_unit:f} USD"
        before = f"{memory.last[currency].usd_per_unit:f} within the hour before"
        quotes.warnings.append(f"{told}, after {before}: not used unless another reading confirms it")
    priced = {price.currency for price in quotes.prices}
    quotes.jumps = {currency: jump for currency, jump in quotes.jumps.items() if currency not in priced}
    return quotes


def history(
    http: HttpClient,
    options: Prices,
    currency: str,
    window_s: tuple[int, int],
    now_s: int,
    backoffs: Mapping[str, Backoff],
) -> Quotes:
    """Past prices of one token between two instants, hourly where the source has them; empty when none is had.

    Of money, the daily rates that held then.
    """
    quotes = Quotes()
    token = token_id(options, currency)
    if token is None:
        if currency in REFERENCE_MONEY:
            ask_rates = partial(rates.history, http, options.rates_url, currency, window_s, now_s)
            quotes.prices = [
                rate for rate in _ask(quotes, "ecb", backoffs, now_s, ask_rates) if rate.observed_s <= now_s
            ]
        return quotes
    for source, ask in (("coingecko", _coingecko_history), ("defillama", _llama_history)):
        points = _ask(quotes, source, backoffs, now_s, partial(ask, http, options, token, window_s))
        quotes.prices = [Price(currency, usd, f"{source} history", at_s) for at_s, usd in points if at_s <= now_s]
        if quotes.prices:
            break
    return quotes


def token_id(options: Prices, currency: str) -> str | None:
    """Under which name the sources know a token; None where they do not."""
    return options.ids.get(currency) or TOKEN_IDS.get(currency)


def _is_near(one: Price, other: Price) -> bool:
    low, high = sorted((one.usd_per_unit, other.usd_per_unit))
    return high <= _JUMP * low


def _ask(
    quotes: Quotes, source: str, backoffs: Mapping[str, Backoff], now_s: int, ask: Callable[[], list[_T]]
) -> list[_T]:
    """What a source answers; empty and noted when it fails or asked to be left alone."""
    backoff = backoffs.get(source)
    if backoff is not None and backoff.holds(now_s):
        quotes.problems.append(AdapterError(backoff.kind or FailureKind.TRANSIENT, backoff.message))
        return []
    try:
        answer = ask()
    except AdapterError as error:
        if error.retry_after_s is not None:
            last_s = 0 if backoff is None or backoff.until_s is None else backoff.until_s - backoff.since_s
            error.retry_after_s = min(max(error.retry_after_s, 2 * last_s, _FIRST_BACKOFF_S), _LONGEST_BACKOFF_S)
            quotes.backoffs[source] = after(error, now_s)
        quotes.problems.append(error)
        return []
    if backoff is not None:
        quotes.backoffs[source] = None
    return answer


def _get(
    http: HttpClient, url: str, source: str, params: dict[str, str], headers: dict[str, str] | None = None
) -> dict[str, Any]:
    reply = http.request("GET", url, params=params, headers=headers, accept=(_TOO_MANY_REQUESTS,))
    if reply.status == _TOO_MANY_REQUESTS:
        wait_s = retry_after_s(reply.headers) or 0
        raise AdapterError(FailureKind.TRANSIENT, f"{source} asks to be left alone (429)", retry_after_s=wait_s)
    value = reply.json()
    if not isinstance(value, dict):
        raise AdapterError(FailureKind.SHAPE, f"{reply.url} answered JSON that is not an object")
    return _table(cast("Any", value))


def _table(value: Any) -> dict[str, Any]:
    """A JSON object; empty for anything else, since every part of these answers may be missing or null."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _coingecko_headers(options: Prices) -> dict[str, str]:
    if options.api_key is None:
        return {}
    name = "x-cg-pro-api-key" if "//pro-api." in options.url else "x-cg-demo-api-key"
    return {name: options.api_key.get_secret_value()}


def _coingecko_latest(local: str, http: HttpClient, options: Prices, ids: Mapping[str, str], now_s: int) -> list[Price]:
    params = {
        "ids": ",".join(sorted(ids.values())) or _REFERENCE,
        "vs_currencies": "usd" if local == "USD" else f"usd,{local.lower()}",
        "include_last_updated_at": "true",
        "precision": "full",
    }
    answer = _get(http, f"{options.url}/simple/price", "coingecko", params, _coingecko_headers(options))
    prices: list[Price] = []
    for currency, token in ids.items():
        quote = _table(answer.get(token))
        usd = _positive(quote.get("usd"))
        if usd is not None:
            prices.append(Price(currency, usd, "coingecko", _seconds(quote.get("last_updated_at"), now_s)))
    rate = _rate(local, answer, now_s) if local != "USD" else None
    return prices if rate is None else [*prices, rate]


def _rate(local: str, answer: Mapping[str, Any], now_s: int) -> Price | None:
    """What the owner's money is worth, by the token that was quoted last in both moneys."""
    quotes = sorted(map(_table, answer.values()), key=lambda quote: _seconds(quote.get("last_updated_at"), now_s))
    for quote in reversed(quotes):
        usd, own = _positive(quote.get("usd")), _positive(quote.get(local.lower()))
        if usd is not None and own is not None:
            rate = _RATES.divide(usd, own)
            return Price(local, rate, "coingecko", _seconds(quote.get("last_updated_at"), now_s))
    return None


def _coingecko_history(
    http: HttpClient, options: Prices, token: str, window_s: tuple[int, int]
) -> list[tuple[int, Decimal]]:
    params = {"vs_currency": "usd", "from": str(window_s[0]), "to": str(window_s[1])}
    url = f"{options.url}/coins/{token}/market_chart/range"
    answer = _get(http, url, "coingecko", params, _coingecko_headers(options))
    return _points(answer.get("prices"), milliseconds=True)


def _llama_latest(http: HttpClient, options: Prices, ids: Mapping[str, str], now_s: int) -> list[Price]:
    keys = ",".join(f"coingecko:{token}" for token in sorted(ids.values()))
    answer = _get(http, f"{options.fallback_url}/prices/current/{keys}", "defillama", {"searchWidth": "4h"})
    prices: list[Price] = []
    for currency, token in ids.items():
        quote = _table(_table(answer.get("coins")).get(f"coingecko:{token}"))
        usd = _positive(quote.get("price"))
        if usd is not None and Decimal(quote.get("confidence") or 0) >= _LEAST_CONFIDENCE:
            prices.append(Price(currency, usd, "defillama", _seconds(quote.get("timestamp"), now_s)))
    return prices


def _llama_history(
    http: HttpClient, options: Prices, token: str, window_s: tuple[int, int]
) -> list[tuple[int, Decimal]]:
    key = f"coingecko:{token}"
    hours = (window_s[1] - window_s[0]) // HOUR_S + 1
    params = {"start": str(window_s[0]), "span": str(hours), "period": "1h"}
    answer = _get(http, f"{options.fallback_url}/chart/{key}", "defillama", params)
    points: list[Any] = _table(_table(answer.get("coins")).get(key)).get("prices") or []
    return _points([[_table(point).get("timestamp"), _table(point).get("price")] for point in points])


def _points(points: Any, *, milliseconds: bool = False) -> list[tuple[int, Decimal]]:
    """(instant in seconds, price) of the pairs that hold both; the rest is left out."""
    found: list[tuple[int, Decimal]] = []
    for point in cast("list[Any]", points) if isinstance(points, list) else []:
        pair = cast("list[Any]", point) if isinstance(point, list) else []
        usd = _positive(pair[1]) if len(pair) == 2 else None
        at_s = _seconds(pair[0], 0) // (1000 if milliseconds else 1) if pair else 0
        if usd is not None and at_s:
            found.append((at_s, usd))
    return found


def _positive(value: Any) -> Decimal | None:
    """A price as an exact number; None for everything that is no price (null, text, true, zero, negative, NaN)."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    try:
        number = Decimal(value)
        return number if number.is_finite() and 0 < number < _ABSURD_USD else None
    except InvalidOperation:
        return None


def _seconds(value: Any, now_s: int) -> int:
    """When the source says the price was seen; now, when it does not say."""
    return int(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) and value > 0 else now_s
