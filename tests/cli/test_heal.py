"""``heal``: what it does, and does not do, to nodes that fall, over an engine and interfaces on loopback."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest
from apply_parts import podman_api
from heal_engine import Container, Machine
from operator_parts import Place

from depin_orcha import restarting
from depin_orcha.types import HOUR_S

Make = Callable[..., "Home"]


class Home:
    """A machine, and the owner who types commands; ``now_s`` is the clock's time until it is moved on."""

    def __init__(self, place: Place, machine: Machine) -> None:
        self.place = place
        self.machine = machine
        self.now_s = int(time.time())

    def configure(self, options: str = "heal = true", heal: str = "", **own: str) -> None:
        nodes = "".join(
            f'[nodes.{name}]\nprotocol = "mysterium"\nurl = "{self.machine.url(name)}"\nruntime = "docker"\n'
            f'container = "{name}"\n{own.get(name, options)}\n'
            for name in self.machine.containers
        )
        self.place.configure(
            f'[prices]\nurl = "{self.machine.internet.url}"\nfallback_url = "http://127.0.0.1:9"\n'
            f'[apply]\ndocker_socket = "{self.machine.engine.socket}"\n'
            f'podman_socket = "{self.machine.engine.socket}"\n'
            f"[heal]\nverify_timeout_s = 0.3\n{heal}\n[hosts.rack]\n{nodes}"
        )

    def collect(self, *ago_s: int) -> None:
        for one in ago_s or (0,):
            self.place("collect", now=self.now_s - one, exits=None)

    def heal(self, *words: str, exits: int = 0) -> dict[str, Any]:
        return self.place.json("heal", *words, now=self.now_s, exits=exits).data

    def decision(self, *words: str, node: str = "myst_1", exits: int = 0) -> tuple[str, str]:
        found = {one["node"]: one for one in self.heal(*words, exits=exits)["findings"]}[node]
        return found["decision"], found["why"]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(restarting, "STAYS_S", 0.0)
    monkeypatch.setattr(restarting, "POLL_S", 0.02)
    machines: list[Machine] = []

    def begin(*names: str, **options: str) -> Home:
        machines.append(Machine(tmp_path, *(names or ("myst_1",))).__enter__())
        home = Home(Place(tmp_path), machines[0])
        home.configure(**options)
        home.collect(3 * HOUR_S)
        return home

    yield begin
    for machine in machines:
        machine.__exit__()


@pytest.fixture
def home(make: Make) -> Home:
    return make()


@pytest.fixture
def node(home: Home) -> Container:
    return home.machine.containers["myst_1"]


def fallen(home: Home, node: Container) -> None:
    node.crash()
    home.collect()


def silent(home: Home, node: Container) -> None:
    node.hang()
    home.collect(2 * HOUR_S, HOUR_S, 0)


def test_well_nodes_are_not_even_looked_at(home: Home) -> None:
    home.collect()
    assert home.heal("--yes") == {"plan_id": None, "mode": "executed", "changed": 0, "actions": [], "findings": []}
    assert home.machine.engine.requests == []


@pytest.mark.parametrize(("fall", "verb"), [(fallen, "start"), (silent, "restart?t=30")])
def test_a_fallen_node_is_started_and_a_silent_one_restarted(home: Home, node: Container, fall: Any, verb: str) -> None:
    fall(home, node)
    dry = home.heal()
    assert (dry["mode"], dry["changed"], dry["actions"][0]["state"]) == ("dry_run", 0, "planned")
    assert home.machine.writes == []
    assert home.place.query("SELECT count(*) FROM restarts") == [(0,)]
    assert home.heal("--yes", "--dry-run")["mode"] == "dry_run"
    assert home.machine.writes == []

    done = home.heal("--yes")
    (action,) = done["actions"]
    assert (done["changed"], action["state"], action["kind"]) == (1, "done", "docker")
    assert action["request"] == f"POST /containers/{node.id}/{verb}"
    assert home.machine.writes == [f"{verb} myst_1"]
    assert home.place.query("SELECT node, host, kind, state, detail FROM restarts") == [
        ("myst_1", "local", "docker", "done", "it runs and is well")
    ]
    home.now_s += 60
    home.collect()
    assert (home.heal("--yes")["actions"], home.heal("--yes")["findings"]) == ([], [])


