"""The configured nodes as the look verbs need them, read as lightly as a sound configuration allows."""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import UsageError
from .paths import ENV_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .asof import AsOf


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the look verbs have to know of a configured node."""

    name: str
    protocol: str
    host: str
    source: str
    """Whose income is read through it, as in :func:`sources_of`."""


def configured_nodes(path: Path, text: str | None, known: AsOf | None) -> tuple[list[NodeConfig], int]:
    """The configured nodes in file order, and the age at which a price is stale, in seconds.

    A file that a run has validated, byte for byte, is only parsed; any other, and any override in the environment, is
    validated in full. Raises ``ConfigError``.
    """
    overridden = any(
        name.startswith(ENV_PREFIX) and name not in (f"{ENV_PREFIX}CONFIG", f"{ENV_PREFIX}DB") for name in os.environ
    )
    digest = hashlib.sha256(text.encode()).hexdigest() if text is not None else ""
    if not overridden and text is not None and known is not None and known.config_was_valid(digest):
        raw = tomllib.loads(text)
        given = {
            name: (options["protocol"], options.get("host", "local"), options.get("account"))
            for name, options in raw.get("nodes", {}).items()
        }
        return _nodes(given), raw.get("prices", {}).get("max_age_s", 7200)
    if text is None and not overridden:
        return [], 7200
    from .config import load

    config = load(path, text)
    given = {name: (options.protocol, options.host, options.account) for name, options in config.nodes.items()}
    return _nodes(given), config.settings.prices.max_age_s


def _nodes(given: Mapping[str, tuple[str, str, str | None]]) -> list[NodeConfig]:
    sources = sources_of({name: (protocol, account) for name, (protocol, _, account) in given.items()})
    return [NodeConfig(name, protocol, host, sources[name]) for name, (protocol, host, _) in given.items()]


def first_of_account(given: Mapping[str, tuple[str, str | None]]) -> dict[str, str]:
    """Node -> the node its income is booked on: the first in the file of those that share protocol and account."""
    first: dict[str, str] = {}
    sources = sources_of(given)
    for name, source in sources.items():
        first.setdefault(source, name)
    return {name: first[source] for name, source in sources.items()}


def sources_of(given: Mapping[str, tuple[str, str | None]]) -> dict[str, str]:
    """Node -> whose income is read through it: its own, by its name, or that of an account of its protocol."""
    return {name: name if account is None else f"{protocol} {account}" for name, (protocol, account) in given.items()}


def check_names(asked: Iterable[str], configured: Iterable[str], known: AsOf | None) -> None:
    """Raises ``UsageError`` for a ``--node`` that neither the configuration nor the database has."""
    names = {*configured, *(node.name for node in (known.nodes() if known else []))}
    for name in sorted(set(asked) - names):
        raise UsageError(
            f"there is no node {name!r}, neither in the configuration nor in the database",
            f"known nodes: {', '.join(sorted(names)) or 'none'}",
        )
