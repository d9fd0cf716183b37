"""CoinGecko's price interface, answered from simulated prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from depin_orcha.types import DAY_S, HOUR_S

from .market import STEP_S, PriceWalk
from .wire import Answer, Query, json_answer


class CoinGecko:
    """Answers for the coins of ``walks`` (by CoinGecko id) at the instant ``now`` gives."""

    def __init__(self, walks: Mapping[str, PriceWalk], now: Callable[[], int]) -> None:
        self._walks = walks
        self._now = now

    def __call__(self, path: str, query: Query, headers: Mapping[str, str]) -> Answer:  # noqa: ARG002
        now_s = self._now()
        try:
            match path.split("/")[1:]:
                case ["api", "v3", "simple", "price"]:
                    return json_answer(self._simple_price(query, now_s))
                case ["api", "v3", "coins", coin, "market_chart", *rest] if coin in self._walks:
                    to_s = min(now_s, int(query["to"])) if rest == ["range"] else now_s
                    from_s = int(query["from"]) if rest == ["range"] else to_s - int(query["days"]) * DAY_S
                    return json_answer(_market_chart(self._walks[coin], from_s, to_s))
                case ["api", "v3", "coins", *_]:
                    return json_answer({"error": "coin not found"}, 404)
                case _:
                    return json_answer({"error": "Incorrect path. Please check https://www.coingecko.com/api/"}, 404)
        except (KeyError, ValueError):
            return json_answer({"error": "Missing or invalid parameter"}, 422)

    def _simple_price(self, query: Query, now_s: int) -> dict[str, Any]:
        """Coins that are not known are simply absent."""
        quotes: dict[str, Any] = {}
        for coin in query["ids"].split(","):
            latest = self._walks[coin].at(now_s) if coin in self._walks else None
            if latest and "usd" in query["vs_currencies"].split(","):
                quotes[coin] = {"usd": latest[1]}
                if query.get("include_last_updated_at") == "true":
                    quotes[coin]["last_updated_at"] = latest[0]
        return quotes


def _market_chart(walk: PriceWalk, from_s: int, to_s: int) -> dict[str, list[list[float]]]:
    """Milliseconds and prices: every five minutes within a day, every hour up to 90 days, every day beyond."""
    span_s = to_s - from_s
    spacing_s = STEP_S if span_s <= DAY_S else HOUR_S if span_s <= 90 * DAY_S else DAY_S
    prices: list[list[float]] = [[at_s * 1000, usd] for at_s, usd in walk.between(from_s, to_s, spacing_s)]
    return {"prices": prices, "market_caps": [], "total_volumes": []}
