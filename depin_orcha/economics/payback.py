"""When more disk pays for itself: by how fast the space there is now fills up, between P10 and P90. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from depin_orcha.growth import FAR_DAYS, Growth

from .estimate import student80

_STEP_DAYS = 5.0
_YEAR_DAYS = 365.0
_MONTH_DAYS = 730.5 / 24


@dataclass(frozen=True, slots=True)
class MoreDisk:
    """What so much more space brings in USD a month once it is full, in its first year, and when it pays; days."""

    full_usd_month: float
    first_year_usd: float
    first_year_lo80: float
    first_year_hi80: float
    used_after_days: float | None
    pays_after_days: float | None
    pays_p10_days: float | None
    pays_p90_days: float | None


def more_disk(found: Growth, free: float, more: float, usd_per_unit_month: float, cost_usd: float | None) -> MoreDisk:
    """``more`` space beside ``free`` space that fills as ``found``, all in one unit, at what a unit brings in a month.

    None of days: not within ten years.
    """
    z = student80(found.steps - 1.0)

    def grown(days: float, side: float) -> float:
        return found.per_day * days + side * z * found.noise * math.sqrt(days + days * days / found.days)

    def brought(side: float) -> Iterator[tuple[float, float]]:
        """(days, USD until then)."""
        days, usd = 0.0, 0.0
        while days < FAR_DAYS:
            over = grown(days + _STEP_DAYS / 2, side) - free
            usd += min(max(over, 0.0), more) * usd_per_unit_month * _STEP_DAYS / _MONTH_DAYS
            days += _STEP_DAYS
            yield days, usd

    def year(side: float) -> float:
        return next(usd for days, usd in brought(side) if days >= _YEAR_DAYS)

    def pays(side: float) -> float | None:
        return None if cost_usd is None else next((days for days, usd in brought(side) if usd >= cost_usd), None)

    after = None if found.per_day <= 0 else max(free, 0.0) / found.per_day
    return MoreDisk(
        more * usd_per_unit_month,
        year(0.0),
        year(-1.0),
        year(1.0),
        after if after is not None and after < FAR_DAYS else None,
        pays(0.0),
        pays(1.0),
        pays(-1.0),
    )
