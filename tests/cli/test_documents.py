"""Every document that a command prints with ``--json`` is what its schema says."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from depin_orcha.demo import SimulatedOperator

SCHEMAS = Path(__file__).parents[2] / "depin_orcha" / "schemas"
NOW_S = int(time.time())
SERIES = {
    "horizon": 3,
    "series": [{"id": "a", "start": "2026-11-20T00:00:00Z", "freq": "1h", "y": [0.1, 0.2, None] * 30}],
}
PROBLEM = {
    "horizon_h": 12,
    "hosts": [
        {
            "host": "box",
            "capacity": {"cpu_cores": 8},
            "nodes": [
                {
                    "node": "golem_1",
                    "uses_per_unit": {"cpu_cores": 1},
                    "current_units": 4,
                    "max_units": 8,
                    "usd_per_unit_hour": 0.012,
                }
            ],
        }
    ],
}
HISTORY = "node,start,end,currency,amount\nstorj_attic,2026-01-01T00:00:00Z,2026-01-02T00:00:00Z,USD,0.24\n"


def check(document: Any, schema: str) -> None:
    fault = best_match(Draft202012Validator(json.loads((SCHEMAS / f"{schema}.json").read_text())).iter_errors(document))
    assert fault is None, f"{fault.json_path}: {fault.message[:300]}"


class CommandLine:
    """Commands on a database of four simulated nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, verb: str, *options: str, exits: int = 0, config: str = "config.toml") -> dict[str, Any]:
        """The document that a command prints, once it was found to be what its schema says."""
        places = ["--config", str(self.folder / config), "--db", str(self.folder / "orcha.db")]
        env = {name: value for name, value in os.environ.items() if not name.startswith("DEPIN_ORCHA_")}
        done = subprocess.run(
            [sys.executable, "-m", "depin_orcha", verb, *options, "--json", *places],
            env=env | {"HOME": str(self.folder)}, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        assert done.returncode == exits, done.stdout + done.stderr
        document = json.loads(done.stdout)
        check(document, verb)
        return document


@pytest.fixture(scope="module")
def orcha(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("operator")
    with SimulatedOperator(NOW_S - 6 * 3600) as operator:
        operator.advance(NOW_S - 2 * 3600)
        (folder / "config.toml").write_text(operator.config_toml())
        for name, secret in operator.secrets().items():
            (folder / name).write_text(secret)
            (folder / name).chmod(0o600)
        (folder / "broken.toml").write_text("nodes = 3")
        (folder / "series.json").write_text(json.dumps(SERIES))
        (folder / "problem.json").write_text(json.dumps(PROBLEM))
        (folder / "history.csv").write_text(HISTORY)
        command_line = CommandLine(folder)
        command_line("collect", "--now", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW_S - 2 * 3600)))
        operator.advance(NOW_S)
        command_line("run")
        yield command_line


def test_collect(orcha: CommandLine) -> None:
    nodes = orcha("collect")["data"]["nodes"]
    assert [node["protocol"] for node in nodes] == ["storj", "golem", "storj", "golem"]
    assert all(node["earned_since_previous"] for node in nodes)


def test_run(orcha: CommandLine) -> None:
    data = orcha("run")["data"]
    assert [step["verb"] for step in data["verbs"]] == ["collect", "forecast", "optimize", "apply", "heal"]
    assert len(data["status"]["nodes"]) == 4


def test_forecast(orcha: CommandLine) -> None:
    assert orcha("forecast")["data"]["forecasts"]
    (series,) = orcha("forecast", "--input", str(orcha.folder / "series.json"))["data"]["forecasts"]
    assert len(series["mean"]) == 3


def test_optimize(orcha: CommandLine) -> None:
    assert orcha("optimize")["data"]["plan_id"]
    data = orcha("optimize", "--input", str(orcha.folder / "problem.json"))["data"]
    assert data["hosts"][0]["nodes"][0]["units"] == pytest.approx(8)


def test_problem_stored_with_the_plan_is_one_for_input(orcha: CommandLine) -> None:
    orcha("optimize")
    with closing(sqlite3.connect(orcha.folder / "orcha.db")) as connection:
        (text,) = connection.execute("SELECT problem_json FROM plans ORDER BY made_s DESC").fetchone()
    check(json.loads(text), "problem")
    assert json.loads(text)["schema"] == "depin-orcha/problem/1"


def test_apply(orcha: CommandLine) -> None:
    orcha("optimize")
    assert orcha("apply")["data"]["mode"] == "dry_run"


def test_heal(orcha: CommandLine) -> None:
    assert orcha("heal")["data"] == {
        "plan_id": None, "mode": "dry_run", "changed": 0, "actions": [], "findings": []
    }  # fmt: skip


def test_status_and_history(orcha: CommandLine) -> None:
    assert orcha("status")["data"]["totals"]["usd_30d"] is not None
    for span in ("hour", "day", "month"):
        for group in ("node", "protocol", "currency", "host"):
            assert orcha("history", "--by", span, "--group", group)["data"]["rows"]


def test_import_pause_resume_and_init(orcha: CommandLine) -> None:
    first = orcha("import", str(orcha.folder / "history.csv"))["data"]
    again = orcha("import", str(orcha.folder / "history.csv"))["data"]
    assert (first["added"], again) == (1, {"added": 0, "unchanged": 1})
    assert orcha("pause", "--for", "4h", "--node", "golem_rack")["data"]["paused"][0]["node"] == "golem_rack"
    assert orcha("status")["data"]["paused"]
    assert orcha("resume")["data"]["paused"] == []
    assert orcha("init", config="new.toml")["data"]["paths"] == [str(orcha.folder / "new.toml")]


@pytest.mark.parametrize(
    "verb", ["collect", "forecast", "optimize", "apply", "heal", "run", "status", "history", "pause", "resume"]
)
def test_failure(orcha: CommandLine, verb: str) -> None:
    document = orcha(verb, exits=78, config="broken.toml")
    assert (document["status"], document["data"]) == ("error", None)
    assert document["failures"][0]["kind"] == "config"


def test_partial_and_unreachable(orcha: CommandLine) -> None:
    text = (orcha.folder / "config.toml").read_text()
    gone = f'{text}\n[nodes.gone]\nprotocol = "storj"\nurl = "http://127.0.0.1:9"\n'
    (orcha.folder / "partial.toml").write_text(gone)
    assert orcha("collect", exits=3, config="partial.toml")["failures"][0]["node"] == "gone"
    only = orcha("collect", "--node", "gone", exits=69, config="partial.toml")
    assert only["data"]["nodes"][0]["health"]["status"] == "unknown"
