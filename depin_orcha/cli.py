"""The commands: each turns its options into a job, runs it, and says what came of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .errors import ExitCode, UsageError
from .shell import Output, Shared, start, verb

if TYPE_CHECKING:
    from collections.abc import Callable

    from .cycle import Job, Result, Verb

app = typer.Typer(
    name="depin-orcha",
    help="Collect, forecast, optimise and apply for storage, compute and bandwidth nodes, over one SQLite file.",
    invoke_without_command=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_CYCLE_CODES = "0, 1, 2, 3 partial, 65 data, 75 locked, 77 not permitted, 78 configuration"
_LOOK_CODES = "0, 1, 2, 65 data, 77 not permitted, 78 configuration"

Yes = Annotated[bool, typer.Option("--yes", help="Really do it; without this nothing is changed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done; wins over --yes.")]
Input = Annotated[str | None, typer.Option("--input", metavar="FILE|-", help="Work on this document; no database.")]


class Span(StrEnum):
    """Spans of ``history --by``."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class Group(StrEnum):
    """Groups of ``history --group``."""

    NODE = "node"
    PROTOCOL = "protocol"
    CURRENCY = "currency"
    HOST = "host"


class Form(StrEnum):
    """Formats of ``export --format``."""

    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


class Freq(StrEnum):
    """Bins of ``forecast --freq``."""

    QUARTER = "15min"
    HALF = "30min"
    HOUR = "1h"
    DAY = "1d"


class Model(StrEnum):
    """Models of ``optimize --model``."""

    DEFAULT = "default"
    SPEC = "spec"


def main() -> None:
    """Run the command line."""
    start(app)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"depin-orcha {__version__}")
        raise typer.Exit


@app.callback()
def _root(  # pyright: ignore[reportUnusedFunction]
    context: typer.Context,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.USAGE)


def _job(shared: Shared) -> Job:
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


def _output(result: Result, table: Callable[[Any, Any], None]) -> Output:
    def show(console: Any) -> None:
        table(console, result.data)

    return Output(result.data, result.failures, result.exit_code, result.warnings, show)


@verb(
    app, "collect", at=True, locking=True, codes=f"{_CYCLE_CODES}, 69 no node answered", example="depin-orcha collect"
)
def collect(shared: Shared) -> Output:
    """Read earnings, usage and health of every node, and token prices, and store them."""
    from .collect import collect as read_all
    from .cycle import single
    from .render import tables

    job = _job(shared)
    result = single(job, "collect", read_all)
    return _output(result, lambda console, data: tables.collect(console, data, job.now_s))


@verb(app, "forecast", at=True, locking=True, codes=_CYCLE_CODES, example="depin-orcha forecast --horizon 48")
def forecast(
    shared: Shared,
    horizon: Annotated[int | None, typer.Option(min=1, help="Hours ahead, up to 168; bins with --input.")] = None,
    input_file: Input = None,
    freq: Annotated[Freq, typer.Option(help="Bin of a CSV.")] = Freq.HOUR,
    levels: Annotated[str | None, typer.Option(help="Levels of the bands with --input, in percent: 80,95.")] = None,
) -> Output:
    """Say what each node will earn in the next hours, with bands."""
    from .render import tables

    if input_file is not None:
        from .standalone import forecast_document

        result = forecast_document(input_file, horizon, freq, levels)
        return _output(result, tables.forecast_series)
    from .cycle import single
    from .planning import forecast as plan_ahead

    if horizon is not None and horizon > 168:
        raise UsageError(f"--horizon {horizon} is too far ahead", "from the database up to 168 hours can be forecast")
    job = _job(shared)
    result = single(job, "forecast", lambda job, store: plan_ahead(job, store, horizon))
    return _output(result, tables.forecast)


