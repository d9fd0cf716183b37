"""``explain --what-if``: what more of a resource would bring, from what is known now, and when that pays for it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .asof import AsOf
from .cycle import Job
from .economics import Gate, NodeFacts, Yield
from .economics.estimate import Estimate, total
from .economics.payback import MoreDisk, more_disk
from .economics.verdicts import MONTH_H
from .errors import UsageError
from .facts import disk_growth, problem
from .types import Resource

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_BYTES = {f"{name}B": factor for name, factor in (_DECIMAL | _BINARY).items()} | {"": 1.0}
_RATE = {f"{name}bps": factor for name, factor in _DECIMAL.items()} | {"": 1.0}
_UNITS: dict[Resource, Mapping[str, float]] = {
    Resource.CPU_CORES: {"": 1.0},
    Resource.GPU_COUNT: {"": 1.0},
    Resource.MEMORY_BYTES: _BYTES,
    Resource.STORAGE_BYTES: _BYTES,
    Resource.UPLINK_BPS: _RATE,
    Resource.DOWNLINK_BPS: _RATE,
}
_MONTH_DAYS = MONTH_H / 24
_SOON_DAYS = 180
"""Space that is empty for longer is no reason to buy more now."""


def parse(text: str) -> tuple[Resource, float]:
    """(resource, amount in its unit) of ``storage_bytes=+1TB``, ``cpu_cores=+2``; raises ``UsageError``."""
    name, _, amount = text.partition("=")
    known = ", ".join(Resource)
    if name not in set(Resource):
        raise UsageError(f"--what-if {text!r}: {name!r} is no resource", f"one of {known}, such as storage_bytes=+1TB")
    units = _UNITS[Resource(name)]
    found = re.fullmatch(r"\+(\d+(?:\.\d+)?)\s*([A-Za-z]*)", amount)
    if found is None or found[2] not in units or float(found[1]) <= 0:
        named = ", ".join(unit for unit in units if unit) or "no unit"
        raise UsageError(
            f"--what-if {text!r}: {amount!r} is no amount to add", f"write {name}=+NUMBER with one of: {named}"
        )
    return Resource(name), float(found[1]) * units[found[2]]


def what_if(
    job: Job, known: AsOf, facts: Sequence[NodeFacts], asked: str, cost_usd: float | None
) -> list[dict[str, Any]]:
    """One answer for each machine of the nodes that are asked for; raises ``UsageError`` for a malformed question."""
    resource, amount = parse(asked)
    hosts = dict.fromkeys(one.host for one in facts if job.wanted(one.name))
    answer = _disk if resource is Resource.STORAGE_BYTES else _share
    rows: list[dict[str, Any]] = []
    for host in hosts:
        row = {
            "host": host,
            "node": None,
            "asked": asked,
            "resource": str(resource),
            "amount": amount,
            "cost_usd": cost_usd,
        }
        row |= {"usd_month": None, "first_year_usd": None, "pays_after_months": None, "evidence": "none"}
        rows += answer(job, known, [one for one in facts if one.host == host], row)
    return rows


def _disk(job: Job, known: AsOf, facts: Sequence[NodeFacts], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Each storage node of a machine by itself: space does not move between disks."""
    rows: list[dict[str, Any]] = []
    for one in facts:
        unit = one.uses_per_unit.get(row["resource"])
        if unit is None or not job.wanted(one.name):
            continue
        growth = disk_growth(known, one.name, unit)
        granted = one.current_units
        if one.fill is None or growth is None or granted is None or one.usd_per_hour_forecast is None:
            why = "cannot tell: how its disk fills is not known yet, and income that follows space was never measured"
            rows.append(row | {"node": one.name, "why": why})
            continue
        stored = one.fill.stored_units
        month = one.usd_per_hour_forecast * MONTH_H / stored if stored > 0 else 0.0
        found = more_disk(growth, granted - stored, row["amount"] / unit, month, row["cost_usd"])
        year = {"mean": found.first_year_usd, "lo80": found.first_year_lo80, "hi80": found.first_year_hi80}
        # That the new space fills as the old one did, and pays as much, is no measurement of the new one.
        told = {"node": one.name, "usd_month": found.full_usd_month, "first_year_usd": year, "evidence": "prior"}
        rows.append(row | told | {"pays_after_months": _months(found, row), "why": _disk_why(one, found, row)})
    return rows or [row | {"why": "cannot tell: no node on it stores data that is known to fill a disk"}]


def _months(found: MoreDisk, row: Mapping[str, Any]) -> dict[str, float | None] | None:
    if row["cost_usd"] is None:
        return None
    days = {"p10": found.pays_p10_days, "p50": found.pays_after_days, "p90": found.pays_p90_days}
    return {name: None if value is None else value / _MONTH_DAYS for name, value in days.items()}


