"""Limits on containers of a real Podman, proven in the kernel's own files and by what the container can do."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import replace

import pytest
from apply_parts import MemoryJournal, golem_target, plan_of
from ledger_parts import opened
from operator_parts import Place
from real.golem_owner import golem_owner
from real.golem_owner import plan as plan_of_golem
from real.namespace import unavailable
from real.podman_engine import PodmanEngine

from depin_orcha.actuators import TargetGoneError, actuators, advice
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.execute import execute, recover
from depin_orcha.outside import Outside
from depin_orcha.types import ActionState, HttpCall, Resource

pytestmark = pytest.mark.real
CPU, MEMORY = Resource.CPU_CORES, Resource.MEMORY_BYTES
MIB = 2**20
WAIT = 'while [ -z "$go" ]; do /bin/busybox sleep 0.1; done'
ALLOCATE = "x=$(/bin/busybox head -c 67108864 /dev/zero | /bin/busybox tr '\\0' x)"
ALLOCATES_WHEN_TOLD = f"trap go=1 USR1; {WAIT}; {ALLOCATE}; while :; do /bin/busybox sleep 0.1; done"
BACKENDS = actuators()
PODMAN = BACKENDS["podman"]


@pytest.fixture(scope="module")
def engine():
    with PodmanEngine() as running:
        yield running


@pytest.fixture
def world():
    with Outside() as made:
        yield made


@pytest.fixture
def name(engine, request):
    made = request.node.originalname.removeprefix("test_")[:40]
    yield made
    engine.remove(made)


def target(engine, name, protocol="golem"):
    where = golem_target(socket=engine.socket, runtime="podman", container=name)
    return replace(where, options=where.options.model_copy(update={"protocol": protocol}))


def plan(engine, world, name, grant, **options):
    where = target(engine, name, **options)
    return PODMAN.actions(where, PODMAN.read(where, world), grant, "plan 1")


def do(actions, world):
    return execute(dict(enumerate(actions, 1)), MemoryJournal(), BACKENDS, world)


def typed(engine, command):
    """What a person types in a shell."""
    subprocess.run(command, shell=True, env=engine.environment, check=True, capture_output=True)


def states(outcomes):
    return [str(outcome.state) for outcome in outcomes]


def back(engine, world, name, done):
    where = target(engine, name)
    return PODMAN.release(where, PODMAN.read(where, world), done)


def test_a_cpu_limit_is_kept_to_and_lifted(engine, world, name):
    engine.run(name)
    assert engine.cpu_quota_us(name) == -1
    done = plan(engine, world, name, {CPU: 0.25})
    (outcome,) = do(done, world)
    assert (outcome.state, outcome.changed) == (ActionState.DONE, True)
    assert "25000" in outcome.detail
    measured = [engine.cores_used(name, 4)]
    while min(measured) < 0.2375 and len(measured) < 3:  # others use this machine too
        measured.append(engine.cores_used(name, 4))
    assert max(measured) == pytest.approx(0.25, rel=0.05), measured
    assert plan(engine, world, name, {CPU: 0.25}) == []

    lifting = back(engine, world, name, done)
    assert states(do(lifting, world)) == ["done"]
    assert engine.cpu_quota_us(name) == -1, "as 0 would leave the limit alone"
    assert engine.cores_used(name, 1) > 0.3
    assert back(engine, world, name, [*done, *lifting]) == []


def test_zero_lifts_nothing_as_the_naive_call_would_have_it(engine, world, name):
    engine.run(name)
    (action,) = plan(engine, world, name, {CPU: 0.25})
    do([action], world)
    world.act(replace(action.call, body={"cpu": {"quota": 0, "period": 100_000}}))
    assert engine.cpu_quota_us(name) == 25_000


def test_a_start_forgets_the_limit_which_is_set_again_and_is_nobody_s_hand(engine, world, name):
    engine.run(name)
    done = plan(engine, world, name, {CPU: 0.25, MEMORY: 64 * MIB})
    assert states(do(done, world)) == ["done", "done"]
    engine.restart(name)
    assert engine.cpu_quota_us(name) == -1, "Podman 4.3 keeps it in the kernel alone"
    assert back(engine, world, name, done) == [], "nothing of ours is left"
    again = plan(engine, world, name, {CPU: 0.25, MEMORY: 64 * MIB})
    assert [one.after for one in again] == [one.after for one in done]
    assert {one.target["id"] for one in again} == {one.target["id"] for one in done}
    assert all(one.target != other.target for one, other in zip(again, done, strict=True))
    assert states(do(again, world)) == ["done", "done"]
    assert (engine.cpu_quota_us(name), engine.memory_limit_bytes(name)) == (25_000, 64 * MIB)
    assert states(do(back(engine, world, name, [*done, *again]), world)) == ["done", "done"]
    assert engine.cpu_quota_us(name) == -1
    assert engine.memory_limit_bytes(name) > 2**60


def test_what_a_person_set_after_a_start_is_not_ours_to_release(engine, world, name):
    engine.run(name)
    done = plan(engine, world, name, {CPU: 0.25})
    do(done, world)
    engine.restart(name)
    typed(engine, f"podman --url unix://{engine.socket} update --cpus 1.5 {name}")
    assert engine.cpu_quota_us(name) == 150_000
    assert back(engine, world, name, done) == []


def test_a_container_made_anew_is_limited_again(engine, world, name):
    engine.run(name)
    old = plan(engine, world, name, {CPU: 0.5})
    do(old, world)
    engine.remove(name)
    engine.run(name)
    assert engine.cpu_quota_us(name) == -1
    with pytest.raises(TargetGoneError, match="no such container"):
        world.act(old[0].call)
    assert back(engine, world, name, old) == []
    assert states(do(plan(engine, world, name, {CPU: 0.5}), world)) == ["done"]
    assert engine.cpu_quota_us(name) == 50_000


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({"CpuQuota": 50_000}, 30_000),
        ({"CpuPeriod": 50_000}, 15_000),
        ({"CpuPeriod": 50_000, "CpuQuota": 40_000}, 15_000),
        ({"NanoCpus": 1_000_000_000}, 30_000),
    ],
)
def test_whatever_the_container_was_made_with(engine, world, name, host, expected):
    engine.run(name, **host)
    before = engine.cpu_quota_us(name)
    done = plan(engine, world, name, {CPU: 0.3})
    assert states(do(done, world)) == ["done"]
    assert engine.cpu_quota_us(name) == expected
    assert states(do(back(engine, world, name, done), world)) == ["done"]
    assert engine.cpu_quota_us(name) == before
    engine.restart(name)
    assert engine.cpu_quota_us(name) == before


def test_more_memory_than_the_limit_is_refused_by_the_kernel(engine, world, name):
    """And not swapped: the limit alone would leave swap as it is, without any."""
    engine.run(name, ALLOCATES_WHEN_TOLD)
    done = plan(engine, world, name, {MEMORY: 16 * MIB})
    assert states(do(done, world)) == ["done"]
    assert engine.swap_bytes(name) == 0
    more = plan(engine, world, name, {MEMORY: 32 * MIB})
    assert states(do(more, world)) == ["done"], "above what limit and swap were before"
    assert engine.memory_limit_bytes(name) == 32 * MIB
    engine.signal(name, "USR1")
    ended = _ended(engine, name, 20)
    assert (ended["Running"], ended["ExitCode"]) == (False, 137)


def test_what_is_lifted_may_be_used(engine, world, name):
    engine.run(name, ALLOCATES_WHEN_TOLD)
    done = plan(engine, world, name, {MEMORY: 16 * MIB})
    do(done, world)
    assert states(do(back(engine, world, name, done), world)) == ["done"]
    assert engine.memory_limit_bytes(name) > 2**60
    engine.signal(name, "USR1")
    ends = time.monotonic() + 20
    while PODMAN.read(target(engine, name), world).in_force.memory_used_bytes < 64 * MIB:
        assert time.monotonic() < ends
        time.sleep(0.1)
    with pytest.raises(ActuatorError, match=r"less than 1\.25 times"):
        plan(engine, world, name, {MEMORY: 64 * MIB})


def test_the_owner_s_memory_and_swap_come_back(engine, world, name):
    engine.run(name, WAIT, Memory=64 * MIB, MemorySwap=96 * MIB)
    done = plan(engine, world, name, {MEMORY: 128 * MIB})
    assert states(do(done, world)) == ["done"]
    assert engine.swap_bytes(name) == 32 * MIB
    assert states(do(back(engine, world, name, done), world)) == ["done"]
    assert engine.memory_limit_bytes(name) == 64 * MIB
    assert engine.swap_bytes(name) == 32 * MIB


def test_what_podman_refuses_changes_nothing(engine, world, name):
    engine.run(name)
    (action,) = plan(engine, world, name, {CPU: 0.5})
    for body in ({"cpu": {"quota": 999, "period": 100_000}}, {"memory": {"limit": 4096, "swap": 4096}}):
        (outcome,) = do([replace(action, call=replace(action.call, body=body))], world)
        assert (outcome.state, outcome.changed) == (ActionState.FAILED, False)
        assert "runc update" in outcome.detail
    assert engine.cpu_quota_us(name) == -1
    with pytest.raises(TargetGoneError, match="no such container"):
        PODMAN.read(target(engine, "nobody"), world)


def test_a_node_that_may_not_starve_gets_a_weight_until_the_next_start(engine, world, name):
    engine.run(name, CpuShares=300)
    before = engine.cpu_weight(name)
    weight = 300 * 100 / 1024 if before == 300 else before  # version 2 holds a weight
    done = plan(engine, world, name, {CPU: 2, MEMORY: 64 * MIB}, protocol="storj")
    assert [(one.before, one.after) for one in done] == [({"cpu_weight": weight}, {"cpu_weight": 200})]
    (outcome,) = do(done, world)
    expected = engine.cpu_weight(name)
    assert str(outcome.state) == "done"
    assert expected in (2048, 200), "shares of version 1, or the weight of version 2"
    assert outcome.detail.endswith(f" = {expected}")
    assert (engine.cpu_quota_us(name), engine.memory_limit_bytes(name) > 2**60) == (-1, True), "no caps"
    assert plan(engine, world, name, {CPU: 1.92}, protocol="storj") == [], "a step of 5 % is none"
    engine.restart(name)
    assert engine.cpu_weight(name) == before
    again = plan(engine, world, name, {CPU: 2}, protocol="storj")
    assert states(do(again, world)) == ["done"]
    assert states(do(back(engine, world, name, [*done, *again]), world)) == ["done"]
    assert engine.cpu_weight(name) == before
    typed(engine, advice(again[0], BACKENDS))
    assert engine.cpu_weight(name) >= expected, "the command is the first try, which a newer runtime makes more of"


def test_the_command_for_a_person_does_the_same(engine, world, name):
    engine.run(name)
    done = plan(engine, world, name, {CPU: 0.25, MEMORY: 64 * MIB})
    for one in done:
        typed(engine, advice(one, BACKENDS))
    assert (engine.cpu_quota_us(name), engine.memory_limit_bytes(name)) == (25_000, 64 * MIB)
    assert plan(engine, world, name, {CPU: 0.25, MEMORY: 64 * MIB}) == []
    if shutil.which("curl") is None:
        unavailable("lifting a limit by hand needs curl")
    for one in back(engine, world, name, done):
        typed(engine, advice(one, BACKENDS))
    assert engine.cpu_quota_us(name) == -1
    assert engine.memory_limit_bytes(name) > 2**60


def test_limits_in_docker_s_words_are_refused_by_name(engine, world, name):
    identity = engine.run(name)
    with pytest.raises(ActuatorError, match="cannot change the limits of a running container") as caught:
        BACKENDS["docker"].read(target(engine, name), world)
    assert caught.value.kind is FailureKind.UNSUPPORTED
    with pytest.raises(ActuatorError, match="404") as caught:
        world.act(HttpCall(engine.socket, "POST", f"/containers/{identity}/update", {"NanoCpus": 10**9}))
    assert caught.value.kind is FailureKind.UNSUPPORTED


def test_a_stopped_container_is_left_alone_and_never_started(engine, world, name):
    engine.run(name)
    (action,) = plan(engine, world, name, {CPU: 0.5})
    do([action], world)
    engine.stop(name)
    assert plan(engine, world, name, {CPU: 0.3}) == []
    with pytest.raises(ActuatorError, match="is stopped"):
        back(engine, world, name, [action])
    (outcome,) = recover({1: action}, MemoryJournal(), BACKENDS, world, 0.1)
    assert outcome.state is ActionState.RUNNING
    assert engine.state(name)["Running"] is False


def _ended(engine, name, timeout_s):
    ends = time.monotonic() + timeout_s
    while (state := engine.state(name))["Running"] and time.monotonic() < ends:
        time.sleep(0.1)
    return state


@pytest.fixture
def owner(tmp_path, engine):
    engine.run("golem")
    with golem_owner(tmp_path, "podman", engine.socket) as made:
        yield made
    engine.remove("golem")


def kinds_and_states(done):
    return [(action["kind"], action["state"]) for action in done["actions"]]


def test_a_stored_plan_reaches_the_kernel_again_after_a_start_and_is_lifted(owner, engine):
    plan_of_golem(owner)
    assert {action["state"] for action in owner("apply")["actions"]} == {"planned"}
    assert engine.cpu_quota_us("golem") == -1
    assert set(kinds_and_states(owner("apply", "--yes"))) == {("golem", "done"), ("podman", "done")}
    assert engine.cpu_quota_us("golem") == 100_000
    assert owner("apply", "--yes")["actions"] == []

    engine.restart("golem")
    assert engine.cpu_quota_us("golem") == -1
    assert kinds_and_states(owner("apply", "--yes")) == [("podman", "done")]
    assert engine.cpu_quota_us("golem") == 100_000

    engine.remove("golem")
    engine.run("golem")
    assert kinds_and_states(owner("apply", "--yes")) == [("podman", "done")]
    assert engine.cpu_quota_us("golem") == 100_000

    typed(engine, f"podman --url unix://{engine.socket} update --cpus 1.5 golem")
    assert kinds_and_states(owner("apply", "--yes")) == [("podman", "skipped")]
    assert engine.cpu_quota_us("golem") == 150_000
    owner("apply", "--reclaim", "golem_1", "--yes")
    assert engine.cpu_quota_us("golem") == 100_000

    assert ("podman", "done") in kinds_and_states(owner("apply", "--release", "--yes"))
    assert engine.cpu_quota_us("golem") == 150_000, "the last that was not ours"


def test_a_plan_s_weight_for_a_node_that_may_not_starve(engine, name, tmp_path):
    engine.run(name)
    before = engine.cpu_weight(name)
    place = Place(tmp_path)
    place.configure(
        f'[apply]\npodman_socket = "{engine.socket}"\n[nodes.n]\nprotocol = "exec"\ncommand = ["/bin/true"]\n'
        f'currencies = ["USD"]\napply = true\nruntime = "podman"\ncontainer = "{name}"\n'
    )

    def actions(*words):
        return [
            (one["state"], one["before"], one["after"]) for one in place.json("apply", *words, "--yes").data["actions"]
        ]

    def shares(value):
        return {"cpu_weight": value * 100 / 1024}

    result, problem = plan_of("n", "exec", 1, {"cpu_cores": 0.5}, {"cpu_cores": 2})
    now_s = int(time.time())
    with opened(tmp_path / "orcha.db", node="n", now_s=now_s) as store:
        store.add_plan(now_s - 60, now_s + 900, result, problem)
    done = [("done", shares(1024), shares(512))]
    assert actions() == done
    assert engine.cpu_weight(name) < before
    assert actions() == []
    engine.restart(name)
    assert actions() == done, "set again"
    typed(engine, f"podman --url unix://{engine.socket} update --cpu-shares 3000 {name}")
    assert [state for state, *_ in actions()] == ["skipped"], "a person's hand"
    assert [state for state, *_ in actions("--reclaim", "n")] == ["done"]
    assert engine.cpu_weight(name) < before
    engine.restart(name)
    assert actions("--release") == [], "the start has lifted it"
    assert engine.cpu_weight(name) == before
