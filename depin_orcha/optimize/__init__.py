"""Deciding how much of a host each node gets: a ``Problem`` in, a ``Plan`` out, nothing else touched.

Importing this package loads neither numpy nor scipy; ``solve`` does.
"""

from .plan import Plan
from .planner import solve
from .problem import Problem

__all__ = ["Plan", "Problem", "solve"]
