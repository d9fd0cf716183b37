"""What is to be done is decided by pure functions: the right knob, the right order, and no bent grants."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from apply_parts import BACKENDS, CPU, HOST_MEMORY, ID, FakeEngine, golem_target

from depin_orcha.actuators import (
    advice,
    from_json,
    inverse,
    kinds,
    observe,
    original,
    refuse_overcommit,
    route,
    to_json,
)
from depin_orcha.actuators._containers import Container
from depin_orcha.actuators.docker import Actuator
from depin_orcha.actuators.golem import Profiles
from depin_orcha.cgroups import Enforced
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.outside import Outside
from depin_orcha.types import Action, HttpCall, Resource, RunCommand

MEMORY = Resource.MEMORY_BYTES


def container(cores=None, memory=None, used: int | None = 100 * 2**20, cpu_count=4, **fields):
    values = {
        "nano_cpus": 0,
        "cpu_quota_us": 0,
        "cpu_period_us": 0,
        "cpu_shares": 0,
        "memory_bytes": 0,
        "memory_swap_bytes": 0,
        "host_cpu_count": cpu_count,
        "host_memory_bytes": HOST_MEMORY,
        "in_force": Enforced(cores, memory, used, "cpu file", "memory file"),
    }
    return Container("/s", "golem", ID, "2026-11-22T21:58:59.1Z", **(values | fields))


@pytest.mark.parametrize(
    ("observed", "cores", "body", "undo"),
    [
        (container(), 1.5, {"NanoCpus": 1_500_000_000}, {"NanoCpus": 4_000_000_000}),
        (container(2.0, nano_cpus=2_000_000_000), 0.25, {"NanoCpus": 250_000_000}, {"NanoCpus": 2_000_000_000}),
        (container(0.5, nano_cpus=500_000_000), 4.0, {"NanoCpus": 4_000_000_000}, {"NanoCpus": 500_000_000}),
        (container(0.5, cpu_quota_us=50_000), 0.3, {"CpuQuota": 30_000}, {"CpuQuota": 50_000}),
        (container(None, cpu_period_us=50_000), 0.3, {"CpuQuota": 15_000}, {"CpuQuota": 200_000}),
        (container(None, cpu_quota_us=-1), 0.3, {"CpuQuota": 30_000}, {"CpuQuota": 400_000}),
        # a stored -1 won over NanoCpus at the last start: the kernel's word counts, and it is set again
        (
            container(None, nano_cpus=300_000_000, cpu_quota_us=-1),
            0.3,
            {"NanoCpus": 300_000_000},
            {"NanoCpus": 4_000_000_000},
        ),
        # set in the kernel behind the engine's back: lost at the next start unless the engine knows
        (container(0.3), 0.3, {"NanoCpus": 300_000_000}, {"NanoCpus": 300_000_000}),
    ],
)
def test_a_cpu_limit_uses_the_knob_that_the_container_has(observed, cores, body, undo):
    (action,) = Actuator().actions(golem_target(), observed, {CPU: cores}, "plan 1")
    assert action.call == HttpCall("/s", "POST", f"/containers/{ID}/update", body)
    assert isinstance(action.undo, HttpCall)
    assert action.undo.body == undo
    assert min(*body.values(), *undo.values()) > 0, "0 leaves a limit alone, -1 breaks the next start"


@pytest.mark.parametrize(
    ("observed", "cores"),
    [
        (container(0.5, nano_cpus=500_000_000), 0.5),
        (container(0.5, nano_cpus=500_000_000), 0.5049),
        (container(0.3, cpu_quota_us=30_000), 0.3),
        (container(), 4),
        (container(4.0, nano_cpus=4_000_000_000), 4),
        (container(in_force=None), 1),
    ],
)
def test_nothing_to_do_when_equal_after_rounding_or_stopped(observed, cores):
    assert Actuator().actions(golem_target(), observed, {CPU: cores}, "plan 1") == []


def test_an_odd_period_promises_only_what_the_kernel_can_hold():
    (action,) = Actuator().actions(golem_target(), container(cpu_period_us=33_333), {CPU: 0.33}, "plan 1")
    assert isinstance(action.call, HttpCall)
    assert action.after["cpu_cores"] == pytest.approx(action.call.body["CpuQuota"] / 33_333, abs=1e-5)


def test_memory_and_swap_go_together_and_the_owner_s_swap_stays():
    def bodies(observed, limit):
        (action,) = Actuator().actions(golem_target(), observed, {MEMORY: limit}, "plan 1")
        assert isinstance(action.call, HttpCall)
        assert isinstance(action.undo, HttpCall)
        return action.call.body, action.undo.body

    mib = 2**20
    assert bodies(container(), 512 * mib + 5) == (
        {"Memory": 512 * mib, "MemorySwap": 512 * mib},
        {"Memory": HOST_MEMORY, "MemorySwap": HOST_MEMORY},
    )
    limited = container(memory=256 * mib, memory_bytes=256 * mib, memory_swap_bytes=512 * mib)
    assert bodies(limited, 512 * mib) == (
        {"Memory": 512 * mib, "MemorySwap": 768 * mib},
        {"Memory": 256 * mib, "MemorySwap": 512 * mib},
    )
    free_swap = container(memory=256 * mib, memory_bytes=256 * mib, memory_swap_bytes=-1)
    assert bodies(free_swap, 512 * mib)[0] == {"Memory": 512 * mib, "MemorySwap": -1}
    assert Actuator().actions(golem_target(), limited, {MEMORY: 256 * mib}, "plan 1") == []


@pytest.mark.parametrize(
    ("observed", "grant", "reason"),
    [
        (container(), {CPU: 4.01}, "0.01 to 4"),
        (container(), {CPU: 0}, "0.01 to 4"),
        (container(cpu_period_us=5000), {CPU: 0.1}, "1 ms per period of 5000 us"),
        (container(), {MEMORY: 5 * 2**20}, "6 MiB"),
        (container(), {MEMORY: HOST_MEMORY + 2**20}, "6 MiB"),
        (container(), {MEMORY: 124 * 2**20}, "1.25 times the 104857600 in use"),
        (container(used=None), {MEMORY: 124 * 2**20}, "is not known"),
    ],
)
def test_a_guard_refuses_and_never_bends_the_grant(observed, grant, reason):
    with pytest.raises(ActuatorError, match=reason) as caught:
        Actuator().actions(golem_target(), observed, grant, "plan 1")
    assert caught.value.kind is FailureKind.DATA


def profiles(threads, active="default"):
    values = {"cpu_threads": threads, "mem_gib": 4.0, "storage_gib": 50.0}
    return Profiles(active, {"default": dict(values), "depin-orcha": dict(values)})


def steps(planned):
    return [(action.kind, action.after) for action in planned.actions]


@pytest.mark.parametrize("busy", [True, False, None])
def test_the_container_is_raised_before_the_profile(busy):
    observed = {"golem": profiles(1, "depin-orcha"), "docker": container(1.0, nano_cpus=1_000_000_000, cpu_count=8)}
    where = golem_target(runtime="docker", container="golem")
    planned = route(where, observed, {CPU: 3}, "plan 1", BACKENDS, busy=busy)
    assert [kind for kind, _ in steps(planned)] == ["docker", "golem"]
    assert planned.skipped == ()


@pytest.mark.parametrize(("busy", "word"), [(True, "work is running"), (None, "not known")])
def test_the_container_is_not_lowered_unless_idle(busy, word):
    observed = {"golem": profiles(6, "depin-orcha"), "docker": container(cpu_count=8)}
    where = golem_target(runtime="docker", container="golem")
    planned = route(where, observed, {CPU: 3}, "plan 1", BACKENDS, busy=busy)
    assert [kind for kind, _ in steps(planned)] == ["golem"]
    ((held_back, reason),) = planned.skipped
    assert held_back.after == {"cpu_cores": 3}
    assert word in reason
    assert "effective from the next agreement" in reason


def test_an_idle_node_is_lowered_profile_first():
    observed = {"golem": profiles(6, "depin-orcha"), "docker": container(cpu_count=8)}
    where = golem_target(runtime="docker", container="golem")
    planned = route(where, observed, {CPU: 3}, "plan 1", BACKENDS, busy=False)
    assert [kind for kind, _ in steps(planned)] == ["golem", "docker"]


def test_a_node_that_nothing_here_can_set_says_so():
    storj = golem_target("storj_1").options.model_copy(update={"protocol": "storj"})
    where = replace(golem_target("storj_1"), options=storj)
    observed = observe(where, Outside(), BACKENDS, kinds(where, BACKENDS, {CPU}))
    planned = route(where, observed, {CPU: 1}, "plan 1", BACKENDS, busy=None)
    assert (planned.actions, planned.skipped) == ((), ())
    assert planned.notes == ("storj gets neither limit nor weight: nothing that runs it can be set from here",)


def test_a_node_that_may_not_starve_is_capped_only_by_its_owner_s_word():
    options = golem_target(runtime="docker", container="golem").options.model_copy(update={"protocol": "streamr"})
    capped = options.model_copy(update={"hard_caps": True})
    grant = {CPU: 0.5, MEMORY: 2**30}

    def planned(options):
        where = replace(golem_target("streamr_1"), options=options)
        return route(where, {"docker": container()}, grant, "plan 1", BACKENDS, busy=None).actions

    assert [one.after for one in planned(options)] == [{"cpu_weight": 50}]
    assert [one.after for one in planned(capped)] == [{"cpu_cores": 0.5}, {"memory_bytes": 2**30}]


def test_a_stopped_container_and_another_runtime_say_why():
    observed = {"golem": profiles(6, "depin-orcha"), "docker": container(in_force=None)}
    stopped = golem_target(runtime="docker", container="golem")
    planned = route(stopped, observed, {CPU: 3}, "plan 1", BACKENDS, busy=False)
    assert ([kind for kind, _ in steps(planned)], planned.notes) == (
        ["golem"],
        ("container golem is stopped; it is limited when it runs",),
    )
    podman = golem_target(runtime="podman", container="golem")
    planned = route(podman, {"golem": observed["golem"]}, {CPU: 3}, "plan 1", BACKENDS, busy=False)
    assert "podman runtime gets no limit" in planned.notes[0]


def test_grants_beyond_the_host_are_refused():
    grants = {"golem_1": {CPU: 4.0}, "streamr_1": {CPU: 3.0}}
    refuse_overcommit(grants, {CPU: 7})
    with pytest.raises(ActuatorError, match="golem_1, streamr_1 add up to 7 cpu_cores, there are 6"):
        refuse_overcommit(grants, {CPU: 6})


def test_what_a_person_set_between_our_writes_is_theirs():
    def wrote(before, after):
        call = RunCommand(("true",))
        return Action("n", "docker", "", {"cpu_cores": before}, {"cpu_cores": after}, call, call)

    assert original([wrote(None, 2), wrote(2, 1)]) == {"cpu_cores": None}
    assert original([wrote(None, 2), wrote(3, 1)]) == {"cpu_cores": 3}
    assert original([wrote(3, 2), wrote(2, 3)]) == {}
    assert original([wrote(3, 2), wrote(2, 3), wrote(4, 1)]) == {"cpu_cores": 4}
    assert original([]) == {}


def test_an_action_survives_json_and_can_be_turned_round():
    action = Actuator().actions(golem_target(), container(), {CPU: 1}, "plan 1")[0]
    command = Action(
        "n", "golem", "why", {"a": None}, {"a": 1.5}, RunCommand(("x", "ü y")), None, {"provider_command": ["x"]}
    )
    for one in (action, command):
        assert from_json(to_json(one)) == one
    assert inverse(inverse(action, action.why), action.why) == action
    assert inverse(action, "w").call == action.undo
    with pytest.raises(ActuatorError, match="cannot be taken back"):
        inverse(command, "w")
    with pytest.raises(ValueError, match="JSON compliant"):
        to_json(Action("n", "docker", "", {}, {"cpu_cores": math.nan}, action.call, None))


def test_advice_is_the_command_a_person_would_type():
    def said(observed, grant):
        return [advice(one, BACKENDS) for one in Actuator().actions(golem_target(), observed, grant, "plan 1")]

    both = {CPU: 1.5, MEMORY: 2**29}
    assert said(container(), both) == [
        "docker -H unix:///s update --cpus 1.5 golem",
        "docker -H unix:///s update --memory 536870912b --memory-swap 536870912b golem",
    ]
    quota = container(cpu_quota_us=50_000, memory_bytes=2**28, memory_swap_bytes=-1)
    quota = replace(quota, socket="/var/run/docker.sock")
    assert said(quota, both) == [
        "docker update --cpu-quota 150000 golem",
        "docker update --memory 536870912b --memory-swap -1 golem",
    ]


def test_reading_and_deciding_send_no_write(tmp_path):
    with FakeEngine(tmp_path) as engine:
        observed = {"docker": BACKENDS["docker"].read(engine.target(), engine.machine), "golem": profiles(2)}
        planned = route(engine.target(), observed, {CPU: 3}, "plan 1", BACKENDS, busy=False)
        assert len(planned.actions) == 3
        assert {method for method, _, _ in engine.server.requests} == {"GET"}
        assert ("GET", "/v1.41/info", {}) in engine.server.requests
