"""What forecasts have learned of each node, kept between runs so that it is not learned again every hour.

A node is learned every six hours, at hours of its own so that a fleet takes turns, from what was earned until then;
every hour while it is younger than two weeks, has changed its type, or its bands drift. What was kept is used only if
it was learned from exactly that: whether it is there or not, the forecast is the same, and a lost one costs only time.

In a fleet too large to be learned within ``BUDGET_S``, those whose turn is the longest ago go first, and the others
speak from what was kept of them before, until the next run.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from zlib import crc32

from .asof import AsOf
from .types import DAY_S, HOUR_S

if TYPE_CHECKING:
    from .forecast import Forecaster
    from .forecast.fit import Fit
    from .forecast.series import Series

REFIT_H = 6
BUDGET_S = 5.0
"""Wall time after which nodes that were learned before wait for the next run."""
_YOUNG_S = 14 * DAY_S
_CHUNK = 16
"""Nodes learned together between two looks at the clock: as many as are smoothed together."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of a node: what was learned, until when, and from which inputs."""

    node: str
    currency: str
    end_s: int
    inputs: str
    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Learned:
    """A fit for each series, and what was learned for it just now."""

    fits: list[Fit]
    kept: list[Kept]


def learned(
    known: AsOf,
    batch: Sequence[Series],
    currencies: Mapping[str, str],
    horizon_h: int,
    plugins: Sequence[Forecaster],
    drifted: Collection[str],
    *,
    hurry: bool,
) -> Learned:
    """A fit for each series of hours, kept or new; only if there is ``hurry``, older ones where time is short."""
    from .forecast.fit import fingerprint, learned, lent

    deadline_s = time.monotonic() + BUDGET_S if hurry else float("inf")
    parts = [_learned_from(series, drifted) for series in batch]
    inputs = [";".join((fingerprint(part), str(horizon_h), *(one.name for one in plugins))) for part in parts]
    stored = _stored(known)
    fits: dict[int, Fit] = {}
    older: dict[int, Fit] = {}
    for index, part in enumerate(parts):
        row = stored.get((part.id, currencies[part.id]))
        if row is not None and row[0] == inputs[index]:
            fits[index] = row[1]
        elif row is not None and _fits(row[1], part, horizon_h):
            older[index] = row[1]
    due = sorted(set(range(len(batch))) - fits.keys(), key=lambda i: (older[i].end_s if i in older else -1, i))
    kept: list[Kept] = []
    for begin in range(0, len(due), _CHUNK):
        late = time.monotonic() > deadline_s
        chunk = due[begin : begin + _CHUNK]
        now = [index for index in chunk if not (late and index in older)]
        for index, fit in zip(now, learned([parts[index] for index in now], horizon_h, plugins), strict=True):
            node = parts[index].id
            fits[index] = fit
            kept.append(Kept(node, currencies[node], fit.end_s, inputs[index], fit.to_dict()))
    return Learned(lent(parts, [fits.get(index) or older[index] for index in range(len(batch))]), kept)


def keep(connection: sqlite3.Connection, rows: Iterable[Kept], learned_s: int) -> None:
    """Remember what was learned, in the open transaction, except where something newer is remembered."""
    texts = [(one, json.dumps(one.state, allow_nan=False)) for one in rows]
    connection.executemany(
        "INSERT INTO learned VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node, currency) DO UPDATE SET "
        "end_s = excluded.end_s, learned_s = excluded.learned_s, inputs = excluded.inputs, "
        "state_json = excluded.state_json, state_sha256 = excluded.state_sha256 WHERE excluded.end_s >= learned.end_s",
        [
            (one.node, one.currency, one.end_s, learned_s, one.inputs, text, _checked(one.inputs, text))
            for one, text in texts
        ],
    )


def _stored(known: AsOf) -> dict[tuple[str, str], tuple[str, Fit]]:
    """(node, currency) -> (inputs, what was learned from them), where that can be read and is what was stored."""
    from .forecast.fit import Fit

    rows = known.connection.execute(
        "SELECT node, currency, inputs, state_json, state_sha256 FROM learned WHERE learned_s <= ?", (known.now_s,)
    )
    found: dict[tuple[str, str], tuple[str, Fit]] = {}
    for node, currency, inputs, text, checked in rows:
        if _checked(inputs, text) == checked:
            try:
                found[node, currency] = inputs, Fit.from_dict(json.loads(text))
            except ValueError:  # of another version
                continue
    return found


def _checked(inputs: str, text: str) -> str:
    return sha256(f"{inputs}\n{text}".encode()).hexdigest()


def _learned_from(series: Series, drifted: Collection[str]) -> Series:
    """The part of a series that it is learned from now."""
    from .forecast.history import MAX_SEASONS, history_of

    everything = series.until(series.end_s, MAX_SEASONS * series.season)
    turn_s = crc32(series.id.encode()) % REFIT_H * HOUR_S
    until_s = series.end_s - (series.end_s - turn_s) % (REFIT_H * HOUR_S)
    if series.id in drifted or len(series.y) * series.freq_s < _YOUNG_S or until_s == series.end_s:
        return everything
    part = series.until(until_s, MAX_SEASONS * series.season)
    return part if history_of(part).kind == history_of(series).kind else everything


def _fits(fit: Fit, part: Series, horizon_h: int) -> bool:
    """Can an older fit still speak for this series?"""
    from .forecast.history import history_of

    alike = fit.kind == history_of(part).kind and fit.horizon == min(horizon_h, 7 * part.season)
    return alike and fit.end_s <= part.end_s
