"""Records what a node answers as a sample for the tests: bodies, routes and how to read them, without what tells.

Two ways: what the adapter asks for, as configured (``--node``), or paths of a url, for a protocol that has no adapter
yet. What a right adapter makes of it, ``expected.json``, is yours to compute by hand from the bodies.
"""

from __future__ import annotations

import argparse
import json
import mimetypes
import re
import secrets
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
from scrub import Scrubber

from depin_orcha.adapters import NodeOptions
from depin_orcha.collect import make_adapter
from depin_orcha.config import load
from depin_orcha.errors import AdapterError, OrchaError
from depin_orcha.net import HttpClient, Reply
from depin_orcha.timefmt import parse_rfc3339, rfc3339

ROOT = Path(__file__).parents[1]
SALT = ROOT / ".cache" / "record-sample.salt"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
LONGEST_NAME = 60


@dataclass(frozen=True)
class Exchange:
    """One question and its answer; ``endless``: only the beginning of the answer was read."""

    method: str
    url: str
    reply: Reply
    endless: bool

    @property
    def body(self) -> str:
        """The answer as text, whatever it is."""
        return self.reply.body.decode(errors="replace")


class Recorder(HttpClient):
    """The client that adapters get, which remembers every answer, the bad ones too."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(deadline_s)
        self.taken: list[Exchange] = []

    def _exchange(self, method: str, url: str, limit_s: float, *, first_line: bool, **parts: Any) -> Reply:
        reply = super()._exchange(method, url, limit_s, first_line=first_line, **parts)
        asked = str(httpx.URL(url, params=parts["params"]) if parts.get("params") else url)
        self.taken.append(Exchange(method, asked, reply, first_line))
        return reply


@dataclass(frozen=True)
class Recording:
    """What was taken, when and with which options, and the secrets that may stand in it."""

    exchanges: list[Exchange]
    bases: dict[str, str]
    """Url of each option, and the path under which the sample's one server answers for it."""
    options: dict[str, Any]
    secrets: list[str]
    now_s: int
    since_s: int | None


def main() -> None:
    """A new folder under tests/samples, or a sentence that says why not."""
    given = arguments()
    folder = given.into / given.protocol / given.version / given.case
    if wrong := [part for part in (given.protocol, given.version, given.case) if not NAME.fullmatch(part)]:
        sys.exit(f"error: {wrong[0]!r} cannot be a folder here: use a-z, 0-9, dot and dash")
    if folder.exists():
        sys.exit(f"error: {folder} exists already")
    try:
        recording = record_node(given) if given.node else record_paths(given)
    except OrchaError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
    if not recording.exchanges:
        sys.exit("error: nothing was answered over HTTP, so there is nothing to record")
    scrubber = Scrubber(salt(given.salt_file), [*recording.secrets, *given.also])
    write(folder, recording, scrubber, f"{given.protocol} {given.version}")
    sys.stdout.write(f"{folder}: read every file before you share it, then compute expected.json by hand\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="record-sample", description=__doc__)
    parser.add_argument("protocol")
    parser.add_argument("version", help="of the node")
    parser.add_argument("case", help="what the sample shows, e.g. healthy")
    parser.add_argument("--node", help="the node of the configuration that is read")
    parser.add_argument("--config", type=Path, help="the configuration", default=Path("config.toml"))
    parser.add_argument("--since", type=parse_rfc3339, help="as if the node had last been read then")
    parser.add_argument("--url", help="base url of a node that has no adapter")
    parser.add_argument("--header-file", type=Path, help="file with one request header, e.g. Authorization: Bearer …")
    parser.add_argument("--also", action="append", default=[], metavar="TEXT", help="replace this text too")
    parser.add_argument("--into", type=Path, default=ROOT / "tests" / "samples", help=argparse.SUPPRESS)
    parser.add_argument("--salt-file", type=Path, default=SALT, help="what makes the replacements; keep it to yourself")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="path and query below --url")
    given = parser.parse_intermixed_args()
    if bool(given.node) == bool(given.url) or bool(given.url) != bool(given.paths):
        parser.error("give either --node, or --url and its paths")
    return given


