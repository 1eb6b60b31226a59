"""ICMP: the echo messages. Source: RFC 792, RFC 1122 section 3.2.2.6.

Accessors take a frame and *at*, where the message begins in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nomx.compiled import inlined
from nomx.errors import InvalidRequest, Malformed
from nomx.wire.checksum import VALID, finish, fold, sum_bytes, update
from nomx.wire.ipv4 import sum_of
from nomx.wire.valid import at_least, in_bits, number
from nomx.wire.words import Frame, load16, store16

HEADER_BYTES = 8
ECHO_REPLY = 0
ECHO_REQUEST = 8


@inlined
def is_echo_request(frame: Frame, at: int) -> bool:
    """Return whether the message is an echo request (type 8, code 0)."""
    return load16(frame, at) == ECHO_REQUEST << 8


@inlined
def checksum_holds(frame: Frame, at: int, length: int) -> bool:
    """Return whether the checksum of a message of *length* bytes is right."""
    return sum_bytes(frame, at, length) == VALID


@inlined
def make_reply(frame: Frame, at: int) -> None:
    """Turn an echo request into its reply, in place: the type changes, and the checksum with it."""
    store16(frame, at, ECHO_REPLY << 8)
    store16(frame, at + 2, update(load16(frame, at + 2), ECHO_REQUEST << 8, ECHO_REPLY << 8))


@dataclass(frozen=True)
class Echo:
    """An echo request or reply."""

    reply: bool
    identifier: int
    sequence: int
    payload: bytes

    def __post_init__(self) -> None:
        in_bits("identifier", self.identifier, 16)
        in_bits("sequence", self.sequence, 16)
        if len(self.payload) > 0xFFFF:
            raise InvalidRequest(field="payload", value=f"{len(self.payload)} bytes", expected="at most 65,535 bytes")

    @classmethod
    def parse(cls, data: bytes) -> Echo:
        """Read a whole message. Raises: Malformed: cut short, of another type, a wrong checksum."""
        name = "an ICMP echo message"
        at_least(data, HEADER_BYTES, name)
        if data[0] not in (ECHO_REPLY, ECHO_REQUEST) or data[1] != 0:
            raise Malformed(format=name, reason=f"type {data[0]}, code {data[1]}")
        if fold(sum_of(data)) != VALID:
            raise Malformed(format=name, reason="its checksum is wrong")
        return cls(data[0] == ECHO_REPLY, number(data, 4, 2), number(data, 6, 2), bytes(data[HEADER_BYTES:]))

    def emit(self) -> bytes:
        """Write the message, with its checksum."""
        head = bytes((ECHO_REPLY if self.reply else ECHO_REQUEST, 0))
        rest = self.identifier.to_bytes(2, "big") + self.sequence.to_bytes(2, "big") + self.payload
        return head + finish(sum_of(head + b"\0\0" + rest)).to_bytes(2, "big") + rest
