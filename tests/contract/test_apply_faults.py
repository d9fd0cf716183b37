"""What becomes of a run of apply when something goes wrong in the middle: over real sockets and a real database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from apply_home import Home, at_home, kbytes, states


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


def test_what_both_takes_and_gives_goes_before_what_only_gives(home: Home) -> None:
    home.engine.enforce(1)
    home.engine.host["NanoCpus"] = 1_000_000_000
    home.nodes["myst_1"].shape(1000)
    home.plan({"myst_1": {"uplink_bps": 2e7}, "storj_1": {"cpu_cores": 2, "memory_bytes": 2**30}})
    assert states(home.apply(execute=False)) == [("storj_1", "planned"), ("storj_1", "planned"), ("myst_1", "planned")]
