"""`status` tells apart why a node brings nothing: in words, in a table of any width, and in one field of the JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from loopback import Answer, Loopback, Request, edited, sample
from operator_parts import Place
from sample_cases import SAMPLES

from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import HOUR_S

NOW_S = parse_rfc3339("2026-11-22T19:53:00Z")
STORJ = SAMPLES / "storj" / "1.162.3" / "healthy"
GOLEM = SAMPLES / "golem" / "0.17.6" / "working"
CHALLENGE = SAMPLES / "grass" / "2026-11" / "challenge"
STATES = {
    "zero": ("up", None, "up", "0.00"),
    "unpriced": ("up", None, "up", "-"),
    "unreachable": ("unknown", "transient", "unreachable", "-"),
    "refused": ("unknown", "auth", "credentials refused", "-"),
    "blocked": ("unknown", "blocked", "blocked", "-"),
    "changed": ("unknown", "shape", "answer changed", "-"),
    "keyless": ("unknown", "config", "set up wrongly", "-"),
    "key_lost": ("unknown", "config", "set up wrongly", "-"),
    "programless": ("unknown", "config", "set up wrongly", "-"),
    "too_old": ("unknown", "unsupported", "not supported", "-"),
    "gone": ("unknown", "config", "not in the file", "0.00"),
    "added": ("unknown", None, "not read", "-"),
}
"""Node -> health and failure kind in the JSON, its word and what it earned in 24 hours in the table."""


TOO_OLD = {"kind": "unsupported", "message": "version 0.3 tells nothing", "hint": "update the relay"}


def command(*words: str) -> str:
    """A node that a command of the owner's reads, to be named."""
    return f'[nodes.NAME]\nprotocol = "exec"\ncommand = {json.dumps(words)}\ncurrencies = ["USD"]\n\n'


def without_satellites(request: Request) -> Answer:
    """A storage node of a release that calls its satellites by another name."""
    return edited(sample(STORJ), "/api/sno/", lambda answer: answer.pop("satellites") and None)(request)


def node(name: str, protocol: str, url: str, *lines: str) -> str:
    """A section of the configuration."""
    return "\n".join([f"[nodes.{name}]", f'protocol = "{protocol}"', f'url = "{url}"', *lines, "\n"])


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Somebody with a node in each state, two hours after the first reading."""
    place = Place(tmp_path_factory.mktemp("owner"))
    with ExitStack() as stack:
        well, daemon, page, changed = (
            stack.enter_context(Loopback(respond)).url
            for respond in (sample(STORJ), sample(GOLEM), sample(CHALLENGE), without_satellites)
        )
        sections = {
            "zero": node("zero", "storj", well),
            "unpriced": node("unpriced", "golem", daemon, 'app_key_file = "right.key"'),
            "unreachable": node("unreachable", "storj", "http://127.0.0.1:9"),
            "refused": node("refused", "golem", daemon, 'app_key_file = "wrong.key"'),
            "blocked": node("blocked", "grass", page, 'token_file = "wrong.key"'),
            "changed": node("changed", "storj", changed),
            "keyless": node("keyless", "golem", daemon),
            "key_lost": node("key_lost", "golem", daemon, 'app_key_file = "not-there.key"'),
            "programless": command("/nowhere/relay"),
            "too_old": command("printf", json.dumps({"failure": TOO_OLD})),
            "gone": node("gone", "storj", well),
            "added": node("added", "storj", well),
        }
        sections = {name: text.replace("NAME", name) for name, text in sections.items()}
        prices = '[prices]\nurl = "http://127.0.0.1:9"\nfallback_url = "http://127.0.0.1:9"\n'
        keys = {"wrong.key": "nobody-knows-this-key", "right.key": "00112233445566778899aabbccddeeff"}
        for hours in (2, 1, 0):
            place.configure(prices + "".join(text for name, text in sections.items() if name != "added"), keys)
            place("collect", now=NOW_S - hours * HOUR_S, exits=3)
        place.configure(prices + "".join(text for name, text in sections.items() if name != "gone"))
        yield place


def test_every_state_has_its_own_word(owner: Place) -> None:
    nodes = {node["node"]: node for node in owner.json("status", now=NOW_S).data["nodes"]}
    assert {name: (one["health"], one["failure_kind"]) for name, one in nodes.items()} == {
        name: state[:2] for name, state in STATES.items()
    }
    assert len({re.sub(r"\d+", "", one["reason"]) for one in nodes.values()}) == len(STATES)
    zero, gone = nodes["zero"], nodes["gone"]
    assert (zero["usd_24h"], zero["known_hours_24h"] > 0) == (0.0, True)
    unread = [name for name in STATES if name not in ("zero", "unpriced", "gone")]
    assert [name for name, one in nodes.items() if one["usd_24h"] is None] == ["unpriced", *unread]
    assert [name for name, one in nodes.items() if not one["configured"]] == ["gone"]
    assert gone["last_seen"] == zero["last_seen"]
    assert [name for name, one in nodes.items() if one["last_seen"] is None] == unread


def test_table_tells_it_without_colour(owner: Place) -> None:
    text = owner.process("status", now=NOW_S, env=owner.environment(COLUMNS="130")).out
    rows = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    cells = {row[0]: (row[2], row[4]) for row in rows if len(row) > 4}
    assert {name: cells[name] for name in STATES} == {name: state[2:] for name, state in STATES.items()}
    told = re.findall(r"^(\w+): (?!net)\S", text, re.MULTILINE)
    assert set(STATES) - set(told) == {"zero"}, text
    hints = {
        "keyless": "app_key",
        "key_lost": "not-there.key",
        "programless": "full path",
        "too_old": "update the relay",
    }
    for name, hint in hints.items():
        lines = [line for line in text.splitlines() if line.startswith(f"{name}: ")]
        assert len(lines) == 2, lines
        assert hint in " ".join(lines)
    assert re.search(r"^unpriced: 0\.\d+ GLM in 24 h, 0\.\d+ in 30 d$", text, re.MULTILINE)


def test_narrow_table_tells_it_too(owner: Place) -> None:
    lines = owner("status", now=NOW_S, COLUMNS="40").out.splitlines()
    words = {lines[at].removeprefix("node: "): lines[at + 1] for at, line in enumerate(lines) if line[:6] == "node: "}
    assert {name: words[name] for name in STATES} == {name: f"health: {state[2]}" for name, state in STATES.items()}


def test_without_any_node(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.configure("")
    assert place.json("status").data["nodes"] == []
    assert "No node is known yet" in place("status").out
    assert "depin-orcha init" in place("collect", exits=78).err
