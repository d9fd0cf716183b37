"""Silence for libraries that print by themselves, where stdout has to be one document."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def stdout_muted() -> Generator[None]:
    """What C and C++ code prints on stdout meanwhile is lost, also what it would only print at the end."""
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # there is no stdout to be spoilt
        yield
        return
    library = ctypes.CDLL(None)
    library.fflush(None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        library.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
