"""The world outside our own state: reading it, and the one function through which it is changed."""

from __future__ import annotations

import errno
import json
import shlex
import shutil
import time
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from . import commands
from .actuators import TargetGoneError
from .errors import ActuatorError, AdapterError, ConfigError, FailureKind, OrchaError
from .grouping import move
from .lines import replace_line
from .net import HttpClient, Reply
from .types import Call, Group, HttpCalls, RunCommand, Steps, WriteLine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Authorize = Callable[[str], Mapping[str, str]]

COMMAND_TIMEOUT_S = 30.0
ENGINE_TIMEOUT_S = 60.0
INTERFACE_TIMEOUT_S = 30.0
ENGINE_API = (1, 41)
"""The version of the engine's interface that this was written for; asked for where the engine still speaks it."""
OLDEST_ENGINE_API = (1, 25)
LIBPOD = "/libpod/"
"""How the paths of Podman's own interface begin, beside the one for clients of Docker."""
LIBPOD_API = (4, 3)
"""The first version of Podman's own interface that can change a container; asked for where it is still spoken."""

_FORBIDDEN = ("authentication required", "access denied", "permission denied", "not permitted")
"""What programs say when their user lacks a right."""
_TELLING = (201, 202, 204, 400, 422, 500)
"""Answers of a node's interface that are good, or say what is wrong."""


@dataclass(frozen=True, slots=True)
class _Engine:
    """An engine, and the path prefixes of its interface and of the one that only Podman has."""

    client: httpx.Client
    prefix: str
    libpod: str


class Outside:
    """The world: reads for actuators, none of which changes anything, and ``act`` for ``execute`` alone.

    ``authorize``: the headers that a node's interface at a base url wants to see; asked for when they are needed, so
    that no secret has to be part of an action. ``any_engine``: engines that cannot change limits will do.
    """

    def __init__(self, authorize: Authorize | None = None, *, any_engine: bool = False) -> None:
        self._authorize = authorize
        self._any_engine = any_engine
        self._headers: dict[str, Mapping[str, str]] = {}
        self._engines: dict[str, _Engine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for engine in self._engines.values():
            engine.client.close()
        self._engines.clear()

    def get(self, socket: str, path: str) -> Any:
        """The JSON answer to a GET of the engine behind ``socket``, in the version of its interface we agree on."""
        engine = self._engine(socket)
        return _json(_request(engine.client, socket, "GET", engine.prefix + path), socket)

    def lines(self, socket: str, path: str) -> list[Any]:
        """The JSON values, one a line, that the engine answers to a GET of something that happened."""
        engine = self._engine(socket)
        text = _request(engine.client, socket, "GET", engine.prefix + path).text
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise ActuatorError(FailureKind.SHAPE, f"{socket} answers lines that are not JSON ({error})") from error

    def ask(self, base_url: str, path: str) -> Any:
        """The JSON answer to a GET of a node's own interface."""
        try:
            return self._interface("GET", base_url, path).json()
        except AdapterError as error:
            raise ActuatorError(error.kind, error.message, error.hint) from error

    def output(self, argv: Sequence[str]) -> str:
        """What the command prints on stdout; anything but exit code 0 within 30 s is an ``ActuatorError``."""
        return _run(argv)

    def text(self, path: str) -> str | None:
        """The content of a text file, None when it, or the process that it tells of, is not there."""
        try:
            return Path(path).read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            return None
        except OSError as error:
            if error.errno == errno.ENODEV:  # the control group went away while we read
                return None
            kind = FailureKind.PERMISSION if isinstance(error, PermissionError) else FailureKind.TRANSIENT
            raise ActuatorError(kind, f"cannot read {path} ({error.strerror})") from error

    def free_bytes(self, path: str) -> int:
        """How much an ordinary user may still write to the file system that holds ``path``."""
        try:
            return shutil.disk_usage(path).free
        except OSError as error:
            raise ActuatorError(
                FailureKind.CONFIG, f"cannot tell the free space of {path} ({error.strerror})", "is disk a mount?"
            ) from error

    def act(self, call: Call) -> None:
        """Runs the call; that it succeeds proves nothing. Raises ``ActuatorError``."""
        if isinstance(call, RunCommand):
            _run(call.argv, call.timeout_s)
        elif isinstance(call, WriteLine):
            replace_line(call)
        elif isinstance(call, Group):
            move(call)
        elif isinstance(call, Steps):
            for one in call.calls:
                self.act(one)
        elif isinstance(call, HttpCalls):
            self._act_together(call)
        elif call.base_url is not None:
            self._interface(call.method, call.base_url, call.path, call.body)
        elif call.socket is not None:
            engine = self._engine(call.socket)
            prefix = engine.libpod if call.path.startswith(LIBPOD) else engine.prefix
            _request(engine.client, call.socket, call.method, prefix + call.path, call.body, call.timeout_s)

    def _act_together(self, calls: HttpCalls) -> None:
        """All of them, also after one that was refused: what it stored all the same takes effect with the last."""
        errors: list[ActuatorError] = []
        for index, one in enumerate(calls.calls):
            if index:
                time.sleep(calls.pause_s)
            try:
                self.act(one)
            except ActuatorError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _interface(self, method: str, base_url: str, path: str, body: dict[str, Any] | None = None) -> Reply:
        """The answer of a node's interface, unless it refuses what it is asked."""
        try:
            if self._authorize is not None and base_url not in self._headers:
                self._headers[base_url] = self._authorize(base_url)
            with HttpClient(INTERFACE_TIMEOUT_S) as http:
                headers = self._headers.get(base_url)
                reply = http.request(method, base_url + path, headers=headers, body=body, accept=_TELLING)
        except (AdapterError, ConfigError) as error:
            raise ActuatorError(error.kind, error.message, error.hint) from error
        if reply.status >= HTTPStatus.BAD_REQUEST:
            said = reply.quoted(reply.body.decode(errors="replace"))
            is_data = reply.status < HTTPStatus.INTERNAL_SERVER_ERROR
            raise ActuatorError(
                FailureKind.DATA if is_data else FailureKind.TRANSIENT,
                f"{reply.url} answered {reply.status} to {method} {path}: {said}",
                "the node takes no such value" if is_data else "see the log of the node",
            )
        return reply

    def _engine(self, socket: str) -> _Engine:
        if socket not in self._engines:
            client = httpx.Client(
                transport=httpx.HTTPTransport(uds=socket),
                base_url="http://engine",
                timeout=ENGINE_TIMEOUT_S,
                trust_env=False,
            )
            try:
                version = _json(_request(client, socket, "GET", "/version"), socket)
                prefix, libpod = _agreed(version, socket, any_engine=self._any_engine)
            except OrchaError:
                client.close()
                raise
            self._engines[socket] = _Engine(client, prefix, libpod)
        return self._engines[socket]


def _run(argv: Sequence[str], timeout_s: float | None = None) -> str:
    try:
        ended = commands.run(argv, timeout_s=timeout_s or COMMAND_TIMEOUT_S)
    except commands.CommandError as error:
        raise ActuatorError(error.kind, error.message, error.hint) from error
    if ended.code:
        forbidden = any(word in ended.said.lower() for word in _FORBIDDEN)
        raise ActuatorError(
            FailureKind.PERMISSION if forbidden else FailureKind.TRANSIENT,
            f"`{shlex.join(argv)}` ended with {ended.code}: {ended.said}",
            "this needs rights: run depin-orcha as root" if forbidden else "run it by hand to see more",
        )
    return ended.output.decode(errors="replace")


def _request(
    client: httpx.Client,
    socket: str,
    method: str,
    path: str,
    body: dict[str, Any] | None = None,
    timeout_s: float | None = None,
) -> httpx.Response:
    try:
        response = client.request(method, path, json=body, timeout=timeout_s or ENGINE_TIMEOUT_S)
    except httpx.ConnectError as error:
        raise _unconnected(error, socket) from error
    except httpx.HTTPError as error:
        raise ActuatorError(
            FailureKind.TRANSIENT, f"the engine at {socket} did not answer {method} ({error or type(error).__name__})"
        ) from error
    if not response.is_success:
        raise _refusal(response, socket)
    return response


def _json(response: httpx.Response, socket: str) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"{socket} answers something that is not JSON", "is docker_socket a Docker Engine?"
        ) from error


