"""Golem's cap through a real ``ya-provider`` process (a stand-in with the traps of the real one) and its real files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apply_parts import MemoryJournal, golem_target

from depin_orcha.actuators import actuators, advice, golem, observe, release, route
from depin_orcha.errors import ActuatorError, AdapterError, FailureKind
from depin_orcha.execute import execute, recover
from depin_orcha.outside import Outside
from depin_orcha.types import ActionState, Resource, RunCommand

PROVIDER = Path(__file__).parents[1] / "bin" / "ya-provider"
CPU, MEMORY, STORAGE = Resource.CPU_CORES, Resource.MEMORY_BYTES, Resource.STORAGE_BYTES
OPERATOR = {"cpu_threads": 7, "mem_gib": 21.31, "storage_gib": 157.57}
GIB = 2**30


class Provider:
    """A provider's folder of files, the command on it, and the offers that its agent makes from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.command = ("env", f"DATA_DIR={folder}", sys.executable, "-IS", str(PROVIDER))
        folder.mkdir(exist_ok=True)
        self.hardware_file.write_text(json.dumps({"active": "default", "profiles": {"default": OPERATOR}}, indent=2))
        self.cap = {"cpu_threads": 16, "mem_gib": 64.0, "storage_gib": 120.0}
        self.offer_age_s = 0

    @property
    def hardware_file(self) -> Path:
        return self.folder / "hardware.json"

    @property
    def hardware(self):
        return json.loads(self.hardware_file.read_text())

    def run(self, *words):
        return subprocess.run([*self.command, *words], capture_output=True, text=True, check=False)

    def offers(self, _node):
        found = self.hardware
        in_force = {key: min(value, self.cap[key]) for key, value in found["profiles"][found["active"]].items()}
        presets = json.loads(self.run("--json", "preset", "list").stdout)
        active = json.loads(self.run("--json", "preset", "active").stdout)
        made = datetime.now(UTC) - timedelta(seconds=self.offer_age_s)
        return [
            {
                "offerId": preset["name"],
                "timestamp": made.strftime("%Y-%m-%dT%H:%M:%S.%f") + "715Z",
                "properties": {
                    "golem.runtime.name": preset["exeunit-name"],
                    "golem.inf.cpu.threads": in_force["cpu_threads"],
                    "golem.inf.mem.gib": in_force["mem_gib"],
                    "golem.inf.storage.gib": in_force["storage_gib"],
                },
            }
            for preset in presets
            if preset["name"] in active
        ]


@pytest.fixture
def provider(tmp_path):
    return Provider(tmp_path / "ya-provider")


@pytest.fixture
def world():
    with Outside() as made:
        yield made


def target(provider, **options):
    return golem_target(provider_command=provider.command, **options)


def plan(provider, world, grant, backends=None, **options):
    backends = backends or actuators()
    where = target(provider, **options)
    return list(route(where, observe(where, world, backends), grant, "plan 1", backends, busy=None).actions)


def do(actions, world, backends=None, journal=None):
    return execute(dict(enumerate(actions, 1)), journal or MemoryJournal(), backends or actuators(), world, 0.3)


def states(outcomes):
    return [str(outcome.state) for outcome in outcomes]


def test_a_cap_is_written_to_a_profile_of_our_own_and_the_second_time_there_is_nothing_to_do(provider, world):
    actions = plan(provider, world, {CPU: 4})
    calls = [one.call for one in actions if isinstance(one.call, RunCommand)]
    assert [call.argv[len(provider.command) :] for call in calls] == [
        (
            "profile", "create", "depin-orcha",
            "--cpu-threads", "4", "--mem-gib", "21.31", "--storage-gib", "157.57",
        ),
        ("profile", "activate", "depin-orcha"),
    ]  # fmt: skip
    assert provider.hardware["active"] == "default", "deciding writes nothing"
    outcomes = do(actions, world)
    assert states(outcomes) == ["done", "done"]
    assert outcomes[1].detail == ("active profile depin-orcha: 4 cpu_threads, 21.31 mem_gib, 157.57 storage_gib")
    assert provider.hardware == {
        "active": "depin-orcha",
        "profiles": {"default": OPERATOR, "depin-orcha": {**OPERATOR, "cpu_threads": 4}},
    }
    assert plan(provider, world, {CPU: 4}) == []