def salt(path: Path) -> bytes:
    """What every replacement depends on; made once, readable by its owner alone."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)
        path.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()


def record_node(given: argparse.Namespace) -> Recording:
    """What the adapter of a configured node asks for, whatever comes of it."""
    text = given.config.read_text(encoding="utf-8") if given.config.exists() else None
    config = load(given.config, text)
    if given.node not in config.nodes:
        sys.exit(f"error: {given.config} has no node {given.node}")
    options = config.nodes[given.node]
    adapter, _ = make_adapter(config, given.node, options)
    complete: NodeOptions = adapter.options  # pyright: ignore[reportAttributeAccessIssue]
    now_s = int(time.time())
    with Recorder(options.deadline_s) as http:
        try:
            adapter.collect(http, now_s, given.since)
        except AdapterError as error:
            sys.stderr.write(f"the node could not be read ({error.kind}: {error.message}); its answers are kept\n")
    hidden = secret_values(complete)
    urls = {name: value for name, value in own_options(complete).items() if is_url(value)}
    bases = {value: "" if len(set(urls.values())) == 1 else f"/{name}" for name, value in urls.items()}
    shown = {name: value for name, value in own_options(options).items() if not name.endswith("_file")}
    shown |= {name: f"{{url}}{bases[value]}" for name, value in urls.items()} | dict.fromkeys(hidden, "made-up-secret")
    return Recording(http.taken, bases, shown, list(hidden.values()), now_s, given.since)


def record_paths(given: argparse.Namespace) -> Recording:
    """What a url answers under each path."""
    header = given.header_file.read_text(encoding="utf-8").strip() if given.header_file else ""
    name, _, value = header.partition(":")
    headers = {name.strip(): value.strip()} if value else None
    with Recorder(60) as http:
        for path in given.paths:
            try:
                http.request("GET", given.url.rstrip("/") + path, headers=headers)
            except AdapterError as error:
                sys.stderr.write(f"{path}: {error.kind}: {error.message}\n")
    hidden = [word for word in value.split() if len(word) > len("Bearer")]
    return Recording(http.taken, {given.url.rstrip("/"): ""}, {}, hidden, int(time.time()), given.since)


def own_options(options: NodeOptions) -> dict[str, Any]:
    """Those that the protocol adds and that are set."""
    names = type(options).model_fields.keys() - NodeOptions.model_fields.keys()
    return {name: value for name in sorted(names) if (value := getattr(options, name)) is not None}


def secret_values(options: NodeOptions) -> dict[str, str]:
    """Secrets of the options, as they are."""
    own = own_options(options)
    return {name: one.get_secret_value() for name, one in own.items() if hasattr(one, "get_secret_value")}


def is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def write(folder: Path, recording: Recording, scrubber: Scrubber, source: str) -> None:
    """The sample folder, of which nothing was written before all of it was scrubbed."""
    for exchange in recording.exchanges:
        scrubber.learn(exchange.body)
    files: dict[str, str] = {}
    routes: dict[str, dict[str, Any]] = {}
    for exchange in recording.exchanges:
        target, body = scrubber.text(target_of(exchange.url, recording.bases)), scrubber.body(exchange.body)
        known = routes.get(target)
        name = known["file"] if known else file_name(target, body, exchange, files)
        if known and files[name] != body and exchange.method != "GET":
            name = file_name(target, body, exchange, files)
            sys.stderr.write(f"{target}: one address, several questions; routes.toml does not name {name}\n")
        else:
            routes[target] = route(name, exchange)
        files[name] = body
    options = json.loads(scrubber.body(json.dumps(recording.options, default=str)))
    files["routes.toml"] = "\n".join(toml_table(json.dumps(target), values) for target, values in routes.items())
    files["meta.toml"] = meta(recording, options, source)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())


def target_of(url: str, bases: dict[str, str]) -> str:
    """Path and query as a route is named, below the path that stands for the url's own base."""
    base = max((one for one in bases if url.startswith(one)), key=len, default="")
    parts = urlsplit(url)
    path = bases.get(base, "") + parts.path[len(urlsplit(base).path) :]
    query = "&".join(f"{key}={value}" for key, value in parse_qsl(parts.query))
    return (path or "/") + (f"?{query}" if query else "")


def file_name(target: str, body: str, exchange: Exchange, taken: dict[str, str]) -> str:
    """A name that says which route it is of, and is not taken by another."""
    content_type = exchange.reply.headers.get("content-type", "")
    words = re.sub(r"[^A-Za-z0-9]+", "-", target).strip("-").lower() or "root"
    suffix = "html" if "html" in content_type else "json" if is_json(body) else "txt"
    stem, count = words[:LONGEST_NAME].strip("-"), 1
    while (name := f"{stem}{'' if count == 1 else f'-{count}'}.{suffix}") in taken:
        count += 1
    return name


def is_json(body: str) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def route(name: str, exchange: Exchange) -> dict[str, Any]:
    content_type = exchange.reply.headers.get("content-type", "")
    values: dict[str, Any] = {"file": name}
    if exchange.reply.status != 200:
        values["status"] = exchange.reply.status
    kind = content_type.partition(";")[0].strip()
    if kind and kind != mimetypes.guess_type(name)[0]:
        values["content_type"] = content_type
    if exchange.endless:
        values["stream"] = True
    return values


def meta(recording: Recording, options: dict[str, Any], source: str) -> str:
    day = rfc3339(recording.now_s)[:10]
    lines = [f'provenance = "Recorded from {source} on {day}; ids, addresses and tokens are replaced"']
    lines.append(f"now = {rfc3339(recording.now_s)}")
    if recording.since_s is not None:
        lines.append(f"since = {rfc3339(recording.since_s)}")
    return "\n".join([*lines, "", *([toml_table("options", options)] if options else [])])


def toml_table(name: str, values: dict[str, Any]) -> str:
    """A table whose values are texts, numbers, true or false, or lists of them: as JSON writes them."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


if __name__ == "__main__":
    main()
