"""What became of completions: counts and latencies of this process, told to nobody but `ollm/status`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

KEPT = 500
"""Latencies that the percentiles are taken of."""


@dataclass(slots=True)
class CompletionStatistics:
    """Counts since the start, and the latencies of the last requests, milliseconds."""

    requests: int = 0
    generations: int = 0
    superseded: int = 0
    cache_hits: int = 0
    joined: int = 0
    shown: int = 0
    accepted: int = 0
    rejected: int = 0
    failures: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT))

    def percentile(self, share: float) -> float | None:
        """The latency that `share` of the requests stayed under."""
        if not self.latencies:
            return None
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
