"""Every option that can hold a secret, taken from the code itself, and an owner who has configured all of them.

Each secret is a canary of its own: a text that nothing else contains.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, get_args, get_origin
from urllib.parse import quote, urlsplit

import psutil
import pytest
from operator_parts import Done, Place
from pydantic import BaseModel
from sample_cases import Case, cases

from depin_orcha.adapters import adapter_class
from depin_orcha.config import Settings

SHOWN = 12
"""So many characters of a secret are too many."""
WAYS = ("files", "environment", "user and password")
"""Where secrets stand; in the last way the environment also has a user and a password in every url."""

Model = type[BaseModel]


def _samples() -> dict[str, Case]:
    """Of each protocol the sample that knows most secrets, if possible the one in which all is well."""
    good = [case for case in cases() if "wrong" not in case.folder.name]
    ordered = sorted(good, key=lambda case: (len(case.secrets()), case.meta.get("baseline", False)))
    return {case.protocol: case for case in ordered}


SAMPLES = _samples()


@dataclass(frozen=True)
class Credential:
    """An option that is a secret, or a url: one that has a file may hold a key anywhere."""

    table: str
    option: str
    is_url: bool
    has_file: bool

    @property
    def name(self) -> str:
        return f"{self.table}.{self.option}"

    @property
    def canary(self) -> str:
        digest = sha256(self.name.encode()).hexdigest()
        return f"{digest[:20]}+/{digest[20:40]}="

    @property
    def variable(self) -> str:
        return f"DEPIN_ORCHA_{self.name}".replace(".", "__").upper()

    def value(self, word: str, address: str, *, userinfo: bool = False) -> str:
        """The option with ``word`` in it as the secret; ``address`` is what a url says besides."""
        if not self.is_url:
            return word
        parts, word = urlsplit(address), quote(word, safe="")
        user = f"user:{word}@" if userinfo else ""
        if not self.has_file:
            return f"{parts.scheme}://{user}{parts.netloc}{parts.path}"
        return f"{parts.scheme}://{user}{parts.netloc}/{word}{parts.path}?key={word}"


def tables() -> Iterator[tuple[str, Model]]:
    """Each table that a configuration may have, and its options; of named tables one, of nodes one a protocol."""
    yield from _tables("", Settings)
    for protocol in SAMPLES:
        yield f"nodes.{protocol}", adapter_class(protocol).Options


def _tables(path: str, model: Model) -> Iterator[tuple[str, Model]]:
    yield path, model
    for name, field in model.model_fields.items():
        named = ".local" if get_origin(field.annotation) is dict else ""
        for inner in inside(field.annotation, BaseModel):
            yield from _tables(f"{path}.{name}{named}".lstrip("."), inner)


def inside(annotation: Any, wanted: type) -> Iterator[Any]:
    """The subclasses of a class that an annotation is made of."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, wanted):
        yield annotation
    for part in get_args(annotation):
        yield from inside(part, wanted)


def is_secret(model: Model, option: str) -> bool:
    """Is the option marked as one that may not stand in the file?"""
    extra: Any = model.model_fields[option].json_schema_extra
    return isinstance(extra, dict) and extra.get("secret") is True


CREDENTIALS = [
    Credential(table, option, not is_secret(model, option), f"{option}_file" in model.model_fields)
    for table, model in tables()
    for option in model.model_fields
    if is_secret(model, option) or option == "url" or option.endswith("_url")
]
TABLES = list(dict.fromkeys([*(one.table for one in CREDENTIALS), *(f"nodes.{name}" for name in SAMPLES)]))
"""Where somebody is asked something."""


def _forms(secret: str) -> set[bytes]:
    """How a secret may be written: as it is, in a url, in base64 wherever it begins there, and cut short."""
    raw = secret.encode()
    encoded = [base64.b64encode(bytes(before) + raw)[4 if before else 0 : -4] for before in range(3)]
    in_urls = [one.translate(bytes.maketrans(b"+/", b"-_")) for one in encoded]
    return {raw, quote(secret, safe="").encode(), raw[:SHOWN], *encoded, *in_urls}