def test_a_table_says_it_in_words(home: Home, node: Container) -> None:
    fallen(home, node)
    out = " ".join(home.place("heal", now=home.now_s).out.split())
    assert "heal: nothing was changed (dry run: add --yes to do it)" in out
    assert "myst_1: restart: it ended by itself (exit code 1)" in out


@pytest.mark.parametrize(
    ("fall", "word"),
    [
        (lambda node: node.stop(), "somebody stopped it"),
        (lambda node: node.stop(code=0), "somebody stopped it"),
        (lambda node: node.stop(code=137), "somebody stopped it"),
        (lambda node: node.crash(code=0), "in good order"),
        (lambda node: node.crash(code=137), "nothing proves"),
        (lambda node: (node.crash(), node.events.clear()), "nothing proves"),
        (lambda node: (node.crash(), setattr(node, "policy", "unless-stopped")), "somebody stopped it"),
        (lambda node: (node.hang(), setattr(node, "status", "paused")), "not meant to run"),
    ],
)
def test_what_a_person_stopped_is_never_started(home: Home, node: Container, fall: Any, word: str) -> None:
    fall(node)
    home.collect(2 * HOUR_S, HOUR_S, 0)
    decision, why = home.decision("--yes")
    assert (decision, word in why) == ("leave", True), why
    assert home.machine.writes == []


def test_without_consent_there_is_the_exact_command(make: Make) -> None:
    home = make(options="")
    node = home.machine.containers["myst_1"]
    fallen(home, node)
    (action,) = home.heal("--yes")["actions"]
    assert (action["state"], action["request"]) == ("advice", None)
    assert action["command"] == f"docker -H unix://{home.machine.engine.socket} start myst_1"
    assert "heal = true" in action["detail"]
    node.start()
    silent(home, node)
    node.started_s -= HOUR_S
    (action,) = home.heal("--yes")["actions"]
    assert action["command"] == f"docker -H unix://{home.machine.engine.socket} restart -t 30 myst_1"
    assert home.machine.writes == []


@pytest.mark.parametrize(
    ("options", "command", "word"),
    [
        ('host = "rack"\nheal = true', "docker restart -t 30 myst_1", "rack"),
        ('heal = true\nruntime = "process"\nprocess = "myst"', None, "start it as you always do"),
        ('heal = true\nruntime = "none"', None, "start it as you always do"),
    ],
)
def test_what_nothing_here_runs_is_advised(make: Make, options: str, command: str | None, word: str) -> None:
    home = make()
    text = home.place.config.read_text()
    if "runtime" in options:
        text = text.replace('runtime = "docker"\n', "")
    home.place.config.write_text(text.replace("heal = true", options))
    silent(home, home.machine.containers["myst_1"])
    (action,) = home.heal("--yes")["actions"]
    assert (action["state"], action["command"], word in action["detail"]) == ("advice", command, True)
    assert home.machine.engine.requests == []


def episode(home: Home, kind: str, cause: str, evidence: dict[str, Any]) -> None:
    """Something that is wrong since nine hours, as `forecast` finds it."""
    row = ("myst_1", cause, home.now_s - 9 * HOUR_S, home.now_s - HOUR_S, kind, "warning", 2.0, json.dumps(evidence))
    with closing(connect(home.place.db)) as database, database:
        database.execute("INSERT INTO anomalies VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, 0)", row)


def test_one_that_tells_the_same_for_longer_than_ever_is_restarted(home: Home) -> None:
    home.collect()
    told = {"hours_without_income": 9, "longest_before_h": 4, "hours_unchanged": 9}
    episode(home, "stale_reading", "income", told)
    done = home.heal("--yes")
    assert [one["state"] for one in done["actions"]] == ["done"]
    assert home.machine.writes == ["restart?t=30 myst_1"]
    home.now_s += 2 * HOUR_S
    home.collect()
    assert home.decision("--yes")[0] == "wait", "it takes a while to earn"


