"""A clock that stands until it is told to go: for everything that takes its time as a parameter."""

from __future__ import annotations


class FakeClock:
    """CLOCK_MONOTONIC as a test wants it; call it as one calls `time.monotonic_ns`."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self._now_ns = now_ns

    def __call__(self) -> int:
        return self._now_ns

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self._now_ns += int(seconds * 1e9)
