"""Ethernet II: destination, source, EtherType. No FCS: the device adds and checks it.

Source: IEEE 802.3, clause 3; RFC 894.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nomx.compiled import inlined
from nomx.errors import InvalidRequest
from nomx.wire.valid import at_least, in_bits, number
from nomx.wire.words import Frame, load16, load48, store48

HEADER_BYTES = 14
TYPE_IPV4 = 0x0800
TYPE_ARP = 0x0806
BROADCAST = 0xFFFF_FFFF_FFFF

_GROUP_BIT = 1 << 40
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.IGNORECASE)


@inlined
def destination(frame: Frame) -> int:
    """Read the destination's MAC address."""
    return load48(frame, 0)


@inlined
def source(frame: Frame) -> int:
    """Read the source's MAC address."""
    return load48(frame, 6)


@inlined
def ethertype(frame: Frame) -> int:
    """Read the EtherType."""
    return load16(frame, 12)


@inlined
def set_addresses(frame: Frame, to: int, sender: int) -> None:
    """Write both MAC addresses."""
    store48(frame, 0, to)
    store48(frame, 6, sender)


@inlined
def is_group(mac: int) -> bool:
    """Return whether a MAC address is multicast or broadcast."""
    return (mac & _GROUP_BIT) != 0


def parse_mac(text: str) -> int:
    """Read `02:00:00:00:00:01` as a number. Raises: InvalidRequest."""
    if not _MAC.fullmatch(text):
        raise InvalidRequest(field="mac", value=repr(text), expected="six bytes in hexadecimal, as 02:00:00:00:00:01")
    return int(text.replace(":", ""), 16)


def format_mac(mac: int) -> str:
    """Write a MAC address with colons."""
    return mac.to_bytes(6, "big").hex(":")


@dataclass(frozen=True)
class Ethernet:
    """An Ethernet II header."""

    destination: int
    source: int
    ethertype: int

    def __post_init__(self) -> None:
        in_bits("destination", self.destination, 48)
        in_bits("source", self.source, 48)
        if not in_bits("ethertype", self.ethertype, 16) >= 0x0600:
            raise InvalidRequest(field="ethertype", value=self.ethertype, expected="at least 0x0600 (less is a length)")
        if is_group(self.source):
            raise InvalidRequest(field="source", value=format_mac(self.source), expected="a unicast MAC address")

    @classmethod
    def parse(cls, data: bytes) -> Ethernet:
        """Read the header in front of *data*. Raises: Malformed: cut short. InvalidRequest: a value is impossible."""
        at_least(data, HEADER_BYTES, "an Ethernet header")
        return cls(number(data, 0, 6), number(data, 6, 6), number(data, 12, 2))

    def emit(self) -> bytes:
        """Write the header: 14 bytes."""
        return self.destination.to_bytes(6, "big") + self.source.to_bytes(6, "big") + self.ethertype.to_bytes(2, "big")
