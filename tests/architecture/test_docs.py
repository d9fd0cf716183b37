"""The reference pages are what the code says, and no command goes undocumented."""

from __future__ import annotations

import subprocess
import sys

import pytest
from architecture.source import PACKAGE, ROOT
from typer.main import get_command

from depin_orcha.cli import app
from depin_orcha.errors import ExitCode

REFERENCE = ROOT / "docs" / "reference"
VERBS = sorted(get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]


def test_reference_is_up_to_date() -> None:
    check = [sys.executable, str(ROOT / "scripts" / "gen_docs.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_verb_is_documented_and_has_a_schema(verb: str) -> None:
    command = get_command(app).commands[verb]  # pyright: ignore[reportAttributeAccessIssue]
    section = (REFERENCE / "cli.md").read_text(encoding="utf-8").split(f"\n## {verb}\n")[1].split("\n## ")[0]
    assert {option for one in command.params for option in one.opts if option not in section} <= shared_options()
    assert f"depin-orcha {verb}" in section
    assert (PACKAGE / "schemas" / f"{verb}.json").exists()


def shared_options() -> set[str]:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8").split("\n## Options of every verb\n")[1].split("\n## ")[0]
    return {word.strip("`,") for word in text.split() if word.startswith(("`-", "-"))}


def test_every_exit_code_is_explained() -> None:
    page = (REFERENCE / "exit-codes.md").read_text(encoding="utf-8")
    assert [code.name for code in ExitCode if f"| {int(code)} | {code.name} |" not in page] == []
