"""Every way a command can fail, and the exit code each one ends with."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Exit codes of every command; 64 to 78 are those of BSD ``sysexits.h``."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    PARTIAL = 3
    DATA = 65
    UNREACHABLE = 69
    LOCKED = 75
    NOT_PERMITTED = 77
    CONFIG = 78
    INTERRUPTED = 130
    TERMINATED = 143


class FailureKind(StrEnum):
    """What kind of thing went wrong; stands in ``failures[].kind`` of every JSON document."""

    AUTH = "auth"
    BLOCKED = "blocked"
    TRANSIENT = "transient"
    SHAPE = "shape"
    UNSUPPORTED = "unsupported"
    CONFIG = "config"
    DATA = "data"
    LOCKED = "locked"
    PERMISSION = "permission"
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"


class OrchaError(Exception):
    """A failure that we understand: one sentence of what and where, and a hint of what to do."""

    exit_code = ExitCode.INTERNAL
    kind = FailureKind.INTERNAL

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OrchaError):
    """An option names something that does not exist."""

    exit_code = ExitCode.USAGE
    kind = FailureKind.CONFIG


class ConfigError(OrchaError):
    """The configuration cannot be used as it is."""

    exit_code = ExitCode.CONFIG
    kind = FailureKind.CONFIG


class DataError(OrchaError):
    """A file, a stored plan or the database cannot be used as it is."""

    exit_code = ExitCode.DATA
    kind = FailureKind.DATA


class LockHeld(OrchaError):
    """Another run holds the lock of the same database."""

    exit_code = ExitCode.LOCKED
    kind = FailureKind.LOCKED


class NotPermitted(OrchaError):
    """The operating system refused: a state folder, a socket, a control group."""

    exit_code = ExitCode.NOT_PERMITTED
    kind = FailureKind.PERMISSION


class AdapterError(OrchaError):
    """One node or price source could not be read; ``kind`` says why.

    ``retry_after_s``: it is not to be asked again for so long; ``until_renewed``: not with the same credentials.
    Without them the next run asks again.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        hint: str = "",
        *,
        retry_after_s: int | None = None,
        until_renewed: bool = False,
    ) -> None:
        super().__init__(message, hint)
        self.kind = kind
        self.retry_after_s = retry_after_s
        self.until_renewed = until_renewed


class ActuatorError(OrchaError):
    """One limit could not be read or set; the other targets go on."""

    def __init__(self, kind: FailureKind, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.kind = kind


class Interrupted(KeyboardInterrupt):
    """The command was asked to stop by SIGINT or SIGTERM; no ``Exception``, so nobody takes it for a failed step."""

    kind = FailureKind.INTERRUPTED
    message = "stopped before the end; the next run carries on from here"
    hint = ""

    def __init__(self, exit_code: ExitCode) -> None:
        super().__init__()
        self.exit_code = exit_code
