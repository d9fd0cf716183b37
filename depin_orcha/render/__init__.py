"""Tables for people: how wide, and whether in colour."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from typing import Any

_PIPE_WIDTH = 120


def to_text(show: Callable[[Any], None], *, no_color: bool) -> str:
    """What ``show`` prints, for the stdout there is: colour only on a terminal (or with ``FORCE_COLOR``)."""
    from rich.console import Console

    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    forced = bool(os.environ.get("FORCE_COLOR"))
    buffer = StringIO()
    console = Console(
        file=buffer,
        force_terminal=terminal or forced,
        no_color=no_color or bool(os.environ.get("NO_COLOR")),
        color_system="standard" if terminal or forced else None,
        width=None if terminal else _pipe_width(),
        highlight=False,
        emoji=False,
        markup=False,
    )
    if terminal:
        console.width = os.get_terminal_size(sys.stdout.fileno()).columns or _PIPE_WIDTH
    show(console)
    text = buffer.getvalue()
    return text if _speaks_unicode() else _ascii(text)


def progress(*, hidden: bool) -> Callable[[Sequence[int]], Iterable[int]]:
    """What passes a sequence on and, on a terminal, shows on stderr how far it is."""

    def shown(sequence: Sequence[int]) -> Iterable[int]:
        if hidden or not sys.stderr.isatty():
            return sequence
        from rich.console import Console
        from rich.progress import track

        return track(sequence, description="replaying", console=Console(stderr=True), transient=True)

    return shown


def _pipe_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isascii() and columns.isdigit() and int(columns) else _PIPE_WIDTH


def _speaks_unicode() -> bool:
    try:
        "─●…".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _ascii(text: str) -> str:
    table = str.maketrans({"─": "-", "━": "-", "│": "|", "…": "~", "·": "-", "→": ">", "±": "~", "–": "-"})
    return text.translate(table).encode("ascii", "replace").decode()
