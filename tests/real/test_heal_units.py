"""Units of a real systemd: those that fell are started again, those that a person stopped are not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from loopback import Answer, Loopback
from operator_parts import Place
from real.systemd import Systemd
from tequilapi import Tequilapi

from depin_orcha import restarting
from depin_orcha.adapters import NodeOptions
from depin_orcha.heal import State
from depin_orcha.outside import Outside
from depin_orcha.supervisors import Place as Where
from depin_orcha.supervisors import look

pytestmark = pytest.mark.real
LOOP = "while :; do sleep 0.1; done"
ONE_ON_TERM = f'trap "exit 1" TERM; {LOOP}'
"""As many programs do: after `systemctl stop` the unit looks failed."""


@pytest.fixture(scope="module")
def systemd() -> Iterator[Systemd]:
    with Systemd() as running:
        yield running


@pytest.fixture(autouse=True)
def _systemctl(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{systemd.bin}:{os.environ['PATH']}")


def state(unit: str) -> State:
    options = NodeOptions.model_validate({"protocol": "mysterium", "runtime": "systemd", "unit": f"{unit}.service"})
    with Outside(any_engine=True) as world:
        return look(Where(options, "/none", "/none"), world).state


@pytest.mark.parametrize(
    ("script", "lines", "done", "ends", "expected"),
    [
        ("sleep 0.3; exit 3", (), (), "failed", State.CRASHED),
        ("sleep 0.3; kill -SEGV $$", (), (), "failed", State.CRASHED),
        ("sleep 0.1; exit 3", ("Restart=always", "RestartSec=0"), (), "failed", State.CRASHED),
        ("sleep 0.3; exit 3", ("Restart=always", "RestartSec=60"), (), "activating", State.STARTING),
        ("sleep 0.3; exit 3", ("Restart=always", "RestartSec=60"), ("stop",), "inactive", State.HELD),
        (LOOP, (), ("stop",), "inactive", State.HELD),
        (ONE_ON_TERM, (), ("stop",), "failed", State.STOPPED),
        (ONE_ON_TERM, ("Restart=always",), ("stop",), "failed", State.STOPPED),
        (f'trap "" TERM; {LOOP}', (), ("stop",), "failed", State.STOPPED),
        (LOOP, (), ("kill", "-s", "KILL"), "failed", State.UNTOLD),
        (LOOP, (), ("kill", "-s", "TERM"), "inactive", State.HELD),
        ("sleep 0.3; exit 0", (), (), "inactive", State.HELD),
        (LOOP, (), (), "active", State.RUNNING),
    ],
)
def test_who_fell_and_who_was_stopped(
    systemd: Systemd,
    request: pytest.FixtureRequest,
    script: str,
    lines: tuple[str, ...],
    done: tuple[str, ...],
    ends: str,
    expected: State,
) -> None:
    unit = f"unit{crc32(request.node.name.encode())}"
    systemd.add(unit, script, *lines)
    time.sleep(0.6 if done else 0)
    if done:
        systemd(*done, unit)
    systemd.until(unit, ends)
    assert state(unit) is expected, systemd("show", unit)
    systemd("stop", unit)


def test_a_unit_that_nobody_made(systemd: Systemd) -> None:
    assert "could not be found" in systemd("status", "nobody.service")
    assert state("nobody") is State.GONE


@pytest.fixture
def place(systemd: Systemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """One Mysterium node that is a unit, and answers while that runs."""
    monkeypatch.setattr(restarting, "STAYS_S", 0.5)
    api = Tequilapi()

    def respond(request: Any) -> Answer:
        running = systemd("show", "-P", "ActiveState", "myst").strip() == "active"
        return api._answer(request) if running else Answer(503)

    with Loopback(lambda _: Answer(404)) as internet, Loopback(respond) as node:
        made = Place(tmp_path)
        made.configure(
            f'[prices]\nurl = "{internet.url}"\nfallback_url = "http://127.0.0.1:9"\n'
            f"[heal]\nverify_timeout_s = 5\n"
            f'[nodes.myst_1]\nprotocol = "mysterium"\nurl = "{node.url}"\nheal = true\n'
            'runtime = "systemd"\nunit = "myst.service"\n'
        )
        yield made


def heal(place: Place, now_s: int) -> dict[str, Any]:
    path = os.environ["PATH"]
    place("collect", now=now_s, exits=None, PATH=path)
    return place.json("heal", "--yes", now=now_s, PATH=path).data


def test_one_that_fell_is_started_and_one_that_was_stopped_is_not(systemd: Systemd, place: Place) -> None:
    systemd.add("myst", f'trap "exit 1" TERM; trap "exit 3" USR1; {LOOP}')
    now_s = int(time.time())
    place("collect", now=now_s - 7200, exits=None)
    systemd("kill", "-s", "USR1", "myst")
    systemd.until("myst", "failed")
    done = heal(place, now_s + 600)
    (action,) = done["actions"]
    assert (action["state"], action["kind"], action["command"]) == (
        "done", "systemd", "systemctl --no-block start myst.service",
    )  # fmt: skip
    systemd.until("myst", "active")

    systemd("stop", "myst")
    systemd.until("myst", "failed")
    left = heal(place, now_s + 9000)
    assert (left["changed"], left["findings"][0]["decision"]) == (0, "leave"), left
    assert systemd("show", "-P", "ActiveState", "myst").strip() == "failed"
