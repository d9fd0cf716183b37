"""The money adds up: whatever happens to a node and to the polls, its ledger is what its world says it earned.

Whole years, as many as you like: ``scripts/prove-ledger``.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from years.year import PROTOCOLS, prove

SEEDS = st.integers(0, 2**32 - 1)
AS_GIVEN = settings(derandomize=True, deadline=None, phases=(Phase.generate,))
"""Nothing is shrunk: a smaller seed is not a simpler world."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@settings(AS_GIVEN, max_examples=1)
@given(seed=SEEDS)
def test_some_weeks_add_up(protocol: str, seed: int) -> None:
    outcome = prove(protocol, seed, days=20)
    assert any(outcome.total.values())
    assert outcome.polls > outcome.failed > 0
