"""Reference rates of the European Central Bank: what a unit of money is worth in USD, one rate a working day.

Interface: ``eurofxref-daily.xml``, ``eurofxref-hist-90d.xml`` and ``eurofxref-hist.xml``, where a ``Cube`` with a
``time`` holds one with ``currency`` and ``rate`` for each money: so many units are worth one euro. The bank agrees on
them at 14:15 Central European Time and publishes them at about 16:00; over weekends and holidays the last one holds.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation

from .errors import AdapterError, FailureKind
from .net import HttpClient, Reply
from .types import DAY_S, Price
from .values import RATE_SHOWN_S

SOURCE = "ecb daily"

_AGREED_S = 13 * 3600 + 15 * 60
"""Of the day in UTC: 14:15 in Frankfurt; an hour late in summer, and even then before they are published."""
_SHORT_HISTORY_S = 85 * DAY_S
_NAMESPACE = "{http://www.ecb.int/vocabulary/2002-08-01/eurofxref}"
_DIGITS = Context(prec=12)


def latest(http: HttpClient, base_url: str, currency: str) -> list[Price]:
    """The last rate; empty where the bank quotes none of this money. Raises ``AdapterError``."""
    return _read(http, f"{base_url}/eurofxref-daily.xml", currency)


def history(http: HttpClient, base_url: str, currency: str, window_s: tuple[int, int], now_s: int) -> list[Price]:
    """The rates that held between two instants, the one before the first among them. Raises ``AdapterError``."""
    from_s = window_s[0] - RATE_SHOWN_S
    name = "eurofxref-hist-90d.xml" if now_s - from_s <= _SHORT_HISTORY_S else "eurofxref-hist.xml"
    rates = _read(http, f"{base_url}/{name}", currency)
    return [rate for rate in rates if from_s <= rate.observed_s <= window_s[1]]


def _read(http: HttpClient, url: str, currency: str) -> list[Price]:
    reply = http.request("GET", url, headers={"Accept": "application/xml"})
    found: list[Price] = []
    for day, rates in _days(reply):
        try:
            at_s = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) + _AGREED_S
            euro, own = Decimal(rates["USD"]), Decimal(1) if currency == "EUR" else Decimal(rates[currency])
            if euro.is_finite() and own.is_finite() and euro > 0 and own > 0:
                found.append(Price(currency, _DIGITS.divide(euro, own), SOURCE, at_s))
        except (KeyError, ValueError, InvalidOperation):
            continue  # that day this money was not quoted
    return found


def _days(reply: Reply) -> list[tuple[str, dict[str, str]]]:
    """Each day with its rates by money."""
    from xml.etree import ElementTree as ET

    text = reply.text()
    try:
        # Without a document type there are no entities to blow up.
        root = None if "<!DOCTYPE" in text else ET.fromstring(text)  # noqa: S314
    except ET.ParseError:
        root = None
    cubes = [] if root is None else [cube for cube in root.iter(f"{_NAMESPACE}Cube") if "time" in cube.attrib]
    if not cubes:
        raise AdapterError(FailureKind.SHAPE, f"{reply.url} answered no reference rates", "check rates_url of [prices]")
    return [(cube.attrib["time"], {one.get("currency", ""): one.get("rate", "") for one in cube}) for cube in cubes]
