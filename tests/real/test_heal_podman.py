"""Containers of a real Podman: one that hangs is restarted; it does not tell who stopped the others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback
from operator_parts import Place
from real.podman_engine import PodmanEngine
from tequilapi import Tequilapi

from depin_orcha import restarting

pytestmark = pytest.mark.real
LOOP = "while :; do /bin/busybox sleep 0.1; done"


@pytest.fixture(scope="module")
def engine() -> Iterator[PodmanEngine]:
    with PodmanEngine() as running:
        yield running


@pytest.fixture
def place(engine: PodmanEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """One Mysterium node in a container, which hangs from when there is such a file until it is started anew."""
    monkeypatch.setattr(restarting, "STAYS_S", 0.5)
    engine.run("myst", f'trap "exit 1" TERM; {LOOP}')
    first = engine.state("myst")["StartedAt"]
    api, hangs = Tequilapi(), tmp_path / "hangs"

    def respond(request: Any) -> Answer:
        state = engine.state("myst")
        well = state["Running"] and (state["StartedAt"] != first or not hangs.exists())
        return api._answer(request) if well else Answer(503)

    with Loopback(lambda _: Answer(404)) as internet, Loopback(respond) as node:
        made = Place(tmp_path)
        made.configure(
            f'[prices]\nurl = "{internet.url}"\nfallback_url = "http://127.0.0.1:9"\n'
            f'[apply]\npodman_socket = "{engine.socket}"\n[heal]\nverify_timeout_s = 5\n'
            f'[nodes.myst_1]\nprotocol = "mysterium"\nurl = "{node.url}"\nheal = true\n'
            'runtime = "podman"\ncontainer = "myst"\n'
        )
        yield made


def test_one_that_hangs_is_restarted_and_one_that_was_stopped_is_not_started(
    engine: PodmanEngine, place: Place
) -> None:
    now_s, before = int(time.time()), engine.state("myst")
    place("collect", now=now_s - 9000, exits=None)
    (place.folder / "hangs").touch()
    for ago_s in (5400, 60, -1800):
        place("collect", now=now_s - ago_s, exits=None)
    done = place.json("heal", "--yes", now=now_s + 1800).data
    (action,) = done["actions"]
    assert (action["state"], action["kind"]) == ("done", "podman"), action
    assert engine.state("myst")["StartedAt"] > before["StartedAt"]

    engine.call("POST", "/v1.41/containers/myst/stop?t=5")
    stopped = engine.state("myst")
    assert (stopped["Status"], stopped["ExitCode"]) == ("exited", 1), "it looks as if it had fallen"
    place("collect", now=now_s + 7200, exits=None)
    left = place.json("heal", "--yes", now=now_s + 7200).data
    assert (left["changed"], left["findings"][0]["decision"]) == (0, "leave"), left
    assert engine.state("myst") == stopped
