"""A BPF ring buffer whose records all have one size, read in bulk without waking or being woken.

kernel → application; the application consumes. Used by the tracer's timeline.
Source: Documentation/bpf/ringbuf.rst; kernel/bpf/ringbuf.c.
"""

from __future__ import annotations

import ctypes
import mmap

from nomx.linux.bpf import Map

_HEADER_BYTES = 8
_FLAGS_AT = 3
_UNFINISHED = 0xC0
"""BPF_RINGBUF_BUSY_BIT and BPF_RINGBUF_DISCARD_BIT, in the fourth octet of a record's header."""


class RingBuffer:
    """The consumer of a ring buffer map, of records of *record_bytes*. One thread reads; the map stays the caller's."""

    def __init__(self, ring: Map, record_bytes: int) -> None:
        self._size = ring.max_entries
        self.stride = _HEADER_BYTES + -(-record_bytes // 8) * 8
        """Bytes from one record to the next: a header of 8, then the record."""
        self._position = mmap.mmap(ring.fd, mmap.PAGESIZE)
        # The data is mapped twice in a row, so that a record over the end reads as one piece.
        length = mmap.PAGESIZE + 2 * self._size
        self._shared = mmap.mmap(ring.fd, length, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
        self._consumed = ctypes.c_uint64.from_buffer(self._position)

    def read(self) -> bytes:
        """Return the complete records, each behind its header of 8 bytes, oldest first, and free their room."""
        position = self._consumed.value
        produced = int.from_bytes(self._shared[0:8], "little")
        start = mmap.PAGESIZE + position % self._size
        found = self._shared[start : start + produced - position]
        flags = found[_FLAGS_AT :: self.stride]
        if flags and max(flags) & _UNFINISHED:  # its writer, on another CPU, is at it
            complete = next(number for number, octet in enumerate(flags) if octet & _UNFINISHED)
            found = found[: complete * self.stride]
        self._consumed.value = position + len(found)
        return found

    def close(self) -> None:
        """Unmap it."""
        del self._consumed
        self._shared.close()
        self._position.close()
