"""What comes next, from what came before: a pool of models, tried on the past, speaks with one voice.

``series`` is what goes in; ``kinds`` says what sort of series it is, ``history`` what may be learned from;
``regression``, ``smoothing``, ``calendar`` and ``profiles`` are the models, ``pool`` is their contest; ``bands`` and
``totals`` are the intervals; ``sparse``, ``payout`` and ``cold`` are for series that a pool cannot help; ``fit`` is
what is learned, as a state that can be stored, and ``document`` what comes out. Installed plugins compete through entry
points in the group ``depin_orcha.forecasters``.

Importing this package costs nothing: numpy is loaded by the first forecast.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from depin_orcha.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

ENTRY_POINT_GROUP = "depin_orcha.forecasters"
DEFAULT_HORIZON = 24
DEFAULT_LEVELS = (80, 95)
_REGRESSIONS = ("ar_sparse", "ar_short", "ar_difference", "ar_medium", "ar_medium_difference", "ar_long")
BUILT_IN = frozenset(
    (
        *("zero", "recent_level", "seasonal_naive", "weekly_naive", "siblings"),
        *("day_mean", "day_median", "day_shape", "week_mean"),
        *(f"{name}{scale}" for name in (*_REGRESSIONS, "smoothing", "calendar") for scale in ("", "_log")),
    )
)
"""Names that a plugin cannot take."""

_log = logging.getLogger(__name__)


@runtime_checkable
class Forecaster(Protocol):
    """One idea of what comes next.

    ``min_points`` is the number of observed bins it needs where a season has 24 bins; other seasons need
    proportionally as many.
    """

    name: str
    min_points: int

    def predict(self, y: NDArray[np.float64], horizon: int, season: int, /) -> NDArray[np.float64]:
        """The mean of each of the ``horizon`` bins after ``y``, all finite.

        ``y`` is read-only and NaN where nothing was observed; ``season`` is the number of bins after which the
        pattern repeats (a day; a week for daily bins). Raising, or a value that is not finite, takes this
        forecaster out of the contest for that series.
        """
        ...


def forecast_series(
    batch: list[dict[str, Any]], horizon: int = DEFAULT_HORIZON, levels: Sequence[float] = DEFAULT_LEVELS
) -> list[dict[str, Any]]:
    """Every series has its forecast, in input order: equal input, equal output.

    ``batch`` holds members of ``series`` of a ``forecast --input`` document, the answer members of
    ``data.forecasts`` of its ``--json`` output, in the unit of ``y``; ``horizon`` is in bins, ``levels`` in percent.
    Series with the same ``protocol`` are siblings: a new one borrows from those that have a history.
    Raises ``SeriesError``, which is both a ``ValueError`` and a ``DataError``, naming the path of what is wrong.
    """
    from .document import document
    from .fit import fitted
    from .series import Series, check_horizon, check_levels

    check_horizon(horizon)
    ordered = check_levels(levels)
    parsed = [Series.from_member(member, f"series[{index}]") for index, member in enumerate(batch)]
    plugins = forecasters()
    fits = fitted(parsed, horizon, plugins)
    return [document(fit, series, horizon, ordered, plugins) for fit, series in zip(fits, parsed, strict=True)]


def forecasters() -> list[Forecaster]:
    """The installed plugins, by name: they compete with the built-in pool.

    One that cannot be loaded is left out with a warning. Raises ``ConfigError`` when two carry the same name, or one
    that of a built-in model.
    """
    from importlib.metadata import entry_points

    found: dict[str, tuple[Forecaster, str]] = {}
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.value):
        try:
            candidate: object = point.load()
        except Exception as error:  # noqa: BLE001 - a broken forecaster must not take the others down
            _log.warning("forecaster=%s left out: %s: %s", point.value, type(error).__name__, error)
            continue
        if not isinstance(candidate, Forecaster):
            _log.warning("forecaster=%s left out: it lacks name, min_points or predict", point.value)
            continue
        other = found.setdefault(candidate.name, (candidate, point.value))[1]
        if candidate.name in BUILT_IN or other != point.value:
            origin = "the built-in pool" if candidate.name in BUILT_IN else other
            raise ConfigError(
                f"forecaster {candidate.name!r} is offered by both {origin} and {point.value}", "uninstall one of them"
            )
    return [candidate for _, (candidate, _) in sorted(found.items())]
