"""What the Grass adapter asks the web dashboard's private interface (GET only), and how its answers read.

The answers also hold an e-mail, a wallet and IP addresses; none of them is looked at.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast

from depin_orcha.adapters import HttpReader
from depin_orcha.adapters._read import Fields, objects
from depin_orcha.errors import AdapterError, FailureKind
from depin_orcha.timefmt import parse_rfc3339, retry_after_s, rfc3339
from depin_orcha.types import DAY_S, HOUR_S, EarningsSample, SampleKind, decimal_text

OLDER_URL = "https://api.getgrass.io"
TOKEN_WARNING_S = 14 * DAY_S
_BLOCKED_S = 6 * HOUR_S
_RATE_LIMIT_S = 30
"""Where it does not say how long to wait."""

_EPOCHS = "/epochEarnings"
_DEVICES = "/activeDevices"
_ACCOUNT = "/retrieveUser"
_EPOCHS_BACK = 12
_NO_POINTS = "User epoch earning not found"
_CREDENTIALS = re.compile(r"unauthori[sz]ed|forbidden|(?<!unexpected )token|jwt|expired|credential", re.IGNORECASE)
_PASSING = re.compile(r"time[d ]*-?out|try again|unavailable|overload|too many|rate limit|internal", re.IGNORECASE)
RENEW = "log in with a browser and copy accessToken from the dashboard's local storage to the file in token_file again"
_OTHER_URL = f"has its address changed? An older one is {OLDER_URL}"
_THEIR_TROUBLE = "the network is in trouble itself; the next run asks again"
_ACCOUNT_POINTS = ("total", "uptime", "referral", "desktop", "android", "extension", "proxy")


@dataclass(frozen=True, slots=True)
class Epoch:
    """The points of one epoch; ``end_s`` is the end of its last day, ``modified_s`` when the points were counted."""

    name: str
    points: Decimal
    points_today: Decimal | None
    start_s: int | None
    end_s: int | None
    modified_s: int | None

    def sample(self, now_s: int) -> EarningsSample:
        """Its counter, as of the moment it was counted, where that is told, else as of now."""
        observed_s = now_s if self.modified_s is None else min(self.modified_s, now_s)
        kind = SampleKind.COUNTER
        return EarningsSample(observed_s, self.points, "POINTS", kind, period=self.name, began_s=self.start_s)


@dataclass(frozen=True, slots=True)
class Device:
    """A device that is connected now; what the dashboard does not tell of it is None."""

    kind: str | None
    score: Decimal | None
    multiplier: Decimal | None
    uptime_s: Decimal | None
    connected_s: int | None

    @property
    def uptime_points(self) -> float | None:
        """What its uptime alone brings, by the dashboard's formula; None where a factor is lacking."""
        if self.score is None or self.multiplier is None or self.uptime_s is None:
            return None
        return float(self.uptime_s) / 3600 * 50 * float(self.score) / 100 * float(self.multiplier)


class Dashboard:
    """One account, asked with its token. Every question raises ``AdapterError``."""

    def __init__(self, http: HttpReader, url: str, token: str) -> None:
        self._http = http
        self._url = url
        self._token = token

    def latest_epoch(self) -> Epoch | None:
        """The latest epoch; None as long as the account has no points."""
        return next(iter(self._epochs(latest=True)), None)

    def epochs(self) -> list[Epoch]:
        """The last twelve epochs, the latest first."""
        return self._epochs(latest=False)

    def _epochs(self, *, latest: bool) -> list[Epoch]:
        data = self._data(_EPOCHS, limit=1 if latest else _EPOCHS_BACK, isLatestOnly=latest)
        if data is None:
            return []
        return [_epoch(row) for row in objects(_inner(data, _EPOCHS, "result.data"), _EPOCHS, "result.data.data")]

    def devices(self) -> list[Device]:
        """The devices that are connected."""
        return [_device(one) for one in objects(self._data(_DEVICES), _DEVICES, "result.data")]

    def account(self) -> dict[str, Any]:
        """The account's totals over all epochs; nothing that says who it is."""
        data = Fields(self._data(_ACCOUNT), _ACCOUNT, "result.data")
        totals = {f"{name}_points": data.optional(f"{name}Points", data.number) for name in _ACCOUNT_POINTS}
        uptime_s = data.optional("totalUptime", data.number)
        if not totals["total_points"]:
            del totals["total_points"]  # as long as an epoch is not counted, it says 0
        return {name: decimal_text(amount) for name, amount in totals.items() if amount is not None} | (
            {} if uptime_s is None else {"uptime_s": int(uptime_s)}
        )

    def _data(self, path: str, **query: int) -> Any:
        """``result.data`` of an answer; None where the network says that there are no points yet."""
        params = {"input": json.dumps(query, separators=(",", ":"))} if query else None
        try:
            reply = self._http.request(
                "GET",
                self._url + path,
                headers={"Authorization": self._token},
                params=params,
                accept=(400, 404, 429, 500),
            )
        except AdapterError as error:
            raise AdapterError(
                error.kind,
                error.message,
                _hint(error),
                retry_after_s=_BLOCKED_S if error.kind is FailureKind.BLOCKED else None,
                until_renewed=error.kind is FailureKind.AUTH,
            ) from error
        if reply.status == 429:
            asked_s = retry_after_s(reply.headers)
            wait_s = _RATE_LIMIT_S if asked_s is None else min(asked_s, DAY_S)
            message = f"{reply.url} answered 429: it is asked too often"
            raise AdapterError(FailureKind.TRANSIENT, message, "leave it alone until then", retry_after_s=wait_s)
        complaint = _complaint(reply)
        if complaint.startswith(_NO_POINTS):
            return None
        if reply.status == 500:
            raise AdapterError(FailureKind.TRANSIENT, f"{reply.url} answered 500", _THEIR_TROUBLE)
        if complaint:
            raise _refusal(reply, complaint)
        if reply.status != 200:
            raise AdapterError(FailureKind.SHAPE, f"{reply.url} answered {reply.status}", _OTHER_URL)
        data = _inner(_inner(reply.json(), path, "", "result"), path, "result")
        if data is None:
            raise AdapterError(FailureKind.SHAPE, f"{path}: result.data is missing", "the network changed its answers")
        return data


