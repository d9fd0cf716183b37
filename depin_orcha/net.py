"""The one HTTP client: every answer is checked, bounded in time and size, and named when it is wrong."""

from __future__ import annotations

import json
import math
import socket
import ssl
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache
from threading import Timer
from typing import Any, Self
from urllib.parse import urlsplit

import certifi
import httpx

from . import __version__
from .errors import AdapterError, FailureKind

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
SIZE_CAP_BYTES = 16 * 1024 * 1024

_IS_IT_THE_NODE = "check the url option and the version of the node: this may be some other program, or a wrong path"


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer with a status that the caller accepts."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

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


@cache
def _trust() -> ssl.SSLContext:
    """What this machine trusts, and the usual public issuers; read once, it takes longer than a local request."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class HttpClient:
    """GET and POST within one deadline, without redirects, at most 16 MiB an answer.

    Raises :class:`AdapterError` with the failure kind that the status, the body or the transport tells.
    """

    def __init__(self, deadline_s: float = READ_TIMEOUT_S, *, transport: httpx.BaseTransport | None = None) -> None:
        self._ends = time.monotonic() + deadline_s
        self._deadline_s = deadline_s
        self._sockets: list[socket.socket] = []
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
        ends = time.monotonic() + limit_s
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
        shown, hooks = display_url(url), {"trace": self._remember_socket}
        with (
            self._cut_off_after(limit_s),
            self._client.stream(method, url, timeout=_timeouts(limit_s), extensions=hooks, **parts) as response,
        ):
            return Reply(shown, response.status_code, response.headers, _read(response, shown, first_line=first_line))

    @contextmanager
    def _cut_off_after(self, limit_s: float) -> Generator[None]:
        """Close every connection when time is up: a peer that sends a byte now and then passes any read timeout."""
        timer = Timer(limit_s, self._cut_off)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut_off(self) -> None:
        for connection in self._sockets:
            with suppress(OSError):
                # Not SSLSocket's own method, which would take the TLS layer from under the reading thread.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def _remember_socket(self, event: str, info: Mapping[str, Any]) -> None:
        """httpcore's trace hook: called with every connection it makes."""
        if event.endswith((".connect_tcp.complete", ".connect_unix_socket.complete", ".start_tls.complete")):
            self._sockets.append(info["return_value"].get_extra_info("socket"))


def display_url(url: str) -> str:
    """Scheme, host and port: what may be printed of a url (the rest may hold a key)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the configured url"
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


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
        kind, message, hint = FailureKind.SHAPE, f"{shown} broke off or garbled its answer ({text})", _IS_IT_THE_NODE
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
