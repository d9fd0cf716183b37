"""Published forecasts held against what came true, once for each completed hour as soon as its earnings are known.

An hour is judged by all the forecasts that were made for it within the day before, each counting alike and in the unit
it was made in; beside them by seasonal naive, which says what the same hour of the last known day brought. An hour
counts once; what is booked on it later changes no score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from math import exp
from typing import Any

from .asof import AsOf, EarnedHour
from .types import DAY_S, HOUR_S, Quality

ROLLING_DAYS = 14
"""Days back that rolling coverage looks, and for which every published forecast is kept."""
ENOUGH_HOURS = 48
"""With fewer scored hours there is no coverage to speak of."""
_DRIFT_DAYS, _LOW, _HIGH = 7, 0.7, 0.9
"""Within so many days, 80 % bands are to hold between these shares of the hours."""
_NAIVE_DAYS = 7
_STEP = 0.02
"""How fast the multiplier learns, per hour: Gibbs and Candes, Adaptive Conformal Inference Under Distribution Shift."""
_LEAST, _MOST = 0.5, 3.0
_CERTAIN = 0.02
"""A band narrower than this share of what an hour earns on average says that nothing is uncertain."""

_PUBLISHED = """
SELECT json_extract(forecast_json, '$.unit'), {numbers}, json_extract(forecast_json, '$.total.mean')
  / json_extract(forecast_json, '$.horizon_h'), min(learned_s) FROM forecasts
