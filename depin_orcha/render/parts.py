"""What tables are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from textwrap import fill
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

NARROW = 90
"""Columns of a terminal below which tables leave out what is not essential."""
_UNBOUNDED = 10_000


def new_table(title: str) -> Table:
    """An empty table, with its title above it on the left."""
    return Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))


def print_table(console: Console, table: Table) -> None:
    """The table, or its rows as lists of lines where the width cannot hold all of its words."""
    wide = console.options.update(max_width=_UNBOUNDED)
    if console.measure(table, options=wide).minimum <= console.width:
        console.print(table)
        return
    print_line(console, str(table.title))
    headers = [str(column.header) for column in table.columns]
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        console.print()
        for header, cell in zip(headers, cells, strict=True):
            if str(cell):
                print_line(console, f"{header}: {cell}")


def print_line(console: Console, text: str) -> None:
    """One sentence, wrapped to the width."""
    console.print(text, soft_wrap=False)


def print_hanging(console: Console, text: str, indent: int, style: str = "") -> None:
    """One sentence, wrapped to the width with its further lines further in; ``style`` is of what stands before them."""
    wrapped = fill(text, console.width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    line = Text.assemble((wrapped[:indent], style), wrapped[indent:]) if style else wrapped
    console.print(line, soft_wrap=True)


def print_anomalies(console: Console, told: Iterable[Mapping[str, Any]]) -> None:
    """What is wrong, since when, and what to do about it; and what is over."""
    for one in told:
        what = f"{one['node']}: {one['evidence']['text']}"
        if one["until"] is None:
            print_line(console, f"{one['severity']}: {what}, since {one['since']}. {one['advice']}")
        else:
            print_line(console, f"over: {what} ({one['since']} to {one['until']})")


def usd_text(value: float | None) -> str:
    """Dollars for reading; ``-`` where they are unknown."""
    if value is None:
        return "-"
    return f"{value:,.2f}" if abs(value) >= 1 or value == 0 else f"{value:.4f}"


def percent_text(share: float | None) -> str:
    """A share for reading; ``-`` where it is unknown."""
    return "-" if share is None else f"{share:.0%}"


def amount_text(amount: str | None) -> str:
    """At most eight decimals for reading, the JSON has them all; ``-`` where the amount is unknown."""
    if amount is None:
        return "-"
    whole, _, fraction = amount.partition(".")
    return f"{whole}.{fraction[:8]}" if fraction else whole


def span_text(seconds: int) -> str:
    """A length of time in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
