"""What becomes of a run of apply when something goes wrong in the middle: over real sockets and a real database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apply_home import Home, at_home, kbytes, plan_of, states

from depin_orcha.taking_back import release

Update = Callable[[dict[str, int]], tuple[int, Any]]
PLAN = {"storj_1": {"cpu_cores": 2}, "myst_1": {"uplink_bps": 1e7}, "myst_2": {"uplink_bps": 2e7}}
BOTH = PLAN | {"storj_1": {"cpu_cores": 2, "memory_bytes": 2**30}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    with at_home(tmp_path, monkeypatch) as one:
        yield one


def test_what_one_node_did_not_give_up_no_other_gets(home: Home) -> None:
    home.nodes["myst_1"].shape(1000)
    home.nodes["myst_2"].can_save = False
    home.plan({"myst_1": {"uplink_bps": 2e7}, "myst_2": {"uplink_bps": 1e7}, "storj_1": {"cpu_cores": 2}})
    done = home.apply()
    assert states(done) == [("myst_2", "undone"), ("storj_1", "done"), ("myst_1", "skipped")]
    assert (done.exit_code, done.data["changed"]) == (3, 1)
    assert [failure.node for failure in done.failures] == ["myst_2"]
    assert home.rows()[2][2:] == ("skipped", "no room was made for it: myst_2 was to get less (action 0: undone)")
    assert (home.nodes["myst_1"].in_force, home.nodes["myst_1"].writes) == (1000, [])
    assert home.nodes["myst_2"].in_force is None, "what it could not save is not in force in memory either"

    home.nodes["myst_2"].can_save = True
    done = home.apply()
    assert states(done) == [("myst_2", "done"), ("myst_1", "done")]
    assert [node.in_force for node in home.nodes.values()] == [kbytes(2e7), kbytes(1e7)]


@pytest.mark.parametrize("units", [3.0, 5.0], ids=["it was to get less", "it was to get more"])
def test_what_cannot_even_be_begun_makes_no_room(home: Home, units: float) -> None:
    home.nodes["myst_1"].shape(1000)
    result, problem = plan_of(PLAN)
    for node, now in zip(result["hosts"][0]["nodes"], (4.0, 1.0, None), strict=True):
        node |= {"previous_units": now, "units": units}
    home.store.add_plan(home.now_s - 60, home.now_s + 600, result, problem)
    home.engine.gone = True
    done = home.apply()
    more = "skipped" if units < 4 else "done"
    assert sorted(states(done)) == [("myst_1", more), ("myst_2", "done")]
    assert (done.exit_code, [failure.node for failure in done.failures]) == (3, ["storj_1"])
    assert home.nodes["myst_1"].in_force == (1000 if units < 4 else kbytes(1e7))
    details = [action["detail"] for action in done.data["actions"] if action["state"] == "skipped"]
    said = "no room was made for it: storj_1 was to get less and cannot be set now"
    assert details == ([said] if units < 4 else [])


def test_what_both_takes_and_gives_goes_before_what_only_gives(home: Home) -> None:
    home.engine.enforce(1)
    home.engine.host["NanoCpus"] = 1_000_000_000
    home.nodes["myst_1"].shape(1000)
    home.plan({"myst_1": {"uplink_bps": 2e7}, "storj_1": {"cpu_cores": 2, "memory_bytes": 2**30}})
    assert states(home.apply(execute=False)) == [("storj_1", "planned"), ("storj_1", "planned"), ("myst_1", "planned")]


def others_applied(home: Home) -> bool:
    return [node.in_force for node in home.nodes.values()] == [kbytes(1e7), kbytes(2e7)]


def docker_rows(home: Home) -> list[tuple[str, str]]:
    return [(state, detail) for _, kind, state, detail in home.rows() if kind == "docker"]


def then(home: Home, after: Callable[[], None], *, obeys: bool = True, status: int = 200) -> Update:
    """An update after which something happens."""

    def update(body: dict[str, int]) -> tuple[int, Any]:
        if obeys:
            home.engine.obey(body)
        after()
        return status, {"message": "it is over"}

    return update


def in_turn(*updates: Update) -> Update:
    """One after the other, the last for ever."""
    left = list(updates)

    def update(body: dict[str, int]) -> tuple[int, Any]:
        return (left.pop(0) if len(left) > 1 else left[0])(body)

    return update


@pytest.mark.parametrize("obeys", [True, False], ids=["after it obeyed", "before"])
def test_an_engine_that_is_gone_in_the_middle(home: Home, obeys: bool) -> None:
    home.plan(PLAN)
    home.engine.on_update = then(home, lambda: setattr(home.engine, "gone", True), obeys=obeys, status=0)
    done = home.apply()
    assert (done.exit_code, done.data["changed"], others_applied(home)) == (3, 3, True)
    ((state, detail),) = docker_rows(home)
    assert state == "failed"
    assert detail.startswith("needs attention: the engine at ")
    assert "it could not be put back: " in detail
    assert done.failures[0].hint.endswith("update --cpus 4 golem")

    home.engine.gone, home.engine.on_update = False, home.engine.obey
    assert home.apply().exit_code == 0
    assert home.engine.cores == 2
    ended = ("done", "interrupted, but in force: ") if obeys else ("failed", "interrupted before anything changed: ")
    state, detail = docker_rows(home)[0]
    assert (state, detail[: len(ended[1])]) == ended
    assert release(home.job(), home.store, execute=True).exit_code == 0
    assert home.engine.cores == 4, "what came into force all the same is lifted like the rest"


def test_a_container_that_is_removed_in_the_middle(home: Home) -> None:
    home.plan(PLAN)
    home.engine.on_update = then(home, lambda: setattr(home.engine, "id", "f" * 64), obeys=False, status=500)
    done = home.apply()
    assert (done.exit_code, done.data["changed"], others_applied(home)) == (3, 2, True)
    ((state, detail),) = docker_rows(home)
    assert state == "failed"
    assert detail.startswith("nothing changed: ")
    assert "No such container" in detail


def test_a_container_that_is_made_anew_between_two_steps(home: Home) -> None:
    """Nothing of the old one is left to put back, and the new one is not touched before the next run."""
    home.plan(BOTH)
    anew = then(home, lambda: setattr(home.engine, "id", "f" * 64), obeys=False, status=500)
    home.engine.on_update = in_turn(home.engine.obey, anew)
    done = home.apply()
    assert (done.exit_code, done.data["changed"], others_applied(home)) == (3, 2, True)
    said = "the target does not exist any more, so nothing is left to put back"
    cpu, memory = docker_rows(home)
    assert cpu == ("failed", f"action 1 of this node failed; {said}")
    assert memory[0] == "failed"
    assert memory[1].startswith("nothing changed: ")
    assert "No such container" in memory[1]
    assert {path.split("/")[3][:6] for _, path, _ in home.engine.server.writes} == {"c0ffee"}


def test_an_engine_that_accepts_what_is_not_in_force(home: Home) -> None:
    home.plan(BOTH)
    home.engine.on_update = then(home, lambda: home.engine.enforce(3), obeys=False)
    done = home.apply()
    assert (done.exit_code, others_applied(home)) == (3, True)
    cpu, memory = docker_rows(home)
    assert cpu[0] == "failed"
    assert cpu[1].startswith("needs attention: accepted, but not in force (")
    assert memory == ("skipped", "an earlier action of this node failed")

    home.engine.enforce(4)
    deaf = then(home, lambda: None, obeys=False)
    home.engine.on_update = in_turn(home.engine.obey, deaf, deaf, home.engine.obey)
    home.apply()
    cpu, memory = docker_rows(home)[2:]
    assert cpu[0] == "undone"
    assert cpu[1].startswith("put back (")
    assert cpu[1].endswith("because action 1 of this node failed")
    assert memory[0] == "failed"
    assert memory[1].startswith("nothing changed: accepted, but not in force (")
    assert home.engine.cores == 4


def test_a_node_that_takes_another_value(home: Home) -> None:
    home.nodes["myst_1"].flags = {"shaper": {"bandwidth": 6250}}
    home.plan(PLAN)
    done = home.apply()
    assert (done.exit_code, done.data["changed"]) == (3, 2)
    assert states(done) == [("storj_1", "done"), ("myst_1", "undone"), ("myst_2", "done")]
    (row,) = [row for row in home.rows() if row[0] == "myst_1"]
    assert row[3] == (
        "put back (the node's configuration says no limit), because accepted, but not in force "
        "(the node's configuration says 6250 KBytes/s for all connections together)"
    )
    assert (home.nodes["myst_1"].in_force, home.nodes["myst_2"].in_force) == (None, kbytes(2e7))


def test_a_node_that_does_not_come_back(home: Home) -> None:
    home.plan(PLAN)
    home.nodes["myst_1"].leaves_after = 1
    done = home.apply()
    assert states(done) == [("storj_1", "done"), ("myst_1", "failed"), ("myst_2", "done")]
    assert (done.exit_code, done.data["changed"]) == (3, 3)
    (row,) = [row for row in home.rows() if row[0] == "myst_1"]
    assert row[3].startswith("needs attention: ")
    assert " 503" in row[3]
    assert "it could not be put back: " in row[3]
    assert "curl -fsS" in done.failures[0].hint


def test_a_socket_that_this_user_may_not_use(home: Home) -> None:
    home.plan(PLAN)
    os.chmod(home.engine.server.socket, 0)  # noqa: PTH101
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may open everything
    try:
        done = home.apply()
    finally:
        os.seteuid(user)
    assert (done.exit_code, done.data["changed"], others_applied(home)) == (3, 2, True)
    assert [(one.node, str(one.kind)) for one in done.failures] == [("storj_1", "permission")]
    assert "as good as root" in done.failures[0].hint
    assert docker_rows(home) == []


def test_a_socket_that_this_user_may_not_use_and_nothing_else(home: Home) -> None:
    home.plan({"storj_1": {"cpu_cores": 2}})
    os.chmod(home.engine.server.socket, 0)  # noqa: PTH101
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        done = home.apply()
    finally:
        os.seteuid(user)
    assert (done.exit_code, done.data["changed"]) == (77, 0)