def test_a_later_cap_is_one_update_with_all_three_values(provider, world):
    do(plan(provider, world, {CPU: 4}), world)
    (update,) = plan(provider, world, {CPU: 2, MEMORY: 8 * GIB, STORAGE: 50.006 * GIB})
    assert update.before == {"active": "depin-orcha", **OPERATOR, "cpu_threads": 4}
    assert states(do([update], world)) == ["done"]
    assert provider.hardware["profiles"] == {
        "default": OPERATOR,
        "depin-orcha": {"cpu_threads": 2, "mem_gib": 8.0, "storage_gib": 50.0},
    }
    assert advice(update, actuators()).endswith(
        "ya-provider profile update --name depin-orcha --cpu-threads 2 --mem-gib 8.0 --storage-gib 50.0"
    )


def test_a_grant_that_the_operator_s_profile_already_gives_changes_nothing(provider, world):
    assert plan(provider, world, {CPU: 7.0000001, MEMORY: 21.312 * GIB}) == []


def test_release_activates_the_operator_s_profile(provider, world):
    done = plan(provider, world, {CPU: 4})
    do(done, world)
    later = plan(provider, world, {CPU: 2})
    do(later, world)
    backends, where = actuators(), target(provider)
    back = release(where, observe(where, world, backends), [*done, *later], backends)
    assert states(do(back, world)) == ["done"]
    assert provider.hardware["active"] == "default"
    assert provider.hardware["profiles"]["default"] == OPERATOR
    assert release(where, observe(where, world, backends), [*done, *later, *back], backends) == []
    assert states(do(plan(provider, world, {CPU: 2}), world)) == ["done"], "the profile is still there to activate"
    with pytest.raises(ActuatorError, match="none is on record"):
        release(where, observe(where, world, backends), [], backends)


def test_a_profile_that_a_person_activated_since_is_what_release_puts_back(provider, world):
    done = plan(provider, world, {CPU: 4})
    do(done, world)
    provider.run("profile", "create", "big", "--cpu-threads=6", "--mem-gib=9", "--storage-gib=9")
    provider.run("profile", "activate", "big")
    again = plan(provider, world, {CPU: 5})
    do(again, world)
    backends, where = actuators(), target(provider)
    (back,) = release(where, observe(where, world, backends), [*done, *again], backends)
    assert back.after["active"] == "big"


@pytest.mark.parametrize(
    ("grant", "kind", "reason"),
    [
        ({CPU: 8}, FailureKind.DATA, "of 8 CPUs one stays free"),
        ({CPU: 2.5}, FailureKind.DATA, "takes whole ones"),
        ({CPU: -1}, FailureKind.DATA, "one stays free"),
        ({CPU: 4, MEMORY: 0.05 * GIB}, FailureKind.DATA, "at least 0.1"),
        ({STORAGE: 0}, FailureKind.DATA, "at least 0.1"),
    ],
)
def test_a_guard_refuses_and_never_bends_the_grant(provider, world, grant, kind, reason):
    with pytest.raises(ActuatorError, match=reason) as caught:
        plan(provider, world, grant)
    assert caught.value.kind is kind
    assert not (provider.folder / "hardware.json.swp").exists()
    assert provider.hardware["active"] == "default"


def test_live_offers_prove_the_cap(provider, world):
    backends = actuators(provider.offers)
    outcomes = do(plan(provider, world, {CPU: 4}), world, backends)
    assert states(outcomes) == ["done", "done"]
    assert outcomes[1].detail.endswith("; vm offers 4 cpu_threads")


def test_a_newer_offer_of_less_is_the_agent_s_own_cap_and_on_record(provider, world):
    provider.cap["cpu_threads"] = 3
    provider.offer_age_s = -1
    outcomes = do(plan(provider, world, {CPU: 4}), world, actuators(provider.offers))
    assert states(outcomes) == ["done", "done"]
    assert outcomes[1].detail.endswith("; vm offers 3 cpu_threads")


def test_an_offer_that_did_not_follow_takes_everything_back(provider, world):
    stale = provider.offers("golem_1")
    journal = MemoryJournal()
    outcomes = do(plan(provider, world, {CPU: 4}), world, actuators(lambda _: stale), journal)
    assert states(outcomes) == ["undone", "undone"]
    assert "the live offer of vm says 7 cpu_threads, not 4" in outcomes[1].detail
    assert provider.hardware == {"active": "default", "profiles": {"default": OPERATOR}}
    assert journal.entries == [
        (1, "running"),
        (1, "done"),
        (2, "running"),
        (2, "undone"),
        (1, "running"),
        (1, "undone"),
    ]


