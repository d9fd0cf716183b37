"""Do things that were tried in turn earn differently, or only at different times? Pure.

Least squares on the mean of every (day, thing): a level for each thing beside a broken line of time that bends once a
week, so that a market which drifts is no merit of what was tried meanwhile. Errors as of Newey and West with days as
the clock: what is left over may vary by thing, and resemble that of the days around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from depin_orcha.types import DAY_S

CHANCE = 0.002
"""How often equal things may look different, all comparisons of one look together.

Equal caps are looked at again and again: at 0.01, some looked different for a day in one placebo world of eight."""
_ALIKE_DAYS = 4
_BEND_DAYS = 7


def surely_different(values: Mapping[int, float], tried: Sequence[tuple[int, str]], present: str) -> frozenset[str]:
    """The things that earn otherwise than the present one by more than chance.

    ``values``: income by hour. ``tried``: (hour, the thing that was in force), in the order of time.
    """
    names = list(dict.fromkeys(name for _, name in tried))
    cells: dict[tuple[int, str], list[float]] = {}
    for hour_s, name in tried:
        cells.setdefault((hour_s // DAY_S, name), []).append(values[hour_s])
    others = [name for name in names if name != present]
    if present not in names or not others:
        return frozenset()
    import numpy as np
    from scipy.special import stdtrit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    days = np.array([float(day) for day, _ in cells])
    first = min(day for day, _ in cells)
    last = max(day for day, _ in cells)
    bends = range(first + _BEND_DAYS, last - _BEND_DAYS // 2, _BEND_DAYS)
    line = [days - first, *(np.maximum(days - bend, 0.0) for bend in bends)]
    levels = [np.array([float(one == name) for _, one in cells]) for name in others]
    design = np.column_stack([np.ones(len(cells)), *levels, *line])
    weight = np.array([float(len(found)) for found in cells.values()])
    income = np.array([sum(found) / len(found) for found in cells.values()])
    freedom = len(cells) - design.shape[1]
    if freedom < 3 or np.linalg.matrix_rank(design) < design.shape[1]:
        return frozenset()
    inverse = np.linalg.inv(design.T @ (design * weight[:, None]))
    fitted = inverse @ (design.T @ (weight * income))
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design) * weight
    off = design * (weight * (income - design @ fitted) / np.sqrt(np.maximum(1 - leverage, 0.05)))[:, None]
    near = np.maximum(1 - np.abs(days[:, None] - days[None, :]) / _ALIKE_DAYS, 0.0)
    spread = inverse @ (off.T @ near @ off) @ inverse * len(cells) / freedom
    # Things of one day that go up and down together cannot make their difference surer than if they did not.
    alone = inverse @ (off.T @ off) @ inverse * len(cells) / freedom
    error = np.sqrt(np.maximum(np.diag(spread), np.diag(alone)))
    bound = float(stdtrit(freedom, 1 - CHANCE / 2 / len(others)))
    return frozenset(
        name
        for at, name in enumerate(others, 1)
        if abs(fitted[at]) > bound * error[at]  # pyright: ignore[reportUnknownArgumentType]
    )
