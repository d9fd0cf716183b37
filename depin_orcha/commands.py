"""The one module that runs other programs: an argument list, no shell, bounded in time and in what it may print."""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .errors import FailureKind, OrchaError
from .paths import ENV_PREFIX

OUTPUT_CAP_BYTES = 16 * 1024 * 1024

_CHUNK_BYTES = 65536
_SAID_CHARACTERS = 300

_running: set[subprocess.Popen[bytes]] = set()


class CommandError(OrchaError):
    """A command could not be run to its end; ``kind`` says why."""

    def __init__(self, kind: FailureKind, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that ended by itself: its exit code, or minus the signal that ended it, and what it printed."""

    code: int
    output: bytes
    errors: bytes

    @property
    def said(self) -> str:
        """The one line of its complaint that says most, without control characters."""
        lines = [line.strip() for line in self.errors.decode(errors="replace").splitlines() if line.strip()]
        named = [line for line in lines if line.lower().startswith("error")]
        line = (named or lines[-1:] or ["it said nothing"])[0]
        return "".join(char for char in line if char.isprintable())[:_SAID_CHARACTERS]


def run(argv: Sequence[str], *, timeout_s: float, shown: str = "", env: Mapping[str, str] | None = None) -> Ended:
    """Run a program until it ends, whatever its exit code; ``env`` None hands on all of ours but our own options.

    ``shown`` stands for the command in messages, where its arguments may hold a secret. Raises ``CommandError``:
    config (no such program), permission, transient (not over in time), shape (printed more than 16 MiB); in the last
    two cases the program and everything it started in its process group has been killed.
    """
    shown = shown or shlex.join(argv)
    if env is None:
        env = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    ends = time.monotonic() + timeout_s
    with _started(argv, shown, env) as process:
        _running.add(process)
        try:
            output, errors = _read(process, ends)
            return Ended(process.wait(max(ends - time.monotonic(), 0)), output, errors)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            _kill(process)
            raise CommandError(
                FailureKind.TRANSIENT,
                f"`{shown}` did not end within {timeout_s:g} s",
                "run it by hand: does it wait for something, or leave a program behind that keeps its output open?",
            ) from error
        except _TooMuchError as error:
            _kill(process)
            raise CommandError(
                FailureKind.SHAPE,
                f"`{shown}` printed more than {OUTPUT_CAP_BYTES // 2**20} MiB",
                "run it by hand to see what it prints",
            ) from error
        finally:
            _running.discard(process)


def kill_all() -> None:
    """Every program that still runs for us, and what it started, has been killed."""
    for process in list(_running):
        _kill(process)


class _TooMuchError(Exception):
    pass


def _started(argv: Sequence[str], shown: str, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        # A session of its own: an interrupt from the terminal does not tear a half-written file.
        return subprocess.Popen(  # noqa: S603 - an argument list from the owner's file, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise CommandError(
            FailureKind.CONFIG, f"there is no program {argv[0]}", "check the command, or give the full path"
        ) from error
    except PermissionError as error:
        raise CommandError(
            FailureKind.PERMISSION, f"this user may not run {argv[0]}", "is it executable? chmod +x makes it so"
        ) from error
    except (OSError, ValueError) as error:
        raise CommandError(
            FailureKind.CONFIG, f"cannot run `{shown}` ({error})", "a script needs #!/bin/sh as its first line"
        ) from error


def _read(process: subprocess.Popen[bytes], ends: float) -> tuple[bytes, bytes]:
    """All that the process prints until it closes both streams."""
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    printed = {stream.fileno(): bytearray() for stream in streams}
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left_s = ends - time.monotonic()
            ready = selector.select(left_s) if left_s > 0 else []
            if not ready:
                raise TimeoutError
            for key, _ in ready:
                chunk = os.read(key.fd, _CHUNK_BYTES)
                printed[key.fd] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
                if len(printed[key.fd]) > OUTPUT_CAP_BYTES:
                    raise _TooMuchError
    output, errors = printed.values()
    return bytes(output), bytes(errors)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
