"""The verbs that set things up: history from elsewhere, pauses, a first configuration, a demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shell import CYCLE_CODES, Output, Shared, job_of, output_of, verb

setup_verbs = typer.Typer()


@verb(setup_verbs, "import", at=True, locking=True, codes=CYCLE_CODES, example="depin-orcha import earnings.csv")
def import_file(
    shared: Shared, file: Annotated[Path, typer.Argument(help="CSV: node,start,end,currency,amount.")]
) -> Output:
    """Bring earnings from before: all rows of a CSV file, or none."""
    from .cycle import single
    from .ledger import import_csv
    from .render import tables

    result = single(job_of(shared), "import", lambda job, store: import_csv(job, store, file))
    return output_of(result, tables.imported)


@verb(
    setup_verbs, "pause", at=True, locking=True, codes=CYCLE_CODES, example="depin-orcha pause --for 4h --node golem_1"
)
def pause(
    shared: Shared,
    span: Annotated[str | None, typer.Option("--for", metavar="4h", help="30m, 4h, 2d; else until resumed.")] = None,
) -> Output:
    """Collect on, but act on nothing until `resume`."""
    from .cycle import single
    from .pausing import pause as hold_still
    from .render import tables

    result = single(job_of(shared), "pause", lambda job, store: hold_still(job, store, span))
    return output_of(result, tables.pauses)


@verb(setup_verbs, "resume", at=True, locking=True, codes=CYCLE_CODES, example="depin-orcha resume")
def resume(
    shared: Shared,
) -> Output:
    """End a pause."""
    from .cycle import single
    from .pausing import resume as go_on
    from .render import tables

    result = single(job_of(shared), "resume", go_on)
    return output_of(result, tables.pauses)


@verb(setup_verbs, "init", codes="0, 1, 2, 77 not permitted, 78 configuration", example="depin-orcha init")
def init(
    shared: Shared,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing one; it is kept as .bak.")] = False,
) -> Output:
    """Write a first configuration, with the nodes that answer on this machine."""
    from .paths import config_path
    from .render import tables
    from .starter import write_config

    result = write_config(config_path(shared.config), force=force)
    return output_of(result, tables.initialised)


@verb(setup_verbs, "backup", locking=True, codes=CYCLE_CODES, example="depin-orcha backup --keep 30")
def backup(
    shared: Shared,
    to: Annotated[Path | None, typer.Option("--to", help="Folder; else `backups` beside the database.")] = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="How many of them stay.")] = 7,
    restore: Annotated[Path | None, typer.Option("--restore", metavar="FILE", help="Go back to this one.")] = None,
) -> Output:
    """Copy the database, verified, while everything goes on; or go back to such a copy."""
    from .backup import backup as copy
    from .backup import restore as go_back
    from .render import tables

    job = job_of(shared)
    return output_of(copy(job, to, keep) if restore is None else go_back(job, restore), tables.backed_up)


@verb(
    setup_verbs,
    "doctor",
    at=True,
    codes="0, 1, 2, 3 something failed, 77 not permitted, 78 configuration",
    example="depin-orcha doctor",
)
def doctor(shared: Shared) -> Output:
    """Look for what stands in the way: each finding with what mends it."""
    from .doctor import doctor as examine
    from .render import tables

    return output_of(examine(job_of(shared)), tables.doctor)


@verb(setup_verbs, "demo", codes=CYCLE_CODES, example="depin-orcha demo")
def demo(shared: Shared) -> Output:
    """Run the whole chain on a SIMULATED operator with two machines, in a database of its own."""
    from .demo.show import run_demo
    from .render import tables

    result = run_demo(shared.db)
    return output_of(result, tables.run)
