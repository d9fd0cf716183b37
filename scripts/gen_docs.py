"""The reference pages, made from what they describe: commands, schemas, exit codes, options, tables."""

from __future__ import annotations

import ast
import inspect
import json
import re
import sqlite3
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import levers_page
from pydantic import BaseModel
from typer.main import get_command

from depin_orcha import database
from depin_orcha.adapters import NodeOptions, adapter_class, known_protocols
from depin_orcha.cli import app
from depin_orcha.config import Settings
from depin_orcha.errors import ExitCode

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "reference"
SCHEMAS = ROOT / "depin_orcha" / "schemas"
NOTICE = "<!-- Made by scripts/gen-docs; change what it describes, not this page. -->"
MEANINGS = {
    ExitCode.OK: "Done; also when there was nothing to do, a plan holds, or there is no history yet.",
    ExitCode.INTERNAL: "Internal error, disk full, or a closed pipe.",
    ExitCode.USAGE: "Usage: an unknown verb, option or node. Nothing is printed on stdout, with `--json` either.",
    ExitCode.PARTIAL: "Partial: some nodes or actions failed, the rest was kept.",
    ExitCode.DATA: "Data: no plan or an expired one, a corrupt or newer database, a bad input file.",
    ExitCode.UNREACHABLE: "Nodes were asked and none delivered a reading.",
    ExitCode.LOCKED: "Another run holds the lock; try later, or use `--wait`.",
    ExitCode.NOT_PERMITTED: "Not permitted: a state folder, a socket, a control group.",
    ExitCode.CONFIG: "Configuration: malformed, an unknown key, a named file that is missing, no node at all.",
    ExitCode.INTERRUPTED: "Interrupted (SIGINT). The database is whole; the next run carries on.",
    ExitCode.TERMINATED: "Terminated (SIGTERM). As 130.",
}


def main() -> None:
    """Write every page, or with ``--check`` fail and name those that differ from what would be written."""
    pages = {name: page() for name, page in PAGES.items()}
    if "--check" in sys.argv[1:]:
        drifted = [name for name, text in pages.items() if not _is(FOLDER / name, text)]
        if drifted:
            sys.exit(f"out of date: {', '.join(drifted)}; run scripts/gen-docs")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def commands_page() -> str:
    group: Any = get_command(app)
    with group.make_context("depin-orcha", [], resilient_parsing=True) as root:
        records = {
            name: _records(command, command.make_context(name, [], parent=root, resilient_parsing=True))
            for name, command in group.commands.items()
        }
    everywhere = set.intersection(*(set(found) for found in records.values()))
    first = next(iter(records.values()))
    page = [_head("Commands", group.help), "## Options of every verb", "", "They stand after the verb.", ""]
    page += _table(("option", "meaning"), ((f"`{name}`", first[name]) for name in first if name in everywhere))
    for name, command in group.commands.items():
        own = [(f"`{option}`", text) for option, text in records[name].items() if option not in everywhere]
        page += [f"## {name}", "", *textwrap.dedent(command.help or "").strip().splitlines(), ""]
        page += _table(("argument or option", "meaning"), own) if own else []
        page += [inspect.cleandoc(command.epilog or ""), ""]
    return _text(page)


def _records(command: Any, context: Any) -> dict[str, str]:
    found = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            found[record[0]] = record[1]
    return found


def json_page() -> str:
    schemas = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(SCHEMAS.glob("*.json"))}
    shared: dict[str, Any] = {}
    about = (
        "`--json` prints exactly one document on stdout. `depin-orcha VERB --json-schema` prints its schema. "
        "Fields are only ever added. Times are RFC 3339 in UTC, amounts of a token are decimal text, "
        "`usd` keys are numbers, `null` means unknown."
    )
    page = [_head("JSON", about), "## Every document"]
    envelope = schemas["status"]
    page += _fields(envelope | {"properties": {key: _plain(one) for key, one in envelope["properties"].items()}})
    for verb, schema in schemas.items():
        parts = schema["$defs"]
        data = parts.get("data", schema)
        page += [f"## {verb}", "", schema["title"] + ".", ""]
        for variant in data.get("anyOf", [data]):
            page += _fields(variant)
        shared |= {name: part for name, part in parts.items() if name != "data"}
    page += ["## Shared shapes", ""]
    for name, part in sorted(shared.items()):
        page += [f"### {name}", "", *(_fields(part) if "properties" in part else [_shape(part) + ".", ""])]
    return _text(page)


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an envelope's field that is the same for every verb."""
    if "const" in schema:
        return {"description": "`depin-orcha/VERB/1`", "type": "string"}
    return {"description": "see the verb below", "type": ["object", "null"]} if "anyOf" in schema else dict(schema)


def _fields(schema: Mapping[str, Any]) -> list[str]:
    required = schema.get("required", [])
    rows = [
        (f"`{name}`", _shape(part), "yes" if name in required else "no", part.get("description", ""))
        for name, part in schema["properties"].items()
    ]
    return _table(("field", "value", "always there", "meaning"), rows)


