"""The AF_XDP device: one queue of a granted device unit, its rings and its slice of the UMEM mapped into this process.

The daemon made and bound the socket; here nothing needs a privilege. The serve loop works on
`queue`; Python works with batches, as `nomx.device.base` says.
"""

from __future__ import annotations

import errno
import os
import select

import numpy as np

from nomx.api.lease import DeviceGrant
from nomx.device.base import Batch, DeviceStatistics
from nomx.device.bursts import collect_sent, count_unsent, frames_given, receive_burst, refill, send_burst
from nomx.device.queue import XskQueue
from nomx.errors import InvalidRequest, LeaseRevoked
from nomx.linux import memory, xsk
from nomx.linux.xsk import Ring as RingKind
from nomx.ring.rings import Ring
from nomx.ring.umem import FramePool, Numbers, Umem
from nomx.wire.ethernet import HEADER_BYTES

_MIN_BURST = 64
_MAX_BURST = 256
"""Packets received before any is sent: what one transmit call takes, within these bounds."""


class XskDevice:
    """One queue of a device unit; a context manager."""

    def __init__(self, grant: DeviceGrant, queue_id: int = 0, lease: str = "") -> None:
        """Map the queue and give half of its frames to the kernel to receive into.

        Raises: InvalidRequest: the grant has no such queue, its fill ring or its frames are too small,
            or the queue was opened before. OSError: a mapping failed.
        """
        _check(grant, queue_id)
        self.mac = grant.mac
        self.ip4 = grant.ip4
        self.mtu_bytes = grant.mtu_bytes
        self._lease = lease
        self._ifname = grant.ifname
        self._fd = grant.xsk_fds[queue_id]
        umem = grant.umem
        self._mapped: list[tuple[int, int]] = []
        offset = queue_id * umem.slice_bytes
        self.umem = Umem.map(grant.umem_fd, offset, umem.frames_per_queue, umem.frame_bytes, umem.headroom_bytes)
        try:
            self.queue = self._map_queue(grant)
            self._refuse_second_opening()
        except BaseException:
            self.close()
            raise
        self.packets = self.umem.packets
        self._free = FramePool(range(umem.frames_per_queue))
        self._receiving = 0
        self._scratch = np.empty(umem.frames_per_queue, np.int64)
        self._counts = [0, 0, 0]
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._receive_target = min(umem.rings.rx, umem.frames_per_queue // 2)
        self._top_up()

    def _map_queue(self, grant: DeviceGrant) -> XskQueue:
        offsets = xsk.mmap_offsets(self._fd)
        sizes = grant.umem.rings

        def ring(kind: RingKind, size: int) -> Ring:
            at = offsets[kind]
            length = at.descriptors + size * kind.descriptor_bytes
            base = memory.map_shared(self._fd, length, kind.page_offset, populate=True)
            self._mapped.append((base, length))
            return Ring(base + at.producer, base + at.consumer, base + at.flags, base + at.descriptors, size)

        return XskQueue(
            rx=ring(RingKind.RX, sizes.rx),
            tx=ring(RingKind.TX, sizes.tx),
            fill=ring(RingKind.FILL, sizes.fill),
            completion=ring(RingKind.COMPLETION, sizes.completion),
            frames=self.umem.address,
            frame_bytes=grant.umem.frame_bytes,
            fd=self._fd,
            always_wake=int(not grant.mode.need_wakeup),
            tx_budget=grant.tx_budget,
            burst=min(max(grant.tx_budget, _MIN_BURST), _MAX_BURST),
        )

    def _refuse_second_opening(self) -> None:
        """Refuse a queue that was used before: its frames are wherever the first user left them."""
        if frames_given(self.queue) != 0:
            raise InvalidRequest(
                field="device", value=f"{self._ifname}, in use already", expected="to be opened once in a lease's life"
            )

    def receive_with_all(self) -> None:
        """Give every free frame to the kernel to receive into, as the serve loop wants: it sends what it received."""
        self._receive_target = self.umem.frames
        self._top_up()

    def rx_burst(self, limit: int = 64) -> Batch:
        """Receive up to *limit* packets, without waiting; their frames become the application's.

        Raises: LeaseRevoked: the device has gone.
        """
        index = np.empty(limit, np.int64)
        lengths = np.empty(limit, np.int64)
        count = receive_burst(self.queue, index, lengths)
        self._receiving -= count
        self._counts[0] += count
        self._top_up()
        return Batch(index[:count], lengths[:count])

    def tx_burst(self, batch: Batch) -> int:
        """Send packets, first to last; how many were taken. The frames of those become the device's.

        Raises: InvalidRequest: a length that no packet has. LeaseRevoked: the device has gone.
        """
        if len(batch) == 0:
            return 0
        longest = self.mtu_bytes + HEADER_BYTES
        if int(batch.lengths.min()) < HEADER_BYTES or int(batch.lengths.max()) > longest:
            raise InvalidRequest(
                field="length", value=batch.lengths.tolist(), expected=f"{HEADER_BYTES} to {longest} bytes each"
            )
        self._collect()  # the kernel sends nothing while the completion ring is full
        lengths = np.ascontiguousarray(batch.lengths)
        count, gone = send_burst(self.queue, np.ascontiguousarray(batch.index), lengths, self.umem.packet_offset)
        self._counts[1] += count
        self._counts[2] += len(batch) - count
        self._raise_if(gone)
        return count

    def take(self, count: int) -> Numbers:
        """Take up to *count* free frames to write packets into; fewer when the device has fewer."""
        if len(self._free) < count:
            self._collect()
        return self._free.take(count)

    def give(self, index: Numbers) -> None:
        """Give frames back unsent."""
        self._free.give(index)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until there is something to receive; whether there is, before the timeout (None: for ever)."""
        return bool(self._poll.poll(None if timeout_s is None else timeout_s * 1000))

    def statistics(self) -> DeviceStatistics:
        """Read the queue's counters: ours, and the kernel's XDP_STATISTICS."""
        kernel = xsk.statistics(self._fd)
        dropped = kernel.rx_dropped + kernel.rx_ring_full + kernel.rx_fill_ring_empty
        received, sent, refused = self._counts
        return DeviceStatistics(received, sent, dropped, refused + kernel.tx_invalid_descriptors, len(self._free))

    def frames_free(self) -> list[int]:
        """List the frames that are neither the kernel's, nor in a ring, nor the application's."""
        return list(self._free)

    def flush(self) -> int:
        """Push what waits in the tx ring; how many packets the kernel has not taken yet."""
        self._collect()
        _, gone = send_burst(self.queue, np.empty(0, np.int64), np.empty(0, np.int64), 0)
        self._raise_if(gone)
        return count_unsent(self.queue)

    def _collect(self) -> None:
        count = collect_sent(self.queue, self._scratch)
        self._free.give(self._scratch[:count])

    def _top_up(self) -> None:
        """Keep the kernel in frames to receive into."""
        self._collect()
        wanted = self._receive_target - self._receiving
        if wanted > 0:
            frames = self._free.take(wanted)
            self._receiving += len(frames)
            self._raise_if(refill(self.queue, frames))

    def _raise_if(self, gone: int) -> None:
        if gone < 0:
            raise revoked(self._lease, self._ifname, -gone)

    def close(self) -> None:
        """Unmap everything; the socket lives on in the lease."""
        for address, length in self._mapped:
            memory.unmap(address, length)
        self._mapped.clear()
        if hasattr(self, "umem"):
            self.umem.close()
            del self.umem

    def __enter__(self) -> XskDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def revoked(lease: str, ifname: str, code: int) -> LeaseRevoked:
    """Say that a device has gone from under its application, by the errno that told."""
    name = errno.errorcode.get(code, str(code))
    return LeaseRevoked(
        lease=lease, reason=f"its device {ifname} was taken down or removed ({name}: {os.strerror(code)})"
    )


def _check(grant: DeviceGrant, queue_id: int) -> None:
    if not 0 <= queue_id < len(grant.xsk_fds):
        raise InvalidRequest(field="queue", value=queue_id, expected=f"0 to {len(grant.xsk_fds) - 1}")
    umem = grant.umem
    if umem.rings.fill < umem.frames_per_queue:
        raise InvalidRequest(
            field="rings.fill", value=umem.rings.fill, expected=f"at least {umem.frames_per_queue}, one for each frame"
        )
    room = umem.frame_bytes - xsk.PACKET_HEADROOM_BYTES - umem.headroom_bytes
    if room < grant.mtu_bytes + HEADER_BYTES:
        raise InvalidRequest(
            field="frame_bytes", value=umem.frame_bytes, expected=f"room for {grant.mtu_bytes + HEADER_BYTES} bytes"
        )
