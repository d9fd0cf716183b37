"""The configuration: one TOML file, overridden by the environment, with secrets only in files or the environment.

Every fault becomes one line: which file, which key, what was expected, the nearest valid key.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from .adapters import BaseUrl, NodeOptions, adapter_class
from .errors import ConfigError
from .paths import ENV_PREFIX
from .sections import Costs, HealOptions, HostOptions, Section

NAME = re.compile(r"[a-z0-9_]+")
"""What node and host names look like: with a dash, an environment override would make a second node."""

_SECRET_KEYS = re.compile(r"(.*_)?token|password|.*_key|.*secret")
_USERINFO = re.compile(r"[a-z]+://[^/@\s]+@", re.IGNORECASE)

_Model = TypeVar("_Model", bound=BaseModel)


class Prices(Section):
    """``[prices]``: where token prices come from."""

    url: BaseUrl = "https://api.coingecko.com/api/v3"
    """A source with CoinGecko's interface."""
    api_key_file: str | None = None
    """File that holds its demo key; not needed at this rate."""
    api_key: Annotated[SecretStr | None, Field(json_schema_extra={"secret": True})] = None
    fallback_url: BaseUrl = "https://coins.llama.fi"
    """A source with DefiLlama's interface, asked where the first has no price."""
    rates_url: BaseUrl = "https://www.ecb.europa.eu/stats/eurofxref"
    """Daily reference rates like those of the European Central Bank, asked where the first source has no rate of the
    owner's currency, and for past hours."""
    max_age_s: Annotated[int, Field(gt=0)] = 7200
    """A price older than this is stale: shown, but no decision rests on it."""
    ids: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it
    """CoinGecko id of further tokens, e.g. ``FLUX = "zelcash"``."""
    static: dict[str, Annotated[float, Field(ge=0)]] = {}  # noqa: RUF012 - pydantic copies it
    """What a unit of a token is worth in USD by your own word, where no source can tell, e.g. ``FLUX = 0.06``."""


class ForecastOptions(Section):
    """``[forecast]``."""

    horizon_h: Annotated[int, Field(ge=1, le=168)] = 24
    """How far ahead, in hours."""


class OptimizeOptions(Section):
    """``[optimize]``: when a change is worth making."""

    model: Literal["default", "lp", "spec"] = "default"
    """``default`` counts restarts and running costs; ``lp`` looks at every hour by itself, for fleets; ``spec`` is the
    textbook programme, to compare with."""
    horizon_h: Annotated[int, Field(ge=1, le=168)] = 12
    """How long a plan is meant to hold, in hours."""
    learning_days: Annotated[float, Field(ge=0)] = 14
    """Measured history a node needs before anything is proposed for it, in days."""
    min_gain_usd_per_day: Annotated[float, Field(ge=0)] = 0.05
    """The lower 80 % bound of the gain has to exceed this."""
    max_changes_per_day: Annotated[int, Field(ge=0)] = 2
    """Changes to one node in 24 hours."""
    min_dwell_h: Annotated[float, Field(ge=0)] = 1
    """Hours a grant is left alone after it changed."""
    risk: Annotated[float, Field(ge=0, le=1)] = 0
    """Weight of the mean of the worst tenth of what forecasts hold possible; 0: decide by the mean of all."""
    min_improvement_pct: Annotated[float, Field(ge=0)] = 0
    """Net benefit needed, in percent of what the host earns now."""
    min_net_benefit_usd_per_hour: Annotated[float, Field(ge=0)] = 0
    """Net benefit needed, in USD per hour."""
    ignore_change_pct: Annotated[float, Field(ge=0)] = 0
    """Changes of a grant below this many percent are not made."""


class ApplyOptions(Section):
    """``[apply]``."""

    max_plan_age_s: Annotated[int, Field(gt=0)] = 1800
    """A plan older than this is not applied."""
    docker_socket: str = "/var/run/docker.sock"
    """Unix socket of the Docker Engine."""
    podman_socket: str = "/run/podman/podman.sock"
    """Unix socket of Podman's service."""
    verify_timeout_s: Annotated[float, Field(gt=0)] = 180
    """How long a change may take to show in the kernel and in the node."""


