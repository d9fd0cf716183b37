"""Where the configuration and the database are, as every verb finds them; light enough for ``status``."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import ConfigError

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
