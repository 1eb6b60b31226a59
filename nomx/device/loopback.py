"""The loopback device: two ends in one process, joined by a wire in memory. For tests, and to try an application alone.

What one end sends the other receives, copied from frame to frame as a wire would. A packet that
finds no free frame at the far end, or no room in its queue, is dropped there and counted.
"""

from __future__ import annotations

import time
from collections import deque

import numpy as np
from numpy.typing import NDArray

from nomx.device.base import Batch, DeviceStatistics
from nomx.ring.umem import FramePool, Numbers

_WAIT_STEP_S = 0.001


class Loopback:
    """One end. Made in pairs, by `Loopback.pair`."""

    def __init__(self, mac: str, ip4: str, frames: int, queue_size: int, mtu_bytes: int = 1500) -> None:
        self.mac = mac
        self.ip4 = ip4
        self.mtu_bytes = mtu_bytes
        self.packets: NDArray[np.uint8] = np.zeros((frames, 2048), np.uint8)
        self._free = FramePool(range(frames))
        self._received: deque[tuple[int, int]] = deque()
        self._queue_size = queue_size
        self._peer = self
        self._counts = {"rx": 0, "tx": 0, "rx_dropped": 0}

    @classmethod
    def pair(cls, *, frames: int = 256, queue_size: int = 128) -> tuple[Loopback, Loopback]:
        """Make two ends, with addresses 10.0.0.1 and 10.0.0.2."""
        near = cls("02:00:00:00:00:01", "10.0.0.1", frames, queue_size)
        far = cls("02:00:00:00:00:02", "10.0.0.2", frames, queue_size)
        near._peer, far._peer = far, near
        return near, far

    def rx_burst(self, limit: int = 64) -> Batch:
        """Receive up to *limit* packets."""
        received = [self._received.popleft() for _ in range(min(limit, len(self._received)))]
        self._counts["rx"] += len(received)
        numbers = np.array(received, np.int64).reshape(-1, 2)
        return Batch(numbers[:, 0], numbers[:, 1])

    def tx_burst(self, batch: Batch) -> int:
        """Send all packets; their frames are free again at once."""
        for frame, length in batch:
            self._peer._arrive(self.packets[frame, :length])
        self._free.give(batch.index)
        self._counts["tx"] += len(batch)
        return len(batch)

    def _arrive(self, packet: NDArray[np.uint8]) -> None:
        taken = self._free.take(1 if len(self._received) < self._queue_size else 0)
        if len(taken) == 0:
            self._counts["rx_dropped"] += 1
            return
        frame = int(taken[0])
        self.packets[frame, : len(packet)] = packet
        self._received.append((frame, len(packet)))

    def take(self, count: int) -> Numbers:
        """Take up to *count* free frames."""
        return self._free.take(count)

    def give(self, index: Numbers) -> None:
        """Give frames back unsent."""
        self._free.give(index)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a packet, which another thread must send."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._received:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_WAIT_STEP_S)
        return True

    def statistics(self) -> DeviceStatistics:
        """Read the counters."""
        counts = self._counts
        return DeviceStatistics(counts["rx"], counts["tx"], counts["rx_dropped"], 0, len(self._free))

    def close(self) -> None:
        """Part from the other end: what it sends now is lost."""
        self._queue_size = 0