class NotifyOptions(Section):
    """``[notify]``: no options yet."""


class FleetOptions(Section):
    """``[fleet]``: no options yet."""


class Settings(BaseSettings):
    """The whole configuration; ``nodes`` is validated further by the adapters' own options."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
        hide_input_in_errors=True,  # a traceback would show it
    )

    raw_retention_days: Annotated[int, Field(gt=0)] = 30
    """How long single readings are kept, in days; hourly earnings are kept for ever."""
    hosts: dict[str, HostOptions] = {}
    costs: Costs = Costs()
    prices: Prices = Prices()
    forecast: ForecastOptions = ForecastOptions()
    optimize: OptimizeOptions = OptimizeOptions()
    apply: ApplyOptions = ApplyOptions()
    heal: HealOptions = HealOptions()
    notify: NotifyOptions = NotifyOptions()
    fleet: FleetOptions | None = None
    nodes: dict[str, dict[str, Any]] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file; nothing else is read."""
        return EnvSettingsSource(settings_cls), init_settings


@dataclass(frozen=True, slots=True)
class Config:
    """A valid configuration: where it came from, its sections, and the options of each node in file order."""

    path: Path | None
    sha256: str | None
    settings: Settings
    nodes: dict[str, NodeOptions]

    def host(self, name: str) -> HostOptions:
        """Options of a host; ``local`` needs no section."""
        return self.settings.hosts.get(name, HostOptions())


def load(path: Path | None, text: str | None) -> Config:
    """What ``text``, read from ``path``, and the environment configure; raises ``ConfigError``, a line a fault."""
    where = str(path) if path else "the environment"
    raw = parse_toml(text or "", where)
    faults = list(_secrets_in_file(raw))
    try:
        settings = Settings(**raw)
    except ValidationError as error:
        raise _config_error(where, [*faults, *_faults(error, (), Settings)]) from error
    except SettingsError as error:
        raise _config_error("the environment", [str(error)]) from error
    nodes: dict[str, NodeOptions] = {}
    for name, options in settings.nodes.items():
        node_faults = list(_node_faults(name, options, settings))
        if not node_faults:
            try:
                nodes[name] = adapter_class(options["protocol"]).Options.model_validate(options)
            except ValidationError as error:
                node_faults = list(_faults(error, ("nodes", name), adapter_class(options["protocol"]).Options))
            except ConfigError as error:
                node_faults = [f"nodes.{name}.protocol: {error.message}; {error.hint}"]
        faults += node_faults
    faults += [f"hosts.{name}: names are made of a-z, 0-9 and _" for name in settings.hosts if not NAME.fullmatch(name)]
    faults += [
        f"hosts.{name}.rapl: only the processors of this machine, [hosts.local], can be measured"
        for name, options in settings.hosts.items()
        if options.rapl and name != "local"
    ]
    faults += _second_account(settings)
    if faults:
        raise _config_error(where, faults)
    digest = hashlib.sha256(text.encode()).hexdigest() if text is not None else None
    return Config(path, digest, settings, nodes)


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text; raises ``ConfigError`` with line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}", "compare it with config.example.toml") from error


def with_secrets(model: _Model, base: Path | None) -> tuple[_Model, list[str]]:
    """The options with every ``<name>_file`` read into ``<name>``, and warnings about files that others can read.

    ``<name>`` is a secret, or a url that may hold one. The environment wins over the file. Raises ``ConfigError`` for
    a file that cannot be read or is empty.
    """
    updates: dict[str, Any] = {}
    warnings: list[str] = []
    secrets = _secret_names(type(model))
    for name in type(model).model_fields:
        file = getattr(model, f"{name}_file", None)
        if file is None or getattr(model, name) is not None:
            continue
        path = _secret_path(file, base)
        text = _read_secret(path, f"{name}_file")
        updates[name] = SecretStr(text) if name in secrets else text.rstrip("/")
        if path.stat().st_mode & 0o004:
            warnings.append(f"{path} can be read by every user of this machine; chmod 600 it")
    return model.model_copy(update=updates), warnings


