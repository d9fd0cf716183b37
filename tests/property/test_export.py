"""Money is conserved on its way out: what is exported, however it is grouped and written, is what status sums up."""

from __future__ import annotations

import csv
import io
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_parts import at, opened

from depin_orcha.asof import AsOf
from depin_orcha.export import Format, as_text, history_columns
from depin_orcha.ledger import history
from depin_orcha.status import view
from depin_orcha.store import Store
from depin_orcha.types import DECIMALS, HOUR_S, Accrual, Quality

NOW_S = at("2026-11-22T20:15")
NODES = {"golem_1": ("golem", "attic"), "golem_2": ("golem", "rack"), "storj_1": ("storj", "rack")}

amounts = st.decimals(min_value=-(10**9), max_value=10**12, places=18, allow_nan=False)
deltas = st.tuples(
    st.sampled_from(sorted(NODES)),
    st.sampled_from(["GLM", "USD", "tGLM"]),
    st.integers(0, 719),
    amounts,
    st.integers(0, 9),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with opened(tmp_path_factory.mktemp("export") / "orcha.db") as opening:
        for name, (protocol, host) in NODES.items():
            opening.add_node(name, protocol, host, 0)
        yield opening


@settings(deadline=None, max_examples=30)
@given(st.lists(deltas, max_size=40))
def test_exported_hours_add_up_to_status(store: Store, booked: list[tuple[str, str, int, Decimal, int]]) -> None:
    store.connection.execute("DELETE FROM accruals")
    for node, currency, hours_ago, amount, late_h in booked:
        hour_s = NOW_S // HOUR_S * HOUR_S - hours_ago * HOUR_S
        delta = Accrual(hour_s, amount, currency, Quality.MEASURED)
        store.add_accruals(node, [delta], min(hour_s + late_h * HOUR_S, NOW_S))
    known = AsOf(store.connection, NOW_S)
    shown: dict[str, Decimal] = {}
    for node in view(known, [], 7200, only=frozenset())["nodes"]:
        for one in node["earned"]:
            shown[one["currency"]] = DECIMALS.add(shown.get(one["currency"], Decimal(0)), Decimal(one["last_30d"]))
    for by in ("hour", "day", "month"):
        for group in ("node", "protocol", "currency", "host"):
            rows = history(known, by, group, frozenset())
            for form in ("csv", "json", "jsonl"):
                assert sums(as_text(rows, history_columns(by), form), form) == shown


def sums(text: str, form: Format) -> dict[str, Decimal]:
    """Currency -> sum of an exported file."""
    if form == "csv":
        rows: Any = csv.DictReader(io.StringIO(text))
    else:
        rows = json.loads(text) if form == "json" else map(json.loads, text.splitlines())
    total: dict[str, Decimal] = {}
    for row in rows:
        total[row["currency"]] = DECIMALS.add(total.get(row["currency"], Decimal(0)), Decimal(row["amount"]))
    return total
