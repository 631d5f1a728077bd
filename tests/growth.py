"""How the cost of something grows with the size of its input.

A limit in seconds fails on a busy machine and passes on a fast one. Growth does neither: both sizes are
measured in one run, in turns, by the thread's own CPU time, and the cheapest of each counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable

TURNS = 3
FACTOR = 8
"""How much larger the larger input is: what is linear costs 8 times as much, what is quadratic 64 times."""
MOST = 24
NOISE_SECONDS = 0.02
"""Differences below this mean nothing."""


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Check that `work(size)` costs no more than `work(size / 8)` does eight times, with room to spare."""
    small, large = [], []
    for _ in range(TURNS):
        small.append(_cpu_seconds(work, size // FACTOR))
        large.append(_cpu_seconds(work, size))
        if min(large) <= MOST * min(small) + NOISE_SECONDS:
            return
    raise AssertionError(
        f"{FACTOR} times the size costs {min(large) / min(small):.0f} times as much: {min(large):.3f} s"
    )


def _cpu_seconds(work: Callable[[int], object], size: int) -> float:
    began = time.thread_time()
    work(size)
    return time.thread_time() - began
