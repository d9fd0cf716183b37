"""``forecast --report``: how much a forecast is worth, from its backtests and from what was published and came true."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .scoring import ENOUGH_HOURS, ROLLING_DAYS, Rolling

GOOD_WAPE, FAIR_WAPE = 0.15, 0.5
_OFF = 0.1
"""Coverage this far from its level is told of."""
_UNSCORED = Rolling(0, None, None, None, None, 1.0)


def report(forecasts: Iterable[Mapping[str, Any]], scores: Mapping[str, Rolling]) -> list[dict[str, Any]]:
    """Members of ``data.report[]``, one for each of ``data.forecasts[]``."""
    return [_row(one, scores.get(one["node"], _UNSCORED)) for one in forecasts]


def _row(forecast: Mapping[str, Any], scored: Rolling) -> dict[str, Any]:
    grade = _grade(forecast)
    return {
        **{key: forecast[key] for key in ("node", "currency", "unit", "type", "model", "models", "hours_of_history")},
        "backtest_mase": forecast["mase"],
        "backtest_wape": forecast["wape"],
        "scored_hours": scored.hours,
        "coverage80": scored.coverage80,
        "coverage95": scored.coverage95,
        "wape": scored.wape,
        "error_to_naive": scored.error_to_naive,
        "band_multiplier": scored.multiplier,
        "grade": grade,
        "verdict": "; ".join([_WORDS[grade], *_published(scored)]),
    }


def _grade(forecast: Mapping[str, Any]) -> str:
    wape = forecast["wape"]
    if forecast["type"] == "dead":
        return "dead"
    if forecast["total"]["mean"] is None or wape is None:
        return "untested"
    return "good" if wape <= GOOD_WAPE else "fair" if wape <= FAIR_WAPE else "bursty"


_WORDS = {
    "good": "good: plan with the hours",
    "fair": "fair: plan with the day, hours vary",
    "bursty": "bursty: read the range, not the hours",
    "untested": "too new to be tested: only a first idea",
    "dead": "it has stopped earning",
}
"""What each grade means for who plans with it."""


def _published(scored: Rolling) -> Iterable[str]:
    """What the published forecasts turned out to be worth."""
    if scored.coverage80 is None:
        yield f"{scored.hours} of {ENOUGH_HOURS} published hours have come true that it takes to judge its bands"
        return
    held = f"its 80 % bands held {scored.coverage80:.0%} of {scored.hours} hours in {ROLLING_DAYS} days"
    if scored.coverage80 < 0.8 - _OFF:
        held += ": too narrow, they are being widened"
    elif scored.coverage80 > 0.8 + _OFF:
        held += ": wider than they need to be"
    yield held
    if scored.error_to_naive is not None:
        yield f"it erred {scored.error_to_naive:.0%} as much as repeating the day before"
