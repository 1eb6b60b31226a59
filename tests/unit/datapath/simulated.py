"""An AF_XDP socket in plain memory: its rings, its frames, and a kernel that does what it is told, when it is told.

Taught to the simulated kernel (each is proven on the real one in tests/interop): it takes frames from
the fill ring in order; puts a received packet PACKET_OFFSET bytes into its frame; takes at most
`tx_budget` packets in one transmit call; gives each sent frame back through the completion ring, and
takes no more packets than that ring has room for.
"""

from __future__ import annotations

import ctypes
from collections import deque
from ipaddress import IPv4Address, IPv6Address

import numpy as np

from nomx.device.queue import XskQueue
from nomx.linux.xsk import PACKET_HEADROOM_BYTES
from nomx.ring.rings import Ring
from nomx.ring.umem import Umem
from nomx.stack.interface import Interface
from nomx.wire import ethernet
from nomx.wire.ipv4 import IPv4
from nomx.wire.ipv6 import halves
from nomx.wire.udp import Udp

PACKET_OFFSET = PACKET_HEADROOM_BYTES
FRAME_BYTES = 2048
OUR_IP6 = IPv6Address("fd6e:6f6d:78::1")
OURS = Interface(0x02_00_00_00_00_01, int(IPv4Address("10.0.0.1")), 1500, 1, *halves(OUR_IP6))
PEER_MAC = 0x02_00_00_00_00_02
PEER_IP = IPv4Address("10.0.0.2")
PEER_IP6 = IPv6Address("fd6e:6f6d:78::2")


class Memory:
    """Zeroed memory at an address, aligned to a page."""

    def __init__(self, length: int) -> None:
        self._buffer = ctypes.create_string_buffer(length + 4096)
        self.address = (ctypes.addressof(self._buffer) + 4095) // 4096 * 4096


class SimulatedRing:
    """One ring, from the kernel's side."""

    def __init__(self, size: int, words: int, start: int) -> None:
        self._memory = Memory(256 + size * words * 8)
        base = self._memory.address
        self.ring = Ring(base, base + 64, base + 128, base + 192, size)
        self._producer = ctypes.c_uint32.from_address(base)
        self._consumer = ctypes.c_uint32.from_address(base + 64)
        self._producer.value = self._consumer.value = start
        self._entries = (ctypes.c_uint64 * (size * words)).from_address(base + 192)
        self._words = words

    def __len__(self) -> int:
        return (self._producer.value - self._consumer.value) & 0xFFFF_FFFF

    def space(self) -> int:
        return self.ring.size - len(self)

    def put(self, *words: int) -> None:
        assert self.space() > 0
        at = self._producer.value % self.ring.size * self._words
        self._entries[at : at + self._words] = list(words)
        self._producer.value += 1

    def get(self) -> tuple[int, ...]:
        assert len(self) > 0
        at = self._consumer.value % self.ring.size * self._words
        self._consumer.value += 1
        return tuple(self._entries[at : at + self._words])

    def waiting(self) -> list[tuple[int, ...]]:
        """Return the entries in the ring, oldest first, without taking them."""
        return self._read(self._consumer.value, len(self))

    def behind(self, count: int) -> list[tuple[int, ...]]:
        """Return the next *count* entries behind those in the ring: written, perhaps, but not submitted."""
        return self._read(self._producer.value, count)

    def _read(self, first: int, count: int) -> list[tuple[int, ...]]:
        slots = ((first + each) % self.ring.size * self._words for each in range(count))
        return [tuple(self._entries[at : at + self._words]) for at in slots]


