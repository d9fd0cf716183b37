"""What was decided, why, and what it is worth: the nouns of the result document.

Units of every number are in its name; ``usd_per_unit_hour`` of a shadow price is per unit of its resource.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any, cast

STATUSES = ("optimal", "held", "relaxed", "time_limit", "fallback", "failed")
"""How sure a decision is, from best to worst."""


@dataclass(frozen=True, slots=True)
class Worth:
    """Value of the decision, after running cost; the restart loss is paid once, the rest is per hour."""

    current_usd_per_hour: float
    new_usd_per_hour: float
    gross_gain_usd_per_hour: float
    restart_loss_usd: float
    net_benefit_usd_per_hour: float


@dataclass(frozen=True, slots=True)
class NodePlan:
    """The grant of one node; ``flips_at_usd_per_unit_hour``: the nearest price at which it is decided otherwise."""

    node: str
    units: float
    choice: str | None
    previous_units: float | None
    previous_choice: str | None
    resources: dict[str, float]
    changed: bool
    reason: str
    evidence: str
    flips_at_usd_per_unit_hour: float | None


@dataclass(frozen=True, slots=True)
class ShadowPrice:
    """What a little more of a limited resource would earn, with moves and lots as planned.

    ``less_usd_per_unit_hour`` is what a little less would cost: the same but where an optimum is degenerate; None
    where there is no plan with less.
    """

    constraint: str
    resource: str
    usd_per_unit_hour: float
    less_usd_per_unit_hour: float | None


@dataclass(frozen=True, slots=True)
class ReducedCost:
    """By how much the price of an idle node must rise before it gets a grant."""

    node: str
    usd_per_unit_hour: float


@dataclass(frozen=True, slots=True)
class CapCost:
    """What keeping to a cap costs over all hosts that it links: worth of the best grants without it less with it."""

    constraint: str
    usd_per_hour: float


@dataclass(frozen=True, slots=True)
class RiskWorth:
    """Mean income of the worst 1 - ``alpha`` of all scenarios, over all hosts that are decided together.

    ``net_benefit_usd_per_hour`` is what was judged: the net benefit with ``weight`` of these and the rest of the mean.
    """

    weight: float
    alpha: float
    current_cvar_usd_per_hour: float
    new_cvar_usd_per_hour: float
    net_benefit_usd_per_hour: float


@dataclass(frozen=True, slots=True)
class Relaxed:
    """A row that could not be kept, in ``unit``, and the smallest single change after which nothing is short."""

    row: str
    host: str
    node: str | None
    resource: str | None
    asked: float
    possible: float
    shortfall: float
    unit: str
    repair: str


@dataclass(frozen=True, slots=True)
class Advice:
    """Something a person may want to do or know; ``units`` is the grant that a trusted number would get."""

    kind: str
    node: str | None
    units: float | None
    text: str


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """Of a hold: the best plan that was rejected, and every rule that it failed."""

    value: Worth
    units: dict[str, float]
    choices: dict[str, str]
    short_of: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostPlan:
    """The decision of one host."""

    host: str
    status: str
    decision: str
    reason: str
    value: Worth
    nodes: tuple[NodePlan, ...]
    shadow_prices: tuple[ShadowPrice, ...]
    reduced_costs: tuple[ReducedCost, ...]
    risk: RiskWorth | None
    binding: tuple[str, ...]
    relaxed: tuple[Relaxed, ...]
    advice: tuple[Advice, ...]
    runner_up: RunnerUp | None


@dataclass(frozen=True, slots=True)
class Solving:
    """How the answer was found; rows, columns and entries are those of the largest programme."""

    name: str
    version: str
    status: str
    gap: float
    solves: int
    rows: int
    cols: int
    nnz: int
    build_ms: float
    solve_ms: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision of every host; apply if any host applies, status the worst of them."""

    status: str
    decision: str
    reason: str
    hosts: tuple[HostPlan, ...]
    cap_costs: tuple[CapCost, ...]
    solver: Solving
    inputs_sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return the result document: JSON values only."""
        return _plain(self)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {member.name: _plain(getattr(value, member.name)) for member in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[Any, ...]", value)]
    return dict(cast("dict[str, Any]", value)) if isinstance(value, dict) else value
