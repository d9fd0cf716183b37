"""Moving a process, and all below it, into a control group of version 1 and out of it again."""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from pathlib import Path

from .actuators import TargetGoneError
from .cgroups import keeper, paths_of
from .errors import ActuatorError, FailureKind
from .processes import running, started, tree
from .types import Group

PASSES = 20
"""Each is for what was forked during the one before; more than a few need a program that does nothing else."""


def move(call: Group) -> None:
    """What the call says is so. Raises ``ActuatorError``; a group that could not be filled is not left behind."""
    group = Path(call.path)
    try:
        if call.leave:
            _leave(group)
            return
        if started(_text, call.pid) != call.started:
            raise _gone(call)
        is_new = not group.exists()
        try:
            group.mkdir(exist_ok=True)
            for name, value in call.files:
                _write(group / name, value)
            _enter(group, call)
        except (OSError, ActuatorError):
            if is_new:
                _leave(group)
            raise
    except OSError as error:
        raise _refusal(error, group) from error


def _enter(group: Path, call: Group) -> None:
    """The limits stand already, so nothing is ever inside without them."""
    for _ in range(PASSES):
        inside = {pid for file in group.rglob("cgroup.procs") for pid in _held(file.parent)}
        outside = [pid for pid in tree(call.pid, running()) if pid not in inside and _is_movable(pid)]
        if not outside:
            break
        for pid in reversed(outside):  # the topmost last: until then it counts as not limited, should this end here
            _put(pid, group)
    else:
        raise ActuatorError(FailureKind.TRANSIENT, f"process {call.pid} forks faster than it can be moved to {group}")
    if started(_text, call.pid) != call.started:
        raise _gone(call)


def _leave(group: Path) -> None:
    """To the group above: it was made below the one that held the process."""
    for _ in range(PASSES):
        held = _held(group)
        for pid in held:
            _put(pid, group.parent)
        if not held:
            break
    for _ in range(PASSES):
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.05)  # what has just ended still counts for a moment
        else:
            return
    raise ActuatorError(FailureKind.TRANSIENT, f"{group} is still in use", f"see {group}/cgroup.procs")


def _held(group: Path) -> list[int]:
    with suppress(FileNotFoundError):
        return [int(line) for line in (group / "cgroup.procs").read_text().split()]
    return []


def _is_movable(pid: int) -> bool:
    """It has not ended, and no container or service keeps it."""
    paths = paths_of(_text, pid)
    return paths is not None and started(_text, pid) is not None and keeper(paths) is None


def _put(pid: int, group: Path) -> None:
    with suppress(ProcessLookupError):
        _write(group / "cgroup.procs", str(pid))


def _write(file: Path, value: str) -> None:
    try:
        file.write_text(value)
    except OSError as error:
        error.filename = str(file)
        raise


def _text(path: str) -> str | None:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(path).read_text(errors="replace")
    return None


def _gone(call: Group) -> TargetGoneError:
    return TargetGoneError(
        FailureKind.TRANSIENT, f"process {call.pid} has ended", "the next apply limits the one that follows it"
    )


def _refusal(error: OSError, group: Path) -> ActuatorError:
    what = f"the kernel refuses to change {error.filename or group} ({error.strerror})"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ActuatorError(FailureKind.PERMISSION, what, "this needs rights: run depin-orcha as root, on the machine")
    if error.errno in (errno.EINVAL, errno.ERANGE, errno.EBUSY):
        return ActuatorError(FailureKind.DATA, what, f"does a group above it have less? See {group.parent}")
    return ActuatorError(FailureKind.TRANSIENT, what, "do it by hand to see more")
