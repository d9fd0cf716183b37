"""A protocol from a package of its own: the example is installed as anybody would install it, and collects."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback, Request
from operator_parts import Done, Place

from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import HOUR_S

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin_presearch"
KEY = "canary-of-presearch"
NODE = "PUBKEYEXAMPLE0000000000000000000000000000001"
NOW_S = parse_rfc3339("2026-11-22T18:12:00Z")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with the plugin in it, made by pip without a network."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-build-isolation", "--no-deps", "--target", str(target), str(PLUGIN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def environment(place: Place, *paths: Path) -> dict[str, str]:
    kept = [path for path in (*map(str, paths), os.environ.get("PYTHONPATH", "")) if path]
    return place.environment(PYTHONPATH=os.pathsep.join(kept))


def test_its_own_tests_pass(installed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(PLUGIN / "pyproject.toml")]
    command += ["--rootdir", str(PLUGIN), str(PLUGIN / "tests")]
    env = environment(Place(tmp_path), installed, ROOT) | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_it_needs_nothing_private() -> None:
    tree = ast.parse((PLUGIN / "depin_orcha_presearch.py").read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [module for module in modules if module.startswith("depin_orcha")]
    assert ours
    assert [module for module in ours if "._" in module] == []


def test_page_that_it_was_built_by_shows_its_project_file() -> None:
    page = (ROOT / "docs" / "how-to" / "add-a-protocol.md").read_text(encoding="utf-8")
    project = (PLUGIN / "pyproject.toml").read_text(encoding="utf-8").partition("\n[tool.pytest")[0]
    assert f"```toml\n{project}```" in page


def network(request: Request) -> Answer:
    """A node that earns a millionth of a PRE a second, and a source of prices."""
    if request.path == "/simple/price":
        return Answer(200, b'{"presearch": {"usd": 0.01}}', "application/json")
    if request.path != f"/api/nodes/status/{KEY}":
        return Answer(404)
    status = {"connected": True, "blocked": False, "minutes_in_current_state": 60}
    node: dict[str, Any] = {"meta": {"version": "1.1.94"}, "status": status}
    body: dict[str, Any] = {"success": True, "nodes": {NODE: node}}
    if "stats" in request.query:
        edges = [datetime.fromisoformat(request.query[key] + "+00:00") for key in ("start_date", "end_date")]
        body |= dict(zip(("start_at", "end_at"), (edge.strftime("%Y-%m-%dT%H:%M:%SZ") for edge in edges), strict=True))
        node["period"] = {"total_pre_earned": (edges[1] - edges[0]).total_seconds() / 1e6}
    return Answer(200, json.dumps(body).encode(), "application/json")


def configure(place: Place, url: str) -> None:
    text = f"""
[prices]
url = "{url}"
fallback_url = "{url}"
ids = {{PRE = "presearch"}}
[nodes.presearch_1]
protocol = "presearch"
url = "{url}"
api_key_file = "key"
"""
    place.configure(text, {"key": KEY})


def test_it_collects(installed: Path, tmp_path: Path) -> None:
    """Five readings in seven hours, two of them within one: 29 hours are known, and each is what was earned in it."""
    place = Place(tmp_path)
    with Loopback(network) as server:
        configure(place, server.url)
        done: list[Done] = []
        for minutes in (0, 15, 60, 75, 5 * 60):
            env = environment(place, installed)
            done.append(place.process("collect", "--json", "--debug", now=NOW_S + 60 * minutes, env=env))
            assert done[-1].code == 0, done[-1].err
        asked = ["stats" in one.query for one in server.requests if KEY in one.path]
    assert asked == [True, False, True, False, True]
    (node,) = done[0].data["nodes"]
    assert (node["earned_since_previous"], node["health"]["status"]) == (None, "up")
    assert [one["amount"] for one in node["earnings"]] == ["0.0864"]
    earned = [one.data["nodes"][0]["earned_since_previous"] for one in done[1:]]
    assert [one and one["amount"] for one in earned] == [None, "0.0036", None, "0.0144"]
    hours: dict[int, Decimal] = {}
    for hour_s, amount in place.query("SELECT hour_s, amount FROM accruals"):
        hours[hour_s] = hours.get(hour_s, Decimal(0)) + Decimal(amount)
    ends_s = NOW_S // HOUR_S * HOUR_S + 5 * HOUR_S
    expected = dict.fromkeys(range(ends_s - 29 * HOUR_S, ends_s, HOUR_S), Decimal("0.0036"))
    assert {hour_s: amount for hour_s, amount in hours.items() if amount} == expected
    everything = "".join(one.out + one.err for one in done).encode()
    assert KEY.encode() not in everything + b"".join(path.read_bytes() for path in tmp_path.glob("orcha.db*"))


def test_without_it_the_protocol_is_unknown(tmp_path: Path) -> None:
    place = Place(tmp_path)
    configure(place, "http://127.0.0.1:9")
    done = place("collect", exits=78)
    assert "protocol 'presearch' is not known" in done.err
    assert "known protocols: " in done.err
