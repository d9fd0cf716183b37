"""A simulated operator to try everything on: two machines, four nodes and a price source, all on loopback.

Nothing here is real. Whatever the wire formats leave free says SIMULATED.
"""

from .servers import SimulatedOperator

__all__ = ["SimulatedOperator"]
