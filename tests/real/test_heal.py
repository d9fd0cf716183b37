"""Containers of a real Docker Engine that fall, hang or are stopped: who is brought back, and who is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import Answer, Loopback
from operator_parts import PROGRAM, Place
from real.docker_engine import DockerEngine
from real.namespace import unavailable
from tequilapi import Tequilapi

from depin_orcha import restarting
from depin_orcha.adapters import NodeOptions
from depin_orcha.heal import State
from depin_orcha.outside import Outside
from depin_orcha.supervisors import Place as Where
from depin_orcha.supervisors import look

pytestmark = pytest.mark.real
SLEEPS = "while :; do /bin/busybox sleep 0.1; done"
UNTIL_TOLD = f"[ -e /fall ] && rm /fall && exit 3; {SLEEPS.replace('do ', 'do [ -e /fall ] && rm /fall && exit 3; ')}"
"""Ends with 3 as soon as there is a file ``/fall``."""
ENDS_WITH_1 = f"trap 'exit 1' TERM; {SLEEPS}"
"""As many programs do on SIGTERM."""


def shell(script: str) -> tuple[str, str, str]:
    return ("/bin/sh", "-c", script)


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine() as running:
        yield running


@pytest.fixture
def name(engine: DockerEngine, request: pytest.FixtureRequest) -> Iterator[str]:
    made = request.node.name.removeprefix("test_").partition("[")[0][:40]
    yield made
    engine.remove(made)


class Owner:
    """Has one Mysterium node in a container."""

    def __init__(self, folder: Path, engine: DockerEngine, name: str, url: str, internet: str) -> None:
        self.place = Place(folder)
        self.engine = engine
        self.name = name
        self.silent_before = ""
        """The interface of a process that was started by then does not answer."""
        self.now_s = int(time.time())
        self.place.configure(
            f'[prices]\nurl = "{internet}"\nfallback_url = "http://127.0.0.1:9"\n'
            f'[apply]\ndocker_socket = "{engine.socket}"\n'
            f"[heal]\nverify_timeout_s = 5\n"
            f'[nodes.myst_1]\nprotocol = "mysterium"\nurl = "{url}"\nheal = true\n'
            f'runtime = "docker"\ncontainer = "{name}"\n'
        )

    def collect(self, *ago_s: int) -> None:
        for one in ago_s:
            self.place("collect", now=self.now_s - one, exits=None)

    def heal(self, *words: str, later_s: int = 600, exits: int = 0) -> dict[str, Any]:
        """Time is told to be later, as a container that has only just ended is left alone for a while."""
        now_s = self.now_s + later_s
        self.place("collect", now=now_s, exits=None)
        return self.place.json("heal", *words, now=now_s, exits=exits).data

    def state(self) -> dict[str, Any]:
        return self.engine.call("GET", f"/containers/{self.name}/json")["State"]

    def wait_until(self, status: str) -> None:
        ends = time.monotonic() + 10
        while self.state()["Status"] != status:
            assert time.monotonic() < ends, self.state()
            time.sleep(0.05)


@pytest.fixture
def owner(tmp_path: Path, engine: DockerEngine, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Owner]:
    monkeypatch.setattr(restarting, "STAYS_S", 0.5)
    api = Tequilapi()
    with Loopback(lambda _: Answer(404)) as internet:

        def respond(request: Any) -> Answer:
            state = owner.state()
            well = state["Running"] and state["StartedAt"] > owner.silent_before
            return api._answer(request) if well else Answer(503)

        with Loopback(respond) as node:
            owner = Owner(tmp_path, engine, name, node.url, internet.url)
            yield owner


def fall(engine: DockerEngine, name: str) -> None:
    made = engine.call("POST", f"/containers/{name}/exec", {"Cmd": ["/bin/sh", "-c", "echo > /fall"]})
    engine.call("POST", f"/exec/{made['Id']}/start", {"Detach": True})


def test_one_that_fell_is_started_once(engine: DockerEngine, name: str, owner: Owner) -> None:
    engine.run(name, shell(UNTIL_TOLD))
    owner.collect(7200)
    fall(engine, name)
    owner.wait_until("exited")
    before = owner.state()
    assert before["ExitCode"] == 3
    dry = owner.heal()
    assert [one["state"] for one in dry["actions"]] == ["planned"]
    assert owner.state() == before
    done = owner.heal("--yes")
    assert [one["state"] for one in done["actions"]] == ["done"], done
    after = owner.state()
    assert after["Running"]
    assert after["StartedAt"] > before["StartedAt"]
    again = owner.heal("--yes", later_s=1200)
    assert (again["actions"], owner.state()["StartedAt"]) == ([], after["StartedAt"])


CHANGES = (
    "open,openat,openat2,creat,mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,"
    "symlinkat,chmod,fchmodat,chown,lchown,fchownat,truncate,mknod,mknodat,sendto,sendmsg"
)


@pytest.mark.parametrize("words", [("heal",), ("heal", "--yes", "--dry-run"), ("run",)])
def test_without_consent_no_call_to_the_system_writes_outside_the_state_folder(
    engine: DockerEngine, name: str, owner: Owner, words: tuple[str, ...]
) -> None:
    if shutil.which("strace") is None:
        unavailable("seeing every call to the system needs strace")
    engine.run(name, shell(UNTIL_TOLD))
    owner.collect(7200)
    fall(engine, name)
    owner.wait_until("exited")
    before = owner.state()
    owner.collect(-600)
    traced = owner.place.folder / "trace"
    argv = [*PROGRAM, *owner.place.words(*words, now=owner.now_s + 600)]
    env = owner.place.environment(PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    strace = ["strace", "-f", "-qq", "-s", "16", "-e", f"trace={CHANGES}", "-o", str(traced)]
    done = subprocess.run([*strace, *argv], env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in (0, 69), done.stderr
    if words[0] == "heal":
        assert "restart: it ended by itself" in done.stdout
    assert owner.state() == before
    calls = traced.read_text().splitlines()
    assert any("GET /v" in call for call in calls), "the engine was asked"
    assert [call for call in calls if any(verb in call for verb in ("POST", "PUT", "DELETE"))] == []
    reads = ("sendto(", "sendmsg(", "O_RDONLY", "O_PATH", '"/dev/null"', "ENOENT", "EEXIST")
    assert [call for call in calls if not any(word in call for word in (*reads, str(owner.place.folder)))] == []


@pytest.mark.parametrize("script", [SLEEPS, ENDS_WITH_1])
@pytest.mark.parametrize("how", ["stop?t=1", "kill", "kill?signal=TERM", "pause"])
def test_what_a_person_stopped_stays_so(engine: DockerEngine, name: str, owner: Owner, script: str, how: str) -> None:
    engine.run(name, shell(script))
    owner.collect(7200)
    engine.call("POST", f"/containers/{name}/{how}")
    if how == "kill?signal=TERM" and script == SLEEPS:
        engine.stop(name)  # the first process of a container ignores a signal that it does not handle
    owner.wait_until("paused" if how == "pause" else "exited")
    before = owner.state()
    owner.silent_before = before["StartedAt"]
    done = owner.heal("--yes")
    assert (done["changed"], done["findings"][0]["decision"]) == (0, "leave"), done
    assert owner.state() == before
    if how == "pause":
        engine.call("POST", f"/containers/{name}/unpause")


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_one_whose_engine_restarts_it_is_left_to_it(engine: DockerEngine, name: str, owner: Owner, policy: str) -> None:
    engine.run(name, shell(UNTIL_TOLD), RestartPolicy={"Name": policy})
    owner.collect(7200)
    first = owner.state()["StartedAt"]
    fall(engine, name)
    ends = time.monotonic() + 10
    while not (owner.state()["Running"] and owner.state()["StartedAt"] > first):
        assert time.monotonic() < ends
        time.sleep(0.1)
    engine.call("POST", f"/containers/{name}/stop?t=1")
    done = owner.heal("--yes")
    assert (done["changed"], done["findings"][0]["decision"]) == (0, "leave")
    assert not owner.state()["Running"]


def test_one_that_hangs_is_restarted_with_time_to_stop(engine: DockerEngine, name: str, owner: Owner) -> None:
    engine.run(name, shell("trap 'exit 0' TERM; " + SLEEPS))
    owner.collect(7200)
    before = owner.state()
    owner.silent_before = before["StartedAt"]
    owner.collect(5400, 60)
    wait = owner.heal("--yes", later_s=60)
    assert wait["findings"][0]["decision"] == "wait", "it has just been started"
    done = owner.heal("--yes", later_s=1800)
    assert [one["state"] for one in done["actions"]] == ["done"], done
    assert owner.state()["StartedAt"] > before["StartedAt"]
    assert "restart?t=30" in done["actions"][0]["request"]


def test_one_that_keeps_falling_has_not_come_back(engine: DockerEngine, name: str, owner: Owner) -> None:
    engine.run(name, shell("/bin/busybox sleep 0.2; exit 4"))
    owner.collect(7200)
    owner.wait_until("exited")
    done = owner.heal("--yes", exits=3)
    assert [one["state"] for one in done["actions"]] == ["failed"]
    assert "does not run" in done["actions"][0]["detail"]


def test_out_of_memory_is_no_persons_hand(engine: DockerEngine, name: str) -> None:
    hog = "x=$(/bin/busybox head -c 100000000 /dev/zero | /bin/busybox tr '\\0' x)"
    engine.run(name, shell(hog), Memory=16 * 2**20, MemorySwap=16 * 2**20)
    ends = time.monotonic() + 20
    where = Where(_options(name), engine.socket, "/none")
    with Outside(any_engine=True) as world:
        while (seen := look(where, world)).state is State.RUNNING:
            assert time.monotonic() < ends
            time.sleep(0.1)
        assert look(where, world).state is State.CRASHED, (seen, engine.call("GET", f"/containers/{name}/json"))


def _options(name: str) -> Any:
    return NodeOptions.model_validate({"protocol": "mysterium", "runtime": "docker", "container": name})
