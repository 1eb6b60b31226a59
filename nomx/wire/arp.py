"""ARP for IPv4 over Ethernet: who has this address, and the answer. Source: RFC 826.

Accessors take a frame whose ARP message begins behind the Ethernet header.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from nomx.compiled import inlined
from nomx.errors import InvalidRequest, Malformed
from nomx.wire.valid import address4, at_least, in_bits, number
from nomx.wire.words import Frame, load16, load32, load48, store16, store32, store48

MESSAGE_BYTES = 28
REQUEST = 1
REPLY = 2

_KIND = 0x0001_0800_0604
"""Hardware Ethernet, protocol IPv4, addresses of 6 and 4 bytes: the first six bytes of every message."""


@inlined
def is_ipv4_over_ethernet(frame: Frame, at: int) -> bool:
    """Return whether the message at *at* is about IPv4 addresses on Ethernet."""
    return load48(frame, at) == _KIND


@inlined
def operation(frame: Frame, at: int) -> int:
    """Read the operation: REQUEST or REPLY, or another that is none of ours."""
    return load16(frame, at + 6)


@inlined
def sender_mac(frame: Frame, at: int) -> int:
    """Read the sender's MAC address."""
    return load48(frame, at + 8)


@inlined
def sender_ip4(frame: Frame, at: int) -> int:
    """Read the sender's IPv4 address."""
    return load32(frame, at + 14)


@inlined
def target_ip4(frame: Frame, at: int) -> int:
    """Read the IPv4 address that is asked for."""
    return load32(frame, at + 24)


@inlined
def make_reply(frame: Frame, at: int, mac: int, ip4: int) -> None:
    """Turn a request into the answer that *mac* has *ip4*, in place."""
    store16(frame, at + 6, REPLY)
    store48(frame, at + 18, sender_mac(frame, at))
    store32(frame, at + 24, sender_ip4(frame, at))
    store48(frame, at + 8, mac)
    store32(frame, at + 14, ip4)


@dataclass(frozen=True)
class Arp:
    """An ARP message about IPv4 on Ethernet."""

    operation: int
    sender_mac: int
    sender_ip: IPv4Address
    target_mac: int
    target_ip: IPv4Address

    def __post_init__(self) -> None:
        if self.operation not in (REQUEST, REPLY):
            raise InvalidRequest(field="operation", value=self.operation, expected="1 (request) or 2 (reply)")
        in_bits("sender_mac", self.sender_mac, 48)
        in_bits("target_mac", self.target_mac, 48)

    @classmethod
    def parse(cls, data: bytes) -> Arp:
        """Read a message. Raises: Malformed: cut short, or about other addresses. InvalidRequest: another operation."""
        at_least(data, MESSAGE_BYTES, "an ARP message")
        if number(data, 0, 6) != _KIND:
            raise Malformed(format="an ARP message for IPv4 on Ethernet", reason=f"it begins {data[:6].hex()}")
        return cls(number(data, 6, 2), number(data, 8, 6), address4(data, 14), number(data, 18, 6), address4(data, 24))

    def emit(self) -> bytes:
        """Write the message: 28 bytes."""
        sender = self.sender_mac.to_bytes(6, "big") + self.sender_ip.packed
        target = self.target_mac.to_bytes(6, "big") + self.target_ip.packed
        return _KIND.to_bytes(6, "big") + self.operation.to_bytes(2, "big") + sender + target
