"""Nodes that a command reads, through `collect`: the documented example, and what becomes of what commands print."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from loopback import Answer, Loopback, Request, sample
from operator_parts import Place
from sample_cases import SAMPLES

from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import DAY_S, HOUR_S

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "exec_adapter" / "read-relay"
NOW_S = parse_rfc3339("2026-11-22T18:00:00Z")


def quotes(request: Request) -> Answer:
    ids = request.query.get("ids", "").split(",")
    return Answer(200, json.dumps({token: {"usd": 2} for token in ids if token}).encode(), "application/json")


@pytest.fixture
def prices() -> Iterator[str]:
    with Loopback(quotes) as server:
        yield f'[prices]\nurl = "{server.url}"\nfallback_url = "{server.url}"\n'


def node(name: str, command: list[str], *currencies: str) -> str:
    return (
        f'[nodes.{name}]\nprotocol = "exec"\ncommand = {json.dumps(command)}\ncurrencies = {json.dumps(currencies)}\n'
    )


def printing(**document: Any) -> list[str]:
    return ["printf", "%s", json.dumps({"earnings": [], "health": {"status": "up", "reason": "fine"}} | document)]


def relay(place: Path, says: str, code: int = 0) -> dict[str, Any]:
    """An environment with a `relay-cli` that prints ``says``."""
    program = place / "bin" / "relay-cli"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}'\nexit {code}\n")
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


RUNNING = "state: running\nversion: 1.4.2\nearned: {} MYST\ncores: 0.5"


def test_documented_example_collects(tmp_path: Path, prices: str) -> None:
    place = Place(tmp_path)
    place.configure(prices + node("relay_1", [str(SCRIPT)], "MYST"))
    for hours, earned in enumerate(["1234.5000", "1235.7500"]):
        env = relay(tmp_path, RUNNING.format(earned))
        done = place.json("collect", now=NOW_S + hours * HOUR_S, **env)
    (read,) = done.data["nodes"]
    assert read["earned_since_previous"] == {"currency": "MYST", "amount": "1.25", "usd": 2.5}
    assert read["usage"] == {"cpu_cores": {"allocated": None, "used": 0.5}}
    assert read["health"] == {"status": "up", "reason": "the relay runs", "details": {"version": "1.4.2"}}


@pytest.mark.parametrize(
    ("says", "code", "kind", "message"),
    [
        ("relay-cli: wrong password", 1, "auth", "relay-cli refuses the password"),
        ("cannot connect", 1, "transient", "relay-cli does not answer"),
        ("state: running\nearned: many MYST", 0, "shape", "no earnings in what relay-cli prints"),
        ("state: running", 0, "shape", "no earnings in what relay-cli prints"),
    ],
)
def test_documented_example_tells_its_failures(
    tmp_path: Path, prices: str, says: str, code: int, kind: str, message: str
) -> None:
    place = Place(tmp_path)
    place.configure(prices + node("relay_1", [str(SCRIPT)], "MYST"))
    done = place.json("collect", now=NOW_S, exits=69, **relay(tmp_path, says, code))
    assert [(one["kind"], one["message"]) for one in done.failures] == [(kind, message)]


def test_page_shows_the_example_and_documents_that_are_right() -> None:
    page = (ROOT / "docs" / "how-to" / "exec-adapter.md").read_text(encoding="utf-8")
    assert f"```sh\n{SCRIPT.read_text(encoding='utf-8')}```" in page
    schema = Draft202012Validator(json.loads((ROOT / "depin_orcha" / "schemas" / "exec.json").read_text()))
    for block in page.split("```json\n")[1:]:
        schema.validate(json.loads(block.split("```")[0]))


def test_node_that_is_down_is_stored_and_a_failure(tmp_path: Path, prices: str) -> None:
    place = Place(tmp_path)
    down = relay(tmp_path, RUNNING.format("7").replace("running", "stopped"))
    place.configure(prices + node("relay_1", [str(SCRIPT)], "MYST") + node("fine", printing(), "USD"))
    done = place.json("collect", now=NOW_S, exits=3, **down)
    assert [(one["node"], one["kind"], one["message"]) for one in done.failures] == [
        ("relay_1", "transient", "the relay is stopped")
    ]
    assert [one["health"]["status"] for one in done.data["nodes"]] == ["down", "up"]
    assert place.query("SELECT amount FROM earnings_samples WHERE node = 'relay_1'") == [("7",)]
    place.configure(prices + node("relay_1", [str(SCRIPT)], "MYST"))
    place.json("collect", now=NOW_S + 60, exits=69, **down)


def test_each_node_has_currencies_of_its_own(tmp_path: Path, prices: str) -> None:
    """The first of them is the main one, in which a complete ledger without events has earned zero."""
    place = Place(tmp_path)
    since = {"complete_since": "2026-11-22T16:00:00Z"}
    place.configure(
        prices
        + node("a", printing(**since), "USD", "GLM")
        + node("b", printing(**since), "MYST", "USD")
        + node("c", printing(**since), "tGLM")
    )
    done = place.json("collect", now=NOW_S)
    assert {price["currency"] for price in done.data["prices"]} >= {"GLM", "MYST"}
    zeros = place.query("SELECT DISTINCT node, currency, amount FROM accruals ORDER BY node")
    assert zeros == [("a", "USD", "0"), ("b", "MYST", "0"), ("c", "tGLM", "0")]


@pytest.mark.parametrize(
    ("correction", "booked"),
    [
        ({"observed_at": "2026-11-22T15:30:00Z"}, {"2026-11-22T15:00:00Z": "5"}),
        ({"observed_at": "2026-11-22T17:45:00Z"}, {"2026-11-22T17:00:00Z": "5"}),
        ({"amount": "7"}, {"2026-11-22T17:00:00Z": "7"}),
        ({"share": "0.5"}, {"2026-11-22T17:00:00Z": "2.5"}),
        ({"amount": "0", "observed_at": "2026-11-22T16:59:59Z"}, {}),
        ({"observed_at": "2026-11-24T00:00:00Z"}, {"2026-11-22T17:00:00Z": "5"}),
    ],
)
def test_event_counts_once_as_it_was_told_last(
    tmp_path: Path, prices: str, correction: dict[str, str], booked: dict[str, str]
) -> None:
    """One that is dated in the future counts as told before, until then."""
    place = Place(tmp_path)
    told = {"kind": "event", "currency": "USD", "amount": "5", "external_id": "job 1"}
    told |= {"observed_at": "2026-11-22T17:30:00Z"}
    tellings = [told, told, told | correction, told | correction, told]
    earned: list[Decimal] = []
    for minute, event in enumerate(tellings):
        place.configure(prices + node("relay_1", printing(earnings=[event]), "USD"))
        (read,) = place.json("collect", now=NOW_S + minute * 60).data["nodes"]
        earned.append(Decimal((read["earned_since_previous"] or {"amount": "0"})["amount"]))

    def hours(minute: int) -> dict[str, str]:
        rows = place.json("history", "--by", "hour", now=NOW_S + minute * 60).data["rows"]
        return {row["hour_start"]: row["amount"] for row in rows if row["amount"] != "0"}

    first = {"2026-11-22T17:00:00Z": "5"}
    assert [hours(minute) for minute in range(5)] == [first, first, booked, booked, first]
    change = sum(map(Decimal, booked.values())) - 5
    assert earned == [0, 0, change, 0, -change]


def test_interrupted_run_leaves_no_command_behind(tmp_path: Path, prices: str) -> None:
    place = Place(tmp_path)
    place.configure(prices + node("slow", ["sh", "-c", f"sleep 60 & echo $! > {tmp_path}/child; wait"], "USD"))
    process = place.start("collect")
    child = tmp_path / "child"
    for _ in range(500):
        if child.exists() and child.read_text().strip():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    for _ in range(100):
        stat = Path(f"/proc/{child.read_text().strip()}/stat")
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.02)
    else:
        os.kill(int(child.read_text()), signal.SIGKILL)
        pytest.fail("the command goes on")


@pytest.mark.parametrize(("skew_s", "warned"), [(-DAY_S, True), (DAY_S, True), (60, False)])
def test_clock_of_a_server_that_is_wrong_is_a_warning(tmp_path: Path, prices: str, skew_s: int, warned: bool) -> None:
    respond = sample(SAMPLES / "storj" / "1.162.3" / "healthy")

    def skewed(request: Request) -> Answer:
        answer = respond(request)
        answer.headers["Date"] = formatdate(time.time() + skew_s, usegmt=True)
        return answer

    place = Place(tmp_path)
    with Loopback(skewed) as server:
        place.configure(f'{prices}[nodes.storj_1]\nprotocol = "storj"\nurl = "{server.url}"\n')
        done = place.json("collect")
    assert ("storj_1: its clock says " in done.err) == warned
    assert done.data["nodes"][0]["earnings"]
