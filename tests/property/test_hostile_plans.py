"""Whatever stands in the database as a plan: nothing is written that no guard would allow, and nothing breaks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from apply_home import CAPACITY, MIB, NOW_S, Home, at_home, kbytes, plan_of
from apply_parts import ID
from hypothesis import event, given, settings
from hypothesis import strategies as st

from depin_orcha.errors import ExitCode, OrchaError
from depin_orcha.types import ActionState, Health, HealthStatus, Limits, Resource, Snapshot

FLOORS = {"myst_1": {"uplink_bps": 800_000.0}, "myst_2": {"uplink_bps": 8192.0}, "storj_1": {}}
USED_BYTES = 100 * MIB
HOSTILE = (math.nan, math.inf, -math.inf, -1.0, -0.0, 0.0, 1e-300, 1e308, 10**400, True, None, "4", [], {})
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=4), st.just([]), st.just({}), st.just(math.nan)
)

FAULTS = ("amounts", "capacity", "values", "decision", "elsewhere", "twice", "tampered", "cut")
"""What can be wrong with a plan."""
WORLDS = ("", "", "time", "paused", "consent", "moved", "placed")
"""What can forbid to carry it out."""

PLACES = ("", "{", "[]", "null", '{"myst_1": 4}', '{"myst_1": {"host": 4}}', '{"myst_1": {"host": "rack"}}')
"""Where nodes ran when the plan was made; for myst_1, it was never here."""

nodes = st.sampled_from(tuple(FLOORS))
sound = {
    "cpu_cores": st.floats(0.5, 1.3),
    "memory_bytes": st.floats(200 * MIB, 2**31),
    "uplink_bps": st.floats(1e6, 1.3e7),
}
extreme = {
    "cpu_cores": st.one_of(st.sampled_from((0.001, 0.01, 4.0, 4.01)), st.floats(0.001, 6)),
    "memory_bytes": st.one_of(st.sampled_from((6 * MIB, 124 * MIB, 125 * MIB, 2**33 + 1)), st.floats(1, 10 * 2**30)),
    "uplink_bps": st.one_of(st.sampled_from((8191.0, 8192.0, 799_999.0, 800_000.0, 4.1e7)), st.floats(1, 6e7)),
}


def granted(amounts: dict[str, Any]) -> st.SearchStrategy[dict[str, dict[str, Any]]]:
    """Node -> grant: of what it can be given, and at times of more."""
    uplink = {"uplink_bps": amounts["uplink_bps"]}
    one, two = (
        st.fixed_dictionaries(uplink),
        st.fixed_dictionaries(uplink, optional={"cpu_cores": amounts["cpu_cores"]}),
    )
    three = st.fixed_dictionaries(
        {"cpu_cores": amounts["cpu_cores"]}, optional={"memory_bytes": amounts["memory_bytes"]}
    )
    return st.fixed_dictionaries({"myst_1": one}, optional={"myst_2": two, "storj_1": three})


def faults(of: tuple[str, ...]) -> st.SearchStrategy[set[str]]:
    """Mostly one thing or none, so that what is wrong is not hidden behind something else."""
    single = st.sampled_from(("", *of, *of[:2])).map(lambda one: {one})
    return st.one_of(single, single, st.sets(st.sampled_from(of), max_size=2))


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value with each of its keys."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, str]:
    """Result and problem of a plan as they stand in the database, at times such as no optimiser makes them."""
    wrong = draw(faults(FAULTS))
    found = draw(granted(extreme if wrong & {"amounts", "capacity"} else sound))
    if "values" in wrong:
        resource = draw(st.sampled_from((*CAPACITY, "gpu_count", "bogus", "")))
        found[draw(st.one_of(nodes, st.sampled_from(("ghost", ""))))] = {resource: draw(st.sampled_from(HOSTILE))}
    capacity = draw(st.sampled_from((dict.fromkeys(CAPACITY, 1e300), {}))) if "capacity" in wrong else CAPACITY
    pair = plan_of(found, capacity=capacity)
    (host,) = pair[0]["hosts"]
    if "decision" in wrong:
        host["decision"] = draw(st.sampled_from(("apply", "hold")))
        for node in host["nodes"]:
            node["changed"] = draw(st.booleans())
    if "elsewhere" in wrong:
        for document in draw(st.sampled_from((pair, pair[:1], pair[1:]))):
            document["hosts"][0]["host"] = "rack"
    if "twice" in wrong:
        again = deepcopy(draw(st.sampled_from((host, *host["nodes"]))))
        draw(st.sampled_from((pair[0]["hosts"], host["nodes"]))).append(again)
    if "tampered" in wrong:
        container, key = draw(st.sampled_from(list(places(list(pair)))[2:]))
        container[key] = draw(JUNK)
    result, problem = map(json.dumps, pair)
    return (result[: draw(st.integers(0, len(result)))] if "cut" in wrong else result), problem


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with pytest.MonkeyPatch.context() as patch, at_home(tmp_path_factory.mktemp("home"), patch) as one:
        one.store.add_host("local", NOW_S - 60, CAPACITY, {})
        for name, floors in FLOORS.items():
            one.store.add_node(name, "mysterium", "local", NOW_S - 60)
            limits = {Resource(resource): Limits(floor, None, 1.0) for resource, floor in floors.items()}
            told = Snapshot(name, NOW_S - 60, (), Health(HealthStatus.UP, ""), limits=limits)
            with one.store.transaction():
                one.store.add_snapshot(told, NOW_S - 60, "MYST")
        yield one


def begin(home: Home, plan: tuple[str, str], made_s: int, expires_s: int, places: str = "{}") -> None:
    """A machine that nobody touched, and one plan."""
    for node in home.nodes.values():
        node.user.clear()
        node.apply_limits()
        node.server.requests.clear()
    engine = home.engine
    engine.server.requests.clear()
    engine.host.update(dict.fromkeys(engine.host, 0))
    engine.enforce(4)
    engine.machine.write(f"/sys/fs/cgroup/docker/{ID}/memory.max", "max\n")
    for table in ("actions", "allocations", "shadow_prices", "plans", "pauses"):
        home.store.connection.execute(f"DELETE FROM {table}")
    row = ("plan", home.store.run_id, made_s, expires_s, "optimal", "apply", "", "0" * 64, plan[1], plan[0], places)
    home.store.connection.execute("INSERT INTO plans VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


def granted_by(plan: tuple[str, str]) -> dict[str, dict[str, float]]:
    """What an honest reader finds in a plan for nodes of this machine; nothing where anything is odd."""
    try:
        result = json.loads(plan[0])
        host = next(one for one in result["hosts"] if one["host"] == "local")
        named = [node["node"] for one in result["hosts"] for node in one["nodes"]]
        found = {node["node"]: node for node in host["nodes"] if named.count(node["node"]) == 1}
        for resource, most in CAPACITY.items():
            if not 0 <= sum(node["resources"].get(resource, 0.0) for node in host["nodes"]) <= most * (1 + 1e-9):
                return {}
        fine = host["decision"] == "apply"
        return {name: node["resources"] for name, node in found.items() if fine and node["changed"] is True}
    except (AttributeError, KeyError, OverflowError, StopIteration, TypeError, ValueError):
        return {}


def is_inside(name: str, grant: dict[str, float]) -> bool:
    """Is every amount one that the node can live on?"""
    try:
        return all(math.isfinite(one) and one >= FLOORS[name].get(key, 0.0) * (1 - 1e-9) for key, one in grant.items())
    except (OverflowError, TypeError):
        return False


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """When the plan was made and expires, what the owner paused and forbids, and which node has another host now."""
    wrong = draw(faults(WORLDS))
    made_s = draw(st.sampled_from((NOW_S - 60, NOW_S - 1801, NOW_S + 1, 0))) if "time" in wrong else NOW_S - 60
    paused = draw(st.sampled_from(({None}, {"myst_1"}, {"storj_1", "myst_2"}))) if "paused" in wrong else set()
    return {
        "made_s": made_s,
        "expires_s": made_s + draw(st.sampled_from((600, 59, -1, 2**62))) if "time" in wrong else NOW_S + 600,
        "paused": paused,
        "refused": draw(st.sets(nodes, min_size=1)) if "consent" in wrong else set(),
        "moved": draw(nodes) if "moved" in wrong else None,
        "places": draw(st.sampled_from(PLACES)) if "placed" in wrong else "{}",
    }


@settings(max_examples=300, deadline=None, derandomize=True)
@given(plan=documents(), world=worlds())
def test_no_plan_moves_anything_that_it_may_not(home: Home, plan: tuple[str, str], world: dict[str, Any]) -> None:
    made_s, expires_s, paused, refused = (world[key] for key in ("made_s", "expires_s", "paused", "refused"))
    begin(home, plan, made_s, expires_s, world["places"])
    before = dict(home.text)
    for node in paused:
        home.store.add_pause(node, NOW_S - 60, None)
    for name in home.text:
        home.text[name] = before[name].replace("apply = true", f"apply = {str(name not in refused).lower()}")
        home.text[name] += 'host = "rack"\n' if name == world["moved"] else ""
    result, refusal = None, None
    try:
        home.apply(execute=False)
        assert home.writes == []
        result = home.apply()
    except OrchaError as error:
        refusal = error
    finally:
        home.text = before
    event(f"{'refused as a whole' if result is None else f'exit {result.exit_code}'}, writes {len(home.writes)}")

    allowed = set(FLOORS) - refused - paused - {world["moved"]}
    if not made_s <= NOW_S <= min(expires_s, made_s + 1800) or None in paused or world["places"] in PLACES[:-1]:
        allowed = set()
    if world["places"] == PLACES[-1]:
        allowed -= {"myst_1"}
    asked = {name: grant for name, grant in granted_by(plan).items() if name in allowed}
    assert set(home.writes) <= {name for name, grant in asked.items() if is_inside(name, grant)}
    for name, node in home.nodes.items():
        for change in node.writes:
            assert change == {"shaper": {"enabled": True, "bandwidth": kbytes(asked[name]["uplink_bps"])}}
            assert kbytes(asked[name]["uplink_bps"]) >= 1
    for method, path, body in home.engine.server.writes:
        assert (method, path.split("/")[-1]) == ("POST", "update")
        assert 0.01e9 <= body.get("NanoCpus", 1e9) <= 4e9
        assert USED_BYTES * 1.25 <= body.get("Memory", 2**30) <= CAPACITY["memory_bytes"]
        assert body.get("MemorySwap") == body.get("Memory")
    if result is None:
        assert refusal is not None
        assert (refusal.exit_code, bool(refusal.message), bool(refusal.hint)) == (ExitCode.DATA, True, True)
        assert home.writes == []
        assert home.rows() == []
        return
    json.dumps(result.data, allow_nan=False)
    assert (result.exit_code == ExitCode.OK) == (not result.failures)
    assert result.exit_code in (ExitCode.OK, ExitCode.PARTIAL)
    assert {row[0] for row in home.rows()} == set(home.writes)
    assert {row[2] for row in home.rows()} <= {ActionState.DONE}, "nothing in this home fails"
    if not result.failures and result.data["plan_id"]:
        wanted = {name for name, grant in asked.items() if name in home.nodes and "uplink_bps" in grant}
        assert wanted <= set(home.writes), "a sound plan is carried out"


@pytest.mark.parametrize("column", ["action_json", "state"])
@pytest.mark.parametrize("value", ["{", "[]", '{"undo": null}', "nothing", "null"])
def test_a_damaged_journal_is_refused_in_a_sentence(home: Home, column: str, value: str) -> None:
    result, problem = plan_of({"myst_1": {"uplink_bps": 1e7}})
    begin(home, (json.dumps(result), json.dumps(problem)), NOW_S - 60, NOW_S + 600)
    assert home.apply().exit_code == 0
    home.store.connection.execute(f"UPDATE actions SET {column} = ?", (value,))
    seen = len(home.nodes["myst_1"].writes)
    with pytest.raises(OrchaError, match=r"action \d+ of the journal, on myst_1, is damaged") as refused:
        home.apply()
    assert refused.value.exit_code is ExitCode.DATA
    assert len(home.nodes["myst_1"].writes) == seen