def test_what_no_restart_cures_is_told_with_advice(home: Home) -> None:
    home.collect()
    episode(home, "flatline", "income", {"hours_without_income": 9, "longest_before_h": 4})
    (finding,) = home.heal("--yes")["findings"]
    assert (finding["decision"], "earned nothing for 9 h" in finding["why"]) == ("leave", True)
    assert "does the network still send it work" in finding["advice"]
    assert home.machine.engine.requests == []


def test_pause_is_obeyed_until_resume(home: Home, node: Container) -> None:
    fallen(home, node)
    home.place("pause", now=home.now_s)
    assert home.decision("--yes") == ("wait", "its owner has paused it")
    home.place("resume", now=home.now_s)
    home.place("pause", "--node", "myst_1", "--for", "30m", now=home.now_s)
    assert home.decision("--yes")[0] == "wait"
    assert home.machine.writes == []
    home.now_s += 1801
    home.collect()
    assert home.heal("--yes")["changed"] == 1


def test_one_that_does_not_come_back_is_told_backed_off_and_given_up_once(make: Make) -> None:
    home = make(heal="host_restarts_per_hour = 9")
    node = home.machine.containers["myst_1"]
    node.on_start = lambda one: one.crash(0)
    fallen(home, node)
    waits: list[int] = []
    for number in (1, 2, 3):
        done = home.place.json("heal", "--yes", now=home.now_s, exits=3)
        assert [one["state"] for one in done.data["actions"]] == ["failed"]
        ((circuit, tries, until_s),) = home.place.query(
            "SELECT circuit, tries, until_s FROM breakers ORDER BY learned_s DESC LIMIT 1"
        )
        assert tries == number
        (told,) = done.failures
        assert told["message"].startswith("given up: restarted 3 times") is (number == 3)
        if number == 3:
            assert (circuit, until_s) == ("given_up", None)
            break
        assert circuit == "open"
        waits.append(until_s - home.now_s)
        assert home.decision("--yes")[0] == "back_off"
        home.now_s = until_s + 300
        home.collect()
    assert waits[1] > 1.5 * waits[0] >= 1350
    assert len(home.machine.writes) == 3
    for hours in (1, 30, 300):
        home.now_s += hours * HOUR_S
        home.collect()
        assert home.decision("--yes")[0] == "give_up", "said, but no failure any more: it exits 0"
    assert len(home.machine.writes) == 3
    (shown,) = home.place.json("status", now=home.now_s).data["nodes"]
    assert "restarted no more: restarted 3 times in vain: it does not run: exit code 1" in shown["notes"]

    node.on_start = lambda _: None
    node.start()
    for _ in range(3):
        home.now_s += HOUR_S
        home.collect()
        home.heal("--yes")
    assert home.place.query("SELECT circuit FROM breakers ORDER BY learned_s DESC LIMIT 1") == [("closed",)]
    (shown,) = home.place.json("status", now=home.now_s).data["nodes"]
    assert not any("restarted no more" in note for note in shown["notes"])
    node.crash(0)
    home.now_s += 60
    home.collect()
    done = home.heal("--yes")
    assert done["changed"] == 1, done["findings"]


def test_one_that_comes_back_and_keeps_falling_is_given_up_too(home: Home, node: Container) -> None:
    for _ in range(3):
        fallen(home, node)
        assert home.heal("--yes")["changed"] == 1
        home.collect()
        home.now_s += 5 * HOUR_S
        node.started_s -= 5 * HOUR_S
    fallen(home, node)
    dry = home.heal()
    assert (dry["findings"][0]["decision"], dry["actions"]) == ("give_up", [])
    given = home.place.json("heal", "--yes", now=home.now_s, exits=3)
    assert "keeps falling" in given.failures[0]["message"]
    assert home.place.json("heal", "--yes", now=home.now_s).failures == []
    assert len(home.machine.writes) == 3


def test_one_that_runs_but_does_not_answer_has_not_come_back(home: Home, node: Container) -> None:
    node.on_start = lambda one: one.hang()
    fallen(home, node)
    done = home.place.json("heal", "--yes", now=home.now_s, exits=3)
    assert done.data["actions"][0]["detail"] == "it runs, but does not answer"
    assert len(home.machine.writes) == 1, "a restart is never tried twice at once"