@verb(
    app, "optimize", at=True, locking=True, codes=_CYCLE_CODES, example="depin-orcha optimize --json | jq .data.reason"
)
def optimize(
    shared: Shared,
    model: Annotated[Model | None, typer.Option(help="Model to solve, instead of the configured one.")] = None,
    risk: Annotated[float, typer.Option(min=0, max=1, help="0: by the mean. More is not supported yet.")] = 0,
    input_file: Input = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="The input is one problem a line.")] = False,
) -> Output:
    """Decide how each host is shared out, and whether a change is worth making."""
    from .render import tables

    if risk:
        raise UsageError("--risk above 0 is not supported by this version")
    if input_file is not None:
        from .standalone import optimize_document, optimize_lines

        if jsonl or input_file.endswith(".jsonl"):
            text, code = optimize_lines(input_file, model)
            return Output(None, exit_code=code, raw=text)
        result = optimize_document(input_file, model)
    else:
        from .cycle import single
        from .planning import optimize as decide

        result = single(_job(shared), "optimize", lambda job, store: decide(job, store, model))
    if shared.fixed_now:
        solver = result.data["solver"]
        result.data["solver"] = {key: value for key, value in solver.items() if not key.endswith("_ms")}
    return _output(result, tables.optimize)


@verb(app, "apply", at=True, locking=True, codes=_CYCLE_CODES, example="depin-orcha apply --yes")
def apply(
    shared: Shared,
    yes: Yes = False,
    dry_run: DryRun = False,
    release: Annotated[bool, typer.Option("--release", help="Lift everything that was ever set.")] = False,
) -> Output:
    """Carry out the latest plan on nodes with `apply = true`; shows what would be done unless --yes is given."""
    from .applying import apply as carry_out
    from .applying import release as lift
    from .cycle import single
    from .render import tables

    execute = yes and not dry_run
    job = _job(shared)
    step: Verb = (
        (lambda job, store: lift(job, store, execute=execute))
        if release
        else (lambda job, store: carry_out(job, store, execute=execute))
    )
    result = single(job, "apply", step)
    return _output(result, tables.apply)


@verb(
    app,
    "run",
    at=True,
    locking=True,
    codes=f"{_CYCLE_CODES}, 69 no node answered",
    example="depin-orcha run --yes -q --wait 60",
)
def run(
    shared: Shared,
    yes: Yes = False,
    dry_run: DryRun = False,
    no_apply: Annotated[bool, typer.Option("--no-apply", help="Leave out apply.")] = False,
) -> Output:
    """Collect, forecast, optimize and apply in one go; made for cron."""
    from .applying import apply as carry_out
    from .collect import collect as read_all
    from .cycle import run as chain
    from .look import status_data
    from .planning import forecast as plan_ahead
    from .planning import optimize as decide
    from .render import tables

    execute = yes and not dry_run
    verbs: dict[str, Verb] = {"collect": read_all, "forecast": plan_ahead, "optimize": decide}
    if not no_apply:
        verbs["apply"] = lambda job, store: carry_out(job, store, execute=execute)
    result = chain(_job(shared), verbs)
    result.data["status"] = status_data(shared)
    return _output(result, tables.run)


@verb(app, "status", at=True, codes=_LOOK_CODES, example="depin-orcha status --json | jq .data.totals")
def status(shared: Shared) -> Output:
    """Show what the nodes earn, how they are, and what was decided."""
    from .look import status_data

    data = status_data(shared)

    def show(console: Any) -> None:
        from .render import tables

        tables.status(console, data, shared.now_s())

    return Output(data, show=show)


@verb(app, "history", at=True, codes=_LOOK_CODES, example="depin-orcha history --by month --group protocol")
def history(
    shared: Shared,
    by: Annotated[Span, typer.Option(help="Length of a row.")] = Span.DAY,
    group: Annotated[Group, typer.Option(help="What a row sums up.")] = Group.NODE,
    reconcile: Annotated[
        bool, typer.Option("--reconcile", help="Hold settled months against the networks' own statements.")
    ] = False,
) -> Output:
    """List what was earned, by hour, day or month."""
    from .ledger import history as rows_of
    from .look import look
    from .reconcile import reconcile as compare
    from .render import money

    only = frozenset(shared.node)
    data: dict[str, Any] = {"rows": look(shared, lambda known: rows_of(known, by, group, only), [])}
    if reconcile:
        data |= look(shared, lambda known: compare(known, only), {"reconciliation": [], "scorecard": []})

    def show(console: Any) -> None:
        if reconcile:
            money.reconciliation(console, data)
        else:
            money.history(console, data["rows"], by)

    return Output(data, show=show)


