"""Every derived name and address: from the instance and a slot number, here and nowhere else. Pure.

The planner puts them into actions; mechanisms only read them there, so that an action from the
journal can be undone by whoever finds it.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, NetmaskValueError
from zlib import crc32

from nomx.errors import InvalidRequest

HOST_SLOT = 0
"""The host's own port of the switch."""

MAX_SLOTS = 1024
"""Slots of one instance, the host's included (NOMX_MAX_PORTS of abi.h)."""

_INSTANCE = re.compile(r"[a-z][a-z0-9_-]{0,13}")
_IFNAME = re.compile(r"[^\s/:\x00-\x1f]{1,15}")
_ULA = int(IPv6Address("fd6e:6f6d:78::"))
_MIN_ADDRESSES = 8


def check_instance(instance: str) -> str:
    """Return *instance* if it can name everything derived from it (an interface name is its longest).

    Raises: InvalidRequest.
    """
    if _INSTANCE.fullmatch(instance) is None:
        expected = "a lower-case letter and up to 13 letters, digits, - or _"
        raise InvalidRequest(field="instance", value=repr(instance), expected=expected)
    return instance


def check_ifname(ifname: str) -> str:
    """Return *ifname* if Linux takes it as an interface name.

    Raises: InvalidRequest.
    """
    if _IFNAME.fullmatch(ifname) is None or ifname in (".", ".."):
        expected = "1 to 15 characters without spaces, / or :"
        raise InvalidRequest(field="ifname", value=repr(ifname), expected=expected)
    return ifname


def parse_prefix(text: str) -> IPv4Network:
    """Read the instance's IPv4 prefix, such as 10.77.0.0/16.

    Raises: InvalidRequest: not a private prefix, host bits set, or room for fewer than 6 hosts.
    """
    try:
        prefix = IPv4Network(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        prefix = None
    if prefix is None or not prefix.is_private or prefix.num_addresses < _MIN_ADDRESSES:
        expected = "a private IPv4 prefix of at most 29 bits without host bits, such as 10.77.0.0/16"
        raise InvalidRequest(field="prefix", value=repr(text), expected=expected)
    return prefix


def parse_address(text: str, prefix: IPv4Network) -> IPv4Address:
    """Read an address that an application or a station can have inside *prefix*.

    Raises: InvalidRequest: no such address, or the prefix's network or broadcast address.
    """
    try:
        address = IPv4Address(text)
    except AddressValueError:
        address = None
    if address is None or address not in prefix or address in (prefix[0], prefix[-1]):
        expected = f"an IPv4 address of a host in {prefix}"
        raise InvalidRequest(field="address", value=repr(text), expected=expected)
    return address


def group(number: int) -> str:
    """Return the name of a lease's cgroup."""
    return f"lease{number}"


def switch_ifname(number: int) -> str:
    """Return the near end of a port, in the switch namespace."""
    return f"s{number}"


def device_ifname(number: int) -> str:
    """Return the application's end of a soft VF, in the switch namespace too."""
    return f"a{number}"


def host_ifname(instance: str) -> str:
    """Return the host's own interface to the switch."""
    return f"{instance}0"


def soft_unit(number: int) -> str:
    """Return the name of a soft VF as a device unit."""
    return f"soft{number}"


def station_unit(number: int) -> str:
    """Return the name of a plugged-in namespace as a device unit; the host's port is `host`."""
    return f"station{number}" if number != HOST_SLOT else "host"


def ip4(prefix: IPv4Network, number: int) -> IPv4Address | None:
    """Return the address that slot *number* gets if nobody asked for it: the host has the first; None past the end."""
    return prefix[number + 1] if number + 2 < prefix.num_addresses else None


def ip6(instance: str, number: int) -> str:
    """Return the unique local address of a slot: fd6e:6f6d:78:<instance>::<slot + 1>, on a /64.

    Source: RFC 4193 (the 40-bit global id spells "nomx").
    """
    subnet = crc32(instance.encode()) & 0xFFFF
    return str(IPv6Address(_ULA | subnet << 64 | number + 1))


def mac(instance: str, number: int) -> str:
    """Return the locally administered unicast MAC of a slot, different for each instance."""
    octets = b"\x02" + crc32(instance.encode()).to_bytes(4, "big")[1:] + number.to_bytes(2, "big")
    return octets.hex(":")
