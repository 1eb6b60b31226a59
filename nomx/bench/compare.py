"""Compare: repetitions in turn, so that a slow minute of the machine falls on everyone; medians, spread, ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nomx.errors import InvalidRequest


@dataclass(frozen=True)
class Figure:
    """A measured quantity: its median, and the least and greatest of the repetitions."""

    median: float
    least: float
    greatest: float
    repetitions: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Summarise the repetitions. Raises: InvalidRequest: there are none."""
        if not values:
            raise InvalidRequest(field="repetitions", value=0, expected="at least one")
        return cls(statistics.median(values), min(values), max(values), len(values))


def alternate(contenders: Mapping[str, Callable[[], float]], repetitions: int) -> dict[str, list[float]]:
    """Run each contender *repetitions* times, one of each in turn; their values in order."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repetitions):
        for name, run in contenders.items():
            values[name].append(run())
    return values


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Compare repetition by repetition: ours over theirs in the same turn."""
    return Figure.of([mine / other for mine, other in zip(ours, theirs, strict=True)])