def test_an_old_offer_of_less_is_no_proof_of_more(provider, world):
    do(plan(provider, world, {CPU: 2}), world)
    stale = provider.offers("golem_1")
    (outcome,) = do(plan(provider, world, {CPU: 4}), world, actuators(lambda _: stale))
    assert outcome.state is ActionState.UNDONE
    assert "the live offer of vm says 2 cpu_threads, not 4" in outcome.detail
    assert provider.hardware["profiles"]["depin-orcha"]["cpu_threads"] == 2


@pytest.mark.parametrize("answer", ["missing", "unreachable", "garbage"])
def test_offers_that_prove_nothing_leave_the_operator_s_profile_active(provider, world, answer):
    def offers(_):
        if answer == "unreachable":
            raise AdapterError(FailureKind.TRANSIENT, "cannot reach http://127.0.0.1:7465")
        return [] if answer == "missing" else [{"properties": {}, "timestamp": "yesterday"}]

    last = do(plan(provider, world, {CPU: 4}), world, actuators(offers))[-1]
    assert last.state is ActionState.FAILED
    assert "needs attention" in last.detail, "not even the old value could be proven"
    assert provider.hardware["active"] == "default"


def test_a_paused_provider_offers_nothing_and_is_set_all_the_same(provider, world):
    provider.run("preset", "deactivate", "vm")
    outcomes = do(plan(provider, world, {CPU: 4}), world, actuators(provider.offers))
    assert states(outcomes) == ["done", "done"]
    assert outcomes[1].detail.endswith("no preset is active, so nothing is offered")


def test_without_threads_it_rests_and_comes_back_with_the_same_presets(provider, world):
    provider.run("preset", "activate", "wasmtime")
    backends = actuators(provider.offers)
    actions = plan(provider, world, {CPU: 0}, backends)
    assert [one.after for one in actions] == [{"preset vm": False}, {"preset wasmtime": False}]
    assert advice(actions[0], backends).endswith("preset deactivate vm")
    outcomes = do(actions, world, backends)
    assert states(outcomes) == ["done", "done"]
    assert outcomes[0].detail == "active presets: wasmtime; wasmtime is offered"
    assert outcomes[1].detail == "active presets: none; nothing is offered"
    assert plan(provider, world, {CPU: 0}, backends) == []
    assert golem.rested(actions) == ("vm", "wasmtime")
    assert backends["golem"].grant(actions) == {CPU: 0}
    assert provider.hardware["active"] == "default", "a rest needs no profile"

    back = replace(target(provider), rested=golem.rested(actions))
    again = route(back, observe(back, world, backends), {CPU: 4}, "plan 2", backends, busy=False).actions
    assert [one.after for one in again[-2:]] == [{"preset vm": True}, {"preset wasmtime": True}]
    assert states(do(again, world, backends)) == ["done"] * 4
    assert [offer["properties"]["golem.inf.cpu.threads"] for offer in provider.offers("")] == [4, 4]
    assert golem.rested([*actions, *again]) == ()


def test_a_preset_that_its_owner_deactivated_stays_so(provider, world):
    provider.run("preset", "deactivate", "vm")
    assert plan(provider, world, {CPU: 0}) == []
    assert not any("preset" in action.target for action in plan(provider, world, {CPU: 4}))


def test_a_rest_is_taken_back_by_release(provider, world):
    backends = actuators(provider.offers)
    actions = plan(provider, world, {CPU: 0}, backends)
    do(actions, world, backends)
    where = target(provider)
    (put_back,) = release(where, observe(where, world, backends), actions, backends)
    assert put_back.after == {"preset vm": True}
    assert states(do([put_back], world, backends)) == ["done"]
    assert release(where, observe(where, world, backends), [*actions, put_back], backends) == []


def test_offers_that_stay_are_no_rest(provider, world):
    stale = provider.offers("")
    (outcome,) = do(plan(provider, world, {CPU: 0}), world, actuators(lambda _: stale))
    assert outcome.state is ActionState.UNDONE
    assert "runtime vm is still offered" in outcome.detail
    assert json.loads(provider.run("--json", "preset", "active").stdout) == ["vm"]