@verb(app, "export", at=True, codes=_LOOK_CODES, example="depin-orcha export --receipts -o receipts.csv")
def export(
    shared: Shared,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE|-", help="Where to; - is stdout.")] = "-",
    form: Annotated[Form | None, typer.Option("--format", help="Else by the name of the file, else csv.")] = None,
    by: Annotated[Span | None, typer.Option(help="Length of a row; else day.")] = None,
    group: Annotated[Group | None, typer.Option(help="What a row sums up; else node.")] = None,
    receipts: Annotated[bool, typer.Option("--receipts", help="One row per payout that was really received.")] = False,
) -> Output:
    """Write what was earned, or what was really paid out, for a spreadsheet or the tax office."""
    from .export import RECEIPT_COLUMNS, as_text, form_of, history_columns, write_file
    from .export import receipts as payouts_of
    from .ledger import history as rows_of
    from .look import look
    from .render import money

    if shared.json and output == "-":
        raise UsageError("--json describes the file that was written", "name one with -o FILE, or leave out --json")
    if receipts and (by or group):
        raise UsageError("a receipt is one payout: --by and --group do not apply to --receipts")
    only = frozenset(shared.node)
    if receipts:
        rows, columns = look(shared, lambda known: payouts_of(known, only), []), RECEIPT_COLUMNS
    else:
        span, members = by or Span.DAY, group or Group.NODE
        rows, columns = look(shared, lambda known: rows_of(known, span, members, only), []), history_columns(span)
    text = as_text(rows, columns, form.value if form else form_of(output))
    if output == "-":
        return Output(None, raw=text)
    write_file(Path(output), text)
    data = {"paths": [output], "rows": len(rows)}
    return Output(data, show=lambda console: money.exported(console, data))


@verb(app, "import", at=True, locking=True, codes=_CYCLE_CODES, example="depin-orcha import earnings.csv")
def import_file(
    shared: Shared, file: Annotated[Path, typer.Argument(help="CSV: node,start,end,currency,amount.")]
) -> Output:
    """Bring earnings from before: all rows of a CSV file, or none."""
    from .cycle import single
    from .ledger import import_csv
    from .render import tables

    result = single(_job(shared), "import", lambda job, store: import_csv(job, store, file))
    return _output(result, tables.imported)


@verb(app, "pause", at=True, locking=True, codes=_CYCLE_CODES, example="depin-orcha pause --for 4h --node golem_1")
def pause(
    shared: Shared,
    span: Annotated[str | None, typer.Option("--for", metavar="4h", help="30m, 4h, 2d; else until resumed.")] = None,
) -> Output:
    """Collect on, but act on nothing until `resume`."""
    from .cycle import single
    from .pausing import pause as hold_still
    from .render import tables

    result = single(_job(shared), "pause", lambda job, store: hold_still(job, store, span))
    return _output(result, tables.pauses)


@verb(app, "resume", at=True, locking=True, codes=_CYCLE_CODES, example="depin-orcha resume")
def resume(
    shared: Shared,
) -> Output:
    """End a pause."""
    from .cycle import single
    from .pausing import resume as go_on
    from .render import tables

    result = single(_job(shared), "resume", go_on)
    return _output(result, tables.pauses)


@verb(app, "init", codes="0, 1, 2, 77 not permitted, 78 configuration", example="depin-orcha init")
def init(
    shared: Shared,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing one; it is kept as .bak.")] = False,
) -> Output:
    """Write a first configuration, with the nodes that answer on this machine."""
    from .paths import config_path
    from .render import tables
    from .starter import write_config

    result = write_config(config_path(shared.config), force=force)
    return _output(result, tables.initialised)


@verb(app, "demo", codes=_CYCLE_CODES, example="depin-orcha demo")
def demo(shared: Shared) -> Output:
    """Run the whole chain on a SIMULATED operator with two machines, in a database of its own."""
    from .demo.show import run_demo
    from .render import tables

    result = run_demo(shared.db)
    return _output(result, tables.run)
