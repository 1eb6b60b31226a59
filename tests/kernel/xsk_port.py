"""An application's side of one queue, in a few lines of plain Python: the other end of a real AF_XDP socket."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import time
from collections.abc import Callable
from typing import Self

from nomx.api.lease import RingSizes, UmemGeometry
from nomx.linux import memory, xsk
from nomx.linux.xsk import Ring
from nomx.mech.binder import Binding

GEOMETRY = UmemGeometry(frames_per_queue=256, rings=RingSizes(rx=64, tx=64, fill=128, completion=64))
"""Frames 0 to 127 of a slice are received into, 128 to 255 are sent from."""
RECEIVE_FRAMES = 128


class _Ring:
    """One ring's shared indices and descriptors."""

    def __init__(self, fd: int, ring: Ring, size: int, mapped: contextlib.ExitStack) -> None:
        offsets = xsk.mmap_offsets(fd)[ring]
        length = offsets.descriptors + size * ring.descriptor_bytes
        address = memory.map_shared(fd, length, ring.page_offset)
        mapped.callback(memory.unmap, address, length)
        self.size = size
        self.producer = ctypes.c_uint32.from_address(address + offsets.producer)
        self.consumer = ctypes.c_uint32.from_address(address + offsets.consumer)
        words = ring.descriptor_bytes // 8 * size
        self.words = (ctypes.c_uint64 * words).from_address(address + offsets.descriptors)


class XskPort:
    """Receives and sends whole frames on one bound socket."""

    def __init__(self, umem_fd: int, fd: int, queue: int = 0) -> None:
        self._mapped = contextlib.ExitStack()
        self.fd = fd
        length = GEOMETRY.slice_bytes
        self._umem = memory.map_shared(umem_fd, length, queue * length)
        self._mapped.callback(memory.unmap, self._umem, length)
        sizes = GEOMETRY.rings
        self._rx = _Ring(fd, Ring.RX, sizes.rx, self._mapped)
        self._tx = _Ring(fd, Ring.TX, sizes.tx, self._mapped)
        self._fill = _Ring(fd, Ring.FILL, sizes.fill, self._mapped)
        for frame in range(RECEIVE_FRAMES):
            self._give(frame * GEOMETRY.frame_bytes)

    @classmethod
    def of(cls, umem_fd: int, binding: Binding) -> Self:
        """Open the only queue of a binding, whose descriptor it takes over."""
        (fd,) = binding.xsk_fds
        return cls(umem_fd, fd)

    def _give(self, address: int) -> None:
        self._fill.words[self._fill.producer.value % self._fill.size] = address
        self._fill.producer.value += 1

    def receive(self, wanted: Callable[[bytes], bool] = bool, timeout_s: float = 2.0) -> bytes | None:
        """Return the first frame that is wanted, None when none came in time."""
        deadline = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while (left_s := deadline - time.monotonic()) > 0:
            if self._rx.consumer.value == self._rx.producer.value:
                poll.poll(1000 * left_s)
                continue
            at = self._rx.consumer.value % self._rx.size * 2
            address, length = self._rx.words[at], self._rx.words[at + 1] & 0xFFFF_FFFF
            frame = ctypes.string_at(self._umem + address, length)
            self._rx.consumer.value += 1
            self._give(address - address % GEOMETRY.frame_bytes)
            if wanted(frame):
                return frame
        return None

    def send(self, *frames: bytes) -> None:
        """Send frames, as many as the tx ring holds, with one wakeup."""
        for number, frame in enumerate(frames):
            address = (RECEIVE_FRAMES + number) * GEOMETRY.frame_bytes
            ctypes.memmove(self._umem + address, frame, len(frame))
            at = self._tx.producer.value % self._tx.size * 2
            self._tx.words[at], self._tx.words[at + 1] = address, len(frame)
            self._tx.producer.value += 1
        xsk_socket = ctypes.CDLL(None, use_errno=True)
        while self._tx.consumer.value != self._tx.producer.value:
            xsk_socket.sendto(self.fd, None, 0, 0x40, None, 0)  # MSG_DONTWAIT

    def close(self) -> None:
        """Unmap all and close the socket."""
        self._mapped.close()
        os.close(self.fd)
