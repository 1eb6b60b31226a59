"""IPv6: the fixed header, extension headers (skipped, never obeyed). Source: RFC 8200, RFC 4291, RFC 2464.

Accessors take a frame and *at*, where the header begins in it. An address is two int64 in compiled
code, its high and its low half, both negative where their first bit is set.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from nomx.compiled import inlined
from nomx.errors import Malformed
from nomx.wire.checksum import VALID, finish, fold, sum_bytes
from nomx.wire.valid import at_least, in_bits, number
from nomx.wire.words import Frame, load8, load16, load32, load64, store8, store16, store32, store64

HEADER_BYTES = 40
PROTOCOL_HOP_BY_HOP = 0
PROTOCOL_UDP = 17
PROTOCOL_FRAGMENT = 44
PROTOCOL_ICMPV6 = 58
PROTOCOL_DESTINATION_OPTIONS = 60
HOP_LIMIT = 64
"""The hop limit of what we send, as Linux has it."""

_VERSION_6 = 6


@inlined
def version(frame: Frame, at: int) -> int:
    """Read the version: 6, or it is no IPv6 header."""
    return load8(frame, at) >> 4


@inlined
def payload_bytes(frame: Frame, at: int) -> int:
    """Read how many bytes follow the header, extension headers included."""
    return load16(frame, at + 4)


@inlined
def protocol(frame: Frame, at: int) -> int:
    """Read the protocol of what follows the header."""
    return load8(frame, at + 6)


@inlined
def hop_limit(frame: Frame, at: int) -> int:
    """Read the hop limit."""
    return load8(frame, at + 7)


@inlined
def source_high(frame: Frame, at: int) -> int:
    """Read the first half of the source address."""
    return load64(frame, at + 8)


@inlined
def source_low(frame: Frame, at: int) -> int:
    """Read the second half of the source address."""
    return load64(frame, at + 16)


@inlined
def is_address(frame: Frame, at: int, high: int, low: int) -> bool:
    """Return whether the 16 bytes at *at* are this address."""
    return load64(frame, at) == high and load64(frame, at + 8) == low


@inlined
def is_to(frame: Frame, at: int, high: int, low: int) -> bool:
    """Return whether the packet is addressed to this address."""
    return is_address(frame, at + 24, high, low)


@inlined
def is_to_solicited_node(frame: Frame, at: int, low: int) -> bool:
    """Return whether the packet is to the group in which the host with this *low* half is solicited (RFC 4291, 2.7.1).

    ff02::1:ff00:0 with the last three bytes of the address.
    """
    end = 0x1_FF00_0000 | (low & 0xFF_FFFF)
    return load32(frame, at + 24) == 0xFF02_0000 and load32(frame, at + 28) == 0 and load64(frame, at + 32) == end


@inlined
def sum_payload(frame: Frame, at: int, kind: int, length: int) -> int:
    """Sum the *length* bytes behind the header with the pseudo-header of protocol *kind* (RFC 8200, section 8.1)."""
    return sum_bytes(frame, at + 8, 32 + length) + kind + length


@inlined
def payload_checksum_holds(frame: Frame, at: int, kind: int, length: int) -> bool:
    """Return whether the checksum in the *length* bytes behind the header is right."""
    return fold(sum_payload(frame, at, kind, length)) == VALID


@inlined
def extension_bytes(frame: Frame, at: int) -> int:
    """Read the length of the options header at *at*; it ends at or behind the next 8 bytes."""
    return (load8(frame, at + 1) + 1) << 3


@inlined
def set_first(frame: Frame, at: int, kind: int, length: int) -> None:
    """Say that *length* bytes of protocol *kind* follow the header, and nothing before them."""
    store16(frame, at + 4, length)
    store8(frame, at + 6, kind)


@inlined
def make_reply(frame: Frame, at: int, high: int, low: int, length: int, limit: int) -> None:
    """Turn a packet's header into that of our answer of *length* bytes, in place, from the address *high*, *low*."""
    store32(frame, at, _VERSION_6 << 28)
    store16(frame, at + 4, length)
    store8(frame, at + 7, limit)
    store64(frame, at + 24, source_high(frame, at))
    store64(frame, at + 32, source_low(frame, at))
    store64(frame, at + 8, high)
    store64(frame, at + 16, low)


def halves(address: IPv6Address) -> tuple[int, int]:
    """Return the two int64 that stand for an address in compiled code."""
    data = address.packed
    return int.from_bytes(data[:8], "big", signed=True), int.from_bytes(data[8:], "big", signed=True)


@dataclass(frozen=True)
class IPv6:
    """An IPv6 header, and how many bytes of payload follow it; extension headers count as payload."""

    source: IPv6Address
    destination: IPv6Address
    protocol: int
    payload_bytes: int
    hop_limit: int = HOP_LIMIT
    traffic_class: int = 0
    flow: int = 0
    """The flow label."""

    def __post_init__(self) -> None:
        for field, bits in (
            ("protocol", 8),
            ("payload_bytes", 16),
            ("hop_limit", 8),
            ("traffic_class", 8),
            ("flow", 20),
        ):
            in_bits(field, getattr(self, field), bits)

    @classmethod
    def parse(cls, data: bytes) -> IPv6:
        """Read the header in front of *data*, a packet with its whole payload.

        Raises: Malformed: cut short, or of another version.
        """
        name = "an IPv6 packet"
        at_least(data, HEADER_BYTES, name)
        first = number(data, 0, 4)
        if first >> 28 != _VERSION_6:
            raise Malformed(format=name, reason=f"version {first >> 28}")
        at_least(data, HEADER_BYTES + number(data, 4, 2), name)
        return cls(
            source=IPv6Address(bytes(data[8:24])),
            destination=IPv6Address(bytes(data[24:40])),
            protocol=data[6],
            payload_bytes=number(data, 4, 2),
            hop_limit=data[7],
            traffic_class=first >> 20 & 0xFF,
            flow=first & 0xF_FFFF,
        )

    def emit(self) -> bytes:
        """Write the header: 40 bytes."""
        first = _VERSION_6 << 28 | self.traffic_class << 20 | self.flow
        head = first.to_bytes(4, "big") + self.payload_bytes.to_bytes(2, "big")
        return head + bytes((self.protocol, self.hop_limit)) + self.source.packed + self.destination.packed


@inlined
def write_checksum(frame: Frame, at: int, field: int, kind: int, length: int) -> None:
    """Write at *field* the checksum of the *length* bytes behind the header; a sum of zero is sent as 0xFFFF."""
    store16(frame, field, 0)
    value = finish(sum_payload(frame, at, kind, length))
    store16(frame, field, value if value != 0 else 0xFFFF)
