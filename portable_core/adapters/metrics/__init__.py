"""Metrics in Prometheus' text format."""

from portable_core.adapters.metrics.counters import Metrics
from portable_core.adapters.metrics.node_state import MAX_DAMAGED

__all__ = ["MAX_DAMAGED", "Metrics"]