FORMS = {one.name: _forms(one.canary) for one in CREDENTIALS}
FORMS["what the login at nodes.mysterium gave"] = _forms("HEADER.PAYLOAD.SIGNATURE")


def check(where: str, content: bytes) -> None:
    """None of the secrets is in it, in no form."""
    for name, forms in FORMS.items():
        for form in forms:
            if form in content:
                at = content.index(form)
                pytest.fail(f"{where} shows {name}: {content[max(at - 200, 0) : at + 100]!r}")


class Owner(Place):
    """Somebody who has configured everything that there is."""

    def configure_all(
        self, addresses: Mapping[str, str], way: str, *, damage: str = "{0}", more: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, str]:
        """The environment that goes with the configuration.

        ``damage``: what becomes of each secret; ``more``: options beside those of the samples, by table.
        """
        sections: dict[str, dict[str, Any]] = {table: {} for table in addresses}
        for protocol, case in SAMPLES.items():
            sections[f"nodes.{protocol}"] = case.options(addresses[f"nodes.{protocol}"])
        environment: dict[str, str] = {}
        for one in CREDENTIALS:
            section = sections[one.table]
            address = section.pop(one.option, addresses[one.table]) if one.is_url else ""
            value = one.value(damage.format(one.canary), address, userinfo=way == "user and password")
            section.pop(one.option, None)
            if one.is_url and not one.has_file and way != "user and password":
                section[one.option] = value
            elif one.has_file and way == "files":
                section[f"{one.option}_file"] = self._secret_file(one.name, value)
            else:
                environment[one.variable] = value
        self.configure("".join(table(name, {**options, **more.get(name, {})}) for name, options in sections.items()))
        return environment

    def _secret_file(self, name: str, text: str) -> str:
        path = self.folder.parent / "secrets" / name
        path.parent.mkdir(exist_ok=True)
        path.touch(0o600)
        path.write_text(text)
        return str(path)

    def watched(self, words: list[str], now: int, environment: Mapping[str, str]) -> Done:
        """Run a verb in a process of its own; neither it nor what it starts has a secret among its arguments."""
        seen: set[str] = set()
        process = self.start(*words, now=now, env=self.environment(**environment))
        watcher = threading.Thread(target=_watch, args=(psutil.Process(process.pid), seen))
        watcher.start()
        out, err = process.communicate(timeout=60)
        watcher.join()
        assert any(words[0] in arguments for arguments in seen)
        check(f"{words}: arguments", "\n".join(seen).encode())
        return self.checked(Done(process.returncode, out.decode(), err.decode()))

    def checked(self, done: Done) -> Done:
        """What a command printed, and every file of the state folder, show no secret."""
        check("stdout", done.out.encode())
        check("stderr", done.err.encode())
        # Not opened here: that would end the locks that this process holds on the database.
        files = [str(path) for path in self.folder.rglob("*") if path.is_file()]
        assert any(path.endswith("-wal") for path in files)
        check("a file", subprocess.run(["cat", *files], capture_output=True, check=True).stdout)
        return done


def table(name: str, options: Mapping[str, Any]) -> str:
    """A table in TOML."""
    return "".join([f"[{name}]\n", *(f"{key} = {json.dumps(value)}\n" for key, value in options.items()), "\n"])


def looks_secret(option: str) -> bool:
    """Would somebody who reads the name of an option expect a secret?"""
    name = re.search(r"token|password|secret|(^|_)key($|_)", option)
    return name is not None and not option.endswith("_file")


def _watch(process: psutil.Process, seen: set[str]) -> None:
    """The arguments of a process and of all that it starts, as long as it runs."""
    with suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            for one in [process, *process.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    seen.add(" ".join(one.cmdline()))
            time.sleep(0.002)
