"""Public functions, classes and methods are typed and say what is true afterwards.

Properties read as fields, whose names say all; the demo is a program, nothing to call.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from architecture.source import Function, modules

STRUCTURAL = {"Adapter", "Actuator"}
"""Classes whose methods are described once, by the protocol that they implement."""


def public(tree: ast.Module) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                yield from methods(node)


def methods(owner: ast.ClassDef) -> Iterator[tuple[str, Function]]:
    for node in owner.body:
        if isinstance(node, Function) and not node.name.startswith("_") and not is_property(node):
            yield f"{owner.name}.{node.name}", node


def is_property(node: Function) -> bool:
    return any(ast.unparse(one) in ("property", "cached_property") for one in node.decorator_list)


def described_elsewhere(owner: str, tree: ast.Module) -> bool:
    """Is this the method of an implementation, or a signature inside a structural type?"""
    name = owner.split(".", maxsplit=1)[0]
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    bases = [ast.unparse(base) for base in classes[name].bases] if name in classes else []
    return "." in owner and (name in STRUCTURAL or any(base.startswith("Protocol") for base in bases))


def test_public_names_have_docstrings() -> None:
    silent = [
        f"{module}: {name}"
        for module, tree in modules().items()
        for name, node in public(tree)
        if not ast.get_docstring(node) and not described_elsewhere(name, tree) and not module.startswith("demo")
    ]
    assert silent == []


def test_public_functions_are_typed() -> None:
    untyped = []
    for module, tree in modules().items():
        for name, node in public(tree):
            if isinstance(node, ast.ClassDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            named = [one for one in arguments if one.arg not in ("self", "cls")]
            if node.returns is None or any(one.annotation is None for one in named):
                untyped.append(f"{module}: {name}")
    assert untyped == []
