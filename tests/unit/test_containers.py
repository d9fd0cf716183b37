"""Containers of both engines: what is asked of them, and what tells the weight that a kernel holds."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
from apply_parts import BACKENDS, CPU, FOLDER, HOST_MEMORY, ID, FakeEngine, MemoryJournal, golem_target, podman_api

from depin_orcha.actuators import advice, from_json, inverse, original, to_json
from depin_orcha.actuators._containers import Container
from depin_orcha.cgroups import Enforced, shares_of_weight, weight_of_shares
from depin_orcha.errors import ActuatorError
from depin_orcha.execute import execute
from depin_orcha.hands import Past, by_hand
from depin_orcha.types import ActionState, HttpCall, Resource

MEMORY = Resource.MEMORY_BYTES
MIB = 2**20
DOCKER, PODMAN = BACKENDS["docker"], BACKENDS["podman"]
UPDATE = f"/libpod/containers/{ID}/update"


def container(cores=None, memory=None, weight=None, shares=None, **fields):
    values = {
        "nano_cpus": 0,
        "cpu_quota_us": 0,
        "cpu_period_us": 0,
        "cpu_shares": 0,
        "memory_bytes": 0,
        "memory_swap_bytes": 0,
        "host_cpu_count": 4,
        "host_memory_bytes": HOST_MEMORY,
        "in_force": Enforced(cores, memory, 100 * MIB, "cpu file", "memory file", weight, "weight file", shares),
        "started_at": "2026-11-22T21:58:59.1Z",
    }
    return Container("/s", "golem", ID, **(values | fields))


def target(protocol="golem", **options):
    where = golem_target(runtime="podman", container="golem", **options)
    return replace(where, options=where.options.model_copy(update={"protocol": protocol}))


def podman(observed, grant, protocol="golem"):
    return PODMAN.actions(target(protocol), observed, grant, "plan 1")


def bodies(actions):
    calls = [(one.call, one.undo) for one in actions]
    assert {(call.method, call.path, undo.path) for call, undo in calls} == {("POST", UPDATE, UPDATE)}
    return [(call.body, undo.body) for call, undo in calls]


@pytest.mark.parametrize(
    ("observed", "cores", "sent", "undo"),
    [
        (container(), 1.5, (150_000, 100_000), (-1, 100_000)),
        (container(2.0, nano_cpus=2 * 10**9, cpu_quota_us=200_000, cpu_period_us=100_000), 0.25, (25_000, 100_000),
         (200_000, 100_000)),
        (container(None, cpu_period_us=50_000), 0.3, (15_000, 50_000), (-1, 50_000)),
        (container(0.5), 4, (-1, 100_000), (50_000, 100_000)),
    ],
)  # fmt: skip
def test_podman_is_told_quota_and_period_and_minus_one_to_lift(observed, cores, sent, undo):
    told = [{"cpu": {"quota": quota, "period": period}} for quota, period in (sent, undo)]
    assert bodies(podman(observed, {CPU: cores})) == [tuple(told)]


def test_podman_keeps_only_what_the_kernel_holds_so_nothing_else_counts():
    assert podman(container(0.3), {CPU: 0.3}) == []
    assert podman(container(in_force=None), {CPU: 0.3}) == []
    (action,) = podman(container(0.3, cpu_quota_us=50_000), {CPU: 0.5})
    assert action.before == {"cpu_cores": 0.3}


def test_an_odd_period_promises_only_what_the_kernel_can_hold():
    (action,) = podman(container(cpu_period_us=33_333), {CPU: 0.33})
    ((sent, _),) = bodies([action])
    assert action.after["cpu_cores"] == pytest.approx(sent["cpu"]["quota"] / 33_333, abs=1e-5)


@pytest.mark.parametrize(
    ("observed", "sent", "undo"),
    [
        (container(), (512, 512), (-1, -1)),
        (container(memory=256 * MIB, memory_bytes=256 * MIB, memory_swap_bytes=512 * MIB), (512, 768), (256, 512)),
        (container(memory=256 * MIB, memory_bytes=256 * MIB, memory_swap_bytes=-1), (512, -1), (256, -1)),
        # what a later version remembers of a limit that was lifted is no word of the owner about swap
        (container(memory_bytes=-1, memory_swap_bytes=-1), (512, 512), (-1, -1)),
    ],
)
def test_podman_is_told_memory_and_swap_together(observed, sent, undo):
    def told(limit, swap):
        return {"memory": {key: value * MIB if value > 0 else -1 for key, value in (("limit", limit), ("swap", swap))}}

    assert bodies(podman(observed, {MEMORY: 512 * MIB})) == [(told(*sent), told(*undo))]


@pytest.mark.parametrize(
    ("observed", "grant", "reason"),
    [
        (container(), {CPU: 4.01}, "0.01 to 4"),
        (container(cpu_period_us=5000), {CPU: 0.1}, "1 ms per period of 5000 us"),
        (container(), {MEMORY: HOST_MEMORY + MIB}, "6 MiB"),
        (container(), {MEMORY: 124 * MIB}, "1.25 times the 104857600 in use"),
    ],
)
def test_podman_s_guards_refuse_what_podman_would_take(observed, grant, reason):
    with pytest.raises(ActuatorError, match=reason):
        podman(observed, grant)


def test_podman_s_command_for_a_person_and_the_call_where_it_has_none():
    caps = podman(container(), {CPU: 1.5, MEMORY: 512 * MIB})
    weight = podman(container(weight=100, shares=1024), {CPU: 2}, "storj")
    assert [advice(one, BACKENDS) for one in caps + weight] == [
        "podman --url unix:///s update --cpu-quota 150000 --cpu-period 100000 golem",
        "podman --url unix:///s update --memory 536870912b --memory-swap 536870912b golem",
        "podman --url unix:///s update --cpu-shares 2048 golem",
    ]
    argv = shlex.split(advice(inverse(caps[0], "back"), BACKENDS))
    assert (argv[0], argv[-3:-1]) == ("curl", ["--unix-socket", "/s"])
    assert json.loads(argv[argv.index("-d") + 1]) == {"cpu": {"quota": -1, "period": 100_000}}


def test_the_start_of_a_container_is_part_of_who_it_is_for_podman_alone():
    older, newer = container(), container(started_at="2026-11-23T00:00:00Z")
    same_docker, same_podman = (
        [actuator.actions(target(), one, {CPU: 1}, "p")[0].target for one in (older, newer)]
        for actuator in (DOCKER, PODMAN)
    )
    assert same_docker[0] == same_docker[1]
    assert same_podman[0] != same_podman[1]


def test_what_outlived_a_start_is_still_ours_and_what_did_not_is_not():
    (action,) = podman(container(), {CPU: 1})
    later = "2026-11-23T00:00:00Z"
    (back,) = PODMAN.release(target(), container(1.0, started_at=later), [action])
    assert bodies([back])[0][0]["cpu"]["quota"] == -1
    for cores in (None, 1.5):
        assert PODMAN.release(target(), container(cores, started_at=later), [action]) == []
    (back,) = PODMAN.release(target(), container(1.5), [action])
    assert back.before == {"cpu_cores": 1.5}


@pytest.mark.parametrize(
    ("shares", "line", "curve"), [(2, 1, 1), (256, 10, 35), (1024, 39, 100), (262_144, 10_000, 10_000)]
)
def test_what_runtimes_make_of_shares(shares, line, curve):
    assert (weight_of_shares(shares, curve=False), weight_of_shares(shares, curve=True)) == (line, curve)


@pytest.mark.parametrize("curve", [False, True])
@pytest.mark.parametrize("weight", [1, 25, 100, 106, 1000, 10_000])
def test_a_weight_is_reached_whichever_way_a_runtime_goes(weight, curve):
    assert weight_of_shares(shares_of_weight(weight, curve=curve), curve=curve) == weight


@pytest.mark.parametrize("backend", [DOCKER, PODMAN])
@pytest.mark.parametrize(
    ("observed", "before", "cores", "after"),
    [
        (container(weight=100, shares=1024), 100, 0.5, 50),
        (container(weight=100, shares=1024), 100, 1.06, 1085 * 100 / 1024),
        (container(weight=100, shares=1024), None, 1.05, None),
        (container(weight=98, shares=1000), 97.65625, 2, 200),
        (container(weight=100), 100, 0.25, 25),
        (container(weight=39), 39, 0.25, 25),
        (container(), 100, 0.25, 25),
        (container(), 100, 100_000, 10_000),
        (container(), 100, 0.0001, 1),
        (container(weight=8, cpu_shares=200), 8, 0.25, 25),
        (container(weight=25, cpu_shares=shares_of_weight(25, curve=False)), None, 0.25, None),
    ],
)
def test_a_weight_where_there_is_no_cap(backend, observed, before, cores, after):
    found = backend.actions(target("storj"), observed, {CPU: cores, MEMORY: 5}, "plan 1")
    wanted = [] if after is None else [({"cpu_weight": before}, {"cpu_weight": after})]
    assert [(one.before, one.after) for one in found] == wanted


def test_docker_is_told_again_what_only_the_kernel_knows():
    (action,) = DOCKER.actions(target("storj"), container(weight=50, shares=512), {CPU: 0.5}, "plan 1")
    assert action.call == HttpCall("/s", "POST", f"/containers/{ID}/update", {"CpuShares": 512})
    assert podman(container(weight=50, shares=512), {CPU: 0.5}, "storj") == []


def test_a_weight_of_ours_is_told_from_a_person_s():
    (first,) = podman(container(weight=100), {CPU: 0.25}, "storj")
    past = [Past(1, "p", ActionState.DONE, "", first)]
    (second,) = podman(container(weight=25), {CPU: 2}, "storj")
    assert by_hand(second, past) is None
    assert original([first, second]) == {"cpu_weight": 100}
    (third,) = podman(container(weight=60), {CPU: 2}, "storj")
    assert by_hand(third, past) == "changed by hand: cpu_weight is 60, and we had set 25"
    assert original([first, third]) == {"cpu_weight": 60}
    assert from_json(to_json(third)) == third
    (back,) = PODMAN.release(target("storj"), container(weight=200), [first, second])
    assert bodies([back])[0][0] == {"cpu": {"shares": shares_of_weight(100, curve=False)}}
    assert PODMAN.release(target("storj"), container(weight=100), [first, second]) == []


def test_what_weights_amount_to():
    (first,) = podman(container(), {CPU: 0.25}, "storj")
    assert PODMAN.grant([first]) == {CPU: 0.25}
    assert PODMAN.grant([first, inverse(first, "back")]) == {}
    (cap,) = podman(container(), {CPU: 2})
    assert PODMAN.grant([first, cap]) == {CPU: 2}


@pytest.mark.parametrize(
    ("told", "curve"),
    [
        (("runc", "1.1.12"), False),
        (("runc", "1.3.1"), False),
        (("runc", "1.3.2"), True),
        (("runc", "1.4.0-rc.1"), True),
        (("OCI Runtime (crun)", "crun version 1.14.1\nspec: 1.0.0"), False),
        (("OCI Runtime (crun)", "crun version 1.23\nspec: 1.0.0"), True),
        (None, False),
    ],
)
def test_a_kernel_of_version_2_holds_what_was_meant_and_then_what_was_before(tmp_path, told, curve):
    """The weight of a container that nobody touched is 100, whatever its runtime makes of 1024 shares."""
    with Converting(tmp_path, told, curve=curve) as engine:
        (first,) = engine.wanted(2)
        (second,) = engine.wanted(2)
        assert (first.before, first.after, second) == ({"cpu_weight": 100}, {"cpu_weight": 200}, first)
        assert (engine.run(first), engine.weight) == (ActionState.DONE, 200)
        assert engine.wanted(2) == []
        (back,) = DOCKER.release(engine.storj(), engine.read(), [first])
        assert (engine.run(back), engine.weight) == (ActionState.DONE, 100)
        assert DOCKER.release(engine.storj(), engine.read(), [first, back]) == []
        assert len(engine.asked) == 2, "no try was lost"


GUESSED = pytest.mark.parametrize(("told", "curve"), [("1.1.12", True), ("1.4.0", False)])


@GUESSED
@pytest.mark.parametrize("cores", [0.25, 1.3, 4])
def test_a_runtime_that_goes_the_other_way_is_found_out_at_once(tmp_path, told, curve, cores):
    """Else what it made of the first try would count as the owner's, and come back with a release."""
    with Converting(tmp_path, ("runc", told), curve=curve) as engine:
        (first,) = engine.wanted(cores)
        assert from_json(to_json(first)) == first
        assert (engine.run(first), engine.weight) == (ActionState.DONE, round(cores * 100))
        assert engine.wanted(cores) == []
        (back,) = DOCKER.release(engine.storj(), engine.read(), [first])
        assert (engine.run(back), engine.weight) == (ActionState.DONE, 100)
        assert len(engine.asked) == 3, "what it did tells how it goes"


