"""The shaper of a Mysterium node, set through real HTTP on a stand-in that has the traps of the real interface."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from apply_parts import MemoryJournal, uplink_plan
from ledger_parts import opened
from tequilapi import TOKEN, Tequilapi

from depin_orcha.actuators import Target, actuators, advice, from_json, mysterium, observe, release, route, to_json
from depin_orcha.adapters.mysterium import Options
from depin_orcha.applying import apply
from depin_orcha.config import load
from depin_orcha.cycle import Job
from depin_orcha.errors import ActuatorError, FailureKind
from depin_orcha.execute import execute
from depin_orcha.outside import Outside
from depin_orcha.taking_back import release as lift
from depin_orcha.types import Action, ActionState, HttpCall, HttpCalls, Resource

UPLINK = Resource.UPLINK_BPS
BACKENDS = actuators()
PASSWORD = "canary-password-7b1"
NOW_S = 1_795_372_200  # 2026-11-22T18:30:00Z


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(mysterium, "PAUSE_S", 0.01)


def target(node: Tequilapi, **options) -> Target:
    return Target("myst_1", Options.model_validate({"protocol": "mysterium", "url": node.url} | options), 8)


def plan(node: Tequilapi, bps: float) -> list[Action]:
    with Outside() as world:
        one = target(node)
        return list(route(one, observe(one, world, BACKENDS), {UPLINK: bps}, "plan 1", BACKENDS, busy=None).actions)


def carry_out(actions: list[Action], verify_timeout_s: float = 0.2):
    with Outside() as world:
        return execute(dict(enumerate(actions)), MemoryJournal(), BACKENDS, world, verify_timeout_s)


def undo_all(node: Tequilapi, done: list[Action]) -> list[Action]:
    with Outside() as world:
        one = target(node)
        return release(one, observe(one, world, BACKENDS), done, BACKENDS)


def test_the_stand_in_has_the_trap():
    """One request that says it all stores everything and changes nothing."""
    with Tequilapi() as node, Outside() as world:
        both = {"data": {"shaper.enabled": True, "shaper.bandwidth": 2500}}
        world.act(HttpCall(None, "POST", "/config/user", both, node.url))
        assert node.config["shaper"] == {"enabled": True, "bandwidth": 2500}
        assert node.in_force is None


@pytest.mark.parametrize(
    ("userspace", "bps", "kbytes"),
    [(False, 2e7, 2500), (False, 20_007_999.0, 2500), (True, 2e7, 2441), (True, 2500 * 8192.0, 2500)],
)
def test_a_grant_is_in_force_and_lifting_it_too(userspace, bps, kbytes):
    with Tequilapi(userspace=userspace) as node:
        (action,) = plan(node, bps)
        (outcome,) = carry_out([action])
        assert (outcome.state, outcome.changed) == (ActionState.DONE, True), outcome.detail
        assert node.in_force == kbytes
        assert f"{kbytes} KBytes/s" in outcome.detail
        assert plan(node, bps) == [], "what is in force needs no action"

        (lifted,) = carry_out(undo_all(node, [action]))
        assert lifted.state is ActionState.DONE
        assert node.in_force is None
        assert node.config["shaper"] == {"enabled": False, "bandwidth": 6250}
        assert undo_all(node, [action, lifted.action]) == []


@pytest.mark.parametrize("userspace", [False, True])
def test_a_limit_of_the_owner_is_changed_and_comes_back(userspace):
    with Tequilapi(userspace=userspace) as node:
        node.user = {"shaper": {"enabled": True, "bandwidth": 5000}, "ui": {"port": 4449}}
        node.apply_limits()
        (action,) = plan(node, 8e6)
        carry_out([action])
        assert node.in_force == 8e6 // (8192 if userspace else 8000)
        carry_out(undo_all(node, [action]))
        assert node.in_force == 5000
        assert node.user == {"shaper": {"enabled": True, "bandwidth": 5000}, "ui": {"port": 4449}}


def test_an_action_is_three_requests_in_kernel_mode_and_two_in_userspace():
    with Tequilapi() as node:
        carry_out(plan(node, 2e7))
        assert node.writes == [{"shaper.bandwidth": 2500}, {"shaper.enabled": True}, {"shaper.enabled": True}]
    with Tequilapi(userspace=True) as node:
        carry_out(plan(node, 2500 * 8192))
        assert node.writes == [{"shaper": {"enabled": True, "bandwidth": 2500}}] * 2


def test_the_node_as_a_whole_is_limited_in_userspace_only():
    def notes(node):
        with Outside() as world:
            observed = observe(target(node), world, BACKENDS)
            return route(target(node), observed, {UPLINK: 2e7}, "plan 1", BACKENDS, busy=None).notes

    with Tequilapi() as kernel, Tequilapi(userspace=True) as userspace:
        assert notes(kernel) == ("its shaper limits each connection, not the node as a whole",)
        assert notes(userspace) == ()


def test_a_flag_of_the_command_line_wins_so_the_change_is_put_back():
    with Tequilapi() as node:
        node.flags = {"shaper": {"bandwidth": 6250}}
        (outcome,) = carry_out(plan(node, 2e7))
        assert outcome.state is ActionState.UNDONE
        assert "not in force" in outcome.detail
        assert node.config["shaper"] == {"enabled": False, "bandwidth": 6250}
        assert node.in_force is None


def test_a_configuration_that_cannot_be_saved_is_put_back():
    with Tequilapi() as node:
        actions = plan(node, 2e7)
        node.can_save = False
        (outcome,) = carry_out(actions)
        assert outcome.state is ActionState.UNDONE, "what it holds in memory is as before, so the next start is too"
        assert (node.config["shaper"], node.in_force) == ({"enabled": False, "bandwidth": 6250}, None)
        assert outcome.failure
        assert outcome.failure.kind is FailureKind.TRANSIENT
        assert "err_config_save" in outcome.detail


@pytest.mark.parametrize("userspace", [False, True])
@pytest.mark.parametrize("saves", [0, 1, 2])
def test_a_disk_that_fills_up_between_requests_leaves_no_half_a_change(userspace, saves):
    """What is stored without being told to the shaper is read back as if it were in force."""

    class Filling(Tequilapi):
        def _set(self, body):
            self.can_save = len(self.writes) <= saves
            return super()._set(body)

    with Filling(userspace=userspace) as node:
        (outcome,) = carry_out(plan(node, 2e7))
        is_saved = saves == 2 and userspace
        assert outcome.state is (ActionState.DONE if is_saved else ActionState.UNDONE), outcome.detail
        assert node.in_force == (2441 if is_saved else None)
        assert node.config["shaper"]["enabled"] is is_saved


@pytest.mark.parametrize("version", ["1.29.6", "1.28.9", "0.99.99", "source.dev-build"])
def test_versions_that_keep_another_limit_are_refused(version):
    with Tequilapi(version=version) as node, pytest.raises(ActuatorError, match="is not shaped") as refused:
        plan(node, 2e7)
    assert refused.value.kind is FailureKind.UNSUPPORTED
    assert "1.29.7" in refused.value.hint
    with Tequilapi(version="1.29.7") as node:
        assert len(plan(node, 2e7)) == 1


def test_nothing_granted_is_refused_and_other_resources_are_not_its_matter():
    with Tequilapi() as node, Outside() as world:
        with pytest.raises(ActuatorError, match="cannot say 0"):
            plan(node, 7999.0)
        observed = observe(target(node), world, BACKENDS)
        assert BACKENDS["mysterium"].actions(target(node), observed["mysterium"], {Resource.CPU_CORES: 2}, "x") == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda node: node.defaults.pop("shaper"), FailureKind.SHAPE),
        (lambda node: node.defaults["shaper"].update(bandwidth="fast"), FailureKind.SHAPE),
        (lambda node: setattr(node, "password", "secret"), FailureKind.AUTH),
    ],
)
def test_a_node_that_cannot_be_read_is_a_failure_of_its_kind(change, kind):
    with Tequilapi() as node:
        one = target(node)
        change(node)
        with Outside() as world, pytest.raises(ActuatorError) as caught:
            observe(one, world, BACKENDS)
    assert caught.value.kind is kind


def test_a_request_that_makes_no_sense_is_refused_with_what_the_node_says():
    with Tequilapi() as node, Outside() as world, pytest.raises(ActuatorError, match=r"400.*parse_failed") as caught:
        world.act(HttpCall(None, "POST", "/config/user", {"date": {}}, node.url))
    assert caught.value.kind is FailureKind.DATA


def test_an_action_round_trips_and_says_how_to_do_it_by_hand():
    with Tequilapi() as node:
        (action,) = plan(node, 2e7)
        assert from_json(to_json(action)) == action
        assert isinstance(action.call, HttpCalls)
        command = advice(action, BACKENDS)
        assert command.count("curl -fsS -d ") == 3
        assert f"""'{{"data": {{"shaper.bandwidth": 2500}}}}' {node.url}/config/user && sleep 0.01 &&""" in command
        with_login = target(node, username="myst")
        observed = mysterium.Shaped(node.url, "1.38.3", mysterium.Shaper(False, 6250, False))
        (action,) = BACKENDS["mysterium"].actions(with_login, observed, {UPLINK: 2e7}, "plan 1")
        assert '-H "Authorization: Bearer $TOKEN"' in advice(action, BACKENDS)


def test_apply_logs_in_and_no_secret_is_stored(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DEPIN_ORCHA_NODES__MYST_1__PASSWORD", PASSWORD)
    with Tequilapi(password=PASSWORD) as node, opened(tmp_path / "orcha.db", node="myst_1", now_s=NOW_S) as store:
        text = f'[nodes.myst_1]\nprotocol = "mysterium"\nurl = "{node.url}"\nusername = "myst"\napply = true\n'
        job = Job(load(None, text), tmp_path / "orcha.db", NOW_S, fixed_now=True)
        result, problem = uplink_plan(2)
        store.add_plan(NOW_S - 60, NOW_S + 600, result, problem)

        done = apply(job, store, execute=True)
        assert [action["state"] for action in done.data["actions"]] == ["done"], done.failures
        assert done.data["actions"][0]["request"] == "POST /config/user"
        assert node.in_force == 2500

        lifted = lift(job, store, execute=True)
        assert [action["state"] for action in lifted.data["actions"]] == ["done"], lifted.failures
        assert node.in_force is None

        shown = json.dumps([done.data, lifted.data])
        files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
        logins = [one.path for one in node.server.requests].count("/auth/authenticate")
    assert logins == 2, "once a run"
    for secret in (PASSWORD, TOKEN):
        assert secret not in shown
        assert secret.encode() not in files


def test_a_secret_goes_only_to_the_address_it_is_configured_for(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("DEPIN_ORCHA_NODES__MYST_1__PASSWORD", PASSWORD)
    with Tequilapi(password=PASSWORD) as node, Tequilapi() as other, opened(tmp_path / "db", node="myst_1") as store:
        text = f'[nodes.myst_1]\nprotocol = "mysterium"\nurl = "{other.url}"\nusername = "myst"\napply = true\n'
        job = Job(load(None, text), tmp_path / "db", NOW_S, fixed_now=True)
        with Outside(lambda _: {"Authorization": f"Bearer {TOKEN}"}) as world:
            one = target(node)
            (action,) = BACKENDS["mysterium"].actions(
                one, observe(one, world, BACKENDS)["mysterium"], {UPLINK: 2e7}, "plan 1"
            )
        with store.transaction():
            row = store.add_action(None, 0, action, to_json(action), NOW_S)
            store.set_action_state(row, "running", "", None)
        seen = len(node.server.requests)
        failed = lift(job, store, execute=True)
        late = node.server.requests[seen:]
    assert [one.headers.get("authorization") for one in late] == [None] * len(late)
    assert late
    assert failed.failures[0].kind is FailureKind.AUTH
