"""ICMPv6: the echo messages and neighbour discovery. Source: RFC 4443 section 4, RFC 4861 sections 4.3, 4.4 and 7.

Accessors take a frame and *at*, where the message begins in it; its checksum covers the addresses
too, so that is `nomx.wire.ipv6.write_checksum`'s to write.
"""

from __future__ import annotations

from nomx.compiled import inlined
from nomx.wire.words import Frame, load16, store8, store16, store32, store48

HEADER_BYTES = 8
SOLICITATION_BYTES = 24
"""A neighbour solicitation or advertisement without options."""
ADVERTISEMENT_BYTES = 32
"""An advertisement that says a link-layer address."""
ECHO_REQUEST = 128
ECHO_REPLY = 129
NEIGHBOUR_SOLICITATION = 135
NEIGHBOUR_ADVERTISEMENT = 136
HOP_LIMIT = 255
"""Of neighbour discovery: a packet with less has crossed a router, and is forged."""

_SOLICITED = 0x4000_0000
_OVERRIDE = 0x2000_0000
_TARGET_MAC = 2


@inlined
def is_echo_request(frame: Frame, at: int) -> bool:
    """Return whether the message is an echo request (type 128, code 0)."""
    return load16(frame, at) == ECHO_REQUEST << 8


@inlined
def is_solicitation(frame: Frame, at: int) -> bool:
    """Return whether the message asks who has an address (type 135, code 0)."""
    return load16(frame, at) == NEIGHBOUR_SOLICITATION << 8


@inlined
def make_echo_reply(frame: Frame, at: int) -> None:
    """Turn an echo request into its reply, in place, but for the checksum."""
    store16(frame, at, ECHO_REPLY << 8)


@inlined
def make_advertisement(frame: Frame, at: int, mac: int) -> None:
    """Turn a solicitation into the answer that *mac* has the address, in place, but for the checksum.

    ADVERTISEMENT_BYTES long; the target stays where the solicitation has it.
    """
    store16(frame, at, NEIGHBOUR_ADVERTISEMENT << 8)
    store32(frame, at + 4, _SOLICITED | _OVERRIDE)
    store8(frame, at + 24, _TARGET_MAC)
    store8(frame, at + 25, 1)  # in units of 8 bytes
    store48(frame, at + 26, mac)
