"""Nothing lies among the samples that no reading opens, unless their README says why."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from loopback import Loopback, sample
from sample_cases import SAMPLES, cases

from depin_orcha.errors import AdapterError

README = SAMPLES / "README.md"
OF_A_CASE = {"expected.json", "meta.toml", "routes.toml"}


def explained() -> set[Path]:
    """The files and folders in the first column of the tables of the README."""
    names = re.findall(r"^\| `([^`]+)` \|", README.read_text(), re.MULTILINE)
    assert all((SAMPLES / name).exists() for name in names), names
    return {(SAMPLES / name).resolve() for name in names}


def test_every_file_is_opened_by_a_reading_or_explained() -> None:
    opened: set[Path] = set()
    folders: set[Path] = set()
    for case in cases():
        folders.add(case.folder.parents[1])
        with Loopback(sample(case.folder)) as server:
            with suppress(AdapterError):
                case.read(server.url)
            opened |= case.opened(server.requests)
    files = {path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name not in OF_A_CASE}
    why = explained()
    unused = {path for path in files - opened if not why & {path, *path.parents}}
    assert not unused, sorted(str(path.relative_to(SAMPLES)) for path in unused)
    assert not why & opened, "explained, and opened after all"
