"""The one HTTP client: every answer is checked, bounded in time and size, and named when it is wrong."""

from __future__ import annotations

import json
import math
import re
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache
from threading import Lock
from typing import Any, Self
from urllib.parse import unquote

import certifi
import httpx

from . import __version__
from .errors import AdapterError, FailureKind

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
SIZE_CAP_BYTES = 16 * 1024 * 1024

_QUOTED_LETTERS = 200
_KEY_LENGTH = 16
"""A part of a url that is shorter is taken for a word, not for a key."""
_ADDRESS = re.compile(
    r"(https?://)(?:[^/?#@]*@)?((?:\[[0-9a-f:.]+\]|[\w.-]+)(?::\d+)?)(?:[/?#][^@]*)?", re.IGNORECASE | re.DOTALL
)
_IS_IT_THE_NODE = "check the url option and the version of the node: this may be some other program, or a wrong path"


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer with a status that the caller accepts; ``secrets``: what the request may have shown in it."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: frozenset[str] = frozenset()

    def quoted(self, text: str) -> str:
        """A part of the answer as a message may show it: one line, cut short, without the secrets of the request."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "...")
        return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:_QUOTED_LETTERS]

    def text(self) -> str:
        """The body as UTF-8 text; anything else is a shape failure."""
        try:
            return self.body.decode()
        except UnicodeDecodeError as error:
            raise AdapterError(
                FailureKind.SHAPE, f"{self.url} answered bytes that are not UTF-8", _IS_IT_THE_NODE
            ) from error

    def json(self) -> Any:
        """The body as JSON with every fraction as an exact ``Decimal``; HTML or broken JSON is a shape failure."""
        text = self.text()
        if _is_html(self.headers, text):
            raise AdapterError(FailureKind.SHAPE, f"{self.url} answered a web page, not JSON", _IS_IT_THE_NODE)
        try:
            return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
        except (ValueError, ArithmeticError, RecursionError) as error:
            # Beside bad syntax: a number that no Decimal can hold, brackets nested deeper than the parser can follow.
            raise AdapterError(
                FailureKind.SHAPE, f"{self.url} answered broken JSON ({error})", _IS_IT_THE_NODE
            ) from error


_trust_lock = Lock()


def _trust() -> ssl.SSLContext:
    """What this machine trusts, and the usual public issuers; read once, it takes longer than a local request."""
    with _trust_lock:  # or each of the first threads would read it
        return _read_trust()


@cache
def _read_trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class HttpClient:
    """GET and POST within one deadline, without redirects, at most 16 MiB an answer.

    Raises :class:`AdapterError` with the failure kind that the status, the body or the transport tells.
    """

    def __init__(self, deadline_s: float = READ_TIMEOUT_S, *, transport: httpx.BaseTransport | None = None) -> None:
        self._ends = time.monotonic() + deadline_s
        self._ends_now = self._ends
        """When the request has to be over that is being made."""
        self._deadline_s = deadline_s
        self.peer_clock_s: int | None = None
        """What time it was for the last server that said so, in epoch seconds."""
        self._client = httpx.Client(
            transport=transport or httpx.HTTPTransport(verify=_trust(), retries=1),
            headers={"User-Agent": f"depin-orcha/{__version__}", "Accept": "application/json"},
            trust_env=False,
            follow_redirects=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get_json(
        self, url: str, *, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> Any:
        """The JSON value of a 200 answer."""
        return self.request("GET", url, headers=headers, params=params).json()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        accept: tuple[int, ...] = (),
        first_line: bool = False,
        timeout_s: float | None = None,
    ) -> Reply:
        """A 200 answer, or one whose status is in ``accept``.

        With ``first_line`` the answer ends at its first empty line, for event streams that never end. ``timeout_s``:
        give up earlier than the deadline.
        """
        shown = display_url(url)
        allowed_s = timeout_s or self._deadline_s
        limit_s = min(self._ends - time.monotonic(), allowed_s)
        self._ends_now = ends = time.monotonic() + limit_s
        late = _late(shown, allowed_s)
        if limit_s <= 0:
            raise late
        try:
            reply = self._exchange(
                method, url, limit_s, first_line=first_line, headers=headers, params=params, json=body
            )
        except httpx.HTTPError as error:
            raise (late if time.monotonic() >= ends else _transport_failure(error, shown)) from error
        except (httpx.InvalidURL, UnicodeError) as error:
            hint = "check the url and the key for characters that do not belong"
            raise AdapterError(FailureKind.CONFIG, f"{shown} cannot be asked", hint) from error
        if time.monotonic() >= ends:
            raise late  # what was cut off may look complete
        with suppress(KeyError, ValueError):
            self.peer_clock_s = int(parsedate_to_datetime(reply.headers["date"]).timestamp())
        if reply.status != 200 and reply.status not in accept:
            raise _status_failure(reply)
        return reply

    def _exchange(self, method: str, url: str, limit_s: float, *, first_line: bool, **parts: Any) -> Reply:
        shown, hooks = display_url(url), {"trace": self._bound_reads}
        with self._client.stream(method, url, timeout=_timeouts(limit_s), extensions=hooks, **parts) as response:
            body = _read(response, shown, first_line=first_line)
            secrets = _secrets(response.request, parts["headers"])
            return Reply(shown, response.status_code, response.headers, body, secrets)

    def _bound_reads(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore's trace hook, called with every connection it makes: all reads together end in time.

        A peer that sends a byte now and then passes the timeout of each single read.
        """
        if not event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            return
        stream = info["return_value"]
        read = stream.read

        def read_in_time(size: int, timeout: float) -> bytes:
            left_s = self._ends_now - time.monotonic()
            if left_s <= 0:
                raise httpx.ReadTimeout("too late")
            return read(size, min(timeout, left_s))

        stream.read = read_in_time


