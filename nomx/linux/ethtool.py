"""Offload switches and driver names of interfaces, by the ethtool ioctl. In the calling thread's network namespace."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
from enum import IntEnum

_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 0x3
_DRVINFO_BYTES = 196
_IFNAMSIZ = 16


class Offload(IntEnum):
    """What a stack leaves to its device, each by its `ETHTOOL_S*` command."""

    TX_CHECKSUM = 0x17
    TSO = 0x1F
    GSO = 0x24
    GRO = 0x2C


def set_offload(ifname: str, offload: Offload, on: bool) -> None:
    """Switch an offload of *ifname* on or off. Raises: OSError: the device has no such switch."""
    _ioctl(ifname, bytearray(struct.pack("=II", offload, on)), f"{offload.name} {'on' if on else 'off'}")


def driver(ifname: str) -> str:
    """Return the name of the driver of *ifname*."""
    info = bytearray(_DRVINFO_BYTES)
    struct.pack_into("=I", info, 0, _ETHTOOL_GDRVINFO)
    _ioctl(ifname, info, "GDRVINFO")
    return bytes(info[4:36]).split(b"\0")[0].decode()


def _ioctl(ifname: str, command: bytearray, what: str) -> None:
    """SIOCETHTOOL: a `struct ifreq` whose data pointer is *command*."""
    buffer = (ctypes.c_ubyte * len(command)).from_buffer(command)
    request = struct.pack(f"={_IFNAMSIZ}sQ16x", ifname.encode(), ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as handle:
        try:
            fcntl.ioctl(handle, _SIOCETHTOOL, request)
        except OSError as error:
            raise OSError(error.errno, f"ethtool {what}: {error.strerror}", ifname) from None
