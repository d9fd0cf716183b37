"""The JSON Schemas are valid, stand on their own, and agree with each other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from architecture.source import PACKAGE
from jsonschema import Draft202012Validator, ValidationError

SCHEMAS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (PACKAGE / "schemas").glob("*.json")}
ENVELOPES = sorted(SCHEMAS.keys() - {"exec", "problem"})
NOW = "2026-11-22T20:15:00Z"
FAILURE = {"node": None, "kind": "locked", "message": "another run holds the lock", "hint": ""}


def references(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = {schema["$ref"]} if "$ref" in schema else set()
        return own.union(*(references(value) for value in schema.values()))
    return set().union(*(references(value) for value in schema)) if isinstance(schema, list) else set()


def envelope(verb: str, status: str, data: Any, failures: list[Any]) -> dict[str, Any]:
    head = {"schema": f"depin-orcha/{verb}/1", "generated_at": NOW, "status": status}
    return head | {"data": data, "failures": failures}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schema_is_valid_and_stands_alone(name: str) -> None:
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    assert references(schema) == {f"#/$defs/{part}" for part in schema["$defs"]}


def test_shared_parts_are_the_same_everywhere() -> None:
    meanings: dict[str, set[str]] = {}
    for schema in SCHEMAS.values():
        for part, meaning in schema["$defs"].items():
            if part not in ("data", "node"):
                meanings.setdefault(part, set()).add(json.dumps(meaning, sort_keys=True))
    assert {part for part, found in meanings.items() if len(found) > 1} == set()


def test_envelopes_differ_only_in_their_data() -> None:
    shells = set()
    for verb in ENVELOPES:
        shell = {key: value for key, value in SCHEMAS[verb].items() if key not in ("$defs", "title")}
        own = {f"urn:depin-orcha:{verb}:1", f"depin-orcha/{verb}/1"}
        shells.add(re.sub("|".join(own), "", json.dumps(shell, sort_keys=True)))
    assert len(shells) == 1


@pytest.mark.parametrize("verb", ENVELOPES)
def test_failed_verb_says_why(verb: str) -> None:
    validator = Draft202012Validator(SCHEMAS[verb])
    validator.validate(envelope(verb, "error", None, [FAILURE]))
    for wrong in (
        envelope(verb, "error", None, []),
        envelope(verb, "success", None, []),
        envelope("other", "error", None, [FAILURE]),
        envelope(verb, "error", None, [FAILURE | {"kind": "bad luck"}]),
        envelope(verb, "success", {}, []),
    ):
        with pytest.raises(ValidationError):
            validator.validate(wrong)


def test_fields_may_be_added() -> None:
    document = envelope("import", "success", {"added": 3, "unchanged": 0, "later": "new"}, []) | {"also": 1}
    Draft202012Validator(SCHEMAS["import"]).validate(document)
    assert 'additionalProperties": false' not in json.dumps([SCHEMAS[verb] for verb in ENVELOPES])


def test_status_schema_holds_run_and_demo_too() -> None:
    status = SCHEMAS["status"]["$defs"]["data"]
    assert SCHEMAS["run"]["$defs"]["status"] == status
    assert SCHEMAS["demo"]["$defs"]["status"] == status


def problem(**node: Any) -> dict[str, Any]:
    required = {"uses_per_unit": {"cpu_cores": 1}, "current_units": 4, "max_units": 8, "usd_per_unit_hour": 0.012}
    nodes = [{"node": "golem_1", **required, **node}]
    return {"horizon_h": 12, "hosts": [{"host": "box", "capacity": {"cpu_cores": 8}, "nodes": nodes}]}


def test_problem_schema_takes_the_contracts_example_and_refuses_unknown_keys() -> None:
    validator = Draft202012Validator(SCHEMAS["problem"])
    validator.validate(problem())
    validator.validate(problem(usd_per_unit_hour=[0.01, 0.02], current_units=None))
    for wrong in (
        problem(max_untis=8),
        problem(current_units=-1),
        problem(uses_per_unit={"cores": 1}),
        problem(choices=[]),
    ):
        with pytest.raises(ValidationError):
            validator.validate(wrong)
