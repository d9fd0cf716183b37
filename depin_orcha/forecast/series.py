"""What a forecast starts from: one validated series, and the words for everything that can be wrong with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from numbers import Real
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from depin_orcha.errors import DataError
from depin_orcha.timefmt import parse_rfc3339
from depin_orcha.types import DAY_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

FREQ_S = {"15min": 900, "30min": 1800, "1h": 3600, "1d": DAY_S}
"""Width of a bin in seconds."""
DEFAULT_FREQ = "1h"
STATES = ("up", "down", "idle")
MAX_HORIZON = 10_000
MAX_MAGNITUDE = 1e100
"""Far beyond any amount, and small enough that no sum or product of amounts overflows."""

_BINS_A_WEEK_OF_DAYS = 7
_KEYS = ("id", "start", "freq", "y", "price", "state", "protocol", "node")
_PLAIN = frozenset((float, int, type(None)))


class SeriesError(DataError, ValueError):
    """A series, a horizon or a level cannot be used; the message begins with its JSON path."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One series on a grid of UTC bins.

    ``y`` is what was earned in each bin, NaN where nothing was observed; ``price`` the last known price of one token
    in that bin, NaN before the first one, None for a series without prices; ``down`` marks bins in which the node
    was not running, and ``told`` whether it is said of others that it ran or was idle in them; ``end_s`` is the end of
    the last bin in epoch seconds; series of the same ``protocol`` (empty: unknown) are siblings.
    """

    id: str
    end_s: int
    freq_s: int
    y: NDArray[np.float64]
    price: NDArray[np.float64] | None
    down: NDArray[np.bool_]
    told: bool = False
    protocol: str = ""

    @property
    def season(self) -> int:
        """Bins after which the pattern repeats: one day, or one week of daily bins."""
        return _BINS_A_WEEK_OF_DAYS if self.freq_s == DAY_S else DAY_S // self.freq_s

    def until(self, end_s: int, bins: int) -> Series:
        """The last ``bins`` of those that end by ``end_s``, which is no later than the end of this one."""
        end = max(0, len(self.y) - (self.end_s - end_s) // self.freq_s)
        cut = slice(max(0, end - bins), end)
        price = None if self.price is None else self.price[cut]
        return replace(self, end_s=end_s, y=self.y[cut], price=price, down=self.down[cut])

    @classmethod
    def from_member(cls, member: Any, path: str) -> Series:
        """The series that a member of ``series`` describes; raises ``SeriesError`` naming the fault below ``path``."""
        if not isinstance(member, Mapping):
            raise SeriesError(f"{path}: expected an object, got {_shown(member)}")
        entry = cast("Mapping[str, Any]", member)
        refuse_unknown(entry, _KEYS, path)
        for key in ("id", "start", "y"):
            if key not in entry:
                raise SeriesError(f"{path}.{key}: missing")
        if not isinstance(entry["id"], str):
            raise SeriesError(f"{path}.id: expected text, got {_shown(entry['id'])}")
        freq_s = freq_seconds(entry.get("freq", DEFAULT_FREQ), f"{path}.freq")
        start_s = _aligned(entry["start"], freq_s, f"{path}.start")
        y = _numbers(entry["y"], f"{path}.y")
        price = _prices(entry.get("price"), len(y), f"{path}.price")
        down = _down(entry.get("state"), len(y), f"{path}.state")
        told = any(word in ("up", "idle") for word in entry.get("state") or ())
        protocol = entry.get("protocol") or ""
        if not isinstance(protocol, str):
            raise SeriesError(f"{path}.protocol: expected text, got {_shown(protocol)}")
        return cls(entry["id"], start_s + freq_s * len(y), freq_s, y, price, down, told, protocol)


def refuse_unknown(entry: Mapping[str, Any], known: Sequence[str], path: str) -> None:
    """Nothing happens, unless ``entry`` has a key that is not ``known``: a misspelt one must not be ignored."""
    for key in entry:
        if key not in known:
            near = get_close_matches(str(key), known, n=1)
            where = f"{path}.{key}" if path else key
            raise SeriesError(f"{where}: unknown key", f"did you mean {near[0]!r}?" if near else "")


def freq_seconds(freq: Any, path: str) -> int:
    """Seconds in one bin of ``15min``, ``30min``, ``1h`` or ``1d``."""
    if not isinstance(freq, str) or freq not in FREQ_S:
        raise SeriesError(f"{path}: expected one of {', '.join(FREQ_S)}, got {_shown(freq)}")
    return FREQ_S[freq]


def epoch_s(text: str) -> int:
    """Epoch seconds of an RFC 3339 time or date; without a zone it is UTC. Raises ``ValueError``."""
    if text[4:5] != "-" or text[7:8] != "-":  # 20260131 is also read as a date, and so are some epoch milliseconds
        raise ValueError(text)
    return parse_rfc3339(text)


def check_horizon(horizon: Any) -> None:
    """Nothing happens, unless ``horizon`` is no whole number of bins from 1 to ``MAX_HORIZON``."""
    if isinstance(horizon, bool) or not isinstance(horizon, int) or not 1 <= horizon <= MAX_HORIZON:
        raise SeriesError(f"horizon: expected a whole number from 1 to {MAX_HORIZON}, got {_shown(horizon)}")


def check_levels(levels: Any) -> list[float]:
    """The levels in percent, ascending, each once; raises ``SeriesError`` unless all lie between 0 and 100."""
    if not isinstance(levels, list | tuple) or not levels:
        raise SeriesError(f"levels: expected a list of percentages, got {_shown(levels)}")
    for index, level in enumerate(cast("Sequence[Any]", levels)):
        if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 100:
            raise SeriesError(f"levels[{index}]: expected a number between 0 and 100, got {_shown(level)}")
    return sorted(set(cast("Sequence[float]", levels)))


def _aligned(start: Any, freq_s: int, path: str) -> int:
    try:
        start_s = epoch_s(start)
    except (TypeError, ValueError, OverflowError):
        raise SeriesError(f"{path}: expected an RFC 3339 time, got {_shown(start)}") from None
    if start_s % freq_s:
        raise SeriesError(f"{path}: {start} is not the start of a bin of {freq_s} s in UTC")
    return start_s


def _numbers(values: Any, path: str) -> NDArray[np.float64]:
    """``values`` as floats, null as NaN."""
    if isinstance(values, np.ndarray):
        values = cast("NDArray[Any]", values).tolist()
    if not isinstance(values, list | tuple):
        raise SeriesError(f"{path}: expected a list of numbers, got {_shown(values)}")
    numbers = cast("Sequence[Any]", values)
    if not _PLAIN.issuperset(map(type, numbers)):
        for index, value in enumerate(numbers):
            if isinstance(value, bool) or not (value is None or isinstance(value, Real)):
                raise SeriesError(f"{path}[{index}]: expected a number or null, got {_shown(value)}")
    try:
        array = np.array(numbers, dtype=np.float64)
    except OverflowError:  # a whole number beyond every float
        array = np.array([v if v is None or abs(v) <= MAX_MAGNITUDE else math.inf for v in numbers], dtype=np.float64)
    too_large = np.flatnonzero(np.abs(array) > MAX_MAGNITUDE)
    if too_large.size:
        index = int(too_large[0])
        raise SeriesError(f"{path}[{index}]: expected a finite amount, got {_shown(numbers[index])}")
    return array


def _prices(values: Any, length: int, path: str) -> NDArray[np.float64] | None:
    """The last known price of each bin, None when not a single one is known."""
    if values is None:
        return None
    price = _numbers(values, path)
    _same_length(len(price), length, path)
    negative = np.flatnonzero(price < 0)
    if negative.size:
        raise SeriesError(f"{path}[{int(negative[0])}]: a price cannot be negative, got {price[negative[0]]:g}")
    latest = np.maximum.accumulate(np.where(np.isfinite(price), np.arange(length), -1))
    return np.where(latest >= 0, price[latest], np.nan) if length and latest[-1] >= 0 else None


def _down(states: Any, length: int, path: str) -> NDArray[np.bool_]:
    if states is None:
        return np.zeros(length, dtype=np.bool_)
    if not isinstance(states, list | tuple):
        raise SeriesError(f"{path}: expected a list of states, got {_shown(states)}")
    words = cast("Sequence[Any]", states)
    _same_length(len(words), length, path)
    for index, word in enumerate(words):
        if word is not None and word not in STATES:
            raise SeriesError(f"{path}[{index}]: expected {', '.join(STATES)} or null, got {_shown(word)}")
    return np.array([word == "down" for word in words], dtype=np.bool_)


def _same_length(got: int, expected: int, path: str) -> None:
    if got != expected:
        raise SeriesError(f"{path}: has {got} values, y has {expected}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
