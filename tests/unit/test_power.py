"""Watts from real meters on loopback and from the kernel's counters, and what a kWh costs at an hour."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ledger_parts import at
from loopback import Answer, Loopback, Wire
from power_parts import answer

from depin_orcha.config import load
from depin_orcha.costs import BY_HAND, METER, RAPL, Watts, price_per_kwh, running_watts
from depin_orcha.errors import AdapterError, ConfigError, FailureKind
from depin_orcha.power import rapl_watts, read_meter, read_tariff
from depin_orcha.sections import Costs, HostOptions, TariffSource
from depin_orcha.types import HOUR_S

DAY_AND_NIGHT = [{"from": "06:00", "price": 0.4}, {"from": "22:00", "price": 0.2}]


def meter(url: str, path: str, **more: Any) -> Watts:
    return read_meter(HostOptions(watts_url=url, watts_path=path, **more), None)[0]


@pytest.mark.parametrize(
    ("document", "path", "watts"),
    [
        ({"apower": 61.5, "voltage": 230.1}, "apower", 61.5),
        ({"StatusSNS": {"ENERGY": {"Power": 42}}}, "StatusSNS.ENERGY.Power", 42),
        ({"meters": [{"power": 1}, {"power": 7.25}]}, "meters.1.power", 7.25),
        ({"data": {"result": [{"value": [1795377505, "18.5"]}]}}, "data.result.0.value.1", 18.5),
        ({"state": "33.0", "attributes": {"unit_of_measurement": "W"}}, "state", 33),
        ({"channels": {"0": {"w": 0}}}, "channels.0.w", 0),
    ],
)  # fmt: skip
def test_watts_are_found_in_what_meters_answer(document: Any, path: str, watts: float) -> None:
    with Loopback(lambda _: answer(document)) as server:
        assert meter(f"{server.url}/status?id=0", path) == Watts(watts, METER)
        assert server.requests[0].target == "/status?id=0"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Answer(500), FailureKind.TRANSIENT),
        (Answer(401, b"{}"), FailureKind.AUTH),
        (Answer(404), FailureKind.SHAPE),
        (Answer(200, b"<html>log in</html>", "text/html"), FailureKind.SHAPE),
        (Answer(200, b'{"power": 1'), FailureKind.SHAPE),
        *[(answer({"power": value}), FailureKind.SHAPE) for value in (None, True, "unavailable", -3, {}, [5])],
        (answer({"watts": 5}), FailureKind.SHAPE),
        (answer([5]), FailureKind.SHAPE),
    ],
)
def test_a_meter_that_fails_has_no_watts(reply: Answer, kind: FailureKind) -> None:
    with Loopback(lambda _: reply) as server, pytest.raises(AdapterError) as failure:
        meter(f"{server.url}/secret-path", "power")
    assert failure.value.kind is kind
    assert "secret-path" not in failure.value.message


def test_a_meter_that_is_off_or_hangs_up_is_transient() -> None:
    with Loopback(lambda _: Answer()) as server:
        url = server.url
    for gone in (lambda: meter(url, "power"), lambda: meter(wire.url, "power")):
        with Wire() as wire, pytest.raises(AdapterError) as failure:
            gone()
        assert failure.value.kind is FailureKind.TRANSIENT


def test_url_and_token_come_from_files(tmp_path: Path) -> None:
    with Loopback(lambda _: answer({"state": "9"})) as server:
        for name, text in (("plug.url", f"{server.url}/api?key=k"), ("home.token", "t0ken")):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o600)
        options = HostOptions(watts_url_file="plug.url", watts_path="state", watts_token_file="home.token")
        assert read_meter(options, tmp_path / "config.toml") == (Watts(9, METER), [])
        (request,) = server.requests
        assert (request.query, request.headers["authorization"]) == ({"key": "k"}, "Bearer t0ken")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('[hosts.rack]\nwatts_url = "http://plug"', "belong together"),
        ('[hosts.rack]\nwatts_path = "a"', "belong together"),
        ('[hosts.local]\nrapl = true\nwatts_url = "http://plug"\nwatts_path = "a"', "one meter"),
        ("[hosts.rack]\nrapl = true", "this machine"),
        ('[hosts.rack]\nwatts_token = "t"', "a secret may not stand in this file"),
        ('[costs]\nelectricity_per_kwh = {csv = "a", url = "http://b"}', "one of csv, url and url_file"),
        ("[costs]\nelectricity_per_kwh = []", "at least 1 item"),
    ],
)
def test_faults_of_the_configuration_are_named(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        load(None, text)


def powercap(folder: Path, **counters: tuple[str, int]) -> Path:
    for zone, (name, microjoules) in counters.items():
        path = folder / zone.replace("_", ":")
        path.mkdir()
        for file, text in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", 10_000_000)):
            (path / file).write_text(f"{text}\n")
    return folder


def test_rapl_sums_the_packages_over_a_wrapped_counter(tmp_path: Path) -> None:
    folder = powercap(
        tmp_path, **{"intel-rapl_0": ("package-0", 1_000_000), "intel-rapl_1": ("package-1", 9_900_000),
        "intel-rapl_0_0": ("core", 5), "intel-rapl_2": ("psys", 7)},
    )  # fmt: skip

    def burn() -> None:
        for zone, microjoules in (
            ("intel-rapl:0", 3_000_000),
            ("intel-rapl:1", 100_000),
            ("intel-rapl:0:0", 9_000_000),
        ):
            (folder / zone / "energy_uj").write_text(f"{microjoules}\n")

    timer = threading.Timer(0.1, burn)
    timer.start()
    started = time.monotonic()
    watts = rapl_watts(folder, span_s=0.3)
    longest_s = time.monotonic() - started
    assert (2.0 + 0.2) / longest_s <= watts <= (2.0 + 0.2) / 0.3


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    with pytest.raises(AdapterError) as failure:
        rapl_watts(tmp_path, 0)
    assert failure.value.kind is FailureKind.UNSUPPORTED


@pytest.mark.parametrize(
    ("host", "metered", "nodes", "expected"),
    [
        ({"idle_watts": 40}, None, [(20, True), (5, False), (None, True)], Watts(60, BY_HAND)),
        ({"idle_watts": 40}, None, [(20, None)], None),
        ({"idle_watts": 40}, None, [(0, None)], Watts(40, BY_HAND)),
        ({}, None, [(20, True)], None),
        ({"idle_watts": 40}, Watts(55, METER), [(20, None)], Watts(55, METER)),
        ({}, Watts(9, RAPL), [], Watts(9, RAPL)),
        (
            {"always_on": True, "idle_watts": 40},
            None,
            [(20, True), (5, True)],
            Watts(25, "by hand, without idle_watts"),
        ),
        ({"always_on": True, "idle_watts": 40}, None, [(20, True), (None, True)], None),
        ({"always_on": True, "idle_watts": 40}, Watts(55, METER), [(None, True)], Watts(15, "meter less idle_watts")),
        ({"always_on": True, "idle_watts": 40}, Watts(35, METER), [], Watts(0, "meter less idle_watts")),
        ({"always_on": True}, Watts(55, METER), [(None, True)], None),
        ({"always_on": True}, Watts(55, RAPL), [(8, True)], Watts(8, "by hand, without idle_watts")),
    ],
)
def test_what_would_no_longer_be_drawn(host: Any, metered: Any, nodes: Any, expected: Any) -> None:
    assert running_watts(HostOptions(**host), metered, nodes) == expected


def clock(zone: str, tariff: Any = DAY_AND_NIGHT) -> Costs:
    return Costs.model_validate({"timezone": zone, "electricity_per_kwh": tariff})


@pytest.mark.parametrize(
    ("zone", "hour", "price"),
    [
        # 25 October 2026, Berlin: 02:00 to 03:00 happens twice, so that 06:00 is 05:00 UTC from then on.
        ("Europe/Berlin", "2026-10-25T03:00", 0.2), ("Europe/Berlin", "2026-10-25T04:00", 0.2),
        ("Europe/Berlin", "2026-10-25T05:00", 0.4), ("Europe/Berlin", "2026-10-24T04:00", 0.4),
        ("Europe/Berlin", "2026-10-25T20:00", 0.4), ("Europe/Berlin", "2026-10-25T21:00", 0.2),
        # 29 March 2026: 02:00 to 03:00 does not happen, 06:00 is 04:00 UTC at once.
        ("Europe/Berlin", "2026-03-29T03:00", 0.2), ("Europe/Berlin", "2026-03-29T04:00", 0.4),
        ("Europe/Berlin", "2026-03-28T04:00", 0.2), ("Europe/Berlin", "2026-03-28T05:00", 0.4),
        # Half past is where hours begin in India: this one is half night, half day.
        ("Asia/Kolkata", "2026-11-22T00:00", 0.3), ("Asia/Kolkata", "2026-11-22T01:00", 0.4),
        ("UTC", "2026-11-22T05:00", 0.2), ("UTC", "2026-11-22T06:00", 0.4),
    ],
)  # fmt: skip
def test_day_and_night_follow_the_clock_on_the_wall(zone: str, hour: str, price: float) -> None:
    assert price_per_kwh(clock(zone), at(hour), []) == pytest.approx(price)


def test_an_hour_that_happens_twice_has_its_price_twice_and_one_that_never_does_is_skipped() -> None:
    dear = [{"from": "02:00", "price": 1.0}, {"from": "03:00", "price": 0.1}]
    october = [price_per_kwh(clock("Europe/Berlin", dear), at("2026-10-24T22:00") + i * HOUR_S, []) for i in range(6)]
    assert october == pytest.approx([0.1, 0.1, 1.0, 1.0, 0.1, 0.1])
    march = [price_per_kwh(clock("Europe/Berlin", dear), at("2026-03-28T23:00") + i * HOUR_S, []) for i in range(4)]
    assert march == pytest.approx([0.1, 0.1, 0.1, 0.1])


def test_listed_prices_hold_for_an_hour_at_most_and_leave_no_gap_unnoticed() -> None:
    costs = Costs(electricity_per_kwh=TariffSource(csv="x"))
    first = at("2026-11-22T10:00")
    quarters = [(first + i * 900, price) for i, price in enumerate((0.1, 0.2, 0.3, -0.2))]
    listed = [*quarters, (first + HOUR_S, 0.5), (first + 3 * HOUR_S + 1800, 0.7)]
    found = [price_per_kwh(costs, first + i * HOUR_S, listed) for i in range(-1, 5)]
    assert found == [None, pytest.approx(0.1), 0.5, None, None, None]


def test_a_number_is_the_price_of_every_hour() -> None:
    assert price_per_kwh(Costs(electricity_per_kwh=0.3), 0, []) == 0.3
    assert price_per_kwh(Costs(), 0, []) is None


def test_csv_is_read_from_a_file_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "tariff.csv").write_text("start,price\n2026-11-22T12:00:00+01:00,0.31\n2026-11-22T10:00:00Z,-0.02\n")
    rows, warnings = read_tariff(TariffSource(csv="tariff.csv"), tmp_path / "config.toml")
    assert (rows, warnings) == ([(at("2026-11-22T10:00"), -0.02), (at("2026-11-22T11:00"), 0.31)], [])


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("hour,price\n", "line 1: the header"),
        ("", "line 1: the header"),
        ("<html>", "line 1: the header"),
        ("start,price\n2026-11-22T10:00:00Z,0.3\nyesterday,0.3\n", "line 3: not a time and a price"),
        ("start,price\n2026-11-22T10:00:00Z,\n", "line 2"),
        ("start,price\n2026-11-22T10:00:00Z,nan\n", "line 2"),
        ("start,price\n2026-11-22T10:00:00Z,1,2\n", "line 2"),
        ("start,price\n2026-11-22T10:00:00Z\n", "line 2"),
        ("start,price\n2026-11-22T10:00:00Z,1\n2026-11-22T11:00:00+01:00,2\n", "line 3: this start has a price"),
    ],
)
def test_bad_lists_of_prices_name_the_line(tmp_path: Path, text: str, where: str) -> None:
    (tmp_path / "tariff.csv").write_text(text)
    with pytest.raises(AdapterError, match=where) as failure:
        read_tariff(TariffSource(csv=str(tmp_path / "tariff.csv")), None)
    assert failure.value.kind is FailureKind.DATA
    with Loopback(lambda _: Answer(200, text.encode(), "text/csv")) as server:
        with pytest.raises(AdapterError, match=where) as failure:
            read_tariff(TariffSource(url=f"{server.url}/key"), None)
        assert failure.value.kind is FailureKind.SHAPE
        assert "key" not in failure.value.message


def test_a_list_that_is_not_there_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(AdapterError) as failure:
        read_tariff(TariffSource(csv="none.csv"), tmp_path / "config.toml")
    assert failure.value.kind is FailureKind.CONFIG
