"""What has to be equal beside a grant before two hours are compared, and which grants are not a plan's to move."""

from __future__ import annotations

from typing import Any

import pytest

from depin_orcha.movable import pause_command, rules
from depin_orcha.types import Resource

MYSTERIUM = rules("mysterium")
NOW = {"services": {"dvpn": "Running", "scraping": "NotRunning"}, "network": {"monitoring": "success"}}


@pytest.mark.parametrize(
    ("change", "comparable"),
    [
        ({"services": {"dvpn": "Running"}}, True),
        ({"services": {"dvpn": "Running", "scraping": "Running"}}, False),
        ({"services": None}, False),
        ({"network": {"monitoring": "pending"}}, True),
        ({"network": None}, True),
        ({"network": {"monitoring": "failed"}}, False),
    ],
)
def test_hours_of_a_mysterium_node_compare_at_the_same_services_and_as_long_as_it_is_reached(
    change: dict[str, Any], *, comparable: bool
) -> None:
    assert (MYSTERIUM.terms(NOW | change) == MYSTERIUM.terms(NOW)) is comparable


def test_hours_of_a_golem_node_compare_at_the_same_prices() -> None:
    def offering(price: float) -> Any:
        return rules("golem").terms({"offers": [{"runtime": "vm", "glm_per_cpu_s": price, "threads": price}]})

    assert offering(1e-6) == offering(1e-6)
    assert offering(1e-6) != offering(2e-6)


def test_prices_are_told_with_the_calls_that_set_them() -> None:
    golem = rules("golem")
    price = {"glm_per_cpu_s": 0.025 / 3600, "glm_per_s": 1e-6, "glm_start": 0.5}
    terms = golem.terms({"offers": [{"runtime": "vm"} | price]})
    label, command = golem.told(terms, ["docker", "exec", "my node", "ya-provider"])
    assert label == "0.025 GLM/h"
    assert command == (
        "docker exec 'my node' ya-provider preset update --no-interactive --name vm "
        f"--price CPU={0.025 / 3600!r} --price Duration=1e-06 --price 'Init price=0.5'"
    )
    assert pause_command(terms, ["ya-provider"]) == "ya-provider preset deactivate vm"


def test_a_provider_that_offers_nothing_is_only_to_be_resumed() -> None:
    assert "preset activate" in (rules("golem").fixed({"offers": []}) or "")
    assert rules("golem").fixed({"offers": [{"runtime": "vm"}]}) is None
    assert rules("golem").fixed({}) is None


def shaper(*, enabled: bool, per_connection: bool, version: str = "1.38.3") -> dict[str, Any]:
    return {"version": version, "shaper": {"enabled": enabled, "kbytes_per_s": 1, "per_connection": per_connection}}


def test_only_a_shaper_of_the_whole_node_that_is_off_leaves_it_the_whole_line() -> None:
    assert MYSTERIUM.unlimited(shaper(enabled=False, per_connection=False)) == (Resource.UPLINK_BPS,)
    assert MYSTERIUM.unlimited(shaper(enabled=True, per_connection=False)) == ()
    assert MYSTERIUM.unlimited(shaper(enabled=False, per_connection=True)) == ()
    assert MYSTERIUM.unlimited({"shaper": None}) == ()


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (shaper(enabled=True, per_connection=False), None),
        (shaper(enabled=True, per_connection=False, version="1.29.7-rc1"), None),
        (shaper(enabled=True, per_connection=True), "per-connection limit"),
        (shaper(enabled=False, per_connection=True), "per-connection limit"),
        (shaper(enabled=True, per_connection=False, version="1.29.6"), "version 1.29.6"),
        (shaper(enabled=True, per_connection=False, version="source.dev-build"), "version source.dev-build"),
    ],
)
def test_a_limit_that_is_not_what_it_says_is_not_a_plans_to_move(details: dict[str, Any], reason: str | None) -> None:
    found = MYSTERIUM.fixed(details)
    assert (found is None) == (reason is None)
    assert reason is None or reason in (found or "")


def test_what_is_not_known_here_is_not_moved() -> None:
    assert [one for one in ("storj", "streamr", "grass", "exec", "a_plugin") if rules(one).movable] == []
