"""No command imports more than it needs: start-up time is what a timer pays every quarter of an hour."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCIENCE = {"numpy", "pandas", "scipy", "sklearn", "statsmodels"}
HEAVY = SCIENCE | {"sqlite_utils", "httpx", "pydantic_settings"}
OUR_EDGES = {f"depin_orcha.{name}" for name in ("config", "net", "adapters", "forecast", "optimize")}
MAIN = """
import atexit, pathlib, sys
atexit.register(lambda: pathlib.Path.home().joinpath("modules").write_text("\\n".join(sys.modules)))
from depin_orcha.cli import main
main()
"""
CONFIG = """
[prices]
url = "http://127.0.0.1:9"
fallback_url = "http://127.0.0.1:9"
[nodes.storj_1]
protocol = "storj"
url = "http://127.0.0.1:9"
[nodes.golem_1]
protocol = "golem"
url = "http://127.0.0.1:9"
app_key_file = "key"
"""
HISTORY = """node,start,end,currency,amount,protocol
storj_1,2026-11-20T00:00:00Z,2026-11-21T00:00:00Z,USD,0.24,storj
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "key").write_text("0123456789abcdef")
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "history.csv").write_text(HISTORY)
    return tmp_path


def loaded(home: Path, *arguments: str, exits: int = 0) -> set[str]:
    """Modules in the process of a command at its end."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DEPIN_ORCHA_")}
    places = [] if "--help" in arguments else ["--config", str(home / "config.toml"), "--db", str(home / "orcha.db")]
    argv = [sys.executable, "-c", MAIN, *arguments, *places]
    own = env | {"HOME": str(home)}
    done = subprocess.run(argv, env=own, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == exits, done.stdout + done.stderr
    return set((home / "modules").read_text().splitlines())


@pytest.mark.parametrize("arguments", [("--help",), ("collect", "--help"), ("optimize", "--help")])
def test_help_is_light(home: Path, arguments: tuple[str, ...]) -> None:
    assert loaded(home, *arguments) & (HEAVY | OUR_EDGES) == set()


def test_help_of_the_program_needs_no_validation(home: Path) -> None:
    """Only here: Typer itself loads pydantic as soon as a command has options."""
    assert "pydantic" not in loaded(home, "--help")


def test_status_is_light(home: Path) -> None:
    loaded(home, "collect", exits=69)
    modules = loaded(home, "status", "--json")
    assert "sqlite3" in modules
    assert modules & (HEAVY | OUR_EDGES) == set()


def test_import_does_without_the_sciences(home: Path) -> None:
    assert loaded(home, "import", str(home / "history.csv")) & SCIENCE == set()


def test_collect_does_without_the_sciences(home: Path) -> None:
    first_with_migrations = loaded(home, "collect", exits=69)
    second = loaded(home, "collect", exits=69)
    assert first_with_migrations & SCIENCE == set()
    assert second & (SCIENCE | {"sqlite_utils"}) == set()
