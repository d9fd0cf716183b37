"""The edge to power: watts from any JSON answer or from RAPL, and hourly prices of electricity from a file or a url."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from .config import with_secrets
from .costs import METER, RAPL, Watts
from .errors import AdapterError, FailureKind
from .net import HttpClient, display_url
from .sections import HostOptions, TariffSource
from .timefmt import parse_rfc3339

_DEADLINE_S = 10
_POWERCAP = Path("/sys/class/powercap")
_RAPL_SPAN_S = 1.0
_HEADER = {"start", "price"}


def read_meter(options: HostOptions, base: Path | None) -> tuple[Watts, list[str]]:
    """What the meter of a host says now, and warnings; raises ``AdapterError`` and ``ConfigError``."""
    if options.rapl:
        return Watts(rapl_watts(), RAPL), []
    complete, warnings = with_secrets(options, base)
    url, token = complete.watts_url or "", complete.watts_token
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token is not None else {}
    with HttpClient(_DEADLINE_S) as http:
        document = http.get_json(url, headers=headers)
    return Watts(_watts_at(document, complete.watts_path or "", display_url(url)), METER), warnings


def _watts_at(document: Any, path: str, shown: str) -> float:
    """The number at a path of names and list positions; also one that is written as text, as home automations do."""
    value = document
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = cast("dict[str, Any]", value)[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(cast("list[Any]", value)):
            value = cast("list[Any]", value)[int(step)]
        else:
            hint = f"compare watts_path with what it answers: there is no {step!r}"
            raise AdapterError(FailureKind.SHAPE, f"{shown} answered JSON without {path}", hint)
    try:
        watts = math.nan if value is None or isinstance(value, bool | dict | list) else float(value)
    except (ValueError, OverflowError):
        watts = math.nan
    if not math.isfinite(watts) or watts < 0:
        hint = "is the meter offline, or is watts_path that of something else?"
        raise AdapterError(FailureKind.SHAPE, f"{shown} answered no number of watts at {path}", hint)
    return watts


def rapl_watts(folder: Path = _POWERCAP, span_s: float = _RAPL_SPAN_S) -> float:
    """Mean power of this machine's processors over the next ``span_s``, by the kernel's energy counters.

    Raises ``AdapterError``: unsupported where the kernel has none, permission where only root may read them.
    """
    names = {zone: _sysfs(zone / "name") for zone in sorted(folder.glob("intel-rapl:*"))}
    zones = [zone for zone, name in names.items() if name.startswith("package")]
    if not zones:
        raise AdapterError(FailureKind.UNSUPPORTED, "this machine has no RAPL counters", "state idle_watts instead")
    started, before = time.monotonic(), [int(_sysfs(zone / "energy_uj")) for zone in zones]
    time.sleep(span_s)
    after, ended = [int(_sysfs(zone / "energy_uj")) for zone in zones], time.monotonic()
    microjoules = 0
    for zone, first, last in zip(zones, before, after, strict=True):
        # The counter starts again at 0 when it is full.
        microjoules += last - first if last >= first else last - first + int(_sysfs(zone / "max_energy_range_uj"))
    return microjoules / 1e6 / (ended - started)


def _sysfs(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except PermissionError:
        hint = "let the group of depin-orcha read it, by a udev rule or in tmpfiles.d"
        raise AdapterError(FailureKind.PERMISSION, f"this user may not read {path}", hint) from None
    except OSError as error:
        raise AdapterError(FailureKind.UNSUPPORTED, f"cannot read {path} ({error.strerror})") from None


def read_tariff(source: TariffSource, base: Path | None) -> tuple[list[tuple[int, float]], list[str]]:
    """(start, price per kWh) of every row, by start, and warnings; raises ``AdapterError`` and ``ConfigError``."""
    if source.csv is not None:
        path = Path(source.csv).expanduser()
        path = path if path.is_absolute() or base is None else base.parent / path
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise AdapterError(FailureKind.CONFIG, f"{path}: cannot be read ({reason})", "check costs") from None
        return list(_rows(text, str(path), FailureKind.DATA)), []
    complete, warnings = with_secrets(source, base)
    url = complete.url or ""
    with HttpClient(_DEADLINE_S) as http:
        text = http.request("GET", url).text()
    return list(_rows(text.removeprefix("\ufeff"), display_url(url), FailureKind.SHAPE)), warnings


def _rows(text: str, where: str, kind: FailureKind) -> Iterator[tuple[int, float]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    hint = "expected CSV: start,price and then lines such as 2026-11-22T20:00:00Z,0.31"
    try:
        if set(reader.fieldnames or ()) != _HEADER:
            raise AdapterError(kind, f"{where}, line 1: the header is not start,price", hint)
        found = [(reader.line_num, _row(record)) for record in reader]
    except (csv.Error, ValueError, ArithmeticError):
        raise AdapterError(kind, f"{where}, line {reader.line_num}: not a time and a price", hint) from None
    found.sort(key=lambda one: one[1])
    for (_, one), (line, other) in pairwise(found):
        if one[0] == other[0]:
            raise AdapterError(kind, f"{where}, line {line}: this start has a price already", "give each hour one")
    yield from (entry for _, entry in found)


def _row(record: dict[str | Any, Any]) -> tuple[int, float]:
    # A short line leaves the last column None, a long one puts the rest under None.
    start_s, price = parse_rfc3339((record["start"] or "").strip()), float(record["price"] or "nan")
    if None in record or not math.isfinite(price):
        raise ValueError
    return start_s, price
