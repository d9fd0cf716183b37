"""What the strict reader of JSON answers lets through, and how it says what is wrong."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from depin_orcha.adapters import BaseUrl, adapter_class, known_protocols
from depin_orcha.adapters._read import Fields, objects
from depin_orcha.errors import AdapterError, ConfigError, FailureKind


def fields(text: str) -> Fields:
    return Fields(json.loads(text, parse_float=Decimal), "/api/x")


@pytest.mark.parametrize(
    ("text", "method", "value"),
    [
        ('{"a": 7}', "number", Decimal(7)),
        ('{"a": 1542507166901.068}', "number", Decimal("1542507166901.068")),
        ('{"a": "0.264448791131944429"}', "amount", Decimal("0.264448791131944429")),
        ('{"a": "2.5E-7"}', "amount", Decimal("0.00000025")),
        ('{"a": "2026-11-22T19:30:05Z"}', "time_s", 1_795_375_805),
        ('{"a": "2026-11-22T20:30:05.123456417+01:00"}', "time_s", 1_795_375_805),
        ('{"a": "2026-11-22T19:30:05.9"}', "time_s", 1_795_375_805),
        ('{"a": "0001-01-01T00:00:00Z"}', "time_s", -62_135_596_800),
        ('{"a": false}', "flag", False),
        ('{"a": ["x", "y"]}', "texts", ["x", "y"]),
        ('{"a": [1, 0.5]}', "numbers", [Decimal(1), Decimal("0.5")]),
        ('{"a": null}', "objects", []),
    ],
)
def test_right_values(text: str, method: str, value: Any) -> None:
    assert getattr(fields(text), method)("a") == value


@pytest.mark.parametrize(
    ("text", "method", "says"),
    [
        ('{"b": 1}', "number", "a is missing"),
        ('{"a": null}', "number", "a is null, not a number"),
        ('{"a": "1"}', "number", "a is a string, not a number"),
        ('{"a": true}', "number", "a is true or false, not a number"),
        ('{"a": 1e400}', "number", "a is out of all bounds"),
        ('{"a": 0.5}', "amount", "a holds a number where a string belongs"),
        ('{"a": "NaN"}', "amount", "a is out of all bounds"),
        ('{"a": "1e999999999"}', "amount", "a is out of all bounds"),
        ('{"a": "1,5"}', "amount", "a is not a decimal number"),
        ('{"a": 1}', "text", "a holds a number where a string belongs"),
        ('{"a": 1}', "flag", "a holds a number where true or false belongs"),
        ('{"a": "yesterday"}', "time_s", "a is not an RFC 3339 time"),
        ('{"a": "2026-11-22"}', "time_s", "a is not an RFC 3339 time"),
        ('{"a": []}', "object", "a is a list, not an object"),
        ('{"a": {}}', "objects", "a is an object, not a list"),
        ('{"a": [{}, 1]}', "objects", "a[1] is a number, not an object"),
        ('{"a": ["x", null]}', "texts", "a holds null where a string belongs"),
        ('{"a": [true]}', "numbers", "a holds true or false where a number belongs"),
    ],
)
def test_wrong_values(text: str, method: str, says: str) -> None:
    with pytest.raises(AdapterError) as failure:
        getattr(fields(text), method)("a")
    assert (failure.value.kind, failure.value.message) == (FailureKind.SHAPE, f"/api/x: {says}")


def test_path_leads_into_the_answer() -> None:
    inner = fields('{"a": [{"b": {"c": 1}}]}').objects("a")[0].object("b")
    with pytest.raises(AdapterError, match=r"^/api/x: a\[0\]\.b\.d is missing$"):
        inner.number("d")


@pytest.mark.parametrize("answer", [None, [], 1, "x"])
def test_answer_that_is_no_object(answer: Any) -> None:
    with pytest.raises(AdapterError, match="/api/x: the answer is "):
        Fields(answer, "/api/x")


@pytest.mark.parametrize("answer", [None, {}, "x"])
def test_answer_that_is_no_list(answer: Any) -> None:
    with pytest.raises(AdapterError, match="/api/x: the answer is "):
        objects(answer, "/api/x")


def test_optional_is_none_only_where_nothing_stands() -> None:
    read = fields('{"a": null, "c": 1}')
    assert read.optional("a", read.text) is None
    assert read.optional("b", read.text) is None
    with pytest.raises(AdapterError, match="c holds a number"):
        read.optional("c", read.text)


def test_helpers_are_no_protocols() -> None:
    assert {"storj", "golem"} <= set(known_protocols())
    assert not [name for name in known_protocols() if name.startswith("_")]
    with pytest.raises(ConfigError, match="'_read' is not known"):
        adapter_class("_read")


def test_base_url_loses_its_final_slash() -> None:
    from pydantic import TypeAdapter, ValidationError

    url = TypeAdapter(BaseUrl)
    assert url.validate_python("http://127.0.0.1:14002/") == "http://127.0.0.1:14002"
    for wrong in ("127.0.0.1:14002", "ftp://127.0.0.1", "http://", "http://a b"):
        with pytest.raises(ValidationError):
            url.validate_python(wrong)
