"""The entities of the samples are those that the recorded answers tell of, and the figures are those computed of them.

``recorded`` holds questions to the subgraph, what it answered, and what follows from that by the network's formulas.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import graph_gateway
import pytest
from graphql import graphql_sync
from loopback import Loopback, sample
from sample_cases import SAMPLES, Case

NODE = SAMPLES / "streamr" / "103.3.1"
RECORDED = NODE / "recorded"
OPERATOR = "0xabcdef0123456789abcdef0123456789abcdef01"


def recorded(name: str) -> Any:
    return json.loads((RECORDED / name).read_text())


def answered(operation: str, entities: dict[str, Any], **variables: str) -> dict[str, Any]:
    schema = graph_gateway.subgraph_schema(NODE / "schema.graphql")
    query = (RECORDED / "queries.graphql").read_text()
    variables["op"] = OPERATOR
    result = graphql_sync(
        schema,
        query,
        entities,
        variable_values=variables,
        operation_name=operation,
        field_resolver=graph_gateway._resolve,
    )
    return dict(result.formatted)


@pytest.mark.parametrize(
    ("entities", "answer"),
    [("operator.json", "operator_snapshot.json"), ("unknown-operator/operator.json", "operator_missing.json")],
)
def test_operator_is_the_recorded_one(entities: str, answer: str) -> None:
    assert answered("OperatorSnapshot", json.loads((NODE / entities).read_text())) == recorded(answer)


def test_slashing_is_the_recorded_one() -> None:
    """A subgraph tells it of the operator, as we ask, and at its root, as was recorded."""
    slashings = json.loads((NODE / "slashed" / "operator.json").read_text())["operator"]["slashingEvents"]
    entities = {"slashingEvents": [one | {"operator": OPERATOR} for one in slashings]}
    assert answered("Slashings", entities, since="1794700000") == recorded("slashing_events.json")


@pytest.mark.parametrize("name", ["working", "estimated", "recorded-call"])
def test_reading_says_what_follows_from_the_recorded_answer(name: str) -> None:
    """By the contract, by the subgraph alone, and by what ethers encoded."""
    oracle = recorded("operator_snapshot.expected.json")
    case = Case(NODE / name)
    with Loopback(sample(case.folder)) as server:
        read = case.read(server.url)
    (earned,) = read.earnings
    assert earned.amount == Decimal(oracle["lifetime_accrued_net_wei"]).scaleb(-18)
    assert earned.share == Decimal(oracle["owner_income_fraction"])
    details = read.health.details
    assert Decimal(details["uncollected_data"]) == Decimal(oracle["uncollected_gross_wei"]).scaleb(-18)
    assert Decimal(details["uncollected_limit_data"]) == Decimal(oracle["max_allowed_uncollected_wei"]).scaleb(-18)
    assert float(details["net_data_per_hour"]) == pytest.approx(oracle["current_net_DATA_per_hour"])
    (payable,) = read.standings
    assert payable.amount == earned.share * Decimal(oracle["uncollected_net_wei"]).scaleb(-18)