def display_url(url: str) -> str:
    """Scheme, host and port: what may be printed of a url (the rest may hold a key, and so may what is no url)."""
    address = _ADDRESS.fullmatch(url)
    return address[1] + address[2] if address else "the configured url"


def _secrets(request: httpx.Request, given: Mapping[str, str] | None) -> frozenset[str]:
    """The words of a request that may be secret: of the headers that were given or log in, and of its url."""
    values = [*(given or {}).values(), request.headers.get("authorization", "")]
    words = {word for value in values for word in value.split()} - {"Bearer", "Basic"}
    url = str(request.url)
    long_parts = [part for part in re.split(r"[/?&=#@]", url) if len(part) >= _KEY_LENGTH]
    userinfo = request.url.userinfo.decode().split(":")
    return frozenset({*words, *(one for part in [*long_parts, *userinfo] for one in (part, unquote(part)))} - {""})


def _timeouts(limit_s: float) -> httpx.Timeout:
    # Half, because a connection that cannot be made is tried twice.
    return httpx.Timeout(min(READ_TIMEOUT_S, limit_s), connect=min(CONNECT_TIMEOUT_S, limit_s / 2))


def _read(response: httpx.Response, shown: str, *, first_line: bool) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > SIZE_CAP_BYTES:
            text = f"{shown} answered more than {SIZE_CAP_BYTES // 2**20} MiB"
            raise AdapterError(FailureKind.SHAPE, text, _IS_IT_THE_NODE)
        if first_line and (b"\n\n" in content or b"\r\n\r\n" in content):
            break
    return bytes(content)


def _refuse_constant(name: str) -> float:
    if not math.isfinite(float(name)):
        raise ValueError(f"{name} is not a JSON number")
    return float(name)


def _is_html(headers: Mapping[str, str], text: str) -> bool:
    return "html" in headers.get("content-type", "").lower() or text.lstrip()[:1] == "<"


def _late(shown: str, limit_s: float) -> AdapterError:
    return AdapterError(
        FailureKind.TRANSIENT,
        f"{shown} did not answer in full within {limit_s:g} s",
        "if the node is only slow, raise its deadline_s",
    )


def _transport_failure(error: httpx.HTTPError, shown: str) -> AdapterError:
    text = str(error)
    kind, message, hint = FailureKind.TRANSIENT, f"{shown}: {text or type(error).__name__}", "is the node in trouble?"
    if isinstance(error, httpx.UnsupportedProtocol):
        kind, message, hint = FailureKind.CONFIG, f"{shown} is not an http or https url", "check the url"
    elif isinstance(error, httpx.LocalProtocolError):
        # The text would show the header, and with it the key.
        kind, message, hint = FailureKind.CONFIG, f"{shown} cannot be asked", "does the key hold a line break?"
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        kind, message = FailureKind.CONFIG, f"{shown} shows a certificate that this machine does not trust"
        hint = "use the host name the certificate was made for, or trust its issuer on this machine"
    elif isinstance(error, httpx.TimeoutException):
        message, hint = f"{shown} did not answer in time", "is the node overloaded?"
    elif isinstance(error, httpx.ConnectError):
        message, hint = f"cannot reach {shown} ({text})", "is the node running, and is the url right?"
    elif isinstance(error, httpx.RemoteProtocolError) and "without sending a response" in text:
        message, hint = f"{shown} hung up without an answer", "is the node just starting?"
    elif isinstance(error, httpx.DecodingError | httpx.RemoteProtocolError):
        # After the colon stands what the peer sent, which may be what we sent.
        fault = text.partition(":")[0]
        kind, message, hint = FailureKind.SHAPE, f"{shown} broke off or garbled its answer ({fault})", _IS_IT_THE_NODE
    return AdapterError(kind, message, hint)


def _status_failure(reply: Reply) -> AdapterError:
    status, url = reply.status, reply.url
    html = _is_html(reply.headers, reply.body[:200].decode(errors="replace"))
    if status in (403, 503) and (html or "cf-mitigated" in reply.headers):
        return AdapterError(
            FailureKind.BLOCKED, f"{url} answered {status} with a challenge page", "wait; do not retry by hand"
        )
    if status in (401, 403):
        return AdapterError(
            FailureKind.AUTH,
            f"{url} refused the credentials ({status})",
            "renew the key file named in the configuration",
        )
    if status == 429 or status >= 500:
        hint = "it is asked too often: wait" if status == 429 else "the log of the node may say more"
        return AdapterError(FailureKind.TRANSIENT, f"{url} answered {status}", hint)
    return AdapterError(FailureKind.SHAPE, f"{url} answered {status}", _IS_IT_THE_NODE)
