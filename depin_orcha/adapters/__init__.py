"""One module here is one protocol: its options, how to read it, and who can turn which of its knobs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from depin_orcha.adapters._read import Fields as Fields
from depin_orcha.adapters._read import objects as objects
from depin_orcha.errors import ConfigError
from depin_orcha.types import Limits, Resource, Snapshot, Usage

ENTRY_POINT_GROUP = "depin_orcha.adapters"

BaseUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]\S*$"), AfterValidator(lambda url: url.rstrip("/"))]
"""The address of an interface that paths are appended to; a final slash is taken off."""


class NodeOptions(BaseModel):
    """What every node has, whatever its protocol; adapters add their own options."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    protocol: str
    """Which adapter reads this node."""
    host: str = "local"
    """The machine it runs on."""
    apply: bool = False
    """May ``apply --yes`` change this node?"""
    heal: bool = False
    """May ``heal --yes`` restart this node?"""
    deadline_s: Annotated[float, Field(gt=0, le=600)] = 30
    """Longest time that reading this node may take, in seconds."""
    hard_caps: bool = False
    """May its CPU and memory be capped? A node that starves loses more than that earns; Golem is capped anyway."""
    runtime: Literal["docker", "podman", "systemd", "process", "none"] = "none"
    """What runs the node."""
    container: str | None = None
    """Name or id of its container (docker, podman)."""
    unit: str | None = None
    """Name of its unit (systemd)."""
    process: str | None = None
    """Its program as ``ps`` shows it, or the program's full path (process)."""
    account: str | None = None
    """Nodes that share one income carry the same account."""
    disk: str | None = None
    """Mount that holds its data."""
    ingress_group: str | None = None
    """Storj nodes behind one /24 carry the same group."""
    min_units: Annotated[float, Field(ge=0)] = 0
    """Smallest grant the owner wants, in units."""
    max_units: Annotated[float, Field(gt=0)] | None = None
    """Largest grant the owner allows, in units; unset: what the host has."""
    uses_per_unit: dict[Resource, Annotated[float, Field(gt=0)]] | None = None
    """What one unit takes of each resource; unset: the unit of the protocol."""
    busy_watts: Annotated[float, Field(ge=0)] | None = None
    """Power it draws while it works with its largest grant, in watts; unset: part of the host's ``idle_watts``."""

    @property
    def place(self) -> dict[str, str | None]:
        """Where it runs and answers: what a plan for it is made for."""
        told = {key: getattr(self, key) for key in ("host", "runtime", "container", "unit", "process")}
        return told | {"url": urlsplit(getattr(self, "url", None) or "").netloc.rpartition("@")[2] or None}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.max_units is not None and self.min_units > self.max_units:
            raise ValueError(f"min_units {self.min_units:g} is above max_units {self.max_units:g}")
        if self.runtime in ("docker", "podman") and not self.container:
            raise ValueError(f'runtime "{self.runtime}" needs the name of its container')
        if self.runtime == "systemd" and not self.unit:
            raise ValueError('runtime "systemd" needs the name of its unit')
        if self.runtime == "process" and not self.process:
            raise ValueError('runtime "process" needs the name of its process')
        return self


class HttpReader(Protocol):
    """What an adapter needs of the HTTP client (``depin_orcha.net.HttpClient``)."""

    def get_json(
        self, url: str, *, headers: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
    ) -> Any: ...

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        accept: tuple[int, ...] = (),
        first_line: bool = False,
        timeout_s: float | None = None,
    ) -> Any: ...


class Adapter(Protocol):
    """A protocol as this package sees it; every adapter module has one class named ``Adapter``."""

    Options: ClassVar[type[NodeOptions]]
    levers: ClassVar[Mapping[Resource, Literal["native", "runtime", "network"]]]
    uses_per_unit: ClassVar[Mapping[Resource, float]]
    currencies: ClassVar[frozenset[str]]
    """What the protocol pays in; a field ``currencies`` of the options says it for one node (see ``paid_in``)."""

    def __init__(self, node: str, options: Any) -> None: ...

    def collect(self, http: HttpReader, now_s: int, since_s: int | None) -> Snapshot:
        """Read the node once; ``since_s`` is when it was last read well. Raises ``AdapterError``."""
        ...

    def limits(self, usage: Mapping[Resource, Usage]) -> dict[Resource, Limits]:
        """Bounds that the protocol itself puts on a grant, given what is used now."""
        ...


@cache
def adapter_class(protocol: str) -> type[Adapter]:
    """The adapter of a protocol: a module of this package, or an installed plugin's entry point.

    Raises ``ConfigError`` for a name nobody provides, or that a plugin takes from a built-in.
    """
    from importlib.metadata import entry_points

    plugins = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    is_name = protocol.isidentifier() and not protocol.startswith("_")
    built_in = is_name and find_spec(f"{__name__}.{protocol}") is not None
    if built_in and protocol in plugins:
        raise ConfigError(
            f"protocol {protocol!r} is built in, but the plugin {plugins[protocol].value} claims it too",
            "uninstall the plugin",
        )
    if built_in:
        return import_module(f"{__name__}.{protocol}").Adapter
    if protocol in plugins:
        return plugins[protocol].load()
    raise ConfigError(f"protocol {protocol!r} is not known", f"known protocols: {', '.join(known_protocols())}")


def paid_in(options: NodeOptions) -> tuple[str, ...]:
    """The currencies of a node, as its own options list them, else those that its protocol pays in, sorted."""
    return tuple(getattr(options, "currencies", ()) or sorted(adapter_class(options.protocol).currencies))


def known_protocols() -> list[str]:
    """Names of the built-in and the installed protocols, sorted."""
    from importlib.metadata import entry_points
    from pkgutil import iter_modules

    plugins = {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}
    built_in = {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}
    return sorted(plugins | built_in)
