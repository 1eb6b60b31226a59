"""What every device is: frames in memory that both sides see, received and sent in batches without a copy.

Between `rx_burst` or `take` and `tx_burst` or `give`, a frame is the application's; at all other
times it is the device's. Kinds: `xsk` (AF_XDP), `loopback` (two ends in one process).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nomx.ring.umem import Numbers


@dataclass
class Batch:
    """Packets: `index` (n,) numbers of the frames they are in, `lengths` (n,) bytes; one dtype, int64.

    `device.packets[batch.index[i], : batch.lengths[i]]` is packet i, an Ethernet frame without FCS.
    """

    index: Numbers
    lengths: Numbers

    def __post_init__(self) -> None:
        self.index = np.asarray(self.index, dtype=np.int64)
        self.lengths = np.broadcast_to(np.asarray(self.lengths, dtype=np.int64), self.index.shape)

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.index.tolist(), self.lengths.tolist(), strict=True)

    def __getitem__(self, part: slice | NDArray[np.bool_]) -> Batch:
        """Choose some of the packets, as NumPy chooses elements."""
        return Batch(self.index[part], self.lengths[part])


@dataclass(frozen=True)
class DeviceStatistics:
    """What a device counts of one queue since it was opened."""

    rx_packets: int
    tx_packets: int
    rx_dropped: int
    """Packets that came and found no frame or no room."""
    tx_dropped: int
    """Packets given to the device that it could not send."""
    free_frames: int


class Device(Protocol):
    """One queue of a device."""

    mac: str
    ip4: str
    mtu_bytes: int
    packets: NDArray[np.uint8]
    """(frames, room) uint8: the memory of the frames, each from where a packet begins in it."""

    def rx_burst(self, limit: int = 64) -> Batch:
        """Receive up to *limit* packets, without waiting; their frames become the application's.

        Raises: LeaseRevoked: the device has gone.
        """

    def tx_burst(self, batch: Batch) -> int:
        """Send packets, first to last; how many were taken. The frames of those become the device's.

        Raises: InvalidRequest: a length that no packet has. LeaseRevoked: the device has gone.
        """

    def take(self, count: int) -> Numbers:
        """Take up to *count* free frames to write packets into; fewer when the device has fewer."""

    def give(self, index: Numbers) -> None:
        """Give frames back unsent."""

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until there is something to receive; whether there is, before the timeout (None: for ever)."""

    def statistics(self) -> DeviceStatistics:
        """Read the device's counters."""

    def close(self) -> None:
        """Give everything back."""
