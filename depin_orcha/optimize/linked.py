"""Which hosts are decided together, what is decided about them, and what one of them sees of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from .case import Case, Grants, Limit, Overage, Share, Weighing
from .lever import Lever, lever_of
from .nouns import RESOURCES, Host, Node, Segment, mean
from .problem import Problem

BYTES_PER_GB = 1e9

Row = TypeVar("Row", Limit, Overage)


def clusters(problem: Problem) -> list[tuple[Host, ...]]:
    """Return the hosts in groups that no row, no intake and no scenario links with another; in the order given."""
    leader = {host.host: host.host for host in problem.hosts}

    def root(name: str) -> str:
        return name if leader[name] == name else root(leader[name])

    for names in _links(problem):
        for name in names[1:]:
            leader[root(name)] = root(names[0])
    found: dict[str, list[Host]] = {}
    for host in problem.hosts:
        found.setdefault(root(host.host), []).append(host)
    return [tuple(hosts) for hosts in found.values()]


def _links(problem: Problem) -> Iterator[list[str]]:
    """Names of hosts that something links; hosts whose nodes take nothing of a limit do not count."""
    if problem.coupling or problem.data_caps or problem.max_watts is not None:
        keyed = _keyed(problem.hosts)
        for row in (*_shared_limits(problem, keyed), *_overages(problem, keyed)):
            yield list(dict.fromkeys(keyed[key][0].host for key in row.uses))
    groups: dict[str, list[str]] = {}
    for host in problem.hosts:
        for node in host.nodes:
            if node.fill and node.fill.group is not None:
                groups.setdefault(node.fill.group, []).append(host.host)
    yield from groups.values()
    if problem.max_income_share is not None or weighs_scenarios(problem):
        yield [host.host for host in problem.hosts if host.nodes]


def weighs_scenarios(problem: Problem) -> bool:
    """Whether scenarios have a say in the decision."""
    risk = problem.risk
    return bool(risk and risk.weight and any(node.scenarios for host in problem.hosts for node in host.nodes))


def key_of(host: Host, node: Node, hosts: Sequence[Host]) -> str:
    """Name of a lever: that of the node, which only needs its host beside it where several are decided together."""
    return node.node if len(hosts) == 1 else f"{host.host}/{node.node}"


def _keyed(hosts: Sequence[Host]) -> dict[str, tuple[Host, Node]]:
    return {key_of(host, node, hosts): (host, node) for host in hosts for node in host.nodes}


def case_of(problem: Problem, *hosts: Host) -> Case:
    """Return the decision of hosts; model ``spec`` leaves out segments, running cost, lots and restart charges."""
    keyed = _keyed(hosts)
    levers: list[Lever] = []
    for key, (host, node) in sorted(keyed.items()):
        lever = lever_of(node, host.host, problem.horizon_h, problem.thresholds.ignore_change_pct)
        lever = _textbook(lever, node) if problem.model == "spec" else lever
        levers.append(replace(_cautious(lever, node, problem), name=key))
    limits = [limit for host in hosts for limit in _host_limits(host, hosts)]
    weighing = None
    if problem.risk and weighs_scenarios(problem):
        count = max(len(lever.scenarios) for lever in levers) if levers else 0
        weighing = Weighing(problem.risk.weight, problem.risk.alpha, (0.0,) * count) if count else None
    return Case(
        levers=tuple(levers),
        limits=(*limits, *(limit for limit in _shared_limits(problem, keyed) if limit.uses)),
        horizon_h=problem.horizon_h,
        max_moves=problem.thresholds.max_moves,
        overages=tuple(cap for cap in _overages(problem, keyed) if cap.uses),
        shares=tuple(_shares(problem, levers)),
        weighing=weighing,
    )


def _host_limits(host: Host, hosts: Sequence[Host]) -> Iterator[Limit]:
    where = "" if len(hosts) == 1 else f"{host.host}/"
    named = {key_of(host, node, hosts): node for node in host.nodes}
    for key in RESOURCES:
        if key in host.capacity:
            uses = _positive({name: node.uses_per_unit.get(key, 0.0) for name, node in named.items()})
            yield Limit(f"capacity:{where}{key}", key, host.capacity[key], uses, host.host)
    for mount, size_bytes in sorted(host.disks.items()):
        on_disk = {name: node for name, node in named.items() if node.disk == mount}
        uses = _positive({name: node.uses_per_unit.get("storage_bytes", 0.0) for name, node in on_disk.items()})
        yield Limit(f"disk:{where}{mount}", "storage_bytes", size_bytes, uses, host.host)


def _positive(uses: dict[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in uses.items() if amount > 0}


def _shared_limits(problem: Problem, keyed: dict[str, tuple[Host, Node]]) -> Iterator[Limit]:
    """Limits of several hosts: couplings, hard data caps, watts."""
    for row in problem.coupling:
        uses = {
            key: node.uses_per_unit.get(row.resource, 0.0)
            for key, (host, node) in keyed.items()
            if host.host in row.hosts
        }
        yield Limit(f"coupling:{row.name}", row.resource, row.limit, _positive(uses))
    for cap in problem.data_caps:
        if cap.overage_usd_per_gb is None:
            uses = _traffic(problem, cap.hosts, keyed)
            yield Limit(f"data_cap:{cap.name}", "traffic_bytes", cap.allowance_bytes, uses)
    if problem.max_watts is not None:
        uses = {key: node.watts_per_unit or 0.0 for key, (_, node) in keyed.items()}
        yield Limit("max_watts:all", "watts", problem.max_watts, _positive(uses))


def _overages(problem: Problem, keyed: dict[str, tuple[Host, Node]]) -> Iterator[Overage]:
    for cap in problem.data_caps:
        if cap.overage_usd_per_gb is not None:
            uses = _traffic(problem, cap.hosts, keyed)
            yield Overage(f"data_cap:{cap.name}", cap.allowance_bytes, uses, cap.overage_usd_per_gb / BYTES_PER_GB)


def _traffic(problem: Problem, hosts: Sequence[str], keyed: dict[str, tuple[Host, Node]]) -> dict[str, float]:
    """Bytes over the whole horizon that one unit of each node moves."""
    return _positive(
        {
            key: (node.traffic_bytes_per_unit_hour or 0.0) * problem.horizon_h
            for key, (host, node) in keyed.items()
            if host.host in hosts
        }
    )


def _shares(problem: Problem, levers: Sequence[Lever]) -> Iterator[Share]:
    """One row a protocol; a node without one is income of none."""
    if problem.max_income_share is not None and problem.max_income_share < 1:
        for protocol in sorted({lever.protocol for lever in levers if lever.protocol}):
            yield Share(protocol, problem.max_income_share)


def _cautious(lever: Lever, node: Node, problem: Problem) -> Lever:
    """Return a lever that does not run yet judged by a low price where quantiles are all that is known of its risk.

    median - weight (median - 10 % quantile); what runs is judged by its mean.
    """
    quantiles = node.usd_per_unit_hour_quantiles or {}
    if not problem.risk or weighs_scenarios(problem) or not {"0.1", "0.5"} <= quantiles.keys():
        return lever
    if lever.units(lever.base) > 0 or not problem.risk.weight:
        return lever
    low, middle = mean(quantiles["0.1"]), mean(quantiles["0.5"])
    wary = middle - problem.risk.weight * (middle - low)
    return replace(lever, weighed_price=wary / middle if lever.picks and middle else wary)


def _textbook(lever: Lever, node: Node) -> Lever:
    """Return a lever as the textbook knows it: a part of its maximum earns that part of its full income."""
    price = mean(node.usd_per_unit_hour)
    return replace(
        lever,
        previous=node.current_units,
        picks=(),
        filling=None,
        floor=node.floor_units,
        minimum=0.0 if node.choices else node.min_units,
        lot=0.0,
        dead_band=0.0,
        on_off=False,
        segments=(Segment(lever.top, 1.0),),
        price=price,
        weighed_price=price,
        scenarios=tuple(each * price if node.choices else each for each in lever.scenarios),
        running=0.0,
        loss_hours=0.0,
        fee_usd=0.0,
    )


def seen_from(case: Case, host: str, grants: Grants) -> Case:
    """Return the case of one host where all others have these grants: what they leave of everything that is shared.

    Its own levers are at the grants in force and called by their nodes. Levers elsewhere that fill up from the same
    intake stay in it, locked.
    """
    own = {lever.name for lever in case.levers if lever.host == host}
    mates = {lever.name for group in case.groups if any(one.name in own for one in group) for lever in group} - own
    names = {lever.name: lever.node if lever.name in own else lever.name for lever in case.levers}
    away = [lever for lever in case.levers if lever.name not in own | mates]
    levers = [
        replace(lever, name=names[lever.name])
        if lever.name in own
        else replace(lever, previous=grants[lever.name], lock="elsewhere")
        for lever in case.levers
        if lever.name in own | mates
    ]
    outside = replace(case, levers=tuple(away), limits=(), overages=())
    gross = outside.gross(grants) if case.shares else {}
    limits = [_left(case, limit, names, away, grants) for limit in case.limits if limit.host in (None, host)]
    return replace(
        case,
        levers=tuple(sorted(levers, key=lambda lever: lever.name)),
        limits=tuple(_renamed(limit, host) for limit in limits if limit.uses or limit.host),
        overages=tuple(_left(case, cap, names, away, grants) for cap in case.overages),
        shares=tuple(
            replace(
                share,
                protocol_usd_per_hour=sum(gross[one.name] for one in away if one.protocol == share.protocol),
                total_usd_per_hour=sum(gross.values()),
            )
            for share in case.shares
        ),
        weighing=replace(case.weighing, elsewhere=tuple(outside.incomes(grants))) if case.weighing else None,
    )


def _left(case: Case, row: Row, names: dict[str, str], away: Sequence[Lever], grants: Grants) -> Row:
    """What the levers elsewhere leave of a row, for the levers that remain."""
    gone = {lever.name for lever in away}
    theirs = {name: amount for name, amount in row.uses.items() if name in gone}
    taken = case.used(replace(row, uses=theirs), grants)
    uses = {names[name]: amount for name, amount in row.uses.items() if name not in gone}
    if isinstance(row, Limit):
        return replace(row, capacity=row.capacity - taken, uses=uses, elsewhere=taken)
    return replace(row, allowance=row.allowance - taken, uses=uses)


def _renamed(limit: Limit, host: str) -> Limit:
    """The limit of a host as it is called there."""
    return replace(limit, name=limit.name.replace(f":{host}/", ":", 1)) if limit.host else limit
