"""The verbs that only look: they take no lock and change nothing."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .errors import UsageError
from .shell import LOOK_CODES, Output, Shared, job_of, verb

look_verbs = typer.Typer()


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


@verb(look_verbs, "status", at=True, codes=LOOK_CODES, example="depin-orcha status --json | jq .data.totals")
def status(
    shared: Shared,
    prometheus: Annotated[
        str | None,
        typer.Option("--prometheus", metavar="FILE|-", help="Write it as text for Prometheus, - prints it instead."),
    ] = None,
) -> Output:
    """Show what the nodes earn, how they are, and what was decided."""
    from .look import exposition_of, status_data

    data = status_data(shared)
    if prometheus is not None:
        from .export import write_file

        text = exposition_of(shared, data)
        if prometheus == "-":
            if shared.json:
                raise UsageError("--prometheus - and --json both want stdout", "name a file: --prometheus FILE")
            return Output(data, raw=text)
        write_file(Path(prometheus), text, mode=0o644)

    def show(console: Any) -> None:
        from .render import tables

        tables.status(console, data, shared.now_s())

    return Output(data, show=show)


@verb(look_verbs, "history", at=True, codes=LOOK_CODES, example="depin-orcha history --by month --group protocol")
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


@verb(look_verbs, "verdict", at=True, codes=LOOK_CODES, example="depin-orcha verdict --json | jq .data.reason")
def verdict(shared: Shared) -> Output:
    """Say whether each machine and each node is worth its power: keep, pause, stop, or it cannot be told."""
    from .look import opened
    from .render import decisions
    from .verdict import NOTHING
    from .verdict import verdict as judge

    job = job_of(shared)
    with opened(shared) as (known, _, _):
        data = judge(job, known) if known else NOTHING
    return Output(data, show=lambda console: decisions.verdict(console, data))


@verb(look_verbs, "explain", at=True, codes=LOOK_CODES, example="depin-orcha explain --what-if storage_bytes=+1TB")
def explain(
    shared: Shared,
    what_if: Annotated[
        str | None, typer.Option("--what-if", metavar="RESOURCE=+AMOUNT", help="What more of it would bring: +1TB, +2.")
    ] = None,
    cost: Annotated[float | None, typer.Option(min=0, metavar="USD", help="What that costs once, in USD.")] = None,
) -> Output:
    """Say why the latest plan is what it is: numbers with their evidence, what binds, at which price it flips."""
    from .explain import explain as reasons_of
    from .look import opened
    from .render import decisions

    if cost is not None and what_if is None:
        raise UsageError("--cost is the price of what --what-if asks for", "name both, or leave out --cost")
    job = job_of(shared)
    with opened(shared) as (known, _, _):
        data = reasons_of(job, known, what_if, cost)
    return Output(data, show=lambda console: decisions.explain(console, data))


@verb(look_verbs, "export", at=True, codes=LOOK_CODES, example="depin-orcha export --receipts -o receipts.csv")
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


@verb(look_verbs, "backtest", at=True, codes=LOOK_CODES, example="depin-orcha backtest --days 28")
def backtest(
    shared: Shared,
    forecasts: Annotated[bool, typer.Option("--forecasts", help="Only forecast past days again and score it.")] = False,
    days: Annotated[int, typer.Option(min=1, max=365, help="Days to look back.")] = 14,
) -> Output:
    """Replay what is stored, with what was known then: what other ways of deciding would have earned, and forecasts."""
    from .look import look
    from .plan_value import forecast_value
    from .render import decisions, progress
    from .render import forecasts as tables
    from .replay import forecast_accuracy

    only = frozenset(shared.node)
    shown = progress(hidden=shared.quiet)
    data: dict[str, Any] = {"policies": []}
    if not forecasts:
        from .backtest import NOTHING, policies
        from .realised import realised

        job = job_of(shared)
        data = look(shared, lambda known: policies(job, known, days, shown), NOTHING)
        data |= {"realised": look(shared, lambda known: realised(known, only), [])}
    data |= {
        "forecast_accuracy": look(shared, lambda known: forecast_accuracy(known, only, days, shown), []),
        "forecast_value": look(shared, lambda known: forecast_value(known, days), None),
    }

    def show(console: Any) -> None:
        if not forecasts:
            decisions.policies(console, data)
        tables.accuracy(console, data)

    return Output(data, show=show)
