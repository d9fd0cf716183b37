"""Every adapter against every sample: what a real server on loopback answers has to read as the sample says.

``sample_cases`` says what a sample is. There is no code for any one adapter here.
"""

from __future__ import annotations

import json

import pytest
from loopback import Loopback, sample
from sample_cases import SAMPLES, Case, cases, shown

from depin_orcha.errors import AdapterError


@pytest.mark.parametrize("case", cases(), ids=lambda case: str(case.folder.relative_to(SAMPLES)))
def test_sample_reads_as_expected(case: Case) -> None:
    with Loopback(sample(case.folder)) as server:
        try:
            read = shown(case.read(server.url))
        except AdapterError as error:
            read = {"failure": {"kind": str(error.kind), "message": error.message}}
    assert json.loads(json.dumps(read).replace(server.url, "{url}")) == case.expected
    questions = case.meta.get("questions", [])
    changing = [one.target for one in server.requests if one.method != "GET" and one.path not in questions]
    assert server.requests
    assert changing == [], "an adapter only reads"
