"""One module here is one idea of what comes next; every idea is tried on the past and the best one speaks.

A forecaster is whatever has ``name``, ``min_points`` and ``predict``: a module of this package (drop it in, it
competes) or an installed plugin's entry point in the group ``depin_orcha.forecasters``. Modules without these three
are the contest itself: ``series`` (what goes in), ``kinds`` (what sort of series), ``contest`` (backtests),
``bands`` (intervals), ``compose`` (what comes out), ``inputs`` (files).

Importing this package costs nothing: numpy is loaded by the first forecast.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from depin_orcha.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

ENTRY_POINT_GROUP = "depin_orcha.forecasters"
DEFAULT_HORIZON = 24
DEFAULT_LEVELS = (80, 95)

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
    Raises ``SeriesError``, which is both a ``ValueError`` and a ``DataError``, naming the path of what is wrong.
    """
    from .compose import compose
    from .series import Series, check_horizon, check_levels

    check_horizon(horizon)
    ordered = check_levels(levels)
    parsed = [Series.from_member(member, f"series[{index}]") for index, member in enumerate(batch)]
    models = forecasters()
    return [compose(series, models, horizon, ordered) for series in parsed]


def forecasters() -> list[Forecaster]:
    """All that compete, seasonal naive first: on a tie the first one wins, so the others have to beat it.

    One that cannot be loaded is left out with a warning. Raises ``ConfigError`` when two carry the same name.
    """
    from . import naive

    found: dict[str, tuple[Forecaster, str]] = {naive.name: (naive, naive.__name__)}
    for candidate, origin in sorted(_candidates(), key=lambda pair: pair[1]):
        if candidate is naive:
            continue
        if candidate.name in found:
            raise ConfigError(
                f"forecaster {candidate.name!r} is offered by both {found[candidate.name][1]} and {origin}",
                "uninstall one of them",
            )
        found[candidate.name] = (candidate, origin)
    return [candidate for candidate, _ in found.values()]


def _candidates() -> Iterator[tuple[Forecaster, str]]:
    from importlib.metadata import entry_points
    from pkgutil import iter_modules

    loaders = {f"{__name__}.{module.name}": import_module for module in iter_modules(__path__)}
    plugins = {point.value: point for point in entry_points(group=ENTRY_POINT_GROUP)}
    for origin in (*loaders, *plugins):
        try:
            candidate: object = plugins[origin].load() if origin in plugins else import_module(origin)
        except Exception as error:  # noqa: BLE001 - a broken forecaster must not take the others down
            _log.warning("forecaster=%s left out: %s: %s", origin, type(error).__name__, error)
            continue
        if isinstance(candidate, Forecaster):
            yield candidate, origin
        elif origin in plugins:
            _log.warning("forecaster=%s left out: it lacks name, min_points or predict", origin)
