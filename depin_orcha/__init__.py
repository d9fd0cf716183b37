"""Collects, forecasts, optimises and applies for the storage, compute and bandwidth nodes of one operator."""

__version__ = "0.1.0"
