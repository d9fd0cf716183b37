"""The simulated operator: two machines, two storage nodes, two Golem providers and a token price, at one instant.

Pure: what happens follows from the seed and the start alone, however the clock is advanced. The operator tried
several caps and prices for its Golem nodes and then left ``rack`` at a cap far below what its demand would fill,
while ``attic`` is already set as well as it can be.
"""

from __future__ import annotations

from types import MappingProxyType

from depin_orcha.types import DAY_S, HOUR_S

from .market import PriceWalk
from .provider import Demand, Provider, Schedule, Setting, balanced_schedule
from .storage import Satellite, StorageNode
from .times import month_start

PRICE_HISTORY_S = 40 * DAY_S
"""Token prices are known from this long before the start."""
_GLM_USD = 0.21
_USUAL_GLM_PER_THREAD_H = 0.025
_DEAR_GLM_PER_THREAD_H = 0.035
_SATELLITES = MappingProxyType(
    {
        "12SiMULATEDsateLLiteEasuzSLT8svBZ7ft1kuULMvwdh5bJko": "east.simulated.invalid:7777",
        "12SiMULATEDsateLLiteWessXHztVNh6fNvpZq6krpxNLM2bAK2": "west.simulated.invalid:7777",
    }
)


class World:
    """Everything that exists at ``now_s``; it starts at ``start_s`` and only goes forward."""

    def __init__(self, start_s: int, seed: int = 2) -> None:
        self.start_s = start_s
        self.now_s = start_s
        self.storage = {
            "attic": _storage_node(
                "12SiMULATEDstorageNodeAspRpw8npa7Wcgqhzx3a2evGrJgct",
                start_s,
                seed,
                months=12,
                stored=4.2e12,
                allocated=6e12,
            ),
            "rack": _storage_node(
                "12SiMULATEDstorageNodeRYcyiHLR7j5gsjR6g5dVNmrAXUDV6",
                start_s,
                seed,
                months=4,
                stored=1.6e12,
                allocated=12e12,
            ),
        }
        self.providers = {
            name: Provider(name, cores=cores, start_s=start_s, schedule=schedule, demand=demand, seed=seed)
            for name, cores, schedule, demand in (
                ("attic", 4, _trials(start_s, (2, 4, 6), left_at=6), _ATTIC_DEMAND),
                ("rack", 8, _trials(start_s, (4, 8, 12), left_at=4), _RACK_DEMAND),
            )
        }
        self.prices = {"golem": PriceWalk(start_s - PRICE_HISTORY_S, _GLM_USD, f"golem {seed}")}
        self.advance(start_s)

    def advance(self, now_s: int) -> None:
        """Move the clock to ``now_s``; raises ``ValueError`` for an instant in the past."""
        if now_s < self.now_s:
            raise ValueError(f"the simulated clock is at {self.now_s} and cannot go back to {now_s}")
        for part in (*self.storage.values(), *self.providers.values(), *self.prices.values()):
            part.advance(now_s)
        self.now_s = now_s


def _storage_node(
    node_id: str, start_s: int, seed: int, *, months: int, stored: float, allocated: float
) -> StorageNode:
    """A node that joined ``months`` calendar months ago and stores ``stored`` bytes, as much for each satellite."""
    joined_s = month_start(start_s, -months) + 8 * DAY_S
    growth = int(stored / len(_SATELLITES) * HOUR_S / (start_s - joined_s))
    satellites = tuple(
        Satellite(satellite_id, address, joined_s, growth, f"{node_id} {satellite_id} {seed}")
        for satellite_id, address in _SATELLITES.items()
    )
    return StorageNode(node_id, "0x" + "0" * 35 + "a11ce", int(allocated), start_s - 9 * DAY_S, satellites)


def _setting(threads: int, glm_per_thread_h: float) -> Setting:
    """An hour of the whole provider costs a fifth of an hour of one thread, as installed."""
    return Setting(threads, glm_per_thread_h / HOUR_S, glm_per_thread_h / 5 / HOUR_S)


def _trials(start_s: int, caps: tuple[int, int, int], left_at: int) -> Schedule:
    """Twelve days of half-day trials, of the usual price above all; then one cap for good."""
    low, middle, high = (_setting(cap, _USUAL_GLM_PER_THREAD_H) for cap in caps)
    dear = _setting(caps[1], _DEAR_GLM_PER_THREAD_H)
    first_hour_s = start_s - start_s % HOUR_S
    return balanced_schedule(
        first_hour_s, (low, high, middle, dear), cycles=6, left_at=_setting(left_at, _USUAL_GLM_PER_THREAD_H)
    )


_ATTIC_DEMAND = Demand(
    threads=MappingProxyType({1: 0.2, 2: 0.5, 4: 0.25, 8: 0.05}),
    per_idle_h=0.95,
    work_h=1.5,
    usual_glm_per_thread_s=_USUAL_GLM_PER_THREAD_H / HOUR_S,
    price_sensitivity=2.5,
)
_RACK_DEMAND = Demand(
    threads=MappingProxyType({4: 0.1, 8: 0.2, 12: 0.25, 16: 0.45}),
    per_idle_h=0.95,
    work_h=1.5,
    usual_glm_per_thread_s=_USUAL_GLM_PER_THREAD_H / HOUR_S,
    price_sensitivity=2.5,
)
