"""The commands: each turns its options into a job, runs it, and says what came of it."""

from __future__ import annotations

import os
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import __version__
from .cli_look import look_verbs
from .cli_setup import setup_verbs
from .errors import ExitCode, UsageError
from .shell import CYCLE_CODES, Output, Shared, job_of, output_of, start, verb

if TYPE_CHECKING:
    from .cycle import Verb

app = typer.Typer(
    name="depin-orcha",
    help="Collect, forecast, optimise and apply for storage, compute and bandwidth nodes, over one SQLite file.",
    invoke_without_command=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Yes = Annotated[bool, typer.Option("--yes", help="Really do it; without this nothing is changed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done; wins over --yes.")]
Input = Annotated[str | None, typer.Option("--input", metavar="FILE|-", help="Work on this document; no database.")]


class Freq(StrEnum):
    """Bins of ``forecast --freq``."""

    QUARTER = "15min"
    HALF = "30min"
    HOUR = "1h"
    DAY = "1d"


class Model(StrEnum):
    """Models of ``optimize --model``."""

    DEFAULT = "default"
    LP = "lp"
    SPEC = "spec"


class Axis(StrEnum):
    """What ``optimize --front`` limits."""

    WATTS = "watts"
    MOVES = "moves"
    SHARE = "share"


def main() -> None:
    """Run the command line."""
    # Forecasts solve many small systems: threads would cost five times the processor time and gain nothing.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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


@verb(app, "collect", at=True, locking=True, codes=f"{CYCLE_CODES}, 69 no node answered", example="depin-orcha collect")
def collect(shared: Shared) -> Output:
    """Read earnings, usage and health of every node, and token prices, and store them."""
    from .collect import collect as read_all
    from .cycle import single
    from .render import tables

    job = job_of(shared)
    result = single(job, "collect", read_all)
    return output_of(result, lambda console, data: tables.collect(console, data, job.now_s))


@verb(app, "forecast", at=True, locking=True, codes=CYCLE_CODES, example="depin-orcha forecast --horizon 48")
def forecast(
    shared: Shared,
    horizon: Annotated[int | None, typer.Option(min=1, help="Hours ahead, up to 168; bins with --input.")] = None,
    input_file: Input = None,
    freq: Annotated[Freq, typer.Option(help="Bin of a CSV.")] = Freq.HOUR,
    levels: Annotated[str | None, typer.Option(help="Levels of the bands with --input, in percent: 80,95.")] = None,
    report: Annotated[bool, typer.Option("--report", help="How good the forecasts are and have been.")] = False,
) -> Output:
    """Say what each node will earn in the next hours, with bands."""
    if report and input_file is not None:
        raise UsageError("--report is about what was published and came true: it does not apply to --input")
    if input_file is not None:
        from .render import forecasts
        from .standalone import forecast_document

        result = forecast_document(input_file, horizon, freq, levels)
        return output_of(result, forecasts.of_series)
    from .cycle import single
    from .planning import forecast as plan_ahead

    if horizon is not None and horizon > 168:
        raise UsageError(f"--horizon {horizon} is too far ahead", "from the database up to 168 hours can be forecast")
    job = job_of(shared)
    result = single(job, "forecast", lambda job, store: plan_ahead(job, store, horizon, with_report=report))

    def table(console: Any, data: Any) -> None:
        from .render import forecasts  # A run of cron that prints no table need not load it.

        forecasts.expected(console, data)

    return output_of(result, table)


@verb(
    app, "optimize", at=True, locking=True, codes=CYCLE_CODES, example="depin-orcha optimize --json | jq .data.reason"
)
def optimize(
    shared: Shared,
    model: Annotated[Model | None, typer.Option(help="Model to solve, instead of the configured one.")] = None,
    risk: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="LAMBDA", help="Weight of bad futures, instead of the configured one."),
    ] = None,
    front: Annotated[Axis | None, typer.Option(help="Also what is earned within ever tighter limits on this.")] = None,
    input_file: Input = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="The input is one problem a line.")] = False,
) -> Output:
    """Decide how each host is shared out, and whether a change is worth making."""
    from .render import tables

    if input_file is not None:
        from .standalone import optimize_document, optimize_lines

        if jsonl or input_file.endswith(".jsonl"):
            if front is not None:
                raise UsageError("--front is of one problem", "give it a single document, not one a line")
            text, code = optimize_lines(input_file, model, risk)
            return Output(None, exit_code=code, raw=text)
        result = optimize_document(input_file, model, risk, front)
    else:
        from .cycle import single
        from .planning import optimize as decide

        result = single(job_of(shared), "optimize", lambda job, store: decide(job, store, model, risk, front))
    if shared.fixed_now:
        solver = result.data["solver"]
        result.data["solver"] = {key: value for key, value in solver.items() if not key.endswith("_ms")}
    return output_of(result, tables.optimize)


