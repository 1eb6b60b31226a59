"""Ethernet II: destination, source, a VLAN tag perhaps, EtherType. No FCS: the device adds and checks it.

Source: IEEE 802.3, clause 3; IEEE 802.1Q, clause 9; RFC 894.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nomx.compiled import inlined
from nomx.errors import InvalidRequest
from nomx.wire.valid import at_least, in_bits, number
from nomx.wire.words import Frame, cut_out, load16, load48, store48

HEADER_BYTES = 14
TAG_BYTES = 4
"""What an IEEE 802.1Q tag adds to the header, between source and EtherType."""
TYPE_IPV4 = 0x0800
TYPE_ARP = 0x0806
TYPE_IPV6 = 0x86DD
TYPE_VLAN = 0x8100
"""IEEE 802.1Q: a tag follows, then the EtherType of what the frame carries."""
PRIORITY_ONLY = 0
"""The VLAN of a tag that says a priority and no VLAN."""
BROADCAST = 0xFFFF_FFFF_FFFF

_GROUP_BIT = 1 << 40
_VLAN_BITS = 0xFFF
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
def vlan(frame: Frame) -> int:
    """Read the VLAN of a frame whose EtherType is TYPE_VLAN: 1 to 4,094, or PRIORITY_ONLY."""
    return load16(frame, 14) & _VLAN_BITS


@inlined
def untag(frame: Frame, length: int) -> int:
    """Take the tag out of a tagged frame of *length* bytes, in place; the length that is left."""
    cut_out(frame, 12, TAG_BYTES, length)
    return length - TAG_BYTES


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
class Tag:
    """An IEEE 802.1Q tag."""

    vlan: int
    """1 to 4,094, or PRIORITY_ONLY."""
    priority: int = 0
    drop_eligible: bool = False

    def __post_init__(self) -> None:
        in_bits("priority", self.priority, 3)
        if not 0 <= self.vlan < _VLAN_BITS:
            raise InvalidRequest(field="vlan", value=self.vlan, expected="0 to 4094 (4095 is reserved)")

    @classmethod
    def from_number(cls, control: int) -> Tag:
        """Read the 16 bits of tag control information. Raises: InvalidRequest: the reserved VLAN."""
        return cls(control & _VLAN_BITS, control >> 13, bool(control >> 12 & 1))

    def __int__(self) -> int:
        return self.priority << 13 | self.drop_eligible << 12 | self.vlan


@dataclass(frozen=True)
class Ethernet:
    """An Ethernet II header, with one VLAN tag or none."""

    destination: int
    source: int
    ethertype: int
    """Of what the frame carries, behind the tag."""
    tag: Tag | None = None

    def __post_init__(self) -> None:
        in_bits("destination", self.destination, 48)
        in_bits("source", self.source, 48)
        if not in_bits("ethertype", self.ethertype, 16) >= 0x0600:
            raise InvalidRequest(field="ethertype", value=self.ethertype, expected="at least 0x0600 (less is a length)")
        if self.ethertype == TYPE_VLAN:
            raise InvalidRequest(
                field="ethertype", value=self.ethertype, expected="what is tagged, and one tag at most"
            )
        if is_group(self.source):
            raise InvalidRequest(field="source", value=format_mac(self.source), expected="a unicast MAC address")

    @property
    def header_bytes(self) -> int:
        return HEADER_BYTES + (TAG_BYTES if self.tag is not None else 0)

    @classmethod
    def parse(cls, data: bytes) -> Ethernet:
        """Read the header in front of *data*. Raises: Malformed: cut short. InvalidRequest: a value is impossible."""
        at_least(data, HEADER_BYTES, "an Ethernet header")
        kind, tag = number(data, 12, 2), None
        if kind == TYPE_VLAN:
            at_least(data, HEADER_BYTES + TAG_BYTES, "a tagged Ethernet header")
            kind, tag = number(data, 16, 2), Tag.from_number(number(data, 14, 2))
        return cls(number(data, 0, 6), number(data, 6, 6), kind, tag)

    def emit(self) -> bytes:
        """Write the header: 14 bytes, or 18 with a tag."""
        addresses = self.destination.to_bytes(6, "big") + self.source.to_bytes(6, "big")
        tag = TYPE_VLAN.to_bytes(2, "big") + int(self.tag).to_bytes(2, "big") if self.tag is not None else b""
        return addresses + tag + self.ethertype.to_bytes(2, "big")