WHERE node = :node AND currency = :currency AND origin_hour_s BETWEEN :hour - 82800 AND :hour AND learned_s <= :now
GROUP BY origin_hour_s ORDER BY origin_hour_s
""".format(
    numbers=", ".join(
        f"json_extract(forecast_json, '$.hours[' || ((:hour - origin_hour_s) / 3600) || '].{name}')"
        for name in ("median", "lo80", "hi80", "lo95", "hi95")
    )
)


@dataclass(frozen=True, slots=True)
class Score:
    """How the forecasts of a node did in the hours of one UTC day that are scored so far.

    ``unit`` is that of the errors and of what was earned; ``multiplier`` is the factor by which bands should be wider,
    after the hour that begins at ``through_s``.
    """

    node: str
    currency: str
    unit: str
    day_s: int
    through_s: int
    hours: int = 0
    inside80: float = 0.0
    inside95: float = 0.0
    absolute_error: float = 0.0
    naive_absolute_error: float = 0.0
    earned: float = 0.0
    multiplier: float = 1.0


@dataclass(frozen=True, slots=True)
class Rolling:
    """The scores of a node over the last days; errors are null where they have nothing to be compared with."""

    hours: int
    coverage80: float | None
    coverage95: float | None
    wape: float | None
    error_to_naive: float | None
    multiplier: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Said:
    unit: str
    median: float
    lo80: float
    hi80: float
    lo95: float
    hi95: float
    usual: float


def score(known: AsOf, wanted: Callable[[str], bool]) -> list[Score]:
    """The days on which hours were scored, with these hours added; nothing while the running hour has its forecast."""
    origin_s = known.now_s // HOUR_S * HOUR_S
    last = {(one.node, one.currency): one for one in _recent(known)}
    rows = known.connection.execute(
        "SELECT node, currency, min(origin_hour_s), max(origin_hour_s) FROM forecasts WHERE learned_s <= ? "
        "GROUP BY node, currency",
        (known.now_s,),
    ).fetchall()
    since: dict[tuple[str, str], int] = {}
    for node, currency, first_s, newest_s in rows:
        before = last.get((node, currency))
        if wanted(node) and newest_s < origin_s:
            oldest_s = max(first_s, origin_s - ROLLING_DAYS * DAY_S)
            since[node, currency] = max(oldest_s, before.through_s + HOUR_S if before else 0)
    if not since:
        return []
    earned: dict[tuple[str, str], dict[int, EarnedHour]] = {key: {} for key in since}
    for hour in known.hours(min(since.values()) - _NAIVE_DAYS * DAY_S):
        key = (hour.node, hour.currency)
        if key in since and hour.hour_s < origin_s and hour.quality is not Quality.INTERPOLATED:
            earned[key][hour.hour_s] = hour
    return [one for key, from_s in since.items() for one in _scored(known, key, from_s, earned[key], last.get(key))]


def _scored(
    known: AsOf, key: tuple[str, str], from_s: int, earned: Mapping[int, EarnedHour], last: Score | None
) -> list[Score]:
    days = {(one.unit, one.day_s): one for one in _scores(known, from_s // DAY_S * DAY_S, key)}
    changed: dict[tuple[str, int], Score] = {}
    multiplier = last.multiplier if last else 1.0
    for hour_s in sorted(hour_s for hour_s in earned if hour_s >= from_s):
        said = _published(known, key, hour_s)
        if not said:
            continue
        unit = said[-1].unit
        said = [one for one in said if one.unit == unit]
        truth, naive = _value(known, earned[hour_s], unit), _naive(known, earned, hour_s, unit)
        if truth is None or naive is None:
            continue
        multiplier = _adapted(multiplier, said, truth)
        where = unit, hour_s // DAY_S * DAY_S
        day = changed.get(where) or days.get(where) or Score(*key, *where, hour_s)
        changed[where] = replace(
            day,
            through_s=hour_s,
            hours=day.hours + 1,
            inside80=day.inside80 + _share(one.lo80 <= truth <= one.hi80 for one in said),
            inside95=day.inside95 + _share(one.lo95 <= truth <= one.hi95 for one in said),
            absolute_error=day.absolute_error + sum(abs(truth - one.median) for one in said) / len(said),
            naive_absolute_error=day.naive_absolute_error + abs(truth - naive),
            earned=day.earned + abs(truth),
            multiplier=multiplier,
        )
    return list(changed.values())


def _published(known: AsOf, key: tuple[str, str], hour_s: int) -> list[_Said]:
    """What was said of an hour within the day before it, the newest last."""
    values = {"node": key[0], "currency": key[1], "hour": hour_s, "now": known.now_s}
    return [_Said(*row[:-1]) for row in known.connection.execute(_PUBLISHED, values) if row[1] is not None]


def _value(known: AsOf, hour: EarnedHour, unit: str) -> float | None:
    if unit == "native_per_hour":
        return float(hour.amount)
    usd = known.usd(hour)
    return None if usd is None else float(usd)


def _naive(known: AsOf, earned: Mapping[int, EarnedHour], hour_s: int, unit: str) -> float | None:
    for days in range(1, _NAIVE_DAYS + 1):
        hour = earned.get(hour_s - days * DAY_S)
        value = None if hour is None else _value(known, hour, unit)
        if value is not None:
            return value
    return None


def _adapted(multiplier: float, said: Iterable[_Said], truth: float) -> float:
    """A little more after a miss, a little less after a hit, so that 80 % bands come to hold the truth in 80 of 100.

    A bound at zero is never missed, so such a band may be missed half as often. Bands that say that nothing is
    uncertain (as between daily payouts) teach nothing.
    """
    unsure = [one for one in said if one.hi80 - one.lo80 > _CERTAIN * abs(one.usual)]
    if not unsure:
        return multiplier
    missed = _share(not one.lo80 <= truth <= one.hi80 for one in unsure)
    expected = 0.1 + 0.1 * _share(one.lo80 > 0 for one in unsure)
    return min(max(multiplier * exp(_STEP * (missed - expected)), _LEAST), _MOST)


def _share(held: Iterable[bool]) -> float:
    found = list(held)
    return sum(found) / len(found)


def multipliers(known: AsOf, fresh: Iterable[Score]) -> dict[str, float]:
    """Node -> the factor by which its bands should be wider, ``fresh`` scores included; new nodes are absent."""
    return {one.node: one.multiplier for one in (*_recent(known), *fresh)}


def drifted(known: AsOf, fresh: Iterable[Score]) -> set[str]:
    """Nodes whose 80 % bands held too few or too many hours of the last week, ``fresh`` scores included."""
    since_s = (known.now_s // DAY_S - _DRIFT_DAYS + 1) * DAY_S
    days = {(one.node, one.unit, one.day_s): one for one in (*_recent(known), *fresh) if one.day_s >= since_s}
    by_node: dict[str, list[Score]] = {}
    for one in sorted(days.values(), key=lambda one: one.through_s):
        by_node.setdefault(one.node, []).append(one)
    held = {node: _rolled(found).coverage80 for node, found in by_node.items()}
    return {node for node, share in held.items() if share is not None and not _LOW <= share <= _HIGH}


def rolling(known: AsOf) -> dict[str, Rolling]:
    """Node -> how its forecasts of the last days did, in the unit of the newest ones; null with too few hours."""
    days: dict[str, list[Score]] = {}
    for one in _recent(known):
        days.setdefault(one.node, []).append(one)
    return {node: _rolled(found) for node, found in days.items()}


def _rolled(days: list[Score]) -> Rolling:
    same = [one for one in days if one.unit == days[-1].unit]
    hours = sum(one.hours for one in same)
    enough = hours if hours >= ENOUGH_HOURS else 0

    def ratio(part: float, whole: float) -> float | None:
        return part / whole if enough and whole else None

    error = sum(one.absolute_error for one in same)
    return Rolling(
        hours,
        ratio(sum(one.inside80 for one in same), enough),
        ratio(sum(one.inside95 for one in same), enough),
        ratio(error, sum(one.earned for one in same)),
        ratio(error, sum(one.naive_absolute_error for one in same)),
        days[-1].multiplier,
    )


def _recent(known: AsOf) -> list[Score]:
    return _scores(known, (known.now_s // DAY_S - ROLLING_DAYS + 1) * DAY_S)


def _scores(known: AsOf, since_s: int, key: tuple[str, str] | None = None) -> list[Score]:
    """Each day from ``since_s`` on as it was last scored, the last scored hour last."""
    # With max(), SQLite takes the other columns from the row that has it.
    rows = known.connection.execute(
        "SELECT node, currency, unit, day_s, through_s, hours, inside80, inside95, absolute_error, "
        "naive_absolute_error, earned, multiplier, max(learned_s) FROM forecast_scores WHERE learned_s <= :now "
        "AND day_s >= :since AND (:node IS NULL OR (node = :node AND currency = :currency)) "
        "GROUP BY node, currency, unit, day_s ORDER BY through_s",
        {"now": known.now_s, "since": since_s, "node": key and key[0], "currency": key and key[1]},
    )
    return [Score(*row[:-1]) for row in rows]
