"""A gateway to a subgraph: it checks the key, and a GraphQL engine executes the query over the entities of a file.

A query that asks for a field or a filter which the schema does not have is refused, as by the real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from graphql import GraphQLResolveInfo, GraphQLScalarType, GraphQLSchema, build_schema, graphql_sync

_KEEPS: dict[str, Callable[[Any, Any], bool]] = {
    "_gte": lambda value, bound: int(value) >= int(bound),
    "_gt": lambda value, bound: int(value) > int(bound),
    "_in": lambda value, among: value in among,
}


def answer(schema: Path, entities: dict[str, Any], headers: Mapping[str, str], body: bytes, key: str) -> bytes:
    """What the gateway says to a request; its refusals have status 200 too."""
    shown = headers.get("authorization", "")
    if not shown:
        return _refusal("auth error: missing authorization header")
    if shown != f"Bearer {key}":
        return _refusal("auth error: API key not found")
    asked = json.loads(body)
    result = graphql_sync(
        subgraph_schema(schema),
        asked["query"],
        entities,
        variable_values=asked["variables"],
        field_resolver=_resolve,
    )
    # Before anything was executed there is no data, not even null.
    shown_result = result.formatted if result.data is not None else {"errors": result.formatted.get("errors")}
    return json.dumps(shown_result).encode()


@cache
def subgraph_schema(path: Path) -> GraphQLSchema:
    """The schema in a file; its numbers of any size are strings in JSON, and anything else is an error."""
    schema = build_schema(path.read_text())
    for name in ("BigInt", "BigDecimal", "Bytes"):
        scalar = schema.type_map[name]
        assert isinstance(scalar, GraphQLScalarType)
        scalar.serialize = _text
    return schema


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value


def _resolve(parent: dict[str, Any], info: GraphQLResolveInfo, **arguments: Any) -> Any:
    value = parent[info.field_name]
    if isinstance(value, list):
        value = [one for one in value if _is_wanted(one, arguments.get("where", {}))]
        return value[arguments.get("skip", 0) :][: arguments["first"]] if "first" in arguments else value
    if isinstance(value, dict) and arguments.get("id", value.get("id")) != value.get("id"):
        return None
    return value


def _is_wanted(entity: Any, where: Mapping[str, Any]) -> bool:
    for condition, operand in where.items():
        ending = next((one for one in _KEEPS if condition.endswith(one)), None)
        value = entity[condition.removesuffix(ending or "")]
        if not (_KEEPS[ending](value, operand) if ending else value == operand):
            return False
    return True


def _refusal(message: str) -> bytes:
    return json.dumps({"errors": [{"message": message}]}).encode()
