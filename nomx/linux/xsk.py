"""AF_XDP sockets (XSKs): one function for each system call and option. No libxdp.

Used by the daemon to make and bind an XSK, and by the I/O library to find its rings and read its
statistics. Every function raises OSError naming the call and the option it was about.
Source: Documentation/networking/af_xdp.rst; include/uapi/linux/if_xdp.h.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from dataclasses import dataclass
from enum import Enum, IntFlag

AF_XDP = 44
SOL_XDP = 283

_XDP_MMAP_OFFSETS = 1
_XDP_UMEM_REG = 4
_XDP_STATISTICS = 7
_XDP_OPTIONS = 8
_XDP_MAX_TX_SKB_BUDGET = 9
_XDP_OPTIONS_ZEROCOPY = 1

_SO_BUSY_POLL = 46
_SO_PREFER_BUSY_POLL = 69
_SO_BUSY_POLL_BUDGET = 70

PACKET_HEADROOM_BYTES = 256
"""What XDP keeps in front of each received packet (XDP_PACKET_HEADROOM); the packet starts behind it."""

_libc = ctypes.CDLL(None, use_errno=True)


class Ring(Enum):
    """The four rings of an XSK: its socket option, its page offset for mmap, the size of a descriptor in bytes."""

    RX = (2, 0x0, 16)  # kernel → application; the application consumes
    TX = (3, 0x8000_0000, 16)  # application → kernel; the application produces
    FILL = (5, 0x1_0000_0000, 8)  # application → kernel: frames to receive into
    COMPLETION = (6, 0x1_8000_0000, 8)  # kernel → application: frames that were sent

    def __init__(self, option: int, page_offset: int, descriptor_bytes: int) -> None:
        self.option = option
        self.page_offset = page_offset
        self.descriptor_bytes = descriptor_bytes


class BindFlag(IntFlag):
    """`sxdp_flags` of the bind address."""

    SHARED_UMEM = 1
    COPY = 2
    ZEROCOPY = 4
    USE_NEED_WAKEUP = 8
    USE_SG = 16


@dataclass(frozen=True)
class RingOffsets:
    """Where a ring's fields are in its mapping, in bytes."""

    producer: int
    consumer: int
    descriptors: int
    flags: int


@dataclass(frozen=True)
class XskStatistics:
    """XDP_STATISTICS: what the kernel counts of one XSK."""

    rx_dropped: int
    """Received, but not put into the rx ring for another reason than those below."""
    rx_invalid_descriptors: int
    tx_invalid_descriptors: int
    rx_ring_full: int
    rx_fill_ring_empty: int
    tx_ring_empty: int


def open_xsk() -> int:
    """Open an XSK in the calling thread's network namespace; its descriptor.

    Raises: PermissionError: CAP_NET_RAW is missing.
    """
    fd = int(_libc.socket(AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0))
    if fd < 0:
        raise _failure("socket(AF_XDP)")
    return fd


def register_umem(fd: int, address: int, length: int, frame_bytes: int, headroom_bytes: int = 0) -> None:
    """Make *length* bytes at *address* (page-aligned) the XSK's UMEM, in frames of *frame_bytes*.

    The pages are pinned, and stay so when the mapping or the caller has gone.
    """
    registration = struct.pack("=QQIIII", address, length, frame_bytes, headroom_bytes, 0, 0)
    _set(fd, _XDP_UMEM_REG, registration, f"XDP_UMEM_REG of {length} bytes in frames of {frame_bytes}")


def set_ring(fd: int, ring: Ring, size: int) -> None:
    """Give a ring *size* descriptors, a power of two."""
    _set(fd, ring.option, struct.pack("=i", size), f"XDP_{ring.name}_RING of {size}")


def set_tx_budget(fd: int, frames: int) -> None:
    """Let one transmit call move up to *frames* in copy mode, from 32 to the size of the tx ring.

    Raises: OSError: ENOPROTOOPT: the kernel has no such option (before Linux 6.17); EACCES: out of range.
    """
    _set(fd, _XDP_MAX_TX_SKB_BUDGET, struct.pack("=I", frames), f"XDP_MAX_TX_SKB_BUDGET of {frames}")


def prefer_busy_poll(fd: int, microseconds: int, frames: int) -> None:
    """Have calls on the XSK poll its device themselves, for *microseconds* and up to *frames* each.

    What the device's interrupts would do is then done by whoever reads, in its own time.
    Raises: PermissionError: CAP_NET_ADMIN is missing. Source: Documentation/networking/napi.rst, "Busy polling".
    """
    values = {_SO_BUSY_POLL: microseconds, _SO_PREFER_BUSY_POLL: 1, _SO_BUSY_POLL_BUDGET: frames}
    for option, value in values.items():
        word = struct.pack("=i", value)
        if _libc.setsockopt(fd, socket.SOL_SOCKET, option, word, len(word)) != 0:
            raise _failure(f"setsockopt busy polling ({option})")


def bind(fd: int, ifindex: int, queue_id: int, flags: BindFlag) -> None:
    """Bind the XSK to one queue of a device in its network namespace."""
    address = struct.pack("=HHIII", AF_XDP, flags, ifindex, queue_id, 0)
    if _libc.bind(fd, address, len(address)) != 0:
        raise _failure(f"bind(AF_XDP, queue {queue_id}, {flags!r})")


def is_zerocopy(fd: int) -> bool:
    """Return whether the bound XSK is in zero-copy mode (XDP_OPTIONS), whatever was asked for."""
    (options,) = struct.unpack("=I", _get(fd, _XDP_OPTIONS, 4, "XDP_OPTIONS"))
    return bool(options & _XDP_OPTIONS_ZEROCOPY)


def statistics(fd: int) -> XskStatistics:
    """Read XDP_STATISTICS."""
    return XskStatistics(*struct.unpack("=6Q", _get(fd, _XDP_STATISTICS, 48, "XDP_STATISTICS")))


def mmap_offsets(fd: int) -> dict[Ring, RingOffsets]:
    """Return where the fields of each ring are in its mapping."""
    words = struct.unpack("=16Q", _get(fd, _XDP_MMAP_OFFSETS, 128, "XDP_MMAP_OFFSETS"))
    order = (Ring.RX, Ring.TX, Ring.FILL, Ring.COMPLETION)
    return {ring: RingOffsets(*words[4 * index : 4 * index + 4]) for index, ring in enumerate(order)}


def _set(fd: int, option: int, value: bytes, what: str) -> None:
    if _libc.setsockopt(fd, SOL_XDP, option, value, len(value)) != 0:
        raise _failure(f"setsockopt {what}")


def _get(fd: int, option: int, length: int, what: str) -> bytes:
    value = ctypes.create_string_buffer(length)
    size = ctypes.c_uint32(length)
    if _libc.getsockopt(fd, SOL_XDP, option, value, ctypes.byref(size)) != 0:
        raise _failure(f"getsockopt {what}")
    return value.raw


def _failure(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}")
