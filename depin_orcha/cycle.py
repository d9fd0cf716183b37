"""What every verb that writes has in common: one lock, one recorded run, one result; and ``run``, which chains them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import database
from .asof import AsOf
from .config import Config
from .errors import ConfigError, ExitCode, Interrupted, OrchaError
from .roster import check_names
from .store import Store
from .types import Failure


@dataclass(frozen=True, slots=True)
class Job:
    """What a verb was asked: which configuration and database, at which instant, for which nodes."""

    config: Config
    database: Path
    now_s: int
    fixed_now: bool = False
    only: frozenset[str] = frozenset()
    wait_s: float = 0

    def wanted(self, node: str) -> bool:
        """Is this node one of those named by ``--node``, or were none named?"""
        return not self.only or node in self.only

    def clock_s(self) -> int:
        """The time on the clock, or the instant that ``--now`` fixed."""
        return self.now_s if self.fixed_now else int(time.time())


@dataclass(slots=True)
class Result:
    """What a verb has to say: ``data`` of its JSON document, what failed, and the exit code."""

    data: Any
    failures: list[Failure] = field(default_factory=list[Failure])
    exit_code: ExitCode = ExitCode.OK
    warnings: list[str] = field(default_factory=list[str])


Verb = Callable[[Job, Store], Result]


@contextmanager
def session(job: Job) -> Generator[Store]:
    """The database, locked and open for writing."""
    with database.lock(job.database, job.wait_s), database.open_for_writing(job.database) as connection:
        store = Store(connection)
        check_names(job.only, job.config.nodes, AsOf(connection, job.now_s))
        yield store


def recorded(job: Job, store: Store, command: str, verb: Verb) -> Result:
    """Run a verb with its row in ``runs``, whatever becomes of it."""
    run_id = store.start_run(command, job.now_s, job.config.sha256)
    code = ExitCode.INTERNAL
    try:
        result = verb(job, store)
        code = result.exit_code
        return result
    except (OrchaError, Interrupted) as error:
        code = error.exit_code
        raise
    finally:
        store.finish_run(run_id, job.clock_s(), code)


def single(job: Job, command: str, verb: Verb) -> Result:
    """One verb as a command of its own."""
    with session(job) as store:
        return recorded(job, store, command, verb)


def run(job: Job, verbs: Mapping[str, Verb]) -> Result:
    """The verbs in their order under one lock; ``data.verbs[]`` tells how each ended."""
    require_nodes(job)
    with session(job) as store:
        return recorded(job, store, "run", lambda job, store: chain(job, store, verbs))


def chain(job: Job, store: Store, verbs: Mapping[str, Verb]) -> Result:
    """The verbs in their order on an open database.

    Goes on after partial failures and data errors; stops where going on makes no sense. An optimize that failed
    leaves out apply.
    """
    steps: list[dict[str, Any]] = []
    failures: list[Failure] = []
    codes: dict[str, ExitCode] = {}
    warnings: list[str] = []
    for command, verb in verbs.items():
        if command == "apply" and codes.get("optimize") == ExitCode.INTERNAL:
            continue
        started = time.monotonic()
        try:
            result = recorded(job, store, command, verb)
            failures += result.failures
            warnings += result.warnings
            codes[command] = result.exit_code
        except OrchaError as error:
            failures.append(Failure(None, error.kind, error.message, error.hint))
            codes[command] = error.exit_code
        steps.append({"verb": command, "exit_code": int(codes[command])})
        if not job.fixed_now:
            steps[-1]["seconds"] = round(time.monotonic() - started, 3)
        if _ends_the_run(command, codes[command]):
            break
    return Result({"verbs": steps}, failures, _run_code(codes), warnings)


def _ends_the_run(command: str, code: ExitCode) -> bool:
    if command == "optimize" and code == ExitCode.INTERNAL:
        return False
    return code not in (ExitCode.OK, ExitCode.PARTIAL, ExitCode.DATA, ExitCode.UNREACHABLE)


def _run_code(codes: Mapping[str, ExitCode]) -> ExitCode:
    for command, code in codes.items():
        if _ends_the_run(command, code):
            return code
    if codes.get("collect") == ExitCode.UNREACHABLE:
        return ExitCode.UNREACHABLE
    return ExitCode.OK if all(code == ExitCode.OK for code in codes.values()) else ExitCode.PARTIAL


def require_nodes(job: Job) -> None:
    """Raises ``ConfigError`` when no node is configured."""
    if not job.config.nodes:
        raise ConfigError(
            "no node is configured" + (f" in {job.config.path}" if job.config.path else ""),
            "describe your nodes there; for a first configuration: depin-orcha init",
        )
