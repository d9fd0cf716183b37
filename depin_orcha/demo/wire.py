"""What the simulated interfaces have in common: an answer, and JSON as their originals write it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer; ``stays_open`` marks an event stream that ends only when the client goes."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    stays_open: bool = False


Query = Mapping[str, str]
Responder = Callable[[str, Query, Mapping[str, str]], Answer]
"""From path, query and lower-case headers to the answer; called by many threads at once."""


def json_answer(value: Any, status: int = 200, content_type: str = JSON) -> Answer:
    """A JSON body without blanks."""
    return Answer(status, json.dumps(value, separators=(",", ":")).encode(), content_type)


def text_answer(text: str, status: int = 200) -> Answer:
    """A plain text body."""
    return Answer(status, text.encode(), TEXT)