def secrets_of(model: BaseModel) -> str:
    """All secrets of options that :func:`with_secrets` completed, as one text; "" without any."""
    values = [getattr(model, name) for name in _secret_names(type(model))]
    return "\n".join(value.get_secret_value() for value in values if value is not None)


def _secret_path(file: str, base: Path | None) -> Path:
    path = Path(file).expanduser()
    if path.is_absolute():
        return path
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if credentials and (Path(credentials) / path).exists():
        return Path(credentials) / path
    return (base.parent if base else Path.cwd()) / path


def _read_secret(path: Path, option: str) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(f"{option}: cannot read {path} ({reason})", "write the secret as its only line") from None
    if not text or any(character.isspace() for character in text):
        raise ConfigError(f"{option}: {path} does not hold exactly one word", "write the secret as its only line")
    return text


def _config_error(where: str, faults: list[str]) -> ConfigError:
    return ConfigError("\n".join(f"{where}: {fault}" for fault in faults), "config.example.toml explains every option")


def _node_faults(name: str, options: dict[str, Any], settings: Settings) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"nodes.{name}: names are made of a-z, 0-9 and _"
    if not isinstance(options.get("protocol"), str):
        yield f"nodes.{name}.protocol: expected the name of a protocol, such as storj or golem"
    host = options.get("host", "local")
    if host != "local" and host not in settings.hosts:
        yield f"nodes.{name}.host: there is no section [hosts.{host}]"


def _second_account(settings: Settings) -> Iterator[str]:
    """Grass counts one account a person, so no second one is ever read."""
    names = [name for name, options in settings.nodes.items() if options.get("protocol") == "grass"]
    if len(names) > 1:
        yield f"nodes.{names[1]}: nodes.{names[0]} is a grass node already, and only one account, your own, is read"


def _secrets_in_file(raw: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """Secrets belong in files or the environment: name every one that stands in the TOML itself."""
    for key, value in raw.items():
        here = (*path, key)
        name = ".".join(here)
        if isinstance(value, Mapping):
            yield from _secrets_in_file(value, here)  # pyright: ignore[reportUnknownArgumentType]
        elif _SECRET_KEYS.fullmatch(key):
            yield f"{name}: a secret may not stand in this file; write it to a file and name that in {name}_file"
        elif isinstance(value, str) and _USERINFO.match(value):
            yield f"{name}: a user name or password may not stand in a url"


def _faults(error: ValidationError, path: tuple[str, ...], model: type[BaseModel]) -> Iterator[str]:
    for fault in error.errors(include_url=False, include_input=False):
        location = (*path, *(str(part) for part in fault["loc"]))
        name = ".".join(location)
        if fault["type"] == "extra_forbidden":
            near = get_close_matches(str(fault["loc"][-1]), _valid_keys(model, fault["loc"][:-1]), n=1)
            yield f"{name}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
        else:
            yield f"{name}: {fault['msg'].removeprefix('Value error, ')}"


def _valid_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Keys that may stand where a fault was found, following sections and ``dict[str, section]`` tables."""
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            continue
        annotation = fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        current = next((one for one in candidates if hasattr(one, "model_fields")), None)
    if current is None:
        return []
    return [name for name in current.model_fields if name not in _secret_names(current)]


def _secret_names(model: type[BaseModel]) -> list[str]:
    """Fields that the file may not hold: they come from the environment or from ``<name>_file``."""
    extras = {name: cast("Any", field.json_schema_extra) for name, field in model.model_fields.items()}
    return [name for name, extra in extras.items() if isinstance(extra, dict) and "secret" in extra]
