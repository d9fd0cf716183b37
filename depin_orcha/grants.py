"""What a stored plan grants, read strictly: other hands, or a failing disk, may have been at the database since."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from .asof import PlanRow
from .errors import DataError
from .types import Resource

_SOLVERS_ZERO = -1e-6
Amounts = dict[Resource, Annotated[float, Field(strict=True, ge=_SOLVERS_ZERO)]]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class NodeGrant(_Part):
    """What a node is granted of each resource, in units too, and whether that is news."""

    node: str
    resources: Amounts
    changed: Annotated[bool, Field(strict=True)]
    reason: str
    units: Annotated[float, Field(strict=True)] | None = None
    previous_units: Annotated[float, Field(strict=True)] | None = None

    @property
    def makes_room(self) -> bool:
        """Is it to get less than it had, or a bound where there was none?"""
        is_more = self.units is not None and self.previous_units is not None and self.units >= self.previous_units
        return self.changed and not is_more


class HostGrants(_Part):
    """The grants of one host; only with the decision ``apply`` are they to be carried out."""

    host: str
    decision: Literal["apply", "hold"]
    nodes: tuple[NodeGrant, ...]

    def by_node(self) -> dict[str, dict[Resource, float]]:
        """Node -> what it is granted."""
        return {one.node: one.resources for one in self.nodes}


class _Host(_Part):
    host: str
    capacity: Amounts


class _Result(_Part):
    hosts: tuple[HostGrants, ...]


class _Places(RootModel[dict[str, dict[str, str | None]]]):
    pass


class _Problem(_Part):
    hosts: tuple[_Host, ...]


def grants_of(plan: PlanRow) -> list[tuple[HostGrants, dict[Resource, float]]]:
    """The grants of each host with the capacity that they were made for, after what is reserved.

    Raises ``DataError`` for what no ``optimize`` can have made.
    """
    try:
        result, problem = _Result.model_validate(plan.result), _Problem.model_validate(plan.problem)
        _ = _Places.model_validate(plan.places)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _refused(plan, f"{'.'.join(map(str, first['loc'])) or 'as a whole'}: {first['msg']}") from error
    capacity = {one.host: one.capacity for one in problem.hosts}
    names = Counter(f"node {one.node!r}" for host in result.hosts for one in host.nodes)
    for name, times in (names + Counter(f"host {host.host!r}" for host in result.hosts)).items():
        if times > 1:
            raise _refused(plan, f"{name} stands in it {times} times")
    lost = next((host.host for host in result.hosts if host.host not in capacity), None)
    if lost is not None:
        raise _refused(plan, f"host {lost!r} is not in the problem that it solves")
    return [(host, capacity[host.host]) for host in result.hosts]


def _refused(plan: PlanRow, reason: str) -> DataError:
    hint = "make a new one with: depin-orcha optimize"
    return DataError(f"plan {plan.plan_id} is damaged: {reason}", hint)
