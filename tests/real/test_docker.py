"""Limits on containers of a real Docker Engine, proven in the kernel's own files."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from apply_parts import MemoryJournal, golem_target
from real.docker_engine import DockerEngine
from unix_engine import UnixEngine

from depin_orcha.actuators import TargetGoneError, actuators, inverse, observe, release, route
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.execute import execute, recover
from depin_orcha.outside import Outside
from depin_orcha.types import ActionState, Resource

pytestmark = pytest.mark.real
CPU, MEMORY = Resource.CPU_CORES, Resource.MEMORY_BYTES
MIB = 2**20
BACKENDS = actuators()
DOCKER = BACKENDS["docker"]


@pytest.fixture(scope="module")
def engine():
    with DockerEngine() as running:
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
    where = golem_target(socket=engine.socket, runtime="docker", container=name)
    return replace(where, options=where.options.model_copy(update={"protocol": protocol}))


def plan(engine, world, name, grant, **options):
    where = target(engine, name, **options)
    return DOCKER.actions(where, DOCKER.read(where, world), grant, "plan 1")


def do(actions, world):
    return execute(dict(enumerate(actions, 1)), MemoryJournal(), BACKENDS, world)


def states(outcomes):
    return [str(outcome.state) for outcome in outcomes]


def test_a_cpu_limit_is_in_force_once_and_is_lifted(engine, world, name):
    engine.run(name)
    assert engine.cpu_quota_us(name) == -1
    done = plan(engine, world, name, {CPU: 0.25})
    (outcome,) = do(done, world)
    assert (outcome.state, outcome.changed) == (ActionState.DONE, True)
    assert engine.cpu_quota_us(name) == 25_000
    assert "25000" in outcome.detail
    used_s, started_s = engine.cpu_used_s(name), time.monotonic()
    time.sleep(2)
    share = (engine.cpu_used_s(name) - used_s) / (time.monotonic() - started_s)
    assert share < 0.32, "a busy loop that may use a quarter of a core"
    assert plan(engine, world, name, {CPU: 0.25}) == []

    engine.restart(name)
    assert engine.cpu_quota_us(name) == 25_000, "it outlives a restart"
    assert plan(engine, world, name, {CPU: 0.25}) == []

    where = target(engine, name)
    (back,) = DOCKER.release(where, DOCKER.read(where, world), done)
    assert states(do([back], world)) == ["done"]
    cpu_count = os.cpu_count() or 1
    assert engine.cpu_quota_us(name) == cpu_count * 100_000, "the whole machine, as 0 would leave the limit alone"
    assert DOCKER.release(where, DOCKER.read(where, world), [*done, back]) == []


def test_a_container_made_anew_is_limited_again(engine, world, name):
    first = engine.run(name)
    old = plan(engine, world, name, {CPU: 0.5})
    do(old, world)
    engine.remove(name)
    second = engine.run(name)
    assert first != second
    assert engine.cpu_quota_us(name) == -1
    with pytest.raises(TargetGoneError):
        world.act(old[0].call)
    where = target(engine, name)
    assert DOCKER.release(where, DOCKER.read(where, world), old) == []
    again = plan(engine, world, name, {CPU: 0.5})
    assert states(do(again, world)) == ["done"]
    assert engine.cpu_quota_us(name) == 50_000


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({"CpuQuota": 50_000}, (30_000, {"CpuQuota": 30_000, "NanoCpus": 0})),
        ({"CpuPeriod": 50_000}, (15_000, {"CpuQuota": 15_000, "CpuPeriod": 50_000, "NanoCpus": 0})),
        ({"CpuQuota": -1}, (30_000, {"CpuQuota": 30_000, "NanoCpus": 0})),
        ({"NanoCpus": 1_000_000_000}, (30_000, {"CpuQuota": 0, "NanoCpus": 300_000_000})),
    ],
)
def test_whatever_knob_the_container_was_made_with(engine, world, name, host, expected):
    quota, stored = expected
    engine.run(name, **host)
    before = engine.cpu_quota_us(name)
    done = plan(engine, world, name, {CPU: 0.3})
    assert states(do(done, world)) == ["done"]
    assert engine.cpu_quota_us(name) == quota
    engine.restart(name)
    assert engine.cpu_quota_us(name) == quota, "no stored -1 wins at the next start"
    found = engine.host_config(name)
    assert {key: found[key] for key in stored} == stored
    where = target(engine, name)
    back = DOCKER.release(where, DOCKER.read(where, world), done)
    assert states(do(back, world)) == ["done"]
    if before > 0:
        assert engine.cpu_quota_us(name) == before
    else:
        assert DOCKER.read(where, world).in_force.cpu_cores == os.cpu_count()


def test_memory_and_swap(engine, world, name):
    engine.run(name, ("/bin/sh", "-c", "while :; do /bin/busybox sleep 1; done"))
    done = plan(engine, world, name, {MEMORY: 64 * MIB})
    assert states(do(done, world)) == ["done"]
    assert engine.memory_limit_bytes(name) == 64 * MIB
    found = engine.host_config(name)
    assert (found["Memory"], found["MemorySwap"]) == (64 * MIB, 64 * MIB)
    more = plan(engine, world, name, {MEMORY: 128 * MIB})
    assert states(do(more, world)) == ["done"]
    assert plan(engine, world, name, {MEMORY: 128 * MIB}) == []
    where = target(engine, name)
    back = DOCKER.release(where, DOCKER.read(where, world), [*done, *more])
    assert states(do(back, world)) == ["done"]
    assert DOCKER.release(where, DOCKER.read(where, world), [*done, *more, *back]) == []


def test_memory_that_is_in_use_is_not_taken_away(engine, world, name):
    hold = "x=$(/bin/busybox head -c 16777216 /dev/zero | /bin/busybox tr '\\0' x)"
    hold += "; while :; do /bin/busybox sleep 1; done"
    engine.run(name, ("/bin/sh", "-c", hold))
    where = target(engine, name)
    ends = time.monotonic() + 20
    while DOCKER.read(where, world).in_force.memory_used_bytes < 16 * MIB:
        assert time.monotonic() < ends, "the container never used its memory"
        time.sleep(0.1)
    with pytest.raises(ActuatorError, match=r"less than 1\.25 times"):
        plan(engine, world, name, {MEMORY: 16 * MIB})


def test_a_node_that_may_not_starve_gets_a_weight(engine, world, name):
    """Which shares out one CPU that two want whole, and takes nothing while the other one sleeps."""
    other = f"{name}_other"
    engine.run(name, CpusetCpus="0")
    engine.run(other, CpusetCpus="0")
    try:
        done = plan(engine, world, name, {CPU: 2, MEMORY: 64 * MIB}, protocol="storj")
        done += plan(engine, world, other, {CPU: 0.5}, protocol="storj")
        assert [one.after for one in done] == [{"cpu_weight": 200}, {"cpu_weight": 50}]
        assert [one.before for one in done] == [{"cpu_weight": 100}] * 2, "the kernel's own"
        outcomes = do(done, world)
        assert states(outcomes) == ["done", "done"]
        assert all(
            f"= {engine.cpu_weight(one)}" in told.detail for one, told in zip((name, other), outcomes, strict=True)
        )
        assert engine.memory_limit_bytes(name) > 2**60, "no cap"
        used_s = engine.cpu_used_s(name), engine.cpu_used_s(other)
        time.sleep(4)
        ours, theirs = engine.cpu_used_s(name) - used_s[0], engine.cpu_used_s(other) - used_s[1]
        weights = engine.cpu_weight(name) / engine.cpu_weight(other)
        assert ours / theirs == pytest.approx(weights, rel=0.2), (ours, theirs)
    finally:
        engine.remove(other)
    for grant in ({CPU: 2}, {CPU: 1.92}, {CPU: 2.1}):
        assert plan(engine, world, name, grant, protocol="storj") == [], "a step of 5 % is none"
    engine.restart(name)
    assert plan(engine, world, name, {CPU: 2}, protocol="storj") == [], "it outlives a restart"

    asked = engine.host_config(name)["CpuShares"]
    world.act(replace(done[0].call, body={"CpuShares": 0}))
    assert engine.host_config(name)["CpuShares"] == asked, "0 leaves it alone"
    where = target(engine, name, protocol="storj")
    back = DOCKER.release(where, DOCKER.read(where, world), done[:1])
    assert states(do(back, world)) == ["done"]
    assert engine.cpu_weight(name) in (1024, 100), "shares of version 1, or the weight of version 2"
    assert DOCKER.release(where, DOCKER.read(where, world), [done[0], *back]) == []


def test_the_owner_s_own_shares_come_back(engine, world, name):
    engine.run(name, CpuShares=300)
    before = engine.cpu_weight(name)
    done = plan(engine, world, name, {CPU: 1.5}, protocol="streamr")
    assert states(do(done, world)) == ["done"]
    assert engine.cpu_weight(name) != before
    where = target(engine, name, protocol="streamr")
    assert states(do(DOCKER.release(where, DOCKER.read(where, world), done), world)) == ["done"]
    assert engine.cpu_weight(name) == before


def test_what_the_engine_refuses_changes_nothing(engine, world, name):
    engine.run(name)
    (action,) = plan(engine, world, name, {CPU: 0.5})
    for body in ({"NanoCpus": 10**12}, {"NanoCpus": 5 * 10**8, "CpuQuota": 50_000}):
        with pytest.raises(ActuatorError) as caught:
            world.act(replace(action.call, body=body))
        assert caught.value.kind is FailureKind.DATA
    do([action], world)
    with pytest.raises(ActuatorError, match="Conflicting options") as caught:
        world.act(replace(action.call, body={"CpuQuota": 50_000}))
    assert caught.value.kind is FailureKind.DATA
    with pytest.raises(TargetGoneError, match="No such container"):
        DOCKER.read(target(engine, "nobody"), world)
    assert engine.cpu_quota_us(name) == 50_000


def test_a_stopped_container_is_left_alone_and_never_started(engine, world, name):
    engine.run(name)
    (action,) = plan(engine, world, name, {CPU: 0.5})
    engine.stop(name)
    assert plan(engine, world, name, {CPU: 0.5}) == []
    (outcome,) = recover({1: action}, MemoryJournal(), BACKENDS, world, 0.1)
    assert outcome.state is ActionState.RUNNING
    assert engine.call("GET", f"/containers/{name}/json")["State"]["Running"] is False


def test_a_lying_engine_between_us_and_the_real_one_is_found_out(engine, world, name, tmp_path):
    """It passes reads on, swallows updates, and shows what was asked for as if it were set."""
    engine.run(name)
    asked, shown = [], {}

    def lie(method, path, body):
        if method == "POST":
            asked.append(body)
            shown.update(body)
            return 200, {"Warnings": []}
        answer = engine.call("GET", path)
        if "HostConfig" in answer:
            answer["HostConfig"].update(shown)
        return 200, answer

    with UnixEngine(tmp_path / "s", lie) as liar:
        where = golem_target(socket=liar.socket, runtime="docker", container=name)
        actions = DOCKER.actions(where, DOCKER.read(where, world), {CPU: 0.5}, "plan 1")
        (outcome,) = do(actions, world)
    everything = {"NanoCpus": (os.cpu_count() or 1) * 10**9}
    assert asked == [{"NanoCpus": 500_000_000}] * 2 + [everything], "what it believes to have done is taken back"
    assert (outcome.state, outcome.changed) == (ActionState.FAILED, False)
    assert "accepted, but not in force" in outcome.detail
    assert engine.cpu_quota_us(name) == -1


def test_a_golem_provider_in_a_container(engine, world, name, tmp_path):
    """Profile and container limit go down together when idle, up container first, and apart while work runs."""
    engine.run(name)
    cpu_count = os.cpu_count() or 1
    stand_in = Path(__file__).parents[1] / "bin" / "ya-provider"
    command = ("env", f"DATA_DIR={tmp_path}", sys.executable, str(stand_in))
    where = golem_target(
        socket=engine.socket, runtime="docker", container=name, provider_command=command, cpu_count=cpu_count + 2
    )

    def apply(cores, *, busy):
        observed = observe(where, world, BACKENDS, ("golem", "docker"))
        planned = route(where, observed, {CPU: cores}, "plan 1", BACKENDS, busy=busy)
        outcomes = do(planned.actions, world)
        assert set(states(outcomes)) <= {"done"}
        return [outcome.action for outcome in outcomes], planned.skipped

    big = ("--cpu-threads", str(cpu_count), "--mem-gib", "1", "--storage-gib", "1")
    world.output([*command, "profile", "create", "big", *big])
    world.output([*command, "profile", "activate", "big"])
    done, skipped = apply(1, busy=True)
    assert [one.kind for one in done] == ["golem", "golem"]
    assert len(skipped) == 1
    assert engine.cpu_quota_us(name) == -1
    now, skipped = apply(1, busy=False)
    assert ([one.kind for one in now], skipped) == (["docker"], ())
    assert engine.cpu_quota_us(name) == 100_000
    assert apply(1, busy=False) == ([], ())
    more, _ = apply(cpu_count, busy=True)
    assert [one.kind for one in more] == ["docker", "golem"]
    assert engine.cpu_quota_us(name) == cpu_count * 100_000
    undone = [inverse(one, "back") for one in reversed(more)]
    assert states(do(undone, world)) == ["done", "done"]
    assert engine.cpu_quota_us(name) == 100_000
    back = release(where, observe(where, world, BACKENDS, ("golem", "docker")), [*done, *now, *more, *undone], BACKENDS)
    assert states(do(back, world)) == ["done", "done"]
    assert world.output([*command, "profile", "active"]).strip() == '"big"'
    assert engine.cpu_quota_us(name) == cpu_count * 100_000
