"""The world outside our own state: reading it, and the one function through which it is changed."""

from __future__ import annotations

import errno
import os
import shlex
import signal
import subprocess
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from .actuators import TargetGoneError
from .errors import ActuatorError, FailureKind, OrchaError
from .types import HttpCall, RunCommand

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND_TIMEOUT_S = 30.0
ENGINE_TIMEOUT_S = 60.0
ENGINE_API = (1, 41)
"""The version of the engine's interface that this was written for; asked for where the engine still speaks it."""
OLDEST_ENGINE_API = (1, 25)


class Outside:
    """The world: reads for actuators, none of which changes anything, and ``act`` for ``execute`` alone."""

    def __init__(self) -> None:
        self._engines: dict[str, tuple[httpx.Client, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client, _prefix in self._engines.values():
            client.close()
        self._engines.clear()

    def get(self, socket: str, path: str) -> Any:
        """The JSON answer to a GET of the engine behind ``socket``, in the version of its interface we agree on."""
        client, prefix = self._engine(socket)
        return _json(_request(client, socket, "GET", prefix + path), socket)

    def output(self, argv: Sequence[str]) -> str:
        """What the command prints on stdout; anything but exit code 0 within 30 s is an ``ActuatorError``."""
        return _run(argv)

    def text(self, path: str) -> str | None:
        """The content of a file of the kernel, None when it or its process is not there."""
        try:
            return Path(path).read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            return None
        except OSError as error:
            if error.errno == errno.ENODEV:  # the control group went away while we read
                return None
            kind = FailureKind.PERMISSION if isinstance(error, PermissionError) else FailureKind.TRANSIENT
            raise ActuatorError(kind, f"cannot read {path} ({error.strerror})") from error

    def act(self, call: RunCommand | HttpCall) -> None:
        """Runs the call; that it succeeds proves nothing. Raises ``ActuatorError``."""
        if isinstance(call, RunCommand):
            _run(call.argv)
            return
        client, prefix = self._engine(call.socket)
        _request(client, call.socket, call.method, prefix + call.path, call.body)

    def _engine(self, socket: str) -> tuple[httpx.Client, str]:
        if socket not in self._engines:
            client = httpx.Client(
                transport=httpx.HTTPTransport(uds=socket),
                base_url="http://engine",
                timeout=ENGINE_TIMEOUT_S,
                trust_env=False,
            )
            try:
                prefix = _agreed(_json(_request(client, socket, "GET", "/version"), socket), socket)
            except OrchaError:
                client.close()
                raise
            self._engines[socket] = client, prefix
        return self._engines[socket]


def _run(argv: Sequence[str]) -> str:
    shown = shlex.join(argv)
    try:
        # a session of its own: an interrupt from the terminal does not tear a half-written file
        process = subprocess.Popen(  # noqa: S603 - an argument list from the owner's file, no shell
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    except FileNotFoundError as error:
        raise ActuatorError(
            FailureKind.CONFIG, f"there is no program {argv[0]}", "check provider_command, or give the full path"
        ) from error
    except PermissionError as error:
        raise ActuatorError(FailureKind.PERMISSION, f"this user may not run {argv[0]}") from error
    except (OSError, ValueError) as error:
        raise ActuatorError(FailureKind.CONFIG, f"cannot run `{shown}` ({error})") from error
    with process:
        try:
            output, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise ActuatorError(
                FailureKind.TRANSIENT, f"`{shown}` did not end within {COMMAND_TIMEOUT_S:g} s"
            ) from error
    if process.returncode:
        raise ActuatorError(
            FailureKind.TRANSIENT,
            f"`{shown}` ended with {process.returncode}: {_said(errors)}",
            "run it by hand to see more",
        )
    return output.decode(errors="replace")


def _said(errors: bytes) -> str:
    """The one line of a program's complaint that says most."""
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if line.lower().startswith("error")]
    return "".join(char for char in (named or lines[-1:] or ["it said nothing"])[0] if char.isprintable())[:300]


def _request(
    client: httpx.Client, socket: str, method: str, path: str, body: dict[str, Any] | None = None
) -> httpx.Response:
    try:
        response = client.request(method, path, json=body)
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


def _agreed(version: Any, socket: str) -> str:
    """The path prefix of the newest version of the interface that both sides know."""
    try:
        newest, oldest = (_numbers(version[key]) for key in ("ApiVersion", "MinAPIVersion"))
        parts = [str(part["Name"]) for part in version.get("Components") or ()]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ActuatorError(
            FailureKind.SHAPE, f"{socket} does not say its version ({error!r})", "is docker_socket a Docker Engine?"
        ) from error
    if any("podman" in part.lower() for part in parts) or newest < OLDEST_ENGINE_API:
        raise ActuatorError(
            FailureKind.UNSUPPORTED,
            f"the engine at {socket} cannot change the limits of a running container",
            "Docker Engine 1.13 or later can",
        )
    major, minor = max(oldest, min(ENGINE_API, newest))
    return f"/v{major}.{minor}"


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
            f"this user may not use the Docker socket {socket}",
            "apply as root or as a member of the group docker (which is as good as root)",
        )
    return ActuatorError(
        FailureKind.TRANSIENT,
        f"no Docker Engine answers at {socket} ({cause.strerror if isinstance(cause, OSError) else error})",
        "is it running? Its socket is the option docker_socket of [apply]",
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