def _agreed(version: Any, socket: str, *, any_engine: bool) -> tuple[str, str]:
    """The path prefix of the newest version of the interface that both sides know, and that of Podman's own."""
    try:
        newest, oldest = (_numbers(version[key]) for key in ("ApiVersion", "MinAPIVersion"))
        parts = {str(part["Name"]).lower(): part for part in version.get("Components") or ()}
        podman = next((part for name, part in parts.items() if "podman" in name), None)
        own = None if podman is None else [_numbers(podman["Details"][key]) for key in ("APIVersion", "MinAPIVersion")]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"{socket} does not say its version ({error!r})", "is docker_socket a Docker Engine?"
        ) from error
    if not any_engine and (newest < OLDEST_ENGINE_API or (own is not None and own[0] < LIBPOD_API)):
        raise ActuatorError(
            FailureKind.UNSUPPORTED,
            f"the engine at {socket} cannot change the limits of a running container",
            "Docker Engine 1.13 or later can, and Podman 4.3 or later",
        )
    major, minor = max(oldest, min(ENGINE_API, newest))
    newest, oldest = own or (LIBPOD_API, LIBPOD_API)
    return f"/v{major}.{minor}", "/v{}.{}.0".format(*max(oldest, min(LIBPOD_API, newest)))


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _unconnected(error: httpx.ConnectError, socket: str) -> ActuatorError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, PermissionError):
        return ActuatorError(
            FailureKind.PERMISSION,
            f"this user may not use the socket {socket}",
            "apply as root or, for Docker, as a member of the group docker (which is as good as root)",
        )
    return ActuatorError(
        FailureKind.TRANSIENT,
        f"no engine answers at {socket} ({cause.strerror if isinstance(cause, OSError) else error})",
        "is it running? Its socket is the option docker_socket or podman_socket of [apply]",
    )


def _refusal(response: httpx.Response, socket: str) -> ActuatorError:
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text[:300].strip()
    status, said = response.status_code, f"the engine at {socket} answered {response.status_code}: {message}"
    if status == HTTPStatus.NOT_FOUND and "no such container" in message.lower():
        return TargetGoneError(
            FailureKind.TRANSIENT,
            said,
            "was it removed or made anew? Then the next apply finds it; else check its name",
        )
    by_status: dict[int, tuple[FailureKind, str]] = {
        HTTPStatus.BAD_REQUEST: (FailureKind.DATA, "the engine takes no such limit"),
        HTTPStatus.FORBIDDEN: (FailureKind.PERMISSION, "a plugin of the engine forbids this"),
        HTTPStatus.NOT_FOUND: (FailureKind.UNSUPPORTED, "is docker_socket a Docker Engine?"),
        HTTPStatus.CONFLICT: (FailureKind.DATA, "the container's limits were set another way meanwhile; apply again"),
    }
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ActuatorError(FailureKind.TRANSIENT, said, "see the log of the engine")
    kind, hint = by_status.get(status, (FailureKind.SHAPE, "is docker_socket a Docker Engine?"))
    return ActuatorError(kind, said, hint)
