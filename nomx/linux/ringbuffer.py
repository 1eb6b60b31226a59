"""A BPF ring buffer with records of one size, read in bulk without waking or being woken.

kernel → application; the application consumes. Used by the tracer's timeline.
Source: Documentation/bpf/ringbuf.rst; kernel/bpf/ringbuf.c.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator

from nomx.linux.bpf import Map

_PAGE_BYTES = mmap.PAGESIZE
_HEADER_BYTES = 8
_BUSY = 1 << 31
_DISCARDED = 1 << 30


class RingBuffer:
    """The consumer of a ring buffer map. One thread reads; the map stays the caller's."""

    def __init__(self, ring: Map) -> None:
        self._size = ring.max_entries
        self._position = mmap.mmap(ring.fd, _PAGE_BYTES)
        # The data is mapped twice in a row, so that a record over the end reads as one piece.
        self._shared = mmap.mmap(ring.fd, _PAGE_BYTES + 2 * self._size, prot=mmap.PROT_READ, offset=_PAGE_BYTES)
        self._consumed = ctypes.c_uint64.from_buffer(self._position)

    def read(self) -> Iterator[bytes]:
        """Yield each record that is complete, oldest first, and free its room when the next is asked for."""
        while True:
            position = self._consumed.value
            produced = int.from_bytes(self._shared[0:8], "little")
            if position == produced:
                return
            start = _PAGE_BYTES + position % self._size
            length = int.from_bytes(self._shared[start : start + 4], "little")
            if length & _BUSY:  # its writer, on another CPU, has not finished
                return
            payload = length & ~_DISCARDED
            if not length & _DISCARDED:
                yield self._shared[start + _HEADER_BYTES : start + _HEADER_BYTES + payload]
            self._consumed.value = position + -(-(_HEADER_BYTES + payload) // 8) * 8

    def close(self) -> None:
        """Unmap it."""
        del self._consumed
        self._shared.close()
        self._position.close()
