"""Reading ``forecast --input``: CSV rows into bins, JSON documents, and the exact place of every fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from depin_orcha.errors import DataError, ExitCode
from depin_orcha.forecast import forecast_series
from depin_orcha.forecast.inputs import Request, read_request

HEADER = "series,timestamp,value\n"


def csv_batch(rows: str, freq: str = "1h") -> list[dict[str, Any]]:
    return read_request(HEADER + rows, freq).batch


def refusal(text: str, freq: str = "1h") -> str:
    """What a file is refused with, at reading or at forecasting, always with exit code 65."""

    def run() -> None:
        request = read_request(text, freq)
        forecast_series(request.batch, 24 if request.horizon is None else request.horizon, request.levels or (80, 95))

    with pytest.raises(DataError) as refused:
        run()
    assert refused.value.exit_code is ExitCode.DATA
    return refused.value.message


def test_rows_are_summed_into_bins_and_bins_without_rows_are_null() -> None:
    batch = csv_batch(
        "a,2026-01-01T00:10:00Z,1.5\n"
        "a,2026-01-01T03:59:59Z,4\n"
        "b,2026-01-01T00:00:00Z,7\n"
        "a,2026-01-01T00:50:00Z,0.25\n"
        "a,2026-01-01T01:00:00Z,-1\n"
    )
    assert batch == [
        {"id": "a", "start": "2026-01-01T00:00:00Z", "freq": "1h", "y": [1.75, -1.0, None, 4.0]},
        {"id": "b", "start": "2026-01-01T00:00:00Z", "freq": "1h", "y": [7.0]},
    ]


@pytest.mark.parametrize(
    ("freq", "start", "bins"),
    [
        ("15min", "2026-01-01T10:30:00Z", 2),
        ("30min", "2026-01-01T10:30:00Z", 1),
        ("1h", "2026-01-01T10:00:00Z", 1),
        ("1d", "2026-01-01T00:00:00Z", 1),
    ],
)
def test_bins_are_aligned_to_utc(freq: str, start: str, bins: int) -> None:
    [member] = csv_batch("a,2026-01-01T10:44:00Z,1\na,2026-01-01T10:59:59Z,1\n", freq)
    assert (member["start"], member["freq"], len(member["y"])) == (start, freq, bins)
    assert sum(member["y"]) == 2


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-01-01T05:00:00",
        "2026-01-01 05:00",
        "2026-01-01T05:00:00.999Z",
        "2026-01-01T07:00:00+02:00",
        "2025-12-31T23:30-05:30",
    ],
)
def test_times_without_a_zone_are_utc_and_zones_are_honoured(timestamp: str) -> None:
    assert csv_batch(f"a,{timestamp},1\n")[0]["start"] == "2026-01-01T05:00:00Z"


def test_an_empty_value_counts_as_no_row() -> None:
    batch = csv_batch("a,2026-01-01T00:00:00Z,1\na,2026-01-01T05:00:00Z,\nb,2026-01-01T00:00:00Z, \n")
    assert [(member["id"], member["y"]) for member in batch] == [("a", [1.0])]


def test_the_forecast_starts_at_the_end_of_the_last_bin() -> None:
    batch = csv_batch("a,2026-01-01T00:00:00Z,1\na,2026-01-02T22:15:00Z,1\n")
    assert forecast_series(batch)[0]["start"] == "2026-01-02T23:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffseries,timestamp,value\r\na,2026-01-01,1\r\n",
        '\n\nseries, timestamp, value\n\n"a", 2026-01-01 , "1"\n',
        "series,timestamp,value\na,2026-01-01,1e0",
    ],
)
def test_what_spreadsheets_make_of_a_csv(text: str) -> None:
    assert read_request(text, "1d").batch == [{"id": "a", "start": "2026-01-01T00:00:00Z", "freq": "1d", "y": [1.0]}]


def test_names_may_hold_commas_and_lines() -> None:
    assert csv_batch('"a, b",2026-01-01,1\n"c\nd",2026-01-01,1\n')[1]["id"] == "c\nd"


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("a,2026-01-01,1\na,2026-01-01,abc\n", "line 3, column value: 'abc' is not a finite number"),
        ("a,2026-01-01,nan\n", "line 2, column value: 'nan' is not a finite number"),
        ("a,2026-01-01,-inf\n", "line 2, column value: '-inf' is not a finite number"),
        ("a,2026-01-01,1e999\n", "line 2, column value: '1e999' is not a finite number"),
        ("a,2026-01-01,1_000\n", "line 2, column value: '1_000' is not a finite number"),
        ("\na,2026-13-01,1\n", "line 3, column timestamp: '2026-13-01' is not an RFC 3339 time"),
        ("a,1763000000,1\n", "line 2, column timestamp: '1763000000' is not an RFC 3339 time"),
        ("a,20260101T0000,1\n", "line 2, column timestamp: '20260101T0000' is not an RFC 3339 time"),
        ("a,,1\n", "line 2, column timestamp: '' is not an RFC 3339 time"),
        ("a,1970-01-01,1\n", "line 2, column timestamp: 1970-01-01 is not between 2000-01-01 and 2100-01-01"),
        (",2026-01-01,1\n", "line 2, column series: empty"),
        ("a,2026-01-01\n", "line 2: expected 3 columns, got 2"),
        ("a,2026-01-01,1,5\n", "line 2: expected 3 columns, got 4"),
        ('a,2026-01-01,1\n"a"b,2026-01-01,1\n', "line 3: broken CSV"),
        ("a,2026-01-01,1\n" + "x" * 200_000 + ",2026-01-01,1\n", "line 3: broken CSV"),
    ],
)
def test_a_bad_row_names_its_line_and_column(rows: str, complaint: str) -> None:
    assert refusal(HEADER + rows).startswith(complaint)


@pytest.mark.parametrize("text", ["", "  \n", "\ufeff", HEADER, HEADER + "a,2026-01-01,\n"])
def test_empty_input_is_refused(text: str) -> None:
    assert "empty" in refusal(text) or "no row with a value" in refusal(text)


@pytest.mark.parametrize("text", ["a,2026-01-01,1\n", "value,timestamp,series\n", "hello\n"])
def test_a_csv_without_its_header_is_refused(text: str) -> None:
    assert refusal(text) == "line 1: expected the header series,timestamp,value"


def test_an_unknown_freq_is_refused() -> None:
    assert refusal(HEADER + "a,2026-01-01,1\n", "2h") == "freq: expected one of 15min, 30min, 1h, 1d, got '2h'"


def document(**changes: Any) -> str:
    return json.dumps(
        {"series": [{"id": "a", "start": "2026-01-01T00:00:00Z", "freq": "1h", "y": [1, None, 2.5]}], **changes}
    )


def test_a_json_document_is_taken_as_it_is() -> None:
    request = read_request(document(horizon=6, levels=[50]))
    assert request == Request(
        [{"id": "a", "start": "2026-01-01T00:00:00Z", "freq": "1h", "y": [1, None, 2.5]}], horizon=6, levels=[50]
    )
    [forecast] = forecast_series(request.batch, 6, request.levels or ())
    assert len(forecast["mean"]) == 6
    assert list(forecast["lo"]) == ["50"]


def test_a_json_document_may_leave_horizon_levels_and_freq_open() -> None:
    request = read_request('\ufeff {"series": [{"id": "a", "start": "2026-01-01", "y": []}]}', "1d")
    assert (request.horizon, request.levels, request.batch[0]["freq"]) == (None, None, "1d")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"series": [', "line 1, column 13: broken JSON"),
        ('{\n "series": oops}', "line 2, column 12: broken JSON"),
        ("[]", 'expected a JSON object with the key "series"'),
        ("{}", "series: expected a list with at least one series"),
        (document(series=[]), "series: expected a list with at least one series"),
        (document(series={}), "series: expected a list with at least one series"),
        (document(serie=[]), "serie: unknown key"),
        (document(horizon=0), "horizon: expected a whole number from 1 to 10000, got 0"),
        (document(horizon="24"), "horizon: expected a whole number from 1 to 10000, got '24'"),
        (document(levels=[80, 120]), "levels[1]: expected a number between 0 and 100, got 120"),
        (document(series=[7]), "series[0]: expected an object, got 7"),
        (document(series=[{"id": "a", "start": "2026-01-01"}]), "series[0].y: missing"),
        (
            document(series=[{"id": "a", "start": "2026-01-01", "y": [float("nan")]}]),
            "series[0].y[0]: expected a number",
        ),
        (
            document(series=[{"id": "a", "start": "2026-01-01", "y": [1, float("inf")]}]),
            "series[0].y[1]: expected a number",
        ),
        ('{"series": [{"id": "a", "start": "2026-01-01", "y": [1e999]}]}', "series[0].y[0]: expected a finite amount"),
        ('{"series": [{"id": "a", "start": "2026-01-01", "y": [' + "9" * 5000 + "]}]}", "broken JSON"),
        ("[" * 100_000, "broken JSON"),
    ],
)
def test_a_bad_document_names_the_path(text: str, complaint: str) -> None:
    assert refusal(text).startswith(complaint)


def test_a_misspelt_key_is_met_with_the_right_one() -> None:
    with pytest.raises(DataError) as refused:
        read_request('{"serie": []}')
    assert refused.value.hint == "did you mean 'series'?"


def test_thousands_of_series_in_one_file() -> None:
    rows = "".join(
        f"node_{node},2026-01-{1 + hour // 24:02}T{hour % 24:02}:00:00Z,{node + hour % 24}\n"
        for hour in range(48)
        for node in range(2000)
    )
    batch = csv_batch(rows)
    assert len(batch) == 2000
    assert batch[1999]["y"][:3] == [1999.0, 2000.0, 2001.0]
    documents = forecast_series(batch)
    assert [forecast["id"] for forecast in documents] == [member["id"] for member in batch]
    assert documents[7]["median"] == pytest.approx([7 + hour for hour in range(24)], abs=1e-9)
