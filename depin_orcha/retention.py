"""What is kept, and for how long: readings are thinned as they age, sums never change."""

from __future__ import annotations

from .scoring import ROLLING_DAYS
from .store import Store
from .timefmt import compact
from .types import DAY_S, HOUR_S

_HOURLY_DAYS = 90

_THINNED = {
    "usage_samples": ("node",),
    "health_samples": ("node",),
    "standings": ("node", "currency", "standing"),
    "host_samples": ("host",),
    "power_samples": ("host",),
}
"""Tables of readings and what tells one series of them from another."""

_THIN_COUNTERS = """
DELETE FROM earnings_samples WHERE kind = 'counter' AND observed_s < ?
  AND EXISTS (SELECT 1 FROM earnings_samples AS one WHERE one.source = earnings_samples.source
    AND one.currency = earnings_samples.currency AND one.kind = earnings_samples.kind
    AND one.external_id = earnings_samples.external_id AND one.period = earnings_samples.period
    AND one.observed_s < earnings_samples.observed_s AND one.voided_s IS NULL)
  AND EXISTS (SELECT 1 FROM earnings_samples AS one WHERE one.source = earnings_samples.source
    AND one.currency = earnings_samples.currency AND one.kind = earnings_samples.kind
    AND one.external_id = earnings_samples.external_id AND one.period = earnings_samples.period
    AND one.observed_s > earnings_samples.observed_s AND one.voided_s IS NULL)
"""


_THIN_FORECASTS = """
DELETE FROM forecasts WHERE origin_hour_s < ? AND EXISTS (SELECT 1 FROM forecasts AS earlier
  WHERE earlier.node = forecasts.node AND earlier.currency = forecasts.currency
    AND earlier.origin_hour_s < forecasts.origin_hour_s
    AND earlier.origin_hour_s >= forecasts.origin_hour_s / 86400 * 86400)
"""
_THIN_SCORES = """
DELETE FROM forecast_scores WHERE day_s < ? AND EXISTS (SELECT 1 FROM forecast_scores AS later
  WHERE later.node = forecast_scores.node AND later.currency = forecast_scores.currency
    AND later.unit = forecast_scores.unit AND later.day_s = forecast_scores.day_s
    AND later.learned_s > forecast_scores.learned_s)
"""
_THIN_ANOMALIES = """
DELETE FROM anomalies WHERE learned_s < ? AND EXISTS (SELECT 1 FROM anomalies AS later
  WHERE later.node = anomalies.node AND later.cause = anomalies.cause AND later.since_s = anomalies.since_s
    AND later.learned_s > anomalies.learned_s
    AND later.learned_s < (anomalies.learned_s / 86400 + 1) * 86400)
"""


def thin(store: Store, now_s: int, raw_days: int) -> None:
    """Once a day: of old readings only the first of each hour is left, and of very old ones the first of each day.

    Earned hours, prices, events and the ends of every counter are kept for ever, so no sum changes. Of forecasts that
    are no longer needed to be scored, the first of each day is left; of what was scored, and of what was wrong, the
    last state of each day.
    """
    today = compact(now_s)[:8]
    if store.connection.execute("SELECT 1 FROM meta WHERE key = 'thinned' AND value >= ?", (today,)).fetchone():
        return
    raw_s, hourly_s = now_s - raw_days * DAY_S, now_s - _HOURLY_DAYS * DAY_S
    with store.transaction() as connection:
        for table, keys in _THINNED.items():
            same = " AND ".join(f"earlier.{key} = {table}.{key}" for key in keys)
            for before_s, length_s in ((raw_s, HOUR_S), (min(raw_s, hourly_s), DAY_S)):
                connection.execute(
                    f"DELETE FROM {table} WHERE observed_s < ? AND EXISTS (SELECT 1 FROM {table} AS earlier "  # noqa: S608
                    f"WHERE {same} AND earlier.observed_s < {table}.observed_s "
                    f"AND earlier.observed_s >= {table}.observed_s / {length_s} * {length_s})",
                    (before_s,),
                )
        connection.execute(_THIN_COUNTERS, (raw_s,))
        scored_s = now_s - ROLLING_DAYS * DAY_S
        connection.execute(_THIN_FORECASTS, (scored_s,))
        connection.execute(_THIN_SCORES, (scored_s - DAY_S,))
        connection.execute(_THIN_ANOMALIES, (raw_s,))
        store.set_meta("thinned", today)
