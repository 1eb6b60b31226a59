"""Batching delay: for how long packets may be held, so that more are handled at once. Pure: the loop has the clock.

The knob of the nom paper, W: a batch begins when it is full or when its oldest packet has waited
for W, whichever is first, so no packet waits longer. There is one for packets that came in and wait
in the rx ring, and one for answers that are written and not yet given to the kernel. With W = 0
nothing is held, and no clock is read.
"""

from __future__ import annotations

from typing import NamedTuple

from nomx.compiled import inlined, int64
from nomx.ring.atomics import load_relaxed_i64

MAX_DELAY_US = 1000
"""The longest delay that may be set, as in the paper's experiments."""


class Delays(NamedTuple):
    """How long packets may be held, in ns; 0: not at all."""

    rx_ns: int
    tx_ns: int


class Held(NamedTuple):
    """What is held now, and since when (ns of CLOCK_MONOTONIC; 0: nothing)."""

    rx_since: int
    """When the oldest packet that was left in the rx ring was first seen."""
    tx_since: int
    """When the oldest of the staged answers was begun."""
    staged: int
    """Answers written into the tx ring behind its producer index: the kernel does not see them yet."""


@inlined
def nothing_held() -> Held:
    """Begin with nothing."""
    return Held(int64(0), int64(0), int64(0))


@inlined
def read_delays(rx_ns: int, tx_ns: int) -> Delays:
    """Read both delays from the addresses where they may be changed at any time."""
    return Delays(load_relaxed_i64(rx_ns), load_relaxed_i64(tx_ns))


@inlined
def take_in(held: Held, ready: int, burst: int, delay_ns: int, now: int) -> tuple[Held, int]:
    """Decide how many of *ready* packets to handle now: all, up to a *burst*, or none while they may be held."""
    if ready == 0 or delay_ns == 0:
        return Held(int64(0), held.tx_since, held.staged), min(ready, burst)
    since = held.rx_since if held.rx_since != 0 else now
    if ready < burst and now - since < delay_ns:
        return Held(since, held.tx_since, held.staged), int64(0)
    left_since = since if ready > burst else int64(0)
    return Held(left_since, held.tx_since, held.staged), min(ready, burst)


@inlined
def is_holding(held: Held) -> bool:
    """Return whether anything is held."""
    return held.rx_since != 0 or held.staged > 0


@inlined
def stage(held: Held, answers: int, now: int) -> Held:
    """Note that *answers* more were written by a round that began at *now*."""
    since = held.tx_since if held.staged > 0 or answers == 0 else now
    return Held(held.rx_since, since, held.staged + answers)


@inlined
def must_send(held: Held, burst: int, delay_ns: int, now: int) -> bool:
    """Return whether the staged answers go out now: a burst of them, or the oldest has been held long enough."""
    if held.staged == 0:
        return False
    return delay_ns == 0 or held.staged >= burst or now - held.tx_since >= delay_ns


@inlined
def sent_all(held: Held) -> Held:
    """Note that the staged answers were given to the kernel."""
    return Held(held.rx_since, int64(0), int64(0))


@inlined
def time_left(held: Held, delays: Delays, now: int) -> int:
    """Return for how long (ns) nothing need be done while what is held is held; 0 or less: no time, or nothing held."""
    left = int64(0)
    if held.rx_since != 0:
        left = held.rx_since + delays.rx_ns - now
    if held.staged > 0:
        to_send = held.tx_since + delays.tx_ns - now
        left = to_send if held.rx_since == 0 else min(left, to_send)
    return left
