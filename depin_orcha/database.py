"""The SQLite file itself: opening it, locking it, and what its errors mean to a person."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal, localcontext
from pathlib import Path
from urllib.parse import quote

from . import schema
from .errors import DataError, LockHeld, NotPermitted, OrchaError
from .types import DECIMALS, decimal_text


@contextmanager
def lock(database: Path, wait_s: float) -> Generator[None]:
    """Hold the writers' lock of a database; the kernel frees it however the process ends.

    Raises ``LockHeld`` when another run still holds it after ``wait_s`` seconds.
    """
    from filelock import FileLock, Timeout

    with friendly(database):
        database.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(f"{database}.lock", timeout=wait_s, poll_interval=0.1)
        try:
            held.acquire()
        except Timeout as error:
            raise LockHeld(
                f"another run is working on {database}", "try again later, or wait for it with --wait SECONDS"
            ) from error
    try:
        yield
    finally:
        held.release()


@contextmanager
def open_for_writing(path: Path) -> Generator[sqlite3.Connection]:
    """The database at ``path``, created or brought up to date first; call it under :func:`lock`.

    Raises ``DataError`` for a corrupt, foreign or newer file, ``NotPermitted`` where it cannot be written.
    """
    with friendly(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = _connect(path, "mode=rwc")
        try:
            _check_identity(connection, path)
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            if schema_version(connection) < schema.VERSION:
                _backup_before_migration(connection, path)
                schema.apply_pending(connection)
            yield connection
        finally:
            connection.close()


@contextmanager
def open_for_reading(path: Path) -> Generator[sqlite3.Connection | None]:
    """The database for reading only, or None when there is none yet; never locks, never writes.

    Raises ``DataError`` for a corrupt, foreign or newer file, also when that shows only while it is read.
    """
    with friendly(path):
        if not path.exists():
            yield None
            return
        connection = _connect(path, "mode=ro")
        try:
            try:
                _check_identity(connection, path)
            except sqlite3.OperationalError:
                connection.close()
                if Path(f"{path}-wal").exists():
                    raise
                # In a folder one may not write, a WAL database opens only so; without a -wal file nobody is writing.
                connection = _connect(path, "mode=ro&immutable=1")
                _check_identity(connection, path)
            yield connection if schema_version(connection) else None
        finally:
            connection.close()


def schema_version(connection: sqlite3.Connection) -> int:
    """Number of migrations that were applied to a database."""
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a database", "name a file with --db")
    uri = f"file:{quote(str(path.absolute()))}?{mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=5)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.create_aggregate("decimal_sum", 1, _DecimalSum)  # pyright: ignore[reportArgumentType]
    connection.create_function("decimal_add", 2, _decimal_add, deterministic=True)
    connection.create_function("decimal_mul", 2, _decimal_mul, deterministic=True)
    return connection


class _DecimalSum:
    """``decimal_sum`` of SQLite's own decimal extension: exact, and NULL for no rows."""

    def __init__(self) -> None:
        self.total: Decimal | None = None

    def step(self, value: str | int | None) -> None:
        if value is not None:
            self.total = DECIMALS.add(self.total or Decimal(0), Decimal(value))

    def finalize(self) -> str | None:
        return None if self.total is None else decimal_text(self.total)


def _decimal_add(left: str | None, right: str | None) -> str | None:
    if left is None or right is None:
        return None
    return decimal_text(DECIMALS.add(Decimal(left), Decimal(right)))


def _decimal_mul(left: str | None, right: str | None) -> str | None:
    if left is None or right is None:
        return None
    with localcontext(DECIMALS):
        return decimal_text(Decimal(left) * Decimal(right))


def _check_identity(connection: sqlite3.Connection, path: Path) -> None:
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    identity = connection.execute("PRAGMA application_id").fetchone()[0]
    if tables and identity != schema.APPLICATION_ID:
        raise DataError(f"{path} is a database of some other program", "name another file with --db")
    version = schema_version(connection)
    if version > schema.VERSION:
        raise DataError(
            f"{path} was written by a newer depin-orcha (schema {version}, this one knows {schema.VERSION})",
            "update depin-orcha, or restore an older backup",
        )
    if version == schema.VERSION and _fingerprint(connection) != schema.FINGERPRINT:
        raise DataError(
            f"{path} was made by an unreleased version of depin-orcha, whose tables were others",
            "use that version to export what it holds, and name a new file with --db",
        )


def _fingerprint(connection: sqlite3.Connection) -> str | None:
    """Of the schema that a database was made with."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        return None
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return row[0] if row else None


def _backup_before_migration(connection: sqlite3.Connection, path: Path) -> None:
    """A verified copy beside the file before its first change of schema; a new file needs none."""
    version = schema_version(connection)
    if version == 0:
        return
    copy = Path(f"{path}.before-schema-{version + 1}")
    copy.unlink(missing_ok=True)
    connection.execute("VACUUM INTO ?", (str(copy),))
    check = sqlite3.connect(copy)
    try:
        if check.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            raise DataError(f"the backup {copy} is not sound; nothing was changed", "check the disk")
    finally:
        check.close()


@contextmanager
def friendly(path: Path) -> Generator[None]:
    """Turn what the operating system and SQLite raise inside into one clear sentence."""
    try:
        yield
    except PermissionError as error:
        where = error.filename or path
        raise NotPermitted(f"cannot use {where}: not permitted", "use --db, or run as the user who owns it") from error
    except FileNotFoundError as error:
        message = f"the folder of {path} cannot be made"
        raise NotPermitted(message, "name another file with --db") from error
    except (FileExistsError, NotADirectoryError) as error:
        message = f"{error.filename} is in the way of the folder of {path}"
        raise NotPermitted(message, "name another file with --db") from error
    except sqlite3.OperationalError as error:
        raise _operational(error, path) from error
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path} is damaged ({error})", "restore a backup, or name another file with --db") from error
    except OSError as error:
        if error.errno == errno.EROFS:
            message = f"{path} is on a file system that is read-only"
            raise NotPermitted(message, "name another file with --db") from error
        raise OrchaError(f"cannot use {path}: {error.strerror or error}", "is the disk full?") from error


def _operational(error: sqlite3.OperationalError, path: Path) -> OrchaError:
    text = str(error)
    if "unable to open" in text or "readonly" in text or "read-only" in text:
        return NotPermitted(f"cannot open {path} ({text})", "use --db, or run as the user who owns it")
    if "full" in text or "disk I/O" in text:
        return OrchaError(f"cannot write {path} ({text})", "free some space on that disk; nothing was half-written")
    if "locked" in text:
        return LockHeld(f"{path} is locked by some other program", "close it and try again")
    return DataError(f"{path} cannot be used ({text})", "restore a backup, or name another file with --db")
