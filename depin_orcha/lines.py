"""One setting that stands in one line of a node's configuration file: finding it, and replacing that line alone."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from .errors import ActuatorError, FailureKind
from .types import WriteLine


def line_of(text: str, key: str, path: str) -> str:
    """The line of ``text`` that sets ``key`` (``KEY: VALUE``), without its end; comments do not count.

    Raises ``ActuatorError`` when there is none, or when it cannot be told which one counts.
    """
    lines = [line.rstrip("\r") for line in text.split("\n")]
    found = [line for line in lines if re.match(rf"""\s*["']?{re.escape(key)}["']?\s*:""", line)]
    if len(found) != 1:
        many = f"{len(found)} lines that set" if found else "no line that sets"
        raise ActuatorError(FailureKind.CONFIG, f"{path} has {many} {key}", f"write it once: {key}: VALUE")
    return found[0]


def replace_line(call: WriteLine) -> None:
    """That line of the file says ``new``; every other byte, the owner and the rights of the file are as they were.

    Until the very end the file is the old one, and then the new one, whatever happens meanwhile. Raises
    ``ActuatorError``, and then nothing has changed: the line is not as it was, or the folder cannot be written.
    """
    path = Path(call.path)
    try:
        path.stat()  # there is a file where its links lead
        while path.is_symlink():  # else the link would be replaced
            path = path.parent / path.readlink()
        content = path.read_bytes()
        if line_of(content.decode(errors="surrogateescape"), call.key, call.path) != call.old:
            message = f"{call.path} was changed meanwhile: it does not say `{call.old}` any more"
            raise ActuatorError(FailureKind.DATA, message, "see what it says now, and apply again")
        lines = content.splitlines(keepends=True)
        _exchange(path, b"".join(_with(line, call) for line in lines))
    except OSError as error:
        kind = FailureKind.PERMISSION if isinstance(error, PermissionError) else FailureKind.TRANSIENT
        hint = "apply as root, or as its owner" if kind is FailureKind.PERMISSION else "nothing was changed"
        raise ActuatorError(kind, f"cannot write {call.path} ({error.strerror})", hint) from error


def _with(line: bytes, call: WriteLine) -> bytes:
    body = line.rstrip(b"\r\n")
    if body != call.old.encode(errors="surrogateescape"):
        return line
    return call.new.encode(errors="surrogateescape") + line[len(body) :]


def _exchange(path: Path, content: bytes) -> None:
    """The file at ``path`` is another one with this content, for good also when the power fails now."""
    told = path.stat()
    made = path.with_name(f".{path.name}.depin-orcha")
    made.unlink(missing_ok=True)  # what a killed run left
    number = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fchown(number, told.st_uid, told.st_gid)
            shutil.copystat(path, made)
            os.utime(made)
            os.fsync(number)
        made.rename(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
