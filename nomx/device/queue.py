"""One queue of an AF_XDP device for compiled code: its rings, its memory, and how the kernel is told of them.

Python's side of it is `nomx.device.xsk`; the serve loop works on this alone.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

from nomx.compiled import inlined
from nomx.ring.atomics import load_acquire
from nomx.ring.calls import wake_rx, wake_tx
from nomx.ring.rings import Cursor, Ring, get_frame, needs_wakeup, peek, put_frame, release, room, submit

_EAGAIN = -errno.EAGAIN
_GONE = (-errno.ENETDOWN, -errno.ENXIO, -errno.ENODEV, -errno.EBADF)
_INDEX_MASK = 0xFFFF_FFFF


class XskQueue(NamedTuple):
    """An XSK's four rings and its slice of the UMEM, all as numbers that fit registers."""

    rx: Ring
    tx: Ring
    fill: Ring
    """At least as large as there are frames, so that whatever is given back always fits."""
    completion: Ring
    frames: int
    """Where the memory of the frames begins."""
    frame_bytes: int
    fd: int
    always_wake: int
    """1 if bound without need_wakeup: then each submission takes a system call."""
    tx_budget: int
    """Frames that the kernel takes in one call at most, in copy mode."""
    burst: int
    """Packets that are received before any is sent."""


@inlined
def is_gone(result: int) -> bool:
    """Return whether a system call said that the device is down or no longer there."""
    return result in _GONE


@inlined
def recycle(queue: XskQueue, completion: Cursor, fill: Cursor) -> tuple[Cursor, Cursor]:
    """Move every frame that was sent from the completion ring to the fill ring."""
    completion = peek(queue.completion, completion)
    count = room(completion)
    if count > 0:
        for entry in range(count):
            put_frame(queue.fill, fill.position + entry, get_frame(queue.completion, completion.position + entry))
        fill = submit(queue.fill, fill, count)
        completion = release(queue.completion, completion, count)
    return completion, fill


@inlined
def unsent(ring: Ring, tx: Cursor) -> int:
    """Count the packets that were submitted and that the kernel has not taken yet."""
    return (tx.position - load_acquire(ring.consumer)) & _INDEX_MASK


@inlined
def push(queue: XskQueue, tx: Cursor) -> tuple[int, int]:
    """Have the kernel take what was submitted: (calls made, 0 or the -errno of a device that has gone).

    In copy mode a call takes `tx_budget` packets, so more may be needed; it says EAGAIN too when
    the completion ring is full. EBUSY and ENOBUFS mean: later. What is left is pushed next time.
    """
    waiting = unsent(queue.tx, tx)
    calls = 0
    limit = waiting // queue.tx_budget + 1
    while waiting > 0 and calls < limit and (queue.always_wake != 0 or needs_wakeup(queue.tx)):
        result = wake_tx(queue.fd)
        calls += 1
        if is_gone(result):
            return calls, result
        if result < 0 and result != _EAGAIN:
            break
        waiting = unsent(queue.tx, tx)
    return calls, 0


@inlined
def rouse(queue: XskQueue) -> int:
    """Tell the kernel to look at the fill ring again; 0, or the -errno of a device that has gone."""
    result = wake_rx(queue.fd)
    return result if is_gone(result) else 0
