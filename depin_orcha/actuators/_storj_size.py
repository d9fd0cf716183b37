"""How much a Storj node may store, as its ``config.yaml`` says it (``memory/size.go`` of storj/common)."""

from __future__ import annotations

import math
import re

from depin_orcha.errors import ActuatorError, FailureKind

KEY = "storage.allocated-disk-space"
_LINE = re.compile(rf"""({re.escape(KEY)}\s*:\s*)(?:"([^"]*)"|'([^']*)'|([^\s"'#](?:[^#]*?[^\s#])?))(\s*|\s+#.*)""")
_SIZE = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)
_UNITS = {"B": 1} | {
    f"{prefix}{binary}B": (1024 if binary else 1000) ** power
    for power, prefix in enumerate("KMGTPE", 1)
    for binary in ("", "I")
}


def size_bytes(text: str) -> int:
    """Bytes of a size as storj's own ``memory.Size`` reads it: TB is decimal, TiB binary, T is TB, nothing is bytes.

    Raises ``ValueError``.
    """
    found = _SIZE.fullmatch(text)
    suffix = found[2].upper() if found else ""
    unit = _UNITS.get(suffix if suffix.endswith("B") else f"{suffix}B")
    size = float(found[1]) * unit if found and unit else math.inf
    if not math.isfinite(size):
        raise ValueError(f"{text!r} is not a size")
    return int(size)


def size_text(size: float) -> str:
    """A size as it is written to the file."""
    return f"{size / 1e9:.2f} GB"


def size_of_line(line: str, path: str) -> int:
    """The bytes that the line of a file gives. Raises ``ActuatorError``."""
    try:
        return size_bytes(_value(line))
    except ValueError as error:
        hint = f"storj takes no such size, and uses its default; write {KEY}: 2.00 TB, say"
        raise ActuatorError(FailureKind.CONFIG, f"{path} says `{line}`, where {error}", hint) from error


def _value(line: str) -> str:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("no value can be made out")
    return next(one for one in found.group(2, 3, 4) if one is not None)


def with_size(line: str, size: int) -> str:
    """The same line with another size; what its owner remarked there stays."""
    found = _LINE.fullmatch(line)
    return line if found is None else f"{found[1]}{size_text(size)}{found[5]}"