def test_a_refusal_is_told_and_counted(home: Home, node: Container) -> None:
    fallen(home, node)
    home.machine.refuses = 500, {"message": "driver failed programming external connectivity"}
    done = home.place.json("heal", "--yes", now=home.now_s, exits=3)
    assert "driver failed" in done.failures[0]["message"]
    assert done.data["changed"] == 0
    assert len(home.machine.writes) == 1
    assert home.decision("--yes")[0] == "back_off"


def test_it_answers_after_all(home: Home, node: Container) -> None:
    silent(home, node)
    node.answers = True
    assert home.decision("--yes") == ("wait", "it answers again")
    assert home.machine.writes == []


def test_a_golem_node_that_cannot_say_whether_it_works_is_not_restarted(make: Make) -> None:
    home = make()
    (home.place.folder / "key").write_text("0123456789abcdef")
    text = home.place.config.read_text().replace('protocol = "mysterium"', 'protocol = "golem"\napp_key_file = "key"')
    home.place.config.write_text(text)
    silent(home, home.machine.containers["myst_1"])
    decision, why = home.decision("--yes")
    assert (decision, "not known whether it is bound to work" in why) == ("wait", True), why
    assert home.machine.writes == []


def test_without_the_internet_it_waits(home: Home, node: Container) -> None:
    fallen(home, node)
    home.place.config.write_text(home.place.config.read_text().replace(home.machine.internet.url, "http://127.0.0.1:9"))
    assert home.decision("--yes")[0] == "wait"
    assert home.machine.writes == []


def test_several_silent_at_once_are_left_alone_but_not_one_that_ended(make: Make) -> None:
    home = make("myst_1", "myst_2", "myst_3")
    for name in ("myst_1", "myst_2"):
        home.machine.containers[name].hang()
    home.machine.containers["myst_3"].crash()
    home.collect(2 * HOUR_S, HOUR_S, 0)
    done = home.heal("--yes")
    assert {one["node"]: one["decision"] for one in done["findings"]} == {
        "myst_1": "wait", "myst_2": "wait", "myst_3": "restart"
    }  # fmt: skip
    assert home.machine.writes == ["start myst_3"]


def test_no_storm_on_a_machine_and_none_after_a_failure(make: Make) -> None:
    names = ("myst_1", "myst_2", "myst_3")
    home = make(*names)
    for name in names:
        home.machine.containers[name].crash()
    home.collect()
    done = home.heal("--yes")
    assert [one["state"] for one in done["actions"]] == ["done", "done"]
    assert home.decision("--yes", node="myst_3")[0] == "wait"
    home.now_s += HOUR_S
    home.machine.containers["myst_3"].on_start = lambda one: one.crash(0)
    home.machine.containers["myst_1"].started_s -= HOUR_S
    home.machine.containers["myst_1"].crash()
    home.collect()
    done = home.heal("--yes", exits=3)
    assert sorted(one["state"] for one in done["actions"]) in (["done", "failed"], ["failed", "skipped"])
    assert len(home.machine.writes) <= 4


def test_one_that_its_owner_started_meanwhile_is_left_alone(make: Make) -> None:
    home = make("myst_1", "myst_2")
    first, second = home.machine.containers.values()
    first.crash()
    second.crash()
    first.on_start = lambda _: second.start()
    home.collect()
    done = home.heal("--yes")
    assert [(one["node"], one["state"]) for one in done["actions"]] == [("myst_1", "done"), ("myst_2", "skipped")]
    assert "changed meanwhile" in done["actions"][1]["detail"]
    assert home.machine.writes == ["start myst_1"]
    assert home.place.query("SELECT count(*) FROM restarts") == [(1,)]


def test_one_that_was_never_read_well_is_not_blamed(make: Make) -> None:
    home = make()
    node = home.machine.containers["myst_1"]
    home.place.db.unlink()
    silent(home, node)
    decision, why = home.decision("--yes")
    assert (decision, "never read well" in why) == ("leave", True), why
    assert home.machine.writes == []


def test_named_nodes_only(make: Make) -> None:
    home = make("myst_1", "myst_2")
    for one in home.machine.containers.values():
        one.crash()
    home.collect()
    done = home.heal("--yes", "--node", "myst_2")
    assert [one["node"] for one in done["actions"]] == ["myst_2"]
    assert home.machine.writes == ["start myst_2"]


