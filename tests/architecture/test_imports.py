"""No command imports more than it needs: start-up time is what a timer pays every quarter of an hour."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCIENCE = {"numpy", "pandas", "scipy", "sklearn", "statsmodels"}
HEAVY = SCIENCE | {"sqlite_utils", "httpx", "pydantic"}
MAIN = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
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
    """Top-level modules in the process of a command at its end."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("DEPIN_ORCHA_")}
    places = [] if "--help" in arguments else ["--config", str(home / "config.toml"), "--db", str(home / "orcha.db")]
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments, *places],
        env=env | {"HOME": str(home)}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == exits, done.stdout + done.stderr
    return {name.split(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


@pytest.mark.parametrize("arguments", [("--help",), ("collect", "--help"), ("optimize", "--help")])
def test_help_is_light(home: Path, arguments: tuple[str, ...]) -> None:
    assert loaded(home, *arguments) & HEAVY == set()


def test_status_on_a_database_is_light(home: Path) -> None:
    loaded(home, "collect", exits=69)
    assert loaded(home, "status", "--json") & HEAVY == set()


def test_status_of_imported_history_is_light(home: Path) -> None:
    assert loaded(home, "import", str(home / "history.csv")) & SCIENCE == set()
    loaded(home, "collect", exits=69)
    modules = loaded(home, "status", "--json")
    assert "sqlite3" in modules
    assert modules & HEAVY == set()


def test_collect_does_without_the_sciences(home: Path) -> None:
    assert loaded(home, "collect", exits=69) & SCIENCE == set()
    assert loaded(home, "collect", exits=69) & (SCIENCE | {"sqlite_utils"}) == set()
