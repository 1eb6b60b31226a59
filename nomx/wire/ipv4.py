"""IPv4: the header, with options (skipped, never obeyed). Source: RFC 791, RFC 1122 section 3.2, RFC 6864.

Accessors take a frame and *at*, where the header begins in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

import numpy as np

from nomx.compiled import inlined
from nomx.errors import InvalidRequest, Malformed
from nomx.wire.checksum import VALID, finish, fold, sum_bytes, update
from nomx.wire.valid import address4, at_least, in_bits, number
from nomx.wire.words import Frame, load8, load16, load32, store8, store16, store32

MIN_HEADER_BYTES = 20
MAX_HEADER_BYTES = 60
PROTOCOL_ICMP = 1
PROTOCOL_UDP = 17
TTL = 64
"""The time to live of what we send: RFC 1700's recommendation, and Linux's default."""

_VERSION_4 = 4
_DONT_FRAGMENT = 0x4000
_MORE_FRAGMENTS_OR_OFFSET = 0x3FFF


@inlined
def version(frame: Frame, at: int) -> int:
    """Read the version: 4, or it is no IPv4 header."""
    return load8(frame, at) >> 4


@inlined
def header_bytes(frame: Frame, at: int) -> int:
    """Read the header's length in bytes, options included; below 20 it is no header."""
    return (load8(frame, at) & 0xF) << 2


@inlined
def total_bytes(frame: Frame, at: int) -> int:
    """Read the packet's length in bytes, header included."""
    return load16(frame, at + 2)


@inlined
def is_fragment(frame: Frame, at: int) -> bool:
    """Return whether this is part of a packet: more fragments follow, or some came before."""
    return (load16(frame, at + 6) & _MORE_FRAGMENTS_OR_OFFSET) != 0


@inlined
def protocol(frame: Frame, at: int) -> int:
    """Read the protocol of the payload."""
    return load8(frame, at + 9)


@inlined
def source(frame: Frame, at: int) -> int:
    """Read the source address."""
    return load32(frame, at + 12)


@inlined
def destination(frame: Frame, at: int) -> int:
    """Read the destination address."""
    return load32(frame, at + 16)


@inlined
def _sum_plain_header(frame: Frame, at: int) -> int:
    first = load32(frame, at) + load32(frame, at + 4)
    return fold(first + load32(frame, at + 8) + load32(frame, at + 12) + load32(frame, at + 16))


@inlined
def checksum_holds(frame: Frame, at: int, length: int) -> bool:
    """Return whether the checksum of a header of *length* bytes is right."""
    if length == MIN_HEADER_BYTES:  # nearly always: five loads, and no loop
        return _sum_plain_header(frame, at) == VALID
    return sum_bytes(frame, at, length) == VALID


@inlined
def make_reply(frame: Frame, at: int, header: int, total: int) -> None:
    """Turn the header of a packet for us into that of our answer of *total* bytes, in place.

    Addresses change places; type of service, TTL and fragment field become those of a new packet.
    The identification stays, which means nothing in a packet that may not be fragmented. Options
    are blanked with End of Option List, not copied: a route that the peer chose is not ours to
    follow. The checksum of a header without options is updated rather than summed again: most of
    it has not changed, and its bytes may still be on their way to the cache.
    """
    mine = destination(frame, at)
    store32(frame, at + 16, source(frame, at))
    store32(frame, at + 12, mine)
    old = load16(frame, at) + load16(frame, at + 2) + load16(frame, at + 6) + load16(frame, at + 8)
    first = load8(frame, at) << 8
    lifetime = TTL << 8 | protocol(frame, at)
    checksum = update(load16(frame, at + 10), old, first + total + _DONT_FRAGMENT + lifetime)
    store16(frame, at, first)
    store16(frame, at + 2, total)
    store16(frame, at + 6, _DONT_FRAGMENT)
    store16(frame, at + 8, lifetime)
    if header > MIN_HEADER_BYTES:
        for option in range(at + MIN_HEADER_BYTES, at + header):
            store8(frame, option, 0)
        store16(frame, at + 10, 0)
        checksum = finish(sum_bytes(frame, at, header))
    store16(frame, at + 10, checksum)