def _shape(schema: Mapping[str, Any]) -> str:
    """A schema as a short phrase."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name})"
    for key in ("anyOf", "oneOf"):
        if key in schema and "type" not in schema:
            return " or ".join(_shape(one) for one in schema[key])
    if "enum" in schema:
        return ", ".join("null" if value is None else f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kinds = schema.get("type", "anything")
    names = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join(_kind(name, schema) for name in names)


def _kind(name: str, schema: Mapping[str, Any]) -> str:
    if name == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    values = schema.get("additionalProperties")
    if name == "object" and isinstance(values, Mapping):
        keys = schema.get("propertyNames", {})
        return f"object of {_shape(keys) if '$ref' in keys else 'name'} to {_shape(values)}"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]}" for key, sign in bounds.items() if key in schema] if name != "null" else []
    shown = "true or false" if name == "boolean" else name
    return f"{shown} {', '.join(limits)}" if limits else shown


def exit_codes_page() -> str:
    page = [_head("Exit codes", "Codes 64 to 78 are those of BSD `sysexits.h`. New ones may be added.")]
    page += _table(("code", "name", "meaning"), ((str(int(one)), one.name, MEANINGS[one]) for one in ExitCode))
    return _text(page)


def config_page() -> str:
    about = (
        "One TOML file. `DEPIN_ORCHA_<SECTION>__[<NAME>__]<OPTION>` in the environment wins over it. A secret stands "
        "in a file of its own, named by the option that ends in `_file`, or in the environment under the name without "
        "`_file`; never in the TOML."
    )
    page = [_head("Configuration", about), "## At the top"]
    nested: dict[str, type[BaseModel]] = {}
    top: list[str] = []
    for name, field in Settings.model_fields.items():
        inner = list(_models(field.annotation))
        if inner:
            nested[f"{name}.<name>" if str(field.annotation).startswith("dict") else name] = inner[0]
        elif name != "nodes":
            top.append(name)
    page += _options(Settings, top)
    for section, model in nested.items():
        page += [f"## [{section}]", "", _doc(model), "", *_options(model, list(model.model_fields))]
    page += ["## [nodes.<name>]", "", _doc(NodeOptions), "", *_options(NodeOptions, list(NodeOptions.model_fields))]
    for protocol in known_protocols():
        own = adapter_class(protocol).Options
        # Annotated here or given another default: inherited options stand above.
        mine = [name for name in own.model_fields if name in vars(own).get("__annotations__", {})]
        page += [f'### protocol = "{protocol}"', "", _doc(own), "", *_options(own, mine)]
    return _text(page)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, BaseModel):
            yield one


def _doc(model: type[BaseModel]) -> str:
    """What a class says of itself, without the name of its table, which is the heading."""
    text = " ".join((inspect.getdoc(model) or "").replace("``", "`").split())
    text = re.sub(r"^`\[[^]]*\]`[:.] ?", "", text)
    return text[:1].upper() + text[1:]


def _options(model: type[BaseModel], names: list[str]) -> list[str]:
    schema = model.model_json_schema(by_alias=True)
    parts = schema.get("$defs", {})
    meanings = dict(_attribute_docs(model))
    rows = []
    for name in names:
        field = model.model_fields[name]
        extra = field.json_schema_extra
        if isinstance(extra, Mapping) and extra.get("secret"):
            continue
        shown = field.alias or name
        default = "required" if field.is_required() else f"`{json.dumps(field.get_default(), default=str)}`"
        rows.append((f"`{shown}`", _resolved(schema["properties"][shown], parts), default, meanings.get(name, "")))
    return _table(("option", "value", "default", "meaning"), rows) if rows else []


def _resolved(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """As ``_shape``, with the model's own parts put in and null, the unset value, left out."""
    if "$ref" in schema:
        part = parts[schema["$ref"].rsplit("/", 1)[-1]]
        if "properties" not in part:
            return _shape(part)
        return "{" + ", ".join(f"{name} = {_resolved(one, parts)}" for name, one in part["properties"].items()) + "}"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_resolved(one, parts) for one in schema[key] if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_resolved(schema['items'], parts)}"
    values = schema.get("additionalProperties")
    if isinstance(values, Mapping):
        return f"table of {'resource' if 'propertyNames' in schema else 'name'} to {_resolved(values, parts)}"
    return _shape(schema)


def _attribute_docs(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """The string under each attribute of a class and its bases."""
    for base in reversed(model.__mro__):
        if not base.__module__.startswith("depin_orcha"):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for node, after in pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
                text = ast.literal_eval(after.value)
                yield node.target.id, " ".join(text.replace("``", "`").split())


def tables_page() -> str:
    about = (
        "One SQLite file. Times are UTC epoch seconds, amounts decimal text; `decimal_sum` and `decimal_mul` are those "
        "of SQLite's own decimal extension. `learned_s` is when a row became known. Read it freely; write only with "
        "depin-orcha."
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "schema.db"
        with database.open_for_writing(path) as connection:
            rows = _objects(connection)
    page = [_head("Database", about)]
    for kind, title in (("table", "Tables"), ("view", "Views")):
        page += [f"## {title}", ""]
        for name, sql in ((name, sql) for found, name, sql in rows if found == kind):
            page += [f"### {name}", "", "```sql", sql, "```", ""]
    return _text(page)


def _objects(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT GLOB '*sqlite_*' ORDER BY name"
    return [row for row in connection.execute(query).fetchall() if row[2]]


def _head(title: str, about: str) -> str:
    return f"{NOTICE}\n\n# {title}\n\n{about.strip()}\n"


def _table(names: tuple[str, ...], rows: Any) -> list[str]:
    lines = ["", "| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [*lines, ""]


def _text(lines: list[str]) -> str:
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.strip() + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands_page,
    "json.md": json_page,
    "exit-codes.md": exit_codes_page,
    "config.md": config_page,
    "schema.md": tables_page,
    "levers.md": lambda: _text([_head(levers_page.TITLE, levers_page.ABOUT), *levers_page.levers(_table)]),
}

if __name__ == "__main__":
    main()