def test_a_provider_that_accepts_and_does_nothing_is_found_out(provider, world, tmp_path):
    liar = tmp_path / "liar"
    liar.write_text(f'#!/bin/sh\ncase "$*" in *activate*) exit 0;; esac\nexec {sys.executable} {PROVIDER} "$@"\n')
    liar.chmod(0o755)
    provider.command = ("env", f"DATA_DIR={provider.folder}", str(liar))
    outcomes = do(plan(provider, world, {CPU: 4}), world)
    assert states(outcomes) == ["undone", "failed"]
    assert "accepted, but not in force (active profile default" in outcomes[1].detail
    assert provider.hardware == {"active": "default", "profiles": {"default": OPERATOR}}


def test_an_interrupted_step_ends_as_what_stands_in_the_files(provider, world):
    create, activate = plan(provider, world, {CPU: 4})
    world.act(create.call)
    journal = MemoryJournal()
    outcomes = recover({1: create, 2: activate}, journal, actuators(), world, 0.1)
    assert states(outcomes) == ["done", "failed"]
    assert [outcome.failure for outcome in outcomes] == [None, None]
    assert journal.details[2].startswith("interrupted before anything changed")
    (resumed,) = plan(provider, world, {CPU: 4})
    assert resumed == activate


def test_an_interrupted_step_that_the_offers_do_not_show_needs_attention(provider, world):
    stale = provider.offers("golem_1")
    create, activate = plan(provider, world, {CPU: 4})
    world.act(create.call)
    world.act(activate.call)
    (outcome,) = recover({2: activate}, MemoryJournal(), actuators(lambda _: stale), world, 0.1)
    assert outcome.state is ActionState.FAILED
    assert outcome.failure is not None
    assert "needs attention" in outcome.detail


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("{", FailureKind.TRANSIENT),
        ('{"active": "gone", "profiles": {}}', FailureKind.TRANSIENT),
        ('{"active": "default", "profiles": {"default": {"cpu_threads": 3}}}', FailureKind.SHAPE),
        (
            '{"active": "default", "profiles": {"default": {"cpu_threads": "3", "mem_gib": 1, "storage_gib": 1}}}',
            FailureKind.SHAPE,
        ),
    ],
)
def test_files_that_cannot_be_understood_are_left_alone(provider, world, content, kind):
    provider.hardware_file.write_text(content)
    with pytest.raises(ActuatorError) as caught:
        plan(provider, world, {CPU: 4})
    assert caught.value.kind is kind
    assert caught.value.hint
    assert provider.hardware_file.read_text() == content


def test_a_program_that_is_not_ya_provider_is_named(provider, world):
    provider.command = ("echo", "hello")
    with pytest.raises(ActuatorError, match="`echo hello profile list` answers in an unknown form") as caught:
        plan(provider, world, {CPU: 4})
    assert caught.value.kind is FailureKind.SHAPE
    provider.command = (str(provider.folder / "absent"),)
    with pytest.raises(ActuatorError, match="there is no program") as caught:
        plan(provider, world, {CPU: 4})
    assert caught.value.kind is FailureKind.CONFIG


def test_the_stand_in_keeps_the_traps_of_the_real_one(provider):
    before = provider.hardware
    assert provider.run("profile", "update", "--all", "--cpu-threads", "1").returncode == 0
    assert provider.hardware == before, "--all silently changes nothing"
    three = ("--cpu-threads", "1", "--mem-gib", "1", "--storage-gib", "1")
    assert provider.run("profile", "create", "default", *three).returncode == 1
    assert provider.run("profile", "create", "x", "--cpu-threads", "1").returncode == 1
    assert provider.run("profile", "remove", "default").returncode == 1
    assert provider.run("profile", "update", "--name", "default", "--cpu-threads", "0").returncode == 0
    assert provider.hardware["profiles"]["default"] == {**OPERATOR, "cpu_threads": 0}, "nothing is validated"
    assert provider.run("preset", "deactivate", "wasmtime").returncode == 1
    price = ("--no-interactive", "--name", "vm", "--price", "CPU=1e-5")
    assert provider.run("--json", "preset", "update", *price).returncode == 1
    assert provider.run("preset", "update", *price).returncode == 0
    vm = json.loads(provider.run("preset", "list", "--json").stdout)[0]
    assert vm["usage-coeffs"]["golem.usage.cpu_sec"] == 1e-5
