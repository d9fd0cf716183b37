"""What we read of single satellites adds up to what the node itself says of all of them, in its own rounded cents."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from loopback import Loopback, sample
from sample_cases import SAMPLES, Case

NODE = SAMPLES / "storj" / "1.162.3"
RAW = ("egressBandwidth", "egressRepairAudit", "diskSpace")
ROUNDING_CENTS = Decimal("0.005")
"""Of each component of each satellite."""


@pytest.mark.parametrize(
    ("case", "months"),
    [
        ("healthy", {"currentMonth": "2026-11"}),
        ("poll-b", {"currentMonth": "2026-11", "previousMonth": "2026-10"}),
        ("rollover-a", {"currentMonth": "2026-10", "previousMonth": "2026-09"}),
        ("rollover-b", {"currentMonth": "2026-11", "previousMonth": "2026-10"}),
        ("vetting", {"currentMonth": "2026-11", "previousMonth": "2026-10"}),
        ("disqualified", {"currentMonth": "2026-11", "previousMonth": "2026-10"}),
    ],
)
def test_satellites_add_up(case: str, months: dict[str, str]) -> None:
    """After what is held; who disqualified the node is in neither."""
    of_all = json.loads((NODE / case / "payout-sum.json").read_text(), parse_float=Decimal)
    with Loopback(sample(NODE / case)) as server:
        read = Case(NODE / case).read(server.url)
        opened = Case(NODE / case).opened(server.requests)
    single = [json.loads(path.read_text(), parse_float=Decimal) for path in sorted(opened) if "payout-" in path.name]
    single = [one for one in single if isinstance(one, dict)]
    assert len(single) == (3 if case == "disqualified" else 4)
    for month, period in months.items():
        for part in RAW:
            assert sum(one[month][part] for one in single) == pytest.approx(of_all[month][part], rel=Decimal("1e-12"))
        cents = sum(of_all[month][f"{part}Payout"] for part in RAW)
        earned = [one for one in read.earnings if one.period == period]
        assert len(earned) == len(single)
        rounding = ROUNDING_CENTS * len(RAW) * len(single)
        assert abs(100 * sum(one.amount for one in earned) - cents) <= rounding
        net = sum(100 * one.amount * one.share for one in earned)
        assert abs(net - of_all[month]["payout"]) <= rounding
