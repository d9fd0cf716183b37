"""Nothing: the most likely next hour of work that comes in bursts, and of a node that stopped earning."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

name = "zero"
min_points = 24


def predict(_y: NDArray[np.float64], horizon: int, _season: int) -> NDArray[np.float64]:
    """Zero in every bin; what the bursts bring is in the mean and the band, which come from its errors."""
    return np.zeros(horizon)
