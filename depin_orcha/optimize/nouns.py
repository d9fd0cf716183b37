"""What a problem is made of. Units of every number are in its name.

A "unit" is one unit of activity of that node, and ``uses_per_unit`` says what it takes of each resource.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from depin_orcha.types import Resource

EVIDENCE = ("contract", "measured", "prior", "none")
RESOURCES = tuple(str(resource) for resource in Resource)
QUANTILES = ("0.1", "0.5", "0.9")

Series = float | tuple[float, ...]
"""One value for the whole horizon, or one per hour of it."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the earnings curve: ``relative`` times the price of segment 1, for ``width_units``."""

    width_units: float
    relative: float


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several settings of a node, exactly one of which is in force: a pause, a cap, a price."""

    name: str
    units: float
    usd_per_hour: Series
    running_usd_per_hour: Series = 0.0


@dataclass(frozen=True, slots=True)
class Fill:
    """A node that earns on what is stored: S(t+1) = min(units, S(t) (1 - ``delete_per_hour``) + ``per_hour``).

    S(0) is ``stored_units``; hour t of the horizon is paid for what is stored at its end, S(t+1). What is stored at
    the end of the horizon earns ``life_h`` on. Nodes of one ``group`` share one ``per_hour``: in every hour each gets
    an equal part of it, and what one has no room for goes to the others in equal parts.
    """

    stored_units: float
    per_hour: float
    delete_per_hour: float = 0.0
    life_h: float = 240.0
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a host, its grant in force and what it would earn per unit and hour.

    ``current_units`` None: nothing is granted yet. ``hours_since_change`` None: not known to have changed.
    ``segments`` empty: one, of relative 1. With ``choices`` the grant is the units of one of them,
    ``current_choice`` None says that none is in force yet, and where the document leaves them out
    ``max_units`` is that of the largest choice, ``current_units`` that of the choice in force; ``usd_per_unit_hour``
    is always that of the choice that earns most, spread over ``max_units``. ``scenarios`` are possible prices in USD
    per unit and hour, one path over the horizon each; with choices they are read relative to their mean.
    """

    node: str
    uses_per_unit: dict[str, float]
    current_units: float | None
    max_units: float
    usd_per_unit_hour: Series
    protocol: str = ""
    min_units: float = 0.0
    floor_units: float = 0.0
    step_units: float = 0.0
    integer: bool = False
    on_off: bool = False
    segments: tuple[Segment, ...] = ()
    choices: tuple[Choice, ...] = ()
    current_choice: str | None = None
    running_usd_per_unit_hour: Series = 0.0
    restart_loss_hours: float = 0.0
    restart_fee_usd: float = 0.0
    min_dwell_h: float = 0.0
    hours_since_change: float | None = None
    frozen: bool = False
    fill: Fill | None = None
    disk: str | None = None
    evidence: str = "measured"
    traffic_bytes_per_unit_hour: float | None = None
    watts_per_unit: float | None = None
    usd_per_unit_hour_quantiles: dict[str, Series] | None = None
    scenarios: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """One machine: ``capacity`` after the owner's reserve, bytes per mount in ``disks``, and its nodes."""

    host: str
    capacity: dict[str, float]
    disks: dict[str, float]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a plan must reach, per host, before it is applied; ``max_moves`` None: any number of nodes."""

    min_improvement_pct: float = 0.0
    min_net_benefit_usd_per_hour: float = 0.0
    ignore_change_pct: float = 0.0
    max_moves: int | None = None


@dataclass(frozen=True, slots=True)
class Risk:
    """Maximise (1 - ``weight``) of the mean plus ``weight`` of the mean of the worst 1 - ``alpha`` of all scenarios."""

    weight: float
    alpha: float = 0.9


@dataclass(frozen=True, slots=True)
class Coupling:
    """A limit that hosts share: what their nodes take together of ``resource``, such as one line to the internet."""

    name: str
    resource: str
    limit: float
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DataCap:
    """Bytes that the nodes of some hosts may move within the horizon; ``overage_usd_per_gb`` None: not one more."""

    name: str
    hosts: tuple[str, ...]
    allowance_bytes: float
    overage_usd_per_gb: float | None


def mean(series: Series) -> float:
    """Return the mean over the horizon."""
    return math.fsum(series) / len(series) if isinstance(series, tuple) else series
