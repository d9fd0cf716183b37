"""``[hosts.<name>]`` and ``[costs]``: what the owner says of machines, power and money."""

from __future__ import annotations

from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag, field_validator, model_validator

from .types import Resource

Amounts = dict[Resource, Annotated[float, Field(ge=0)]]


class Section(BaseModel):
    """A table of the file: unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HostOptions(Section):
    """A machine; ``[hosts.local]`` is this one, whose capacity is measured."""

    capacity: Amounts = {}
    """What the machine has of each resource; for ``local`` it overrides what is measured."""
    reserve: Amounts = {}
    """What the owner keeps for other things."""
    disks: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Bytes of each mount that nodes name as ``disk``."""
    idle_watts: Annotated[float, Field(ge=0)] | None = None
    """Power of the machine when its nodes do nothing, in watts."""
    always_on: bool = False
    """The machine would run without any node too."""
    watts_url: Annotated[str | None, Field(pattern=r"^https?://[^/\s]\S*$")] = None
    """Where a smart plug or a home-automation server tells the power of the whole machine in JSON."""
    watts_url_file: str | None = None
    """File that holds this url, where it contains a key."""
    watts_path: Annotated[str | None, Field(min_length=1)] = None
    """Where the watts stand in that JSON: names and list positions joined by dots, ``data.0.power``."""
    watts_token_file: str | None = None
    """File with a token that is sent as ``Authorization: Bearer``."""
    watts_token: Annotated[SecretStr | None, Field(json_schema_extra={"secret": True})] = None
    rapl: bool = False
    """Measure this machine's processors, which is less than all of its power."""

    @model_validator(mode="after")
    def _one_meter(self) -> Self:
        if self.has_url != (self.watts_path is not None):
            raise ValueError("watts_url (or watts_url_file) and watts_path belong together")
        if self.has_url and self.rapl:
            raise ValueError("name one meter: watts_url or rapl")
        return self

    @property
    def has_url(self) -> bool:
        """Is its power told at a url?"""
        return self.watts_url is not None or self.watts_url_file is not None


class TariffHour(Section):
    """A price of electricity from a local hour on, until the next entry."""

    from_: Annotated[str, Field(alias="from", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    price: float


class TariffSource(Section):
    """Hourly prices of electricity: CSV with the header ``start,price``, from a file or a url."""

    csv: str | None = None
    url: Annotated[str | None, Field(pattern=r"^https?://[^/\s]\S*$")] = None
    url_file: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.csv, self.url, self.url_file].count(None) != 2:
            raise ValueError("expected one of csv, url and url_file")
        return self


def _kind_of_tariff(value: Any) -> str:
    return "hours" if isinstance(value, list) else "source" if isinstance(value, dict | TariffSource) else "number"


Tariff = Annotated[
    Annotated[float, Tag("number")]
    | Annotated[list[TariffHour], Field(min_length=1), Tag("hours")]
    | Annotated[TariffSource, Tag("source")],
    Discriminator(_kind_of_tariff),
]


class Costs(Section):
    """``[costs]``: what running costs, and the money the owner counts in."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """Shown beside USD."""
    timezone: str | None = None
    """IANA name for the hours of the tariff; unset: the machine's."""
    electricity_per_kwh: Tariff | None = None
    """Price of electricity in ``currency``: a number, a table of local hours, or hourly prices as CSV
    (``start,price``); unset: net income is unknown."""

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                ZoneInfo(value)
            except (OSError, ValueError, KeyError) as error:
                raise ValueError("expected an IANA time zone such as Europe/Berlin") from error
        return value


class HealOptions(Section):
    """``[heal]``: when a fallen node with ``heal = true`` is restarted, and when no more."""

    unanswered_s: Annotated[int, Field(gt=0)] = 2700
    """A running node is restarted when it has not answered for so long."""
    max_reading_age_s: Annotated[int, Field(gt=0)] = 3600
    """Nothing is done to a node that was last read longer ago than this."""
    tries: Annotated[int, Field(ge=1)] = 3
    """Restarts without lasting success after which a node is given up, and its owner told once."""
    backoff_s: Annotated[int, Field(gt=0)] = 900
    """Least wait after the first restart; twice as long after each further one, and up to a quarter more."""
    max_backoff_s: Annotated[int, Field(gt=0)] = 21600
    """Longest of these waits, without the quarter."""
    stable_s: Annotated[int, Field(gt=0)] = 3600
    """A node that has been well for so long since its restart starts from its first try again, also one given up."""
    node_restarts_per_day: Annotated[int, Field(ge=0)] = 4
    """Most restarts of one node in 24 hours; a Storj node gets at most one."""
    host_restarts_per_hour: Annotated[int, Field(ge=0)] = 2
    """Most restarts on one machine in an hour."""
    verify_timeout_s: Annotated[float, Field(gt=0)] = 300
    """How long to wait until a restarted node answers; less where its protocol is quicker."""
