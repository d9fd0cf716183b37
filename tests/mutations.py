"""A JSON value with one thing wrong in it, for each thing that can be wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Mutation:
    """What is wrong (``absent``, ``null``, ``wrong type``), where (``list[].key``), and the body that comes of it."""

    what: str
    where: str
    body: bytes
    of_list: bool


def mutations(body: bytes) -> Iterator[Mutation]:
    """Each key taken away, made null, and given a value of another type; of the members of a list one."""
    value = json.loads(body)
    for where, path in _places(value).items():
        held = _at(value, path)
        for what, wrong in [("null", None), ("wrong type", _of_another_type(held))]:
            if held is not None or wrong is not None:
                yield Mutation(what, where, _changed(value, path, wrong), isinstance(held, list))
        if path and isinstance(path[-1], str):
            yield Mutation("absent", where, _changed(value, path, None, remove=True), isinstance(held, list))


def shape(value: Any) -> frozenset[tuple[str, str]]:
    """Which keys there are and of which types: bodies of one shape break in the same ways."""
    return frozenset((where, type(_at(value, path)).__name__) for where, path in _places(value).items())


def _places(value: Any, path: Path = (), where: str = "") -> dict[str, Path]:
    """The first place of each name, the whole value under the name of nothing."""
    found = {where: path}
    members: list[tuple[str, str | int, Any]] = []
    if isinstance(value, dict):
        members = [(f"{where}.{key}" if where else key, key, member) for key, member in value.items()]
    elif isinstance(value, list):
        members = [(f"{where}[]", index, member) for index, member in enumerate(value)]
    for name, key, member in members:
        found = _places(member, (*path, key), name) | found
    return found


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _changed(value: Any, path: Path, wrong: Any, *, remove: bool = False) -> bytes:
    if not path:
        return json.dumps(wrong).encode()
    changed = copy.deepcopy(value)
    if remove:
        del _at(changed, path[:-1])[path[-1]]
    else:
        _at(changed, path[:-1])[path[-1]] = wrong
    return json.dumps(changed).encode()


def _of_another_type(held: Any) -> Any:
    """What a careless reader would take for the value: a number as text, text that reads as true, an empty list."""
    if isinstance(held, bool):
        return str(held).lower()
    if isinstance(held, int | float):
        return str(held)
    return {str: 7, list: {}, dict: [], type(None): {"x": 1}}[type(held)]