def test_an_engine_that_is_gone_is_told_for_nodes_with_consent_only(home: Home, node: Container) -> None:
    fallen(home, node)
    socket = home.machine.engine.socket
    text = home.place.config.read_text()
    home.place.config.write_text(text.replace(f'docker_socket = "{socket}"', 'docker_socket = "/nowhere"'))
    done = home.place.json("heal", "--yes", now=home.now_s, exits=3)
    assert (done.failures[0]["kind"], done.data["findings"][0]["decision"]) == ("transient", "wait")
    home.place.config.write_text(home.place.config.read_text().replace("heal = true", ""))
    assert home.place.json("heal", "--yes", now=home.now_s).failures == []


@pytest.mark.parametrize("runtime", ["podman", "docker"])
def test_podman_restarts_what_hangs_and_does_not_tell_who_stopped_the_rest(make: Make, runtime: str) -> None:
    home = make()
    home.machine.api = podman_api("4.3.1")
    text = home.place.config.read_text().replace('runtime = "docker"', f'runtime = "{runtime}"')
    if runtime == "podman":
        text = text.replace("docker_socket = ", "# docker_socket = ")
    home.place.config.write_text(text)
    node = home.machine.containers["myst_1"]
    silent(home, node)
    (action,) = home.heal("--yes")["actions"]
    assert (action["kind"], action["state"]) == (runtime, "done")
    assert home.machine.writes == ["restart?t=30 myst_1"]
    home.now_s += 2 * HOUR_S
    node.crash(0)
    home.collect()
    decision, why = home.decision("--yes")
    assert (decision, "Podman does not tell who stopped it" in why) == ("leave", True), why
    assert len(home.machine.writes) == 1


@pytest.mark.parametrize(("comes_back", "state"), [(True, "done"), (False, "failed")])
def test_a_run_that_was_killed_is_ended_by_what_runs_now(
    home: Home, node: Container, comes_back: bool, state: str
) -> None:
    fallen(home, node)

    def die(one: Container) -> None:
        if not comes_back:
            one.crash(0)
        started.kill()
        started.wait()

    node.on_start = die
    started = home.place.start("heal", "--yes", now=home.now_s)
    assert started.wait() == -signal.SIGKILL
    assert home.place.query("SELECT state FROM restarts") == [("running",)]
    assert home.place.query("SELECT circuit, tries FROM breakers") == [("open", 1)], "the try counts all the same"
    node.on_start = lambda _: None
    home.collect()
    assert home.heal("--yes")["changed"] == 0
    ((found, detail),) = home.place.query("SELECT state, detail FROM restarts")
    assert (found, detail.startswith("interrupted")) == (state, True)
    assert len(home.machine.writes) == 1


def test_run_heals_after_apply_and_leaves_both_out_when_told(home: Home, node: Container) -> None:
    fallen(home, node)
    words = ("run", "--yes", "--no-apply")
    left_out = home.place.json(*words, now=home.now_s, exits=None).data["verbs"]
    assert [one["verb"] for one in left_out] == ["collect", "forecast", "optimize"]
    assert home.machine.writes == []
    dry = home.place.json("run", now=home.now_s, exits=None).data["verbs"]
    assert [one["verb"] for one in dry] == ["collect", "forecast", "optimize", "apply", "heal"]
    assert home.machine.writes == []
    home.place.json("run", "--yes", now=home.now_s, exits=None)
    assert home.machine.writes == ["start myst_1"]
    assert home.place.json("status", now=home.now_s).data["runs"]["heal"]["exit_code"] == 0


def test_without_nodes_there_is_nothing_to_heal(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.configure("[heal]\ntries = 2\n")
    assert place.json("heal", exits=78).failures[0]["kind"] == "config"


@pytest.mark.parametrize("text", ["tries = 0", "backoff_s = 0", "node_restarts_per_day = -1", "a = 1"])
def test_options_that_make_no_sense(tmp_path: Path, text: str) -> None:
    place = Place(tmp_path)
    place.configure(f"[heal]\n{text}\n")
    assert f"heal.{text.split(' ', maxsplit=1)[0]}" in place("heal", exits=78).err
