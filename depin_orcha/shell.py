"""How every command runs: the options all verbs share, one document or one table on stdout, one ladder of errors."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from .errors import ExitCode, Interrupted, OrchaError, UsageError
from .timefmt import parse_rfc3339, rfc3339
from .types import Failure

if TYPE_CHECKING:
    from .cycle import Job, Result

log = logging.getLogger("depin_orcha")

_LAST_S = 253_370_764_800
"""The year 9999 begins: later instants could not be written with what follows them."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The options that stand after every verb, as the user gave them."""

    config: Path | None = None
    db: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    debug: bool = False
    no_color: bool = False
    now: str | None = None
    node: tuple[str, ...] = ()
    wait: float = 0

    @property
    def fixed_now(self) -> bool:
        """Was the instant given?"""
        return self.now is not None

    def now_s(self) -> int:
        """The instant to work at: as given, else the clock."""
        if self.now is None:
            return int(time.time())
        hint = "write it as 2026-11-22T20:15:00Z"
        try:
            now_s = parse_rfc3339(self.now)
        except ValueError:
            raise UsageError(f"--now {self.now!r} is no time", hint) from None
        if not 0 <= now_s < _LAST_S:
            raise UsageError(f"--now {self.now!r} is out of range", hint)
        return now_s


@dataclass(slots=True)
class Output:
    """What a verb wants to say: data for scripts, ``show`` for people, and how it ended."""

    data: Any
    failures: list[Failure] = field(default_factory=list[Failure])
    exit_code: ExitCode = ExitCode.OK
    warnings: list[str] = field(default_factory=list[str])
    show: Callable[[Any], None] | None = None
    raw: str | None = None


CYCLE_CODES = "0, 1, 2, 3 partial, 65 data, 75 locked, 77 not permitted, 78 configuration"
LOOK_CODES = "0, 1, 2, 65 data, 77 not permitted, 78 configuration"

_EVERY = {
    "config": Annotated[Path | None, typer.Option(help="Configuration file.", envvar="DEPIN_ORCHA_CONFIG")],
    "db": Annotated[Path | None, typer.Option(help="Database file.", envvar="DEPIN_ORCHA_DB")],
    "json": Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")],
    "quiet": Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all went well.")],
    "verbose": Annotated[int, typer.Option("--verbose", "-v", count=True, help="Tell more on stderr; twice: all.")],
    "debug": Annotated[bool, typer.Option("--debug", help="Show a traceback when something breaks.")],
    "no_color": Annotated[bool, typer.Option("--no-color", help="Use no colour.")],
}
_AT = {
    "now": Annotated[str | None, typer.Option(metavar="RFC3339", help="Work as if it were this instant.")],
    "node": Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this node; may be repeated.")],
}
_LOCKING = {"wait": Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Wait for another run to finish.")]}


def verb(
    app: typer.Typer, name: str, *, at: bool = False, locking: bool = False, codes: str = "", example: str = ""
) -> Callable[[Callable[..., Output]], Callable[..., Output]]:
    """Make a function a command: it gets :class:`Shared` and its own options, and returns :class:`Output`."""

    def register(function: Callable[..., Output]) -> Callable[..., Output]:
        @functools.wraps(function)
        def command(**options: Any) -> None:
            given = {key: options.pop(key) for key in list(options) if key in Shared.__slots__}
            options.pop("json_schema")
            if "node" in given:
                given["node"] = tuple(given["node"] or ())
            _run(name, Shared(**given), lambda shared: function(shared, **options))

        def print_schema(wanted: bool) -> None:
            if wanted:
                _write(schema_text(name) + "\n")
                raise typer.Exit(ExitCode.OK)

        schema = typer.Option(
            "--json-schema", is_eager=True, callback=print_schema, help="Print the schema of --json and stop."
        )
        shared = _EVERY | {"json_schema": Annotated[bool, schema]} | (_AT if at else {}) | (_LOCKING if locking else {})
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        extra = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=_default(key), annotation=annotation)
            for key, annotation in shared.items()
        ]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + extra
        command.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        epilog = f"Example: {example or f'depin-orcha {name}'}\n\nExit codes: {codes or '0, 1, 2, 65, 77, 78'}"
        app.command(name, epilog=epilog)(command)
        return function

    return register


def _default(key: str) -> Any:
    return {"wait": 0.0, "verbose": 0, "config": None, "db": None, "now": None, "node": None}.get(key, False)


def job_of(shared: Shared) -> Job:
    """What was asked, with the configuration read and checked. Raises ``ConfigError``."""
    from .config import load
    from .cycle import Job
    from .paths import database_path, read_config

    path, text = read_config(shared.config)
    return Job(
        config=load(path if text is not None else None, text),
        database=database_path(shared.db),
        now_s=shared.now_s(),
        fixed_now=shared.fixed_now,
        only=frozenset(shared.node),
        wait_s=shared.wait,
    )


