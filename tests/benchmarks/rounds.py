"""Interleaved rounds, and what is read off them."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Mapping
from typing import TypeVar

from tests.benchmarks.processes import BenchmarkError

Candidate = TypeVar("Candidate")
Sample = dict[str, float]


class Samples:
    """What was measured: for each candidate one sample a round."""

    def __init__(self, rounds: Mapping[str, list[Sample]]) -> None:
        self.rounds = rounds

    def __contains__(self, name: str) -> bool:
        return name in self.rounds

    def of(self, name: str, quantity: str) -> list[float]:
        """One quantity of one candidate, by round."""
        return [sample[quantity] for sample in self.rounds[name]]

    def median(self, name: str, quantity: str) -> float:
        """Its median."""
        return statistics.median(self.of(name, quantity))

    def percentile(self, name: str, quantity: str, percent: float) -> float:
        """Its value that so many percent of the rounds stay below."""
        return percentile(self.of(name, quantity), percent)

    def ratio(self, name: str, base: str, quantity: str) -> float:
        """How much of it one candidate needs for one of the other: the median over rounds."""
        pairs = zip(self.of(name, quantity), self.of(base, quantity), strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)


def take_rounds(
    candidates: Mapping[str, Candidate], measure: Callable[[str, Candidate], Sample], rounds: int
) -> Samples:
    """Measure every candidate once a round, in an order drawn anew; one more round before warms up."""
    samples: dict[str, list[Sample]] = {name: [] for name in candidates}
    order = list(candidates)
    for number in range(rounds + 1):
        random.shuffle(order)
        for name in order:
            try:
                sample = measure(name, candidates[name])
            except (BenchmarkError, OSError) as error:
                raise BenchmarkError(f"{name} fails in round {number}: {error}") from error
            if number:
                samples[name].append(sample)
    return Samples(samples)


def percentile(values: list[float], percent: float) -> float:
    """The value that so many percent of the values stay below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
