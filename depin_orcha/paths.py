"""Where the configuration and the database are, as every verb finds them; light enough for ``status``."""

from __future__ import annotations

import hashlib
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from .asof import AsOf

ENV_PREFIX = "DEPIN_ORCHA_"


def config_path(flag: Path | None) -> Path:
    """The configuration file: as named, else ``depin-orcha/config.toml`` in the user's or the system's folder."""
    if flag is not None:
        return flag
    from platformdirs import site_config_path, user_config_path

    own = user_config_path("depin-orcha") / "config.toml"
    shared = site_config_path("depin-orcha") / "config.toml"
    return shared if shared.exists() and not own.exists() else own


def read_config(flag: Path | None) -> tuple[Path, str | None]:
    """Path and text of the configuration file; text None when there is none and none was named.

    Raises ``ConfigError`` when a named file is missing, or any cannot be read.
    """
    path = config_path(flag)
    try:
        return path, path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if flag is None:
            return path, None
        raise ConfigError(f"{path}: there is no such file", "write one with: depin-orcha init --config PATH") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read ({reason})", "is it a readable text file?") from None


def state_dir() -> Path:
    """Folder of the database: systemd's ``STATE_DIRECTORY``, else the user's state folder."""
    given = os.environ.get("STATE_DIRECTORY")
    if given:
        return Path(given.split(":")[0])
    from platformdirs import user_state_path

    return user_state_path("depin-orcha")


def database_path(flag: Path | None) -> Path:
    """The database file: as named, else ``depin-orcha.db`` in the state folder."""
    return flag if flag is not None else state_dir() / "depin-orcha.db"


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What the look verbs have to know of a configured node."""

    name: str
    protocol: str
    host: str


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
        nodes = [
            NodeConfig(name, options["protocol"], options.get("host", "local"))
            for name, options in raw.get("nodes", {}).items()
        ]
        return nodes, raw.get("prices", {}).get("max_age_s", 7200)
    if text is None and not overridden:
        return [], 7200
    from .config import load

    config = load(path, text)
    nodes = [NodeConfig(name, options.protocol, options.host) for name, options in config.nodes.items()]
    return nodes, config.settings.prices.max_age_s
