"""The stand-in for a Mysterium node answers a change as the recorded answer does."""

from __future__ import annotations

import json
from typing import Any

import httpx
from sample_cases import SAMPLES
from tequilapi import Tequilapi


def test_a_change_is_answered_with_all_that_was_ever_set() -> None:
    recorded = json.loads((SAMPLES / "mysterium" / "1.38.3" / "config_user_after_post.json").read_text())
    with Tequilapi() as node:
        for change in ({"active-services": "scraping,dvpn"}, {"shaper.bandwidth": 2500}, {"shaper.enabled": True}):
            answer: Any = httpx.post(f"{node.url}/config/user", json={"data": change})
        assert answer.json() == recorded