class SimulatedXsk:
    """The socket and the kernel behind it. `start` is where the rings' indices begin, for tests of their wrapping."""

    def __init__(
        self, *, frames: int = 64, ring: int = 32, burst: int = 64, tx_budget: int = 32, start: int = 0
    ) -> None:
        self.frames = frames
        self._memory = Memory(frames * FRAME_BYTES)
        self.umem = Umem(self._memory.address, frames, FRAME_BYTES)
        self.rx = SimulatedRing(ring, 2, start)
        self.tx = SimulatedRing(ring, 2, start)
        self.fill = SimulatedRing(1 << (frames - 1).bit_length(), 1, start)
        self.completion = SimulatedRing(ring, 1, start)
        self.queue = XskQueue(
            rx=self.rx.ring,
            tx=self.tx.ring,
            fill=self.fill.ring,
            completion=self.completion.ring,
            frames=self._memory.address,
            frame_bytes=FRAME_BYTES,
            fd=-1,
            always_wake=0,
            tx_budget=tx_budget,
            burst=burst,
        )
        self.kernel_holds: deque[int] = deque()
        self.sent: list[bytes] = []
        self.dropped = 0

    def give_all(self) -> None:
        """Put every frame into the fill ring."""
        for number in range(self.frames):
            self.fill.put(number * FRAME_BYTES)

    def deliver(self, packet: bytes) -> bool:
        """Receive a packet, as a NIC would; False and a drop where there is no frame or no room."""
        if not len(self.fill) or not self.rx.space():
            self.dropped += 1
            return False
        (address,) = self.fill.get()
        address = address // FRAME_BYTES * FRAME_BYTES + PACKET_OFFSET
        self.umem.packets[address // FRAME_BYTES, : len(packet)] = np.frombuffer(packet, np.uint8)
        self.rx.put(address, len(packet))
        return True

    def transmit(self, limit: int = 32) -> int:
        """Take up to *limit* packets out of the tx ring; they are the kernel's until `complete`."""
        count = min(limit, len(self.tx), self.completion.space() - len(self.kernel_holds))
        for _ in range(count):
            address, length = self.tx.get()
            frame, offset = divmod(address, FRAME_BYTES)
            start = offset - PACKET_OFFSET
            self.sent.append(self.umem.packets[frame, start : start + (length & 0xFFFF_FFFF)].tobytes())
            self.kernel_holds.append(address)
        return count

    def complete(self, limit: int = 1 << 30) -> None:
        """Give frames that were sent back."""
        for _ in range(min(limit, len(self.kernel_holds))):
            self.completion.put(self.kernel_holds.popleft())

    def places(self, staged: int = 0) -> dict[str, list[int]]:
        """Return the numbers of the frames in each place; of the application's there is the *staged* answers."""
        return {
            "staged": [words[0] // FRAME_BYTES for words in self.tx.behind(staged)],
            "fill": [words[0] // FRAME_BYTES for words in self.fill.waiting()],
            "rx": [words[0] // FRAME_BYTES for words in self.rx.waiting()],
            "tx": [words[0] // FRAME_BYTES for words in self.tx.waiting()],
            "sending": [address // FRAME_BYTES for address in self.kernel_holds],
            "completion": [words[0] // FRAME_BYTES for words in self.completion.waiting()],
        }


def request(
    payload: bytes,
    port: int = 7,
    *,
    source_port: int = 40000,
    source: IPv4Address = PEER_IP,
    options: bytes = b"",
    destination: IPv4Address | None = None,
) -> bytes:
    """Make a UDP request to OURS, as a frame."""
    to = IPv4Address(OURS.ip4) if destination is None else destination
    ip = IPv4(source, to, 17, 8 + len(payload), options=options)
    header = ethernet.Ethernet(OURS.mac, PEER_MAC, ethernet.TYPE_IPV4)
    return header.emit() + ip.emit() + Udp(source_port, port, payload).emit(ip)


def reply_in(frame: bytes) -> tuple[ethernet.Ethernet, IPv4, Udp]:
    """Take a UDP reply apart, every checksum checked."""
    ip = IPv4.parse(frame[14:])
    udp = Udp.parse(frame[14 + ip.header_bytes : 14 + ip.header_bytes + ip.payload_bytes], ip)
    return ethernet.Ethernet.parse(frame), ip, udp