def _inner(value: Any, endpoint: str, path: str, key: str = "data") -> Any:
    """The value of a key of an object; None where it is absent, which whoever needs more will say."""
    Fields(value, endpoint, path)
    return cast("dict[str, Any]", value).get(key)


def _complaint(reply: Any) -> str:
    """``error.message`` of an answer, or its ``error`` if that is a text; "" where it does not complain."""
    try:
        answer = json.loads(reply.body)
    except (ValueError, RecursionError):
        return ""
    error = cast("dict[str, Any]", answer).get("error") if isinstance(answer, dict) else None
    message = cast("dict[str, Any]", error).get("message") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""


def _refusal(reply: Any, complaint: str) -> AdapterError:
    """The failure that an error inside a good answer stands for."""
    url = reply.url
    if _CREDENTIALS.search(complaint):
        return AdapterError(FailureKind.AUTH, f"{url} refused the token", RENEW, until_renewed=True)
    said = reply.quoted(complaint)
    if _PASSING.search(complaint):
        return AdapterError(FailureKind.TRANSIENT, f"{url} answered an error: {said}", _THEIR_TROUBLE)
    return AdapterError(FailureKind.SHAPE, f"{url} answered an error: {said}", _OTHER_URL)


def _hint(error: AdapterError) -> str:
    """What to do where the dashboard refuses or cannot be found; else the hint of the failure itself."""
    if error.kind is FailureKind.AUTH:
        return RENEW
    if error.kind is FailureKind.BLOCKED:
        return "leave it alone for six hours; opening the dashboard in a browser may help, getting around it may not"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, socket.gaierror):
        cause = cause.__cause__ or cause.__context__
    return error.hint if cause is None else _OTHER_URL


def token_warnings(token: str, now_s: int) -> Iterable[str]:
    """A warning from two weeks before the token's own date of expiry on; nothing else of it is looked at."""
    parts = token.split(".")
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expires_s = int(payload["exp"])
        day = rfc3339(expires_s)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError, binascii.Error):
        return
    if expires_s - now_s < TOKEN_WARNING_S:
        yield f"the token {'expires' if expires_s > now_s else 'expired'} on {day}: {RENEW}"


def _epoch(row: Fields) -> Epoch:
    last_day_s = _day_s(row, "endDate")
    return Epoch(
        name=row.text("epochName"),
        points=row.number("totalPoints"),
        points_today=row.optional("rewardPoints", row.number),
        start_s=_day_s(row, "startDate"),
        end_s=None if last_day_s is None else last_day_s + DAY_S,
        modified_s=row.optional("modified", row.time_s),
    )


def _day_s(row: Fields, key: str) -> int | None:
    text = row.optional(key, row.text)
    try:
        return None if text is None else parse_rfc3339(text[:10])
    except ValueError:
        return None


def _device(one: Fields) -> Device:
    return Device(
        kind=one.optional("type", one.text),
        score=one.optional("ipScore", one.number),
        multiplier=one.optional("multiplier", one.number),
        uptime_s=one.optional("aggUptime", one.number),
        connected_s=one.optional("lastConnectedAt", one.time_s),
    )
