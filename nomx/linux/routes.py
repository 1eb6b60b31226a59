"""The host's IPv4 routes, read from /proc: what a prefix of ours must not hide."""

from __future__ import annotations

import socket
import sys
from ipaddress import IPv4Address, IPv4Network


def ipv4_routes() -> tuple[tuple[str, IPv4Network], ...]:
    """Return (interface name, destination) of each route of the main table but default ones.

    Raises: OSError: no /proc/net/route.
    Source: proc(5), "/proc/net/route" (addresses are hexadecimal numbers in machine order).
    """
    with open("/proc/net/route") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    routes = ((row[0], _address(row[1]), _address(row[7])) for row in rows)
    return tuple((ifname, IPv4Network((int(to), mask.compressed))) for ifname, to, mask in routes if int(mask))


def _address(text: str) -> IPv4Address:
    number = int(text, 16)
    return IPv4Address(socket.htonl(number) if sys.byteorder == "little" else number)