@GUESSED
def test_what_no_shares_make_is_put_back_whichever_way_the_runtime_goes(tmp_path, told, curve):
    with Converting(tmp_path, ("runc", told), curve=curve) as engine:
        (action,) = engine.wanted(2)
        engine.never = 200
        assert (engine.run(action), engine.weight) == (ActionState.UNDONE, 100)


def test_a_runtime_that_is_replaced_under_a_container_that_runs(tmp_path):
    with Converting(tmp_path, ("runc", "1.3.1"), curve=False) as engine:
        (first,) = engine.wanted(0.5)
        engine.run(first)
        engine.curve = True
        (second,) = engine.wanted(2)
        assert (engine.run(second), engine.weight) == (ActionState.DONE, 200)
        engine.curve = False
        (back,) = DOCKER.release(engine.storj(), engine.read(), [first, second])
        assert (engine.run(back), engine.weight) == (ActionState.DONE, 100)


def test_a_request_that_was_not_taken_says_nothing_about_the_runtime(tmp_path):
    with Converting(tmp_path, ("runc", "1.1.12"), curve=False) as engine:
        (action,) = engine.wanted(0.5)
        engine.busy = True
        assert (engine.run(action), engine.weight) == (ActionState.DONE, 50)
        assert isinstance(action.call, HttpCall)
        assert engine.asked == [action.call.body["CpuShares"]]


