"""UDP. Source: RFC 768, RFC 1122 section 4.1.

Accessors take a frame and *at*, where the UDP header begins in it; checksums take *ip_at*, where
the IPv4 header does, for they cover its addresses too (over IPv6: `nomx.wire.ipv6.write_checksum`).
"""

from __future__ import annotations

from dataclasses import dataclass

from nomx.compiled import inlined
from nomx.errors import Malformed
from nomx.wire import ipv4
from nomx.wire.checksum import VALID, finish, fold, sum_bytes
from nomx.wire.ipv4 import IPv4, sum_of
from nomx.wire.ipv6 import IPv6
from nomx.wire.valid import at_least, in_bits, number
from nomx.wire.words import Frame, load16, load32, store16, store32

HEADER_BYTES = 8
NO_CHECKSUM = 0
CHECKSUM_AT = 6
"""Where in the header the checksum is."""


@inlined
def source_port(frame: Frame, at: int) -> int:
    """Read the source port; 0 means that no answer is wanted."""
    return load16(frame, at)


@inlined
def destination_port(frame: Frame, at: int) -> int:
    """Read the destination port."""
    return load16(frame, at + 2)


@inlined
def length_bytes(frame: Frame, at: int) -> int:
    """Read the length in bytes, header included."""
    return load16(frame, at + 4)


@inlined
def checksum(frame: Frame, at: int) -> int:
    """Read the checksum; NO_CHECKSUM means that the sender made none."""
    return load16(frame, at + 6)


@inlined
def sum_datagram(frame: Frame, ip_at: int, at: int, length: int) -> int:
    """Sum a datagram of *length* bytes with the pseudo-header of its IPv4 header, whichever way it goes."""
    addresses = load32(frame, ip_at + 12) + load32(frame, ip_at + 16)
    return addresses + ipv4.PROTOCOL_UDP + length + sum_bytes(frame, at, length)


@inlined
def checksum_holds(frame: Frame, ip_at: int, at: int, length: int) -> bool:
    """Return whether the checksum is right, or there is none."""
    return checksum(frame, at) == NO_CHECKSUM or fold(sum_datagram(frame, ip_at, at, length)) == VALID


@inlined
def make_reply(frame: Frame, at: int, length: int) -> None:
    """Turn the header of a datagram for us into that of our answer of *length* bytes, in place; without a checksum."""
    ports = load32(frame, at)
    store32(frame, at, (ports & 0xFFFF) << 16 | ports >> 16)
    store32(frame, at + 4, length << 16 | NO_CHECKSUM)


@inlined
def write_checksum(frame: Frame, ip_at: int, at: int, length: int) -> None:
    """Write the checksum of a complete datagram whose checksum is NO_CHECKSUM; a sum of zero is sent as 0xFFFF."""
    value = finish(sum_datagram(frame, ip_at, at, length))
    store16(frame, at + 6, value if value != NO_CHECKSUM else 0xFFFF)


@dataclass(frozen=True)
class Udp:
    """A UDP datagram: ports and payload."""

    source_port: int
    destination_port: int
    payload: bytes

    def __post_init__(self) -> None:
        in_bits("source_port", self.source_port, 16)
        in_bits("destination_port", self.destination_port, 16)
        in_bits("length", HEADER_BYTES + len(self.payload), 16)

    @classmethod
    def parse(cls, data: bytes, ip: IPv4 | IPv6) -> Udp:
        """Read the payload *data* of the packet *ip*, and check its checksum.

        Raises: Malformed: cut short, lengths that contradict each other, a wrong checksum.
        """
        name = "a UDP datagram"
        at_least(data, HEADER_BYTES, name)
        length = number(data, 4, 2)
        if length < HEADER_BYTES:
            raise Malformed(format=name, reason=f"its length is {length}")
        at_least(data, length, name)
        made = number(data, 6, 2) != NO_CHECKSUM or isinstance(ip, IPv6)  # RFC 8200, 8.1: there it must be
        if made and fold(_sum(data[:length], ip)) != VALID:
            raise Malformed(format=name, reason="its checksum is wrong")
        return cls(number(data, 0, 2), number(data, 2, 2), bytes(data[HEADER_BYTES:length]))

    def emit(self, ip: IPv4 | IPv6) -> bytes:
        """Write the datagram as the payload of *ip*, with its checksum."""
        ports = self.source_port.to_bytes(2, "big") + self.destination_port.to_bytes(2, "big")
        length = (HEADER_BYTES + len(self.payload)).to_bytes(2, "big")
        value = finish(_sum(ports + length + b"\0\0" + self.payload, ip)) or 0xFFFF
        return ports + length + value.to_bytes(2, "big") + self.payload


def _sum(datagram: bytes, ip: IPv4 | IPv6) -> int:
    addresses = sum_of(ip.source.packed + ip.destination.packed)
    return addresses + ip.protocol + len(datagram) + sum_of(datagram)
