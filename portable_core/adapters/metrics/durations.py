"""A histogram that counts many values at once: a commit acknowledges hundreds of webhooks."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Durations(Collector):
    """A histogram without labels. Safe to use from any number of threads."""

    def __init__(self, name: str, meaning: str, bounds: Sequence[float]) -> None:
        """``bounds`` are the upper bounds of the buckets, in order, without the last one."""
        self._name = name
        self._meaning = meaning
        self._bounds = tuple(bounds)
        self._lock = threading.Lock()
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, values: Sequence[float]) -> None:
        """Count these values."""
        with self._lock:
            for value in values:
                self._counts[bisect_left(self._bounds, value)] += 1
            self._sum += sum(values)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [HistogramMetricFamily(self._name, self._meaning)]

    def collect(self) -> Iterator[HistogramMetricFamily]:
        with self._lock:
            counts, total = list(accumulate(self._counts)), self._sum
        bounds = map(floatToGoString, (*self._bounds, float("inf")))
        buckets = list(zip(bounds, counts, strict=True))
        yield HistogramMetricFamily(self._name, self._meaning, buckets=buckets, sum_value=total)