@dataclass(frozen=True)
class IPv4:
    """An IPv4 header, and how many bytes of payload follow it."""

    source: IPv4Address
    destination: IPv4Address
    protocol: int
    payload_bytes: int
    ttl: int = TTL
    service: int = 0
    """DSCP and ECN: the second byte of the header."""
    identification: int = 0
    dont_fragment: bool = True
    more_fragments: bool = False
    offset_bytes: int = 0
    """Where this fragment's payload belongs in the whole, a multiple of 8."""
    options: bytes = b""

    def __post_init__(self) -> None:
        for field, bits in (("protocol", 8), ("ttl", 8), ("service", 8), ("identification", 16), ("offset_bytes", 16)):
            in_bits(field, getattr(self, field), bits)
        if self.offset_bytes % 8:
            raise InvalidRequest(field="offset_bytes", value=self.offset_bytes, expected="a multiple of 8")
        if len(self.options) % 4 or self.header_bytes > MAX_HEADER_BYTES:
            raise InvalidRequest(field="options", value=self.options.hex(), expected="whole words, at most 40 bytes")
        if not 0 <= self.payload_bytes <= 0xFFFF - self.header_bytes:
            raise InvalidRequest(field="payload_bytes", value=self.payload_bytes, expected="what fits 65,535 bytes")

    @property
    def header_bytes(self) -> int:
        return MIN_HEADER_BYTES + len(self.options)

    @classmethod
    def parse(cls, data: bytes) -> IPv4:
        """Read the header in front of *data*, a packet with its whole payload.

        Raises: Malformed: cut short, of another version, lengths that contradict each other, a wrong checksum.
        """
        name = "an IPv4 packet"
        at_least(data, MIN_HEADER_BYTES, name)
        header, total, fragment = (data[0] & 0xF) * 4, number(data, 2, 2), number(data, 6, 2)
        if data[0] >> 4 != _VERSION_4:
            raise Malformed(format=name, reason=f"version {data[0] >> 4}")
        if header < MIN_HEADER_BYTES or total < header:
            raise Malformed(format=name, reason=f"a header of {header} bytes in {total}")
        at_least(data, total, name)
        if fold(sum_of(data[:header])) != VALID:
            raise Malformed(format=name, reason="the header's checksum is wrong")
        if fragment & 0x8000:
            raise Malformed(format=name, reason="the reserved flag is set")
        return cls(
            source=address4(data, 12),
            destination=address4(data, 16),
            protocol=data[9],
            payload_bytes=total - header,
            ttl=data[8],
            service=data[1],
            identification=number(data, 4, 2),
            dont_fragment=bool(fragment & _DONT_FRAGMENT),
            more_fragments=bool(fragment & 0x2000),
            offset_bytes=(fragment & 0x1FFF) * 8,
            options=bytes(data[MIN_HEADER_BYTES:header]),
        )

    def emit(self) -> bytes:
        """Write the header, with its checksum."""
        fragment = _DONT_FRAGMENT * self.dont_fragment | 0x2000 * self.more_fragments | self.offset_bytes // 8
        head = bytes((_VERSION_4 << 4 | self.header_bytes // 4, self.service))
        sizes = b"".join(
            value.to_bytes(2, "big")
            for value in (self.header_bytes + self.payload_bytes, self.identification, fragment)
        )
        life = bytes((self.ttl, self.protocol))
        tail = self.source.packed + self.destination.packed + self.options
        checksum = finish(sum_of(head + sizes + life + tail))
        return head + sizes + life + checksum.to_bytes(2, "big") + tail

    def pseudo_header(self) -> bytes:
        """Write what a UDP checksum covers of this header (RFC 768)."""
        addresses = self.source.packed + self.destination.packed
        return addresses + self.protocol.to_bytes(2, "big") + self.payload_bytes.to_bytes(2, "big")


def sum_of(data: bytes) -> int:
    """Sum bytes as `nomx.wire.checksum.sum_bytes` does."""
    return int(sum_bytes(np.frombuffer(bytes(data), np.uint8).copy(), 0, len(data)))
