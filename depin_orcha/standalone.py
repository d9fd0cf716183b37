"""``forecast --input`` and ``optimize --input``: documents in, documents out; no configuration, no database."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from .cycle import Result
from .errors import DataError, ExitCode, UsageError
from .tradeoff import front_of, frozen_by_thresholds
from .types import Failure, FailureKind


def read_input(name: str) -> str:
    """The text of a file, or of standard input for ``-``. Raises ``DataError``."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{name}: not UTF-8 text") from None


def forecast_document(name: str, horizon: int | None, freq: str, levels: str | None) -> Result:
    """Forecasts of the series in a CSV or JSON document, in its order; options win over what the document says."""
    from .forecast import forecast_series
    from .forecast.inputs import read_request

    try:
        request = read_request(read_input(name), freq)
        wanted: dict[str, Any] = {
            "horizon": horizon if horizon is not None else request.horizon,
            "levels": _levels(levels) if levels is not None else request.levels,
        }
        forecasts = forecast_series(request.batch, **{key: value for key, value in wanted.items() if value is not None})
    except DataError as error:
        where = "" if error.message.startswith(f"{name}: ") else f"{name}: "
        raise DataError(f"{where}{error.message}", error.hint) from None
    return Result({"forecasts": forecasts, "anomalies": []})


def _levels(text: str) -> tuple[float, ...]:
    try:
        values = [float(level) for level in text.split(",")]
        if not all(0 < value < 100 for value in values):
            raise ValueError(text)
    except ValueError:
        raise UsageError(f"--levels {text!r} is no list of percentages", "write it as 80,95") from None
    return tuple(int(value) if value.is_integer() else value for value in values)


def optimize_document(name: str, model: str | None, risk: float | None = None, axis: str | None = None) -> Result:
    """The plan of one problem document; with an ``axis``, a front too."""
    document = _asked(_parsed(read_input(name), name), model, risk)
    data = _solved(document, name)
    if axis is not None:
        data["front"] = front_of(document, axis)
    failed = [host for host in data["hosts"] if host["status"] == "failed"]
    failures = [
        Failure(None, FailureKind.INTERNAL, f"no plan for host {host['host']}: {host['reason']}") for host in failed
    ]
    return Result(data, failures, _code(data, failed), frozen_by_thresholds(data))


def optimize_lines(name: str, model: str | None, risk: float | None = None) -> tuple[str, ExitCode]:
    """One plan a line for one problem a line; a bad line becomes ``{"line", "error"}`` and exit code 65."""
    lines: list[str] = []
    code = ExitCode.OK
    for number, line in enumerate(read_input(name).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            lines.append(json.dumps(_solved(_asked(_parsed(line, where), model, risk), where), allow_nan=False))
        except DataError as error:
            lines.append(json.dumps({"line": number, "error": error.message}))
            code = ExitCode.DATA
    if not lines:
        raise DataError(f"{name}: the input is empty")
    return "".join(f"{line}\n" for line in lines), code


def _parsed(text: str, where: str) -> Any:
    if not text.strip():
        raise DataError(f"{where}: the input is empty")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not JSON ({error})") from None


def _asked(document: Any, model: str | None, risk: float | None) -> Any:
    """A document with what the command line says otherwise."""
    if not isinstance(document, dict):
        return document
    changed = cast("dict[str, Any]", document)
    if model is not None:
        changed = changed | {"model": model}
    own: Any = changed.get("risk")
    if risk is not None and (own is None or isinstance(own, dict)):
        changed = changed | {"risk": cast("dict[str, Any]", own or {}) | {"lambda": risk}}
    return changed


def _solved(document: Any, where: str) -> dict[str, Any]:
    from .optimize import Problem, solve

    try:
        problem = Problem.from_dict(document)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    return solve(problem).to_dict()


def _code(data: dict[str, Any], failed: list[Any]) -> ExitCode:
    if not failed:
        return ExitCode.OK
    return ExitCode.INTERNAL if len(failed) == len(data["hosts"]) else ExitCode.PARTIAL
