"""Who may import whom: deciding is pure, the edges are thin, adapters know no other adapter."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter

import pytest
from architecture.source import STDLIB, imports, modules, path_of

WORLD = {"httpx", "sqlite3", "sqlite_utils", "subprocess", "os", "typer", "rich"}
PURE = {
    "types",
    "errors",
    "accrual",
    "costs",
    "growth",
    "economics",
    "anomalies",
    "heal",
    "values",
    "timefmt",
    "forecast",
    "optimize",
}
TOP = {"cli", "cli_look", "cli_setup", "cycle"}
VERBS = {"collect", "planning", "execute", "status"}


def first(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def ours(module: str) -> set[str]:
    return {
        name.removeprefix("depin_orcha").removeprefix(".") for name in imports(module) if first(name) == "depin_orcha"
    }


def siblings(package: str) -> list[str]:
    return [name for name in modules() if name.startswith(f"{package}.")]


@pytest.mark.parametrize("module", [name for name in modules() if first(name) in PURE])
def test_pure_modules_touch_nothing(module: str) -> None:
    assert {first(name) for name in imports(module)} & WORLD == set()
    border = {"muted"} if module == "optimize.highs" else set[str]()
    assert {first(name) for name in ours(module)} <= PURE | {""} | border


@pytest.mark.parametrize("module", siblings("adapters"))
def test_adapters_know_only_the_nouns(module: str) -> None:
    foreign = {first(name) for name in imports(module)} - STDLIB - {"depin_orcha", "pydantic"}
    shared = {name for name in siblings("adapters") if name.split(".")[1].startswith("_")}
    assert foreign == set()
    may_know = {"types", "errors", "timefmt", "adapters", ""} | shared
    assert ours(module) - {module} <= may_know | ({"commands"} if module == "adapters.exec" else set())


@pytest.mark.parametrize("module", siblings("actuators"))
def test_actuators_do_not_know_each_other(module: str) -> None:
    others = {name for name in siblings("actuators") if not name.split(".")[1].startswith("_")}
    assert ours(module) & (others - {module}) == set()


def test_imports_form_no_cycle() -> None:
    graph = {name: ours(name) - {name, ""} for name in modules() if name}
    packages = {name: {one for one in found if not name.startswith(f"{one}.")} for name, found in graph.items()}
    try:
        order = list(TopologicalSorter(packages).static_order())
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' <- '.join(error.args[1])}")
    assert order


def test_only_the_entry_point_imports_the_command_line() -> None:
    assert {name for name in modules() if "cli" in ours(name)} <= {"__main__"}


def test_nothing_below_a_verb_imports_it() -> None:
    below = {
        "store",
        "database",
        "schema",
        "asof",
        "net",
        "config",
        "host",
        "commands",
        "prices",
        "power",
        "energy",
        "sections",
        "adapters",
        "actuators",
        "render",
    }
    found = {name: sorted(ours(name) & (TOP | VERBS)) for name in modules() if first(name) in below | PURE}
    assert {name: above for name, above in found.items() if above} == {}


def test_only_one_module_runs_commands() -> None:
    assert [name for name in modules() if "subprocess" in imports(name)] == ["commands"]
    assert {name for name in modules() if "commands" in ours(name)} == {"adapters.exec", "collect", "doctor", "outside"}


def test_click_is_never_imported() -> None:
    assert [name for name in modules() if "click" in {first(one) for one in imports(name)}] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path_of(name)) for name, tree in modules().items() if name != "__main__" and not ast.get_docstring(tree)
    ]
    assert silent == []