def _disk_why(one: NodeFacts, found: MoreDisk, row: Mapping[str, Any]) -> str:
    stored = one.fill.stored_units if one.fill else 0.0
    free = (one.current_units or 0.0) - stored
    if found.used_after_days is None:
        return f"keep what there is: {free:.2f} TB are free and do not fill up, so more would stay empty"
    word = "keep what there is" if found.used_after_days > _SOON_DAYS else "expand when it is full"
    months = found.used_after_days / _MONTH_DAYS
    used = f"{word}: {free:.2f} TB are free, and full in {months:.0f} months at the present pace"
    brings = f"until then more brings nothing; full it brings {found.full_usd_month:.2f} USD a month"
    if row["cost_usd"] is None:
        return f"{used}; {brings}; with --cost it is told when that pays"
    pays = _months(found, row) or {}
    if pays["p50"] is None:
        return f"{used}; {brings}; {row['cost_usd']:.2f} USD are not earned back within ten years"
    late = "never" if pays["p90"] is None else f"{pays['p90']:.0f}"
    early = "never" if pays["p10"] is None else f"{pays['p10']:.0f}"
    return f"{used}; {brings}; {row['cost_usd']:.2f} USD are back in {pays['p50']:.0f} months (P10 {early}, P90 {late})"


def _share(job: Job, known: AsOf, facts: Sequence[NodeFacts], row: dict[str, Any]) -> list[dict[str, Any]]:
    """What the best plan earns with more of a resource than without, as far as larger grants were tried."""
    from .optimize import Problem, solve

    takers = [one for one in facts if row["resource"] in one.uses_per_unit and one.lever]
    if not takers:
        why = "no node on it earns more by having more of it: evidence contract"
        return [row | {"usd_month": 0.0, "evidence": "contract", "why": why}]
    gate = Gate(0.0, job.config.settings.optimize.min_gain_usd_per_day or 1e-9, 10**6, 0.0)
    model = job.config.settings.optimize.model
    before, after = (
        solve(Problem.from_dict(problem(job, known, list(facts), gate, model, more=more)), explain=False).hosts
        for more in ({}, {row["resource"]: row["amount"]})
    )
    old = {node.node: node for host in before for node in host.nodes if host.host == row["host"]}
    new = {node.node: node for host in after for node in host.nodes if host.host == row["host"]}
    moved = [one for one in takers if one.name in new and new[one.name].units > old[one.name].units + 1e-9]
    if not moved:
        return [row | _unused(takers)]
    gains = [gain for one in moved if (gain := _gain(one, old[one.name], new[one.name])) is not None]
    if len(gains) < len(moved):
        return [row | {"why": "cannot tell: what the larger grants would earn was never measured"}]
    month = total(gains).times(MONTH_H)
    names = ", ".join(f"{one.name} {old[one.name].units:g} -> {new[one.name].units:g} units" for one in moved)
    told = f"{names}: {month.mean:+.2f} USD a month ({month.lo80:.2f} to {month.hi80:.2f})"
    pays = None
    if row["cost_usd"] is not None:
        pays = {
            name: row["cost_usd"] / usd if usd > 0 else None
            for name, usd in (("p10", month.hi80), ("p50", month.mean), ("p90", month.lo80))
        }
        back = "are never earned back" if pays["p50"] is None else f"are back in {pays['p50']:.0f} months"
        late = "never" if pays["p90"] is None else f"{pays['p90']:.0f}"
        told += f"; {row['cost_usd']:.2f} USD {back} (P90 {late})"
    return [row | {"usd_month": month.mean, "pays_after_months": pays, "evidence": "measured", "why": told}]


def _unused(takers: Sequence[NodeFacts]) -> dict[str, Any]:
    known = [one for one in takers if one.curve.evidence == "measured" or one.offers is not None]
    if len(known) < len(takers):
        names = ", ".join(one.name for one in takers if one not in known)
        return {"why": f"cannot tell: what {names} would earn with more was never measured"}
    tried = ", ".join(f"{one.name} up to {_most_tried(one.curve):g}" for one in takers)
    return {"usd_month": 0.0, "evidence": "measured", "why": f"nothing: no grant that was tried needs it ({tried})"}


def _most_tried(curve: Yield) -> float:
    return curve.tried[-1].units if curve.tried else 0.0


def _gain(one: NodeFacts, old: Any, new: Any) -> Estimate | None:
    if one.offers is not None and new.choice is not None:
        after, before = one.offers.named(new.choice), one.offers.named(old.choice)
        return None if after is None or before is None else after.net.less(before.net)
    gain = one.curve.gain(old.units, new.units)
    power = (one.running_usd_per_unit_hour or 0.0) * (new.units - old.units)
    return None if gain is None else gain.less(Estimate(power))
