"""What counts as done, what is taken back, and how an interrupted action ends."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from apply_parts import BACKENDS, CPU, FOLDER, ID, FakeEngine, MemoryJournal

from depin_orcha.actuators import Reading, from_json, lowers, rises, to_json
from depin_orcha.actuators.docker import Actuator
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.execute import execute, recover
from depin_orcha.types import Action, ActionState, RunCommand


@pytest.fixture
def engine(tmp_path):
    with FakeEngine(tmp_path) as made:
        yield made


def run(actions, engine, journal=None):
    journal = journal or MemoryJournal()
    return execute(dict(enumerate(actions, 1)), journal, BACKENDS, engine.machine, verify_timeout_s=0.1)


def test_done_is_what_the_kernel_says_and_the_journal_knew_before(engine):
    action = engine.cpu_action()
    journal = MemoryJournal()
    journal.running = lambda seq: journal.entries.append((seq, f"running, {len(engine.server.writes)} writes"))
    (outcome,) = run([action], engine, journal)
    assert (outcome.state, outcome.changed, outcome.failure) == (ActionState.DONE, True, None)
    assert outcome.detail == f"{FOLDER}/cpu.max = 100000 100000"
    assert journal.entries == [(1, "running, 0 writes"), (1, "done")]
    assert (
        BACKENDS["docker"].actions(
            engine.target(), BACKENDS["docker"].read(engine.target(), engine.machine), {CPU: 1}, ""
        )
        == []
    )


def test_an_engine_that_accepts_and_does_nothing_is_found_out(engine):
    action = engine.cpu_action()

    def lie(body):
        engine.host.update(body)
        return 200, {"Warnings": []}

    engine.on_update = lie
    (outcome,) = run([action], engine)
    assert (outcome.state, outcome.changed) == (ActionState.FAILED, False)
    assert "accepted, but not in force" in outcome.detail
    assert outcome.failure is not None
    bodies = [body["NanoCpus"] / 1e9 for _, _, body in engine.server.writes]
    assert bodies == [1, 1, 4], "one retry, then what it believes to have done is taken back"


def test_a_wrong_value_is_tried_again_and_then_put_back(engine):
    engine.enforce(3)
    engine.host["NanoCpus"] = 3_000_000_000
    action = engine.cpu_action()

    def garble(body):
        engine.enforce(2 if body["NanoCpus"] == 1_000_000_000 else body["NanoCpus"] / 1e9)
        return 200, {}

    engine.on_update = garble
    journal = MemoryJournal()
    (outcome,) = run([action], engine, journal)
    assert (outcome.state, outcome.changed) == (ActionState.UNDONE, False)
    assert [body["NanoCpus"] for _, _, body in engine.server.writes] == [1_000_000_000, 1_000_000_000, 3_000_000_000]
    assert journal.entries == [(1, "running"), (1, "undone")]


def test_what_cannot_be_put_back_needs_attention_and_says_how(engine):
    action = engine.cpu_action()

    def stuck(_):
        engine.enforce(2)
        return 500, {"message": "runc did not terminate"}

    engine.on_update = stuck
    (outcome,) = run([action], engine)
    assert (outcome.state, outcome.changed) == (ActionState.FAILED, True)
    assert "needs attention" in outcome.detail
    assert outcome.failure is not None
    assert outcome.failure.hint == f"put it back by hand: docker -H unix://{engine.server.socket} update --cpus 4 golem"


def test_a_value_that_arrived_although_the_engine_complained_is_done(engine):
    action = engine.cpu_action()

    def complain(body):
        engine.obey(body)
        return 500, {"message": "context deadline exceeded"}

    engine.on_update = complain
    (outcome,) = run([action], engine)
    assert outcome.state is ActionState.DONE
    assert len(engine.server.writes) == 1


def test_a_conflict_is_not_tried_twice(engine):
    action = engine.cpu_action()
    engine.on_update = lambda _: (409, {"message": "Conflicting options"})
    (outcome,) = run([action], engine)
    assert (outcome.state, outcome.changed) == (ActionState.FAILED, False)
    assert len(engine.server.writes) == 1
    assert outcome.failure is not None
    assert outcome.failure.kind is FailureKind.DATA


def test_a_container_that_went_away_leaves_nothing_to_put_back(engine):
    action = engine.cpu_action()
    engine.on_update = lambda _: (404, {"message": f"No such container: {ID}"})
    gone = replace(action, target={**action.target, "id": "gone"})
    (outcome,) = run([gone], engine)
    assert (outcome.state, outcome.changed) == (ActionState.FAILED, False)
    assert "No such container" in outcome.detail


def test_a_failed_step_takes_its_node_back_in_reverse_and_leaves_the_others_alone(engine, tmp_path):
    notes = tmp_path / "notes"

    def note(node, word):
        call = RunCommand(("sh", "-c", f"echo {word} >> {notes}"))
        return Action(
            node,
            "note",
            "",
            {"last": "-"},
            {"last": word},
            call,
            RunCommand(("sh", "-c", f"echo no-{word} >> {notes}")),
        )

    class Notes(Actuator):
        def read_back(self, action, reader, since_s=None):  # noqa: ARG002
            last = notes.read_text().splitlines()[-1]
            return Reading({"last": "-" if last.startswith("no-") else last}, last)

    failing = engine.cpu_action()
    engine.on_update = lambda _: (500, {"message": "no"})
    actions = [note("golem_1", "a"), note("golem_1", "b"), failing, note("golem_1", "c"), note("golem_2", "d")]
    journal = MemoryJournal()
    outcomes = execute(dict(enumerate(actions, 1)), journal, {**BACKENDS, "note": Notes()}, engine.machine, 0.1)
    assert [str(outcome.state) for outcome in outcomes] == ["undone", "undone", "failed", "skipped", "done"]
    assert notes.read_text().split() == ["a", "b", "no-b", "no-a", "d"]
    assert [outcome.seq for outcome in outcomes] == [1, 2, 3, 4, 5]
    assert journal.entries[-4:] == [(1, "undone"), (4, "skipped"), (5, "running"), (5, "done")]


class Levels(Actuator):
    """Levels of nodes, each in a file."""

    def __init__(self, folder):
        self.folder = folder

    def read_back(self, action, reader, since_s=None):  # noqa: ARG002
        level = json.loads((self.folder / action.node).read_text())
        return Reading({"level": level}, f"level {level}")

    def change(self, node, before, after, *, works=True):
        (self.folder / node).write_text(json.dumps(before))
        call, undo = (self._write(node, level, works=works) for level in (after, before))
        return Action(node, "levels", "", {"level": before}, {"level": after}, call, undo)

    def _write(self, node, level, *, works):
        return RunCommand(("sh", "-c", f"echo {json.dumps(level)} > {self.folder / node}" if works else "exit 1"))


@pytest.mark.parametrize("before", [4, None], ids=["limited", "not limited"])
def test_what_could_not_be_taken_is_not_given(engine, tmp_path, before):
    levels = Levels(tmp_path)
    actions = [
        levels.change("takes_1", before, 2, works=False),
        levels.change("takes_2", 4, 2),
        levels.change("gives_1", 1, 3),
        levels.change("gives_2", 1, None),
        levels.change("elsewhere", 1, 3),
        levels.change("takes_3", 4, 3),
    ]
    journal = MemoryJournal()
    backends, hosts = {"levels": levels}, {"elsewhere": "rack"}
    outcomes = execute(dict(enumerate(actions)), journal, backends, engine.machine, 0.1, hosts)
    states = [str(outcome.state) for outcome in outcomes]
    assert states == ["failed", "done", "skipped", "skipped", "done", "done"]
    said = "no room was made for it: takes_1 was to get less (action 0: failed)"
    assert [journal.details[seq] for seq in (2, 3)] == [said] * 2
    assert [outcome.failure is None for outcome in outcomes] == [False, True, True, True, True, True]
    assert [json.loads((tmp_path / one.node).read_text()) for one in actions] == [before, 2, 1, 1, 3, 3]


def test_what_was_taken_and_put_back_is_not_given_either(engine, tmp_path):
    levels = Levels(tmp_path)
    taken, failing = levels.change("takes", 4, 2), replace(engine.cpu_action(), node="takes")
    engine.on_update = lambda _: (409, {"message": "Conflicting options"})
    actions = [taken, failing, levels.change("gives", 1, 3)]
    outcomes = execute(dict(enumerate(actions)), MemoryJournal(), {**BACKENDS, "levels": levels}, engine.machine, 0.1)
    assert [str(outcome.state) for outcome in outcomes] == ["undone", "failed", "skipped"]
    assert outcomes[2].detail == "no room was made for it: takes was to get less (action 0: undone)"


def test_what_was_never_begun_because_of_its_node_makes_no_room(engine, tmp_path):
    levels = Levels(tmp_path)
    engine.on_update = lambda _: (409, {"message": "Conflicting options"})
    engine.enforce(1)
    failing = replace(engine.cpu_action(2), node="takes")
    actions = [failing, levels.change("takes", 4, 2), levels.change("gives", 1, 3)]
    outcomes = execute(dict(enumerate(actions)), MemoryJournal(), {**BACKENDS, "levels": levels}, engine.machine, 0.1)
    assert [str(outcome.state) for outcome in outcomes] == ["failed", "skipped", "skipped"]


@pytest.mark.parametrize(
    ("before", "after", "way"),
    [
        ({"cpu_cores": 1}, {"cpu_cores": 2}, "up"),
        ({"cpu_cores": 2}, {"cpu_cores": None}, "up"),
        ({"cpu_cores": None}, {"cpu_cores": 2}, "down"),
        ({"cpu_cores": 2}, {"cpu_cores": 2.0000001}, ""),
        ({"active": "a", "cpu_threads": 2, "mem_gib": 4}, {"active": "b", "cpu_threads": 3, "mem_gib": 2}, "up down"),
        ({"profile": None}, {"profile": {"cpu_threads": 3}}, ""),
        ({"enabled": False, "kbytes_per_s": 100}, {"enabled": True, "kbytes_per_s": 900}, "down"),
        ({"enabled": True, "kbytes_per_s": 900}, {"enabled": False, "kbytes_per_s": 100}, "up"),
        ({"enabled": True, "kbytes_per_s": 100}, {"enabled": True, "kbytes_per_s": 900}, "up"),
    ],
)  # fmt: skip
def test_which_way_an_action_goes(before, after, way):
    action = Action("n", "any", "", before, after, RunCommand(("true",)), None)
    assert (rises(action), lowers(action)) == ("up" in way, "down" in way)


@pytest.mark.parametrize(
    ("cores", "state", "word"),
    [
        (1, ActionState.DONE, "in force"),
        (4, ActionState.FAILED, "before anything changed"),
        (2, ActionState.FAILED, "needs attention"),
    ],
)
def test_an_interrupted_action_ends_as_what_is_in_force(engine, cores, state, word):
    action = from_json(to_json(engine.cpu_action()))
    engine.enforce(cores)
    journal = MemoryJournal()
    (outcome,) = recover({7: action}, journal, BACKENDS, engine.machine, 0.1)
    assert (outcome.state, outcome.failure is not None) == (state, word == "needs attention")
    assert word in journal.details[7]
    assert engine.server.writes == []


def test_what_cannot_be_read_stays_running_and_what_is_gone_ends(engine):
    action = engine.cpu_action()
    journal = MemoryJournal()
    lost = replace(action, target={**action.target, "socket": "/nowhere"})
    gone = replace(action, target={**action.target, "id": "gone"})
    outcomes = recover({1: lost, 2: gone}, journal, BACKENDS, engine.machine, 0.1)
    assert [outcome.state for outcome in outcomes] == [ActionState.RUNNING, ActionState.FAILED]
    assert journal.entries == [(2, "failed")]


def test_release_puts_back_what_the_owner_had(engine):
    engine.enforce(3)
    engine.host["NanoCpus"] = 3_000_000_000
    done = [engine.cpu_action(1.0)]
    run(done, engine)
    done.append(engine.cpu_action(2.0))
    run(done[1:], engine)
    backend, where = BACKENDS["docker"], engine.target()
    (back,) = backend.release(where, backend.read(where, engine.machine), done)
    assert (back.before, back.after) == ({"cpu_cores": 2}, {"cpu_cores": 3})
    (outcome,) = run([back], engine)
    assert outcome.state is ActionState.DONE
    assert backend.release(where, backend.read(where, engine.machine), [*done, back]) == []
    strangers = [replace(one, target={**one.target, "id": "other"}) for one in done]
    assert backend.release(where, backend.read(where, engine.machine), strangers) == [], (
        "a new container was never ours"
    )
    engine.running = False
    with pytest.raises(ActuatorError, match="is stopped"):
        backend.release(where, backend.read(where, engine.machine), done)