def test_a_container_that_nobody_touched_and_that_gets_one_core_is_left_alone(tmp_path):
    with Converting(tmp_path, ("runc", "1.1.12"), curve=False) as engine:
        assert engine.wanted(1) == []
        engine.host["CpuShares"] = 300
        (action,) = engine.wanted(1)
        assert action.before == action.after == {"cpu_weight": 100}, "the next start would make 12 of it"
        assert (engine.run(action), engine.weight) == (ActionState.DONE, 100)


def test_podman_is_told_by_the_other_way_too(tmp_path):
    """It never describes what was set, so its runtime shows nothing but by what it does."""
    with Converting(tmp_path, None, curve=True) as engine:
        engine.api = podman_api("4.3.1")
        where = replace(engine.storj("podman"), podman_socket=engine.server.socket)
        done = []
        for cores in (2, 0.5):
            done += PODMAN.actions(where, PODMAN.read(where, engine.machine), {CPU: cores}, "plan 1")
            assert (engine.run(done[-1]), engine.weight) == (ActionState.DONE, cores * 100)
        (back,) = PODMAN.release(where, PODMAN.read(where, engine.machine), done)
        assert (engine.run(back), engine.weight) == (ActionState.DONE, 100)


class Converting(FakeEngine):
    """An engine of version 2 whose runtime makes a weight of shares by the line or by the curve."""

    def __init__(self, folder, told, *, curve):
        super().__init__(folder)
        self.curve, self.busy, self.asked = curve, False, []
        self.never: int | None = None
        self.machine.write(f"{FOLDER}/cpu.weight", "100\n")
        self.on_update = self.convert
        if told is not None:
            self.api["Components"].append({"Name": told[0], "Version": told[1]})

    def convert(self, body):
        if self.busy:
            self.busy = False
            return 500, {"message": "try again"}
        if "CpuShares" in body:
            self.host.update(body)
        shares = body["CpuShares"] if "CpuShares" in body else body["cpu"]["shares"]
        self.asked.append(shares)
        weight = weight_of_shares(shares, curve=self.curve)
        self.machine.write(f"{FOLDER}/cpu.weight", f"{weight + (weight == self.never)}\n")
        return 200, {"Warnings": []}

    @property
    def weight(self):
        return int(self.machine.text(f"{FOLDER}/cpu.weight") or 0)

    def storj(self, runtime="docker"):
        return replace(self.target(), options=target("storj").options.model_copy(update={"runtime": runtime}))

    def read(self):
        return DOCKER.read(self.storj(), self.machine)

    def wanted(self, cores):
        return DOCKER.actions(self.storj(), self.read(), {CPU: cores}, "plan 1")

    def run(self, action):
        return execute({0: action}, MemoryJournal(), BACKENDS, self.machine, 0.2)[0].state
