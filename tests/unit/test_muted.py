"""What the solver's library prints by itself never gets into a document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from depin_orcha.muted import stdout_muted

PRINTS = Path(__file__).parents[1] / "samples" / "problems" / "solver_prints.json"


def test_a_problem_at_which_the_solver_prints_gives_one_document() -> None:
    argv = [sys.executable, "-m", "depin_orcha", "optimize", "--input", str(PRINTS), "--json"]
    done = subprocess.run(argv, capture_output=True, check=True)
    assert json.loads(done.stdout)["status"] == "success"
    assert done.stderr == b""


def test_what_c_prints_is_lost_and_what_python_prints_before_and_after_is_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    import ctypes

    library = ctypes.CDLL(None)
    sys.stdout.write("before\n")
    with stdout_muted():
        library.puts(b"noise")
    sys.stdout.write("after\n")
    sys.stdout.flush()
    library.puts(b"heard")
    library.fflush(None)
    assert capfd.readouterr().out.split() == ["before", "after", "heard"]


def test_without_a_stdout_nothing_is_lost() -> None:
    code = (
        "import os; os.close(1); from depin_orcha.muted import stdout_muted\nwith stdout_muted(): raise SystemExit(7)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
