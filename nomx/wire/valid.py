"""What representations check: each function returns the value, or says which field was wrong."""

from __future__ import annotations

from ipaddress import IPv4Address

from nomx.errors import InvalidRequest, Malformed


def in_bits(field: str, value: int, bits: int) -> int:
    """Require a number that fits *bits* bits. Raises: InvalidRequest."""
    if not 0 <= value < 1 << bits:
        raise InvalidRequest(field=field, value=value, expected=f"0 to {(1 << bits) - 1}")
    return value


def at_least(data: bytes, length: int, name: str) -> bytes:
    """Require *length* bytes of a header called *name*. Raises: Malformed: it is cut short."""
    if len(data) < length:
        raise Malformed(format=name, reason=f"{len(data)} bytes, and at least {length} are needed")
    return data


def number(data: bytes, at: int, length: int) -> int:
    """Read *length* bytes as a number, most significant first."""
    return int.from_bytes(data[at : at + length], "big")


def address4(data: bytes, at: int) -> IPv4Address:
    """Read an IPv4 address."""
    return IPv4Address(bytes(data[at : at + 4]))