def output_of(result: Result, table: Callable[[Any, Any], None]) -> Output:
    """What came of a job, with the function that shows its data as a table."""

    def show(console: Any) -> None:
        table(console, result.data)

    return Output(result.data, result.failures, result.exit_code, result.warnings, show)


def start(app: typer.Typer) -> None:
    """Run the command line, whatever became of the standard streams."""
    # A closed one is replaced first: its number would go to the next file that is opened, which may be the database.
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        app()
    except OSError as error:
        _stop_writing(error)
        sys.exit(ExitCode.INTERNAL)


def _run(name: str, shared: Shared, call: Callable[[Shared], Output]) -> NoReturn:
    _set_up_logging(shared)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _on_signal)
    try:
        output = call(shared)
        _print(name, shared, output)
    except typer.Exit:
        raise
    except Interrupted as stop:
        _print_error(name, shared, stop)
        # Threads may still wait for a node that hangs; nothing they could deliver is wanted any more.
        os._exit(stop.exit_code)
    except OrchaError as error:
        if shared.debug:
            log.exception("%s failed", name)
        _print_error(name, shared, error)
        raise typer.Exit(error.exit_code) from None
    except Exception as error:
        if shared.debug:
            log.exception("%s broke", name)
        _print_error(name, shared, _unexpected(error))
        raise typer.Exit(ExitCode.INTERNAL) from None
    raise typer.Exit(output.exit_code)


def _unexpected(error: Exception) -> OrchaError:
    if isinstance(error, OSError):
        return OrchaError(f"{error.filename or 'the system'}: {error.strerror or error}", "is the disk full?")
    return OrchaError(
        f"internal error: {type(error).__name__}: {error}", "run it again with --debug and report what it shows"
    )


def _print(name: str, shared: Shared, output: Output) -> None:
    for warning in output.warnings:
        log.warning(warning)
    for failure in output.failures:
        _complain(f"{failure.node}: {failure.message}" if failure.node else failure.message, failure.hint)
    if shared.json and output.raw is None:
        _write(_document(name, shared, output.data, output.failures, output.exit_code))
    elif output.raw is not None:
        _write(output.raw)
    elif output.show is not None and not shared.quiet:
        from .render import to_text

        _write(to_text(output.show, no_color=shared.no_color))


def _print_error(name: str, shared: Shared, error: OrchaError | Interrupted) -> None:
    if shared.json and error.exit_code != ExitCode.USAGE:
        failure = Failure(None, error.kind, error.message, error.hint)
        _write(_document(name, shared, None, [failure], error.exit_code))
    _complain(error.message, error.hint)


def _complain(message: str, hint: str) -> None:
    text = "".join(f"error: {line}\n" for line in message.splitlines())
    if hint:
        text += f"hint: {hint}\n"
    sys.stderr.write(text)


def _document(name: str, shared: Shared, data: Any, failures: Iterable[Failure], code: ExitCode) -> str:
    statuses = {ExitCode.OK: "success", ExitCode.PARTIAL: "partial"}
    document = {
        "schema": f"depin-orcha/{name}/1",
        "generated_at": rfc3339(shared.now_s()),
        "status": statuses.get(code, "error"),
        "data": data,
        "failures": [failure.to_dict() for failure in failures],
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _write(text: str) -> None:
    """Text on stdout; a closed pipe or a full disk ends the command with one sentence."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _stop_writing(error)
        raise typer.Exit(ExitCode.INTERNAL) from None
    except UnicodeEncodeError:
        sys.stdout.write(text.encode("ascii", "replace").decode())
        sys.stdout.flush()


def _stop_writing(error: OSError) -> None:
    _complain(f"cannot write the result: {error.strerror}", "")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def schema_text(name: str) -> str:
    """The JSON Schema of a verb's document."""
    return files("depin_orcha").joinpath("schemas", f"{name}.json").read_text(encoding="utf-8").rstrip()


def _on_signal(signum: int, frame: object) -> None:  # noqa: ARG001
    raise Interrupted(ExitCode.TERMINATED if signum == signal.SIGTERM else ExitCode.INTERRUPTED)


def _set_up_logging(shared: Shared) -> None:
    level = {0: logging.ERROR if shared.quiet else logging.WARNING, 1: logging.INFO}.get(shared.verbose, logging.DEBUG)
    stamp = "" if os.environ.get("JOURNAL_STREAM") or not shared.verbose else "%(asctime)s "
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{stamp}%(levelname)s: %(message)s"))
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(level)
