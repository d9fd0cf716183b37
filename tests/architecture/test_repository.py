"""What may stand in this repository: finished work that explains itself and points nowhere private."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from architecture.source import ROOT

SPLIT = (
    ("TO", "DO"),
    ("FIX", "ME"),
    ("XX", "X"),
    ("Not", "ImplementedError"),
    ("../", "shared"),
    ("/wor", "k/"),
    ("pypi.", "org"),
    ("registry.", "npmjs"),
    ("pythonhosted.", "org"),
    ("deb.debian.", "org"),
)
"""Marks of unfinished work, private places and package registries; in halves, so that this file holds none of them."""
README_LINES = 150


def tracked() -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def text_of(name: str) -> str:
    try:
        return (ROOT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@pytest.mark.parametrize("word", ["".join(halves) for halves in SPLIT])
def test_forbidden_words_stand_nowhere(word: str) -> None:
    pattern = re.compile(rf"(?<!\w){re.escape(word)}" if word[0].isalpha() else re.escape(word))
    assert [name for name in tracked() if pattern.search(text_of(name))] == []


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_scripts_can_be_run() -> None:
    programs = [
        path for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci" / "run"] if path.is_file() and not path.suffix
    ]
    assert programs
    assert [path.name for path in programs if not os.access(path, os.X_OK)] == []


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"#.*|[a-z0-9-]+==[0-9a-z.]+", line)]
    assert lines
    assert wrong == []