@verb(app, "apply", at=True, locking=True, codes=CYCLE_CODES, example="depin-orcha apply --yes")
def apply(
    shared: Shared,
    yes: Yes = False,
    dry_run: DryRun = False,
    release: Annotated[bool, typer.Option("--release", help="Lift everything that was ever set.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Restore what stood before PLAN.")] = False,
    plan: Annotated[str | None, typer.Argument(help="With --rollback; the latest that set anything.")] = None,
    reclaim: Annotated[
        str | None, typer.Option("--reclaim", metavar="NODE", help="Take back what a person changed by hand.")
    ] = None,
) -> Output:
    """Carry out the latest plan on nodes with `apply = true`; shows what would be done unless --yes is given."""
    from . import taking_back
    from .applying import apply as carry_out
    from .cycle import single
    from .render import tables

    execute = yes and not dry_run
    job = job_of(shared)
    if release + rollback + (reclaim is not None) > 1:
        raise UsageError("of --release, --rollback and --reclaim only one can be done at a time")
    if plan is not None and not rollback:
        raise UsageError(f"{plan!r} means nothing here: a plan is named with --rollback only")
    step: Verb = partial(carry_out, execute=execute)
    if release:
        step = partial(taking_back.release, execute=execute)
    if rollback:
        step = partial(taking_back.rollback, plan_id=plan, execute=execute)
    if reclaim is not None:
        step = partial(taking_back.reclaim, node=reclaim, execute=execute)
    result = single(job, "apply", step)
    return output_of(result, tables.apply)


@verb(app, "heal", at=True, locking=True, codes=CYCLE_CODES, example="depin-orcha heal --yes")
def heal(shared: Shared, yes: Yes = False, dry_run: DryRun = False) -> Output:
    """Restart fallen nodes with `heal = true`; shows what would be done unless --yes is given."""
    from .cycle import single
    from .healing import heal as restart
    from .render import tables

    execute = yes and not dry_run
    result = single(job_of(shared), "heal", lambda job, store: restart(job, store, execute=execute))
    return output_of(result, tables.heal)


@verb(
    app,
    "run",
    at=True,
    locking=True,
    codes=f"{CYCLE_CODES}, 69 no node answered",
    example="depin-orcha run --yes -q --wait 60",
)
def run(
    shared: Shared,
    yes: Yes = False,
    dry_run: DryRun = False,
    no_apply: Annotated[bool, typer.Option("--no-apply", help="Leave out apply and heal.")] = False,
) -> Output:
    """Collect, forecast, optimize, apply and heal in one go; made for cron."""
    from .applying import apply as carry_out
    from .collect import collect as read_all
    from .cycle import run as chain
    from .healing import heal as restart
    from .look import status_data
    from .planning import forecast as plan_ahead
    from .planning import optimize as decide
    from .render import tables

    execute = yes and not dry_run
    verbs: dict[str, Verb] = {"collect": read_all, "forecast": plan_ahead, "optimize": decide}
    if not no_apply:
        verbs["apply"] = lambda job, store: carry_out(job, store, execute=execute)
        verbs["heal"] = lambda job, store: restart(job, store, execute=execute)
    result = chain(job_of(shared), verbs)
    result.data["status"] = status_data(shared)
    return output_of(result, tables.run)


app.add_typer(look_verbs)
app.add_typer(setup_verbs)
