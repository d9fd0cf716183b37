"""Files and functions stay small enough to read in one go."""

from __future__ import annotations

from architecture.source import Function, functions, modules, path_of

FILE_LINES = 400
FUNCTION_LINES = 80
FUNCTION_LINES_P95 = 40


def lines(function: Function) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def test_no_file_is_too_long() -> None:
    counts = {str(path_of(name)): len(path_of(name).read_text(encoding="utf-8").splitlines()) for name in modules()}
    assert {path: count for path, count in counts.items() if count > FILE_LINES} == {}


def test_no_function_is_too_long() -> None:
    found = {
        f"{name}.{function.name}": lines(function) for name, tree in modules().items() for function in functions(tree)
    }
    assert {name: count for name, count in found.items() if count > FUNCTION_LINES} == {}


def test_most_functions_are_short() -> None:
    counts = sorted(lines(function) for tree in modules().values() for function in functions(tree))
    assert counts[int(len(counts) * 0.95)] <= FUNCTION_LINES_P95
