"""``backup``: a verified copy of the database while everything goes on, and the way back from one."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from . import database, schema
from .cycle import Job, Result
from .errors import DataError
from .timefmt import rfc3339

_STAMP = "-:"


def backup(job: Job, folder: Path | None, keep: int) -> Result:
    """A copy of the database, sound and on disk, stands beside the last ``keep`` of its kind, and no more of them.

    ``folder``: where it goes, else ``backups`` beside the database. Nothing waits for it, nor it for anything. Raises
    ``DataError`` without a database, or where the copy is not sound.
    """
    folder = folder or job.database.parent / "backups"
    stamp = "".join(letter for letter in rfc3339(job.now_s) if letter not in _STAMP)
    copy = folder / f"{job.database.stem}-{stamp}.db"
    with database.friendly(copy):
        folder.mkdir(parents=True, exist_ok=True)
        with database.open_for_reading(job.database) as connection:
            if connection is None:
                raise DataError(
                    f"{job.database}: there is no database to back up", "make one with: depin-orcha collect"
                )
            _copied(connection, copy)
        old = sorted(folder.glob(f"{job.database.stem}-*T*Z.db"))[:-keep]
        for one in old:
            one.unlink()
    return Result({"paths": [str(copy)], "removed": [str(one) for one in old]})


def restore(job: Job, backup: Path) -> Result:
    """The database is the backup again; what it was until now stands beside it. Call it while nothing else runs.

    Raises ``DataError`` for a file that is no sound database of ours, or one of a newer version; then nothing changed.
    """
    kept = Path(f"{job.database}.before-restore")
    fresh = Path(f"{job.database}.restoring")
    if not backup.exists():
        raise DataError(f"{backup}: there is no such file", "name one that depin-orcha backup made")
    with database.lock(job.database, job.wait_s), database.friendly(job.database):
        with database.open_for_reading(backup) as connection:
            if connection is None:
                raise DataError(f"{backup} is empty", "name one that depin-orcha backup made")
            _copied(connection, fresh)
        paths = [job.database]
        if job.database.exists():
            _set_aside(job.database, kept)
            paths.append(kept)
        for suffix in ("-wal", "-shm"):  # they belong to the file that was set aside, which holds all they did
            Path(f"{job.database}{suffix}").unlink(missing_ok=True)
        fresh.rename(job.database)
        _synced(job.database.parent)
    return Result({"paths": [str(path) for path in paths], "removed": []})


def _copied(connection: sqlite3.Connection, copy: Path) -> None:
    """The whole content of a database in a file of its own that is sound, readable by its owner alone, and on disk."""
    partial = Path(f"{copy}.partial")
    partial.unlink(missing_ok=True)
    try:
        connection.execute("VACUUM INTO ?", (str(partial),))
        partial.chmod(0o600)
        _check(partial)
        _synced(partial)
        partial.rename(copy)
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    _synced(copy.parent)


def _check(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        said = connection.execute("PRAGMA integrity_check").fetchone()[0]
        identity = connection.execute("PRAGMA application_id").fetchone()[0]
        orphans = connection.execute("PRAGMA foreign_key_check").fetchone()
    if said != "ok" or identity != schema.APPLICATION_ID or orphans is not None:
        raise DataError(f"the copy {path} is not sound ({said}); nothing was changed", "check the disk")


def _set_aside(path: Path, kept: Path) -> None:
    """What the database holds now stands in ``kept``; a damaged one is kept as it is, byte for byte."""
    try:
        with database.open_for_reading(path) as connection:
            if connection is not None:
                _copied(connection, kept)
                return
    except DataError:
        pass
    shutil.copyfile(path, kept)
    kept.chmod(0o600)
    _synced(kept)


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
