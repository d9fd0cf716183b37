"""A node that hangs costs a run no more than the time that its owner allows it, and costs the others nothing."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from pathlib import Path

from loopback import Answer, Loopback, Request, Wire, sample
from operator_parts import Place
from sample_cases import baselines

from depin_orcha.errors import ExitCode
from depin_orcha.timefmt import parse_rfc3339

NOW_S = parse_rfc3339("2026-11-22T20:01:00Z")
DEADLINE_S = 2
ATTEMPTS = 3
"""The time counts that a run takes on a machine which does nothing else at that moment."""
HANGS, DRIPS = "golem", "storj"
DRIP = (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", *(b" ", 0.1) * 200)
NODES = {case.protocol: case for case in baselines() if case.protocol != "exec"}


def quotes(request: Request) -> Answer:
    ids = request.query.get("ids", "").split(",")
    return Answer(200, json.dumps({token: {"usd": 2} for token in ids if token}).encode(), "application/json")


def configure(place: Place, stack: ExitStack) -> None:
    """A node of each network, two of which do not come to an end, and prices that do."""
    prices = stack.enter_context(Loopback(quotes)).url
    text, secrets = f'[prices]\nurl = "{prices}"\nfallback_url = "{prices}"\n', {}
    for protocol, case in NODES.items():
        slow = {HANGS: Wire(60.0), DRIPS: Wire(*DRIP)}.get(protocol)
        options = case.options(stack.enter_context(slow or Loopback(sample(case.folder))).url)
        for name, secret in case.secrets().items():
            del options[name]
            options[f"{name}_file"] = f"{protocol}.{name}"
            secrets[f"{protocol}.{name}"] = secret
        if slow is not None:
            options["deadline_s"] = DEADLINE_S
        text += "".join([f"[nodes.{protocol}]\n", *(f"{key} = {json.dumps(one)}\n" for key, one in options.items())])
    place.configure(text, secrets)


def test_slow_nodes_cost_their_deadline_and_nothing_else(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with ExitStack() as stack:
        configure(place, stack)
        for attempt in range(ATTEMPTS):
            started = time.monotonic()
            done = place.process("collect", "--json", now=NOW_S + attempt)
            took_s = time.monotonic() - started
            if took_s < 3 * DEADLINE_S:
                break
    assert DEADLINE_S <= took_s < 3 * DEADLINE_S
    assert done.code == ExitCode.PARTIAL, done.err
    assert {one["node"]: one["kind"] for one in done.failures} == {HANGS: "transient", DRIPS: "transient"}
    assert all(f"did not answer in full within {DEADLINE_S} s" in one["message"] for one in done.failures)
    read = [node["node"] for node in done.data["nodes"] if node["earnings"]]
    assert read == [name for name in NODES if name not in (HANGS, DRIPS)]
    assert len(NODES) == 5
    stored = {row[0] for row in place.query("SELECT node FROM earnings_samples")}
    assert stored == set(read)
